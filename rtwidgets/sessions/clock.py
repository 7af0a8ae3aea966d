"""The time of a session that is played: paused, running at a speed, or at its end. It knows no clock of its own."""

from __future__ import annotations

import enum


class PlayState(enum.Enum):
    """How time goes."""

    WAITING = "waiting"
    """Until somebody joins."""
    PLAYING = "playing"
    PAUSED = "paused"
    FINISHED = "finished"


class PlayClock:
    """`now` is always the time of one and the same clock, in seconds."""

    def __init__(self, speed: float, *, paused: bool) -> None:
        self.speed = speed
        self.state = PlayState.PAUSED if paused else PlayState.WAITING
        self._position = 0.0
        self._since = 0.0

    @property
    def running(self) -> bool:
        """Whether time goes on."""
        return self.state is PlayState.PLAYING

    def reached(self, now: float) -> float:
        """Seconds into the session."""
        if not self.running or self.speed == float("inf"):
            return self._position
        return self._position + (now - self._since) * self.speed

    def set_speed(self, speed: float, now: float, position: float) -> None:
        """Goes on from a position, at another speed."""
        self.move(position, now)
        self.speed = speed

    def set_state(self, state: PlayState, now: float, position: float) -> None:
        """Stops or goes on, at a position."""
        self.move(position, now)
        self.state = state

    def move(self, position: float, now: float) -> None:
        """Is at that position now."""
        self._position, self._since = position, now

    def wait_for(self, at: float, now: float) -> float:
        """Seconds until that position is reached; 0 or less where it is."""
        return 0.0 if self.speed == float("inf") else (at - self.reached(now)) / self.speed
