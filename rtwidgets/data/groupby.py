"""Groups that follow a table: each batch costs what it touches, not what the table holds.

Every aggregate is worked out anew for the groups that a batch touched, from their rows, and for no others. Running sums
would be cheaper still, but drift: adding and taking away floats does not give back what was there. So the result always
equals pandas' own on the same rows.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from .delta import Delta
from .store import Store
from .types import Array

FUNCTIONS = ("sum", "count", "mean", "min", "max", "nunique", "first", "last", "size", "median", "std", "var")


class GroupBy:
    """`store.df().groupby(by).agg(...)` kept up to date. Feed it each `Delta` with `apply` (see `group_by`)."""

    def __init__(self, store: Store, by: str | list[str]) -> None:
        self.store = store
        self.by = [by] if isinstance(by, str) else list(by)
        self._spec: dict[str, tuple[str, str | float]] = {}
        self._names: list[str] = []
        self._frame: pd.DataFrame | None = None
        self._numbers: dict[Any, int] = {}
        """A number for each group that there ever was."""
        self._number = np.empty(0, dtype=np.int32)
        """By slot of the store: its row's group, -1 where a part of that is null (pandas leaves those rows out)."""

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
        self._names = list(dict.fromkeys([*self.by, *(column for column, _ in spec.values())]))
        self._rebuild()
        return self

    def df(self) -> pd.DataFrame:
        """One row a group, sorted by group, with the groups as its index, as pandas gives it."""
        assert self._frame is not None, "call agg() first"
        return self._frame.copy()

    def _aggregate(self, rows: pd.DataFrame, by: Any) -> pd.DataFrame:
        aggregates: dict[str, Any] = {}
        for name, (column, function) in self._spec.items():
            how: str | Callable[[Any], Any] = function if isinstance(function, str) else _quantile(function)
            aggregates[name] = pd.NamedAgg(column, how)
        frame: Any = rows
        return frame.groupby(by, sort=True).agg(**aggregates)

    def _numbered_aggregate(self, slots: Array) -> pd.DataFrame:
        """The groups of these rows. By number: telling a million texts apart takes longer than all the rest."""
        numbers = self._number[slots]
        _, first = np.unique(numbers, return_index=True)
        fresh = self._aggregate(self.store.at(slots, self._names), numbers)
        labels: Any = self.store.at(slots[first], self.by)
        fresh.index = pd.MultiIndex.from_frame(labels) if len(self.by) > 1 else pd.Index(labels[self.by[0]])
        return fresh

    def _rebuild(self) -> None:
        with self.store.lock:
            rows: Any = self.store.df()[self._names]
            slots = self.store.slots()
            arrived = self.store.at(slots, self.by) if self.store.order else rows
        self._numbers.clear()
        self._number = np.empty(0, dtype=np.int32)
        # Nullable columns give a nullable number, which is -1 where a part of the group is null.
        codes = arrived.groupby(self.by, sort=False).ngroup().to_numpy(dtype="int64", na_value=-1)
        labels, first = np.unique(codes, return_index=True)
        known = labels >= 0  # numbered from 0 in order of arrival
        self._numbers = {group: i for i, group in enumerate(_groups(arrived[self.by].iloc[first[known]]))}
        self._join(slots, codes)
        self._frame = self._aggregate(rows, self.by if len(self.by) > 1 else self.by[0])

    def _join(self, slots: Array, numbers: Any) -> None:
        needed = int(slots.max()) + 1 if len(slots) else 0
        if needed > len(self._number):
            self._number = np.concatenate([self._number, np.full(needed, -1, dtype=np.int32)])
        self._number[slots] = numbers

    def _numbered(self, groups: list[Any]) -> list[int]:
        numbers = self._numbers
        return [-1 if group is None else numbers.setdefault(group, len(numbers)) for group in groups]

    def apply(self, delta: Delta) -> bool:
        """Takes what a batch changed; whether the result may differ."""
        if not delta or self._frame is None:
            return False
        wanted = {*self.by, *(column for column, _ in self._spec.values())}
        changed = [key for key, names in delta.updated if not wanted.isdisjoint(names)]
        if delta.reset or delta.columns_changed or (self.store.order and (changed or delta.inserted)):
            self._rebuild()
            return True
        touched = set(self._numbered(self._went(delta)))
        with self.store.lock:
            slots = self.store.find([*delta.inserted, *changed])
            slots = slots[slots >= 0]  # those that have gone since are in a later delta
            was = slots[slots < len(self._number)]
            touched.update(self._number[was].tolist())
            numbers = self._numbered(_groups(self.store.at(slots, self.by)))
            self._join(slots, numbers)
            touched.update(numbers)
            touched.discard(-1)
            if not touched:
                return False
            again = np.zeros(len(self._numbers) + 1, dtype=bool)  # the last one is for -1
            again[list(touched)] = True
            living = self.store.slots()
            fresh = self._numbered_aggregate(living[again[self._number[living]]])
        frame = self._frame
        index = frame.index
        known = list(self._numbers)
        gone = [known[number] if len(self.by) > 1 else known[number][0] for number in touched]
        rest = frame[~index.isin(gone)] if len(index) else frame
        parts = [part for part in (rest, fresh) if len(part)]
        joined = pd.concat(parts).sort_index() if parts else fresh
        joined.index.names = fresh.index.names
        self._frame = joined
        return True

    def _went(self, delta: Delta) -> list[Any]:
        """The groups of rows that a batch deleted."""
        rows = delta.deleted_rows() if delta.deleted else []
        groups = [tuple(row[name] for name in self.by) for row in rows]
        return [None if None in group else group for group in groups]


def _groups(rows: pd.DataFrame) -> list[Any]:
    """Each row's group as something to compare; None where a part of it is null."""
    columns = [rows[name].astype(object).where(rows[name].notna(), None).tolist() for name in rows.columns]
    return [None if None in parts else parts for parts in zip(*columns, strict=True)]


def _quantile(q: float) -> Callable[[Any], Any]:
    def quantile(values: Any) -> Any:
        return values.quantile(q)

    return quantile


def group_by(store: Store, by: str | list[str], on_delta: Callable[[Any], Any] | None = None) -> GroupBy:
    """Groups of a table. With the engine's `on_delta` they follow by themselves, else call `apply` with each delta."""
    grouped = GroupBy(store, by)
    if on_delta is not None:
        on_delta(grouped.apply)
    return grouped
