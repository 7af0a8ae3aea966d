"""The asyncio client: one socket, many channels, and everything that keeps them alive.

`AsyncClient` owns the socket: it connects, reconnects without end, keeps the heartbeat, and renews the token.
`AsyncChannel` drives one
`ChannelMachine`: it alone decides when to rejoin. All of it runs on one event loop; callbacks run there too.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from email.utils import parsedate_to_datetime
from functools import partial
from typing import Any, Literal, Protocol, Self, cast, runtime_checkable
from urllib.parse import quote, urlsplit

import msgspec
from websockets.exceptions import ConnectionClosed, InvalidStatus

from ..protocol import errors
from ..protocol.backoff import Backoff
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
from ..protocol.codec import FrameError, decode_change, encode
from ..protocol.errors import RealtimeError
from ..protocol.messages import Change, Message, Vsn
from ..protocol.presence import PresenceChange, State
from ..protocol.receiver import Receiver
from ..protocol.replay import Replay
from .dispatch import guarded
from .log import logger
from .rest import RestClient
from .tokens import TokenHolder, TokenSource
from .wire import Wire, open_wire

__all__ = ["AsyncChannel", "AsyncClient", "ChangesBinding", "ChangesSink", "PresenceChange", "RealtimeError"]

ClientStatus = Literal["closed", "connecting", "connected", "reconnecting", "error"]
Unregister = Callable[[], None]

MAX_FRAME = 8 * 1024 * 1024  # a paid project may send 3 MB; the library's default of 1 MiB would end the connection
BUFFERED = 100  # pushes kept while not joined
TRACK_CALLS, TRACK_WINDOW = 4, 31.0  # the server closes a channel at the 6th presence call in 30 s


class ChangesSink(Protocol):
    """What receives a binding's changes; its methods are called on the client's loop and must be quick."""

    def on_changes(self, changes: list[Change]) -> None:
        """Every change of one read, in order."""
        ...

    def on_ready(self) -> None:
        """The server listens to the database from now on.

        Again after each rejoin: what changed meanwhile was not sent.
        """
        ...

    def on_gap(self, reason: str) -> None:
        """The channel or the socket was lost, or is being joined anew: changes may be missing until the next
        `on_ready`.
        """
        ...

    def on_error(self, error: RealtimeError) -> None:
        """The server refused the binding, or ended the channel for good."""
        ...


@runtime_checkable
class ResumingSink(ChangesSink, Protocol):
    """A `ChangesSink` that can go on after a break where it was, if the server still has what came since."""

    resume_lsn: int | None
    """LSN of the last change that it took, or of its subscription; None where it must begin anew. The channel sets it
    before `on_ready`."""

    def on_resumed(self) -> None:
        """In place of `on_ready`: every change since `resume_lsn` follows, that one included."""
        ...


class _Set(dict[object, Any]):
    """Callbacks in order of registration, with a function to take each out again."""

    def put(self, value: Any, after: Callable[[], None] | None = None) -> Unregister:
        token = object()
        self[token] = value

        def unregister() -> None:
            if self.pop(token, None) is not None and after is not None:
                after()

        return unregister

    def call(self, *args: Any) -> None:
        for fn in list(self.values()):
            guarded(fn, *args)


def base_url(url: str) -> str:
    """The project's base as `http(s)://host[/path]`, from any of the forms people paste. Raises `ValueError`."""
    parts = urlsplit(url.strip())
    schemes = {"ws": "http", "wss": "https", "http": "http", "https": "https"}
    if parts.scheme not in schemes or not parts.netloc:
        raise ValueError("the URL of a project looks like https://PROJECT.supabase.co")
    path = parts.path.rstrip("/")
    for tail in ("/websocket", "/realtime/v1"):
        path = path.removesuffix(tail)
    return f"{schemes[parts.scheme]}://{parts.netloc}{path}"


class AsyncClient:
    """A connection to a project's Realtime, for one user. `async with AsyncClient(url, key) as client: ...`

    `url`: the project's URL. `key`: its API key. `token`: the user's JWT, or a function (sync or async) that returns
    one; it is asked at
    connect, before expiry, and when the server says expired. `heartbeat_interval` and `timeout` in seconds.
    """

    def __init__(
        self,
        url: str,
        key: str,
        *,
        token: TokenSource = None,
        vsn: Vsn = "2.0.0",
        heartbeat_interval: float = 25.0,
        timeout: float = 10.0,
        backoff: Backoff | None = None,
    ) -> None:
        self.url = base_url(url)
        self._key = key
        self.vsn: Vsn = vsn
        self.timeout = timeout
        self.heartbeat_interval = heartbeat_interval
        self.status: ClientStatus = "closed"
        self.error: RealtimeError | None = None
        """What is wrong now."""
        self.last_error: RealtimeError | None = None
        """What went wrong last; stays when all is well again."""
        self.last_frame_at: float | None = None
        """Unix time of the last frame received."""
        self.round_trip_ms: float | None = None
        """Of the last heartbeat."""
        self.reconnects = 0
        self.bad_frames = 0
        self.channels: dict[str, AsyncChannel] = {}
        self.tokens = TokenHolder(token)
        self.rest = RestClient(self.url, key, self.tokens.get)
        self.clock_ahead = 0.0
        """Seconds that the server's clock is ahead of ours, as it told when the socket opened."""
        self._backoff = backoff or Backoff()
        self._statuses, self._frames, self._beats = _Set(), _Set(), _Set()
        self._ws: Wire | None = None
        self._receiver: Receiver | None = None
        self._ref = 0
        self._closed = False
        self._supervisor: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[Any]] = set()
        self._first: asyncio.Future[None] | None = None
        self._beat: tuple[str, float] | None = None

    def __repr__(self) -> str:
        return f"<AsyncClient {self.url} {self.status}, {len(self.channels)} channels>"

    async def __aenter__(self) -> Self:
        await self.connect()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()

    # --- what a person calls ---

    async def connect(self) -> None:
        """Connects, and stays connected until `close()`.

        Returns at the first open socket. Raises `RealtimeError` when the server refuses (bad key, unknown project), or
        when there is no connection
        within `timeout` seconds; in the second case it goes on trying.
        """
        self._closed = False
        self._start()
        if self.status == "connected":
            return
        first = self._first
        assert first is not None
        try:
            await asyncio.wait_for(asyncio.shield(first), self.timeout)
        except TimeoutError:
            text = f"no connection within {self.timeout} s" + (f": {self.error.message}" if self.error else "")
            raise errors.make("ConnectionLost", text) from None

    async def close(self) -> None:
        """Leaves every channel, closes the socket, and frees what the client holds. Safe to call twice."""
        self._closed = True
        supervisor, self._supervisor = self._supervisor, None
        for channel in list(self.channels.values()):
            channel.drop()
        self.channels.clear()
        if supervisor is not None:
            supervisor.cancel()
            await asyncio.gather(supervisor, return_exceptions=True)
        left = [task for task in self._tasks if task is not asyncio.current_task()]
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        await self.rest.close()
        self._set_status("closed", None)

    def channel(self, topic: str, **options: Any) -> AsyncChannel:
        """The channel of a topic: the same object for the same topic and options (`private`, `ack`, `broadcast_self`,
        `presence_key`, `replay`).

        Raises `RealtimeError` where the topic is in use with other options: a socket holds one channel a topic.
        """
        wanted = ChannelOptions(**options)
        name = topic.removeprefix("realtime:")
        if not name:
            raise errors.make("TopicNameRequired", "a channel needs a name")
        known = self.channels.get(name)
        if known is not None:
            if wanted in (known.options, known.made_with):
                return known
            if known.idle:
                known.drop()
            else:
                text = f"{name!r} is in use with other options: {_options(known.options)}, wanted {_options(wanted)}"
                raise errors.make("ChannelOptionsDiffer", text)
        made = AsyncChannel(self, name, wanted)
        self.channels[name] = made
        return made

    def on_status(self, fn: Callable[[ClientStatus, RealtimeError | None], Any]) -> Unregister:
        """Calls `fn(status, error)` at each change of status."""
        return self._statuses.put(fn)

    def on_frame(self, fn: Callable[[str, Message], Any]) -> Unregister:
        """Calls `fn("in" or "out", message)` for every frame (row changes have a `Change` as payload).

        Tokens are in join payloads: redact them.
        """
        return self._frames.put(fn)

    def on_beat(self, fn: Callable[[], Any]) -> Unregister:
        """Calls `fn()` at each answered heartbeat: the figures (`last_frame_at`, `round_trip_ms`) are new."""
        return self._beats.put(fn)

    async def broadcast(self, topic: str, event: str, payload: Any, *, private: bool = False) -> None:
        """Sends a broadcast over HTTP, without joining. Raises `RealtimeError`."""
        name = topic.removeprefix("realtime:")
        known = self.channels.get(name)
        if known is not None and known.options.private != private:
            logger.warning(
                "this goes to the %s topic %r, but the channel of that name here is %s: to the server these are two",
                *(("private", name, "public") if private else ("public", name, "private")),
            )
        await self.rest.broadcast(name, event, payload, private)

    async def set_token(self, token: str) -> None:
        """Another user token from now on: sent to every joined channel and used in every later join."""
        self.tokens.replace(token)
        await self._push_token()

    def move(self, url: str) -> None:
        """Speaks to the same project at another URL from now on (a proxy, a port that changed); an open connection is
        made anew, and its channels are joined again. Raises `ValueError` for what is no URL.
        """
        self.url = base_url(url)
        self.rest.move(self.url)
        if self._ws is not None:
            self._ws.transport.abort()

    # --- what channels use ---

    def next_ref(self) -> str:
        """A ref that this connection has not used."""
        self._ref += 1
        return str(self._ref)

    @property
    def connected(self) -> bool:
        """Whether there is an open socket now."""
        return self._ws is not None

    async def push(self, message: Message) -> None:
        """Sends a frame now. Raises `RealtimeError` without a socket, `FrameError` for what cannot be encoded."""
        ws = self._ws
        if ws is None:
            raise errors.make("ConnectionLost", "not connected")
        data = encode(message, self.vsn)
        if self._frames:
            self._frames.call("out", message)
        try:
            await ws.send(data)
        except ConnectionClosed:
            raise errors.make("ConnectionLost", "the connection was lost while sending") from None

    def spawn(self, coro: Any) -> asyncio.Task[Any]:
        """A task that lives until it ends or the client closes; what it raises is logged."""
        task: asyncio.Task[Any] = asyncio.get_running_loop().create_task(coro)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            logger.error("a background task failed", exc_info=task.exception())

    @property
    def closed(self) -> bool:
        """Whether it was closed: it does not come back, another is to be made."""
        return self._closed

    def ensure_started(self) -> None:
        """Starts connecting where nobody has. Raises `RealtimeError` once the client is closed."""
        if self._closed:  # also while it closes: a callback that subscribes again must not bring it back to life
            raise errors.make("Closed", "the client was closed")
        self._start()

    # --- the supervisor ---

    def _start(self) -> None:
        if self._supervisor is not None and not self._supervisor.done():
            return
        self._first = asyncio.get_running_loop().create_future()
        self._first.add_done_callback(lambda future: future.cancelled() or future.exception())  # nobody may be waiting
        self._set_status("connecting", None)
        self._supervisor = asyncio.get_running_loop().create_task(self._supervise())

    def _set_status(self, status: ClientStatus, error: RealtimeError | None) -> None:
        if (status, error) != (self.status, self.error):
            self.status, self.error = status, error
            self.last_error = error or self.last_error
            self._statuses.call(status, error)

    async def _supervise(self) -> None:
        assert self._first is not None
        refused = 0
        while True:
            wait = 0.0
            try:
                await self._one_connection()
                error = errors.make("ConnectionLost", "the connection ended")
                refused = 0
            except asyncio.CancelledError:
                raise
            except RealtimeError as found:
                error, wait = found, errors.min_wait(found)
                if not error.retryable:
                    # Once more with a fresh token, where one can be had; then it is a person's turn.
                    refused += 1
                    if refused > 1 or not self.tokens.renewable:
                        self._give_up(error)
                        return
            except InvalidStatus as refusal:
                response = refusal.response
                error = errors.from_status(response.status_code, bytes(response.body or b""))
                wait = errors.min_wait(error)
                if response.status_code in (401, 403, 404):
                    refused += 1
                    expired = error.code == "TokenExpired" and self.tokens.renewable
                    if refused > 1 or not expired:
                        self._give_up(error)
                        return
            except (OSError, TimeoutError, EOFError) as found:
                error = errors.make("ConnectionLost", f"cannot connect: {found or type(found).__name__}")
            except Exception as found:
                # Whatever else: this loop is what keeps the client alive, so it never ends for a reason nobody foresaw.
                logger.exception("unexpected error on the connection")
                error = errors.make("ConnectionLost", f"{type(found).__name__}: {found}")
            delay = self._backoff.next(wait)
            logger.info("not connected (%s), trying again in %.1f s", error.message, delay)
            self._set_status("reconnecting", error)
            await asyncio.sleep(delay)

    def _give_up(self, error: RealtimeError) -> None:
        logger.error("%s", error)
        self._set_status("error", error)
        if self._first is not None and not self._first.done():
            self._first.set_exception(error)
        for channel in list(self.channels.values()):
            channel.fail(error)

    async def _one_connection(self) -> None:
        await self._ask_token()
        scheme = "wss" if self.url.startswith("https") else "ws"
        host = self.url.partition(":")[2]
        uri = f"{scheme}:{host}/realtime/v1/websocket?apikey={quote(self._key, safe='')}&vsn={self.vsn}"
        receiver = self._receiver = Receiver(self.vsn)
        ws = await open_wire(uri, partial(self._take, receiver), max_size=MAX_FRAME, timeout=self.timeout)
        if self._first is not None and self._first.done():
            self.reconnects += 1
        self.clock_ahead = _clock_ahead(ws)
        self._ws, self._beat = ws, None
        opened = time.monotonic()
        helpers = [asyncio.ensure_future(self._heartbeats(ws)), asyncio.ensure_future(self._renewals())]
        try:
            self.last_frame_at = time.time()
            self._set_status("connected", None)
            if self._first is not None and not self._first.done():
                self._first.set_result(None)
            for channel in list(self.channels.values()):
                channel.connected()
            await ws.wait_closed()
            closed = ws.protocol.close_rcvd
            if closed is not None:
                logger.info("the server closed the connection: %s %s", closed.code, closed.reason)
        finally:
            self._ws = self._receiver = None
            for helper in helpers:
                helper.cancel()
            await asyncio.gather(*helpers, return_exceptions=True)
            if time.monotonic() - opened > 5:
                self._backoff.reset()
            for channel in list(self.channels.values()):
                channel.lost()
            await self._shut(ws)

    async def _shut(self, ws: Wire) -> None:
        try:
            await asyncio.wait_for(ws.close(), 1.5)
        except Exception:
            ws.transport.abort()
        except asyncio.CancelledError:
            ws.transport.abort()
            raise

    def _take(self, receiver: Receiver, messages: list[bytes]) -> None:
        """The messages of one read; channels hand their changes on when the turn of the loop ends."""
        if receiver is not self._receiver:
            return  # a socket that is being closed
        self.last_frame_at = time.time()
        for data in messages:
            try:
                message = receiver.receive(data)
            except FrameError as error:
                self.bad_frames += 1
                logger.warning("a frame was left out: %s", error)
            else:
                self._handle(message)

    def _handle(self, message: Message) -> None:
        if self._frames:
            self._frames.call("in", message)
        if message.topic == "phoenix":
            if self._beat is not None and message.ref == self._beat[0]:
                self.round_trip_ms = (time.monotonic() - self._beat[1]) * 1000
                self._beat = None
                self._beats.call()
            return
        channel = self.channels.get(message.topic.removeprefix("realtime:"))
        if channel is None:
            return
        channel.last_frame_at = self.last_frame_at
        try:
            channel.handle(message)
        except Exception:  # one channel's trouble must not end the others'
            logger.exception("a frame of %s could not be handled", channel.topic)

    async def _heartbeats(self, ws: Wire) -> None:
        while True:
            ref = self.next_ref()
            self._beat = (ref, time.monotonic())
            try:
                await self.push(Message("phoenix", "heartbeat", {}, ref))
            except RealtimeError:
                return
            patience = min(self.timeout, self.heartbeat_interval)
            await asyncio.sleep(patience)
            if self._unanswered(ref):
                logger.warning("no answer to the heartbeat within %.1f s: connecting anew", patience)
                ws.transport.abort()  # a close handshake would wait for the same silent peer
                return
            await asyncio.sleep(self.heartbeat_interval - patience)

    def _unanswered(self, ref: str) -> bool:
        return self._beat is not None and self._beat[0] == ref

    # --- tokens ---

    async def _ask_token(self, *, fresh: bool = False) -> str | None:
        try:
            return await self.tokens.get(fresh=fresh)
        except Exception as error:
            text = f"the token function raised {type(error).__name__}: {error}"
            raise RealtimeError(
                text, code="TokenSourceFailed", retryable=True, hint="mend the function given as token="
            ) from error

    async def _renewals(self) -> None:
        while True:
            wait = self.tokens.renew_in()
            if wait is None:
                return
            await asyncio.sleep(max(wait, 1.0))
            try:
                await self._ask_token(fresh=True)
                await self._push_token()
            except RealtimeError as error:
                logger.warning("the token was not renewed: %s", error)
                await asyncio.sleep(5)

    async def _push_token(self) -> None:
        token = self.tokens.current
        for channel in list(self.channels.values()):
            if token and channel.status == "joined":
                try:
                    await channel.push("access_token", {"access_token": token})
                except RealtimeError:
                    return  # the rejoin takes the new token with it

    async def token_for_join(self, *, fresh: bool) -> str | None:
        """The token to put into a join."""
        return await self._ask_token(fresh=fresh)


def _clock_ahead(ws: Wire) -> float:
    try:
        told = ws.response.headers["Date"] if ws.response is not None else ""
        return parsedate_to_datetime(told).timestamp() - time.time()
    except (LookupError, ValueError, OverflowError):
        return 0.0


def _options(options: ChannelOptions) -> str:
    shown = {name: value for name, value in msgspec.structs.asdict(options).items() if value not in (False, None)}
    return ", ".join(f"{name}={value!r}" for name, value in shown.items()) or "none"


class _Binding:
    """One sink and what it asked for."""

    __slots__ = ("batch", "binding", "sink")

    def __init__(self, binding: ChangesBinding, sink: ChangesSink) -> None:
        self.binding, self.sink = binding, sink
        self.batch: list[Change] = []


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
        self._statuses, self._presences, self._sinks = _Set(), _Set(), _Set()
        self._broadcasts: dict[str, _Set] = {}
        self._routes: dict[int, list[_Binding]] = {}
        self._dirty: dict[_Binding, None] = {}
        self._replies: dict[str, asyncio.Future[RealtimeError | None]] = {}
        self._buffer: deque[tuple[str, Any, asyncio.Future[None]]] = deque()
        self._waiters: list[asyncio.Future[None]] = []
        self._backoff = Backoff(1.0, 10.0)
        self._replay = Replay(options.replay) if options.replay else None
        self._replay_failed = self._was_joined = False
        self._refusals = 0
        self._timer: asyncio.TimerHandle | None = None
        self._join_timer: asyncio.TimerHandle | None = None
        self._rejoin_due = False
        self._joining: asyncio.Task[Any] | None = None
        self._state: dict[str, Any] | None = None
        self._state_sent: dict[str, Any] | None = None
        self._track_times: deque[float] = deque()
        self._track_timer: asyncio.TimerHandle | None = None

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
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        try:
            await asyncio.wait_for(waiter, timeout)
        except TimeoutError:
            because = self.error or self.client.error
            text = f"channel {self.topic!r} was not joined within {timeout} s" + (
                f": {because.message}" if because else ""
            )
            raise errors.make("Timeout", text) from None
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
        return self._state

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
        self._state = None
        self._cancel_timers()
        self._fail_pushes(errors.make("Closed", "the channel was left"))
        self._wake_waiters(errors.make("Closed", "the channel was left"))
        if joined:
            ref = self.client.next_ref()
            done = self._expect(ref)
            leave = self._machine.leave(ref)
            self._tell()
            try:
                await self.client.push(leave)
                await asyncio.wait_for(done, self.client.timeout)
            except (RealtimeError, TimeoutError):
                pass
            finally:
                self._replies.pop(ref, None)
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
        body = {"type": "broadcast", "event": event, "payload": payload}
        if self.status == "joined" and self.client.connected:
            await self._push_broadcast(body)
            return
        if self.status == "errored" and self.error is not None:
            for_good = self._timer is None and self.client.connected
            if for_good or errors.min_wait(self.error):  # after a rate limit, waiting messages would make it worse
                raise self.error
        if len(self._buffer) >= BUFFERED:
            _, _, oldest = self._buffer.popleft()
            if not oldest.done():
                oldest.set_exception(
                    errors.make(
                        "SendBufferFull",
                        f"over {BUFFERED} messages waited for channel {self.topic!r}: the oldest was dropped",
                    )
                )
        sent: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._buffer.append((event, body, sent))
        await sent

    async def track(self, state: dict[str, Any]) -> None:
        """Shows this state to the others, and again after every rejoin. Calls closer than the server allows are joined
        into one: the last wins.

        Raises `RealtimeError` where the server refuses the state.
        """
        if not self._wanted:
            raise errors.make("NotSubscribed", f"channel {self.topic!r} is not subscribed")
        self._state = dict(state)
        if not self._machine.presence_joined and self.status == "joined":
            self._rejoin_soon()  # else the server would send no presence_state
        elif self.status == "joined":
            await self._send_state()

    async def untrack(self) -> None:
        """Takes this connection's state away."""
        self._state = None
        if self.status == "joined" and self._state_sent is not None:
            await self._send_state()

    def on_broadcast(self, event: str, fn: Callable[[str, Any, dict[str, Any]], Any]) -> Unregister:
        """Calls `fn(event, payload, meta)` for broadcasts of the event (`*`: all; case does not matter)."""
        return self._broadcasts.setdefault(event.lower(), _Set()).put(fn)

    def on_presence(self, fn: Callable[[PresenceChange], Any]) -> Unregister:
        """Calls `fn(change)` for each change of presence. Bound to a channel joined without presence, it rejoins."""
        unregister = self._presences.put(fn)
        if self._wanted and not self._machine.presence_joined and self.status in ("joined", "joining"):
            self._rejoin_soon()
        return unregister

    def on_status(self, fn: Callable[[Status, RealtimeError | None], Any]) -> Unregister:
        """Calls `fn(status, error)` at each change of status."""
        return self._statuses.put(fn)

    def add_changes(self, binding: ChangesBinding, sink: ChangesSink) -> Unregister:
        """Sends a binding's changes to the sink.

        The channel rejoins where the server does not serve that binding yet.
        """
        added = _Binding(binding, sink)
        unregister = self._sinks.put(added, self._routes_changed)
        if self.status in ("joined", "joining") and self._wanted:
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
                self._gap("the channel is joined anew")
            self._joining = self.client.spawn(self._join(fresh))

    async def _join(self, fresh: bool) -> None:
        try:
            token = await self.client.token_for_join(fresh=fresh)
        except RealtimeError as error:
            self._machine.status = "errored"
            self._handle_down(Down(error, retry=True, wait=1.0))
            return
        if not self._wanted or not self.client.connected:
            return
        ref = self.client.next_ref()
        bindings = tuple(cast("_Binding", bound).binding for bound in self._sinks.values())
        presence = bool(self._presences) or self._state is not None or self.options.presence_key is not None
        replay = self._replay.params() if self._replay is not None and not self._replay_failed else None
        points = [getattr(cast("_Binding", bound).sink, "resume_lsn", None) for bound in self._sinks.values()]
        known = [point for point in points if point is not None]
        resume = min(known) if known and len(known) == len(points) else None
        message = self._machine.join(ref, token, bindings, presence=presence, replay=replay, resume=resume)
        self._state_sent = None
        self._routes = {}
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
        if self._wanted:
            self._rejoin_now(False)

    def lost(self) -> None:
        """The client's socket is gone."""
        self._cancel_timers()
        self._flush()
        was = self.status
        self._machine.lost()
        self._drop_replies(errors.make("ConnectionLost", "the connection was lost before the answer"))
        if was == "leaving":
            self._ended()
        elif self._wanted:
            if was == "joined":
                self._gap("the connection was lost")
            if was in ("joined", "joining"):
                self.error = errors.make("ConnectionLost", "the connection was lost")
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
        error = errors.make("Closed", "the client was closed")
        self._fail_pushes(error)
        self._wake_waiters(error)
        self._ended()

    def _ended(self) -> None:
        # Whoever shows rows must not go on as if they were of now.
        self._gap("the channel was left")
        self._machine.end()
        self._was_joined = False
        self._routes, self.error, self._state, self._state_sent = {}, None, None, None
        self._drop_replies(errors.make("Closed", "the channel was left"))
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
        self._gap(down.error.message)
        self._drop_replies(down.error)
        retry = down.retry and self._wanted and not (down.fresh_token and not self.client.tokens.renewable)
        if retry:
            delay = 0.0 if down.fresh_token else self._backoff.next(down.wait)
            logger.info("channel %s is down (%s), joining again in %.1f s", self.topic, down.error, delay)
            if self.client.connected:
                self._timer = asyncio.get_running_loop().call_later(delay, self._rejoin_now, down.fresh_token)
        else:
            self._refusals += 1
            logger.error("channel %s: %s", self.topic, down.error)
            self._fail_pushes(down.error)
            self._wake_waiters(down.error)
            for bound in list(self._sinks.values()):
                guarded(bound.sink.on_error, down.error)
        self._tell()

    def _handle_joined(self) -> None:
        self.rejoins += self._was_joined
        self._was_joined, self._replay_failed = True, False
        self._cancel_timers()
        self.error, self._refusals = None, 0
        self._backoff.reset()
        self._routes_changed()
        self._track_times.clear()
        self._tell()
        if self._there():
            self._wake_waiters(None)
        waiting, self._buffer = self._buffer, deque()
        if waiting:
            self.client.spawn(self._flush_buffer(waiting))
        if self._state is not None:
            self.client.spawn(self._retrack())
        served = set(self._machine.bindings)
        if any(bound.binding not in served for bound in self._sinks.values()) or (
            self._presences and not self._machine.presence_joined
        ):
            self._rejoin_soon()  # bound while the join was under way

    def _routes_changed(self) -> None:
        routes: dict[int, list[_Binding]] = {}
        for number, bindings in self._machine.routes.items():
            bound = [entry for entry in self._sinks.values() if entry.binding in bindings]
            if bound:
                routes[number] = bound
        self._routes = routes

    # --- what comes in ---

    def handle(self, message: Message) -> None:
        """One message for this topic."""
        if message.event == "postgres_changes":
            self._take_change(decode_change(message.payload))
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
            waiting = self._replies.pop(event.ref, None)
            if waiting is not None and not waiting.done():
                waiting.set_result(event.error)
        elif isinstance(event, Joined):
            self._handle_joined()
        elif isinstance(event, Replicating):
            self._wake_waiters(None)
        elif isinstance(event, Ready):
            self._flush()
            for bound in list(self._sinks.values()):
                sink = bound.sink
                if bound.binding not in self._machine.bindings:
                    continue
                if not isinstance(sink, ResumingSink):
                    guarded(sink.on_ready)
                elif event.resumed and sink.resume_lsn is not None:
                    guarded(sink.on_resumed)
                else:
                    sink.resume_lsn = event.lsn
                    guarded(sink.on_ready)
        elif isinstance(event, Down):
            self._flush()
            self._handle_down(event)
        elif isinstance(event, SystemError_):
            if event.postgres:
                logger.warning("channel %s: %s", self.topic, event.error)
                self.error = event.error
                self._tell()
                for bound in list(self._sinks.values()):
                    guarded(bound.sink.on_error, event.error)
        else:
            assert isinstance(event, Left)
            for ref in list(self._replies):
                waiting = self._replies.pop(ref)
                if not waiting.done():
                    waiting.set_result(None)
            if not self._wanted:
                self._ended()

    def _take_change(self, change: Change) -> None:
        routes, dirty = self._routes, self._dirty
        first = not dirty
        if len(change.ids) == 1:
            bindings = routes.get(change.ids[0], ())
        else:
            bindings = dict.fromkeys(bound for number in change.ids for bound in routes.get(number, ()))
        for bound in bindings:
            bound.batch.append(change)
            dirty[bound] = None
        if first and dirty:
            asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        """Hands each sink what has come since the last turn of the loop."""
        dirty, self._dirty = self._dirty, {}
        for bound in dirty:
            batch, bound.batch = bound.batch, []
            guarded(bound.sink.on_changes, batch)

    def _gap(self, reason: str) -> None:
        self._flush()
        for bound in list(self._sinks.values()):
            guarded(bound.sink.on_gap, reason)

    def _tell(self) -> None:
        told = (self.status, self.error)
        if told != self._status_told:
            self._status_told = told
            self.last_error = self.error or self.last_error
            self._statuses.call(*told)

    # --- what goes out ---

    def _expect(self, ref: str) -> asyncio.Future[RealtimeError | None]:
        future: asyncio.Future[RealtimeError | None] = asyncio.get_running_loop().create_future()
        self._replies[ref] = future
        return future

    async def push(self, event: str, payload: Any, *, answer: bool = False) -> None:
        """Sends a message on the joined channel; with `answer`, waits for the server's. Raises `RealtimeError`."""
        ref = self.client.next_ref()
        done = self._expect(ref) if answer else None
        try:
            await self.client.push(Message(self._machine.topic, event, payload, ref, self._machine.join_ref))
            if done is not None:
                error = await asyncio.wait_for(done, self.client.timeout)
                if error is not None:
                    raise error
        except TimeoutError:
            raise errors.make("Timeout", f"no answer to {event} within {self.client.timeout} s") from None
        except FrameError as error:
            raise errors.make("MalformedWebSocketMessage", str(error)) from None
        finally:
            self._replies.pop(ref, None)

    async def _push_broadcast(self, body: dict[str, Any]) -> None:
        await self.push("broadcast", body, answer=self.options.ack)

    async def _flush_buffer(self, waiting: deque[tuple[str, Any, asyncio.Future[None]]]) -> None:
        for _, body, sent in waiting:
            if sent.done():
                continue  # its sender has stopped waiting
            try:
                await self._push_broadcast(body)
            except RealtimeError as error:
                if not sent.done():
                    sent.set_exception(error)
            else:
                if not sent.done():
                    sent.set_result(None)

    async def _retrack(self) -> None:
        try:
            await self._send_state()
        except RealtimeError as error:
            logger.warning("channel %s: the state could not be tracked: %s", self.topic, error)

    async def _send_state(self) -> None:
        """Sends the state of now, or sets a timer where that would be one presence call too many."""
        if self._state == self._state_sent or self._track_timer is not None:
            return
        now = time.monotonic()
        while self._track_times and now - self._track_times[0] > TRACK_WINDOW:
            self._track_times.popleft()
        if len(self._track_times) >= TRACK_CALLS:
            wait = self._track_times[0] + TRACK_WINDOW - now
            self._track_timer = asyncio.get_running_loop().call_later(wait, self._track_later)
            return
        self._track_times.append(now)
        state = self._state
        self._state_sent = None if state is None else dict(state)
        if state is None:
            await self.push("presence", {"type": "presence", "event": "untrack"}, answer=True)
        else:
            await self.push("presence", {"type": "presence", "event": "track", "payload": state}, answer=True)

    def _track_later(self) -> None:
        self._track_timer = None
        if self.status == "joined":
            self.client.spawn(self._retrack())

    # --- ends ---

    def _cancel_timers(self) -> None:
        for timer in (self._timer, self._join_timer, self._track_timer):
            if timer is not None:
                timer.cancel()
        self._timer = self._join_timer = self._track_timer = None

    def _wake_waiters(self, error: RealtimeError | None) -> None:
        for waiter in self._waiters:
            if not waiter.done():
                if error is None:
                    waiter.set_result(None)
                else:
                    waiter.set_exception(error)

    def _drop_replies(self, error: RealtimeError) -> None:
        for ref in list(self._replies):
            waiting = self._replies.pop(ref)
            if not waiting.done():
                waiting.set_result(error)

    def _fail_pushes(self, error: RealtimeError) -> None:
        waiting, self._buffer = self._buffer, deque()
        for _, _, sent in waiting:
            if not sent.done():
                sent.set_exception(error)
