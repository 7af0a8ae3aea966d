"""One column's memory: a typed buffer with room to grow, lent to frames without copying, copied before a lent part
changes.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from .column_kinds import MASKED, Array, Kind, blank, null_of
from .readonly_arrays import lend


class _Probe:
    """Measures what `sys.getrefcount(self.data)` says of a buffer that nobody else holds, on this Python."""

    def __init__(self) -> None:
        self.data = np.zeros(1)

    def count(self) -> int:
        return sys.getrefcount(self.data)


_ALONE = _Probe().count()
# Without the GIL a reference count says nothing reliable: there every lent buffer counts as still held.
_COUNTS = bool(getattr(sys, "_is_gil_enabled", lambda: True)())


class ColumnData:
    """The values of one column by position, and a null mask where the kind needs one.

    `lent` is how far the buffer has been shown to somebody: positions past it may be written freely, those before it
    only while nobody holds a view (every view's base is the buffer itself, so its reference count tells).
    """

    def __init__(self, name: str, pg_type: str, kind: Kind, capacity: int, labels: Sequence[str] | None = None) -> None:
        self.name = name
        self.ranks = None if labels is None else {label: rank for rank, label in enumerate(labels)}
        """Of an enum: its labels' places, by which it sorts."""
        self.pg_type = pg_type
        self.kind: Kind = kind
        self.data = blank(kind, capacity)
        self.mask: Array | None = np.zeros(capacity, dtype=bool) if kind in MASKED else None
        self.nulls = False
        """Whether any value that was ever written is null, so that the mask is worth a look."""
        self.lent = 0
        self.shown: Any = None
        """The pandas array handed out last, while it is still true."""
        self._written = 0
        """How often it was written to."""
        self._arranged: tuple[int, Any] | None = None
        """What `arranged` gave last, and how often the column had been written to."""

    def _held(self) -> bool:
        if not _COUNTS:
            return True
        if sys.getrefcount(self.data) > _ALONE:
            return True
        return self.mask is not None and sys.getrefcount(self.mask) > _ALONE

    def own(self, first: int) -> None:
        """Makes positions from `first` on writable: copies the buffer if somebody may see them."""
        self.shown = None
        self._written += 1
        if first < self.lent:
            if self._held():
                self.data = self.data.copy()
                if self.mask is not None:
                    self.mask = self.mask.copy()
            self.lent = 0

    def write(self, where: Any, data: Array, mask: Array | None) -> None:
        self.data[where] = data
        if self.mask is not None:
            if mask is None:
                if self.nulls or isinstance(where, slice):  # a slice: new rows, whose places hold anything
                    self.mask[where] = False
            else:
                self.mask[where] = mask
                self.nulls = self.nulls or bool(mask.any())

    def write_null(self, where: Any) -> None:
        self.data[where] = null_of(self.kind)
        if self.mask is not None:
            self.mask[where] = True
            self.nulls = True

    def take(self, where: Any) -> tuple[Array, Array | None]:
        """A copy of the values at `where` (an index array), and of the mask if any may be null."""
        return self.data[where], None if self.mask is None or not self.nulls else self.mask[where]

    def move(self, start: int, end: int, capacity: int) -> None:
        """Moves positions [start, end) to the front of a new buffer."""
        data, mask = self.data, self.mask
        self.data = blank(self.kind, capacity)
        self.data[: end - start] = data[start:end]
        if mask is not None:
            self.mask = np.zeros(capacity, dtype=bool)
            self.mask[: end - start] = mask[start:end]
        self.lent = 0
        self.shown = None

    def squeeze(self, first: int, end: int, keep: Array) -> None:
        """Drops from positions [first, end) those that `keep` does not name, closing the gaps."""
        self.own(first)
        kept = int(keep.sum())
        self.data[first : first + kept] = self.data[first:end][keep]
        if self.data.dtype == object:
            self.data[first + kept : end] = null_of(self.kind)  # let go of what was deleted
        if self.mask is not None:
            self.mask[first : first + kept] = self.mask[first:end][keep]

    def shift(self, gaps: list[int], moves: list[tuple[int, int, int]], freed: slice) -> None:
        """Moves each [first, end) by so many places, in turn, over the `gaps`; nothing stands in `freed` afterwards."""
        self.own(0)
        objects = self.data.dtype == object
        for array in (_pointers(self.data) if objects else self.data, self.mask):
            if array is not None:
                gone = array[gaps]
                for first, end, by in moves:
                    array[first + by : end + by] = array[first:end]
                array[freed] = gone  # a rotation: so each pointer still stands once, and reference counts stay right
        if objects:
            self.data[freed] = null_of(self.kind)  # let go of what was deleted

    def arranged(self, where: Array, again: bool) -> Any:
        """A read-only pandas array of the values at `where`, for many to share. `again`: where it was last time."""
        if not again or self._arranged is None or self._arranged[0] != self._written:
            made = lend(self.kind, self.data[where], None if self.mask is None else self.mask[where])
            self._arranged = (self._written, made)
        return self._arranged[1]

    def show(self, start: int, end: int) -> Any:
        """A read-only pandas array over [start, end), without copying."""
        if self.shown is None:
            mask = None if self.mask is None else self.mask[start:end]
            self.shown = lend(self.kind, self.data[start:end], mask)
            self.lent = max(self.lent, end)
        return self.shown


def _pointers(objects: Array) -> Array:
    """The memory of an array of objects as plain numbers: moving those touches none of the objects, which takes a
    tenth of the time. Whoever writes must leave every number there as often as it was.
    """
    numbers: Any = (ctypes.c_size_t * len(objects)).from_address(objects.ctypes.data)
    return np.ctypeslib.as_array(numbers)
