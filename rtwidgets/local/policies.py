"""Acting as a caller, and what the policies of private channels grant."""

from __future__ import annotations

from typing import LiteralString

import psycopg

from ..protocol.server_channel import Identity, Permissions
from .pool import Connection, Pool

LIMIT = 5.0
"""Seconds that one statement may take which runs a user's policies or patterns."""


async def limit_statements(connection: Connection, seconds: float | None = None) -> None:
    """Bounds each further statement of this transaction, to `LIMIT` if nothing is given; one that takes longer raises
    QueryCanceled."""
    seconds = LIMIT if seconds is None else seconds
    await connection.execute("select set_config('statement_timeout', %s, true)", (str(int(seconds * 1000)),))


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


async def read_permissions(pool: Pool, identity: Identity, topic: str) -> Permissions:
    """What the policies on realtime.messages grant, found by trying, in a transaction that is always rolled back.

    Raises psycopg.Error, OSError.
    """
    async with pool.connection() as connection, connection.transaction(force_rollback=True):
        await limit_statements(connection)
        await connection.execute(
            "insert into realtime.messages (topic, extension, event, private, payload) "
            "select %s, extension, 'probe', true, '{}' from unnest(array['broadcast', 'presence']) as extension",
            (topic,),
        )
        await become(connection, identity, topic)
        granted: dict[str, bool] = {}
        for extension in ("broadcast", "presence"):
            granted[f"read_{extension}"] = await _allowed(
                connection,
                "select 1 from realtime.messages where topic = %s and extension = %s limit 1",
                (topic, extension),
            )
            granted[f"write_{extension}"] = await _allowed(
                connection,
                "insert into realtime.messages (topic, extension, event, private, payload) "
                "values (%s, %s, 'probe', true, '{}')",
                (topic, extension),
            )
    return Permissions(**granted)


async def _allowed(connection: Connection, query: LiteralString, values: tuple[str, str]) -> bool:
    try:
        async with connection.transaction():
            cursor = await connection.execute(query, values)
            # An INSERT answers without rows: RETURNING would need the SELECT policy too.
            return cursor.description is None or await cursor.fetchone() is not None
    except psycopg.errors.InsufficientPrivilege:
        return False
