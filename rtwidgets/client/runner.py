"""The seam to the host: whose event loop runs the connections, and whether a caller can wait for it.

`thread.ThreadRunner` is the one for CPython. A host without threads (Pyodide) runs everything on its own loop:
`LoopRunner`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, Protocol, TypeVar

T = TypeVar("T")


class Runner(Protocol):
    """Runs coroutines on one event loop."""

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The loop, running."""
        ...

    def is_here(self) -> bool:
        """Whether the caller is on the loop, so that waiting for it would never end."""
        ...

    def run(self, coro: Coroutine[Any, Any, T], timeout: float | None = None) -> T:
        """Runs the coroutine on the loop and waits for what it returns.

        Raises `RealtimeTimeoutError` after `timeout` seconds (the coroutine is cancelled), `RuntimeError` on the loop
        itself, and what the coroutine raises.
        """
        ...


class LoopRunner:
    """The caller's own loop: calls that would wait go on by themselves."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop

    def is_here(self) -> bool:
        """Always: there is no other thread."""
        return True

    def run(self, coro: Coroutine[Any, Any, T], timeout: float | None = None) -> T:
        """Raises `RuntimeError`."""
        coro.close()
        raise RuntimeError(
            "this call waits for the event loop that it runs on: use the asyncio client (.aio) and await"
        )
