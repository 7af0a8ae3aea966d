"""The client against Supabase Realtime as recorded: a server plays the recording's side without its pauses.

What the client told (states, values, errors) is compared with what `oracle.py` reads in the same frames, with none of
our code; the errors and their order stand in a table here.
"""

from __future__ import annotations

import asyncio
import base64
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pandas as pd
import pytest
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from rtwidgets.client.channel import AsyncChannel
from rtwidgets.client.client import AsyncClient
from rtwidgets.data.store import Store
from rtwidgets.protocol.codec import FrameError, decode
from rtwidgets.protocol.errors import RealtimeError
from rtwidgets.protocol.events import Broadcast
from rtwidgets.protocol.messages import Change, Message
from rtwidgets.protocol.receiver import Receiver
from rtwidgets.protocol.subscription import ChangesBinding

from ..waits import PATIENCE
from .oracle import Oracle, exact

FOLDER = Path(__file__).parent / "transcripts"
# Handshakes alone, see test_client_http; the posts of 11 are there too.
LEFT_OUT = {"01_auth"}
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


def told(change: Change) -> dict[str, Any]:
    """A change as its JSON says it."""
    fields = {name: getattr(change, name) for name in change.__struct_fields__}
    fields["columns"] = [{"name": column.name, "type": column.type} for column in change.columns]
    assert fields.pop("lsn") is fields.pop("xid") is None
    del fields["ids"]
    return exact(fields)


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
        self.oracle = Oracle()
        self.broadcasts: dict[str, list[Any]] = {}
        self.presence: list[Any] = []
        self.told: list[tuple[str, str, str]] = []
        """Topic, status and code of the error, whenever a channel says that it is down."""

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
        async with asyncio.timeout(PATIENCE):
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
            self.oracle.read(step["dir"], frame)
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
            await self.channels[topic]._outgoing.push(event, message.payload)
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
            heard = self.broadcasts.setdefault(topic, [])
            channel.on_event(Broadcast, lambda one: heard.append((one.event, one.payload, one.meta)))
            name = topic.removeprefix("realtime:")
            channel.on_status(lambda status, error: error and self.told.append((name, status, error.code)))
            if presence.get("enabled"):
                channel.on_presence(self.presence.append)
            for entry in config.get("postgres_changes", []):
                sink = Sink()
                self.sinks.setdefault(topic, []).append(sink)
                fields = {k: v for k, v in entry.items() if k in ("event", "schema", "table", "filter")}
                if "select" in entry:
                    fields["select"] = tuple(entry["select"])
                channel.add_changes(ChangesBinding(**fields), sink)
        if channel.status == "joined":
            channel._performer.run(channel._machine.rebind())
        else:
            channel.start()

    def check(self) -> None:
        """Everything that was sent was told, once, in order, and as it was sent."""
        for topic, channel in self.channels.items():
            said = self.oracle.topics[topic]
            assert [tuple(map(exact, one)) for one in self.broadcasts[topic]] == said.broadcasts
            if said.presence is not None:
                assert exact(channel.presence) == said.presence
            for at, sink in enumerate(self.sinks.get(topic, [])):
                assert [told(change) for change in sink.changes] == said.changes.get(at, [])
                assert sink.ready == said.ready
                refused = [error.message for error in sink.errors]
                assert refused[: len(said.refused)] == said.refused

    def with_our_refs(self, text: str) -> str:
        """The frame with the refs that our client gave, and all else to the byte."""
        fields = msgspec.json.decode(text, type=list[msgspec.Raw] | dict[str, msgspec.Raw])
        for at in (0, 1) if isinstance(fields, list) else ("ref",):
            recorded = msgspec.json.decode(fields[at])  # type: ignore[index]
            fields[at] = msgspec.Raw(msgspec.json.encode(self.refs.get(recorded, recorded)))  # type: ignore[index]
        return msgspec.json.encode(fields).decode()

    async def recv(self, message: Message, data: str | bytes) -> None:
        assert self.socket is not None
        if isinstance(data, str):
            data = self.with_our_refs(data)
        await self.socket.send(data)
        await asyncio.sleep(0.003)


# Topic, status and code, as the recorded server's texts say it; a channel that is joined again has its old error until
# it is. A token that is refused is not renewable here, and a rate limit is waited for longer than a recording takes.
ERRORS: dict[str, list[tuple[str, str, str]]] = {
    "04c_presence_v2-A": [("l3", "errored", "ClientPresenceRateLimitReached")],
    "07_bad_val-A": [("f2", "joined", "InvalidSubscription")],
    "07_garbage-A": [("f3", "joined", "InvalidFilter")],
    "07_in_many-A": [("f10", "joined", "InvalidSubscription")],
    "07_not_published-A": [("f5", "joined", "TableNotPublished")],
    "07_unknown_col-A": [("f0", "joined", "InvalidSubscription")],
    "07_unknown_schema-A": [("f6", "joined", "TableNotPublished")],
    "07_unknown_table-A": [("f4", "joined", "TableNotPublished")],
    "09_access_token-A": [
        ("at", "errored", "MalformedJWT"),
        ("at", "joining", "MalformedJWT"),
        ("at", "errored", "TokenExpired"),
    ],
    "09b_join_bad_tokens-A": [
        ("jb0", "errored", "TokenExpired"),
        ("jb1", "errored", "MalformedJWT"),
        ("jb2", "errored", "JwtSignatureError"),
    ],
    "09c_token_expires_while_joined-A": [("ex", "errored", "TokenExpired")],
    "10_private_channel-B": [("secret", "errored", "Unauthorized")],
    "10_private_channel-N": [("team", "errored", "Unauthorized"), ("team", "joining", "Unauthorized")],
    "10_private_channel-R": [
        ("team", "errored", "UnableToReplayMessages"),
        ("team", "joining", "UnableToReplayMessages"),
        ("team", "errored", "UnableToReplayMessages"),
    ],
    "12_rate_limits-A": [
        ("c3", "errored", "ChannelRateLimitReached"),
        ("c4", "errored", "ChannelRateLimitReached"),
    ],
}


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
            assert client.frames.bad == 0
            replay.check()
            assert replay.told == ERRORS.get(f"{path.stem}-{name}", [])
            if path.stem.startswith("04_presence") and name == "B":
                assert [list(change.updates) for change in replay.presence].count(["ana"]) >= 1
            if path.stem == "07_not_published":
                assert "add table public.unpub_t;" in replay.sinks["realtime:f5"][0].errors[0].hint


def test_no_recording_is_left_out() -> None:
    shared = {path.stem for path in FOLDER.glob("*.jsonl")}
    assert {param.values[0].stem for param in connections()} | LEFT_OUT == shared
    assert ERRORS.keys() <= {param.id for param in connections()}


def test_every_recorded_type_becomes_a_python_value() -> None:
    """The first row of the recording, in a table: digits, bytes, arrays, moments with their offset."""
    store: Any = None
    receiver = Receiver("1.0.0")
    for line in lines(FOLDER / "05_pg_types_v1.jsonl"):
        if line["dir"] == "recv":
            change = receiver.receive(line["frame"].encode()).payload
            if isinstance(change, Change) and change.type == "INSERT":
                store = store or Store(change.columns, ["id"], numeric="decimal")
                store.apply([change])
                if len(store) == 3:
                    break
    first, empty, last = store.df().to_dict("records")
    assert first["i8"] == 9007199254740993, "one more than a double holds"
    assert first["i8big"] == -9223372036854775808
    assert first["n"] == Decimal("123456789012345678.123456789")
    assert (first["n2"], type(first["n2"])) == (Decimal("1.5"), Decimal)
    assert first["by"] == bytes.fromhex("deadbeef")
    assert (first["ia"], first["ta"]) == ([1, 2, None], ["a", "b,c", None])
    assert (first["j"], first["jb"]) == ({"a": 2}, {"b": [1, 2, None]})
    assert first["tz"].isoformat() == "2026-11-23T08:00:00.123456+00:00"
    assert first["ts"].isoformat() == "2026-11-23T10:00:00.123456"
    assert (first["b"], first["f8"], first["i2"]) == (True, 0.1, -3)
    assert first["t"] == 'héllo "q" \\ \n nl'
    assert pd.isna(empty["i8"])
    assert empty["n"] is None
    assert last["tz"].year == 9999, "infinity is the last moment that there is"
