"""Captures what code prints and displays, in order, as the notebook's own output messages."""

from __future__ import annotations

import html
import sys
import threading
import warnings
from collections.abc import Mapping
from types import TracebackType
from typing import Any, TextIO

WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"

Output = dict[str, Any]
"""An output as nbformat has it: `stream` or `display_data`."""


def shell() -> Any | None:
    """The running IPython shell, or None."""
    ipython = sys.modules.get("IPython")
    return ipython.get_ipython() if ipython is not None and hasattr(ipython, "get_ipython") else None


class OutputCapture:
    """A context in which this thread's prints, warnings, displays and new figures become `outputs`.

    `shows`: whether what is displayed is captured too, and not only what is printed.
    """

    def __init__(self, *, shows: bool = True) -> None:
        self.outputs: list[Output] = []
        self._shows = shows
        self._clear_next = False
        self._thread = threading.get_ident()
        self._warnings = warnings.catch_warnings()
        self._streams: tuple[TextIO, TextIO] = sys.stdout, sys.stderr
        self._publisher: Any = None
        self._figures: set[int] = set()

    def __enter__(self) -> OutputCapture:
        self._warnings.__enter__()  # also makes Python forget which warnings it has shown, as a new cell does
        self._streams = sys.stdout, sys.stderr
        sys.stdout, sys.stderr = _Stream(self, "stdout", sys.stdout), _Stream(self, "stderr", sys.stderr)
        if self._shows:
            self._figures = _open_figures()
            running = shell()
            self._publisher = running.display_pub if running is not None else None
            if self._publisher is not None:
                _Publisher(self, self._publisher)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._publisher is not None:
            del self._publisher.publish, self._publisher.clear_output
        sys.stdout, sys.stderr = self._streams
        self._warnings.__exit__(kind, error, trace)

    @property
    def here(self) -> bool:
        """Whether the caller runs on the captured thread."""
        return threading.get_ident() == self._thread

    def show(self, value: object) -> None:
        """Adds the value in every form that it has, as the last line of a cell shows it."""
        data, metadata = formats(value)
        self.add({"output_type": "display_data", "data": data, "metadata": metadata})

    def show_figures(self, besides: object = None) -> None:
        """Adds the matplotlib figures that were opened in this context and not shown, but for one; closes them all."""
        pyplot = sys.modules.get("matplotlib.pyplot")
        if pyplot is None:
            return
        for number in sorted(_open_figures() - self._figures):
            figure = pyplot.figure(number)
            if figure is not besides:
                self.show(figure)
            pyplot.close(figure)  # else the next cell would show it once more, and it would never be freed

    def add(self, output: Output) -> None:
        """Appends an output; printed text joins the text before it."""
        if self._clear_next:
            self._clear_next = False
            self.outputs.clear()
        last = self.outputs[-1] if self.outputs else None
        if last is not None and output["output_type"] == "stream" and last.get("name") == output["name"]:
            last["text"] += output["text"]
        else:
            self.outputs.append(output)

    def replace(self, display_id: object, output: Output) -> None:
        """Replaces the outputs of that display id."""
        for i, known in enumerate(self.outputs):
            if display_id is not None and known.get("display_id") == display_id:
                self.outputs[i] = output

    def clear(self, wait: bool) -> None:
        """`clear_output`: at once, or with the next output."""
        self._clear_next = wait
        if not wait:
            self.outputs.clear()

    def result(self) -> tuple[Output, ...]:
        """The outputs, without what only this class uses."""
        return tuple({name: part for name, part in one.items() if name != "display_id"} for one in self.outputs)

    @property
    def text(self) -> str:
        """What was printed."""
        return "".join(output["text"] for output in self.outputs if output["output_type"] == "stream")


class _Stream:
    """Writes to the capture on its thread, and to the stream before it on others."""

    def __init__(self, capture: OutputCapture, name: str, before: TextIO) -> None:
        self._capture, self._name, self._before = capture, name, before

    def write(self, text: str) -> int:
        if not self._capture.here:
            return self._before.write(text)
        if text:
            self._capture.add({"output_type": "stream", "name": self._name, "text": text})
        return len(text)

    def writelines(self, lines: list[str]) -> None:
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        self._before.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._before, name)


class _Publisher:
    """Stands before IPython's display publisher while a capture lasts."""

    def __init__(self, capture: OutputCapture, publisher: Any) -> None:
        self._capture = capture
        self._publish, self._clear_output = publisher.publish, publisher.clear_output
        publisher.publish, publisher.clear_output = self.publish, self.clear_output

    def publish(
        self,
        data: Mapping[str, Any],
        metadata: Mapping[str, Any] | None = None,
        *args: Any,
        transient: Mapping[str, Any] | None = None,
        update: bool = False,
        **options: Any,
    ) -> None:
        if not self._capture.here:
            self._publish(data, metadata, *args, transient=transient, update=update, **options)
            return
        output: Output = {"output_type": "display_data", "data": dict(data), "metadata": dict(metadata or {})}
        display_id = (transient or {}).get("display_id")
        if display_id is not None:
            output["display_id"] = display_id
        if update:
            self._capture.replace(display_id, output)
        else:
            self._capture.add(output)

    def clear_output(self, wait: bool = False) -> None:
        if self._capture.here:
            self._capture.clear(wait)
        else:
            self._clear_output(wait)


def formats(value: object) -> tuple[dict[str, Any], dict[str, Any]]:
    """The value's representations by mimetype, and their metadata."""
    running = shell()
    if running is not None:
        return running.display_formatter.format(value)
    bundle: dict[str, Any] = {"text/plain": repr(value)}
    to_html = getattr(value, "_repr_html_", None)
    if to_html is not None and (text := to_html()):
        bundle["text/html"] = text
    return bundle, {}


def figure_of(value: object) -> object:
    """The matplotlib figure that the value is or belongs to, or None."""
    if "matplotlib.pyplot" not in sys.modules:
        return None
    figure = value if hasattr(value, "savefig") else getattr(value, "figure", None)
    return figure if hasattr(figure, "number") else None


def close_figure(value: object) -> None:
    """Closes the value's figure: the next cell would show it once more, and it would never be freed."""
    figure = figure_of(value)
    if figure is not None:
        sys.modules["matplotlib.pyplot"].close(figure)


def _open_figures() -> set[int]:
    pyplot = sys.modules.get("matplotlib.pyplot")
    return set() if pyplot is None else set(pyplot.get_fignums())


def html_of(output: Output) -> str:
    """One output as HTML, for a reader without a kernel."""
    if output["output_type"] == "stream":
        return f"<pre>{html.escape(output['text'])}</pre>"
    data: dict[str, Any] = output["data"]
    if "text/html" in data:
        return str(data["text/html"])
    if "image/png" in data:
        return f'<img src="data:image/png;base64,{data["image/png"]}">'
    return f"<pre>{html.escape(str(data.get('text/plain', '')))}</pre>"
