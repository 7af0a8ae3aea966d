"""The kind of text, and of every type that is kept as its text."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, cast
from uuid import UUID

import numpy as np
import pandas as pd
import pyarrow as pa

from . import arrow, pg_order
from .base import Array, ArrowArray, ArrowType, ColumnKind, Test, Values, object_codes, objects
from .pg_order import OrderKey

_arrays: Any = pd.arrays
_DAY = 86_400_000_000


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

    @property
    def arrow_type(self) -> ArrowType:
        return pa.large_string()

    def from_arrow(self, values: ArrowArray) -> Values:
        data = arrow.plain(values, pa.large_string()).to_numpy(zero_copy_only=False)
        nulls = arrow.nulls_of(values)
        if nulls is not None:
            data[nulls] = TEXT_NA
        return data, None

    def to_arrow(self, data: Array, mask: Array | None) -> ArrowArray:
        return pa.array(data, pa.large_string(), from_pandas=True)

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


class UuidKind(TextKind):
    """uuid, in the one form in which Postgres writes it."""

    def from_arrow(self, values: ArrowArray) -> Values:
        if not pa.types.is_fixed_size_binary(values.type):
            return super().from_arrow(values)
        return objects([TEXT_NA if value is None else str(UUID(bytes=value)) for value in values.to_pylist()]), None


class ClockKind(TextKind):
    """time: a time of day, as its text; in Arrow in microseconds, where 24:00 is the last one before it."""

    @property
    def arrow_type(self) -> ArrowType:
        return pa.time64("us")

    def from_arrow(self, values: ArrowArray) -> Values:
        if not pa.types.is_time64(values.type):
            return super().from_arrow(values)
        micros = arrow.fixed(arrow.plain(values, self.arrow_type), "int64").tolist()
        nulls = arrow.nulls_of(values)
        texts = [_clock(value) for value in micros]
        if nulls is not None:
            texts = [TEXT_NA if null else text for text, null in zip(texts, nulls.tolist(), strict=True)]
        return objects(texts), None

    def to_arrow(self, data: Array, mask: Array | None) -> ArrowArray:
        micros = [None if text is None else _micros(text) for text in self.to_python(data, mask)]
        return pa.array(micros, pa.int64()).cast(self.arrow_type)


def _micros(text: str) -> int | None:
    try:
        return min(pg_order.time(text), _DAY - 1)
    except ValueError:
        return None


def _clock(micros: int) -> str:
    """As Postgres writes a time."""
    seconds, fraction = divmod(micros, 1_000_000)
    text = f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"
    return f"{text}.{fraction:06}".rstrip("0") if fraction else text


def _text(value: Any) -> Any:
    if value is None or value is TEXT_NA:
        return TEXT_NA
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
