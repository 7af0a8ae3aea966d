"""Frames as the server writes them, ready for the socket: encoded once for each serializer, for any number of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from ..protocol.codec import dumps
from ..protocol.messages import Vsn

_name = msgspec.json.encode


def head(size: int, opcode: int = 1) -> bytes:
    """The header of a WebSocket frame, final and unmasked, as a server sends it (opcode 1 text, 2 binary)."""
    if size < 126:
        return bytes((0x80 | opcode, size))
    if size < 65536:
        return bytes((0x80 | opcode, 126)) + size.to_bytes(2, "big")
    return bytes((0x80 | opcode, 127)) + size.to_bytes(8, "big")


def framed(payload: bytes, opcode: int = 1) -> bytes:
    """A whole WebSocket frame."""
    return head(len(payload), opcode) + payload


def text(
    vsn: Vsn, topic: str, event: str, payload: bytes, ref: str | None = None, join_ref: str | None = None
) -> bytes:
    """A text frame around a payload that is JSON already."""
    if vsn == "1.0.0":
        return framed(
            b'{"event":%b,"payload":%b,"ref":%b,"topic":%b}' % (_name(event), payload, _name(ref), _name(topic))
        )
    return framed(b"[%b,%b,%b,%b,%b]" % (_name(join_ref), _name(ref), _name(topic), _name(event), payload))


def around(vsn: Vsn, topic: str, event: str) -> tuple[bytes, bytes]:
    """What stands before and after the payload in the frame's text."""
    if vsn == "1.0.0":
        return b'{"event":%b,"payload":' % _name(event), b',"ref":null,"topic":%b}' % _name(topic)
    return b"[null,null,%b,%b," % (_name(topic), _name(event)), b"]"


class Broadcast:
    """One user broadcast on its way to many: `body` is its payload's JSON, or raw bytes that only 2.0.0 can carry."""

    def __init__(
        self,
        topic: str,
        event: str,
        body: bytes,
        *,
        raw: bool = False,
        binary: bool = False,
        meta: Mapping[str, Any] | None = None,
    ) -> None:
        self._topic = topic
        self._event = event
        self._body = body
        self._raw = raw
        self._binary = binary
        self._meta = meta
        self._frames: dict[str, bytes | None] = {}

    def frame(self, vsn: Vsn) -> bytes | None:
        """The framed bytes for that serializer, or None where it cannot carry them."""
        if vsn not in self._frames:
            self._frames[vsn] = self._encode(vsn)
        return self._frames[vsn]

    def _encode(self, vsn: Vsn) -> bytes | None:
        if vsn == "2.0.0" and self._binary:
            names = [self._topic.encode(), self._event.encode(), dumps(self._meta) if self._meta else b""]
            if all(len(name) < 256 for name in names):
                head = bytes([4, *(len(name) for name in names), 0 if self._raw else 1])
                return framed(head + b"".join(names) + self._body, 2)
        if self._raw:
            return None
        meta = b'"meta":%b,' % dumps(self._meta) if self._meta else b""
        payload = b'{"event":%b,%b"payload":%b,"type":"broadcast"}' % (_name(self._event), meta, self._body)
        return text(vsn, self._topic, "broadcast", payload)
