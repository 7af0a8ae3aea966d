"""A small realtime server for tests: a `ServerSession` behind a socket, which does wrong what a test wants wrong."""

from __future__ import annotations

import asyncio
import http
import json
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, urlsplit

import msgspec
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from rtwidgets.protocol.codec import FrameError, decode, encode
from rtwidgets.protocol.messages import Message
from rtwidgets.protocol.server_channel import PUBLIC, Identity, Refused, ServerChannel
from rtwidgets.protocol.server_effects import (
    Authorize,
    Effects,
    Enter,
    Leave,
    Publish,
    ReadStored,
    Refuse,
    Send,
    SendPresence,
    Subscribe,
)
from rtwidgets.protocol.server_session import ServerSession, SessionLimits

COLUMNS = [{"name": "id", "type": "int8"}, {"name": "status", "type": "text"}]
LIMITS = SessionLimits(max_channels=10_000, presence_calls=10_000)


class FakeServer:
    """`async with FakeServer() as server: AsyncClient(server.url, "key")`."""

    def __init__(self) -> None:
        self.refuse: list[tuple[int, str]] = []
        """Answers to the next handshakes."""
        self.join_errors: list[str] = []
        """Reasons for the next joins."""
        self.deaf = False
        """Answers no heartbeat."""
        self.mute_joins = 0
        self.join_after = 0.0
        """Seconds until a join is answered."""
        self.mute_presence = 0
        self.answer_after = 0.0
        """Seconds until a broadcast is acknowledged."""
        self.system: tuple[str, str] = ("ok", "Subscribed to PostgreSQL")
        self.on_request: Callable[[str], Any] = lambda path: None
        self.sockets: list[ServerConnection] = []
        self.received: list[Message] = []
        self.joined: dict[tuple[ServerConnection, str], ServerChannel] = {}
        self.vsn: dict[ServerConnection, Any] = {}
        self._sessions: dict[ServerConnection, ServerSession] = {}
        self._server: Server | None = None
        self._later: set[asyncio.Future[None]] = set()

    async def __aenter__(self) -> FakeServer:
        self._server = await serve(self._serve, "127.0.0.1", 0, process_request=self._request, ping_interval=None)
        return self

    async def __aexit__(self, *exc: object) -> None:
        assert self._server is not None
        self._server.close()
        for socket in self.sockets:
            socket.transport.abort()
        await self._server.wait_closed()

    @property
    def url(self) -> str:
        assert self._server is not None
        return f"http://127.0.0.1:{next(iter(self._server.sockets)).getsockname()[1]}"

    def joins(self, topic: str | None = None) -> list[Message]:
        return [
            m for m in self.received if m.event == "phx_join" and topic in (None, m.topic.removeprefix("realtime:"))
        ]

    # --- what a test does

    async def everyone(self, topic: str, event: str, payload: Any) -> None:
        """A frame to everyone on the topic."""
        for socket, joined in list(self.joined):
            if joined == "realtime:" + topic:
                await self.send(socket, Message(joined, event, payload))

    async def close_channel(self, topic: str, text: str | None = None) -> None:
        """Ends a channel, with a reason or without."""
        for (socket, joined), channel in list(self.joined.items()):
            if joined == "realtime:" + topic:
                effects = self._sessions[socket].close(channel, text or "")
                await self._run(socket, effects if text else effects[1:])

    def drop(self) -> None:
        """Every connection breaks."""
        for socket in self.sockets:
            socket.transport.abort()
        self.sockets.clear()

    async def change(
        self, topic: str, *rows: dict[str, Any], ids: list[int] | None = None, type: str = "INSERT"
    ) -> None:
        for row in rows:
            data = {"type": type, "schema": "public", "table": "t", "columns": COLUMNS, "record": row, "errors": None}
            await self.everyone(topic, "postgres_changes", {"ids": ids or [100], "data": data})

    async def send(self, socket: ServerConnection, message: Message) -> None:
        try:
            await socket.send(encode(message, self.vsn[socket], side="server"))
        except ConnectionClosed:
            pass

    # --- what the session asks

    def verify(self, token: str, now: float) -> Identity:
        return Identity("anon", "{}", exp=float("inf"))

    def admit(self, channel: ServerChannel) -> list[dict[str, Any]]:
        if self.join_errors:
            raise Refused(self.join_errors.pop(0))
        # As a server may: other spellings, more fields, in the order asked.
        return [{"id": 100 + at, **entry, "filter": None} for at, entry in enumerate(channel.config.changes)]

    # --- sockets

    def _request(self, connection: ServerConnection, request: Any) -> Any:
        self.on_request(request.path)
        if self.refuse:
            status, text = self.refuse.pop(0)
            return connection.respond(http.HTTPStatus(status), json.dumps({"error": text}))
        self.vsn[connection] = parse_qs(urlsplit(request.path).query)["vsn"][0]
        return None

    async def _serve(self, socket: ServerConnection) -> None:
        self.sockets.append(socket)
        session = self._sessions[socket] = ServerSession(self, "key", LIMITS)
        try:
            async for data in socket:
                try:
                    message = decode(data, self.vsn[socket], sender="client")
                except FrameError:
                    continue
                self.received.append(message)
                if await self._ignores(message):
                    continue
                effects = session.receive(message, time.time(), binary=isinstance(data, bytes))
                if message.event == "broadcast" and self.answer_after:
                    acknowledgements = [effect for effect in effects if isinstance(effect, Send)]
                    effects = [effect for effect in effects if not isinstance(effect, Send)]
                    later = asyncio.ensure_future(self._run_later(socket, list(acknowledgements)))
                    self._later.add(later)
                    later.add_done_callback(self._later.discard)
                await self._run(socket, effects)
        except ConnectionClosed:
            pass
        finally:
            await self._run(socket, session.disconnected())
            del self._sessions[socket]

    async def _ignores(self, message: Message) -> bool:
        """Whether a test wants no answer to this; what it wants late waits here."""
        if message.event == "heartbeat":
            return self.deaf
        if message.event == "phx_join":
            if self.mute_joins:
                self.mute_joins -= 1
                return True
            await asyncio.sleep(self.join_after)
        if message.event == "presence" and self.mute_presence:
            self.mute_presence -= 1
            return True
        return False

    async def _run_later(self, socket: ServerConnection, effects: Effects) -> None:
        await asyncio.sleep(self.answer_after)
        await self._run(socket, effects)

    async def _run(self, socket: ServerConnection, effects: Effects) -> None:
        for effect in effects:
            match effect:
                case Send(message) | Refuse(message):
                    await self.send(socket, message)
                case Enter(channel):
                    self.joined[socket, channel.topic] = channel
                case Leave(channel):
                    self.joined.pop((socket, channel.topic), None)
                case Publish(channel):
                    await self._publish(socket, effect)
                case SendPresence(channel):
                    await self.send(socket, Message(channel.topic, "presence_state", {}))
                case Subscribe(channel):
                    status, text = self.system
                    await self.send(socket, channel.system("postgres_changes", status, text))
                case Authorize(channel, identity):
                    await self._run(socket, self._sessions[socket].authorized(channel, identity, PUBLIC))
                case ReadStored(channel):
                    await self._run(socket, self._sessions[socket].stored(channel, ()))
                case _:
                    pass

    async def _publish(self, socket: ServerConnection, effect: Publish) -> None:
        body = effect.body if effect.raw else msgspec.Raw(effect.body)
        payload = {"type": "broadcast", "event": effect.event, "payload": body}
        if effect.meta:
            payload["meta"] = effect.meta
        for other, topic in list(self.joined):
            if topic == effect.channel.topic and (other is not socket or effect.channel.config.echo):
                await self.send(other, Message(topic, "broadcast", payload))
