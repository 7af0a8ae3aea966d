"""The tracked presence state of a channel: sent again after every rejoin, within the rate limit."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, cast

from ..protocol import errors
from ..protocol.codec import FrameError, dumps, loads
from ..protocol.payloads import to_json

CALLS, WINDOW = 4, 31.0
"""At most so many presence calls in so many seconds: the server closes a channel at the 6th in 30 s."""

_UNKNOWN: Any = object()


class Tracking:
    """One channel's own state. `push` sends a presence message and waits for the answer; `later` sends without anybody
    waiting.
    """

    def __init__(self, push: Callable[[dict[str, Any]], Awaitable[None]], later: Callable[[], None]) -> None:
        self._push, self._later = push, later
        self.state: dict[str, Any] | None = None
        """What the others should see; None for nothing."""
        self._sent: Any = None
        """What the server was sent last; None for nothing."""
        self._calls: deque[float] = deque()
        self._timer: asyncio.TimerHandle | None = None

    def set(self, state: object) -> None:
        """Another state from now on, copied: what its owner changes in it later is not sent by accident.

        Raises `RealtimeError` for what is not a dict, or cannot be sent as JSON.
        """
        if not isinstance(state, Mapping):
            raise errors.make("InvalidPresencePayload", f"a state is a dict, not {type(state).__name__}")
        try:
            # As the server gives it back, so that the same state again is seen to be the same.
            self.state = cast("dict[str, Any]", loads(dumps(to_json(cast("object", state), "state"))))
        except FrameError as error:
            raise errors.make("InvalidPresencePayload", str(error), hint="track JSON values only") from None

    def clear(self) -> None:
        """No state any more."""
        self.state = None

    @property
    def shown(self) -> bool:
        """Whether the server may know of a state."""
        return self._sent is not None

    def joined(self) -> None:
        """A join began: the server knows nothing, and counts anew."""
        self._sent = None
        self._calls.clear()

    async def send(self) -> None:
        """Sends the state of now, or sets a timer where that would be one presence call too many: the last one wins.

        Raises `RealtimeError`.
        """
        if self.state == self._sent or self._timer is not None:
            return
        now = time.monotonic()
        while self._calls and now - self._calls[0] > WINDOW:
            self._calls.popleft()
        if len(self._calls) >= CALLS:
            self._timer = asyncio.get_running_loop().call_later(self._calls[0] + WINDOW - now, self._due)
            return
        self._calls.append(now)
        state = self._sent = self.state
        body: dict[str, Any] = {"type": "presence", "event": "untrack"}
        if state is not None:
            body = {"type": "presence", "event": "track", "payload": state}
        try:
            await self._push(body)
        except BaseException:
            if self._sent is state:
                self._sent = _UNKNOWN  # the same call again must not look like one that has been made already
            raise

    def _due(self) -> None:
        self._timer = None
        self._later()

    def cancel(self) -> None:
        """No timer any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
