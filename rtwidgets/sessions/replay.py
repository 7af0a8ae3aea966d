"""`replay()`: a recorded session, played to the widgets as if it happened now."""

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
"""Kept here, since widgets follow a replay also where nobody keeps what `replay` returned."""


def replay(path: str | Path, speed: float = 1.0, *, paused: bool = False, loop: bool = False) -> Replay:
    """Plays a recorded session, and makes it the default of everything that needs a client.

    It needs no server, no network and no Postgres. Time begins when the first channel or table is joined.

    Args:
        path: what `record()` wrote.
        speed: seconds of the session in one second; 2 is twice as fast, `float("inf")` all of it at once.
        paused: whether time stands until `.play()`.
        loop: whether it begins again at its end.

    A replay of the same file that is still open is closed first, so that running a cell again is safe.

    Raises RealtimeError for what is no session, ValueError for a speed that is not above 0, OSError.
    """
    recording, where = read(path), Path(path).resolve()
    wanted = _checked(speed)
    before = _open.get(where)
    if before is not None:
        before.close()
    made = _open[where] = Replay(recording, path=where, speed=wanted, paused=paused, loop=loop)
    return made


def _checked(speed: float) -> float:
    if not speed > 0:
        raise ValueError(f"speed is a number above 0, not {speed!r}")
    return float(speed)


class Replay:
    """A session that is being played. Made by `replay()`; also a context manager that closes it.

    Tables know of no other time than now: after `seek` they are read again, and show what differs. Messages are heard
    when their moment is played; `seek` neither sends those between nor takes any back.
    """

    client: Client
    """Connected to the session: what widgets and channels use while it is the default."""

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
        holds = [*(".".join(name) for name in self.tables), *self.topics]
        return (
            f"<p><b>{html.escape(self.path.name)}</b>: {self.position:.1f} of {self.duration:.1f} s, "
            f"{self.status}; holds {html.escape(', '.join(holds)) or 'nothing'}</p>"
        )

    # --- what it is

    @property
    def tables(self) -> list[tuple[str, str]]:
        """The tables in it, as (schema, name)."""
        return list(self.recording.tables)

    @property
    def topics(self) -> list[str]:
        """The topics in it."""
        return list(self.recording.topics)

    @property
    def duration(self) -> float:
        """Seconds."""
        return self.recording.duration

    @property
    def position(self) -> float:
        """Seconds from the start of the session to what is played now."""
        return self._there(lambda: self._player.position)

    @property
    def status(self) -> str:
        """`"waiting"` (for somebody to join), `"playing"`, `"paused"`, `"finished"` or `"closed"`."""
        return "closed" if self._closed else self._player.status

    # --- how it goes

    @property
    def speed(self) -> float:
        """Seconds of the session in one second; may be set at any time."""
        return self._player.speed

    @speed.setter
    def speed(self, speed: float) -> None:
        wanted = _checked(speed)
        self._there(lambda: self._player.set_speed(wanted))

    def play(self) -> Replay:
        """Goes on; from the beginning where it has ended."""
        if self._player.finished.is_set():
            self.seek(0.0)
        self._there(self._player.play)
        return self

    def pause(self) -> Replay:
        """Time stands until `play()`."""
        self._there(self._player.pause)
        return self

    def seek(self, seconds: float) -> Replay:
        """Goes to that many seconds from the session's start."""
        run(self._player.seek(seconds), 60)
        return self

    def wait(self, timeout: float = 60.0) -> Replay:
        """Waits until the end has been played. Raises TimeoutError after `timeout` seconds, RealtimeError where it
        would never come: it is paused, starts anew at its end, or nobody has joined."""
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
        """Ends the replay and its client; what was the default client before is it again. Safe to call twice."""
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
    def _there(fn: Callable[[], T]) -> T:
        if on_io_thread():
            return fn()

        async def call() -> T:
            return fn()

        return run(call(), 10)
