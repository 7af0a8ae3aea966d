"""A session at one moment, without I/O: the rows of its tables and the presence of its topics."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, cast
from urllib.parse import unquote_plus

import msgspec

from ..protocol import filters
from ..protocol.errors import RealtimeError
from ..protocol.filter_eval import judge
from ..protocol.rest_names import PARAMETERS, parse_name, split_names
from .recording import Entry, Recording

Row = dict[str, Any]
Metas = dict[str, dict[Any, Mapping[str, Any]]]
"""Key to metas by their `phx_ref`."""


_PASSING = ("broadcast", "gap")
"""Kinds of entries that do not change the state."""


class Table:
    """A table at one moment."""

    def __init__(self) -> None:
        self.columns: list[tuple[str, str]] = []
        self.key: tuple[str, ...] = ()
        self.rows: dict[Any, Row] = {}
        self._next = 0

    @property
    def types(self) -> dict[str, str]:
        return dict(self.columns)

    def reset(self, columns: Sequence[Any], key: Sequence[str]) -> None:
        """Starts a snapshot: removes all rows."""
        self.columns = [(str(name), str(kind)) for name, kind in columns]
        self.key = tuple(key)
        self.rows = {}

    def fill(self, rows: Sequence[Sequence[Any]]) -> None:
        names = [name for name, _ in self.columns]
        for values in rows:
            self._put(dict(zip(names, values, strict=False)))

    def apply(self, change: Mapping[str, Any]) -> None:
        """Applies a row change. An UPDATE may omit unchanged columns: their values stay."""
        if change.get("columns"):
            self.columns = [(str(name), str(kind)) for name, kind in change["columns"]]
        kind, record, old = change.get("type"), change.get("record"), change.get("old_record")
        if kind == "TRUNCATE":
            self.rows = {}
        elif kind == "DELETE":
            if old:
                self.rows.pop(self._of(old), None)
        elif record:
            before: Row = {}
            if old and self._of(old) != self._of(record):  # the key itself was changed
                before = self.rows.pop(self._of(old), {})
            self._put({**before, **self.rows.get(self._of(record), {}), **record})

    def _of(self, row: Mapping[str, Any]) -> Any:
        return tuple(_hashable(row.get(name)) for name in self.key)

    def _put(self, row: Row) -> None:
        if self.key:
            self.rows[self._of(row)] = row
        else:
            self._next += 1
            self.rows[self._next] = row

    # --- as PostgREST reads it

    def select(self, query: Sequence[tuple[str, str]]) -> tuple[list[Row], int]:
        """The rows of a query (decoded parameters of the URL), and how many there are without its limit and offset.

        Raises `RealtimeError` for what it cannot read.
        """
        conditions: list[filters.Condition] = []
        options: dict[str, str] = {}
        for name, value in query:
            if name in PARAMETERS:
                options[name] = value
            else:
                conditions.append(_condition(parse_name(name)[0], value))
        matches = row_filter(filters.Filter(tuple(conditions)), self.types)
        found = [row for row in self.rows.values() if matches(row)]
        for column, how in reversed([parse_name(part) for part in split_names(options.get("order", ""))]):
            words = how.split(".")
            self._sort(found, column, "desc" in words, "nullsfirst" in words, "nullslast" in words)
        total = len(found)
        start = _number(options.get("offset", "")) or 0
        limit = _number(options.get("limit", ""))
        found = found[start : None if limit is None else start + limit]
        if options.get("select", "*") != "*":
            names = [parse_name(part)[0] for part in split_names(options["select"])]
            found = [{name: row.get(name) for name in names} for row in found]
        return found, total

    @staticmethod
    def _sort(rows: list[Row], column: str, down: bool, first: bool, last: bool) -> None:
        nulls_first = first or (down and not last)  # the default of Postgres
        try:
            rows.sort(key=lambda row: _rank(row.get(column)), reverse=down)
        except TypeError:  # values of several kinds, as in a json column
            rows.sort(key=lambda row: str(row.get(column)), reverse=down)
        rows.sort(key=lambda row: (row.get(column) is None) != nulls_first)


def row_filter(wanted: filters.Filter, types: Mapping[str, str]) -> Callable[[Mapping[str, Any]], bool]:
    """Whether a recorded row matches. There is no Postgres to ask: two spellings are two values, and for the rest a row
    that was recorded counts as one that matches.
    """
    tests = [(judge(filters.Filter((one,)), types, logged=True), _assumed(one)) for one in wanted.conditions]

    def matches(row: Mapping[str, Any]) -> bool:
        for test, assumed in tests:
            found = test(row)
            if found is False or (found is None and not assumed):
                return False
        return True

    return matches


def _assumed(condition: filters.Condition) -> bool:
    if condition.op in ("eq", "in"):
        return condition.negated
    return condition.op not in ("neq", "isdistinct") or not condition.negated


def _rank(value: Any) -> Any:
    return (value is not None, value if value is not None else 0)


def _hashable(value: Any) -> Any:
    return value if isinstance(value, str | int | float | bool) or value is None else str(value)


def _number(text: str) -> int | None:
    return int(text) if text.isdigit() else None


def _condition(column: str, text: str) -> filters.Condition:
    negated = text.startswith("not.")
    op, _, value = (text[4:] if negated else text).partition(".")
    if op == "in":
        return msgspec.structs.replace(filters.parse(f"column={text}").conditions[0], column=column)
    if op not in filters.OPS:
        raise RealtimeError(f"{op!r} is no operator", code="PGRST100")
    return filters.Condition(column, op, value.lower() if op == "is" else value, negated)


def query_of(path: str) -> tuple[str, list[tuple[str, str]]]:
    """A request's path and its parameters, both decoded."""
    where, _, query = path.partition("?")
    pairs = (part.partition("=") for part in query.split("&") if part)
    return unquote_plus(where), [(unquote_plus(name), unquote_plus(value)) for name, _, value in pairs]


class SessionState:
    """The state of a session that is being played, and how far it is."""

    def __init__(self, recording: Recording) -> None:
        self.recording = recording
        begins = next((at for at, entry in enumerate(recording.entries) if entry.kind == "start"), None)
        if begins is None:  # put together by hand: up to the first thing that happens
            events = ("change", "broadcast", "gap")
            begins = next((at for at, entry in enumerate(recording.entries) if entry.kind in events), 0)
        before, after = recording.entries[:begins], recording.entries[begins:]
        self._first = [entry for entry in before if entry.kind not in _PASSING]
        """How the session begins: not played, else a table would be unknown until it is."""
        self.entries = [entry for entry in before if entry.kind in _PASSING] + after
        """What happens then, in order."""
        self.restart()

    def restart(self) -> None:
        """To the beginning."""
        self.index = 0
        self.tables: dict[tuple[str, str], Table] = {}
        self.presence: dict[str, Metas] = {}
        for entry in self._first:
            self._apply(entry)

    def step(self) -> Entry | None:
        """Lets the next thing happen and returns it; None at the end."""
        if self.index >= len(self.entries):
            return None
        entry = self.entries[self.index]
        self.index += 1
        self._apply(entry)
        return entry

    @property
    def upcoming(self) -> Entry | None:
        """What happens next; None at the end."""
        return self.entries[self.index] if self.index < len(self.entries) else None

    def table_of(self, entry: Entry) -> Table | None:
        """The table that an entry is about."""
        if "table" not in entry.data:
            return None
        return self.tables.setdefault((str(entry.data.get("schema", "public")), str(entry.data["table"])), Table())

    def _apply(self, entry: Entry) -> None:
        data, table = entry.data, self.table_of(entry)
        if table is not None:
            if entry.kind == "snapshot":
                table.reset(data.get("columns", ()), data.get("key", ()))
            if entry.kind in ("snapshot", "rows"):
                table.fill(data.get("rows", ()))
            elif entry.kind == "change":
                table.apply(data)
        elif entry.kind == "presence":
            apply_presence(self.presence.setdefault(str(data.get("topic")), {}), data)


def apply_presence(state: Metas, diff: Mapping[str, Any]) -> None:
    """Joins first, then leaves, by `phx_ref`."""
    for key, ref, meta in _metas(diff.get("joins")):
        state.setdefault(key, {})[ref] = meta
    for key, ref, _ in _metas(diff.get("leaves")):
        state.get(key, {}).pop(ref, None)
        if not state.get(key):
            state.pop(key, None)


def _metas(half: Any) -> Iterator[tuple[str, Any, Mapping[str, Any]]]:
    for key, metas in cast("Mapping[str, list[Mapping[str, Any]]]", half or {}).items():
        for meta in metas:
            yield key, meta.get("phx_ref"), meta


def compared(before: Metas, after: Metas) -> dict[str, dict[str, Any]]:
    """The `presence_diff` that leads from one state to another."""

    def missing(these: Metas, those: Metas) -> dict[str, Any]:
        found = {
            key: [meta for ref, meta in metas.items() if those.get(key, {}).get(ref) != meta]
            for key, metas in these.items()
        }
        return {key: {"metas": metas} for key, metas in found.items() if metas}

    return {"joins": missing(after, before), "leaves": missing(before, after)}
