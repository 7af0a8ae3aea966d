"""The clients and channels of notebooks: traitlets objects over the asyncio ones, whose calls work in a plain cell."""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, TypeVar, cast

from traitlets import Enum, Int, Unicode

from ..protocol.backoff import Backoff
from ..protocol.errors import RealtimeError
from ..protocol.events import Event
from ..protocol.filters import Filter
from ..protocol.messages import Change, Vsn
from ..protocol.presence import PresenceChange
from ..protocol.subscription import ChangesBinding, ChannelOptions, check_text
from .addresses import topic_name
from .callbacks import check_callback
from .change_sinks import CallbackSink
from .channel import AsyncChannel
from .client import AsyncClient
from .defaults import Register, close_at_exit
from .dispatch import dispatch
from .rest import RestClient
from .running import find
from .thread import call, io_loop, on_io_thread, submit
from .tokens import TokenSource
from .transport import Transport
from .twin import Twin, later

T = TypeVar("T")
E = TypeVar("E", bound=Event)
Unregister = Callable[[], None]


class Client(Twin):
    """A connection to a project, as one user. Made by `connect()` or `local()`.

    The arguments are those of `AsyncClient`. `.aio` is its asyncio twin, for use on the I/O thread. Traits are set on
    the kernel's main thread, between cells, where there is a kernel. Raises `ValueError` for what is no URL,
    `TypeError` for an argument of another type.
    """

    status = Enum(
        ("closed", "connecting", "connected", "reconnecting", "error"), "closed", help="closed also before first use"
    )
    reconnects = Int(0, help="how often the connection was opened after the first time")
    url = Unicode("", read_only=True, help="the project's URL")

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
        super().__init__()
        self.aio: AsyncClient = call(
            AsyncClient,
            url,
            key,
            token=token,
            vsn=vsn,
            heartbeat_interval=heartbeat_interval,
            timeout=timeout,
            backoff=backoff,
            transport=transport,
        )
        self.set_trait("url", self.aio.url)
        self._channels: dict[str, Channel] = {}
        call(self.aio.on_status, later(weakref.WeakMethod(self._apply_status)))
        call(self.aio.on_beat, later(weakref.WeakMethod(self.refresh)))
        clients.add(self)

    def __repr__(self) -> str:
        return f"<Client {self.url} {self.aio.status}>"

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def refresh(self) -> None:
        """Updates `last_frame_at`, `round_trip_ms` and `reconnects`, of the channels too. Each heartbeat does it."""
        aio = self.aio
        self.last_frame_at, self.round_trip_ms, self.reconnects = aio.last_frame_at, aio.round_trip_ms, aio.reconnects
        for channel in self.channels.values():
            channel.refresh()

    @property
    def channels(self) -> dict[str, Channel]:
        """The channels that this client has handed out, by topic. A copy."""
        return dict(self._channels)

    @property
    def rest(self) -> RestClient:
        """The REST client (asyncio: use it with `rtwidgets.client.thread.run`)."""
        return self.aio.rest

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
    ) -> Channel:
        """The channel of a topic: the same object for the same topic and options.

        Raises `RealtimeError` where the options differ from those in use, `TypeError` for one of another type.
        """
        return Channel(
            topic,
            private=private,
            ack=ack,
            broadcast_self=broadcast_self,
            presence_key=presence_key,
            replay=replay,
            replication_ready=replication_ready,
            client=self,
        )

    def connect_socket(self, timeout: float = 10.0) -> None:
        """Waits for an open socket. Raises `RealtimeError`. Not needed: a channel's `subscribe()` connects."""
        self._run(self.aio.connect(), timeout + 5)

    def set_token(self, token: str) -> None:
        """Another user token from now on, for joined channels too; those that failed for their token join again."""
        check_text("token", token)
        self._run(self.aio.set_token(token), 30)

    def broadcast(self, topic: str, event: str, payload: Any, *, private: bool = False) -> None:
        """Sends a broadcast over HTTP, without joining. Raises `RealtimeError`."""
        check_text("event", event)
        self._run(self.aio.broadcast(topic, event, payload, private=private), 60)

    def close(self) -> None:
        """Leaves every channel and closes the socket. Safe to call twice."""
        clients.remove(self)
        self._channels.clear()
        if self._pid != os.getpid():
            return
        closing = submit(self.aio.close())
        if not on_io_thread():
            try:
                closing.result(5)
            except Exception:
                closing.cancel()

    def _on_fork(self) -> None:
        for channel in self._channels.values():
            channel._on_fork()
        super()._on_fork()


def not_configured() -> RealtimeError:
    """There is nothing to connect to."""
    hint = "call connect(url, key), or local() for everything on this machine, or set SUPABASE_URL and SUPABASE_KEY"
    return RealtimeError("there is no URL or no key to connect with", code="NotConfigured", hint=hint)


def _connect_found() -> Client:
    found = find()
    if found is None:
        raise not_configured()
    clients.default = client = Client(found.url, found.key)
    return client


clients: Register[Client] = Register(_connect_found)
"""The clients of this process."""
close_at_exit(clients)


def _forget_clients() -> None:
    """In a forked child: what was inherited is closed, and the child makes its own."""
    inherited = clients.all()
    clients.reset()
    for client in inherited:
        client._on_fork()  # pyright: ignore[reportPrivateUsage] -- of the same module, and no name for users


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_clients)


def _checked(client: object) -> Client:
    if client is None:
        return clients.get_default()
    # What `rt.local()` and `rt.replay()` return is easily mistaken for one: each has its client.
    if not isinstance(client, Client):
        raise TypeError(
            f"client={type(client).__name__}(...) is not a client: pass what rt.connect() or local.connect() returns, "
            "or local.client, or the client of a replay"
        )
    return client


class Channel(Twin):
    """A channel: `Channel("support-chat")`. The same topic and options on the same client give the same object, so
    re-running a cell is safe.

    `private`: a channel with policies. `ack`: `send` returns when the server has accepted the message.
    `broadcast_self`: own broadcasts come back. `presence_key`: the key to be present under. `client`: the default one
    unless given. `replay`: stored broadcasts to receive at the join, `{"since": ms since 1970, "limit": 1 to 25}`, on
    private channels. `replication_ready`: joined means that what the database sends (`realtime.send`) arrives from then
    on.

    Callbacks run on the kernel's main thread between cells where there is a kernel, else on the I/O thread; what they
    raise is logged. `.aio` is its asyncio twin. Raises `RealtimeError` where the topic is in use with other options,
    `TypeError` for an argument of another type.
    """

    status = Enum(("closed", "joining", "joined", "leaving", "errored"), "closed", help="whether it is joined")
    reconnects = Int(0, help="how often it was joined again")

    client: Client
    options: ChannelOptions
    topic: str
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
        replay: Mapping[str, int] | None = None,
        replication_ready: bool = False,
    ) -> Channel:
        owner = _checked(client)
        options = ChannelOptions.checked(
            private=private,
            ack=ack,
            broadcast_self=broadcast_self,
            presence_key=presence_key,
            replay=replay,
            replication_ready=replication_ready,
        )
        with clients.lock:
            known = owner.channels.get(topic_name(topic))
        if known is not None and known.options == options:
            return known
        made = cast("Channel", super().__new__(cls))
        made.client, made.options, made.topic = owner, options, topic_name(topic)
        return made

    def __init__(self, *_: Any, **__: Any) -> None:
        if self._made:
            return
        super().__init__()
        fields = {name: getattr(self.options, name) for name in self.options.__struct_fields__}
        self.aio: AsyncChannel = call(self.client.aio.channel, self.topic, **fields)
        call(self.aio.on_status, later(weakref.WeakMethod(self._apply_status)))
        with clients.lock:
            self.client._channels[self.topic] = self  # pyright: ignore[reportPrivateUsage]
        self._made = True

    def __repr__(self) -> str:
        return f"<Channel {self.topic!r} {self.aio.status}>"

    def refresh(self) -> None:
        """Updates `last_frame_at`, `round_trip_ms` and `reconnects`. Each heartbeat does it."""
        self.last_frame_at, self.reconnects = self.aio.last_frame_at, self.aio.rejoins
        self.round_trip_ms = self.client.aio.round_trip_ms

    @property
    def presence(self) -> dict[str, list[dict[str, Any]]]:
        """Who is here: key to metas, one a connection."""
        return self.aio.presence

    def subscribe(self, timeout: float = 10.0) -> Channel:
        """Joins, and stays joined through every interruption until `unsubscribe()`; returns the channel.

        `timeout` in seconds. Raises `RealtimeError`: `RealtimeTimeoutError` after `timeout`.
        """
        self._run(self.aio.subscribe(timeout), timeout + 5)
        self._refresh_now()
        return self

    def start(self) -> Channel:
        """As `subscribe`, without waiting."""
        self._check_process()
        call(self.aio.start)
        return self

    def unsubscribe(self) -> None:
        """Leaves the channel; callbacks stay for a later `subscribe()`."""
        self._run(self.aio.unsubscribe(), 30)
        self._refresh_now()

    def send(self, event: str, payload: Any) -> None:
        """Broadcasts a dict (or `bytes`) to everyone on the channel.

        With `ack=True` it returns when the server has accepted it. Raises `RealtimeError`, `TypeError` for an event
        that is not text.
        """
        self._run(self.aio.send(event, payload), 30)

    def track(self, state: dict[str, Any]) -> None:
        """Shows this state to the others, again after every rejoin; calls too close together become one, the last wins.

        Raises `RealtimeError`.
        """
        self._run(self.aio.track(state), 30)

    def untrack(self) -> None:
        """Withdraws this connection's state."""
        self._run(self.aio.untrack(), 30)

    def on_broadcast(self, event: str, fn: Callable[[Any], Any]) -> Unregister:
        """Calls `fn(payload)` for broadcasts of the event (`*`: all); `on_event(Broadcast, fn)` has the event's name
        and meta too.

        Returns a function that unregisters.
        """
        check_callback(fn)
        return self._register(self.aio.on_broadcast, event, partial(dispatch, fn))

    def on_presence(self, fn: Callable[[PresenceChange], Any]) -> Unregister:
        """Calls `fn(change)`, with `.state`, `.joins`, `.leaves` and `.updates`.

        Returns a function that unregisters.
        """
        check_callback(fn)
        return self._register(self.aio.on_presence, partial(dispatch, fn))

    def on_postgres_changes(
        self,
        fn: Callable[[Change], Any],
        event: str = "*",
        schema: str = "public",
        table: str | None = None,
        filter: str | Filter | None = None,
    ) -> Unregister:
        """Calls `fn(change)` for each row change; `filter` as text or from `where()`.

        Returns a function that unregisters. Raises `RealtimeError` for an event or a filter that no server accepts.
        """
        binding, sink = ChangesBinding.checked(event, schema, table, filter), CallbackSink(fn, dispatch)
        return self._register(self.aio.add_changes, binding, sink)

    def on_event(self, kind: type[E], fn: Callable[[E], Any]) -> Unregister:
        """Calls `fn(event)` for each message of a class of `protocol.events`, such as `Broadcast` (`.event`,
        `.payload`, `.meta`).

        Returns a function that unregisters.
        """
        check_callback(fn)
        return self._register(self.aio.on_event, kind, partial(dispatch, fn))

    def _register(self, register: Callable[..., Unregister], *args: Any) -> Unregister:
        self._check_process()
        inner = call(register, *args)

        def unregister() -> None:
            if on_io_thread():
                inner()
            else:
                io_loop().call_soon_threadsafe(inner)

        return unregister

    def _refresh_now(self) -> None:
        if not on_io_thread():
            self._apply_status(self.aio.status, self.aio.error)
