"""Tests each step from here to a row change, for `rtwidgets doctor` and `rt.doctor()`, and names what fixes a failure.

Against a project it needs nothing of the extra `local`, except for what only the project's database knows.
"""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING

from rtwidgets.client.client import AsyncClient
from rtwidgets.client.connect import default_client
from rtwidgets.client.notebook import Client
from rtwidgets.client.thread import run
from rtwidgets.protocol.errors import RealtimeError, redact
from rtwidgets.tools.connection_checks import PATIENCE, ConnectionChecks
from rtwidgets.tools.project import Project
from rtwidgets.tools.report import Finding, Report, StepFailed
from rtwidgets.tools.table_checks import TableChecks, from_database

if TYPE_CHECKING:
    from rtwidgets.local.handle import Local


def doctor(
    table: str | None = None, *, schema: str = "public", client: Client | None = None, dsn: str | None = None
) -> Report:
    """Tests each step from here to live data against the real server, and names what fixes the first failure.

    Args:
        table: the table whose changes are wanted; None for broadcast and presence alone.
        schema: the table's.
        client: the client to test with; default that of the last `rt.connect()` or `rt.local()`.
        dsn: of the project's Postgres, for what only the database knows; default the environment's SUPABASE_DB_URL,
            and known for a local server.

    Raises RealtimeError where there is no client; every other problem is in the report.
    """
    client = client or default_client()
    server = _local_of(client)
    found = dsn or (server.dsn if server is not None else os.environ.get("SUPABASE_DB_URL") or None)
    return run(_report(client.aio, table, schema, found, server is not None), 12 * PATIENCE)


async def _report(client: AsyncClient, table: str | None, schema: str, dsn: str | None, is_local: bool) -> Report:
    try:
        token = await client.tokens.get()
    except Exception as error:  # a person's own function, which may raise anything
        fix = "Fix the function given as token="
        return Report([Finding("token", "failed", redact(f"{type(error).__name__}: {error}"), fix)])
    project = Project(client.url, client.key, token, dsn, is_local)
    return Report([finding async for finding in examine(project, table, schema)])


def _local_of(client: Client) -> Local | None:
    """The local server of this process that made the client; nothing is imported for one that is not used."""
    if "rtwidgets.local.handle" not in sys.modules:
        return None
    from rtwidgets.local.handle import local_of

    return local_of(client)


async def examine(project: Project, table: str | None = None, schema: str = "public") -> AsyncIterator[Finding]:
    """The findings of the steps in order; ends after the first that fails."""
    try:
        connection = ConnectionChecks(project)
    except RealtimeError as error:
        yield Finding("url", "failed", error.message, error.hint)
        return
    steps: list[Callable[[], Awaitable[Finding]]] = [
        connection.reach,
        connection.key,
        connection.connect,
        connection.broadcast,
        connection.presence,
    ]
    if table is not None:
        checks = TableChecks(connection, table, schema)
        # The key before the publication: a table that is published without one refuses its updates.
        steps += [checks.read, checks.primary_key]
        if project.dsn is not None:
            steps.append(checks.catalogue)
        steps.append(checks.subscribe)
    if project.dsn is not None:
        steps.append(lambda: from_database(connection))
    try:
        for step in steps:
            yield await step()
    except StepFailed as failure:
        yield failure.finding
    finally:
        await connection.client.close()
