"""A large table, some thousands of keys at a time: what is too much to compare at once is compared in turns."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from .delta import Key
from .store import Store


class Slice(NamedTuple):
    """Keys next to each other: `test` says in the filter grammar which rows of the database belong here, `keys` are
    those that the table holds.
    """

    test: str
    keys: list[Key]


class Slices:
    """Walks through a table by key, again and again. For keys that Postgres sorts as we do: whole numbers and uuids."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._after: Any = None

    @staticmethod
    def fit(store: Store) -> bool:
        """Whether the table's key is of that sort."""
        if len(store.key) != 1:
            return False
        name = store.key[0]
        return store.kinds[name].whole or any(c.name == name and c.type == "uuid" for c in store.columns)

    def next(self, store: Store) -> Slice:
        """The next keys in order, from the first again after the last."""
        name = store.key[0]
        _, block = store.values(store.slots(), [name])
        kind, values, _ = block[name]
        found: list[Any]
        if kind.whole:
            ahead = values if self._after is None else values[values > self._after]
            if len(ahead) > self._size:
                ahead = np.partition(ahead, self._size - 1)[: self._size]
            found = np.sort(ahead).tolist()
        else:
            found = sorted(value for value in values.tolist() if self._after is None or value > self._after)
            found = found[: self._size]
        tests: list[str] = [] if self._after is None else [f"{name}=gt.{self._after}"]
        if len(found) < self._size:
            self._after = None  # no end: rows past the last one that we hold belong here too
        else:
            self._after = found[-1]
            tests.append(f"{name}=lte.{self._after}")
        return Slice(",".join(tests), found)
