"""Connections, the channels joined on them, and the topics where they meet."""

from __future__ import annotations

import asyncio
import base64
import os
import time
from collections.abc import Mapping
from typing import Any

from ..client.log import child
from ..protocol import codec
from ..protocol.messages import Message, Vsn
from ..protocol.server_channel import ServerChannel
from ..protocol.server_presence import PresenceTracker
from . import wire_frames

log = child(__name__)

_PER_MEMBER = 50e-6
"""Seconds between two diffs of a topic, for each of its members: a diff costs every one of them a frame."""
_NOTED = 64 * 1024
"""Bytes that wait for a client from which on it counts as slow."""
_WORTH_WAITING = 0.002
"""Seconds below which a diff is not delayed."""


def new_ref() -> str:
    """A presence reference: 16 characters, as Phoenix makes them."""
    return base64.urlsafe_b64encode(os.urandom(12)).decode()


class SendBuffers:
    """What waits to be read by clients that are slow, and a bound on all of it.

    Args:
        most: bytes, of all of them together.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._waiting: dict[ClientConnection, int] = {}
        self._total = 0

    def note(self, connection: ClientConnection, waiting: int) -> None:
        """So many bytes wait for that client; where all are too many, those with the most are dropped."""
        self._total += waiting - self._waiting.get(connection, 0)
        self._waiting[connection] = waiting
        if self._total <= self._most:
            return
        self._waiting = {one: size for one in self._waiting if (size := one.waiting) > _NOTED}
        self._total = sum(self._waiting.values())
        while self._total > self._most:
            largest = max(self._waiting, key=lambda one: self._waiting[one])
            self._total -= self._waiting.pop(largest)
            largest.drop("clients too slow", at_once=True)

    def share(self, high: int) -> int:
        """Bytes that may wait for one client before the sender waits for it, at most `high`."""
        return min(high, self._most // (2 * max(len(self._waiting), 1)))


class ClientConnection:
    """One client's connection. Frames go straight to the transport, which keeps their order."""

    def __init__(self, transport: asyncio.Transport, vsn: Vsn, max_buffer: int, buffers: SendBuffers) -> None:
        self.vsn: Vsn = vsn
        self.last_heard = time.monotonic()
        self.dropped = ""
        self._transport = transport
        self._max_buffer = max_buffer
        self._buffers = buffers
        self._stalled = False

    @property
    def waiting(self) -> int:
        """Bytes that the client has not read."""
        return 0 if self.dropped or self._transport.is_closing() else self._transport.get_write_buffer_size()

    def write(self, data: bytes) -> None:
        """Sends framed bytes."""
        transport = self._transport
        if self.dropped or transport.is_closing():
            return
        transport.write(data)
        waiting = transport.get_write_buffer_size()
        if waiting > _NOTED:
            if waiting > self._max_buffer:
                self.drop("client too slow")
            else:
                self._buffers.note(self, waiting)

    def send(self, message: Message) -> None:
        """Sends a text message."""
        payload = codec.dumps(message.payload)
        self.write(wire_frames.text(self.vsn, message.topic, message.event, payload, message.ref, message.join_ref))

    async def drain(self) -> None:
        """Waits until few enough bytes wait for this client, or until it has read nothing for a second."""
        high = self._buffers.share(self._max_buffer // 4)
        waiting = self._transport.get_write_buffer_size()
        if waiting <= high:
            self._stalled = False
            return
        since = time.monotonic()
        while not self._stalled and waiting > high and not self._transport.is_closing():
            await asyncio.sleep(0.005)
            left = self._transport.get_write_buffer_size()
            if left < waiting:
                since = time.monotonic()
            elif time.monotonic() - since > 1:
                self._stalled = True
            waiting = left

    def drop(self, reason: str, *, at_once: bool = False) -> None:
        """Ends the connection for cause; what waits is sent as far as the client reads it within a few seconds, or not
        at all."""
        if self.dropped:
            return
        self.dropped = reason
        log.warning("dropping a client: %s", reason)
        if at_once:
            self._transport.abort()
            return
        self._transport.write(wire_frames.framed((1013).to_bytes(2, "big") + reason.encode(), 8))
        self._transport.close()
        asyncio.get_running_loop().call_later(5, self._transport.abort)


class Member:
    """A joined channel, the connection that it is on, and where it belongs."""

    def __init__(self, connection: ClientConnection, channel: ServerChannel) -> None:
        self.connection = connection
        self.channel = channel
        self.write = connection.write
        self.v2 = connection.vsn == "2.0.0"
        self.reads = channel.permissions.read_broadcast
        """Whether it may read broadcasts; see `renew`."""
        self.topic: Topic | None = None
        self.subscribing: asyncio.Task[None] | None = None

    def renew(self) -> None:
        """Follows what the channel may do since it has a new token."""
        self.reads = self.channel.permissions.read_broadcast

    def system(self, extension: str, status: str, text: str, **more: Any) -> None:
        """Sends a `system` message."""
        self.connection.send(self.channel.system(extension, status, text, **more))


class Topic:
    """Where the channels of one name meet; those that are private meet in another topic than those that are not."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.members: dict[Member, None] = {}
        self._presence: PresenceTracker[Member] = PresenceTracker(new_ref)
        self._told_at = 0.0
        self._telling: asyncio.TimerHandle | None = None
        self._leaving: list[Member] = []
        """Those who have left and still receive the next diff."""

    def leave(self, member: Member, *, informed: bool) -> None:
        """Ends the membership; with `informed` the member still receives the diff of its own presence."""
        del self.members[member]
        if informed and member.channel.presence_enabled and member.channel.permissions.read_presence:
            self._leaving.append(member)
        self.untrack(member)
        if not self._presence.changed:
            self._leaving.clear()

    def broadcast(self, message: wire_frames.Broadcast, sender: Member | None = None) -> None:
        """Delivers a broadcast to everybody who may read it, to its sender only if that wants its own."""
        v1: bytes | None = None
        v2: bytes | None = None
        for member in self.members:
            if not member.reads or (member is sender and not member.channel.config.echo):
                continue
            if member.v2:
                if v2 is None:
                    v2 = message.frame("2.0.0")
                frame = v2
            else:
                if v1 is None:
                    v1 = message.frame("1.0.0")
                frame = v1
            if frame is not None:
                member.write(frame)

    # --- presence

    def send_state(self, member: Member) -> None:
        """Sends who is present."""
        member.connection.send(member.channel.message("presence_state", self._presence.state()))

    def track(self, member: Member, state: Mapping[str, Any]) -> None:
        """The member is present with that state."""
        self._presence.track(member, member.channel.config.presence_key, state)
        self._schedule_diff()

    def untrack(self, member: Member) -> None:
        """The member is not present any more."""
        self._presence.untrack(member, member.channel.config.presence_key)
        self._schedule_diff()

    def _schedule_diff(self) -> None:
        """Diffs of a crowded topic are collected: each costs every member a frame."""
        if self._telling is not None or not self._presence.changed:
            return
        pause = len(self.members) * _PER_MEMBER
        wait = self._told_at + pause - time.monotonic() if pause > _WORTH_WAITING else 0.0
        if wait <= 0:
            self.flush_diff()
        else:
            self._telling = asyncio.get_running_loop().call_later(wait, self.flush_diff)

    def flush_diff(self) -> None:
        """Sends what has changed among those present."""
        if self._telling is not None:
            self._telling.cancel()
            self._telling = None
        if not self._presence.changed:
            return
        self._told_at = time.monotonic()
        payload, name = codec.dumps(self._presence.diff()), f"realtime:{self.name}"
        frames: dict[Vsn, bytes] = {
            "1.0.0": wire_frames.text("1.0.0", name, "presence_diff", payload),
            "2.0.0": wire_frames.text("2.0.0", name, "presence_diff", payload),
        }
        for member in self.members:
            if member.channel.presence_enabled and member.channel.permissions.read_presence:
                member.connection.write(frames[member.connection.vsn])
        for member in self._leaving:
            member.connection.write(frames[member.connection.vsn])
        self._leaving.clear()


class Hub:
    """All topics, by name and privacy; and what waits for all clients."""

    def __init__(self, buffers: SendBuffers) -> None:
        self.buffers = buffers
        self._topics: dict[tuple[str, bool], Topic] = {}

    def enter(self, member: Member) -> Topic:
        """The member receives what is published on its topic."""
        key = (member.channel.name, member.channel.config.private)
        topic = self._topics.get(key)
        if topic is None:
            topic = self._topics[key] = Topic(member.channel.name)
        topic.members[member] = None
        member.topic = topic
        return topic

    def leave(self, member: Member, *, informed: bool = False) -> None:
        """The member receives nothing more; with `informed` the diff of its own presence still."""
        topic = member.topic
        if topic is None:
            return
        member.topic = None
        topic.leave(member, informed=informed)
        if not topic.members:
            self._topics.pop((member.channel.name, member.channel.config.private), None)

    def broadcast(self, name: str, private: bool, message: wire_frames.Broadcast) -> None:
        """Delivers a broadcast to a topic, if anybody is there."""
        topic = self._topics.get((name, private))
        if topic is not None:
            topic.broadcast(message)
