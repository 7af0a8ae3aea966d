"""The realtime server: Supabase Realtime's protocol and a read-only PostgREST, on one port of this machine.

server = RealtimeServer(dsn, jwt_secret=..., anon_key=..., service_key=...)
await server.start(port=0)
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from typing import Any

import psycopg
from aiohttp import WSMsgType, web

from ..client.log import child
from ..protocol.errors import RealtimeError
from ..protocol.server_channel import NOTHING, Identity, Permissions, ServerChannel, TokenError
from ..protocol.server_session import ServerSession
from .auth import verify
from .broadcast_api import BroadcastApi
from .catalogue import Catalogue
from .conversation import Conversation, Services
from .delivery import Delivery
from .groups import Groups
from .hub import ClientConnection, Hub, SendBuffers
from .install import install
from .limits import Limits
from .policies import read_permissions
from .pool import Pool
from .replication import Stream
from .request_guard import Handler, RequestGuard, is_loopback
from .rest import Rest
from .subscriptions import Subscriptions, answer

log = child(__name__)

_FORGET = 3600.0
"""Seconds between two looks for stored messages that are too old."""
_LINE = 32_768
"""Bytes of a request's URL, and of a header: a filter with a hundred values makes a long line."""
_ASKING = 8
"""Connections for questions about subscribers' tables: so many may be slow at a time."""
_STREAMING = 5.0
"""Seconds that `start` waits for the stream."""


class SessionHost:
    """What sessions must know of this server without waiting."""

    def __init__(self, secret: str) -> None:
        self._secret = secret

    def verify(self, token: str, now: float | None = None) -> Identity:
        """The identity that a token proves at `now`, or TokenError."""
        return verify(self._secret, token, now)

    def admit(self, channel: ServerChannel) -> list[dict[str, Any]]:
        """The reply's `postgres_changes`: what was asked for, each entry with its id."""
        return answer(channel.config.changes)


class RealtimeServer:
    """`start()` listens and begins to stream; `stop()` ends every connection.

    Args:
        dsn: of its Postgres, as a superuser.
        jwt_secret: what tokens are signed with.
        anon_key, service_key: tokens for users of the server; it needs none itself.
        limits: None for the defaults.
        host: address to listen on.
        public: whether that may be one that other machines reach: the secret is then one that the user chose.
    """

    def __init__(
        self,
        dsn: str,
        *,
        jwt_secret: str,
        anon_key: str = "",
        service_key: str = "",
        limits: Limits | None = None,
        host: str = "127.0.0.1",
        public: bool = False,
    ) -> None:
        self.dsn = dsn
        self.anon_key = anon_key
        self.service_key = service_key
        self.limits = limits or Limits()
        self.host = host
        self.port = 0
        self.sessions = SessionHost(jwt_secret)
        self.pool = Pool(dsn)
        self.hub = Hub(SendBuffers(self.limits.max_buffers))
        self.catalogue = Catalogue(self.pool)
        # Connections of their own: what takes long to ask or to read must not keep changes from going out.
        asking, reading = Pool(dsn, _ASKING), Pool(dsn)
        self._pools = (self.pool, asking, reading)
        groups, spawn = Groups(), self._spawn
        self.delivery = Delivery(asking, self.catalogue, self.hub, groups, self.limits, spawn)
        delivery = self.delivery
        self.stream = Stream(
            dsn,
            delivery.deliver,
            delivery.started,
            delivery.lost,
            delivery.announce,
            lambda b: self.subscriptions.blocked(b),
        )
        streaming = self.stream.streaming
        self.subscriptions = Subscriptions(self.pool, self.catalogue, groups, self.delivery, streaming, spawn)
        self.clients: dict[Conversation, web.WebSocketResponse] = {}
        self._public = public
        self._rest = Rest(reading, jwt_secret, self.limits.max_rows)
        self._rates = self.limits.rates()
        self._runner: web.AppRunner | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)
        return f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"

    # --- life

    async def start(self, host: str | None = None, port: int = 0) -> None:
        """Prepares the database and listens. With port 0 on a free one, which `.port` has then."""
        self.host = host or self.host
        if not is_loopback(self.host) and not self._public:
            raise RealtimeError(
                f"The local server does not listen on {self.host}, where others could reach it.",
                code="NotLoopback",
                hint="Leave the host out; or set RTWIDGETS_JWT_SECRET to a secret of yours, of 32 characters or more: "
                "then whoever has a key made with it can connect. What travels is not encrypted.",
            )
        await install(self.dsn)
        self.stream.start()
        # The access log would hold keys: they are in the URL of every socket.
        self._runner = web.AppRunner(
            self._app(), access_log=None, shutdown_timeout=1, max_line_size=_LINE, max_field_size=_LINE
        )
        await self._runner.setup()
        site = web.TCPSite(self._runner, self.host, port)
        await site.start()
        self.port = self._runner.addresses[0][1]
        self._spawn(self.subscriptions.watch())
        self._spawn(self._close_silent())
        self._spawn(self._forget_messages())
        # A slot waits for the end of every transaction that writes now: a long one must not hold up the start.
        try:
            await asyncio.wait_for(self.stream.streaming.wait(), _STREAMING)
        except TimeoutError:
            log.warning("row changes will stream once the transactions that are open now have ended")

    def _app(self) -> web.Application:
        guard = RequestGuard(self.host)
        services = Services(
            self.hub,
            self.pool,
            self.subscriptions,
            self.authorize,
            self.stream.streaming,
            self._spawn,
            self.limits.error_delay,
        )

        @web.middleware
        async def guarded(request: web.Request, handler: Handler) -> web.StreamResponse:
            return await guard.answer(request, handler)

        async def connect(request: web.Request) -> web.StreamResponse:
            return await self._websocket(request, services)

        app = web.Application(middlewares=[guarded], client_max_size=self.limits.max_frame)
        app.on_response_prepare.append(guard.add_headers)
        app.router.add_get("/health", self._health)
        for path in ("/realtime/v1/websocket", "/socket/websocket", "/realtime/v1/socket/websocket"):
            app.router.add_get(path, connect)
        api = BroadcastApi(self.hub, self.sessions.verify, self.authorize, self.limits, self._rates.messages)
        api.add_routes(app)
        self._rest.routes(app)
        return app

    async def stop(self) -> None:
        for conversation, ws in list(self.clients.items()):
            self._forget(conversation)
            await ws.close(code=1001, message=b"going away")
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None
        await self.stream.stop()
        await self.delivery.stop()
        for pool in self._pools:
            await pool.close()

    async def _close_silent(self) -> None:
        """Closes connections that fell silent: a laptop that went to sleep says no goodbye."""
        while True:
            await asyncio.sleep(self.limits.idle / 6)
            late = time.monotonic() - self.limits.idle
            for conversation in self.clients:
                if conversation.connection.last_heard < late:
                    conversation.connection.drop("no heartbeat")

    async def _forget_messages(self) -> None:
        """Stored messages are kept three days, as Supabase keeps them."""
        while True:
            try:
                async with self.pool.connection() as connection:
                    await connection.execute(
                        "delete from realtime.messages where inserted_at < now() at time zone 'utc' - interval '3 days'"
                    )
            except (psycopg.Error, OSError) as error:
                log.warning("old messages could not be removed: %s", error)
            await asyncio.sleep(_FORGET)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("a background task failed", exc_info=error)

    # --- what callers may do

    async def authorize(self, identity: Identity, topic: str) -> Permissions | None:
        """What the policies grant a caller on a private topic; None while Postgres is away."""
        try:
            return await read_permissions(self.pool, identity, topic)
        except (psycopg.OperationalError, OSError) as error:
            log.warning("the policies of %r could not be asked: %s", topic, error)
            return None
        except psycopg.Error as error:  # a policy that fails grants nothing, and a role that does not exist has nothing
            log.warning("the policies of %r failed: %s", topic, error)
            return NOTHING

    # --- HTTP and sockets

    async def _health(self, _: web.Request) -> web.Response:
        streaming = self.stream.streaming.is_set()
        body = {"status": "ok" if streaming else "starting", "streaming": streaming, "clients": len(self.clients)}
        return web.json_response(body)

    async def _websocket(self, request: web.Request, services: Services) -> web.StreamResponse:
        key = request.headers.get("x-api-key") or request.query.get("apikey")
        if not key:
            return await self._refuse(401, "API key is missing")
        try:
            self.sessions.verify(key)
        except TokenError as error:
            return await self._refuse(401, error.handshake)
        if self.limits.max_users and len(self.clients) >= self.limits.max_users:
            return await self._refuse(429, "Too many connected users")
        vsn = request.query.get("vsn", "1.0.0")
        if vsn not in ("1.0.0", "2.0.0"):
            return web.Response(status=403)
        ws = web.WebSocketResponse(compress=False, max_msg_size=self.limits.max_frame, timeout=1.0)
        if not ws.can_prepare(request).ok:
            return web.Response(status=400, text="this address speaks WebSocket")
        await ws.prepare(request)
        if request.transport is None:  # gone already
            return ws
        # uvloop's transports are asyncio.Transport by duck typing only.
        transport = request.transport
        connection = ClientConnection(transport, vsn, self.limits.max_buffer, self.hub.buffers)
        session = ServerSession(self.sessions, key, self.limits, self._rates)
        await self._converse(ws, Conversation(connection, session, services))
        return ws

    async def _converse(self, ws: web.WebSocketResponse, conversation: Conversation) -> None:
        connection = conversation.connection
        self.clients[conversation] = ws
        try:
            async for message in ws:
                connection.last_heard = time.monotonic()
                if message.type not in (WSMsgType.TEXT, WSMsgType.BINARY):
                    break
                if message.type is WSMsgType.BINARY and connection.vsn == "1.0.0":
                    continue
                try:
                    await conversation.receive(message.data)
                except Exception:  # our own mistake: one frame is lost, as when a channel crashes there
                    log.exception("a frame could not be handled")
        finally:
            self._forget(conversation)

    def _forget(self, conversation: Conversation) -> None:
        if self.clients.pop(conversation, None) is not None:
            conversation.end()

    async def _refuse(self, status: int, error: str) -> web.Response:
        if self.limits.handshake_delay:
            await asyncio.sleep(self.limits.handshake_delay)
        return web.json_response({"error": error}, status=status)
