"""Rows in sorted order, kept up to date change by change.

Nulls count as the largest value, as in Postgres (last when ascending, first when descending); equal rows keep the order
of arrival. Each kind of column sorts as Postgres sorts its type, text as in the collation "C": by code point.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from .column_kinds import Array, ColumnKind

Sort = tuple[tuple[str, bool], ...]
"""Columns to sort by, each with whether it descends."""


class Sortable(Protocol):
    """The values of a column, by position."""

    @property
    def kind(self) -> ColumnKind: ...
    @property
    def data(self) -> Array: ...
    @property
    def mask(self) -> Array | None: ...


_PART = re.compile(r'\s*(-?)(?:"((?:[^"]|"")+)"|([^\s.,"-][^\s.,"]*))((?:[\s.]+[A-Za-z]+)*)\s*')


def parse_order(order: str | Sequence[str | tuple[str, bool]] | None) -> Sort:
    """`"created_at desc, id"`, `["-created_at", "id"]` or `[("created_at", True)]` as a sort.

    A name with a dot, a comma or a blank stands in double quotes, as in SQL, or in a pair. Raises ValueError.
    """
    if not order:
        return ()
    found: list[tuple[str, bool]] = []
    for part in [order] if isinstance(order, str) else order:
        found += _parse_text(part) if isinstance(part, str) else [(part[0], bool(part[1]))]
    return tuple(found)


def _parse_text(text: str) -> list[tuple[str, bool]]:
    found: list[tuple[str, bool]] = []
    at = 0
    while True:
        part = _PART.match(text, at)
        words = set(re.findall("[a-z]+", part[4].lower())) if part else set[str]()
        descending = part is not None and ("desc" in words or part[1] == "-")
        unknown = words - {"asc", "desc", "nullsfirst" if descending else "nullslast"}
        ends = part is not None and text[part.end() : part.end() + 1] in ("", ",")
        if part is None or not ends or unknown or words >= {"asc", "desc"}:
            wrong = text[at:].partition(",")[0].strip()
            raise ValueError(
                f'order is "column" or "column desc", several joined by commas, not {wrong!r} '
                "(nulls stand where Postgres puts them: last, or first where it descends; a name with a dot, a comma "
                "or a blank stands in double quotes)"
            )
        found.append((part[2].replace('""', '"') if part[2] is not None else part[3], descending))
        if part.end() == len(text):
            return found
        at = part.end() + 1


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


def _codes(column: Sortable, where: Array, descending: bool, nulls_last: bool) -> tuple[Array, Array]:
    """Two integer arrays, (null, value), whose ascending order is the order wanted."""
    data, mask = column.data[where], None if column.mask is None else column.mask[where]
    nulls = column.kind.nulls(data, mask)
    codes = np.where(nulls, 0, column.kind.order_codes(data, nulls))
    # ~v is -v-1: unlike -v it cannot overflow
    return ~nulls if descending and not nulls_last else nulls, ~codes if descending else codes


def sort_positions(columns: Mapping[str, Sortable], sort: Sort, where: Array, *, nulls_last: bool = False) -> Array:
    """The positions in `where` (which are in order of arrival), sorted; nulls as in Postgres, or always last."""
    layers: list[Array] = []
    for name, descending in sort:
        if name in columns:
            layers.extend(_codes(columns[name], where, descending, nulls_last))
    return where[np.lexsort(layers[::-1])] if layers else where


def rank(columns: Mapping[str, Sortable], sort: Sort, position: int, *, nulls_last: bool = False) -> tuple[Any, ...]:
    """What `sort_positions` sorts by, of one row, as something that compares; the position comes last."""
    parts: list[Any] = []
    for name, descending in sort:
        column = columns.get(name)
        if column is None:
            continue
        value = column.data[position : position + 1].tolist()[0]
        nulls_first = descending and not nulls_last
        if column.kind.is_null(value) if column.mask is None else column.mask[position]:
            parts += [not nulls_first, 0]
            continue
        key = column.kind.order_key(value)
        parts += [nulls_first, _Down(key) if descending else key]
    return (*parts, position)


class SortedRows:
    """Slots in sorted order. `mark` notes slots that came, went or changed a sorted value; `slots()` puts them in
    place."""

    def __init__(self, sort: Sort, *, nulls_last: bool = False) -> None:
        self.sort, self.nulls_last = sort, nulls_last
        self.names: frozenset[str] | None = frozenset(name for name, _ in sort)
        self._slots: Array | None = None
        self._dirty: set[int] = set()

    def mark(self, slots: Iterable[int]) -> None:
        if self._slots is not None:
            self._dirty.update(slots)
            if len(self._dirty) > 64 + len(self._slots) // 200:
                self._slots = None  # past this, sorting all again is faster
                self._dirty.clear()

    def reset(self) -> None:
        self._slots = None
        self._dirty.clear()

    def slots(self, columns: Mapping[str, Sortable], arrival: Array, slot_at: Array, pos: Array) -> Array:
        """`arrival`: living positions in order; `slot_at`: slot by position; `pos`: position by slot, -1 where dead."""
        if self._slots is None:
            self._slots = slot_at[sort_positions(columns, self.sort, arrival, nulls_last=self.nulls_last)]
            self._dirty.clear()
        elif self._dirty:
            dirty = np.fromiter(self._dirty, np.int64, len(self._dirty))
            marked = np.zeros(len(pos), dtype=bool)
            marked[dirty] = True
            rest = self._slots[~marked[self._slots]]

            def rank_of(slot: Any) -> tuple[Any, ...]:
                return rank(columns, self.sort, int(pos[slot]), nulls_last=self.nulls_last)

            come = [(rank_of(s), s) for s in self._dirty if pos[s] >= 0]
            come.sort(key=lambda pair: pair[0])

            at = [bisect_left(rest, r, key=rank_of) for r, _ in come]  # pyright: ignore[reportArgumentType]
            self._slots = np.insert(rest, at, [s for _, s in come])
            self._dirty.clear()
        return self._slots
