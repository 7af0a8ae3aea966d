"""Plays a session to whoever connects: a server on this machine that speaks Supabase Realtime's protocol, and as much
of PostgREST's as a table needs to be read. So a client, a widget or `supabase-js` is the same one as ever.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import http
import secrets
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, cast

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from ..protocol import filters
from ..protocol.codec import FrameError, decode, dumps, encode
from ..protocol.errors import RealtimeError
from ..protocol.messages import Message, Vsn
from .recording import Entry, Recording
from .session_state import Metas, SessionState, compared, query_of, row_filter

TURN = 200  # entries played before others get their turn
MAX_FRAME = 8 * 1024 * 1024


class _Binding:
    """What one `postgres_changes` entry of a join asks for."""

    def __init__(self, number: int, asked: Mapping[str, Any]) -> None:
        self.number = number
        self.event = str(asked.get("event") or "*").upper()
        self.schema = str(asked.get("schema") or "public")
        self.table = asked.get("table") or "*"
        self.filter = filters.parse(asked.get("filter") or "")

    def covers(self, schema: str, table: str) -> bool:
        return self.schema in ("*", schema) and self.table in ("*", table)

    def wants(self, change: Mapping[str, Any], types: Mapping[str, str]) -> bool:
        if not self.covers(str(change.get("schema", "public")), str(change["table"])):
            return False
        if self.event not in ("*", change.get("type")):
            return False
        row = change.get("record") or change.get("old_record") or {}
        return change.get("type") == "DELETE" or row_filter(self.filter, types)(row)


class _Joined:
    """One channel of one connection."""

    def __init__(self, ref: str, config: Mapping[str, Any]) -> None:
        self.ref = ref
        broadcast, presence = config.get("broadcast") or {}, config.get("presence") or {}
        self.ack, self.echo = bool(broadcast.get("ack")), bool(broadcast.get("self"))
        self.presence = bool(presence.get("enabled"))
        self.key = str(presence.get("key") or secrets.token_hex(8))
        self.bindings = [_Binding(at, asked) for at, asked in enumerate(config.get("postgres_changes") or (), 1)]
        self.meta: dict[str, Any] | None = None


class _Line:
    """One connection."""

    def __init__(self, socket: ServerConnection, vsn: Vsn) -> None:
        self.socket = socket
        self.vsn: Vsn = vsn
        self.joined: dict[str, _Joined] = {}

    async def send(self, message: Message) -> None:
        try:
            await self.socket.send(encode(message, self.vsn, side="server"))
        except (ConnectionClosed, FrameError):
            pass  # it has gone; or 1.0.0, which knows no bytes


class SessionServer:
    """Lives on one event loop, which alone may call it."""

    def __init__(self, recording: Recording, *, speed: float, loop: bool, paused: bool) -> None:
        self.recording = recording
        self.stage = SessionState(recording)
        self.key = secrets.token_urlsafe(24)
        self.loop, self.speed = loop, speed
        self.paused = paused
        self.started = False
        """Whether somebody has joined: time stands until then."""
        self.finished = asyncio.Event()
        self._position = 0.0
        self._since = 0.0
        self._lines: set[_Line] = set()
        self._woken = asyncio.Event()
        self._server: Server | None = None
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Listens on a free port of this machine, and plays when somebody has joined."""
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
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()

    @property
    def url(self) -> str:
        assert self._server is not None
        return f"http://127.0.0.1:{next(iter(self._server.sockets)).getsockname()[1]}"

    # --- the clock

    @property
    def moving(self) -> bool:
        return self.started and not self.paused and not self.finished.is_set()

    @property
    def position(self) -> float:
        """Seconds into the session."""
        if not self.moving or self.speed == float("inf"):
            return self._position
        now = asyncio.get_running_loop().time()
        # Where playing is behind, the position is that of what is played, not of the clock.
        upcoming = self.stage.upcoming
        most = self.recording.duration if upcoming is None else max(upcoming.at, self._position)
        return min(self._position + (now - self._since) * self.speed, most)

    def hold(self, change: Callable[[], Any] = lambda: None) -> None:
        """Changes how time goes, from now on."""
        self._position, self._since = self.position, asyncio.get_running_loop().time()
        change()
        self._since = asyncio.get_running_loop().time()
        self._woken.set()

    async def seek(self, to: float) -> None:
        """Goes to another moment: tables are told to read again, presence by what differs; broadcasts between are
        neither sent nor taken back."""
        to = min(max(to, 0.0), self.recording.duration)
        before = {
            topic: {key: dict(metas) for key, metas in state.items()} for topic, state in self._presence().items()
        }
        if to < self.position:
            self.stage.restart()
        while (upcoming := self.stage.upcoming) is not None and upcoming.at <= to:
            self.stage.step()
        self.finished.clear()
        self._position, self._since = to, asyncio.get_running_loop().time()
        self._woken.set()
        await self._presence_moved(before)
        for line, topic, joined in self._everyone():
            if joined.bindings:
                await self._system(line, topic, "ok", "Subscribed to PostgreSQL")

    async def _play(self) -> None:
        done = 0
        while True:
            self._woken.clear()
            if not self.moving:
                await self._woken.wait()
                continue
            upcoming = self.stage.upcoming
            if upcoming is None:
                if self.loop and self.recording.duration > 0:
                    await self.seek(0.0)
                else:
                    self._position = self.recording.duration
                    self.finished.set()
                continue
            wait = 0.0 if self.speed == float("inf") else (upcoming.at - self._moment()) / self.speed
            if wait > 0:
                try:
                    async with asyncio.timeout(wait):  # wait_for may lose a cancellation, on Python 3.11
                        await self._woken.wait()
                except TimeoutError:
                    pass
                continue
            self.stage.step()
            if self.speed == float("inf"):
                self._position = upcoming.at
            await self._tell(upcoming)
            done += 1
            if done % TURN == 0:
                await asyncio.sleep(0)

    def _moment(self) -> float:
        """As `position`, also beyond what is played next."""
        return self._position + (asyncio.get_running_loop().time() - self._since) * self.speed

    # --- to the clients

    def _everyone(self, topic: str | None = None) -> Iterable[tuple[_Line, str, _Joined]]:
        return [
            (line, name, joined)
            for line in self._lines
            for name, joined in list(line.joined.items())
            if topic in (None, name)
        ]

    async def _tell(self, entry: Entry) -> None:
        data = entry.data
        if entry.kind == "broadcast":
            payload = {"type": "broadcast", "event": data.get("event", ""), "payload": _payload(data)}
            for line, topic, _ in self._everyone(str(data.get("topic"))):
                await line.send(Message("realtime:" + topic, "broadcast", payload))
        elif entry.kind == "presence":
            topic = str(data.get("topic"))
            diff = {
                half: {key: {"metas": metas} for key, metas in (data.get(half) or {}).items()}
                for half in ("joins", "leaves")
            }
            await self._diff(topic, diff)
        elif entry.kind == "change":
            await self._change(data)
        elif entry.kind in ("live", "gap") and "table" in data:
            for line, topic, joined in self._everyone():
                if any(one.covers(str(data.get("schema", "public")), str(data["table"])) for one in joined.bindings):
                    if entry.kind == "live":
                        await self._system(line, topic, "ok", "Subscribed to PostgreSQL")
                    else:
                        reason = f"RecordedGap: what follows was not recorded ({data.get('reason') or 'interrupted'})"
                        await self._system(line, topic, "error", reason)

    async def _change(self, data: Mapping[str, Any]) -> None:
        table = self.stage.tables[str(data.get("schema", "public")), str(data["table"])]
        sent: dict[str, Any] = {
            "schema": data.get("schema", "public"),
            "table": data["table"],
            "type": data.get("type"),
            # Of now: how late a table is, is what it says of the line, and that is not years.
            "commit_timestamp": datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "columns": [{"name": name, "type": kind} for name, kind in table.columns],
            "errors": data.get("errors"),
            # What a snapshot already holds is not applied once more: see `_rows`.
            "lsn": self.stage.index,
            **{name: data[name] for name in ("record", "old_record") if name in data},
        }
        for line, topic, joined in self._everyone():
            ids = [one.number for one in joined.bindings if one.wants(data, table.types)]
            if ids:
                await line.send(Message("realtime:" + topic, "postgres_changes", {"ids": ids, "data": sent}))

    async def _system(self, line: _Line, topic: str, status: str, text: str) -> None:
        payload = {"extension": "postgres_changes", "status": status, "message": text, "channel": topic}
        await line.send(Message("realtime:" + topic, "system", payload))

    async def _diff(self, topic: str, diff: Mapping[str, Any]) -> None:
        for line, _, joined in self._everyone(topic):
            if joined.presence:
                await line.send(Message("realtime:" + topic, "presence_diff", diff))

    # --- who is here: those of the recording, and those who watch it

    def _presence(self) -> dict[str, Metas]:
        found = {
            topic: {key: dict(metas) for key, metas in state.items()} for topic, state in self.stage.presence.items()
        }
        for _, topic, joined in self._everyone():
            if joined.meta is not None:
                found.setdefault(topic, {}).setdefault(joined.key, {})[joined.meta["phx_ref"]] = joined.meta
        return found

    async def _presence_moved(self, before: Mapping[str, Metas]) -> None:
        after = self._presence()
        for topic in {*before, *after}:
            diff = compared(before.get(topic, {}), after.get(topic, {}))
            if diff["joins"] or diff["leaves"]:
                await self._diff(topic, diff)

    async def _track(self, line: _Line, topic: str, joined: _Joined, state: Mapping[str, Any] | None) -> None:
        old = joined.meta
        joined.meta = None if state is None else {**state, "phx_ref": secrets.token_hex(8)}
        before: Metas = {joined.key: {old["phx_ref"]: old}} if old is not None else {}
        after: Metas = {joined.key: {joined.meta["phx_ref"]: joined.meta}} if joined.meta is not None else {}
        diff = compared(before, after)
        if diff["joins"] or diff["leaves"]:
            await self._diff(topic, diff)

    # --- from the clients

    async def _serve(self, socket: ServerConnection) -> None:
        request = socket.request
        assert request is not None
        _, query = query_of(request.path)
        line = _Line(socket, cast("Vsn", dict(query).get("vsn") or "1.0.0"))
        self._lines.add(line)
        try:
            async for data in socket:
                try:
                    message = decode(data, line.vsn, sender="client")
                except FrameError:
                    continue
                await self._answer(line, message)
        except ConnectionClosed:
            pass
        finally:
            self._lines.discard(line)
            for topic, joined in list(line.joined.items()):
                await self._track(line, topic, joined, None)

    async def _answer(self, line: _Line, message: Message) -> None:
        event, topic = message.event, message.topic.removeprefix("realtime:")
        payload = cast("Mapping[str, Any]", message.payload) if isinstance(message.payload, Mapping) else {}
        joined = line.joined.get(topic)
        if event == "heartbeat":
            await self._reply(line, message, "ok", {})
        elif event == "phx_join":
            await self._join(line, message, topic, payload)
        elif joined is None:
            await self._reply(line, message, "error", {"reason": "unmatched topic"})
        elif event == "phx_leave":
            await self._track(line, topic, joined, None)
            del line.joined[topic]
            await self._reply(line, message, "ok", {})
            await line.send(Message(message.topic, "phx_close", {}, joined.ref))
        elif event == "broadcast":
            for other, _, there in self._everyone(topic):
                if other is not line or there.echo:
                    await other.send(Message(message.topic, "broadcast", payload))
            if joined.ack:
                await self._reply(line, message, "ok", {})
        elif event == "presence":
            tracks = str(payload.get("event", "")).lower() == "track"
            await self._reply(line, message, "ok", {})
            await self._track(line, topic, joined, (payload.get("payload") or {}) if tracks else None)

    async def _reply(self, line: _Line, message: Message, status: str, response: Any) -> None:
        answer = {"status": status, "response": response}
        await line.send(Message(message.topic, "phx_reply", answer, message.ref, message.join_ref))

    async def _join(self, line: _Line, message: Message, topic: str, payload: Mapping[str, Any]) -> None:
        config = payload.get("config") or {}
        try:
            joined = _Joined(str(message.ref), config)
        except RealtimeError as error:
            await self._reply(line, message, "error", {"reason": f"InvalidFilter: {error.message}"})
            return
        before = line.joined.get(topic)
        if before is not None:
            await self._track(line, topic, before, None)
        asked = config.get("postgres_changes") or ()
        entries = [{"id": at, **entry} for at, entry in enumerate(asked, 1)]
        await self._reply(line, message, "ok", {"postgres_changes": entries})
        if before is not None:
            await line.send(Message(message.topic, "phx_close", {}, before.ref))
        line.joined[topic] = joined
        if joined.presence:
            state = {key: {"metas": list(metas.values())} for key, metas in self._presence().get(topic, {}).items()}
            await line.send(Message(message.topic, "presence_state", state))
        if joined.bindings:
            lost = [one for one in joined.bindings if not any(one.covers(*name) for name in self.stage.tables)]
            if lost:
                name = f"{lost[0].schema}.{lost[0].table}"
                await self._system(line, topic, "error", f"UndefinedTable: {name} is not in this recording")
            else:
                await self._system(line, topic, "ok", "Subscribed to PostgreSQL")
        if not self.started:
            self.hold(lambda: setattr(self, "started", True))

    # --- reading tables

    def _request(self, connection: ServerConnection, request: Request) -> Response | None:
        path, query = query_of(request.path)
        given = request.headers.get("apikey") or dict(query).get("apikey") or ""
        # Any page in a browser may knock at this port: only who was given the key is let in.
        if not secrets.compare_digest(given.encode(), self.key.encode()):
            return _json(http.HTTPStatus.UNAUTHORIZED, {"error": "API key is missing"})
        if path == "/realtime/v1/websocket":
            return None
        try:
            return self._rows(path, query, request.headers.get("Accept-Profile") or "public")
        except RealtimeError as error:
            return _json(http.HTTPStatus.BAD_REQUEST, {"code": error.code, "message": error.message})

    def _rows(self, path: str, query: list[tuple[str, str]], schema: str) -> Response:
        if path == "/rest/v1/":
            return _json(http.HTTPStatus.OK, {})
        name = path.removeprefix("/rest/v1/")
        describe = name == "rpc/rtwidgets_describe"
        if describe:
            asked = dict(query)
            schema, name = asked.get("schema") or "public", asked.get("table", "")
        table = self.stage.tables.get((schema, name)) if path.startswith("/rest/v1/") else None
        if table is None:
            there = ", ".join(".".join(one) for one in self.stage.tables) or "no table"
            text = f"{schema}.{name} is not in this recording, which holds {there}"
            return _json(http.HTTPStatus.NOT_FOUND, {"code": "PGRST205", "message": text})
        if describe:
            columns = [{"name": column, "type": kind} for column, kind in table.columns]
            return _json(http.HTTPStatus.OK, {"columns": columns, "key": list(table.key), "published": True})
        rows, total = table.select(query)
        moment = self.stage.index + 1  # what was played up to here is in the rows
        return _json(
            http.HTTPStatus.OK,
            rows,
            {"Content-Range": f"*/{total}", "x-rtwidgets-lsn": str(moment), "x-rtwidgets-snapshot": "1:1:"},
        )


def _payload(data: Mapping[str, Any]) -> Any:
    if "base64" not in data:
        return data.get("payload")
    try:
        return base64.b64decode(data["base64"])
    except (binascii.Error, TypeError):
        return b""


def _json(status: http.HTTPStatus, body: Any, more: Mapping[str, str] | None = None) -> Response:
    data = dumps(body)
    headers = Headers({"Content-Type": "application/json", "Content-Length": str(len(data)), **(more or {})})
    headers["Connection"] = "close"
    return Response(status.value, status.phrase, headers, data)
