"""`DerivedGrid`: rows computed from another live source's rows, kept up to date from its deltas.

The computation is a `DerivedView` of the source's store: `apply(*deltas) -> delta`. Deltas of the source are collected
and applied once a tick, or when somebody reads the rows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pyarrow as pa
import traitlets

from ..client.callbacks import Callbacks, Unregister
from ..data.delta import Delta
from ..data.derived import DerivedView
from ..data.store import Store
from ..protocol.errors import RealtimeError
from .checks import paragraph
from .grid import Grid
from .sources import RowSource
from .threads import call_on_io, post_to_io
from .tick import tick
from .views import View


class DerivedGrid(Grid, RowSource):
    """A grid of rows computed from a source. Its status, error and pause are the source's.

    A subclass implements `_make_view`; `empty` is its store before the source has columns.
    """

    status = traitlets.Unicode("connecting", read_only=True, help="The source's status.").tag(sync=True)

    def __init__(self, source: RowSource, empty: Store) -> None:
        self.source = source
        self._empty = empty
        self._view: DerivedView | None = None
        self._revision_before = 0
        """Revisions of the views before this one: a new view counts from the start."""
        self._problem: RealtimeError | None = None
        self._deltas: list[Delta] = []
        self._delta_followers = Callbacks()
        super().__init__()
        call_on_io(self._open)

    def _make_view(self, source: Store) -> DerivedView:
        """The view of the source's rows. Raises RealtimeError where the source's columns do not allow it."""
        raise NotImplementedError

    @property
    def ready(self) -> bool:
        """Whether the source's rows have been read once."""
        return self.source.ready

    @property
    def store(self) -> Store:
        """The rows, column by column. Safe to read from any thread."""
        return self._empty if self._view is None else self._view.store

    def arrow(self) -> pa.Table:
        call_on_io(self._refresh)  # what the source has is in here too, also between two ticks
        return super().arrow()

    arrow.__doc__ = Grid.arrow.__doc__

    def on_delta(self, fn: Callable[[Delta], object]) -> Unregister:
        """Calls `fn(delta)` on the I/O thread with each difference between two revisions of `store`. Returns a function
        that unregisters."""
        return self._delta_followers.add(fn)

    def pause(self) -> None:
        """Pauses the source: this view has no changes of its own that could wait."""
        self.source.pause()

    def resume(self) -> None:
        """Resumes the source."""
        self.source.resume()

    # --- on the I/O thread

    def _open(self) -> None:
        self._registered += [self.source.on_delta(self._collect), self.source.follow(lambda: tick.mark(self))]
        self._refresh()

    def _collect(self, delta: Delta) -> None:
        self._deltas.append(delta)
        tick.mark(self)

    def _apply(self) -> None:
        """Applies what the source has reported since the last time."""
        deltas, self._deltas = self._deltas, []
        view, store = self._view, self.source.store
        if view is not None and view.source is store and not any(delta.columns_changed for delta in deltas):
            delta = view.apply(*deltas) if deltas else None
        elif store.kinds and (deltas or self._problem is None):
            delta = self._replace_view(store)
        else:
            return
        if delta:
            self._delta_followers.call(delta)

    def _replace_view(self, store: Store) -> Delta | None:
        before = self.store.revision
        try:
            view = self._make_view(store)
        except RealtimeError as error:
            self._problem = error
            return None
        self._revision_before += before + 1
        self._view, self._problem = view, None
        return Delta(view.store.revision, reset=True, columns_changed=True)

    def _traits_now(self) -> dict[str, Any]:
        self._apply()
        source, problem = self.source, self._problem
        return {
            "status": source.status if problem is None else "error",
            "error": source.error if problem is None else paragraph(problem),
            "paused": source.paused,
            "count": len(self.store),
            "revision": self._revision_before + self.store.revision,
        }

    def _state(self) -> dict[str, Any]:
        state = {"status": self.status, "error": self.error, "paused": self.paused}
        return {**state, "waiting": 0, "lag": None, "rate": 0, "note": ""}

    def _on_message(self, view: View, kind: str, content: Mapping[str, Any]) -> None:
        if kind in ("pause", "resume"):
            post_to_io(self.pause if kind == "pause" else self.resume)
        else:
            super()._on_message(view, kind, content)
