"""A table's changes as rows of their own: what happened, one after the other, and never changed afterwards."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..protocol.messages import Change, Column

_OWN = (Column("commit_timestamp", "timestamptz"), Column("type", "text"))


def event_columns(columns: Sequence[Column]) -> list[Column]:
    """The columns of the events of a table with these: when and what, then the table's.

    Where the table has a column of such a name, ours is called `change.type`.
    """
    names = {column.name for column in columns}
    own = [Column(f"change.{name}" if name in names else name, kind) for name, kind in ((c.name, c.type) for c in _OWN)]
    return [*own, *columns]


class Events:
    """Makes an event of each change.

    `judged` (see `ChangeFilter.judged`) leaves out those that do not match. Where it does not know (a DELETE may carry
    its key alone, and an event cannot be read again), the event stays.
    """

    def __init__(self, judged: Callable[[Mapping[str, Any]], bool | None]) -> None:
        self._judged = judged
        self._declared: list[Column] = []
        self._columns: list[Column] = []

    def of(self, changes: Sequence[Change]) -> list[Change]:
        """The changes as inserts of events."""
        made: list[Change] = []
        for change in changes:
            values = change.record or change.old_record
            if not values or self._judged(values) is False:
                continue
            if change.columns is not self._declared:
                self._declared, self._columns = change.columns, event_columns(change.columns)
            at, kind = self._columns[0].name, self._columns[1].name
            record = {at: change.commit_timestamp, kind: change.type, **values}
            made.append(Change("INSERT", change.schema, change.table, self._columns, record))
        return made
