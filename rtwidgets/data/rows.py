"""A table's memory: typed columns, and where each row stands in them.

A row has a slot for life (`_index`: key to slot) and a position in the columns, which moves when gaps are closed
(`_pos`: slot to position, `_slot_at`: position to slot). So closing gaps is array work and never touches the index.
Rows stand in order of arrival. A deleted row leaves a gap, closed when a frame is asked for, or when a quarter of the
rows are gaps.
"""

from __future__ import annotations

from typing import Any
from weakref import WeakSet

import numpy as np

from .column_kinds import TIMES, Array, changed, parse, to_json, to_python
from .columns import ColumnData
from .delta import Block, Delta, Key, Updates
from .index import Index
from .sorting import Sort, SortedRows
from .view_filter import ViewFilter

Row = dict[str, Any]
_FIRST_CAPACITY = 256
_SORTS_KEPT = 4
_FEW_GAPS = 64


class Rows:
    """Knows of keys, but of no changes, no order and no limit: what is written when is `Store`'s to say."""

    def __init__(self) -> None:
        self.key: tuple[str, ...] = ()
        self._capacity = _FIRST_CAPACITY
        self._start = self._end = 0
        self._dead: set[int] = set()
        self._shift = 0  # how far positions have moved towards the front for good, since the beginning
        self._index = Index()
        self._slot_at = np.zeros(
            self._capacity, dtype=np.int64
        )  # as all memory here: what is not yet used is never read
        self._pos = np.zeros(self._capacity, dtype=np.int64)
        self._columns: dict[str, ColumnData] = {}
        self._sorts: dict[Sort, SortedRows] = {}
        self._narrows: WeakSet[ViewFilter] = WeakSet()
        self._arrival: Array | None = None
        self._shown: dict[str, Any] | None = None
        """The columns of the frame handed out last, while it is still true."""

    def _living(self) -> Array:
        """Positions of the rows, in order of arrival."""
        if self._arrival is None:
            if self._dead:
                self._arrival = np.flatnonzero(self._slot_at[self._start : self._end] >= 0) + self._start
            else:
                self._arrival = np.arange(self._start, self._end)
        return self._arrival

    def _sorted(self, sort: Sort) -> Array:
        rows = self._sorts.pop(sort, None) or SortedRows(sort)
        self._sorts[sort] = rows  # the last used stands last
        while len(self._sorts) > _SORTS_KEPT:
            self._sorts.pop(next(iter(self._sorts)))
        return self._pos[rows.slots(self._columns, self._living(), self._slot_at, self._pos)]

    def _row_at(self, position: int) -> Row:
        where = np.array([position])
        found: Row = {}
        for name, column in self._columns.items():
            as_text = column.kind in TIMES or column.kind == "bytes"
            found[name] = (to_json if as_text else to_python)(column.kind, *column.take(where))[0]
        return found

    def _followers(self) -> list[SortedRows | ViewFilter]:
        return [*self._sorts.values(), *self._narrows]

    def _touched(self) -> None:
        self._shown = None
        self._arrival = None

    def _clear(self) -> None:
        self._touched()
        for column in self._columns.values():
            column.own(0)
            column.write_null(slice(0, self._end))
            column.nulls = False
        self._slot_at[: self._end] = -1
        self._pos[:] = -1
        self._start = self._end = 0
        self._dead.clear()
        self._index.clear()
        for rows in self._followers():
            rows.forget()

    def _reserve(self, count: int) -> None:
        if self._end + count > self._capacity:
            live = self._end - self._start
            self._capacity = max(2 * (live + count), _FIRST_CAPACITY)
            for column in self._columns.values():
                column.move(self._start, self._end, self._capacity)
            slot_at = np.zeros(self._capacity, dtype=np.int64)
            slot_at[:live] = self._slot_at[self._start : self._end]
            self._slot_at = slot_at
            if self._start:
                slots = slot_at[:live]
                self._pos[slots[slots >= 0]] -= self._start
                self._dead = {position - self._start for position in self._dead}
                self._shift += self._start
            self._start, self._end = 0, live
        slots_needed = self._index.end + count
        if slots_needed > len(self._pos):
            pos = np.zeros(2 * slots_needed, dtype=np.int64)
            pos[: len(self._pos)] = self._pos
            self._pos = pos

    def _insert(self, keys: list[Key], records: list[Row], delta: Delta) -> None:
        self._touched()
        count = len(keys)
        self._reserve(count)
        first, last = self._end, self._end + count
        block: Block = {}
        for name, column in self._columns.items():
            try:
                values = [record[name] for record in records]
            except KeyError:
                values = [record.get(name) for record in records]
            data, mask = parse(column.kind, values)
            column.own(first)
            column.write(slice(first, last), data, mask)
            block[name] = (column.kind, data, mask)
        slots = self._index.add(keys)
        self._slot_at[first:last] = slots
        self._pos[slots] = np.arange(first, last)
        self._end = last
        followers = self._followers()
        if followers:
            taken = slots.tolist()
            for rows in followers:
                rows.touch(taken)
        delta.inserted.extend(keys)
        delta.inserted_blocks.append((keys, block))

    def _update(self, keys: list[Key], records: list[Row], delta: Delta, slots: Array | None = None) -> None:
        """Writes what the records say of rows that are here; a record may leave columns out."""
        slots = self._index.find(keys) if slots is None else slots
        positions = self._pos[slots]
        found = Updates(keys, {}, {}, {})
        self._shown = None  # lets go of the columns, so that what only we hold is not copied
        for name, column in self._columns.items():
            if name in self.key:
                continue  # what a row was found by cannot differ
            some: Array | None = None
            where = positions
            try:
                values = [record[name] for record in records]
            except KeyError:
                some = np.array([name in record for record in records], dtype=bool)
                if not some.any():
                    continue
                where = positions[some]
                values = [record[name] for record in records if name in record]
            data, mask = parse(column.kind, values)
            old, old_mask = column.take(where)
            differs = changed(column.kind, old, data)
            if mask is not None or old_mask is not None:
                null = np.zeros(len(data), dtype=bool) if mask is None else mask
                was_null = np.zeros(len(data), dtype=bool) if old_mask is None else old_mask
                differs = (differs & ~null) | (null != was_null)
            if not differs.any():
                continue
            column.own(self._start)
            column.write(where, data, mask)
            if some is not None:  # widen to every row of the batch, so that all columns line up
                full = np.zeros(len(keys), dtype=bool)
                full[some] = differs
                differs = full
                old, old_mask = _spread(old, old_mask, some)
                data, mask = _spread(data, mask, some)
            found.flags[name] = differs
            found.before[name] = (column.kind, old, old_mask)
            found.after[name] = (column.kind, data, mask)
        if found.flags:
            delta.updates.append(found)
            for rows in self._sorts.values():
                for name in rows.names.intersection(found.flags):
                    rows.touch(slots[found.flags[name]].tolist())
            for narrow in self._narrows:
                for name in found.flags if narrow.names is None else narrow.names.intersection(found.flags):
                    narrow.touch(slots[found.flags[name]].tolist())

    def _delete(self, key: Key) -> int:
        """Leaves a gap; its values stay readable until the gaps are closed. Returns the position."""
        slot = self._index.pop(key)
        position = int(self._pos[slot])
        self._pos[slot] = -1
        self._slot_at[position] = -1
        self._dead.add(position)
        for rows in self._followers():
            rows.touch((slot,))
        self._touched()
        return position

    def _rename(self, old: Key, new: Key) -> None:
        slot = self._index.rename(old, new)
        where = self._pos[[slot]]
        self._touched()
        for name, value in zip(self.key, (new,) if len(self.key) == 1 else new, strict=True):
            column = self._columns[name]
            column.own(self._start)
            column.write(where, *parse(column.kind, [value]))
        for rows in self._followers():
            rows.touch((slot,))

    def _squeeze(self) -> None:
        """Closes the gaps that deleted rows left. Gaps at the front cost nothing: the rows just begin later."""
        dead = self._dead
        while self._start in dead:
            dead.discard(self._start)
            self._start += 1
        self._touched()
        for column in self._columns.values():
            column.shown = None
        if not dead:
            return
        if len(dead) <= _FEW_GAPS:
            self._shift_over(sorted(dead))
        else:
            first, end = min(dead), self._end
            keep = self._slot_at[first:end] >= 0
            for column in self._columns.values():
                column.squeeze(first, end, keep)
            slots = self._slot_at[first:end][keep]
            self._end = first + len(slots)
            self._slot_at[first : self._end] = slots
            self._slot_at[self._end : end] = -1
            self._pos[slots] = np.arange(first, self._end)
        dead.clear()

    def _shift_over(self, gaps: list[int]) -> None:
        """Closes a few gaps by moving the rows between them: those before or those behind, whichever are fewer."""
        count = len(gaps)
        if gaps[-1] - self._start < self._end - gaps[0]:
            edges = [self._start - 1, *gaps]
            moves = [(edges[i] + 1, edges[i + 1], count - i) for i in reversed(range(count))]
            freed = slice(self._start, self._start + count)
            self._start += count
        else:
            edges = [*gaps, self._end]
            moves = [(edges[i] + 1, edges[i + 1], -i - 1) for i in range(count)]
            freed = slice(self._end - count, self._end)
            self._end -= count
        moves = [(first, end, by) for first, end, by in moves if first < end]
        for column in self._columns.values():
            column.shift(gaps, moves, freed)
        for first, end, by in moves:
            slots = self._slot_at[first:end].copy()
            self._slot_at[first + by : end + by] = slots
            self._pos[slots] += by
        self._slot_at[freed] = -1


def _spread(data: Array, mask: Array | None, some: Array) -> tuple[Array, Array | None]:
    full = np.zeros(len(some), dtype=data.dtype) if data.dtype != object else np.full(len(some), None, dtype=object)
    full[some] = data
    if mask is None:
        return full, None
    full_mask = np.ones(len(some), dtype=bool)
    full_mask[some] = mask
    return full, full_mask
