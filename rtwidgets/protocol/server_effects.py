"""What a `ServerSession` has its host do, one structure each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from .messages import Message
from .server_channel import Identity, ServerChannel


class Send(msgspec.Struct, frozen=True, gc=False):
    """Send a message to the client."""

    message: Message


class Refuse(msgspec.Struct, frozen=True):
    """Send the reply that refuses a join, after the server's delay for that; then end the connection if `drops`."""

    message: Message
    reason: str
    drops: bool


class Authorize(msgspec.Struct, frozen=True):
    """Ask the policies what `identity` may do on the channel's topic; then `authorized` or `unable`."""

    channel: ServerChannel
    identity: Identity


class ReadStored(msgspec.Struct, frozen=True):
    """Read stored messages of the topic since a moment (ms since 1970); then `stored` or `unable`."""

    channel: ServerChannel
    since: int
    limit: int


class Enter(msgspec.Struct, frozen=True):
    """The channel receives what is published on its topic from here on."""

    channel: ServerChannel


class Leave(msgspec.Struct, frozen=True):
    """The channel receives nothing from here on: end its subscription, and what it tracks.

    `informed`: its client still receives the diff of its own presence, as in Supabase after a `phx_leave`.
    """

    channel: ServerChannel
    informed: bool = False


class SendStored(msgspec.Struct, frozen=True):
    """Send the stored messages that `stored` was given."""

    channel: ServerChannel
    messages: Sequence[Any]


class SendPresence(msgspec.Struct, frozen=True):
    """Send the `presence_state` of the topic."""

    channel: ServerChannel


class Subscribe(msgspec.Struct, frozen=True):
    """Subscribe the channel to its row changes, under its identity of now."""

    channel: ServerChannel


class AwaitReplication(msgspec.Struct, frozen=True):
    """Wait until messages from the database arrive; then `replication`."""

    channel: ServerChannel


class Publish(msgspec.Struct, frozen=True, gc=False):
    """Send a broadcast to the topic's other channels, and to this one if its `echo` is set."""

    channel: ServerChannel
    event: str
    body: bytes
    """The payload as JSON, or raw bytes if `raw`."""
    raw: bool
    binary: bool
    """Whether it came in a binary frame."""
    meta: Mapping[str, Any] | None


class Track(msgspec.Struct, frozen=True):
    channel: ServerChannel
    state: Mapping[str, Any]


class Untrack(msgspec.Struct, frozen=True):
    channel: ServerChannel


class WakeAt(msgspec.Struct, frozen=True):
    """Call `wake` at that time (s since 1970), or before."""

    at: float


Effect = (
    Send
    | Refuse
    | Authorize
    | ReadStored
    | Enter
    | Leave
    | SendStored
    | SendPresence
    | Subscribe
    | AwaitReplication
    | Publish
    | Track
    | Untrack
    | WakeAt
)
Effects = list[Effect]
