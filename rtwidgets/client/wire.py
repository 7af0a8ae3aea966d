"""The WebSocket transport: `websockets` opens the socket, closes it, answers pings and refuses what breaks the rules.

Whole messages, which is nearly all that ever comes, are cut out of each read right here, at a tenth of what a parser
for every kind of frame costs.
"""

from __future__ import annotations

import inspect
import logging
from functools import partial
from typing import Any, cast

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus, InvalidURI
from websockets.frames import CloseCode, Frame, Opcode
from websockets.protocol import Event, State

from ..protocol import errors
from ..protocol.errors import RealtimeError
from .addresses import is_loopback
from .log import child
from .transport import Receive

MAX_FRAME = 8 * 1024 * 1024  # a paid project may send 3 MB; the library's default of 1 MiB would end the connection
_REFUSALS = (400, 401, 403, 404)
"""Statuses with which the server itself refuses a handshake; whatever else answers may go away."""

# At DEBUG `websockets` logs the request, whose query holds the key, and frames, some of which hold tokens, cut in two.
_logger = child("rtwidgets.wire")
_logger.setLevel(logging.INFO)

# From 15 on `websockets` goes by HTTP_PROXY and the like; a proxy elsewhere cannot reach this machine's own server.
_NO_PROXY: dict[str, Any] = {"proxy": None} if "proxy" in inspect.signature(connect.__init__).parameters else {}

_WHOLE = (0x81, 0x82)  # the first byte of a text or binary message in one frame, without extensions
_MEANING: dict[int, str] = {
    CloseCode.GOING_AWAY: ": it goes away",
    CloseCode.MESSAGE_TOO_BIG: ": what was sent is too large for it",
    CloseCode.INTERNAL_ERROR: ": it failed",
    CloseCode.SERVICE_RESTART: ": it restarts",
    CloseCode.TRY_AGAIN_LATER: ": it has too much to do",
}
_DATA = (Opcode.TEXT, Opcode.BINARY, Opcode.CONT)


class Wire(ClientConnection):
    """A connection that hands the messages of each read to `receive`, as bytes and in order; `recv` is not for use.

    Nothing is read from the socket while `receive` runs. A message over `max_size` bytes ends the connection with code
    1009.
    """

    def __init__(self, receive: Receive, max_size: int, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._receive = receive
        self._max_size = max_size
        self._partial: list[bytes] = []
        """A whole message whose end has not come yet, as it was read."""
        self._missing = 0
        """Bytes until more can be said of it, at least."""
        self._unparsed = 0
        """Bytes to come of a frame that the parser has begun."""
        self._parts: list[bytes] = []
        """The fragments so far of a message in several frames."""

    def data_received(self, data: bytes) -> None:
        """What was read from the socket. The parser gets the handshake, and every frame that is not a whole message."""
        if self._partial:
            self._partial.append(data)
            self._missing -= len(data)
            if self._missing > 0:
                return
            data, self._partial = b"".join(self._partial), []
        messages: list[bytes] = []
        at, end, most = 0, len(data), self._max_size
        if self._unparsed:
            at = self._parse(data, 0, min(self._unparsed, end))
            self._unparsed -= at
        while at < end and self.protocol.state is not State.OPEN:
            # By lines, so that frames which come with the handshake's last line are still here.
            connecting = self.protocol.state is State.CONNECTING
            at = self._parse(data, at, (data.find(b"\n", at) + 1 if connecting else 0) or end)
        while at < end:
            start = at + 2
            first, size = data[at], data[at + 1] if start <= end else 0
            refused = size > 127 or first & 7 > 2  # masked, or an unknown kind of frame
            if size >= 126 and not refused:
                start += 2 if size == 126 else 8
                size = int.from_bytes(data[at + 2 : start], "big")
            stop = start + size
            whole = first in _WHOLE and size <= most and not self._parts
            if start > end or (whole and stop > end and not refused):
                self._missing = (start if start > end else stop) - end
                self._partial = [data[at:]]
                break
            if whole and not refused:
                messages.append(data[start:stop])
                at = stop
                continue
            if messages:
                self._receive(messages)
                messages = []
            at = self._parse(data, at, min(stop, end))
            self._unparsed = stop - at
            if self.protocol.state is not State.OPEN:
                self._unparsed = 0
                self._parse(data, at, end)
                break
        if messages:
            self._receive(messages)

    def _parse(self, data: bytes, start: int, stop: int) -> int:
        super().data_received(data[start:stop])
        return stop

    def why_closed(self) -> str:
        """In words, by the close codes of RFC 6455: who ended the connection, and what for."""
        came, went = self.protocol.close_rcvd, self.protocol.close_sent
        if went is not None and went.code == CloseCode.MESSAGE_TOO_BIG and not self.protocol.close_rcvd_then_sent:
            return f"a message was larger than {self._max_size / 2**20:g} MiB"
        if came is None:
            return "the connection broke off"
        means = f": {came.reason}" if came.reason else ""
        return f"the server closed the connection with code {came.code}{means or _MEANING.get(came.code, '')}"

    def process_event(self, event: Event) -> None:
        """What the parser made of the frames that it was given."""
        if isinstance(event, Frame) and event.opcode in _DATA:
            self._parts.append(bytes(event.data))
            if event.fin:
                message, self._parts = b"".join(self._parts), []
                self._receive([message])
        else:
            super().process_event(event)


async def open_wire(uri: str, receive: Receive, *, max_size: int, timeout: float) -> Wire:
    """Opens a connection; raises what `websockets.connect` raises. `max_size` in bytes, `timeout` in seconds."""
    made = cast("type[ClientConnection]", partial(Wire, receive, max_size))
    try:
        wire = await connect(
            uri,
            create_connection=made,
            max_size=max_size,
            ping_interval=None,  # the protocol has its own heartbeat, which also finds a stuck server
            open_timeout=timeout,
            close_timeout=1,
            compression=None,
            logger=_logger,
            **(_NO_PROXY if is_loopback(uri) else {}),
        )
    except ValueError as error:  # websockets 14 lets out what its parser raised
        raise InvalidHandshake(str(error)) from error
    return cast("Wire", wire)


class WebSocketTransport:
    """Opens WebSockets with `websockets`."""

    async def open(self, url: str, receive: Receive, *, timeout: float) -> WebSocket:
        """As `Transport.open`."""
        try:
            return WebSocket(await open_wire(url, receive, max_size=MAX_FRAME, timeout=timeout))
        except InvalidStatus as refusal:
            response = refusal.response
            error = errors.from_status(response.status_code, bytes(response.body or b""))
            error.retryable = error.retryable or response.status_code not in _REFUSALS
            raise error from None
        except (InvalidHandshake, InvalidURI) as found:
            raise _not_spoken(url, found) from None
        except ImportError as found:  # a SOCKS proxy, for which `websockets` needs another package
            hint = "install python-socks, or unset ALL_PROXY"
            raise errors.make("ConnectionLost", str(found), hint=hint) from None
        except (OSError, TimeoutError, EOFError) as found:
            raise errors.make("ConnectionLost", f"cannot connect: {found or type(found).__name__}") from None


def _not_spoken(url: str, found: Exception) -> RealtimeError:
    if isinstance(found.__cause__, EOFError | OSError):
        return errors.make("ConnectionLost", "cannot connect: the connection was closed before the server answered")
    # A wrong address, or a portal in between, so it may pass.
    place = url.partition("/realtime/v1")[0].replace("ws", "http", 1)
    text = f"what answers at {place} does not speak WebSocket ({found})"
    return errors.make("ConnectionLost", text, hint=errors.make("HandshakeRefused", "").hint)


class WebSocket:
    """An open `Wire` as a `transport.Socket`."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self.date = str(wire.response.headers.get("Date", "")) if wire.response is not None else ""

    async def send(self, data: str | bytes) -> None:
        """As `Socket.send`."""
        try:
            await self._wire.send(data)
        except ConnectionClosed:
            raise errors.make("ConnectionLost", "the connection was lost while sending") from None

    async def wait_closed(self) -> str:
        """As `Socket.wait_closed`."""
        await self._wire.wait_closed()
        return self._wire.why_closed()

    async def close(self) -> None:
        """As `Socket.close`."""
        await self._wire.close()

    def abort(self) -> None:
        """As `Socket.abort`."""
        self._wire.transport.abort()
