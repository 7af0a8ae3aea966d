"""What a live table is asked to be, resolved against what the table is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from ..client.snapshot_source import TableInfo
from ..protocol.errors import RealtimeError
from ..protocol.filters import Filter, parse
from ..protocol.messages import Column
from ..protocol.sql_names import sql_name
from .column_kinds import kind_of
from .events import event_columns
from .sorting import Sort, parse_order

LOG_SIZE = 10_000
"""Changes that a table remembers, unless given."""
VERIFY_EVERY = 300.0
"""Seconds between two checks against the database, unless given."""
VERIFY_ROWS = 20_000
"""Rows that one check compares, unless given."""
MAX_ROWS = 5_000_000
"""Rows that a table may have to be loaded, unless given."""


@dataclass(frozen=True)
class TableRequest:
    """What is asked for; see `TableFollower`. Raises ValueError for what makes no sense, whatever the table is."""

    table: str
    schema: str = "public"
    filter: str | Filter | None = None
    columns: Sequence[str] | None = None
    order: str | None = None
    limit: int | None = None
    key: tuple[str, ...] | None = None
    numeric: Literal["float", "decimal"] = "float"
    server_filter: bool = False
    append_only: bool = False
    events: bool = False
    log_size: int = LOG_SIZE
    verify_every: float | None = VERIFY_EVERY
    verify_rows: int = VERIFY_ROWS
    max_rows: int | None = MAX_ROWS

    def __post_init__(self) -> None:
        counts = {"limit": self.limit, "history": self.log_size, "verify_rows": self.verify_rows}
        counts["max_rows"] = self.max_rows
        for name, count in counts.items():
            if count is not None and (type(count) is not int or count < 1):
                raise ValueError(f"{name} is a whole number, at least 1, not {count!r}")
        if self.verify_every is not None and not self.verify_every > 0:
            raise ValueError(f"verify_every is a number of seconds, or None for never, not {self.verify_every!r}")
        parse_order(self.order)

    @property
    def name(self) -> str:
        """The table's name with its schema."""
        return f"{self.schema}.{self.table}"

    @property
    def sql_name(self) -> str:
        """The same as SQL reads it."""
        return sql_name(self.schema, self.table)


@dataclass(frozen=True)
class ResolvedTable:
    """What is followed: the request, for the table as it is."""

    info: TableInfo
    columns: list[Column]
    key: tuple[str, ...]
    select: list[str] | None
    sort: Sort
    limit: int | None
    filter: Filter
    foreign_order: bool
    """Which rows are the first is decided by an order that only Postgres knows, such as a collation."""
    hex_keys: tuple[str, ...]
    columnar: bool = False
    """Rows may be read as columns: their keys are then those that changes carry."""


def resolve(request: TableRequest, info: TableInfo) -> ResolvedTable:
    """Raises `RealtimeError`, with what to do, where the table cannot be followed like that."""
    _check_kind(request, info)
    key = request.key or tuple(info.key)
    columns, limit = list(info.columns), request.limit
    select = None if request.columns is None else list(request.columns)
    _check_key(request, info, key)
    if request.events:
        key, columns = (), event_columns(info.columns)
        select = None if select is None else [columns[0].name, columns[1].name, *select]
        limit = limit or request.log_size
    sort = parse_order(request.order)
    filter = parse(request.filter)
    known = {column.name: info.bases.get(column.type, column.type) for column in columns}
    if known:
        for use, asked in (
            ("", (*key, *(request.columns or ()))),
            (" to order by", tuple(column for column, _ in sort)),
        ):
            for column in asked:
                if column not in known:
                    raise RealtimeError(
                        f"{request.name} has no column {column!r}{use}",
                        code="UndefinedColumn",
                        hint=f"its columns are {', '.join(known)}",
                    )
    kinds = {c.name: kind_of(c.type, numeric=request.numeric, bases=info.bases, labels=info.labels) for c in columns}
    for column in key:
        if column in kinds and kinds[column].name in ("json", "jsonb", "array"):
            raise RealtimeError(
                f"{request.name}: rows cannot be identified by {column!r}, which is of type {known[column]}",
                code="UnsupportedKey",
                hint=f"name other unique columns: LiveTable({request.table!r}, key=...)",
            )
    if info.published is False:
        raise RealtimeError(
            f"{request.name} is not in the publication, so it sends no changes",
            code="TableNotPublished",
            hint=f"`alter publication supabase_realtime add table {request.sql_name};`",
        )
    if not request.events:  # those are what is sent, and no more
        _check_sent(request, info)
    if limit is not None and sort:  # whole rows decide which are the first: rank every one of them
        named = {column for column, _ in sort}
        sort += tuple((column, False) for column in key if column not in named)
    # JSON's null and no value are one thing on the wire, and two in Postgres' order.
    foreign = limit is not None and any(
        column in info.collated or (column in kinds and (not kinds[column].ordered or kinds[column].name == "jsonb"))
        for column, _ in sort
    )
    hex_keys = tuple(column for column in key if column in kinds and kinds[column].name == "bytes")
    columnar = bool(kinds) and not any(column in kinds and kinds[column].name in _AS_SENT for column in key)
    return ResolvedTable(info, columns, key, select, sort, limit, filter, foreign, hex_keys, columnar)


_AS_SENT = ("float", "decimal", "timestamp", "timestamptz")
"""Kinds whose values, as keys, are compared as they were sent."""
_NO_CHANGES = {"v": "a view", "m": "a materialized view", "f": "a foreign table"}


def _check_kind(request: TableRequest, info: TableInfo) -> None:
    """Whether Postgres can send the changes of such a relation at all."""
    if info.kind in _NO_CHANGES:
        raise RealtimeError(
            f"{request.name} is {_NO_CHANGES[info.kind]}, of which Postgres sends no changes",
            code="NotATable",
            hint="follow the table that its rows come from, with filter= and columns=",
        )
    if info.persistence != "p":
        logged = f"`alter table {request.sql_name} set logged;`"
        raise RealtimeError(
            f"{request.name} is {'unlogged' if info.persistence == 'u' else 'temporary'}: Postgres does not log its "
            "changes",
            code="TableNotLogged",
            hint=logged if info.persistence == "u" else "create it without `temporary`",
        )
    if info.kind == "p" and info.published is False:
        set_root = "`alter publication supabase_realtime set (publish_via_partition_root = true);`"
        add = f"`alter publication supabase_realtime add table {request.sql_name};`"
        raise RealtimeError(
            f"{request.name} is partitioned, and its changes are not sent under its own name",
            code="TableNotPublished",
            hint=set_root if info.member else f"{add}, and {set_root}",
        )


def _check_sent(request: TableRequest, info: TableInfo) -> None:
    """Whether every change of the table's rows is sent under its name."""
    if info.row_filter is not None:
        raise RealtimeError(
            f"the publication has a filter for {request.name}: rows that do not meet {info.row_filter} send no changes",
            code="PartlyPublished",
            hint=f"`alter publication supabase_realtime drop table {request.sql_name};`, then `alter publication "
            f'supabase_realtime add table {request.sql_name};`; or source="events" for what is sent',
        )
    wanted = ("insert",) if request.append_only else ("insert", "update", "delete")
    missing = [verb for verb in wanted if info.verbs is not None and info.verbs and verb not in info.verbs]
    if missing:
        raise RealtimeError(
            f"the publication sends no {' and no '.join(missing)} of {request.name}",
            code="PartlyPublished",
            hint="`alter publication supabase_realtime set (publish = 'insert, update, delete, truncate');`",
        )
    if info.inherited:
        raise RealtimeError(
            f"other tables inherit from {request.name}: SELECT gives their rows too, but they send changes under their "
            "own names",
            code="PartlyPublished",
            hint="follow each of the tables that inherit from it, or make it a partitioned table",
        )


def _check_key(request: TableRequest, info: TableInfo, key: tuple[str, ...]) -> None:
    """Whether the server can send the changes of a table with this primary key with their values."""
    unknown = not info.columns  # a source that does not know the table's columns does not know its key
    if not info.key and not unknown and not request.append_only:
        raise RealtimeError(
            f"{request.name} has no primary key, so its changes are sent without values",
            code="NoPrimaryKey",
            hint=(
                f"`alter table {request.sql_name} add primary key (...);`"
                + ("" if request.events else ", or append_only=True if its rows never change")
                + "; a view cannot be followed, but the table under it can"
            ),
        )
    if not key and request.limit is not None and not request.order and not request.events:
        raise RealtimeError(
            f"{request.name} has no primary key, so which rows are the last ones is not known",
            code="NoPrimaryKey",
            hint="give order= beside limit=, such as order='created_at.desc'",
        )
