"""When to try again: exponential with full jitter, so that a thousand notebooks do not come back in the same second."""

from __future__ import annotations

import random


class Backoff:
    """Delays in seconds, without end: each is drawn from [0, min(cap, base * 2**tries)], and none is below `floor`.

    Source of the method: full jitter, as in "Exponential Backoff And Jitter" (AWS Architecture Blog, 2015).
    """

    def __init__(
        self, base: float = 0.5, cap: float = 20.0, *, floor: float = 0.05, rng: random.Random | None = None
    ) -> None:
        self.base, self.cap, self.floor = base, cap, floor
        self.tries = 0
        self._rng = rng or random.Random()

    def next(self, at_least: float = 0.0) -> float:
        """The next delay. With `at_least` (after a rate limit) the jitter comes on top of it: half as much again at
        most.
        """
        ceiling = min(self.cap, self.base * 2 ** min(self.tries, 30))
        self.tries += 1
        if at_least > 0:
            return at_least * (1 + self._rng.random() / 2)
        return max(self.floor, self._rng.uniform(0, ceiling))

    def reset(self) -> None:
        """Call it once a connection or a join has held."""
        self.tries = 0
