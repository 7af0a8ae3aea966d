"""Closes the widgets that a cell has replaced by running again.

A cell that runs again makes its widgets anew. What the run before made would stay open, and follow its source, for as
long as the kernel lives. Widgets made outside a cell's run (by `interact`, a button, a marimo app) are matched by the
file or line of code that makes them. A widget stays open while a variable refers to it: directly, in a container, or
through another widget that uses it; and where its `keep()` was called.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from types import FunctionType
from typing import Any, Protocol, cast
from weakref import WeakSet

from ..client.dispatch import dispatch
from ..client.thread import io_loop
from .output_capture import shell
from .threads import post_to_io

LIBRARIES = ("rtwidgets", "traitlets", "ipywidgets", "anywidget", "IPython", "ipykernel", "contextlib", "functools")
"""Packages whose frames are not the person's code."""
SEARCHED_MOST = 50_000
"""Objects searched for references; where there are more, nothing is closed."""
GRACE = 0.5
"""Seconds from the making of a widget to the check: only then is it assigned to its variable."""


class Replaceable(Protocol):
    """A widget, as this module sees it."""

    kept: bool

    @property
    def closed(self) -> bool: ...

    def close(self) -> None: ...


class Origin:
    """A cell, or a line of code, that makes widgets."""

    def __init__(self, namespace: Mapping[str, Any]) -> None:
        self.namespace = namespace
        self.run: object = None
        self.made: WeakSet[Any] = WeakSet()
        """Those of the last run."""
        self.replaced: WeakSet[Any] = WeakSet()
        """Those of earlier runs that are not closed."""


_origins: dict[object, Origin] = {}


def note_made(widget: Replaceable) -> None:
    """Notes where the widget was made, and schedules the end of those that it may replace."""
    found = _where()
    if found is None:
        return
    key, run, namespace = found
    origin = _origins.setdefault(key, Origin(namespace))
    origin.namespace = namespace
    if origin.run != run:
        origin.run = run
        origin.replaced |= origin.made
        origin.made = WeakSet()
        if origin.replaced:
            post_to_io(lambda: io_loop().call_later(GRACE, dispatch, close_replaced, origin))
    origin.made.add(widget)


def close_replaced(origin: Origin) -> None:
    """Closes the widgets of earlier runs that nothing refers to. On the kernel's main thread, between cells."""
    replaced = [widget for widget in origin.replaced if not widget.closed and not widget.kept]
    referred = _reachable(origin.namespace)
    for widget in reversed(replaced):
        if referred is not None and id(widget) not in referred:
            widget.close()
    origin.replaced = WeakSet(widget for widget in replaced if not widget.closed)


def _where() -> tuple[object, object, Mapping[str, Any]] | None:
    """What makes a widget now, in which run, with which variables; None in a script, where nothing runs again."""
    frame = sys._getframe(1)  # pyright: ignore[reportPrivateUsage]
    while frame is not None and str(frame.f_globals.get("__name__", "")).partition(".")[0] in LIBRARIES:
        frame = frame.f_back
    if frame is None:
        return None
    namespace, line = frame.f_globals, (frame.f_code.co_filename, frame.f_lineno)
    marimo = sys.modules.get("marimo._runtime.context")
    if marimo is not None:
        try:
            run = marimo.get_context().execution_context
        except Exception:  # not in an app
            return None
        return (id(namespace), frame.f_code.co_filename), run, namespace
    kernel = getattr(shell(), "kernel", None)
    if kernel is None:
        return None
    parent: dict[str, Any] = kernel.get_parent() or {}
    header, cell = parent.get("header", {}), parent.get("metadata", {}).get("cellId")
    origin = cell if cell is not None and header.get("msg_type") == "execute_request" else line
    return origin, header.get("msg_id"), namespace


def _reachable(namespace: Mapping[str, Any]) -> set[int] | None:
    """Ids of what the variables refer to, in containers, functions and widgets too; None where that is too much."""
    todo: list[Any] = [value for name, value in namespace.items() if not name.startswith("_") and name not in _HISTORY]
    seen: set[int] = set()
    while todo:
        value = todo.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if len(seen) > SEARCHED_MOST:
            return None
        todo.extend(_parts(value))
    return seen


_HISTORY = ("In", "Out")


def _parts(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return list(cast("dict[Any, Any]", value).values())
    if isinstance(value, list | tuple | set | frozenset):
        return list(cast("Iterable[Any]", value))
    if isinstance(value, FunctionType):
        cells = [cell.cell_contents for cell in value.__closure__ or () if _filled(cell)]
        return [*cells, *(value.__defaults__ or ())]
    kind = cast(Any, type(value))
    if kind.__module__ == "__main__" or hasattr(kind, "comm"):
        # A person's object, or a widget: with its source, its table, its children.
        return [*getattr(value, "__dict__", {}).values(), *(getattr(value, "children", None) or ())]
    return ()


def _filled(cell: Any) -> bool:
    try:
        return cell.cell_contents is not None
    except ValueError:
        return False
