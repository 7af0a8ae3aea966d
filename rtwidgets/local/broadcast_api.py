"""Broadcasts over HTTP: `POST /api/broadcast`, and one event of one topic at a time."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Any, cast

from aiohttp import web

from ..protocol import codec
from ..protocol.rate_limits import Rate
from ..protocol.server_channel import PREFIX, Identity, Permissions, TokenError
from ..protocol.server_session import AWAY
from . import wire_frames
from .hub import Hub
from .limits import Limits

Authorize = Callable[[Identity, str], Awaitable[Permissions | None]]
"""What a caller may do on a topic; None while Postgres is away."""


class BroadcastApi:
    """Args:
    hub: where the topics are.
    verify: the identity that a token proves. Raises TokenError.
    authorize: asks the policies of a private topic.
    rate: of messages, shared with the sockets.
    """

    def __init__(
        self, hub: Hub, verify: Callable[[str], Identity], authorize: Authorize, limits: Limits, rate: Rate
    ) -> None:
        self._hub = hub
        self._verify = verify
        self._authorize = authorize
        self._limits = limits
        self._rate = rate

    def add_routes(self, app: web.Application) -> None:
        """Registers the paths of a project's URL and those of the server's own."""
        for base in ("/realtime/v1", ""):
            app.router.add_post(f"{base}/api/broadcast", self._post_messages)
            app.router.add_post(f"{base}/api/broadcast/{{topic}}/events/{{event}}", self._post_event)

    def _caller(self, request: web.Request) -> Identity | None:
        bearer = request.headers.get("Authorization", "").removeprefix("Bearer ").strip()
        try:
            return self._verify(bearer or request.headers.get("apikey", ""))
        except TokenError:
            return None

    async def _post_messages(self, request: web.Request) -> web.Response:
        identity = self._caller(request)
        if identity is None:
            return _message(401, "Unauthorized")
        try:
            body = codec.loads(await request.read())
        except codec.FrameError:
            return web.Response(status=400, text="Bad Request")
        asked = cast("dict[str, Any]", body).get("messages") if isinstance(body, dict) else None
        if not isinstance(asked, list) or not asked:
            return _unprocessable(["can't be blank"])
        messages: list[dict[str, Any]] = [
            cast("dict[str, Any]", message) if isinstance(message, dict) else {} for message in cast("list[Any]", asked)
        ]
        problems: list[dict[str, list[str]]] = []
        bodies: list[bytes] = []
        for message in messages:
            problem = _problem(message)
            bodies.append(b"" if problem else codec.dumps(message["payload"]))
            if len(bodies[-1]) > self._limits.max_payload:
                problem["payload"] = ["Payload size exceeds tenant limit"]
            problems.append(problem)
        if any(problems):
            return _unprocessable(problems)
        if self._limits.messages and len(messages) > self._limits.messages:
            return _message(429, "Too many messages to broadcast, please reduce the batch size")
        if not self._rate.allow(time.time(), len(messages)):
            return _message(429, "You have exceeded your rate limit")
        for message, payload in zip(messages, bodies, strict=True):
            sent = wire_frames.Broadcast(f"{PREFIX}{message['topic']}", message["event"], payload)
            await self._broadcast(identity, message["topic"], sent, private=message.get("private") is True)
        return web.Response(status=202)

    async def _post_event(self, request: web.Request) -> web.Response:
        identity = self._caller(request)
        if identity is None:
            return _message(401, "Unauthorized")
        body, raw = await request.read(), request.content_type == "application/octet-stream"
        if not raw and request.content_type != "application/json":
            return _message(415, "Unsupported Media Type")
        if len(body) > self._limits.max_payload:
            return _unprocessable([{"payload": ["Payload size exceeds tenant limit"]}])
        if not raw:
            try:
                body = codec.dumps(codec.loads(body))
            except codec.FrameError:
                return web.Response(status=400, text="Bad Request")
        if not self._rate.allow(time.time()):
            return _message(429, "You have exceeded your rate limit")
        topic, event = request.match_info["topic"], request.match_info["event"]
        message = wire_frames.Broadcast(f"{PREFIX}{topic}", event, body, raw=raw, binary=raw)
        await self._broadcast(identity, topic, message, private=request.query.get("private") == "true")
        return web.Response(status=202)

    async def _broadcast(
        self, identity: Identity, topic: str, message: wire_frames.Broadcast, *, private: bool
    ) -> None:
        if private:
            permissions = await self._authorize(identity, topic)
            if permissions is None:
                raise web.HTTPServiceUnavailable(text=f'{{"message":"{AWAY}"}}', content_type="application/json")
            if not permissions.write_broadcast:
                return  # Supabase answers 202 all the same
        self._hub.broadcast(topic, private, message)


def _problem(message: dict[str, Any]) -> dict[str, list[str]]:
    problem: dict[str, list[str]] = {}
    for name in ("event", "payload", "topic"):
        if message.get(name) in (None, ""):
            problem[name] = ["can't be blank"]
        elif not isinstance(message[name], dict if name == "payload" else str):
            problem[name] = ["is invalid"]
    return problem


def _message(status: int, text: str) -> web.Response:
    return web.json_response({"message": text}, status=status)


def _unprocessable(problems: list[Any]) -> web.Response:
    return web.json_response({"errors": {"messages": problems}}, status=422)
