"""The realtime server of a replay, on this machine: it plays a session to any Supabase client that connects."""

from __future__ import annotations

import asyncio
import base64
import binascii
import http
import secrets
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, cast

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.http11 import Request, Response

from ..protocol.messages import Message
from ..protocol.server_channel import PREFIX
from .audience import Audience
from .clock import PlayClock, PlayState
from .recording import Entry, Recording
from .session_state import Metas, SessionState, compared, query_of
from .table_reads import json_response, read_rows

TURN = 200
"""Entries played before other tasks run."""
MAX_FRAME = 8 * 1024 * 1024
_SOCKET = "/realtime/v1/websocket"


class SessionServer:
    """Belongs to one event loop; call it from there only."""

    def __init__(self, recording: Recording, *, speed: float, loop: bool, paused: bool) -> None:
        self.recording = recording
        self.key = secrets.token_urlsafe(24)
        self.loop = loop
        self.finished = asyncio.Event()
        self._state = SessionState(recording)
        self._clock = PlayClock(speed, paused=paused)
        self._audience = Audience(self._state, self._joined)
        self._woken = asyncio.Event()
        self._server: Server | None = None
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Listens on a free port of the loopback interface; playback starts with the first join."""
        self._server = await serve(
            self._serve,
            "127.0.0.1",
            0,
            process_request=self._request,
            ping_interval=None,
            compression=None,
            max_size=MAX_FRAME,
        )
        self._task = asyncio.create_task(self._play())

    async def stop(self) -> None:
        """Stops playing and closes every connection."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()

    @property
    def url(self) -> str:
        """The URL to connect to."""
        assert self._server is not None
        return f"http://127.0.0.1:{next(iter(self._server.sockets)).getsockname()[1]}"

    # --- playback

    @property
    def status(self) -> str:
        """`"waiting"` (for the first join), `"playing"`, `"paused"` or `"finished"`."""
        return self._clock.state.value

    @property
    def position(self) -> float:
        """Seconds into the session."""
        # If playback is late, the position is that of the next entry, not of the clock.
        reached, upcoming = self._clock.reached(_now()), self._state.upcoming
        return min(reached, self.recording.duration if upcoming is None else max(upcoming.at, 0.0))

    @property
    def speed(self) -> float:
        """Seconds of the session per second."""
        return self._clock.speed

    def set_speed(self, speed: float) -> None:
        """Continues at another speed."""
        self._clock.set_speed(speed, _now(), self.position)
        self._woken.set()

    def pause(self) -> None:
        """Stops playback, at the end too: a seek from there does not start it."""
        self._set_state(PlayState.PAUSED)

    def play(self) -> None:
        """Starts or continues."""
        if self._clock.state is not PlayState.FINISHED:
            self._set_state(PlayState.PLAYING)

    def _joined(self) -> None:
        if self._clock.state is PlayState.WAITING:
            self._set_state(PlayState.PLAYING)

    def _set_state(self, state: PlayState) -> None:
        self._clock.set_state(state, _now(), self.position)
        if state is PlayState.FINISHED:
            self.finished.set()
        else:
            self.finished.clear()
        self._woken.set()

    async def seek(self, to: float) -> None:
        """Moves to another moment: clients are told to read their tables again and get the difference in presence;
        broadcasts in between are skipped."""
        to = min(max(to, 0.0), self.recording.duration)
        before = {topic: {key: dict(metas) for key, metas in one.items()} for topic, one in self._presence().items()}
        if to < self.position:
            self._state.restart()
        while (upcoming := self._state.upcoming) is not None and upcoming.at <= to:
            self._state.step()
        if self._clock.state is PlayState.FINISHED:
            self._set_state(PlayState.PLAYING)
        self._clock.move(to, _now())
        self._woken.set()
        after = self._presence()
        for topic in {*before, *after}:
            diff = compared(before.get(topic, {}), after.get(topic, {}))
            if diff["joins"] or diff["leaves"]:
                await self._audience.send_diff(topic, diff)
        await self._audience.announce()

    def _presence(self) -> Mapping[str, Metas]:
        return self._state.presence

    async def _play(self) -> None:
        done = 0
        while True:
            self._woken.clear()
            if not self._clock.running:
                await self._woken.wait()
                continue
            upcoming = self._state.upcoming
            if upcoming is None:
                if self.loop and self.recording.duration > 0:
                    await self.seek(0.0)
                else:
                    self._clock.move(self.recording.duration, _now())
                    self._set_state(PlayState.FINISHED)
                continue
            wait = self._clock.wait_for(upcoming.at, _now())
            if wait > 0:
                try:
                    async with asyncio.timeout(wait):  # wait_for may lose a cancellation, on Python 3.11
                        await self._woken.wait()
                except TimeoutError:
                    pass
                continue
            self._state.step()
            if self._clock.speed == float("inf"):
                self._clock.move(upcoming.at, _now())
            await self._send(upcoming)
            done += 1
            if done % TURN == 0:
                await asyncio.sleep(0)

    # --- sending

    async def _send(self, entry: Entry) -> None:
        data = entry.data
        if entry.kind == "broadcast":
            payload = {"type": "broadcast", "event": data.get("event", ""), "payload": _payload(data)}
            for channel, listener in self._audience.listeners(str(data.get("topic"))):
                await listener.send(Message(channel.topic, "broadcast", payload))
        elif entry.kind == "presence":
            halves = {half: cast("dict[str, Any]", data.get(half) or {}) for half in ("joins", "leaves")}
            diff = {half: {key: {"metas": metas} for key, metas in keys.items()} for half, keys in halves.items()}
            await self._audience.send_diff(str(data.get("topic")), diff)
        elif entry.kind == "change":
            await self._send_change(data)
        elif entry.kind in ("live", "gap") and "table" in data:
            for channel in self._audience.followers(str(data.get("schema", "public")), str(data["table"])):
                if entry.kind == "live":
                    await self._audience.announce(channel)
                else:
                    reason = f"RecordedGap: what follows was not recorded ({data.get('reason') or 'interrupted'})"
                    await self._audience.system(channel, "error", reason)

    async def _send_change(self, data: Mapping[str, Any]) -> None:
        table = self._state.tables[str(data.get("schema", "public")), str(data["table"])]
        sent: dict[str, Any] = {
            "schema": data.get("schema", "public"),
            "table": data["table"],
            "type": data.get("type"),
            # Now, since clients compute their lag from it.
            "commit_timestamp": datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "columns": [{"name": name, "type": kind} for name, kind in table.columns],
            "errors": data.get("errors"),
            # The position of the entry: clients skip what their snapshot contains, see `table_reads`.
            "lsn": self._state.index,
            **{name: data[name] for name in ("record", "old_record") if name in data},
        }
        for channel, listener in self._audience.listeners():
            ids = self._audience.numbers(channel, data, table.types)
            if ids:
                payload = {"ids": ids, "data": sent}
                await listener.send(Message(PREFIX + channel.name, "postgres_changes", payload))

    # --- connections

    async def _serve(self, socket: ServerConnection) -> None:
        assert socket.request is not None
        _, query = query_of(socket.request.path)
        await self._audience.converse(socket, "2.0.0" if dict(query).get("vsn") == "2.0.0" else "1.0.0")

    def _request(self, connection: ServerConnection, request: Request) -> Response | None:
        path, query = query_of(request.path)
        given = request.headers.get("apikey") or dict(query).get("apikey") or ""
        # Any web page can try this port: only a client with the key is accepted.
        if not secrets.compare_digest(given.encode(), self.key.encode()):
            return json_response(http.HTTPStatus.UNAUTHORIZED, {"error": "API key is missing"})
        if path == _SOCKET:
            return None
        profile = request.headers.get("Accept-Profile") or "public"
        return read_rows(
            self._state, path, query, profile.encode("latin-1", "surrogateescape").decode(errors="replace")
        )


def _now() -> float:
    return asyncio.get_running_loop().time()


def _payload(data: Mapping[str, Any]) -> Any:
    if "base64" not in data:
        return data.get("payload")
    try:
        return base64.b64decode(data["base64"])
    except (binascii.Error, TypeError):
        return b""
