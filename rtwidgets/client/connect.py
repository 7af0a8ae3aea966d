"""Connecting: from a URL and a key, a supabase client, the environment, or the running local server."""

from __future__ import annotations

import asyncio
import inspect
import weakref
from collections.abc import Callable, Coroutine
from typing import Any, NamedTuple

from ..protocol.backoff import Backoff
from ..protocol.errors import RealtimeError
from ..protocol.messages import Vsn
from .client import AsyncClient
from .notebook import Client, clients, not_configured
from .running import find
from .thread import io_loop
from .tokens import TokenSource
from .transport import Transport

HOME_PATIENCE = 0.3
"""Seconds after which a loop that does not answer counts as busy."""


def connect(
    url: Any = None,
    key: str | None = None,
    *,
    token: TokenSource = None,
    vsn: Vsn = "2.0.0",
    heartbeat_interval: float | None = None,
    timeout: float = 10.0,
    backoff: Backoff | None = None,
    transport: Transport | None = None,
) -> Client:
    """Connects to a project, and makes that client the default of everything else.

    Safe to run again: the new client of the same project and key replaces the one before, which is closed once nothing
    uses it any more.

    `url`: the project's URL; or a `supabase` client object, whose URL, key and session token are used; or None: the
    environment's SUPABASE_URL and SUPABASE_KEY, else the running local server. `token`: the user's JWT, or a function
    (sync or async) that returns one. The others are those of `AsyncClient`. The socket opens with the first channel.

    Raises `RealtimeError` where there is nothing to connect to, `ValueError` where `url` is no URL, `TypeError` for an
    argument of another type.
    """
    if url is not None and not isinstance(url, str):
        source = _of_supabase(url)
        url, key, token = source.url, key or source.key, token or source.token
    if url is None and key is None:
        found = find()
        url, key = found if found is not None else (None, None)
    if not url or not key:
        raise not_configured()
    client = Client(
        url,
        key,
        token=token,
        vsn=vsn,
        heartbeat_interval=heartbeat_interval,
        timeout=timeout,
        backoff=backoff,
        transport=transport,
    )
    with clients.lock:
        before, clients.default = clients.default, client
        if before is not None and (before.url, before.aio.key) == (client.url, client.aio.key):
            _replace(before)
    return client


def default_client() -> Client:
    """The client of the last `connect()` or `local()`; where there is none, what `connect()` without arguments finds.

    Raises `RealtimeError`.
    """
    return clients.get_default()


def set_default_client(client: Client | None) -> None:
    """Makes the client the default of everything that is not given one."""
    with clients.lock:
        clients.default = client


def close_all() -> None:
    """Closes every client of this process. Called at exit too."""
    clients.close_all()


def _replace(before: Client) -> None:
    """The cell that connects was run again: most of what used the client before is made anew too, and sockets would
    pile up.
    """
    if clients.replace(before):
        # Not `submit`: this may run in the middle of anything, also of what has its lock.
        weakref.finalize(before, _close_later, io_loop(), before.aio).atexit = False


def _close_later(loop: asyncio.AbstractEventLoop, aio: AsyncClient) -> None:
    if not loop.is_closed() and not aio.closed:
        loop.call_soon_threadsafe(lambda: aio.spawn(aio.close()))


# --- a supabase client ---


class _Source(NamedTuple):
    url: str
    key: str
    token: TokenSource


def _of_supabase(source: Any) -> _Source:
    url, key = getattr(source, "supabase_url", None), getattr(source, "supabase_key", None)
    if url is None or key is None:
        raise RealtimeError(
            f"a {type(source).__name__} has no supabase_url and supabase_key",
            code="NotConfigured",
            hint="pass a URL and a key, or a supabase client",
        )
    get_session: Any = getattr(getattr(source, "auth", None), "get_session", None)
    if get_session is None:
        return _Source(str(url), str(key), None)
    home = _running_loop()

    def from_sync() -> str | None:
        return getattr(get_session(), "access_token", None)

    async def from_async() -> str | None:
        session = await _at_home(get_session, home)
        return getattr(session, "access_token", None)

    return _Source(str(url), str(key), from_async if inspect.iscoroutinefunction(get_session) else from_sync)


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()  # a notebook's cells run on one
    except RuntimeError:
        return None


async def _at_home(fn: Callable[[], Coroutine[Any, Any, Any]], home: asyncio.AbstractEventLoop | None) -> Any:
    """What `fn()` gives on its own loop: a connection that is used on two breaks, for its owner too.

    A loop that is not free (a cell that computes, or one that waits for us to subscribe) is not waited for: most
    often the session is in memory and needs no connection.
    """
    if home is None or home.is_closed() or home is asyncio.get_running_loop():
        return await fn()
    here, started = asyncio.get_running_loop(), asyncio.Event()

    async def call() -> Any:
        here.call_soon_threadsafe(started.set)
        return await fn()

    called = asyncio.run_coroutine_threadsafe(call(), home)
    try:
        async with asyncio.timeout(HOME_PATIENCE):
            await started.wait()
    except TimeoutError:
        if called.cancel():
            return await fn()
    return await asyncio.wrap_future(called)
