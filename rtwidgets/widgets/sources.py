"""`LiveSource`: what charts, `rt.live`, alerts and groups follow, and how other objects become one."""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable, Mapping
from typing import Any, NoReturn, Protocol, Self, runtime_checkable

import ipywidgets  # pyright: ignore[reportMissingTypeStubs]
import pandas as pd
import traitlets
from traitlets.utils.bunch import Bunch

from ..client.callbacks import Callbacks, Unregister
from ..client.dispatch import dispatch
from ..client.log import logger
from ..client.thread import io_loop, on_io_thread
from ..client.twin import made_before_fork
from ..data.delta import Delta
from ..data.store import Store
from .alert import Alert
from .callback_log import CallbackLog
from .checks import check_callback, paragraph
from .meta import DocumentedMeta
from .replaced import note_made
from .threads import call_on_io, post_to_io

LOOK_EVERY = 0.25
"""Seconds between two looks at an object that cannot tell when it changes."""


class LiveSource(traitlets.HasTraits, metaclass=DocumentedMeta):
    """Rows that change: what a widget shows and what others follow.

    A follower registers with `follow` and reads `df`, `revision`, `status`, `error` and `paused` when it is called.
    """

    status = traitlets.Unicode("live", read_only=True, help="Whether the rows are up to date.").tag(sync=True)
    error = traitlets.Unicode(
        "", read_only=True, help="What is wrong and how to fix it, in one paragraph; empty while nothing is."
    ).tag(sync=True)
    revision = traitlets.Int(0, read_only=True, help="Grows with each visible change: observe this.").tag(sync=True)
    paused = traitlets.Bool(
        False, read_only=True, help="Whether changes wait instead of showing, here or in what this follows."
    ).tag(sync=True)

    kept = False
    """Whether `keep()` was called."""
    _closed = True  # until it is made: what fails in __init__ has nothing to free

    def __init__(self, **traits: Any) -> None:
        self.callback_log = CallbackLog()
        """What callbacks of this object printed or raised."""
        self._followers = Callbacks()
        self._alerts: set[Alert] = set()
        self._closed = False
        super().__init__(**traits)
        _open.add(self)
        if isinstance(self, ipywidgets.Widget):
            note_made(self)

    # --- what it holds

    @property
    def df(self) -> pd.DataFrame:
        """The rows, as a DataFrame that never changes after it was returned."""
        raise NotImplementedError

    @property
    def name(self) -> str:
        """A name for people, such as the table's."""
        return type(self).__name__

    @property
    def ready(self) -> bool:
        """Whether the rows have been read once: before that, `df` is empty because nothing was received yet."""
        return True

    @property
    def closed(self) -> bool:
        """Whether `close()` was called."""
        return self._closed

    # --- followers

    def follow(self, fn: Callable[[], object]) -> Unregister:
        """Calls `fn()` on the I/O thread after each change of the rows, the status, the error or the pause, and when
        the source closes. Returns a function that unregisters.

        Several changes may be one call. `fn` must not block.
        """
        return self._followers.add(fn)

    def when(self, condition: Callable[[pd.DataFrame], Any], do: Callable[[pd.DataFrame], Any]) -> Alert:
        """Runs `do(df)` each time `condition(df)` turns from false to true. Returns the `Alert`; its `.cancel()` ends
        it, as does `close()`.

        The condition is evaluated on a worker thread, at most ten times a second, so that a shorter spell may be
        missed. `do` runs on the kernel's main thread, between cells. An exception of the condition is logged and kept
        in the alert's `.error`.
        """
        check_callback(condition, "condition")
        check_callback(do, "do")
        alert = Alert(self, condition, self._callback(do))
        self._alerts.add(alert)
        call_on_io(alert.start)
        return alert

    def keep(self) -> Self:
        """Keeps the widget open when its cell runs again and no variable refers to it any more; returns it."""
        self.kept = True
        return self

    # --- who takes it for its DataFrame is shown the way

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("_") and hasattr(pd.DataFrame, name):
            raise AttributeError(f"a {type(self).__name__} has no {name!r}, its DataFrame has: use .df.{name}")
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def __getitem__(self, key: object) -> NoReturn:
        raise TypeError(f"a {type(self).__name__} has no items or rows to iterate, its DataFrame has: use .df[...]")

    def __len__(self) -> int:
        raise TypeError(
            f"a {type(self).__name__} has no len(): use len(.df)" + (" or .count" if hasattr(self, "count") else "")
        )

    def __bool__(self) -> bool:
        return True

    def _callback(self, fn: Callable[..., Any]) -> Callable[..., Any]:
        """The person's function as it is to be called: with its output in `callback_log`."""
        return self.callback_log.wrap(fn, self._logged)

    def _logged(self) -> None:
        """The log has a new entry."""

    def _emit(self) -> None:
        """Tells the followers, on the I/O thread."""
        post_to_io(self._followers.call)

    def _emit_df(self) -> None:
        """Notifies `observe(fn, "df")`, although `df` is computed only when it is read."""
        if self._trait_notifiers.get("df"):
            self._notify_observers(Bunch(name="df", old=None, new=self.df, owner=self, type="change"))

    def _notify_observers(self, event: Any) -> None:
        # A person's observers run on the main thread, between cells; the trait itself has its new value at once.
        # Outside a kernel they run here, and what they raise must not stop the source.
        if on_io_thread():
            dispatch(super()._notify_observers, event)
        else:
            super()._notify_observers(event)

    def _end_following(self) -> None:
        """Cancels the alerts and tells the followers that the source has closed."""
        self._closed = True
        for alert in list(self._alerts):
            alert.cancel()
        _open.discard(self)
        self._emit()

    def _on_fork(self) -> None:
        """In a forked child: closes the source, whose connection, page and followers are the parent's.

        Nothing is sent, no lock is acquired and nobody is notified: the parent's threads are gone, and one of them may
        have had the lock.
        """
        self._closed = True
        self._followers = Callbacks()
        for alert in self._alerts:
            alert.cancelled = True
        self._alerts = set()
        self.unobserve_all()
        values = self._trait_values
        values.update(status="closed", error=paragraph(made_before_fork()))
        if isinstance(self, ipywidgets.Widget):
            values["comm"] = None


_open: weakref.WeakSet[LiveSource] = weakref.WeakSet()
"""The sources of this process that are not closed."""


def _close_inherited() -> None:
    """In a forked child: closes what the parent had open."""
    inherited = list(_open)
    _open.clear()
    for source in inherited:
        try:
            source._on_fork()  # pyright: ignore[reportPrivateUsage] -- of the same module, and no name for users
        except Exception:
            logger.debug("a source could not be closed after a fork", exc_info=True)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_close_inherited)


class RowSource(LiveSource):
    """A live source whose rows have keys: it also reports what each change did to which row."""

    @property
    def store(self) -> Store:
        """The rows, column by column. Safe to read from any thread."""
        raise NotImplementedError

    def on_delta(self, fn: Callable[[Delta], object]) -> Unregister:
        """Calls `fn(delta)` on the I/O thread with each difference between two revisions of `store`. Returns a function
        that unregisters."""
        raise NotImplementedError

    def pause(self) -> None:
        """Keeps the rows as they are until `resume()`; changes wait."""
        raise NotImplementedError

    def resume(self) -> None:
        """Applies the changes that waited, and goes on."""
        raise NotImplementedError

    def wait_live(self, timeout: float = 30.0) -> LiveSource:
        """Waits until the rows are up to date; returns the source."""
        raise NotImplementedError


class StaticSource(LiveSource):
    """A DataFrame as a source; it never changes."""

    def __init__(self, frame: pd.DataFrame) -> None:
        self._frame = frame
        super().__init__()

    @property
    def df(self) -> pd.DataFrame:
        return self._frame


@runtime_checkable
class Rows(Protocol):
    """An object of somebody else's that can be a source: it has a frame, and a revision that grows with each change."""

    @property
    def df(self) -> Any:
        """A DataFrame, or a method that returns one."""
        ...

    @property
    def revision(self) -> int: ...


class ForeignSource(LiveSource):
    """Another object with `df` and `revision` as a source. It is looked at regularly while it has followers, and at
    once when its `revision` is a trait that changes."""

    def __init__(self, rows: Rows) -> None:
        self.rows = rows
        self._looking = False
        super().__init__()
        self._seen = self._state()

    def __repr__(self) -> str:
        return repr(self.rows)

    @property
    def df(self) -> pd.DataFrame:
        rows: Any = self.rows
        frame: Any = rows.df
        found: Any = frame() if callable(frame) else frame
        return found

    @property
    def name(self) -> str:
        return str(getattr(self.rows, "name", type(self.rows).__name__))

    @property
    def ready(self) -> bool:
        return bool(getattr(self.rows, "ready", True))

    def follow(self, fn: Callable[[], object]) -> Unregister:
        unregister = super().follow(fn)
        post_to_io(self._start_looking)
        return unregister

    def _state(self) -> tuple[int, str, str, bool]:
        rows = self.rows
        status, error = str(getattr(rows, "status", "live")), str(getattr(rows, "error", "") or "")
        return rows.revision, status, error, self.ready

    # --- on the I/O thread

    def _start_looking(self) -> None:
        if not self._looking:
            self._looking = True
            if isinstance(self.rows, traitlets.HasTraits) and self.rows.has_trait("revision"):
                self.rows.observe(self._revised, "revision")
            self._look_again()

    def _revised(self, change: object) -> None:
        post_to_io(self._look)

    def _look(self) -> None:
        state = self._state()
        if state != self._seen:
            self._seen = state
            revision, status, error, _ = state
            for name, value in in_order({"revision": revision, "status": status, "error": error}):
                self.set_trait(name, value)
            self._followers.call()

    def _look_again(self) -> None:
        if self._followers:
            self._look()
            io_loop().call_later(LOOK_EVERY, self._look_again)
            return
        # Nobody closes such a source: it rests when its last follower has gone.
        self._looking = False
        if isinstance(self.rows, traitlets.HasTraits) and self.rows.has_trait("revision"):
            self.rows.unobserve(self._revised, "revision")


def in_order(values: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """The traits in an order in which another thread may see them set: who waits for the status `error` finds why. So
    an error comes before its status, and goes after it."""
    error = [(name, value) for name, value in values.items() if name == "error"]
    others = [(name, value) for name, value in values.items() if name != "error"]
    return [*error, *others] if values.get("error") else [*others, *error]


def source_of(value: object, user: str) -> LiveSource:
    """The value as a `LiveSource`. Raises TypeError, naming the `user` (`"rt.live"`), for what cannot be one."""
    if isinstance(value, LiveSource):
        return value
    if isinstance(value, pd.DataFrame):
        return StaticSource(value)
    if hasattr(type(value), "df") and hasattr(value, "revision"):
        rows: Any = value
        return ForeignSource(rows)
    raise TypeError(
        f"{user} follows a live source (such as an rt.LiveTable, or another object with .df and .revision) or a "
        f"DataFrame, not {type(value).__name__}"
    )
