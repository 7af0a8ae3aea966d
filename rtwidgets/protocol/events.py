"""What the server sends on a channel, as one class for each message, and the table that decodes and explains them.

A new Realtime message is a class here and its row in `EVENTS`; a channel delivers what it does not handle itself to
whoever registered for the class (`AsyncChannel.on_event`). Row changes have a decoder of their own: see `receiver`.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any, Protocol, Self, cast

import msgspec

from .errors import RealtimeError, from_reason, redact
from .messages import Message
from .redaction import names, short


class Event(Protocol):
    """A message of the server for one channel."""

    @classmethod
    def decode(cls, message: Message) -> Self:
        """The event in a message; a field that is missing or of another type counts as absent."""
        ...

    def explain(self, topic: str) -> str:
        """What the message means, in one line without secrets."""
        ...


class Broadcast(msgspec.Struct, frozen=True):
    """A broadcast. `meta` has `id` (and `replayed`) where it came from the database, else it is empty."""

    event: str
    payload: Any
    meta: dict[str, Any]

    def is_of(self, event: str) -> bool:
        """Whether it is of this event; `*` stands for all, and case does not matter."""
        return event == "*" or self.event.lower() == event.lower()

    @classmethod
    def decode(cls, message: Message) -> Self:
        given = message.payload
        found = cast("Mapping[str, Any]", given) if type(given) is dict else _fields(given)
        meta = found.get("meta")
        kept = cast("dict[str, Any]", meta) if isinstance(meta, dict) else {}
        return cls(str(found.get("event", "")), found.get("payload"), kept)

    def as_json(self) -> dict[str, Any]:
        """What a line of JSON says of it: `event`, `payload` or for bytes `base64`, and `meta` where there is any."""
        found: dict[str, Any] = {"event": self.event}
        payload = self.payload
        if isinstance(payload, bytes | bytearray | memoryview):
            found["base64"] = base64.b64encode(cast("bytes", payload)).decode()
        else:
            found["payload"] = payload
        return found | ({"meta": self.meta} if self.meta else {})

    def explain(self, topic: str) -> str:
        return f"broadcast {self.event!r} on {topic}: {short(self.payload)}"


class PresenceState(msgspec.Struct, frozen=True):
    """Who is on the channel, whole: sent after a join."""

    payload: Any

    @classmethod
    def decode(cls, message: Message) -> Self:
        return cls(message.payload)

    def explain(self, topic: str) -> str:
        return f"who is on {topic}: {names(self.payload)}"


class PresenceDiff(msgspec.Struct, frozen=True):
    """Who came to the channel and who left it."""

    payload: Any

    @classmethod
    def decode(cls, message: Message) -> Self:
        return cls(message.payload)

    def explain(self, topic: str) -> str:
        found = _fields(self.payload)
        halves = ((found.get("joins"), "came"), (found.get("leaves"), "left"))
        parts = [f"{names(who)} {what}" for who, what in halves if who]
        return f"{topic}: {', '.join(parts) or 'nobody came or left'}"


class Reply(msgspec.Struct, frozen=True):
    """The answer to a push. `error` is None for `ok`."""

    ref: str | None
    response: Any
    error: RealtimeError | None

    @classmethod
    def decode(cls, message: Message) -> Self:
        found = _fields(message.payload)
        response = found.get("response")
        if found.get("status") == "ok":
            return cls(message.ref, response, None)
        reason = _fields(response).get("reason") if isinstance(response, Mapping) else response
        return cls(message.ref, response, from_reason(str(reason or "")))

    def explain(self, topic: str) -> str:
        about = "heartbeat" if topic == "phoenix" else topic
        fields = _fields(self.response)
        if self.error is not None:
            reason = fields.get("reason", fields)
            return f"{about}: refused, {redact(reason) if isinstance(reason, str) else short(reason)}"
        entries = fields.get("postgres_changes")
        count = len(cast("list[Any]", entries)) if isinstance(entries, list) else 0
        return f"{about}: accepted" + (f", {count} subscription{'s' if count > 1 else ''}" if count else "")


class System(msgspec.Struct, frozen=True):
    """A report of the server about the channel.

    `postgres`: about the subscription to the database, else about the channel itself (its token, its replication
    connection). The rest comes from the local server alone: `lsn`, up to where it had sent changes; `resumed`, whether
    every change since the `resume` of the join follows; `caught_up`, that these have all been sent; `changed`, the
    schema and the name of a table that is not what it was; `rows_kept`, that it is the same table with rows that hold
    what they did, and at most has other columns.
    """

    ok: bool
    postgres: bool
    text: str
    extension: str
    lsn: int | None = None
    resumed: bool = False
    caught_up: bool = False
    changed: tuple[str, str] | None = None
    rows_kept: bool = False

    @classmethod
    def decode(cls, message: Message) -> Self:
        found = _fields(message.payload)
        changed = _fields(found["changed"]) if "changed" in found else None
        extension, lsn = str(found.get("extension", "system")), found.get("lsn")
        return cls(
            found.get("status") == "ok",
            extension == "postgres_changes",
            str(found.get("message", "")),
            extension,
            lsn if isinstance(lsn, int) else None,
            found.get("resumed") is True,
            found.get("caught_up") is True,
            None if changed is None else (str(changed.get("schema", "")), str(changed.get("table", ""))),
            found.get("rows_kept") is True,
        )

    def explain(self, topic: str) -> str:
        return f"{self.extension} on {topic}: {'ok' if self.ok else 'error'}, {redact(self.text)}"


class Close(msgspec.Struct, frozen=True):
    """The server ended the channel. `join_ref`: of the join that ended, None where the server does not say."""

    join_ref: str | None

    @classmethod
    def decode(cls, message: Message) -> Self:
        return cls(message.ref or message.join_ref)

    def explain(self, topic: str) -> str:
        return f"{topic} is closed"


class Crash(Close, frozen=True):
    """The channel failed on the server."""

    def explain(self, topic: str) -> str:
        return f"{topic} has failed on the server"


EVENTS: Mapping[str, type[Event]] = {
    "broadcast": Broadcast,
    "presence_state": PresenceState,
    "presence_diff": PresenceDiff,
    "phx_reply": Reply,
    "system": System,
    "phx_close": Close,
    "phx_error": Crash,
}
"""The messages of the server by name."""


def decode_event(message: Message) -> Event | None:
    """The event in a message; None for a message that is not in the table."""
    kind = EVENTS.get(message.event)
    return None if kind is None else kind.decode(message)


def _fields(value: Any) -> Mapping[str, Any]:
    return cast("Mapping[str, Any]", value) if isinstance(value, Mapping) else {}
