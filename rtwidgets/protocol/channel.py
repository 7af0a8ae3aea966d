"""One channel as its client sees it: messages in, events out. No sockets and no clocks.

Sources: Phoenix' channel protocol, and the frames recorded from Supabase Realtime v2.122.0.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, cast

import msgspec

from .errors import AUTH_CODES, RealtimeError, from_reason, from_system, make, min_wait
from .filters import Filter, parse
from .messages import Message
from .presence import PresenceChange, PresenceMachine

Status = Literal["closed", "joining", "joined", "leaving", "errored"]

PREFIX = "realtime:"
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
        """A binding from what a person gives. Raises `RealtimeError` for what no server takes as it is meant: an
        unknown event would be every event.
        """
        if event.upper() not in EVENTS:
            raise make("InvalidSubscription", f"there is no event {event!r}: use one of {', '.join(EVENTS)}")
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


class Joined(msgspec.Struct, frozen=True):
    """The server let us in. Row changes come only after `Ready`."""


class Ready(msgspec.Struct, frozen=True):
    """The server listens to the database for us now ("Subscribed to PostgreSQL").

    Our local server also says up to which `lsn` it had sent changes, and, where the join asked to resume, whether it
    does: then everything since follows.
    """

    lsn: int | None = None
    resumed: bool = False


class Replicating(msgspec.Struct, frozen=True):
    """What the database broadcasts arrives from now on (asked for by `replication_ready`)."""


class Left(msgspec.Struct, frozen=True):
    """We asked to leave and are out."""


class Down(msgspec.Struct, frozen=True):
    """The join failed or the channel ended.

    `retry`: join again, `wait` seconds from now at least; `fresh_token`: ask for a new token first.
    """

    error: RealtimeError
    retry: bool
    wait: float = 0.0
    fresh_token: bool = False


class Broadcast(msgspec.Struct, frozen=True):
    """A broadcast. `meta` has `id` (and `replayed`) where it came from the database, else it is empty."""

    event: str
    payload: Any
    meta: dict[str, Any]


class Replied(msgspec.Struct, frozen=True):
    """The answer to a push: `error` is None for `ok`."""

    ref: str
    response: Any
    error: RealtimeError | None


class SystemError_(msgspec.Struct, frozen=True):
    """The server could not subscribe to the database as asked (`postgres=True`), or warns of what it does next."""

    error: RealtimeError
    postgres: bool


Event = Joined | Ready | Replicating | Left | Down | Broadcast | PresenceChange | Replied | SystemError_


class ChannelMachine:
    """The state of one channel. Row changes are routed by `routes`: subscription id to the bindings that it serves."""

    def __init__(self, topic: str, options: ChannelOptions) -> None:
        self.topic = topic if topic.startswith(PREFIX) else PREFIX + topic
        self.options = options
        self.status: Status = "closed"
        self.join_ref: str | None = None
        self.presence = PresenceMachine()
        self.presence_joined = False
        self.bindings: tuple[ChangesBinding, ...] = ()
        self.routes: dict[int, tuple[ChangesBinding, ...]] = {}
        self.replicating = False
        self.auth_tried = False
        self._system: RealtimeError | None = None
        self._leave_ref: str | None = None

    def join(
        self,
        ref: str,
        token: str | None,
        bindings: tuple[ChangesBinding, ...],
        *,
        presence: bool,
        replay: Mapping[str, int] | None = None,
        resume: int | None = None,
    ) -> Message:
        """The join to send now: built from the token and the bindings of this moment, never from those of an earlier
        join.
        """
        self.status, self.join_ref = "joining", ref
        self.bindings, self.routes = tuple(dict.fromkeys(bindings)), {}
        self._system, self.replicating = None, False
        self._leave_ref = None  # what answers a leave of before must not end this join
        self.presence_joined = presence
        self.presence.rejoin()
        if not presence:
            self.presence.expect_no_state()
        options = self.options
        broadcast: dict[str, Any] = {"ack": options.ack, "self": options.broadcast_self}
        if replay:
            broadcast["replay"] = dict(replay)
        if options.replication_ready:
            broadcast["replication_ready"] = True
        config: dict[str, Any] = {
            "broadcast": broadcast,
            "presence": {"key": options.presence_key or "", "enabled": presence},
            "postgres_changes": [binding.params() for binding in self.bindings],
            "private": options.private,
        }
        if resume is not None:
            config["resume"] = {"lsn": resume}
        payload: dict[str, Any] = {"config": config}
        if token:
            payload["access_token"] = token
        return Message(self.topic, "phx_join", payload, ref, ref)

    def leave(self, ref: str) -> Message:
        """The leave to send; `Left` follows."""
        self.status, self._leave_ref = "leaving", ref
        return Message(self.topic, "phx_leave", {}, ref, self.join_ref)

    def lost(self) -> None:
        """The socket is gone, and the server's side of this channel with it."""
        if self.status != "closed":
            self.status = "errored"
        self.routes = {}

    def end(self) -> None:
        """Out, whatever the server says."""
        self.status, self.join_ref, self.routes = "closed", None, {}

    def handle(self, message: Message) -> Event | None:
        """What a message for this topic means (not `postgres_changes`: see `routes`); None for what belongs to an
        earlier join, or is unknown.
        """
        event = message.event
        if message.join_ref is not None and message.join_ref != self.join_ref:
            return None
        given: Any = message.payload
        payload: Mapping[str, Any] = cast("Mapping[str, Any]", given) if isinstance(given, Mapping) else {}
        if event == "broadcast":
            meta: Any = payload.get("meta")
            return Broadcast(
                str(payload.get("event", "")),
                payload.get("payload"),
                cast("dict[str, Any]", meta) if isinstance(meta, dict) else {},
            )
        if event == "presence_diff":
            return self.presence.on_diff(payload)
        if event == "presence_state":
            return self.presence.on_state(payload)
        if event == "phx_reply":
            return self._reply(message.ref, payload)
        if event == "system":
            return self._on_system(payload)
        if event in ("phx_close", "phx_error"):
            return self._closed(message, crashed=event == "phx_error")
        return None

    def _reply(self, ref: str | None, payload: Mapping[str, Any]) -> Event | None:
        response: Any = payload.get("response")
        ok = payload.get("status") == "ok"
        error = None if ok else _reply_error(response)
        if ref is not None and ref == self.join_ref and self.status == "joining":
            if error is not None:
                return self._down(error)
            self._map(response)
            self.status = "joined"
            return Joined()
        if ref is not None and ref == self._leave_ref:
            self._leave_ref = None
            self.end()
            return Left()
        return Replied(ref, response, error) if ref is not None else None

    def _map(self, response: Any) -> None:
        """By position: the server may add fields or change their spelling, so fields are never compared."""
        entries: Any = (
            cast("Mapping[str, Any]", response).get("postgres_changes") if isinstance(response, Mapping) else None
        )
        routes: dict[int, tuple[ChangesBinding, ...]] = {}
        if isinstance(entries, list):
            for binding, entry in zip(self.bindings, cast("list[Any]", entries), strict=False):
                number: Any = cast("Mapping[str, Any]", entry).get("id") if isinstance(entry, Mapping) else None
                if isinstance(number, int):
                    routes[number] = (*routes.get(number, ()), binding)
        self.routes = routes

    def _on_system(self, payload: Mapping[str, Any]) -> Event | None:
        text = str(payload.get("message", ""))
        postgres = payload.get("extension") == "postgres_changes"
        if postgres and self.status != "joined":
            return None  # of the join before this one: serializer 1.0.0 does not say which
        if payload.get("status") == "ok":
            self.auth_tried = False
            if not postgres and "replication connection" in text.lower():
                self.replicating = True
                return Replicating()
            if not postgres:
                return None
            lsn = payload.get("lsn")
            return Ready(lsn if isinstance(lsn, int) else None, payload.get("resumed") is True)
        error = from_system(text)
        if not postgres:
            self._system = error  # the reason of the close that follows
        return SystemError_(error, postgres)

    def _closed(self, message: Message, *, crashed: bool) -> Event | None:
        if (message.ref or message.join_ref) not in (self.join_ref, None):
            return None
        if self.status == "leaving":
            self.end()
            return Left()
        if self.status == "closed":
            return None
        text = "the channel crashed on the server" if crashed else "the server closed the channel"
        return self._down(self._system or make("ChannelCrashed" if crashed else "ChannelClosed", text))

    def _down(self, error: RealtimeError) -> Down:
        self.status, self.routes = "errored", {}
        if error.code in AUTH_CODES:
            first, self.auth_tried = not self.auth_tried, True
            return Down(error, retry=first, fresh_token=first)
        return Down(error, retry=error.retryable, wait=min_wait(error))


def _reply_error(response: Any) -> RealtimeError:
    if isinstance(response, Mapping):
        return from_reason(str(cast("Mapping[str, Any]", response).get("reason") or ""))
    return from_reason(str(response or ""))
