"""Sockets, the channels joined on them, the topics they meet in, and who is present there."""

from __future__ import annotations

import asyncio
import base64
import os
import time
import uuid
from typing import Any

from ..client.log import child
from ..protocol import codec
from ..protocol.messages import Vsn
from . import wire_frames
from .auth import Identity
from .limits import Limits
from .rls import PUBLIC, Permissions

log = child(__name__)

OK = b'{"response":{},"status":"ok"}'
ERROR = b'{"response":{},"status":"error"}'


def new_ref() -> str:
    """A presence reference: 16 characters, as Phoenix makes them."""
    return base64.urlsafe_b64encode(os.urandom(12)).decode()


class ClientConnection:
    """One client's connection. Frames go straight to the transport, which keeps their order."""

    def __init__(self, transport: asyncio.Transport, vsn: Vsn, identity: Identity, token: str, limits: Limits) -> None:
        self.transport = transport
        self.vsn: Vsn = vsn
        self.identity = identity
        self.token = token
        self.channels: dict[str, Channel] = {}
        self.last_heard = time.monotonic()
        self.dropped = ""
        self._max_buffer = limits.max_buffer
        self._stalled = False

    def write(self, data: bytes) -> None:
        transport = self.transport
        if self.dropped or transport.is_closing():
            return
        transport.write(data)
        if transport.get_write_buffer_size() > self._max_buffer:
            self.drop("client too slow")

    async def drain(self, high: int) -> None:
        """Waits until no more than `high` bytes wait for this client, or until it has taken nothing for a second."""
        waiting = self.transport.get_write_buffer_size()
        if waiting <= high:
            self._stalled = False
            return
        since = time.monotonic()
        while not self._stalled and waiting > high and not self.transport.is_closing():
            await asyncio.sleep(0.005)
            left = self.transport.get_write_buffer_size()
            if left < waiting:
                since = time.monotonic()
            elif time.monotonic() - since > 1:
                self._stalled = True
            waiting = left

    def drop(self, reason: str) -> None:
        """Ends the connection for cause; what waits is sent as far as the client takes it within a few seconds."""
        if self.dropped:
            return
        self.dropped = reason
        log.warning("dropping a client: %s", reason)
        self.transport.write(wire_frames.framed((1013).to_bytes(2, "big") + reason.encode(), 8))
        self.transport.close()
        asyncio.get_running_loop().call_later(5, self.transport.abort)

    def send(self, topic: str, event: str, payload: bytes, ref: str | None = None, join_ref: str | None = None) -> None:
        self.write(wire_frames.text(self.vsn, topic, event, payload, ref, join_ref))

    def reply(self, topic: str, ref: str | None, join_ref: str | None, body: bytes = OK) -> None:
        self.send(topic, "phx_reply", body, ref, join_ref)

    def refuse(self, topic: str, ref: str | None, join_ref: str | None, reason: str) -> None:
        body = codec.dumps({"response": {"reason": reason}, "status": "error"})
        self.send(topic, "phx_reply", body, ref, join_ref)


class Channel:
    """A topic joined on a socket."""

    def __init__(
        self,
        socket: ClientConnection,
        topic: str,
        join_ref: str | None,
        config: dict[str, Any],
        identity: Identity,
        token: str,
    ) -> None:
        broadcast = _mapping(config.get("broadcast"))
        presence = _mapping(config.get("presence"))
        self.socket = socket
        self.name = topic
        self.sub = topic.removeprefix("realtime:")
        self.join_ref = join_ref
        self.identity = identity
        self.token = token
        self.private = flag(config.get("private"))
        self.ack = flag(broadcast.get("ack"))
        self.echo = flag(broadcast.get("self"))
        self.replay = broadcast.get("replay")
        self.wants_replication = flag(broadcast.get("replication_ready"))
        resume = _mapping(config.get("resume")).get("lsn")
        self.resume = resume if isinstance(resume, int) and not isinstance(resume, bool) else None
        """LSN of the last change that the client had of an earlier join, if it wants those since."""
        key = presence.get("key")
        self.presence_key = key if isinstance(key, str) and key else str(uuid.uuid1())
        self.presence_enabled = flag(presence.get("enabled"))
        self.permissions: Permissions = PUBLIC
        self.closed = False
        self.topic: Topic | None = None
        self.expiry: asyncio.TimerHandle | None = None
        self.subscribing: asyncio.Task[None] | None = None
        self.params: list[dict[str, Any]] = []
        self.group: Any = None  # the changes.Group that it receives row changes with
        self.replayed: list[wire_frames.Broadcast] = []
        self._calls: list[float] = []

    def system(self, extension: str, status: str, message: str, **more: Any) -> None:
        said = {"channel": self.sub, "extension": extension, "message": message, "status": status, **more}
        payload = codec.dumps(said)
        self.socket.send(self.name, "system", payload, None, self.join_ref)

    def presence_call_allowed(self, limits: Limits) -> bool:
        now = time.monotonic()
        self._calls = [call for call in self._calls if now - call < limits.presence_window]
        self._calls.append(now)
        return len(self._calls) <= limits.presence_calls


class Topic:
    """Where the channels of one name meet. A public and a private channel of the same name meet in different topics."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.channels: dict[Channel, None] = {}
        # Per key the metas in order of arrival, each with the channel that tracks it.
        self.present: dict[str, list[tuple[Channel, dict[str, Any]]]] = {}

    def broadcast(self, message: wire_frames.Broadcast, sender: Channel | None = None) -> None:
        v1, v2 = message.frame("1.0.0"), message.frame("2.0.0")
        for channel in self.channels:
            if (channel is not sender or channel.echo) and channel.permissions.read_broadcast:
                frame = v2 if channel.socket.vsn == "2.0.0" else v1
                if frame is not None:
                    channel.socket.write(frame)

    def state(self) -> bytes:
        return codec.dumps({key: {"metas": [meta for _, meta in metas]} for key, metas in self.present.items()})

    def track(self, channel: Channel, state: dict[str, Any]) -> None:
        metas = self.present.setdefault(channel.presence_key, [])
        own = next((i for i, (owner, _) in enumerate(metas) if owner is channel), None)
        meta: dict[str, Any] = {"phx_ref": new_ref()}
        user = {name: value for name, value in state.items() if name not in ("phx_ref", "phx_ref_prev")}
        if own is None:
            metas.append((channel, meta | user))
            self._diff({channel.presence_key: meta | user}, {})
            return
        old = metas[own][1]
        if {name: value for name, value in old.items() if name not in ("phx_ref", "phx_ref_prev")} == user:
            return
        meta["phx_ref_prev"] = old["phx_ref"]
        metas[own] = (channel, meta | user)
        self._diff({channel.presence_key: meta | user}, {channel.presence_key: old})

    def untrack(self, channel: Channel) -> None:
        metas = self.present.get(channel.presence_key, [])
        own = next((entry for entry in metas if entry[0] is channel), None)
        if own is None:
            return
        metas.remove(own)
        if not metas:
            del self.present[channel.presence_key]
        self._diff({}, {channel.presence_key: own[1]})

    def _diff(self, joins: dict[str, Any], leaves: dict[str, Any]) -> None:
        payload = codec.dumps(
            {
                "joins": {key: {"metas": [meta]} for key, meta in joins.items()},
                "leaves": {key: {"metas": [meta]} for key, meta in leaves.items()},
            }
        )
        name = f"realtime:{self.name}"
        encoded: dict[Vsn, bytes] = {
            "1.0.0": wire_frames.text("1.0.0", name, "presence_diff", payload),
            "2.0.0": wire_frames.text("2.0.0", name, "presence_diff", payload),
        }
        for channel in self.channels:
            if channel.presence_enabled and channel.permissions.read_presence:
                channel.socket.write(encoded[channel.socket.vsn])


class Hub:
    """All topics, by name and privacy."""

    def __init__(self) -> None:
        self._topics: dict[tuple[str, bool], Topic] = {}

    def enter(self, channel: Channel) -> Topic:
        key = (channel.sub, channel.private)
        topic = self._topics.get(key)
        if topic is None:
            topic = self._topics[key] = Topic(channel.sub)
        topic.channels[channel] = None
        channel.topic = topic
        return topic

    def leave(self, channel: Channel, *, told: bool = False) -> None:
        """`told`: whether the one who leaves still hears of its own leaving, as in Supabase after a phx_leave."""
        topic = channel.topic
        if topic is None:
            return
        channel.topic = None
        if not told:
            topic.channels.pop(channel, None)
        topic.untrack(channel)
        topic.channels.pop(channel, None)
        if not topic.channels:
            self._topics.pop((channel.sub, channel.private), None)

    def broadcast(self, sub: str, private: bool, message: wire_frames.Broadcast) -> None:
        topic = self._topics.get((sub, private))
        if topic is not None:
            topic.broadcast(message)


def flag(value: Any) -> bool:
    """A boolean of a join's config; Supabase takes the words as well."""
    return value is True or (isinstance(value, str) and value.lower() == "true")


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
