"""What every widget shares: its views in the browser, their pace, observers on the right thread, something to see without a kernel."""

from __future__ import annotations

import html
import secrets
import threading
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import anywidget
import traitlets
from traitlets.utils.bunch import Bunch

from ..client.dispatch import dispatch, main_loop
from ..client.thread import io_loop, on_io_thread
from .pump import pump

STATIC = Path(__file__).parent.parent / "static"

CREDIT = 4
"""Frames that a view may have under way unacknowledged before the pace changes."""
SILENT_PACE = 0.2
"""Seconds between frames while no acknowledgement comes: a cell is running, or the page is slow. Both must go on, neither be flooded."""
VIEWS = 8
"""Views remembered a widget; a reloaded page says no goodbye, so the one not heard of longest goes."""


class View:
    """One place in one page that shows the widget."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.wants: dict[str, Any] = {}
        """What the page asked for: window, sort."""
        self.shown: dict[str, Any] = {}
        """What it was sent last; the next frame is the difference."""
        self.seq = 0
        self.unacked = 0
        self.sent_at = 0.0
        self.heard_at = 0.0


class RtWidget(anywidget.AnyWidget):
    """A widget fed from the I/O thread.

    Custom messages to a view carry `view`, `epoch` and `seq`: a page that sees a hole, or another epoch, says hello again and
    gets everything. What a view shows travels in these messages, so it moves while a cell runs; the synced traits follow for
    `link` and `jslink`.
    """

    def __init__(self, **traits: Any) -> None:
        self._epoch = secrets.token_hex(4)
        self._views: dict[str, View] = {}
        self._lock = threading.Lock()
        self._closed = False
        super().__init__(**traits)
        self.on_msg(self._heard)

    # --- from the browser: on whichever thread the kernel chose, so short and under the lock

    def _heard(self, _: Any, content: dict[str, Any], buffers: Any) -> None:
        name = content.get("view")
        if not isinstance(name, str) or self._closed:
            return
        now = io_loop().time()
        with self._lock:
            view = self._views.get(name)
            kind = content.get("kind")
            if view is None or kind == "hello":
                view = self._views[name] = View(name)
                while len(self._views) > VIEWS:
                    del self._views[min(self._views, key=lambda other: self._views[other].heard_at)]
            view.heard_at = now
            if kind == "bye":
                self._views.pop(name, None)
                return
            if kind == "ack":
                view.unacked = max(0, view.seq - int(content.get("seq", 0)))
                return
            if isinstance(content.get("wants"), dict):
                view.wants = content["wants"]
        self._asked(kind, content)
        pump.mark(self)

    def _asked(self, kind: Any, content: dict[str, Any]) -> None:
        """A message of the widget's own kind (`pause`, `send`, ...)."""

    # --- to the browser: on the I/O thread

    def _frame(self, view: View) -> dict[str, Any] | None:
        """What the view lacks; None where it lacks nothing. `view.shown` is the widget's to keep."""
        raise NotImplementedError

    def _tick(self, now: float) -> bool:
        if self._closed:
            return False
        again = False
        with self._lock:
            views = list(self._views.values())
        for view in views:
            if view.unacked >= CREDIT and now - view.sent_at < SILENT_PACE:
                again = True
                continue
            frame = self._frame(view)
            if frame is None:
                continue
            view.seq += 1
            view.unacked += 1
            view.sent_at = now
            self.send({"view": view.name, "epoch": self._epoch, "seq": view.seq, **frame})
        return again

    # --- observers

    def _notify_observers(self, event: Any) -> None:
        # A person's observers run on the main thread, between cells; the trait itself has its new value at once.
        if on_io_thread() and main_loop() is not None:
            dispatch(super()._notify_observers, event)
        else:
            super()._notify_observers(event)

    def _announce_df(self) -> None:
        """`observe(fn, "df")` works although `df` is worked out only when asked for."""
        if self._trait_notifiers.get("df"):
            self._notify_observers(Bunch(name="df", old=None, new=self.df, owner=self, type="change"))  # type: ignore[attr-defined]

    # --- the end, and what stays

    def close(self) -> None:
        """Frees the widget: its callbacks, its part of the channel, its views. Safe to call twice."""
        if not self._closed:
            self._closed = True
            pump.forget(self)
            self._release()
        super().close()

    def _release(self) -> None:
        """Unregisters what the widget holds."""

    def _html(self) -> str:
        """What a reader sees without a kernel; every value escaped."""
        return html.escape(repr(self))

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        bundle = super()._repr_mimebundle_(**kwargs)
        data = bundle[0] if isinstance(bundle, tuple) else bundle
        if data is not None:
            taken = datetime.now().astimezone().strftime("%Y-%m-%d %H:%M:%S %Z")
            data["text/html"] = f'{self._html()}<p style="opacity:.6;font-size:.85em">as of {taken}; run the notebook to see it live</p>'
        return bundle


def unregister_all(registered: list[Callable[[], Any]]) -> None:
    """Runs and forgets every unregister function."""
    while registered:
        registered.pop()()


class ErrorTrait(traitlets.Unicode):
    """One paragraph saying what is wrong and what to do; empty while nothing is."""
