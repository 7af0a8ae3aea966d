"""Who may see what: the catalogue of tables, column grants, row visibility and the policies of private channels.

Supabase asks Postgres for every change and every subscription. Here one question a batch is asked for each distinct
(role, claims), and none at all where row level security is off.

The question is about the row as it stands when it is asked, which need not be the version of it that a change
carries: a later change may have let the caller in. So a version goes out only if it differs from the row that the
caller sees in nothing that the policies look at.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, LiteralString

import msgspec
import psycopg
from psycopg import sql

from rtwidgets.client.log import child
from rtwidgets.protocol.pg_snapshot import PgSnapshot

from .auth import Identity
from .pgoutput import UNCHANGED, Relation, Row
from .pool import Connection, Pool, identifier
from .render import BUILTIN, TYPES_QUERY, Converter, Types

log = child(__name__)

Key = tuple[str, ...]

RETRY = 0.0005
"""Seconds until it is asked again whether a transaction is seen."""
SOON = 20
"""Times that `seen` asks."""
PATIENCE = 5.0
"""Seconds after which such a wait is in the log."""

FRESH = 1.0
"""Seconds for which grants are believed: the log tells nothing of roles that become members of others."""

_dumps = msgspec.json.encode


class Projection:
    """The columns of a table that one kind of subscriber sees, with everything that does not change from row to row."""

    def __init__(self, table: Table, visible: frozenset[str]) -> None:
        self.indices = [i for i, column in enumerate(table.relation.columns) if column.name in visible]
        self.all = len(self.indices) == len(table.relation.columns)
        self.names = [table.names[i] for i in self.indices]
        columns = [{"name": table.relation.columns[i].name, "type": table.type_names[i]} for i in self.indices]
        where = b'{"schema":%b,"table":%b,"columns":%b,"type":' % (
            _dumps(table.relation.schema),
            _dumps(table.relation.name),
            _dumps(columns),
        )
        self.heads = {kind: where + b'"%b","errors":' % kind.encode() for kind in ("INSERT", "UPDATE", "DELETE")}


class Table:
    """What must be known of a table to send its rows; made anew after each RELATION message, so it never goes stale."""

    def __init__(
        self,
        relation: Relation,
        types: Types,
        key: list[str],
        key_types: list[str],
        rls: bool,
        judged: list[str] | None = None,
        by_index: bool = True,
    ) -> None:
        self.relation = relation
        self.by_index = by_index
        self.key_types = key_types  # as SQL writes them
        self.rls = rls
        positions = {column.name: i for i, column in enumerate(relation.columns)}
        self.key = [positions[name] for name in key] if all(name in positions for name in key) else []
        self.key_names = frozenset(relation.columns[i].name for i in self.key)
        self.position = positions
        self.identity = [i for i, column in enumerate(relation.columns) if column.is_identity]
        every = list(range(len(relation.columns)))
        whole = judged is None or not all(name in positions for name in judged)
        self.judged = every if whole else [positions[name] for name in judged or ()]
        """The columns that decide whether a version of a row is as visible as the row that stands."""
        self.type_names = [types.name(column.type_oid) for column in relation.columns]
        self.base_types = {column.name: types.base_name(column.type_oid) for column in relation.columns}
        self.casts = {column.name: types.cast(column.type_oid) for column in relation.columns}
        """By column, its type as SQL writes it."""
        self.collated = frozenset(self.base_types if types.collated else ())
        """Columns whose text Postgres does not sort by code point."""
        self.names = [_dumps(column.name) + b":" for column in relation.columns]
        self.converters: list[Converter] = [types.converter(column.type_oid) for column in relation.columns]
        self.every = frozenset(positions)
        self.grants: dict[str, tuple[float, frozenset[str]]] = {}
        self._projections: dict[frozenset[str], Projection] = {}
        self._complaints: set[str] = set()

    def projection(self, visible: frozenset[str]) -> Projection:
        found = self._projections.get(visible)
        if found is None:
            found = self._projections[visible] = Projection(self, visible)
        return found

    def row(self, row: Row, indices: Iterable[int]) -> bytes:
        """The JSON object of those columns; what Postgres did not send is left out."""
        names, converters = self.names, self.converters
        parts: list[bytes] = []
        for i in indices:
            value = row[i]
            if value is None:
                parts.append(names[i] + b"null")
            elif value is not UNCHANGED:
                parts.append(names[i] + converters[i](value))  # type: ignore[arg-type]
        return b"{" + b",".join(parts) + b"}"

    def full_row(self, row: Row) -> bytes:
        """As `row`, for every column: the hot path."""
        if UNCHANGED in row:
            return self.row(row, range(len(row)))
        return (
            b"{"
            + b",".join(
                [
                    name + b"null" if value is None else name + convert(value)  # type: ignore[arg-type]
                    for name, convert, value in zip(self.names, self.converters, row, strict=True)
                ]
            )
            + b"}"
        )

    def complain(self, error: Exception) -> None:
        """Says in the log that a policy fails: once, not with each change."""
        if str(error) not in self._complaints and len(self._complaints) < 10:
            self._complaints.add(str(error))
            log.warning("the policies of %s.%s failed: %s", self.relation.schema, self.relation.name, error)

    def key_of(self, row: Row) -> Key:
        return tuple([row[i].decode() for i in self.key])  # type: ignore[union-attr]


class Permissions(msgspec.Struct, frozen=True):
    """What the policies on realtime.messages grant on one topic."""

    read_broadcast: bool = True
    write_broadcast: bool = True
    read_presence: bool = True
    write_presence: bool = True


PUBLIC = Permissions()
NOTHING = Permissions(False, False, False, False)


async def become(connection: Connection, identity: Identity, topic: str | None = None) -> None:
    """Turns the rest of this transaction into that caller's. Raises psycopg.Error where nobody may be that role.

    As PostgREST does it: as `authenticator`, which can become what has been granted to it, whatever a token says.
    """
    await connection.execute(
        "select set_config('request.jwt.claims', %s, true), set_config('request.jwt.claim.sub', %s, true), "
        "set_config('request.jwt.claim.role', %s, true), set_config('realtime.topic', %s, true), "
        "set_config('session_authorization', 'authenticator', true), set_config('role', %s, true)",
        (identity.claims, identity.sub, identity.role, topic or "", identity.role),
    )


class Catalogue:
    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self.types = Types()
        self._tables: dict[int, Table] = {}
        self._bypass: dict[str, tuple[float, bool]] = {}

    def known(self, relation: Relation) -> Table | None:
        table = self._tables.get(relation.oid)
        return table if table is not None and table.relation is relation else None

    async def table(self, relation: Relation, xid: int | None = None) -> Table:
        """The table as it stands now, that transaction included; asked once for each RELATION message."""
        found = self.known(relation)
        if found is not None:
            return found
        async with self._pool.connection() as connection:
            if xid is not None:
                await self._end(connection, xid)
            # A type of the user's own may have been altered.
            oids = [column.type_oid for column in relation.columns]
            if any(oid >= BUILTIN or oid not in self.types for oid in oids):
                cursor = await connection.execute(TYPES_QUERY)
                found = await cursor.fetchall()
                cursor = await connection.execute("select 'a' < 'B'")
                self.types.load(found, (await cursor.fetchone() or [False])[0])
            cursor = await connection.execute(_TABLE, (relation.oid,))
            row = await cursor.fetchone()
        self._bypass.clear()
        # Dropped meanwhile, perhaps.
        rls, key, columns, whole, by_index = row if row is not None else (False, [], [], False, True)
        names, kinds = [name for name, _ in key], [kind for _, kind in key]
        judged = None if whole else columns
        table = self._tables[relation.oid] = Table(relation, self.types, names, kinds, rls, judged, by_index)
        return table

    async def grants(self, table: Table, role: str) -> frozenset[str]:
        """The columns that the role may SELECT."""
        asked, found = table.grants.get(role, (0.0, frozenset[str]()))
        if time.monotonic() - asked > FRESH:
            async with self._pool.connection() as connection:
                cursor = await connection.execute(
                    "select a.attname::text from pg_catalog.pg_attribute a "
                    "join pg_catalog.pg_roles r on r.rolname = %s "
                    "where a.attrelid = %s and a.attnum > 0 and not a.attisdropped "
                    "and pg_catalog.pg_has_role('authenticator', r.oid, 'MEMBER') "
                    "and pg_catalog.has_column_privilege(r.oid, a.attrelid, a.attnum, 'SELECT')",
                    (role, table.relation.oid),
                )
                found = frozenset(row[0] for row in await cursor.fetchall())
            table.grants[role] = time.monotonic(), found
        return found

    async def restricted(self, table: Table, role: str) -> bool:
        """Whether row level security decides what that role sees of the table."""
        if not table.rls:
            return False
        asked, bypass = self._bypass.get(role, (0.0, False))
        if time.monotonic() - asked > FRESH:
            async with self._pool.connection() as connection:
                cursor = await connection.execute(
                    "select rolbypassrls or rolsuper from pg_catalog.pg_roles where rolname = %s", (role,)
                )
                row = await cursor.fetchone()
            bypass = bool(row and row[0])
            self._bypass[role] = time.monotonic(), bypass
        return not bypass

    async def seen(self, xids: Collection[int]) -> bool:
        """Whether everybody sees these transactions, whose commits are in the log; waits a little for those that are
        on the way."""
        async with self._pool.connection() as connection:
            for _ in range(SOON):
                cursor = await connection.execute("select pg_current_snapshot()::text")
                row = await cursor.fetchone()
                if row is not None and all(map(PgSnapshot.parse(row[0]).visible, xids)):
                    return True
                await asyncio.sleep(RETRY)
        return False

    @staticmethod
    async def _end(connection: Connection, xid: int) -> None:
        """Returns when that transaction is seen: see `visible`."""
        while True:
            cursor = await connection.execute("select pg_current_snapshot()::text")
            row = await cursor.fetchone()
            if row is not None and PgSnapshot.parse(row[0]).visible(xid):
                return
            await asyncio.sleep(RETRY)

    async def visible(
        self, table: Table, callers: Collection[Identity], rows: Mapping[int, Row], xids: Collection[int]
    ) -> dict[Identity, set[int]]:
        """Which of these versions of rows each caller may be told of now, after those transactions.

        A commit is in the log, and so with us, a moment before other sessions see it (a long one, where it waits for
        a standby). Asked in between, the rows would be those of before: so it is waited for.
        """
        found: dict[Identity, set[int]] = {}
        began = time.monotonic()
        together = len(callers) > 1
        while len(found) < len(callers):
            asked: Identity | None = None
            try:
                async with self._pool.connection() as connection, connection.transaction():
                    cursor = await connection.execute("select pg_current_snapshot()::text")
                    row = await cursor.fetchone()
                    seen = row is not None and all(map(PgSnapshot.parse(row[0]).visible, xids))
                    if seen:
                        # One snapshot for all of it: what stands there is what each caller is asked about.
                        question = _Question(table, rows)
                        standing = await question.standing(connection)
                        left = [caller for caller in callers if caller not in found]
                        if together:
                            shown = await question.visible_to(connection, left)
                            return {caller: numbers & standing for caller, numbers in shown.items()}
                        for asked in left:
                            shown = await question.visible_to(connection, [asked])
                            found[asked] = shown[asked] & standing
            except psycopg.Error as error:
                aborted = isinstance(error, psycopg.errors.PipelineAborted)  # by what was asked before in the same trip
                if isinstance(error, psycopg.OperationalError) and not aborted:
                    raise
                if together:  # one by one, then, to learn whose policy fails
                    together = False
                    continue
                # A policy that fails shows nothing to its role, and must not keep changes from the others.
                table.complain(error)
                if asked is None:  # the table is another by now: nobody can be asked about it
                    return {caller: set() for caller in callers}
                found[asked] = set()
                continue
            if not seen:
                await asyncio.sleep(RETRY)
                if time.monotonic() - began > PATIENCE:
                    log.warning("transactions %s are in the log and not seen yet: changes wait for them", sorted(xids))
                    began = time.monotonic()
        return found

    async def permissions(self, identity: Identity, topic: str) -> Permissions:
        """Asks the policies on realtime.messages by trying, in a transaction that is always rolled back."""
        async with self._pool.connection() as connection, connection.transaction(force_rollback=True):
            await connection.execute(
                "insert into realtime.messages (topic, extension, event, private, payload) "
                "select %s, extension, 'probe', true, '{}' from unnest(array['broadcast', 'presence']) as extension",
                (topic,),
            )
            await become(connection, identity, topic)
            read: set[str] = set()
            write: set[str] = set()
            for extension in ("broadcast", "presence"):
                if await self._allowed(
                    connection,
                    "select 1 from realtime.messages where topic = %s and extension = %s limit 1",
                    (topic, extension),
                ):
                    read.add(extension)
                if await self._allowed(
                    connection,
                    "insert into realtime.messages (topic, extension, event, private, payload) "
                    "values (%s, %s, 'probe', true, '{}')",
                    (topic, extension),
                ):
                    write.add(extension)
        return Permissions("broadcast" in read, "broadcast" in write, "presence" in read, "presence" in write)

    @staticmethod
    async def _allowed(connection: Connection, query: LiteralString, values: tuple[str, str]) -> bool:
        try:
            async with connection.transaction():
                cursor = await connection.execute(query, values)
                # An INSERT answers without rows: RETURNING would need the SELECT policy too.
                return cursor.description is None or await cursor.fetchone() is not None
        except psycopg.errors.InsufficientPrivilege:
            return False


class _Question:
    """Which of some versions of a table's rows may be told of."""

    def __init__(self, table: Table, rows: Mapping[int, Row]) -> None:
        self._table = table
        self._rows = rows
        self._by_key: dict[Key, list[int]] = {}
        for number, row in rows.items():
            self._by_key.setdefault(table.key_of(row), []).append(number)
        self._keys = [list(column) for column in zip(*self._by_key, strict=True)]
        self._numbers = list(self._by_key.values())
        names = [identifier(f"k{i}") for i in range(len(table.key))]
        columns = [identifier(table.relation.columns[i].name) for i in table.key]
        self._keyed = sql.SQL(" from unnest({arrays}) with ordinality as k({names}, n)").format(
            arrays=sql.SQL(", ").join(sql.SQL("%s::text[]") for _ in names), names=sql.SQL(", ").join(names)
        )
        # The type is the column's own, by name, so that the primary key's index serves.
        self._same = sql.SQL(" from {table} t where {same}").format(
            table=identifier(table.relation.schema, table.relation.name),
            same=sql.SQL(" and ").join(
                sql.SQL("t.{} = k.{}::{}").format(column, name, sql.SQL(kind.replace("%", "%%")))
                for column, name, kind in zip(columns, names, table.key_types, strict=True)
            ),
        )

    async def visible_to(self, connection: Connection, callers: Iterable[Identity]) -> dict[Identity, set[int]]:
        """Those whose row each caller sees; asked at once, in one trip to Postgres and back."""
        # Row by row by its index; as one join, Postgres may rather read the whole table, and ask the policies of all of
        # it. Where the key's type does not let policies be asked last, it has to: then at least once only.
        fence = sql.SQL(" offset 0) t") if self._table.by_index else sql.SQL(") t")
        head = sql.SQL("select array_agg(k.n::int8)") + self._keyed + sql.SQL(" cross join lateral (select")
        query = (head + self._same + fence).as_bytes(connection)
        async with connection.pipeline():
            asked: dict[Identity, psycopg.AsyncCursor[tuple[Any, ...]]] = {}
            for caller in callers:
                await become(connection, caller)
                asked[caller] = await connection.execute(query, self._keys)
            rows = {caller: await cursor.fetchone() for caller, cursor in asked.items()}
        return {
            caller: {number for n in (row and row[0]) or () for number in self._numbers[n - 1]}
            for caller, row in rows.items()
        }

    async def standing(self, connection: Connection) -> set[int]:
        """Those that differ from the row of their key in nothing that the policies look at."""
        table, judged = self._table, self._table.judged
        # What an update left as it was is not in its version: then nothing that is in it may differ.
        if any(row[i] is UNCHANGED for row in self._rows.values() for i in judged):
            judged = list(range(len(table.relation.columns)))
        if not judged:
            return set(self._rows)
        # Not `::text`, which writes some types (bool, inet, char) in another way than the log does.
        values = sql.SQL(", ").join(
            sql.SQL("case when t.{0} is not null then format('%%s', t.{0}) end").format(
                identifier(table.relation.columns[i].name)
            )
            for i in judged
        )
        query = sql.SQL("select k.n::int8, t.*") + self._keyed + sql.SQL(" cross join lateral (select ") + values
        cursor = await connection.execute(query + self._same + sql.SQL(" offset 0) t"), self._keys)
        found: set[int] = set()
        for n, *now in await cursor.fetchall():
            texts = [None if value is None else value.encode() for value in now]
            found.update(number for number in self._numbers[n - 1] if _same(self._rows[number], judged, texts))
        return found


def _same(version: Row, indices: Sequence[int], now: Sequence[bytes | None]) -> bool:
    return all(version[i] is UNCHANGED or version[i] == value for i, value in zip(indices, now, strict=True))


# A table's row level security, its key, the columns that its policies for reading look at, and whether they look at
# what cannot be told by columns: the whole row, or whatever a function, an operator or a view of the user's reads.
# Last, whether the key may be looked up before the policies are asked.
_TABLE = """
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
    position(':varattno 0 ' in p.polqual::text) > 0 or exists (
      select from pg_catalog.pg_depend d
      left join pg_catalog.pg_proc f on d.refclassid = 'pg_catalog.pg_proc'::regclass and f.oid = d.refobjid
      left join pg_catalog.pg_namespace n on n.oid = f.pronamespace
      left join pg_catalog.pg_class r on d.refclassid = 'pg_catalog.pg_class'::regclass and r.oid = d.refobjid
      where d.classid = 'pg_catalog.pg_policy'::regclass and d.objid = p.oid
        and (n.nspname <> 'auth' or d.refclassid = 'pg_catalog.pg_operator'::regclass or r.relkind in ('v', 'm', 'f'))
    ))),
  coalesce((select bool_and(f.proleakproof) from pg_catalog.pg_index i
    cross join unnest(i.indclass::oid[]) as k(oid) join pg_catalog.pg_opclass s on s.oid = k.oid
    join pg_catalog.pg_amop o on o.amopfamily = s.opcfamily and o.amopstrategy = 3
      and o.amoplefttype = s.opcintype and o.amoprighttype = s.opcintype
    join pg_catalog.pg_operator e on e.oid = o.amopopr join pg_catalog.pg_proc f on f.oid = e.oprcode
    where i.indrelid = c.oid and i.indisprimary), false)
from pg_catalog.pg_class c where c.oid = %s
"""
