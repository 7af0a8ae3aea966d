"""A channel on an event loop: performs what its machine decides, and delivers what arrives."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from typing import Any, TypeVar

from ..protocol import channel_states as states
from ..protocol import errors
from ..protocol.broadcast_replay import Replay
from ..protocol.channel import ChannelMachine
from ..protocol.channel_states import Authorizing, Closed, Effect, Joined, Leaving, Status
from ..protocol.codec import decode_change
from ..protocol.errors import RealtimeError
from ..protocol.events import Broadcast, Event
from ..protocol.filters import Filter
from ..protocol.messages import Change, Message
from ..protocol.presence import PresenceChange, State
from ..protocol.subscription import ChangesBinding, ChannelOptions, JoinRequest, check_text
from .callbacks import CallbackTable, Unregister, stream
from .change_sinks import CallbackSink, ChangeSinks, ChangesSink
from .line import Line
from .log import logger
from .outgoing import Outgoing
from .performer import Performer
from .waiters import Waiters, late

E = TypeVar("E", bound=Event)

_SUBSCRIBED = object()
"""Stands among the users of a channel for the person who called `subscribe()`."""
_STATUS = "status"


class AsyncChannel:
    """A channel of an `AsyncClient`, shared by everyone who asks for its topic. Callbacks run on the client's loop."""

    def __init__(self, client: Line, topic: str, options: ChannelOptions) -> None:
        self.client = client
        self.topic = topic
        self.requested = options
        """The options that it was asked for with, whatever `set_presence_key` has done since."""
        self.last_error: RealtimeError | None = None
        """What went wrong last; stays when all is well again."""
        self.last_frame_at: float | None = None
        """Unix time of the last frame for this topic."""
        self._machine = ChannelMachine(topic, options, timeout=client.timeout, renewable=client.tokens.renewable)
        self._performer = Performer[Effect](self._machine, self._perform_one, self._emit_status, self._tick)
        self._users: set[object] = set()
        """Who needs the channel joined: its holds, and the person who subscribed."""
        self._emitted: tuple[Status, RealtimeError | None] = ("closed", None)
        self._callbacks = CallbackTable()
        """By `"status"`, by the class of an event, or by the name of a broadcast's event."""
        self._sinks = ChangeSinks()
        self._outgoing = Outgoing(client, topic, self._machine)
        self._waiters = Waiters()
        self._replay = Replay(options.replay) if options.replay else None

    def __repr__(self) -> str:
        return f"<AsyncChannel {self.topic!r} {self.status}>"

    # --- what it is ---

    @property
    def options(self) -> ChannelOptions:
        """The options of now."""
        return self._machine.options

    @property
    def status(self) -> Status:
        """`closed`, `joining`, `joined`, `leaving` or `errored` (with a rejoin under way where that can help)."""
        return self._machine.status

    @property
    def error(self) -> RealtimeError | None:
        """What is wrong now."""
        return self._machine.error

    @property
    def rejoins(self) -> int:
        """How often it was joined after the first time."""
        return self._machine.rejoins

    @property
    def presence(self) -> dict[str, list[dict[str, Any]]]:
        """Who is here: key to metas, one a connection. A copy."""
        return {key: [dict(meta) for meta in metas] for key, metas in self._machine.presence.state.items()}

    @property
    def presence_state(self) -> State:
        """As `presence`, immutable and not copied."""
        return self._machine.presence.state

    @property
    def presence_synced(self) -> bool:
        """Whether the server has sent who is here since the last join."""
        return self._machine.presence.synced

    @property
    def presence_key(self) -> str | None:
        """The key that this channel is present under; None where the server makes one."""
        return self.options.presence_key

    @property
    def tracked(self) -> dict[str, Any] | None:
        """The state that is shown to the others; None for none."""
        return self._outgoing.tracking.state

    @property
    def idle(self) -> bool:
        """Whether nobody uses the channel."""
        return isinstance(self._machine.state, Closed) and not self._sinks

    # --- joining and leaving ---

    async def subscribe(self, timeout: float = 10.0) -> None:
        """Joins, and stays joined through every interruption until `unsubscribe()`. Nothing happens where it is joined
        already.

        Raises `RealtimeError` at once where the server refuses for good, and `RealtimeTimeoutError` after `timeout`
        seconds, while the channel goes on trying.
        """
        self.start()
        await self.wait_joined(timeout)

    async def wait_joined(self, timeout: float = 10.0) -> None:
        """Waits until a channel that is being joined is joined. Raises as `subscribe` does."""
        if self._is_usable():
            return
        self._check_subscribed()
        if not await self._waiters.wait(timeout):
            raise late(f"channel {self.topic!r} was not joined within {timeout:g} s", self.error or self.client.error)

    def start(self) -> None:
        """As `subscribe`, without waiting."""
        self._use(_SUBSCRIBED)

    def retain(self) -> Unregister:
        """Keeps the channel joined until the returned function is called.

        The channel is left when the last of these functions was called, unless `subscribe()` was called too. So widgets
        share one join, and closing one of them does not affect the others.
        """
        user = object()
        self._use(user)

        def release() -> None:
            if user in self._users:
                self._users.remove(user)
                if not self._users:
                    asyncio.get_running_loop().call_soon(self._leave_if_unused)

        return release

    def _use(self, user: object) -> None:
        self.client.ensure_started()
        self.client.attach(self.topic, self)
        self._users.add(user)
        self._performer.run(self._machine.subscribe(time.monotonic()))

    def _leave_if_unused(self) -> None:
        if not self._users and not isinstance(self._machine.state, Closed | Leaving):
            self.client.spawn(self.unsubscribe())

    async def unsubscribe(self) -> None:
        """Leaves the channel. Registered callbacks stay for a later `subscribe()`; the tracked state is forgotten."""
        left = errors.make("Closed", "the channel was left")
        self._users.clear()
        self._outgoing.tracking.clear()
        self._outgoing.buffer.fail(left)
        self._waiters.wake(left)
        ref = self.client.next_ref()
        self._performer.run(self._machine.unsubscribe(ref, time.monotonic()))
        if isinstance(self._machine.state, Leaving):
            await self._outgoing.replies.expect(ref, "phx_leave", self.client.timeout)

    def set_presence_key(self, key: str) -> None:
        """Presence under this key from now on; a joined channel is joined anew. The same key again changes nothing.

        Raises `RealtimeError` where the channel has another key already: a connection is one person on a channel.
        """
        if key != self.presence_key:
            self._machine.options = self.options.with_presence_key(key, self.topic)
            self._performer.run(self._machine.rebind())

    # --- sending ---

    async def send(self, event: str, payload: Any) -> None:
        """Broadcasts to everyone on the channel: a JSON value, or `bytes` (serializer 2.0.0).

        While the channel is being joined, up to 100 messages wait; the oldest gives way and raises. With `ack=True` it
        returns when the server has accepted the message, else when it is written. Raises `RealtimeError`, `TypeError`
        for an event that is not text.
        """
        check_text("event", event)
        self._check_subscribed()
        await self._outgoing.send(event, payload)

    async def track(self, state: dict[str, Any]) -> None:
        """Shows this state to the others, and again after every rejoin. Calls closer than the server allows are joined
        into one: the last wins.

        Raises `RealtimeError` where the server refuses the state.
        """
        self._check_subscribed()
        self._outgoing.tracking.set(state)
        if not self._needs_rejoin():  # else the server would send no presence_state
            if self.status == "joined":
                await self._outgoing.tracking.send()
        else:
            self._performer.run(self._machine.rebind())

    async def untrack(self) -> None:
        """Withdraws this connection's state."""
        self._outgoing.tracking.clear()
        if self.status == "joined" and self._outgoing.tracking.shown:
            await self._outgoing.tracking.send()

    async def push_token(self) -> None:
        """Sends the client's token of now, where the channel is joined with another; a channel that failed for its
        token is joined again.
        """
        self._performer.run(self._machine.new_token())
        await self._outgoing.push_token()

    # --- registering ---

    def on_status(self, fn: Callable[[Status, RealtimeError | None], Any]) -> Unregister:
        """Calls `fn(status, error)` at each change of status."""
        return self._callbacks.add(_STATUS, fn)

    def on_event(self, kind: type[E], fn: Callable[[E], Any]) -> Unregister:
        """Calls `fn(event)` for each message of a class of `protocol.events`, such as `Broadcast`."""
        return self._callbacks.add(kind, fn)

    def on_broadcast(self, event: str, fn: Callable[[Any], Any]) -> Unregister:
        """Calls `fn(payload)` for broadcasts of the event (`*`: all; case does not matter); see also `on_event`."""
        check_text("event", event)
        return self._callbacks.add(event.lower(), fn)

    def on_presence(self, fn: Callable[[PresenceChange], Any]) -> Unregister:
        """Calls `fn(change)` for each change of presence. Bound to a channel joined without presence, it rejoins."""
        unregister = self._callbacks.add(PresenceChange, fn)
        if self._needs_rejoin():
            self._performer.run(self._machine.rebind())
        return unregister

    def on_postgres_changes(
        self,
        fn: Callable[[Change], Any],
        event: str = "*",
        schema: str = "public",
        table: str | None = None,
        filter: str | Filter | None = None,
    ) -> Unregister:
        """Calls `fn(change)` for each row change; `filter` as text or from `where()`. To follow a table, use a sink.

        Raises `RealtimeError` for an event or a filter that no server accepts.
        """
        return self.add_changes(ChangesBinding.checked(event, schema, table, filter), CallbackSink(fn))

    def add_changes(self, binding: ChangesBinding, sink: ChangesSink) -> Unregister:
        """Delivers a binding's changes to the sink.

        The channel rejoins where the server does not serve that binding yet.
        """
        unregister = self._sinks.put(binding, sink)
        state = self._machine.state
        if isinstance(state, Joined) and binding in state.request.bindings:
            self._sinks.join(sink)
        else:
            self._performer.run(self._machine.rebind())
        return unregister

    async def broadcasts(self, event: str = "*", *, maxlen: int = 10_000) -> AsyncIterator[Any]:
        """The payloads of an event's broadcasts as they arrive, without end; of more than `maxlen` waiting ones the
        oldest give way.
        """
        async for payload in stream(lambda deliver: self.on_broadcast(event, deliver), maxlen):
            yield payload

    # --- what its client reports ---

    def connected(self) -> None:
        """There is a connection."""
        self._performer.run(self._machine.connected(time.monotonic()))

    def disconnected(self, error: RealtimeError) -> None:
        """The connection is gone."""
        self._sinks.flush()
        self._outgoing.down(errors.make("ConnectionLost", "the connection was lost before the answer"), for_good=False)
        self._performer.run(self._machine.disconnected(error, time.monotonic()))

    def refuse(self, error: RealtimeError) -> None:
        """The connection was refused for good."""
        self._performer.run(self._machine.refuse(error, time.monotonic()))

    def drop(self) -> None:
        """Ends the channel without asking the server: the connection goes too, or the channel was never joined."""
        error = errors.make("Closed", "the client was closed", hint="connect again, and make this anew")
        self._users.clear()
        self._outgoing.buffer.fail(error)
        self._waiters.wake(error)
        if self.client.closed:
            self._sinks.fail(error)
        self._performer.run(self._machine.drop())

    def lost_frame(self, error: RealtimeError) -> None:
        """A message that was for this channel, or may have been, could not be read."""
        self._sinks.lost(error)

    def receive(self, message: Message) -> None:
        """A message for this topic."""
        if message.event == "postgres_changes":
            self._sinks.deliver(decode_change(message.payload))
            return
        effects = self._machine.receive(message, time.monotonic())
        if len(effects) == 1 and isinstance(effects[0], states.Deliver):
            self._deliver(effects[0].event)
        elif effects:
            self._performer.run(effects)

    # --- performing ---

    def _perform_one(self, effect: Effect) -> None:
        match effect:
            case states.Send(message):
                self.client.spawn(self._send(message))
            case states.GetToken(fresh):
                self.client.spawn(self._authorize(fresh))
            case states.Deliver(event):
                self._deliver(event)
            case states.Replied(ref, error):
                self._outgoing.replies.resolve(ref, error)
            case states.Gap(error):
                self._sinks.gap(error)
            case states.Opened():
                self._on_opened()
            case states.Ready():
                request = self._machine.request
                self._sinks.ready(effect, request.bindings if request is not None else ())
            case states.CaughtUp() | states.TableChanged():
                self._sinks.report(effect)
            case states.Replicating():
                self._waiters.wake()
            case states.Down(error, retry_in):
                self._on_down(error, retry_in)
            case states.BindingsRefused(error):
                logger.warning("channel %s: %s", self.topic, error)
                self._sinks.fail(error)
            case states.Ended():
                self._on_ended()

    def _emit_status(self) -> bool:
        status = (self.status, self.error)
        if status == self._emitted:
            return False
        self._emitted = status
        self.last_error = self.error or self.last_error
        self._callbacks.call(_STATUS, *status)
        return True

    def _tick(self) -> None:
        self._performer.run(self._machine.tick(time.monotonic()))

    async def _authorize(self, fresh: bool) -> None:
        try:
            token = await self.client.get_token(fresh=fresh)
        except RealtimeError as error:
            self._performer.run(self._machine.unauthorized(error, time.monotonic()))
            return
        if not isinstance(self._machine.state, Authorizing):
            return
        replay = self._replay.params() if self._replay is not None else None
        request = JoinRequest(
            self.client.next_ref(),
            token,
            self._sinks.bindings,
            presence=self._needs_presence(),
            replay=replay,
            resume=self._sinks.resume_lsn,
        )
        self._outgoing.joining(token)
        self._sinks.route({})
        self._performer.run(self._machine.authorized(request, time.monotonic()))

    async def _send(self, message: Message) -> None:
        try:
            await self.client.push(message)
        except RealtimeError:
            pass  # the connection is gone: the machine hears of it too

    def _on_opened(self) -> None:
        joined = self._machine.joined
        self._sinks.route({} if joined is None else joined.routes)
        if self._is_usable():
            self._waiters.wake()
        if self._needs_rejoin():
            self._performer.run(self._machine.rebind())  # bound while the join was under way
        self._outgoing.joined()

    def _on_down(self, error: RealtimeError, retry_in: float | None) -> None:
        self._outgoing.down(error, for_good=retry_in is None)
        if retry_in is not None:
            logger.info("channel %s is down (%s), joining again in %.1f s", self.topic, error, retry_in)
            return
        # Who waits for the join gets the exception: the same in the log would look like a second fault.
        logger.log(logging.INFO if self._waiters else logging.ERROR, "channel %s: %s", self.topic, error)
        self._waiters.wake(error)
        self._sinks.fail(error)

    def _on_ended(self) -> None:
        self._sinks.route({})
        self._outgoing.ended()
        if isinstance(self._machine.state, Closed):
            self.client.detach(self.topic, self)

    def _deliver(self, event: Event | PresenceChange) -> None:
        if isinstance(event, Broadcast):
            if self._replay is not None:
                now = int(1000 * (time.time() + self.client.tokens.clock_ahead))
                if not self._replay.new(event.meta, now):
                    return
            for name in (event.event.lower(), "*"):
                self._callbacks.call(name, event.payload)
        self._callbacks.call(type(event), event)

    # --- states in words ---

    def _is_usable(self) -> bool:
        state = self._machine.state
        return isinstance(state, Joined) and (state.replicating or not self.options.replication_ready)

    def _needs_presence(self) -> bool:
        return PresenceChange in self._callbacks or self.tracked is not None or self.presence_key is not None

    def _needs_rejoin(self) -> bool:
        """Whether the join that stands, or is under way, asked for less than what is needed."""
        request = self._machine.request
        if request is None:
            return False
        missing = not set(self._sinks.bindings) <= set(request.bindings)
        return missing or (self._needs_presence() and not request.presence)

    def _check_subscribed(self) -> None:
        if isinstance(self._machine.state, Closed | Leaving):
            raise errors.make("NotSubscribed", f"channel {self.topic!r} is not subscribed")
