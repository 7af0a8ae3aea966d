"""Coroutines that wait for one thing, such as a join: all are woken together, with or without an error."""

from __future__ import annotations

import asyncio

from ..protocol import errors
from ..protocol.errors import RealtimeError


class Waiters:
    """Futures of those who wait; whoever stops waiting is forgotten."""

    def __init__(self) -> None:
        self._waiting: set[asyncio.Future[None]] = set()

    def __len__(self) -> int:
        return len(self._waiting)

    async def wait(self, timeout: float) -> bool:
        """Waits until `wake`, and returns whether it came within `timeout` seconds. Raises the error of `wake`."""
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.add(waiter)
        try:
            await asyncio.wait([waiter], timeout=timeout)
        finally:
            self._waiting.discard(waiter)
        if waiter.done():
            waiter.result()
        return waiter.done()

    def wake(self, error: RealtimeError | None = None) -> None:
        """Ends every wait."""
        for waiter in self._waiting:
            if not waiter.done():
                if error is None:
                    waiter.set_result(None)
                else:
                    waiter.set_exception(error)


def late(text: str, because: RealtimeError | None) -> RealtimeError:
    """The time-out error of a wait, with what was wrong meanwhile."""
    if because is None:
        return errors.make("Timeout", text)
    return errors.make("Timeout", f"{text}: {because.message}", hint=because.hint)
