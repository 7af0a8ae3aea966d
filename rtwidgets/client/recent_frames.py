"""The last frames of a connection, for an inspector that is opened after the fact."""

from __future__ import annotations

import time
from collections import deque

from ..protocol.messages import Message

MOST = 200
"""Frames kept."""
BYTES_MOST = 20_000
"""Size of the largest frame kept: a snapshot of large messages must not stay in memory."""


class RecentFrames:
    """When the last frame was received, how many could not be read, and the last frames in both directions."""

    def __init__(self) -> None:
        self.last_at: float | None = None
        """Unix time of the last frame received."""
        self.bad = 0
        """Frames that could not be read."""
        self._entries: deque[tuple[float, str, Message]] = deque(maxlen=MOST)

    def add(self, direction: str, message: Message, size: int) -> None:
        """Keeps the frame (`"in"` or `"out"`) if it is small."""
        if size <= BYTES_MOST:
            self._entries.append((time.time(), direction, message))

    def entries(self) -> list[tuple[float, str, Message]]:
        """(Unix time, direction, message) of the frames kept, oldest first."""
        return list(self._entries)
