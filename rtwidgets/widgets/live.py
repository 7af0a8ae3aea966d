"""`live`: an ordinary function that runs again whenever its sources changed, and what it returned, shown."""

from __future__ import annotations

import contextlib
import functools
import html
import io
import sys
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import ipywidgets
import pandas as pd
import traitlets

from ..client.dispatch import dispatch, main_loop
from ..client.log import logger
from ..client.thread import io_loop

_worker = ThreadPoolExecutor(1, "rtwidgets-live")
"""Outside a kernel there is no main loop to run between cells on; and a slow function must not hold the I/O thread's
heartbeats."""


def live(*sources: Any, max_fps: float = 4) -> Callable[[Callable[..., Any]], LiveView]:
    """Makes a `LiveView` of the function below it, which is called with each source's `.df`.

    Args:
        sources: tables, feeds, presences, other live views: whatever has `.df` and an observable `revision`.
        max_fps: most runs a second; changes that come closer are one run.

    Raises TypeError for a source that has no `df`.
    """
    for source in sources:
        if not hasattr(type(source), "df"):
            raise TypeError(
                f"a source of rt.live is something with a .df, such as rt.LiveTable, not {type(source).__name__}"
            )
    if max_fps <= 0:
        raise ValueError(f"max_fps is a number of runs a second above 0, not {max_fps!r}")

    def make(fn: Callable[..., Any]) -> LiveView:
        return LiveView(fn, sources, max_fps)

    return make


class LiveView(ipywidgets.VBox):
    """What a function of live sources returned last, shown. Made by `live`.

    The function runs on the kernel's main thread, between cells. When it raises, the view says so and the last
    good value stays.
    """

    value = traitlets.Any(None, read_only=True)
    """What the function returned last."""
    revision = traitlets.Int(0, read_only=True)
    """Grows with each good run: observe this."""
    error = traitlets.Unicode("", read_only=True)
    """The exception of the last run, in one line; empty if it was good."""

    def __init__(self, fn: Callable[..., Any], sources: tuple[Any, ...], max_fps: float) -> None:
        self.sources = sources
        self._fn = fn
        self._every = 1 / max_fps
        self._next = 0.0
        self._pending = self._closed = False
        self._out = ipywidgets.Output()
        self._said = ipywidgets.HTML(layout={"display": "none"})
        super().__init__(children=[self._said, self._out])
        functools.update_wrapper(self, fn, updated=())
        for source in sources:
            source.observe(self._changed, "revision")
        self._run()

    def __repr__(self) -> str:
        return f"<LiveView {getattr(self._fn, '__name__', '')}: {self.revision} runs>"

    @property
    def df(self) -> pd.DataFrame:
        """The value as a DataFrame, so that a view can be a source itself.

        Raises TypeError for a value that is none.
        """
        if isinstance(self.value, pd.DataFrame):
            return self.value
        if isinstance(self.value, pd.Series):
            return self.value.to_frame()
        if self.value is None:
            return pd.DataFrame()
        name, kind = getattr(self._fn, "__name__", "this view"), type(self.value).__name__
        raise TypeError(f"the value of {name} is a {kind}, not a DataFrame")

    @property
    def ready(self) -> bool:
        """Whether it has run well once."""
        return self.revision > 0

    def close(self) -> None:
        """Stops following the sources. Safe to call twice."""
        if not self._closed:
            self._closed = True
            for source in self.sources:
                with contextlib.suppress(ValueError):
                    source.unobserve(self._changed, "revision")
        super().close()

    # --- when

    def _changed(self, change: Any) -> None:
        if self._pending or self._closed:
            return
        self._pending = True
        loop = io_loop()
        wait = max(0.0, self._next - loop.time())
        loop.call_soon_threadsafe(loop.call_later, wait, self._due)

    def _due(self) -> None:
        if main_loop() is None:
            _worker.submit(self._run)
        else:
            dispatch(self._run)

    # --- what

    def _run(self) -> None:
        self._pending = False
        self._next = io_loop().time() + self._every
        if self._closed:
            return
        waiting = [source for source in self.sources if not getattr(source, "ready", True)]
        if waiting:
            status = getattr(waiting[0], "status", "")
            said = getattr(waiting[0], "error", "")
            self._say(f"waiting for {waiting[0]!r}" + (f"\n{said}" if said else "") if status else "")
            return
        printed = io.StringIO()
        try:
            with contextlib.redirect_stdout(printed):
                value = self._fn(*[source.df for source in self.sources])
                shown = _outputs(value, printed)
        except Exception as raised:
            last = traceback.extract_tb(raised.__traceback__)[-1]
            line = f"{type(raised).__name__}: {raised} (line {last.lineno} of {last.name})"
            self.set_trait("error", line)
            self._say(line + ("\nBelow is what it showed before." if self.revision else ""))
            logger.debug("a live view's function raised", exc_info=raised)
            return
        self.set_trait("error", "")
        self._say("")
        if isinstance(value, ipywidgets.Widget):
            self.children = [self._said, value]
        else:
            if self.children[-1] is not self._out:
                self.children = [self._said, self._out]
            self._out.outputs = shown
        self.set_trait("value", value)
        self.set_trait("revision", self.revision + 1)

    def _say(self, text: str) -> None:
        self._said.value = f'<div role="status" style="white-space: pre-wrap">{html.escape(text)}</div>' if text else ""
        self._said.layout.display = "" if text else "none"
        # What is shown no longer holds while the function fails.
        self._out.layout.opacity = "0.5" if text else ""


def _outputs(value: Any, printed: io.StringIO) -> tuple[dict[str, Any], ...]:
    """The value as the notebook's own output messages, in every form that it has."""
    shown: list[dict[str, Any]] = []
    if value is not None and not isinstance(value, ipywidgets.Widget):
        data, metadata = _formats(value)
        shown.append({"output_type": "display_data", "data": data, "metadata": metadata})
    _close_figure(value)
    if printed.getvalue():
        shown.insert(0, {"output_type": "stream", "name": "stdout", "text": printed.getvalue()})
    return tuple(shown)


def _formats(value: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    if shell is not None:
        return shell.display_formatter.format(value)
    bundle = {"text/plain": repr(value)}
    to_html = getattr(value, "_repr_html_", None)
    if to_html is not None and (text := to_html()):
        bundle["text/html"] = text
    return bundle, {}


def _close_figure(value: Any) -> None:
    """A figure that pyplot still knows would be shown once more by the next cell, and never be freed."""
    pyplot = sys.modules.get("matplotlib.pyplot")
    if pyplot is None:
        return
    figure = value if hasattr(value, "savefig") else getattr(value, "figure", None)
    if figure is not None and hasattr(figure, "number"):
        pyplot.close(figure)
