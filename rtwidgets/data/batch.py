"""What one call to a store gathers: rows to write together, and the report of what was done."""

# pyright: reportPrivateUsage=false
# (Batch is the other half of Store)
from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from .delta import Block, Delta, Key, joined
from .types import Array, parse

if TYPE_CHECKING:
    from .store import Store

Row = dict[str, Any]


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
