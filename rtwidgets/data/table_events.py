"""The events that change the state of a live table, and the effects that follow: what `table_sync` takes and gives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from ..client.snapshot_source import Row
from ..protocol.errors import RealtimeError
from ..protocol.messages import Change
from .delta import Key
from .row_changes import Repeats
from .snapshot import Snapshot
from .table_states import State

# --- events


@dataclass(frozen=True, slots=True)
class Start:
    """Follow the table."""


@dataclass(frozen=True, slots=True)
class Described:
    """The source said what the table is, and the request fits it."""

    read: int
    key: tuple[str, ...]
    resumable: bool


@dataclass(frozen=True, slots=True)
class Confirmed:
    """The server listens to the database from now on."""

    at: datetime


@dataclass(frozen=True, slots=True)
class Resumed:
    """Subscribed again, and every change since `lsn` follows, then `CaughtUp`; of the transaction at `lsn`, `repeats`
    came before.
    """

    at: datetime
    repeats: Repeats = field(default_factory=Repeats)


@dataclass(frozen=True, slots=True)
class CaughtUp:
    """The server has sent everything that came during the break."""


@dataclass(frozen=True, slots=True)
class Gap:
    """Changes may be missing from here on: the line, the channel or a frame was lost."""

    at: datetime
    reason: RealtimeError | None = None


@dataclass(frozen=True, slots=True)
class Refused:
    """The channel cannot serve the table."""

    reason: RealtimeError
    at: datetime


@dataclass(frozen=True, slots=True)
class TableChanged:
    """The table, its key, types or publication are not what they were. `rows_kept`: the rows that were read before are
    still true, but for columns that came or went, which the next change names.
    """

    rows_kept: bool = False


@dataclass(frozen=True, slots=True)
class ResumePoint:
    """The position in Postgres' log from which the subscription may be resumed."""

    lsn: int | None


@dataclass(frozen=True, slots=True)
class Changed:
    """The changes of one read of the socket."""

    changes: Sequence[Change]


@dataclass(frozen=True, slots=True)
class Applied:
    """What an `Apply` left to do: rows to read by key, or the table; `reshaped`: its columns are others now; `broken`:
    values could not be applied.
    """

    unread: tuple[Key, ...] = ()
    refill: bool = False
    reshaped: bool = False
    broken: RealtimeError | None = None


@dataclass(frozen=True, slots=True)
class SnapshotRead:
    """The whole table was read, in `took` seconds."""

    read: int
    snapshot: Snapshot
    took: float = 0.0


@dataclass(frozen=True, slots=True)
class Loaded:
    """The store holds the rows of a read. `took`: seconds since the read began. `large`: too many to compare often."""

    read: int
    took: float = 0.0
    large: bool = False


@dataclass(frozen=True, slots=True)
class PartFound:
    """Rows were read by key. `keys` are those that were asked for."""

    read: int
    rows: Mapping[Key, Row]
    keys: Sequence[Key]


@dataclass(frozen=True, slots=True)
class ReadFailed:
    """A read ended with an error. `broken`: its rows make no sense for the columns as we know them."""

    read: int
    reason: RealtimeError
    broken: bool = False


@dataclass(frozen=True, slots=True)
class Verify:
    """Compare the whole table with the database, now."""


@dataclass(frozen=True, slots=True)
class Pause:
    """Let the rows stand still."""


@dataclass(frozen=True, slots=True)
class Resume:
    """Go on: apply what waited, and do what is owed."""


@dataclass(frozen=True, slots=True)
class Tick:
    """The time of `wake_at` has come."""


@dataclass(frozen=True, slots=True)
class Stop:
    """Stop following the table. Its rows stay readable."""


Event = (
    Start | Described | Confirmed | Resumed | CaughtUp | Gap | Refused | TableChanged | ResumePoint | Changed | Applied
    | SnapshotRead | Loaded | PartFound | ReadFailed | Verify | Pause | Resume | Tick | Stop
)  # fmt: skip
EVENTS: tuple[type[Event], ...] = (
    Start, Described, Confirmed, Resumed, CaughtUp, Gap, Refused, TableChanged, ResumePoint, Changed, Applied,
    SnapshotRead, Loaded, PartFound, ReadFailed, Verify, Pause, Resume, Tick, Stop,
)  # fmt: skip


# --- effects


@dataclass(frozen=True, slots=True)
class Describe:
    """Ask the source what the table is. Ends in `Described` or `ReadFailed`."""

    read: int


@dataclass(frozen=True, slots=True)
class Bind:
    """Subscribe to the table's changes. Failing, it ends in `Refused`."""


@dataclass(frozen=True, slots=True)
class Unbind:
    """Unsubscribe."""


@dataclass(frozen=True, slots=True)
class ReadAll:
    """Read the whole table. `describe` it first: True, False, or None for where the rows have other columns than
    before. Ends in `SnapshotRead` or `ReadFailed`.
    """

    read: int
    describe: bool | None = None


@dataclass(frozen=True, slots=True)
class Load:
    """Make the store equal to a snapshot. Ends in `Loaded` or `ReadFailed`. `verify`: count what differs as repaired.
    `took`: seconds that reading it took.
    """

    read: int
    snapshot: Snapshot
    verify: bool = False
    took: float = 0.0


@dataclass(frozen=True, slots=True)
class ReadKeys:
    """Read these rows. Ends in `PartFound` or `ReadFailed`."""

    read: int
    keys: tuple[Key, ...]


@dataclass(frozen=True, slots=True)
class Compare:
    """Compare the next part of the table. Ends in `PartFound` or `ReadFailed`; in `Verify` where it has no parts."""

    read: int


@dataclass(frozen=True, slots=True)
class Apply:
    """Apply changes to the store. Ends in `Applied`."""

    changes: Sequence[Change]


@dataclass(frozen=True, slots=True)
class Merge:
    """Put rows that were read by key into the store, and remove those that are gone; `verify`: count them as repaired.
    Failing, it ends in `Applied`.
    """

    rows: Sequence[Row]
    gone: Sequence[Key]
    verify: bool = False


Effect = Describe | Bind | Unbind | ReadAll | Load | ReadKeys | Compare | Apply | Merge
Step = tuple[State, Sequence[Effect]]
