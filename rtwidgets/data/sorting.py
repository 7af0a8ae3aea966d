"""Rows in sorted order, kept up to date change by change.

Nulls count as the largest value, as in Postgres (last when ascending, first when descending); equal rows keep the
order of arrival.
Text sorts by code point, not by the database's collation; an enum by its labels' order.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from .column_kinds import TEXT_NA, TIMES, Array
from .columns import ColumnData

Sort = tuple[tuple[str, bool], ...]
"""Columns to sort by, each with whether it descends."""


def parse_order(order: str | Sequence[str | tuple[str, bool]] | None) -> Sort:
    """`"created_at.desc,id"`, `["-created_at", "id"]` or `[("created_at", True)]` as a sort. Raises ValueError."""
    if not order:
        return ()
    parts: Sequence[str | tuple[str, bool]] = order.split(",") if isinstance(order, str) else order
    found: list[tuple[str, bool]] = []
    for part in parts:
        if not isinstance(part, str):
            found.append((part[0], bool(part[1])))
            continue
        name, *how = part.strip().replace(" ", ".").split(".")
        words = {word.lower() for word in how if word}
        descending = "desc" in words or name.startswith("-")
        unknown = words - {"asc", "desc", "nullsfirst" if descending else "nullslast"}
        if unknown or not name.removeprefix("-") or words >= {"asc", "desc"}:
            raise ValueError(
                f'order is "column" or "column desc", several joined by commas, not {part.strip()!r} '
                "(nulls stand where Postgres puts them: last, or first where it descends)"
            )
        found.append((name.removeprefix("-"), descending))
    return tuple(found)


class _Down:
    """Turns a comparison round, for values that have no negative."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value

    def __lt__(self, other: _Down) -> bool:
        return bool(other.value < self.value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Down) and self.value == other.value

    def __hash__(self) -> int:
        return hash(self.value)


def _comparable(column: ColumnData, value: Any) -> Any:
    if column.ranks is not None:
        return column.ranks.get(value, len(column.ranks))  # a label that is newer than what we know stands last
    return value if column.kind in ("text", "decimal", "bytes") else str(value)


def _nulls(column: ColumnData, where: Array) -> Array:
    data = column.data[where]
    if column.mask is not None:
        return column.mask[where]
    return np.asarray(pd.isna(data))


def _codes(column: ColumnData, where: Array, descending: bool) -> tuple[Array, Array]:
    """Two integer or float arrays, (null, value), whose ascending order is the order wanted."""
    data, nulls = column.data[where], _nulls(column, where)
    if column.kind in TIMES:
        data = data.view("int64")
    elif data.dtype == object:
        values = np.empty(len(data), dtype=object)
        values[:] = [
            None if gone else _comparable(column, v) for v, gone in zip(data.tolist(), nulls.tolist(), strict=True)
        ]
        data = np.asarray(pd.factorize(values, sort=True)[0])
    elif data.dtype == bool:
        data = data.view("int8")
    data = np.where(nulls, 0, data)
    if descending:
        # ~v is -v-1: unlike -v it cannot overflow
        return ~nulls, -data if data.dtype.kind == "f" else ~data
    return nulls, data


def sort_positions(columns: dict[str, ColumnData], sort: Sort, where: Array) -> Array:
    """The positions in `where` (which are in order of arrival), sorted."""
    layers: list[Array] = []
    for name, descending in sort:
        if name in columns:
            layers.extend(_codes(columns[name], where, descending))
    return where[np.lexsort(layers[::-1])] if layers else where


def rank(columns: dict[str, ColumnData], sort: Sort, position: int) -> tuple[Any, ...]:
    """What `sort_positions` sorts by, of one row, as something that compares; the position comes last."""
    parts: list[Any] = []
    for name, descending in sort:
        column = columns.get(name)
        if column is None:
            continue
        value: Any = column.data[position]
        masked = column.mask is not None and bool(column.mask[position])
        null = masked or value is None or value is TEXT_NA or bool(value != value)
        if null:
            parts += [not descending, 0]
            continue
        if column.kind in TIMES:
            value = int(np.datetime64(value, "us").view("int64"))
        elif column.data.dtype == object:
            value = _comparable(column, value)
        else:
            value = column.data[position : position + 1].tolist()[0]
        parts += [descending, _Down(value) if descending else value]
    return (*parts, position)


class SortedRows:
    """Slots in sorted order. `touch` marks slots that came, went or changed a sorted value; `slots()` puts them
    right.
    """

    def __init__(self, sort: Sort) -> None:
        self.sort = sort
        self.names = {name for name, _ in sort}
        self._slots: Array | None = None
        self._dirty: set[int] = set()

    def touch(self, slots: Sequence[int]) -> None:
        if self._slots is not None:
            self._dirty.update(slots)
            if len(self._dirty) > 64 + len(self._slots) // 200:
                self._slots = None  # past this, sorting all again is faster
                self._dirty.clear()

    def forget(self) -> None:
        self._slots = None
        self._dirty.clear()

    def slots(self, columns: dict[str, ColumnData], arrival: Array, slot_at: Array, pos: Array) -> Array:
        """`arrival`: living positions in order; `slot_at`: slot by position; `pos`: position by slot, -1 where dead."""
        if self._slots is None:
            self._slots = slot_at[sort_positions(columns, self.sort, arrival)]
            self._dirty.clear()
        elif self._dirty:
            dirty = np.fromiter(self._dirty, np.int64, len(self._dirty))
            marked = np.zeros(len(pos), dtype=bool)
            marked[dirty] = True
            rest = self._slots[~marked[self._slots]]
            come = [(rank(columns, self.sort, int(pos[s])), s) for s in self._dirty if pos[s] >= 0]
            come.sort(key=lambda pair: pair[0])

            def rank_of(slot: Any) -> tuple[Any, ...]:
                return rank(columns, self.sort, int(pos[slot]))

            at = [bisect_left(rest, r, key=rank_of) for r, _ in come]  # pyright: ignore[reportArgumentType]
            self._slots = np.insert(rest, at, [s for _, s in come])
            self._dirty.clear()
        return self._slots
