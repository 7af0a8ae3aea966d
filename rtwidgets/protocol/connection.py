"""The connection as its client sees it: a machine without I/O for refs, the heartbeat, token renewal and reconnects.

Each method is an event: it moves the machine to another state and returns the effects that its owner performs in order.
Times are seconds of a clock that only grows; `wake_at` says when `tick` is due. What each event does in each state is a
table in tests/protocol/test_connection.py.

    Closed ── connect ──> Opening ── opened ──> Open
                           ^   │                  │
                           │   └─ refused ─┬──────┴─ lost ──> Waiting ── wait over ──> Opening
                           └── connect ── Failed (refused for good: a person's turn)
"""

from __future__ import annotations

from typing import Literal

import msgspec

from .backoff import Backoff
from .errors import AUTH_CODES, RealtimeError, make, min_wait
from .messages import Message

Status = Literal["closed", "connecting", "connected", "reconnecting", "error"]

STABLE = 5.0
"""Seconds for which a connection must last before the next failure counts as the first one."""
LOOK, ASLEEP = 2.0, 5.0
"""Seconds between two looks at the clocks, and how far apart they must go for the machine to have been asleep."""
RENEW_BEFORE = 60.0
"""Seconds before a token's end at which the next one is fetched."""
RETRY_RENEWAL = 5.0
"""Seconds after which a renewal that failed is tried again."""


# --- states ----------------------------------------------------------------------------------------------------------


class Closed(msgspec.Struct, frozen=True):
    """Nobody wants a connection."""

    status: Status = "closed"
    error: RealtimeError | None = None


class Opening(msgspec.Struct, frozen=True):
    """A socket is being opened. `error`: why the one before ended."""

    error: RealtimeError | None = None
    again: bool = False

    @property
    def status(self) -> Status:
        return "reconnecting" if self.again else "connecting"


class Open(msgspec.Struct, frozen=True):
    """There is a socket. `beat`: the heartbeat that waits for its answer, and when it was sent."""

    since: float
    beat: tuple[str, float] | None
    next_beat: float
    renew_at: float | None = None
    status: Status = "connected"
    error: RealtimeError | None = None


class Waiting(msgspec.Struct, frozen=True):
    """The socket was lost or not opened; the next try is due at `until`."""

    until: float
    error: RealtimeError
    fresh_token: bool = False
    status: Status = "reconnecting"


class Failed(msgspec.Struct, frozen=True):
    """The server refused for good: it is a person's turn."""

    error: RealtimeError
    status: Status = "error"


State = Closed | Opening | Open | Waiting | Failed


# --- effects ---------------------------------------------------------------------------------------------------------


class OpenSocket(msgspec.Struct, frozen=True):
    """Fetch the token (a fresh one), open a socket, then call `opened` or `refused`."""

    fresh_token: bool


class Send(msgspec.Struct, frozen=True):
    """Send this message."""

    message: Message


class Abort(msgspec.Struct, frozen=True):
    """Drop the socket without a handshake: its peer does not answer."""


class RenewToken(msgspec.Struct, frozen=True):
    """Fetch the next token, then call `renewed`."""


class Connected(msgspec.Struct, frozen=True):
    """Channels may join."""


class Disconnected(msgspec.Struct, frozen=True):
    """Channels are not joined any more."""

    error: RealtimeError


class GaveUp(msgspec.Struct, frozen=True):
    """Nothing is tried any more."""

    error: RealtimeError


class Beat(msgspec.Struct, frozen=True):
    """A heartbeat was answered: `round_trip` is new."""


Effect = OpenSocket | Send | Abort | RenewToken | Connected | Disconnected | GaveUp | Beat
Effects = list[Effect]


class ConnectionMachine:
    """The life of a client's connection.

    `heartbeat`: seconds between two heartbeats. After one, something must arrive within the smaller of that and
    `timeout`: the answer, or anything else.
    `renewable`: whether a fresh token can be fetched.
    """

    def __init__(
        self, *, heartbeat: float, timeout: float, renewable: bool = False, backoff: Backoff | None = None
    ) -> None:
        self.heartbeat = heartbeat
        self.patience = min(timeout, heartbeat)
        self.backoff = backoff or Backoff()
        self.reconnects = 0
        """How often the connection was opened after the first time."""
        self.round_trip: float | None = None
        """Seconds that the last heartbeat took there and back."""
        self._renewable = renewable
        self._state: State = Closed()
        self._ref = 0
        self._was_open = False
        self._refused = 0
        """How often it was refused for good since it was open last."""
        self._cause: RealtimeError | None = None
        """What our side found wrong with the socket that it dropped."""
        self._received_at = 0.0
        """When data arrived last."""
        self._seen: tuple[float, float] = (0.0, 0.0)
        """Both clocks at the last look."""

    @property
    def state(self) -> State:
        """The state of now."""
        return self._state

    @property
    def status(self) -> Status:
        """The state in the words that users see."""
        return self._state.status

    @property
    def error(self) -> RealtimeError | None:
        """What is wrong now."""
        return self._state.error

    @property
    def wake_at(self) -> float | None:
        """When `tick` is due; None for never."""
        state = self._state
        if isinstance(state, Waiting):
            return state.until
        if not isinstance(state, Open):
            return None
        due = state.next_beat if state.beat is None else self._silent_until(state.beat)
        due = due if state.renew_at is None else min(due, state.renew_at)
        return min(due, self._seen[0] + LOOK)

    def next_ref(self) -> str:
        """A ref that this client has not used."""
        self._ref += 1
        return str(self._ref)

    # --- what its owner wants ---

    def connect(self) -> Effects:
        """Connect, and stay connected."""
        if not isinstance(self._state, Closed | Failed):
            return []
        self._was_open, self._refused = False, 0
        self._state = Opening()
        return [OpenSocket(fresh_token=False)]

    def close(self) -> Effects:
        """No connection any more."""
        self._state = Closed()
        return []

    # --- the socket ---

    def opened(self, now: float, wall: float) -> Effects:
        """The socket is open; `wall`: seconds of the wall clock."""
        if not isinstance(self._state, Opening):
            return []
        self.reconnects += self._was_open
        self._was_open, self._refused, self._cause = True, 0, None
        self._seen = (now, wall)
        self._state = Open(now, None, now)
        return [Connected(), *self._beat(now)]

    def refused(self, error: RealtimeError, now: float) -> Effects:
        """No socket was opened."""
        if not isinstance(self._state, Opening):
            return []
        fresh_token = False
        if not error.retryable and not self._was_open:
            # What answered once will again: a proxy or a restart may answer in between. A first refusal is a person's
            # turn, but for a token that can be renewed.
            self._refused += 1
            fresh_token = error.code in AUTH_CODES and self._renewable
            if self._refused > 1 or not fresh_token:
                self._state = Failed(error)
                return [GaveUp(error)]
        self._state = Waiting(now + self.backoff.next(min_wait(error)), error, fresh_token)
        return []

    def lost(self, error: RealtimeError, now: float) -> Effects:
        """The socket is gone."""
        state = self._state
        if not isinstance(state, Open):
            return []
        error, self._cause = self._cause or error, None
        if now - state.since >= STABLE:
            self.backoff.reset()
        self._state = Waiting(now + self.backoff.next(), error)
        return [Disconnected(error)]

    def data_received(self, now: float) -> Effects:
        """Data arrived, whatever it is: an answer to the heartbeat may stand behind megabytes of changes."""
        self._received_at = now
        return []

    def receive(self, message: Message, now: float) -> Effects:
        """A message of the topic `phoenix`: the answer to a heartbeat."""
        state = self._state
        if not isinstance(state, Open) or state.beat is None or message.ref != state.beat[0]:
            return []
        self.round_trip = now - state.beat[1]
        self._state = msgspec.structs.replace(state, beat=None)
        return [Beat()]

    # --- the token ---

    def renewed(self, left: float | None, now: float) -> Effects:
        """The token of now ends in `left` seconds; None where it says nothing of it, or there is no other to fetch."""
        state = self._state
        if isinstance(state, Open):
            renew_at = None
            if left is not None and self._renewable:
                # A function may return the same token until shortly before its end, or for ever.
                renew_at = now + max(renewal_due(left), 1.0 if left > 0 else 10.0)
            self._state = msgspec.structs.replace(state, renew_at=renew_at)
        return []

    def not_renewed(self, now: float) -> Effects:
        """The next token could not be fetched."""
        if isinstance(self._state, Open):
            self._state = msgspec.structs.replace(self._state, renew_at=now + RETRY_RENEWAL)
        return []

    # --- time ---

    def tick(self, now: float, wall: float) -> Effects:
        """Time has passed; `wall`: seconds of the wall clock."""
        state = self._state
        if isinstance(state, Waiting):
            if now < state.until:
                return []
            self._state = Opening(state.error, again=True)
            return [OpenSocket(state.fresh_token)]
        if not isinstance(state, Open):
            return []
        # The clock that timers follow stands still while a laptop sleeps (on Linux and macOS), the wall clock does not.
        apart = (wall - self._seen[1]) - (now - self._seen[0])
        self._seen = (now, wall)
        effects: Effects = []
        if state.renew_at is not None and now >= state.renew_at:
            effects.append(RenewToken())
            self._state = state = msgspec.structs.replace(state, renew_at=None)
        if apart > ASLEEP:
            return effects + self._beat(now)  # the server may have given up on us meanwhile
        if state.beat is not None and now >= self._silent_until(state.beat):
            self._cause = make("ConnectionLost", f"no answer to the heartbeat within {self.patience:g} s")
            self._state = msgspec.structs.replace(state, beat=None, next_beat=now + self.heartbeat)
            return [*effects, Abort()]
        if state.beat is None and now >= state.next_beat:
            return effects + self._beat(now)
        return effects

    def _silent_until(self, beat: tuple[str, float]) -> float:
        """Until when nothing may arrive before the connection counts as dead."""
        return max(beat[1], self._received_at) + self.patience

    def _beat(self, now: float) -> Effects:
        assert isinstance(self._state, Open)
        ref = self.next_ref()
        self._state = msgspec.structs.replace(self._state, beat=(ref, now), next_beat=now + self.heartbeat)
        return [Send(Message("phoenix", "heartbeat", {}, ref))]


def renewal_due(left: float) -> float:
    """Seconds until a token that ends in `left` seconds is to be renewed."""
    return max(0.0, left - RENEW_BEFORE if left > 3 * RENEW_BEFORE else left * 0.8)
