"""`LiveChart`: a chart that follows its source."""

from __future__ import annotations

import asyncio
import html
import threading
from typing import Any

import pandas as pd
import traitlets

from ..client.thread import io_loop
from ..protocol.errors import RealtimeError
from .base import ANYONE, STATIC, RtWidget, View, paragraph, there
from .chart_data import EMPTY, ChartData, Spec, check, draw, step
from .tick import tick

LEAST_PAUSE = 0.1
"""Seconds between two pictures of a source that never rests."""
LOOK_EVERY = 0.25
"""Seconds after which a source is looked at that has not said that it changed."""
ANYONE_MOST = 5_000
"""Points for a page that has not said hello: they are sent again and again."""
HTML_ROWS = 20


class LiveChart(RtWidget):
    """A chart of a live source. It goes on moving while a cell runs: pictures are made on a thread of their own.

    Args:
        source: whatever has `.df` and a `revision`: a `LiveTable`, what `group_by(...).agg(...)` gives, a
            `BroadcastFeed`, a `Presence`, a `rt.live` view; or a DataFrame, which stays as it is.
        x: the column along the bottom: times, numbers or names.
        y: the column of numbers.
        by: a column whose values make one series each; at most 12, and the chart says where there are more.
        kind: `"line"`, `"area"`, `"bar"` or `"scatter"`.
        window: how much to show: the last points along x (a whole number, `200`), the last time (`"5min"`), or the last
            units of a numeric x (`60.0`); None for everything.
        agg: what to work out of the rows that share an x (and a group): sum, count, mean, min, max, nunique, first,
            last, size, median, std, var, or a quantile (`0.95`); None draws every row.
        every: the width along x of what `agg` works out: `"1min"`, or a number for a numeric x.

    All but the source may be set later. A column that is missing or holds no numbers is no exception: `error` says what
    to do, and the last good picture stays. Raises TypeError or ValueError for arguments that can fit no source.
    """

    _newest_last = True
    _esm = STATIC / "chart.js"
    _css = STATIC / "chart.css"

    x = traitlets.Unicode()
    """The column along the bottom."""
    y = traitlets.Unicode()
    """The column of numbers."""
    by = traitlets.Unicode(None, allow_none=True)
    """The column whose values make one series each, or None."""
    kind = traitlets.Unicode("line")
    """`"line"`, `"area"`, `"bar"` or `"scatter"`."""
    window = traitlets.Any(None, allow_none=True)
    """How much is shown: points, a time, units of x, or None for everything."""
    agg = traitlets.Any(None, allow_none=True)
    """What is worked out of the rows that share an x, or None."""
    every = traitlets.Any(None, allow_none=True)
    """The width along x of what `agg` works out, or None."""
    count = traitlets.Int(0, read_only=True).tag(sync=True)
    """Points drawn."""
    revision = traitlets.Int(0, read_only=True).tag(sync=True)
    """How many pictures there were: observe this."""
    status = traitlets.Unicode("connecting", read_only=True).tag(sync=True)
    """That of the source; `"live"` for one without any."""
    error = traitlets.Unicode("", read_only=True).tag(sync=True)
    """What is wrong and what to do, in one paragraph; empty while nothing is."""

    def __init__(
        self,
        source: Any,
        x: str,
        y: str,
        *,
        by: str | None = None,
        kind: str = "line",
        window: int | float | str | pd.Timedelta | None = None,
        agg: str | float | None = None,
        every: float | str | pd.Timedelta | None = None,
    ) -> None:
        plain = isinstance(source, pd.DataFrame)
        if not plain and not (hasattr(type(source), "df") and hasattr(source, "revision")):
            raise TypeError(
                "the source of a chart is something with a .df and a .revision, such as rt.LiveTable, or a DataFrame, "
                f"not {type(source).__name__}"
            )
        check(Spec(x, y, by, kind, window, agg, every))
        self.source = source
        self._picture = EMPTY
        self._made = 0
        self._problem: RealtimeError | None = None
        self._seats: dict[str, int] = {}
        self._drawing = threading.Lock()
        self._again = asyncio.Event()
        self._seen: Any = None
        self._task: asyncio.Task[None] | None = None
        super().__init__(x=x, y=y, by=by, kind=kind, window=window, agg=agg, every=every)
        self.observe(self._other, ["x", "y", "by", "kind", "window", "agg", "every"])
        self._follower = _Follower(self)
        there(self._begin)

    def __repr__(self) -> str:
        by = f" by {self.by}" if self.by else ""
        return (
            f"<LiveChart {self.kind} of {self._title()} over {self.x}{by}: {len(self._picture)} points, {self.status}>"
        )

    def _title(self) -> str:
        return self.y if self.agg is None else f"{self.agg} of {self.y}"

    @traitlets.validate("x", "y", "by", "kind", "window", "agg", "every")
    def _fits(self, proposal: Any) -> Any:
        wanted = {**self._spec()._asdict(), proposal["trait"].name: proposal["value"]}
        if not wanted["x"] or not wanted["y"]:
            return proposal["value"]  # while it is being made
        try:
            check(Spec(**wanted))
        except (TypeError, ValueError) as error:
            raise traitlets.TraitError(str(error)) from None
        return proposal["value"]

    def _spec(self) -> Spec:
        return Spec(self.x, self.y, self.by, self.kind, self.window, self.agg, self.every)

    # --- what it holds

    @property
    def df(self) -> pd.DataFrame:
        """What is drawn: x, the group where there is `by`, y; as of the source's state of now."""
        try:
            return self._drawn().frame(self._spec())
        except RealtimeError:
            return self._picture.frame(self._spec())  # the last good one, as in the page

    @property
    def ready(self) -> bool:
        """Whether there was a picture."""
        return self._made > 0

    # --- following, on the I/O thread

    def _begin(self) -> None:
        if isinstance(self.source, RtWidget):
            self.source._alerts.add(self._follower)  # type: ignore[arg-type]
        self._again.set()
        self._task = io_loop().create_task(self._watch())

    def _other(self, _: Any) -> None:
        io_loop().call_soon_threadsafe(self._again.set)

    def _state_of_source(self) -> Any:
        return getattr(self.source, "revision", 0), getattr(self.source, "ready", True)

    async def _watch(self) -> None:
        told: Any = None
        while True:
            try:
                async with asyncio.timeout(LOOK_EVERY):  # wait_for may lose a cancellation, on Python 3.11
                    await self._again.wait()
            except TimeoutError:
                # A revision may also be set where nobody tells us: by a view that runs between cells, by another
                # person's class.
                state = (getattr(self.source, "status", ""), getattr(self.source, "error", ""))
                if state != told:
                    told = state
                    tick.mark(self)
                if self._state_of_source() == self._seen:
                    continue
            self._again.clear()
            seen = self._state_of_source()
            began = io_loop().time()
            try:
                picture = await asyncio.to_thread(self._drawn)
            except RealtimeError as error:
                self._problem = error
            except Exception as error:
                self._problem = RealtimeError(f"{type(error).__name__}: {error}", code="SourceFailed")
            else:
                self._problem = None
                if seen[1]:
                    self._picture, self._made = picture, self._made + 1
            self._seen = seen
            tick.mark(self)
            # Half of a core at most, however large the source is.
            await asyncio.sleep(max(LEAST_PAUSE, io_loop().time() - began))

    def _drawn(self) -> ChartData:
        """The picture of now. On a worker, or on whoever asks for `df`."""
        source = self.source
        frame = source if isinstance(source, pd.DataFrame) else source.df
        if callable(frame):
            frame = frame()
        if not len(frame.columns) or not getattr(source, "ready", True):
            return EMPTY
        spec = self._spec()
        if not len(frame) and not hasattr(source, "store"):
            return EMPTY  # a feed's columns come with its first message
        with self._drawing:
            return draw(frame, spec, self._seats)

    # --- to the page, on the I/O thread

    def _tick(self, now: float) -> bool:
        self._refresh()
        return super()._tick(now)

    def _refresh(self) -> None:
        changed = self._made != self.revision
        with self.hold_sync():
            if not self._closed:
                self.set_trait("status", str(getattr(self.source, "status", "live")))
            self.set_trait("error", self._said())
            self.set_trait("count", len(self._picture))
            self.set_trait("revision", self._made)
        if changed:
            self._announce_df()

    def _said(self) -> str:
        return paragraph(self._problem) or str(getattr(self.source, "error", "") or "")

    def _frame(self, view: View) -> dict[str, Any] | None:
        shown, frame, picture = view.shown, dict[str, Any](), self._picture
        if view.name == ANYONE:
            picture = picture.last(ANYONE_MOST)
        state = {
            "status": "closed" if self._closed else str(getattr(self.source, "status", "live")),
            "error": self._said(),
            "ready": self.ready,
            "title": self._title(),
            "x": self.x,
            "by": self.by,
            "kind": self.kind,
            "axis": picture.axis,
            "categories": picture.categories,
            "series": [list(one) for one in picture.series],
            "notes": picture.notes,
        }
        if state != shown.get("state"):
            shown["state"] = frame["state"] = state
        before: ChartData | None = shown.get("picture")
        if before is not picture:
            shown["picture"] = picture
            moved = None if before is None else step(before, picture)
            if moved is None:
                frame["points"] = {"count": len(picture), "whole": True}
                frame["buffers"] = [picture.x.tobytes(), picture.y.tobytes(), picture.s.tobytes()]
            elif moved.drop or len(moved.places) or moved.start < len(picture):
                new = slice(moved.start, None)
                frame["points"] = {"count": len(picture), "whole": False, "drop": moved.drop}
                frame["buffers"] = [
                    picture.x[new].tobytes(),
                    picture.y[new].tobytes(),
                    picture.s[new].tobytes(),
                    moved.places.tobytes(),
                    picture.y[moved.places].tobytes(),
                ]
        return frame or None

    def _post(self, content: dict[str, Any]) -> None:
        buffers = content.get("buffers")
        rest = {name: value for name, value in content.items() if name != "buffers"}
        super(RtWidget, self).send(rest, buffers)

    # --- the end, and what stays

    def _release(self) -> None:
        there(self._stop)
        self.set_trait("status", "closed")

    def _stop(self) -> None:
        if isinstance(self.source, RtWidget):
            self.source._alerts.discard(self._follower)  # type: ignore[arg-type]
        if self._task is not None:
            self._task.cancel()

    def _plain(self) -> str:
        part = self._picture.frame(self._spec()).tail(10)
        return "" if part.empty else str(part.to_string(index=False))

    def _html(self) -> str:
        frame: Any = self._picture.frame(self._spec()).tail(HTML_ROWS)
        title = f"{self._title()} over {self.x}" + (f" by {self.by}" if self.by else "")
        said = f"<p>{html.escape(self.error)}</p>" if self.error else ""
        return f"<p><b>{html.escape(title)}</b></p>{said}{frame.to_html(index=False, escape=True, na_rep='')}"


class _Follower:
    """Hears of a widget's changes where its alerts do: on the I/O thread, also while a cell runs."""

    def __init__(self, chart: LiveChart) -> None:
        self._chart = chart

    def look(self) -> None:
        self._chart._again.set()

    def cancel(self) -> None:
        """The source is being closed: the chart keeps its picture."""
        tick.mark(self._chart)
