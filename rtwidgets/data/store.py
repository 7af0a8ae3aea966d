"""The keyed table: changed by batches of changes, read as DataFrames that never change and as windows of rows."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol
from weakref import WeakSet

import numpy as np
import pandas as pd
import pyarrow as pa

from ..protocol.messages import Change, Column
from .arrow_rows import ArrowRows, arrow_table
from .batch import Batch
from .column_kinds import Array, Block, ColumnKind, Numeric
from .dataframes import frame_of_block
from .delta import Delta, DeltaListener, Key, Row
from .rows import RowListener, Rows
from .schema import ColumnSpec, Schema
from .sorting import Sort, parse_order, rank

__all__ = ["RowFilter", "Store"]


class RowFilter(Protocol):
    """Which rows a view shows; see `ViewFilter`."""

    def keep(self, slots: Array) -> Array:
        """Which of these rows pass, as far as it is known. The caller has the store's lock."""
        ...


class Store:
    """A table keyed by `key`, changed by batches of `Change` and read as DataFrames or windows. Safe to use from any
    thread.

    Memory, which is in Arrow's layout where the type has one: a value takes 1 to 8 bytes, and one more where the type
    has no null of its own; a uuid 17, text 16 and, past 12 bytes, its own. Exact decimals, bytes, json and arrays take
    a pointer and the Python object. As much again is room to grow, which costs nothing until it is used. Key, slot and
    place take 30 bytes a row where keys are whole numbers close to each other, 50 where they are uuids, else some 200.
    With an `order`, values take twice as much in `df()`, as text does in any `df()`. Measured (`bench.table`): 88 bytes
    a row at a million rows of six columns, where an Arrow table of the same rows takes 43.

    Args:
        columns: the columns as the table's description has them.
        key: the key columns. Only with `append_only` there may be none.
        numeric: whether numeric columns hold floats or exact Decimals.
        select: keep these columns only, and the key.
        order: the order of rows in `df()` and `window()` (see `parse_order`); without it they stand as they arrived.
        limit: keep that many rows: the first ones in `order`, else those that arrived last.
        append_only: the key of a row is its number in order of arrival, and whatever would change or delete a row
            counts as unreadable.
        bases: of domains, by name, what they are made of.
        labels: of enums, by name, their labels in order.
        exact: of numeric columns, by name, the type with its digits, where it has any.

    Raises ValueError where there is no key, or a key column is not among the columns.
    """

    def __init__(
        self,
        columns: Sequence[Column],
        key: Sequence[str],
        *,
        numeric: Numeric = "float",
        select: Sequence[str] | None = None,
        order: str | Sequence[str | tuple[str, bool]] | None = None,
        limit: int | None = None,
        append_only: bool = False,
        bases: Mapping[str, str] | None = None,
        labels: Mapping[str, Sequence[str]] | None = None,
        exact: Mapping[str, str] | None = None,
    ) -> None:
        if not key and not append_only:
            raise ValueError("a keyed table needs a key: give the table a primary key, or name the columns in key=")
        self.key = tuple(key)
        self.order: Sort = parse_order(order)
        self.limit = limit
        self.revision = 0
        self.lock = threading.RLock()
        self._schema = Schema(key, numeric=numeric, select=select, bases=bases, labels=labels, exact=exact)
        self._rows = Rows()
        self._listeners: WeakSet[DeltaListener] = WeakSet()
        self._serial = 0
        """The number of the next row, where rows have no key."""
        self._horizon: tuple[Any, ...] | None = None
        """Rank of the first row that the limit is known to have left out; None where it left out none."""
        self._rows.reshape(self._schema.resolve(columns))
        missing = [name for name in self.key if name not in self._rows.columns]
        if missing and columns:
            raise ValueError(f"key column {missing[0]!r} is not among the columns {', '.join(self._rows.columns)}")

    @classmethod
    def of(cls, specs: Sequence[ColumnSpec], key: Sequence[str], *, order: Sort = ()) -> Store:
        """An empty store whose columns are of these kinds, such as that of a derived view."""
        store = cls([], key, order=order, append_only=not key)
        store.reshape(specs)
        return store

    # -- what it has --------------------------------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[Key]:
        return iter(self.keys())

    def __contains__(self, key: Key) -> bool:
        return key in self._rows.index

    @property
    def columns(self) -> list[Column]:
        return [Column(column.name, column.pg_type) for column in self._rows.columns.values()]

    @property
    def kinds(self) -> dict[str, ColumnKind]:
        return {name: column.kind for name, column in self._rows.columns.items()}

    @property
    def specs(self) -> list[ColumnSpec]:
        return [ColumnSpec(name, column.pg_type, column.kind) for name, column in self._rows.columns.items()]

    def unordered(self, sort: Sequence[tuple[str, bool]] | None = None) -> list[str]:
        """Of the columns of this sort (by default `order`), those whose type Postgres orders in a way that is not known
        here: rows stand by their text instead."""
        kinds, wanted = self.kinds, self.order if sort is None else sort
        return [name for name, _ in wanted if name in kinds and not kinds[name].ordered]

    def keys(self, *, ordered: bool = False) -> list[Key]:
        """The keys in order of arrival, or as the rows stand in `df()`."""
        with self.lock:
            return self._rows.keys_at(self._rows.sorted(self.order if ordered else ()))

    # -- the limit ----------------------------------------------------------------------------------------------------

    def set_truncated(self, truncated: bool) -> None:
        """Whether the source has further rows, which all sort after those that were loaded."""
        with self.lock:
            self._horizon = self._last_rank() if truncated and self.order and len(self) else None

    @property
    def refill_due(self) -> bool:
        """Whether rows that the limit left out belong into the table now, since others went or moved back."""
        with self.lock:
            if self._horizon is None or self.limit is None:
                return False
            return len(self) < self.limit or self._last_rank() > self._horizon

    def _last_rank(self) -> tuple[Any, ...]:
        return self._rank(int(self._rows.sorted(self.order)[-1]))

    def _rank(self, position: int) -> tuple[Any, ...]:
        return rank(self._rows.columns, self.order, position)[:-1]

    # -- frames and rows ----------------------------------------------------------------------------------------------

    def df(self) -> pd.DataFrame:
        """All rows as a frame that later changes never touch; shares memory with the table, so it costs no copy."""
        with self.lock:
            return self._rows.frame(self.order)

    def arrow(self) -> pa.Table:
        """All rows as a `pyarrow.Table` that later changes never touch, in the order of `df()`, each column of its
        kind's `arrow_type`.

        Numbers, timestamps and enums share memory with the table. What is stored in another layout than Arrow's is
        converted in chunks of 65,536 rows, which are kept until one of their rows changes. Raises ValueError for a
        value that does not fit the precision and scale that the column was described with.
        """
        with self.lock:
            return self._rows.arrow(self.order)

    def row(self, key: Key) -> Row | None:
        """One row as a change message carries it (times in ISO form, Decimals and integers exact)."""
        with self.lock:
            position = self._rows.position(key)
            return None if position is None else self._rows.record_at(position)

    def select(self, keys: Sequence[Key], *, arrange: bool = False) -> pd.DataFrame:
        """These rows as a frame of their own, in the order given or, with `arrange`, that of arrival; unknown keys are
        passed over."""
        with self.lock:
            slots = self._rows.index.find(keys)
            where = self._rows.positions(slots[slots >= 0])
            if arrange:
                where.sort()
            return frame_of_block(self._rows.values_at(where), len(where))

    def filtered(
        self,
        *,
        sort: Sequence[tuple[str, bool]] | None = None,
        nulls_last: bool = False,
        view_filter: RowFilter | None = None,
    ) -> pd.DataFrame:
        """The rows that `view_filter` leaves, sorted as `window` would, as a frame of their own."""
        with self.lock:
            where = self._ordered(sort, nulls_last)
            if view_filter is not None:
                where = where[view_filter.keep(self._rows.slots_at(where))]
            return frame_of_block(self._rows.values_at(where), len(where))

    def window(
        self,
        start: int,
        stop: int,
        *,
        sort: Sequence[tuple[str, bool]] | None = None,
        nulls_last: bool = False,
        columns: Sequence[str] | None = None,
        view_filter: RowFilter | None = None,
        tail: bool = False,
        anchors: Sequence[tuple[Key, int]] = (),
    ) -> dict[str, Any]:
        """Rows [start, stop) as columns that JSON can carry: `{"revision", "total", "shown", "start", "keys",
        "columns": {name: [...]}}`.

        `sort` has (column, descending) pairs; nulls stand in it as in Postgres, or always last with `nulls_last`.
        `view_filter` leaves rows out, `shown` counts those that stay. `tail` gives as many rows from the end instead.
        `anchors` are rows and the places that they had: the window moves as the first of them that is still there has
        moved. Integers past 2**53 and Decimals are strings, times ISO.
        """
        rows = self._rows
        with self.lock:
            positions = self._ordered(sort, nulls_last)
            if view_filter is not None:
                positions = positions[view_filter.keep(rows.slots_at(positions))]
            start, shown = max(start, 0), len(positions)
            if tail:
                start, stop = max(0, shown - max(stop - start, 0)), shown
            elif anchors:
                moved = self._anchored(positions, anchors, ascending=not (sort or self.order))
                start, stop = max(start + moved, 0), max(stop + moved, 0)
            where = positions[start : max(stop, start)]
            block, keys = rows.values_at(where, columns), rows.keys_at(where)
            revision, total = self.revision, len(self)
        return {
            "revision": revision,
            "total": total,
            "shown": shown,
            "start": start,
            "keys": keys,
            "columns": {name: kind.to_json(data, mask) for name, (kind, data, mask) in block.items()},
        }

    def _ordered(self, sort: Sequence[tuple[str, bool]] | None, nulls_last: bool) -> Array:
        if not sort:
            return self._rows.sorted(self.order)
        return self._rows.sorted(tuple((name, bool(down)) for name, down in sort), nulls_last=nulls_last)

    def _anchored(self, positions: Array, anchors: Sequence[tuple[Key, int]], *, ascending: bool) -> int:
        """By how many places the first of these rows that is still there has moved."""
        for key, place in anchors:
            position = self._rows.position(key)
            if position is None:
                continue
            if ascending:
                at = int(np.searchsorted(positions, position))
                if at < len(positions) and positions[at] == position:
                    return at - place
            else:
                found = np.flatnonzero(positions == position)
                if len(found):
                    return int(found[0]) - place
        return 0

    # -- slots: for what is kept up to date row by row ----------------------------------------------------------------

    @property
    def slots_end(self) -> int:
        """Every slot is below this."""
        return self._rows.index.end

    def slots(self, *, ordered: bool = False) -> Array:
        """The rows' slots, in order of arrival or as the rows stand in `df()`. A row keeps its slot for life;
        afterwards another may get it."""
        with self.lock:
            return self._rows.slots_at(self._rows.sorted(self.order if ordered else ()))

    def occupied(self, slots: int) -> Array:
        """Of the slots below this number, which have a row."""
        with self.lock:
            found = np.zeros(slots, dtype=bool)
            known = min(slots, self.slots_end)
            found[:known] = self._rows.positions(slice(known)) >= 0
            return found

    def find(self, keys: Sequence[Key]) -> Array:
        """The slots of these keys, -1 for those that are not here."""
        with self.lock:
            return self._rows.index.find(keys)

    def values(self, slots: Array, names: Iterable[str] | None = None) -> tuple[Array, Block]:
        """Of these slots those that have rows, and their values in these columns, None for all."""
        with self.lock:
            where = self._rows.positions(slots)
            here = where >= 0
            return slots[here], self._rows.values_at(where[here], names)

    def frame_at(self, slots: Array, names: Iterable[str]) -> pd.DataFrame:
        """Some columns of the rows in these slots, as a frame of their own."""
        with self.lock:
            return frame_of_block(self._rows.values_at(self._rows.positions(slots), names), len(slots))

    def register(self, listener: RowListener) -> Callable[[], None]:
        """Marks rows that come, go or change with the listener, until what is returned is called or nobody else refers
        to it."""
        with self.lock:
            return self._rows.register(listener)

    def add_listener(self, listener: DeltaListener) -> None:
        """Calls `listener.apply` with each delta, for as long as something else refers to the listener."""
        with self.lock:
            self._listeners.add(listener)

    # -- writing ------------------------------------------------------------------------------------------------------

    def apply(self, changes: Sequence[Change]) -> Delta:
        """Applies changes in order, as one batch: rows are written column by column."""
        with self.lock:
            batch = self._batch()
            batch.apply(changes)
            return self._finish(batch)

    def load(
        self,
        rows: Iterable[Row] | pa.Table,
        columns: Sequence[Column] | None = None,
        *,
        bases: Mapping[str, str] | None = None,
        labels: Mapping[str, Sequence[str]] | None = None,
        exact: Mapping[str, str] | None = None,
    ) -> Delta:
        """Replaces all rows by these, and the columns by these where they are given.

        Here and below, `rows` may be a `pyarrow.Table`, a record batch or a list of these, whose columns have the
        `arrow_type` of their kinds, or a type that can be cast to it. Raises ValueError where a key is missing or null,
        or where a value does not fit.
        """
        with self.lock:
            batch = self._batch()
            batch.clear()
            self._describe(batch, columns, bases, labels, exact)
            self._merge(batch, rows)
            return self._finish(batch)

    def resync(
        self,
        rows: Iterable[Row] | pa.Table,
        columns: Sequence[Column] | None = None,
        *,
        bases: Mapping[str, str] | None = None,
        labels: Mapping[str, Sequence[str]] | None = None,
        exact: Mapping[str, str] | None = None,
    ) -> Delta:
        """Makes the table equal to `rows`, changing (and reporting) only what differs."""
        with self.lock:
            batch, index = self._batch(), self._rows.index
            self._describe(batch, columns, bases, labels, exact)
            table = arrow_table(rows)
            if not self.key and 0 not in index:
                batch.clear()  # the limit has removed the first rows: their numbers no longer say which those are
            batch.serial = 0
            if table is None:
                rows = list(rows)
                batch.keep(batch.keys_of(rows))
                batch.merge(rows)
            else:
                block = ArrowRows(table, self.kinds, self.key)
                batch.keep(block.keys)
                batch.merge_block(block)
            return self._finish(batch)

    def upsert(self, rows: Iterable[Row] | pa.Table) -> Delta:
        """Inserts rows, or merges them into those with the same key: what was read again by key."""
        with self.lock:
            batch = self._batch()
            self._merge(batch, rows)
            return self._finish(batch)

    def _merge(self, batch: Batch, rows: Iterable[Row] | pa.Table) -> None:
        table = arrow_table(rows)
        if table is None:
            batch.merge(rows)
        else:
            batch.merge_block(ArrowRows(table, self.kinds, self.key))

    def reserve(self, count: int) -> None:
        """Makes room for so many more rows, so that a table that comes in parts is not moved while it grows."""
        with self.lock:
            self._rows.reserve(count)

    def remove(self, keys: Iterable[Key]) -> Delta:
        """Deletes rows by key; unknown keys are passed over."""
        with self.lock:
            batch = self._batch()
            for key in keys:
                if key in self._rows.index:
                    batch.delete(key)
            return self._finish(batch)

    def reshape(self, specs: Sequence[ColumnSpec]) -> Delta:
        """Makes these the columns: new ones are null, and values of another kind are converted."""
        with self.lock:
            batch = self._batch()
            batch.reshape(specs)
            return self._finish(batch)

    def _batch(self) -> Batch:
        return Batch(self._rows, self._schema, self._serial)

    def _describe(
        self,
        batch: Batch,
        columns: Sequence[Column] | None,
        bases: Mapping[str, str] | None,
        labels: Mapping[str, Sequence[str]] | None,
        exact: Mapping[str, str] | None,
    ) -> None:
        if columns:
            specs = self._schema.describe(columns, bases, labels, exact)
            if {spec.name for spec in specs}.issuperset(self.key):
                batch.reshape(specs)

    def _finish(self, batch: Batch) -> Delta:
        if self.limit is not None and len(self) > self.limit:
            excess = len(self) - self.limit
            positions = self._rows.sorted(self.order)
            positions = positions[self.limit :] if self.order else positions[:excess]
            if self.order:
                left_out = self._rank(int(positions[0]))
                self._horizon = left_out if self._horizon is None else min(self._horizon, left_out)
            for key in self._rows.keys_at(positions):
                batch.delete(key)
        delta = batch.delta()
        self._serial = batch.serial
        if delta:
            self.revision += 1
        delta.revision = self.revision
        if delta and len(self._listeners):
            for listener in list(self._listeners):
                listener.apply(delta)
        self._rows.tidy()
        return delta
