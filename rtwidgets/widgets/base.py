"""`RtWidget`: what every widget shares: its frames to the page, its traits, its end, and what a saved notebook shows.

A widget is one subclass with `_traits_now` (the values of its traits) and `_frame` (what a view lacks).
"""

from __future__ import annotations

import html
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import anywidget
import pandas as pd

from ..client.callbacks import Unregister
from ..client.log import logger
from ..client.thread import io_loop, on_io_thread
from .saved import new_model_id, prefer_static, saved_at, saved_html
from .sources import LiveSource, in_order
from .threads import call_on_io
from .tick import tick
from .views import ANYONE, View, Views

STATIC = Path(__file__).parent.parent / "static"

SYNC_EVERY = 0.25
"""Seconds between two messages with synced traits: one at each tick would delay the next frame (see `tick`)."""
PLAIN_ROWS = 10
"""Rows of the text that is shown where there is neither a kernel nor HTML."""


class RtWidget(LiveSource, anywidget.AnyWidget):
    """A widget fed from the I/O thread.

    Frames to a view carry `view`, `epoch` and `seq`: a page that finds a gap, or another epoch, sends hello again and
    gets everything. What a view shows travels in frames, so it moves while a cell runs; the synced traits follow for
    `link` and `jslink`.
    """

    _newest_last = False
    """Whether the last rows are those to show where there is no room for all."""

    def __init__(self, **traits: Any) -> None:
        self._epoch = secrets.token_hex(4)
        self._views = Views()
        self._registered: list[Unregister] = []
        self._unsent: set[str] = set()
        self._synced_at = 0.0
        tick.follow_kernel()
        if os.environ.get("ANYWIDGET_HMR") != "1":
            # anywidget makes a FileContents of a path, which all instances of a class share and which keeps a reference
            # to each for the process' life, to notify it when the file changes: closed tables would keep their rows.
            files = {name: getattr(type(self), name, None) for name in ("_esm", "_css")}
            vars(self).update({name: str(file) for name, file in files.items() if file is not None})
        super().__init__(model_id=new_model_id(), **traits)
        self.on_msg(self._receive)  # pyright: ignore[reportUnknownMemberType]

    def __repr__(self) -> str:
        # That of ipywidgets lists every trait that differs from its default.
        return f"<{type(self).__name__}>"

    # --- for subclasses

    def _traits_now(self) -> dict[str, Any]:
        """The values that the traits should have now. On the I/O thread."""
        return {}

    def _frame(self, view: View) -> dict[str, Any] | None:
        """What the view lacks; None where it lacks nothing. On the I/O thread; `view.shown` is the widget's own."""
        raise NotImplementedError

    def _first_wants(self) -> dict[str, Any]:
        """What a page that could not send its own wishes yet is assumed to want."""
        return {}

    def _on_message(self, view: View, kind: str, content: Mapping[str, Any]) -> None:
        """Handles a page's message of the widget's own kind, on whichever thread the kernel chose: short, no wait."""

    def _release(self) -> None:
        """Frees what the widget uses beyond `_registered`. On the I/O thread."""

    def _html(self) -> str:
        """What a saved notebook shows, as HTML with every value escaped."""
        return html.escape(repr(self))

    def _plain(self) -> str:
        """The same as text: the rows, or "" without any."""
        try:
            frame = self.df
        except NotImplementedError:
            return ""
        if frame.empty:
            return ""
        part = frame.tail(PLAIN_ROWS) if self._newest_last else frame.head(PLAIN_ROWS)
        more = f"\n… {len(frame) - len(part):,} more rows" if len(frame) > len(part) else ""
        return part.to_string(index=False, max_colwidth=60, max_cols=20, na_rep="") + more

    # --- from the page

    def _receive(self, _: object, content: object, buffers: object) -> None:
        received = None if self._closed else self._views.receive(content, io_loop().time())
        if received is not None:
            self._on_message(*received)
            tick.mark(self)

    # --- to the page, on the I/O thread

    def _refresh(self) -> None:
        """Sets the traits to their values of now, and tells followers and observers where one differs."""
        before = (self.revision, self.status, self.error, self.paused)
        with self.hold_sync():
            for name, value in in_order(self._traits_now()):
                if not (self._closed and name in ("status", "error")):
                    self.set_trait(name, value)
        if (self.revision, self.status, self.error, self.paused) != before:
            self._emit()
        if self.revision != before[0]:
            self._emit_df()

    def send_state(self, key: Any = None) -> None:
        """Sends synced traits to the page; changes made on the I/O thread are sent at the next tick."""
        if key is None or self._closed or not on_io_thread():
            super().send_state(key)  # pyright: ignore[reportUnknownMemberType]
            return
        self._unsent |= {key} if isinstance(key, str) else set(key)
        tick.mark(self)

    def _tick(self, now: float) -> bool:
        if self._closed:
            return False
        self._refresh()
        again = self._send_frames(now)
        if not self._unsent:
            return again
        if now - self._synced_at < SYNC_EVERY:
            return True
        unsent, self._unsent, self._synced_at = self._unsent, set(), now
        super().send_state(unsent)  # pyright: ignore[reportUnknownMemberType]
        return again

    def _send_frames(self, now: float) -> bool:
        due, again = self._views.due(now, tick.kernel_busy)
        for view in due:
            whole = not view.shown
            try:
                frame = self._frame(view)
            except Exception:
                # One view's wishes must not stop the others. It gets everything with the next change.
                if not view.failed:
                    logger.exception("%r could not make a frame for one of its views", self)
                view.shown, view.failed = {}, True
                continue
            view.failed = False
            if frame is None:
                continue
            if view.name == ANYONE:
                view.sent_at, seq = now, 0
            else:
                seq = view.number(now, whole, tick.kernel_busy)
            self._post({"view": view.name, "epoch": self._epoch, "seq": seq, "whole": whole, "kind": "frame", **frame})
        return again

    def _post(self, content: dict[str, Any]) -> None:
        # Not `self.send`, which broadcasts in some widgets. A frame's `buffers` travel as binary.
        fields = {name: value for name, value in content.items() if name != "buffers"}
        anywidget.AnyWidget.send(self, fields, content.get("buffers"))  # pyright: ignore[reportUnknownMemberType]

    # --- the end, and what stays

    def close(self) -> None:
        """Frees the widget: its callbacks, its part of the channel, its views. Safe to call twice."""
        if not self._closed:
            self._closed = True
            tick.forget(self)
            call_on_io(self._close_on_io)
            self.set_trait("status", "closed")
            self._end_following()
        super().close()

    def _logged(self) -> None:
        tick.mark(self)

    def _close_on_io(self) -> None:
        unregister_all(self._registered)
        self._release()

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        bundle = cast(Any, super()._repr_mimebundle_(**kwargs))  # pyright: ignore[reportUnknownMemberType]
        data = cast("dict[str, Any] | None", bundle[0] if isinstance(bundle, tuple) else bundle)
        if data is not None:
            self._views.expect_anyone(self._first_wants())
            tick.mark(self)
            data["text/html"] = saved_html(self._html())
            data["text/plain"] = f"{self!r}\n{self._plain()}".rstrip() + f"\nas of {saved_at()}"
            prefer_static(data)
        return cast(Any, bundle)


def unregister_all(registered: list[Unregister]) -> None:
    """Calls and forgets every unregister function."""
    while registered:
        registered.pop()()


def html_table(frame: pd.DataFrame, rows: int, *, newest: bool = False) -> str:
    """The first (or last) rows as an HTML table, every value escaped, with the number of the others."""
    part = frame.tail(rows) if newest else frame.head(rows)
    more = f"<p>… {len(frame) - len(part):,} more rows</p>" if len(frame) > len(part) else ""
    return f"{part.to_html(index=False, escape=True, na_rep='')}{more}"
