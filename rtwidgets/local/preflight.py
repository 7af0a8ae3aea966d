"""Whether a Postgres of the user's own can serve: each requirement is tested, each failure names its fix.

The doctor's room, `tools/`, stands above this one; this check is here because the supervisor runs it at every start.
"""

from __future__ import annotations

from typing import Any

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from rtwidgets.protocol.errors import RealtimeError

OLDEST = 15
TIMEOUT = 10
"""Seconds for a connection, unless the DSN says otherwise."""

_FACTS = """
select current_setting('server_version_num')::int / 10000, current_setting('wal_level'), pg_is_in_recovery(),
  r.rolname::text, r.rolsuper, r.rolreplication or r.rolsuper,
  current_setting('max_replication_slots')::int - (select count(*) from pg_replication_slots),
  current_setting('max_wal_senders')::int
    - (select count(*) from pg_stat_get_activity(null) where backend_type = 'walsender'),
  (select string_agg(nspname, ' and ' order by nspname) from pg_namespace where nspname in ('auth', 'realtime')
    and obj_description(oid, 'pg_namespace') is distinct from 'made by rtwidgets')
from pg_roles r where r.rolname = current_user
"""


async def check(dsn: str) -> None:
    """Raises RealtimeError where the Postgres of that DSN cannot be reached, or cannot stream its changes."""
    try:
        parts = conninfo_to_dict(dsn)
    except psycopg.Error:
        # Not the error's text: it quotes the DSN, with its password.
        raise RealtimeError(
            "The DSN cannot be read.",
            code="BadDSN",
            hint="Write it as postgresql://user:password@host:5432/dbname, with %40 for an @ in the password, "
            "or as host=... dbname=... user=...",
        ) from None
    parts.setdefault("connect_timeout", TIMEOUT)
    patient = make_conninfo("", **parts)
    facts = await _query(patient, _FACTS, parts)
    version, wal_level, standby, role, superuser, replication, slots, senders, taken = facts
    name = sql.Identifier(role).as_string()
    if version < OLDEST:
        raise RealtimeError(
            f"This Postgres is version {version}.", code="PostgresTooOld", hint=f"Use version {OLDEST} or later."
        )
    if standby:
        raise RealtimeError(
            "This Postgres is a standby, which cannot be written.", code="PostgresIsStandby", hint="Use its primary."
        )
    if wal_level != "logical":
        raise RealtimeError(
            f"This Postgres has wal_level = {wal_level}, so its changes cannot be read.",
            code="WalLevelNotLogical",
            hint="As a superuser: `alter system set wal_level = logical;`, then restart Postgres.",
        )
    if not replication:
        raise RealtimeError(
            f"The role {role} may not replicate, so it cannot follow the changes.",
            code="RoleLacksReplication",
            hint=f"As a superuser: `alter role {name} replication;`",
        )
    if not superuser:
        raise RealtimeError(
            f"The role {role} is no superuser: it cannot make roles such as anon and act as them.",
            code="RoleNotSuperuser",
            hint=f"As a superuser: `alter role {name} superuser;`, or give the DSN of a role that is one.",
        )
    if taken:
        raise RealtimeError(
            f"This database has a schema {taken} of its own, which the server would write into.",
            code="SchemaTaken",
            hint="Give the DSN of another database: `create database realtime;`. A Supabase project's own needs no "
            "server beside it: rt.connect(url, key).",
        )
    for setting, left in (("max_replication_slots", slots), ("max_wal_senders", senders)):
        if left < 1:
            raise RealtimeError(
                f"All of this Postgres' {setting} are in use.",
                code="NoReplicationSlot",
                hint=f"Raise it, as a superuser: `alter system set {setting} = 20;`, then restart Postgres; or drop a "
                "slot that nobody uses (`select slot_name, active from pg_replication_slots;`).",
            )
    # A pooler in between lets queries through, and no replication.
    await _query(make_conninfo(patient, replication="database"), "IDENTIFY_SYSTEM", parts)


async def _query(dsn: str, query: str, parts: dict[str, Any]) -> Any:
    where = f"{parts.get('host') or 'the local socket'}, port {parts.get('port') or 5432}"
    try:
        async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:
            cursor = await connection.execute(query.encode())
            return await cursor.fetchone()
    except psycopg.Error as error:
        text = " ".join(str(error).split())
        password = parts.get("password")
        if password:
            text = text.replace(str(password), "<redacted>")
        if "IDENTIFY" in query:
            raise RealtimeError(
                f"The Postgres at {where} answers queries but refuses replication: {text}",
                code="ReplicationRefused",
                hint="Give the DSN of Postgres itself rather than of a pooler such as PgBouncer, and allow the role "
                "in pg_hba.conf.",
            ) from None
        raise RealtimeError(
            f"The Postgres at {where} cannot be reached: {text}",
            code="PostgresUnreachable",
            retryable=True,
            hint="Check host, port, user, password and database of the DSN, and that this Postgres runs.",
        ) from None
