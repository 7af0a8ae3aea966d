"""Callbacks in order of registration, each with a function that takes it out again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .dispatch import guarded

Unregister = Callable[[], None]


class Callbacks(dict[object, Any]):
    """A set of what was registered; the same function twice is two entries."""

    def put(self, value: Any, after: Callable[[], None] | None = None) -> Unregister:
        """Registers; what it returns unregisters, and calls `after` the first time."""
        token = object()
        self[token] = value

        def unregister() -> None:
            if self.pop(token, None) is not None and after is not None:
                after()

        return unregister

    def add(self, fn: Callable[..., Any]) -> Unregister:
        """Registers a function. Raises `TypeError` for what is none: said here, and not at the first event."""
        if not callable(fn):  # pyright: ignore[reportUnnecessaryComparison]
            raise TypeError(f"a callback is a function, not {type(fn).__name__}")
        return self.put(fn)

    def call(self, *args: Any) -> None:
        """Calls each function; what one raises is logged and keeps nothing from the others."""
        for fn in list(self.values()):
            guarded(fn, *args)
