"""Groups that follow a table: each batch costs what it touches, not what the table holds.

Every aggregate is worked out anew for the groups that a batch touched, from the keys of their rows, and for no
others. Running sums
would be cheaper still, but drift: adding and taking away floats does not give back what was there. So the result
always equals
pandas' own on the same rows.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pandas as pd

from .delta import Delta, Key
from .store import Store

FUNCTIONS = ("sum", "count", "mean", "min", "max", "nunique", "first", "last", "size", "median", "std", "var")


class GroupBy:
    """`store.df().groupby(by).agg(...)` kept up to date. Feed it each `Delta` with `apply` (see `group_by`)."""

    def __init__(self, store: Store, by: str | list[str]) -> None:
        self.store = store
        self.by = [by] if isinstance(by, str) else list(by)
        self._spec: dict[str, tuple[str, str | float]] = {}
        self._frame: pd.DataFrame | None = None
        self._members: dict[Any, set[Key]] = {}
        self._group: dict[Key, Any] = {}

    def agg(self, **spec: tuple[str, str | float]) -> GroupBy:
        """`name=(column, function)`; a number as the function is a quantile (0.5: the median)."""
        for name, (_, function) in spec.items():
            if isinstance(function, str) and function not in FUNCTIONS:
                raise ValueError(f"{name}: {function!r} is none of {', '.join(FUNCTIONS)}, or a quantile")
        self._spec = spec
        self._rebuild()
        return self

    def df(self) -> pd.DataFrame:
        """One row a group, sorted by group, with the groups as its index, as pandas gives it."""
        assert self._frame is not None, "call agg() first"
        return self._frame.copy()

    def _aggregate(self, rows: pd.DataFrame) -> pd.DataFrame:
        aggregates: dict[str, Any] = {}
        for name, (column, function) in self._spec.items():
            how: str | Callable[[Any], Any] = function if isinstance(function, str) else _quantile(function)
            aggregates[name] = pd.NamedAgg(column, how)
        by: Any = self.by if len(self.by) > 1 else self.by[0]
        frame: Any = rows
        grouped: Any = frame.groupby(by, sort=True)
        return grouped.agg(**aggregates)

    def _rebuild(self) -> None:
        with self.store.lock:
            rows, keys = self.store.df(), self._keys()
        self._members.clear()
        self._group.clear()
        for key, group in zip(keys, self._groups(rows), strict=True):
            self._join(key, group)
        self._frame = self._aggregate(rows)

    def _keys(self) -> list[Key]:
        return self.store.window(0, len(self.store), columns=())["keys"]

    def _groups(self, rows: pd.DataFrame) -> list[Any]:
        """Each row's group as something to compare; None where a part of it is null (pandas leaves those rows out)."""
        columns = [rows[name].astype(object).where(rows[name].notna(), None).tolist() for name in self.by]
        return [None if None in parts else parts for parts in zip(*columns, strict=True)]

    def _join(self, key: Key, group: Any) -> None:
        self._group[key] = group
        self._members.setdefault(group, set()).add(key)

    def _leave(self, key: Key) -> Any:
        group = self._group.pop(key, None)
        members = self._members.get(group)
        if members is not None:
            members.discard(key)
            if not members:
                del self._members[group]
        return group

    def apply(self, delta: Delta) -> bool:
        """Takes what a batch changed; whether the result may differ."""
        if not delta or self._frame is None:
            return False
        wanted = {*self.by, *(column for column, _ in self._spec.values())}
        changed = [key for key, names in delta.updated if not wanted.isdisjoint(names)]
        if delta.reset or delta.columns_changed or (self.store.order and (changed or delta.inserted)):
            self._rebuild()
            return True
        touched = {self._leave(key) for key in delta.deleted}
        moved = [key for key in (*delta.inserted, *changed) if key in self.store]
        with self.store.lock:
            touched |= {self._leave(key) for key in moved}
            for key, group in zip(moved, self._groups(self.store.take(moved)), strict=True):
                self._join(key, group)
                touched.add(group)
            touched.discard(None)
            if not touched:
                return False
            members = [key for group in touched for key in self._members.get(group, ())]
            rows = self.store.take(members, arrange=True)
        fresh = self._aggregate(rows)
        frame = self._frame
        index = frame.index
        gone = index.isin([group if len(self.by) > 1 else group[0] for group in touched]) if len(index) else None
        rest = frame if gone is None else frame[~gone]
        parts = [part for part in (rest, fresh) if len(part)]
        joined = pd.concat(parts).sort_index() if parts else fresh
        joined.index.names = fresh.index.names
        self._frame = joined
        return True


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
