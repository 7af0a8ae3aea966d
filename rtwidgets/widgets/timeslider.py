"""`TimeSlider`: a table as it was after any of its last changes."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, cast

import ipywidgets  # pyright: ignore[reportMissingTypeStubs]
import pandas as pd
import traitlets

from ..client.log import logger
from ..data.dataframes import records
from ..data.store import Store
from .grid import Grid
from .saved import new_model_id, prefer_static, saved_html
from .sources import LiveSource
from .table import LiveTable, moment_of
from .threads import Workers, call_on_io, submit_work
from .tick import tick
from .views import View

EVERY = 0.25
"""Seconds between two reads of the table's log: a slider that grows with each change cannot be grabbed."""
PLAY = 300
"""Milliseconds between two changes that are played."""

_worker = Workers(1, "rtwidgets-past")
"""Where past rows are loaded into a store, one moment at a time: for a large table that takes a while."""


class Past(Grid):
    """The rows of a table as they were at one moment, or those of now. Part of a `TimeSlider`."""

    at = traitlets.Any(
        None,
        allow_none=True,
        help='The moment shown, in UTC; None for now. Set it: a `datetime`, or a text such as `"2026-01-31 12:00"`.',
    )
    status = traitlets.Unicode("connecting", read_only=True, help="The table's status.").tag(sync=True)

    def __init__(self, table: LiveTable) -> None:
        self.table = table
        self.moments: list[datetime] = []
        """When the table changed, oldest first."""
        self.on_moments: Callable[[], None] = lambda: None
        self._frame_then: pd.DataFrame | None = None
        self._then: Store | None = None
        self._changes = 0
        self._read_at = 0.0
        super().__init__()
        call_on_io(self._open)

    def _open(self) -> None:
        self._registered.append(self.table.follow(lambda: tick.mark(self)))
        self._read_log()

    def __repr__(self) -> str:
        return f"<Past of {self.table.table}: {'now' if self.at is None else self.at}>"

    @property
    def name(self) -> str:
        """The table's name."""
        return self.table.name

    @property
    def store(self) -> Store:
        """The rows shown, column by column."""
        return self.table.store if self._then is None else self._then

    @property
    def df(self) -> pd.DataFrame:
        """The rows shown, as a DataFrame that never changes after it was returned."""
        frame = self._frame_then
        return self.table.df if frame is None else frame.copy()

    @property
    def ready(self) -> bool:
        """Whether the table has been read once."""
        return self.table.ready

    def index(self) -> int:
        """The place of the moment shown among `moments`."""
        last = len(self.moments) - 1
        return max(0, last if self.at is None else bisect_right(self.moments, self.at) - 1)

    @traitlets.validate("at")
    def _check_at(self, proposal: Any) -> datetime:
        try:
            moment = moment_of(proposal.value)
            if self.at is None:
                call_on_io(self._read_log)  # the scale, which does not change from here on
            if moment != self.at:  # else it is shown already, and the table may have forgotten it since
                self._frame_then = self.table.at(moment)
        except (ValueError, TypeError) as error:
            raise traitlets.TraitError(str(error)) from None
        return moment

    @traitlets.observe("at")
    def _moved(self, change: Any) -> None:
        if change.new is None:  # which traitlets does not validate
            self._frame_then = None
        submit_work(self._load, workers=_worker)

    def _load(self) -> None:
        """Loads the rows of the moment into the store that the page reads; on the worker."""
        frame, now = self._frame_then, self.table.store
        try:
            then = None
            if frame is not None:
                then = Store.of(now.specs, now.key, order=now.order)
                then.load(_as_sent(records(frame)))
        except Exception:
            logger.exception("the rows of %s could not be shown", self.at)
            return
        if frame is self._frame_then and not self._closed:  # else a later move replaces this one
            call_on_io(self._show, then)

    # --- on the I/O thread

    def _show(self, then: Store | None) -> None:
        self._then = then
        self._changes += 1
        self._refresh()
        tick.mark(self)

    def _read_log(self) -> None:
        self.moments = self.table.follower.history.moments()
        self.on_moments()

    def _tick(self, now: float) -> bool:
        early = now - self._read_at < EVERY
        # In the past the scale does not change either: places would move away under the hand.
        if not early and self.at is None:
            self._read_at, moments = now, self.moments
            self._read_log()
            if moments != self.moments:
                self._changes += 1
        return super()._tick(now) or early

    def _traits_now(self) -> dict[str, Any]:
        table = self.table
        figures = {"count": len(self.store), "revision": self._changes}
        return {"status": table.status, "error": table.error, "paused": table.paused, **figures}

    def _state(self) -> dict[str, Any]:
        moment, state = self.at, self.table._state()  # pyright: ignore[reportPrivateUsage]
        if moment is None:
            return state
        return state | {"paused": True, "waiting": 0, "rate": 0, "note": f"as of {clock(moment)}"}

    def _on_message(self, view: View, kind: str, content: Mapping[str, Any]) -> None:
        if kind == "resume":
            if self.at is None:
                self.table.resume()  # the pause that shows is the table's
            self.at = None
        elif kind == "pause":
            call_on_io(self._read_log)
            self.at = self.moments[-1] if self.moments else None
        else:
            super()._on_message(view, kind, content)


def _as_sent(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Bytes as Postgres writes them, since JSON has no bytes."""
    for row in rows:
        for name, value in row.items():
            if isinstance(value, bytes):
                row[name] = f"\\x{value.hex()}"
    return rows


class TimeSlider(LiveSource, ipywidgets.VBox):
    """A slider over the last changes of a table, and the rows as they were after each.

    At its right end it shows the present and follows; elsewhere it stands still while the table goes on. How far back
    it reaches is the table's `history=`. It is a live source itself.

    Args:
        table: a `LiveTable`.

    Raises TypeError for anything else.
    """

    at = traitlets.Any(
        None,
        allow_none=True,
        help="The moment shown, in UTC; None for now. Set it: a `datetime` (without a zone, in this machine's), or a "
        'text such as `"2026-01-31 12:00"`. Raises TraitError for a time before the oldest change remembered.',
    )
    count = traitlets.Int(0, read_only=True, help="Rows shown.")
    revision = traitlets.Int(0, read_only=True, help="Grows as the rows shown change: observe this.")
    status = traitlets.Unicode("connecting", read_only=True, help="The table's status.")

    def __init__(self, table: LiveTable) -> None:
        if not isinstance(table, LiveTable):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"table must be an rt.LiveTable, not {type(table).__name__}")
        self.table = table
        self.past = Past(table)
        """The rows, as a grid."""
        self.play = ipywidgets.Play(min=0, max=0, interval=PLAY, show_repeat=False, tooltip="play the changes")
        self.slider = ipywidgets.IntSlider(min=0, max=0, readout=False, layout={"flex": "1 1 auto", "width": "auto"})
        self.label = ipywidgets.Label()
        link = cast(Any, ipywidgets.jslink)  # pyright: ignore[reportUnknownMemberType]
        self._playing: Any = link((self.play, "value"), (self.slider, "value"))
        bar = ipywidgets.HBox([self.play, self.slider, self.label], layout={"align_items": "center"})
        super().__init__(model_id=new_model_id(), children=[bar, self.past])
        self._unfollow = self.past.follow(self._copy_state)
        self.past.observe(self._copy_at, "at")
        self.slider.observe(self._slider_moved, "value")
        self.past.on_moments = self._set_slider
        call_on_io(self._set_slider)
        call_on_io(self._copy_state)

    def __repr__(self) -> str:
        return f"<TimeSlider of {self.table.table}: {'now' if self.at is None else clock(self.at)}>"

    @property
    def name(self) -> str:
        """The table's name."""
        return self.table.name

    @property
    def df(self) -> pd.DataFrame:
        """The rows as they were at `at`."""
        return self.past.df

    @property
    def ready(self) -> bool:
        """Whether the table has been read once."""
        return self.past.ready

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        data: Any = super()._repr_mimebundle_(**kwargs)  # pyright: ignore[reportUnknownMemberType]
        if data is not None:
            data["text/html"] = saved_html(self.past._html())
            prefer_static(data)
        return data

    def close(self) -> None:
        """Stops following the table, which goes on. Safe to call twice."""
        if not self._closed:
            self.past.on_moments = lambda: None
            self._playing.unlink()
            self._unfollow()
            self.past.close()
            self._end_following()
            self.set_trait("status", "closed")
        super().close()

    @traitlets.validate("at")
    def _check_at(self, proposal: Any) -> datetime | None:
        self.past.at = proposal.value
        return self.past.at

    @traitlets.observe("at")
    def _moved(self, change: Any) -> None:
        self.past.at = change.new  # also None, which traitlets does not validate

    def _copy_at(self, change: Any) -> None:
        self.at = change.new
        call_on_io(self._set_slider)

    def _copy_state(self) -> None:
        past = self.past
        before = self.revision
        with self.hold_trait_notifications():
            for name in ("count", "revision", "status", "error", "paused"):
                self.set_trait(name, getattr(past, name))
        self._emit()
        if self.revision != before:
            self._emit_df()

    def _slider_moved(self, change: Any) -> None:
        """The slider was moved: by a person, by the player, or by `_set_slider` to where it is already."""
        past, place = self.past, change.new
        if place != past.index() and place < len(past.moments):
            try:
                # The right end is not the moment of the last change but now: the next change shows.
                past.at = None if place == len(past.moments) - 1 else past.moments[place]
            except traitlets.TraitError:  # forgotten since the slider was drawn: back to the moment shown
                call_on_io(past._read_log)

    # --- on the I/O thread

    def _set_slider(self) -> None:
        past = self.past
        last, place = max(0, len(past.moments) - 1), past.index()
        controls: list[Any] = [self.slider, self.play]
        for control in controls:
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
