"""A table's memory: typed columns, and where each row stands in them.

A row has a slot for life (`index`: key to slot) and a position in the columns, which moves when gaps are closed
(`positions`: by slot; `_slot_at`: by position). So closing gaps is array work and never touches the index. Rows stand
in order of arrival. A deleted row leaves a gap, closed when a frame is built, or when a quarter of the rows are gaps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol
from weakref import WeakSet

import numpy as np
import pandas as pd
import pyarrow as pa

from .column_kinds import Array, Block, ColumnKind, ColumnValues, Values
from .columns import ColumnData
from .dataframes import frame_of
from .delta import Delta, Key, Row, Updates
from .index import Index
from .readonly_arrays import COPY_ON_WRITE
from .schema import ColumnSpec
from .sorting import Sort, SortedRows

_FIRST_CAPACITY = 256
_SORTS_KEPT = 4
_FEW_GAPS = 64


class RowListener(Protocol):
    """Somebody who keeps something up to date by slot. Called under the store's lock."""

    names: frozenset[str] | None
    """The columns whose values matter; None for all."""

    def mark(self, slots: Iterable[int]) -> None:
        """These rows came, went or changed."""

    def reset(self) -> None:
        """All rows may differ."""


class Rows:
    """Knows of keys, but of no changes, no order and no limit: what is written when is decided by `Store`."""

    def __init__(self) -> None:
        self.columns: dict[str, ColumnData] = {}
        self.index = Index()
        self.removed_before = 0
        """How far positions have moved towards the front for good, since the beginning."""
        self._capacity = _FIRST_CAPACITY
        self._start = self._end = 0
        self._dead: set[int] = set()
        # As in all memory here, what is not yet used is never read.
        self._slot_at: Array = np.zeros(self._capacity, dtype=np.int64)
        self._pos: Array = np.zeros(self._capacity, dtype=np.int64)
        self._sorts: dict[tuple[Sort, bool], SortedRows] = {}
        self._listeners: WeakSet[RowListener] = WeakSet()
        self._arrival: Array | None = None
        self._range = pd.RangeIndex(0)
        self._frame: pd.DataFrame | None = None
        """The frame built last, while it is still true."""
        self._frame_where: Array | None = None
        """Where the rows of the sorted frame built last stood."""

    def __len__(self) -> int:
        return len(self.index)

    # -- reading ------------------------------------------------------------------------------------------------------

    def living(self) -> Array:
        """Positions of the rows, in order of arrival."""
        if self._arrival is None:
            if self._dead:
                self._arrival = np.flatnonzero(self._slot_at[self._start : self._end] >= 0) + self._start
            else:
                self._arrival = np.arange(self._start, self._end)
        return self._arrival

    def sorted(self, sort: Sort, *, nulls_last: bool = False) -> Array:
        """Positions of the rows, sorted; kept up to date for the last few sorts."""
        if not sort:
            return self.living()
        rows = self._sorts.pop((sort, nulls_last), None) or SortedRows(sort, nulls_last=nulls_last)
        self._sorts[sort, nulls_last] = rows  # the last used stands last
        while len(self._sorts) > _SORTS_KEPT:
            self._sorts.pop(next(iter(self._sorts)))
        return self._pos[rows.slots(self.columns, self.living(), self._slot_at, self._pos)]

    def slots_at(self, positions: Array) -> Array:
        return self._slot_at[positions]

    def positions(self, slots: Any) -> Array:
        """The positions of these slots, -1 for those that hold no row."""
        return self._pos[slots]

    def position(self, key: Key) -> int | None:
        slot = self.index.get(key)
        return None if slot is None else int(self._pos[slot])

    def keys_at(self, positions: Array) -> list[Key]:
        return self.index.keys(self._slot_at[positions])

    def values_at(self, positions: Array, names: Iterable[str] | None = None) -> Block:
        """Copies of the values at these positions, of the columns that there are of those named; None for all."""
        wanted = self.columns if names is None else [name for name in names if name in self.columns]
        return {name: ColumnValues(self.columns[name].kind, *self.columns[name].values(positions)) for name in wanted}

    def record_at(self, position: int) -> Row:
        """A row as a change message carries it."""
        block = self.values_at(np.array([position]))
        return {name: kind.to_record(data, mask)[0] for name, (kind, data, mask) in block.items()}

    def frame(self, sort: Sort) -> pd.DataFrame:
        """All rows as a frame that never changes, over our own memory where that may be."""
        if self._frame is not None:
            return self._frame.copy(deep=False)
        if self._dead:
            self.squeeze()
        if len(self._range) != len(self):
            self._range = pd.RangeIndex(len(self))
        if sort:
            where, before = self.sorted(sort), self._frame_where
            again = before is not None and np.array_equal(where, before)
            self._frame_where = where
            shown = {name: column.arranged(where, again, self._range) for name, column in self.columns.items()}
        else:
            shown = {n: column.show(self._start, self._end, self._range) for n, column in self.columns.items()}
        frame = frame_of(shown, self._range)
        if COPY_ON_WRITE:
            self._frame = frame
            return frame.copy(deep=False)
        return frame

    def arrow(self, sort: Sort) -> pa.Table:
        """All rows as a `pyarrow.Table` that never changes, over our own memory where the layouts are the same. Raises
        ValueError."""
        if self._dead:
            self.squeeze()
        if sort:
            where = self.sorted(sort)
            arrays = {name: column.arrow_at(where) for name, column in self.columns.items()}
        else:
            arrays = {name: column.arrow(self._start, self._end) for name, column in self.columns.items()}
        types = {name: column.kind.arrow_type for name, column in self.columns.items()}
        return pa.table({name: pa.chunked_array(some, types[name]) for name, some in arrays.items()})

    # -- listeners ----------------------------------------------------------------------------------------------------

    def register(self, listener: RowListener) -> Callable[[], None]:
        """Marks rows with the listener until it is unregistered, or nobody else refers to it."""
        self._listeners.add(listener)
        return lambda: self._listeners.discard(listener)

    def _followers(self) -> list[RowListener]:
        sorts: list[RowListener] = [*self._sorts.values()]
        return [*sorts, *self._listeners] if len(self._listeners) else sorts

    def _mark(self, slots: Iterable[int]) -> None:
        for listener in self._followers():
            listener.mark(slots)

    def _reset(self) -> None:
        for listener in self._followers():
            listener.reset()

    def _moved(self) -> None:
        """Rows came, went or moved: what was built of their places is void."""
        self._frame = None
        self._arrival = None

    # -- writing rows -------------------------------------------------------------------------------------------------

    def insert(self, keys: list[Key], records: list[Row], delta: Delta) -> None:
        """Appends rows, none of whose keys is here. Columns that a record leaves out are null."""
        block: Block = {}
        for name, column in self.columns.items():
            try:
                values = [record[name] for record in records]
            except KeyError:
                values = [record.get(name) for record in records]
            block[name] = ColumnValues(column.kind, *column.kind.parse(values))
        self.insert_block(keys, block, delta)

    def insert_block(self, keys: Sequence[Key] | Array, block: Block, delta: Delta) -> None:
        """Appends rows, none of whose keys is here. Columns that the block lacks are null."""
        self._moved()
        count = len(keys)
        self.reserve(count)
        first, last = self._end, self._end + count
        for name, column in self.columns.items():
            if name not in block:
                block[name] = ColumnValues(column.kind, *column.kind.all_null(count))
            column.own(first)
            column.write(slice(first, last), block[name].data, block[name].mask)
        slots = self.index.add(keys)
        self._slot_at[first:last] = slots
        self._pos[slots] = np.arange(first, last)
        self._end = last
        followers = self._followers()
        if followers:
            inserted = slots.tolist()
            for listener in followers:
                listener.mark(inserted)
        listed: list[Key] = keys.tolist() if isinstance(keys, np.ndarray) else list(keys)
        delta.inserted.extend(listed)
        delta.inserted_blocks.append((listed, block))

    def update(
        self, keys: list[Key], records: list[Row], delta: Delta, key: tuple[str, ...], slots: Array | None = None
    ) -> None:
        """Writes what the records have of rows that are here; a record may leave columns out. `key`: the key columns,
        which cannot differ."""
        slots = self.index.find(keys) if slots is None else slots
        positions = self._pos[slots]
        found = Updates(keys, {}, {}, {})
        self._frame = None  # lets go of the columns, so that what only we refer to is not copied
        for name, column in self.columns.items():
            if name in key:
                continue
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
            self._write(name, where, column.kind.parse(values), found, some)
        self._report(found, slots, delta)

    def update_block(
        self, keys: Sequence[Key] | Array, block: Block, delta: Delta, key: tuple[str, ...], slots: Array
    ) -> None:
        """Writes what the block has of the rows in these slots, which are those of these keys."""
        positions = self._pos[slots]
        found = Updates(keys.tolist() if isinstance(keys, np.ndarray) else list(keys), {}, {}, {})
        self._frame = None
        for name, (_, data, mask) in block.items():
            if name in self.columns and name not in key:
                self._write(name, positions, (data, mask), found)
        self._report(found, slots, delta)

    def _write(self, name: str, where: Array, new: Values, found: Updates, some: Array | None = None) -> None:
        """Writes one column's values, where they differ. `some`: of which of the rows they are; None for all."""
        column = self.columns[name]
        old = column.values(where)
        differs = column.kind.changed(old, new)
        if not differs.any():
            return
        column.own(self._start)
        column.write(where, *new)
        if some is not None:  # widen to every row of the batch, so that all columns line up
            full = np.zeros(len(some), dtype=bool)
            full[some] = differs
            differs = full
            old, new = _spread(column.kind, old, some), _spread(column.kind, new, some)
        found.flags[name] = differs
        found.before[name] = ColumnValues(column.kind, *old)
        found.after[name] = ColumnValues(column.kind, *new)

    def _report(self, found: Updates, slots: Array, delta: Delta) -> None:
        if found.flags:
            delta.updates.append(found)
            for listener in self._followers():
                names = found.flags if listener.names is None else listener.names.intersection(found.flags)
                for name in names:
                    listener.mark(slots[found.flags[name]].tolist())

    def delete(self, key: Key) -> int:
        """Leaves a gap; its values stay readable until the gaps are closed. Returns the position."""
        slot = self.index.pop(key)
        position = int(self._pos[slot])
        self._pos[slot] = -1
        self._slot_at[position] = -1
        self._dead.add(position)
        self._mark((slot,))
        self._moved()
        return position

    def rename(self, old: Key, new: Key, key: tuple[str, ...]) -> None:
        """Gives the row another key, in its place. `key`: the key columns."""
        slot = self.index.rename(old, new)
        where = self._pos[[slot]]
        self._moved()
        for name, value in zip(key, (new,) if len(key) == 1 else new, strict=True):
            column = self.columns[name]
            column.own(self._start)
            column.write(where, *column.kind.parse([value]))
        self._mark((slot,))

    def clear(self) -> None:
        self._moved()
        for column in self.columns.values():
            column.clear(self._end)
        self._slot_at[: self._end] = -1
        self._pos[:] = -1
        self._start = self._end = 0
        self._dead.clear()
        self.index.clear()
        self._reset()

    # -- columns ------------------------------------------------------------------------------------------------------

    def reshape(self, specs: Sequence[ColumnSpec]) -> bool:
        """Makes these the columns: new ones are null, and values of another kind are converted. Whether any changed."""
        if [spec.name for spec in specs] == list(self.columns) and all(
            spec.kind.same_as(self.columns[spec.name].kind) for spec in specs
        ):
            return False
        self._moved()
        rows = slice(self._start, self._end)
        made: dict[str, ColumnData] = {}
        for spec in specs:
            old = self.columns.get(spec.name)
            if old is not None and spec.kind.same_as(old.kind):
                made[spec.name] = old
                continue
            new = made[spec.name] = ColumnData(*spec, self._capacity)
            new.write_null(rows)
            if old is not None:  # through JSON values, as if they had been sent under the new type
                mask = None if old.mask is None else old.mask[rows]
                try:
                    new.write(rows, *new.kind.parse(old.kind.to_record(old.data[rows], mask)))
                except (ValueError, TypeError, OverflowError):
                    pass  # no meaning under the new type: null until the row is read again
        self.columns = made  # at once: which columns there are is read without the lock
        self._reset()
        return True

    # -- memory -------------------------------------------------------------------------------------------------------

    def reserve(self, count: int) -> None:
        """Makes room for so many more rows. Memory that is not used yet is not touched."""
        if self._end + count > self._capacity:
            live = self._end - self._start
            self._capacity = max(2 * (live + count), _FIRST_CAPACITY)
            for column in self.columns.values():
                column.move(self._start, self._end, self._capacity)
            slot_at = np.zeros(self._capacity, dtype=np.int64)
            slot_at[:live] = self._slot_at[self._start : self._end]
            self._slot_at = slot_at
            if self._start:
                slots = slot_at[:live]
                self._pos[slots[slots >= 0]] -= self._start
                self._dead = {position - self._start for position in self._dead}
                self.removed_before += self._start
                self._arrival = None
            self._start, self._end = 0, live
        slots_needed = self.index.end + count
        if slots_needed > len(self._pos):
            pos = np.zeros(2 * slots_needed, dtype=np.int64)
            pos[: len(self._pos)] = self._pos
            self._pos = pos

    def tidy(self) -> None:
        """Closes gaps that are many, and frees the memory of texts that went."""
        for column in self.columns.values():
            column.compact(self._start, self._end)
        if len(self._dead) * 4 > self._end - self._start and len(self._dead) > _FEW_GAPS:
            self.squeeze()

    def squeeze(self) -> None:
        """Closes the gaps that deleted rows left. Gaps at the front cost nothing: the rows just begin later."""
        dead = self._dead
        while self._start in dead:
            dead.discard(self._start)
            self._start += 1
        self._moved()
        for column in self.columns.values():
            column.forget()
        if not dead:
            return
        if len(dead) <= _FEW_GAPS:
            self._shift_over(sorted(dead))
        else:
            first, end = min(dead), self._end
            keep = self._slot_at[first:end] >= 0
            for column in self.columns.values():
                column.squeeze(first, end, keep)
            slots = self._slot_at[first:end][keep]
            self._end = first + len(slots)
            self._slot_at[first : self._end] = slots
            self._slot_at[self._end : end] = -1
            self._pos[slots] = np.arange(first, self._end)
        dead.clear()

    def _shift_over(self, gaps: list[int]) -> None:
        """Closes a few gaps by moving the rows between them: those before or those behind, whichever are fewer."""
        count, start = len(gaps), self._start
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
        for column in self.columns.values():
            column.shift(moves, freed, gaps, self._start - start)
        for first, end, by in moves:
            slots = self._slot_at[first:end].copy()
            self._slot_at[first + by : end + by] = slots
            self._pos[slots] += by
        self._slot_at[freed] = -1


def _spread(kind: ColumnKind, values: Values, some: Array) -> Values:
    """The values of some rows among those of all, which nobody reads."""
    data, mask = values
    full = kind.blank(len(some))
    full[some] = data
    if mask is None:
        return full, None
    full_mask = np.ones(len(some), dtype=bool)
    full_mask[some] = mask
    return full, full_mask
