"""What one call to a store gathers: changes sorted into rows to write together, and the report of what was done."""

# pyright: reportPrivateUsage=false
# (Batch is the other half of Store)
from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

import numpy as np

from ..protocol.messages import Change
from .column_kinds import Array, keys_of, parse
from .delta import Block, Delta, Key, joined
from .rows import Row

if TYPE_CHECKING:
    from .store import Store

_FEW = 4  # changes: what prepares many at once costs more than it saves


class Batch:
    """What one call gathers: rows to write together, and the report of what was done."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.inserts: dict[Key, Row] = {}
        self.updates: dict[Key, Row] = {}
        self.reread: dict[Key, None] = {}
        self.unknown: dict[Key, None] = {}
        self.unreadable = 0
        self.columns_changed = False
        self._parts: list[Delta] = []

    def take(self, changes: Sequence[Change]) -> None:
        """Changes, in order."""
        if not changes:
            return
        # Lists, here and below: a generator takes twice as long, and this is done for every change. They are nearly
        # always one and the same list of columns, which `count` sees first.
        if [change.columns for change in changes].count(changes[0].columns) == len(changes):
            self.store._declare(changes[0], self)
            if len(changes) < _FEW or not self._at_once(changes):
                self._collect(changes)
        else:
            self._split(changes)

    def _split(self, changes: Sequence[Change]) -> None:
        """A batch in which the table's columns change: applied in runs with the same columns."""
        store = self.store
        run: list[Change] = []
        for change in changes:
            if run and change.columns != run[0].columns:
                store._declare(run[0], self)
                self._collect(run)
                run = []
            run.append(change)
        store._declare(run[0], self)
        self._collect(run)

    def _at_once(self, changes: Sequence[Change]) -> bool:
        """Takes a batch of the usual sort without a look at each change: whole rows, or parts of known rows that come
        once. False, and nothing done, for any other batch: those go change by change (`_collect`).
        """
        store = self.store
        if not store.key or not {change.type for change in changes} <= {"INSERT", "UPDATE"}:
            return False
        records = [change.record for change in changes]
        if None in records or [change.errors for change in changes].count(None) < len(changes):
            return False
        records = cast("list[Row]", records)
        olds = [change.old_record for change in changes]
        try:
            keys = keys_of(records, store.key)
            told = [old for old in olds if old]
            same = keys if len(told) == len(olds) else [key for old, key in zip(olds, keys, strict=True) if old]
            if told and keys_of(told, store.key) != same:
                return False  # a key changed
            single = len(set(keys)) == len(keys)
        except (KeyError, TypeError):
            return False
        first, width = records[0], len(store._declared or store._columns)
        # A record that has as many values as there are columns has all of them.
        whole = all(column in first for column in store._columns) and set(map(len, records)) == {width}
        if not single:
            if not whole:
                return False
            rows = dict(zip(keys, records, strict=True))  # the last one counts
            keys, records = list(rows), list(rows.values())
        slots = store._index.find(keys)
        known = slots >= 0
        if known.all():
            self.write(keys, records, slots)
        elif whole:
            here = np.flatnonzero(known).tolist()
            self.write([keys[i] for i in here], [records[i] for i in here], slots[known])
            new = np.flatnonzero(~known).tolist()
            self.inserts = {keys[i]: records[i] for i in new}
            self.flush()
        else:
            return False
        return True

    def _collect(self, changes: Sequence[Change]) -> None:
        """Sorts changes into inserts and updates by key; what must happen in order (deletes, new keys) is done at
        once.
        """
        store = self.store
        if not store.key:
            self._append(changes)
            return
        index, inserts, updates = store._index, self.inserts, self.updates
        key_columns = store.key
        single = key_columns[0] if len(key_columns) == 1 else None
        width = len(store._columns)
        for change in changes:
            kind, record = change.type, change.record
            try:
                if kind == "TRUNCATE":
                    store._empty(self)
                    continue
                if kind == "DELETE":
                    old = change.old_record or {}
                    key = old[single] if single is not None else tuple(old[name] for name in key_columns)
                    if key in inserts:
                        del inserts[key]
                    elif key in index:
                        self.delete(key)
                    continue
                assert record is not None
                key = record[single] if single is not None else tuple([record[name] for name in key_columns])
                too_large = change.errors is not None and any("413" in error for error in change.errors)
                if too_large:
                    self.reread[key] = None
                if kind == "UPDATE":
                    old = change.old_record
                    if old:
                        if single is not None:
                            before = old.get(single, key)
                        else:
                            before = tuple([old.get(name, record[name]) for name in key_columns])
                        if before != key:
                            self.flush()
                            self.rename(before, key)
                    if key in updates:
                        updates[key] = {**updates[key], **record}
                    elif key in index:
                        updates[key] = record
                    elif key in inserts:
                        inserts[key] = {**inserts[key], **record}
                    elif len(record) >= width and all(name in record for name in store._columns):
                        inserts[key] = record
                    elif not too_large:
                        self.unknown[key] = None
                elif key in index:
                    known = updates.get(key)
                    if too_large:
                        updates[key] = record if known is None else {**known, **record}
                    else:
                        updates[key] = record if len(record) >= width else {**dict.fromkeys(store._columns), **record}
                elif too_large and key in inserts:
                    inserts[key] = {**inserts[key], **record}
                else:
                    inserts[key] = record
            except (KeyError, TypeError, AssertionError):
                self.unreadable += 1  # Error 401 sends no values: without a key nothing can be done
        self.flush()

    def _append(self, changes: Sequence[Change]) -> None:
        store = self.store
        for change in changes:
            if change.type == "TRUNCATE":
                store._empty(self)
            elif change.type == "INSERT" and change.record and not change.errors:
                self.inserts[store._next] = change.record
                store._next += 1
            else:
                self.unreadable += 1
        self.flush()

    def flush(self) -> None:
        store = self.store
        if self.updates or self.inserts:
            part = Delta(0)
            if self.updates:
                store._update(list(self.updates), list(self.updates.values()), part)
                self.updates.clear()
            if self.inserts:
                store._insert(list(self.inserts), list(self.inserts.values()), part)
                self.inserts.clear()
            self._parts.append(part)

    def write(self, keys: list[Key], records: list[Row], slots: Array) -> None:
        """Updates rows at once."""
        if keys:
            part = Delta(0)
            self.store._update(keys, records, part, slots)
            self._parts.append(part)

    def delete(self, key: Key) -> None:
        self.updates.pop(key, None)
        position = self.store._delete(key)
        last = self._parts[-1] if self._parts else None
        if last is None or not last.deleted_blocks or last.inserted:
            last = Delta(0)
            last.deleted_blocks = [([], {})]
            self._parts.append(last)
        last.deleted.append(key)
        last.deleted_blocks[0][0].append(position + self.store._shift)

    def rename(self, old: Key, new: Key) -> None:
        """A row's key changed: to a reader the old row went and a new one came, in its place."""
        store = self.store
        if old not in store._index:
            return
        if new in store._index:
            self.delete(new)
        row = store._row_at(int(store._pos[store._index[old]]))
        gone = Delta(0, deleted=[old], inserted=[new])
        store._rename(old, new)
        self._renamed(gone, row, new)

    def _renamed(self, part: Delta, row: Row, new: Key) -> None:
        block: Block = {}
        for name, column in self.store._columns.items():
            block[name] = (column.kind, *parse(column.kind, [row[name]]))
        part.deleted_blocks = [([part.deleted[0]], block)]
        names = self.store.key
        values = (new,) if len(names) == 1 else new
        after: Block = dict(block)
        for name, value in zip(names, values, strict=True):
            kind = self.store._columns[name].kind
            after[name] = (kind, *parse(kind, [value]))
        part.inserted_blocks = [([new], after)]
        self._parts.append(part)

    def clear(self) -> None:
        self.inserts.clear()
        self.updates.clear()
        self.reread.clear()
        self.unknown.clear()
        self._parts = [Delta(0, reset=True)]

    def delta(self) -> Delta:
        """Everything as one report: a row that came and went leaves no trace, one that went and came again was
        updated.
        """
        self.flush()
        for part in self._parts:
            if part.deleted_blocks and not part.inserted_blocks:  # values still stand in the gaps
                positions = np.array(part.deleted_blocks[0][0], dtype=np.int64) - self.store._shift
                block: Block = {n: (c.kind, *c.take(positions)) for n, c in self.store._columns.items()}
                part.deleted_blocks = [(part.deleted, block)]
        total = joined(self._parts)
        total.reread = list(self.reread)
        total.unknown = [key for key in self.unknown if key not in self.store]
        total.unreadable = self.unreadable
        total.columns_changed = self.columns_changed
        return total
