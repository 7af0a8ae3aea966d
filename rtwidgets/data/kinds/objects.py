"""Kinds whose values are Python objects: exact decimals, bytes, json and arrays."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from decimal import Decimal, InvalidOperation
from typing import Any, cast

import numpy as np
import pyarrow as pa

from ...protocol import codec
from . import arrow, pg_order
from .base import Array, ColumnKind, Test, Values, object_codes, objects
from .pg_order import OrderKey
from .scalars import number_operand

_EXACT = 2**53
_MOST_DIGITS = 38
"""Of a 128-bit decimal."""


class _Objects(ColumnKind):
    """Python objects, null as None."""

    storage = "object"

    @property
    def null(self) -> Any:
        return None

    def parse(self, values: Sequence[Any]) -> Values:
        return objects(values), None

    def differ(self, old: Array, new: Array) -> Array:
        pairs = zip(old.tolist(), new.tolist(), strict=True)
        return np.fromiter((a is not b and a != b for a, b in pairs), bool, len(old))  # identity is the common case

    def nulls(self, data: Array, mask: Array | None) -> Array:
        return np.fromiter((value is None for value in data.tolist()), bool, len(data))

    def to_python(self, data: Array, mask: Array | None) -> list[Any]:
        return data.tolist()

    def to_pandas(self, data: Array, mask: Array | None) -> Any:
        return data

    def order_key(self, value: Any) -> Any:
        return value

    def order_codes(self, data: Array, nulls: Array) -> Array:
        return object_codes(data.tolist(), nulls, self.order_key)


class DecimalKind(_Objects):
    """numeric with every digit.

    With a declared precision and scale, Arrow has its values as 128-bit decimals, where NaN is null; else as text with
    the exact digits.
    """

    number = True

    def __init__(self, name: str, pg_types: Sequence[str] = (), digits: tuple[int, int] | None = None) -> None:
        super().__init__(name, pg_types)
        precision, scale = digits or (0, 0)
        wide = max(precision - min(scale, 0), scale)  # numeric(3,-2) has five digits, numeric(3,5) has five, too
        self.digits = (wide, max(scale, 0)) if digits is not None and wide <= _MOST_DIGITS else None
        """Precision and scale, where they are known and fit."""

    def same_as(self, other: ColumnKind) -> bool:
        return isinstance(other, DecimalKind) and self.digits == other.digits

    @property
    def arrow_type(self) -> pa.DataType:
        return pa.large_string() if self.digits is None else pa.decimal128(*self.digits)

    def from_arrow(self, values: pa.Array) -> Values:
        return self.parse(values.to_pylist())

    def to_arrow(self, data: Array, mask: Array | None) -> pa.Array:
        values = data.tolist()
        if self.digits is None:
            return pa.array([None if value is None else str(value) for value in values], pa.large_string())
        finite = [None if value is None or not value.is_finite() else value for value in values]
        try:
            return pa.array(finite, self.arrow_type)
        except pa.ArrowInvalid as error:
            raise ValueError(
                f"a value does not fit numeric{self.digits}, the type that the column had when it was described "
                f"({error}): verify() reads the table's description again"
            ) from None

    def parse(self, values: Sequence[Any]) -> Values:
        return objects([_decimal(value) for value in values]), None

    def differ(self, old: Array, new: Array) -> Array:
        pairs = zip(old.tolist(), new.tolist(), strict=True)
        return np.fromiter((a is not b and a != b and (a == a or b == b) for a, b in pairs), bool, len(old))

    def to_json(self, data: Array, mask: Array | None) -> list[Any]:
        return [None if value is None else str(value) for value in data.tolist()]

    def order_key(self, value: Any) -> Any:
        return (1, 0) if value.is_nan() else (0, value)

    def may_contain(self, characters: frozenset[str]) -> bool:
        return characters <= frozenset("0123456789.+-einfaty")

    def equals(self, operand: str) -> Test:
        return self.compares("=", operand)

    def element_key(self, value: Any) -> Any:
        return pg_order.number(value)

    def operand(self, text: str) -> Any:
        return self.order_key(number_operand(text))


def _decimal(value: Any) -> Decimal | None:
    if value is None or isinstance(value, Decimal):
        return value
    try:  # str() gives a float's shortest digits, which are those that were sent
        return Decimal(str(value))
    except InvalidOperation:
        return None


class BytesKind(_Objects):
    """bytea."""

    def parse(self, values: Sequence[Any]) -> Values:
        return objects([_bytes(value) for value in values]), None

    def to_record(self, data: Array, mask: Array | None) -> list[Any]:
        return [None if value is None else "\\x" + value.hex() for value in data.tolist()]

    def to_keys(self, data: Array, mask: Array | None) -> list[Any]:
        return [None if value is None else value.hex() for value in data.tolist()]

    @property
    def arrow_type(self) -> pa.DataType:
        return pa.large_binary()

    def from_arrow(self, values: pa.Array) -> Values:
        return objects(arrow.plain(values, pa.large_binary()).to_pylist()), None

    def to_arrow(self, data: Array, mask: Array | None) -> pa.Array:
        return pa.array(data.tolist(), pa.large_binary())

    def operand(self, text: str) -> Any:
        try:
            return bytes.fromhex(text.removeprefix("\\x"))
        except ValueError:
            raise ValueError(f"{text!r} is no hex: write \\x00ff") from None


def _bytes(value: Any) -> bytes | None:
    if value is None or isinstance(value, bytes):
        return value
    try:
        return bytes.fromhex(value.removeprefix("\\x"))
    except (ValueError, AttributeError):
        return str(value).encode()


class JsonKind(_Objects):
    """json and jsonb, as Python's lists, dicts and scalars; in Arrow as text."""

    nested = True

    def __init__(
        self,
        name: str,
        pg_types: Sequence[str] = (),
        *,
        key: OrderKey = pg_order.jsonb,
        operand: OrderKey | None = None,
        ordered: bool = True,
    ) -> None:
        super().__init__(name, pg_types, ordered=ordered)
        self._key, self._operand = key, operand

    @property
    def arrow_type(self) -> pa.DataType:
        return pa.large_string()

    def from_arrow(self, values: pa.Array) -> Values:
        texts = arrow.plain(values, pa.large_string()).fill_null("null").to_pylist()
        return objects(codec.loads(f"[{','.join(texts)}]")), None

    def to_arrow(self, data: Array, mask: Array | None) -> pa.Array:
        texts = [None if value is None else codec.dumps(value).decode() for value in data.tolist()]
        return pa.array(texts, pa.large_string())

    def to_json(self, data: Array, mask: Array | None) -> list[Any]:
        return [_for_browser(value) for value in data.tolist()]

    def to_text(self, data: Array, mask: Array | None) -> list[str | None]:
        values = self.to_json(data, mask)
        return [None if v is None else json.dumps(v, ensure_ascii=False, separators=(",", ":")) for v in values]

    def order_key(self, value: Any) -> Any:
        try:
            return 0, self._key(value)
        except (ValueError, ArithmeticError):
            return 1, str(value)

    def element_key(self, value: Any) -> Any:
        return self._key(value)

    def operand(self, text: str) -> Any:
        return 0, (self._operand or self._key)(text)


class ArrayKind(JsonKind):
    """Arrays of one type, which Postgres orders element by element, as lists.

    In Arrow they have one dimension: the elements of those that have more stand in a row, the last dimension first.
    """

    def __init__(self, element: ColumnKind) -> None:
        super().__init__(
            "array",
            [f"_{name}" for name in element.pg_types],
            key=pg_order.array_of(element.element_key),
            operand=pg_order.array_operand(element.element_key),
            ordered=element.ordered,
        )
        self._element = element

    @property
    def arrow_type(self) -> pa.DataType:
        return pa.list_(self._element.arrow_type)

    def from_arrow(self, values: pa.Array) -> Values:
        if not (pa.types.is_list(values.type) or pa.types.is_large_list(values.type)):
            return super().from_arrow(values)
        element = self._element
        flat = element.to_record(*element.from_arrow(values.flatten()))
        found: list[Any] = []
        at = 0
        for length in values.value_lengths().to_pylist():
            found.append(None if length is None else flat[at : at + length])
            at += length or 0
        return objects(found), None

    def to_arrow(self, data: Array, mask: Array | None) -> pa.Array:
        flat: list[Any] = []
        ends = [0]
        for value in data.tolist():
            flat.extend(_leaves(value))
            ends.append(len(flat))
        offsets = pa.array(ends, pa.int32(), mask=np.append(self.nulls(data, mask), False))
        return pa.ListArray.from_arrays(offsets, self._element.to_arrow(*self._element.parse(flat)))


def _leaves(value: Any) -> Iterator[Any]:
    """The elements of an array; one that is no list (nothing sends such) has none."""
    for item in cast("list[Any]", value) if isinstance(value, list) else ():
        if isinstance(item, list):
            yield from _leaves(cast("list[Any]", item))
        else:
            yield item


def _for_browser(value: Any) -> Any:
    """A JSON value with what a browser's JSON.parse would spoil written as text."""
    if isinstance(value, dict):
        return {str(k): _for_browser(v) for k, v in cast("dict[Any, Any]", value).items()}
    if isinstance(value, list):
        return [_for_browser(v) for v in cast("list[Any]", value)]
    if isinstance(value, Decimal) or (type(value) is int and not -_EXACT <= value <= _EXACT):
        return str(value)
    if isinstance(value, float) and value - value != 0:
        return "NaN" if value != value else "Infinity" if value > 0 else "-Infinity"
    return value
