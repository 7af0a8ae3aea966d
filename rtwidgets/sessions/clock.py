"""The position of a replay over time: waiting, running at a speed, paused or finished. Time is an argument."""

from __future__ import annotations

import enum


class PlayState(enum.Enum):
    """Whether the position moves."""

    WAITING = "waiting"
    """For the first join."""
    PLAYING = "playing"
    PAUSED = "paused"
    FINISHED = "finished"


class PlayClock:
    """`now` is the time of one monotonic clock, in seconds."""

    def __init__(self, speed: float, *, paused: bool) -> None:
        self.speed = speed
        self.state = PlayState.PAUSED if paused else PlayState.WAITING
        self._position = 0.0
        self._since = 0.0

    @property
    def running(self) -> bool:
        """Whether the position moves."""
        return self.state is PlayState.PLAYING

    def reached(self, now: float) -> float:
        """Seconds into the session."""
        if not self.running or self.speed == float("inf"):
            return self._position
        return self._position + (now - self._since) * self.speed

    def set_speed(self, speed: float, now: float, position: float) -> None:
        """Continues from a position, at another speed."""
        self.move(position, now)
        self.speed = speed

    def set_state(self, state: PlayState, now: float, position: float) -> None:
        """Changes the state at a position."""
        self.move(position, now)
        self.state = state

    def move(self, position: float, now: float) -> None:
        """Sets the position."""
        self._position, self._since = position, now

    def wait_for(self, at: float, now: float) -> float:
        """Seconds until that position is reached; 0 or less once it was."""
        return 0.0 if self.speed == float("inf") else (at - self.reached(now)) / self.speed
