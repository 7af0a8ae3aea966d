"""A handful of Postgres connections, made when first needed and thrown away when they broke."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from .replication import SESSION

Connection = psycopg.AsyncConnection[tuple[Any, ...]]


def identifier(*names: str) -> sql.Identifier:
    """A quoted name for a query that has parameters, where psycopg reads `%` as the start of a placeholder."""
    return sql.Identifier(*(name.replace("%", "%%") for name in names))


class Pool:
    def __init__(self, dsn: str, size: int = 4) -> None:
        self._dsn = make_conninfo(
            dsn, options=SESSION.replace("-c wal_sender_timeout=0 ", ""), application_name="rtwidgets"
        )
        self._free: list[Connection] = []
        self._slots = asyncio.Semaphore(size)

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        async with self._slots:
            connection = self._free.pop() if self._free else None
            if connection is not None and not await self._alive(connection):
                connection = None
            if connection is None:
                connection = await psycopg.AsyncConnection.connect(self._dsn, autocommit=True)
                # What belongs together is asked in one transaction, and is then of one moment.
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
        """Whether Postgres has not gone away meanwhile: on an idle connection it sends nothing but its farewell."""
        if not connection.closed:
            with selectors.DefaultSelector() as selector:
                selector.register(connection.pgconn.socket, selectors.EVENT_READ)
                if not selector.select(0):
                    return True
        await connection.close()
        return False

    async def close(self) -> None:
        while self._free:
            await self._free.pop().close()
