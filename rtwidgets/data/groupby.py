"""Groups that follow a table: a batch costs what it touches, not the size of the table.

Counts, sums, means and extremes are kept up (`aggregates`). For every other function the groups that a batch touched
are recomputed from their rows, and no others. Either way the result equals pandas' own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from .aggregates import ColumnAggregates, incremental
from .batch import keys_of
from .column_kinds import Array, ColumnKind, kind_named
from .dataframes import frame_of, records, records_of, series_of
from .delta import Delta, Row, joined
from .derived import DerivedView
from .schema import ColumnSpec
from .store import Store

FUNCTIONS = ("sum", "count", "mean", "min", "max", "nunique", "first", "last", "size", "median", "std", "var")
_FRACTIONS = ("mean", "median", "std", "var")
_COUNTS = ("size", "count", "nunique")
_SAMPLES = {"text": "a", "decimal": 1, **dict.fromkeys(("int16", "int32", "int64", "float", "bool"), 1)}
"""A JSON value of each kind that a dtype may depend on."""

Spec = dict[str, tuple[str, "str | float"]]
"""By name of the result: the column and the function; a number is a quantile."""


def check_groups(by: Sequence[str], spec: Mapping[str, tuple[str, str | float]]) -> None:
    """Raises ValueError for a function that is not known, and for names that would stand twice in the result."""
    if not by or not all(isinstance(name, str) and name for name in by):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ValueError(f"group_by takes the name of a column, or several: not {list(by)!r}")
    double = next((name for at, name in enumerate(by) if name in by[:at]), None)
    if double is not None:
        raise ValueError(f"group_by names the column {double!r} twice: leave one out")
    for name, (column, function) in spec.items():
        if name in by:
            raise ValueError(
                f"agg({name}=...) has the name of a column that is grouped by: choose another one, such as "
                f"{column}_{function if isinstance(function, str) else 'quantile'}=({column!r}, {function!r})"
            )
        known = function in FUNCTIONS if isinstance(function, str) else 0 <= function <= 1
        if not known:
            raise ValueError(f"{name}: {function!r} is none of {', '.join(FUNCTIONS)}, or a quantile (0 to 1)")


class GroupBy(DerivedView):
    """`source.df().groupby(by).agg(...)` kept up to date.

    Args:
        source: the table.
        by: the column to group by, or several. Rows in which one is null are left out, as pandas leaves them out.
        spec: by name of the result, `(column, function)`; a number as the function is a quantile (0.5: the median).

    Raises ValueError for a function that is not known, a name that stands twice or a column that the table has not, and
    TypeError where a function makes no sense for its column's type.
    """

    def __init__(self, source: Store, by: str | Sequence[str], spec: Mapping[str, tuple[str, str | float]]) -> None:
        super().__init__(source)
        self.by = [by] if isinstance(by, str) else list(by)
        check_groups(self.by, spec)
        self._spec: Spec = dict(spec)
        self._anew: Spec = {}
        """What is recomputed."""
        self._aggregates: dict[str, ColumnAggregates] = {}
        self._numbers: dict[Any, int] = {}
        """A number for each group that there ever was."""
        self._labels: list[pd.DataFrame] = []
        """The groups' own values, in the order of their numbers."""
        self._group_of: Array = np.empty(0, dtype=np.int32)
        """By slot of the source: its row's group, -1 where a part of that is null."""
        self._size: Array = np.zeros(0, dtype=np.int64)
        self._touched: set[int] = set()
        """Groups whose results are not computed yet."""
        self._order: Array | None = None
        """The groups that have rows, sorted; None where groups came or went since."""
        self._found: pd.DataFrame | None = None
        """By group: what is recomputed."""
        self._dtypes: dict[str, Any] = {}
        self._frame: pd.DataFrame | None = None
        with source.lock:
            self._rebuild()
            self._store = Store.of(self._specs(), self.by, order=tuple((name, False) for name in self.by))
            self._store.load(self._records(self._sorted()))

    @property
    def store(self) -> Store:
        return self._store

    def df(self) -> pd.DataFrame:
        """One row a group, sorted by group, with the groups as its index, as pandas gives it."""
        if self._frame is None:
            with self.source.lock:
                self._frame = self._made(self._sorted())
        return self._frame.copy()

    def apply(self, *deltas: Delta) -> Delta:
        deltas = tuple(delta for delta in deltas if delta)
        nothing = Delta(self._store.revision)
        if not deltas:
            return nothing
        with self.source.lock:
            anew = any(delta.reset or delta.columns_changed for delta in deltas)
            by_place = self.source.order and any(function in ("first", "last") for _, function in self._anew.values())
            if anew or by_place:
                self._rebuild()
                changed = self._store.reshape(self._specs())
                return joined([changed, self._store.resync(self._records(self._sorted()))])
            self._follow(deltas)
            if not self._touched:
                return nothing
            touched = np.array(sorted(self._touched), dtype=np.int64)
            living = self._size[touched] > 0
            rows = self._records(touched[living])
            gone = records(self._all_labels().iloc[touched[~living]]) if not living.all() else []
        self._frame = None
        changed = self._store.upsert(rows)
        return joined([self._store.remove(keys_of(gone, self._store.key)), changed]) if gone else changed

    # -- following ----------------------------------------------------------------------------------------------------

    def _follow(self, deltas: Sequence[Delta]) -> None:
        """Brings the groups up to the rows that these deltas name."""
        wanted = {*self.by, *(column for column, _ in self._spec.values())}
        keys: dict[Any, None] = {}
        for delta in deltas:
            keys.update(dict.fromkeys(delta.inserted))
            if not wanted.isdisjoint(delta.columns):
                keys.update((key, None) for key, names in delta.updated if not wanted.isdisjoint(names))
        slots = self.source.find(list(keys))
        slots = np.unique(slots[slots >= 0])
        if len(slots):
            self._update(slots)
        if any(delta.deleted for delta in deltas):
            gone = self._group_of >= 0
            gone &= ~self.source.occupied(len(gone))
            self._delete(np.flatnonzero(gone))

    def _rebuild(self) -> None:
        kinds = self.source.kinds
        missing = next((n for n in [*self.by, *(column for column, _ in self._spec.values())] if n not in kinds), None)
        if missing is not None:
            raise ValueError(f"the table has no column {missing!r}: its columns are {', '.join(kinds)}")
        self._aggregates, self._anew = {}, {}
        functions: dict[str, list[str]] = {}
        for name, (column, function) in self._spec.items():
            if function != "size" and incremental(kinds[column], function):
                functions.setdefault(column, []).append(str(function))
            elif function != "size":
                self._anew[name] = (column, function)
        self._aggregates = {column: ColumnAggregates(kinds[column], names) for column, names in functions.items()}
        self._numbers, self._labels, self._touched = {}, [], set()
        self._group_of, self._size = np.empty(0, dtype=np.int32), np.zeros(0, dtype=np.int64)
        self._order = self._found = self._frame = None
        self._dtypes = _dtypes(kinds, self._spec)
        slots = self.source.slots()
        if len(slots):
            self._update(slots)

    def _update(self, slots: Array) -> None:
        """Brings these rows up to the source."""
        numbers = self._numbered(self.source.frame_at(slots, self.by))
        needed = max(int(slots.max()) + 1, len(self._group_of))
        if needed > len(self._group_of):
            room = needed + needed // 4
            self._group_of = np.concatenate([self._group_of, np.full(room - len(self._group_of), -1, dtype=np.int32)])
        if len(self._numbers) > len(self._size):
            room = len(self._numbers) + len(self._numbers) // 4
            self._size = np.concatenate([self._size, np.zeros(room - len(self._size), dtype=np.int64)])
        old = self._group_of[slots]
        _, block = self.source.values(slots, self._aggregates)
        for column, aggregates in self._aggregates.items():
            aggregates.grow(len(self._group_of), len(self._size))
            aggregates.change(slots, old, numbers, block[column].data, block[column].mask)
        self._put(slots, old, numbers)

    def _delete(self, slots: Array) -> None:
        old, numbers = self._group_of[slots], np.full(len(slots), -1, dtype=np.int32)
        for aggregates in self._aggregates.values():
            nothing = aggregates.kind.blank(len(slots))
            aggregates.change(slots, old, numbers, nothing, np.ones(len(slots), dtype=bool))
        self._put(slots, old, numbers)

    def _put(self, slots: Array, old: Array, new: Array) -> None:
        left, came = old[old >= 0], new[new >= 0]
        before = self._size > 0
        np.subtract.at(self._size, left, 1)
        np.add.at(self._size, came, 1)
        if not np.array_equal(before, self._size > 0):
            self._order = None
        self._group_of[slots] = new
        self._touched.update(np.unique(left).tolist(), np.unique(came).tolist())

    def _numbered(self, rows: pd.DataFrame) -> Array:
        """Each row's group, with new numbers for new groups."""
        numbers = self._numbers
        # Many rows have few groups: pandas tells them apart faster than Python does.
        codes, first = _distinct(rows, self.by)
        labels = _group_keys(rows.iloc[first])
        known = len(numbers)
        found = [-1 if group is None else numbers.setdefault(group, len(numbers)) for group in labels]
        new = [(number, at) for number, at in zip(found, first.tolist(), strict=True) if number >= known]
        if new:
            self._labels.append(rows.iloc[[at for _, at in sorted(new)]])
        return np.array([*found, -1], dtype=np.int32)[codes]

    # -- the result ---------------------------------------------------------------------------------------------------

    def _specs(self) -> list[ColumnSpec]:
        """The columns of the result: those of the groups as in the source, then one for each function."""
        source = {spec.name: spec for spec in self.source.specs}
        found = [source[name] for name in self.by]
        for name, (column, function) in self._spec.items():
            kind = _result_kind(self._dtypes[name], source[column].kind, function)
            same = kind is source[column].kind
            found.append(ColumnSpec(name, source[column].pg_type if same else kind.pg_types[0], kind))
        return found

    def _results(self, groups: Array) -> dict[str, Any]:
        """The results of these groups, which all have rows, as arrays by name."""
        if self._touched and (self._anew or any(aggregates.unsure for aggregates in self._aggregates.values())):
            again = np.zeros(len(self._size) + 1, dtype=bool)  # the last one is for -1
            again[list(self._touched)] = True
            slots = np.flatnonzero(again.take(self._group_of))
            for aggregates in self._aggregates.values():
                aggregates.settle(slots, self._group_of[slots])
            if self._anew:
                self._recompute(slots, again)
        self._touched.clear()
        columns: dict[str, Any] = {}
        for name, (column, function) in self._spec.items():
            if function == "size":
                found: Any = self._size[groups]
            elif name in self._anew:
                anew: Any = pd.Series(dtype=object) if self._found is None else self._found[name]
                found = anew.reindex(groups).array
            else:
                found = self._aggregates[column].result(str(function), groups)
            dtype = self._dtypes[name]
            columns[name] = found if found.dtype == dtype else series_of(found).astype(dtype).array
        return columns

    def _made(self, groups: Array) -> pd.DataFrame:
        frame = frame_of(self._results(groups), pd.RangeIndex(len(groups)))
        labels = self._all_labels().iloc[groups]
        frame.index = pd.MultiIndex.from_frame(labels) if len(self.by) > 1 else pd.Index(labels[self.by[0]])
        return frame

    def _records(self, groups: Array) -> list[Row]:
        labels = self._all_labels().iloc[groups]
        return records_of({**{name: labels[name].array for name in self.by}, **self._results(groups)})

    def _all_labels(self) -> pd.DataFrame:
        if len(self._labels) > 1:
            self._labels = [pd.concat(self._labels, ignore_index=True)]
        return self._labels[0] if self._labels else self.source.frame_at(np.empty(0, dtype=np.int64), self.by)

    def _sorted(self) -> Array:
        if self._order is None:
            living = np.flatnonzero(self._size > 0)
            labels: Any = self._all_labels().iloc[living].reset_index(drop=True)
            self._order = living[labels.sort_values(self.by).index.to_numpy()]
        return self._order

    def _recompute(self, slots: Array, again: Array) -> None:
        """The functions that are not incremental, of the groups touched (`again`), whose rows are in these slots."""
        if any(function in ("first", "last") for _, function in self._anew.values()):
            ordered = self.source.slots(ordered=bool(self.source.order))
            ordered = ordered[ordered < len(self._group_of)]
            slots = ordered[again[self._group_of[ordered]]]
        rows: Any = self.source.frame_at(slots, dict.fromkeys(column for column, _ in self._anew.values()))
        fresh = _aggregate(rows.groupby(self._group_of[slots], sort=True), self._anew)
        old = self._found
        if old is None or not len(old):
            self._found = fresh
        else:
            rest = old[~again[old.index.to_numpy()]]
            parts = [part for part in (rest, fresh) if len(part)]
            self._found = pd.concat(parts) if parts else fresh


def _dtypes(kinds: Mapping[str, ColumnKind], spec: Spec) -> dict[str, Any]:
    """The dtypes of the results. pandas' own flip with the data (a sum of Int32 stays Int32 while it fits)."""
    index = pd.RangeIndex(1)
    samples = {
        column: series_of(kinds[column].to_pandas(*kinds[column].parse([_SAMPLES.get(kinds[column].name)])), index)
        for column in dict.fromkeys(column for column, _ in spec.values())
    }
    one: Any = frame_of(samples, index)
    sample: Any = _aggregate(one.groupby(np.zeros(1)), spec)
    found = {name: sample[name].dtype for name in spec}
    for name, (column, function) in spec.items():
        fraction = function in _FRACTIONS or not isinstance(function, str)
        if kinds[column].whole and (function == "sum" or fraction):
            found[name] = pd.Int64Dtype() if function == "sum" else pd.Float64Dtype()
    return found


def _result_kind(dtype: Any, source: ColumnKind, function: str | float) -> ColumnKind:
    if function in _COUNTS:
        return kind_named("int64")
    if function in ("min", "max", "first", "last"):
        return source
    types: Any = pd.api.types
    if types.is_bool_dtype(dtype):
        return kind_named("bool")
    if types.is_integer_dtype(dtype):
        return kind_named("int64")
    if types.is_float_dtype(dtype):
        return kind_named("float")
    return source


def _aggregate(groups: Any, spec: Spec) -> Any:
    """What pandas' `agg` gives. The results are named afterwards: pandas reads some names (`func`, `engine`) as its own
    arguments.
    """
    wanted = {
        f"result {at}": pd.NamedAgg(column, function if isinstance(function, str) else _quantile(function))
        for at, (column, function) in enumerate(spec.values())
    }
    found = groups.agg(**wanted)
    found.columns = list(spec)
    return found


def _distinct(rows: pd.DataFrame, by: list[str]) -> tuple[Array, Array]:
    """Each row's place among the groups that there are, -1 where a part of it is null, and each group's first row."""
    frame: Any = rows
    grouped = frame.groupby(by if len(by) > 1 else by[0], sort=False, observed=True)
    codes = grouped.ngroup().to_numpy(dtype="float64", na_value=np.nan)
    codes = np.where(np.isnan(codes), -1, codes).astype(np.int64)
    labels, first = np.unique(codes, return_index=True)
    return codes, first[labels >= 0]


def _group_keys(rows: pd.DataFrame) -> list[Any]:
    """Each row's group as something to compare; None where a part of it is null."""
    columns = [rows[name].astype(object).where(rows[name].notna(), None).tolist() for name in rows.columns]
    return [None if None in parts else parts for parts in zip(*columns, strict=True)]


def _quantile(q: float) -> Callable[[Any], Any]:
    def quantile(values: Any) -> Any:
        return values.quantile(q)

    return quantile
