"""Arrow arrays made of a column's rows, kept part by part: a change makes only the parts anew that it touched."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pyarrow as pa

from .column_kinds import Array

SIZE = 65_536
"""Rows of a part."""
_MOST = 256  # parts: past this, those that deleted rows have cut are joined

Make = Callable[[int, int], pa.Array]
"""The array of the rows at positions from one to before another."""


def spans(start: int, end: int) -> Iterator[tuple[int, int]]:
    """Positions [start, end) in parts."""
    for first in range(start, end, SIZE):
        yield first, min(first + SIZE, end)


class Chunks:
    """The parts of one column in the order of its rows, each with an array or, where rows have changed, without.

    Positions are those of the column. A row that goes cuts its part in two, which costs no copy.
    """

    def __init__(self) -> None:
        self._base = 0
        """The position at which the first part begins."""
        self._parts: list[pa.Array | None] = []
        self._sizes: list[int] = []
        self._ends: Array = np.zeros(0, dtype=np.int64)
        """The position at which each part ends."""

    def clear(self) -> None:
        """Forgets everything."""
        self._parts, self._sizes = [], []
        self._measure()

    def mark(self, where: Array | slice[int, int, None]) -> None:
        """The rows at these positions have changed."""
        if not self._parts:
            return
        edges = np.array([where.start, where.stop - 1]) if isinstance(where, slice) else where
        found: list[int] = np.searchsorted(self._ends, edges, side="right").tolist()
        for at in range(found[0], found[1] + 1) if isinstance(where, slice) else set(found):
            if at < len(self._parts):
                self._parts[at] = None

    def remove(self, gaps: Sequence[int], shift: int) -> None:
        """The rows at these positions, in order, have gone, and the first row stands `shift` positions further on."""
        if self._parts:
            for gap in reversed(gaps):
                self._cut(gap)
            if len(self._parts) > _MOST:
                self._join()
        self._base += shift
        self._measure()

    def move(self, by: int) -> None:
        """All rows stand so many positions further on."""
        self._base += by
        self._measure()

    def arrays(self, start: int, end: int, make: Make) -> list[pa.Array]:
        """Arrays of the rows in [start, end)."""
        self._cover(start, end)
        found: list[pa.Array] = []
        first = self._base
        for at, size in enumerate(self._sizes):
            array = self._parts[at]
            if array is None:
                array = self._parts[at] = make(first, first + size)
            found.append(array)
            first += size
        return found

    def _cover(self, start: int, end: int) -> None:
        """Makes the parts begin and end there."""
        if not self._base <= start <= self._base + sum(self._sizes):
            self.clear()
        if not self._parts:
            self._base = start
        while self._parts and self._base < start:  # rows at the front have gone
            self._resize(0, max(self._sizes[0] - (start - self._base), 0), front=True)
        missing = end - self._base - sum(self._sizes)
        while missing < 0:  # rows at the back have gone
            size = self._sizes[-1]
            self._resize(len(self._sizes) - 1, max(size + missing, 0))
            missing = min(missing + size, 0)
        if missing > 0 and self._sizes and self._sizes[-1] < SIZE:
            more = min(missing, SIZE - self._sizes[-1])
            self._sizes[-1] += more
            self._parts[-1] = None
            missing -= more
        for first, last in spans(0, missing):
            self._sizes.append(last - first)
            self._parts.append(None)
        self._measure()

    def _resize(self, at: int, size: int, *, front: bool = False) -> None:
        """Leaves so many rows of a part: the last ones if the `front` is what goes."""
        gone, array = self._sizes[at] - size, self._parts[at]
        if front:
            self._base += gone
        if size:
            self._sizes[at] = size
            self._parts[at] = None if array is None else array.slice(gone if front else 0, size)
        else:
            del self._sizes[at], self._parts[at]

    def _cut(self, gap: int) -> None:
        at = int(np.searchsorted(self._ends, gap, side="right"))
        if at >= len(self._parts):
            return
        array, size = self._parts[at], self._sizes[at]
        before = gap - (int(self._ends[at]) - size)
        if before < 0:
            return
        if array is None:
            self._sizes[at : at + 1] = [size - 1] if size > 1 else []
            self._parts[at : at + 1] = [None] if size > 1 else []
        else:
            halves = [array.slice(0, before), array.slice(before + 1)]
            kept = [half for half in halves if len(half)]
            self._parts[at : at + 1] = kept
            self._sizes[at : at + 1] = [len(half) for half in kept]
        self._measure()

    def _join(self) -> None:
        """Joins small parts that stand next to each other; such are made anew."""
        parts: list[pa.Array | None] = []
        sizes: list[int] = []
        for array, size in zip(self._parts, self._sizes, strict=True):
            if sizes and sizes[-1] + size <= SIZE:
                parts[-1] = None
                sizes[-1] += size
            else:
                parts.append(array)
                sizes.append(size)
        self._parts, self._sizes = parts, sizes

    def _measure(self) -> None:
        self._ends = self._base + np.cumsum(self._sizes, dtype=np.int64)
