"""The seam to the network: how a client opens a socket, whatever the host has.

`wire.WebSocketTransport` is the one for CPython. A host without sockets (Pyodide has the browser's WebSocket) is one
more class with these methods.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from ..protocol import errors
from ..protocol.errors import RealtimeError
from .log import logger

Receive = Callable[[list[bytes]], None]
"""Gets the messages of one read from the socket, in order. It runs on the event loop and must not raise."""


class Socket(Protocol):
    """An open connection."""

    @property
    def date(self) -> str:
        """The server's `Date` header at the handshake; empty where it sent none."""
        ...

    async def send(self, data: str | bytes) -> None:
        """Sends one message. Raises `RealtimeError` where the connection is lost."""
        ...

    async def wait_closed(self) -> str:
        """Waits until the connection has ended; returns why, in words."""
        ...

    async def close(self) -> None:
        """Ends the connection with a handshake, which may take a moment."""
        ...

    def abort(self) -> None:
        """Ends the connection at once."""
        ...


class Transport(Protocol):
    """Opens connections."""

    async def open(self, url: str, receive: Receive, *, timeout: float) -> Socket:
        """Connects to a `ws` or `wss` URL within `timeout` seconds.

        Raises `RealtimeError`, with `retryable` False where the server refused the handshake for good. Messages go to
        `receive` and not to a `recv()`: a batch for each read is what makes a fast stream cheap.
        """
        ...


async def shut(socket: Socket) -> None:
    """Closes the socket, or drops it where that takes long."""
    try:
        async with asyncio.timeout(1.5):
            await socket.close()
    except Exception:
        socket.abort()
    except asyncio.CancelledError:
        socket.abort()
        raise


def as_error(found: Exception) -> RealtimeError:
    """What went wrong when a socket was to be opened, as an error of this library."""
    if isinstance(found, RealtimeError):
        return found
    # Whatever else: the client goes on trying, and never ends for a reason that nobody foresaw.
    logger.error("unexpected error on the connection", exc_info=found)
    return errors.make("ConnectionLost", f"{type(found).__name__}: {found}")
