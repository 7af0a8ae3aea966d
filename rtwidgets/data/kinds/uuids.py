"""The kind of uuid: 16 bytes a value, shown in the one form in which Postgres writes it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

import numpy as np
import pyarrow as pa

from . import arrow
from .base import Array, ColumnKind, Test, Values
from .text import text_array

_DIGITS = frozenset("0123456789abcdef-")
_PAIRS = np.frombuffer("".join(f"{byte:02x}" for byte in range(256)).encode(), dtype="uint16")
"""The two digits of each byte."""
_SIZE = 36  # of the text
_DASHES = (8, 13, 18, 23)
_PLACES = np.array([at for at in range(_SIZE) if at not in _DASHES])
_FEW = 16  # values: preparing many at once costs more than it saves


class UuidKind(ColumnKind):
    """uuid. What is no uuid is null."""

    storage = "V16"
    masked = True
    in_arrow = True

    @property
    def null(self) -> Any:
        return np.void(bytes(16))

    def parse(self, values: Sequence[Any]) -> Values:
        try:
            data = bytes.fromhex("".join(values).replace("-", ""))
            if len(data) == 16 * len(values) and set(map(len, values)) <= {_SIZE}:
                return np.frombuffer(data, dtype=self.storage), None
        except (TypeError, ValueError):
            pass
        found = [_bytes(value) for value in values]
        mask = np.array([value is None for value in found], dtype=bool)
        return np.frombuffer(b"".join([value or bytes(16) for value in found]), dtype=self.storage), mask

    def differ(self, old: Array, new: Array) -> Array:
        return (_words(old) != _words(new)).any(axis=1)

    def nulls(self, data: Array, mask: Array | None) -> Array:
        return np.zeros(len(data), dtype=bool) if mask is None else mask

    def to_python(self, data: Array, mask: Array | None) -> list[Any]:
        if len(data) > _FEW:
            return self.to_arrow(data, mask).to_pylist()
        digits = data.tobytes().hex()
        parts = [digits[at : at + 32] for at in range(0, len(digits), 32)]
        texts = [f"{one[:8]}-{one[8:12]}-{one[12:16]}-{one[16:20]}-{one[20:]}" for one in parts]
        if mask is None:
            return texts
        return [None if null else text for text, null in zip(texts, mask.tolist(), strict=True)]

    def to_text(self, data: Array, mask: Array | None) -> list[str | None]:
        return self.to_python(data, mask)

    def to_pandas(self, data: Array, mask: Array | None) -> Any:
        return text_array(self.to_arrow(data, mask))

    @property
    def arrow_type(self) -> pa.DataType:
        return pa.large_string()

    def from_arrow(self, values: pa.Array) -> Values:
        if not pa.types.is_fixed_size_binary(values.type):
            return self.parse(values.to_pylist())
        return arrow.fixed(values, self.storage), arrow.nulls_of(values)

    def to_arrow(self, data: Array, mask: Array | None) -> pa.Array:
        count = len(data)
        texts = np.full((count, _SIZE), ord("-"), dtype="uint8")
        texts[:, _PLACES] = _PAIRS[_octets(data)].view("uint8").reshape(count, 32)
        ends = pa.py_buffer(np.arange(0, (count + 1) * _SIZE, _SIZE, dtype="int64"))
        return pa.Array.from_buffers(self.arrow_type, count, [arrow.validity(mask), ends, pa.py_buffer(texts)])

    def order_key(self, value: Any) -> Any:
        return value

    def order_codes(self, data: Array, nulls: Array) -> Array:
        words = _words(data).byteswap()
        order = np.lexsort((words[:, 1], words[:, 0]))
        ranks = np.zeros(len(data), dtype="int64")
        ranks[order[1:]] = np.cumsum((words[order[1:]] != words[order[:-1]]).any(axis=1))
        return ranks

    def may_contain(self, characters: frozenset[str]) -> bool:
        return characters <= _DIGITS

    def equals(self, operand: str) -> Test:
        wanted = _bytes(operand)
        if wanted is None:
            return lambda data, mask: np.zeros(len(data), dtype=bool)
        words = _words(np.frombuffer(wanted, dtype=self.storage))[0]
        return lambda data, mask: (_words(data) == words).all(axis=1) & ~self.nulls(data, mask)

    def operand(self, text: str) -> Any:
        digits = text.replace("-", "")
        try:
            return bytes.fromhex(digits + "0" * (len(digits) % 2))
        except ValueError:
            raise ValueError(f"{text!r} is no uuid: write its digits, or the first of them") from None


def _words(data: Array) -> Array:
    """Each value as two numbers."""
    return np.ascontiguousarray(data).view("uint64").reshape(-1, 2)


def _octets(data: Array) -> Array:
    return np.ascontiguousarray(data).view("uint8").reshape(-1, 16)


def _bytes(value: Any) -> bytes | None:
    try:
        return UUID(str(value)).bytes
    except ValueError:
        return None
