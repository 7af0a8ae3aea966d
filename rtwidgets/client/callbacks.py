"""Callbacks in order of registration, each with a function that unregisters it."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Hashable
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
        """Registers a function. Raises `TypeError` for anything else, here and not at the first event."""
        check_callback(fn)
        return self.put(fn)

    def call(self, *args: Any) -> None:
        """Calls each function; what one raises is logged and keeps nothing from the others."""
        for fn in list(self.values()):
            guarded(fn, *args)


class CallbackTable(dict[Hashable, Callbacks]):
    """Callbacks by what they are for; a key without callbacks is not in it."""

    def add(self, key: Hashable, fn: Callable[..., Any]) -> Unregister:
        """Registers a function for this key. Raises `TypeError` for anything else."""
        check_callback(fn)
        found = self.setdefault(key, Callbacks())

        def forget() -> None:
            if not found and self.get(key) is found:
                del self[key]

        return found.put(fn, forget)

    def call(self, key: Hashable, *args: Any) -> None:
        """Calls each function of this key."""
        found = self.get(key)
        if found is not None:
            found.call(*args)


async def stream(register: Callable[[Callable[..., Any]], Unregister], maxlen: int) -> AsyncIterator[Any]:
    """What a callback would get, as an endless iterator; of more than `maxlen` waiting values the oldest give way."""
    waiting: deque[Any] = deque(maxlen=maxlen)
    arrived = asyncio.Event()

    def deliver(value: Any) -> None:
        waiting.append(value)
        arrived.set()

    unregister = register(deliver)
    try:
        while True:
            while waiting:
                yield waiting.popleft()
            arrived.clear()
            await arrived.wait()
    finally:
        unregister()


def check_callback(fn: object) -> None:
    """Raises `TypeError` for what is not a function."""
    if not callable(fn):
        raise TypeError(f"a callback is a function, not {type(fn).__name__}")
