"""The table as it was: what each batch did, kept for a while, and undone on request."""

from __future__ import annotations

import time
from collections import deque
from datetime import datetime
from typing import Any

import numpy as np
import pandas as pd

from .column_kinds import Array, Block, ColumnValues, Data
from .dataframes import frame_of_block
from .delta import Delta, Key
from .sorting import sort_positions
from .store import Store

Cells = dict[str, tuple[Any, bool]]
"""By column: storage with the one value, and whether it is null."""
_PATIENCE = 1.0  # seconds


class History:
    """The last batches of a `Store`, as many as change `most` rows together.

    Every delta holds the values that it replaced, so the rows of an earlier moment are those of now with the batches
    since then undone, the last one first. A batch that cannot be undone (the rows were loaded, or a column came or
    went) is where the history begins anew.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self.since: datetime | None = None
        """The earliest moment that can be asked for; None before the table was read."""
        self._batches: deque[tuple[datetime, int, Delta]] = deque()
        self._rows = 0
        self._revision = 0

    def add(self, at: datetime, delta: Delta) -> None:
        """Takes note of what a batch, committed at that moment, has done to the store."""
        if self._batches:
            at = max(at, self._batches[-1][0])  # clocks differ; what came later did not happen earlier
        rows = len(delta.inserted) + len(delta.deleted) + sum(len(part.keys) for part in delta.updates)
        if self.since is None or delta.reset or delta.columns_changed or rows > self.most:
            self.since, self._rows = at, 0
            self._batches.clear()
        else:
            self._batches.append((at, rows, delta))
            self._rows += rows
            while self._rows > self.most:
                self.since, gone, _ = self._batches.popleft()
                self._rows -= gone
        self._revision = delta.revision

    def moments(self) -> list[datetime]:
        """When the rows changed, oldest first: `since`, then each batch's commit. To be called where `add` is."""
        return [] if self.since is None else list(dict.fromkeys([self.since, *(at for at, _, _ in self._batches)]))

    def at(self, store: Store, moment: datetime) -> pd.DataFrame:
        """The rows of the store as they were, from any thread.

        In the store's order; where it has none, those that are still here stand first, then those that went since.
        Raises LookupError for a moment before `since`.
        """
        if self.since is None or moment < self.since:
            raise LookupError("before what is remembered")
        end = time.monotonic() + _PATIENCE
        while True:
            with store.lock:
                # What the store holds and what is noted must be of one moment: a batch is noted right after it is
                # applied, on the thread that applied it.
                if store.revision == self._revision or time.monotonic() > end:
                    return _undone(store, self._different(moment))
            time.sleep(0.001)

    def _different(self, moment: datetime) -> dict[Key, Cells | None]:
        """By key, what was different at that moment: the cells of rows that are here, the whole row of those that went,
        and None for those that had not come yet.
        """
        found: dict[Key, Cells | None] = {}
        for at, _, delta in reversed(self._batches):
            if at <= moment:
                break
            for part in reversed(delta.parts or [delta]):
                for key in part.inserted:
                    found[key] = None
                for keys, block in part.deleted_blocks:
                    for i, key in enumerate(keys):
                        found[key] = {name: _cell(data, mask, i) for name, (_, data, mask) in block.items()}
                for updates in part.updates:
                    for name, flags in updates.flags.items():
                        _, data, mask = updates.before[name]
                        for i in np.flatnonzero(flags).tolist():
                            cells = found.setdefault(updates.keys[i], {})
                            if cells is not None:
                                cells[name] = _cell(data, mask, i)
        return found


def _cell(data: Data, mask: Array | None, i: int) -> tuple[Any, bool]:
    return data[i : i + 1], mask is not None and bool(mask[i])


def _undone(store: Store, was: dict[Key, Cells | None]) -> pd.DataFrame:
    slots, block = store.values(store.slots())
    place = np.full(store.slots_end, -1)
    place[slots] = np.arange(len(slots))
    keep = np.ones(len(slots), dtype=bool)
    patches: list[tuple[int, Cells]] = []
    back: list[Cells] = []
    for cells, slot in zip(was.values(), store.find(list(was)).tolist(), strict=True):
        if slot < 0:
            if cells is not None:
                back.append(cells)
        elif cells is None:
            keep[place[slot]] = False
        else:
            patches.append((int(place[slot]), cells))
    made: Block = {}
    for name, (kind, data, mask) in block.items():
        if kind.masked and mask is None:
            mask = np.zeros(len(data), dtype=bool)
        for at, cells in patches:
            if name in cells:
                data[at : at + 1], null = cells[name]
                if mask is not None:
                    mask[at] = null
        more, more_nulls = kind.blank(len(back)), np.zeros(len(back), dtype=bool)
        for i, cells in enumerate(back):
            more[i : i + 1], more_nulls[i] = cells.get(name) or kind.all_null(1)
        made[name] = ColumnValues(
            kind,
            kind.joined([data[keep], more]),
            None if mask is None else np.concatenate([mask[keep], more_nulls]),
        )
    count = int(keep.sum()) + len(back)
    if store.order:
        rows = sort_positions(made, store.order, np.arange(count))
        made = {name: values.at(rows) for name, values in made.items()}
    return frame_of_block(made, count)
