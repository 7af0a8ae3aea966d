"""Where a replay of broadcasts goes on after an interruption."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

MARGIN_MS = 5000
"""How far a replay reaches back over what was seen: clocks differ, and what comes twice is told by its id."""
REMEMBERED = 1000


class Replay:
    """Follows the messages of one channel that came from the database, which alone can be replayed.

    `asked`: the channel's `replay` option. The server knows nothing of what a client has seen, so each join must ask
    anew: from the last message on, and without what was seen already. Times are in ms since 1970, by the server's
    clock.
    """

    def __init__(self, asked: Mapping[str, int]) -> None:
        self._asked = dict(asked)
        self._last: int | None = None
        self._seen: dict[str, None] = {}

    def params(self) -> dict[str, int]:
        """What the next join asks for."""
        if self._last is None:
            return dict(self._asked)
        return {**self._asked, "since": max(self._asked.get("since", 0), self._last - MARGIN_MS)}

    def new(self, meta: Mapping[str, Any], now: int) -> bool:
        """Takes note of a broadcast that came `now`; False where it is a replay of one that was seen."""
        known = meta.get("id")
        if not isinstance(known, str):
            return True
        if meta.get("replayed") and known in self._seen:
            return False
        self._last = now
        self._seen[known] = None
        if len(self._seen) > REMEMBERED:
            del self._seen[next(iter(self._seen))]
        return True
