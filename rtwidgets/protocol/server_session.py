"""The server's end of one client's conversation: frames in, effects out; no I/O, and time is a parameter.

A host feeds a `ServerSession` with what happens and carries out the effects that each call returns, in order. What
needs a database (the policies of a private channel, stored messages, row changes) is an effect; its outcome comes back
as another event. The local server, the replay of a recording and the fake server of the tests are three such hosts.

A channel is in one of five states. Each cell has the state after the event, then what happens; `=` is the same state.

| event | none | Authorizing | Replaying | Joined | Renewing |
|---|---|---|---|---|---|
| join, public | Joined enters | Joined enters | Joined enters | Joined leaves enters | Joined leaves enters |
| join, private | Authorizing asks | = asks | Authorizing asks | Authorizing leaves asks | Authorizing leaves asks |
| join, refused | = refused | none refused | none refused | none leaves refused | none leaves refused |
| leave | = unmatched | none closes | none closes | none closes leaves | none closes leaves |
| broadcast | = unmatched | = unmatched | = unmatched | = publishes | = publishes |
| track | = unmatched | = unmatched | = unmatched | = tracks | = tracks |
| untrack | = unmatched | = unmatched | = unmatched | = untracks | = untracks |
| new token | = unmatched | = unmatched | = unmatched | Renewing asks | = asks |
| same token | = unmatched | = unmatched | = unmatched | = | = |
| bad token | = unmatched | = unmatched | = unmatched | none closes leaves | none closes leaves |
| stale frame | = unmatched | = unmatched | = unmatched | = | = |
| granted | = | Joined enters | = | = | Joined |
| granted, replay | = | Replaying reads | = | = | Joined |
| denied | = | none refused | = | = | none closes leaves |
| unable | = | none refused | none refused | = | none closes leaves |
| stored | = | = | Joined enters replays | = | = |
| expired | = | = | = | none closes leaves | none closes leaves |
| closed | = | none | none | none closes leaves | none closes leaves |
| disconnected | = | none | none | none leaves | none leaves |

These are the states of a private channel; a public one is Joined at once, stays so when it renews its token, and
subscribes again. "asks" is `Authorize`, "reads" is `ReadStored`, "closes" is a `phx_close` (after a `system` message
with the reason, where the server ends it). The token that counts in Renewing is the new one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, cast

import msgspec

from .codec import FrameError, dumps
from .messages import Message
from .rate_limits import Rate, Window
from .server_channel import (
    CLOSED,
    JOINED,
    PREFIX,
    Authorizing,
    Identity,
    Permissions,
    Refused,
    Renewing,
    Replaying,
    ServerChannel,
    TokenError,
    mapping,
    parse_config,
)
from .server_effects import (
    Authorize,
    AwaitReplication,
    Effects,
    Enter,
    Leave,
    Publish,
    ReadStored,
    Refuse,
    Send,
    SendPresence,
    SendStored,
    Subscribe,
    Track,
    Untrack,
    WakeAt,
)

AWAY = "Realtime was unable to connect to the project database"
MOST_REPLAYED = 25
"""Stored messages that one join may ask for."""
_NO_MOMENT = 2**53
"""Milliseconds since 1970 beyond every timestamp."""
_EMPTY: Mapping[str, Any] = {}


class SessionLimits(msgspec.Struct, frozen=True, kw_only=True):
    """What one client may do."""

    max_payload: int = 3_000_500
    """The largest broadcast payload, in bytes."""
    max_channels: int = 100
    """Channels on one connection."""
    max_bindings: int = 1000
    """Entries of `postgres_changes` in one join: each filter among them is evaluated for each change."""
    presence_calls: int = 5
    presence_window: float = 30.0
    """At most `presence_calls` presence calls in `presence_window` seconds on one channel."""


class SharedRates:
    """Rate limits that all sessions of one server share; 0 for no limit."""

    def __init__(self, joins: int = 0, messages: int = 0, presence: int = 0) -> None:
        self.joins, self.messages, self.presence = Rate(joins), Rate(messages), Rate(presence)


class Host(Protocol):
    """What a session must know of its server, without waiting."""

    def verify(self, token: str, now: float) -> Identity:
        """The identity that a token proves. Raises TokenError."""
        ...

    def admit(self, channel: ServerChannel) -> list[dict[str, Any]]:
        """The entries of `postgres_changes` with their ids, for the join's reply. Raises Refused."""
        ...


class ServerSession:
    """One client's conversation.

    Args:
        host: verifies tokens and admits joins.
        token: of the connection; joins without one use it.
        limits: what the client may do.
        rates: limits shared with other sessions.

    `now` is always the time in seconds since 1970. Events about a channel that is closed have no effect, so a host may
    report an outcome whenever it comes.
    """

    def __init__(
        self, host: Host, token: str, limits: SessionLimits | None = None, rates: SharedRates | None = None
    ) -> None:
        self._host = host
        self._token = token
        self._limits = limits or SessionLimits()
        self._rates = rates or SharedRates()
        self.channels: dict[str, ServerChannel] = {}
        """By topic, those that are joined."""
        self._joining: dict[str, ServerChannel] = {}

    # --- frames

    def receive(self, message: Message, now: float, *, binary: bool = False) -> Effects:
        """A frame of the client. `binary`: whether it came as one."""
        topic, event, ref = message.topic, message.event, message.ref
        channel = self.channels.get(topic)
        if channel is not None and event != "phx_join":
            if message.join_ref is not None and message.join_ref != channel.join_ref:
                return []  # of a join that a later one replaced
            if event == "broadcast":
                return self._broadcast(channel, message, now, binary)
            if event == "presence":
                return self._presence(channel, message, now)
            if event == "access_token":
                return self._access_token(channel, mapping(message.payload).get("access_token"), now)
            if event == "phx_leave":
                return [_reply(message, channel.join_ref), *self._end(channel, informed=True)]
            return []
        if event == "heartbeat" and topic == "phoenix":
            return [_reply(message, None)]
        if event == "phx_join" and topic.startswith(PREFIX):
            return self._join(message, now)
        if event == "phx_leave" and (joining := self._joining.pop(topic, None)) is not None:
            joining.state = CLOSED
            return [_reply(message, joining.join_ref), _close(joining)]
        response = {"reason": "unmatched topic"}
        return [_reply(message, message.join_ref if event == "phx_join" else None, "error", response, ref=ref)]

    # --- joins

    def _join(self, message: Message, now: float) -> Effects:
        topic = message.topic
        replaces = self.channels.get(topic)
        effects = self._detach(replaces) if replaces is not None else []
        pending = self._joining.pop(topic, None)
        if pending is not None and isinstance(pending.state, Authorizing | Replaying):
            replaces = pending.state.replaces
            pending.state = CLOSED
        try:
            channel = self._open(message, now)
        except Refused as error:
            return effects + _refused(message, error, replaces)
        if channel.config.private:
            channel.state = Authorizing(message, replaces)
            self._joining[topic] = channel
            return [*effects, Authorize(channel, channel.identity)]
        return effects + self._granted(channel, message, replaces)

    def _open(self, message: Message, now: float) -> ServerChannel:
        payload = mapping(message.payload)
        if not self._rates.joins.allow(now):
            raise Refused("ClientJoinRateLimitReached: Too many joins per second", drops=True)
        if message.topic == PREFIX:
            raise Refused("TopicNameRequired: You must provide a topic name")
        if len(self.channels) + len(self._joining) >= self._limits.max_channels:
            raise Refused("ChannelRateLimitReached: Too many channels")
        token = payload.get("user_token") or payload.get("access_token")
        if not isinstance(token, str) or token.startswith("sb_"):
            token = self._token
        try:
            identity = self._host.verify(token, now)
        except TokenError as error:
            raise Refused(error.reason) from None
        config = parse_config(payload.get("config"))
        if len(config.changes) > self._limits.max_bindings:
            asked, most = len(config.changes), self._limits.max_bindings
            raise Refused(f"UnprocessableEntity: {asked} postgres_changes in one join, the most are {most}")
        channel = ServerChannel(message.topic, message.join_ref or message.ref, config, identity, token)
        channel.calls = Window(self._limits.presence_calls, self._limits.presence_window)
        channel.entries = self._host.admit(channel)
        return channel

    def _granted(self, channel: ServerChannel, join: Message, replaces: ServerChannel | None) -> Effects:
        """The policies allow the join; what it wants replayed comes first."""
        if channel.config.replay is None:
            return self._joined(channel, join, replaces, ())
        try:
            since, limit = _replay(channel)
        except Refused as error:
            self._joining.pop(channel.topic, None)
            channel.state = CLOSED
            return _refused(join, error, replaces)
        channel.state = Replaying(join, replaces)
        self._joining[channel.topic] = channel
        return [ReadStored(channel, since, limit)]

    def _joined(
        self, channel: ServerChannel, join: Message, replaces: ServerChannel | None, stored: Sequence[Any]
    ) -> Effects:
        self._joining.pop(channel.topic, None)
        self.channels[channel.topic] = channel
        channel.state = JOINED
        effects: Effects = [
            Enter(channel),
            _reply(join, channel.join_ref, response={"postgres_changes": channel.entries}),
        ]
        if replaces is not None:
            effects.append(_close(replaces))
        if stored:
            effects.append(SendStored(channel, stored))
        if channel.presence_enabled and channel.permissions.read_presence:
            effects.append(SendPresence(channel))
        effects.append(self._wake_at())
        if channel.config.changes:
            effects.append(Subscribe(channel))
        if channel.config.replication_ready:
            effects.append(AwaitReplication(channel))
        return effects

    # --- outcomes of effects

    def authorized(self, channel: ServerChannel, identity: Identity, permissions: Permissions) -> Effects:
        """What the policies grant that identity, as `Authorize` asked."""
        state = channel.state
        if isinstance(state, Authorizing) and identity == channel.identity:
            if not permissions.reads:
                self._joining.pop(channel.topic, None)
                channel.state = CLOSED
                return _refused(state.join, Refused(f"Unauthorized: {_unauthorized(channel)}"), state.replaces)
            channel.permissions = permissions
            return self._granted(channel, state.join, state.replaces)
        if isinstance(state, Renewing) and identity == state.identity:
            if not permissions.reads:
                return self.close(
                    channel, f"You do not have permissions to read from this Channel topic: {channel.name}"
                )
            channel.permissions = permissions
            channel.state = JOINED
            return self._renewed(channel, state.token, identity)
        return []

    def unable(self, channel: ServerChannel, reason: str = f"UnableToConnectToProject: {AWAY}") -> Effects:
        """What an effect asked could not be found out: the client has to join again."""
        state = channel.state
        if isinstance(state, Authorizing | Replaying):
            self._joining.pop(channel.topic, None)
            channel.state = CLOSED
            return _refused(state.join, Refused(reason), state.replaces)
        return self.close(channel, AWAY) if isinstance(state, Renewing) else []

    def stored(self, channel: ServerChannel, messages: Sequence[Any]) -> Effects:
        """The messages that `ReadStored` asked for; `SendStored` hands them back."""
        state = channel.state
        return self._joined(channel, state.join, state.replaces, messages) if isinstance(state, Replaying) else []

    def replication(self, channel: ServerChannel, ready: bool) -> Effects:
        """Whether messages from the database arrive by now, as `AwaitReplication` asked."""
        if not ready:
            return self.close(channel, "Replication connection was not established in time")
        return [] if channel.closed else [Send(channel.system("system", "ok", "Replication connection established"))]

    # --- ends

    def close(self, channel: ServerChannel, text: str) -> Effects:
        """The server ends a channel, and says why."""
        if self.channels.get(channel.topic) is not channel:
            self._discard(channel)
            return []
        return [Send(channel.system("system", "error", text)), *self._end(channel)]

    def disconnected(self) -> Effects:
        """The connection has ended."""
        for channel in list(self._joining.values()):
            self._discard(channel)
        return [effect for channel in list(self.channels.values()) for effect in self._detach(channel)]

    def wake(self, now: float) -> Effects:
        """Ends the channels whose tokens have expired."""
        effects: Effects = []
        for channel in list(self.channels.values()):
            late = now - channel.identity.exp
            if late >= 0:
                effects += self.close(channel, f"Token has expired {int(late)} seconds ago")
        if self.channels:
            effects.append(self._wake_at())
        return effects

    def _wake_at(self) -> WakeAt:
        return WakeAt(min(channel.identity.exp for channel in self.channels.values()))

    def _discard(self, channel: ServerChannel) -> None:
        if self._joining.get(channel.topic) is channel:
            del self._joining[channel.topic]
        channel.state = CLOSED

    def _end(self, channel: ServerChannel, *, informed: bool = False) -> Effects:
        return [_close(channel), *self._detach(channel, informed=informed)]

    def _detach(self, channel: ServerChannel, *, informed: bool = False) -> Effects:
        del self.channels[channel.topic]
        channel.state = CLOSED
        return [Leave(channel, informed)]

    # --- tokens

    def _access_token(self, channel: ServerChannel, token: Any, now: float) -> Effects:
        known = channel.state.token if isinstance(channel.state, Renewing) else channel.token
        if not isinstance(token, str) or token.startswith("sb_") or token == known:
            return []
        try:
            identity = self._host.verify(token, now)
        except TokenError as error:
            return self.close(channel, error.message)
        if channel.config.private:
            channel.state = Renewing(token, identity)
            return [Authorize(channel, identity)]
        return self._renewed(channel, token, identity)

    def _renewed(self, channel: ServerChannel, token: str, identity: Identity) -> Effects:
        channel.token, channel.identity = token, identity
        return [self._wake_at(), Subscribe(channel)] if channel.config.changes else [self._wake_at()]

    # --- broadcast and presence

    def _broadcast(self, channel: ServerChannel, message: Message, now: float, binary: bool) -> Effects:
        payload = mapping(message.payload)
        event = payload.get("event")
        if not isinstance(event, str):
            return []
        messages = self._rates.messages
        if messages.per_second and not messages.allow(now):
            return self.close(channel, "Too many messages per second")
        if not channel.permissions.write_broadcast:
            return []  # Supabase does not answer here, not even with ack
        inner = payload.get("payload")
        raw = isinstance(inner, bytes)
        body = inner if isinstance(inner, bytes) else dumps(inner)
        if len(body) > self._limits.max_payload:
            if not channel.config.ack:
                return []
            return [_reply(message, channel.join_ref, "error", "payload_size_exceeded")]
        # As recorded: the metadata of a text frame travels on, that of a binary one does not.
        meta = None if binary else payload.get("meta")
        meta = cast("dict[str, Any]", meta) if isinstance(meta, dict) else None
        publish = Publish(channel, event, body, raw, binary, meta)
        return [publish, _reply(message, channel.join_ref)] if channel.config.ack else [publish]

    def _presence(self, channel: ServerChannel, message: Message, now: float) -> Effects:
        payload = mapping(message.payload)
        if channel.calls is not None and not channel.calls.allow(now):
            return self.close(channel, "Client presence rate limit exceeded")
        if not self._rates.presence.allow(now):
            return self.close(channel, "Too many presence messages per second")
        state = payload.get("payload")
        try:
            size = len(dumps(state))
        except FrameError:
            size = 0
        if size > self._limits.max_payload:
            return self.close(channel, "Track message size exceeded")
        action = str(payload.get("event", "")).lower()
        if not channel.permissions.write_presence or action not in ("track", "untrack"):
            return [_reply(message, channel.join_ref, "error")]
        if action == "untrack":
            return [_reply(message, channel.join_ref), Untrack(channel)]
        state = payload.get("payload", {})
        if not isinstance(state, dict):
            response = {"reason": "Presence track payload must be a map"}
            return [_reply(message, channel.join_ref, "error", response)]
        channel.presence_enabled = True
        return [_reply(message, channel.join_ref), Track(channel, cast("dict[str, Any]", state))]


def _replay(channel: ServerChannel) -> tuple[int, int]:
    """Since when (ms since 1970) and how many messages a join wants replayed. Raises Refused."""
    if not channel.config.private:
        raise Refused("UnableToReplayMessages: Replay is not allowed for public channels")
    replay = mapping(channel.config.replay)
    since, limit = replay.get("since"), replay.get("limit", MOST_REPLAYED)
    if not isinstance(since, int) or isinstance(since, bool) or abs(since) > _NO_MOMENT:
        raise Refused("UnableToReplayMessages: Replay params are not valid")
    if not isinstance(limit, int) or limit < 1:
        raise Refused("UnableToReplayMessages: Replay params are not valid")
    if not channel.permissions.read_broadcast:
        raise Refused(f"Unauthorized: {_unauthorized(channel)}")
    return since, min(limit, MOST_REPLAYED)


def _unauthorized(channel: ServerChannel) -> str:
    return f"You do not have permissions to read from this Channel topic: {channel.name}"


def _refused(join: Message, error: Refused, replaces: ServerChannel | None) -> Effects:
    reason = str(error)
    reply = _reply(join, join.join_ref or join.ref, "error", {"reason": reason}).message
    effects: Effects = [Refuse(reply, reason, error.drops)]
    return [*effects, _close(replaces)] if replaces is not None else effects


def _reply(
    message: Message, join_ref: str | None, status: str = "ok", response: Any = _EMPTY, *, ref: str | None = None
) -> Send:
    payload = {"response": response, "status": status}
    return Send(Message(message.topic, "phx_reply", payload, message.ref if ref is None else ref, join_ref))


def _close(channel: ServerChannel) -> Send:
    return Send(channel.message("phx_close", {}, ref=channel.join_ref))
