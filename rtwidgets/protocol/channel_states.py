"""The states of a channel's machine, and the effects that its owner performs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import msgspec

from .errors import RealtimeError
from .events import Event
from .messages import Message
from .presence import PresenceChange
from .subscription import ChangesBinding, JoinRequest

Status = Literal["closed", "joining", "joined", "leaving", "errored"]
Routes = Mapping[int, tuple[ChangesBinding, ...]]

# --- states ----------------------------------------------------------------------------------------------------------


class Closed(msgspec.Struct, frozen=True):
    """Nobody wants the channel joined."""

    status: Status = "closed"
    error: RealtimeError | None = None


class Joined(msgspec.Struct, frozen=True):
    """The server let us in. `routes`: the bindings that it serves, by subscription id."""

    request: JoinRequest
    since: float
    routes: Routes
    replicating: bool = False
    error: RealtimeError | None = None
    status: Status = "joined"


class Authorizing(msgspec.Struct, frozen=True):
    """The token for a join is being fetched; `joined`: the join that still stands until then."""

    fresh_token: bool = False
    joined: Joined | None = None
    error: RealtimeError | None = None

    @property
    def status(self) -> Status:
        return "joined" if self.joined is not None else "joining"


class Joining(msgspec.Struct, frozen=True):
    """`phx_join` was sent; the answer is due at `until`."""

    request: JoinRequest
    until: float
    error: RealtimeError | None = None
    status: Status = "joining"


class Waiting(msgspec.Struct, frozen=True):
    """The join was refused or ended; the next one is due at `until`. `limited`: and no sooner, whatever happens."""

    until: float
    error: RealtimeError
    fresh_token: bool = False
    limited: bool = False
    status: Status = "errored"


class Offline(msgspec.Struct, frozen=True):
    """There is no connection; the channel is joined with the next one, but not before `not_before`."""

    error: RealtimeError | None = None
    fresh_token: bool = False
    not_before: float = 0.0

    @property
    def status(self) -> Status:
        return "joining" if self.error is None else "errored"


class Failed(msgspec.Struct, frozen=True):
    """The server refused for good: it is a person's turn."""

    error: RealtimeError
    status: Status = "errored"


class Leaving(msgspec.Struct, frozen=True):
    """`phx_leave` was sent; the channel is closed at `until` in any case."""

    ref: str
    join_ref: str
    until: float
    status: Status = "leaving"
    error: RealtimeError | None = None


State = Closed | Authorizing | Joining | Joined | Waiting | Offline | Failed | Leaving


# --- effects ---------------------------------------------------------------------------------------------------------


class Send(msgspec.Struct, frozen=True):
    """Send this message."""

    message: Message


class GetToken(msgspec.Struct, frozen=True):
    """Fetch the token for a join, then call `authorized` or `unauthorized`."""

    fresh: bool


class Opened(msgspec.Struct, frozen=True):
    """The channel is joined. Row changes come only after `Ready`."""


class Ready(msgspec.Struct, frozen=True):
    """The server listens to the database for us now ("Subscribed to PostgreSQL").

    The local server also says up to which `lsn` it had sent changes, and, where the join asked to resume, whether it
    does: then everything since follows.
    """

    lsn: int | None = None
    resumed: bool = False


class CaughtUp(msgspec.Struct, frozen=True):
    """Every change that came between the break and a resumed `Ready` has been sent."""


class TableChanged(msgspec.Struct, frozen=True):
    """A table is not what it was: its columns, key, publication, or the relation itself. `rows_kept`: it is the same
    relation, with the same key and rows that hold what they did.
    """

    schema: str
    table: str
    rows_kept: bool = False


class Replicating(msgspec.Struct, frozen=True):
    """What the database broadcasts arrives from now on (asked for by `replication_ready`)."""


class Deliver(msgspec.Struct, frozen=True):
    """A message for whoever registered for its class."""

    event: Event | PresenceChange


class Replied(msgspec.Struct, frozen=True):
    """The answer to a push."""

    ref: str
    error: RealtimeError | None


class Gap(msgspec.Struct, frozen=True):
    """Row changes may be missing from here on, until the next `Ready`."""

    error: RealtimeError


class Down(msgspec.Struct, frozen=True):
    """The join was refused or ended. `retry_in`: seconds until the next one, None where there will be none."""

    error: RealtimeError
    retry_in: float | None


class BindingsRefused(msgspec.Struct, frozen=True):
    """The server could not subscribe to the database as the bindings ask."""

    error: RealtimeError


class Ended(msgspec.Struct, frozen=True):
    """The channel is closed: nothing of it is left on the server."""


Effect = (
    Send | GetToken | Opened | Ready | CaughtUp | TableChanged | Replicating | Deliver | Replied | Gap | Down
    | BindingsRefused | Ended
)  # fmt: skip
Effects = list[Effect]
