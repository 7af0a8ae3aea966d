"""Where a widget's code runs: on the I/O thread, or on a worker; with one guard for the interpreter's exit."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from ..client.log import logger
from ..client.thread import io_loop, on_io_thread, run

T = TypeVar("T")

WORKERS = 4
"""Threads for what may take long: drawing, conditions, searching. A slow one must not delay heartbeats."""


class Workers:
    """A pool of threads, which a forked child has anew: threads do not survive a fork, and an executor starts no more
    than its number."""

    def __init__(self, most: int, name: str) -> None:
        self._most, self._name = most, name
        self.reset()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self.reset)

    def reset(self) -> None:
        """Forgets the threads and what they had to do."""
        self._executor = ThreadPoolExecutor(self._most, self._name)

    def submit(self, fn: Callable[..., T], *args: object) -> Future[T]:
        """Starts `fn(*args)` on one of the threads. Raises RuntimeError while the interpreter exits."""
        return self._executor.submit(fn, *args)


_workers = Workers(WORKERS, "rtwidgets-worker")


def call_on_io(fn: Callable[..., T], *args: object) -> T:
    """Calls `fn(*args)` on the I/O thread and returns its result. Raises what it raises, or TimeoutError after 30 s."""
    if on_io_thread():
        return fn(*args)

    async def call() -> T:
        return fn(*args)

    return run(call(), 30)


def post_to_io(fn: Callable[..., object], *args: object) -> None:
    """Calls `fn(*args)` on the I/O thread soon, or at once if this is it. Does not wait."""
    if on_io_thread():
        fn(*args)
        return
    try:
        io_loop().call_soon_threadsafe(fn, *args)
    except RuntimeError:
        logger.debug("the I/O thread has stopped: %r is dropped", fn)


def submit_work(fn: Callable[..., T], *args: object, workers: Workers = _workers) -> Future[T] | None:
    """Starts `fn(*args)` on a worker. Returns None while the interpreter exits: nothing starts any more then."""
    try:
        return workers.submit(fn, *args)
    except RuntimeError:
        logger.debug("the interpreter is exiting: %r is dropped", fn)
        return None


async def work(fn: Callable[..., T], *args: object) -> T:
    """Runs `fn(*args)` on a worker and returns its result. While the interpreter exits, the calling task is cancelled
    instead."""
    started = submit_work(fn, *args)
    if started is None:
        raise asyncio.CancelledError
    return await asyncio.wrap_future(started)
