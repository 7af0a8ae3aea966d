"""`TimeSlider`: a table as it was after any of its last changes."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import ipywidgets
import pandas as pd
import traitlets

from ..client.log import logger
from ..data.dataframes import records
from ..data.store import Store
from .base import View, there, unregister_all
from .grid import Grid
from .table import LiveTable, moment_of
from .tick import tick

EVERY = 0.25
"""Seconds between two looks at the table's log: a slider that grows with each change cannot be caught."""
PLAY = 300
"""Milliseconds between two changes that are played."""

_worker = ThreadPoolExecutor(1, "rtwidgets-past")
"""Rows of a large table take a while to lay out; neither a cell nor the line to the server waits for that."""


class Past(Grid):
    """The rows of a table as they were at one moment, or those of now. Part of a `TimeSlider`."""

    at = traitlets.Any(None, allow_none=True)
    """The moment that is shown, in UTC; None for now. Set it: a `datetime`, or a text such as `"2026-01-31 12:00"`."""

    def __init__(self, table: LiveTable) -> None:
        self.table = table
        self.moments: list[datetime] = []
        """When the table changed, oldest first."""
        self.on_moments: Callable[[], None] = lambda: None
        self._frame_then: pd.DataFrame | None = None
        self._then: Store | None = None
        self._looked_at = 0.0
        super().__init__()
        follower = table.follower
        self._registered: list[Callable[[], Any]] = [
            follower.on_delta(lambda delta: tick.mark(self)),
            follower.on_status(lambda status, error: tick.mark(self)),
        ]
        there(self._read_log)

    def __repr__(self) -> str:
        return f"<Past of {self.table.table}: {'now' if self.at is None else self.at}>"

    @property
    def store(self) -> Store:
        return self.table.store if self._then is None else self._then

    @property
    def df(self) -> pd.DataFrame:
        frame = self._frame_then
        return self.table.df if frame is None else frame.copy()

    @property
    def ready(self) -> bool:
        """Whether the table has been read once."""
        return self.table.ready

    def index(self) -> int:
        """The place of what is shown among `moments`."""
        last = len(self.moments) - 1
        return max(0, last if self.at is None else bisect_right(self.moments, self.at) - 1)

    @traitlets.validate("at")
    def _check_at(self, proposal: Any) -> datetime:
        try:
            moment = moment_of(proposal.value)
            if self.at is None:
                there(self._read_log)  # the scale that stands still from here on
            if moment != self.at:  # else it is shown, even where the table has forgotten it since
                self._frame_then = self.table.at(moment)
        except (ValueError, TypeError) as error:
            raise traitlets.TraitError(str(error)) from None
        return moment

    @traitlets.observe("at")
    def _moved(self, change: Any) -> None:
        if change.new is None:  # which traitlets takes without a question
            self._frame_then = None
        _worker.submit(self._lay_out)

    def _lay_out(self) -> None:
        """Puts the rows of the moment where the page reads them; on the worker."""
        frame, now = self._frame_then, self.table.store
        try:
            then = None
            if frame is not None:
                then = Store.of(now.specs, now.key, order=now.order)
                then.load(_as_sent(records(frame)))
        except Exception:
            logger.exception("the rows of %s could not be shown", self.at)
            return
        if frame is self._frame_then and not self._closed:  # else a later move has taken over
            there(self._show, then)

    # --- on the I/O thread

    def _show(self, then: Store | None) -> None:
        self._then = then
        self._tell()
        tick.mark(self)

    def _tell(self) -> None:
        with self.hold_sync():
            self.set_trait("count", len(self.store))
            self.set_trait("revision", self.revision + 1)
        self._announce_df()

    def _read_log(self) -> None:
        self.moments = self.table.follower.history.moments()
        self.on_moments()

    def _tick(self, now: float) -> bool:
        early = now - self._looked_at < EVERY
        if not early:
            self._looked_at = now
            moments = self.moments
            # In the past the scale stands still too: else places move away under the hand, and the far right is missed.
            if self.at is None:
                self._read_log()
                if moments != self.moments:
                    self._tell()
        return super()._tick(now) or early

    def _title(self) -> str:
        return self.table._title()

    def _state(self) -> dict[str, Any]:
        moment, state = self.at, self.table._state()
        if moment is None:
            return state | {"paused": False, "waiting": 0}
        return state | {"paused": True, "waiting": 0, "rate": 0, "note": f"as of {clock(moment)}"}

    def _asked(self, view: View, kind: Any, content: dict[str, Any]) -> None:
        if kind == "resume":
            self.at = None
        elif kind == "pause":
            there(self._read_log)
            self.at = self.moments[-1] if self.moments else None
        else:
            super()._asked(view, kind, content)

    def _release(self) -> None:
        there(unregister_all, self._registered)


def _as_sent(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Bytes as Postgres writes them, which JSON can carry."""
    for row in rows:
        for name, value in row.items():
            if isinstance(value, bytes):
                row[name] = f"\\x{value.hex()}"
    return rows


class TimeSlider(ipywidgets.VBox):
    """A slider over the last changes of a table, and the rows as they were after each.

    To the far right it is the present and follows; anywhere else it stands still while the table goes on. How far back
    it reaches is the table's `history=`. It is a source itself: for `rt.live`, and by `df`.

    Args:
        table: a `LiveTable`.
    """

    at = traitlets.Any(None, allow_none=True)
    """The moment that is shown, in UTC; None for now. Set it: a `datetime` (one without a zone is this machine's time),
    or a text such as `"2026-01-31 12:00"`. Raises TraitError where the table does not remember that far back."""
    count = traitlets.Int(0, read_only=True)
    """Rows shown."""
    revision = traitlets.Int(0, read_only=True)
    """Grows as what is shown changes: observe this."""

    _open = False  # until it is made: what fails half-way has nothing to free

    def __init__(self, table: LiveTable) -> None:
        if not isinstance(table, LiveTable):
            raise TypeError(f"a time slider is of a rt.LiveTable, not of a {type(table).__name__}")
        self.table = table
        self.past = Past(table)
        """The rows, as a grid."""
        self.play = ipywidgets.Play(min=0, max=0, interval=PLAY, show_repeat=False, tooltip="play the changes")
        self.slider = ipywidgets.IntSlider(min=0, max=0, readout=False, layout={"flex": "1 1 auto", "width": "auto"})
        self.label = ipywidgets.Label()
        self._playing = ipywidgets.jslink((self.play, "value"), (self.slider, "value"))
        bar = ipywidgets.HBox([self.play, self.slider, self.label], layout={"align_items": "center"})
        super().__init__(children=[bar, self.past])
        self.past.observe(self._follow, ["count", "revision"])
        self.past.observe(self._followed_at, "at")
        self.slider.observe(self._slid, "value")
        self.past.on_moments = self._set_slider
        self._open = True
        there(self._set_slider)
        self._follow(None)

    def __repr__(self) -> str:
        return f"<TimeSlider of {self.table.table}: {'now' if self.at is None else clock(self.at)}>"

    @property
    def df(self) -> pd.DataFrame:
        """The rows as they were at `at`."""
        return self.past.df

    @property
    def ready(self) -> bool:
        """Whether the table has been read once."""
        return self.past.ready

    def close(self) -> None:
        """Stops following the table, which goes on. Safe to call twice."""
        if self._open:
            self._open = False
            self.past.on_moments = lambda: None
            self._playing.unlink()
            self.past.close()
        super().close()

    @traitlets.validate("at")
    def _check_at(self, proposal: Any) -> datetime | None:
        self.past.at = proposal.value
        return self.past.at

    @traitlets.observe("at")
    def _moved(self, change: Any) -> None:
        self.past.at = change.new  # also None, which traitlets takes without a question

    def _followed_at(self, change: Any) -> None:
        self.at = change.new
        there(self._set_slider)

    def _follow(self, _: Any) -> None:
        with self.hold_trait_notifications():
            self.set_trait("count", self.past.count)
            self.set_trait("revision", self.past.revision)

    def _slid(self, change: Any) -> None:
        """The slider was moved: by a person, by the player, or by `_set_slider` to where it is right already."""
        past, place = self.past, change.new
        if place != past.index() and place < len(past.moments):
            try:
                # To the far right not the moment of the last change but now: what changes next is to be seen.
                past.at = None if place == len(past.moments) - 1 else past.moments[place]
            except traitlets.TraitError:  # forgotten since the slider was drawn: back to what is shown
                there(past._read_log)

    # --- on the I/O thread

    def _set_slider(self) -> None:
        past = self.past
        last, place = max(0, len(past.moments) - 1), past.index()
        for control in (self.slider, self.play):
            with control.hold_trait_notifications(), control.hold_sync():
                control.max, control.value = max(last, control.value), place
                control.max = last
        when = "now" if past.at is None else clock(past.at)
        self.label.value = f"{when} · change {place:,} of {last:,}"


def clock(moment: datetime) -> str:
    """The time on this machine, with the date where it is not today's."""
    local = moment.astimezone()
    text = f"{local:%H:%M:%S}.{local.microsecond // 1000:03}"
    return text if local.date() == datetime.now(UTC).astimezone().date() else f"{local:%Y-%m-%d} {text}"
