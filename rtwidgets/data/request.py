"""What a live table is asked to be, checked against what the table is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from ..protocol.errors import RealtimeError
from ..protocol.messages import Column
from .column_kinds import kind_of
from .events import event_columns
from .sorting import Sort, parse_order

if TYPE_CHECKING:
    from ..client.rest import TableInfo


@dataclass(frozen=True)
class TableRequest:
    """What is asked for; see `TableFollower`."""

    table: str
    schema: str
    columns: Sequence[str] | None
    order: str | None
    limit: int | None
    key: tuple[str, ...] | None
    numeric: Literal["float", "decimal"]
    append_only: bool
    events: bool
    log_size: int


@dataclass(frozen=True)
class ResolvedTable:
    """What it comes to."""

    columns: list[Column]
    key: tuple[str, ...]
    select: list[str] | None
    sort: Sort
    limit: int | None
    foreign_order: bool
    """Which rows are the first is decided by an order that only Postgres knows, such as a collation."""
    hex_keys: tuple[str, ...]


def plan(wish: TableRequest, info: TableInfo) -> ResolvedTable:
    """Raises `RealtimeError`, with what to do, where the table cannot be followed like that."""
    name = f"{wish.schema}.{wish.table}"
    key = wish.key or tuple(info.key)
    columns, limit = list(info.columns), wish.limit
    select = None if wish.columns is None else list(wish.columns)
    if wish.events:
        key, columns = (), event_columns(info.columns)
        select = None if select is None else [columns[0].name, columns[1].name, *select]
        limit = limit or wish.log_size
    elif not key and not wish.append_only:
        raise RealtimeError(
            f"{name} has no primary key, so its changes cannot be told apart",
            code="NoPrimaryKey",
            hint=(
                f"`alter table {name} add primary key (...)`, or name unique columns: "
                f'LiveTable("{wish.table}", key=...); or append_only=True, if its rows never change'
            ),
        )
    elif not key and limit is not None and not wish.order:
        raise RealtimeError(
            f"{name} has no primary key, so which rows are the last ones cannot be told",
            code="NoPrimaryKey",
            hint="give order= beside limit=, such as order='created_at.desc'",
        )
    sort = parse_order(wish.order)
    known = {column.name: info.bases.get(column.type, column.type) for column in columns}
    for use, asked in (("", [*key, *(wish.columns or ())]), (" to order by", [column for column, _ in sort])):
        for column in asked:
            if known and column not in known:
                raise RealtimeError(
                    f"{name} has no column {column!r}{use}",
                    code="UndefinedColumn",
                    hint=f"its columns are {', '.join(known)}",
                )
    kinds = {c.name: kind_of(c.type, numeric=wish.numeric, bases=info.bases, labels=info.labels) for c in columns}
    for column in key:
        if column in kinds and kinds[column].name in ("json", "jsonb", "array"):
            raise RealtimeError(
                f"{name}: rows cannot be told apart by {column!r}, which is of type {known[column]}",
                code="UnsupportedKey",
                hint=f'name other unique columns: LiveTable("{wish.table}", key=...)',
            )
    if info.published is False:
        raise RealtimeError(
            f"{name} is not in the publication, so it sends no changes",
            code="TableNotPublished",
            hint=f"`alter publication supabase_realtime add table {name};`",
        )
    if limit is not None and sort:  # whole rows decide which are the first: rank every one of them
        named = {column for column, _ in sort}
        sort += tuple((column, False) for column in key if column not in named)
    foreign = any(column in info.collated or (column in kinds and not kinds[column].ordered) for column, _ in sort)
    hex_keys = tuple(column for column in key if column in kinds and kinds[column].name == "bytes")
    return ResolvedTable(columns, key, select, sort, limit, limit is not None and foreign, hex_keys)
