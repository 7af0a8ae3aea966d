"""One daemon thread a process with one asyncio loop for every connection, so that a busy cell never starves a
heartbeat.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import os
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

from ..protocol import errors

T = TypeVar("T")

_lock = threading.Lock()
_loop: asyncio.AbstractEventLoop | None = None
_thread: threading.Thread | None = None
_pid = 0


def io_loop() -> asyncio.AbstractEventLoop:
    """The running loop of the I/O thread, which starts with the first call (in a forked child: a new one, since
    threads do not survive a fork).
    """
    global _loop, _thread, _pid
    with _lock:
        if _loop is None or _loop.is_closed() or _pid != os.getpid() or _thread is None or not _thread.is_alive():
            started = threading.Event()
            loop = asyncio.new_event_loop()

            def work() -> None:
                asyncio.set_event_loop(loop)
                loop.call_soon(started.set)
                loop.run_forever()

            _thread = threading.Thread(target=work, name="rtwidgets-io", daemon=True)
            _loop, _pid = loop, os.getpid()
            _thread.start()
            started.wait(10)
        return _loop


def on_io_thread() -> bool:
    """Whether the caller runs on the I/O thread (where waiting for it would never end)."""
    return _thread is not None and _pid == os.getpid() and threading.get_ident() == _thread.ident


def submit(coro: Coroutine[Any, Any, T]) -> concurrent.futures.Future[T]:
    """Starts the coroutine on the I/O thread and does not wait for it."""
    return asyncio.run_coroutine_threadsafe(coro, io_loop())


def run(coro: Coroutine[Any, Any, T], timeout: float | None = None) -> T:
    """Runs the coroutine on the I/O thread and waits for what it returns.

    `timeout` in seconds. Raises `RealtimeTimeoutError` after it (the coroutine is cancelled), `RuntimeError` on
    the I/O thread itself, and what the coroutine raises.
    """
    if on_io_thread():
        coro.close()
        raise RuntimeError(
            "this call waits for the I/O thread, so it cannot be made on it: use the asyncio face (.aio) there"
        )
    future = submit(coro)
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


def _after_fork() -> None:
    global _lock, _loop, _thread
    _lock = threading.Lock()
    _loop = _thread = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
