"""The slots of a table's rows: from key to slot and back, many at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from .column_kinds import Array
from .delta import Key
from .slot_maps import DenseSlots, DictSlots, SlotMap, UuidSlots


class Index:
    """Gives each key a slot for as long as the table has the key; a free slot is given to the next key.

    The first keys say in which form they are kept (`slot_maps`); with the first key of another sort, all move into a
    dict.
    """

    def __init__(self) -> None:
        self._count = 0
        self._free: list[int] = []
        self._end = 0
        self._map: SlotMap = DenseSlots()

    def __len__(self) -> int:
        return self._count

    def __contains__(self, key: Key) -> bool:
        return self._map.get(key) is not None

    def __getitem__(self, key: Key) -> int:
        slot = self._map.get(key)
        if slot is None:
            raise KeyError(key)
        return slot

    def __iter__(self) -> Iterator[Key]:
        return iter(self._map)

    @property
    def end(self) -> int:
        """Every slot is below this."""
        return self._end

    def get(self, key: Key) -> int | None:
        return self._map.get(key)

    def find(self, keys: Sequence[Key] | Array) -> Array:
        """The slots of these keys, -1 for unknown ones. Here and in `add`, whole numbers may be an array of int64."""
        return self._map.find(keys)

    def key(self, slot: int) -> Key:
        """The key of a slot in use."""
        return self._map.key(slot)

    def keys(self, slots: Array) -> list[Key]:
        """The keys of slots in use."""
        return self._map.keys(slots)

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
        self._map.remove(key, slot)
        self._free.append(slot)
        self._count -= 1
        return slot

    def rename(self, old: Key, new: Key) -> int:
        """Gives a key's slot to another key; returns it."""
        slot = self[old]
        self._map.remove(old, slot)
        self._put([new], np.array([slot]))
        return slot

    def clear(self) -> None:
        self.__init__()

    def _put(self, keys: Sequence[Key] | Array, slots: Array) -> None:
        forms: list[type[SlotMap]] = [DenseSlots, UuidSlots] if self._count == len(keys) else []
        if self._map.put(keys, slots, self._end, self._count):
            return
        for form in forms:  # nothing else is known: any form will do
            self._map = form()
            if self._map.put(keys, slots, self._end, self._count):
                return
        before = list(self._map)
        known = self._map.find(before)
        self._map = DictSlots()
        self._map.put(before, known, self._end, self._count)
        self._map.put(keys, slots, self._end, self._count)
