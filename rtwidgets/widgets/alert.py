"""`.when(condition, do)`: something to be done each time that a condition begins to hold."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..client import dispatch as callbacks
from ..client.dispatch import dispatch
from ..client.log import logger
from ..client.thread import io_loop, on_io_thread

if TYPE_CHECKING:
    from .base import RtWidget

LEAST_PAUSE = 0.1
"""Seconds between two looks: a condition over a table that moves a thousand times a second is asked ten times."""


class Alert:
    """A condition on a widget's `.df` and what is to be done once each time that it begins to hold. Made by `.when`.

    The condition is asked on a thread of its own, so it is asked also while a cell runs; what is to be done runs on the
    kernel's main thread, between cells, like every other callback.
    """

    def __init__(self, source: RtWidget, condition: Callable[[Any], Any], do: Callable[[Any], Any]) -> None:
        self.source, self.condition, self.do = source, condition, do
        self.holds = False
        """Whether the condition held when it was asked last."""
        self.fired = 0
        """How often it has begun to hold."""
        self.failed = 0
        """How often asking it has failed."""
        self.error: BaseException | None = None
        """What the condition raised last; None again once it answered."""
        self.cancelled = False
        self._again = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        state = "cancelled" if self.cancelled else "holds" if self.holds else "waits"
        failed = f", failed {self.failed} times: {self.error!r}" if self.error is not None else ""
        return f"<Alert {state}, fired {self.fired} times{failed}>"

    def cancel(self) -> None:
        """Asks no more. Safe to call twice."""
        self.cancelled = True
        if on_io_thread():
            self._stop()
        else:
            io_loop().call_soon_threadsafe(self._stop)

    # --- on the I/O thread

    def begin(self) -> None:
        self._again.set()
        self._task = io_loop().create_task(self._watch())

    def look(self) -> None:
        """The source has changed."""
        self._again.set()

    def _stop(self) -> None:
        self.source._alerts.discard(self)
        if self._task is not None:
            self._task.cancel()
            self._task = None

    async def _watch(self) -> None:
        while True:
            await self._again.wait()
            self._again.clear()
            asked = time.monotonic()
            try:
                holds, frame = await asyncio.to_thread(self._ask)
            except Exception as error:
                if self.error is None:  # once, and not ten times a second
                    logger.exception("the condition of an alert failed")
                self.error = error
                callbacks.callback_errors += 1
                self.failed += 1
            else:
                self.error = None
                if holds and not self.holds:
                    self.fired += 1
                    dispatch(self._do, frame)
                self.holds = holds
            await asyncio.sleep(LEAST_PAUSE - min(LEAST_PAUSE, time.monotonic() - asked))

    def _ask(self) -> tuple[bool, Any]:
        frame = self.source.df  # type: ignore[attr-defined]
        return bool(self.condition(frame)), frame

    def _do(self, frame: Any) -> None:
        if not self.cancelled:
            self.do(frame)
