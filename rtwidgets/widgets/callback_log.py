"""`CallbackLog`: what the callbacks of one widget printed or raised, kept where it can be found."""

from __future__ import annotations

import functools
import inspect
import sys
import threading
import traceback
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, NamedTuple

import pandas as pd

from ..client.dispatch import main_loop
from .output_capture import OutputCapture
from .tick import tick

LINES = 1_000
"""Entries kept; the oldest go first."""
TEXT_MOST = 10_000
"""Characters of one entry that are kept."""


class Entry(NamedTuple):
    """What one call printed or raised."""

    at: datetime
    callback: str
    text: str


class CallbackLog:
    """The last outputs of a widget's callbacks, oldest first. `print(orders.callback_log)` shows them.

    In a notebook a callback runs between cells, where a print would appear under whichever cell ran last, or nowhere.
    """

    def __init__(self) -> None:
        self._entries: deque[Entry] = deque(maxlen=LINES)
        self._lock = threading.Lock()
        self.total = 0
        """How many calls ever printed or raised."""

    def __len__(self) -> int:
        return len(self._entries)

    def __repr__(self) -> str:
        with self._lock:
            entries = list(self._entries)
        return "\n".join(f"{one.at.astimezone():%H:%M:%S} {one.callback}: {one.text.rstrip()}" for one in entries)

    @property
    def df(self) -> pd.DataFrame:
        """One row a call that printed or raised: `at` (UTC), `callback`, `text`."""
        with self._lock:
            frame = pd.DataFrame(list(self._entries), columns=list(Entry._fields))
        return frame.astype({"at": "datetime64[us, UTC]"})

    @property
    def note(self) -> str:
        """One line on the last entry, for a status line; empty without any."""
        with self._lock:
            if not self._entries:
                return ""
            last = self._entries[-1]
        lines = last.text.rstrip().splitlines() or [""]
        return f"{last.callback} printed: {lines[-1][:120]} (.callback_log has all)"

    def clear(self) -> None:
        """Forgets the entries."""
        with self._lock:
            self._entries.clear()

    def add(self, callback: str, text: str) -> None:
        """Appends an entry; an empty text is none."""
        if text:
            with self._lock:
                self._entries.append(Entry(datetime.now(UTC), callback, text[:TEXT_MOST]))
                self.total += 1

    def wrap(self, fn: Callable[..., Any], changed: Callable[[], object]) -> Callable[..., Any]:
        """The callback with its output kept here; `changed()` is called after a call with output. Coroutine functions
        are returned as they are: others run between their steps."""
        if inspect.iscoroutinefunction(fn):
            return fn
        name = getattr(fn, "__qualname__", type(fn).__name__)

        @functools.wraps(fn)
        def logged(*args: Any) -> Any:
            captured, raised = OutputCapture(shows=False), ""
            try:
                with captured:
                    return fn(*args)
            except Exception:
                raised = traceback.format_exc()  # which is logged too, by whoever calls this
                raise
            finally:
                if captured.text or raised:
                    self.add(name, captured.text + raised)
                    _pass_on(captured.text)
                    changed()

        return logged


def _pass_on(text: str) -> None:
    """Prints the text where it can be read too: outside a kernel, and under a cell that is running."""
    if text and (main_loop() is None or tick.kernel_busy):
        sys.stdout.write(text)
