"""Broadcasts that wait for the join, in the order in which they were sent, and each with a result for its sender."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

from ..protocol import errors
from ..protocol.errors import RealtimeError
from .pending_replies import Answer, settle

MOST = 100
"""How many wait; one more, and the oldest gives way."""


class SendBuffer:
    """What is sent while a channel is not joined.

    `write` puts a message on the socket, and returns the answer to come where there is one. `name` is for texts.
    """

    def __init__(self, name: str, write: Callable[[Any], Awaitable[Answer | None]]) -> None:
        self._name, self._write = name, write
        self._waiting: deque[tuple[Any, asyncio.Future[Answer | None]]] = deque()
        self._flushing = False

    def __bool__(self) -> bool:
        """Whether something waits: what is sent now must wait behind it, or it would overtake."""
        return self._flushing or bool(self._waiting)

    def __len__(self) -> int:
        return len(self._waiting)

    async def put(self, body: Any) -> None:
        """Waits until the message is written, and for its answer; raises `RealtimeError`, also where it gives way."""
        if len(self._waiting) >= MOST:
            _, oldest = self._waiting.popleft()
            text = f"over {MOST} messages waited for channel {self._name!r}: the oldest was dropped"
            _fail(oldest, errors.make("SendBufferFull", text))
        written: asyncio.Future[Answer | None] = asyncio.get_running_loop().create_future()
        self._waiting.append((body, written))
        await settle(await written)

    async def flush(self, joined: Callable[[], bool]) -> None:
        """Writes what waits for as long as the channel is joined; what is left then waits for the next join."""
        if self._flushing:
            return
        self._flushing = True
        try:
            while self._waiting and joined():
                body, written = self._waiting.popleft()
                if written.done():
                    continue  # its sender has stopped waiting
                try:
                    answer = await self._write(body)
                except asyncio.CancelledError:
                    _fail(written, errors.make("Closed", "the client was closed"))
                    raise
                except Exception as error:
                    _fail(written, error)
                else:
                    if not written.done():
                        written.set_result(answer)
        finally:
            self._flushing = False

    def fail(self, error: RealtimeError) -> None:
        """Nothing of it will be sent."""
        waiting, self._waiting = self._waiting, deque()
        for _, written in waiting:
            _fail(written, error)


def _fail(written: asyncio.Future[Answer | None], error: Exception) -> None:
    if not written.done():
        written.set_exception(error)
