"""Entries of a join's `postgres_changes`: read, and checked against the database in Supabase's words."""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping, Sequence
from typing import Any, LiteralString, cast

import msgspec
import psycopg
from psycopg import sql

from ..protocol import filters
from ..protocol.errors import RealtimeError
from ..protocol.server_channel import Identity
from .catalogue import SHAPE, Shape
from .elixir_text import inspect_filters, inspect_list, inspect_map, inspect_text
from .matching import LIMIT, PATTERNS, compare
from .policies import limit_statements
from .pool import Connection, Pool, type_name

EVENTS = frozenset({"INSERT", "UPDATE", "DELETE"})
UNABLE = "Unable to subscribe to changes with given parameters."
_MAX_IN = 100


class SubscribeError(Exception):
    """A subscription that cannot be; its text is for the client."""


class Entry(msgspec.Struct, frozen=True):
    """One entry as it was asked for."""

    id: int
    events: frozenset[str]
    schema: str
    """`*` for all of them, as in `table`."""
    table: str
    conditions: tuple[filters.Condition, ...]
    select: tuple[str, ...] | None
    text: str
    """As an error's text quotes it."""

    @property
    def wildcard(self) -> bool:
        return "*" in (self.schema, self.table)


class Binding(msgspec.Struct, frozen=True):
    """One entry, checked."""

    id: int
    events: frozenset[str]
    schema: str
    table: str
    oid: int | None
    """Of the table that had the name when it was checked; None with a wildcard."""
    filter: filters.Filter
    """Its values as Postgres writes them."""
    select: tuple[str, ...] | None

    def covers(self, oid: int, schema: str, table: str) -> bool:
        """Whether it is about that relation."""
        if self.oid is not None:
            return self.oid == oid
        return self.schema in ("*", schema) and self.table in ("*", table)


class Published(msgspec.Struct, frozen=True):
    """A published table that an entry is about."""

    oid: int
    schema: str
    table: str
    shape: Shape
    unsettled: bool
    """Whether a transaction is open that wrote to it before it was published: that is not sent."""


def entry_id(entry: Mapping[str, Any]) -> int:
    """The same parameters have the same id, as in Supabase (which hashes them with Erlang's phash2, 27 bits)."""
    return zlib.crc32(msgspec.json.encode(entry, order="sorted")) & 0x7FFFFFF


def parse_entry(entry: Mapping[str, Any]) -> Entry:
    """Reads an entry. Raises SubscribeError."""
    schema, table = entry.get("schema"), entry.get("table")
    if not isinstance(schema, str) and not isinstance(table, str):
        raise SubscribeError(
            "No subscription params provided. Please provide at least a `schema` or `table` to subscribe to: "
            + inspect_map(entry)
        )
    schema = schema if isinstance(schema, str) else "public"
    table = table if isinstance(table, str) else "*"
    event = str(entry.get("event", "*")).upper()
    select, text = entry.get("select"), entry.get("filter") or ""
    if select is not None and not (
        isinstance(select, list) and all(isinstance(name, str) for name in cast("list[Any]", select))
    ):
        raise SubscribeError("Error parsing `select` params: it must be a list of column names")
    names = None if select is None else tuple(cast("list[str]", select))
    if not isinstance(text, str):
        raise SubscribeError("Error parsing `filter` params: it must be text")
    conditions = _conditions(text)
    shown = f"[event: {event if event in EVENTS else '*'}, schema: {schema}, table: {table}, "
    shown += f"filters: {inspect_filters(conditions)}, select: {'nil' if names is None else inspect_list(names)}]"
    if names is not None and "*" in (schema, table):
        raise SubscribeError(
            f"{UNABLE} Column selection is not supported for wildcard subscriptions, "
            f"please check your connect parameters: {shown}"
        )
    events = frozenset({event}) if event in EVENTS else EVENTS
    return Entry(entry_id(entry), events, schema, table, tuple(conditions), names, shown)


def _conditions(text: str) -> list[filters.Condition]:
    try:
        return list(filters.parse(text).conditions)
    except RealtimeError:
        # An `in` with more values than are allowed is refused later, in the words that Postgres has for it.
        found = re.fullmatch(r'([^=,"()]+)=(not\.)?in\.\(([^()"]*)\)', text)
        if found is None or found[3].count(",") < _MAX_IN:
            raise SubscribeError(f"Error parsing `filter` params: [{inspect_text(text)}]") from None
        return [filters.Condition(found[1], "in", tuple(found[3].split(",")), bool(found[2]))]


async def check_entry(pool: Pool, entry: Entry, identity: Identity) -> tuple[Binding, list[Published]]:
    """The entry with its values as Postgres writes them, and the tables that it is about.

    Raises SubscribeError for what cannot be, psycopg.Error, OSError.
    """
    async with pool.connection() as connection:
        published = await read_published(connection, [(entry.schema, entry.table)])
        if not published:
            raise SubscribeError(
                f"{UNABLE} Please check Realtime is enabled for the given connect parameters: {entry.text}"
            )
        failed = (
            f"{UNABLE} An exception happened so please check your connect parameters: {entry.text}. Exception: ERROR "
        )
        await _check_role(connection, identity, failed)
        conditions: tuple[filters.Condition, ...] = ()
        if entry.conditions or entry.select is not None:
            oids = [table.oid for table in published]
            conditions = await _check_columns(connection, entry, oids, identity, failed)
    oid = None if entry.wildcard else published[0].oid
    found = filters.Filter(conditions)
    return Binding(entry.id, entry.events, entry.schema, entry.table, oid, found, entry.select), published


async def _check_role(connection: Connection, identity: Identity, failed: str) -> None:
    cursor = await connection.execute(
        "select pg_catalog.pg_has_role('authenticator', oid, 'MEMBER') from pg_catalog.pg_roles where rolname = %s",
        (identity.role,),
    )
    found = await cursor.fetchone()
    if found is None:
        raise SubscribeError(f'{failed}22023 (invalid_parameter_value) role "{identity.role}" does not exist')
    if not found[0]:
        raise SubscribeError(f'{failed}42501 (insufficient_privilege) permission denied to set role "{identity.role}"')


async def _check_columns(
    connection: Connection, entry: Entry, oids: Sequence[int], identity: Identity, failed: str
) -> tuple[filters.Condition, ...]:
    # The type without its length, since a cast to that would cut the value.
    cursor = await connection.execute(
        "select a.attname::text, pg_catalog.format_type(a.atttypid, -1) "
        "from pg_catalog.pg_attribute a join pg_catalog.pg_roles r on r.rolname = %s "
        "where a.attrelid = any(%s) and a.attnum > 0 and not a.attisdropped "
        "and pg_catalog.has_column_privilege(r.oid, a.attrelid, a.attnum, 'SELECT')",
        (identity.role, oids),
    )
    columns: dict[str, str] = dict(await cursor.fetchall())
    raised = f"{failed}P0001 (raise_exception)"
    written: list[filters.Condition] = []
    for condition in entry.conditions:
        if condition.column not in columns:
            raise SubscribeError(f"{raised} invalid column for filter {condition.column}")
        if condition.op == "in" and len(condition.value) > _MAX_IN:
            raise SubscribeError(f"{raised} too many values for `in` filter. Maximum {_MAX_IN}")
        kind = columns[condition.column]
        try:
            async with connection.transaction():
                await limit_statements(connection, LIMIT)
                written.append(await _written(connection, condition, kind))
        except psycopg.errors.QueryCanceled as error:
            raise SubscribeError(f"{failed}{error.sqlstate} (query_canceled) {_primary(error)}") from None
        except psycopg.OperationalError:
            raise
        except psycopg.errors.UndefinedFunction as error:
            if condition.op in PATTERNS:
                message = f"operator {condition.op} requires a text-compatible column type, got {kind}"
                raise SubscribeError(f"{raised} {message}") from None
            raise SubscribeError(_postgres(failed, error)) from None
        except psycopg.Error as error:
            raise SubscribeError(_postgres(failed, error)) from None
    for name in entry.select or ():
        if name not in columns:
            raise SubscribeError(f"{raised} invalid column for select {name}")
    return tuple(written)


async def _written(connection: Connection, condition: filters.Condition, kind: str) -> filters.Condition:
    """The condition with its value as Postgres writes one of the column's type, so that all that it reads (`today`) is
    understood. Raises psycopg.Error for what it does not read."""
    if condition.op == "is":
        return condition
    if condition.op in PATTERNS:
        await compare(connection, condition, "text", [""])  # whether it reads the pattern
        await compare(connection, condition, kind, [])  # whether the type has the operator
        return condition
    values = [condition.value] if isinstance(condition.value, str) else list(condition.value)
    # The type's name comes from the catalogue, never from the client.
    query = sql.SQL("select format('%%s', v::{}) from unnest(%s::text[]) with ordinality as u(v, n) order by n")
    cursor = await connection.execute(query.format(type_name(kind)), (values,))
    found = tuple([str(row[0]) for row in await cursor.fetchall()])
    await compare(connection, condition, kind, list(found[:1]))  # such as json, which has no operators
    return filters.Condition(
        condition.column, condition.op, found if condition.op == "in" else found[0], condition.negated
    )


def _primary(error: psycopg.Error) -> str:
    return error.diag.message_primary or str(error)


def _postgres(failed: str, error: psycopg.Error) -> str:
    names = {
        "22P02": "invalid_text_representation",
        "22007": "invalid_datetime_format",
        "22003": "numeric_value_out_of_range",
        "22008": "datetime_field_overflow",
        "2201B": "invalid_regular_expression",
    }
    return f"{failed}{error.sqlstate} ({names.get(error.sqlstate or '', 'data_exception')}) {_primary(error)}"


async def read_published(connection: Connection, names: Sequence[tuple[str, str]]) -> list[Published]:
    """The published tables of those names (schema and table, `*` for any). It waits for no lock on a table."""
    schemas, tables = [schema for schema, _ in names], [table for _, table in names]
    cursor = await connection.execute(_PUBLISHED, (schemas, tables))
    return [
        Published(oid, schema, table, msgspec.convert((digest, relation, columns, labels), Shape), unsettled)
        for oid, schema, table, digest, relation, columns, labels, unsettled in await cursor.fetchall()
    ]


# As pg_publication_tables, which opens each table, and so waits while one is locked. A partition is published with its
# root where the publication says so, else by itself.
_PUBLISHED: LiteralString = (
    """
with publication as (
  select oid, puballtables, pubviaroot from pg_catalog.pg_publication where pubname = 'supabase_realtime'
), named as (
  select distinct c.oid, c.relname, c.relnamespace, c.relkind, c.relispartition, n.nspname
  from unnest(%s::text[], %s::text[]) as asked(s, t)
  join pg_catalog.pg_namespace n on asked.s in ('*', n.nspname)
  join pg_catalog.pg_class c on c.relnamespace = n.oid and asked.t in ('*', c.relname)
  where c.relkind in ('r', 'p') and c.relpersistence = 'p' and n.nspname not in ('pg_catalog', 'information_schema')
), family as (
  select named.oid, named.oid as ancestor from named
  union
  select named.oid, a.relid from named, pg_catalog.pg_partition_ancestors(named.oid) as a(relid)
  where named.relispartition
), member as (
  select f.oid, f.ancestor, p.pubviaroot,
    greatest(r.prtime, s.pntime) as since
  from family f join pg_catalog.pg_class c on c.oid = f.ancestor cross join publication p
  left join lateral (select x.xmin::text::int8 as prtime from pg_catalog.pg_publication_rel x
    where x.prpubid = p.oid and x.prrelid = f.ancestor) r on true
  left join lateral (select x.xmin::text::int8 as pntime from pg_catalog.pg_publication_namespace x
    where x.pnpubid = p.oid and x.pnnspid = c.relnamespace) s on true
  where p.puballtables or r.prtime is not null or s.pntime is not null
)
select c.oid::int8, named.nspname::text, c.relname::text,
"""
    + SHAPE
    + """,
  exists (select from member m where m.oid = c.oid
    and m.since >= pg_catalog.pg_snapshot_xmin(pg_catalog.pg_current_snapshot())::text::int8 %% 4294967296
    and exists (select from pg_catalog.pg_locks l join pg_catalog.pg_stat_activity a on a.pid = l.pid
      where l.relation = c.oid and l.locktype = 'relation' and l.granted and l.mode = 'RowExclusiveLock'
        and l.database = (select d.oid from pg_catalog.pg_database d where d.datname = current_database())
        and a.backend_xid is not null and a.backend_xid::text::int8 < m.since))
from named join pg_catalog.pg_class c on c.oid = named.oid
where exists (select from member m where m.oid = c.oid)
  and case when (select pubviaroot from publication)
    then not exists (select from member m where m.oid = c.oid and m.ancestor <> c.oid)
    else c.relkind = 'r' end
order by named.nspname, c.relname
"""
)
