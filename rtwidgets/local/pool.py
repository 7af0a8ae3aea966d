"""A small pool of Postgres connections, opened when first needed and closed when they break."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

FORMATS = (
    "-c datestyle=ISO -c intervalstyle=postgres -c bytea_output=hex -c extra_float_digits=1 -c client_encoding=UTF8"
)
"""What values look like as text, whatever the database's or the role's own settings are."""
SETTINGS = f"{FORMATS} -c timezone=UTC"
"""Those of every session of the server: the same value is the same text in the stream and in a snapshot."""
_WHOLE_CURSORS = "-c cursor_tuple_fraction=1"
"""A cursor's rows are all read: a plan for the first few would be the slower one."""

Connection = psycopg.AsyncConnection[tuple[Any, ...]]


def identifier(*names: str) -> sql.Identifier:
    """A quoted name for a query that has parameters, where psycopg reads `%` as the start of a placeholder."""
    return sql.Identifier(*(name.replace("%", "%%") for name in names))


def type_name(cast: str) -> sql.SQL:
    """A type's name for a query that has parameters: as `format_type` writes it, never from a client."""
    return sql.SQL(cast.replace("%", "%%"))  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]


def with_settings(dsn: str, options: str, **parameters: Any) -> str:
    """The DSN with these options after its own, which they overrule, and these parameters."""
    own = conninfo_to_dict(dsn).get("options") or ""
    return make_conninfo(dsn, options=f"{own} {options}".strip(), **parameters)


class Pool:
    """Connections for `async with pool.connection()`, at most `size` at once; who comes later waits.

    Each is in autocommit; a transaction is REPEATABLE READ. Raises psycopg.Error where Postgres cannot be reached.
    """

    def __init__(self, dsn: str, size: int = 4) -> None:
        self._dsn = with_settings(dsn, f"{SETTINGS} {_WHOLE_CURSORS}", application_name="rtwidgets")
        self._free: list[Connection] = []
        self._slots = asyncio.Semaphore(size)

    @asynccontextmanager
    async def connection(self) -> AsyncGenerator[Connection]:
        async with self._slots:
            connection = self._free.pop() if self._free else None
            if connection is not None and not await self._alive(connection):
                connection = None
            if connection is None:
                # No prepared statements: one that was planned for a column's type of before fails once that changes.
                connection = await psycopg.AsyncConnection.connect(self._dsn, autocommit=True, prepare_threshold=None)
                # The queries of one transaction see one moment.
                await connection.set_isolation_level(psycopg.IsolationLevel.REPEATABLE_READ)
            try:
                yield connection
            finally:
                idle = connection.info.transaction_status == psycopg.pq.TransactionStatus.IDLE
                if connection.closed or not idle:
                    await connection.close()
                else:
                    self._free.append(connection)

    async def _alive(self, connection: Connection) -> bool:
        """Whether the connection still stands: on an idle one, Postgres sends nothing but its end."""
        if not connection.closed:
            with selectors.DefaultSelector() as selector:
                selector.register(connection.pgconn.socket, selectors.EVENT_READ)
                if not selector.select(0):
                    return True
        await connection.close()
        return False

    async def close(self) -> None:
        """Closes the connections that are idle."""
        while self._free:
            await self._free.pop().close()
