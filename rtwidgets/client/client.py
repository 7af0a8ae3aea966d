"""The asyncio client: one socket, many channels, and what keeps the socket alive.

`AsyncClient` connects, reconnects without end, keeps the heartbeat, and renews the token; its channels (`channel.py`)
join again by themselves. All of it runs on one event loop; callbacks run there too.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from email.utils import parsedate_to_datetime
from functools import partial
from typing import Any, Literal, Self
from urllib.parse import quote, urlsplit

import msgspec
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus, InvalidURI

from ..protocol import errors
from ..protocol.backoff import Backoff
from ..protocol.channel import ChangesBinding, ChannelOptions
from ..protocol.codec import FrameError, encode
from ..protocol.errors import RealtimeError, redact
from ..protocol.messages import Message, Vsn
from ..protocol.presence import PresenceChange
from ..protocol.receiver import Receiver
from .callbacks import Callbacks, Unregister
from .change_sinks import ChangesSink, ResumingSink
from .channel import AsyncChannel
from .log import logger
from .rest import RestClient
from .tokens import TokenHolder, TokenSource
from .wire import Wire, open_wire

__all__ = [
    "AsyncChannel",
    "AsyncClient",
    "ChangesBinding",
    "ChangesSink",
    "PresenceChange",
    "RealtimeError",
    "ResumingSink",
]

ClientStatus = Literal["closed", "connecting", "connected", "reconnecting", "error"]

SLEEP_SLICE, SLEEP_SEEN = 2.0, 5.0  # seconds: how often it is looked whether the machine slept, and for how long
MAX_FRAME = 8 * 1024 * 1024  # a paid project may send 3 MB; the library's default of 1 MiB would end the connection


def topic_name(topic: str) -> str:
    """A topic as people write it, without the prefix that it has on the wire. Raises `TypeError` for what is no text,
    `RealtimeError` for none.
    """
    if not isinstance(topic, str):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"a topic is text, such as 'support-chat', not {type(topic).__name__}")
    name = topic.removeprefix("realtime:")
    if not name:
        raise errors.make("TopicNameRequired", "a channel needs a name")
    return name


def base_url(url: str) -> str:
    """The project's base as `http(s)://host[/path]`, from any of the forms people paste. Raises `ValueError`."""
    parts = urlsplit(url.strip())
    schemes = {"ws": "http", "wss": "https", "http": "http", "https": "https"}
    if parts.scheme not in schemes or not parts.netloc:
        raise ValueError(f"{redact(url)!r} is no URL of a project: one looks like https://PROJECT.supabase.co")
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
        self._key = key.strip()  # as read from a file
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
        self.clock_ahead = 0.0
        """Seconds that the server's clock is ahead of ours, as it told when the socket opened."""
        self.tokens = TokenHolder(token, lambda: self.clock_ahead)
        self.rest = RestClient(self.url, self._key, self._ask_token, fresh=partial(self._ask_token, fresh=True))
        self._backoff = backoff or Backoff()
        self._statuses, self._frames, self._beats = Callbacks(), Callbacks(), Callbacks()
        self._ws: Wire | None = None
        self._receiver: Receiver | None = None
        self._ref = 0
        self._closed = False
        self._supervisor: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[Any]] = set()
        self._connecting: set[asyncio.Future[None]] = set()
        """Those who wait for an open socket."""
        self._was_open = False
        self._why_dead = ""
        """What our side found wrong with the connection, where it was ours that ended it."""
        self._beat: tuple[str, float] | None = None

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

    # --- what a person calls ---

    async def connect(self) -> None:
        """Connects, and stays connected until `close()`.

        Returns at the first open socket. Raises `RealtimeError` when the server refuses (bad key, unknown project), or
        when there is no connection
        within `timeout` seconds; in the second case it goes on trying.
        """
        self._closed = False
        self._start()
        if self.connected:
            return
        opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._connecting.add(opened)
        try:
            async with asyncio.timeout(self.timeout):
                await opened
        except TimeoutError:
            text, why = f"no connection within {self.timeout} s", self.error
            if why is None:
                raise errors.make("ConnectionLost", text) from None
            raise RealtimeError(f"{text}: {why.message}", code=why.code, retryable=True, hint=why.hint) from None
        finally:
            self._connecting.discard(opened)

    async def close(self) -> None:
        """Leaves every channel, closes the socket, and frees what the client holds. Safe to call twice."""
        self._closed = True
        self._tell_connecting(errors.make("Closed", "the client was closed"))
        supervisor, self._supervisor = self._supervisor, None
        for channel in list(self.channels.values()):
            channel.drop()
        self.channels.clear()
        while supervisor is not None and not supervisor.done():
            supervisor.cancel()  # again where something in between has swallowed it
            await asyncio.wait([supervisor], timeout=2)
        left = [task for task in self._tasks if task is not asyncio.current_task()]
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        self.tokens.close()
        await self.rest.close()
        if self._closed:  # and nobody has connected again meanwhile
            self._set_status("closed", None)

    def channel(self, topic: str, **options: Any) -> AsyncChannel:
        """The channel of a topic: the same object for the same topic and options (`private`, `ack`, `broadcast_self`,
        `presence_key`, `replay`).

        Raises `RealtimeError` where the topic is in use with other options: a socket holds one channel a topic.
        """
        wanted, name = ChannelOptions(**options), topic_name(topic)
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
        return self._statuses.add(fn)

    def on_frame(self, fn: Callable[[str, Message], Any]) -> Unregister:
        """Calls `fn("in" or "out", message)` for every frame (row changes have a `Change` as payload).

        Tokens are in join payloads: redact them.
        """
        return self._frames.add(fn)

    def on_beat(self, fn: Callable[[], Any]) -> Unregister:
        """Calls `fn()` at each answered heartbeat: the figures (`last_frame_at`, `round_trip_ms`) are new."""
        return self._beats.add(fn)

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
    def key(self) -> str:
        """The project's API key. A secret, perhaps: not for texts."""
        return self._key

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
        self._was_open = False
        self._set_status("connecting", None)
        self._supervisor = asyncio.get_running_loop().create_task(self._supervise())

    def _set_status(self, status: ClientStatus, error: RealtimeError | None) -> None:
        if (status, error) != (self.status, self.error):
            self.status, self.error = status, error
            self.last_error = error or self.last_error
            self._statuses.call(status, error)

    def _tell_connecting(self, error: RealtimeError | None) -> None:
        for opened in list(self._connecting):
            if not opened.done():
                opened.set_exception(error) if error is not None else opened.set_result(None)

    async def _supervise(self) -> None:
        refused = 0
        while True:
            wait = 0.0
            try:
                error = errors.make("ConnectionLost", await self._one_connection())
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
            except (InvalidHandshake, InvalidURI) as found:
                if isinstance(found.__cause__, EOFError | OSError):
                    error = errors.make("ConnectionLost", "cannot connect: it was closed before an answer came")
                else:  # a wrong address, or a portal in between, so it may pass
                    text = f"what answers at {self.url} does not speak WebSocket ({found})"
                    error = errors.make("ConnectionLost", text, hint=errors.make("HandshakeRefused", "").hint)
            except ImportError as found:  # a SOCKS proxy, for which `websockets` needs another package
                error = errors.make("ConnectionLost", str(found), hint="install python-socks, or unset ALL_PROXY")
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
        self._tell_connecting(error)
        for channel in list(self.channels.values()):
            channel.fail(error)

    async def _one_connection(self) -> str:
        """Opens a socket and has it open until it ends; why it did."""
        await self._ask_token()
        scheme = "wss" if self.url.startswith("https") else "ws"
        host = self.url.partition(":")[2]
        uri = f"{scheme}:{host}/realtime/v1/websocket?apikey={quote(self._key, safe='')}&vsn={self.vsn}"
        receiver = self._receiver = Receiver(self.vsn)
        ws = await open_wire(uri, partial(self._take, receiver), max_size=MAX_FRAME, timeout=self.timeout)
        self.reconnects += self._was_open
        self._was_open = True
        self.clock_ahead = _clock_ahead(ws)
        self._ws, self._beat, self._why_dead = ws, None, ""
        why = "the client was closed"
        opened = time.monotonic()
        helpers = [asyncio.ensure_future(self._heartbeats(ws)), asyncio.ensure_future(self._renewals())]
        try:
            self.last_frame_at = time.time()
            self._set_status("connected", None)
            self._tell_connecting(None)
            for channel in list(self.channels.values()):
                channel.connected()
            await ws.wait_closed()
            why = self._why_dead or ws.why_closed()
            return why
        finally:
            self._ws = self._receiver = None
            for helper in helpers:
                helper.cancel()
            await asyncio.gather(*helpers, return_exceptions=True)
            if time.monotonic() - opened > 5:
                self._backoff.reset()
            for channel in list(self.channels.values()):
                channel.lost(why)
            await self._shut(ws)

    async def _shut(self, ws: Wire) -> None:
        try:
            async with asyncio.timeout(1.5):
                await ws.close()
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
        try:
            while not await self._beat_once(ws):
                pass
        except RealtimeError:
            pass  # the socket is gone already
        except Exception:
            logger.exception("the heartbeat failed")
        # A close handshake would wait for the same silent peer; and without a heartbeat a dead line would look alive.
        ws.transport.abort()

    async def _beat_once(self, ws: Wire) -> bool:
        """One heartbeat, and the wait for the next; whether it found the connection dead."""
        ref = self.next_ref()
        self._beat = (ref, time.monotonic())
        await self.push(Message("phoenix", "heartbeat", {}, ref))
        patience = min(self.timeout, self.heartbeat_interval)
        if await sleep_unless_asleep(patience):
            return False  # the machine was asleep: asked again at once, and answered or not
        if self._unanswered(ref):
            self._why_dead = f"no answer to the heartbeat within {patience:g} s"
            return True
        await sleep_unless_asleep(self.heartbeat_interval - patience)
        return False

    def _unanswered(self, ref: str) -> bool:
        return self._beat is not None and self._beat[0] == ref

    # --- tokens ---

    async def _ask_token(self, *, fresh: bool = False) -> str | None:
        patience = 0.8 * self.timeout  # whoever waits for the connection or the join is to hear the reason
        try:
            async with asyncio.timeout(patience):
                return await self.tokens.get(fresh=fresh)
        except TimeoutError:
            text = f"the token function has not returned within {patience:g} s"  # it is waited for again, not called
        except Exception as error:
            text = f"the token function raised {type(error).__name__}: {error}"
        hint = "mend the function given as token="
        raise RealtimeError(text, code="TokenSourceFailed", retryable=True, hint=hint)

    async def _renewals(self) -> None:
        """Has a new token before the old one expires, and tells every joined channel of each."""
        while True:
            self.tokens.changed.clear()
            await self._push_token()
            wait = self.tokens.renew_in()
            try:
                # A function may return the same token until shortly before its end, or for ever.
                least = 1.0 if (self.tokens.left() or 0) > 0 else 10.0
                async with asyncio.timeout(None if wait is None else max(wait, least)):
                    await self.tokens.changed.wait()
                continue
            except TimeoutError:
                pass
            try:
                await self._ask_token(fresh=True)
            except RealtimeError as error:
                logger.warning("the token was not renewed: %s", error)
                await asyncio.sleep(5)

    async def _push_token(self) -> None:
        for channel in list(self.channels.values()):
            try:
                await channel.push_token()
            except RealtimeError:
                return  # the rejoin takes the new token with it

    async def token_for_join(self, *, fresh: bool) -> str | None:
        """The token to put into a join."""
        return await self._ask_token(fresh=fresh)


async def sleep_unless_asleep(seconds: float) -> bool:
    """Sleeps; returns True, and at once, where the machine was asleep meanwhile.

    The clock that timers follow stands still while a laptop sleeps (on Linux and macOS), the wall clock does not.
    """
    end, apart = time.monotonic() + seconds, time.time() - time.monotonic()
    while (left := end - time.monotonic()) > 0:
        await asyncio.sleep(min(left, SLEEP_SLICE))
        if time.time() - time.monotonic() - apart > SLEEP_SEEN:
            return True
    return False


def _clock_ahead(ws: Wire) -> float:
    try:
        told = ws.response.headers["Date"] if ws.response is not None else ""
        return parsedate_to_datetime(told).timestamp() - time.time()
    except (LookupError, ValueError, OverflowError):
        return 0.0


def _options(options: ChannelOptions) -> str:
    shown = {name: value for name, value in msgspec.structs.asdict(options).items() if value not in (False, None)}
    return ", ".join(f"{name}={value!r}" for name, value in shown.items()) or "none"
