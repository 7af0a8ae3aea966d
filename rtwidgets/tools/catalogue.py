"""What only the database itself knows of a table: how it is published, and which rows its policies show."""

from __future__ import annotations

from typing import NamedTuple, NoReturn

import psycopg
from psycopg import sql

from rtwidgets.local.description import PUBLICATION

MOST = 1000
"""Rows that are counted: whether there are any is what matters."""


class Policy(NamedTuple):
    """One that lets a role see rows; `using` is its condition."""

    name: str
    using: str


class Entry(NamedTuple):
    """A table in the catalogue."""

    wal_level: str
    kind: str
    """`pg_class.relkind`: `r` and `p` are tables, `v` and `m` views, `f` a foreign table."""
    persistence: str
    """`pg_class.relpersistence`: `p` permanent, `u` unlogged, `t` temporary."""
    identity: str
    """`pg_class.relreplident`: `d` the primary key, `f` the whole row, `i` an index, `n` nothing."""
    published: bool
    """Whether changes are sent under its own name."""
    member: bool
    """Whether the publication lists it, or a table that it is a partition of."""
    filter: str | None
    """The publication's row filter."""
    columns: list[str] | None
    """The publication's column list."""
    left_out: list[str]
    """What the publication does not send: `insert`, `update`, `delete`."""
    secured: bool
    """Whether row level security binds the role here."""
    policies: list[Policy]
    """Those for the role."""
    rows: int
    """As the database's owner sees them, counted up to `MOST`."""


class Trouble(Exception):
    """What keeps the table's changes from coming, and the SQL that fixes it."""

    def __init__(self, detail: str, fix: str) -> None:
        super().__init__(detail)
        self.detail, self.fix = detail, fix


async def read_entry(dsn: str, schema: str, table: str, role: str) -> Entry | None:
    """None where the database has no such table. Raises psycopg.Error."""
    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True, connect_timeout=10) as connection:
        cursor = await connection.execute(_CATALOGUE.encode(), {"schema": schema, "table": table, "role": role})
        row = await cursor.fetchone()
        if row is None:
            return None
        count = sql.SQL("select count(*) from (select from {} limit {}) few").format(
            sql.Identifier(schema, table), sql.Literal(MOST)
        )
        counted = await (await connection.execute(count)).fetchone()
        wal_level, kind, persistence, identity, published, member, filter, columns, left_out, secured, policies = row
        return Entry(
            wal_level,
            kind,
            persistence,
            identity,
            published,
            member,
            filter,
            columns,
            left_out,
            secured,
            [Policy(name, using) for name, using in policies],
            counted[0] if counted else 0,
        )


def check_table(found: Entry | None, name: str) -> Entry:
    """The entry of a table. Raises Trouble where it is none. `name` is the table's, quoted."""
    if found is None:
        _fail(f"this database has no table {name}", "Check the DSN: is it that of the project? (SUPABASE_DB_URL)")
    if found.kind not in "rp":
        what = "a foreign table" if found.kind == "f" else "a view"
        _fail(f"{name} is {what}, and has no changes of its own", "Follow the tables that it reads instead")
    return found


def judge(found: Entry, name: str, role: str, seen: int) -> tuple[str, str]:
    """What there is to report of a table of which `role` sees `seen` rows, and a fix where that is odd.

    Raises Trouble for the first thing that keeps changes from coming.
    """
    if found.wal_level != "logical":
        _fail(f"wal_level is {found.wal_level}", "alter system set wal_level = logical; -- then restart Postgres")
    _check_publication(found, name)
    if found.identity == "n":
        _fail(
            f"the replica identity of {name} is nothing, so Postgres refuses its updates and deletes",
            f"alter table {name} replica identity default;",
        )
    policy = f'create policy "read" on {name} for select to {role} using (true);'
    if found.secured and not found.policies:
        _fail(f"row level security is on for {name}, and no policy lets {role} see a row", policy)
    again = (
        f"alter publication supabase_realtime drop table {name}; alter publication supabase_realtime add table {name};"
    )
    if found.filter is not None:
        return f"published with a row filter: rows that do not meet {found.filter} send no changes", again
    if found.columns is not None:
        return f"published with a column list: changes carry {', '.join(found.columns)} alone", again
    if found.secured and not seen and found.rows:
        rows = f"{found.rows} rows" if found.rows < MOST else f"{MOST} rows or more"
        conditions = "; ".join(f'"{policy.name}": {policy.using}' for policy in found.policies)
        fix = f"{policy} -- to all of that role; else connect as a user whose rows they are (token=)"
        return f"published; {name} has {rows}, and the policies for {role} show none of them ({conditions})", fix
    detail = f"published, row level security {'on' if found.secured else 'off'}"
    if found.identity != "f":
        detail += ", deletes carry the key alone"
    return detail + ("" if found.rows else ", the table is empty"), ""


def _check_publication(found: Entry, name: str) -> None:
    if found.persistence == "u":
        _fail(f"{name} is unlogged: Postgres does not log its changes", f"alter table {name} set logged;")
    if not found.published and found.member and found.kind == "p":
        _fail(
            f"{name} is partitioned, and its changes are sent under the names of its partitions",
            "alter publication supabase_realtime set (publish_via_partition_root = true);",
        )
    if not found.published and found.member:
        _fail(
            f"{name} is a partition, and its changes are sent under the name of its partitioned table",
            "Follow the partitioned table instead",
        )
    if not found.published:
        _fail(
            f"{name} is not in the publication supabase_realtime",
            f"alter publication supabase_realtime add table {name};",
        )
    if found.left_out:
        _fail(
            f"the publication supabase_realtime leaves out every {' and '.join(found.left_out)}",
            "alter publication supabase_realtime set (publish = 'insert, update, delete, truncate');",
        )


def _fail(detail: str, fix: str) -> NoReturn:
    raise Trouble(detail, fix)


# `pg_has_role` counts a superuser as a member of everything: policies are for the roles that one was granted.
_CATALOGUE = f"""
select current_setting('wal_level'), c.relkind::text, c.relpersistence::text, c.relreplident::text,
  coalesce(p.published, false), coalesce(p.member, false), pg_get_expr(p.filter, c.oid),
  case when p.columns is not null then (select array_agg(a.attname::text order by a.attnum) from pg_attribute a
    where a.attrelid = c.oid and a.attnum = any(p.columns)) end,
  array_remove(array[case when not p.pubinsert then 'insert' end, case when not p.pubupdate then 'update' end,
    case when not p.pubdelete then 'delete' end], null),
  c.relrowsecurity and not coalesce((select r.rolbypassrls or r.rolsuper from pg_roles r where r.rolname = %(role)s),
    false),
  coalesce((select jsonb_agg(jsonb_build_array(p.polname, coalesce(pg_get_expr(p.polqual, p.polrelid), 'true'))
      order by p.polname)
    from pg_policy p where p.polrelid = c.oid and p.polcmd in ('r', '*') and p.polpermissive
      and (p.polroles = '{{0}}' or exists (select from pg_roles r, unnest(p.polroles) held
        where r.rolname = %(role)s and pg_has_role(r.oid, held, 'member')))), '[]')
from pg_class c join pg_namespace n on n.oid = c.relnamespace
left join lateral ({PUBLICATION}) p on true
where c.relname = %(table)s and n.nspname = %(schema)s
"""
