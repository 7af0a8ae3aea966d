"""Text in Arrow's layout of string views, in memory that can be written to.

A value is 16 bytes: its size, then the text itself where that has at most 12 bytes, else its first four bytes and where
the whole of it stands: the number of a buffer, and an offset. Buffers are only ever appended to, so a copy of the views
reads the same texts for as long as it exists, whatever is written meanwhile.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from .base import Array

INLINE = 12
"""Bytes of a text that stand in its view."""
NULL = np.array([0, 1], dtype="uint64").view("V16")[0]
"""The view of a null: that of an empty text, but for a bit where no text has one."""
_FEW = 6  # texts: calling pyarrow costs more than it saves
_FIRST_BUFFER, _LARGEST_BUFFER = 1 << 12, 1 << 26
_SLICE = 1 << 16  # texts converted at once: what they need meanwhile stays small
_MOST = 1 << 30  # bytes in one buffer that is converted: offsets have 31 bits
_FARTHEST = (1 << 31) - 1
_SPARE = 1 << 16  # bytes: less is not worth a look


class Heap:
    """The texts that are too long for their views, in buffers that grow at the end."""

    def __init__(self) -> None:
        self.buffers: list[Array] = []
        self.size = 0
        """Bytes that were ever appended."""
        self.limit = _SPARE
        """The size at which to look whether most of it is still needed."""
        self._used = 0
        """Of these, how many in the last buffer."""

    def append(self, data: Any, count: int) -> tuple[int, int]:
        """Adds bytes; returns the buffer and the offset at which they stand."""
        if not self.buffers or self._used + count > len(self.buffers[-1]):
            room = max(count, min(max(self.size, _FIRST_BUFFER), _LARGEST_BUFFER))
            self.buffers.append(np.empty(room, dtype="uint8"))
            self._used = 0
        start = self._used
        self.buffers[-1][start : start + count] = data
        self._used += count
        self.size += count
        return len(self.buffers) - 1, start

    def close(self) -> None:
        """Leaves the buffers that there are as they are: what comes goes into others."""
        self._used = len(self.buffers[-1]) if self.buffers else 0

    def at(self, buffer: int, offset: int, size: int) -> bytes:
        """The bytes that stand there."""
        return self.buffers[buffer][offset : offset + size].tobytes()


class TextArray:
    """Texts and nulls. Indexing copies views as numpy does, a slice shares them; the heap is always shared."""

    __slots__ = ("heap", "views")

    def __init__(self, views: Array, heap: Heap) -> None:
        self.views = views
        self.heap = heap

    @classmethod
    def blank(cls, count: int) -> TextArray:
        """So many empty texts."""
        return cls(np.zeros(count, dtype="V16"), Heap())

    @classmethod
    def of(cls, values: Sequence[str | None]) -> TextArray:
        """These texts. Raises TypeError or ValueError (pyarrow's errors are such) for anything else."""
        if len(values) > _FEW:
            try:
                return cls._of_views(pa.array(values, pa.string_view()))
            except UnicodeEncodeError:  # half of a surrogate pair is no character
                values = [None if text is None else text.encode(errors="replace").decode() for text in values]
                return cls._of_views(pa.array(values, pa.string_view()))
        made, heap = bytearray(16 * len(values)), Heap()
        for at, text in zip(range(0, len(made), 16), values, strict=True):
            if text is None:
                made[at + 8] = 1
                continue
            data = text.encode(errors="replace")
            size = len(data)
            made[at : at + 4] = size.to_bytes(4, "little")
            if size <= INLINE:
                made[at + 4 : at + 4 + size] = data
            else:
                buffer, offset = heap.append(np.frombuffer(data, dtype="uint8"), size)
                made[at + 4 : at + 8] = data[:4]
                made[at + 8 : at + 12] = buffer.to_bytes(4, "little")
                made[at + 12 : at + 16] = offset.to_bytes(4, "little")
        return cls(np.frombuffer(made, dtype="V16"), heap)

    @classmethod
    def _of_views(cls, texts: pa.Array) -> TextArray:
        """The texts of an array of `string_view`."""
        heap = Heap()
        _, views, *buffers = texts.buffers()
        heap.buffers = [np.frombuffer(buffer, dtype="uint8") for buffer in buffers]
        heap.size = sum(map(len, heap.buffers))
        heap.close()
        made = np.frombuffer(views, dtype="V16")[texts.offset : texts.offset + len(texts)]
        return cls(_with_nulls(made, texts), heap)

    @classmethod
    def from_arrow(cls, texts: pa.Array) -> TextArray:
        """The texts of an array of `string` or `large_string`."""
        large = pa.types.is_large_string(texts.type)
        count = len(texts)
        if not count:
            return cls.blank(0)
        _, offsets, data = texts.buffers()
        ends = np.frombuffer(offsets, dtype="int64" if large else "int32")[texts.offset : texts.offset + count + 1]
        if int(ends[-1]) - int(ends[0]) > _MOST and count > 1:
            half = count // 2
            return cls.joined([cls.from_arrow(texts[:half]), cls.from_arrow(texts[half:])])
        if int(ends[-1]) > _FARTHEST:  # the cast refuses these offsets, however few the bytes between them
            return cls.from_arrow(texts.take(pa.array(np.arange(count))))
        sizes = np.diff(ends)
        if texts.null_count:  # the place of a null may have bytes
            sizes[texts.is_null().to_numpy(zero_copy_only=False)] = 0
        # The cast has only to fill in sizes, first letters and short texts: where the long ones stand is said below.
        made = texts.cast(pa.string_view())
        views = np.frombuffer(made.buffers()[1], dtype="V16")[made.offset : made.offset + count]
        views = _with_nulls(views, texts)
        heap, long = Heap(), np.flatnonzero(sizes > INLINE)
        if len(long):
            views = views.copy()
            total = int(sizes[long].sum())
            if 2 * total < int(ends[-1]) - int(ends[0]):  # most of the bytes are in the views
                texts = texts.filter(pa.array(sizes > INLINE))
                _, offsets, data = texts.buffers()
                ends = np.frombuffer(offsets, dtype=ends.dtype)[texts.offset : texts.offset + len(long) + 1]
                starts = ends[:-1]
            else:
                starts = ends[long]
            first, last = int(ends[0]), int(ends[-1])
            heap.append(np.frombuffer(data, dtype="uint8")[first:last], last - first)
            places = views.view("uint64").reshape(-1, 2)
            places[long, 1] = (starts - first).astype("uint64") << np.uint64(32)
        return cls(views, heap)

    @classmethod
    def joined(cls, parts: Sequence[TextArray]) -> TextArray:
        """Several arrays as one, with a heap of its own."""
        made = cls.blank(sum(map(len, parts)))
        at = 0
        for part in parts:
            made[at : at + len(part)] = part
            at += len(part)
        return made

    def __len__(self) -> int:
        return len(self.views)

    def __getitem__(self, where: Any) -> TextArray:
        return TextArray(self.views[where], self.heap)

    def __setitem__(self, where: Any, texts: TextArray | np.void) -> None:
        self.views[where] = texts if isinstance(texts, np.void) else self._adopted(texts)

    def copy(self) -> TextArray:
        return TextArray(self.views.copy(), self.heap)

    @property
    def words(self) -> Array:
        """The views as two numbers each: size and first letters, then the rest."""
        return np.ascontiguousarray(self.views).view("uint64").reshape(-1, 2)

    @property
    def sizes(self) -> Array:
        """In bytes."""
        return np.ascontiguousarray(self.views).view("int32").reshape(-1, 4)[:, 0]

    def nulls(self) -> Array:
        """Which are null."""
        words = self.words
        return (words[:, 0] == 0) & (words[:, 1] == 1)

    def tolist(self) -> list[str | None]:
        if len(self) > _FEW:
            return self._to_views().to_pylist()
        found: list[str | None] = []
        data = self.views.tobytes()
        for at in range(0, len(data), 16):
            size = int.from_bytes(data[at : at + 4], "little")
            if size > INLINE:
                buffer, offset = (int.from_bytes(data[at + i : at + i + 4], "little") for i in (8, 12))
                found.append(self.heap.at(buffer, offset, size).decode())
            else:
                found.append(None if not size and data[at + 8] else data[at + 4 : at + 4 + size].decode())
        return found

    def to_arrow(self) -> pa.Array:
        """An array of `large_string`, in memory of its own."""
        return self._to_views().cast(pa.large_string())

    def _to_views(self) -> pa.Array:
        """An array of `string_view` over our own memory."""
        bitmap = None
        if not self.sizes.min(initial=1):  # else no text is null, nor empty
            nulls = self.nulls()
            bitmap = pa.py_buffer(np.packbits(~nulls, bitorder="little")) if nulls.any() else None
        views = pa.py_buffer(np.ascontiguousarray(self.views).view("uint8"))
        buffers = [pa.py_buffer(buffer) for buffer in self.heap.buffers]
        return pa.Array.from_buffers(pa.string_view(), len(self), [bitmap, views, *buffers])

    def differ(self, other: TextArray) -> Array:
        """Which texts are not the same as those of an array of the same length; two nulls are."""
        if len(self) <= _FEW:
            pairs = zip(self.tolist(), other.tolist(), strict=True)
            return np.array([mine != theirs for mine, theirs in pairs], dtype=bool)
        mine, theirs = self.words, other.words
        differs = mine[:, 0] != theirs[:, 0]
        rest = mine[:, 1] != theirs[:, 1]
        long = self.sizes > INLINE
        if not long.any():
            return differs | rest
        # Long texts of one size that begin alike: unless they stand in the same place, only a look at them tells.
        open_ = long & ~differs
        if self.heap is other.heap:
            open_ &= rest
        differs |= rest & ~long
        places = np.flatnonzero(open_)
        if len(places):
            unlike = pc.not_equal(self[places].to_arrow(), other[places].to_arrow())
            differs[places] = unlike.to_numpy(zero_copy_only=False)
        return differs

    def compacted(self) -> TextArray:
        """The same with a heap that holds these texts only."""
        return TextArray.joined(
            [TextArray.from_arrow(self[at : at + _SLICE].to_arrow()) for at in range(0, len(self), _SLICE)]
        )

    def compact(self, start: int, end: int) -> None:
        """Drops what [start, end) does not need from the heap, if that is more than half of it. Nothing else may be
        read afterwards."""
        if self.heap.size <= self.heap.limit:
            return
        here = self[start:end]
        if self.heap.size > 2 * here.live_bytes() + _SPARE:
            made = here.compacted()
            self.views[start:end] = made.views
            self.heap = made.heap
        self.heap.limit = 2 * self.heap.size + _SPARE

    def live_bytes(self) -> int:
        """Bytes of the heap that these texts need."""
        sizes = self.sizes
        return int(sizes[sizes > INLINE].sum(dtype="int64"))

    def _adopted(self, texts: TextArray) -> Array:
        """The views of these texts, which stand in our heap afterwards."""
        if texts.heap is self.heap or not texts.heap.buffers:
            return texts.views
        live = texts.live_bytes()
        if not live:
            return texts.views
        if texts.heap.size > 2 * live + _SPARE:
            texts = TextArray.from_arrow(texts.to_arrow())
        source, views = texts.heap, texts.views.copy()
        words, fields = views.view("uint64").reshape(-1, 2), views.view("int32").reshape(-1, 4)
        long = np.flatnonzero(fields[:, 0] > INLINE)
        if len(long) <= _FEW:
            for at in long.tolist():
                size, _, buffer, offset = fields[at].tolist()
                buffer, start = self.heap.append(source.buffers[buffer][offset : offset + size], size)
                words[at, 1] = buffer | start << 32
            return views
        buffers = fields[long, 2]
        for number in range(len(source.buffers)):
            here = long if len(source.buffers) == 1 else long[buffers == number]
            if len(here):
                offsets, sizes = fields[here, 3], fields[here, 0]
                first, last = int(offsets.min()), int((offsets.astype("int64") + sizes).max())
                buffer, start = self.heap.append(source.buffers[number][first:last], last - first)
                offsets = (offsets - first + start).astype("uint64")
                words[here, 1] = np.uint64(buffer) | (offsets << np.uint64(32))
        return views


def _with_nulls(views: Array, texts: pa.Array) -> Array:
    """The views of these texts, with our own where one is null."""
    if not texts.null_count:
        return views
    return np.where(texts.is_null().to_numpy(zero_copy_only=False), NULL, views)
