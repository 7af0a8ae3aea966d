"""The doctor's steps for one table: read, primary key, publication and policies, row changes; and SQL to broadcast."""

from __future__ import annotations

import asyncio
import importlib.util
import secrets
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rtwidgets.protocol.errors import RealtimeError
from rtwidgets.protocol.messages import Change
from rtwidgets.protocol.subscription import ChangesBinding
from rtwidgets.tools.connection_checks import PATIENCE, ConnectionChecks, leave
from rtwidgets.tools.report import Finding, StepFailed, elapsed, failed, quoted, skipped

if TYPE_CHECKING:
    from rtwidgets.local.replication import Blocker
    from rtwidgets.tools.catalogue import Entry


class TableChecks:
    """Each step returns its finding, or raises StepFailed where the later ones need it. In order, on a connection that
    has been checked."""

    def __init__(self, connection: ConnectionChecks, table: str, schema: str) -> None:
        self._connection = connection
        self._client = connection.client
        self._role = connection.role
        self._dsn = connection.project.dsn
        self._table, self._schema = table, schema
        self._name = quoted(schema, table)
        self._seen = 0
        """Rows that the role sees."""

    async def read(self) -> Finding:
        """The role may read the table."""
        name, role = self._name, self._role
        began = time.monotonic()
        try:
            total = 0
            async for page in self._client.rest.select(self._table, schema=self._schema, limit=1):
                total = page.total or len(page.rows)
        except RealtimeError as error:
            if error.code == "Unauthorized":
                fix = f"grant usage on schema {quoted(self._schema)} to {role}; grant select on {name} to {role};"
            elif error.code == "UndefinedTable":
                fix = f"create table {name} (id bigint generated always as identity primary key);"
            else:
                fix = error.hint
            raise StepFailed("read", f"{role} cannot read {name}: {error.message}", fix) from None
        self._seen = total
        if total == 0:
            return Finding(
                "read",
                "warning",
                f"{role} sees no row of {name}: it is empty, or row level security shows none",
                # Where there is a DSN, a later step knows which.
                "" if self._dsn else f'create policy "read" on {name} for select to {role} using (true);',
            )
        return Finding("read", "ok", f"{role} sees {total:,} row{'s' * (total != 1)} of {name} ({elapsed(began)})")

    async def primary_key(self) -> Finding:
        """The table has a primary key."""
        try:
            key = await self._client.rest.primary_key(self._table, self._schema)
        except RealtimeError as error:
            return Finding("primary key", "warning", f"unknown: {error.message}", error.hint)
        if not key:
            if self._dsn is not None and importlib.util.find_spec("psycopg") is not None:
                await self._entry()  # a view has none for another reason
            raise StepFailed(
                "primary key",
                f"{self._name} has none: its rows cannot be told apart",
                f"alter table {self._name} add column id bigint generated always as identity primary key;",
            )
        return Finding("primary key", "ok", ", ".join(key))

    async def catalogue(self) -> Finding:
        """Publication, replica identity and policies: what only the database itself knows."""
        try:
            from rtwidgets.tools.catalogue import Trouble, judge
        except ModuleNotFoundError as error:
            return skipped("database", error)
        try:
            detail, fix = judge(await self._entry(), self._name, self._role, self._seen)
        except Trouble as trouble:
            raise StepFailed("database", trouble.detail, trouble.fix) from None
        return Finding("database", "warning" if fix else "ok", detail, fix)

    async def _entry(self) -> Entry:
        """The table in the database's catalogue. Raises StepFailed where it is no table."""
        import psycopg

        from rtwidgets.tools.catalogue import Trouble, check_table, read_entry

        assert self._dsn is not None
        try:
            return check_table(await read_entry(self._dsn, self._schema, self._table, self._role), self._name)
        except Trouble as trouble:
            raise StepFailed("database", trouble.detail, trouble.fix) from None
        except psycopg.Error as error:
            fix = "Check the DSN (SUPABASE_DB_URL): host, password, and the role, which must be the database's owner"
            raise StepFailed("database", f"the database cannot be queried: {error}", fix) from None

    async def subscribe(self) -> Finding:
        """A subscription to the table's changes is confirmed."""
        began = time.monotonic()
        sink = _Sink()
        topic = f"rtwidgets-doctor-{secrets.token_hex(4)}"
        channel = self._client.channel(topic, private=self._connection.private)
        channel.add_changes(ChangesBinding("*", self._schema, self._table), sink)
        try:
            await channel.subscribe(PATIENCE)
            await asyncio.wait_for(asyncio.shield(sink.ready), PATIENCE)
        except RealtimeError as error:
            if error.code == "TableNotPublished":
                fix = f"alter publication supabase_realtime add table {self._name};"
                raise StepFailed("row changes", error.message, fix) from None
            raise await self._not_subscribed(error) from None
        except TimeoutError as error:
            raise await self._not_subscribed(error) from None
        finally:
            await leave(channel)
        return Finding("row changes", "ok", f"subscribed in {elapsed(began)}")

    async def _not_subscribed(self, error: RealtimeError | TimeoutError) -> StepFailed:
        """A server that opens its stream waits for every transaction that writes: then those are the cause."""
        blockers: Sequence[Blocker] = ()
        if self._dsn is not None and importlib.util.find_spec("psycopg") is not None:
            import psycopg

            from rtwidgets.local.replication import read_blockers

            try:
                blockers = await read_blockers(self._dsn)
            except psycopg.Error:
                pass
        if blockers:
            detail = f"the stream of changes waits for the end of open transactions ({'; '.join(map(str, blockers))})"
            pids = " ".join(f"select pg_terminate_backend({blocker.pid});" for blocker in blockers)
            return StepFailed("row changes", detail, f"Commit or roll back in those sessions, or end them: {pids}")
        return failed("row changes", error, self._connection.settings("Switch on Realtime"), PATIENCE)


async def from_database(connection: ConnectionChecks) -> Finding:
    """A broadcast from SQL: all the way from a commit to this process."""
    try:
        import psycopg
    except ModuleNotFoundError as error:
        return skipped("from the database", error)

    arrived = asyncio.Event()

    def on_broadcast(*_: object) -> None:
        arrived.set()

    connection.channel.on_broadcast("doctor-sql", on_broadcast)
    dsn = connection.project.dsn
    assert dsn is not None
    try:
        async with await psycopg.AsyncConnection.connect(dsn, autocommit=True, connect_timeout=10) as database:
            began = time.monotonic()
            topic = connection.channel.topic.removeprefix("realtime:")
            await database.execute("select realtime.send('{}', 'doctor-sql', %s, %s)", (topic, connection.private))
        await asyncio.wait_for(arrived.wait(), PATIENCE)
    except psycopg.Error as error:
        raise StepFailed(
            "from the database", str(error), "grant execute on all functions in schema realtime to current_user;"
        ) from None
    except TimeoutError:
        raise StepFailed(
            "from the database",
            "a broadcast from SQL did not arrive",
            "select slot_name, active from pg_replication_slots; -- Realtime's own must be there and active",
        ) from None
    return Finding("from the database", "ok", f"commit to here in {elapsed(began)}")


class _Sink:
    def __init__(self) -> None:
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def on_changes(self, changes: list[Change]) -> None: ...

    def on_gap(self, reason: object) -> None: ...

    def on_ready(self) -> None:
        if not self.ready.done():
            self.ready.set_result(None)

    def on_error(self, error: RealtimeError) -> None:
        if not self.ready.done():
            self.ready.set_exception(error)
