"""One column's memory: a typed buffer with room to grow, shared with frames and Arrow tables without copying.

A part that a frame or a table still shows is copied before it changes. What cannot be shared, since pandas or Arrow has
it in another layout (text, booleans, Python objects), is converted part by part, and the parts are kept.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from .chunks import Chunks, spans
from .column_kinds import Array, ColumnKind, Data, Values
from .dataframes import series_of
from .kinds.strings import TextArray
from .readonly_arrays import COPY_ON_WRITE, readonly_array, readonly_text

# Without the GIL a reference count says nothing reliable: there every shared buffer counts as still in use.
_COUNTS = bool(getattr(sys, "_is_gil_enabled", lambda: True)())
_BLOCK = 1 << 15  # rows that are moved at once: the copy that numpy makes of them stays in the cache


class ColumnData:
    """The values of one column by position, and a null mask where the kind needs one.

    Frames see the buffer through `_owner`, a Series over all of it. pandas copies a column before it writes to it as
    long as another Series shares its memory, and this one does for as long as the buffer is ours. `_shared` is how far
    frames and Arrow arrays have been shown the buffer: positions past it may be written freely, those before it only
    when no frame and no array is left (each of them refers to the buffer, so its reference count tells).
    """

    def __init__(self, name: str, pg_type: str, kind: ColumnKind, capacity: int) -> None:
        self.name = name
        self.pg_type = pg_type
        self.kind = kind
        self._storage = kind.storage
        self.data: Data = kind.blank(capacity)
        self.mask: Array | None = np.zeros(capacity, dtype=bool) if kind.masked else None
        self.nulls = False
        """Whether any value that was ever written is null, so that the mask is worth a look."""
        self._showable = True
        """Whether frames can show every value that was ever written as it is stored."""
        self._shared = 0
        self._owner: Any = None
        self._alone = self._counts()
        """The reference counts of data and mask while no frame is left."""
        self._layout: object = None
        """The kind's layout when the owner was made."""
        self._shown: Any = None
        """The Series handed out last, while it is still true."""
        self._written = 0
        """How often it was written to."""
        self._arranged: tuple[int, Any] | None = None
        """What `arranged` gave last, and how often the column had been written to."""
        self._lent: tuple[object, list[pa.Array]] | None = None
        """The Arrow arrays over our own memory that were handed out last, and of what: while they are still true."""
        self._chunks = Chunks()
        """The Arrow arrays that were converted."""

    # -- values -------------------------------------------------------------------------------------------------------

    def values(self, where: Any) -> Values:
        """A copy of the values at `where` (an index array), and of the mask if any may be null."""
        return self.data[where], None if self.mask is None or not self.nulls else self.mask[where]

    def write(self, where: Any, data: Data, mask: Array | None) -> None:
        """Writes values in storage form; call `own` first."""
        self.data[where] = data
        self._chunks.mark(where)
        self._showable = self._showable and self.kind.showable(data)
        if self.mask is not None:
            if mask is None:
                if self.nulls or isinstance(where, slice):  # a slice: new rows, whose places hold anything
                    self.mask[where] = False
            else:
                self.mask[where] = mask
                self.nulls = self.nulls or bool(mask.any())

    def write_null(self, where: Any) -> None:
        self.data[where] = self.kind.null
        self._chunks.mark(where)
        if self.mask is not None:
            self.mask[where] = True
            self.nulls = True

    def clear(self, end: int) -> None:
        """Forgets the values before `end`."""
        self.own(0)
        if isinstance(self.data, TextArray):
            self.data = self.kind.blank(len(self.data))
        self.write_null(slice(0, end))
        self.nulls = False
        self._chunks.clear()

    # -- memory -------------------------------------------------------------------------------------------------------

    def own(self, first: int) -> None:
        """Makes positions from `first` on writable: copies the buffer if a frame still shows them."""
        self._shown = self._lent = None
        self._written += 1
        if self._storage is not self.kind.storage:  # an enum has got more labels than its codes were made for
            self._storage = self.kind.storage
            self._replace(self.data.astype(self._storage), self.mask)
        if first < self._shared:
            if self._in_use():
                self._copy()
            self._shared = 0

    def forget(self) -> None:
        """Lets go of what was shown last: the rows stand elsewhere now."""
        self._shown = self._lent = None

    def _in_use(self) -> bool:
        return not _COUNTS or self._counts() > self._alone

    def _counts(self) -> tuple[int, int]:
        return sys.getrefcount(self.data), 0 if self.mask is None else sys.getrefcount(self.mask)

    def _copy(self) -> None:
        self._replace(self.data.copy(), None if self.mask is None else self.mask.copy())

    def _replace(self, data: Data, mask: Array | None) -> None:
        self.data, self.mask = data, mask
        self._owner = self._shown = self._lent = None
        self._shared = 0
        self._alone = self._counts()

    def move(self, start: int, end: int, capacity: int) -> None:
        """Moves positions [start, end) to the front of a new buffer."""
        data = self.kind.blank(capacity)
        if isinstance(data, TextArray):
            data.heap = self.data.heap
        data[: end - start] = self.data[start:end]
        mask = None
        if self.mask is not None:
            mask = np.zeros(capacity, dtype=bool)
            mask[: end - start] = self.mask[start:end]
        self._replace(data, mask)
        self._chunks.move(-start)

    def compact(self, start: int, end: int) -> None:
        """Frees the memory of texts that positions [start, end) no longer have, where that is most of it."""
        if isinstance(self.data, TextArray):
            self.data.compact(start, end)

    def squeeze(self, first: int, end: int, keep: Array) -> None:
        """Drops from positions [first, end) those that `keep` does not name, closing the gaps."""
        self.own(first)
        kept = int(keep.sum())
        self.data[first : first + kept] = self.data[first:end][keep]
        self._release(slice(first + kept, end))
        if self.mask is not None:
            self.mask[first : first + kept] = self.mask[first:end][keep]
        self._chunks.mark(slice(first, end))

    def shift(self, moves: list[tuple[int, int, int]], freed: slice, gaps: list[int], start: int) -> None:
        """Closes these gaps: moves each [first, end) by so many places, in turn; nothing stands in `freed` afterwards,
        and the first row `start` positions further on."""
        self.own(0)
        for array in (self.data, self.mask):
            if array is not None:
                for first, end, by in moves:
                    _move(array, first, end, by)
        self._release(freed)
        self._chunks.remove(gaps, start)

    def _release(self, freed: slice) -> None:
        """Lets go of the objects and texts that were deleted."""
        if self.kind.storage in ("object", "text"):
            self.data[freed] = self.kind.null

    # -- frames and Arrow arrays --------------------------------------------------------------------------------------

    def show(self, start: int, end: int, index: pd.RangeIndex) -> Any:
        """A Series over [start, end), without copying where pandas allows that."""
        self._follow_layout()
        if self._shown is not None and self._shown.index is index:
            return self._shown
        if self.kind.in_arrow or isinstance(self.data, TextArray):
            rows = slice(start, end)
            made = self._of_arrow(start, end, index) if self.kind.in_arrow else self._copied(rows, index)
            self._shown = made if COPY_ON_WRITE else None
            return made
        if not self._showable or (not COPY_ON_WRITE and not self.kind.shareable):
            return self._copied(slice(start, end), index)
        if COPY_ON_WRITE:
            self._shown = self._of_owner().iloc[start:end].set_axis(index)
        else:
            self._shown = series_of(readonly_array(self.kind, self.data[start:end], None), index)
        self._shared = max(self._shared, end)
        return self._shown

    def arranged(self, where: Array, again: bool, index: pd.RangeIndex) -> Any:
        """A Series of the values at `where`, for many frames to share. `again`: where it was last time."""
        if not COPY_ON_WRITE and not self.kind.shareable:
            return self._copied(where, index)
        if not again or self._arranged is None or self._arranged[0] != self._written:
            self._arranged = (self._written, self._copied(where, index))
        return self._arranged[1]

    def arrow(self, start: int, end: int) -> list[pa.Array]:
        """Arrow arrays of [start, end), without copying where the layouts are the same. Raises ValueError."""
        if not self.kind.borrowed:
            return self._chunks.arrays(start, end, self._converted)
        self._follow_layout()
        what = start, end, self.kind.layout
        if self._lent is None or self._lent[0] != what:
            if COPY_ON_WRITE:
                self._of_owner()  # counts the references that are our own, before others come
            self._shared = max(self._shared, end)
            self._lent = what, [self._converted(first, last) for first, last in spans(start, end)]
        return self._lent[1]

    def arrow_at(self, where: Array) -> list[pa.Array]:
        """Arrow arrays of the values at `where`, in memory of their own."""
        return [self.kind.to_arrow(*self.values(where[first:last])) for first, last in spans(0, len(where))]

    def _converted(self, start: int, end: int) -> pa.Array:
        mask = None if self.mask is None or not self.nulls else self.mask[start:end]
        return self.kind.to_arrow(self.data[start:end], mask)

    def _of_arrow(self, start: int, end: int, index: pd.RangeIndex) -> Any:
        return series_of(readonly_text(self.arrow(start, end)), index)

    def _follow_layout(self) -> None:
        """Lets what was handed out go on showing the old layout."""
        if self._owner is not None and self._layout != self.kind.layout:
            self._copy()

    def _of_owner(self) -> Any:
        if self._owner is None or self._layout != self.kind.layout:
            self._layout = self.kind.layout
            self._owner = series_of(readonly_array(self.kind, self.data, self.mask))
            self._alone = self._counts()
        return self._owner

    def _copied(self, where: Any, index: pd.RangeIndex) -> Any:
        data, mask = self.data[where], None if self.mask is None else self.mask[where]
        data = data.copy() if self._showable else self.kind.shown(data)
        mask = None if mask is None else mask.copy()
        shared = COPY_ON_WRITE or self.kind.shareable
        return series_of((readonly_array if shared else type(self.kind).to_pandas)(self.kind, data, mask), index)


def _move(array: Data, first: int, end: int, by: int) -> None:
    """Moves [first, end) of an array by so many places, block by block."""
    starts = range(first, end, _BLOCK)
    for at in starts if by < 0 else reversed(starts):
        last = min(at + _BLOCK, end)
        array[at + by : last + by] = array[at:last]
