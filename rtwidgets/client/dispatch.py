"""Runs user callbacks: on the kernel's main thread between cells, outside a kernel on the calling thread.

In a kernel, callbacks wait in one queue in order. The kernel's loop runs them between cells, and so does
`waiting.wait_for` while a cell waits on the main thread.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import sys
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from .log import logger

callback_errors = 0
"""How many callbacks have raised in this process."""

_Call = tuple[contextvars.Context, Callable[..., Any], tuple[Any, ...]]
_queue: deque[_Call] = deque()
queued = threading.Event()
"""Set when a callback is put into the queue; whoever waits for it clears it."""


def main_loop() -> Any | None:
    """The kernel's asyncio or tornado loop, which runs on the main thread; None outside a kernel."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None and hasattr(ipython, "get_ipython") else None
    kernel = getattr(shell, "kernel", None)
    if kernel is None:
        return None
    loop = getattr(kernel, "io_loop", None)
    return getattr(loop, "asyncio_loop", None) or loop


def dispatch(fn: Callable[..., Any], *args: Any) -> None:
    """Calls `fn(*args)` on the kernel's main thread, between cells; outside a kernel at once, on this thread.

    What it raises is logged and counted, never passed on. A coroutine that it returns is scheduled on that loop.
    """
    loop = main_loop()
    if loop is None:
        guarded(fn, *args)
        return
    schedule = getattr(loop, "call_soon_threadsafe", None) or loop.add_callback
    # A fresh context off the main thread: ipykernel routes output by the context's parent cell, which is not that of
    # whoever calls here.
    on_main = threading.current_thread() is threading.main_thread()
    context = contextvars.copy_context() if on_main else contextvars.Context()
    _queue.append((context, fn, args))
    queued.set()
    try:
        schedule(run_next)
    except RuntimeError:  # the kernel is shutting down
        logger.debug("a callback was dropped: the kernel's loop is closed")


def run_next(context: contextvars.Context | None = None) -> bool:
    """Runs the oldest callback of the queue on this thread; returns whether there was one.

    `context`: what it runs in, in place of the context in which it was dispatched.
    """
    try:
        own, fn, args = _queue.popleft()
    except IndexError:
        return False
    (context or own).run(guarded, fn, *args)
    return True


def guarded(fn: Callable[..., Any], *args: Any) -> None:
    """Calls it here; logs and counts what it raises. A coroutine that it returns runs as a task of the running loop."""
    global callback_errors
    try:
        result = fn(*args)
        if inspect.iscoroutine(result):
            try:
                task = asyncio.get_running_loop().create_task(result)
            except RuntimeError:
                from .thread import submit

                submit(result).add_done_callback(_report)
            else:
                _tasks.add(task)
                task.add_done_callback(_tasks.discard)
                task.add_done_callback(_report)
    except Exception:
        callback_errors += 1
        logger.exception("a callback raised (%s)", getattr(fn, "__qualname__", fn))


_tasks: set[asyncio.Task[Any]] = set()  # the loop itself keeps only weak references


def _report(done: asyncio.Task[Any] | Future[Any]) -> None:
    global callback_errors
    if not done.cancelled() and done.exception() is not None:
        callback_errors += 1
        logger.error("an async callback raised", exc_info=done.exception())
