"""The states of a live table: what `table_sync` steps between.

Every state is immutable. `status` and `error` are what users see; `running` names the reads under way, so that the
shell cancels any other; `wake_at` is when the state needs a `Tick`, on the clock of `step`'s `now`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from ..protocol.errors import RealtimeError
from ..protocol.messages import Change
from .delta import Key
from .row_changes import Repeats
from .snapshot import SnapshotPosition
from .verification import Schedule

Status = Literal["connecting", "catching up", "live", "stale", "error", "closed"]

MAX_WAITING = 200_000
"""Changes kept while a table is paused or read; past this they are dropped, and the table is read again instead."""


class Backlog:
    """Changes that wait, in order. `add` returns a longer one; the old one stays as it was. `overflow`: there were more
    than `MAX_WAITING`, and none is kept.
    """

    __slots__ = ("_changes", "_count", "overflow")

    def __init__(self, changes: Sequence[Change] = (), *, overflow: bool = False) -> None:
        self._changes = list(changes)
        self._count = len(self._changes)
        self.overflow = overflow

    def __len__(self) -> int:
        return self._count

    def __repr__(self) -> str:
        return "Backlog(overflow=True)" if self.overflow else f"Backlog({self._count} changes)"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Backlog) and (self.overflow, self.changes) == (other.overflow, other.changes)

    def __hash__(self) -> int:
        return hash((self._count, self.overflow))

    @property
    def changes(self) -> list[Change]:
        return self._changes[: self._count]

    def add(self, changes: Sequence[Change]) -> Backlog:
        if self.overflow or self._count + len(changes) > MAX_WAITING:
            return Backlog(overflow=True)
        longer = Backlog.__new__(Backlog)
        # The list is shared and only ever grows, so that n batches cost n appends: each backlog sees its own length.
        longer._changes = self._changes if len(self._changes) == self._count else self.changes
        longer._changes.extend(changes)
        longer._count, longer.overflow = self._count + len(changes), False
        return longer


NOTHING = Backlog()


@dataclass(frozen=True, slots=True)
class Table:
    """What stays from state to state. `key`: the key columns, empty for a log. `repeatable`: the source can be read
    again. `resumable`: after a break, changes alone bring the rows up to date. `loaded`: the rows were read once.
    `took`: seconds that reading them took. `reads`: the number of the last read. `gap`: changes are missing for good.
    """

    repeatable: bool = True
    schedule: Schedule = field(default_factory=Schedule)
    key: tuple[str, ...] = ()
    resumable: bool = True
    loaded: bool = False
    took: float = 0.0
    reads: int = 0
    gap: RealtimeError | None = None


@dataclass(frozen=True, slots=True)
class PartRead:
    """A read of some rows by key. `changed`: keys of changes that came meanwhile. `verify`: it compares a part of the
    table; else it reads rows whose changes came without all their values.
    """

    keys: tuple[Key, ...] = ()
    changed: frozenset[Key] = frozenset()
    verify: bool = False


@dataclass(frozen=True, slots=True)
class _State:
    table: Table

    @property
    def status(self) -> Status:
        return "connecting"

    @property
    def error(self) -> RealtimeError | None:
        return None

    @property
    def running(self) -> frozenset[int]:
        return frozenset()

    @property
    def wake_at(self) -> float | None:
        return None


@dataclass(frozen=True, slots=True)
class _Failing(_State):
    reason: RealtimeError | None = None

    @property
    def error(self) -> RealtimeError | None:
        return self.reason


@dataclass(frozen=True, slots=True)
class Idle(_State):
    """Not started."""


@dataclass(frozen=True, slots=True)
class Describing(_Failing):
    """The source is asked what the table is: by `read`, or again at `at`."""

    read: int | None = None
    tries: int = 0
    at: float | None = None

    @property
    def running(self) -> frozenset[int]:
        return frozenset() if self.read is None else frozenset([self.read])

    @property
    def wake_at(self) -> float | None:
        return self.at


@dataclass(frozen=True, slots=True)
class Subscribing(_Failing):
    """No rows yet; the server has not confirmed the subscription. From `at` on, that is an error to show."""

    lsn: int | None = None
    at: float | None = None

    @property
    def wake_at(self) -> float | None:
        return self.at


@dataclass(frozen=True, slots=True)
class Reading(_Failing):
    """The whole table is read; changes wait. `quiet`: the rows were up to date. `verify`: to compare them. `describe`:
    see `ReadAll`.
    """

    lsn: int | None = None
    read: int = 0
    waiting: Backlog = NOTHING
    quiet: bool = False
    verify: bool = False
    describe: bool | None = None
    tries: int = 0

    @property
    def status(self) -> Status:
        if self.quiet:
            return "live"
        return "stale" if self.reason is not None and self.table.loaded else "catching up"

    @property
    def running(self) -> frozenset[int]:
        return frozenset([self.read])


@dataclass(frozen=True, slots=True)
class Loading(_Failing):
    """The rows were read and are put into the store, off the loop where they are many; changes wait."""

    lsn: int | None = None
    read: int = 0
    waiting: Backlog = NOTHING
    position: SnapshotPosition | None = None
    quiet: bool = False
    verify: bool = False
    described: bool = False

    @property
    def status(self) -> Status:
        if self.quiet:
            return "live"
        return "stale" if self.reason is not None and self.table.loaded else "catching up"

    @property
    def running(self) -> frozenset[int]:
        return frozenset([self.read])


@dataclass(frozen=True, slots=True)
class Live(_State):
    """Changes are applied as they come. `position`: up to where the rows hold them already. `repeats`: changes that a
    resumed server sends once more. `unread`: rows to read by key. `refill_at`: when to read the whole table again.
    """

    lsn: int | None = None
    position: SnapshotPosition | None = None
    repeats: Repeats = field(default_factory=Repeats)
    unread: tuple[Key, ...] = ()
    parts: Mapping[int, PartRead] = field(default_factory=dict[int, PartRead])
    refill_at: float | None = None

    @property
    def status(self) -> Status:
        return "live"

    @property
    def error(self) -> RealtimeError | None:
        return self.table.gap

    @property
    def running(self) -> frozenset[int]:
        return frozenset(self.parts)

    @property
    def wake_at(self) -> float | None:
        if self.unread and all(part.verify for part in self.parts.values()):
            return 0.0
        at = self.table.schedule.next_at
        return at if self.refill_at is None or (at is not None and at < self.refill_at) else self.refill_at

    @property
    def settled(self) -> bool:
        """Whether the rows hold all that came, so that the server may go on from `lsn`."""
        waits = self.unread or self.refill_at is not None or any(not part.verify for part in self.parts.values())
        return self.table.resumable and not waits


@dataclass(frozen=True, slots=True)
class Resuming:
    """The server sends what came during a break; `live` when it marks the end."""

    live: Live

    @property
    def table(self) -> Table:
        return self.live.table

    @property
    def lsn(self) -> int | None:
        return self.live.lsn

    @property
    def status(self) -> Status:
        return "catching up"

    @property
    def error(self) -> RealtimeError | None:
        return self.live.error

    @property
    def running(self) -> frozenset[int]:
        return self.live.running

    @property
    def wake_at(self) -> float | None:
        return None  # what the changes leave to be read is read when all have come


@dataclass(frozen=True, slots=True)
class Behind(_Failing):
    """Subscribed, but the rows are not up to date: they are read at `at`."""

    lsn: int | None = None
    at: float = 0.0
    waiting: Backlog = NOTHING
    describe: bool | None = None
    tries: int = 0

    @property
    def status(self) -> Status:
        return "stale" if self.table.loaded else "catching up"

    @property
    def wake_at(self) -> float | None:
        return self.at


@dataclass(frozen=True, slots=True)
class Stale(_Failing):
    """The subscription is lost; the rows stay. `lsn`: from where it may be resumed, None where it must be read."""

    lsn: int | None = None
    since: datetime | None = None

    @property
    def status(self) -> Status:
        return "stale"


@dataclass(frozen=True, slots=True)
class Failed(_Failing):
    """It cannot go on without a person. `bound`: the subscription may be confirmed again. `refused`: the server sent a
    change without its values, for want of a permission: the first one with values ends the state.
    """

    lsn: int | None = None
    bound: bool = False
    refused: bool = False

    @property
    def status(self) -> Status:
        return "error"


@dataclass(frozen=True, slots=True)
class Paused:
    """The rows stand still. `before` goes on as far as it moves no rows; `held` are the changes that came."""

    before: Unpaused
    held: Backlog = NOTHING

    @property
    def table(self) -> Table:
        return self.before.table

    @property
    def lsn(self) -> int | None:
        return getattr(self.before, "lsn", None)

    @property
    def status(self) -> Status:
        return self.before.status

    @property
    def error(self) -> RealtimeError | None:
        return self.before.error

    @property
    def running(self) -> frozenset[int]:
        return self.before.running

    @property
    def wake_at(self) -> float | None:
        return None if self.table.loaded else self.before.wake_at


@dataclass(frozen=True, slots=True)
class Closed(_Failing):
    """Stopped, or the client was closed. Answers every event with nothing."""

    @property
    def status(self) -> Status:
        return "closed"


Unpaused = Idle | Describing | Subscribing | Reading | Loading | Live | Resuming | Behind | Stale | Failed
State = Unpaused | Paused | Closed
STATES: tuple[type[State], ...] = (
    Idle, Describing, Subscribing, Reading, Loading, Live, Resuming, Behind, Stale, Failed, Paused, Closed,
)  # fmt: skip
