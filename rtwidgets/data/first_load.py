"""The first load of a table: its pages go into the store as they come, so that the first rows show at once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from ..client.snapshot_source import Page, TableInfo
from .delta import Delta
from .store import Store

_MANY_ROWS = 5_000
"""Rows that take so long to load that it is done off the loop."""
_AT_ONCE = 20_000
"""Rows that are loaded together, where they come in small pages."""
_RESERVED_MOST = 10_000_000
"""Rows for which room is made at once."""
_WITHIN = 0.2
"""Seconds after which fewer are loaded."""

Rows = Sequence[Any]
"""Rows as JSON carries them, or batches of columns (`pyarrow.RecordBatch`)."""


def row_count(rows: Rows) -> int:
    return len(rows) if not rows or isinstance(rows[0], dict) else sum(batch.num_rows for batch in rows)


def rows_of(page: Page) -> Rows:
    """The page's rows as a store loads them."""
    if page.batch is None:
        return page.rows
    return [page.batch] if page.batch.num_rows else []


def described(put: Callable[..., Delta], info: TableInfo | None) -> Callable[[Rows], Delta]:
    """`Store.load` or `Store.resync`, with what the table is now where that is known."""
    if info is None or not info.columns:
        return put
    return partial(put, columns=info.columns, bases=info.bases, labels=info.labels, exact=info.exact)


async def load_rows(put: Callable[[Rows], Delta], rows: Rows) -> Delta:
    """What `put(rows)` gives; many rows are put off the loop, so that heartbeats and other tables go on."""
    return put(rows) if row_count(rows) <= _MANY_ROWS else await asyncio.to_thread(put, rows)


class FirstLoad:
    """Loads one part while the next one is read. The first replaces what the store had.

    `emit` is called on the loop with what each part did. A part runs to its end though the read is cancelled; `lock`
    has the next read wait for it.
    """

    def __init__(self, store: Store, lock: asyncio.Lock, emit: Callable[[Delta], object]) -> None:
        self.begun = False
        self.info: TableInfo | None = None
        """What the table is now, where it was described for this read."""
        self.expected = 0
        """How many rows there will be, about; 0 where that is not known."""
        self._store, self._lock, self._emit = store, lock, emit
        self._rows: list[Any] = []
        self._last = 0.0
        self._loading: asyncio.Future[None] | None = None

    async def put(self, rows: Rows) -> None:
        """Loads these rows, after those before them. Raises what `Store.upsert` raises."""
        self._rows.extend(rows)
        now = time.monotonic()
        if now - self._last >= _WITHIN or row_count(self._rows) >= _AT_ONCE:
            self._last = now
            await self._flush()

    async def end(self) -> None:
        """Returns when all rows are in the store."""
        if self._rows or not self.begun:
            await self._flush()
        await self._settle()

    async def clear(self) -> None:
        """Takes out again what was put in."""
        await self._settle()
        if self.begun:
            self.begun, self._rows = False, []
            await self._load([])

    async def _flush(self) -> None:
        await self._settle()
        rows, self._rows = self._rows, []
        self._loading = asyncio.ensure_future(self._load(rows))

    async def _settle(self) -> None:
        if self._loading is not None:
            await asyncio.shield(self._loading)
            self._loading = None

    async def _load(self, rows: Rows) -> None:
        async with self._lock:
            first, self.begun = not self.begun, True
            delta = await load_rows(partial(self._put, first=first), rows)
            if delta:
                self._emit(delta)

    def _put(self, rows: Rows, *, first: bool) -> Delta:
        if not first:
            return self._store.upsert(rows)
        delta = described(self._store.load, self.info)(rows)
        self._store.reserve(min(max(self.expected - len(self._store), 0), _RESERVED_MOST))
        return delta
