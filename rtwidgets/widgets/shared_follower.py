"""Live tables with the same arguments share one follower, and so one store, in a process."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Hashable

from ..client.callbacks import Callbacks, Unregister
from ..client.channel import AsyncChannel
from ..client.log import logger
from ..client.thread import io_loop
from ..data.follower import TableFollower

_shared: dict[Hashable, SharedFollower] = {}
"""By the arguments that tell followers apart."""

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_shared.clear)


class SharedFollower:
    """A follower that stops when the last table that uses it is closed. All is called on the I/O thread."""

    def __init__(self, follower: TableFollower, channel: AsyncChannel) -> None:
        self.follower = follower
        self.progressed, self.paused = Callbacks(), Callbacks()
        """What to call when `follower.progress` has grown; and, with True or False, when it was paused or resumed."""
        self._channel = channel
        self._users = 0
        self._retained: Unregister | None = None
        follower.on_progress = self.progressed.call
        self.starting: asyncio.Task[None] = io_loop().create_task(self._start())

    @classmethod
    def of(cls, key: Hashable | None, channel: AsyncChannel, make: Callable[[], TableFollower]) -> SharedFollower:
        """The follower with these arguments, for one more user; None is like no other.

        One that has ended or cannot go on is left to those that have it: whoever makes the table again has changed
        something.
        """
        found = None if key is None else _shared.get(key)
        if found is None or found.over:
            found = cls(make(), channel)
            if key is not None:
                _shared[key] = found
        found._users += 1
        return found

    @property
    def over(self) -> bool:
        """Whether the follower has ended, cannot go on or could not be started."""
        starting = self.starting
        failed = starting.done() and not starting.cancelled() and starting.exception() is not None
        return failed or self.follower.status in ("error", "closed")

    @property
    def alone(self) -> bool:
        """Whether there is one user."""
        return self._users == 1

    def pause(self, paused: bool) -> None:
        """Pauses or resumes the follower, for all users."""
        if paused:
            self.follower.pause()
        else:
            self.follower.resume()
        self.paused.call(paused)

    def release(self) -> None:
        """One user fewer."""
        self._users -= 1
        if self._users:
            return
        for key in [key for key, shared in _shared.items() if shared is self]:
            del _shared[key]
        self.starting.cancel()
        if self._retained is not None:
            self._retained()
        stopping = io_loop().create_task(self.follower.stop())
        stopping.add_done_callback(_log_failure)

    async def _start(self) -> None:
        await self.follower.start()
        if self._users and self.follower.status != "error":
            self._retained = self._channel.retain()


def _log_failure(done: asyncio.Task[None]) -> None:
    if not done.cancelled() and (error := done.exception()) is not None:
        logger.error("a live table did not stop cleanly", exc_info=error)
