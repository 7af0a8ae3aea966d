"""Where a widget's code runs: on the I/O thread, or on a worker; with one guard for the interpreter's exit."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from ..client.log import logger
from ..client.thread import io_loop, on_io_thread, run

T = TypeVar("T")

WORKERS = 4
"""Threads for what may take long: drawing, conditions, searching. A slow one must not delay heartbeats."""

_pool = ThreadPoolExecutor(WORKERS, "rtwidgets-worker")


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


def submit_work(fn: Callable[..., T], *args: object, pool: ThreadPoolExecutor = _pool) -> Future[T] | None:
    """Starts `fn(*args)` on a worker. Returns None while the interpreter exits: nothing starts any more then."""
    try:
        return pool.submit(fn, *args)
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
