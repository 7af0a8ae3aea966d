"""Search and filters of a grid: which rows of a store they leave, kept up to date change by change."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from .column_kinds import Array, Block, Test
from .filter_text import contains, filter_test, words_of, zone_named
from .store import Store

CHUNK = 16_384
"""Rows tested between two looks at whether anybody still wants to know."""
AT_ONCE = 2_000
"""Rows that are tested while a frame is built; more of them are a thread's work."""


class ViewFilter:
    """The rows that contain every word of `search`, each in any column, and pass every filter.

    `filter_text` says how filters are written. Times are those that a clock in `zone` shows, by default UTC. A filter
    that makes no sense for its column is not applied, and `problems` says why.
    """

    def __init__(
        self, store: Store, search: str = "", filters: Mapping[str, str] | None = None, *, zone: str = ""
    ) -> None:
        self.store = store
        self.problems: list[str] = []
        self.stopped = False
        """Set by whoever no longer wants to know, so that `work` ends early."""
        self._zone = zone_named(zone)
        self._words = words_of(search)
        kinds = store.kinds
        self._filters: dict[str, Test] = {}
        for name, text in (filters or {}).items():
            if name not in kinds or not text.strip():
                continue
            try:
                self._filters[name] = filter_test(kinds[name], text.strip(), self._zone)
            except ValueError as problem:
                self.problems.append(f"filter on {name} not applied: {problem}")
        self._hit: Array = np.zeros(0, dtype=bool)
        self._dirty: set[int] = set()
        self._rest: Array = np.zeros(0, dtype=np.int64)
        self._under_way = 0
        self.names: frozenset[str] | None = None if self._words else frozenset(self._filters)
        with store.lock:
            store.register(self)
            self.reset()

    def __bool__(self) -> bool:
        """Whether it asks anything of a row, or has a problem to report."""
        return bool(self._words or self._filters or self.problems)

    # -- marked by the store, under its lock --------------------------------------------------------------------------

    def mark(self, slots: Iterable[int]) -> None:
        """These rows came, went or changed."""
        self._dirty.update(slots)

    def reset(self) -> None:
        """All rows are to be tested anew."""
        self._hit[:] = False
        self._dirty.clear()
        self._rest = self.store.slots()

    # -- read by the view ---------------------------------------------------------------------------------------------

    @property
    def pending(self) -> int:
        """Rows of which it is not known whether they pass."""
        with self.store.lock:  # a thread that tests rows moves them from one number to another
            return len(self._dirty) + len(self._rest) + self._under_way

    def work(self) -> bool:
        """Tests a chunk of the rows of which it is not known; returns whether more are left."""
        with self.store.lock:
            slots = np.fromiter(self._dirty, np.int64, len(self._dirty))
            self._dirty.clear()
            room = max(0, CHUNK - len(slots))
            slots, self._rest = np.concatenate([slots, self._rest[:room]]), self._rest[room:]
            self._grow()
            self._hit[slots] = False
            count = len(slots)
            self._under_way += count
            slots, columns = self.store.values(slots, self.names)
        hit = self._test(columns, len(slots))
        with self.store.lock:
            self._hit[slots[hit]] = True
            # What was written meanwhile is tested again, and is not shown on what it was before.
            again = np.fromiter(self._dirty, np.int64, len(self._dirty))
            self._grow()
            self._hit[again] = False
            self._under_way -= count
            return self.pending > 0

    def keep(self, slots: Array) -> Array:
        """Which of these rows pass, as far as it is known. The caller has the store's lock."""
        self._grow()
        return self._hit[slots]

    def _grow(self) -> None:
        if len(self._hit) < self.store.slots_end:
            hit = np.zeros(2 * self.store.slots_end, dtype=bool)
            hit[: len(self._hit)] = self._hit
            self._hit = hit

    def _test(self, block: Block, count: int) -> Array:
        left = np.arange(count)
        for name, test in self._filters.items():
            if name in block:
                _, data, mask = block[name]
                left = left[test(data[left], None if mask is None else mask[left])]
        for word in self._words:
            found = np.zeros(len(left), dtype=bool)
            for kind, data, mask in block.values():
                rest = left[~found]
                test = contains(kind, word, self._zone)
                found[~found] = test(data[rest], None if mask is None else mask[rest])
            left = left[found]
        hit = np.zeros(count, dtype=bool)
        hit[left] = True
        return hit
