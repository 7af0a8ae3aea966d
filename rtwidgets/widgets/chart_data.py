"""What a chart shows: a DataFrame as points in order of x, and how one picture differs from the one before.

Independent of widgets. Points are long, not wide: a row a point with its x, its y and the number of its series, so that
points can be added at the end and dropped at the front whatever the series are.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, NamedTuple, cast

import numpy as np
import pandas as pd

from ..data.groupby import FUNCTIONS
from ..protocol.errors import RealtimeError

KINDS = ("line", "area", "bar", "scatter")
SERIES_MOST = 12
"""Groups that get a series of their own: more than these no eye tells apart."""
POINTS_MOST = 40_000
"""Points of one picture: about 0.7 MB on the way to a page."""
CATEGORIES_MOST = 200
LABEL_MOST = 200
"""Characters of a name that a page gets."""
YEAR_10000 = 253_402_300_800_000.0
"""ms since 1970: times from there on, or as far before, are Postgres' infinities."""
_COUNTS = ("count", "size", "nunique")
"""What can be worked out of values that are no numbers."""

_ISO = re.compile(r"\s*\d{4}-\d{2}-\d{2}([T ]\d{2}:\d{2}|\s*$)")
_OFFSET = re.compile(r"[T ]\d{2}:\d{2}\S*?(Z|[+-]\d{2}(:?\d{2})?)\s*$")

Array = Any


class Spec(NamedTuple):
    """What to draw of a frame."""

    x: str
    y: str
    by: str | None
    kind: str
    window: Any
    agg: Any
    every: Any


class Step(NamedTuple):
    """How to make a new picture of the old one: drop points in front, put other values, add points behind."""

    drop: int
    places: Array
    """Places, counted after the drop, that have another y now."""
    start: int
    """The first new point behind."""


def check(spec: Spec) -> None:
    """Raises TypeError or ValueError for what cannot be drawn from any frame."""
    for what, name in (("x", spec.x), ("y", spec.y), ("by", spec.by)):
        if not isinstance(name, str) and not (what == "by" and name is None):
            raise TypeError(f'{what} is the name of a column, such as "amount", not {name!r}')
    if spec.kind not in KINDS:
        raise ValueError(f"kind is one of {', '.join(KINDS)}, not {spec.kind!r}")
    agg = spec.agg
    number = isinstance(agg, int | float) and not isinstance(agg, bool) and 0 <= agg <= 1
    if agg is not None and agg not in FUNCTIONS and not number:
        raise ValueError(f"agg is one of {', '.join(FUNCTIONS)}, or a quantile from 0 to 1, not {agg!r}")
    if spec.window is not None:
        _span(spec.window, "window", 'the last points (200), a time ("5min") or units of x (60.0)')
    if spec.every is not None:
        if spec.agg is None:
            raise ValueError('every= is the width of what agg= works out: give agg too, such as agg="mean"')
        _span(spec.every, "every", 'a time ("1min") or units of x (10)')


def _span(given: Any, what: str, expected: str) -> pd.Timedelta | float:
    """A width along x: a Timedelta, or a number."""
    said = f"{what} is {expected}, not {given!r}"
    if isinstance(given, bool):
        raise TypeError(said)
    if isinstance(given, int | float | np.number):
        if not 0 < given < np.inf:
            raise ValueError(said)
        return float(cast(float, given))
    try:
        width: Any = given
        offset: Any = pd.tseries.frequencies.to_offset(width) if isinstance(width, str) else width
        found = pd.Timedelta(offset)
    except (ValueError, TypeError):
        raise ValueError(said) from None
    if not found > pd.Timedelta(0):
        raise ValueError(said)
    return found


@dataclass
class ChartData:
    """Points in order of x."""

    x: Array
    """float64; ms since 1970 for times, the place among `categories` for names."""
    y: Array
    """float64; NaN where the line has a gap."""
    s: Array
    """uint8: the number of the point's series."""
    axis: str = "number"
    """What x is: `"time"`, `"wall"` (a time without a zone), `"number"` or `"category"`."""
    categories: list[str] = field(default_factory=list[str])
    series: list[tuple[str, int]] = field(default_factory=list[tuple[str, int]])
    """Each series' name and the number of its colour, which it keeps for as long as it is there."""
    notes: list[str] = field(default_factory=list[str])
    """What is not shown, in words."""

    def __len__(self) -> int:
        return len(self.x)

    def last(self, most: int) -> ChartData:
        """Its last points only."""
        cut = slice(max(0, len(self) - most), None)
        return ChartData(self.x[cut], self.y[cut], self.s[cut], self.axis, self.categories, self.series, self.notes)

    def frame(self, spec: Spec) -> pd.DataFrame:
        """The points as a DataFrame: x, the series where there are any, y."""
        columns: dict[str, Any] = {spec.x: self._x()}
        if spec.by is not None:
            names = np.array([name for name, _ in self.series] or [""], dtype=object)
            columns[spec.by] = pd.Series(names[self.s] if len(self) else [], dtype=object)
        columns["value" if spec.y in columns else spec.y] = pd.Series(self.y.copy())
        return pd.DataFrame(columns)

    def _x(self) -> Any:
        if self.axis == "category":
            names = np.array(self.categories or [""], dtype=object)
            return pd.Series(names[self.x.astype(np.int64)] if len(self) else [], dtype=object)
        if self.axis in ("time", "wall"):
            at: Any = pd.Series((self.x * 1000).round().astype(np.int64).view("datetime64[us]"))
            return at.dt.tz_localize("UTC") if self.axis == "time" else at
        return pd.Series(self.x.copy())


EMPTY = ChartData(np.empty(0), np.empty(0), np.empty(0, dtype=np.uint8))


def draw(frame: pd.DataFrame, spec: Spec, seats: dict[str, int]) -> ChartData:
    """The picture of a frame.

    `seats` keeps each group's colour from one picture to the next. Raises RealtimeError for a column that is missing or
    cannot be drawn.
    """
    frame = _with_columns(frame, [name for name in (spec.x, spec.y, spec.by) if name is not None])
    counts = spec.agg in _COUNTS
    x, axis, categories, notes = _along(frame[spec.x])
    here = np.isfinite(x)
    if axis in ("time", "wall"):
        here &= np.abs(x) < YEAR_10000
    endless = len(x) - int(here.sum()) - int(np.isnan(x).sum())
    if endless:
        notes = [
            *notes,
            f"{endless:,} point{'s' if endless > 1 else ''} at infinity {'are' if endless > 1 else 'is'} left out",
        ]
    if spec.every is not None:
        x = _binned(x, axis, spec)
    if spec.window is not None and here.any():
        here &= _within(x, here, axis, spec)
    labels, shown, said = _grouped(frame[spec.by] if spec.by is not None else None, here, spec, seats)
    notes += said
    here &= labels >= 0
    x, s = x[here], labels[here].astype(np.uint8)
    values = frame[spec.y].to_numpy(dtype=object)[here] if counts else _numbers(frame[spec.y], spec.y)[here]
    if spec.agg is not None:
        x, s, y = _worked_out(x, s, values, spec.agg)
    else:
        y = values
        if len(x) > 1 and not (x[1:] >= x[:-1]).all():
            order = np.argsort(x, kind="stable")
            x, y, s = x[order], y[order], s[order]
        if spec.kind in ("bar", "area") or (axis == "category" and spec.kind == "line"):
            x, y, s, several = _last_of_each(x, y, s)
            if several:
                notes.append("several rows share an x: the last of them is drawn (agg= works something out of them)")
    if len(x) > POINTS_MOST:
        notes.append(f"the last {POINTS_MOST:,} of {len(x):,} points are drawn (window= or agg= says which matter)")
        x, y, s = x[-POINTS_MOST:], y[-POINTS_MOST:], s[-POINTS_MOST:]
    y = np.where(np.isfinite(y), y, np.nan)
    return ChartData(x, y, s, axis, categories, shown, notes)


def _along(values: Any) -> tuple[Array, str, list[str], list[str]]:
    """x as numbers, what they mean, the names where they mean names, and what is left out."""
    types: Any = pd.api.types
    dtype = values.dtype
    if types.is_object_dtype(dtype):
        inferred = types.infer_dtype(values, skipna=True)
        if inferred in ("integer", "floating", "decimal", "mixed-integer-float"):
            return _numbers(values, ""), "number", [], []
        if inferred in ("datetime", "datetime64", "date"):
            values = _moments(values)
            dtype = values.dtype
    if (types.is_object_dtype(dtype) or types.is_string_dtype(dtype)) and (moments := _iso_moments(values)) is not None:
        values, dtype = moments, moments.dtype
    if isinstance(dtype, pd.DatetimeTZDtype):
        return _milliseconds(values.dt.tz_convert("UTC").dt.tz_localize(None)), "time", [], []
    if types.is_datetime64_dtype(dtype):
        return _milliseconds(values), "wall", [], []
    if types.is_timedelta64_dtype(dtype):
        return values.dt.total_seconds().to_numpy(dtype="float64"), "number", [], []
    if types.is_numeric_dtype(dtype) and not types.is_bool_dtype(dtype):
        return values.to_numpy(dtype="float64", na_value=np.nan), "number", [], []
    codes, found = _factorized(values)
    # The last ones, where there are too many: what came last matters most.
    more = max(0, len(found) - CATEGORIES_MOST)
    x = codes.astype("float64") - more
    x[(codes < 0) | (x < 0)] = np.nan
    names = _unique([_label(value) for value in found[more:]])
    return x, "category", names, [f"the first {more:,} values of x are left out"] if more else []


def _with_columns(frame: pd.DataFrame, wanted: list[str]) -> pd.DataFrame:
    """The frame, with its index as columns where that is wanted. Raises RealtimeError for a column that is missing or
    there twice."""
    index = [str(name) for name in frame.index.names if name is not None]
    if any(name in index and name not in frame.columns for name in wanted):
        frame = frame.reset_index()
    for name in wanted:
        count = list(frame.columns).count(name)
        if not count:
            names = ", ".join(str(column) for column in frame.columns) or "none yet"
            known = f"the columns are {names}" + (f"; the index is {', '.join(index)}" if index else "")
            raise RealtimeError(f"there is no column {name!r}", code="UndefinedColumn", hint=known)
        if count > 1:
            raise RealtimeError(
                f"{count} columns are called {name!r}", code="AmbiguousColumn", hint="give each a name of its own"
            )
    return frame


def _factorized(values: Any) -> tuple[Array, Any]:
    """Each value's place among the values that there are, -1 for null; ordered categories in their order, other values
    in order of arrival."""
    if _is_ordered(values):
        present = values.cat.remove_unused_categories()
        return present.cat.codes.to_numpy(), present.cat.categories
    factorize: Any = cast(Any, pd.factorize)
    return factorize(_hashable(values))


def _is_ordered(values: Any) -> bool:
    dtype: Any = values.dtype
    return isinstance(dtype, pd.CategoricalDtype) and bool(cast(Any, dtype).ordered)


def _moments(values: Any) -> Any:
    """Python's dates and datetimes as one dtype: in UTC where one has a zone."""
    zoned = any(getattr(value, "tzinfo", None) is not None for value in values)
    return cast(Any, pd.to_datetime(values, errors="coerce", utc=zoned))


def _iso_moments(values: Any) -> Any | None:
    """Texts that are all times in ISO form as times: in UTC where one has an offset. None for other texts."""
    known = values.dropna()
    if not len(known) or not all(isinstance(value, str) and _ISO.match(value) for value in known):
        return None
    zoned = any(_OFFSET.search(value) for value in known)
    found = cast(Any, pd.to_datetime(values, errors="coerce", format="ISO8601", utc=zoned))
    return found if int(found.isna().sum()) == len(values) - len(known) else None


def _unique(names: list[str]) -> list[str]:
    """The names, each different from the others."""
    seen: dict[str, int] = {}
    for i, name in enumerate(names):
        seen[name] = seen.get(name, 0) + 1
        if seen[name] > 1:
            names[i] = f"{name} ({seen[name]})"
    return names


def _milliseconds(values: Any) -> Array:
    at = values.to_numpy(dtype="datetime64[us]")
    return np.where(np.isnat(at), np.nan, at.astype(np.int64) / 1000)


def _hashable(values: Any) -> Any:
    return values if not pd.api.types.is_object_dtype(values.dtype) else values.map(_plain, na_action="ignore")


def _plain(value: Any) -> Any:
    try:
        hash(value)
    except TypeError:
        return str(value)
    return value


def _label(value: Any) -> str:
    text = str(value)
    # Long names often differ in their ends.
    return text if len(text) <= LABEL_MOST else f"{text[: LABEL_MOST // 2]}…{text[-LABEL_MOST // 2 :]}"


def _numbers(values: Any, name: str) -> Array:
    """A column as float64; NaN where it is null."""
    types: Any = pd.api.types
    dtype = values.dtype
    numeric = types.is_numeric_dtype(dtype)
    if types.is_object_dtype(dtype):
        inferred = types.infer_dtype(values, skipna=True)
        numeric = inferred in ("integer", "floating", "decimal", "mixed-integer-float", "boolean", "empty")
        if numeric:
            return np.array(
                [np.nan if value is None or value is pd.NA else float(value) for value in values], dtype="float64"
            )
    if numeric:
        return values.to_numpy(dtype="float64", na_value=np.nan)
    sample = next((str(value) for value in values if value is not None and value is not pd.NA), "")
    such = f", with values such as {sample[:60]!r}" if sample else ""
    raise RealtimeError(
        f"y={name!r} is {dtype}{such}, and not numbers",
        code="NotNumeric",
        hint=f'take a column of numbers, or agg="count", which counts its values ({", ".join(_COUNTS)} take any)',
    )


def _binned(x: Array, axis: str, spec: Spec) -> Array:
    width = _width(spec.every, "every", axis, spec)
    return np.floor(x / width) * width


def _within(x: Array, here: Array, axis: str, spec: Spec) -> Array:
    window: Any = spec.window
    if isinstance(window, int | np.integer):
        known = np.unique(x[here])
        return x >= known[max(0, len(known) - int(cast(Any, window)))]
    return x > x[here].max() - _width(spec.window, "window", axis, spec)


def _width(given: Any, what: str, axis: str, spec: Spec) -> float:
    span = _span(given, what, "a width along x")
    if isinstance(span, pd.Timedelta) and axis in ("time", "wall"):
        return span.total_seconds() * 1000
    if isinstance(span, float) and axis == "number":
        return span
    kind = {"time": "times", "wall": "times", "number": "numbers", "category": "names"}[axis]
    fit = {"time": 'a time such as "5min"', "wall": 'a time such as "5min"', "number": "a number such as 60.0"}
    raise RealtimeError(
        f"{what}={given!r} does not fit x={spec.x!r}, which holds {kind}",
        code="WrongWindow",
        hint=f"give {fit.get(axis, 'a whole number')}" + (", or a whole number of points" if what == "window" else ""),
    )


def _grouped(
    values: Any, here: Array, spec: Spec, seats: dict[str, int]
) -> tuple[Array, list[tuple[str, int]], list[str]]:
    """Each row's series (-1: none), the series, and what is left out."""
    if values is None:
        seats.clear()
        return np.where(here, 0, -1), [(_label(spec.y if spec.agg is None else f"{spec.agg} of {spec.y}"), 0)], []
    codes, found = _factorized(values)
    ordered_kind = _is_ordered(values)
    present = np.unique(codes[here])
    nothing = bool(len(present)) and present[0] < 0
    try:
        ordered = sorted(
            (code for code in present if code >= 0), key=lambda code: code if ordered_kind else found[code]
        )
    except TypeError:
        ordered = sorted((code for code in present if code >= 0), key=lambda code: str(found[code]))
    labels = {int(code): _label(found[code]) for code in ordered}
    if nothing:
        labels[-1] = "(null)"
    for gone in seats.keys() - set(labels.values()):
        del seats[gone]
    free = (seat for seat in range(SERIES_MOST) if seat not in set(seats.values()))
    for label in labels.values():
        if label not in seats and (seat := next(free, None)) is not None:
            seats[label] = seat
    places = {label: place for place, label in enumerate(seats)}
    place_of = np.full(len(found) + 1, -1)
    for code, label in labels.items():
        place_of[code] = places.get(label, -1)
    many = len(set(labels.values()))
    said = [] if many <= len(seats) else [f"{len(seats)} of {many:,} groups are drawn: the others are left out"]
    return np.where(here, place_of[codes], -1), list(seats.items()), said


def _worked_out(x: Array, s: Array, values: Array, agg: Any) -> tuple[Array, Array, Array]:
    grouped: Any = pd.DataFrame({"x": x, "s": s, "y": values}).groupby(["x", "s"], sort=True)["y"]
    found = grouped.agg(agg) if isinstance(agg, str) else grouped.quantile(agg)
    index: Any = found.index
    return (
        index.get_level_values(0).to_numpy(dtype="float64"),
        index.get_level_values(1).to_numpy(dtype=np.uint8),
        found.to_numpy(dtype="float64", na_value=np.nan),
    )


def _last_of_each(x: Array, y: Array, s: Array) -> tuple[Array, Array, Array, bool]:
    order = np.lexsort((s, x))
    x, y, s = x[order], y[order], s[order]
    last = np.ones(len(x), dtype=bool)
    last[:-1] = (x[1:] != x[:-1]) | (s[1:] != s[:-1])
    return x[last], y[last], s[last], not last.all()


def step(old: ChartData, new: ChartData) -> Step | None:
    """How `new` comes of `old` by taking away in front, changing values and adding behind; None where it does not."""
    head = old.categories == new.categories[: len(old.categories)]
    if not len(old) or not len(new) or old.axis != new.axis or not head:
        return None
    if [name for name, _ in old.series] != [name for name, _ in new.series][: len(old.series)]:
        return None
    for drop in np.flatnonzero((old.x == new.x[0]) & (old.s == new.s[0]))[:4].tolist():
        kept = len(old) - drop
        if kept > len(new):
            continue
        if np.array_equal(old.x[drop:], new.x[:kept]) and np.array_equal(old.s[drop:], new.s[:kept]):
            was, now = old.y[drop:], new.y[:kept]
            places = np.flatnonzero((was != now) & ~(np.isnan(was) & np.isnan(now)))
            # A place and its value are 12 bytes, a whole point is 17.
            return Step(drop, places.astype(np.int32), kept) if 12 * len(places) < 17 * kept + 100 else None
    return None
