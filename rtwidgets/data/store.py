"""The keyed table: typed columns, an index from key to slot, and frames over the same memory that never change."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal
from weakref import WeakSet

import numpy as np
import pandas as pd

from ..protocol.messages import Change, Column
from .batch import Batch
from .column_kinds import TIMES, Array, Kind, is_known, keys_of, kind_of, parse, to_json, to_pandas, to_python
from .columns import ColumnData
from .dataframes import frame_of, guard
from .delta import Block, Delta, DeltaListener, Key
from .rows import Row, Rows
from .sorting import Sort, parse_order, rank
from .view_filter import ViewFilter


class Store(Rows):
    """A table keyed by `key`, changed by batches of `Change` and read as DataFrames or windows. Safe to use from any
    thread.

    `select` keeps to these columns (the key always stays). `order` (see `parse_order`) is the order of rows in `df()`
    and `window()`; without it they stand as they arrived. `limit` keeps that many rows: the first ones in `order`, else
    those that arrived last. With `append_only` there may be no key columns: the key of a row is its number in order of
    arrival, and whatever would change or delete a row counts as unreadable. `bases`: of domains, by name, what they
    are made of. `labels`: of enums, by name, their labels in order.

    A row takes its values (1 to 8 bytes each, with one more where the type has no null of its own; a pointer and the
    Python object for text, decimals, bytes and json), room to grow by as much again, and about 40 bytes for key, slot
    and place; some 200 where keys are not whole numbers close to each other. With an `order`, its values twice.
    Measured (`bench.table`): 188 bytes a row at a million rows of six columns.
    """

    def __init__(
        self,
        columns: Sequence[Column],
        key: Sequence[str],
        *,
        numeric: Literal["float", "decimal"] = "float",
        select: Sequence[str] | None = None,
        order: str | Sequence[str | tuple[str, bool]] | None = None,
        limit: int | None = None,
        append_only: bool = False,
        bases: Mapping[str, str] | None = None,
        labels: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        super().__init__()
        if not key and not append_only:
            raise ValueError("a keyed table needs a key: give the table a primary key, or name the columns in key=")
        self.key = tuple(key)
        self.numeric: Literal["float", "decimal"] = numeric
        self.order: Sort = parse_order(order)
        self.limit = limit
        self.revision = 0
        self._bases, self._labels = dict(bases or {}), dict(labels or {})
        self.lock = threading.RLock()
        self._listeners: WeakSet[DeltaListener] = WeakSet()
        self._select = None if select is None else {*select, *self.key}
        self._declared: list[Column] | None = None
        self._next = 0  # number of the next row, where rows have no key
        self._where: Array | None = None
        """Where the rows of the frame handed out last stood, of a table with an order."""
        self._horizon: tuple[Any, ...] | None = None
        """Rank of the first row that the limit is known to have left out; None where it left out none."""
        for column in columns:
            self._add_column(column)
        missing = [name for name in self.key if name not in self._columns]
        if missing and columns:
            raise ValueError(f"key column {missing[0]!r} is not among the columns {', '.join(self._columns)}")

    # -- reading -------------------------------------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self._index)

    def __iter__(self) -> Iterator[Key]:
        return iter(self.keys())

    def __contains__(self, key: Key) -> bool:
        return key in self._index

    @property
    def columns(self) -> list[Column]:
        return [Column(column.name, column.pg_type) for column in self._columns.values()]

    def more(self, more: bool) -> None:
        """Whether the source holds further rows, which all sort after those that were loaded."""
        with self.lock:
            self._horizon = self._last_rank() if more and self.order and len(self) else None

    @property
    def short(self) -> bool:
        """Whether rows that the limit left out belong into the table now, since others went or moved back."""
        with self.lock:
            if self._horizon is None or self.limit is None:
                return False
            return len(self) < self.limit or self._last_rank() > self._horizon

    def _last_rank(self) -> tuple[Any, ...]:
        return rank(self._columns, self.order, int(self._sorted(self.order)[-1]))[:-1]

    def keys(self) -> list[Key]:
        """The keys in order of arrival."""
        with self.lock:
            return self._index.keys(self._slot_at[self._living()])

    def df(self) -> pd.DataFrame:
        """All rows as a frame that later changes never touch; shares memory with the table, so it costs no copy."""
        with self.lock:
            if self._shown is None:
                if self._dead:
                    self._squeeze()
                if self.order:
                    where, before = self._sorted(self.order), self._where
                    again = before is not None and np.array_equal(where, before)
                    self._where = where
                    self._shown = {name: column.arranged(where, again) for name, column in self._columns.items()}
                else:
                    self._shown = {name: c.show(self._start, self._end) for name, c in self._columns.items()}
            return guard(frame_of(self._shown, len(self)))

    def row(self, key: Key) -> Row | None:
        """One row as values like those that JSON carries (times in ISO form, Decimals and integers exact)."""
        with self.lock:
            slot = self._index.get(key)
            return None if slot is None else self._row_at(int(self._pos[slot]))

    def take(self, keys: Sequence[Key], *, arrange: bool = False) -> pd.DataFrame:
        """These rows as a frame of their own, in the order given or that of arrival; unknown keys are passed over."""
        with self.lock:
            slots = [self._index[key] for key in keys if key in self._index]
            where = self._pos[slots] if slots else np.empty(0, dtype=np.int64)
            if arrange:
                where.sort()
            arrays = {name: to_pandas(c.kind, *c.take(where)) for name, c in self._columns.items()}
        return frame_of(arrays, len(where))

    def slots(self) -> Array:
        """The rows' slots, in order of arrival. A row keeps its slot for life; afterwards another may get it."""
        with self.lock:
            return self._slot_at[self._living()]

    def slots_in_order(self) -> Array:
        """The rows' slots, as the rows stand in `df()`."""
        with self.lock:
            return self._slot_at[self._sorted(self.order) if self.order else self._living()]

    def held(self, slots: int) -> Array:
        """Of the slots below this number, which hold a row."""
        with self.lock:
            found = np.zeros(slots, dtype=bool)
            known = min(slots, self._index.end)
            found[:known] = self._pos[:known] >= 0
            return found

    def find(self, keys: Sequence[Key]) -> Array:
        """The slots of these keys, -1 for those that are not here."""
        with self.lock:
            return self._index.find(keys)

    @property
    def slots_end(self) -> int:
        """Every slot is below this."""
        return self._index.end

    def values(self, slots: Array, names: Iterable[str] | None = None) -> tuple[Array, Block]:
        """Of these slots those that hold rows, and their values in these columns, None for all."""
        with self.lock:
            where = self._pos[slots]
            slots, where = slots[where >= 0], where[where >= 0]
            wanted = self._columns if names is None else [name for name in names if name in self._columns]
            return slots, {name: (self._columns[name].kind, *self._columns[name].take(where)) for name in wanted}

    def follow(self, narrow: ViewFilter) -> None:
        """Tells this one which rows come, go and change, for as long as somebody else holds it."""
        self._narrows.add(narrow)

    def add_listener(self, listener: DeltaListener) -> None:
        """Calls `listener.apply` with each delta, for as long as something else holds the listener."""
        self._listeners.add(listener)

    @property
    def kinds(self) -> dict[str, Kind]:
        return {name: column.kind for name, column in self._columns.items()}

    def at(self, slots: Array, columns: Iterable[str]) -> pd.DataFrame:
        """Some columns of the rows in these slots, as a frame of their own."""
        with self.lock:
            where = self._pos[slots]
            kinds = {name: self._columns[name] for name in columns}
            arrays = {name: to_pandas(c.kind, *c.take(where)) for name, c in kinds.items()}
        return frame_of(arrays, len(where))

    def window(
        self,
        start: int,
        stop: int,
        *,
        sort: Sequence[tuple[str, bool]] | None = None,
        columns: Sequence[str] | None = None,
        narrow: ViewFilter | None = None,
        tail: bool = False,
        hold: Sequence[tuple[Key, int]] = (),
    ) -> dict[str, Any]:
        """Rows [start, stop) as columns that JSON can carry: `{"revision", "total", "shown", "start", "keys",
        "columns": {name: [...]}}`.

        `sort` holds (column, descending) pairs. `narrow` leaves rows out, `shown` counts those that stay. `tail` gives
        as many rows from the end instead. `hold` names rows and the places that they had: the window moves as the first
        of them that is still there has moved. Integers past 2**53 and Decimals are strings, times ISO, NaN null.
        """
        with self.lock:
            wanted: Sort = tuple((name, bool(down)) for name, down in sort) if sort else self.order
            positions = self._sorted(wanted) if wanted else self._living()
            if narrow is not None:
                positions = positions[narrow.keep(self._slot_at[positions])]
            start, shown = max(start, 0), len(positions)
            if tail:
                start, stop = max(0, shown - max(stop - start, 0)), shown
            elif hold:
                moved = self._moved(positions, hold, ordered=not wanted)
                start, stop = max(start + moved, 0), max(stop + moved, 0)
            where = positions[start : max(stop, start)]
            names = [name for name in columns if name in self._columns] if columns is not None else list(self._columns)
            taken: Block = {}
            for name in names:
                column = self._columns[name]
                taken[name] = (column.kind, *column.take(where))
            keys = self._index.keys(self._slot_at[where])
            revision, total = self.revision, len(self)
        return {
            "revision": revision,
            "total": total,
            "shown": shown,
            "start": start,
            "keys": keys,
            "columns": {name: to_json(kind, data, mask) for name, (kind, data, mask) in taken.items()},
        }

    def _moved(self, positions: Array, hold: Sequence[tuple[Key, int]], *, ordered: bool) -> int:
        """By how many places the first of these rows that is still there has moved."""
        for key, place in hold:
            slot = self._index.get(key)
            if slot is None:
                continue
            position = int(self._pos[slot])
            if ordered:
                at = int(np.searchsorted(positions, position))
                if at < len(positions) and positions[at] == position:
                    return at - place
            else:
                found = np.flatnonzero(positions == position)
                if len(found):
                    return int(found[0]) - place
        return 0

    def shown(
        self, *, sort: Sequence[tuple[str, bool]] | None = None, narrow: ViewFilter | None = None
    ) -> pd.DataFrame:
        """The rows that `narrow` leaves, sorted as `window` would, as a frame of their own."""
        with self.lock:
            wanted: Sort = tuple((name, bool(down)) for name, down in sort) if sort else self.order
            slots = self._slot_at[self._sorted(wanted) if wanted else self._living()]
            return self.at(slots if narrow is None else slots[narrow.keep(slots)], list(self._columns))

    # -- writing -------------------------------------------------------------------------------------------------------

    def apply(self, changes: Sequence[Change]) -> Delta:
        """Applies changes in order, as one batch: rows are written column by column."""
        with self.lock:
            batch = Batch(self)
            batch.take(changes)
            return self._finish(batch)

    def load(self, rows: Iterable[Row], columns: Sequence[Column] | None = None) -> Delta:
        """Throws everything away and takes these rows, and these columns where they are given."""
        with self.lock:
            batch = Batch(self)
            self._empty(batch)
            if columns:
                self._redescribe(columns, batch)
            self._merge(rows, batch)
            return self._finish(batch)

    def resync(self, rows: Iterable[Row], columns: Sequence[Column] | None = None) -> Delta:
        """Makes the table equal to `rows`, changing (and reporting) only what differs."""
        with self.lock:
            batch = Batch(self)
            if columns:
                self._redescribe(columns, batch)
            rows = list(rows)
            if not self.key and 0 not in self._index:
                self._empty(batch)  # the limit has taken the first rows: which those are now, no number tells
            self._next = 0
            gone = set(self._index).difference(keys_of(rows, self.key))
            for key in [key for key in self._index if key in gone] if gone else ():
                batch.delete(key)
            self._merge(rows, batch)
            return self._finish(batch)

    def upsert(self, rows: Iterable[Row]) -> Delta:
        """Inserts rows, or merges them into those with the same key: what was read again by key."""
        with self.lock:
            batch = Batch(self)
            self._merge(rows, batch)
            return self._finish(batch)

    def remove(self, keys: Iterable[Key]) -> Delta:
        """Deletes rows by key; keys that the table does not hold are passed over."""
        with self.lock:
            batch = Batch(self)
            for key in keys:
                if key in self._index:
                    batch.delete(key)
            return self._finish(batch)

    def _merge(self, rows: Iterable[Row], batch: Batch) -> None:
        rows = list(rows)
        index = self._index
        self._next += len(rows)
        for key, row in zip(keys_of(rows, self.key), rows, strict=True):
            (batch.updates if key in index else batch.inserts)[key] = row
        batch.flush()

    def _empty(self, batch: Batch) -> None:
        batch.clear()
        self._clear()
        self._next = 0

    def _finish(self, batch: Batch) -> Delta:
        if self.limit is not None and len(self) > self.limit:
            excess = len(self) - self.limit
            positions = self._sorted(self.order)[self.limit :] if self.order else self._living()[:excess]
            if self.order:
                left_out = rank(self._columns, self.order, int(positions[0]))[:-1]
                self._horizon = left_out if self._horizon is None else min(self._horizon, left_out)
            for key in self._index.keys(self._slot_at[positions]):
                batch.delete(key)
        delta = batch.delta()
        if delta:
            self.revision += 1
        delta.revision = self.revision
        if delta:
            for listener in list(self._listeners):
                listener.apply(delta)
        if len(self._dead) * 4 > self._end - self._start and len(self._dead) > 64:
            self._squeeze()
        return delta

    # -- columns -------------------------------------------------------------------------------------------------------

    def _add_column(self, column: Column) -> None:
        if self._select is None or column.name in self._select:
            kind = self._kind_of(column)
            self._columns[column.name] = ColumnData(
                column.name, column.type, kind, self._capacity, self._labels.get(column.type)
            )

    def _kind_of(self, column: Column) -> Kind:
        return kind_of(self._bases.get(column.type, column.type), numeric=self.numeric)

    def _declare(self, change: Change, batch: Batch) -> None:
        """Follows the columns that a change declares, where they differ from ours."""
        declared = change.columns
        if not declared or declared is self._declared or (change.errors and any("413" not in e for e in change.errors)):
            return
        if self._declared is None or declared != self._declared:
            if self._declared is None:
                # The first change may name a domain where the description named what it is made of.
                for column in declared:
                    known = self._columns.get(column.name)
                    if known is not None and not is_known(column.type) and is_known(known.pg_type):
                        self._bases.setdefault(column.type, known.pg_type)
            self._set_columns(declared, batch)
            self._declared = declared

    def _redescribe(self, columns: Sequence[Column], batch: Batch) -> None:
        self._set_columns(columns, batch)
        self._declared = None  # whoever described it may be behind: the next change knows

    def _set_columns(self, declared: Sequence[Column], batch: Batch) -> None:
        wanted = {c.name: c for c in declared if self._select is None or c.name in self._select}
        if not all(name in wanted for name in self.key):
            return  # a key column dropped or renamed: the reader of the table must decide, we keep what we have
        if list(wanted) == list(self._columns) and all(
            self._kind_of(c) == self._columns[name].kind for name, c in wanted.items()
        ):
            return
        batch.flush()
        self._touched()
        before, self._columns = self._columns, {}
        for name, column in wanted.items():
            self._add_column(column)
            old, new = before.get(name), self._columns[name]
            if old is None:
                new.write_null(slice(self._start, self._end))
                continue
            if old.kind == new.kind:
                self._columns[name] = old
            else:  # through JSON values, as if they had been sent under the new type
                rows = slice(self._start, self._end)
                mask = None if old.mask is None else old.mask[rows]
                values = to_python(old.kind, old.data[rows], mask)
                if old.kind in TIMES or old.kind == "bytes":
                    values = to_json(old.kind, old.data[rows], mask)
                new.write_null(rows)
                try:
                    new.write(rows, *parse(new.kind, values))
                except (ValueError, TypeError, OverflowError):
                    pass  # no meaning under the new type: null until the row is read again
        for rows in self._followers():
            rows.forget()
        batch.columns_changed = True
