"""What the catalogue says of a table: its key, types and policies, and who may read which of its columns."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Iterable
from typing import LiteralString, cast

import msgspec

from ..client.log import child
from ..protocol.pg_snapshot import PgSnapshot
from .pgoutput import UNCHANGED, Relation, Row
from .pool import Connection, Pool
from .render import BUILTIN, TYPES_QUERY, Converter, Types

log = child(__name__)

Key = tuple[str, ...]

RETRY = 0.0005
"""Seconds until it is asked again whether a transaction is visible."""
SOON = 20
"""Times that `seen` asks."""
FRESH = 1.0
"""Seconds for which grants are believed: the log has no messages about roles that become members of others."""
_MOST_COMPLAINTS = 10

_dumps = msgspec.json.encode


class Projection:
    """The columns of a table that one kind of subscriber sees, with everything that is the same for each row."""

    def __init__(self, table: Table, visible: frozenset[str]) -> None:
        self.indices = [i for i, column in enumerate(table.relation.columns) if column.name in visible]
        self.all = len(self.indices) == len(table.relation.columns)
        # The identity's columns, which with REPLICA IDENTITY FULL are all; under row level security those of the key.
        self.old = [i for i in table.identity if i in self.indices and (i in table.key or not table.rls)]
        columns = [{"name": table.relation.columns[i].name, "type": table.type_names[i]} for i in self.indices]
        where = b'{"schema":%b,"table":%b,"columns":%b,"type":' % (
            _dumps(table.relation.schema),
            _dumps(table.relation.name),
            _dumps(columns),
        )
        self.heads = {kind: where + b'"%b","errors":' % kind.encode() for kind in ("INSERT", "UPDATE", "DELETE")}


class Shape(msgspec.Struct, frozen=True, array_like=True):
    """What a table is, so that two looks at it can be compared."""

    digest: str
    """Differs where columns, types, labels, identity or the key's index are others."""
    relation: str
    """Differs where its rows are others: the table was made again or written anew (also by TRUNCATE), has another key,
    other partitions or attributes of types, or the publication sends others, or policies and grants show others.
    """
    columns: list[tuple[str, str, str, str]]
    """Number, name, type (an oid), and `t` where rows of before the column got a value, such as its default."""
    labels: list[tuple[str, str]] = []
    """Of its enums: oid and text."""

    def keeps_rows_of(self, before: Shape) -> bool:
        """Whether rows read while the table was `before` hold what they do now, but for nulls in new columns."""
        if self.relation != before.relation:
            return False
        labels = dict(before.labels)
        if any(labels.get(oid, label) != label for oid, label in self.labels):
            return False
        known = {number: (name, kind) for number, name, kind, _ in before.columns}
        return all(
            known[number] == (name, kind) if number in known else filled == "f"
            for number, name, kind, filled in self.columns
        )


class Facts(msgspec.Struct, array_like=True):
    """What the catalogue says of a relation, in the order of the query's columns."""

    rls: bool
    key: list[tuple[str, str]]
    """Names, and types as SQL writes them."""
    judged: list[str]
    """The columns that its policies for reading look at."""
    strict: bool
    """Whether they look at what columns do not show: the whole row, other tables, functions, the time."""
    by_index: bool
    """Whether the key may be looked up before the policies are asked."""
    current: bool
    """Whether the table still has the name of the relation."""
    access: str
    """Differs where something else decides who sees what: grants, roles, policies."""
    digest: str
    relation: str
    columns: list[tuple[str, str, str, str]]
    labels: list[tuple[str, str]]

    @property
    def shape(self) -> Shape:
        return Shape(self.digest, self.relation, self.columns, self.labels)


class Access(msgspec.Struct):
    """What one role may read of a table."""

    columns: frozenset[str]
    restricted: bool
    """Whether row level security decides which rows."""
    changed: bool
    """Whether grants or policies are others than when the table was looked up."""
    until: float
    """Until when that is believed."""


class Table:
    """What must be known to send a relation's rows; made anew after each RELATION message, so it is never stale."""

    def __init__(self, relation: Relation, types: Types, facts: Facts | None) -> None:
        """`facts`: None where the table has been dropped meanwhile."""
        self.relation = relation
        self.facts = facts
        positions = {column.name: i for i, column in enumerate(relation.columns)}
        key = facts.key if facts is not None and all(name in positions for name, _ in facts.key) else []
        self.rls = facts is not None and facts.rls
        self.key = [positions[name] for name, _ in key]
        self.key_types = [kind for _, kind in key]
        self.key_names = frozenset(name for name, _ in key)
        self.position = positions
        self.identity = [i for i, column in enumerate(relation.columns) if column.is_identity]
        self.type_names = [types.name(column.type_oid) for column in relation.columns]
        self.base_types = {column.name: types.base_name(column.type_oid) for column in relation.columns}
        self.casts = {column.name: types.cast(column.type_oid) for column in relation.columns}
        """By column, its type as SQL writes it."""
        self.collated = frozenset(self.base_types if types.collated else ())
        """Columns whose text Postgres does not sort by code point."""
        self.every = frozenset(positions)
        self.access: dict[str, Access] = {}
        """By role."""
        self._names = [_dumps(column.name) + b":" for column in relation.columns]
        self.converters: list[Converter] = [types.converter(column.type_oid) for column in relation.columns]
        self._projections: dict[frozenset[str], Projection] = {}
        self._complaints: set[str] = set()

    def judged(self, *, strict: bool) -> list[int]:
        """The columns that decide whether a version of a row is as visible as the row that stands."""
        facts = self.facts
        if strict or facts is None or facts.strict or not all(name in self.position for name in facts.judged):
            return list(range(len(self.relation.columns)))
        return [self.position[name] for name in facts.judged]

    def projection(self, visible: frozenset[str]) -> Projection:
        """The rows as somebody sees them who sees these columns."""
        found = self._projections.get(visible)
        if found is None:
            found = self._projections[visible] = Projection(self, visible)
        return found

    def row(self, row: Row, indices: Iterable[int]) -> bytes:
        """The JSON object of those columns; what Postgres did not send is left out."""
        names, converters = self._names, self.converters
        parts: list[bytes] = []
        for i in indices:
            value = row[i]
            if value is None:
                parts.append(names[i] + b"null")
            elif isinstance(value, bytes):
                parts.append(names[i] + converters[i](value))
        return b"{" + b",".join(parts) + b"}"

    def full_row(self, row: Row) -> bytes:
        """As `row`, for every column: the hot path."""
        if UNCHANGED in row:
            return self.row(row, range(len(row)))
        parts = [
            name + b"null" if value is None else name + convert(cast("bytes", value))
            for name, convert, value in zip(self._names, self.converters, row, strict=True)
        ]
        return b"{" + b",".join(parts) + b"}"

    def complain(self, error: Exception) -> None:
        """Logs that a policy fails: once, not with each change."""
        if str(error) not in self._complaints and len(self._complaints) < _MOST_COMPLAINTS:
            self._complaints.add(str(error))
            log.warning("the policies of %s.%s failed: %s", self.relation.schema, self.relation.name, error)

    def key_of(self, row: Row) -> Key:
        """The row's key, as Postgres writes it."""
        return tuple([cast("bytes", row[i]).decode() for i in self.key])


class Catalogue:
    """Looks tables up; what is found stays with the `Relation` that it was looked up for."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._types = Types()
        self._relations: dict[int, Relation] = {}
        """By oid, that of the last RELATION message."""

    def known(self, relation: Relation) -> Table | None:
        """The table, if it has been looked up since its RELATION message."""
        found = relation.table
        return found if isinstance(found, Table) else None

    async def table(self, relation: Relation, xid: int | None = None) -> Table:
        """The table as it stands now, that transaction included; asked once for each RELATION message."""
        found = self.known(relation)
        if found is not None:
            return found
        async with self._pool.connection() as connection:
            if xid is not None:
                await _wait_until_visible(connection, xid)
            # A type of the user's own may have been altered.
            if any(c.type_oid >= BUILTIN or c.type_oid not in self._types for c in relation.columns):
                cursor = await connection.execute(TYPES_QUERY)
                types = await cursor.fetchall()
                cursor = await connection.execute("select 'a' < 'B'")
                self._types.load(types, (await cursor.fetchone() or (False,))[0])
            cursor = await connection.execute(_FACTS, (relation.schema, relation.name, relation.oid))
            row = await cursor.fetchone()
        table = Table(relation, self._types, msgspec.convert(row, Facts) if row is not None else None)
        relation.table = table
        self._relations[relation.oid] = relation
        return table

    def forget(self, oid: int) -> None:
        """The relation is looked up anew before its next change: a type of its columns has been altered, of which the
        log says nothing."""
        relation = self._relations.get(oid)
        if relation is not None:
            relation.table = None

    async def access(self, table: Table, role: str) -> Access:
        """What the role may read, as of the last second."""
        found = table.access.get(role)
        now = time.monotonic()
        if found is None or found.until < now:
            async with self._pool.connection() as connection:
                cursor = await connection.execute(_ACCESS, (table.relation.oid, role))
                columns, bypass, access = await cursor.fetchone() or ([], False, "")
            facts = table.facts
            found = table.access[role] = Access(
                frozenset(columns),
                table.rls and not bypass,
                facts is not None and access != facts.access,
                now + FRESH,
            )
        return found

    async def accesses(self, relations: Collection[Relation]) -> dict[int, str]:
        """By oid, what `Facts.access` would be now."""
        async with self._pool.connection() as connection:
            cursor = await connection.execute(_ACCESSES, ([relation.oid for relation in relations],))
            return dict(await cursor.fetchall())

    async def seen(self, xids: Collection[int]) -> bool:
        """Whether everybody sees these transactions, whose commits are in the log; waits a little for those that are
        on the way."""
        async with self._pool.connection() as connection:
            for _ in range(SOON):
                if await all_visible(connection, xids):
                    return True
                await asyncio.sleep(RETRY)
        return False


async def all_visible(connection: Connection, xids: Collection[int]) -> bool:
    """Whether a snapshot of now sees all these transactions."""
    cursor = await connection.execute("select pg_current_snapshot()::text")
    row = await cursor.fetchone()
    return row is not None and all(map(PgSnapshot.parse(row[0]).visible, xids))


async def _wait_until_visible(connection: Connection, xid: int) -> None:
    while not await all_visible(connection, (xid,)):  # noqa: ASYNC110 - it happens in Postgres
        await asyncio.sleep(RETRY)


# --- queries; none of them waits for a lock on the table

# Who sees what: grants of the table and its columns, its policies, and who is a member of whom.
ACCESS: LiteralString = """
md5(concat_ws('|', c.relrowsecurity, c.relforcerowsecurity, c.relowner, c.relacl::text,
  (select string_agg(a.attname || a.attacl::text, ',' order by a.attnum)
    from pg_catalog.pg_attribute a where a.attrelid = c.oid and a.attacl is not null),
  (select string_agg(p.oid::text || ':' || p.xmin::text, ',' order by p.oid)
    from pg_catalog.pg_policy p where p.polrelid = c.oid),
  (select string_agg(m.roleid || '>' || m.member, ',' order by m.roleid, m.member) from pg_catalog.pg_auth_members m),
  (select string_agg(r.rolname, ',' order by r.rolname)
    from pg_catalog.pg_authid r where r.rolsuper or r.rolbypassrls)))
"""

# Every type that the columns of `c` are made of, but for Postgres' own: of a domain, an array, a row, a range.
_MADE_OF: LiteralString = """
with recursive made(oid) as (
  select a.atttypid from pg_catalog.pg_attribute a
  where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped and a.atttypid >= 16384
  union
  select part.oid from made join pg_catalog.pg_type t on t.oid = made.oid cross join lateral (
    select t.typbasetype union all select t.typelem
    union all select r.rngsubtype from pg_catalog.pg_range r where r.rngtypid = t.oid or r.rngmultitypid = t.oid
    union all select a.atttypid from pg_catalog.pg_attribute a
      where t.typtype = 'c' and a.attrelid = t.typrelid and a.attnum > 0 and not a.attisdropped) part(oid)
  where part.oid >= 16384
)
"""

# What the publication sends of `c`, who sees it, and the files that hold its rows, with those of its partitions: a
# table that is written anew (TRUNCATE, ALTER TYPE USING) has another one, and the log says nothing of the rows in it.
_ROWS: LiteralString = (
    """
concat_ws('|', c.oid,
  (select i.indkey::text from pg_catalog.pg_index i where i.indrelid = c.oid and i.indisprimary),
  (select concat_ws(' ', p.pubinsert, p.pubupdate, p.pubdelete, r.prqual::text, r.prattrs::text,
      case when c.relkind = 'p' or c.relispartition then p.pubviaroot end)
    from pg_catalog.pg_publication p
    left join pg_catalog.pg_publication_rel r on r.prpubid = p.oid and r.prrelid = c.oid
    where p.pubname = 'supabase_realtime'),
"""
    + ACCESS
    + """,
  (with recursive part(oid) as (select c.oid union
      select i.inhrelid from part join pg_catalog.pg_inherits i on i.inhparent = part.oid)
    select string_agg(concat_ws(' ', k.oid, k.relfilenode), ',' order by k.oid)
    from part join pg_catalog.pg_class k on k.oid = part.oid),
  ("""
    + _MADE_OF
    + """
    select string_agg(concat_ws(' ', t.oid, a.attnum, a.attname, a.atttypid), ',' order by t.oid, a.attnum)
    from made join pg_catalog.pg_type t on t.oid = made.oid and t.typtype = 'c'
    join pg_catalog.pg_attribute a on a.attrelid = t.typrelid and a.attnum > 0 and not a.attisdropped))
"""
)

# The columns of a `Shape`.
SHAPE: LiteralString = (
    """
md5(concat_ws('|', c.relreplident, c.relkind, c.relispartition,
  (select string_agg(concat_ws(' ', a.attnum, a.attname, a.atttypid, a.atttypmod), ',' order by a.attnum)
    from pg_catalog.pg_attribute a where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped),
  (select string_agg(concat_ws(' ', i.indexrelid, i.indkey::text, i.indisprimary, i.indisreplident), ','
      order by i.indexrelid)
    from pg_catalog.pg_index i where i.indrelid = c.oid and (i.indisprimary or i.indisreplident)),
  ("""
    + _MADE_OF
    + """
    select string_agg(concat_ws(' ', t.oid, t.typname, t.typnamespace, t.typbasetype,
      (select string_agg(l.enumlabel, ',' order by l.enumsortorder) from pg_catalog.pg_enum l
        where l.enumtypid = t.oid)), ',' order by t.oid)
    from made join pg_catalog.pg_type t on t.oid = made.oid))),
md5("""
    + _ROWS
    + """),
coalesce((select array_agg(array[a.attnum::text, a.attname::text, a.atttypid::text,
    case when a.atthasdef or a.atthasmissing or a.attidentity <> '' then 't' else 'f' end] order by a.attnum)
  from pg_catalog.pg_attribute a where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped), '{}'),
coalesce(("""
    + _MADE_OF
    + """
  select array_agg(array[l.oid::text, l.enumlabel::text] order by l.oid)
  from made join pg_catalog.pg_enum l on l.enumtypid = made.oid), '{}')
"""
)

_FACTS: LiteralString = (
    """
select c.relrowsecurity,
  coalesce((select array_agg(array[a.attname::text, format_type(a.atttypid, a.atttypmod)] order by k.n)
    from pg_catalog.pg_index i cross join unnest(i.indkey::int2[]) with ordinality as k(attnum, n)
    join pg_catalog.pg_attribute a on a.attrelid = i.indrelid and a.attnum = k.attnum
    where i.indrelid = c.oid and i.indisprimary and k.n <= i.indnkeyatts), '{}'),
  coalesce((select array_agg(distinct a.attname::text)
    from pg_catalog.pg_policy p join pg_catalog.pg_depend d on d.classid = 'pg_catalog.pg_policy'::regclass
      and d.objid = p.oid and d.refclassid = 'pg_catalog.pg_class'::regclass and d.refobjid = c.oid
    join pg_catalog.pg_attribute a on a.attrelid = c.oid and a.attnum = d.refobjsubid
    where p.polrelid = c.oid and p.polcmd in ('r', '*')), '{}'),
  exists (select from pg_catalog.pg_policy p where p.polrelid = c.oid and p.polcmd in ('r', '*') and (
    position(':varattno 0 ' in p.polqual::text) > 0 or position('{SQLVALUEFUNCTION ' in p.polqual::text) > 0
    or exists (
      select from pg_catalog.pg_depend d
      left join pg_catalog.pg_proc f on d.refclassid = 'pg_catalog.pg_proc'::regclass and f.oid = d.refobjid
      left join pg_catalog.pg_namespace n on n.oid = f.pronamespace
      where d.classid = 'pg_catalog.pg_policy'::regclass and d.objid = p.oid
        and (n.nspname <> 'auth' or d.refclassid = 'pg_catalog.pg_operator'::regclass))
    or exists (
      select from regexp_matches(p.polqual::text, ':relid (\\d+)', 'g') as m where m[1]::oid <> c.oid)
    or exists (
      select from regexp_matches(p.polqual::text, ':(?:op)?funcid (\\d+)', 'g') as m
      join pg_catalog.pg_proc f on f.oid = m[1]::oid join pg_catalog.pg_namespace n on n.oid = f.pronamespace
      where f.provolatile <> 'i' and (n.nspname, f.proname) not in (('pg_catalog', 'current_setting'),
        ('auth', 'uid'), ('auth', 'jwt'), ('auth', 'role'), ('auth', 'email')))
    )),
  coalesce((select bool_and(f.proleakproof) from pg_catalog.pg_index i
    cross join unnest(i.indclass::oid[]) as k(oid) join pg_catalog.pg_opclass s on s.oid = k.oid
    join pg_catalog.pg_amop o on o.amopfamily = s.opcfamily and o.amopstrategy = 3
      and o.amoplefttype = s.opcintype and o.amoprighttype = s.opcintype
    join pg_catalog.pg_operator e on e.oid = o.amopopr join pg_catalog.pg_proc f on f.oid = e.oprcode
    where i.indrelid = c.oid and i.indisprimary), false),
  n.nspname = %s and c.relname = %s,
"""
    + ACCESS
    + ","
    + SHAPE
    + """
from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace where c.oid = %s
"""
)

_ACCESS: LiteralString = (
    """
select coalesce((select array_agg(a.attname::text) from pg_catalog.pg_attribute a
    where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
    and pg_catalog.pg_has_role('authenticator', r.oid, 'MEMBER')
    and pg_catalog.has_column_privilege(r.oid, a.attrelid, a.attnum, 'SELECT')), '{}'),
  r.rolbypassrls or r.rolsuper,
"""
    + ACCESS
    + """
from pg_catalog.pg_class c, pg_catalog.pg_roles r where c.oid = %s and r.rolname = %s
"""
)

_ACCESSES: LiteralString = "select c.oid::int8," + ACCESS + "from pg_catalog.pg_class c where c.oid = any(%s)"
