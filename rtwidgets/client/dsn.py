"""Rows straight from Postgres, by a DSN: for tables that a REST API would give in many pages, or not at all."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING, Any

from ..protocol.codec import loads
from ..protocol.errors import RealtimeError
from ..protocol.filters import Condition, parse
from ..protocol.messages import Column
from .rest import Page, Snapshot, TableInfo

if TYPE_CHECKING:
    from psycopg import AsyncConnection, sql

_DESCRIBE = """
select a.attname, y.typname, coalesce(i.n, 0), exists (select from pg_publication_tables p
  where p.pubname = 'supabase_realtime' and p.schemaname = s.nspname and p.tablename = c.relname)
from pg_class c join pg_namespace s on s.oid = c.relnamespace
join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
join pg_type y on y.oid = a.atttypid
left join (select indrelid, attnum, n from pg_index, unnest(indkey::int2[]) with ordinality as k(attnum, n)
  where indisprimary) i on i.indrelid = c.oid and i.attnum = a.attnum
where s.nspname = %s and c.relname = %s order by a.attnum
"""


class DsnSource:
    """Reads tables over a connection of its own, in one snapshot, with `COPY`. In place of a `RestClient`.

    What it may read is up to the DSN's role, and not to the API key: row level security does not bind a superuser.
    """

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn

    def __repr__(self) -> str:
        return "DsnSource()"  # the DSN may hold a password

    async def _connect(self) -> AsyncConnection[Any]:
        try:
            import psycopg
        except ModuleNotFoundError:
            raise RealtimeError(
                "a DSN as the source needs psycopg", code="MissingPackage", hint='pip install "psycopg[binary]"'
            ) from None
        try:
            return await psycopg.AsyncConnection.connect(self._dsn, connect_timeout=10)
        except psycopg.OperationalError as error:
            gone = error.sqlstate is None or error.sqlstate.startswith(("08", "57P"))
            raise RealtimeError(
                # Only the server's words: the DSN holds a password.
                f"Postgres at the source's DSN cannot be reached: {_words(error)}",
                code="PostgresGone",
                retryable=gone,
                hint="check the DSN's host, port, user and password",
            ) from None
        except psycopg.ProgrammingError:
            raise RealtimeError(
                "the source's DSN cannot be understood", code="BadDsn", hint="write postgresql://user:password@host/db"
            ) from None

    async def describe(self, table: str, schema: str = "public") -> TableInfo:
        """The table's columns and key. Raises `RealtimeError`."""
        async with await self._connect() as connection:
            cursor = await connection.execute(_DESCRIBE, (schema, table))
            found = await cursor.fetchall()
        if not found:
            raise RealtimeError(
                f"no table {schema}.{table} at the source's DSN",
                code="UndefinedTable",
                hint="check the table's name, and that the DSN names the project's database",
            )
        key = tuple(name for _, name in sorted((place, name) for name, _, place, _ in found if place))
        return TableInfo([Column(name, kind) for name, kind, _, _ in found], key, bool(found[0][3]))

    async def select(
        self,
        table: str,
        *,
        schema: str = "public",
        columns: Sequence[str] | None = None,
        filter: str | None = None,
        order: str | None = None,
        limit: int | None = None,
        key: Sequence[str] = (),
        page_size: int = 10_000,
    ) -> AsyncIterator[Page]:
        """The rows in pages, all of one moment. Options as for `RestClient.select`. Raises `RealtimeError`."""
        import psycopg
        from psycopg import sql

        info = await self.describe(table, schema)
        types = {column.name: column.type for column in info.columns}
        asked = parse(filter)
        matches = asked.compile(types) if asked.conditions else None
        where = [_where(condition, types) for condition in asked.conditions]
        query = sql.SQL("select {} from {}{}{}").format(
            sql.SQL(", ").join(map(sql.Identifier, columns or list(types))),
            sql.Identifier(schema, table),
            sql.SQL(" where ") + sql.SQL(" and ").join(where) if where else sql.SQL(""),
            _order(order),
        )
        wanted = None if columns is None else set(columns)
        if matches is not None and wanted is not None and not asked.columns <= wanted:
            matches = None  # Postgres has applied what it can
        async with await self._connect() as connection:
            try:
                await connection.execute("set transaction isolation level repeatable read, read only")
                cursor = await connection.execute("select pg_current_snapshot()::text")
                snapshot = await cursor.fetchone()
                cursor = await connection.execute("select (pg_current_wal_insert_lsn() - '0/0'::pg_lsn)::int8")
                lsn = await cursor.fetchone()
                assert snapshot is not None
                assert lsn is not None
                at = (lsn[0], Snapshot.parse(snapshot[0]))
                copy = sql.SQL("copy (select row_to_json(t) from ({}) t) to stdout").format(query)
                rows: list[dict[str, Any]] = []
                left = limit
                async with connection.cursor().copy(copy) as read:
                    async for (text,) in read.rows():
                        row: Any = loads(text)
                        if matches is not None and not matches(row):
                            continue
                        rows.append(row)
                        if left is not None:
                            left -= 1
                        if len(rows) >= page_size or left == 0:
                            yield Page(rows, None, *at)
                            rows = []
                        if left == 0:
                            break
                yield Page(rows, None, *at)
            except psycopg.Error as error:
                raise RealtimeError(
                    f"{schema}.{table} could not be read: {_words(error)}",
                    code="SourceFailed",
                    retryable=(error.sqlstate or "08").startswith(("08", "57P", "40")),
                    hint="check what the DSN's role may read",
                ) from None


def _words(error: BaseException) -> str:
    return " ".join(str(error).split())


def _where(condition: Condition, types: dict[str, str]) -> sql.Composable:
    """What an index can help with, as SQL; the rest is left to the filter itself."""
    from psycopg import sql

    if condition.column not in types or condition.negated or condition.op not in ("eq", "in"):
        return sql.SQL("true")
    values = [condition.value] if isinstance(condition.value, str) else list(condition.value)
    kind = sql.Identifier(types[condition.column])
    return sql.SQL("{} = any({}::{}[])").format(sql.Identifier(condition.column), sql.Literal(values), kind)


def _order(order: str | None) -> sql.Composable:
    from psycopg import sql

    if not order:
        return sql.SQL("")
    parts: list[sql.Composable] = []
    for part in order.split(","):
        name, _, how = part.strip().partition(".")
        parts.append(sql.Identifier(name) + sql.SQL(" desc" if "desc" in how else " asc"))
    return sql.SQL(" order by ") + sql.SQL(", ").join(parts)
