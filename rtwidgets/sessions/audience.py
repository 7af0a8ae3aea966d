"""The clients of a replay: their conversations, subscriptions and presence."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, cast

import msgspec
from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed

from ..protocol import filters
from ..protocol.codec import FrameError, decode, encode
from ..protocol.errors import RealtimeError
from ..protocol.messages import Message, Vsn
from ..protocol.server_channel import PREFIX, PUBLIC, Identity, Refused, ServerChannel
from ..protocol.server_effects import (
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
    Track,
    Untrack,
)
from ..protocol.server_presence import PresenceTracker
from ..protocol.server_session import ServerSession, SessionLimits
from .session_state import SessionState, row_filter

_UNLIMITED = SessionLimits(max_channels=10_000, presence_calls=10_000)


class Binding:
    """One `postgres_changes` entry of a join. Raises RealtimeError for a filter that cannot be parsed."""

    def __init__(self, number: int, asked: Mapping[str, Any]) -> None:
        self.number = number
        self._event = str(asked.get("event") or "*").upper()
        self.schema = str(asked.get("schema") or "public")
        self.table = str(asked.get("table") or "*")
        self._filter = filters.parse(str(asked.get("filter") or ""))

    def covers(self, schema: str, table: str) -> bool:
        """Whether it includes that table."""
        return self.schema in ("*", schema) and self.table in ("*", table)

    def wants(self, change: Mapping[str, Any], types: Mapping[str, str]) -> bool:
        """Whether a recorded change matches it."""
        if not self.covers(str(change.get("schema", "public")), str(change["table"])):
            return False
        kind = change.get("type")
        if self._event not in ("*", kind):
            return False
        row = cast("Mapping[str, Any]", change.get("record") or change.get("old_record") or {})
        return kind == "DELETE" or not self._filter.conditions or row_filter(self._filter, types)(row)


class Listener:
    """One connection."""

    def __init__(self, socket: ServerConnection, vsn: Vsn, session: ServerSession) -> None:
        self.vsn: Vsn = vsn
        self.session = session
        self._socket = socket

    async def send(self, message: Message) -> None:
        """Sends a message, unless the client has gone or its serializer cannot encode it."""
        try:
            await self._socket.send(encode(message, self.vsn, side="server"))
        except (ConnectionClosed, FrameError):
            pass


class Audience:
    """The conversations with all clients of a replay.

    Args:
        state: the state of the session.
        on_join: called when a channel has been joined.
    """

    def __init__(self, state: SessionState, on_join: Callable[[], None]) -> None:
        self._state = state
        self._on_join = on_join
        self._members: dict[ServerChannel, Listener] = {}
        self._bindings: dict[ServerChannel, list[Binding]] = {}
        self._presence: dict[str, PresenceTracker[ServerChannel]] = {}

    # --- what a session requires of its host

    def verify(self, token: str, now: float) -> Identity:
        """Accepts any token: the server has checked the key."""
        return Identity("", "", exp=float("inf"))

    def admit(self, channel: ServerChannel) -> list[dict[str, Any]]:
        """The reply's `postgres_changes`. Raises Refused."""
        try:
            self._bindings[channel] = [Binding(at, asked) for at, asked in enumerate(channel.config.changes, 1)]
        except RealtimeError as error:
            raise Refused(f"InvalidFilter: {error.message}") from None
        return [{"id": at, **entry} for at, entry in enumerate(channel.config.changes, 1)]

    # --- conversations

    async def converse(self, socket: ServerConnection, vsn: Vsn) -> None:
        """Serves one connection to its end."""
        listener = Listener(socket, vsn, ServerSession(self, "", _UNLIMITED))
        try:
            async for data in socket:
                try:
                    message = decode(data, vsn, sender="client")
                except FrameError:
                    continue
                binary = isinstance(data, bytes)
                await self._run(listener, listener.session.receive(message, time.time(), binary=binary))
        except ConnectionClosed:
            pass
        finally:
            await self._run(listener, listener.session.disconnected())

    async def _run(self, listener: Listener, effects: Effects) -> None:
        for effect in effects:
            match effect:
                case Send(message) | Refuse(message):
                    await listener.send(message)
                case Enter(channel):
                    self._members[channel] = listener
                    self._on_join()
                case Leave(channel):
                    await self._leave(channel, informed=effect.informed)
                case Publish(channel):
                    await self._publish(effect)
                case Track(channel, state):
                    self._tracker(channel.name).track(channel, channel.config.presence_key, state)
                    await self._send_tracked(channel.name)
                case Untrack(channel):
                    self._tracker(channel.name).untrack(channel, channel.config.presence_key)
                    await self._send_tracked(channel.name)
                case SendPresence(channel):
                    await listener.send(channel.message("presence_state", self._presence_state(channel.name)))
                case Subscribe(channel):
                    await self._subscribe(channel)
                case Authorize(channel, identity):
                    await self._run(listener, listener.session.authorized(channel, identity, PUBLIC))
                case ReadStored(channel):
                    await self._run(listener, listener.session.stored(channel, ()))
                case _:
                    pass

    async def _leave(self, channel: ServerChannel, *, informed: bool) -> None:
        self._bindings.pop(channel, None)
        if not informed:
            self._members.pop(channel, None)
        self._tracker(channel.name).untrack(channel, channel.config.presence_key)
        await self._send_tracked(channel.name)
        self._members.pop(channel, None)

    async def _publish(self, effect: Publish) -> None:
        body = effect.body if effect.raw else msgspec.Raw(effect.body)
        payload: dict[str, Any] = {"type": "broadcast", "event": effect.event, "payload": body}
        if effect.meta:
            payload["meta"] = effect.meta
        for channel, listener in self.listeners(effect.channel.name):
            if channel is not effect.channel or channel.config.echo:
                await listener.send(Message(channel.topic, "broadcast", payload))

    async def _subscribe(self, channel: ServerChannel) -> None:
        bindings = self._bindings.get(channel, ())
        missing = [one for one in bindings if not any(one.covers(*name) for name in self._state.tables)]
        if missing:
            name = f"{missing[0].schema}.{missing[0].table}"
            await self.system(channel, "error", f"UndefinedTable: {name} is not in this recording")
        else:
            await self.announce(channel)

    # --- sending

    def listeners(self, topic: str | None = None) -> Iterable[tuple[ServerChannel, Listener]]:
        """The channels of one topic (without `realtime:`), or all of them."""
        return [(channel, one) for channel, one in self._members.items() if topic in (None, channel.name)]

    def followers(self, schema: str, table: str) -> Iterable[ServerChannel]:
        """The channels that follow a table."""
        return [
            channel
            for channel in self._members
            if any(one.covers(schema, table) for one in self._bindings.get(channel, ()))
        ]

    def numbers(self, channel: ServerChannel, change: Mapping[str, Any], types: Mapping[str, str]) -> list[int]:
        """The ids of a channel's entries that a recorded change goes to."""
        return [one.number for one in self._bindings.get(channel, ()) if one.wants(change, types)]

    async def system(self, channel: ServerChannel, status: str, text: str) -> None:
        """Sends a `system` message about a table."""
        await self._members[channel].send(channel.system("postgres_changes", status, text))

    async def announce(self, channel: ServerChannel | None = None) -> None:
        """Sends "Subscribed to PostgreSQL" to one channel, or to all that follow a table."""
        for one in [channel] if channel is not None else list(self._members):
            if self._bindings.get(one):
                await self.system(one, "ok", "Subscribed to PostgreSQL")

    async def send_diff(self, topic: str, diff: Mapping[str, Any]) -> None:
        """Sends a `presence_diff` to the channels of a topic."""
        for channel, listener in self.listeners(topic):
            if channel.presence_enabled:
                await listener.send(Message(PREFIX + topic, "presence_diff", diff))

    def _tracker(self, topic: str) -> PresenceTracker[ServerChannel]:
        return self._presence.setdefault(topic, PresenceTracker(lambda: secrets.token_hex(8)))

    async def _send_tracked(self, topic: str) -> None:
        if self._tracker(topic).changed:
            await self.send_diff(topic, self._tracker(topic).diff())

    def _presence_state(self, topic: str) -> dict[str, Any]:
        """The recorded users, and the clients that track a state."""
        found = {key: list(metas.values()) for key, metas in self._state.presence.get(topic, {}).items()}
        for key, entry in self._tracker(topic).state().items():
            found.setdefault(key, []).extend(entry["metas"])
        return {key: {"metas": metas} for key, metas in found.items()}
