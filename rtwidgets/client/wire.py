"""The socket. `websockets` opens it, closes it, answers pings and refuses what breaks the rules.

Whole messages, which is nearly all that ever comes, are cut out of each read right here, at a tenth of what a parser
for every kind of frame costs.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable
from functools import partial
from typing import Any, cast

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidHandshake
from websockets.frames import CloseCode, Frame, Opcode
from websockets.protocol import Event, State

from .hosts import is_loopback
from .log import child

Take = Callable[[list[bytes]], None]

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
    """A connection that hands the messages of each read to `take`, as bytes and in order; `recv` is not for use.

    `take` runs on the event loop and must not raise; nothing is read from the socket while it runs. A message over
    `max_size` bytes ends the connection with code 1009.
    """

    def __init__(self, take: Take, max_size: int, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._take = take
        self._max_size = max_size
        self._held: list[bytes] = []
        """A whole message whose end has not come yet, as it was read."""
        self._missing = 0
        """Bytes until more can be said of it, at least."""
        self._owed = 0
        """Bytes to come of a frame that the parser has begun."""
        self._parts: list[bytes] = []
        """The fragments so far of a message in several frames."""

    def data_received(self, data: bytes) -> None:
        """What was read from the socket. The parser gets the handshake, and every frame that is not a whole message."""
        if self._held:
            self._held.append(data)
            self._missing -= len(data)
            if self._missing > 0:
                return
            data, self._held = b"".join(self._held), []
        messages: list[bytes] = []
        at, end, most = 0, len(data), self._max_size
        if self._owed:
            at = self._parse(data, 0, min(self._owed, end))
            self._owed -= at
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
                self._missing = max(start, stop) - end
                self._held = [data[at:]]
                break
            if whole and not refused:
                messages.append(data[start:stop])
                at = stop
                continue
            if messages:
                self._take(messages)
                messages = []
            at = self._parse(data, at, min(stop, end))
            self._owed = stop - at
            if self.protocol.state is not State.OPEN:
                self._owed = 0
                self._parse(data, at, end)
                break
        if messages:
            self._take(messages)

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
                self._take([message])
        else:
            super().process_event(event)


async def open_wire(uri: str, take: Take, *, max_size: int, timeout: float) -> Wire:
    """Opens a connection; raises what `websockets.connect` raises. `max_size` in bytes, `timeout` in seconds."""
    made = cast("type[ClientConnection]", partial(Wire, take, max_size))
    try:
        wire = await connect(
            uri,
            create_connection=made,
            max_size=max_size,
            ping_interval=None,  # the protocol has its own heartbeat, which also tells a stuck server
            open_timeout=timeout,
            close_timeout=1,
            compression=None,
            logger=_logger,
            **(_NO_PROXY if is_loopback(uri) else {}),
        )
    except ValueError as error:  # websockets 14 lets out what its parser raised
        raise InvalidHandshake(str(error)) from error
    return cast("Wire", wire)
