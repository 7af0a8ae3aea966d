"""Who may see what: the catalogue of tables, column grants, row visibility and the policies of private channels.

Supabase asks Postgres for every change and every subscription. Here one question a batch is asked for each distinct
(role, claims), and none at all where row level security is off.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Iterable
from typing import LiteralString

import msgspec
import psycopg
from psycopg import sql

from rtwidgets.client.log import child
from rtwidgets.client.rest import Snapshot

from .auth import Identity
from .pgoutput import UNCHANGED, Relation, Row
from .pool import Connection, Pool, identifier
from .render import TYPES_QUERY, Converter, Types

log = child(__name__)

Key = tuple[str, ...]

RETRY = 0.0005
"""Seconds until it is asked again whether a transaction is seen."""
SOON = 20
"""Times that `seen` asks."""
PATIENCE = 5.0
"""Seconds after which such a wait is in the log."""

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

    def __init__(self, relation: Relation, types: Types, key: list[str], key_types: list[str], rls: bool) -> None:
        self.relation = relation
        self.key_types = key_types  # as SQL writes them
        self.rls = rls
        positions = {column.name: i for i, column in enumerate(relation.columns)}
        self.key = [positions[name] for name in key] if all(name in positions for name in key) else []
        self.key_names = frozenset(relation.columns[i].name for i in self.key)
        self.position = positions
        self.type_names = [types.name(column.type_oid) for column in relation.columns]
        self.base_types = {column.name: types.base_name(column.type_oid) for column in relation.columns}
        self.names = [_dumps(column.name) + b":" for column in relation.columns]
        self.converters: list[Converter] = [types.converter(column.type_oid) for column in relation.columns]
        self.every = frozenset(positions)
        self.grants: dict[str, frozenset[str]] = {}
        self._projections: dict[frozenset[str], Projection] = {}

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


async def become(connection: Connection, identity: Identity, topic: str | None = None) -> str:
    """Turns the rest of this transaction into that caller's. Returns the snapshot of this moment."""
    cursor = await connection.execute(
        "select pg_current_snapshot()::text, "
        "set_config('request.jwt.claims', %s, true), set_config('request.jwt.claim.sub', %s, true), "
        "set_config('request.jwt.claim.role', %s, true), set_config('realtime.topic', %s, true), "
        "set_config('role', %s, true)",
        (identity.claims, identity.sub, identity.role, topic or "", identity.role),
    )
    row = await cursor.fetchone()
    assert row is not None
    return row[0]


class Catalogue:
    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self.types = Types()
        self._tables: dict[int, Table] = {}
        self._bypass: dict[str, bool] = {}

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
            if any(column.type_oid not in self.types for column in relation.columns):
                cursor = await connection.execute(TYPES_QUERY)
                self.types.load(await cursor.fetchall())
            cursor = await connection.execute(
                "select c.relrowsecurity, "
                "coalesce((select array_agg(array[a.attname::text, format_type(a.atttypid, a.atttypmod)] order by k.n) "
                "from pg_catalog.pg_index i cross join unnest(i.indkey::int2[]) with ordinality as k(attnum, n) "
                "join pg_catalog.pg_attribute a on a.attrelid = i.indrelid and a.attnum = k.attnum "
                "where i.indrelid = c.oid and i.indisprimary), '{}') from pg_catalog.pg_class c where c.oid = %s",
                (relation.oid,),
            )
            row = await cursor.fetchone()
        self._bypass.clear()
        rls, key = row if row is not None else (False, [])  # dropped meanwhile
        names, kinds = [name for name, _ in key], [kind for _, kind in key]
        table = self._tables[relation.oid] = Table(relation, self.types, names, kinds, rls)
        return table

    async def grants(self, table: Table, role: str) -> frozenset[str]:
        """The columns that the role may SELECT."""
        found = table.grants.get(role)
        if found is None:
            async with self._pool.connection() as connection:
                cursor = await connection.execute(
                    "select a.attname::text from pg_catalog.pg_attribute a "
                    "join pg_catalog.pg_roles r on r.rolname = %s "
                    "where a.attrelid = %s and a.attnum > 0 and not a.attisdropped "
                    "and pg_catalog.has_column_privilege(r.oid, a.attrelid, a.attnum, 'SELECT')",
                    (role, table.relation.oid),
                )
                found = table.grants[role] = frozenset(row[0] for row in await cursor.fetchall())
        return found

    async def restricted(self, table: Table, role: str) -> bool:
        """Whether row level security decides what that role sees of the table."""
        if not table.rls:
            return False
        bypass = self._bypass.get(role)
        if bypass is None:
            async with self._pool.connection() as connection:
                cursor = await connection.execute(
                    "select rolbypassrls or rolsuper from pg_catalog.pg_roles where rolname = %s", (role,)
                )
                row = await cursor.fetchone()
            bypass = self._bypass[role] = bool(row and row[0])
        return not bypass

    async def seen(self, xids: Collection[int]) -> bool:
        """Whether everybody sees these transactions, whose commits are in the log; waits a little for those that are
        on the way."""
        async with self._pool.connection() as connection:
            for _ in range(SOON):
                cursor = await connection.execute("select pg_current_snapshot()::text")
                row = await cursor.fetchone()
                if row is not None and all(map(Snapshot.parse(row[0]).visible, xids)):
                    return True
                await asyncio.sleep(RETRY)
        return False

    @staticmethod
    async def _end(connection: Connection, xid: int) -> None:
        """Returns when that transaction is seen: see `visible`."""
        while True:
            cursor = await connection.execute("select pg_current_snapshot()::text")
            row = await cursor.fetchone()
            if row is not None and Snapshot.parse(row[0]).visible(xid):
                return
            await asyncio.sleep(RETRY)

    async def visible(self, table: Table, identity: Identity, keys: set[Key], xid: int) -> set[Key]:
        """Those of the keys whose rows that caller sees now, after that transaction.

        A commit is in the log, and so with us, a moment before other sessions see it (a long one, where it waits for
        a standby). Asked in between, the rows would be those of before: so it is waited for.
        """
        began = time.monotonic()
        while True:
            found = await self._visible(table, identity, keys, xid)
            if found is not None:
                return found
            await asyncio.sleep(RETRY)
            if time.monotonic() - began > PATIENCE:
                log.warning("transaction %d is in the log and nobody sees it yet: changes wait for it", xid)
                began = time.monotonic()

    async def _visible(self, table: Table, identity: Identity, keys: set[Key], xid: int) -> set[Key] | None:
        relation = table.relation
        columns = [identifier(relation.columns[i].name) for i in table.key]
        # The array's type is the column's own, by name, so that the primary key's index serves.
        async with self._pool.connection() as connection, connection.transaction():
            query = sql.SQL("select {columns} from {table} t join unnest({arrays}) as k({names}) on {same}").format(
                columns=sql.SQL(", ").join(sql.SQL("t.{}::text").format(column) for column in columns),
                table=identifier(relation.schema, relation.name),
                arrays=sql.SQL(", ").join(
                    sql.SQL("%s::text[]::{}[]").format(sql.SQL(kind.replace("%", "%%"))) for kind in table.key_types
                ),
                names=sql.SQL(", ").join(identifier(f"k{i}") for i in range(len(columns))),
                same=sql.SQL(" and ").join(
                    sql.SQL("t.{} = k.{}").format(column, identifier(f"k{i}")) for i, column in enumerate(columns)
                ),
            )
            # What this snapshot sees, that of the query after it sees too.
            if not Snapshot.parse(await become(connection, identity)).visible(xid):
                return None
            cursor = await connection.execute(query, [list(column) for column in zip(*keys, strict=True)])
            rows = await cursor.fetchall()
        return {tuple(row) for row in rows}

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
