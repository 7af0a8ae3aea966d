"""Queries about row changes, run beside the stream: one a table at a time, each with a time limit."""

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


class _Inquiry:
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

    def joins(self, other: _Inquiry) -> bool:
        """Whether both can be one question."""
        return self.table is other.table and self.strict == other.strict


class Inquiries:
    """Args:
    pool: for these questions alone.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._waiting: dict[int, deque[_Inquiry]] = {}
        self._current: dict[int, _Inquiry] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def visible(
        self, table: Table, callers: Collection[Identity], rows: Mapping[int, Row], xids: set[int], *, strict: bool
    ) -> asyncio.Future[Answer]:
        """Starts to read which of these versions each caller may see. The future always gets a result."""
        inquiry, oid = _Inquiry(table, callers, rows, xids, strict), table.relation.oid
        waiting = self._waiting.get(oid)
        if waiting is None:
            self._waiting[oid] = deque([inquiry])
            self._spawn(self._work(oid))
        else:
            waiting.append(inquiry)
        return inquiry.answer

    def compare(self, test: Test, values: set[str]) -> asyncio.Future[None]:
        """Starts to read which of these values meet a condition. The future may get the exception TooSlow."""
        return self._spawn(self._compare(test, values))

    def slow(self, table: Table) -> bool:
        """Whether a question about the table has been open for so long that others do not wait for it."""
        current = self._current.get(table.relation.oid)
        return current is not None and time.monotonic() - current.at > SLOW

    async def stop(self) -> None:
        """Cancels every question that has no answer yet."""
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
                await test.evaluate(self._pool, values)
                return
            except (psycopg.OperationalError, OSError) as error:
                log.warning("a filter waits for Postgres: %s", error)
                await asyncio.sleep(wait)
        await test.evaluate(self._pool, values)

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
                await self._answer_together(together)
        finally:
            del self._waiting[oid]
            self._current.pop(oid, None)
            for inquiry in waiting:
                _answer(inquiry, Answer({}))

    async def _answer_together(self, together: list[_Inquiry]) -> None:
        if len(together) == 1:
            (inquiry,) = together
            _answer(
                inquiry,
                await self._try(inquiry.table, list(inquiry.callers), inquiry.rows, inquiry.xids, inquiry.strict),
            )
            return
        first, rows, starts = together[0], dict[int, Row](), list[int]()
        for inquiry in together:
            starts.append(len(rows))
            base = len(rows)
            rows |= {base + place: row for place, row in enumerate(inquiry.rows.values())}
        callers = list({caller: None for inquiry in together for caller in inquiry.callers})
        xids = {xid for inquiry in together for xid in inquiry.xids}
        answer = await self._try(first.table, callers, rows, xids, first.strict)
        for inquiry, base in zip(together, starts, strict=True):
            numbers = {base + place: number for place, number in enumerate(inquiry.rows)}
            shown = {
                caller: {numbers[n] for n in seen if n in numbers}
                for caller, seen in answer.shown.items()
                if caller in inquiry.callers
            }
            _answer(inquiry, Answer(shown, answer.changed))

    async def _try(
        self, table: Table, callers: list[Identity], rows: Mapping[int, Row], xids: set[int], strict: bool
    ) -> Answer:
        try:
            return await self._read(table, callers, rows, xids, strict)
        except Exception:  # an empty answer: the delivery then reports the table to its subscribers
            log.exception("could not read which rows are visible")
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


def _answer(inquiry: _Inquiry, answer: Answer) -> None:
    if not inquiry.answer.done():
        inquiry.answer.set_result(answer)
