"""The tick: one message a view and tick, 50 ms apart, for all widgets of this kernel.

Closer messages cost 27 to 44 ms each (Nagle and delayed acknowledgement in jupyter_server), and above 1000 a
second the server drops them silently. Nothing pushes back, so the pace is kept here. Everything in this module
runs on the I/O loop.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Protocol

from ..client.log import logger
from ..client.thread import io_loop, on_io_thread

TICK = 0.05
"""Seconds between two rounds."""


class Ticked(Protocol):
    def _tick(self, now: float) -> bool:
        """Sends what is due; returns whether more is waiting for a later tick."""
        ...


class Tick:
    """Coalesces: however often a widget is marked, it is asked to send once a tick."""

    def __init__(self) -> None:
        self._dirty: set[Ticked] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._last = 0.0
        self._following = False
        self.kernel_busy = False
        """Whether a cell runs on the kernel's main thread: then pages may be well and still cannot be heard."""

    def follow_kernel(self) -> None:
        """Has IPython tell when cells run; nothing outside of a kernel."""
        ipython = sys.modules.get("IPython")
        shell = ipython.get_ipython() if ipython is not None else None
        if shell is None or self._following:
            return
        self._following = True
        self.kernel_busy = True  # whoever calls this is such a cell

        def busy(*_: object) -> None:
            self.kernel_busy = True

        def idle(*_: object) -> None:
            self.kernel_busy = False

        shell.events.register("pre_run_cell", busy)
        shell.events.register("post_run_cell", idle)

    def mark(self, widget: Ticked) -> None:
        """Has `widget._tick` called at the next tick; at once, if the last one is long enough ago. Safe from any
        thread."""
        if not on_io_thread():
            io_loop().call_soon_threadsafe(self.mark, widget)
            return
        self._dirty.add(widget)
        if self._timer is None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_at(max(loop.time(), self._last + TICK), self._round)

    def forget(self, widget: Ticked) -> None:
        self._dirty.discard(widget)

    def _round(self) -> None:
        self._timer = None
        self._last = now = asyncio.get_running_loop().time()
        due, self._dirty = self._dirty, set()
        for widget in due:
            try:
                again = widget._tick(now)
            except Exception:
                # One widget's fault must not stop the others.
                logger.exception("a widget could not send to the browser")
                continue
            if again:
                self.mark(widget)


tick = Tick()
"""The one tick of this process."""
