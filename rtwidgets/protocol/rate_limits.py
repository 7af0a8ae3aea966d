"""Rate limits: so many events a second, or in a window."""

from __future__ import annotations


class Rate:
    """A token bucket: `per_second` events a second, and as many at once after a pause. 0 allows everything."""

    def __init__(self, per_second: int) -> None:
        self.per_second = per_second
        self._left = float(per_second)
        self._at: float | None = None

    def allow(self, now: float, count: int = 1) -> bool:
        """Whether `count` more events are allowed at `now` (seconds); if not, none of them counts."""
        if not self.per_second:
            return True
        # A clock that was set back must not lock everybody out for as long.
        passed = max(0.0, now - self._at) if self._at is not None else 0.0
        self._left = min(float(self.per_second), self._left + passed * self.per_second)
        self._at = now
        if count > self._left:
            return False
        self._left -= count
        return True


class Window:
    """At most `most` events in any `seconds`."""

    def __init__(self, most: int, seconds: float) -> None:
        self._most = most
        self._seconds = seconds
        self._events: list[float] = []

    def allow(self, now: float) -> bool:
        """Counts an event at `now` (seconds); whether it is within the limit."""
        self._events = [at for at in self._events if 0 <= now - at < self._seconds]
        self._events.append(now)
        return len(self._events) <= self._most
