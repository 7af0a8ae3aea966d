"""Count, sum, mean, least and greatest of one column's groups, kept up to date value by value.

Sums are exact: an integer's as it is, a float's as a whole number of the smallest step that a float can take. So adding
a value and taking it away again leaves nothing behind, and a sum that has been kept up for days equals one worked out
anew. Only where the least or the greatest value goes is a group looked through again.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from .column_kinds import TIMES, Array, Kind, null_of, to_pandas

INTS: frozenset[Kind] = frozenset(["int16", "int32", "int64"])
FUNCTIONS = ("count", "sum", "mean", "min", "max")
_UNIT = 1074  # every float is a whole multiple of 2**-1074


def follows(kind: Kind, function: Any) -> bool:
    """Whether this function of such a column can be kept up value by value."""
    if function == "count":
        return True
    if function in ("sum", "mean"):
        return kind in INTS or kind == "float"
    return function in ("min", "max") and (kind in INTS or kind == "float" or kind in TIMES)


class Running:
    """One column. Rows are known by slot, groups by number; a row in group -1 is in none.

    Beside its groups it keeps each row's value (8 bytes, and one for whether it is null), which is what must be taken
    away when the row changes.
    """

    def __init__(self, kind: Kind, functions: Iterable[str]) -> None:
        self.kind: Kind = kind
        wanted = set(functions)
        self._numeric = wanted != {"count"}
        self._sums = not wanted.isdisjoint(("sum", "mean"))
        self._extremes = {name for name in ("min", "max") if name in wanted}
        self._dtype = np.dtype("float64" if kind == "float" else "int64")
        self._values = np.empty(0, dtype=self._dtype)
        self._null = np.ones(0, dtype=bool)
        self.count = np.zeros(0, dtype=np.int64)
        self._whole = np.zeros((2, 0), dtype=np.int64)
        """The sums of an integer column, of the upper and of the lower halves of its values: so none overflows."""
        self._exact: list[int] = []
        """The sums of a float column, in steps of 2**-1074, without what is infinite."""
        self._infinite = np.zeros((2, 0), dtype=np.int64)
        """How many -inf and +inf there are."""
        self._least = np.zeros(0, dtype=self._dtype)
        self._greatest = np.zeros(0, dtype=self._dtype)
        self._unsure: dict[str, set[int]] = {name: set() for name in self._extremes}

    def grow(self, slots: int, groups: int) -> None:
        """Makes room for rows and groups with numbers below these."""
        more = slots - len(self._null)
        if more > 0:
            self._null = np.concatenate([self._null, np.ones(more, dtype=bool)])
            if self._numeric:
                self._values = np.concatenate([self._values, np.zeros(more, dtype=self._dtype)])
        more = groups - len(self.count)
        if more > 0:
            self.count = np.concatenate([self.count, np.zeros(more, dtype=np.int64)])
            if self._sums and self.kind == "float":
                self._exact += [0] * more
                self._infinite = np.concatenate([self._infinite, np.zeros((2, more), dtype=np.int64)], axis=1)
            elif self._sums:
                self._whole = np.concatenate([self._whole, np.zeros((2, more), dtype=np.int64)], axis=1)
            self._least = np.concatenate([self._least, np.full(more, self._none("min"), dtype=self._dtype)])
            self._greatest = np.concatenate([self._greatest, np.full(more, self._none("max"), dtype=self._dtype)])

    def _none(self, name: str) -> Any:
        """What stands for the extreme of no values."""
        if self.kind == "float":
            return np.inf if name == "min" else -np.inf
        limits = np.iinfo(np.int64)
        return limits.max if name == "min" else limits.min

    def change(self, slots: Array, old: Array, new: Array, data: Array, mask: Array | None) -> None:
        """Rows that were in groups `old` are in groups `new` from now on, with these values; no slot comes twice."""
        null = self._nulls(data, mask)
        was_null = self._null[slots]
        out, into = (old >= 0) & ~was_null, (new >= 0) & ~null
        gone, come = old[out], new[into]
        np.subtract.at(self.count, gone, 1)
        np.add.at(self.count, come, 1)
        if self._numeric:
            data = data.view("int64") if self.kind in TIMES else data.astype(self._dtype)
            went, came = self._values[slots[out]], data[into]
            if self._sums:
                self._sum(gone, went, -1)
                self._sum(come, came, 1)
            if "min" in self._extremes:
                self._unsure["min"].update(gone[went <= self._least[gone]].tolist())
                np.minimum.at(self._least, come, came)
            if "max" in self._extremes:
                self._unsure["max"].update(gone[went >= self._greatest[gone]].tolist())
                np.maximum.at(self._greatest, come, came)
            self._values[slots] = data
        self._null[slots] = null

    def _nulls(self, data: Array, mask: Array | None) -> Array:
        if mask is not None:
            return mask
        if self.kind in INTS or self.kind == "bool":
            return np.zeros(len(data), dtype=bool)
        if self.kind == "float":
            return np.isnan(data)
        if self.kind in TIMES:
            return np.isnat(data)
        none = null_of(self.kind)  # and a Decimal may be NaN, which to pandas is null, too
        found = [
            value is None or value is none or (self.kind == "decimal" and value != value) for value in data.tolist()
        ]
        return np.array(found, dtype=bool)

    def _sum(self, groups: Array, values: Array, sign: int) -> None:
        if self.kind != "float":
            np.add.at(self._whole[0], groups, sign * (values >> 32))
            np.add.at(self._whole[1], groups, sign * (values & 0xFFFFFFFF))
            return
        infinite = np.isinf(values)
        if infinite.any():
            np.add.at(self._infinite, ((values[infinite] > 0).astype(np.int64), groups[infinite]), sign)
            groups, values = groups[~infinite], values[~infinite]
        exact = self._exact
        if len(values) < 5_000:
            for group, value in zip(groups.tolist(), values.tolist(), strict=True):
                top, bottom = value.as_integer_ratio()
                exact[group] += sign * (top << (_UNIT + 1 - bottom.bit_length()))
            return
        # Many at once: values of one exponent are whole numbers of one step. In two halves, each of which a float can
        # sum up without losing a bit.
        part, exponents = np.frexp(values)
        whole = np.ldexp(part, 53).astype(np.int64)
        for exponent in np.unique(exponents).tolist():
            some = exponents == exponent
            among, these = groups[some], whole[some]
            high = np.bincount(among, weights=these >> 27, minlength=len(exact))
            low = np.bincount(among, weights=these & (2**27 - 1), minlength=len(exact))
            shift = _UNIT + exponent - 53
            for group in np.flatnonzero(np.bincount(among, minlength=len(exact))).tolist():
                total = (int(high[group]) << 27) + int(low[group])
                exact[group] += sign * (total << shift if shift >= 0 else total >> -shift)

    # --- the results, by group

    def settle(self, number: Array) -> None:
        """Looks through the groups whose least or greatest value went; `number` is each slot's group."""
        for name, unsure in self._unsure.items():
            if not unsure:
                continue
            again = np.zeros(len(self.count) + 1, dtype=bool)  # the last one is for -1
            again[list(unsure)] = True
            held = self._least if name == "min" else self._greatest
            held[list(unsure)] = self._none(name)
            slots = np.flatnonzero(again[number])
            slots = slots[~self._null[slots]]
            (np.minimum if name == "min" else np.maximum).at(held, number[slots], self._values[slots])
            unsure.clear()

    def result(self, function: str, groups: Array) -> Any:
        """The function of each of these groups; call `settle` first."""
        count = self.count[groups]
        if function == "count":
            return count
        if function in ("min", "max"):
            held = (self._least if function == "min" else self._greatest)[groups]
            if self.kind == "float":
                return np.where(count == 0, np.nan, held)
            if self.kind in TIMES:
                return to_pandas(
                    self.kind, np.where(count == 0, np.iinfo(np.int64).min, held).view("datetime64[us]"), None
                )
            return to_pandas(self.kind, np.where(count == 0, 0, held).astype(self.kind), count == 0)
        mean = function == "mean"
        if self.kind != "float":
            upper, lower = self._whole[:, groups]
            if not mean:  # past 2**63 it wraps round, as pandas' own does
                return to_pandas("int64", (upper << 32) + lower, np.zeros(len(groups), dtype=bool))
            return np.where(count == 0, np.nan, (upper * 2.0**32 + lower) / np.maximum(count, 1))
        return np.array(
            [self._float(group, n if mean else 1) for group, n in zip(groups.tolist(), count.tolist(), strict=True)],
            dtype=np.float64,
        )

    def _float(self, group: int, count: int) -> float:
        down, up = self._infinite[:, group].tolist()
        if count == 0 or (down and up):
            return np.nan
        if down or up:
            return np.inf if up else -np.inf
        try:
            return self._exact[group] / (count << _UNIT)
        except OverflowError:
            return np.inf if self._exact[group] > 0 else -np.inf
