"""Which HTTP requests are answered: those that call this machine by its own name, from pages of this machine."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

from aiohttp import web

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def is_loopback(name: str | None) -> bool:
    """Whether a host name or address is this machine, and no other can reach it."""
    if name is None:
        return False
    if name == "localhost" or name.endswith(".localhost"):
        return True
    return _is_address(name) and ipaddress.ip_address(name).is_loopback


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


class RequestGuard:
    """Refuses requests whose `Host` or `Origin` is elsewhere: a page may point its own domain at this machine.

    Args:
        host: the address that the server listens on.
    """

    def __init__(self, host: str) -> None:
        self._host = host

    def _is_own(self, name: str | None) -> bool:
        """Whether this server may be called so.

        Where others reach it, also by an address, which no domain can pretend to be, and by this machine's name.
        """
        if is_loopback(name):
            return True
        if name is None or is_loopback(self._host):
            return False
        return _is_address(name) or name in {part.lower() for part in (self._host, socket.gethostname())}

    def _allows(self, request: web.Request, origin: str | None) -> bool:
        try:
            host = urlsplit(f"//{request.headers.get('Host', '')}").hostname
            page = None if origin is None else urlsplit(origin).hostname
        except ValueError:
            return False
        return self._is_own(host) and (origin is None or is_loopback(page) or page == host)

    async def answer(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """The handler's response; 403 for what is not allowed."""
        origin = request.headers.get("Origin")
        if not self._allows(request, origin):
            return web.json_response(
                {"error": "This server answers only to pages and programs of this machine"}, status=403
            )
        return web.Response(status=204) if request.method == "OPTIONS" else await handler(request)

    async def add_headers(self, request: web.Request, response: web.StreamResponse) -> None:
        """Adds the headers that a page needs, before a response's head is sent: also one that is sent in pieces."""
        origin = request.headers.get("Origin")
        if origin is None or isinstance(response, web.WebSocketResponse) or not self._allows(request, origin):
            return
        response.headers["Access-Control-Allow-Origin"] = origin
        response.headers["Vary"] = "Origin"
        response.headers["Access-Control-Allow-Methods"] = "GET, POST, OPTIONS"
        response.headers["Access-Control-Allow-Headers"] = request.headers.get("Access-Control-Request-Headers", "*")
        response.headers["Access-Control-Expose-Headers"] = "Content-Range, X-Rtwidgets-Lsn, X-Rtwidgets-Snapshot"
