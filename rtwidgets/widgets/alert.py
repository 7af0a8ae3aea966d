"""`Alert`: runs a function each time a condition over a live source turns from false to true."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any, Protocol

import pandas as pd

from ..client import dispatch as callbacks
from ..client.callbacks import Unregister
from ..client.dispatch import dispatch
from ..client.log import logger
from ..client.thread import io_loop
from .threads import post_to_io, work

LEAST_PAUSE = 0.1
"""Seconds between two evaluations: a condition over a table that changes a thousand times a second runs ten times."""


class Followed(Protocol):
    """What an alert needs of its source."""

    @property
    def df(self) -> pd.DataFrame: ...

    def follow(self, fn: Callable[[], object]) -> Unregister: ...


class Alert:
    """A condition on a source's `.df` and the function that runs each time the condition turns from false to true.
    Made by `.when()`.

    The condition is evaluated on a worker thread, also while a cell runs; the function runs on the kernel's main
    thread, between cells, like every other callback.
    """

    def __init__(
        self, source: Followed, condition: Callable[[pd.DataFrame], Any], do: Callable[[pd.DataFrame], Any]
    ) -> None:
        self.source, self.condition, self.do = source, condition, do
        self.is_true = False
        """Whether the condition was true when it was evaluated last."""
        self.fired = 0
        """How often the condition turned true."""
        self.failed = 0
        """How often the condition raised."""
        self.error: BaseException | None = None
        """What the condition raised last; None again once it returned."""
        self.cancelled = False
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._unfollow: Unregister | None = None

    def __repr__(self) -> str:
        state = "cancelled" if self.cancelled else "true" if self.is_true else "waiting"
        failed = f", failed {self.failed} times: {self.error!r}" if self.error is not None else ""
        return f"<Alert {state}, fired {self.fired} times{failed}>"

    def cancel(self) -> None:
        """Stops evaluating the condition. Safe to call twice."""
        self.cancelled = True
        post_to_io(self._stop)

    # --- on the I/O thread

    def start(self) -> None:
        """Evaluates the condition now, and again after each change of the source."""
        self._changed.set()
        self._unfollow = self.source.follow(self._changed.set)
        self._task = io_loop().create_task(self._follow())

    def _stop(self) -> None:
        if self._unfollow is not None:
            self._unfollow()
        if self._task is not None:
            self._task.cancel()
            self._task = None

    async def _follow(self) -> None:
        while True:
            await self._changed.wait()
            self._changed.clear()
            started = time.monotonic()
            try:
                is_true, frame = await work(self._evaluate)
            except Exception as error:
                if self.error is None:  # once, and not ten times a second
                    logger.exception("the condition of an alert failed")
                self.error = error
                callbacks.callback_errors += 1
                self.failed += 1
            else:
                self.error = None
                if is_true and not self.is_true:
                    self.fired += 1
                    dispatch(self._do, frame)
                self.is_true = is_true
            await asyncio.sleep(LEAST_PAUSE - min(LEAST_PAUSE, time.monotonic() - started))

    def _evaluate(self) -> tuple[bool, pd.DataFrame]:
        frame = self.source.df
        return bool(self.condition(frame)), frame

    def _do(self, frame: pd.DataFrame) -> None:
        if not self.cancelled:
            self.do(frame)
