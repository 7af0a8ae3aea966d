"""Groups that follow a table: each batch costs what it touches, not what the table holds.

Counts, sums, means and extremes are kept up value by value (`running`). For every other function the groups that a
batch touched are worked out anew from their rows, and no others. Either way the result equals pandas' own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from .aggregates import INTS, Running, follows
from .column_kinds import Array, Kind, blank, parse, to_pandas
from .delta import Delta
from .store import Store

FUNCTIONS = ("sum", "count", "mean", "min", "max", "nunique", "first", "last", "size", "median", "std", "var")
_FRACTIONS = ("mean", "median", "std", "var")
_ONE: dict[Kind, Any] = {"text": "a", "decimal": 1, **dict.fromkeys(("int16", "int32", "int64", "float", "bool"), 1)}
"""A value of each kind that a dtype may depend on."""


class GroupBy:
    """`store.df().groupby(by).agg(...)` kept up to date. Feed it each `Delta` with `apply` (see `group_by`), always on
    the same thread.
    """

    def __init__(self, store: Store, by: str | list[str]) -> None:
        self.store = store
        self.by = [by] if isinstance(by, str) else list(by)
        self._spec: dict[str, tuple[str, str | float]] = {}
        self._rest: dict[str, tuple[str, str | float]] = {}
        """What is worked out anew."""
        self._running: dict[str, Running] = {}
        self._numbers: dict[Any, int] = {}
        """A number for each group that there ever was."""
        self._labels: list[pd.DataFrame] = []
        """The groups' own values, in the order of their numbers."""
        self._number = np.empty(0, dtype=np.int32)
        """By slot of the store: its row's group, -1 where a part of that is null (pandas leaves those rows out)."""
        self._size = np.zeros(0, dtype=np.int64)
        self._touched: set[int] = set()
        self._untold: set[int] | None = None
        """The groups that `news` has not told of yet; None: all of them."""
        self._order: Array | None = None
        """The groups that have rows, sorted; None where groups came or went since."""
        self._found: pd.DataFrame | None = None
        """By group: what is worked out anew."""
        self._dtypes: dict[str, Any] = {}
        self._frame: pd.DataFrame | None = None

    @staticmethod
    def check(spec: dict[str, tuple[str, str | float]]) -> None:
        """Raises ValueError for a function that is not known."""
        for name, (_, function) in spec.items():
            known = function in FUNCTIONS if isinstance(function, str) else 0 <= function <= 1
            if not known:
                raise ValueError(f"{name}: {function!r} is none of {', '.join(FUNCTIONS)}, or a quantile (0 to 1)")

    def agg(self, **spec: tuple[str, str | float]) -> GroupBy:
        """`name=(column, function)`; a number as the function is a quantile (0.5: the median)."""
        self.check(spec)
        self._spec = spec
        self._rebuild()
        return self

    def df(self) -> pd.DataFrame:
        """One row a group, sorted by group, with the groups as its index, as pandas gives it."""
        return self._current().copy()

    def _current(self) -> pd.DataFrame:
        assert self._spec, "call agg() first"
        if self._frame is None:
            self._frame = self._made()
        return self._frame

    def news(self) -> tuple[pd.DataFrame, pd.DataFrame | None]:
        """What changed since it was asked for last: the groups as in `df()`, but with their columns first, and the
        columns of those that went (None: forget all that was told before).
        """
        frame = self._current()
        untold, self._untold = self._untold, set()
        if untold is None:
            return frame.reset_index(), None
        asked = np.array(sorted(untold), dtype=np.int64)
        marked = np.zeros(len(self._size), dtype=bool)
        marked[asked] = True
        gone = self._all_labels().iloc[asked[self._size[asked] == 0]]
        return frame.iloc[np.flatnonzero(marked[self._sorted()])].reset_index(), gone

    # --- following

    def apply(self, delta: Delta) -> bool:
        """Takes what a batch changed; whether the result may differ."""
        if not delta or not self._spec:
            return False
        with self.store.lock:
            by_place = self.store.order and any(function in ("first", "last") for _, function in self._rest.values())
            if delta.reset or delta.columns_changed or by_place:
                self._rebuild()
                return True
            wanted = {*self.by, *(column for column, _ in self._spec.values())}
            changed = [key for key, names in delta.updated if not wanted.isdisjoint(names)]
            # What the store holds now counts, not what the delta says: a later one may be in it already.
            slots = self.store.find([*delta.inserted, *changed])
            slots = np.unique(slots[slots >= 0])
            moved = self._take(slots) if len(slots) else False
            if delta.deleted:
                gone = self._number >= 0
                gone &= ~self.store.held(len(gone))
                moved = self._drop(np.flatnonzero(gone)) or moved
        if moved:
            self._frame = None
        return moved

    def _rebuild(self) -> None:
        with self.store.lock:
            kinds = self.store.kinds
            self._running, self._rest = {}, {}
            functions: dict[str, list[str]] = {}
            for name, (column, function) in self._spec.items():
                if function != "size" and follows(kinds[column], function):
                    functions.setdefault(column, []).append(str(function))
                elif function != "size":
                    self._rest[name] = (column, function)
            self._running = {column: Running(kinds[column], names) for column, names in functions.items()}
            self._numbers, self._labels, self._touched = {}, [], set()
            self._number, self._size = np.empty(0, dtype=np.int32), np.zeros(0, dtype=np.int64)
            self._order = self._found = self._frame = self._untold = None
            # pandas' dtypes flip with the data (a sum of Int32 is Int32 where that holds it): ours never do.
            one: Any = pd.DataFrame(
                {name: to_pandas(kind, *parse(kind, [_ONE.get(kind)])) for name, kind in kinds.items()}
            )
            sample: Any = one.groupby(np.zeros(1)).agg(**_named(self._spec))
            self._dtypes = {name: sample[name].dtype for name in self._spec}
            for name, (column, function) in self._spec.items():
                if kinds[column] in INTS and (
                    function == "sum" or function in _FRACTIONS or not isinstance(function, str)
                ):
                    self._dtypes[name] = pd.Int64Dtype() if function == "sum" else pd.Float64Dtype()
            slots = self.store.slots()
            if len(slots):
                self._take(slots)

    def _take(self, slots: Array) -> bool:
        """Brings these rows up to what the store holds."""
        rows = self.store.at(slots, self.by)
        numbers = self._numbered(rows)
        needed = max(int(slots.max()) + 1, len(self._number))
        if needed > len(self._number):
            room = needed + needed // 4
            self._number = np.concatenate([self._number, np.full(room - len(self._number), -1, dtype=np.int32)])
        if len(self._numbers) > len(self._size):
            room = len(self._numbers) + len(self._numbers) // 4
            self._size = np.concatenate([self._size, np.zeros(room - len(self._size), dtype=np.int64)])
        old = self._number[slots]
        _, block = self.store.values(slots, self._running)
        for column, running in self._running.items():
            running.grow(len(self._number), len(self._size))
            running.change(slots, old, numbers, *block[column][1:])
        return self._put(slots, old, numbers)

    def _drop(self, slots: Array) -> bool:
        old, numbers = self._number[slots], np.full(len(slots), -1, dtype=np.int32)
        for running in self._running.values():
            nothing = blank(running.kind, len(slots))
            running.change(slots, old, numbers, nothing, np.ones(len(slots), dtype=bool))
        return self._put(slots, old, numbers)

    def _put(self, slots: Array, old: Array, new: Array) -> bool:
        left, came = old[old >= 0], new[new >= 0]
        before = self._size > 0
        np.subtract.at(self._size, left, 1)
        np.add.at(self._size, came, 1)
        if not np.array_equal(before, self._size > 0):
            self._order = None
        self._number[slots] = new
        touched = {*np.unique(left).tolist(), *np.unique(came).tolist()}
        self._touched |= touched
        if self._untold is not None:
            self._untold |= touched
        return bool(touched)

    def _numbered(self, rows: pd.DataFrame) -> Array:
        """Each row's group, with new numbers for new groups."""
        numbers = self._numbers
        # Many rows have few groups: pandas tells them apart faster than Python does.
        codes, first = _told_apart(rows, self.by)
        labels = _groups(rows.iloc[first])
        known = len(numbers)
        found = [-1 if group is None else numbers.setdefault(group, len(numbers)) for group in labels]
        new = [(number, at) for number, at in zip(found, first.tolist(), strict=True) if number >= known]
        if new:
            self._labels.append(rows.iloc[[at for _, at in sorted(new)]])
        return np.array([*found, -1], dtype=np.int32)[codes]

    # --- the result

    def _made(self) -> pd.DataFrame:
        with self.store.lock:
            for running in self._running.values():
                running.settle(self._number)
            if self._rest:
                self._work_out()
            self._touched.clear()
            order = self._sorted()
            columns: dict[str, Any] = {}
            for name, (column, function) in self._spec.items():
                if function == "size":
                    found: Any = self._size[order]
                elif name in self._rest:
                    assert self._found is not None
                    found = self._found[name].reindex(order).array
                else:
                    found = self._running[column].result(str(function), order)
                series: Any = pd.Series
                columns[name] = series(found, copy=False).astype(self._dtypes[name])
            frame = pd.DataFrame(columns)
            labels = self._all_labels().iloc[order]
            many = len(self.by) > 1
            frame.index = pd.MultiIndex.from_frame(labels) if many else pd.Index(labels[self.by[0]])
            return frame

    def _all_labels(self) -> pd.DataFrame:
        if len(self._labels) > 1:
            self._labels = [pd.concat(self._labels, ignore_index=True)]
        return self._labels[0] if self._labels else self.store.at(np.empty(0, dtype=np.int64), self.by)

    def _sorted(self) -> Array:
        if self._order is None:
            here = np.flatnonzero(self._size > 0)
            labels: Any = self._all_labels().iloc[here].reset_index(drop=True)
            self._order = here[labels.sort_values(self.by).index.to_numpy()]
        return self._order

    def _work_out(self) -> None:
        """The other functions of the groups touched, from their rows."""
        again = np.zeros(len(self._size) + 1, dtype=bool)  # the last one is for -1
        again[list(self._touched)] = True
        places = self.store.order and any(function in ("first", "last") for _, function in self._rest.values())
        slots = self.store.slots_in_order() if places else self.store.slots()
        slots = slots[slots < len(self._number)]
        slots = slots[again[self._number[slots]]]
        rows: Any = self.store.at(slots, dict.fromkeys(column for column, _ in self._rest.values()))
        fresh = rows.groupby(self._number[slots], sort=True).agg(**_named(self._rest))
        old = self._found
        if old is None or not len(old):
            self._found = fresh
        else:
            rest = old[~again[old.index.to_numpy()]]
            parts = [part for part in (rest, fresh) if len(part)]
            self._found = pd.concat(parts) if parts else fresh


def _named(spec: dict[str, tuple[str, str | float]]) -> dict[str, Any]:
    """As pandas' `agg` takes them."""
    return {
        name: pd.NamedAgg(column, function if isinstance(function, str) else _quantile(function))
        for name, (column, function) in spec.items()
    }


def _told_apart(rows: pd.DataFrame, by: list[str]) -> tuple[Array, Array]:
    """Each row's place among the groups that there are, -1 where a part of it is null, and each group's first row."""
    frame: Any = rows
    codes = frame.groupby(by if len(by) > 1 else by[0], sort=False).ngroup().to_numpy(dtype="float64", na_value=np.nan)
    codes = np.where(np.isnan(codes), -1, codes).astype(np.int64)
    labels, first = np.unique(codes, return_index=True)
    return codes, first[labels >= 0]


def _groups(rows: pd.DataFrame) -> list[Any]:
    """Each row's group as something to compare; None where a part of it is null."""
    columns = [rows[name].astype(object).where(rows[name].notna(), None).tolist() for name in rows.columns]
    return [None if None in parts else parts for parts in zip(*columns, strict=True)]


def _quantile(q: float) -> Callable[[Any], Any]:
    def quantile(values: Any) -> Any:
        return values.quantile(q)

    return quantile


def group_by(store: Store, by: str | list[str], on_delta: Callable[[Any], Any] | None = None) -> GroupBy:
    """Groups of a table. With a follower's `on_delta` they keep up by themselves; else call `apply`."""
    grouped = GroupBy(store, by)
    if on_delta is not None:
        on_delta(grouped.apply)
    return grouped
