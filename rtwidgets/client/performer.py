"""Performs a machine's effects on an event loop: in order, one at a time, and calls the machine when time is due."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import Generic, Protocol, TypeVar

T = TypeVar("T")


class Timed(Protocol):
    """A machine that wants to be called when time has passed."""

    @property
    def wake_at(self) -> float | None:
        """When, in seconds of the monotonic clock; None for never."""
        ...


class Performer(Generic[T]):
    """Performs effects with `perform`, then calls `settled` (which returns whether it did something), and `tick` when
    the machine's `wake_at` has come. Effects that a callback causes meanwhile come after those that are waiting.
    """

    def __init__(
        self,
        machine: Timed,
        perform: Callable[[T], None],
        settled: Callable[[], bool],
        tick: Callable[[], None],
    ) -> None:
        self._machine, self._perform, self._settled, self._tick = machine, perform, settled, tick
        self._effects: deque[T] = deque()
        self._performing = False
        self._timer: asyncio.TimerHandle | None = None
        self.wakes_at: float | None = None
        """When the timer is set to ring."""

    def run(self, effects: Iterable[T]) -> None:
        """Performs these."""
        self._effects.extend(effects)
        if self._performing:
            return
        self._performing = True
        try:
            while self._effects or self._settled():
                while self._effects:
                    self._perform(self._effects.popleft())
        finally:
            self._performing = False
        self._schedule(self._machine.wake_at)

    def _schedule(self, at: float | None) -> None:
        if at == self.wakes_at and (at is None) == (self._timer is None):
            return
        if self._timer is not None:
            self._timer.cancel()
        self.wakes_at, self._timer = at, None
        if at is not None:
            self._timer = asyncio.get_running_loop().call_later(max(0.0, at - time.monotonic()), self._ring)

    def _ring(self) -> None:
        self.wakes_at = self._timer = None
        self._tick()
        self._schedule(self._machine.wake_at)
