"""Keeps a subscription from starting within a transaction that goes out in several parts."""

from __future__ import annotations

import asyncio
import enum
from types import TracebackType


class GateState(enum.Enum):
    """Whether a transaction is going out."""

    IDLE = "idle"
    SENDING = "sending"
    WITHIN = "within"
    """Between two parts of a transaction."""


class Gate:
    """`enter` and `leave` stand around each part; `async with gate` waits until no transaction is going out."""

    def __init__(self) -> None:
        self.state = GateState.IDLE
        self._lock = asyncio.Lock()
        self._lost = False

    async def enter(self) -> bool:
        """Before a part, or a whole transaction. Returns whether the part continues a transaction."""
        continued = self.state is GateState.WITHIN
        if not continued:
            await self._lock.acquire()
        self.state, self._lost = GateState.SENDING, False
        return continued

    def leave(self, *, more: bool) -> None:
        """After a part; `more`: whether another one follows."""
        if more and not self._lost:
            self.state = GateState.WITHIN
        else:
            self.state = GateState.IDLE
            self._lock.release()

    def lose(self) -> None:
        """The stream was lost: of the transaction that was going out there are no further parts."""
        if self.state is GateState.WITHIN:
            self.state = GateState.IDLE
            self._lock.release()
        self._lost = True

    async def __aenter__(self) -> None:
        await self._lock.acquire()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lock.release()
