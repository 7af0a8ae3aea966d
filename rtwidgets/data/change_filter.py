"""A table's filter, applied to its changes: a server that filters says nothing of a row that stops matching."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from ..protocol import filters
from ..protocol.filter_eval import Verdict, judge
from ..protocol.messages import Change, Column
from .delta import Key
from .snapshot import key_in
from .store import Store

if TYPE_CHECKING:
    from ..client.rest import TableInfo


class Screened(NamedTuple):
    """The changes that remain, and the keys of rows of which only Postgres can tell whether they match now."""

    changes: list[Change]
    unsure: list[Key]


class ChangeFilter:
    """Raises `RealtimeError` (`InvalidFilter`) for a text that is no filter."""

    def __init__(self, text: str | None, info: TableInfo) -> None:
        self._filter = filters.parse(text) if text else None
        self.names = () if self._filter is None else tuple(self._filter.columns)
        self._info = info
        self.verdict: Verdict | None = None
        """What the filter says of a row; None for no filter."""
        self.declare(info.columns)

    def declare(self, columns: Sequence[Column]) -> None:
        """The columns are these now."""
        if self._filter is not None:
            bases = self._info.bases
            types = {column.name: bases.get(column.type, column.type) for column in columns}
            self.verdict = judge(self._filter, types, self._info.labels, self._info.collated)

    def apply(self, changes: Sequence[Change], store: Store) -> Screened:
        """A row that stops matching is deleted."""
        verdict, key = self.verdict, store.key
        if verdict is None:
            return Screened(list(changes), [])
        kept: list[Change] = []
        unsure: list[Key] = []
        touched: set[Key] | None = None
        """Rows that this batch has changed already, from where that matters."""
        for at, change in enumerate(changes):
            record = change.record
            if change.type in ("DELETE", "TRUNCATE") or not record or any(name not in record for name in key):
                kept.append(change)
                continue
            values: Mapping[str, Any] = record
            if any(name not in record for name in self.names):
                # An unchanged TOASTed column is left out: what we hold of it still counts.
                if touched is None:
                    touched = {key_in(row, key) for row in _records(changes[:at]) if all(name in row for name in key)}
                one = key_in(record, key)
                values = record if one in touched else {**(store.row(one) or {}), **record}
            if touched is not None:
                touched.add(key_in(record, key))
            matches = verdict(values)
            if matches:
                kept.append(change)
                continue
            if not key:
                if matches is None:
                    unsure.append(None)
                continue
            old = change.old_record
            keys = [key_in(old, key)] if old and all(name in old for name in key) else []
            keys.append(key_in(record, key))
            if matches is None:
                unsure += keys
                continue
            for one in dict.fromkeys(keys):
                gone = dict(zip(key, one if len(key) > 1 else (one,), strict=True))
                kept.append(Change("DELETE", change.schema, change.table, change.columns, old_record=gone))
        return Screened(kept, unsure)


def _records(changes: Sequence[Change]) -> Iterator[dict[str, Any]]:
    return (change.record for change in changes if change.record)
