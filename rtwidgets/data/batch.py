"""What one call to a store gathers: changes sorted into rows to write together, and the report of what was done."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import cast

import numpy as np

from ..protocol.messages import Change
from .arrow_rows import ArrowRows
from .column_kinds import Array
from .delta import Delta, Key, Row, joined
from .rows import Rows
from .schema import ColumnSpec, Schema

_FEW = 4  # changes: preparing many at once costs more than it saves


class Batch:
    """Writes changes and rows into `rows`, many together where that gives the same result, and gathers a `Delta`.

    `serial` is the number of the next row of a table without a key.
    """

    def __init__(self, rows: Rows, schema: Schema, serial: int = 0) -> None:
        self.serial = serial
        self._rows = rows
        self._schema = schema
        self._key = schema.key
        self._inserts: dict[Key, Row] = {}
        self._updates: dict[Key, Row] = {}
        self._reread: dict[Key, None] = {}
        self._unknown: dict[Key, None] = {}
        self._unreadable = 0
        self._columns_changed = False
        self._parts: list[Delta] = []

    # -- changes ------------------------------------------------------------------------------------------------------

    def apply(self, changes: Sequence[Change]) -> None:
        """Applies changes, in order."""
        if not changes:
            return
        # Lists, here and below: a generator takes twice as long, and this is done for every change. They are nearly
        # always one and the same list of columns, which `count` sees first.
        if [change.columns for change in changes].count(changes[0].columns) == len(changes):
            self._declare(changes[0])
            if len(changes) < _FEW or not self._apply_at_once(changes):
                self._collect(changes)
        else:
            self._apply_in_runs(changes)

    def _apply_in_runs(self, changes: Sequence[Change]) -> None:
        """A batch in which the table's columns change: applied in runs with the same columns."""
        run: list[Change] = []
        for change in changes:
            if run and change.columns != run[0].columns:
                self._declare(run[0])
                self._collect(run)
                run = []
            run.append(change)
        self._declare(run[0])
        self._collect(run)

    def _declare(self, change: Change) -> None:
        """Follows the columns that a change declares, where they differ from ours."""
        specs = self._schema.declare(change, self._rows.columns)
        if specs is not None:
            self.reshape(specs)

    def reshape(self, specs: Sequence[ColumnSpec]) -> None:
        """Makes these the table's columns."""
        self.flush()
        self._columns_changed = self._rows.reshape(specs) or self._columns_changed

    def _apply_at_once(self, changes: Sequence[Change]) -> bool:
        """Applies a batch of the usual sort without a look at each change: whole rows, or parts of known rows that come
        once. False, and nothing done, for any other batch: those go change by change (`_collect`).
        """
        if not self._key or not {change.type for change in changes} <= {"INSERT", "UPDATE"}:
            return False
        records = [change.record for change in changes]
        if None in records or [change.errors for change in changes].count(None) < len(changes):
            return False
        records = cast("list[Row]", records)
        olds = [change.old_record for change in changes]
        try:
            keys = keys_of(records, self._key)
            before = [old for old in olds if old]
            same = keys if len(before) == len(olds) else [key for old, key in zip(olds, keys, strict=True) if old]
            if before and keys_of(before, self._key) != same:
                return False  # a key changed
            single = len(set(keys)) == len(keys)
        except (KeyError, TypeError):
            return False
        columns = self._rows.columns
        first, width = records[0], self._schema.width or len(columns)
        # A record that has as many values as there are columns has all of them.
        whole = all(column in first for column in columns) and set(map(len, records)) == {width}
        if not single:
            if not whole:
                return False
            rows = dict(zip(keys, records, strict=True))  # the last one counts
            keys, records = list(rows), list(rows.values())
        slots = self._rows.index.find(keys)
        known = slots >= 0
        if known.all():
            self._write(keys, records, slots)
        elif whole:
            here = np.flatnonzero(known).tolist()
            self._write([keys[i] for i in here], [records[i] for i in here], slots[known])
            new = np.flatnonzero(~known).tolist()
            self._inserts = {keys[i]: records[i] for i in new}
            self.flush()
        else:
            return False
        return True

    def _write(self, keys: list[Key], records: list[Row], slots: Array) -> None:
        if keys:
            part = Delta(0)
            self._rows.update(keys, records, part, self._key, slots)
            self._parts.append(part)

    def _collect(self, changes: Sequence[Change]) -> None:
        """Sorts changes into inserts and updates by key; what must happen in order (deletes, new keys) is done at
        once.
        """
        if not self._key:
            self._append(changes)
            return
        index, inserts, updates = self._rows.index, self._inserts, self._updates
        columns, key_columns = self._rows.columns, self._key
        single = key_columns[0] if len(key_columns) == 1 else None
        width = len(columns)
        for change in changes:
            kind, record = change.type, change.record
            try:
                if kind == "TRUNCATE":
                    self.clear()
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
                    self._reread[key] = None
                if kind == "UPDATE":
                    old = change.old_record
                    if old:
                        if single is not None:
                            before = old.get(single, key)
                        else:
                            before = tuple([old.get(name, record[name]) for name in key_columns])
                        if before != key:
                            self.flush()
                            self._rename(before, key)
                    if key in updates:
                        updates[key] = {**updates[key], **record}
                    elif key in index:
                        updates[key] = record
                    elif key in inserts:
                        inserts[key] = {**inserts[key], **record}
                    elif len(record) >= width and all(name in record for name in columns):
                        inserts[key] = record
                    elif not too_large:
                        self._unknown[key] = None
                elif key in index:
                    known = updates.get(key)
                    if too_large:
                        updates[key] = record if known is None else {**known, **record}
                    else:
                        updates[key] = record if len(record) >= width else {**dict.fromkeys(columns), **record}
                elif too_large and key in inserts:
                    inserts[key] = {**inserts[key], **record}
                else:
                    inserts[key] = record
            except (KeyError, TypeError, AssertionError):
                self._unreadable += 1  # Error 401 sends no values: without a key nothing can be done
        self.flush()

    def _append(self, changes: Sequence[Change]) -> None:
        """Changes of a table without a key: each row gets a number, and no row can be found again."""
        for change in changes:
            if change.type == "TRUNCATE":
                self.clear()
            elif change.type == "INSERT" and change.record and not change.errors:
                self._inserts[self.serial] = change.record
                self.serial += 1
            else:
                self._unreadable += 1
        self.flush()

    # -- rows ---------------------------------------------------------------------------------------------------------

    def merge(self, rows: Iterable[Row]) -> None:
        """Inserts rows, or merges them into those with the same key."""
        rows = list(rows)
        index = self._rows.index
        self.serial += len(rows)
        for key, row in zip(keys_of(rows, self._key), rows, strict=True):
            (self._updates if key in index else self._inserts)[key] = row
        self.flush()

    def merge_block(self, rows: ArrowRows) -> None:
        """The same of rows in Arrow."""
        self.flush()
        self.serial += len(rows)
        rows = rows.last_of_each()
        slots = self._rows.index.find(rows.keys)
        known = slots >= 0
        part = Delta(0)
        if known.any():
            here = rows.at(np.flatnonzero(known))
            self._rows.update_block(here.keys, here.block, part, self._key, slots[known])
        if not known.all():
            new = rows.at(np.flatnonzero(~known)) if known.any() else rows
            self._rows.insert_block(new.keys, new.block, part)
        self._parts.append(part)

    def keep(self, keys: Sequence[Key] | Array) -> None:
        """Deletes the rows that have none of these keys."""
        slots = self._rows.index.find(keys)
        here = self._rows.slots_at(self._rows.living())
        kept = np.zeros(self._rows.index.end, dtype=bool)
        kept[slots[slots >= 0]] = True
        for key in self._rows.index.keys(here[~kept[here]]):
            self.delete(key)

    def keys_of(self, rows: Sequence[Row]) -> list[Key]:
        return keys_of(rows, self._key)

    def delete(self, key: Key) -> None:
        """Deletes a row that is here."""
        self._updates.pop(key, None)
        position = self._rows.delete(key)
        last = self._parts[-1] if self._parts else None
        if last is None or not last.deleted_blocks or last.inserted:
            last = Delta(0)
            last.deleted_blocks = [([], {})]
            self._parts.append(last)
        last.deleted.append(key)
        last.deleted_blocks[0][0].append(position + self._rows.removed_before)

    def clear(self) -> None:
        """Deletes all rows."""
        self._inserts.clear()
        self._updates.clear()
        self._reread.clear()
        self._unknown.clear()
        before = joined(self._parts) if self._parts else Delta(0)
        came = set(before.inserted)
        here = [key for key in self._rows.keys_at(self._rows.living()) if key not in came]
        self._parts = [Delta(0, reset=True, cleared=[*before.cleared, *before.deleted, *here])]
        self._rows.clear()
        self.serial = 0

    def flush(self) -> None:
        """Writes what was gathered."""
        if self._updates or self._inserts:
            part = Delta(0)
            if self._updates:
                self._rows.update(list(self._updates), list(self._updates.values()), part, self._key)
                self._updates.clear()
            if self._inserts:
                self._rows.insert(list(self._inserts), list(self._inserts.values()), part)
                self._inserts.clear()
            self._parts.append(part)

    def _rename(self, old: Key, new: Key) -> None:
        """A row's key changed: to a reader the old row went and a new one came, in its place."""
        rows = self._rows
        if old not in rows.index:
            return
        if new in rows.index:
            self.delete(new)
        where = rows.positions([rows.index[old]])
        before = rows.values_at(where)
        rows.rename(old, new, self._key)
        part = Delta(0, deleted=[old], inserted=[new])
        part.deleted_blocks = [([old], before)]
        part.inserted_blocks = [([new], rows.values_at(where))]
        self._parts.append(part)

    # -- the report ---------------------------------------------------------------------------------------------------

    def delta(self) -> Delta:
        """Everything as one report: a row that came and went leaves no trace, one that went and came again was
        updated.
        """
        self.flush()
        for part in self._parts:
            if part.deleted_blocks and not part.inserted_blocks:  # values still stand in the gaps
                positions = np.array(part.deleted_blocks[0][0], dtype=np.int64) - self._rows.removed_before
                part.deleted_blocks = [(part.deleted, self._rows.values_at(positions))]
        total = joined(self._parts) if self._parts else Delta(0)
        total.reread = list(self._reread)
        total.unknown = [key for key in self._unknown if key not in self._rows.index]
        total.unreadable = self._unreadable
        total.columns_changed = self._columns_changed
        return total


def keys_of(rows: Sequence[Row], key: tuple[str, ...]) -> list[Key]:
    """Each row's key: the raw JSON value for a single key column, a tuple for several, its number for none."""
    if len(key) == 1:
        name = key[0]
        return [row[name] for row in rows]
    if not key:
        return list(range(len(rows)))
    return [tuple(row[name] for name in key) for row in rows]
