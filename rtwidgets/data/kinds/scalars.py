"""Kinds whose values are numbers of a fixed width: whole numbers, floats, booleans."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal, InvalidOperation
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from . import arrow, pg_order
from .base import COMPARISONS, Array, ColumnKind, Test, Values

_NUMBER_CHARACTERS = frozenset("0123456789.+-einfaty")
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

    number = whole = borrowed = True

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

    @property
    def arrow_type(self) -> pa.DataType:
        return pa.from_numpy_dtype(self.storage)

    def from_arrow(self, values: pa.Array) -> Values:
        values = arrow.plain(values, self.arrow_type)
        return arrow.fixed(values, self.storage), arrow.nulls_of(values)

    def to_arrow(self, data: Array, mask: Array | None) -> pa.Array:
        return arrow.from_fixed(self.arrow_type, data, mask)

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

    @property
    def arrow_type(self) -> pa.DataType:
        return pa.bool_()

    def from_arrow(self, values: pa.Array) -> Values:
        values = arrow.plain(values, self.arrow_type)
        nulls = arrow.nulls_of(values)
        values = values.fill_null(False) if nulls is not None else values
        return values.to_numpy(zero_copy_only=False), nulls

    def to_arrow(self, data: Array, mask: Array | None) -> pa.Array:
        bits = pa.py_buffer(np.packbits(data, bitorder="little"))
        return pa.Array.from_buffers(pa.bool_(), len(data), [arrow.validity(mask), bits])

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
    number = borrowed = True

    @property
    def null(self) -> Any:
        return _NULL_FLOAT

    def parse(self, values: Sequence[Any]) -> Values:
        data = np.array(values, dtype="float64")
        if _may_have_nan(data):
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

    @property
    def arrow_type(self) -> pa.DataType:
        return pa.float64()

    def from_arrow(self, values: pa.Array) -> Values:
        nulls = arrow.nulls_of(values)
        if not pa.types.is_float64(values.type):
            if not pa.types.is_integer(values.type):  # a float4 of 0.1 is the number 0.1, as its text says
                values = values.cast(pa.string())
            values = values.cast(pa.float64())
        data = arrow.fixed(values, "float64")
        if nulls is not None or _may_have_nan(data):
            data = np.where(np.isnan(data), np.nan, data)
            data[nulls if nulls is not None else []] = _NULL_FLOAT
        return data, None

    def to_arrow(self, data: Array, mask: Array | None) -> pa.Array:
        return arrow.from_fixed(pa.float64(), data, self.nulls(data, mask))

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


def _may_have_nan(data: Array) -> bool:
    """Whether some value is NaN; true also where there are infinities of both signs."""
    with np.errstate(invalid="ignore", over="ignore"):
        total = data.sum()
    return bool(total != total)


def _json_float(value: float | None) -> Any:
    if value is None or value - value == 0:
        return value
    return "NaN" if value != value else "Infinity" if value > 0 else "-Infinity"
