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
from .base import STATIC, RtWidget, html_table
from .chart_data import EMPTY, ChartData, Spec, check, draw, step
from .checks import paragraph
from .sources import LiveSource, Rows, source_of
from .threads import call_on_io, post_to_io, work
from .tick import tick
from .views import ANYONE, View

LEAST_PAUSE = 0.1
"""Least seconds between two pictures."""
ANYONE_MOST = 5_000
"""Points for a page that has not sent hello: they are sent again and again."""
HTML_ROWS = 20
DRAWN = ("x", "y", "by", "kind", "window", "agg", "every")
"""The traits that say what is drawn."""


class LiveChart(RtWidget):
    """A chart of a live source. It keeps moving while a cell runs: pictures are computed on a worker thread.

    Args:
        source: a live source (a `LiveTable`, what `group_by(...).agg(...)` returns, a `BroadcastFeed`, a `Presence`,
            a `rt.live` view), another object with `.df` and `.revision`, or a DataFrame, which stays as it is.
        x: the column along the bottom: times, numbers or names.
        y: the column of numbers.
        by: a column with a series for each of its values; at most 12, and the chart says where there are more.
        kind: `"line"`, `"area"`, `"bar"` or `"scatter"`.
        window: how much to show: the last points along x (an int, `200`), the last time (`"5min"`), or the last units
            of a numeric x (`60.0`); None for everything.
        agg: how to combine rows that share an x (and a series): sum, count, mean, min, max, nunique, first, last, size,
            median, std, var, or a quantile (`0.95`); None draws every row.
        every: the width along x within which `agg` combines rows: `"1min"`, or a number for a numeric x.

    All but the source are traits and can be set later. A missing column, or one without numbers, does not raise:
    `error` says how to fix it, and the last good picture stays. Raises TypeError or ValueError for arguments that fit
    no source.
    """

    _newest_last = True
    _esm = STATIC / "chart.js"
    _css = STATIC / "chart.css"

    x = traitlets.Unicode(help="The column along the bottom.")
    y = traitlets.Unicode(help="The column of numbers.")
    by = traitlets.Unicode(None, allow_none=True, help="The column with a series for each of its values, or None.")
    kind = traitlets.Unicode("line", help='`"line"`, `"area"`, `"bar"` or `"scatter"`.')
    window = traitlets.Any(
        None, allow_none=True, help="How much is shown: points, a time, units of x, or None for everything."
    )
    agg = traitlets.Any(None, allow_none=True, help="How rows that share an x are combined, or None.")
    every = traitlets.Any(None, allow_none=True, help="The width along x within which `agg` combines rows, or None.")
    count = traitlets.Int(0, read_only=True, help="Points drawn.").tag(sync=True)
    revision = traitlets.Int(0, read_only=True, help="How many pictures there were: observe this.").tag(sync=True)
    status = traitlets.Unicode(
        "connecting", read_only=True, help='The source\'s status; `"live"` for a source without one.'
    ).tag(sync=True)

    def __init__(
        self,
        source: LiveSource | Rows | pd.DataFrame,
        x: str,
        y: str,
        *,
        by: str | None = None,
        kind: str = "line",
        window: int | float | str | pd.Timedelta | None = None,
        agg: str | float | None = None,
        every: float | str | pd.Timedelta | None = None,
    ) -> None:
        self.source = source_of(source, "rt.LiveChart")
        check(Spec(x, y, by, kind, window, agg, every))
        self._picture = EMPTY
        self._made = 0
        self._problem: RealtimeError | None = None
        self._seats: dict[str, int] = {}
        self._drawing = threading.Lock()
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        super().__init__(x=x, y=y, by=by, kind=kind, window=window, agg=agg, every=every)
        self.observe(self._redraw, list(DRAWN))
        call_on_io(self._open)

    def __repr__(self) -> str:
        by = f" by {self.by}" if self.by else ""
        return f"<LiveChart {self.kind} of {self.name} over {self.x}{by}: {len(self._picture)} points, {self.status}>"

    @property
    def name(self) -> str:
        """What is drawn, such as `"amount"` or `"sum of amount"`."""
        return self.y if self.agg is None else f"{self.agg} of {self.y}"

    @traitlets.validate(*DRAWN)
    def _check_drawn(self, proposal: Any) -> Any:
        wanted = {**self._spec()._asdict(), proposal["trait"].name: proposal["value"]}
        if not wanted["x"] or not wanted["y"]:
            return proposal["value"]  # in __init__
        try:
            check(Spec(**wanted))
        except (TypeError, ValueError) as error:
            raise traitlets.TraitError(str(error)) from None
        return proposal["value"]

    def _redraw(self, change: object) -> None:
        post_to_io(self._changed.set)

    def _spec(self) -> Spec:
        return Spec(self.x, self.y, self.by, self.kind, self.window, self.agg, self.every)

    # --- what it holds

    @property
    def df(self) -> pd.DataFrame:
        """What is drawn of the source's rows of now: x, the series where there is `by`, y."""
        try:
            return self._draw().frame(self._spec())
        except RealtimeError:
            return self._picture.frame(self._spec())  # the last good one, as in the page

    @property
    def ready(self) -> bool:
        """Whether there was a picture."""
        return self._made > 0

    # --- following, on the I/O thread

    def _open(self) -> None:
        self._registered.append(self.source.follow(self._changed.set))
        self._changed.set()
        self._task = io_loop().create_task(self._follow())

    async def _follow(self) -> None:
        seen: tuple[int, bool, Spec] | None = None
        while True:
            await self._changed.wait()
            self._changed.clear()
            source = self.source
            now = (source.revision, source.ready, self._spec())
            started = io_loop().time()
            if now != seen:
                await self._make(ready=now[1])
                seen = now
            tick.mark(self)  # else only the source's status has changed
            # Half of a core at most, however large the source is.
            await asyncio.sleep(max(LEAST_PAUSE, io_loop().time() - started))

    async def _make(self, *, ready: bool) -> None:
        try:
            picture = await work(self._draw)
        except RealtimeError as error:
            self._problem = error
        except Exception as error:
            self._problem = RealtimeError(f"{type(error).__name__}: {error}", code="SourceFailed")
        else:
            self._problem = None
            if ready:
                self._picture, self._made = picture, self._made + 1

    def _draw(self) -> ChartData:
        """The picture of now. On a worker, or on the thread that reads `df`."""
        frame = self.source.df
        if not len(frame.columns) or not self.source.ready:
            return EMPTY
        if not len(frame) and not hasattr(self.source, "store"):
            return EMPTY  # a feed's columns come with its first message
        with self._drawing:
            return draw(frame, self._spec(), self._seats)

    # --- to the page, on the I/O thread

    def _traits_now(self) -> dict[str, Any]:
        source = self.source
        return {
            "status": source.status,
            "error": self._error(),
            "paused": source.paused,
            "count": len(self._picture),
            "revision": self._made,
        }

    def _error(self) -> str:
        return paragraph(self._problem) or self.source.error

    def _frame(self, view: View) -> dict[str, Any] | None:
        frame, picture, source = dict[str, Any](), self._picture, self.source
        if view.name == ANYONE:
            picture = picture.last(ANYONE_MOST)
        state = {
            "status": "closed" if self._closed else source.status,
            "error": self._error(),
            "ready": self.ready,
            "title": self.name,
            "x": self.x,
            "by": self.by,
            "kind": self.kind,
            "axis": picture.axis,
            "categories": picture.categories,
            "series": [list(one) for one in picture.series],
            "notes": [*picture.notes, *([f"{source.name} is paused"] if source.paused else [])],
        }
        if view.differs("state", state):
            frame["state"] = state
        before: ChartData | None = view.shown.get("picture")
        if before is not picture:
            view.shown["picture"] = picture
            self._fill(frame, before, picture)
        return frame or None

    def _fill(self, frame: dict[str, Any], before: ChartData | None, picture: ChartData) -> None:
        """Puts the points into the frame: all, or how they differ from those before."""
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

    # --- the end, and what stays

    def _release(self) -> None:
        if self._task is not None:
            self._task.cancel()

    def _plain(self) -> str:
        part = self._picture.frame(self._spec()).tail(10)
        return "" if part.empty else str(part.to_string(index=False))

    def _html(self) -> str:
        title = f"{self.name} over {self.x}" + (f" by {self.by}" if self.by else "")
        error = f"<p>{html.escape(self.error)}</p>" if self.error else ""
        table = html_table(self._picture.frame(self._spec()), HTML_ROWS, newest=True)
        return f"<p><b>{html.escape(title)}</b></p>{error}{table}"
