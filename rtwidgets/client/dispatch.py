"""Runs a person's own callbacks: on the kernel's main thread between cells where there is a kernel, else right where
they are called.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import sys
import threading
from collections.abc import Callable
from typing import Any

from .log import logger

callback_errors = 0
"""How many callbacks have raised in this process."""


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
    try:
        # A fresh context: ipykernel routes output by the context's parent cell, which is not that of whoever calls
        # here.
        if hasattr(loop, "call_soon_threadsafe") and threading.current_thread() is not threading.main_thread():
            schedule(guarded, fn, *args, context=contextvars.Context())
        else:
            schedule(guarded, fn, *args)
    except RuntimeError:  # the kernel is shutting down
        logger.debug("a callback was dropped: the kernel's loop is closed")


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


_tasks: set[asyncio.Task[Any]] = set()  # the loop itself holds only weak references


def _report(done: Any) -> None:
    global callback_errors
    if not done.cancelled() and done.exception() is not None:
        callback_errors += 1
        logger.error("an async callback raised", exc_info=done.exception())
