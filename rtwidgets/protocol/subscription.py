"""What a join asks for: the channel's options and its bindings to row changes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from .errors import make
from .filters import Filter, parse

EVENTS = ("*", "INSERT", "UPDATE", "DELETE")


class ChangesBinding(msgspec.Struct, frozen=True):
    """What a subscription to row changes asks for, in the server's own terms.

    `event`: `*`, `INSERT`, `UPDATE` or `DELETE`. `table=None`: every table of the schema. `filter`: text, see
    `filters.py`. `select`: the columns wanted, None for all (the primary key always comes).
    """

    event: str = "*"
    schema: str = "public"
    table: str | None = None
    filter: str | None = None
    select: tuple[str, ...] | None = None

    @classmethod
    def checked(
        cls, event: str = "*", schema: str = "public", table: str | None = None, filter: str | Filter | None = None
    ) -> ChangesBinding:
        """A binding from what a person gives. Raises `RealtimeError` for an event or a filter that the server would
        read as something else, `TypeError` for an argument of another type.
        """
        check_text("event", event)
        check_text("schema", schema)
        if table is not None:
            check_text("table", table)
        if event.upper() not in EVENTS:
            raise make("InvalidSubscription", f"there is no event {event!r}: use one of {', '.join(EVENTS)}")
        check_filter(filter)
        text = str(parse(filter)) if isinstance(filter, Filter) else filter
        parse(text)
        return cls(event.upper(), schema, table, text)

    def params(self) -> dict[str, Any]:
        """The entry of a join's `postgres_changes`."""
        found: dict[str, Any] = {"event": self.event, "schema": self.schema}
        if self.table is not None:
            found["table"] = self.table
        if self.filter:
            found["filter"] = self.filter
        if self.select is not None:
            found["select"] = list(self.select)
        return found


class ChannelOptions(msgspec.Struct, frozen=True):
    """How a channel is joined. `replay`: `{"since": ms since 1970, "limit": 1 to 25}`, on private channels.

    `replication_ready`: joined means that what the database sends (`realtime.send`) arrives from then on.
    """

    private: bool = False
    ack: bool = False
    broadcast_self: bool = False
    presence_key: str | None = None
    replay: dict[str, int] | None = None
    replication_ready: bool = False

    @classmethod
    def checked(
        cls,
        *,
        private: bool = False,
        ack: bool = False,
        broadcast_self: bool = False,
        presence_key: str | None = None,
        replay: Mapping[str, int] | None = None,
        replication_ready: bool = False,
    ) -> ChannelOptions:
        """Options from what a person gives. Raises `TypeError` for a value of another type."""
        if replay is not None and not isinstance(replay, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"replay= takes a dict such as {{'since': 1767225600000, 'limit': 25}}, not {replay!r}")
        copied = None if replay is None else dict(replay)
        found = cls(private, ack, broadcast_self, presence_key, copied, replication_ready)
        for name in ("private", "ack", "broadcast_self", "replication_ready"):
            check_flag(name, getattr(found, name))
        if found.presence_key is not None:
            check_text("presence_key", found.presence_key)
        return found

    def with_presence_key(self, key: str, topic: str) -> ChannelOptions:
        """The options with this key. Raises `RealtimeError` where there is another one, `TypeError` for no text."""
        check_text("key", key)
        known = self.presence_key
        if known not in (None, key):
            raise make(
                "ChannelOptionsDiffer",
                f"channel {topic!r} is present as {known!r}, so not as {key!r} too",
                hint=f"use the key {known!r} here, another topic, or a second client for {key!r}",
            )
        return msgspec.structs.replace(self, presence_key=key)

    def __str__(self) -> str:
        given = {name: value for name, value in msgspec.structs.asdict(self).items() if value not in (False, None)}
        return ", ".join(f"{name}={value!r}" for name, value in given.items()) or "none"


class JoinRequest(msgspec.Struct, frozen=True):
    """One join: what it asks for, from the token and the bindings of this moment.

    `presence`: whether the server is to send presence. `resume`: LSN from which on the local server is to send changes.
    """

    ref: str
    token: str | None = None
    bindings: tuple[ChangesBinding, ...] = ()
    presence: bool = False
    replay: Mapping[str, int] | None = None
    resume: int | None = None

    def payload(self, options: ChannelOptions) -> dict[str, Any]:
        """The payload of `phx_join`."""
        broadcast: dict[str, Any] = {"ack": options.ack, "self": options.broadcast_self}
        if self.replay:
            broadcast["replay"] = dict(self.replay)
        if options.replication_ready:
            broadcast["replication_ready"] = True
        config: dict[str, Any] = {
            "broadcast": broadcast,
            "presence": {"key": options.presence_key or "", "enabled": self.presence},
            "postgres_changes": [binding.params() for binding in self.bindings],
            "private": options.private,
        }
        if self.resume is not None:
            config["resume"] = {"lsn": self.resume}
        payload: dict[str, Any] = {"config": config}
        if self.token:
            payload["access_token"] = self.token
        return payload


def check_text(name: str, value: object) -> None:
    """Raises `TypeError` for an argument that is not text."""
    if not isinstance(value, str):
        raise TypeError(f"{name}= takes text, not {value!r}")


def check_flag(name: str, value: object) -> None:
    """Raises `TypeError` for an argument that is not a bool: "no" would count as true here, and as false elsewhere."""
    if not isinstance(value, bool):
        raise TypeError(f"{name}= takes True or False, not {value!r}")


def check_filter(value: object) -> None:
    """Raises `TypeError` for an argument that is not a filter."""
    if not (value is None or isinstance(value, str | Filter)):
        raise TypeError(f"filter= takes text such as 'status=eq.open', or what where() returns, not {value!r}")
