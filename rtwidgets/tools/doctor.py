"""Tests each step from here to a row change on the screen, and prints what fixes the first one that fails."""

from __future__ import annotations

import asyncio
import base64
import html
import importlib.util
import json
import os
import secrets
import sys
import time
from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING, Any, Literal

import httpx
import msgspec

from rtwidgets.client.addresses import is_loopback
from rtwidgets.client.channel import AsyncChannel
from rtwidgets.client.client import AsyncClient
from rtwidgets.client.connect import default_client
from rtwidgets.client.notebook import Client
from rtwidgets.client.thread import run
from rtwidgets.protocol.errors import RealtimeError, redact
from rtwidgets.protocol.messages import Change
from rtwidgets.protocol.subscription import ChangesBinding
from rtwidgets.tools.project import Project

if TYPE_CHECKING:
    from rtwidgets.tools.catalogue import Entry

PATIENCE = 20.0
"""Seconds for any one step; a project that has slept needs some for its first subscription."""


class Finding(msgspec.Struct, omit_defaults=True):
    """One step: how it went, and the SQL or the setting that mends it."""

    step: str
    status: Literal["ok", "warning", "failed"]
    detail: str
    fix: str = ""


class _Failed(Exception):
    """A step that the later ones need."""

    def __init__(self, step: str, detail: str, fix: str) -> None:
        super().__init__(detail)
        self.finding = Finding(step, "failed", redact(detail), fix)


class Report:
    """What `doctor` found: a list of findings, printed one a line."""

    def __init__(self, findings: list[Finding]) -> None:
        self.findings = findings

    def __iter__(self) -> Iterator[Finding]:
        return iter(self.findings)

    def __len__(self) -> int:
        return len(self.findings)

    def __getitem__(self, at: int) -> Finding:
        return self.findings[at]

    @property
    def ok(self) -> bool:
        """Whether every step went well; a warning is no failure."""
        return all(finding.status != "failed" for finding in self.findings)

    def __repr__(self) -> str:
        return "\n".join(line for finding in self.findings for line in lines(finding))

    def _repr_html_(self) -> str:
        cell = '<td style="text-align:left; vertical-align:top">'
        rows = "".join(
            f"<tr>{cell}{_MARKS[finding.status]} {html.escape(finding.step)}</td>{cell}{html.escape(finding.detail)}"
            + (f"<br>mend it: <code>{html.escape(finding.fix)}</code>" if finding.fix else "")
            + "</td></tr>"
            for finding in self.findings
        )
        return f"<table><tbody>{rows}</tbody></table>"

    def to_json(self) -> str:
        """A list of findings: step, status, detail and, where there is one, fix."""
        return msgspec.json.encode(self.findings).decode()


_MARKS = {"ok": "✓", "warning": "!", "failed": "✗"}


def lines(finding: Finding) -> list[str]:
    """A finding as text."""
    said = [f"{finding.status:8} {finding.step}: {finding.detail}"]
    return [*said, f"{'':8} -> {finding.fix}"] if finding.fix else said


def doctor(
    table: str | None = None, *, schema: str = "public", client: Client | None = None, dsn: str | None = None
) -> Report:
    """Tries each step from here to live data for real, and says what mends the first one that fails.

    Args:
        table: the table whose changes are wanted; None for broadcast and presence alone.
        schema: the table's.
        client: as whom to try; default the last `rt.connect()` or `rt.local()`.
        dsn: of the project's Postgres, for what only the database can tell; default the environment's
            SUPABASE_DB_URL, and known for a local server.

    Raises RealtimeError where there is no client; whatever else is wrong is in the report.
    """
    client = client or default_client()
    return run(_report(client.aio, table, schema, dsn or _dsn_of(client)), 12 * PATIENCE)


async def _report(client: AsyncClient, table: str | None, schema: str, dsn: str | None) -> Report:
    try:
        token = await client.tokens.get()
    except Exception as error:  # a person's own function, which may raise anything
        fix = "mend the function given as token="
        return Report([Finding("token", "failed", redact(f"{type(error).__name__}: {error}"), fix)])
    project = Project(client.url, client.key, token, dsn)
    return Report([finding async for finding in examine(project, table, schema)])


def _dsn_of(client: Client) -> str | None:
    handles = getattr(sys.modules.get("rtwidgets.local.handle"), "_open", {})
    for handle in handles.values():
        if client in handle._clients:
            return handle.dsn
    return os.environ.get("SUPABASE_DB_URL") or None


async def examine(project: Project, table: str | None = None, schema: str = "public") -> AsyncIterator[Finding]:
    """Goes through the steps in order, and ends after the first that fails."""
    try:
        doctor = _Doctor(project)
    except RealtimeError as error:
        yield Finding("url", "failed", error.message, error.hint)
        return
    try:
        steps = [doctor.reach, doctor.key, doctor.connect, doctor.broadcast, doctor.presence]
        if table is not None:
            # The key before the publication: a table that is published without one refuses its updates.
            steps += [lambda: doctor.read(table, schema), lambda: doctor.primary_key(table, schema)]
            if project.dsn is not None:
                steps.append(lambda: doctor.catalogue(table, schema))
            steps.append(lambda: doctor.subscribe(table, schema))
        if project.dsn is not None:
            steps.append(doctor.from_database)
        for step in steps:
            yield await step()
    except _Failed as failed:
        yield failed.finding
    finally:
        await doctor.client.close()


class _Doctor:
    def __init__(self, project: Project) -> None:
        self.project = project
        self.client: AsyncClient = project.client()
        secret = project.key.startswith("sb_secret_") and not project.token
        self.role = "service_role" if secret else _claims(project.token or project.key).get("role") or "anon"
        self._private = False
        self._channel = self._open()
        self._present = asyncio.Event()
        self._seen = 0
        self._headers = {"apikey": project.key}
        if project.token or not project.key.startswith("sb_"):
            self._headers["Authorization"] = f"Bearer {project.token or project.key}"

    def _open(self) -> AsyncChannel:
        topic = f"rtwidgets-doctor-{secrets.token_hex(4)}"
        return self.client.channel(topic, broadcast_self=True, ack=True, private=self._private)

    async def reach(self) -> Finding:
        try:
            async with httpx.AsyncClient(timeout=10, trust_env=not is_loopback(self.client.url)) as http:
                began = time.monotonic()  # making a client takes longer than most answers
                answer = await http.get(f"{self.client.url}/rest/v1/", headers=self._headers)
        except httpx.HTTPError as error:
            raise _Failed(
                "url",
                f"{self.client.url} does not answer: {error or type(error).__name__}",
                "Check the URL (Project Settings, API: https://PROJECT.supabase.co), the network, and that the project "
                "is not paused; for a local server: rtwidgets status",
            ) from None
        if answer.status_code >= 500:
            raise _Failed("url", f"{self.client.url} answers HTTP {answer.status_code}", "Is the project paused?")
        return Finding("url", "ok", f"{self.client.url} answers in {_ms(began)}")

    async def key(self) -> Finding:
        if self.project.key.startswith("sb_") and not self.project.token:
            if self.role == "service_role":
                said = "a secret key: row level security does not bind it"
                return Finding("key", "warning", said, "Use the publishable key")
            return Finding("key", "ok", "a new-style API key")
        for what, text in (("key", self.project.key), ("token", self.project.token)):
            if text is None or text.startswith("sb_"):
                continue
            claims = _claims(text)
            left = claims.get("exp", 0) - time.time()
            if not claims:
                raise _Failed("key", f"the {what} is no JWT", "Copy the whole key: Project Settings, API keys")
            if left <= 0:
                fix = "Take a fresh one: Project Settings, API keys" if what == "key" else "Log in again"
                raise _Failed("key", f"the {what} expired {_span(-left)} ago", fix)
        claims = _claims(self.project.token or self.project.key)
        detail = f"role {self.role}, expires in {_span(claims['exp'] - time.time())}"
        if self.role == "service_role":
            return Finding("key", "warning", f"{detail}: row level security does not bind it", "Use the anon key")
        return Finding("key", "ok", detail)

    async def connect(self) -> Finding:
        began = time.monotonic()
        try:
            await self.client.connect()
        except RealtimeError as error:
            raise _Failed("socket", error.message, error.hint) from None
        return Finding("socket", "ok", f"connected in {_ms(began)}")

    async def broadcast(self) -> Finding:
        try:
            took = await self._hear_oneself()
        except (RealtimeError, TimeoutError) as error:
            if isinstance(error, RealtimeError) and error.code == "PrivateOnly":
                return await self._broadcast_in_private()
            raise _told("broadcast", error, "Check that Realtime is on: Project Settings, Realtime") from None
        return Finding("broadcast", "ok", f"back in {took}")

    async def _broadcast_in_private(self) -> Finding:
        """The project allows private channels alone. That is no fault, where a policy lets this role into them."""
        await _leave(self._channel)
        self._private = True
        self._channel = self._open()
        only = "the project allows private channels alone"
        policy = (
            f'create policy "realtime" on realtime.messages for all to {self.role} using (true) with check (true); '
            "-- every topic: narrow it by realtime.topic()"
        )
        try:
            took = await self._hear_oneself()
        except (RealtimeError, TimeoutError) as error:
            said = error.message if isinstance(error, RealtimeError) else "a private one takes nothing from it"
            raise _Failed("broadcast", f"{only}, and {self.role} may not use one: {said}", policy) from None
        fix = "Use Channel(topic, private=True), and for a table LiveTable(..., channel=) with such a one"
        return Finding("broadcast", "warning", f"back in {took}, and {only}", fix)

    async def _hear_oneself(self) -> str:
        """Joins and sends; returns how long it took to hear it."""
        heard = asyncio.Event()
        self._channel.on_broadcast("doctor", lambda *_: heard.set())
        # Before the join, which asks for presence where somebody listens to it.
        self._channel.on_presence(lambda change: self._present.set() if change.state else None)
        await self._channel.subscribe(PATIENCE)
        began = time.monotonic()
        await self._channel.send("doctor", {})
        await asyncio.wait_for(heard.wait(), PATIENCE)
        return _ms(began)

    async def presence(self) -> Finding:
        began = time.monotonic()
        try:
            await self._channel.track({"doctor": True})
            await asyncio.wait_for(self._present.wait(), PATIENCE)
            await self._channel.untrack()
        except (RealtimeError, TimeoutError) as error:
            raise _told("presence", error, "Raise the presence limit: Project Settings, Realtime") from None
        return Finding("presence", "ok", f"tracked in {_ms(began)}")

    async def read(self, table: str, schema: str) -> Finding:
        name = _name(schema, table)
        began = time.monotonic()
        try:
            total = 0
            async for page in self.client.rest.select(table, schema=schema, limit=1):
                total = page.total or len(page.rows)
        except RealtimeError as error:
            if error.code == "Unauthorized":
                fix = f"grant usage on schema {_name(schema)} to {self.role}; grant select on {name} to {self.role};"
            elif error.code == "UndefinedTable":
                fix = f"create table {name} (id bigint generated always as identity primary key);"
            else:
                fix = error.hint
            raise _Failed("read", f"{self.role} cannot read {name}: {error.message}", fix) from None
        self._seen = total
        if total == 0:
            return Finding(
                "read",
                "warning",
                f"{self.role} sees no row of {name}: it is empty, or row level security shows none",
                # Where the catalogue can be asked, a later step knows which.
                "" if self.project.dsn else f'create policy "read" on {name} for select to {self.role} using (true);',
            )
        return Finding("read", "ok", f"{self.role} sees {total:,} row{'s' * (total != 1)} of {name} ({_ms(began)})")

    async def primary_key(self, table: str, schema: str) -> Finding:
        name = _name(schema, table)
        try:
            key = await self.client.rest.primary_key(table, schema)
        except RealtimeError as error:
            return Finding("primary key", "warning", f"cannot be asked: {error.message}", error.hint)
        if not key:
            if self.project.dsn is not None and importlib.util.find_spec("psycopg") is not None:
                await self._entry(table, schema)  # a view has none for another reason
            raise _Failed(
                "primary key",
                f"{name} has none: its rows cannot be told apart",
                f"alter table {name} add column id bigint generated always as identity primary key;",
            )
        return Finding("primary key", "ok", ", ".join(key))

    async def catalogue(self, table: str, schema: str) -> Finding:
        """What only the database itself tells."""
        try:
            from rtwidgets.tools.catalogue import Trouble, judge
        except ModuleNotFoundError as error:
            return _not_asked("database", error)
        name = _name(schema, table)
        try:
            detail, fix = judge(await self._entry(table, schema), name, self.role, self._seen)
        except Trouble as trouble:
            raise _Failed("database", trouble.detail, trouble.fix) from None
        return Finding("database", "warning" if fix else "ok", detail, fix)

    async def _entry(self, table: str, schema: str) -> Entry:
        """The table in the database's catalogue; fails where it is no table."""
        import psycopg

        from rtwidgets.tools.catalogue import Trouble, known, look

        assert self.project.dsn is not None
        try:
            return known(await look(self.project.dsn, schema, table, self.role), _name(schema, table))
        except Trouble as trouble:
            raise _Failed("database", trouble.detail, trouble.fix) from None
        except psycopg.Error as error:
            fix = "Check the DSN (SUPABASE_DB_URL): host, password, and the role, which is to be the database's owner"
            raise _Failed("database", f"the database cannot be asked: {error}", fix) from None

    async def subscribe(self, table: str, schema: str) -> Finding:
        began = time.monotonic()
        sink = _Sink()
        channel = self.client.channel(f"rtwidgets-doctor-{secrets.token_hex(4)}", private=self._private)
        channel.add_changes(ChangesBinding("*", schema, table), sink)
        try:
            await channel.subscribe(PATIENCE)
            await asyncio.wait_for(asyncio.shield(sink.ready), PATIENCE)
        except (RealtimeError, TimeoutError) as error:
            fix = error.hint if isinstance(error, RealtimeError) else "Switch on Realtime: Project Settings, Realtime"
            if isinstance(error, RealtimeError) and error.code == "TableNotPublished":
                fix = f"alter publication supabase_realtime add table {_name(schema, table)};"
            raise _told("row changes", error, fix, own=True) from None
        finally:
            await _leave(channel)
        return Finding("row changes", "ok", f"subscribed in {_ms(began)}")

    async def from_database(self) -> Finding:
        """A broadcast from SQL: all the way from a commit to this process."""
        try:
            import psycopg
        except ModuleNotFoundError as error:
            return _not_asked("from the database", error)

        heard = asyncio.Event()
        self._channel.on_broadcast("doctor-sql", lambda *_: heard.set())
        assert self.project.dsn is not None
        try:
            async with await psycopg.AsyncConnection.connect(
                self.project.dsn, autocommit=True, connect_timeout=10
            ) as connection:
                began = time.monotonic()
                topic = self._channel.topic.removeprefix("realtime:")
                await connection.execute("select realtime.send('{}', 'doctor-sql', %s, %s)", (topic, self._private))
            await asyncio.wait_for(heard.wait(), PATIENCE)
        except psycopg.Error as error:
            raise _Failed(
                "from the database", str(error), "grant execute on all functions in schema realtime to current_user;"
            ) from None
        except TimeoutError:
            raise _Failed(
                "from the database",
                "a broadcast from SQL did not arrive",
                "select slot_name, active from pg_replication_slots; -- Realtime's own must be there and active",
            ) from None
        return Finding("from the database", "ok", f"commit to here in {_ms(began)}")


def _not_asked(step: str, error: ModuleNotFoundError) -> Finding:
    return Finding(step, "warning", f"not asked: {error.name} is not installed", 'pip install "rtwidgets[local]"')


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


def _told(step: str, error: RealtimeError | TimeoutError, fix: str, *, own: bool = False) -> _Failed:
    if isinstance(error, RealtimeError):
        return _Failed(step, error.message, fix if own else error.hint or fix)
    return _Failed(step, f"nothing came within {PATIENCE:.0f} s", fix)


async def _leave(channel: AsyncChannel) -> None:
    try:
        await channel.unsubscribe()
    except RealtimeError:
        pass


def _claims(token: str) -> dict[str, Any]:
    """What a JWT says of itself, unproven; empty where it is none."""
    try:
        body = token.split(".")[1]
        found = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
    except (IndexError, ValueError):
        return {}
    return found if isinstance(found, dict) and isinstance(found.get("exp"), int | float) else {}


def _name(*names: str) -> str:
    return ".".join('"' + name.replace('"', '""') + '"' for name in names)


def _ms(began: float) -> str:
    return f"{(time.monotonic() - began) * 1000:.1f} ms"


def _span(seconds: float) -> str:
    for size, unit in ((365 * 86400, "years"), (86400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
