"""The client against Supabase Realtime as recorded: a server plays the recording's side without its pauses."""

from __future__ import annotations

import asyncio
import base64
import json
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from rtwidgets.client.aio import AsyncChannel, AsyncClient, ChangesBinding
from rtwidgets.protocol.codec import FrameError, decode
from rtwidgets.protocol.errors import RealtimeError
from rtwidgets.protocol.messages import Change, Message

FOLDER = Path(__file__).parent / "transcripts"
# These are HTTP: see test_client_http.
LEFT_OUT = {"01_auth", "11_rest_broadcast"}
RECORDINGS = [path for path in sorted(FOLDER.glob("*.jsonl")) if path.stem not in LEFT_OUT]


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def connections() -> list[Any]:
    found = []
    for path in RECORDINGS:
        names = dict.fromkeys(line["conn"] for line in lines(path) if line["dir"] == "open" and "vsn" in line["frame"])
        found += [pytest.param(path, name, id=f"{path.stem}-{name}") for name in names]
    return found


class Sink:
    def __init__(self) -> None:
        self.changes: list[Change] = []
        self.ready = 0
        self.errors: list[RealtimeError] = []

    def on_changes(self, changes: list[Change]) -> None:
        self.changes += changes

    def on_ready(self) -> None:
        self.ready += 1

    def on_gap(self, reason: str) -> None: ...

    def on_error(self, error: RealtimeError) -> None:
        self.errors.append(error)


class Replay:
    """One connection of a recording: our client does what the recorded one did, and is told what that one was told."""

    def __init__(self, steps: list[dict[str, Any]], vsn: Any) -> None:
        self.steps, self.vsn = steps, vsn
        self.socket: ServerConnection | None = None
        self.received: list[Message] = []
        self.come = asyncio.Event()
        self.refs: dict[str, str] = {}
        self.channels: dict[str, AsyncChannel] = {}
        self.sinks: dict[str, list[Sink]] = {}
        self.skipped: set[str] = set()
        self.expected: dict[str, int] = {"broadcast": 0, "postgres_changes": 0, "ready": 0}
        self.broadcasts: list[Any] = []
        self.presence: list[Any] = []

    async def serve(self, socket: ServerConnection) -> None:
        self.socket = socket
        try:
            async for data in socket:
                self.received.append(decode(data, self.vsn, sender="client"))
                self.come.set()
        except ConnectionClosed:
            pass

    async def take(self, event: str, topic: str) -> Message:
        """What the client sent: the next such frame."""
        async with asyncio.timeout(3):
            while True:
                for at, message in enumerate(self.received):
                    if (message.event, message.topic) == (event, topic):
                        return self.received.pop(at)
                self.come.clear()
                await self.come.wait()

    async def run(self, client: AsyncClient) -> None:
        for step in self.steps:
            frame = step["frame"]
            data = base64.b64decode(frame["base64"]) if isinstance(frame, dict) and "base64" in frame else frame
            if step["dir"] not in ("send", "recv"):
                continue
            try:
                message = decode(data, self.vsn, sender="client" if step["dir"] == "send" else "server")
            except FrameError:
                continue  # shortened in the recording, or broken on purpose
            if message.topic in self.skipped:
                continue
            if step["dir"] == "send":
                await self.send(client, message)
            else:
                await self.recv(message, data)

    async def send(self, client: AsyncClient, message: Message) -> None:
        topic, event = message.topic, message.event
        if event == "phx_join":
            config = message.payload.get("config") or {}
            if topic in ("realtime:", "realtime:nocfg", "realtime:badcfg") or not topic.startswith("realtime:"):
                self.skipped.add(topic)  # what this client never sends
                return
            self.join(client, topic, config)
        elif event == "heartbeat":
            pass  # it sends its own
        elif event == "phx_leave":
            client.spawn(self.channels[topic].unsubscribe())
        elif topic in self.channels and self.channels[topic].status == "joined":
            await self.channels[topic].push(event, message.payload)
        else:
            await client.push(Message(topic, event, message.payload, client.next_ref()))
        try:
            sent = await self.take(event, topic)
        except TimeoutError:
            pytest.fail(f"the client did not send {event} to {topic}")
        for recorded, actual in ((message.ref, sent.ref), (message.join_ref, sent.join_ref)):
            if recorded and actual:
                self.refs[recorded] = actual

    def join(self, client: AsyncClient, topic: str, config: dict[str, Any]) -> None:
        channel = self.channels.get(topic)
        if channel is None:
            broadcast, presence = config.get("broadcast", {}), config.get("presence", {})
            channel = self.channels[topic] = client.channel(
                topic,
                ack=bool(broadcast.get("ack")),
                broadcast_self=bool(broadcast.get("self")),
                private=bool(config.get("private")),
                presence_key=presence.get("key") or None,
            )
            channel.on_broadcast("*", lambda event, payload, meta: self.broadcasts.append((event, payload)))
            if presence.get("enabled"):
                channel.on_presence(self.presence.append)
            for entry in config.get("postgres_changes", []):
                sink = Sink()
                self.sinks.setdefault(topic, []).append(sink)
                fields = {k: v for k, v in entry.items() if k in ("event", "schema", "table", "filter")}
                channel.add_changes(ChangesBinding(**fields), sink)
        if channel.status == "joined":
            channel._rejoin_soon()
        else:
            channel.start()

    async def recv(self, message: Message, data: str | bytes) -> None:
        assert self.socket is not None
        if message.event in ("broadcast", "postgres_changes"):
            self.expected[message.event] += 1
        if message.event == "system" and message.payload["message"] == "Subscribed to PostgreSQL":
            self.expected["ready"] += 1
        if isinstance(data, str):
            fields = json.loads(data)
            if isinstance(fields, list):
                fields[0], fields[1] = (self.refs.get(ref, ref) for ref in fields[:2])
            else:
                fields["ref"] = self.refs.get(fields["ref"], fields["ref"])
            data = json.dumps(fields)
        await self.socket.send(data)
        await asyncio.sleep(0.003)


@pytest.mark.parametrize(("path", "name"), connections())
async def test_the_client_understands(path: Path, name: str) -> None:
    steps = [line for line in lines(path) if line["conn"] == name]
    vsn = next(line["frame"]["vsn"] for line in steps if line["dir"] == "open" and "vsn" in line["frame"])
    replay = Replay(steps, vsn)
    async with serve(replay.serve, "127.0.0.1", 0) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        client = AsyncClient(f"http://127.0.0.1:{port}", "key", vsn=vsn)
        async with client:
            await replay.run(client)
            await asyncio.sleep(0.02)
            assert client.bad_frames == 0
            assert len(replay.broadcasts) == replay.expected["broadcast"]
            sinks = [sink for sinks in replay.sinks.values() for sink in sinks]
            if len(sinks) == 1:
                assert len(sinks[0].changes) == replay.expected["postgres_changes"]
                assert sinks[0].ready == replay.expected["ready"]
            elif sinks:
                got = {id(change) for sink in sinks for change in sink.changes}
                assert len(got) == replay.expected["postgres_changes"]
            if path.stem.startswith("04_presence") and name == "B":
                assert [list(change.updates) for change in replay.presence].count(["ana"]) >= 1
            if path.stem == "07_not_published":
                assert "add table public.unpub_t;" in sinks[0].errors[0].hint
            if path.stem.startswith("09c"):
                assert replay.channels["realtime:ex"].error is not None
                assert replay.channels["realtime:ex"].error.code == "TokenExpired"
