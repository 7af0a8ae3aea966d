"""One channel: it drives a `ChannelMachine` and alone decides when to join again. Callbacks run on the client's
loop.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Any, cast

import msgspec

from ..protocol import errors
from ..protocol.backoff import Backoff
from ..protocol.broadcast_replay import Replay
from ..protocol.channel import (
    Broadcast,
    ChangesBinding,
    ChannelMachine,
    ChannelOptions,
    Down,
    Joined,
    Left,
    Ready,
    Replicating,
    Replied,
    Status,
    SystemError_,
)
from ..protocol.codec import FrameError, decode_change, no_bytes
from ..protocol.errors import RealtimeError
from ..protocol.filters import Filter
from ..protocol.messages import Change, Message
from ..protocol.presence import PresenceChange, State
from .callbacks import Callbacks, Unregister
from .change_sinks import CallbackSink, ChangeSinks, ChangesSink
from .log import logger
from .pending_replies import Answer, PendingReplies, settle
from .send_buffer import SendBuffer
from .tracking import Tracking

if TYPE_CHECKING:
    from .client import AsyncClient


class AsyncChannel:
    """A channel of an `AsyncClient` (see `AsyncClient.channel`): joined once, shared by everyone who asks for its
    topic.
    """

    def __init__(self, client: AsyncClient, topic: str, options: ChannelOptions) -> None:
        self.client = client
        self.topic = topic
        self.options = options
        self.made_with = options
        """The options that it was asked for with, whatever `set_presence_key` has done since."""
        self.error: RealtimeError | None = None
        """What is wrong now."""
        self.last_error: RealtimeError | None = None
        """What went wrong last; stays when all is well again."""
        self.rejoins = 0
        """How often it was joined after the first time."""
        self.last_frame_at: float | None = None
        """Unix time of the last frame for this topic."""
        self._holds: set[object] = set()
        self._asked = False
        """Whether a person subscribed, so that it stays joined without any hold."""
        self._machine = ChannelMachine(topic, options)
        self._wanted = False
        self._status_told: tuple[Status, RealtimeError | None] = ("closed", None)
        self._statuses, self._presences = Callbacks(), Callbacks()
        self._broadcasts: dict[str, Callbacks] = {}
        self._sinks = ChangeSinks()
        self._replies = PendingReplies()
        self._outbox = SendBuffer(topic, self._write_broadcast)
        self._tracking = Tracking(self._push_presence, self._retrack)
        self._waiters: list[asyncio.Future[None]] = []
        self._backoff = Backoff(1.0, 10.0)
        self._replay = Replay(options.replay) if options.replay else None
        self._replay_failed = self._was_joined = False
        self._refusals = 0
        self._not_before = 0.0
        """When it may be joined again at the earliest, by the monotonic clock: set by a rate limit."""
        self._token_told: str | None = None
        self._token_refused = False
        """Whether the token at hand is one that the server has refused: a new socket does not make it better."""
        self._timer: asyncio.TimerHandle | None = None
        self._join_timer: asyncio.TimerHandle | None = None
        self._rejoin_due = False
        self._joining: asyncio.Task[Any] | None = None

    def __repr__(self) -> str:
        return f"<AsyncChannel {self.topic!r} {self.status}>"

    # --- what a person calls ---

    @property
    def status(self) -> Status:
        """`closed`, `joining`, `joined`, `leaving` or `errored` (with a rejoin under way where that can help)."""
        return self._machine.status

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
        """Whether the server has said who is here since the last join."""
        return self._machine.presence.synced

    @property
    def idle(self) -> bool:
        """Whether nobody uses the channel."""
        return not self._wanted and not self._sinks and self.status == "closed"

    async def subscribe(self, timeout: float = 10.0) -> None:
        """Joins, and stays joined through every interruption until `unsubscribe()`. Nothing happens where it is joined
        already.

        Raises `RealtimeError`: at once where the server refuses for good, and with code `Timeout` after `timeout`
        seconds, while the channel
        goes on trying.
        """
        self.start()
        await self.wait_joined(timeout)

    async def wait_joined(self, timeout: float = 10.0) -> None:
        """Waits until a channel that is being joined is joined. Raises as `subscribe` does."""
        if self._there():
            return
        if not self._wanted:
            raise errors.make("NotSubscribed", f"channel {self.topic!r} is not subscribed")
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        try:
            async with asyncio.timeout(timeout):
                await waiter
        except TimeoutError:
            because = self.error or self.client.error
            text = f"channel {self.topic!r} was not joined within {timeout} s"
            if because is None:
                raise errors.make("Timeout", text) from None
            raise errors.make("Timeout", f"{text}: {because.message}", hint=because.hint) from None
        finally:
            if waiter in self._waiters:
                self._waiters.remove(waiter)

    def _there(self) -> bool:
        return self.status == "joined" and (self._machine.replicating or not self.options.replication_ready)

    def start(self) -> None:
        """As `subscribe`, without waiting."""
        self._begin()
        self._asked = True

    def hold(self) -> Unregister:
        """Has the channel joined until what is returned is called.

        When the last hold is let go, the channel is left, unless a person subscribed: so widgets share one join, and
        closing one of them takes nothing from the others.
        """
        token = object()
        self._begin()
        self._holds.add(token)

        def release() -> None:
            if token in self._holds:
                self._holds.remove(token)
                if not self._holds and not self._asked and self._wanted:
                    self.client.spawn(self.unsubscribe())

        return release

    @property
    def presence_key(self) -> str | None:
        """The key that this channel is present under; None where the server makes one."""
        return self.options.presence_key

    @property
    def tracked(self) -> dict[str, Any] | None:
        """The state that is shown to the others; None for none."""
        return self._tracking.state

    def set_presence_key(self, key: str) -> None:
        """Presence under this key from now on; a joined channel is joined anew. The same key again changes nothing.

        Raises `RealtimeError` where the channel has another key already: a connection is one person on a channel.
        """
        known = self.options.presence_key
        if known == key:
            return
        if known is not None:
            raise errors.make(
                "ChannelOptionsDiffer",
                f"channel {self.topic!r} is present as {known!r}, so not as {key!r} too",
                hint=f"use the key {known!r} here, another topic, or a second client for {key!r}",
            )
        self.options = self._machine.options = msgspec.structs.replace(self.options, presence_key=key)
        if self._wanted and self.status in ("joined", "joining"):
            self._rejoin_soon()

    def _begin(self) -> None:
        if self._wanted and self.status in ("joining", "joined") and self.client.channels.get(self.topic) is self:
            return
        self.client.ensure_started()
        if self.client.channels.setdefault(self.topic, self) is not self:
            raise errors.make("Closed", f"another channel object has taken over {self.topic!r}")
        self._wanted = True
        self._machine.auth_tried = False
        if self.status == "joined" or self._timer is not None:
            return
        if self._refusals > 1 and self.client.connected:
            # Asked for again and again, as by a callback that subscribes whenever the channel is down: not in a storm.
            self._timer = asyncio.get_running_loop().call_later(self._backoff.next(), self._rejoin_now, False)
        else:
            self._rejoin_soon()

    async def unsubscribe(self) -> None:
        """Leaves the channel. Registered callbacks stay for a later `subscribe()`; the tracked state is forgotten."""
        joined = self.status in ("joined", "joining") and self.client.connected
        self._asked = self._wanted = False
        self._tracking.clear()
        self._cancel_timers()
        left = errors.make("Closed", "the channel was left")
        self._outbox.fail(left)
        self._wake_waiters(left)
        if joined:
            ref = self.client.next_ref()
            answer = self._replies.expect(ref, "phx_leave", self.client.timeout)
            leave = self._machine.leave(ref)
            self._tell()
            try:
                await self.client.push(leave)
                await settle(answer)
            except RealtimeError:
                pass  # out in any case
        if not self._wanted:
            self._ended()

    async def send(self, event: str, payload: Any) -> None:
        """Broadcasts to everyone on the channel: a JSON value, or `bytes` (serializer 2.0.0).

        While the channel is being joined, up to 100 messages wait; the oldest gives way and raises. With `ack=True` it
        returns when the server has taken
        the message, else when it is written. Raises `RealtimeError`.
        """
        if not self._wanted:
            raise errors.make("NotSubscribed", f"channel {self.topic!r} is not subscribed")
        if isinstance(payload, bytearray | memoryview):
            payload = bytes(cast("bytes", payload))
        elif not isinstance(payload, bytes):
            _plain_json(payload)
        body = {"type": "broadcast", "event": event, "payload": payload}
        if self._open() and not self._outbox:
            await settle(await self._write_broadcast(body))
            return
        if self.status == "errored" and self.error is not None:
            for_good = self._timer is None and self.client.connected
            if for_good or errors.min_wait(self.error):  # after a rate limit, waiting messages would make it worse
                raise self.error
        await self._outbox.put(body)

    async def track(self, state: dict[str, Any]) -> None:
        """Shows this state to the others, and again after every rejoin. Calls closer than the server allows are joined
        into one: the last wins.

        Raises `RealtimeError` where the server refuses the state.
        """
        if not self._wanted:
            raise errors.make("NotSubscribed", f"channel {self.topic!r} is not subscribed")
        self._tracking.set(state)
        if not self._machine.presence_joined and self.status == "joined":
            self._rejoin_soon()  # else the server would send no presence_state
        elif self.status == "joined":
            await self._tracking.send()

    async def untrack(self) -> None:
        """Takes this connection's state away."""
        self._tracking.clear()
        if self.status == "joined" and self._tracking.told:
            await self._tracking.send()

    def on_broadcast(self, event: str, fn: Callable[[str, Any, dict[str, Any]], Any]) -> Unregister:
        """Calls `fn(event, payload, meta)` for broadcasts of the event (`*`: all; case does not matter)."""
        return self._broadcasts.setdefault(event.lower(), Callbacks()).add(fn)

    def on_presence(self, fn: Callable[[PresenceChange], Any]) -> Unregister:
        """Calls `fn(change)` for each change of presence. Bound to a channel joined without presence, it rejoins."""
        unregister = self._presences.add(fn)
        if self._wanted and not self._machine.presence_joined and self.status in ("joined", "joining"):
            self._rejoin_soon()
        return unregister

    def on_status(self, fn: Callable[[Status, RealtimeError | None], Any]) -> Unregister:
        """Calls `fn(status, error)` at each change of status."""
        return self._statuses.add(fn)

    def on_postgres_changes(
        self,
        fn: Callable[[Change], Any],
        event: str = "*",
        schema: str = "public",
        table: str | None = None,
        filter: str | Filter | None = None,
    ) -> Unregister:
        """Calls `fn(change)` for each row change. Raises `RealtimeError` for an event or a filter that no server
        takes. A table of one's own is better a sink: see `add_changes`.
        """
        return self.add_changes(ChangesBinding.checked(event, schema, table, filter), CallbackSink(fn))

    def add_changes(self, binding: ChangesBinding, sink: ChangesSink) -> Unregister:
        """Sends a binding's changes to the sink.

        The channel rejoins where the server does not serve that binding yet.
        """
        unregister = self._sinks.put(binding, sink)
        if self.status == "joined" and self._wanted and binding in self._machine.bindings:
            self._sinks.join(sink)
        elif self.status in ("joined", "joining") and self._wanted:
            self._rejoin_soon()
        return unregister

    async def broadcasts(self, event: str = "*", *, maxlen: int = 10_000) -> AsyncIterator[Any]:
        """The payloads of an event's broadcasts as they come, without end; of more than `maxlen` waiting ones the
        oldest give way.
        """
        waiting: deque[Any] = deque(maxlen=maxlen)
        come = asyncio.Event()

        def take(_event: str, payload: Any, _meta: dict[str, Any]) -> None:
            waiting.append(payload)
            come.set()

        unregister = self.on_broadcast(event, take)
        try:
            while True:
                while waiting:
                    yield waiting.popleft()
                come.clear()
                await come.wait()
        finally:
            unregister()

    # --- joining ---

    def _rejoin_soon(self) -> None:
        """Joins (anew) in the next turn of the loop, so that many bindings made together cost one join."""
        if not self._rejoin_due:
            self._rejoin_due = True
            asyncio.get_running_loop().call_soon(self._rejoin_now, False)

    def _rejoin_now(self, fresh: bool) -> None:
        self._rejoin_due = False
        self._cancel_timers()
        if self._wanted and self.client.connected:
            if self._joining is not None:
                self._joining.cancel()
            if self.status == "joined":
                self._sinks.gap("the channel is joined anew")
            self._joining = self.client.spawn(self._join(fresh))

    async def _join(self, fresh: bool) -> None:
        fresh = self._token_refused = fresh or self._token_refused
        try:
            token = await self.client.token_for_join(fresh=fresh)
        except RealtimeError as error:
            self._machine.status = "errored"
            # Still a fresh one next time: the token at hand is the one that the server has refused.
            self._handle_down(Down(error, retry=True, fresh_token=fresh))
            return
        if not self._wanted or not self.client.connected:
            return
        ref = self.client.next_ref()
        presence = bool(self._presences) or self.tracked is not None or self.options.presence_key is not None
        replay = self._replay.params() if self._replay is not None and not self._replay_failed else None
        self._token_told, self._token_refused = token, False
        message = self._machine.join(
            ref, token, self._sinks.bindings, presence=presence, replay=replay, resume=self._sinks.resume_lsn
        )
        self._tracking.joined()
        self._sinks.route({})
        self._tell()
        self._join_timer = asyncio.get_running_loop().call_later(self.client.timeout, self._join_timed_out, ref)
        try:
            await self.client.push(message)
        except RealtimeError:
            return  # the socket is gone: joined again with the next one

    def _join_timed_out(self, ref: str) -> None:
        if self._machine.join_ref == ref and self.status == "joining":
            self._machine.lost()
            self._handle_down(
                Down(errors.make("Timeout", f"no answer to the join within {self.client.timeout} s"), retry=True)
            )

    def connected(self) -> None:
        """The client has a new socket."""
        if not self._wanted:
            return
        left = self._not_before - time.monotonic()
        if left > 0:  # a rate limit ended the socket too: the new one does not make it pass sooner
            self._cancel_timers()
            self._timer = asyncio.get_running_loop().call_later(left, self._rejoin_now, False)
        else:
            self._rejoin_now(False)

    def lost(self, why: str) -> None:
        """The client's socket is gone."""
        self._cancel_timers()
        self._sinks.flush()
        was = self.status
        self._machine.lost()
        self._replies.drop(errors.make("ConnectionLost", "the connection was lost before the answer"))
        if was == "leaving":
            self._ended()
        elif self._wanted:
            if was == "joined":
                self._sinks.gap(f"the connection was lost: {why}")
            if was in ("joined", "joining"):
                self.error = errors.make("ConnectionLost", f"the connection was lost: {why}")
            self._tell()

    def fail(self, error: RealtimeError) -> None:
        """The client has given up: it is a person's turn."""
        if self._wanted:
            self._machine.status = "errored"
            self._handle_down(Down(error, retry=False))

    def drop(self) -> None:
        """Ends the channel without asking the server (the socket goes too, or the channel was never joined)."""
        self._wanted = False
        self._cancel_timers()
        error = errors.make("Closed", "the client was closed", hint="connect again, and make this anew")
        self._outbox.fail(error)
        self._wake_waiters(error)
        if self.client.closed:
            self._sinks.fail(error)
        self._ended()

    def _ended(self) -> None:
        # Whoever shows rows must not go on as if they were of now.
        self._sinks.gap("the channel was left")
        self._machine.end()
        self._sinks.route({})
        self._was_joined, self.error = False, None
        self._tracking.clear()
        self._tracking.joined()
        self._replies.drop(errors.make("Closed", "the channel was left"))
        change = self._machine.presence.clear()
        if change.leaves:
            self._presences.call(change)
        if self.client.channels.get(self.topic) is self and not self._wanted:
            del self.client.channels[self.topic]
        self._tell()

    def _handle_down(self, down: Down) -> None:
        if down.error.code == "UnableToReplayMessages" and self._was_joined and not self._replay_failed:
            # It could replay before, so nothing is wrong with what was asked for: better live with a hole than dead.
            self._replay_failed = True
            logger.warning("channel %s: what was sent meanwhile cannot be replayed, messages are missing", self.topic)
            down = Down(down.error, retry=True)
        self.error = down.error
        self._cancel_timers()
        self._sinks.gap(down.error.message)
        self._replies.drop(down.error)
        retry = down.retry and self._wanted and (self.client.tokens.renewable or not down.fresh_token)
        if retry:
            at_once = down.fresh_token and down.error.code != "TokenSourceFailed"
            delay = 0.0 if at_once else self._backoff.next(down.wait)
            logger.info("channel %s is down (%s), joining again in %.1f s", self.topic, down.error, delay)
            self._token_refused |= down.fresh_token
            self._not_before = time.monotonic() + delay if down.wait else 0.0
            if self.client.connected:
                self._timer = asyncio.get_running_loop().call_later(delay, self._rejoin_now, down.fresh_token)
        else:
            self._refusals += 1
            # Who waits for the join is told by the exception: the same in the log would look like a second fault.
            level = logging.INFO if self._waiters else logging.ERROR
            logger.log(level, "channel %s: %s", self.topic, down.error)
            self._outbox.fail(down.error)
            self._wake_waiters(down.error)
            self._sinks.fail(down.error)
        self._tell()

    def _handle_joined(self) -> None:
        self.rejoins += self._was_joined
        self._was_joined, self._replay_failed = True, False
        self._cancel_timers()
        self.error, self._refusals = None, 0
        self._backoff.reset()
        self._sinks.route(self._machine.routes)
        self._tell()
        if self._there():
            self._wake_waiters(None)
        if self.client.tokens.current != self._token_told:
            self.client.spawn(self._push_token_quietly())  # it was renewed while the join was under way
        if self._outbox:
            self.client.spawn(self._outbox.flush(self._open))
        if self.tracked is not None:
            self._retrack()
        if not set(self._sinks.bindings) <= set(self._machine.bindings) or (
            self._presences and not self._machine.presence_joined
        ):
            self._rejoin_soon()  # bound while the join was under way

    # --- what comes in ---

    def handle(self, message: Message) -> None:
        """One message for this topic."""
        if message.event == "postgres_changes":
            self._sinks.take(decode_change(message.payload))
            return
        event = self._machine.handle(message)
        if event is None:
            return
        if isinstance(event, Broadcast):
            now = int(1000 * (time.time() + self.client.clock_ahead))
            if self._replay is not None and not self._replay.new(event.meta, now):
                return
            for name in (event.event.lower(), "*"):
                callbacks = self._broadcasts.get(name)
                if callbacks:
                    callbacks.call(event.event, event.payload, event.meta)
        elif isinstance(event, PresenceChange):
            self._presences.call(event)
        elif isinstance(event, Replied):
            self._replies.take(event.ref, event.error)
        elif isinstance(event, Joined):
            self._handle_joined()
        elif isinstance(event, Replicating):
            self._wake_waiters(None)
        elif isinstance(event, Ready):
            self._sinks.ready(event, self._machine.bindings)
        elif isinstance(event, Down):
            self._handle_down(event)
        elif isinstance(event, SystemError_):
            if event.postgres:
                logger.warning("channel %s: %s", self.topic, event.error)
                self.error = event.error
                self._tell()
                self._sinks.fail(event.error)
        else:
            assert isinstance(event, Left)
            self._replies.drop(None)
            if not self._wanted:
                self._ended()

    def _tell(self) -> None:
        told = (self.status, self.error)
        if told != self._status_told:
            self._status_told = told
            self.last_error = self.error or self.last_error
            self._statuses.call(*told)

    # --- what goes out ---

    def _open(self) -> bool:
        return self.status == "joined" and self.client.connected

    async def _write(self, event: str, payload: Any, *, answer: bool) -> Answer | None:
        """Sends a message on the joined channel; with `answer`, what is returned is to be settled."""
        ref = self.client.next_ref()
        expected = self._replies.expect(ref, event, self.client.timeout) if answer else None
        try:
            await self.client.push(Message(self._machine.topic, event, payload, ref, self._machine.join_ref))
        except BaseException as error:
            self._replies.take(ref, None)
            if isinstance(error, FrameError):
                raise errors.make("MalformedWebSocketMessage", str(error)) from None
            raise
        return expected

    async def push(self, event: str, payload: Any, *, answer: bool = False) -> None:
        """Sends a message on the joined channel; with `answer`, waits for the server's. Raises `RealtimeError`."""
        await settle(await self._write(event, payload, answer=answer))

    async def push_token(self) -> None:
        """Tells the server of the client's token of now, where the channel is joined with another.

        Raises `RealtimeError`.
        """
        token = self.client.tokens.current
        if token and token != self._token_told and self._open():
            self._token_told = token
            await self.push("access_token", {"access_token": token})

    async def _write_broadcast(self, body: dict[str, Any]) -> Answer | None:
        return await self._write("broadcast", body, answer=self.options.ack)

    async def _push_presence(self, body: dict[str, Any]) -> None:
        await self.push("presence", body, answer=True)

    async def _push_token_quietly(self) -> None:
        try:
            await self.push_token()
        except RealtimeError:
            pass  # the socket is gone: the next join has it

    def _retrack(self) -> None:
        if self.status == "joined":
            self.client.spawn(self._track_quietly())

    async def _track_quietly(self) -> None:
        try:
            await self._tracking.send()
        except RealtimeError as error:
            logger.warning("channel %s: the state could not be tracked: %s", self.topic, error)

    # --- ends ---

    def _cancel_timers(self) -> None:
        for timer in (self._timer, self._join_timer):
            if timer is not None:
                timer.cancel()
        self._timer = self._join_timer = None
        self._tracking.cancel()

    def _wake_waiters(self, error: RealtimeError | None) -> None:
        for waiter in self._waiters:
            if not waiter.done():
                if error is None:
                    waiter.set_result(None)
                else:
                    waiter.set_exception(error)


def _plain_json(payload: Any) -> None:
    try:
        no_bytes(payload)
    except FrameError as error:
        raise errors.make("MalformedWebSocketMessage", str(error)) from None
