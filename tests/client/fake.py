"""A small realtime server for tests: it joins, echoes, tracks and heartbeats, and does wrong what a test tells it to
do wrong.
"""

from __future__ import annotations

import asyncio
import http
import json
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, urlsplit

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from rtwidgets.protocol.codec import FrameError, decode, encode
from rtwidgets.protocol.messages import Message

COLUMNS = [{"name": "id", "type": "int8"}, {"name": "status", "type": "text"}]


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
        self.joined: dict[tuple[ServerConnection, str], str] = {}
        self.configs: dict[tuple[ServerConnection, str], Any] = {}
        self.vsn: dict[ServerConnection, Any] = {}
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

    def _request(self, connection: ServerConnection, request: Any) -> Any:
        self.on_request(request.path)
        if self.refuse:
            status, text = self.refuse.pop(0)
            return connection.respond(http.HTTPStatus(status), json.dumps({"error": text}))
        self.vsn[connection] = parse_qs(urlsplit(request.path).query)["vsn"][0]
        return None

    async def send(self, socket: ServerConnection, message: Message) -> None:
        try:
            await socket.send(encode(message, self.vsn[socket], side="server"))
        except ConnectionClosed:
            pass

    async def everyone(self, topic: str, event: str, payload: Any) -> None:
        """A frame to everyone on the topic."""
        for socket, joined in list(self.joined):
            if joined == "realtime:" + topic:
                await self.send(socket, Message(joined, event, payload))

    async def close_channel(self, topic: str, text: str | None = None) -> None:
        for (socket, joined), ref in list(self.joined.items()):
            if joined == "realtime:" + topic:
                del self.joined[socket, joined]
                if text:
                    payload = {"extension": "system", "status": "error", "message": text, "channel": topic}
                    await self.send(socket, Message(joined, "system", payload))
                await self.send(socket, Message(joined, "phx_close", {}, ref))

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

    async def _serve(self, socket: ServerConnection) -> None:
        self.sockets.append(socket)
        try:
            async for data in socket:
                try:
                    message = decode(data, self.vsn[socket], sender="client")
                except FrameError:
                    continue
                self.received.append(message)
                await self._answer(socket, message)
        except ConnectionClosed:
            pass
        finally:
            for key in [key for key in self.joined if key[0] is socket]:
                del self.joined[key]

    async def _reply(self, socket: ServerConnection, message: Message, status: str, response: Any) -> None:
        await self.send(
            socket, Message(message.topic, "phx_reply", {"status": status, "response": response}, message.ref)
        )

    async def _reply_later(self, socket: ServerConnection, message: Message) -> None:
        await asyncio.sleep(self.answer_after)
        await self._reply(socket, message, "ok", {})

    async def _answer(self, socket: ServerConnection, message: Message) -> None:
        topic, key = message.topic, (socket, message.topic)
        if message.event == "heartbeat":
            if not self.deaf:
                await self._reply(socket, message, "ok", {})
        elif message.event == "phx_join":
            if self.mute_joins:
                self.mute_joins -= 1
            elif self.join_errors:
                await self._reply(socket, message, "error", {"reason": self.join_errors.pop(0)})
            else:
                await self._join(socket, message)
        elif key not in self.joined:
            await self._reply(socket, message, "error", {"reason": "unmatched topic"})
        elif message.event == "phx_leave":
            await self._reply(socket, message, "ok", {})
            await self.send(socket, Message(topic, "phx_close", {}, self.joined.pop(key)))
        elif message.event == "broadcast":
            for other, joined in list(self.joined):
                if joined == topic and (other is not socket or self._config(socket, topic)["broadcast"]["self"]):
                    await self.send(other, Message(topic, "broadcast", message.payload))
            if self._config(socket, topic)["broadcast"]["ack"]:
                if self.answer_after:
                    later = asyncio.ensure_future(self._reply_later(socket, message))
                    self._later.add(later)
                    later.add_done_callback(self._later.discard)
                else:
                    await self._reply(socket, message, "ok", {})
        elif message.event == "presence":
            if self.mute_presence:
                self.mute_presence -= 1
            else:
                await self._reply(socket, message, "ok", {})

    def _config(self, socket: ServerConnection, topic: str) -> Any:
        return self.configs[socket, topic]

    async def _join(self, socket: ServerConnection, message: Message) -> None:
        topic = message.topic
        await asyncio.sleep(self.join_after)
        before = self.joined.get((socket, topic))
        self.joined[socket, topic] = str(message.ref)
        config = self.configs[socket, topic] = message.payload["config"]
        asked = config["postgres_changes"]
        # As a server may: other spellings, more fields, in the order asked.
        entries = [{"id": 100 + at, **entry, "filter": None} for at, entry in enumerate(asked)]
        await self._reply(socket, message, "ok", {"postgres_changes": entries})
        if before is not None:
            await self.send(socket, Message(topic, "phx_close", {}, before))
        if config["presence"]["enabled"]:
            await self.send(socket, Message(topic, "presence_state", {}))
        if asked:
            status, text = self.system
            payload = {"extension": "postgres_changes", "status": status, "message": text, "channel": topic[9:]}
            await self.send(socket, Message(topic, "system", payload))


async def until(condition: Any, timeout: float = 5.0) -> None:
    """Waits until `condition()` holds."""
    async with asyncio.timeout(timeout):
        while not condition():  # noqa: ASYNC110 - what is waited for is in another thread or process of events
            await asyncio.sleep(0.005)
