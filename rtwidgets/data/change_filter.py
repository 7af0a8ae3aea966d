"""A table's filter, applied to its changes: a server that filters does not report rows that stop matching."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from ..client.snapshot_source import Row, TableInfo
from ..protocol.filter_eval import Verdict, judge
from ..protocol.filters import Filter
from ..protocol.messages import Change, Column
from .column_kinds import bare_name
from .delta import Key
from .snapshot import key_in

KnownRow = Callable[[Key], "Row | None"]
"""The row that the table has under a key."""


class Filtered(NamedTuple):
    """The changes that remain, and the keys of rows of which only Postgres knows whether they match now."""

    changes: list[Change]
    unsure: list[Key]


class ChangeFilter:
    """Judges changes by a filter, as Postgres would."""

    def __init__(self, filter: Filter, info: TableInfo) -> None:
        self._filter, self._info = filter, info
        self._names = tuple(filter.columns)
        self._verdict: Verdict | None = None
        self.declare(info.columns)

    def declare(self, columns: Sequence[Column]) -> None:
        """The columns are these now, as a change names their types: without a schema."""
        if self._names:
            bases = self._info.bases
            known = {column.name: column.type for column in self._info.columns}
            types = {column.name: _same_type(known.get(column.name), column.type) for column in columns}
            types = {name: bases.get(pg_type, pg_type) for name, pg_type in types.items()}
            self._verdict = judge(self._filter, types, self._info.labels, self._info.collated)

    def judged(self, values: Mapping[str, Any]) -> bool | None:
        """Whether a row matches; None where only Postgres knows, or a column that the filter needs is missing."""
        return True if self._verdict is None else self._verdict(values)

    def apply(self, changes: Sequence[Change], key: tuple[str, ...], row: KnownRow) -> Filtered:
        """A row that stops matching is deleted."""
        verdict = self._verdict
        if verdict is None:
            return Filtered(list(changes), [])
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
            if any(name not in record for name in self._names):
                # An unchanged TOASTed column is left out: what the table has of it still counts.
                if touched is None:
                    touched = {key_in(row, key) for row in _records(changes[:at]) if all(name in row for name in key)}
                one = key_in(record, key)
                values = record if one in touched else {**(row(one) or {}), **record}
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
        return Filtered(kept, unsure)


def _same_type(described: str | None, declared: str) -> str:
    """The type as it was described, where the declared one is the same without its schema."""
    same = described is not None and declared in (described, bare_name(described))
    return described if described is not None and same else declared


def _records(changes: Sequence[Change]) -> Iterator[Row]:
    return (change.record for change in changes if change.record)
