"""The last changes that a table received, for people to look at and to recognise those that come once more."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import repeat

import pandas as pd

from ..protocol.messages import Change
from .row_changes import Repeats, key_of


class ChangeLog:
    """As many changes as `size`, oldest first."""

    def __init__(self, size: int) -> None:
        self._last: deque[tuple[datetime, Change]] = deque(maxlen=size)

    def add(self, changes: Sequence[Change]) -> None:
        """The changes came now."""
        self._last.extend(zip(repeat(datetime.now(UTC)), changes, strict=False))

    def at(self, lsn: int | None, key: tuple[str, ...]) -> Repeats:
        """How often each kind of change of a row came in the transaction that was committed at this position."""
        return Repeats((c.type, key_of(c, key)) for _, c in self._last if lsn is not None and c.lsn == lsn)

    def frame(self, key: tuple[str, ...]) -> pd.DataFrame:
        """The changes as rows: received_at, commit_timestamp, type, key, record, old_record."""
        names = ["received_at", "commit_timestamp", "type", "key", "record", "old_record"]
        rows = [(at, c.commit_timestamp, c.type, key_of(c, key), c.record, c.old_record) for at, c in list(self._last)]
        frame = pd.DataFrame(rows, columns=names)
        for name in names[:2]:
            frame[name] = pd.to_datetime(frame[name], utc=True, format="ISO8601").astype("datetime64[us, UTC]")
        return frame
