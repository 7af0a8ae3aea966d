"""`replay()`: plays a recorded session to widgets and channels as if it happened now."""

from __future__ import annotations

import asyncio
import html
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import TypeVar

from ..client.connect import set_default_client
from ..client.notebook import Client, clients
from ..client.thread import on_io_thread, run
from ..protocol.errors import RealtimeError
from .recording import Recording, read
from .server import SessionServer

T = TypeVar("T")

_open: dict[Path, Replay] = {}
"""The open replays, by file. They stay open although no variable refers to them: widgets follow them."""


def replay(path: str | Path, speed: float = 1.0, *, paused: bool = False, loop: bool = False) -> Replay:
    """Plays a recorded session, without server, network or Postgres, and makes its client the default client.

    Playback starts when the first channel or table has joined.

    Args:
        path: a file that `record()` wrote.
        speed: seconds of the session per second; 2 is twice as fast, `float("inf")` plays everything at once.
        paused: whether playback waits for `.play()`.
        loop: whether it starts again at the end.

    An open replay of the same file is closed first, so re-running a cell is safe.

    Raises RealtimeError for a file that is not a session, ValueError for a speed that is not above 0, OSError.
    """
    recording, where = read(path), Path(path).resolve()
    speed = _checked(speed)
    before = _open.get(where)
    if before is not None:
        before.close()
    made = _open[where] = Replay(recording, path=where, speed=speed, paused=paused, loop=loop)
    return made


def _checked(speed: float) -> float:
    if not speed > 0:
        raise ValueError(f"speed is a number above 0, not {speed!r}")
    return float(speed)


class Replay:
    """A session that is being played. Made by `replay()`; also a context manager that closes it.

    After `seek`, tables are read again and show the rows of that moment. Broadcasts are sent when their moment is
    played: `seek` skips those in between, and removes none that were received.
    """

    client: Client
    """The client of the session, and the default client while the replay is open."""

    def __init__(self, recording: Recording, *, path: Path, speed: float, paused: bool, loop: bool) -> None:
        self.path = path
        self.recording = recording
        self._player: SessionServer = run(self._start_player(recording, speed, paused, loop), 30)
        self._closed = False
        self._before = clients.default
        self.client = Client(self._player.url, self._player.key)
        set_default_client(self.client)

    @staticmethod
    async def _start_player(recording: Recording, speed: float, paused: bool, loop: bool) -> SessionServer:
        player = SessionServer(recording, speed=speed, loop=loop, paused=paused)
        await player.start()
        return player

    def __repr__(self) -> str:
        state = "closed" if self._closed else self.status
        return f"<Replay {self.path.name}: {self.position:.1f} of {self.duration:.1f} s, {self.speed:g} times, {state}>"

    def _repr_html_(self) -> str:
        contents = ", ".join([*(".".join(name) for name in self.tables), *self.topics])
        return (
            f"<p><b>{html.escape(self.path.name)}</b>: {self.position:.1f} of {self.duration:.1f} s, "
            f"{self.status}; {html.escape(contents) or 'empty'}</p>"
        )

    # --- the recording

    @property
    def tables(self) -> list[tuple[str, str]]:
        """The recorded tables, as (schema, name)."""
        return list(self.recording.tables)

    @property
    def topics(self) -> list[str]:
        """The recorded topics."""
        return list(self.recording.topics)

    @property
    def duration(self) -> float:
        """Length of the session in seconds."""
        return self.recording.duration

    @property
    def position(self) -> float:
        """Seconds from the start of the session to the current moment."""
        return self._call(lambda: self._player.position)

    @property
    def status(self) -> str:
        """`"waiting"` (for the first join), `"playing"`, `"paused"`, `"finished"` or `"closed"`."""
        return "closed" if self._closed else self._player.status

    # --- playback

    @property
    def speed(self) -> float:
        """Seconds of the session per second; can be set at any time."""
        return self._player.speed

    @speed.setter
    def speed(self, speed: float) -> None:
        speed = _checked(speed)
        self._call(lambda: self._player.set_speed(speed))

    def play(self) -> Replay:
        """Starts or continues; from the beginning if it has finished."""
        if self._player.finished.is_set():
            self.seek(0.0)
        self._call(self._player.play)
        return self

    def pause(self) -> Replay:
        """Stops until `play()`."""
        self._call(self._player.pause)
        return self

    def seek(self, seconds: float) -> Replay:
        """Moves to that many seconds from the start of the session."""
        run(self._player.seek(seconds), 60)
        return self

    def wait(self, timeout: float = 60.0) -> Replay:
        """Waits until the end has been played.

        Raises TimeoutError after `timeout` seconds, RealtimeError if the end will not come: the replay is paused, plays
        in a loop, or nothing has joined.
        """
        if self.status in ("paused", "waiting") or self._player.loop:
            raise RealtimeError(
                f"the replay will not end: it is {'played in a loop' if self._player.loop else self.status}",
                code="NotPlaying",
                hint="call .play() first" if not self._player.loop else "leave loop=True out",
            )

        async def end() -> None:
            async with asyncio.timeout(timeout):
                await self._player.finished.wait()

        run(end(), timeout + 5)
        return self

    def close(self) -> None:
        """Ends the replay, closes its client, and restores the previous default client. Safe to call twice."""
        if self._closed:
            return
        self._closed = True
        if _open.get(self.path) is self:
            del _open[self.path]
        was_default = clients.default is self.client
        self.client.close()
        run(self._player.stop(), 10)
        if was_default:
            set_default_client(self._before if self._before is not None and not self._before.aio.closed else None)

    def __enter__(self) -> Replay:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @staticmethod
    def _call(fn: Callable[[], T]) -> T:
        if on_io_thread():
            return fn()

        async def call() -> T:
            return fn()

        return run(call(), 10)
