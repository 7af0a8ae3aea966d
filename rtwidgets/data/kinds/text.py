"""The kind of text, and of every type that is kept as its text."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from . import arrow, pg_order
from .base import Array, ColumnKind, Test, Values, object_codes
from .pg_order import OrderKey
from .strings import NULL, TextArray

_DAY = 86_400_000_000
_TEXT_OR_NULL = {str, type(None)}


def _text_dtype() -> Any:
    """What pandas 3 infers for text, on Arrow's arrays."""
    try:
        return pd.StringDtype("pyarrow", na_value=cast(Any, np.nan))
    except TypeError:  # pandas < 2.3
        return pd.StringDtype("pyarrow")


TEXT_DTYPE: Any = _text_dtype()


class TextKind(ColumnKind):
    """Text, and every type that is kept as its text. `key` and `operand` make order keys of values and of what a person
    wrote; without them text sorts by code point, as in the collation "C"."""

    storage = "text"
    in_arrow = True
    shareable = False

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
        return NULL

    def blank(self, count: int) -> TextArray:
        return TextArray.blank(count)

    def joined(self, parts: Sequence[TextArray]) -> TextArray:
        return TextArray.joined(parts)

    def parse(self, values: Sequence[Any]) -> Values:
        if set(map(type, values)) <= _TEXT_OR_NULL:
            return TextArray.of(values), None
        return TextArray.of([value if type(value) is str else _text(value) for value in values]), None

    def differ(self, old: TextArray, new: TextArray) -> Array:
        return old.differ(new)

    def nulls(self, data: TextArray, mask: Array | None) -> Array:
        return data.nulls()

    def is_null(self, value: Any) -> bool:
        return value is None

    def to_python(self, data: TextArray, mask: Array | None) -> list[Any]:
        return data.tolist()

    def to_text(self, data: TextArray, mask: Array | None) -> list[str | None]:
        return data.tolist()

    def to_pandas(self, data: TextArray, mask: Array | None) -> Any:
        return text_array(data.to_arrow())

    @property
    def arrow_type(self) -> pa.DataType:
        return pa.large_string()

    def from_arrow(self, values: pa.Array) -> Values:
        if not pa.types.is_string(values.type):
            values = arrow.plain(values, pa.large_string())
        return TextArray.from_arrow(values), None

    def to_arrow(self, data: TextArray, mask: Array | None) -> pa.Array:
        return data.to_arrow()

    def order_key(self, value: Any) -> Any:
        if self._key is None:
            return value
        try:
            return 0, self._key(value)
        except (ValueError, ArithmeticError):  # no value of its type: after all those that are
            return 1, value

    def order_codes(self, data: TextArray, nulls: Array) -> Array:
        # Few texts are distinct, as a rule: these are ranked. Nulls get any number.
        codes = data.to_arrow().fill_null("").dictionary_encode()
        distinct = codes.dictionary
        if self._key is None:
            ranks = np.empty(len(distinct), dtype="int64")
            ranks[pc.array_sort_indices(distinct).to_numpy()] = np.arange(len(distinct))
        else:
            ranks = object_codes(distinct.to_pylist(), np.zeros(len(distinct), dtype=bool), self.order_key)
        return ranks[codes.indices.to_numpy()]

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


class ClockKind(TextKind):
    """time: a time of day, as its text; in Arrow in microseconds, where 24:00 is the last one before it."""

    in_arrow = False

    @property
    def arrow_type(self) -> pa.DataType:
        return pa.time64("us")

    def from_arrow(self, values: pa.Array) -> Values:
        if not pa.types.is_time64(values.type):
            return super().from_arrow(values)
        micros = arrow.fixed(arrow.plain(values, self.arrow_type), "int64").tolist()
        nulls = arrow.nulls_of(values)
        texts = [_clock(value) for value in micros]
        if nulls is not None:
            texts = [None if null else text for text, null in zip(texts, nulls.tolist(), strict=True)]
        return TextArray.of(texts), None

    def to_arrow(self, data: TextArray, mask: Array | None) -> pa.Array:
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


def text_array(texts: Any) -> Any:
    """A pandas array over an array, or a chunked one, of `large_string`, which is not copied."""
    make: Any = pd.array
    return make(texts, dtype=TEXT_DTYPE)


def _text(value: Any) -> str | None:
    if value is None or value is pd.NA or value != value:
        return None
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
