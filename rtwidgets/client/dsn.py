"""Rows straight from Postgres, by a DSN: for tables that a REST API would give in many pages, or not at all."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING, Any, LiteralString

from ..protocol.codec import loads
from ..protocol.errors import RealtimeError
from ..protocol.filters import Condition, Filter, parse
from ..protocol.messages import Column
from ..protocol.pg_snapshot import PgSnapshot
from .snapshot_source import Page, Row, TableInfo

if TYPE_CHECKING:
    from psycopg import AsyncConnection, sql

_DESCRIBE = """
select a.attname, y.typname, coalesce(i.n, 0), exists (select from pg_publication_tables p
  where p.pubname = 'supabase_realtime' and p.schemaname = s.nspname and p.tablename = c.relname),
  coalesce(b2.typname, b.typname),
  (select array_agg(e.enumlabel::text order by e.enumsortorder) from pg_enum e where e.enumtypid = y.oid),
  -- Whether its text is sorted otherwise than by code point. 100: the database's own collation.
  case when a.attcollation = 100 then 'a' < 'B' else a.attcollation <> 0 and a.attcollation not in (select oid
    from pg_collation
    where collname in ('C', 'POSIX', 'C.UTF-8', 'C.utf8', 'ucs_basic', 'pg_c_utf8', 'pg_unicode_fast'))
  end
from pg_class c join pg_namespace s on s.oid = c.relnamespace
join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
join pg_type y on y.oid = a.atttypid
left join pg_type b on b.oid = y.typbasetype left join pg_type b2 on b2.oid = b.typbasetype
left join (select indrelid, attnum, n from pg_index, unnest(indkey::int2[]) with ordinality as k(attnum, n)
  where indisprimary) i on i.indrelid = c.oid and i.attnum = a.attnum
where s.nspname = %s and c.relname = %s
  -- What changes do not carry is no column of a live table.
  and not exists (select from pg_publication_tables p where p.pubname = 'supabase_realtime' and p.schemaname = s.nspname
    and p.tablename = c.relname and (not a.attname = any(p.attnames)
      or (a.attgenerated <> '' and current_setting('server_version_num')::int < 180000)))
order by a.attnum
"""


class DsnSource:
    """Reads tables over a connection of its own, in one snapshot, with `COPY`. In place of a `RestClient`.

    What it may read is up to the DSN's role, and not to the API key: row level security does not bind a superuser.
    A `SnapshotSource`.
    """

    repeatable = True

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
        except psycopg.InterfaceError as error:  # an event loop that psycopg cannot use: Windows' own
            raise RealtimeError(_words(error), code="SourceFailed", hint="leave source= out") from None

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
        return TableInfo(
            [Column(row[0], row[1]) for row in found],
            tuple(name for _, name in sorted((row[2], row[0]) for row in found if row[2])),
            bool(found[0][3]),
            {kind: tuple(labels) for _, kind, _, _, _, labels, _ in found if labels},
            {kind: base for _, kind, _, _, base, _, _ in found if base},
            frozenset(row[0] for row in found if row[6]),
        )

    async def select(
        self,
        table: str,
        *,
        schema: str = "public",
        columns: Sequence[str] | None = None,
        filter: str | Filter | None = None,
        order: Sequence[tuple[str, bool]] = (),
        limit: int | None = None,
        key: Sequence[str] = (),
        page_size: int = 10_000,
    ) -> AsyncIterator[Page]:
        """The rows in pages, all of one moment; see `SnapshotSource`. Raises `RealtimeError`."""
        import psycopg
        from psycopg import sql

        names = columns or [column.name for column in (await self.describe(table, schema)).columns]
        where = [_where(condition) for condition in parse(filter).conditions]
        query = sql.SQL("select {} from {}{}{}{}").format(
            sql.SQL(", ").join(map(sql.Identifier, names)),
            sql.Identifier(schema, table),
            sql.SQL(" where ") + sql.SQL(" and ").join(where) if where else sql.SQL(""),
            _order(order),
            sql.SQL("") if limit is None else sql.SQL(" limit {}").format(sql.Literal(limit)),
        )
        async with await self._connect() as connection:
            try:
                await connection.execute("set transaction isolation level repeatable read, read only")
                cursor = await connection.execute("select pg_current_snapshot()::text")
                snapshot = await cursor.fetchone()
                cursor = await connection.execute("select (pg_current_wal_insert_lsn() - '0/0'::pg_lsn)::int8")
                lsn = await cursor.fetchone()
                assert snapshot is not None
                assert lsn is not None
                at = (lsn[0], PgSnapshot.parse(snapshot[0]))
                copy = sql.SQL("copy (select row_to_json(t) from ({}) t) to stdout").format(query)
                rows: list[Row] = []
                async with connection.cursor().copy(copy) as read:
                    async for (text,) in read.rows():
                        row: Any = loads(text)
                        rows.append(row)
                        if len(rows) >= page_size:
                            yield Page(rows, None, *at)
                            rows = []
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


_OPERATORS: dict[str, LiteralString] = {
    "eq": "=", "neq": "<>", "lt": "<", "lte": "<=", "gt": ">", "gte": ">=", "like": "like", "ilike": "ilike",
    "match": "~", "imatch": "~*", "isdistinct": "is distinct from",
}  # fmt: skip
_IS: dict[str, LiteralString] = {"null": "null", "true": "true", "false": "false", "unknown": "unknown"}


def _where(condition: Condition) -> sql.Composable:
    from psycopg import sql

    column: sql.Composable = sql.Identifier(condition.column)
    if condition.op == "is":
        test = sql.SQL("{} is {}").format(column, sql.SQL(_IS[str(condition.value)]))
    elif condition.op == "in":
        test = sql.SQL("{} in ({})").format(column, sql.SQL(", ").join(map(sql.Literal, condition.value)))
    else:
        # Literals without a type, which take the column's.
        operator = sql.SQL(_OPERATORS[condition.op])
        test = sql.SQL("{} {} {}").format(column, operator, sql.Literal(condition.value))
    return sql.SQL("not ({})").format(test) if condition.negated else sql.SQL("({})").format(test)


def _order(order: Sequence[tuple[str, bool]]) -> sql.Composable:
    from psycopg import sql

    if not order:
        return sql.SQL("")
    parts = [sql.Identifier(name) + sql.SQL(" desc" if down else " asc") for name, down in order]
    return sql.SQL(" order by ") + sql.SQL(", ").join(parts)
