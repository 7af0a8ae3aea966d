"""What every widget shares: its views in the browser, their pace, observers on the right thread, something to see
without a kernel."""

from __future__ import annotations

import difflib
import html
import inspect
import os
import secrets
import threading
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

import anywidget
import pandas as pd
from traitlets.utils.bunch import Bunch

from ..client.dispatch import dispatch
from ..client.thread import io_loop, on_io_thread, run
from ..protocol.errors import RealtimeError
from .alert import Alert
from .tick import tick

T = TypeVar("T")

STATIC = Path(__file__).parent.parent / "static"

CREDIT = 8
"""Frames that a view may have under way unacknowledged before the pace changes: a page acknowledges each fourth or
so."""
BUSY_PACE, SLOW_PACE = 0.1, 0.5
"""Seconds between frames while no acknowledgement comes: because a cell runs (the page is well), or because the page
is slow."""
WHOLE_EVERY = 1.0
"""Seconds between frames that say everything while no acknowledgement comes: nobody would tell that one was lost."""
ANYONE = "*"
"""The view of frames for any page that could not say hello yet, because the kernel has been busy since the widget was
displayed."""
ANYONE_FOR, ANYONE_PACE = 120.0, 0.5
SYNC_EVERY = 0.25
"""Seconds between two messages with the synced traits that the I/O thread sets: sent at each tick, they would hold up
the next frame (see `tick`)."""
PLAIN_ROWS = 10
"""Rows in the text that stands where there is neither a kernel nor HTML."""
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
        self.outbox: list[Any] = []
        """Answers to what this view asked, for its next frame."""
        self.reads: list[Any] = []
        """What it wants to read of a long list (see `paging`)."""
        self.seq = 0
        self.unacked = 0
        self.sent_at = self.whole_at = self.heard_at = 0.0


class _Told(type(anywidget.AnyWidget)):
    """Says which argument a widget does not take, and which one may be meant."""

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        taken = inspect.signature(cls.__init__).parameters
        if not any(one.kind is inspect.Parameter.VAR_KEYWORD for one in taken.values()):
            for name in kwargs.keys() - taken.keys():
                raise TypeError(f"rt.{cls.__name__} takes no argument {name!r}: {_instead(cls, name, list(taken)[1:])}")
        return super().__call__(*args, **kwargs)


def _instead(cls: Any, name: str, taken: list[str]) -> str:
    if name in cls.class_trait_names():
        return f"it is a trait, set it once the widget is made (.{name} = ...)"
    close = difflib.get_close_matches(name, taken, 1)
    return f"do you mean {close[0]!r}?" if close else f"it takes {', '.join(taken)}"


class RtWidget(anywidget.AnyWidget, metaclass=_Told):
    """A widget fed from the I/O thread.

    Custom messages to a view carry `view`, `epoch` and `seq`: a page that sees a hole, or another epoch, says
    hello again and gets everything. What a view shows travels in these messages, so it moves while a cell runs;
    the synced traits follow for `link` and `jslink`.
    """

    _newest_last = False
    """Whether the last rows are those to show where there is no room for all."""
    _closed = True  # until it is made: what fails half-way has nothing to free

    def __init__(self, **traits: Any) -> None:
        self._epoch = secrets.token_hex(4)
        self._views: dict[str, View] = {}
        self._lock = threading.Lock()
        self._closed = False
        self._alerts: set[Alert] = set()
        self._unsent: set[str] = set()
        self._synced_at = 0.0
        tick.follow_kernel()
        if os.environ.get("ANYWIDGET_HMR") != "1":
            # A file's contents are shared by all instances of a class, and anywidget has them hold on to each instance
            # for as long as the process lives, to tell it when the file changes: closed tables would stay with all
            # their rows. Told a text, it does not.
            files = {name: getattr(type(self), name, None) for name in ("_esm", "_css")}
            self.__dict__.update({name: str(file) for name, file in files.items() if file is not None})
        super().__init__(**traits)
        self.on_msg(self._heard)

    def __repr__(self) -> str:
        # ipywidgets' own lists every trait that is not its default.
        return f"<{type(self).__name__}>"

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
                view.heard_at = now
                self._views.pop(ANYONE, None)
                while len(self._views) > VIEWS:
                    del self._views[min(self._views, key=lambda other: self._views[other].heard_at)]
            view.heard_at = now
            if kind == "bye":
                self._views.pop(name, None)
                return
            if kind == "ack":
                view.unacked = max(0, view.seq - whole_number(content.get("seq"), 0))
                return
            if isinstance(content.get("wants"), dict):
                view.wants = content["wants"]
        self._asked(view, kind, content)
        tick.mark(self)

    def _asked(self, view: View, kind: Any, content: dict[str, Any]) -> None:
        """A message of the widget's own kind (`pause`, `send`, ...)."""

    def _first_wants(self) -> dict[str, Any]:
        """What a page that could not say yet what it wants will want."""
        return {}

    # --- to the browser: on the I/O thread

    def _frame(self, view: View) -> dict[str, Any] | None:
        """What the view lacks; None where it lacks nothing. `view.shown` is the widget's to keep."""
        raise NotImplementedError

    def send_state(self, key: Any = None) -> None:
        """What the I/O thread sets is told to pages with the next tick that is due; Python's observers know at once."""
        if key is None or self._closed or not on_io_thread():
            super().send_state(key)
            return
        self._unsent |= {key} if isinstance(key, str) else set(key)
        tick.mark(self)

    def _tick(self, now: float) -> bool:
        if self._closed:
            return False
        again = self._send_frames(now)
        if not self._unsent:
            return again
        if now - self._synced_at < SYNC_EVERY:
            return True
        unsent, self._unsent, self._synced_at = self._unsent, set(), now
        super().send_state(unsent)
        return again

    def _send_frames(self, now: float) -> bool:
        again = False
        with self._lock:
            views = list(self._views.values())
        for view in views:
            if view.name == ANYONE:
                again |= self._send_anyone(view, now)
                continue
            late = view.unacked >= CREDIT
            if late and now - view.sent_at < (BUSY_PACE if tick.kernel_busy else SLOW_PACE):
                again = True
                continue
            if late and now - view.whole_at >= WHOLE_EVERY:
                view.shown = {}
            whole = not view.shown
            frame = self._frame(view)
            if frame is None:
                continue
            view.seq += 1
            view.unacked += 1
            view.sent_at = now
            if whole:
                view.whole_at = now
            self._post(
                {"view": view.name, "epoch": self._epoch, "seq": view.seq, "whole": whole, "kind": "frame", **frame}
            )
        return again

    def _post(self, content: dict[str, Any]) -> None:
        # Not `self.send`, which is what people call to broadcast.
        anywidget.AnyWidget.send(self, content)

    def _send_anyone(self, view: View, now: float) -> bool:
        if not view.heard_at:
            view.heard_at = now
        if now - view.heard_at > ANYONE_FOR:
            self._views.pop(ANYONE, None)
            return False
        if now - view.sent_at >= ANYONE_PACE:
            view.sent_at, view.shown = now, {}
            frame = self._frame(view)
            if frame is not None:
                self._post({"view": ANYONE, "epoch": self._epoch, "seq": 0, "whole": True, "kind": "frame", **frame})
        return True

    # --- observers

    def _notify_observers(self, event: Any) -> None:
        # A person's observers run on the main thread, between cells; the trait itself has its new value at once.
        # Outside a kernel they run here, and what they raise must not keep the widget from going on.
        if on_io_thread():
            dispatch(super()._notify_observers, event)
        else:
            super()._notify_observers(event)

    def _announce_df(self) -> None:
        """`observe(fn, "df")` works although `df` is worked out only when asked for; so do alerts."""
        for alert in list(self._alerts):
            alert.look()
        if self._trait_notifiers.get("df"):
            self._notify_observers(Bunch(name="df", old=None, new=self.df, owner=self, type="change"))  # type: ignore[attr-defined]

    def when(self, condition: Callable[[Any], Any], do: Callable[[Any], Any]) -> Alert:
        """Calls `do(df)` each time that `condition(df)` begins to hold: once a crossing, not once a change.

        The condition is asked on a thread of its own, at most ten times a second, so a spell shorter than that may be
        passed over; `do` runs on the kernel's main thread, between cells. What the condition raises is logged, and in
        the alert's `.error`. Returns the alert; `.cancel()` ends it, as does `close()`.
        """
        if not callable(condition) or not callable(do):
            raise TypeError("when(condition, do) takes two functions of a DataFrame")
        alert = Alert(self, condition, do)
        self._alerts.add(alert)
        there(alert.begin)
        return alert

    # --- the end, and what stays

    def close(self) -> None:
        """Frees the widget: its callbacks, its part of the channel, its views. Safe to call twice."""
        if not self._closed:
            self._closed = True
            tick.forget(self)
            for alert in list(self._alerts):
                alert.cancel()
            self._release()
        super().close()

    def _release(self) -> None:
        """Unregisters what the widget holds."""

    def _html(self) -> str:
        """What a reader sees without a kernel; every value escaped."""
        return html.escape(repr(self))

    def _plain(self) -> str:
        """The same for who reads text: the rows as far as there are any; empty for a widget without rows."""
        frame = getattr(self, "df", None)
        if not isinstance(frame, pd.DataFrame) or frame.empty:
            return ""
        part = frame.tail(PLAIN_ROWS) if self._newest_last else frame.head(PLAIN_ROWS)
        more = f"\n… {len(frame) - len(part):,} more rows" if len(frame) > len(part) else ""
        return part.to_string(index=False, max_colwidth=60, max_cols=20, na_rep="") + more

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        bundle = super()._repr_mimebundle_(**kwargs)
        data = bundle[0] if isinstance(bundle, tuple) else bundle
        if data is not None:
            taken = datetime.now().astimezone().strftime("%Y-%m-%d %H:%M:%S %Z")
            with self._lock:
                self._views[ANYONE] = anyone = View(ANYONE)
                anyone.wants = self._first_wants()
            tick.mark(self)
            note = f'<p style="opacity: .6">as of {taken}; run the notebook to see it live</p>'
            data["text/html"] = self._html() + note
            data["text/plain"] = f"{self!r}\n{self._plain()}".rstrip() + f"\nas of {taken}"
        return bundle


def unregister_all(registered: list[Callable[[], Any]]) -> None:
    """Runs and forgets every unregister function."""
    while registered:
        registered.pop()()


def checked_text(value: Any, what: str, *, empty: bool = False) -> str:
    """The value, if it is a text. Raises TypeError or ValueError that says what it is for."""
    if not isinstance(value, str):
        raise TypeError(f"{what} is a text, not {value!r:.200}")
    if not value and not empty:
        raise ValueError(f"{what} is a text that is not empty")
    return value


def checked_state(value: Any) -> dict[str, Any]:
    """The presence state, if it is one. Raises TypeError that says what one is."""
    if not isinstance(value, Mapping):
        raise TypeError(f'a presence state is a dict, such as {{"team": "support"}}, not {value!r:.200}')
    return dict(value)


def whole_number(value: Any, default: int) -> int:
    """What a page sent as a number of rows or frames, or the default: nothing that a page sends may raise here."""
    return value if isinstance(value, int) and 0 <= value < 2**53 else default


def paragraph(error: RealtimeError | None) -> str:
    """What is wrong and what to do, in one paragraph; empty without an error."""
    if error is None:
        return ""
    hint = error.hint.strip()
    return error.message if not hint else f"{error.message.rstrip('.')}. {hint[:1].upper()}{hint[1:]}"


def there(fn: Callable[..., T], *args: Any) -> T:
    """Calls `fn` on the I/O thread and waits for what it returns."""
    if on_io_thread():
        return fn(*args)

    async def call() -> T:
        return fn(*args)

    return run(call(), 30)
