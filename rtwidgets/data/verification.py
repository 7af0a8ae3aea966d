"""When a live table is compared with the database: on a slow schedule, a part at a time where it is large, and after
bursts of changes of which the server may have left some out.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from .slices import Slices

if TYPE_CHECKING:
    from .follower import TableFollower

_SHARE = 50.0  # a table that must be compared as a whole is, at most for a fiftieth of the time
_BURST = 100  # changes a second: past this Supabase may leave out some, and says nothing (its limit for a project)
_QUIET, _QUIET_AT_MOST = 2.0, 30.0  # seconds without changes that end a burst; a longer one is not waited for


class Verification:
    """Of one table."""

    def __init__(self, follower: TableFollower) -> None:
        self._follower = follower
        self._slices = Slices(follower.verify_rows)
        self._second = 0.0
        self._in_second = 0
        self._burst_from: float | None = None
        self._burst_over: asyncio.TimerHandle | None = None
        self._burst: asyncio.Task[None] | None = None
        self._schedule: asyncio.Task[None] | None = None

    def begin(self, every: float) -> None:
        """Compares every so many seconds."""
        self._schedule = asyncio.create_task(self._compare(every))

    def end(self) -> list[asyncio.Task[None] | None]:
        """Begins no more comparisons; returns those that run."""
        if self._burst_over is not None:
            self._burst_over.cancel()
        running = [self._schedule, self._burst]
        self._schedule = self._burst = None
        return running

    async def _compare(self, every: float) -> None:
        follower = self._follower
        last, pause = time.monotonic(), every
        while True:
            await asyncio.sleep(max(pause - (time.monotonic() - last), 0.01))
            last, pause = time.monotonic(), every
            store = follower.store
            if len(store) > follower.verify_rows and follower.limit is None and Slices.fit(store):
                if follower.comparable:
                    piece = await asyncio.to_thread(self._slices.next, store)
                    await follower.verify_part(piece.test, piece.keys)
            else:
                await follower.verify()
                if len(store) > follower.verify_rows:
                    pause = max(every, _SHARE * follower.read_took)

    def note(self, count: int) -> None:
        """So many changes came, from a server that does not number them."""
        follower, now = self._follower, time.monotonic()
        if now - self._second > 1:
            self._second, self._in_second = now, 0
        self._in_second += count
        if self._in_second > _BURST:
            began = self._burst_from = self._burst_from or now
            if self._burst_over is not None:
                self._burst_over.cancel()
            wait = max(min(_QUIET, began + _QUIET_AT_MOST - now), 0.0)
            if len(follower.store) > follower.verify_rows:
                wait = max(wait, _SHARE * follower.read_took)
            self._burst_over = asyncio.get_running_loop().call_later(wait, self._after_burst)

    def _after_burst(self) -> None:
        self._burst_from = self._burst_over = None
        if self._burst is None or self._burst.done():
            self._burst = asyncio.create_task(self._follower.verify())
