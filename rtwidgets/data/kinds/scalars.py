"""Kinds whose values have a fixed width: whole numbers, floats, booleans, dates and timestamps, enums."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any

import numpy as np
import pandas as pd

from . import moments, pg_order
from .base import COMPARISONS, Array, ColumnKind, Test, Values

_NUMBER_CHARACTERS = frozenset("0123456789.+-einfaty")
_TIME_CHARACTERS = frozenset("0123456789-:.+ inftybc")
_EXACT = 2**53
"""The first integer whose neighbour a browser's number cannot hold."""
_arrays: Any = pd.arrays


def number_operand(text: str) -> Decimal:
    """A number that a person wrote. Raises ValueError."""
    try:
        return Decimal(text.replace("_", "").replace(" ", ""))
    except InvalidOperation:
        raise ValueError(f"{text!r} is not a number") from None


class _Masked(ColumnKind):
    """Of a storage without a null: zero stands there, and the mask says so."""

    masked = True
    shareable = False

    @property
    def null(self) -> Any:
        return 0

    def differ(self, old: Array, new: Array) -> Array:
        return old != new

    def nulls(self, data: Array, mask: Array | None) -> Array:
        return np.zeros(len(data), dtype=bool) if mask is None else mask

    def to_python(self, data: Array, mask: Array | None) -> list[Any]:
        values: list[Any] = data.tolist()
        if mask is None or not mask.any():
            return values
        return [None if null else value for value, null in zip(values, mask.tolist(), strict=True)]

    def order_key(self, value: Any) -> Any:
        return int(value)

    def order_codes(self, data: Array, nulls: Array) -> Array:
        return data.view("int8") if data.dtype == bool else data

    def element_key(self, value: Any) -> Any:
        return pg_order.number(value)


class IntegerKind(_Masked):
    """int2, int4, int8: nullable integers of their own width."""

    number = whole = True

    def __init__(self, name: str, pg_types: Sequence[str], storage: str) -> None:
        super().__init__(name, pg_types)
        self.storage = storage
        limits = np.iinfo(storage)
        self.least, self.greatest = int(limits.min), int(limits.max)

    def parse(self, values: Sequence[Any]) -> Values:
        try:
            return np.array(values, dtype=self.storage), None
        except (TypeError, ValueError, OverflowError):
            mask = np.array([value is None or value == "" for value in values], dtype=bool)
            whole = [0 if null else int(value) for value, null in zip(values, mask.tolist(), strict=True)]
            return np.array(whole, dtype=self.storage), mask

    def to_json(self, data: Array, mask: Array | None) -> list[Any]:
        values = self.to_python(data, mask)
        if self.greatest <= _EXACT:
            return values
        return [str(v) if v is not None and not -_EXACT <= v <= _EXACT else v for v in values]

    def to_pandas(self, data: Array, mask: Array | None) -> Any:
        mask = np.zeros(len(data), dtype=bool) if mask is None else mask
        return _arrays.IntegerArray(data, mask, copy=False)

    def may_contain(self, characters: frozenset[str]) -> bool:
        return characters <= _NUMBER_CHARACTERS

    def equals(self, operand: str) -> Test:
        return self.compares("=", operand)

    def operand(self, text: str) -> Any:
        number = number_operand(text)
        if not number.is_finite():
            return float(number)
        exact = number == number.to_integral_value() and abs(number) < 2**63
        return int(number) if exact else float(number)

    def compares(self, sign: str, operand: str) -> Test:
        compare, wanted = COMPARISONS[sign], self.operand(operand)

        def test(data: Array, mask: Array | None) -> Array:
            found = np.asarray(compare(data, wanted))
            return found if mask is None else found & ~mask

        return test


class BoolKind(_Masked):
    """Nullable booleans."""

    storage = "bool"

    def parse(self, values: Sequence[Any]) -> Values:
        if None not in values:
            try:
                if set(map(type, values)) <= {bool}:
                    return np.array(values, dtype=bool), None
            except TypeError:
                pass
        mask = np.array([value is None for value in values], dtype=bool)
        return np.array([value is True or value in ("t", "true", 1) for value in values], dtype=bool), mask

    def to_pandas(self, data: Array, mask: Array | None) -> Any:
        mask = np.zeros(len(data), dtype=bool) if mask is None else mask
        return _arrays.BooleanArray(data, mask, copy=False)

    def to_text(self, data: Array, mask: Array | None) -> list[str | None]:
        return [None if v is None else "true" if v else "false" for v in self.to_python(data, mask)]

    def element_key(self, value: Any) -> Any:
        return pg_order.truth(value)

    def operand(self, text: str) -> Any:
        return int(pg_order.truth(text))


_NULL_FLOAT = np.array([0x7FF8_0000_0000_07A2], dtype="int64").view("float64")[0]
"""A NaN that means null: NaN itself is a value, and must be told apart from it. pandas shows both as NaN."""
_NULL_BITS = int(np.array([_NULL_FLOAT]).view("int64")[0])


class FloatKind(ColumnKind):
    """float4, float8, and numeric where floats will do."""

    storage = "float64"
    number = True

    @property
    def null(self) -> Any:
        return _NULL_FLOAT

    def parse(self, values: Sequence[Any]) -> Values:
        data = np.array(values, dtype="float64")
        total = data.sum()
        if total != total:  # some NaN, or infinities of both signs
            data[np.isnan(data)] = np.nan
            data[[value is None for value in values]] = _NULL_FLOAT
        return data, None

    def differ(self, old: Array, new: Array) -> Array:
        return old.view("int64") != new.view("int64")  # bit by bit, since NaN is not equal to itself

    def nulls(self, data: Array, mask: Array | None) -> Array:
        return np.ascontiguousarray(data).view("int64") == _NULL_BITS

    def is_null(self, value: Any) -> bool:
        return value != value and bool(self.nulls(np.array([value]), None)[0])

    def to_python(self, data: Array, mask: Array | None) -> list[Any]:
        values: list[Any] = data.tolist()
        nulls = self.nulls(data, mask)
        if not nulls.any():
            return values
        return [None if null else value for value, null in zip(values, nulls.tolist(), strict=True)]

    def to_json(self, data: Array, mask: Array | None) -> list[Any]:
        return [_json_float(value) for value in self.to_python(data, mask)]

    def to_text(self, data: Array, mask: Array | None) -> list[str | None]:
        return [None if v is None else str(v).removesuffix(".0") for v in self.to_json(data, mask)]

    def to_pandas(self, data: Array, mask: Array | None) -> Any:
        return data

    def order_key(self, value: Any) -> Any:
        return (1, 0.0) if value != value else (0, value)

    def order_codes(self, data: Array, nulls: Array) -> Array:
        # The bits of a float sort as it does, if those of negative ones are turned round. NaN comes after infinity.
        bits = (data + 0.0).view("int64")
        bits = np.where(bits < 0, bits ^ 0x7FFF_FFFF_FFFF_FFFF, bits)
        return np.where(np.isnan(data), np.iinfo("int64").max, bits)

    def element_key(self, value: Any) -> Any:
        return pg_order.number(value)

    def may_contain(self, characters: frozenset[str]) -> bool:
        return characters <= _NUMBER_CHARACTERS

    def equals(self, operand: str) -> Test:
        return self.compares("=", operand)

    def operand(self, text: str) -> Any:
        number = number_operand(text)
        exact = number.is_finite() and number == number.to_integral_value() and abs(number) < 2**63
        return int(number) if exact else float(number)

    def compares(self, sign: str, operand: str) -> Test:
        compare, wanted = COMPARISONS[sign], self.operand(operand)

        def test(data: Array, mask: Array | None) -> Array:
            found = np.asarray(compare(data, wanted))
            nan = np.isnan(data)
            if not nan.any() and wanted == wanted:
                return found
            # Postgres: NaN is equal to itself and greater than every other number.
            with_nan = compare(nan.astype(int), int(wanted != wanted))
            found = np.where(nan | (wanted != wanted), with_nan, found)
            return found & ~self.nulls(data, mask)

        return test


def _json_float(value: float | None) -> Any:
    if value is None or value - value == 0:
        return value
    return "NaN" if value != value else "Infinity" if value > 0 else "-Infinity"


class TimeKind(ColumnKind):
    """timestamptz, timestamp and date, in microseconds.

    A DataFrame shows years 1 to 9999, as Python's datetime does: what lies outside becomes the first or the last moment
    of those, so that it still sorts and compares rightly. The grid, `order=` and filters have the value itself.
    """

    storage = "datetime64[us]"
    time = True

    def __init__(self, name: str, pg_types: Sequence[str], *, date: bool = False, utc: bool = False) -> None:
        super().__init__(name, pg_types)
        self.date, self.utc = date, utc
        self._offset = "+00:00" if utc else ""

    @property
    def null(self) -> Any:
        return moments.NAT

    def parse(self, values: Sequence[Any]) -> Values:
        return moments.parse_moments(values), None

    def differ(self, old: Array, new: Array) -> Array:
        return old.view("int64") != new.view("int64")

    def nulls(self, data: Array, mask: Array | None) -> Array:
        return np.isnat(data)

    def to_python(self, data: Array, mask: Array | None) -> list[Any]:
        data = data.astype("datetime64[us]")
        values: list[datetime | None] = (data if moments.in_datetime_range(data) else moments.clamp(data)).tolist()
        if self.utc:
            return [None if value is None else value.replace(tzinfo=UTC) for value in values]
        return [None if value is None else value.date() for value in values] if self.date else values

    def to_record(self, data: Array, mask: Array | None) -> list[Any]:
        return moments.render_moments(data, date=self.date, offset=self._offset)

    def to_text(self, data: Array, mask: Array | None) -> list[str | None]:
        return [None if text is None else text.replace("T", " ") for text in self.to_record(data, mask)]

    def to_pandas(self, data: Array, mask: Array | None) -> Any:
        if not self.utc:
            return data
        make: Any = pd.array
        return make(data, copy=False).view(pd.DatetimeTZDtype("us", "UTC"))

    def showable(self, data: Array) -> bool:
        return moments.in_datetime_range(data)

    def shown(self, data: Array) -> Array:
        return moments.clamp(data)

    def order_key(self, value: Any) -> Any:
        return int(np.datetime64(value, "us").view("int64"))

    def order_codes(self, data: Array, nulls: Array) -> Array:
        return data.view("int64")

    def element_key(self, value: Any) -> Any:
        return pg_order.moment(value)

    def may_contain(self, characters: frozenset[str]) -> bool:
        return characters <= _TIME_CHARACTERS

    def equals(self, operand: str) -> Test:
        wanted = operand.upper().replace("T", " ") if operand.lower().strip("+-") != "infinity" else operand.lower()

        def starts_alike(data: Array, mask: Array | None) -> Array:
            return np.array([t is not None and t.startswith(wanted) for t in self.to_text(data, mask)], dtype=bool)

        return starts_alike

    def compares(self, sign: str, operand: str) -> Test:
        compare, wanted = COMPARISONS[sign], moments.parse_moment(operand)
        if np.isnat(wanted):
            raise ValueError(f"{operand!r} is no date or time: write 2026-01-31 or 2026-01-31 12:00")
        return lambda data, mask: np.asarray(compare(data, wanted))  # nothing compares with NaT


class EnumKind(ColumnKind):
    """An enum: codes into its labels, in the order in which they are declared.

    A label that nobody has declared yet (`alter type ... add value` sends no message) is added at the end. Each column
    has a kind of its own.
    """

    shareable = False

    def __init__(self, labels: Sequence[str], pg_type: str = "enum") -> None:
        super().__init__("enum", (pg_type,))
        self.labels = list(dict.fromkeys(labels))
        self._codes = {label: code for code, label in enumerate(self.labels)}
        self._dtype: Any = None
        self.storage = self._narrowest()

    @property
    def null(self) -> Any:
        return -1

    @property
    def layout(self) -> object:
        return len(self.labels)

    def same_as(self, other: ColumnKind) -> bool:
        return isinstance(other, EnumKind) and self.labels == other.labels

    @property
    def dtype(self) -> Any:
        """The ordered categories of the labels."""
        if self._dtype is None or len(self._dtype.categories) != len(self.labels):
            self._dtype = pd.CategoricalDtype(pd.Index(self.labels, dtype=object), ordered=True)
        return self._dtype

    def parse(self, values: Sequence[Any]) -> Values:
        codes = self._codes
        try:
            return np.array([-1 if value is None else codes[value] for value in values], dtype=self.storage), None
        except (KeyError, TypeError):
            found = [-1 if value is None else self._code(str(value)) for value in values]
            return np.array(found, dtype=self.storage), None

    def _code(self, label: str) -> int:
        code = self._codes.get(label)
        if code is None:
            code = self._codes[label] = len(self.labels)
            self.labels.append(label)
            self.storage = self._narrowest()
        return code

    def _narrowest(self) -> str:
        """pandas has the narrowest codes that all labels fit into, and copies any others."""
        return "int8" if len(self.labels) < 127 else "int16"

    def differ(self, old: Array, new: Array) -> Array:
        return old != new

    def nulls(self, data: Array, mask: Array | None) -> Array:
        return data < 0

    def is_null(self, value: Any) -> bool:
        return value < 0

    def to_python(self, data: Array, mask: Array | None) -> list[Any]:
        labels = self.labels
        return [None if code < 0 else labels[code] for code in data.tolist()]

    def to_pandas(self, data: Array, mask: Array | None) -> Any:
        make: Any = pd.Categorical.from_codes
        return make(data, dtype=self.dtype, validate=False)

    def order_key(self, value: Any) -> Any:
        return int(value)

    def order_codes(self, data: Array, nulls: Array) -> Array:
        return data

    def element_key(self, value: Any) -> Any:
        return self.operand(str(value))

    def operand(self, text: str) -> Any:
        code = self._codes.get(text)
        if code is None:
            raise ValueError(f"{text!r} is none of {', '.join(self.labels)}")
        return code

    def compares(self, sign: str, operand: str) -> Test:
        compare, wanted = COMPARISONS[sign], self.operand(operand)
        return lambda data, mask: np.asarray(compare(data, wanted)) & (data >= 0)
