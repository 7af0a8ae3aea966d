"""What `LiveTable.on_change` hands over: the rows that came, changed and went in one batch."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any

import pandas as pd

from ..client.dispatch import dispatch
from ..data.delta import Delta
from ..data.store import Store


class ChangeBatch:
    """What one batch of changes did, for `LiveTable.on_change`.

    Rows are dicts of Python values. All is built when it is first read.
    """

    def __init__(self, delta: Delta, store: Store) -> None:
        self._delta = delta
        self._store = store
        self.revision: int = delta.revision

    def __repr__(self) -> str:
        delta = self._delta
        updated = delta.size - len(delta.inserted) - len(delta.deleted)
        return f"<ChangeBatch {len(delta.inserted)} inserted, {updated} updated, {len(delta.deleted)} deleted>"

    def of(self, store: Store) -> bool:
        """Whether these are rows of this store."""
        return self._store is store

    @cached_property
    def inserted(self) -> list[dict[str, Any]]:
        """The new rows."""
        return self._delta.inserted_rows()

    @cached_property
    def updated(self) -> list[tuple[Any, dict[str, Any], dict[str, Any]]]:
        """(key, before, after), each with only the columns whose values differ."""
        return list(self._delta.updated_rows())

    @cached_property
    def deleted(self) -> list[dict[str, Any]]:
        """The rows that were deleted or no longer match the filter, as they were last. Not those of a `TRUNCATE`: see
        `gone`."""
        return self._delta.deleted_rows()

    @cached_property
    def upserts(self) -> pd.DataFrame:
        """The rows that came or changed, whole, for a table elsewhere that replaces rows by their key.

        A row that has changed again since has the values of now, and one that has gone since is not here: a later batch
        says so.
        """
        keys = dict.fromkeys((*self._delta.inserted, *(key for key, _ in self._delta.updated)))
        return self._store.select(list(keys))

    @cached_property
    def gone(self) -> list[Any]:
        """The keys of the rows that are no longer in the table: tuples, where the key has several columns."""
        came = set(self._delta.inserted)
        return [key for key in dict.fromkeys((*self._delta.cleared, *self._delta.deleted)) if key not in came]


class RowsOfNow(ChangeBatch):
    """The rows that a table has when somebody begins to follow it, as a batch that inserts them."""

    def __init__(self, store: Store) -> None:
        with store.lock:
            frame, keys = store.df(), store.keys(ordered=True)
            _, block = store.values(store.slots(ordered=True))
            super().__init__(Delta(store.revision, inserted=keys, inserted_blocks=[(keys, block)]), store)
        self._frame = frame

    @cached_property
    def upserts(self) -> pd.DataFrame:
        """The rows, as `df` had them."""
        return self._frame


class ChangeFeed:
    """Hands a table's deltas to a function, as batches. With `initial` they wait for `start`, so that the function gets
    the rows of one moment and then each change once."""

    def __init__(self, store: Callable[[], Store], fn: Callable[[ChangeBatch], Any], *, initial: bool) -> None:
        self._store = store
        self._fn = fn
        self._waiting: list[Delta] | None = [] if initial else None
        self._first: ChangeBatch | None = None

    def start(self, first: ChangeBatch) -> None:
        """Hands over these rows, which were read after `deliver` was registered, then what came after them. On the I/O
        thread."""
        waiting, self._waiting = self._waiting or [], None
        self._first = first
        if first.upserts.shape[0]:
            dispatch(self._fn, first)
        for delta in waiting:
            self.deliver(delta)

    def deliver(self, delta: Delta) -> None:
        """Hands over one more difference. On the I/O thread."""
        if self._waiting is not None:
            self._waiting.append(delta)
        elif delta and not self._known(delta):
            dispatch(self._fn, ChangeBatch(delta, self._store()))

    def _known(self, delta: Delta) -> bool:
        """Whether the first batch has it: rows are loaded on a thread, and reported on the loop a moment later."""
        return self._first is not None and self._first.of(self._store()) and delta.revision <= self._first.revision
