"""The asyncio client: one socket and many channels on one event loop.

It performs what the connection's machine decides: connects, reconnects without end, keeps the heartbeat, and renews the
token. Its channels (`channel.py`) join again by themselves. Callbacks run on the loop too.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Mapping
from functools import partial
from typing import Any, Self

from ..protocol import connection, errors
from ..protocol.backoff import Backoff
from ..protocol.codec import FrameError, encode
from ..protocol.connection import ConnectionMachine, Effect, Opening, Status
from ..protocol.errors import RealtimeError
from ..protocol.messages import Message, Vsn
from ..protocol.payloads import check_size
from ..protocol.receiver import Receiver
from ..protocol.subscription import ChannelOptions, check_flag, check_text
from .addresses import base_url, is_loopback, topic_name, websocket_url
from .callbacks import CallbackTable, Unregister
from .channel import AsyncChannel
from .channels import Channels
from .log import logger
from .performer import Performer
from .recent_frames import RecentFrames
from .rest import RestClient
from .tokens import TokenHolder, TokenSource
from .transport import Socket, Transport, as_error, shut
from .waiters import Waiters, late
from .wire import WebSocketTransport

HEARTBEAT, LOCAL_HEARTBEAT = 25.0, 5.0
"""Seconds between two heartbeats, and the same where the server is on this machine and heartbeats cost nothing."""
_STATUS, _FRAME, _BEAT = "status", "frame", "beat"


class AsyncClient:
    """A connection to a project's Realtime, for one user. `async with AsyncClient(url, key) as client: ...`

    `url`: the project's URL. `key`: its API key. `token`: the user's JWT, or a function (sync or async) that returns
    one; it is called at connect, before expiry, and when the server reports that the token has expired.
    `heartbeat_interval` and `timeout` in seconds; the interval is 25 unless given, 5 for a server on this machine.
    `transport`: opens the sockets, see `transport.Transport`.
    """

    def __init__(
        self,
        url: str,
        key: str,
        *,
        token: TokenSource = None,
        vsn: Vsn = "2.0.0",
        heartbeat_interval: float | None = None,
        timeout: float = 10.0,
        backoff: Backoff | None = None,
        transport: Transport | None = None,
    ) -> None:
        self.url = base_url(url)
        check_text("key", key)
        self._key = key.strip()  # as read from a file
        if vsn not in ("1.0.0", "2.0.0"):
            raise ValueError(f"vsn= takes '1.0.0' or '2.0.0', not {vsn!r}")
        self.vsn: Vsn = vsn
        self.timeout = timeout
        self.last_error: RealtimeError | None = None
        """What went wrong last; stays when all is well again."""
        self.frames = RecentFrames()
        self.channels = Channels()
        self.tokens = TokenHolder(token, self._on_token)
        self.rest = RestClient(self.url, self._key, self.get_token, fresh=partial(self.get_token, fresh=True))
        self._transport: Transport = transport or WebSocketTransport()
        if heartbeat_interval is None:
            heartbeat_interval = LOCAL_HEARTBEAT if is_loopback(self.url) else HEARTBEAT
        self._machine = ConnectionMachine(
            heartbeat=heartbeat_interval, timeout=timeout, renewable=self.tokens.renewable, backoff=backoff
        )
        self._performer = Performer[Effect](self._machine, self._perform_one, self._emit_status, self._tick)
        self._callbacks = CallbackTable()
        self._emitted: tuple[Status, RealtimeError | None] = ("closed", None)
        self._socket: Socket | None = None
        self._receiver: Receiver | None = None
        self._closed = False
        self._tasks: set[asyncio.Task[Any]] = set()
        self._opened = Waiters()
        """Those who wait for an open socket."""

    def __repr__(self) -> str:
        return f"<AsyncClient {self.url} {self.status}, {len(self.channels)} channels>"

    async def __aenter__(self) -> Self:
        try:
            await self.connect()
        except BaseException:
            await self.close()  # there will be no `__aexit__`
            raise
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()

    # --- what it is ---

    @property
    def status(self) -> Status:
        """`closed`, `connecting`, `connected`, `reconnecting` or `error`."""
        return self._machine.status

    @property
    def error(self) -> RealtimeError | None:
        """What is wrong now."""
        return self._machine.error

    @property
    def reconnects(self) -> int:
        """How often the connection was opened after the first time."""
        return self._machine.reconnects

    @property
    def round_trip_ms(self) -> float | None:
        """Of the last heartbeat."""
        return None if self._machine.round_trip is None else 1000 * self._machine.round_trip

    @property
    def heartbeat_interval(self) -> float:
        """Seconds between two heartbeats."""
        return self._machine.heartbeat

    @property
    def connected(self) -> bool:
        """Whether there is an open socket now."""
        return self._socket is not None

    @property
    def closed(self) -> bool:
        """Whether it was closed: it does not come back, another is to be made."""
        return self._closed

    @property
    def key(self) -> str:
        """The project's API key. A secret, perhaps: not for texts."""
        return self._key

    # --- what a person calls ---

    async def connect(self) -> None:
        """Connects, and stays connected until `close()`.

        Returns at the first open socket. Raises `RealtimeError` where the server refuses (bad key, unknown project),
        and `RealtimeTimeoutError` where there is no connection within `timeout` seconds; then it goes on trying.
        """
        self._closed = False
        self._performer.run(self._machine.connect())
        if self.connected:
            return
        if not await self._opened.wait(self.timeout):
            raise late(f"no connection within {self.timeout:g} s", self.error)

    async def close(self) -> None:
        """Leaves every channel, closes the socket, and frees what the client uses. Safe to call twice."""
        self._closed = True
        self._opened.wake(errors.make("Closed", "the client was closed"))
        for channel in list(self.channels.values()):
            channel.drop()
        self.channels.clear()
        socket, self._socket, self._receiver = self._socket, None, None
        self._performer.run(self._machine.close())
        left = [task for task in self._tasks if task is not asyncio.current_task()]
        for task in left:
            task.cancel()
        if socket is not None:
            await shut(socket)
        await asyncio.gather(*left, return_exceptions=True)
        self.tokens.close()
        await self.rest.close()

    def channel(
        self,
        topic: str,
        *,
        private: bool = False,
        ack: bool = False,
        broadcast_self: bool = False,
        presence_key: str | None = None,
        replay: Mapping[str, int] | None = None,
        replication_ready: bool = False,
    ) -> AsyncChannel:
        """The channel of a topic: the same object for the same topic and options, see `ChannelOptions`.

        Raises `RealtimeError` where the topic is in use with other options (a socket has one channel a topic),
        `TypeError` for an option of another type.
        """
        requested = ChannelOptions.checked(
            private=private,
            ack=ack,
            broadcast_self=broadcast_self,
            presence_key=presence_key,
            replay=replay,
            replication_ready=replication_ready,
        )
        return self.channels.open(self, topic_name(topic), requested)

    def on_status(self, fn: Callable[[Status, RealtimeError | None], Any]) -> Unregister:
        """Calls `fn(status, error)` at each change of status."""
        return self._callbacks.add(_STATUS, fn)

    @property
    def last_frame_at(self) -> float | None:
        """Unix time of the last frame received."""
        return self.frames.last_at

    def on_frame(self, fn: Callable[[str, Message], Any]) -> Unregister:
        """Calls `fn("in" or "out", message)` for every frame. A row change has a `Change` as payload."""
        return self._callbacks.add(_FRAME, fn)

    def on_beat(self, fn: Callable[[], Any]) -> Unregister:
        """Calls `fn()` at each answered heartbeat: the figures (`last_frame_at`, `round_trip_ms`) are new."""
        return self._callbacks.add(_BEAT, fn)

    async def broadcast(self, topic: str, event: str, payload: Any, *, private: bool = False) -> None:
        """Sends a broadcast over HTTP, without joining. Raises `RealtimeError`, `TypeError` for an argument of another
        type.
        """
        name = topic_name(topic)
        check_text("event", event)
        check_flag("private", private)
        known = self.channels.get(name)
        if known is not None and known.options.private != private:
            logger.warning(
                "this goes to the %s topic %r, but the channel of that name here is %s: to the server these are two",
                *(("private", name, "public") if private else ("public", name, "private")),
            )
        await self.rest.broadcast(name, event, payload, private)

    async def set_token(self, token: str) -> None:
        """Another user token from now on: sent to every joined channel and used in every later join. Channels that
        failed for their token are joined again.
        """
        check_text("token", token)
        self.tokens.replace(token)
        await self.channels.push_token()

    def move(self, url: str) -> None:
        """Speaks to the same project at another URL from now on (a proxy, a port that changed); an open connection is
        made anew, and its channels are joined again. Raises `ValueError` for what is no URL.
        """
        self.url = base_url(url)
        self.rest.move(self.url)
        self._abort()

    # --- what channels use: see `line.Line` ---

    def next_ref(self) -> str:
        """A ref that this client has not used."""
        return self._machine.next_ref()

    async def push(self, message: Message) -> None:
        """Sends a frame now. Raises `RealtimeError` without a connection, `FrameError` for what cannot be encoded."""
        if (socket := self._socket) is None:
            raise errors.make("ConnectionLost", "not connected")
        data = encode(message, self.vsn)
        check_size(data)
        self.frames.add("out", message, len(data))
        self._callbacks.call(_FRAME, "out", message)
        await socket.send(data)

    async def get_token(self, *, fresh: bool = False) -> str | None:
        """The token for a join. Raises `RealtimeError` where its source fails."""
        # Whoever waits for the connection or the join is to get the reason.
        return await self.tokens.fetch(0.8 * self.timeout, fresh=fresh)

    def spawn(self, coro: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """A task that lives until it ends or the client closes; what it raises is logged."""
        task: asyncio.Task[Any] = asyncio.get_running_loop().create_task(coro)
        self._tasks.add(task)
        task.add_done_callback(self._on_done)
        return task

    def _on_done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            logger.error("a background task failed", exc_info=task.exception())

    def ensure_started(self) -> None:
        """Starts connecting where nobody has. Raises `RealtimeError` once the client is closed."""
        if self._closed:  # also while it closes: a callback that subscribes again must not bring it back to life
            raise errors.make("Closed", "the client was closed")
        self._performer.run(self._machine.connect())

    def attach(self, topic: str, channel: object) -> None:
        """Has the topic's messages handed to this channel. Raises `RealtimeError` where another one has them."""
        assert isinstance(channel, AsyncChannel)
        known = self.channels.setdefault(topic, channel)
        if known is not channel:
            raise errors.make("Closed", f"another channel object has taken over {topic!r}")

    def detach(self, topic: str, channel: object) -> None:
        """Forgets the channel."""
        if self.channels.get(topic) is channel:
            del self.channels[topic]

    # --- performing ---

    def _perform_one(self, effect: Effect) -> None:
        match effect:
            case connection.OpenSocket(fresh_token):
                self.spawn(self._open(fresh_token))
            case connection.Send(message):
                self.spawn(self._send(message))
            case connection.Abort():
                self._abort()
            case connection.RenewToken():
                self.spawn(self._renew())
            case connection.Connected():
                self._emit_status()
                self._opened.wake()
                for channel in list(self.channels.values()):
                    channel.connected()
                self._on_token()
            case connection.Disconnected(error):
                for channel in list(self.channels.values()):
                    channel.disconnected(error)
            case connection.GaveUp(error):
                logger.error("%s", error)
                self._opened.wake(error)
                for channel in list(self.channels.values()):
                    channel.refuse(error)
            case connection.Beat():
                self._callbacks.call(_BEAT)

    def _emit_status(self) -> bool:
        status = (self.status, self.error)
        if status == self._emitted:
            return False
        self._emitted = status
        self.last_error = self.error or self.last_error
        if self.error is not None and self.status == "reconnecting":
            logger.info("not connected (%s), trying again", self.error.message)
        self._callbacks.call(_STATUS, *status)
        return True

    def _tick(self) -> None:
        try:
            self._performer.run(self._machine.tick(time.monotonic(), time.time()))
        except Exception:
            # Without a heartbeat a dead connection would look alive.
            logger.exception("the heartbeat failed")
            self._abort()

    def _abort(self) -> None:
        if self._socket is not None:
            self._socket.abort()

    async def _open(self, fresh_token: bool) -> None:
        """Opens a socket, and reports its end."""
        url, receiver = websocket_url(self.url, self._key, self.vsn), Receiver(self.vsn)
        try:
            await self.get_token(fresh=fresh_token)
            self._receiver = receiver
            socket = await self._transport.open(url, partial(self._receive, receiver), timeout=self.timeout)
        except Exception as found:
            self._performer.run(self._machine.refused(as_error(found), time.monotonic()))
            return
        if not isinstance(self._machine.state, Opening):
            socket.abort()
            return
        self._socket = socket
        self.tokens.set_clock(socket.date)
        self.frames.last_at = time.time()
        self._performer.run(self._machine.opened(time.monotonic(), time.time()))
        why = await socket.wait_closed()
        if self._socket is socket:
            self._socket = self._receiver = None
            error = errors.make("ConnectionLost", f"the connection was lost: {why}")
            self._performer.run(self._machine.lost(error, time.monotonic()))
        await shut(socket)

    async def _send(self, message: Message) -> None:
        try:
            await self.push(message)
        except RealtimeError:
            pass  # the socket is gone: `_open` reports it
        except Exception:
            logger.exception("a message could not be sent")
            self._abort()

    # --- what comes in ---

    def _receive(self, receiver: Receiver, messages: list[bytes]) -> None:
        """The messages of one read; channels deliver their changes when the turn of the loop ends."""
        if receiver is not self._receiver:
            return  # a socket that is being closed
        self.frames.last_at = time.time()
        self._machine.data_received(time.monotonic())
        for data in messages:
            try:
                message = receiver.receive(data)
            except FrameError as error:
                self._lose(error)
            else:
                self.frames.add("in", message, len(data))
                self._handle(message)

    def _lose(self, error: FrameError) -> None:
        """A frame could not be read: what it was for, or may have been for, is not up to date."""
        self.frames.bad += 1
        logger.warning("a frame was left out: %s", error)
        name = None if error.topic is None else error.topic.removeprefix("realtime:")
        for topic, channel in list(self.channels.items()):
            if name in (None, topic):
                channel.lost_frame(errors.make("MalformedWebSocketMessage", f"a message could not be read: {error}"))

    def _handle(self, message: Message) -> None:
        if _FRAME in self._callbacks:
            self._callbacks.call(_FRAME, "in", message)
        if message.topic == "phoenix":
            self._performer.run(self._machine.receive(message, time.monotonic()))
            return
        channel = self.channels.get(message.topic.removeprefix("realtime:"))
        if channel is None:
            return
        channel.last_frame_at = self.last_frame_at
        try:
            channel.receive(message)
        except Exception:  # one channel's trouble must not end the others'
            logger.exception("a frame of %s could not be handled", channel.topic)

    # --- tokens ---

    def _on_token(self) -> None:
        """There is another token: joined channels get it, and its end is looked after."""
        self._performer.run(self._machine.renewed(self.tokens.left(), time.monotonic()))
        if self.connected:
            self.spawn(self.channels.push_token())

    async def _renew(self) -> None:
        try:
            await self.get_token(fresh=True)
        except RealtimeError as error:
            logger.warning("the token was not renewed: %s", error)
            self._performer.run(self._machine.not_renewed(time.monotonic()))
        else:
            self._performer.run(self._machine.renewed(self.tokens.left(), time.monotonic()))
