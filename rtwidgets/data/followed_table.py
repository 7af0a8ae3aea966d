"""A described table: its store, and how changes and rows get into it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..client.snapshot_source import Row, SnapshotSource, TableInfo
from ..protocol.errors import RealtimeError
from ..protocol.messages import Change
from .change_filter import ChangeFilter
from .delta import Delta, Key
from .events import Events
from .first_load import FirstLoad, Rows, described, load_rows
from .request import ResolvedTable, TableRequest, resolve
from .snapshot import Progress, Snapshot, TableReader, key_in
from .store import Store
from .verification import Slice, Slices


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a batch did (`delta` is None for nothing), and the rows, or the table, that it left to be read."""

    delta: Delta | None = None
    unread: tuple[Key, ...] = ()
    refill: bool = False


class FollowedTable:
    """The store, the filter and the reader of one table. All but `store` and `load` is for the loop's thread."""

    def __init__(self, source: SnapshotSource, request: TableRequest, resolved: ResolvedTable) -> None:
        self._source, self._request = source, request
        self.store = Store(
            resolved.columns,
            resolved.key,
            numeric=request.numeric,
            select=resolved.select,
            order=resolved.sort,
            limit=resolved.limit,
            append_only=request.append_only or request.events,
            bases=resolved.info.bases,
            labels=resolved.info.labels,
            exact=resolved.info.exact,
        )
        self._slices = Slices(request.verify_rows)
        self._loading = asyncio.Lock()
        self._loaded = False
        self.resolve(resolved)

    def resolve(self, resolved: ResolvedTable) -> None:
        """The table is this now."""
        self.resolved = resolved
        self._reader = TableReader(self._source, self._request, resolved)
        self._filter = ChangeFilter(resolved.filter, resolved.info)
        self._events = Events(self._filter.judged) if self._request.events else None

    @property
    def resumable(self) -> bool:
        """Whether changes alone bring the rows up to date: of a log without a key, no values are sent."""
        return bool(self.resolved.key) or self._events is not None

    @property
    def large(self) -> bool:
        """Whether the table is too large to be compared as a whole often."""
        return len(self.store) > self._request.verify_rows

    # --- changes

    def apply(self, changes: Sequence[Change]) -> Outcome:
        """Applies changes, as far as they match the filter. Raises what `Store.apply` raises."""
        store, key, refill = self.store, self.resolved.key, False
        unsure: list[Key] = []
        if self._events is not None:
            changes = self._events.of(changes)
        else:
            if not key and any(not change.record for change in changes):
                refill = True
                changes = [change for change in changes if change.record]
            changes, unsure = self._filter.apply(changes, key, store.row)
            refill = refill or self._renamed(changes)
        delta: Delta | None = None
        if changes:
            delta = store.apply(changes)
            if delta.columns_changed and changes[-1].columns and self._events is None:
                self._filter.declare(changes[-1].columns)
            unsure += [*delta.reread, *delta.unknown]
            moved = self.resolved.foreign_order and self._moved(delta)
            refill = refill or store.refill_due or moved or delta.unreadable > 0
        if not key:
            return Outcome(delta, (), refill or bool(unsure))
        return Outcome(delta, tuple(unsure), refill)

    def _renamed(self, changes: Sequence[Change]) -> bool:
        """Whether a row may have another key now, where changes do not carry the key that it had before."""
        identity, key = self.resolved.info.identity, self.resolved.key
        if identity is None or set(key) <= set(identity):
            return False
        records = [change.record for change in changes if change.type == "UPDATE" and change.record]
        return any(key_in(row, key) not in self.store for row in records if all(name in row for name in key))

    def _moved(self, delta: Delta) -> bool:
        """Whether the batch may have changed which rows are the first."""
        names = {name for name, _ in self.resolved.sort}
        return bool(delta.inserted or delta.deleted) or any(names.intersection(part.flags) for part in delta.updates)

    # --- rows

    async def read(self, describe: bool | None, progress: Progress, emit: Callable[[Delta], object]) -> Snapshot:
        """All rows; `describe` as in `ReadAll`. The first time they are put into the store as they come, and `emit` is
        called with what that does. Raises `RealtimeError`, also where the table cannot be followed any more.
        """
        info = await self._describe() if describe else None
        max_rows = None if self._loaded else self._request.max_rows  # what has grown meanwhile stays
        if self._loaded or self.resolved.limit is not None or not self.resolved.key:
            found = await self._reader.read(progress, max_rows=max_rows)
            if describe is None and self._differs(found.rows):
                info = await self._describe()
            return found._replace(info=info)
        first = FirstLoad(self.store, self._loading, emit)
        first.info = info

        async def put(rows: Rows, expected: int) -> None:
            first.expected = expected
            if not first.begun and describe is None and self._differs(rows):
                first.info = await self._describe()
            await first.put(rows)

        try:
            found = await self._reader.read(progress, put, max_rows=max_rows)
        except RealtimeError as error:
            if error.code == "TooManyRows":
                await first.clear()
            raise
        await first.end()
        return found._replace(info=first.info, stored=True)

    def _differs(self, rows: Rows) -> bool:
        return self._reader.differs(rows, frozenset(self.store.kinds)) and self._source.repeatable

    async def _describe(self) -> TableInfo:
        """Describes the table anew, and follows it as it is now."""
        info = await self._source.describe(self._request.table, self._request.schema)
        resolved, key = resolve(self._request, info), self.resolved.key
        if resolved.key != key:
            raise RealtimeError(
                f"the key of {self._request.name} was ({', '.join(key)}) and is ({', '.join(resolved.key)}) now",
                code="KeyChanged",
                hint="make the LiveTable again: its rows are known by the old key",
            )
        self.resolve(resolved)
        return info

    async def by_key(self, keys: Sequence[Key]) -> dict[Key, Row]:
        """The rows with these keys, as far as they match. Raises `RealtimeError`."""
        return await self._reader.by_key(keys)

    async def next_slice(self) -> tuple[Slice, dict[Key, Row]] | None:
        """The next part of a large table, and the rows of the database that belong there; None where it has no parts.

        Raises `RealtimeError`.
        """
        if not self._slices.fits(self.store):
            return None
        part = await asyncio.to_thread(self._slices.next, self.store)
        return part, await self._reader.matching(part.filter)

    async def load(self, snapshot: Snapshot) -> Delta:
        """Makes the store equal to a snapshot; only what differs is in the delta.

        Runs to its end once it has begun, so that the delta is never lost: shield it from cancellation.
        """
        async with self._loading:  # in the order in which they were read
            put = self.store.resync if self._loaded else self.store.load
            self._loaded = True
            if snapshot.stored:
                return Delta(self.store.revision)
            delta = await load_rows(described(put, snapshot.info), snapshot.rows)
            self.store.set_truncated(snapshot.more)
            return delta

    def merge(self, rows: Sequence[Row], gone: Sequence[Key]) -> list[Delta]:
        """Puts rows that were read by key into the store, and removes others."""
        return [self.store.upsert(rows), self.store.remove(gone)]
