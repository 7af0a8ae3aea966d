"""Adds tables to the publication `supabase_realtime`, so that their changes are sent."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import psycopg
from psycopg import sql

from rtwidgets.local.description import PUBLICATION
from rtwidgets.protocol.errors import RealtimeError

Connection = psycopg.Connection[tuple[Any, ...]]

_NAME = re.compile(r'(?:"(?:[^"]|"")+"|[^".]+)(?:\.(?:"(?:[^"]|"")+"|[^".]+))?')
_PART = re.compile(r'"((?:[^"]|"")+)"|([^".]+)')

_VIEWS = {"v": "a view", "m": "a materialized view", "f": "a foreign table"}


class _Table(NamedTuple):
    kind: str
    """`pg_class.relkind`."""
    persistence: str
    """`pg_class.relpersistence`: `p` permanent, `u` unlogged, `t` temporary."""
    identity: str
    """`pg_class.relreplident`."""
    keyed: bool
    """Whether its primary key can be its identity: a deferrable one cannot."""
    indexed: bool
    """Whether the index of its identity is there."""
    published: bool | None
    member: bool | None
    sources: list[str]
    """Of a view: the tables that it reads, quoted."""


def publish(connection: Connection, table: str) -> None:
    """Publishes one table, `orders` or `schema.orders`; a name with a dot in it stands in double quotes.

    Safe to call again. A partitioned table is published under its own name, for which the publication's
    `publish_via_partition_root` is set. Raises RealtimeError where the table cannot be published as it is.
    """
    schema, name, found = _find(connection, table)
    quoted = sql.Identifier(schema, name).as_string()
    if found is None:
        raise RealtimeError(
            f"There is no table {quoted}.", code="TableNotFound", hint=f"Create it first: create table {quoted} (...);"
        )
    _check(found, quoted)
    if found.published:
        return
    if found.kind == "r" and found.member:
        raise RealtimeError(
            f"{quoted} is a partition, whose changes are sent under the name of the table that it is a partition of.",
            code="PublishedByRoot",
            hint="Follow the partitioned table, with a filter for the rows of this partition.",
        )
    if found.kind == "p":
        connection.execute("alter publication supabase_realtime set (publish_via_partition_root = true)")
    if not found.member:
        try:
            connection.execute(
                sql.SQL("alter publication supabase_realtime add table {}").format(sql.Identifier(schema, name))
            )
        except psycopg.errors.DuplicateObject:
            pass  # somebody else added it meanwhile


def _find(connection: Connection, text: str) -> tuple[str, str, _Table | None]:
    """Schema and name that the text stands for, and the table of that name."""
    if _NAME.fullmatch(text) is None:
        # A name with dots and quotes of its own, exactly as it is.
        return "public", text, _read(connection, "public", text)
    parts = [quoted.replace('""', '"') or bare for quoted, bare in _PART.findall(text)]
    schema, name = parts if len(parts) == 2 else ("public", parts[0])
    found = _read(connection, schema, name)
    if found is None and len(parts) == 2:
        whole = _read(connection, "public", text)
        if whole is not None:
            return "public", text, whole
    return schema, name, found


def _read(connection: Connection, schema: str, name: str) -> _Table | None:
    if "\x00" in schema + name:
        return None
    row = connection.execute(_TABLE.encode(), {"schema": schema, "name": name}).fetchone()
    return None if row is None else _Table(*row)


def _check(table: _Table, name: str) -> None:
    if table.kind in _VIEWS:
        read = f" It reads {', '.join(table.sources)}: publish and follow those." if table.sources else ""
        raise RealtimeError(
            f"{name} is {_VIEWS[table.kind]}, which has no changes of its own.",
            code="NotATable",
            hint=f"Publish tables.{read}",
        )
    if table.persistence != "p":
        unlogged = table.persistence == "u"
        raise RealtimeError(
            f"The table {name} is {'unlogged' if unlogged else 'temporary'}: Postgres does not log its changes.",
            code="TableNotLogged",
            hint=f"alter table {name} set logged;" if unlogged else "Create it without `temporary`.",
        )
    full = f"alter table {name} replica identity full;"
    if table.identity == "n" or (table.identity == "i" and not table.indexed):
        missing = "nothing" if table.identity == "n" else "an index that is gone"
        raise RealtimeError(
            f"The replica identity of {name} is {missing}: published as it is, Postgres would refuse its updates and "
            "deletes.",
            code="NoReplicaIdentity",
            hint=f"alter table {name} replica identity default;" if table.keyed else full,
        )
    if table.identity == "d" and not table.keyed:
        raise RealtimeError(
            f"The table {name} has no primary key: published as it is, Postgres would refuse its updates and deletes.",
            code="NoPrimaryKey",
            hint=f"alter table {name} add primary key (...); or, append-only: {full}",
        )


_TABLE = f"""
select c.relkind::text, c.relpersistence::text, c.relreplident::text,
  exists (select from pg_catalog.pg_index i where i.indrelid = c.oid and i.indisprimary and i.indimmediate),
  exists (select from pg_catalog.pg_index i where i.indrelid = c.oid and i.indisreplident),
  p.published, p.member,
  coalesce((select array_agg(distinct format('%%I.%%I', sn.nspname, s.relname))
    from pg_catalog.pg_rewrite r
    join pg_catalog.pg_depend d on d.classid = 'pg_catalog.pg_rewrite'::regclass and d.objid = r.oid
      and d.refclassid = 'pg_catalog.pg_class'::regclass
    join pg_catalog.pg_class s on s.oid = d.refobjid and s.relkind in ('r', 'p')
    join pg_catalog.pg_namespace sn on sn.oid = s.relnamespace
    where r.ev_class = c.oid), '{{}}')
from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
left join lateral ({PUBLICATION}) p on true
where n.nspname = %(schema)s::text and c.relname = %(name)s::text and c.relkind in ('r', 'p', 'v', 'm', 'f')
"""
