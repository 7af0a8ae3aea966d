"""`live`: a function that runs again whenever its sources change, and what it shows."""

from __future__ import annotations

import functools
import html
import traceback
from collections.abc import Callable
from typing import Any

import ipywidgets  # pyright: ignore[reportMissingTypeStubs]
import pandas as pd
import traitlets

from ..client.callbacks import Unregister
from ..client.dispatch import dispatch, main_loop
from ..client.log import logger
from ..client.thread import io_loop
from .checks import check_callback, check_positive
from .output_capture import Output, OutputCapture, close_figure, figure_of, html_of
from .saved import new_model_id, prefer_static, saved_html
from .sources import LiveSource, Rows, source_of
from .threads import Workers, submit_work

_worker = Workers(1, "rtwidgets-live")
"""Where functions run outside a kernel, one at a time: there is no main loop, and the I/O thread must not wait."""


def live(*sources: LiveSource | Rows | pd.DataFrame, max_fps: float = 4) -> Callable[[Callable[..., Any]], LiveView]:
    """Makes a `LiveView` of the decorated function, which is called with each source's `.df`.

    Args:
        sources: live sources: tables, groups, feeds, presences, other live views; or DataFrames.
        max_fps: the most runs a second; changes that come closer together are one run.

    Raises TypeError for a source that cannot be followed, TypeError or ValueError for another `max_fps`.
    """
    followed = [source_of(source, "rt.live") for source in sources]
    check_positive(max_fps, "max_fps, the most runs a second,")

    def make(fn: Callable[..., Any]) -> LiveView:
        return LiveView(fn, followed, max_fps)

    return make


class LiveView(LiveSource, ipywidgets.VBox):
    """What a function of live sources returned, printed and displayed last. Made by `live`.

    The function runs on the kernel's main thread, between cells. When it raises, the view says so and the last good
    output stays.
    """

    value = traitlets.Any(None, read_only=True, help="What the function returned last.")
    revision = traitlets.Int(0, read_only=True, help="Grows with each run that did not raise: observe this.")
    error = traitlets.Unicode(
        "", read_only=True, help="The exception of the last run, in one line; empty if there was none."
    )
    status = traitlets.Unicode(
        "connecting",
        read_only=True,
        help='That of the first source that is not live, else `"live"`; `"error"` where the function raised.',
    )
    paused = traitlets.Bool(False, read_only=True, help="Whether one of the sources is paused.")

    def __init__(self, fn: Callable[..., Any], sources: list[LiveSource], max_fps: float) -> None:
        check_callback(fn, "what @rt.live decorates")
        self.sources = sources
        self._fn = fn
        self._every = 1 / max_fps
        self._next = 0.0
        self._pending = False
        self._seen: Any = None
        self._shown: tuple[Output, ...] = ()
        self._outputs: Any = ipywidgets.Output()
        self._line: Any = ipywidgets.HTML(layout={"display": "none"})
        super().__init__(model_id=new_model_id(), children=[self._line, self._outputs])
        wrapper: Any = self
        functools.update_wrapper(wrapper, fn, updated=())
        self._unfollow: list[Unregister] = [source.follow(self._source_changed) for source in sources]
        self._run()

    def __repr__(self) -> str:
        return f"<LiveView {self.name}: {self.revision} runs>"

    @property
    def name(self) -> str:
        """The function's name."""
        return getattr(self._fn, "__name__", "a live view")

    @property
    def df(self) -> pd.DataFrame:
        """The value as a DataFrame, so that a view can be a source itself.

        Raises TypeError for a value that is none.
        """
        value: Any = self.value
        if isinstance(value, pd.DataFrame):
            return value
        if isinstance(value, pd.Series):
            return value.to_frame()
        if value is None:
            return pd.DataFrame()
        raise TypeError(f"the value of {self.name} is a {type(value).__name__}, not a DataFrame")

    @property
    def ready(self) -> bool:
        """Whether the function has returned once."""
        return self.revision > 0

    def close(self) -> None:
        """Stops following the sources. Safe to call twice."""
        if not self._closed:
            self._end_following()
            for unfollow in self._unfollow:
                unfollow()
            self.set_trait("status", "closed")
        super().close()

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        data: Any = super()._repr_mimebundle_(**kwargs)  # pyright: ignore[reportUnknownMemberType]
        if data is not None:
            data["text/html"] = saved_html("".join(map(html_of, self._shown)) or html.escape(repr(self)))
            prefer_static(data)
        return data

    # --- when: on the I/O thread

    def _source_changed(self) -> None:
        if self._pending or self._closed:
            return
        self._pending = True
        loop = io_loop()
        loop.call_later(max(0.0, self._next - loop.time()), self._due)

    def _due(self) -> None:
        if main_loop() is None:
            submit_work(self._update, workers=_worker)
        else:
            dispatch(self._update)

    # --- what: on the kernel's main thread, or the worker

    def _update(self) -> None:
        """Runs the function where a source's rows have changed, else only says how the sources are."""
        self._pending = False
        if self._closed:
            return
        if [(source.revision, source.ready) for source in self.sources] != self._seen:
            self._run()
        else:
            self._show_status()

    def _run(self) -> None:
        self._next = io_loop().time() + self._every
        self._seen = [(source.revision, source.ready) for source in self.sources]
        if not all(source.ready for source in self.sources):
            self._show_status()
            return
        value: Any = None
        with OutputCapture() as captured:
            try:
                value = self._fn(*[source.df for source in self.sources])
                if value is not None and not isinstance(value, ipywidgets.Widget):
                    captured.show(value)
                captured.show_figures(besides=figure_of(value))
                close_figure(value)
            except Exception as raised:
                captured.show_figures()
                last = traceback.extract_tb(raised.__traceback__)[-1]
                self.set_trait("error", f"{type(raised).__name__}: {raised} (line {last.lineno} of {last.name})")
                logger.debug("a live view's function raised", exc_info=raised)
                self._show_status()
                return
        self.set_trait("error", "")
        self._show(value, captured.result())
        self._show_status()
        self.set_trait("value", value)
        self.set_trait("revision", self.revision + 1)
        self._emit()
        self._emit_df()

    def _show(self, value: Any, outputs: tuple[Output, ...]) -> None:
        self._shown = self._outputs.outputs = outputs
        widgets = [value] if isinstance(value, ipywidgets.Widget) else []
        children = [self._line, *widgets] if widgets and not outputs else [self._line, *widgets, self._outputs]
        if list(self.children) != children:
            self.children = children

    def _show_status(self) -> None:
        """Sets the traits and the line above the outputs, and tells followers."""
        waits = next((source for source in self.sources if not source.ready), None)
        status = next((source.status for source in self.sources if source.status != "live"), "live")
        paused = [source.name for source in self.sources if source.paused]
        lines: list[str] = []
        if self.error:
            status = "error"
            lines += [self.error, *(["Below is what it showed before."] if self.revision else [])]
        elif waits is not None:
            lines += [f"waiting for {waits!r}", *([waits.error] if waits.error else [])]
        lines += [f"{name} is paused" for name in paused]
        self.set_trait("status", status)
        self.set_trait("paused", bool(paused))
        text = "\n".join(lines)
        self._line.value = f'<div role="status" style="white-space: pre-wrap">{html.escape(text)}</div>' if text else ""
        self._line.layout.display = "" if text else "none"
        # What is shown is out of date while the function raises or waits.
        self._outputs.layout.opacity = "0.5" if self.error or waits is not None else ""
        self._emit()
