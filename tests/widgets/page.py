"""A page that shows a widget, as far as the kernel can tell: what it hears, and what it says."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from typing import Any

from rtwidgets.widgets.base import RtWidget

_names = itertools.count()


class Shown:
    """What a page shows of a grid: the window, with all patches applied."""

    def __init__(self) -> None:
        self.state: dict[str, Any] = {}
        self.schema: list[list[str]] = []
        self.keys: list[Any] = []
        self.columns: list[list[Any]] = []

    def apply(self, frame: dict[str, Any]) -> None:
        self.state.update(frame.get("state", {}))
        self.schema = frame.get("schema", self.schema)
        if "keys" in frame:
            self.keys, self.columns = frame["keys"], [list(column) for column in frame["columns"]]
        names = [name for name, _ in self.schema]
        for name, cells in frame.get("patch", []):
            for i, value, *_ in cells:
                self.columns[names.index(name)][i] = value

    @property
    def rows(self) -> list[dict[str, Any]]:
        names = [name for name, _ in self.schema]
        return [dict(zip(names, values, strict=True)) for values in zip(*self.columns, strict=True)]


class Page:
    """A view of the widget.

    `frames` holds what was sent to it; `show` what it would show: the window with all patches applied.
    """

    def __init__(self, widget: RtWidget, *, acks: bool = True, **wants: Any) -> None:
        self.widget = widget
        self.acks = acks
        self.name = f"page-{next(_names)}"
        self.frames: list[dict[str, Any]] = []
        self.shown = Shown()
        self._post = widget._post
        widget._post = self._receive  # type: ignore[method-assign]
        self.say("hello", wants=wants)

    def say(self, kind: str, **fields: Any) -> None:
        self.widget._receive(self.widget, {"view": self.name, "kind": kind, **fields}, [])

    def _receive(self, frame: dict[str, Any]) -> None:
        self._post(frame)
        if frame["view"] != self.name:
            return
        self.frames.append(frame)
        self.shown.apply(frame)
        if self.acks:
            self.say("ack", seq=frame["seq"])

    @property
    def state(self) -> dict[str, Any]:
        return self.shown.state

    @property
    def schema(self) -> list[list[str]]:
        return self.shown.schema

    @property
    def keys(self) -> list[Any]:
        return self.shown.keys

    @property
    def rows(self) -> list[dict[str, Any]]:
        return self.shown.rows


def wait_until(condition: Callable[[], Any], timeout: float = 10.0) -> None:
    """Waits until the condition holds; fails with it after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.01)
