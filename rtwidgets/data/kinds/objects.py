"""Kinds whose values are Python objects: text, exact decimals, bytes, json and arrays."""

from __future__ import annotations

import json
from collections.abc import Sequence
from decimal import Decimal, InvalidOperation
from typing import Any, cast

import numpy as np
import pandas as pd

from . import pg_order
from .base import Array, ColumnKind, Test, Values, object_codes, objects
from .pg_order import OrderKey
from .scalars import number_operand

_arrays: Any = pd.arrays
_EXACT = 2**53


def _text_dtype() -> Any:
    """What pandas 3 infers for text, on Python objects: so a frame shares them without a copy."""
    try:
        return pd.StringDtype("python", na_value=cast(Any, np.nan))
    except TypeError:  # pandas < 2.3
        return pd.StringDtype("python")


TEXT_DTYPE: Any = _text_dtype()
TEXT_NA: Any = TEXT_DTYPE.na_value
"""A null in a text column's storage: the object that pandas' string dtype uses."""


class TextKind(ColumnKind):
    """Text, and every type that is kept as its text. `key` and `operand` make order keys of values and of what a person
    wrote; without them text sorts by code point, as in the collation "C"."""

    storage = "object"
    shareable = False
    validated = True

    def __init__(
        self,
        name: str,
        pg_types: Sequence[str] = (),
        *,
        key: OrderKey | None = None,
        operand: OrderKey | None = None,
        ordered: bool = True,
    ) -> None:
        super().__init__(name, pg_types, ordered=ordered)
        self._key = key
        self._operand = operand or key

    @property
    def null(self) -> Any:
        return TEXT_NA

    def parse(self, values: Sequence[Any]) -> Values:
        if set(map(type, values)) == {str}:
            return np.array(values, dtype=object), None
        return objects([value if type(value) is str else _text(value) for value in values]), None

    def differ(self, old: Array, new: Array) -> Array:
        if TEXT_NA is pd.NA:  # pandas 2.2, where a comparison with a null is neither true nor false
            pairs = zip(old.tolist(), new.tolist(), strict=True)
            return np.fromiter((a is not b and (a is pd.NA or b is pd.NA or a != b) for a, b in pairs), bool, len(old))
        differs = old != new
        null = new != new  # a null is NaN, which is not equal to itself
        return differs & ~(null & (old != old)) if null.any() else differs

    def nulls(self, data: Array, mask: Array | None) -> Array:
        return np.asarray(pd.isna(data))

    def is_null(self, value: Any) -> bool:
        return type(value) is not str

    def to_python(self, data: Array, mask: Array | None) -> list[Any]:
        return [value if type(value) is str else None for value in data.tolist()]

    def to_text(self, data: Array, mask: Array | None) -> list[str | None]:
        return self.to_python(data, mask)

    def to_pandas(self, data: Array, mask: Array | None) -> Any:
        return _arrays.StringArray(data, dtype=TEXT_DTYPE) if TEXT_NA is not pd.NA else _arrays.StringArray(data)

    def order_key(self, value: Any) -> Any:
        if self._key is None:
            return value
        try:
            return 0, self._key(value)
        except (ValueError, ArithmeticError):  # no value of its type: after all those that are
            return 1, value

    def order_codes(self, data: Array, nulls: Array) -> Array:
        values = data.copy()
        values[nulls] = None
        if self._key is None:
            return np.asarray(pd.factorize(values, sort=True)[0])
        codes, distinct = pd.factorize(values)
        ranks = object_codes(list(distinct), np.zeros(len(distinct), dtype=bool), self.order_key)
        return np.append(ranks, 0)[codes]

    def element_key(self, value: Any) -> Any:
        return str(value) if self._key is None else self._key(value)

    def equals(self, operand: str) -> Test:
        if self._key is not None:
            try:
                return self.compares("=", operand)
            except ValueError:
                pass
        return super().equals(operand)

    def operand(self, text: str) -> Any:
        return text if self._operand is None else (0, self._operand(text))


def _text(value: Any) -> Any:
    if value is None or value is TEXT_NA:
        return TEXT_NA
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


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
    """numeric with every digit."""

    number = True

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
    """json, jsonb and arrays, as Python's lists, dicts and scalars."""

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


def array_kind(element: ColumnKind) -> JsonKind:
    """Arrays of these, which Postgres orders element by element."""
    return JsonKind(
        "array",
        [f"_{name}" for name in element.pg_types],
        key=pg_order.array_of(element.element_key),
        operand=pg_order.array_operand(element.element_key),
        ordered=element.ordered,
    )


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
