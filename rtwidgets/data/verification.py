"""When a live table is compared with the database, and which part of it: a schedule, bursts, slices by key."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from ..protocol.filters import Condition, Filter
from .delta import Key
from .store import Store

_SHARE = 50.0
"""Reading a table that must be compared as a whole takes at most one fiftieth of the time."""
_BURST = 100
"""Changes a second past which Supabase may leave some out, and says nothing (its limit for a project)."""
_QUIET, _QUIET_AT_MOST = 2.0, 30.0
"""Seconds without changes that end a burst, and the longest that the end of one is waited for."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """When comparisons are due; each method returns the schedule that follows. Times are seconds of one clock.

    `every`: seconds between two comparisons, None for never. `at`: the next one. `burst_at`: the one after a burst.
    `pause`: least seconds between two comparisons of the whole table, where it is large.
    """

    every: float | None = None
    at: float | None = None
    burst_at: float | None = None
    pause: float = 0.0
    _burst_from: float | None = None
    _second: float = 0.0
    _in_second: int = 0

    @property
    def next_at(self) -> float | None:
        """When the next comparison is due, of either sort."""
        at, burst_at = self.at, self.burst_at
        return at if burst_at is None or (at is not None and at < burst_at) else burst_at

    def started(self, now: float) -> Schedule:
        """The schedule once the table is followed."""
        return self if self.every is None else replace(self, at=now + self.every)

    def noted(self, count: int, now: float) -> Schedule:
        """So many changes came, from a server that does not number them and so may leave some out."""
        if self.every is None:
            return self
        second, total = (now, count) if now - self._second > 1 else (self._second, self._in_second + count)
        if total <= _BURST:
            return replace(self, _second=second, _in_second=total)
        start = now if self._burst_from is None else self._burst_from
        wait = max(min(_QUIET, start + _QUIET_AT_MOST - now), 0.0, self.pause)
        return replace(self, burst_at=now + wait, _burst_from=start, _second=second, _in_second=total)

    def compared(self, now: float) -> Schedule:
        """A comparison begins now."""
        if self.every is None:
            return self
        return replace(self, at=now + self.every, burst_at=None, _burst_from=None)

    def read(self, now: float, took: float, large: bool) -> Schedule:
        """The whole table was read, in so many seconds."""
        if self.every is None:
            return self
        pause = _SHARE * took if large else 0.0
        return replace(self, at=now + max(self.every, pause), pause=pause)


class Slice(NamedTuple):
    """Keys next to each other. `filter` names the rows of the database that belong here, `keys` are those that the
    table has.
    """

    filter: Filter
    keys: list[Key]


class Slices:
    """Walks through a table by key, `size` rows at a time, again and again.

    For keys that Postgres sorts as we do: whole numbers and uuids.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self._after: Any = None

    def fits(self, store: Store) -> bool:
        """Whether the table is larger than a slice and its key is of that sort."""
        if len(store.key) != 1 or len(store) <= self.size or store.limit is not None:
            return False
        name = store.key[0]
        return store.kinds[name].whole or any(c.name == name and c.type == "uuid" for c in store.columns)

    def next(self, store: Store) -> Slice:
        """The next keys in order, from the first again after the last."""
        name = store.key[0]
        _, block = store.values(store.slots(), [name])
        kind, values, _ = block[name]
        found: list[Any]
        if kind.whole:
            ahead = values if self._after is None else values[values > self._after]
            if len(ahead) > self.size:
                ahead = np.partition(ahead, self.size - 1)[: self.size]
            found = np.sort(ahead).tolist()
        else:
            found = sorted(value for value in block[name].to_keys() if self._after is None or value > self._after)
            found = found[: self.size]
        tests = [] if self._after is None else [Condition(name, "gt", str(self._after))]
        if len(found) < self.size:
            self._after = None  # no end: rows past the last one that we have belong here too
        else:
            self._after = found[-1]
            tests.append(Condition(name, "lte", str(self._after)))
        return Slice(Filter(tuple(tests)), found)
