"""Kinds whose values are moments: dates and timestamps, in microseconds."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from ...protocol import moments
from . import arrow, pg_order
from .base import COMPARISONS, Array, ColumnKind, Test, Values

_TIME_CHARACTERS = frozenset("0123456789-:.+ inftybc")
_DAY = 86_400_000_000
_LAST_DAY = 2**31 - 1
"""`infinity` in days, as Postgres has it on the wire, and DuckDB; minus this is `-infinity`."""


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
        self.borrowed = not date
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

    @property
    def arrow_type(self) -> pa.DataType:
        return pa.date32() if self.date else pa.timestamp("us", "UTC" if self.utc else None)

    def from_arrow(self, values: pa.Array) -> Values:
        if self.date and not pa.types.is_timestamp(values.type):
            days = arrow.fixed(arrow.plain(values, pa.date32()), "int32")
            micros = days.astype("int64") * _DAY
            micros[days == _LAST_DAY] = moments.FOREVER.view("int64")
            micros[days == -_LAST_DAY] = moments.NEVER.view("int64")
        else:
            micros = arrow.fixed(arrow.plain(values, pa.timestamp("us", values.type.tz)), "int64")
        nulls = arrow.nulls_of(values)
        if nulls is not None:
            micros = np.where(nulls, moments.NAT.view("int64"), micros)
        return micros.view("datetime64[us]"), None

    def to_arrow(self, data: Array, mask: Array | None) -> pa.Array:
        nulls = np.isnat(data)
        if not self.date:
            return arrow.from_fixed(self.arrow_type, data, nulls)
        days = data.view("int64") // _DAY
        days[data == moments.FOREVER] = _LAST_DAY
        days[data == moments.NEVER] = -_LAST_DAY
        return arrow.from_fixed(self.arrow_type, days.astype("int32"), nulls)

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
