"""From a row's key to its slot, many at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import repeat

import numpy as np

from .delta import Key
from .types import Array

_SPARE = 4096
_SPARSE = 4  # slots of the array a key: past this it is not worth its memory


class Index:
    """A dict from key to slot. While the keys are integers that lie close together, as serial ids do, an array beside
    it answers for many keys at once: on a million rows a dict costs several cache misses a key, one after the other.
    """

    def __init__(self) -> None:
        self._slots: dict[Key, int] = {}
        self._dense: Array | None = None
        self._base = 0

    def __len__(self) -> int:
        return len(self._slots)

    def __contains__(self, key: Key) -> bool:
        return key in self._slots

    def __iter__(self) -> Iterator[Key]:
        return iter(self._slots)

    def __getitem__(self, key: Key) -> int:
        return self._slots[key]

    def get(self, key: Key) -> int | None:
        return self._slots.get(key)

    def find(self, keys: Sequence[Key]) -> Array:
        """Slots of the keys, -1 where there is none."""
        dense = self._dense
        if dense is not None and set(map(type, keys)) == {int}:
            try:
                at = np.fromiter(keys, np.int64, len(keys)) - self._base
            except OverflowError:
                pass
            else:
                inside = (at >= 0) & (at < len(dense))
                return dense[at] if inside.all() else np.where(inside, dense[np.where(inside, at, 0)], -1)
        return np.fromiter(map(self._slots.get, keys, repeat(-1)), np.int64, len(keys))

    def add(self, keys: Sequence[Key], slots: Sequence[int]) -> None:
        """New keys, none of which is here yet."""
        if self._dense is not None or not self._slots:
            self._dense = self._cover(keys)
            if self._dense is not None:
                self._dense[np.fromiter(keys, np.int64, len(keys)) - self._base] = slots
        self._slots.update(zip(keys, slots, strict=True))

    def pop(self, key: Key) -> int:
        slot = self._slots.pop(key)
        if self._dense is not None:
            self._dense[key - self._base] = -1
        return slot

    def clear(self) -> None:
        self._slots.clear()
        self._dense = None

    def _cover(self, keys: Sequence[Key]) -> Array | None:
        """The array, wide enough for these keys too; None where they do not suit it."""
        if set(map(type, keys)) != {int}:
            return None
        old = self._dense
        first, last = min(keys), max(keys)
        if old is not None:
            if self._base <= first and last < self._base + len(old):
                return old
            first, last = min(first, self._base), max(last, self._base + len(old) - 1)
        span = last - first + 1
        if span > _SPARSE * (len(self._slots) + len(keys)) + _SPARE or first < -(2**62) or last >= 2**62:
            return None
        # Serial keys grow upwards: room for as many again, so that growing costs a constant share of each insert.
        wide = np.full(span + span // 4 + _SPARE // 4, -1, dtype=np.int32 if span < 2**30 else np.int64)
        if old is not None:
            at = self._base - first
            wide[at : at + len(old)] = old
        self._base = first
        return wide


def packed(keys: list[Key]) -> list[Key]:
    """The same keys; where they are many integers, copies that lie together.

    Those of a snapshot lie scattered between all its other values, and would hold on to the memory of all of them:
    400 bytes a row, measured on a million.
    """
    if len(keys) < 10_000 or set(map(type, keys)) != {int}:
        return keys
    try:
        return np.fromiter(keys, np.int64, len(keys)).tolist()
    except OverflowError:
        return keys
