"""The I/O thread: one daemon thread a process with one asyncio loop for every connection.

So a busy cell never starves a heartbeat. The functions here go to the runner in use: see `runner.Runner`.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import os
import threading
from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec, TypeVar

from ..protocol import errors
from .runner import Runner

T = TypeVar("T")
P = ParamSpec("P")


class ThreadRunner:
    """A loop on a thread of its own, which starts with the first call, in a forked child too."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forgets the thread: threads do not survive a fork, and a lock may be held by one that is gone."""
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The loop, running."""
        with self._lock:
            if self._loop is None or self._loop.is_closed() or self._thread is None or not self._thread.is_alive():
                self._loop, self._thread = self._start()
            return self._loop

    def is_here(self) -> bool:
        """Whether the caller runs on the thread."""
        return self._thread is not None and threading.get_ident() == self._thread.ident

    def run(self, coro: Coroutine[Any, Any, T], timeout: float | None = None) -> T:
        """As `Runner.run`."""
        if self.is_here():
            coro.close()
            raise RuntimeError(
                "this call waits for the I/O thread, so it cannot be made on it: use the asyncio client (.aio) there"
            )
        future = asyncio.run_coroutine_threadsafe(coro, self.loop)
        try:
            return future.result(timeout)
        except concurrent.futures.TimeoutError:
            if not future.done():
                future.cancel()
                raise errors.make("Timeout", f"no answer within {timeout} s") from None
            raise
        except BaseException:  # KeyboardInterrupt in a cell: the work must not go on behind the user's back
            future.cancel()
            raise

    @staticmethod
    def _start() -> tuple[asyncio.AbstractEventLoop, threading.Thread]:
        started = threading.Event()
        loop = asyncio.new_event_loop()

        def work() -> None:
            asyncio.set_event_loop(loop)
            loop.call_soon(started.set)
            loop.run_forever()

        thread = threading.Thread(target=work, name="rtwidgets-io", daemon=True)
        thread.start()
        started.wait(10)
        return loop, thread


_thread_runner = ThreadRunner()
_runner: Runner = _thread_runner


def use(runner: Runner) -> Runner:
    """Has the connections that are made from now on run there; returns the runner before."""
    global _runner
    before, _runner = _runner, runner
    return before


def io_loop() -> asyncio.AbstractEventLoop:
    """The running loop of the connections."""
    return _runner.loop


def on_io_thread() -> bool:
    """Whether the caller runs on that loop (where waiting for it would never end)."""
    return _runner.is_here()


def submit(coro: Coroutine[Any, Any, T]) -> concurrent.futures.Future[T]:
    """Starts the coroutine on the loop and does not wait for it."""
    return asyncio.run_coroutine_threadsafe(coro, _runner.loop)


def run(coro: Coroutine[Any, Any, T], timeout: float | None = None) -> T:
    """Runs the coroutine on the loop and waits for what it returns. Raises as `Runner.run` does."""
    return _runner.run(coro, timeout)


def call(fn: Callable[P, T], *args: P.args, **options: P.kwargs) -> T:
    """Calls a quick function on the loop and waits for what it returns."""

    async def work() -> T:
        return fn(*args, **options)

    return fn(*args, **options) if on_io_thread() else run(work(), 30)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_thread_runner.reset)
