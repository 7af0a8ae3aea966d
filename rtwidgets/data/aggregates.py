"""Count, sum, mean, least and greatest of one column's groups, kept up to date value by value.

Two things cannot be kept up so: adding a float to a sum and subtracting it again leaves a remainder, and when the least
or the greatest value goes, the next one is unknown. Those groups are recomputed from the values of their rows.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd

from .column_kinds import Array, ColumnKind, kind_named
from .dataframes import series_of


def incremental(kind: ColumnKind, function: object) -> bool:
    """Whether this function of such a column can be kept up value by value."""
    if function in ("sum", "mean"):
        return kind.whole or kind.name == "float"
    if function in ("min", "max"):
        return kind.whole or kind.name == "float" or kind.time
    return function == "count"


class ColumnAggregates:
    """The aggregates of one column. Rows are known by slot, groups by number; a row in group -1 is in none.

    Keeps each row's value too (8 bytes, and one for whether it is null), to subtract it when the row changes.
    """

    def __init__(self, kind: ColumnKind, functions: Iterable[str]) -> None:
        wanted = set(functions)
        self.kind = kind
        self._numeric = wanted != {"count"}
        self._sums = not wanted.isdisjoint(("sum", "mean"))
        self._dtype = np.dtype("float64" if kind.storage == "float64" else "int64")
        self._values: Array = np.empty(0, dtype=self._dtype)
        self._null: Array = np.ones(0, dtype=bool)
        self._count: Array = np.zeros(0, dtype=np.int64)
        self._halves: Array = np.zeros((2, 0), dtype=np.int64)
        """The sums of the upper and of the lower halves of whole numbers: so none overflows."""
        self._totals: Array = np.zeros(0)
        """The sums of floats."""
        self._extremes = {name: np.zeros(0, dtype=self._dtype) for name in ("min", "max") if name in wanted}
        self._unsure: dict[str, set[int]] = {name: set() for name in ("sum", *self._extremes)}
        """The groups to work out anew, by what of them."""

    def grow(self, slots: int, groups: int) -> None:
        """Makes room for rows and groups with numbers below these."""
        more = slots - len(self._null)
        if more > 0:
            self._null = np.concatenate([self._null, np.ones(more, dtype=bool)])
            if self._numeric:
                self._values = np.concatenate([self._values, np.zeros(more, dtype=self._dtype)])
        more = groups - len(self._count)
        if more > 0:
            self._count = np.concatenate([self._count, np.zeros(more, dtype=np.int64)])
            if self._sums and self._dtype.kind == "f":
                self._totals = np.concatenate([self._totals, np.zeros(more)])
            elif self._sums:
                self._halves = np.concatenate([self._halves, np.zeros((2, more), dtype=np.int64)], axis=1)
            for name, found in self._extremes.items():
                self._extremes[name] = np.concatenate([found, np.full(more, self._none(name), dtype=self._dtype)])

    def _none(self, name: str) -> Any:
        """What stands for the extreme of no values."""
        if self._dtype.kind == "f":
            return np.inf if name == "min" else -np.inf
        limits = np.iinfo(np.int64)
        return limits.max if name == "min" else limits.min

    def change(self, slots: Array, old: Array, new: Array, data: Array, mask: Array | None) -> None:
        """Rows that were in groups `old` are in groups `new` from now on, with these values; no slot comes twice."""
        null = self._nulls(data, mask)
        out, into = (old >= 0) & ~self._null[slots], (new >= 0) & ~null
        gone, come = old[out], new[into]
        np.subtract.at(self._count, gone, 1)
        np.add.at(self._count, come, 1)
        if self._numeric:
            data = data.view("int64") if self.kind.time else data.astype(self._dtype)
            went, came = self._values[slots[out]], data[into]
            if self._sums and self._dtype.kind == "f":
                self._unsure["sum"].update(gone.tolist(), come.tolist())
            elif self._sums:
                self._add(gone, went, -1)
                self._add(come, came, 1)
            for name, found in self._extremes.items():
                lost = went <= found[gone] if name == "min" else went >= found[gone]
                self._unsure[name].update(gone[lost].tolist())
                (np.minimum if name == "min" else np.maximum).at(found, come, came)
            self._values[slots] = data
        self._null[slots] = null

    def _nulls(self, data: Array, mask: Array | None) -> Array:
        """Those that pandas takes for null: NaN, and a Decimal that is none, too."""
        if self._dtype.kind == "f":
            return np.isnan(data)
        nulls = self.kind.nulls(data, mask)
        if self.kind.name == "decimal":
            nulls = nulls | np.array([value is not None and value.is_nan() for value in data.tolist()], dtype=bool)
        return nulls

    def _add(self, groups: Array, values: Array, sign: int) -> None:
        np.add.at(self._halves[0], groups, sign * (values >> 32))
        np.add.at(self._halves[1], groups, sign * (values & 0xFFFFFFFF))

    # -- the results, by group ----------------------------------------------------------------------------------------

    @property
    def unsure(self) -> bool:
        """Whether some groups are to be recomputed."""
        return any(self._unsure.values())

    def settle(self, slots: Array, groups: Array) -> None:
        """Recomputes what could not be kept up. `slots` and `groups`: the rows of all groups that changed since, and
        more perhaps."""
        if not self.unsure:
            return
        here = ~self._null[slots]
        slots, groups = slots[here], groups[here]
        values, count = self._values[slots], len(self._count)
        for name, unsure in self._unsure.items():
            if not unsure:
                continue
            again = np.zeros(count, dtype=bool)
            again[list(unsure)] = True
            if name == "sum":
                from_codes: Any = pd.Categorical.from_codes
                by: Any = from_codes(groups, categories=pd.RangeIndex(count), validate=False)
                # pandas compensates for what rounding loses; its sum of a group without rows is 0.
                sums: Any = series_of(values).groupby(by, observed=False).sum()
                self._totals[again] = sums.to_numpy()[again]
            else:
                found, some = self._extremes[name], again[groups]
                found[again] = self._none(name)
                (np.minimum if name == "min" else np.maximum).at(found, groups[some], values[some])
            unsure.clear()

    def result(self, function: str, groups: Array) -> Any:
        """The function of each of these groups, as a pandas or numpy array; call `settle` first."""
        count = self._count[groups]
        if function == "count":
            return count
        if function in ("min", "max"):
            found = self._extremes[function][groups]
            if self.kind.time:
                return self.kind.to_pandas(
                    np.where(count == 0, np.iinfo(np.int64).min, found).view("datetime64[us]"), None
                )
            if self._dtype.kind == "f":
                return np.where(count == 0, np.nan, found)
            return self.kind.to_pandas(np.where(count == 0, 0, found).astype(self.kind.storage), count == 0)
        if self._dtype.kind == "f":
            total = self._totals[groups]
            return total if function == "sum" else np.where(count == 0, np.nan, total / np.maximum(count, 1))
        upper, lower = self._halves[:, groups]
        if function == "sum":  # past 2**63 it wraps round, as pandas' own does
            return kind_named("int64").to_pandas((upper << 32) + lower, np.zeros(len(groups), dtype=bool))
        return np.where(count == 0, np.nan, (upper * 2.0**32 + lower) / np.maximum(count, 1))
