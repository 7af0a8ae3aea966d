"""An Arrow IPC stream, message by message: encoded for an answer, and decoded as its bytes arrive."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from .snapshot_source import ArrowBatch

MOST_BYTES = 1024 * 1024 * 1024
"""Bytes that one message may have."""

_CONTINUATION = b"\xff\xff\xff\xff"
END = _CONTINUATION + bytes(4)
"""What a stream ends with."""


def encode_schema(schema: Any) -> Any:
    """The stream's first message."""
    return schema.serialize()


def encode_batch(batch: ArrowBatch) -> Any:
    """One more message."""
    return batch.serialize()


class ArrowDecoder:
    """Bytes in, record batches out. `ended`: the stream's end was read.

    pyarrow decodes only what a blocking file gives. Raises ValueError for what is no Arrow stream.
    """

    def __init__(self) -> None:
        self.ended = False
        self._schema: Any = None
        self._part = bytearray()
        self._size = 0
        """Bytes that the next message has; 0 until that is known."""

    def decode(self, data: bytes) -> Iterator[ArrowBatch]:
        """The batches that these bytes complete."""
        view = memoryview(data)
        while len(view) and not self.ended:
            wanted = max(self._size or self._known(), 1) - len(self._part)
            self._part += view[:wanted]
            view = view[wanted:]
            if not self._size:
                self._size = self._message_size()
            if self._size and len(self._part) == self._size:
                message, self._part, self._size = self._part, bytearray(), 0
                batch = self._message(message)
                if batch is not None:
                    yield batch

    def _known(self) -> int:
        """Bytes after which more is known of the message's size: its prefix, then its metadata."""
        return 8 if len(self._part) < 8 else 8 + int.from_bytes(self._part[4:8], "little")

    def _message_size(self) -> int:
        """The size of the message; 0 while too little of it is here."""
        part = self._part
        if len(part) < 8:
            return 0
        if not part.startswith(_CONTINUATION):
            raise ValueError("not an Arrow stream")
        size = int.from_bytes(part[4:8], "little")
        if size == 0:
            self.ended = True
            return 0
        if 8 + size > MOST_BYTES:
            raise ValueError("a message of the Arrow stream is too large")
        return 8 + size + _body_length(part, 8) if len(part) == 8 + size else 0

    def _message(self, message: bytearray) -> ArrowBatch | None:
        buffer = pa.py_buffer(message)
        if self._schema is None:
            self._schema = pa.ipc.read_schema(buffer)
            return None
        return pa.ipc.read_record_batch(buffer, self._schema)


def _body_length(data: bytearray, at: int) -> int:
    """The field `bodyLength` of a message's metadata, which is a flatbuffer: its fourth field."""
    try:
        (root,) = struct.unpack_from("<I", data, at)
        table = at + root
        (back,) = struct.unpack_from("<i", data, table)
        vtable = table - back
        (width,) = struct.unpack_from("<H", data, vtable)
        field = 4 + 2 * 3
        place = struct.unpack_from("<H", data, vtable + field)[0] if width > field else 0
        length: int = struct.unpack_from("<q", data, table + place)[0] if place else 0
    except struct.error:
        raise ValueError("a message of the Arrow stream cannot be read") from None
    if not 0 <= length <= MOST_BYTES:
        raise ValueError("a message of the Arrow stream is too large")
    return length
