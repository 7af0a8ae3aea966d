"""The realtime server: Supabase Realtime's protocol and a read-only PostgREST, on one port of this machine.

server = RealtimeServer(dsn, jwt_secret=..., anon_key=..., service_key=...)
await server.start(port=0)
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket as network
import time
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

import psycopg
from aiohttp import WSMsgType, web

from ..client.log import child
from ..protocol import codec
from ..protocol.errors import RealtimeError
from . import wire_frames
from .auth import Identity, TokenError, verify
from .delivery import Changes
from .hub import ERROR, Channel, ClientConnection, Hub
from .limits import Limits, Rate
from .pool import Pool
from .replication import Stream
from .rest import Rest
from .rls import NOTHING, Catalogue, Permissions

log = child(__name__)

SCHEMA = Path(__file__).with_name("schema.sql")
_REALTIME = "realtime:"
_AWAY = "Realtime was unable to connect to the project database"
_FORGET = 3600.0  # seconds from one look for stored messages that are too old to the next
_LINE = 32_768  # bytes of a request's URL, and of a header
_NO_MOMENT = 2**53  # milliseconds since 1970; beyond every timestamp
_NEVER = 10**9  # seconds; a timer beyond what a loop can count


class RealtimeServer:
    """`start()` listens and begins to stream; `stop()` ends every connection.

    Args:
        dsn: of its Postgres, as a superuser.
        jwt_secret: what tokens are signed with.
        anon_key, service_key: tokens to tell of; the server itself needs none.
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
        self._public = public
        self._secret = jwt_secret
        self._pool = Pool(dsn)
        self._hub = Hub()
        self._catalogue = Catalogue(self._pool)
        self._sockets: dict[ClientConnection, web.WebSocketResponse] = {}
        self._runner: web.AppRunner | None = None
        self._stream: Stream | None = None
        self._changes = Changes(self._pool, self._catalogue, self._hub, self.limits, self._streaming)
        # Connections of their own: tables that take long to read must not keep changes from going out.
        self._reading = Pool(dsn)
        self._rest = Rest(self._reading, jwt_secret, self.limits.max_rows)
        self._tasks: set[asyncio.Task[None]] = set()
        self._joins, self._messages = Rate(self.limits.joins), Rate(self.limits.messages)
        self._presence = Rate(self.limits.presence)

    def _streaming(self) -> asyncio.Event:
        assert self._stream is not None
        return self._stream.streaming

    @property
    def url(self) -> str:
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)
        return f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"

    # --- life

    async def start(self, host: str | None = None, port: int = 0) -> None:
        """Prepares the database and listens. Port 0 takes a free one; `.port` tells which."""
        self.host = host or self.host
        if not _loopback(self.host) and not self._public:
            raise RealtimeError(
                f"The local server does not listen on {self.host}, where others could reach it.",
                code="NotLoopback",
                hint="Leave the host out; or set RTWIDGETS_JWT_SECRET to a secret of yours, of 32 characters or more: "
                "then whoever has a key made with it can connect. What travels is not encrypted.",
            )
        await install(self.dsn)
        self._stream = Stream(self.dsn, self._changes.deliver, self._changes.lost, self._changes.announce)
        self._stream.start()
        app = web.Application(middlewares=[self._guard], client_max_size=self.limits.max_frame)
        app.router.add_get("/health", self._health)
        for path in ("/realtime/v1/websocket", "/socket/websocket", "/realtime/v1/socket/websocket"):
            app.router.add_get(path, self._websocket)
        for base in ("/realtime/v1", ""):
            app.router.add_post(f"{base}/api/broadcast", self._post_broadcast)
            app.router.add_post(f"{base}/api/broadcast/{{topic}}/events/{{event}}", self._post_event)
        self._rest.routes(app)
        # The access log would hold keys: they are in the URL of every socket.
        # A filter with a hundred values makes a long line.
        longest = {"max_line_size": _LINE, "max_field_size": _LINE}
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1, **longest)
        await self._runner.setup()
        site = web.TCPSite(self._runner, self.host, port)
        await site.start()
        self.port = self._runner.addresses[0][1]
        self._spawn(self._sweep())
        self._spawn(self._forget_messages())
        # A slot waits for the end of every transaction that writes now: a long one must not hold up the start.
        try:
            await asyncio.wait_for(self._stream.streaming.wait(), 5)
        except TimeoutError:
            log.warning("row changes will stream once the transactions that are open now have ended")

    async def stop(self) -> None:
        for socket, ws in list(self._sockets.items()):
            self._forget(socket)
            await ws.close(code=1001, message=b"going away")
        for task in list(self._tasks):
            task.cancel()
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None
        if self._stream is not None:
            await self._stream.stop()
        await self._pool.close()
        await self._reading.close()

    async def _sweep(self) -> None:
        """Closes sockets that fell silent: a laptop that went to sleep says no goodbye."""
        while True:
            await asyncio.sleep(self.limits.idle / 6)
            late = time.monotonic() - self.limits.idle
            for socket in [socket for socket in self._sockets if socket.last_heard < late]:
                socket.drop("no heartbeat")

    async def _forget_messages(self) -> None:
        """Stored messages are kept three days, as Supabase keeps them."""
        while True:
            try:
                async with self._pool.connection() as connection:
                    await connection.execute(
                        "delete from realtime.messages where inserted_at < now() at time zone 'utc' - interval '3 days'"
                    )
            except (psycopg.Error, OSError) as error:
                log.warning("old messages could not be removed: %s", error)
            await asyncio.sleep(_FORGET)

    def _spawn(self, work: Any) -> asyncio.Task[None]:
        task: asyncio.Task[None] = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("a background task failed", exc_info=task.exception())

    # --- HTTP

    def _mine(self, name: str | None) -> bool:
        """Whether this server may be called so. Where others reach it, by an address too, which nobody's domain can
        pretend to be, and by this machine's name."""
        if _loopback(name):
            return True
        if name is None or _loopback(self.host):
            return False
        return _is_address(name) or name in {part.lower() for part in (self.host, network.gethostname())}

    @web.middleware
    async def _guard(self, request: web.Request, handler: Any) -> web.StreamResponse:
        """Answers only those who called this machine by its own name: a page elsewhere may point its domain here."""
        try:
            host = urlsplit(f"//{request.headers.get('Host', '')}").hostname
            origin = request.headers.get("Origin")
            page = None if origin is None else urlsplit(origin).hostname
            allowed = self._mine(host) and (origin is None or _loopback(page) or page == host)
        except ValueError:
            allowed = False
        if not allowed:
            return web.json_response(
                {"error": "This server answers only to pages and programs of this machine"}, status=403
            )
        if request.method == "OPTIONS":
            response: web.StreamResponse = web.Response(status=204)
        else:
            response = await handler(request)
        if origin is not None and not response.prepared:
            response.headers["Access-Control-Allow-Origin"] = origin
            response.headers["Vary"] = "Origin"
            response.headers["Access-Control-Allow-Methods"] = "GET, POST, OPTIONS"
            wanted = request.headers.get("Access-Control-Request-Headers", "*")
            response.headers["Access-Control-Allow-Headers"] = wanted
            response.headers["Access-Control-Expose-Headers"] = "Content-Range, X-Rtwidgets-Lsn, X-Rtwidgets-Snapshot"
        return response

    async def _health(self, _: web.Request) -> web.Response:
        streaming = self._streaming().is_set()
        body = {"status": "ok" if streaming else "starting", "streaming": streaming, "clients": len(self._sockets)}
        return web.json_response(body)

    def _caller(self, request: web.Request) -> Identity:
        token = request.headers.get("Authorization", "").removeprefix("Bearer ").strip() or request.headers.get(
            "apikey", ""
        )
        return verify(self._secret, token)

    async def _post_broadcast(self, request: web.Request) -> web.Response:
        try:
            identity = self._caller(request)
        except TokenError:
            return web.json_response({"message": "Unauthorized"}, status=401)
        try:
            body = codec.loads(await request.read())
        except codec.FrameError:
            return web.Response(status=400, text="Bad Request")
        messages = body.get("messages") if isinstance(body, dict) else None
        if not isinstance(messages, list) or not messages:
            return _unprocessable(["can't be blank"])
        problems: list[dict[str, list[str]]] = []
        bodies: list[bytes] = []
        for message in messages:
            message = message if isinstance(message, dict) else {}
            problem: dict[str, list[str]] = {}
            for name in ("event", "payload", "topic"):
                if message.get(name) in (None, ""):
                    problem[name] = ["can't be blank"]
                elif not isinstance(message[name], dict if name == "payload" else str):
                    problem[name] = ["is invalid"]
            bodies.append(b"" if problem else codec.dumps(message["payload"]))
            if len(bodies[-1]) > self.limits.max_payload:
                problem["payload"] = ["Payload size exceeds tenant limit"]
            problems.append(problem)
        if any(problems):
            return _unprocessable(problems)
        if self.limits.messages and len(messages) > self.limits.messages:
            return _too_many("Too many messages to broadcast, please reduce the batch size")
        if not self._messages.take(len(messages)):
            return _too_many("You have exceeded your rate limit")
        for message, payload in zip(messages, bodies, strict=True):
            await self._broadcast(
                identity, message["topic"], message["event"], payload, private=message.get("private") is True
            )
        return web.Response(status=202)

    async def _post_event(self, request: web.Request) -> web.Response:
        try:
            identity = self._caller(request)
        except TokenError:
            return web.json_response({"message": "Unauthorized"}, status=401)
        body, raw = await request.read(), request.content_type == "application/octet-stream"
        if not raw and request.content_type != "application/json":
            return web.json_response({"message": "Unsupported Media Type"}, status=415)
        if len(body) > self.limits.max_payload:
            return _unprocessable([{"payload": ["Payload size exceeds tenant limit"]}])
        if not raw:
            try:
                body = codec.dumps(codec.loads(body))
            except codec.FrameError:
                return web.Response(status=400, text="Bad Request")
        if not self._messages.take():
            return _too_many("You have exceeded your rate limit")
        topic, event = request.match_info["topic"], request.match_info["event"]
        await self._broadcast(identity, topic, event, body, private=request.query.get("private") == "true", raw=raw)
        return web.Response(status=202)

    async def _broadcast(
        self, identity: Identity, sub: str, event: str, body: bytes, *, private: bool, raw: bool = False
    ) -> None:
        if private:
            try:
                permissions = await self._permissions(identity, sub)
            except Refused:
                raise web.HTTPServiceUnavailable(
                    text=f'{{"message":"{_AWAY}"}}', content_type="application/json"
                ) from None
            if not permissions.write_broadcast:
                return  # Supabase answers 202 all the same
        message = wire_frames.Broadcast(f"{_REALTIME}{sub}", event, body, raw=raw, binary=raw)
        self._hub.broadcast(sub, private, message)

    # --- sockets

    async def _websocket(self, request: web.Request) -> web.StreamResponse:
        key = request.headers.get("x-api-key") or request.query.get("apikey")
        if not key:
            return await self._refuse(401, "API key is missing")
        try:
            identity = verify(self._secret, key)
        except TokenError as error:
            return await self._refuse(401, error.handshake)
        if self.limits.max_users and len(self._sockets) >= self.limits.max_users:
            return await self._refuse(429, "Too many connected users")
        vsn = request.query.get("vsn", "1.0.0")
        if vsn != "1.0.0" and vsn != "2.0.0":
            return web.Response(status=403)
        ws = web.WebSocketResponse(compress=False, max_msg_size=self.limits.max_frame, timeout=1.0)
        if not ws.can_prepare(request).ok:
            return web.Response(status=400, text="this address speaks WebSocket")
        await ws.prepare(request)
        if request.transport is None:  # gone already
            return ws
        # uvloop's transports are asyncio.Transport by duck typing only.
        socket = ClientConnection(cast("asyncio.Transport", request.transport), vsn, identity, key, self.limits)
        self._sockets[socket] = ws
        try:
            async for message in ws:
                socket.last_heard = time.monotonic()
                if message.type not in (WSMsgType.TEXT, WSMsgType.BINARY):
                    break
                if message.type is WSMsgType.BINARY and vsn == "1.0.0":
                    continue
                try:
                    await self._receive(socket, message.data)
                except Exception:  # our own mistake: one frame is lost, as when a channel crashes there
                    log.exception("a frame could not be handled")
        finally:
            self._forget(socket)
        return ws

    async def _refuse(self, status: int, error: str) -> web.Response:
        if self.limits.handshake_delay:
            await asyncio.sleep(self.limits.handshake_delay)
        return web.json_response({"error": error}, status=status)

    def _forget(self, socket: ClientConnection) -> None:
        self._sockets.pop(socket, None)
        for channel in list(socket.channels.values()):
            self._detach(channel)

    async def _receive(self, socket: ClientConnection, data: str | bytes) -> None:
        try:
            message = codec.decode(data, socket.vsn, sender="client")
        except codec.FrameError as error:
            log.info("MalformedWebSocketMessage: %s", error)
            return
        topic, event, ref, payload = message.topic, message.event, message.ref, message.payload
        if event == "heartbeat" and topic == "phoenix":
            socket.reply(topic, ref, None)
            return
        if event == "phx_join" and topic.startswith(_REALTIME):
            await self._join(socket, topic, message.join_ref or ref, ref, payload if isinstance(payload, dict) else {})
            return
        channel = socket.channels.get(topic)
        if channel is None:
            join_ref = message.join_ref if event == "phx_join" else None
            socket.refuse(topic, ref, join_ref, "unmatched topic")
        elif message.join_ref is not None and message.join_ref != channel.join_ref:
            return  # meant for a join that a later one replaced
        elif event == "broadcast":
            self._on_broadcast(channel, ref, payload, binary=isinstance(data, bytes))
        elif event == "presence":
            self._on_presence(channel, ref, payload if isinstance(payload, dict) else {})
        elif event == "access_token":
            await self._on_access_token(channel, payload.get("access_token") if isinstance(payload, dict) else None)
        elif event == "phx_leave":
            socket.reply(topic, ref, channel.join_ref)
            self._close(channel, told=True)

    # --- channels

    async def _join(
        self, socket: ClientConnection, topic: str, join_ref: str | None, ref: str | None, payload: dict[str, Any]
    ) -> None:
        old = socket.channels.get(topic)
        if old is not None:
            self._detach(old)
        try:
            channel = await self._admit(socket, topic, join_ref, payload)
        except Refused as error:
            if self.limits.error_delay:
                await asyncio.sleep(self.limits.error_delay)
            socket.refuse(topic, ref, join_ref, str(error))
            if error.drops:
                socket.drop(str(error))
            channel = None
        else:
            socket.channels[topic] = channel
            self._hub.enter(channel)
            answer = {"postgres_changes": self._changes.answer(channel.params)}
            socket.reply(topic, ref, join_ref, codec.dumps({"response": answer, "status": "ok"}))
        if old is not None:
            socket.send(topic, "phx_close", b"{}", old.join_ref, old.join_ref)
        if channel is None:
            return
        for message in channel.replayed:
            frame = message.frame(socket.vsn)
            if frame is not None:
                socket.write(frame)
        if channel.presence_enabled and channel.permissions.read_presence and channel.topic is not None:
            socket.send(topic, "presence_state", channel.topic.state(), None, join_ref)
        self._watch_expiry(channel)
        if channel.params:
            channel.subscribing = self._spawn(self._changes.subscribe(channel))
        if channel.wants_replication:
            self._spawn(self._tell_replication(channel))

    async def _tell_replication(self, channel: Channel) -> None:
        """For a join with `replication_ready`: says when broadcasts from the database will arrive."""
        try:
            await asyncio.wait_for(self._streaming().wait(), 10)
        except TimeoutError:
            if not channel.closed:
                self._close_for(channel, "Replication connection was not established in time")
            return
        if not channel.closed:
            channel.system("system", "ok", "Replication connection established")

    async def _admit(
        self, socket: ClientConnection, topic: str, join_ref: str | None, payload: dict[str, Any]
    ) -> Channel:
        """The channel that this join asks for, or Refused with Supabase's reason."""
        if not self._joins.take():
            raise Refused("ClientJoinRateLimitReached: Too many joins per second", drops=True)
        if topic == _REALTIME:
            raise Refused("TopicNameRequired: You must provide a topic name")
        if len(socket.channels) >= self.limits.max_channels:
            raise Refused("ChannelRateLimitReached: Too many channels")
        token = payload.get("user_token") or payload.get("access_token")
        if not isinstance(token, str) or token.startswith("sb_"):
            token = socket.token
        try:
            identity = verify(self._secret, token)
        except TokenError as error:
            raise Refused(error.reason) from None
        config = payload.get("config")
        config = config if isinstance(config, dict) else {}
        channel = Channel(socket, topic, join_ref, config, identity, token)
        params = config.get("postgres_changes")
        params = [] if params is None else params
        if not isinstance(params, list) or not all(isinstance(entry, dict) for entry in params):
            raise Refused("UnknownErrorOnChannel: postgres_changes must be a list of objects")
        if len(params) > self.limits.max_bindings:
            most = self.limits.max_bindings
            raise Refused(f"UnprocessableEntity: {len(params)} postgres_changes in one join, the most are {most}")
        channel.params = params
        if channel.private:
            channel.permissions = await self._permissions(identity, channel.sub)
            if not (channel.permissions.read_broadcast or channel.permissions.read_presence):
                raise Refused(
                    f"Unauthorized: You do not have permissions to read from this Channel topic: {channel.sub}"
                )
        if channel.replay is not None:
            channel.replayed = await self._replay(channel)
        return channel

    async def _permissions(self, identity: Identity, sub: str) -> Permissions:
        """What the policies grant that caller; Refused while Postgres is away."""
        try:
            return await self._catalogue.permissions(identity, sub)
        except (psycopg.OperationalError, OSError) as error:
            log.warning("the policies of %r could not be asked: %s", sub, error)
            raise Refused(f"UnableToConnectToProject: {_AWAY}") from None
        except psycopg.Error as error:  # a policy that fails grants nothing, and a role that does not exist has nothing
            log.warning("the policies of %r failed: %s", sub, error)
            return NOTHING

    async def _replay(self, channel: Channel) -> list[wire_frames.Broadcast]:
        if not channel.private:
            raise Refused("UnableToReplayMessages: Replay is not allowed for public channels")
        replay = channel.replay if isinstance(channel.replay, dict) else {}
        since, limit = replay.get("since"), replay.get("limit", 25)
        valid = isinstance(since, int) and isinstance(limit, int) and not isinstance(since, bool) and 1 <= limit <= 25
        if not valid or abs(since) > _NO_MOMENT:
            raise Refused("UnableToReplayMessages: Replay params are not valid")
        if not channel.permissions.read_broadcast:
            return []
        try:
            return await self._changes.replay(channel, since, limit)
        except (psycopg.Error, OSError) as error:  # such as a moment that no timestamp can hold
            log.warning("messages of %r could not be replayed: %s", channel.sub, error)
            raise Refused("UnableToReplayMessages: Realtime was unable to replay messages") from None

    def _detach(self, channel: Channel, *, told: bool = False) -> None:
        """The channel gets nothing from here on."""
        channel.closed = True
        if channel.expiry is not None:
            channel.expiry.cancel()
        if channel.subscribing is not None:
            channel.subscribing.cancel()
        self._changes.unsubscribe(channel)
        if channel.socket.channels.get(channel.name) is channel:
            del channel.socket.channels[channel.name]
        self._hub.leave(channel, told=told)

    def _close(self, channel: Channel, *, told: bool = False) -> None:
        channel.socket.send(channel.name, "phx_close", b"{}", channel.join_ref, channel.join_ref)
        self._detach(channel, told=told)

    def _close_for(self, channel: Channel, message: str) -> None:
        channel.system("system", "error", message)
        self._close(channel)

    # --- tokens

    def _watch_expiry(self, channel: Channel) -> None:
        if channel.expiry is not None:
            channel.expiry.cancel()
        left = channel.identity.exp - time.time()
        if left < _NEVER:
            channel.expiry = asyncio.get_running_loop().call_later(max(left, 0), self._expire, channel)

    def _expire(self, channel: Channel) -> None:
        late = time.time() - channel.identity.exp
        if late < 0:  # the clock was set, or the timer early
            self._watch_expiry(channel)
        else:
            self._close_for(channel, f"Token has expired {int(late)} seconds ago")

    async def _on_access_token(self, channel: Channel, token: Any) -> None:
        if not isinstance(token, str) or token.startswith("sb_") or token == channel.token:
            return
        try:
            identity = verify(self._secret, token)
        except TokenError as error:
            self._close_for(channel, error.message)
            return
        if channel.private:
            try:
                permissions = await self._permissions(identity, channel.sub)
            except Refused:  # nobody can tell what the new token may do: the client joins again
                permissions = None
            if channel.closed:
                return
            if permissions is None:
                self._close_for(channel, _AWAY)
                return
            if not (permissions.read_broadcast or permissions.read_presence):
                self._close_for(
                    channel, f"You no longer have permission to read from this Channel topic: {channel.sub}"
                )
                return
            channel.permissions = permissions
        channel.token, channel.identity = token, identity
        self._watch_expiry(channel)
        if channel.params:
            if channel.subscribing is not None:
                channel.subscribing.cancel()
            # Not one more row under the old claims.
            self._changes.unsubscribe(channel)
            channel.subscribing = self._spawn(self._changes.subscribe(channel))

    # --- broadcast and presence

    def _on_broadcast(self, channel: Channel, ref: str | None, payload: Any, *, binary: bool) -> None:
        if not isinstance(payload, dict) or not isinstance(payload.get("event"), str):
            return
        if not self._messages.take():
            self._close_for(channel, "Too many messages per second")
            return
        if not channel.permissions.write_broadcast:
            return  # Supabase never answers here, not even with ack
        inner = payload.get("payload")
        raw = isinstance(inner, bytes)
        body: bytes = inner if isinstance(inner, bytes) else codec.dumps(inner)
        if len(body) > self.limits.max_payload:
            if channel.ack:
                error = b'{"response":"payload_size_exceeded","status":"error"}'
                channel.socket.reply(channel.name, ref, channel.join_ref, error)
            return
        # As recorded: the metadata of a text frame travels on, that of a binary one does not.
        meta = None if binary else payload.get("meta")
        message = wire_frames.Broadcast(
            channel.name, payload["event"], body, raw=raw, binary=binary, meta=meta if isinstance(meta, dict) else None
        )
        if channel.topic is not None:
            channel.topic.broadcast(message, channel)
        if channel.ack:
            channel.socket.reply(channel.name, ref, channel.join_ref)

    def _on_presence(self, channel: Channel, ref: str | None, payload: dict[str, Any]) -> None:
        if not channel.presence_call_allowed(self.limits):
            self._close_for(channel, "Client presence rate limit exceeded")
            return
        if not self._presence.take():
            self._close_for(channel, "Too many presence messages per second")
            return
        if len(codec.dumps(payload.get("payload"))) > self.limits.max_payload:
            self._close_for(channel, "Track message size exceeded")
            return
        action = str(payload.get("event", "")).lower()
        reply = channel.socket.reply
        topic = channel.topic
        if topic is None or not channel.permissions.write_presence:
            reply(channel.name, ref, channel.join_ref, ERROR)
        elif action == "track":
            state = payload.get("payload", {})
            if not isinstance(state, dict):
                channel.socket.refuse(channel.name, ref, channel.join_ref, "Presence track payload must be a map")
                return
            channel.presence_enabled = True
            reply(channel.name, ref, channel.join_ref)
            topic.track(channel, state)
        elif action == "untrack":
            reply(channel.name, ref, channel.join_ref)
            topic.untrack(channel)
        else:
            reply(channel.name, ref, channel.join_ref, ERROR)


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _loopback(name: str | None) -> bool:
    if name is None:
        return False
    if name == "localhost" or name.endswith(".localhost"):
        return True
    return _is_address(name) and ipaddress.ip_address(name).is_loopback


class Refused(Exception):
    """A join that is not granted; the text is the reason in the reply. `drops`: the whole connection ends with it."""

    def __init__(self, reason: str, *, drops: bool = False) -> None:
        super().__init__(reason)
        self.drops = drops


def _too_many(message: str) -> web.Response:
    return web.json_response({"message": message}, status=429)


def _unprocessable(problems: list[Any]) -> web.Response:
    return web.json_response({"errors": {"messages": problems}}, status=422)


async def remove(dsn: str) -> None:
    """Takes out of a database what `install` put there, and nothing else. Raises RealtimeError where Postgres refuses,
    such as while a server follows it.
    """
    try:
        async with await psycopg.AsyncConnection.connect(dsn, autocommit=True, connect_timeout=10) as connection:
            await connection.execute(SCHEMA.with_name("remove.sql").read_bytes())
    except psycopg.Error as error:
        raise RealtimeError(
            f"Not all of it could be removed: {' '.join(str(error.diag.message_primary or error).split())}",
            code="SchemaNotRemoved",
            hint="Stop the server that uses this Postgres first (rtwidgets stop); it takes a superuser.",
        ) from None


async def install(dsn: str) -> None:
    """Brings a database to what this server needs; safe to run again. Raises RealtimeError where Postgres refuses."""
    try:
        async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:
            # One at a time: two servers that start on one database would trip over each other's catalogue rows.
            await connection.execute("select pg_advisory_lock(7284551)")
            await connection.execute(SCHEMA.read_bytes())
    except psycopg.Error as error:
        raise RealtimeError(
            f"Postgres refused what the server needs in it: {error.diag.message_primary or error}",
            code="SchemaNotInstalled",
            hint="The schemas auth and realtime must be this server's own: use an empty database, or drop what is "
            "in the way.",
        ) from None
