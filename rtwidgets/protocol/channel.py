"""One channel as its client sees it: a machine without I/O that decides when to join, to join again, and to give up.

Each method is an event: it moves the machine to another state and returns the effects that its owner performs in order.
Times are seconds of any clock that only grows; `wake_at` says when `tick` is due. What each event does in each state is
a table in tests/protocol/test_channel.py.

    Closed ── subscribe ──> Authorizing ── authorized ──> Joining ── reply ──> Joined ── unsubscribe ──> Leaving
                              ^      ^                       │                    │
                              │      └─ wait over ─ Waiting <┴ refused, ended, ───┴──> Failed (a person's turn)
                              │                                not answered
                              └─ connected ─ Offline <─ disconnected, from any state that wants to be joined

Sources: Phoenix' channel protocol, and the frames recorded from Supabase Realtime v2.122.0.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import msgspec

from . import events
from .backoff import Backoff
from .channel_states import (
    Authorizing,
    BindingsRefused,
    CaughtUp,
    Closed,
    Deliver,
    Down,
    Effects,
    Ended,
    Failed,
    Gap,
    GetToken,
    Joined,
    Joining,
    Leaving,
    Offline,
    Opened,
    Ready,
    Replicating,
    Replied,
    Routes,
    Send,
    State,
    Status,
    TableChanged,
    Waiting,
)
from .errors import AUTH_CODES, RealtimeError, from_system, make, min_wait
from .messages import Message
from .presence import PresenceMachine
from .subscription import ChangesBinding, ChannelOptions, JoinRequest

PREFIX = "realtime:"
STABLE = 5.0
"""Seconds for which a join must last before the next failure counts as the first one."""


class ChannelMachine:
    """The life of one channel.

    `timeout`: seconds for an answer of the server. `renewable`: whether a fresh token can be fetched.
    """

    def __init__(
        self,
        topic: str,
        options: ChannelOptions,
        *,
        timeout: float = 10.0,
        renewable: bool = False,
        backoff: Backoff | None = None,
    ) -> None:
        self.topic = topic if topic.startswith(PREFIX) else PREFIX + topic
        self.options = options
        self.timeout = timeout
        self.backoff = backoff or Backoff(1.0, 10.0)
        self.presence = PresenceMachine()
        self.rejoins = 0
        """How often it was joined after the first time."""
        self._state: State = Closed()
        self._renewable = renewable
        self._online = False
        self._auth_tried = False
        """Whether a fresh token was tried since the channel last worked."""
        self._refusals = 0
        """How often it was refused for good since the channel last worked."""
        self._reason: RealtimeError | None = None
        """What the server reported before it closes the channel."""
        self._was_joined = self._replay_failed = False

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
    def joined(self) -> Joined | None:
        """The join that stands, also while the next one is prepared."""
        state = self._state
        return state if isinstance(state, Joined) else state.joined if isinstance(state, Authorizing) else None

    @property
    def request(self) -> JoinRequest | None:
        """What the join that stands, or is under way, asked for."""
        state = self._state
        if isinstance(state, Joining):
            return state.request
        joined = self.joined
        return None if joined is None else joined.request

    @property
    def join_ref(self) -> str | None:
        """The ref of the join that stands, is under way, or is being left."""
        if isinstance(self._state, Leaving):
            return self._state.join_ref
        request = self.request
        return None if request is None else request.ref

    @property
    def wake_at(self) -> float | None:
        """When `tick` is due; None for never."""
        state = self._state
        return state.until if isinstance(state, Joining | Waiting | Leaving) else None

    # --- what its owner wants ---

    def subscribe(self, now: float) -> Effects:
        """Join, and stay joined."""
        state = self._state
        self._auth_tried = False
        if isinstance(state, Closed | Leaving):
            return self._authorize()
        if isinstance(state, Failed):
            if self._refusals > 1 and self._online:
                # A callback that subscribes whenever the channel is down must not make a storm.
                self._state = Waiting(now + self.backoff.next(), state.error)
                return []
            return self._authorize(error=state.error)
        return []

    def unsubscribe(self, ref: str, now: float) -> Effects:
        """Leave; `ref` is for the message."""
        join_ref = self.join_ref
        if isinstance(self._state, Leaving | Closed):
            return []
        if join_ref is None or not self._online:
            return self._end()
        self._state = Leaving(ref, join_ref, now + self.timeout)
        return [Send(Message(self.topic, "phx_leave", {}, ref, join_ref))]

    def drop(self) -> Effects:
        """Close without a word to the server."""
        return [] if isinstance(self._state, Closed) else self._end()

    def rebind(self) -> Effects:
        """The bindings or the need for presence have changed: join anew, where a join asked for something else."""
        if not isinstance(self._state, Joining | Joined):
            return []
        error = make("ConnectionLost", "the channel is joined anew", hint="")
        gap: Effects = [Gap(error)] if isinstance(self._state, Joined) else []
        return gap + self._authorize(joined=self.joined)

    def refuse(self, error: RealtimeError, now: float) -> Effects:
        """The connection was refused for good."""
        return [] if isinstance(self._state, Closed | Leaving) else self._down(error, now, retry=False)

    # --- the token ---

    def authorized(self, request: JoinRequest, now: float) -> Effects:
        """The token is there, and this is to be asked for."""
        state = self._state
        if not isinstance(state, Authorizing) or not self._online:
            return []
        if self._replay_failed:
            request = msgspec.structs.replace(request, replay=None)
        request = msgspec.structs.replace(request, bindings=tuple(dict.fromkeys(request.bindings)))
        self._state = Joining(request, now + self.timeout, state.error)
        self._reason = None
        self.presence.rejoin()
        if not request.presence:
            self.presence.expect_no_state()
        return [Send(Message(self.topic, "phx_join", request.payload(self.options), request.ref, request.ref))]

    def unauthorized(self, error: RealtimeError, now: float) -> Effects:
        """The token could not be fetched."""
        state = self._state
        if not isinstance(state, Authorizing):
            return []
        # Still a fresh one next time: the token at hand is the one that the server has refused.
        return self._wait(error, now, fresh_token=state.fresh_token)

    def new_token(self) -> Effects:
        """There is another token: what failed for the old one is tried again."""
        state = self._state
        if isinstance(state, Failed | Waiting) and state.error.code in TOKEN_CODES:
            self._auth_tried = False
            return self._authorize(error=state.error)
        return []

    # --- the connection ---

    def connected(self, now: float) -> Effects:
        """There is a connection."""
        self._online = True
        state = self._state
        if isinstance(state, Offline) and state.not_before > now and state.error is not None:
            # A rate limit ended the connection too: the new one does not make it pass sooner.
            self._state = Waiting(state.not_before, state.error, state.fresh_token, limited=True)
            return []
        if isinstance(state, Offline):
            return self._authorize(state.fresh_token, state.error)
        return self._authorize(error=state.error) if isinstance(state, Failed) else []

    def disconnected(self, error: RealtimeError, now: float) -> Effects:
        """The connection is gone, and the server's side of this channel with it."""
        self._online = False
        state = self._state
        if isinstance(state, Closed | Failed | Offline):
            return []
        if isinstance(state, Leaving):
            return self._end()
        gap: Effects = [Gap(error)] if self._lost_join(now) else []
        if isinstance(state, Waiting):
            self._state = Offline(state.error, state.fresh_token, state.until if state.limited else 0.0)
        else:
            self._state = Offline(error, isinstance(state, Authorizing) and state.fresh_token)
        return gap

    def tick(self, now: float) -> Effects:
        """Time has passed."""
        state = self._state
        if not isinstance(state, Joining | Waiting | Leaving) or now < state.until:
            return []
        if isinstance(state, Leaving):
            return self._end()
        if isinstance(state, Joining):
            late = make("Timeout", f"the server did not answer the join within {self.timeout:g} s")
            return self._down(late, now, retry=True)
        return self._authorize(state.fresh_token, state.error)

    # --- the server ---

    def receive(self, message: Message, now: float) -> Effects:
        """A message for this topic (row changes excepted: see `Joined.routes`); what belongs to an earlier join, or is
        unknown, has no effects.
        """
        if message.join_ref is not None and message.join_ref != self.join_ref:
            return []
        event = events.decode_event(message)
        if event is None or isinstance(self._state, Closed):
            return []
        if isinstance(event, events.Broadcast):  # first: of these there may be thousands a second
            return [Deliver(event)]
        if isinstance(event, events.PresenceDiff):
            change = self.presence.on_diff(event.payload)
            return [] if change is None else [Deliver(change)]
        if isinstance(event, events.PresenceState):
            return [Deliver(self.presence.on_state(event.payload))]
        if isinstance(event, events.Reply):
            return self._on_reply(event, now)
        if isinstance(event, events.System):
            return self._on_system(event)
        if isinstance(event, events.Close):
            return self._on_close(event, now)
        return [Deliver(event)]

    def _on_reply(self, reply: events.Reply, now: float) -> Effects:
        state = self._state
        if reply.ref is None:
            return []
        if isinstance(state, Leaving) and reply.ref == state.ref:
            return self._end()
        if not isinstance(state, Joining) or reply.ref != state.request.ref:
            return [Replied(reply.ref, reply.error)]
        if reply.error is not None:
            return self._down(reply.error, now)
        self.rejoins += self._was_joined
        self._was_joined, self._replay_failed = True, False
        self._state = Joined(state.request, now, _routes(state.request.bindings, reply.response))
        return [Opened()]

    def _on_system(self, event: events.System) -> Effects:
        state = self._state
        if event.postgres and not isinstance(state, Joined):
            return []  # about the join before this one: serializer 1.0.0 does not say which
        if event.ok:
            if event.changed is not None:
                return [TableChanged(*event.changed, event.rows_kept)] if event.postgres else []
            if event.postgres and event.caught_up:
                return [CaughtUp()]
            if event.postgres:
                return [Ready(event.lsn, event.resumed)]
            if "replication connection" in event.text.lower() and isinstance(state, Joined):
                self._state = msgspec.structs.replace(state, replicating=True)
                return [Replicating()]
            return []
        error = from_system(event.text)
        if event.postgres and isinstance(state, Joined):
            self._state = msgspec.structs.replace(state, error=error)
            return [BindingsRefused(error)]
        self._reason = error  # of the close that follows
        return []

    def _on_close(self, event: events.Close, now: float) -> Effects:
        if event.join_ref not in (self.join_ref, None):
            return []
        if isinstance(self._state, Leaving):
            return self._end()
        if self.join_ref is None:
            return []
        crashed = isinstance(event, events.Crash)
        text = "the channel crashed on the server" if crashed else "the server closed the channel"
        return self._down(self._reason or make("ChannelCrashed" if crashed else "ChannelClosed", text), now)

    # --- transitions ---

    def _authorize(
        self, fresh_token: bool = False, error: RealtimeError | None = None, *, joined: Joined | None = None
    ) -> Effects:
        if not self._online:
            self._state = Offline(error, fresh_token)
            return []
        self._state = Authorizing(fresh_token, joined, error)
        return [GetToken(fresh_token)]

    def _down(self, error: RealtimeError, now: float, *, retry: bool | None = None) -> Effects:
        """The join was refused, ended or not answered: what next."""
        self._lost_join(now)
        if retry is None and error.code in AUTH_CODES:
            first, self._auth_tried = not self._auth_tried, True
            if first and self._renewable:
                return [Gap(error), Down(error, 0.0), *self._authorize(fresh_token=True, error=error)]
            retry = False
        if retry is None and error.code == "UnableToReplayMessages" and self._was_joined and not self._replay_failed:
            # It could replay before, so the request is right: better live with a hole than dead.
            retry = self._replay_failed = True
        if error.retryable if retry is None else retry:
            return self._wait(error, now)
        self._refusals += 1
        self._state = Failed(error)
        return [Gap(error), Down(error, None)]

    def _lost_join(self, now: float) -> bool:
        """Whether a join stood until now; one that lasted makes what failed before it count no more."""
        joined = self.joined
        if joined is not None and now - joined.since >= STABLE:
            self._auth_tried, self._refusals = False, 0
            self.backoff.reset()
        return joined is not None

    def _wait(self, error: RealtimeError, now: float, *, fresh_token: bool = False) -> Effects:
        least = min_wait(error)
        delay = self.backoff.next(least)
        if self._online:
            self._state = Waiting(now + delay, error, fresh_token, limited=least > 0)
        else:
            self._state = Offline(error, fresh_token)
        return [Gap(error), Down(error, delay)]

    def _end(self) -> Effects:
        joined = self.joined is not None or isinstance(self._state, Leaving)
        self._state, self._was_joined, self._refusals = Closed(), False, 0
        change = self.presence.clear()
        effects: Effects = [Gap(make("Closed", "the channel was left"))] if joined else []
        if change.leaves:
            effects.append(Deliver(change))
        return [*effects, Ended()]


TOKEN_CODES = AUTH_CODES | {"TokenSourceFailed"}
"""What another token may make good."""


def _routes(bindings: tuple[ChangesBinding, ...], response: Any) -> Routes:
    """By position: the server may add fields or change their spelling, so fields are never compared."""
    entries: Any = (
        cast("Mapping[str, Any]", response).get("postgres_changes") if isinstance(response, Mapping) else None
    )
    routes: dict[int, tuple[ChangesBinding, ...]] = {}
    if isinstance(entries, list):
        for binding, entry in zip(bindings, cast("list[Any]", entries), strict=False):
            number: Any = cast("Mapping[str, Any]", entry).get("id") if isinstance(entry, Mapping) else None
            if isinstance(number, int):
                routes[number] = (*routes.get(number, ()), binding)
    return routes
