"""The keyed table: typed columns, an index from key to slot, and frames over the same memory that never change.

A row has a slot for life (`_index`: key to slot) and a position in the columns, which moves when gaps are closed
(`_pos`: slot to position, `_slot_at`: position to slot). So closing gaps is array work and never touches the index.
Rows stand in order of arrival. A deleted row leaves a gap, closed when a frame is asked for, or when a quarter of the
rows are gaps.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, cast
from weakref import WeakSet

import numpy as np
import pandas as pd

from ..protocol.messages import Change, Column
from .batch import Batch, Row
from .columns import ColumnData
from .delta import Block, Delta, Key, Updates
from .frames import frame_of, guard
from .index import Index
from .narrow import Narrow
from .sorting import Sort, SortedRows, parse_order, rank
from .types import TIMES, Array, Kind, changed, is_known, keys_of, kind_of, parse, to_json, to_pandas, to_python

_FIRST_CAPACITY = 256
_SORTS_KEPT = 4
_FEW_GAPS = 64
_FEW = 4  # changes: what prepares many at once costs more than it saves


class Store:
    """A table keyed by `key`, changed by batches of `Change` and read as DataFrames or windows. Safe to use from any
    thread.

    `select` keeps to these columns (the key always stays). `order` (see `parse_order`) is the order of rows in `df()`
    and `window()`; without it they stand as they arrived. `limit` keeps that many rows: the first ones in `order`, else
    those that arrived last. With `append_only` there may be no key columns: the key of a row is its number in order of
    arrival, and whatever would change or delete a row counts as unreadable. `bases`: of domains, by name, what they
    are made of. `labels`: of enums, by name, their labels in order.

    A row takes its values (1 to 8 bytes each, with one more where the type has no null of its own; a pointer and the
    Python object for text, decimals, bytes and json), room to grow by as much again, and about 40 bytes for key, slot
    and place; some 200 where keys are not whole numbers close to each other. Measured (`bench.table`): 188 bytes a row
    at a million rows of six columns.
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
        if not key and not append_only:
            raise ValueError("a keyed table needs a key: give the table a primary key, or name the columns in key=")
        self.key = tuple(key)
        self.numeric: Literal["float", "decimal"] = numeric
        self.order: Sort = parse_order(order)
        self.limit = limit
        self.revision = 0
        self._bases, self._labels = dict(bases or {}), dict(labels or {})
        self.lock = threading.RLock()
        self._select = None if select is None else {*select, *self.key}
        self._declared: list[Column] | None = None
        self._capacity = _FIRST_CAPACITY
        self._start = self._end = 0
        self._dead: set[int] = set()
        self._shift = 0  # how far positions have moved towards the front for good, since the beginning
        self._index = Index()
        self._slot_at = np.zeros(
            self._capacity, dtype=np.int64
        )  # as all memory here: what is not yet used is never read
        self._pos = np.zeros(self._capacity, dtype=np.int64)
        self._next = 0  # number of the next row, where rows have no key
        self._columns: dict[str, ColumnData] = {}
        self._sorts: dict[Sort, SortedRows] = {}
        self._narrows: WeakSet[Narrow] = WeakSet()
        self._arrival: Array | None = None
        self._shown: dict[str, Any] | None = None
        """The columns of the frame handed out last, while it is still true."""
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
                    where = self._sorted(self.order)
                    self._shown = {name: column.copied(where) for name, column in self._columns.items()}
                else:
                    self._shown = {name: c.show(self._start, self._end) for name, c in self._columns.items()}
            return guard(frame_of(self._shown, len(self)))

    def row(self, key: Key) -> Row | None:
        """One row as values like those that JSON carries (times in ISO form, Decimals and integers exact)."""
        with self.lock:
            slot = self._index.get(key)
            return None if slot is None else self._row_at(int(self._pos[slot]))

    def _row_at(self, position: int) -> Row:
        where = np.array([position])
        found: Row = {}
        for name, column in self._columns.items():
            as_text = column.kind in TIMES or column.kind == "bytes"
            found[name] = (to_json if as_text else to_python)(column.kind, *column.take(where))[0]
        return found

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

    def follow(self, narrow: Narrow) -> None:
        """Tells this one which rows come, go and change, for as long as somebody else holds it."""
        self._narrows.add(narrow)

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
        narrow: Narrow | None = None,
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

    def shown(self, *, sort: Sequence[tuple[str, bool]] | None = None, narrow: Narrow | None = None) -> pd.DataFrame:
        """The rows that `narrow` leaves, sorted as `window` would, as a frame of their own."""
        with self.lock:
            wanted: Sort = tuple((name, bool(down)) for name, down in sort) if sort else self.order
            slots = self._slot_at[self._sorted(wanted) if wanted else self._living()]
            return self.at(slots if narrow is None else slots[narrow.keep(slots)], list(self._columns))

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

    # -- writing -------------------------------------------------------------------------------------------------------

    def apply(self, changes: Sequence[Change]) -> Delta:
        """Applies changes in order, as one batch: rows are written column by column."""
        with self.lock:
            batch = Batch(self)
            if changes:
                # Lists, here and below: a generator takes twice as long, and this is done for every change. They are
                # nearly always one and the same list of columns, which `count` sees first.
                if [change.columns for change in changes].count(changes[0].columns) == len(changes):
                    self._declare(changes[0], batch)
                    if len(changes) < _FEW or not self._at_once(changes, batch):
                        self._collect(changes, batch)
                else:
                    self._split(changes, batch)
            return self._finish(batch)

    def load(self, rows: Iterable[Row], columns: Sequence[Column] | None = None) -> Delta:
        """Throws everything away and takes these rows, and these columns where they are given."""
        with self.lock:
            batch = Batch(self)
            self._clear(batch)
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
                self._clear(batch)  # the limit has taken the first rows: which those are now, no number tells
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

    def _split(self, changes: Sequence[Change], batch: Batch) -> None:
        """A batch in which the table's columns change: applied in runs with the same columns."""
        run: list[Change] = []
        for change in changes:
            if run and change.columns != run[0].columns:
                self._declare(run[0], batch)
                self._collect(run, batch)
                run = []
            run.append(change)
        self._declare(run[0], batch)
        self._collect(run, batch)

    def _at_once(self, changes: Sequence[Change], batch: Batch) -> bool:
        """Takes a batch of the usual sort without a look at each change: whole rows, or parts of known rows that come
        once. False, and nothing done, for any other batch: those go change by change (`_collect`).
        """
        if not self.key or not {change.type for change in changes} <= {"INSERT", "UPDATE"}:
            return False
        records = [change.record for change in changes]
        if None in records or [change.errors for change in changes].count(None) < len(changes):
            return False
        records = cast("list[Row]", records)
        olds = [change.old_record for change in changes]
        try:
            keys = keys_of(records, self.key)
            told = [old for old in olds if old]
            same = keys if len(told) == len(olds) else [key for old, key in zip(olds, keys, strict=True) if old]
            if told and keys_of(told, self.key) != same:
                return False  # a key changed
            single = len(set(keys)) == len(keys)
        except (KeyError, TypeError):
            return False
        first, width = records[0], len(self._declared or self._columns)
        # A record that has as many values as there are columns has all of them.
        whole = all(column in first for column in self._columns) and set(map(len, records)) == {width}
        if not single:
            if not whole:
                return False
            rows = dict(zip(keys, records, strict=True))  # the last one counts
            keys, records = list(rows), list(rows.values())
        slots = self._index.find(keys)
        known = slots >= 0
        if known.all():
            batch.write(keys, records, slots)
        elif whole:
            here = np.flatnonzero(known).tolist()
            batch.write([keys[i] for i in here], [records[i] for i in here], slots[known])
            new = np.flatnonzero(~known).tolist()
            batch.inserts = {keys[i]: records[i] for i in new}
            batch.flush()
        else:
            return False
        return True

    def _collect(self, changes: Sequence[Change], batch: Batch) -> None:
        """Sorts changes into inserts and updates by key; what must happen in order (deletes, new keys) is done at
        once.
        """
        if not self.key:
            self._append(changes, batch)
            return
        index, inserts, updates = self._index, batch.inserts, batch.updates
        key_columns = self.key
        single = key_columns[0] if len(key_columns) == 1 else None
        width = len(self._columns)
        for change in changes:
            kind, record = change.type, change.record
            try:
                if kind == "TRUNCATE":
                    self._clear(batch)
                    continue
                if kind == "DELETE":
                    old = change.old_record or {}
                    key = old[single] if single is not None else tuple(old[name] for name in key_columns)
                    if key in inserts:
                        del inserts[key]
                    elif key in index:
                        batch.delete(key)
                    continue
                assert record is not None
                key = record[single] if single is not None else tuple([record[name] for name in key_columns])
                too_large = change.errors is not None and any("413" in error for error in change.errors)
                if too_large:
                    batch.reread[key] = None
                if kind == "UPDATE":
                    old = change.old_record
                    if old:
                        if single is not None:
                            before = old.get(single, key)
                        else:
                            before = tuple([old.get(name, record[name]) for name in key_columns])
                        if before != key:
                            batch.flush()
                            batch.rename(before, key)
                    if key in updates:
                        updates[key] = {**updates[key], **record}
                    elif key in index:
                        updates[key] = record
                    elif key in inserts:
                        inserts[key] = {**inserts[key], **record}
                    elif len(record) >= width and all(name in record for name in self._columns):
                        inserts[key] = record
                    elif not too_large:
                        batch.unknown[key] = None
                elif key in index:
                    known = updates.get(key)
                    if too_large:
                        updates[key] = record if known is None else {**known, **record}
                    else:
                        updates[key] = record if len(record) >= width else {**dict.fromkeys(self._columns), **record}
                elif too_large and key in inserts:
                    inserts[key] = {**inserts[key], **record}
                else:
                    inserts[key] = record
            except (KeyError, TypeError, AssertionError):
                batch.unreadable += 1  # Error 401 sends no values: without a key nothing can be done
        batch.flush()

    def _append(self, changes: Sequence[Change], batch: Batch) -> None:
        for change in changes:
            if change.type == "TRUNCATE":
                self._clear(batch)
            elif change.type == "INSERT" and change.record and not change.errors:
                batch.inserts[self._next] = change.record
                self._next += 1
            else:
                batch.unreadable += 1
        batch.flush()

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
        if len(self._dead) * 4 > self._end - self._start and len(self._dead) > 64:
            self._squeeze()
        return delta

    # -- rows ----------------------------------------------------------------------------------------------------------

    def _followers(self) -> list[SortedRows | Narrow]:
        return [*self._sorts.values(), *self._narrows]

    def _touched(self) -> None:
        self._shown = None
        self._arrival = None

    def _clear(self, batch: Batch) -> None:
        batch.clear()
        self._touched()
        for column in self._columns.values():
            column.own(0)
            column.write_null(slice(0, self._end))
            column.nulls = False
        self._slot_at[: self._end] = -1
        self._pos[:] = -1
        self._start = self._end = self._next = 0
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


def _spread(data: Array, mask: Array | None, some: Array) -> tuple[Array, Array | None]:
    full = np.zeros(len(some), dtype=data.dtype) if data.dtype != object else np.full(len(some), None, dtype=object)
    full[some] = data
    if mask is None:
        return full, None
    full_mask = np.ones(len(some), dtype=bool)
    full_mask[some] = mask
    return full, full_mask
