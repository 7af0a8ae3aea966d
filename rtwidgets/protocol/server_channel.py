"""A channel as a server sees it: who joined it, with which options, and in which state it is."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any, cast

import msgspec

from .messages import Message
from .rate_limits import Window

PREFIX = "realtime:"
_NOTHING: Mapping[str, Any] = {}


class Identity(msgspec.Struct, frozen=True):
    """Who asks: the database role, the claims as the JSON text that policies read, and until when (s since 1970)."""

    role: str
    claims: str
    sub: str = ""
    exp: float = 0


class TokenError(Exception):
    """A refused token. `code` is the name in a join's reason; `handshake` the text that refuses a connection."""

    def __init__(self, code: str, message: str, handshake: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.handshake = handshake or message

    @property
    def reason(self) -> str:
        return f"{self.code}: {self.message}"


class Permissions(msgspec.Struct, frozen=True):
    """What a caller may do on one topic."""

    read_broadcast: bool = True
    write_broadcast: bool = True
    read_presence: bool = True
    write_presence: bool = True

    @property
    def reads(self) -> bool:
        """Whether anything may be read."""
        return self.read_broadcast or self.read_presence


PUBLIC = Permissions()
NOTHING = Permissions(False, False, False, False)


class Refused(Exception):
    """A join that is not granted; its text is the reason in the reply. `drops`: the whole connection ends with it."""

    def __init__(self, reason: str, *, drops: bool = False) -> None:
        super().__init__(reason)
        self.drops = drops


# --- states


class Authorizing(msgspec.Struct, frozen=True):
    """The join waits for the policies."""

    join: Message
    replaces: ServerChannel | None
    """The channel of the same topic that this join replaces."""


class Replaying(msgspec.Struct, frozen=True):
    """The join is granted and waits for stored messages."""

    join: Message
    replaces: ServerChannel | None


class Joined(msgspec.Struct, frozen=True):
    """The channel receives."""


class Renewing(msgspec.Struct, frozen=True):
    """As Joined, while the policies are asked about a new token."""

    token: str
    identity: Identity


class Closed(msgspec.Struct, frozen=True):
    """The end: refused, left, replaced, expired or disconnected."""


ChannelState = Authorizing | Replaying | Joined | Renewing | Closed
JOINED, CLOSED = Joined(), Closed()


# --- channels


class ChannelConfig(msgspec.Struct, frozen=True):
    """What a join asks for, as far as it makes sense; as Supabase does, the rest is ignored."""

    private: bool
    ack: bool
    echo: bool
    replay: Any
    """The `replay` option as sent; None without one."""
    replication_ready: bool
    resume: int | None
    """LSN of the last change that the client had of an earlier join, if it wants those since."""
    presence_key: str
    presence: bool
    """Whether presence is sent from the join on."""
    changes: list[dict[str, Any]]


def parse_config(config: Any) -> ChannelConfig:
    """Reads the `config` of a join. Raises Refused where its `postgres_changes` are no list of objects."""
    fields = mapping(config)
    broadcast, presence = mapping(fields.get("broadcast")), mapping(fields.get("presence"))
    resume = mapping(fields.get("resume")).get("lsn")
    key = presence.get("key")
    asked = fields.get("postgres_changes")
    changes = cast("list[Any]", asked) if isinstance(asked, list) else None
    if asked is None:
        changes = []
    if changes is None or not all(isinstance(entry, dict) for entry in changes):
        raise Refused("UnknownErrorOnChannel: postgres_changes must be a list of objects")
    return ChannelConfig(
        private=flag(fields.get("private")),
        ack=flag(broadcast.get("ack")),
        echo=flag(broadcast.get("self")),
        replay=broadcast.get("replay"),
        replication_ready=flag(broadcast.get("replication_ready")),
        resume=resume if isinstance(resume, int) and not isinstance(resume, bool) else None,
        presence_key=key if isinstance(key, str) and key else str(uuid.uuid1()),
        presence=flag(presence.get("enabled")),
        changes=changes,
    )


class ServerChannel:
    """A topic that a client joined, or is joining."""

    def __init__(self, topic: str, join_ref: str | None, config: ChannelConfig, identity: Identity, token: str) -> None:
        self.topic = topic
        """As on the wire, with `realtime:`."""
        self.join_ref = join_ref
        self.config = config
        self.identity = identity
        self.token = token
        self.permissions = PUBLIC
        self.presence_enabled = config.presence
        self.state: ChannelState = CLOSED
        self.entries: list[dict[str, Any]] = []
        """The reply's `postgres_changes`."""
        self.resume = config.resume
        self.calls: Window | None = None

    @property
    def name(self) -> str:
        """The topic without `realtime:`."""
        return self.topic.removeprefix(PREFIX)

    @property
    def closed(self) -> bool:
        return self.state is CLOSED

    def message(self, event: str, payload: Any, *, ref: str | None = None) -> Message:
        """A message of this join to its client."""
        return Message(self.topic, event, payload, ref, self.join_ref)

    def system(self, extension: str, status: str, text: str, **more: Any) -> Message:
        """A `system` message; `more` are keys of our own."""
        payload = {"channel": self.name, "extension": extension, "message": text, "status": status, **more}
        return self.message("system", payload)


def flag(value: Any) -> bool:
    """A boolean of a join's config; Supabase accepts the words as well."""
    return value is True or (isinstance(value, str) and value.lower() == "true")


def mapping(value: Any) -> Mapping[str, Any]:
    return cast("dict[str, Any]", value) if isinstance(value, dict) else _NOTHING
