"""From the keys of a table's rows to their slots and back, many at a time, in the form that suits the keys best.

Whole numbers close to each other, as serial ids are, stand in two arrays (15 bytes a row); uuids in a hash table of
numpy's (30 bytes a row); all others in a dict (200 bytes a row). In the arrays many keys are looked up at once, where a
dict costs several cache misses for each.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from itertools import repeat
from typing import Any, Protocol

import numpy as np

from .column_kinds import Array, kind_named
from .delta import Key

_SPARE = 4096
_SPARSE = 4  # places of the array a key: past this it is not worth its memory
_EMPTY, _GONE = -1, -2  # places of a hash table: never used, and of a key that went
_MIX, _WORD = 0x9E37_79B9_7F4A_7C15, 2**64 - 1
_UUID = kind_named("uuid")
_UUID_SIZE, _DASHES = 36, [8, 13, 18, 23]  # of its text
_FEW = 8  # keys: preparing many at once costs more than it saves


class SlotMap(Protocol):
    """The slots of the keys of one form."""

    def get(self, key: Key) -> int | None:
        """The slot of a key; None for an unknown one."""
        ...

    def find(self, keys: Sequence[Key] | Array) -> Array:
        """The slots of these keys, -1 for unknown ones."""
        ...

    def key(self, slot: int) -> Key:
        """The key of a slot in use."""
        ...

    def keys(self, slots: Array) -> list[Key]:
        """The keys of slots in use."""
        ...

    def put(self, keys: Sequence[Key] | Array, slots: Array, end: int, count: int) -> bool:
        """Gives new keys these slots, all of which are below `end`; `count` keys are known then. False, and nothing
        done, where a key is not of this form."""
        ...

    def remove(self, key: Key, slot: int) -> None:
        """Forgets a key."""
        ...

    def __iter__(self) -> Iterator[Key]: ...


class DenseSlots:
    """Of whole numbers close to each other."""

    def __init__(self) -> None:
        self._slots: Array = np.full(0, -1, dtype=np.int32)
        """Slots by key, from `_base` on; -1 where there is none."""
        self._base = 0
        self._keys: Array = np.zeros(0, dtype=np.int64)
        """Keys by slot."""

    def __iter__(self) -> Iterator[Key]:
        return iter((np.flatnonzero(self._slots >= 0) + self._base).tolist())

    def get(self, key: Key) -> int | None:
        at = _place(key, self._base, len(self._slots))
        if at is None:
            return None
        slot = self._slots.item(at)
        return slot if slot >= 0 else None

    def find(self, keys: Sequence[Key] | Array) -> Array:
        numbers = numbers_of(keys)
        if not len(self._slots):
            return np.full(len(keys), -1, dtype=np.int64)
        if numbers is None:
            return np.fromiter((-1 if (slot := self.get(key)) is None else slot for key in keys), np.int64, len(keys))
        at = numbers - self._base
        inside = (at >= 0) & (at < len(self._slots))
        if inside.all():
            return self._slots[at].astype(np.int64)
        return np.where(inside, self._slots[np.where(inside, at, 0)], -1)

    def key(self, slot: int) -> Key:
        return self._keys.item(slot)

    def keys(self, slots: Array) -> list[Key]:
        return self._keys[slots].tolist()

    def put(self, keys: Sequence[Key] | Array, slots: Array, end: int, count: int) -> bool:
        numbers = self._cover(keys, count)
        if numbers is None:
            return False
        self._keys = _wider(self._keys, end)
        self._slots[numbers - self._base] = slots
        self._keys[slots] = numbers
        return True

    def remove(self, key: Key, slot: int) -> None:
        self._slots[int(key) - self._base] = -1

    def _cover(self, keys: Sequence[Key] | Array, count: int) -> Array | None:
        """The keys as numbers, with the array wide enough for them; None where they do not suit it."""
        numbers, old = numbers_of(keys), self._slots
        if numbers is None or not len(numbers):
            return None
        first, last = int(numbers.min()), int(numbers.max())
        if len(old):
            if self._base <= first and last < self._base + len(old):
                return numbers
            first, last = min(first, self._base), max(last, self._base + len(old) - 1)
        span = last - first + 1
        if span > _SPARSE * count + _SPARE or first < -(2**62) or last >= 2**62:
            return None
        # Serial keys grow upwards: spare room makes growing a constant cost per insert.
        wide = np.full(span + span // 4 + _SPARE // 4, -1, dtype=np.int32 if span < 2**30 else np.int64)
        at = self._base - first
        wide[at : at + len(old)] = old
        self._base, self._slots = first, wide
        return numbers


class UuidSlots:
    """Of uuids, as Postgres writes them: an open hash table of slots, beside the keys by slot.

    A key stands at the place that its hash says, or at the next one that was free. At most half of the places are used.
    """

    def __init__(self) -> None:
        self._table: Array = np.full(0, _EMPTY, dtype=np.int32)
        self._used = 0
        """Places that are not empty, at most: one of a key that went may have been used again."""
        self._keys: Array = np.zeros(0, dtype=_UUID.storage)

    def __iter__(self) -> Iterator[Key]:
        return iter(self.keys(self._table[self._table >= 0]))

    def get(self, key: Key) -> int | None:
        if type(key) is not str or len(key) != _UUID_SIZE or not len(self._table):
            return None
        digits = key.replace("-", "")
        if len(digits) != 32 or not key[8] == key[13] == key[18] == key[23] == "-" or digits != digits.lower():
            return None
        try:
            data = bytes.fromhex(digits)
        except ValueError:
            return None
        first, second = int.from_bytes(data[:8], sys.byteorder), int.from_bytes(data[8:], sys.byteorder)
        mask = len(self._table) - 1
        at = (((first ^ (second * _MIX & _WORD)) * _MIX & _WORD) >> 32) & mask
        slot = self._walk(data, at)
        return slot if slot >= 0 else None

    def find(self, keys: Sequence[Key] | Array) -> Array:
        data = uuids_of(keys) if len(keys) > _FEW else None
        if data is not None:
            return self._find(data)
        return np.fromiter((-1 if (slot := self.get(key)) is None else slot for key in keys), np.int64, len(keys))

    def key(self, slot: int) -> Key:
        return self.keys(np.array([slot]))[0]

    def keys(self, slots: Array) -> list[Key]:
        return _UUID.to_python(self._keys[slots], None)

    def put(self, keys: Sequence[Key] | Array, slots: Array, end: int, count: int) -> bool:
        data = uuids_of(keys)
        if data is None or not len(data):
            return False
        self._keys = _wider(self._keys, end)
        self._keys[slots] = data
        if 2 * (self._used + len(data)) > len(self._table):
            known = self._table[self._table >= 0]
            self._table = np.full(1 << max(5 * count // 2, 512).bit_length(), _EMPTY, dtype=np.int32)
            self._used = 0
            self._insert(known)
        self._insert(slots)
        return True

    def remove(self, key: Key, slot: int) -> None:
        mask = len(self._table) - 1
        at = int(_hashes(self._keys[[slot]], mask)[0])
        while self._table.item(at) != slot:
            at = (at + 1) & mask
        self._table[at] = _GONE

    def _insert(self, slots: Array) -> None:
        """Enters slots whose keys are not in the table."""
        self._used += len(slots)
        mask = len(self._table) - 1
        at = _hashes(self._keys[slots], mask)
        while len(slots):
            free = np.flatnonzero(self._table[at] < 0)
            self._table[at[free]] = slots[free]  # of several at one place, one wins
            rest = self._table[at] != slots
            slots, at = slots[rest], (at[rest] + 1) & mask

    def _find(self, data: Array) -> Array:
        found = np.full(len(data), -1, dtype=np.int64)
        if not len(self._table):
            return found
        mask = len(self._table) - 1
        words = data.view("uint64").reshape(-1, 2)
        firsts, at = words[:, 0], _hashes(data, mask)
        left = np.arange(len(data))
        while len(left) > _FEW:
            slots = self._table[at]
            near = self._keys[slots].view("uint64").reshape(-1, 2)
            same = (near[:, 0] == firsts[left]) & (near[:, 1] == words[left, 1]) & (slots >= 0)
            found[left[same]] = slots[same]
            on = np.flatnonzero(~same & (slots != _EMPTY))
            left, at = left[on], (at[on] + 1) & mask
        for one, place in zip(left.tolist(), at.tolist(), strict=True):
            found[one] = self._walk(data.item(one), place)
        return found

    def _walk(self, data: bytes, at: int) -> int:
        """The slot of a key, from this place on; -1 for an unknown one."""
        mask = len(self._table) - 1
        while (slot := self._table.item(at)) != _EMPTY:
            if slot >= 0 and self._keys.item(slot) == data:
                return slot
            at = (at + 1) & mask
        return -1


class DictSlots:
    """Of any keys."""

    def __init__(self) -> None:
        self._slots: dict[Key, int] = {}
        self._keys: list[Key] = []

    def __iter__(self) -> Iterator[Key]:
        return iter(self._slots)

    def get(self, key: Key) -> int | None:
        return self._slots.get(key)

    def find(self, keys: Sequence[Key] | Array) -> Array:
        listed: Sequence[Key] = keys.tolist() if isinstance(keys, np.ndarray) else keys
        return np.fromiter(map(self._slots.get, listed, repeat(-1)), np.int64, len(keys))

    def key(self, slot: int) -> Key:
        return self._keys[slot]

    def keys(self, slots: Array) -> list[Key]:
        keys = self._keys
        return [keys[slot] for slot in slots.tolist()]

    def put(self, keys: Sequence[Key] | Array, slots: Array, end: int, count: int) -> bool:
        if end > len(self._keys):
            self._keys.extend(repeat(None, end - len(self._keys)))
        known, listed, keys = self._keys, slots.tolist(), _packed(keys)
        for slot, key in zip(listed, keys, strict=True):
            known[slot] = key
        self._slots.update(zip(keys, listed, strict=True))
        return True

    def remove(self, key: Key, slot: int) -> None:
        del self._slots[key]
        self._keys[slot] = None


def numbers_of(keys: Sequence[Key] | Array) -> Array | None:
    """The keys as an array, if all are Python integers that fit."""
    if isinstance(keys, np.ndarray):
        return keys
    if set(map(type, keys)) != {int}:
        return None
    try:
        return np.fromiter(keys, np.int64, len(keys))
    except OverflowError:
        return None


def uuids_of(keys: Sequence[Key] | Array) -> Array | None:
    """The keys as storage of uuids, if all are such in the form in which Postgres writes them."""
    if isinstance(keys, np.ndarray) or not keys:
        return None
    try:
        text = "".join(keys)
        letters = np.frombuffer(text.encode("ascii"), dtype="uint8")
        digits = text.replace("-", "")
        data = bytes.fromhex(digits)
    except (TypeError, ValueError):
        return None
    count = len(keys)
    if len(letters) != _UUID_SIZE * count or len(data) != 16 * count or digits != digits.lower():
        return None
    # There are four dashes a key: where each key has them in their places, nothing else is one.
    if len(digits) != 32 * count or not (letters.reshape(count, _UUID_SIZE)[:, _DASHES] == ord("-")).all():
        return None
    return np.frombuffer(data, dtype=_UUID.storage) if set(map(len, keys)) == {_UUID_SIZE} else None


def _hashes(data: Array, mask: int) -> Array:
    """A place in the table for each of these uuids."""
    words = np.ascontiguousarray(data).view("uint64").reshape(-1, 2)
    mixed = (words[:, 0] ^ (words[:, 1] * np.uint64(_MIX))) * np.uint64(_MIX)
    return ((mixed >> np.uint64(32)) & np.uint64(mask)).astype(np.int64)


def _wider(keys: Array, end: int) -> Array:
    """The same array with room for `end` keys, and some more."""
    if end <= len(keys):
        return keys
    wide = np.zeros(max(end * 5 // 4, 64), dtype=keys.dtype)
    wide[: len(keys)] = keys
    return wide


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
    numbers = numbers_of(keys) if len(keys) >= 10_000 else None
    return keys if numbers is None else numbers.tolist()
