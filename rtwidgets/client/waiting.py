"""Waits in a cell for a condition, while the callbacks of this library go on running."""

from __future__ import annotations

import contextvars
import threading
import time
from collections.abc import Callable
from typing import Any

from ..protocol.errors import RealtimeTimeoutError
from . import dispatch
from .thread import on_io_thread

POLL = 0.02
"""Seconds between two looks at the condition, where nothing happens in between."""


def wait_for(condition: Callable[[], Any], timeout: float = 10.0) -> None:
    """Waits until `condition()` is true: `rt.wait_for(lambda: len(chat.messages) == 3)`.

    Callbacks, observers and views that are due on the main thread run meanwhile, and what they print appears under the
    waiting cell. A callback that is `async def` starts, and goes on when the cell has ended. `timeout` in seconds.

    Raises `RealtimeTimeoutError` after `timeout`, `TypeError` where `condition` is no function, `RuntimeError` in a
    callback on the I/O thread, and what `condition` itself raises.
    """
    if not callable(condition):
        kind = type(condition).__name__
        raise TypeError(f"wait_for() takes a function, such as lambda: table.count > 0, not {kind}")
    if on_io_thread():
        raise RuntimeError("wait_for() cannot wait on the I/O thread, where this callback runs: use on_... or observe")
    end = time.monotonic() + timeout
    runs_callbacks = threading.current_thread() is threading.main_thread()
    while True:
        dispatch.queued.clear()
        if runs_callbacks:
            # In a copy of the cell's context, so that what a callback prints appears under this cell.
            while dispatch.run_next(contextvars.copy_context()):
                if time.monotonic() > end:
                    break  # callbacks that keep calling for others
        if condition():
            return
        left = end - time.monotonic()
        if left <= 0:
            raise RealtimeTimeoutError(
                f"the condition did not become true within {timeout:g} s",
                hint="check .status and .error of what the condition looks at, or give a longer timeout=",
            )
        dispatch.queued.wait(min(POLL, left))
