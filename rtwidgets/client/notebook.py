"""The face for notebooks: `Client` and `Channel` are traitlets objects, and every call works in a plain cell."""

from __future__ import annotations

import asyncio
import atexit
import inspect
import os
import threading
import weakref
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar, cast

from traitlets import Any as AnyTrait
from traitlets import Enum, Float, HasTraits, Instance, Int, Unicode

from ..protocol.channel import ChangesBinding, ChannelOptions
from ..protocol.errors import RealtimeError
from ..protocol.filters import Filter
from ..protocol.messages import Change
from ..protocol.presence import PresenceChange
from .change_sinks import CallbackSink
from .client import AsyncChannel, AsyncClient, topic_name
from .dispatch import dispatch
from .thread import io_loop, on_io_thread, run, submit
from .tokens import TokenSource

T = TypeVar("T")
HOME_PATIENCE = 0.3
"""Seconds until a loop is taken for busy."""
Unregister = Callable[[], None]

_default: Client | None = None
_open: set[Client] = set()
"""What `close_all` closes; callbacks of a client go on though nobody holds it."""
_followed: weakref.WeakSet[Client] = weakref.WeakSet()
"""Clients whose cell was run again: each is closed with the last thing that uses it."""
_lock = threading.RLock()


async def _call(fn: Callable[..., T], *args: Any, **options: Any) -> T:
    return fn(*args, **options)


def _there(fn: Callable[..., T], *args: Any, **options: Any) -> T:
    """Calls `fn` on the I/O thread and waits for what it returns."""
    return fn(*args, **options) if on_io_thread() else run(_call(fn, *args, **options), 30)


class Client(HasTraits):
    """A connection to a project, as one user. Made by `connect()` or `local()`; `.aio` is its asyncio twin (on the I/O
    thread).

    Traits are set on the kernel's main thread, between cells, where there is a kernel.
    """

    status = Enum(("closed", "connecting", "connected", "reconnecting", "error"), "closed")
    """`"closed"` (also before it is first needed), `"connecting"`, `"connected"`, `"reconnecting"` or `"error"`."""
    error = Instance(RealtimeError, allow_none=True, help="what is wrong now")
    """What is wrong now: a `RealtimeError`, or None."""
    last_error = Instance(RealtimeError, allow_none=True, help="what went wrong last; stays when all is well again")
    """What went wrong last; stays when all is well again."""
    last_frame_at = Float(None, allow_none=True, help="Unix time of the last frame received")
    """When the last frame came, in seconds of Unix time."""
    round_trip_ms = Float(None, allow_none=True, help="of the last heartbeat")
    """Milliseconds that the last heartbeat took there and back."""
    reconnects = Int(0)
    """How often the connection was made anew."""
    url = Unicode("", read_only=True)
    """The project's."""

    def __init__(self, url: str, key: str, *, token: TokenSource = None, **options: Any) -> None:
        super().__init__()
        self.aio: AsyncClient = _there(AsyncClient, url, key, token=token, **options)
        self.set_trait("url", self.aio.url)
        self.known: dict[str, Channel] = {}
        mine = weakref.ref(self)

        def told(status: str, error: RealtimeError | None) -> None:
            me = mine()
            if me is not None:
                dispatch(me._take, status, error)

        def beat() -> None:
            me = mine()
            if me is not None:
                dispatch(me.refresh)

        _there(self.aio.on_status, told)
        _there(self.aio.on_beat, beat)
        with _lock:
            _open.add(self)

    def __repr__(self) -> str:
        return f"<Client {self.url} {self.aio.status}>"

    def _take(self, status: str, error: RealtimeError | None) -> None:
        with self.hold_trait_notifications():
            self.status, self.error = status, error
            self.last_error = self.aio.last_error
            self.refresh()

    def refresh(self) -> None:
        """Copies the figures that change with every frame (`last_frame_at`, `round_trip_ms`, `reconnects`) into the
        traits, the channels' too. Happens by itself at each heartbeat and each change of status.
        """
        self.last_frame_at, self.round_trip_ms, self.reconnects = (
            self.aio.last_frame_at,
            self.aio.round_trip_ms,
            self.aio.reconnects,
        )
        for channel in list(self.known.values()):
            channel.refresh()

    @property
    def channels(self) -> dict[str, Channel]:
        """The channels that this client has handed out, by topic."""
        return dict(self.known)

    @property
    def rest(self) -> Any:
        """The REST client (asyncio: use it with `rtwidgets.client.thread.run`)."""
        return self.aio.rest

    def channel(self, topic: str, **options: Any) -> Channel:
        """The channel of a topic: the same object for the same topic and options.

        Raises `RealtimeError` where the options differ from those in use.
        """
        return Channel(topic, client=self, **options)

    def connect_socket(self, timeout: float = 10.0) -> None:
        """Waits for an open socket. Raises `RealtimeError`. Not needed: a channel's `subscribe()` connects."""
        run(self.aio.connect(), timeout + 5)

    def set_token(self, token: str) -> None:
        """Another user token from now on, for joined channels too."""
        run(self.aio.set_token(token), 30)

    def broadcast(self, topic: str, event: str, payload: Any, *, private: bool = False) -> None:
        """Sends a broadcast over HTTP, without joining. Raises `RealtimeError`."""
        run(self.aio.broadcast(topic, event, payload, private=private), 60)

    def close(self) -> None:
        """Leaves every channel and closes the socket. Safe to call twice."""
        global _default
        with _lock:
            _open.discard(self)
            _followed.discard(self)
            if _default is self:
                _default = None
        self.known.clear()
        closing = submit(self.aio.close())
        if not on_io_thread():
            try:
                closing.result(5)
            except Exception:
                closing.cancel()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def _checked(client: Client | None) -> Client:
    if client is None:
        return default_client()
    # What `rt.local()` and `rt.replay()` return is easily taken for one: each has its client.
    if not isinstance(client, Client):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(
            f"client={type(client).__name__}(...) is not a client: pass what rt.connect() or local.connect() returns, "
            "or local.client, or the client of a replay"
        )
    return client


class Channel(HasTraits):
    """A channel: `Channel("support-chat")`. The same topic and options on the same client give the same object, so
    re-running a cell is safe.

    Callbacks run on the kernel's main thread between cells where there is a kernel, else on the I/O thread; what they
    raise is logged. `.aio` is its asyncio twin. Raises `RealtimeError` where the topic is in use with other options,
    `TypeError` where `client` is something else.
    """

    status = Enum(("closed", "joining", "joined", "leaving", "errored"), "closed")
    """`"closed"`, `"joining"`, `"joined"`, `"leaving"` or `"errored"`."""
    error = AnyTrait(None, allow_none=True, help="a RealtimeError, or None")
    """What is wrong now: a `RealtimeError`, or None."""
    last_error = AnyTrait(None, allow_none=True, help="what went wrong last; stays when all is well again")
    """What went wrong last; stays when all is well again."""
    last_frame_at = Float(None, allow_none=True, help="Unix time of the last frame for this topic")
    """When the last frame of this topic came, in seconds of Unix time."""
    round_trip_ms = Float(None, allow_none=True, help="of the connection's last heartbeat")
    """Milliseconds that the connection's last heartbeat took there and back."""
    reconnects = Int(0, help="how often it was joined again")
    """How often it was joined again."""

    _made = False

    def __new__(
        cls,
        topic: str,
        *,
        private: bool = False,
        ack: bool = False,
        broadcast_self: bool = False,
        presence_key: str | None = None,
        client: Client | None = None,
        **more: Any,
    ) -> Channel:
        client = _checked(client)
        options = ChannelOptions(private, ack, broadcast_self, presence_key, **more)
        name = topic_name(topic)
        with _lock:
            known = client.known.get(name)
            if known is not None and known.options == options:
                return known
        return cast("Channel", super().__new__(cls))

    def __init__(
        self,
        topic: str,
        *,
        private: bool = False,
        ack: bool = False,
        broadcast_self: bool = False,
        presence_key: str | None = None,
        client: Client | None = None,
        **more: Any,
    ) -> None:
        if self._made:
            return
        super().__init__()
        self.client = _checked(client)
        self.options = ChannelOptions(private, ack, broadcast_self, presence_key, **more)
        self.topic = topic_name(topic)
        fields = {name: getattr(self.options, name) for name in self.options.__struct_fields__}
        self.aio: AsyncChannel = _there(self.client.aio.channel, self.topic, **fields)
        mine = weakref.ref(self)

        def told(status: str, error: RealtimeError | None) -> None:
            me = mine()
            if me is not None:
                dispatch(me._take, status, error)

        _there(self.aio.on_status, told)
        with _lock:
            self.client.known[self.topic] = self
        self._made = True

    def __repr__(self) -> str:
        return f"<Channel {self.topic!r} {self.aio.status}>"

    def _take(self, status: str, error: RealtimeError | None) -> None:
        with self.hold_trait_notifications():
            self.status, self.error, self.last_error = status, error, self.aio.last_error
            self.refresh()

    def refresh(self) -> None:
        """Copies the figures that change without the status; happens by itself at each heartbeat."""
        self.last_frame_at, self.reconnects = self.aio.last_frame_at, self.aio.rejoins
        self.round_trip_ms = self.client.aio.round_trip_ms

    @property
    def presence(self) -> dict[str, list[dict[str, Any]]]:
        """Who is here: key to metas, one a connection."""
        return self.aio.presence

    def subscribe(self, timeout: float = 10.0) -> Channel:
        """Joins, and stays joined through every interruption until `unsubscribe()`; returns the channel.

        `timeout` in seconds. Raises `RealtimeError`.
        """
        self._wait(self.aio.subscribe(timeout), timeout + 5)
        self._sync()
        return self

    def start(self) -> Channel:
        """As `subscribe`, without waiting."""
        _there(self.aio.start)
        return self

    def unsubscribe(self) -> None:
        """Leaves the channel; callbacks stay for a later `subscribe()`."""
        self._wait(self.aio.unsubscribe(), 30)
        self._sync()

    def send(self, event: str, payload: Any) -> None:
        """Broadcasts a dict (or `bytes`) to everyone on the channel.

        With `ack=True` it returns when the server has taken it. Raises `RealtimeError`.
        """
        self._wait(self.aio.send(event, payload), 30)

    def track(self, state: dict[str, Any]) -> None:
        """Shows this state to the others, again after every rejoin; calls too close together become one, the last wins.

        Raises `RealtimeError`.
        """
        self._wait(self.aio.track(state), 30)

    def untrack(self) -> None:
        """Takes this connection's state away."""
        self._wait(self.aio.untrack(), 30)

    def on_broadcast(self, event: str, fn: Callable[..., Any]) -> Unregister:
        """Calls `fn(payload)` for broadcasts of the event (`*`: all). A function that takes two gets `(event,
        payload)`, with three also `meta`.

        Returns a function that unregisters.
        """
        if not callable(fn):
            raise TypeError(f"a callback is a function, not {type(fn).__name__}")
        wanted = _arity(fn)

        def take(name: str, payload: Any, meta: dict[str, Any]) -> None:
            args = (payload,) if wanted == 1 else (name, payload) if wanted == 2 else (name, payload, meta)
            dispatch(fn, *args)

        return self._unregister(_there(self.aio.on_broadcast, event, take))

    def on_presence(self, fn: Callable[[PresenceChange], Any]) -> Unregister:
        """Calls `fn(change)`, with `.state`, `.joins`, `.leaves` and `.updates`.

        Returns a function that unregisters.
        """

        if not callable(fn):
            raise TypeError(f"a callback is a function, not {type(fn).__name__}")

        def take(change: PresenceChange) -> None:
            dispatch(fn, change)

        return self._unregister(_there(self.aio.on_presence, take))

    def on_postgres_changes(
        self,
        fn: Callable[[Change], Any],
        event: str = "*",
        schema: str = "public",
        table: str | None = None,
        filter: str | Filter | None = None,
    ) -> Unregister:
        """Calls `fn(change)` for each row change; `filter` as text or from `where()`.

        Returns a function that unregisters. Raises `RealtimeError` for an event or a filter that no server takes.
        """
        binding, sink = ChangesBinding.checked(event, schema, table, filter), CallbackSink(fn, dispatch)
        return self._unregister(_there(self.aio.add_changes, binding, sink))

    def _unregister(self, inner: Unregister) -> Unregister:
        def unregister() -> None:
            if on_io_thread():
                inner()
            else:
                io_loop().call_soon_threadsafe(inner)

        return unregister

    def _wait(self, coro: Coroutine[Any, Any, T], timeout: float) -> T | None:
        if on_io_thread():
            # From a callback outside a kernel: waiting here would never end, so it goes on by itself.
            future: Future[T] = submit(coro)
            future.add_done_callback(_log_failure)
            return None
        return run(coro, timeout)

    def _sync(self) -> None:
        if not on_io_thread():
            self._take(self.aio.status, self.aio.error)


def _log_failure(future: Future[Any]) -> None:
    from .log import logger

    if not future.cancelled() and future.exception() is not None:
        logger.error("a call from a callback failed: %s", future.exception())


def _arity(fn: Callable[..., Any]) -> int:
    try:
        parameters = inspect.signature(fn).parameters.values()
    except (TypeError, ValueError):
        return 1
    if any(parameter.kind is parameter.VAR_POSITIONAL for parameter in parameters):
        return 3
    plain = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) and p.default is p.empty]
    return min(max(len(plain), 1), 3)


def connect(url: Any = None, key: str | None = None, *, token: TokenSource = None, **options: Any) -> Client:
    """Connects to a project, and makes that client the default of everything else.

    Safe to run again: another client of the same project and key follows, and the one of before is closed once nothing
    uses it any more.

    `url`: the project's URL; or a `supabase` client object, whose URL, key and session token are taken; or None: the
    environment's SUPABASE_URL
    and SUPABASE_KEY, else the running local one. `token`: the user's JWT, or a function (sync or async) that returns
    one. The socket opens with the
    first channel. Raises `RealtimeError` where there is nothing to connect to, `ValueError` where `url` is no URL.
    """
    if url is not None and not isinstance(url, str):
        url, key, token = _from_supabase(url, key, token)
    if url is None and key is None:
        url, key = os.environ.get("SUPABASE_URL") or None, os.environ.get("SUPABASE_KEY") or None
        if url is None:
            found = _running_local()
            if found is not None:
                url, key = found
    if not url or not key:
        hint = "call connect(url, key), or local() for everything on this machine, or set SUPABASE_URL and SUPABASE_KEY"
        raise RealtimeError("there is no URL or no key to connect with", code="NotConfigured", hint=hint)
    client = Client(str(url), key, token=token, **options)
    with _lock:
        before = _default
        set_default_client(client)
        if before is not None and (before.url, before.aio.key) == (client.url, client.aio.key):
            _follow(before)
    return client


def _follow(before: Client) -> None:
    """The cell that connects was run again: what the client of before was used for mostly is too, and sockets would
    pile up.
    """
    if before in _open:
        _open.discard(before)
        _followed.add(before)
        # Not `submit`: this may run in the middle of anything, also of what holds its lock.
        weakref.finalize(before, _close_later, io_loop(), before.aio).atexit = False


def _close_later(loop: asyncio.AbstractEventLoop, aio: AsyncClient) -> None:
    if not loop.is_closed() and not aio.closed:
        loop.call_soon_threadsafe(lambda: aio.spawn(aio.close()))


def _running_local() -> tuple[str, str] | None:
    try:
        from rtwidgets.local.handle import running_default  # pyright: ignore
    except ImportError:
        return None
    return running_default()  # pyright: ignore


def _from_supabase(source: Any, key: str | None, token: TokenSource) -> tuple[str, str, TokenSource]:
    url, found = getattr(source, "supabase_url", None), getattr(source, "supabase_key", None)
    if url is None or found is None:
        raise RealtimeError(
            f"a {type(source).__name__} has no supabase_url and supabase_key",
            code="NotConfigured",
            hint="pass a URL and a key, or a supabase client",
        )

    get_session: Any = getattr(getattr(source, "auth", None), "get_session", None)

    def now() -> str | None:
        return getattr(get_session(), "access_token", None)

    home = _running_loop()

    async def soon() -> str | None:
        session = await _at_home(get_session, home)
        return getattr(session, "access_token", None)

    session_token: TokenSource = soon if inspect.iscoroutinefunction(get_session) else now
    return str(url), key or str(found), token or (session_token if get_session is not None else None)


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()  # a notebook's cells run on one
    except RuntimeError:
        return None


async def _at_home(fn: Callable[[], Coroutine[Any, Any, Any]], home: asyncio.AbstractEventLoop | None) -> Any:
    """What `fn()` gives on its own loop: a connection that is used on two breaks, for its owner too.

    A loop that is not free (a cell that computes, or one that waits for us to subscribe) is not waited for: most
    often what is asked for is in memory and needs no connection.
    """
    if home is None or home.is_closed() or home is asyncio.get_running_loop():
        return await fn()
    here, started = asyncio.get_running_loop(), asyncio.Event()

    async def there() -> Any:
        here.call_soon_threadsafe(started.set)
        return await fn()

    asked = asyncio.run_coroutine_threadsafe(there(), home)
    try:
        async with asyncio.timeout(HOME_PATIENCE):
            await started.wait()
    except TimeoutError:
        if asked.cancel():
            return await fn()
    return await asyncio.wrap_future(asked)


def default_client() -> Client:
    """The client of the last `connect()` or `local()`; where there is none, what `connect()` without arguments finds.

    Raises `RealtimeError`.
    """
    with _lock:
        if _default is not None:
            return _default
    return connect()


def set_default_client(client: Client | None) -> None:
    """Makes the client the default of everything that is not given one."""
    global _default
    with _lock:
        _default = client


def close_all() -> None:
    """Closes every client of this process. Called at exit too."""
    for client in [*_open, *_followed]:
        client.close()


atexit.register(close_all)
