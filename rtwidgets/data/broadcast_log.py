"""A bounded log of broadcasts, and the frame of their fields."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Mapping
from datetime import UTC, datetime
from itertools import islice
from typing import Any, TypeVar, cast

import pandas as pd

T = TypeVar("T")


class BroadcastLog:
    """The last `maxlen` broadcasts, oldest first. Safe to use from any thread."""

    def __init__(self, maxlen: int = 10_000) -> None:
        self._entries: deque[tuple[datetime, str, Any]] = deque(maxlen=maxlen)
        self._frame: pd.DataFrame | None = None
        self._lock = threading.Lock()
        self.total = 0
        """How many were ever received, including those no longer kept."""

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def maxlen(self) -> int:
        return self._entries.maxlen or 0

    def append(self, event: str, payload: Any, received_at: datetime | None = None) -> None:
        with self._lock:
            self._entries.append((received_at or datetime.now(UTC), event, payload))
            self.total += 1
            self._frame = None

    def clear(self) -> None:
        with self._lock:
            self._entries.clear()
            self._frame = None

    @property
    def messages(self) -> list[Any]:
        """The payloads, oldest first."""
        with self._lock:
            return [payload for _, _, payload in self._entries]

    @property
    def last(self) -> Any:
        """The newest payload; None before the first."""
        with self._lock:
            return self._entries[-1][2] if self._entries else None

    def entries(self, start: int = 0, stop: int | None = None) -> list[tuple[datetime, str, Any]]:
        """(received_at, event, payload) of those received from number `start` to before `stop`, as far as they are
        kept."""
        with self._lock:
            first = self.total - len(self._entries)
            return part(self._entries, start - first, len(self._entries) if stop is None else stop - first)

    def df(self) -> pd.DataFrame:
        """received_at (UTC), event, then a column for each field of the payloads; what is not a dict stands in
        `payload`.
        """
        with self._lock:
            if self._frame is None:
                self._frame = _frame(list(self._entries))
            return self._frame.copy()


def part(entries: deque[T], start: int, stop: int) -> list[T]:
    """`list(entries)[start:stop]`, read from the nearer end."""
    start, stop = max(start, 0), min(stop, len(entries))
    if start >= stop:
        return []
    if start < len(entries) - stop:
        return list(islice(entries, start, stop))
    return list(islice(reversed(entries), len(entries) - stop, len(entries) - start))[::-1]


def _frame(entries: list[tuple[datetime, str, Any]]) -> pd.DataFrame:
    at = pd.to_datetime(pd.Series([entry[0] for entry in entries], dtype=object), utc=True)
    columns: dict[str, Any] = {
        "received_at": at.astype("datetime64[us, UTC]"),
        "event": pd.Series([entry[1] for entry in entries], dtype="str" if pd.__version__ >= "3" else object),
    }
    rows = [_fields(entry[2]) for entry in entries]
    for name in dict.fromkeys(name for row in rows for name in row):
        shown = f"payload.{name}" if name in columns else name  # a field may be called event, too
        columns[shown] = pd.Series([row.get(name) for row in rows], dtype=object).infer_objects()
    return pd.DataFrame(columns)


def _fields(payload: Any) -> dict[str, Any]:
    if isinstance(payload, Mapping):
        return {str(name): value for name, value in cast("Mapping[Any, Any]", payload).items()}
    return {"payload": payload}
