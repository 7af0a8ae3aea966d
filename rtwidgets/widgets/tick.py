"""The tick: one message a view and tick, 50 ms apart, for all widgets of this kernel.

Closer messages cost 27 to 44 ms each (Nagle and delayed acknowledgement in jupyter_server), and above 1,000 a second
jupyter_server drops them silently. Nothing pushes back, so the pace is kept here. Everything but `mark` runs on the
I/O thread.
"""

from __future__ import annotations

import asyncio
import os
from typing import Protocol

from ..client.log import logger
from ..client.thread import on_io_thread
from .output_capture import shell
from .threads import post_to_io

TICK = 0.05
"""Seconds between two rounds."""


class Ticked(Protocol):
    """A widget, as the tick sees it."""

    def _tick(self, now: float) -> bool:
        """Sends what is due; returns whether more waits for a later tick."""
        ...


class Tick:
    """Coalesces: however often a widget is marked, it sends once a tick."""

    def __init__(self) -> None:
        self._following = False
        self.kernel_busy = False
        """Whether a cell runs on the kernel's main thread: messages of pages may have to wait for its end."""
        self.reset()

    def reset(self) -> None:
        """Forgets what is due: in a forked child, the loop of the timer is gone."""
        self._due: set[Ticked] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._last = 0.0

    def follow_kernel(self) -> None:
        """Notes from now on when cells run; does nothing outside a kernel."""
        running = shell()
        if running is None or self._following:
            return
        self._following = True
        self.kernel_busy = True  # the caller is such a cell

        def busy(*_: object) -> None:
            self.kernel_busy = True

        def idle(*_: object) -> None:
            self.kernel_busy = False

        running.events.register("pre_run_cell", busy)
        running.events.register("post_run_cell", idle)

    def mark(self, widget: Ticked) -> None:
        """Notes that the widget is due at the next tick, or at once if the last one is long enough ago. Safe from any
        thread."""
        if not on_io_thread():
            post_to_io(self.mark, widget)
            return
        self._due.add(widget)
        if self._timer is None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_at(max(loop.time(), self._last + TICK), self._round)

    def forget(self, widget: Ticked) -> None:
        """The widget is not due any more: it is closing."""
        self._due.discard(widget)

    def _round(self) -> None:
        self._timer = None
        self._last = now = asyncio.get_running_loop().time()
        due, self._due = self._due, set()
        for widget in due:
            try:
                again = widget._tick(now)  # pyright: ignore[reportPrivateUsage]
            except Exception:
                # An error of one widget must not stop the others.
                logger.exception("%r could not send to the page", widget)
                continue
            if again:
                self.mark(widget)


tick = Tick()
"""The one tick of this process."""
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=tick.reset)
