"""The slots of a table's rows: from key to slot and back, many at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import repeat
from typing import Any

import numpy as np

from .column_kinds import Array
from .delta import Key

_SPARE = 4096
_SPARSE = 4  # places of the array a key: past this it is not worth its memory


class Index:
    """Gives each key a slot for as long as the table has the key; a free slot is given to the next key.

    While all keys are integers close together, as serial ids are, they are in two arrays: 15 bytes a row where a dict
    needs 200, and many keys are looked up at once, where a dict costs several cache misses for each. With the first
    other key they move into a dict and a list.
    """

    def __init__(self) -> None:
        self._count = 0
        self._free: list[int] = []
        self._end = 0
        """Every slot is below this."""
        self._slots: dict[Key, int] = {}
        self._keys: list[Key] = []
        self._dense: Array | None = None
        """Slots by key, from `_base` on; -1 where there is none. None: it is a dict."""
        self._base = 0
        self._by_slot: Array = np.zeros(0, dtype=np.int64)

    def __len__(self) -> int:
        return self._count

    def __contains__(self, key: Key) -> bool:
        return self.get(key) is not None

    def __getitem__(self, key: Key) -> int:
        slot = self.get(key)
        if slot is None:
            raise KeyError(key)
        return slot

    def __iter__(self) -> Iterator[Key]:
        if self._dense is None:
            return iter(self._slots)
        return iter((np.flatnonzero(self._dense >= 0) + self._base).tolist())

    @property
    def end(self) -> int:
        """Every slot is below this."""
        return self._end

    def get(self, key: Key) -> int | None:
        dense = self._dense
        if dense is None:
            return self._slots.get(key)
        at = _place(key, self._base, len(dense))
        if at is None:
            return None
        slot = dense.item(at)
        return slot if slot >= 0 else None

    def find(self, keys: Sequence[Key] | Array) -> Array:
        """The slots of these keys, -1 for unknown ones. Here and in `add`, whole numbers may be an array of int64."""
        dense = self._dense
        if dense is None:
            listed: Sequence[Key] = keys.tolist() if isinstance(keys, np.ndarray) else keys
            return np.fromiter(map(self._slots.get, listed, repeat(-1)), np.int64, len(keys))
        numbers = _numbers(keys)
        if numbers is None:
            return np.fromiter((-1 if (slot := self.get(key)) is None else slot for key in keys), np.int64, len(keys))
        at = numbers - self._base
        inside = (at >= 0) & (at < len(dense))
        if inside.all():
            return dense[at].astype(np.int64)
        return np.where(inside, dense[np.where(inside, at, 0)], -1)

    def key(self, slot: int) -> Key:
        """The key of a slot in use."""
        return self._keys[slot] if self._dense is None else self._by_slot.item(slot)

    def keys(self, slots: Array) -> list[Key]:
        """The keys of slots in use."""
        if self._dense is not None:
            return self._by_slot[slots].tolist()
        keys = self._keys
        return [keys[slot] for slot in slots.tolist()]

    def add(self, keys: Sequence[Key] | Array) -> Array:
        """Gives slots to new keys, none of which is known yet."""
        count, free = len(keys), self._free
        reused = [free.pop() for _ in range(min(len(free), count))]
        fresh = count - len(reused)
        slots = np.arange(self._end, self._end + fresh)
        if reused:
            slots = np.concatenate([np.array(reused, dtype=np.int64), slots])
        self._end += fresh
        self._count += count
        self._put(keys, slots)
        return slots

    def pop(self, key: Key) -> int:
        slot = self[key]
        self._remove(key, slot)
        self._free.append(slot)
        self._count -= 1
        return slot

    def rename(self, old: Key, new: Key) -> int:
        """Gives a key's slot to another key; returns it."""
        slot = self[old]
        self._remove(old, slot)
        self._put([new], np.array([slot]))
        return slot

    def clear(self) -> None:
        self.__init__()

    def _put(self, keys: Sequence[Key] | Array, slots: Array) -> None:
        if self._dense is not None or self._count == len(keys):
            numbers = self._cover(keys)
            if numbers is not None and self._dense is not None:
                if self._keys:
                    self._slots, self._keys = {}, []
                if self._end > len(self._by_slot):
                    wide = np.zeros(max(self._end * 5 // 4, 64), dtype=np.int64)
                    wide[: len(self._by_slot)] = self._by_slot
                    self._by_slot = wide
                self._dense[numbers - self._base] = slots
                self._by_slot[slots] = numbers
                return
            self._to_dict()
        if self._end > len(self._keys):
            self._keys.extend(repeat(None, self._end - len(self._keys)))
        known = self._keys
        listed = slots.tolist()
        keys = _packed(keys)
        for slot, key in zip(listed, keys, strict=True):
            known[slot] = key
        self._slots.update(zip(keys, listed, strict=True))

    def _remove(self, key: Key, slot: int) -> None:
        if self._dense is None:
            del self._slots[key]
            self._keys[slot] = None
        else:
            self._dense[int(key) - self._base] = -1

    def _to_dict(self) -> None:
        dense, self._dense = self._dense, None
        if dense is None:
            return
        at = np.flatnonzero(dense >= 0)
        self._slots = dict(zip((at + self._base).tolist(), dense[at].tolist(), strict=True))
        self._keys = [None] * self._end
        for key, slot in self._slots.items():
            self._keys[slot] = key
        self._by_slot = np.zeros(0, dtype=np.int64)

    def _cover(self, keys: Sequence[Key] | Array) -> Array | None:
        """The keys as numbers, with the array wide enough for them; None where they do not suit it."""
        numbers = _numbers(keys)
        if numbers is None or not len(numbers):
            return None
        old = self._dense
        first, last = int(numbers.min()), int(numbers.max())
        if old is not None:
            if self._base <= first and last < self._base + len(old):
                return numbers
            first, last = min(first, self._base), max(last, self._base + len(old) - 1)
        span = last - first + 1
        if span > _SPARSE * (self._count + len(keys)) + _SPARE or first < -(2**62) or last >= 2**62:
            return None
        # Serial keys grow upwards: spare room makes growing a constant cost per insert.
        wide = np.full(span + span // 4 + _SPARE // 4, -1, dtype=np.int32 if span < 2**30 else np.int64)
        if old is not None:
            at = self._base - first
            wide[at : at + len(old)] = old
        self._base, self._dense = first, wide
        return numbers


def _numbers(keys: Sequence[Key] | Array) -> Array | None:
    """The keys as an array, if all are Python integers that fit."""
    if isinstance(keys, np.ndarray):
        return keys
    if set(map(type, keys)) != {int}:
        return None
    try:
        return np.fromiter(keys, np.int64, len(keys))
    except OverflowError:
        return None


def _place(key: Any, base: int, size: int) -> int | None:
    """Where in the array a key stands. What equals an integer counts as one, as in a dict."""
    if type(key) is not int:
        try:
            if key != int(key):
                return None
            key = int(key)
        except (TypeError, ValueError, OverflowError):
            return None
    at = key - base
    return at if 0 <= at < size else None


def _packed(keys: Sequence[Key] | Array) -> Sequence[Key]:
    """The same keys; of many integers, copies next to each other.

    Those of a snapshot are scattered among its other values and would keep all of that memory from being freed: 400
    bytes a row, measured on a million.
    """
    if isinstance(keys, np.ndarray):
        return keys.tolist()
    numbers = _numbers(keys) if len(keys) >= 10_000 else None
    return keys if numbers is None else numbers.tolist()
