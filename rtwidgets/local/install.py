"""Puts into a database what the server needs there, and takes it out again."""

from __future__ import annotations

from pathlib import Path

import psycopg

from ..protocol.errors import RealtimeError

SCHEMA = Path(__file__).with_name("schema.sql")
_LOCK = 7284551


async def install(dsn: str) -> None:
    """Brings a database to what this server needs; safe to run again. Raises RealtimeError where Postgres refuses."""
    try:
        async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:
            # One at a time: two servers that start on one database would trip over each other's catalogue rows.
            await connection.execute("select pg_advisory_lock(%s)", (_LOCK,))
            await connection.execute(SCHEMA.read_bytes())
    except psycopg.Error as error:
        raise RealtimeError(
            f"Postgres refused what the server needs in it: {error.diag.message_primary or error}",
            code="SchemaNotInstalled",
            hint="The schemas auth and realtime must be this server's own: use an empty database, or drop what is "
            "in the way.",
        ) from None


async def remove(dsn: str) -> None:
    """Takes out of a database what `install` put there, and nothing else.

    Raises RealtimeError where Postgres refuses, such as while a server follows it.
    """
    try:
        async with await psycopg.AsyncConnection.connect(dsn, autocommit=True, connect_timeout=10) as connection:
            await connection.execute(SCHEMA.with_name("remove.sql").read_bytes())
    except psycopg.Error as error:
        raise RealtimeError(
            f"Not all of it could be removed: {' '.join(str(error.diag.message_primary or error).split())}",
            code="SchemaNotRemoved",
            hint="Stop the server that uses this Postgres first (rtwidgets stop); it takes a superuser.",
        ) from None
