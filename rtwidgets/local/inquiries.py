"""Questions to Postgres beside the stream, one a table at a time and each with a time limit: none holds up others."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Collection, Coroutine, Mapping
from typing import Any

import psycopg

from ..client.log import child
from ..protocol.server_channel import Identity
from . import visibility
from .catalogue import Table
from .matching import Test
from .pgoutput import Row
from .pool import Pool
from .visibility import Answer

log = child(__name__)

_MOST_ROWS = 5000
"""Versions of rows in one question."""
_RETRIES = (0.05, 0.5, 2.0)
"""Seconds between tries while Postgres is away."""
SLOW = 0.1
"""Seconds after which a question is not waited for."""


class _Asked:
    """A question about one batch's versions."""

    def __init__(
        self, table: Table, callers: Collection[Identity], rows: Mapping[int, Row], xids: set[int], strict: bool
    ) -> None:
        self.table = table
        self.callers = callers
        self.rows = rows
        self.xids = xids
        self.strict = strict
        self.at = time.monotonic()
        self.answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()

    def joins(self, other: _Asked) -> bool:
        """Whether both can be asked as one."""
        return self.table is other.table and self.strict == other.strict


class Inquiries:
    """Args:
    pool: for these questions alone.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._waiting: dict[int, deque[_Asked]] = {}
        self._current: dict[int, _Asked] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def visible(
        self, table: Table, callers: Collection[Identity], rows: Mapping[int, Row], xids: set[int], *, strict: bool
    ) -> asyncio.Future[Answer]:
        """Asks which of these versions each caller may see. The future always has a result."""
        asked, oid = _Asked(table, callers, rows, xids, strict), table.relation.oid
        waiting = self._waiting.get(oid)
        if waiting is None:
            self._waiting[oid] = deque([asked])
            self._spawn(self._work(oid))
        else:
            waiting.append(asked)
        return asked.answer

    def compare(self, test: Test, values: set[str]) -> asyncio.Future[None]:
        """Asks which of these values meet a condition. The future may have the exception TooSlow."""
        return self._spawn(self._compare(test, values))

    def slow(self, table: Table) -> bool:
        """Whether a question about the table has been open for so long that others do not wait for it."""
        current = self._current.get(table.relation.oid)
        return current is not None and time.monotonic() - current.at > SLOW

    async def stop(self) -> None:
        """Ends what is being asked."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _compare(self, test: Test, values: set[str]) -> None:
        for wait in _RETRIES:
            try:
                await test.ask(self._pool, values)
                return
            except (psycopg.OperationalError, OSError) as error:
                log.warning("a filter waits for Postgres: %s", error)
                await asyncio.sleep(wait)
        await test.ask(self._pool, values)

    async def _work(self, oid: int) -> None:
        waiting = self._waiting[oid]
        try:
            while waiting:
                together = [waiting.popleft()]
                size = len(together[0].rows)
                while waiting and waiting[0].joins(together[0]) and size + len(waiting[0].rows) <= _MOST_ROWS:
                    size += len(waiting[0].rows)
                    together.append(waiting.popleft())
                together[0].at = time.monotonic()
                self._current[oid] = together[0]
                await self._ask(together)
        finally:
            del self._waiting[oid]
            self._current.pop(oid, None)
            for asked in waiting:
                _answer(asked, Answer({}))

    async def _ask(self, together: list[_Asked]) -> None:
        if len(together) == 1:
            (asked,) = together
            _answer(asked, await self._try(asked.table, list(asked.callers), asked.rows, asked.xids, asked.strict))
            return
        first, rows, starts = together[0], dict[int, Row](), list[int]()
        for asked in together:
            starts.append(len(rows))
            base = len(rows)
            rows |= {base + place: row for place, row in enumerate(asked.rows.values())}
        callers = list({caller: None for asked in together for caller in asked.callers})
        xids = {xid for asked in together for xid in asked.xids}
        answer = await self._try(first.table, callers, rows, xids, first.strict)
        for asked, base in zip(together, starts, strict=True):
            numbers = {base + place: number for place, number in enumerate(asked.rows)}
            shown = {
                caller: {numbers[n] for n in seen if n in numbers}
                for caller, seen in answer.shown.items()
                if caller in asked.callers
            }
            _answer(asked, Answer(shown, answer.changed))

    async def _try(
        self, table: Table, callers: list[Identity], rows: Mapping[int, Row], xids: set[int], strict: bool
    ) -> Answer:
        try:
            return await self._read(table, callers, rows, xids, strict)
        except Exception:  # what cannot be answered is not answered: those who asked are told
            log.exception("visibility could not be asked")
            return Answer({})

    async def _read(
        self, table: Table, callers: list[Identity], rows: Mapping[int, Row], xids: set[int], strict: bool
    ) -> Answer:
        for wait in _RETRIES:
            try:
                return await visibility.read_visible(self._pool, table, callers, rows, xids, strict=strict)
            except (psycopg.OperationalError, OSError) as error:
                log.warning("changes wait for Postgres: %s", error)
                await asyncio.sleep(wait)
        return Answer({})


def _answer(asked: _Asked, answer: Answer) -> None:
    if not asked.answer.done():
        asked.answer.set_result(answer)
