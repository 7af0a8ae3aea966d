"""Rows straight from Postgres, by a DSN: for tables that a REST API would give in many pages, or not at all."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any, LiteralString

from ..protocol.codec import loads
from ..protocol.errors import RealtimeError
from ..protocol.filters import Condition, Filter, parse
from ..protocol.pg_snapshot import PgSnapshot
from .copy_columns import CopyColumns
from .snapshot_source import Page, Row, TableInfo, table_info
from .table_description import TABLE, description_of

if TYPE_CHECKING:
    import psycopg
    from psycopg import AsyncConnection, sql

_SESSION: LiteralString = """select set_config('TimeZone', 'UTC', true), set_config('DateStyle', 'ISO', true),
  set_config('IntervalStyle', 'postgres', true), set_config('bytea_output', 'hex', true),
  set_config('extra_float_digits', '1', true), set_config('client_encoding', 'UTF8', true)"""
"""What values look like must not depend on the settings of the database or the role. For one transaction each, since a
pooler may give the connection to others."""


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
            await asyncio.to_thread(import_module, "psycopg")  # which takes long the first time
        except ModuleNotFoundError:
            raise RealtimeError(
                "a DSN as the source needs psycopg", code="MissingPackage", hint='pip install "psycopg[binary]"'
            ) from None
        import psycopg

        try:
            # No prepared statements: a pooler may not know them, and they outlive a change of the table.
            return await psycopg.AsyncConnection.connect(self._dsn, connect_timeout=10, prepare_threshold=None)
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
            import psycopg

            try:
                await connection.execute(_SESSION)
                cursor = await connection.execute(TABLE.encode(), {"schema": schema, "table": table})
                row = await cursor.fetchone()
            except psycopg.Error as error:
                raise _failed(schema, table, error) from None
        if row is None:
            raise RealtimeError(
                f"no table {schema}.{table} at the source's DSN",
                code="UndefinedTable",
                hint="check the table's name, and that the DSN names the project's database",
            )
        return table_info(description_of(row))

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
        arrow: bool = False,
        max_rows: int | None = None,
    ) -> AsyncIterator[Page]:
        """The rows in pages, all of one moment; see `SnapshotSource`. Raises `RealtimeError`."""
        names = columns or [column.name for column in (await self.describe(table, schema)).columns]
        connection = await self._connect()
        import psycopg
        from psycopg import sql

        where = [_where(condition) for condition in parse(filter).conditions]
        query = sql.SQL("select {} from {}{}{}{}").format(
            sql.SQL(", ").join(map(sql.Identifier, names)),
            sql.Identifier(schema, table),
            sql.SQL(" where ") + sql.SQL(" and ").join(where) if where else sql.SQL(""),
            _order(order),
            sql.SQL("") if limit is None else sql.SQL(" limit {}").format(sql.Literal(limit)),
        )
        async with connection:
            try:
                await connection.execute("set transaction isolation level repeatable read, read only")
                await connection.execute(_SESSION)
                cursor = await connection.execute("select pg_current_snapshot()::text")
                snapshot = await cursor.fetchone()
                cursor = await connection.execute("select (pg_current_wal_insert_lsn() - '0/0'::pg_lsn)::int8")
                lsn = await cursor.fetchone()
                assert snapshot is not None
                assert lsn is not None
                at = (lsn[0], PgSnapshot.parse(snapshot[0]))
                total = estimate = None
                if arrow or max_rows is not None:
                    estimate = await _estimate(connection, query)
                    if max_rows is not None and estimate > max_rows // 2:  # it may be wrong by as much
                        total = await _count(connection, query)
                if arrow:
                    async for batch in CopyColumns(connection, query).batches():
                        yield Page([], total, *at, batch, estimate)
                    return
                copy = sql.SQL("copy (select row_to_json({0}) from ({1}) {0}) to stdout").format(_alias(names), query)
                rows: list[Row] = []
                async with connection.cursor().copy(copy) as read:
                    async for (text,) in read.rows():
                        row: Any = loads(text)
                        rows.append(row)
                        if len(rows) >= page_size:
                            yield Page(rows, total, *at)
                            rows = []
                yield Page(rows, total, *at)
            except psycopg.Error as error:
                raise _failed(schema, table, error) from None


async def _estimate(connection: AsyncConnection[Any], query: sql.Composed) -> int:
    """How many rows the planner expects of the query."""
    from psycopg import sql

    cursor = await connection.execute(sql.SQL("explain (format json) ") + query)
    plan = await cursor.fetchone()
    return 0 if plan is None else int(plan[0][0]["Plan"]["Plan Rows"])


async def _count(connection: AsyncConnection[Any], query: sql.Composed) -> int:
    from psycopg import sql

    cursor = await connection.execute(sql.SQL("select count(*) from ({}) t").format(query))
    count = await cursor.fetchone()
    return 0 if count is None else int(count[0])


def _failed(schema: str, table: str, error: psycopg.Error) -> RealtimeError:
    return RealtimeError(
        f"{schema}.{table} could not be read: {_words(error)}",
        code="SourceFailed",
        retryable=(error.sqlstate or "08").startswith(("08", "40", "53", "55", "57", "58")),
        hint="check what the DSN's role may read",
    )


def _alias(names: Sequence[str]) -> sql.Identifier:
    """A name for a row that no column has: of a column of that name, the row would be that column."""
    from psycopg import sql

    alias = "t"
    while alias in names:
        alias += "_"
    return sql.Identifier(alias)


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
