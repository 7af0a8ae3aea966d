"""`rtwidgets doctor` against real faults: what it says mends them. And `rtwidgets tail`."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from rtwidgets.local.auth import mint
from rtwidgets.local.handle import Local, local
from rtwidgets.local.server import RealtimeServer
from rtwidgets.protocol.server_channel import Refused, ServerChannel
from rtwidgets.tools import table_checks
from rtwidgets.tools.connection_checks import ConnectionChecks
from rtwidgets.tools.doctor import examine
from rtwidgets.tools.project import Project
from rtwidgets.tools.report import Finding
from tests.local.client import sql
from tests.local.conftest import SECRET

from ..waits import PATIENCE

pytestmark = pytest.mark.pg


async def findings(project: Project, table: str | None = None) -> list[Finding]:
    return [finding async for finding in examine(project, table)]


async def test_all_is_well(server: RealtimeServer, pg: str) -> None:
    await sql(
        pg,
        "drop table if exists well; create table well (id int primary key); insert into well values (1);"
        "alter publication supabase_realtime add table well",
    )
    found = await findings(Project(server.url, server.anon_key, None, pg), "well")
    assert [(finding.step, finding.status) for finding in found] == [
        (step, "ok")
        for step in (
            *("url", "key", "socket", "broadcast", "presence"),
            *("read", "primary key", "database", "row changes", "from the database"),
        )
    ]


@pytest.mark.parametrize("with_dsn", [True, False])
async def test_what_it_says_mends_it(server: RealtimeServer, pg: str, with_dsn: bool) -> None:
    await sql(pg, 'drop table if exists "My ""ill"" table"')
    project = Project(server.url, server.anon_key, None, pg if with_dsn else None)
    healed = []
    while (last := (await findings(project, 'My "ill" table'))[-1]).status == "failed":
        assert last.fix.endswith(";"), last
        healed.append(last.step)
        if len(healed) == 1:
            # Not as it says: a table with everything against it.
            await sql(
                pg,
                'create table "My ""ill"" table" (a int); revoke all on "My ""ill"" table" from anon;'
                'insert into "My ""ill"" table" values (1); alter table "My ""ill"" table" enable row level security',
            )
        else:
            await sql(pg, last.fix)
    if with_dsn:
        assert healed == ["read", "read", "primary key", "database", "database"]
    else:
        assert healed == ["read", "read", "primary key", "row changes"]
        # Without the catalogue, an empty table cannot be told from one that row level security hides.
        warned = [finding for finding in await findings(project, 'My "ill" table') if finding.status == "warning"]
        await sql(pg, warned[0].fix)
    assert {finding.status for finding in await findings(project, 'My "ill" table')} == {"ok"}


BROKEN = {
    "the replica identity is nothing": ("alter table ill replica identity nothing", "database", "refuses its updates"),
    "the publication leaves out updates": (
        "alter publication supabase_realtime set (publish = 'insert, delete')",
        "database",
        "leaves out every update",
    ),
    "a policy for somebody else": (
        "alter table ill enable row level security; create policy p on ill to authenticated using (true)",
        "database",
        "no policy lets anon see a row",
    ),
    "a grant is missing": ("revoke all on ill from anon", "read", "permission denied"),
    "no primary key": ("alter table ill drop column id", "primary key", "cannot be told apart"),
    "not published": ("alter publication supabase_realtime drop table ill", "database", "is not in the publication"),
}


@pytest.mark.parametrize("fault", BROKEN)
async def test_each_fault_is_named_and_its_line_mends_it(server: RealtimeServer, pg: str, fault: str) -> None:
    breaks, step, said = BROKEN[fault]
    await sql(
        pg,
        "drop table if exists ill; create table ill (id int primary key, a int); insert into ill values (1);"
        "alter publication supabase_realtime add table ill",
    )
    await sql(pg, breaks)
    project = Project(server.url, server.anon_key, None, pg)
    last = (await findings(project, "ill"))[-1]
    assert (last.step, last.status) == (step, "failed")
    assert said in last.detail
    await sql(pg, last.fix)
    assert {finding.status for finding in await findings(project, "ill")} == {"ok"}
    await sql(pg, "update ill set a = 2")
    await sql(pg, "drop table ill")


async def test_rows_that_a_policy_hides_are_told_from_an_empty_table(server: RealtimeServer, pg: str) -> None:
    await sql(
        pg,
        "drop table if exists hidden; create table hidden (id int primary key, owner text);"
        "alter table hidden enable row level security;"
        "create policy own on hidden for select using (owner = auth.uid()::text);"
        "alter publication supabase_realtime add table hidden",
    )

    async def database(token: str | None) -> Finding:
        found = await findings(Project(server.url, server.anon_key, token, pg), "hidden")
        return next(finding for finding in found if finding.step == "database")

    empty = await database(None)
    assert empty.status == "ok"
    assert "the table is empty" in empty.detail
    await sql(pg, "insert into hidden values (1, '11111111-1111-4111-8111-111111111111'), (2, 'somebody')")
    hidden = await database(None)
    assert hidden.status == "warning"
    assert "has 2 rows, and the policies for anon show none of them" in hidden.detail
    assert '"own": (owner = (auth.uid())::text)' in hidden.detail
    hers = mint(SECRET, "authenticated", sub="11111111-1111-4111-8111-111111111111")
    assert (await database(hers)).status == "ok"
    await sql(pg, hidden.fix)
    assert (await database(None)).status == "ok"
    await sql(pg, "drop table hidden")


@pytest.mark.parametrize(
    ("how", "detail"),
    [
        ("ill where (id > 5)", "rows that do not meet (id > 5) send no changes"),
        ("ill (id, a)", "changes carry id, a alone"),
    ],
)
async def test_what_the_publication_leaves_out_is_a_warning(
    server: RealtimeServer, pg: str, how: str, detail: str
) -> None:
    await sql(
        pg,
        "drop table if exists ill; create table ill (id int primary key, a int, b int); insert into ill values (1)",
        f"alter publication supabase_realtime add table {how}",
    )
    project = Project(server.url, server.anon_key, None, pg)
    (warned,) = [finding for finding in await findings(project, "ill") if finding.status == "warning"]
    assert (warned.step, detail in warned.detail) == ("database", True)
    await sql(pg, *warned.fix.split("; "))
    assert {finding.status for finding in await findings(project, "ill")} == {"ok"}
    await sql(pg, "drop table ill")


async def test_a_partitioned_table_is_sent_under_its_partitions_names(server: RealtimeServer, pg: str) -> None:
    await sql(
        pg,
        "drop table if exists root; create table root (id int primary key) partition by range (id);"
        "create table leaf partition of root for values from (0) to (10); insert into root values (1);"
        "alter publication supabase_realtime add table root",
    )
    project = Project(server.url, server.anon_key, None, pg)
    last = (await findings(project, "root"))[-1]
    assert (last.step, last.status, "is partitioned" in last.detail) == ("database", "failed", True)
    await sql(pg, last.fix)
    assert {finding.status for finding in await findings(project, "root")} == {"ok"}
    last = (await findings(project, "leaf"))[-1]
    assert (last.status, "under the name of its partitioned table" in last.detail) == ("failed", True)
    await sql(pg, "alter publication supabase_realtime set (publish_via_partition_root = false); drop table root")


async def test_a_local_stream_that_waits_for_a_transaction_names_it(
    server: RealtimeServer, pg: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(table_checks, "PATIENCE", 3.0)
    await sql(pg, "drop table if exists open_one; create table open_one (id int primary key)")
    await sql(pg, "insert into open_one values (1); alter publication supabase_realtime add table open_one")
    project = Project(server.url, server.anon_key, None, pg, is_local=True)
    async with await psycopg.AsyncConnection.connect(pg) as connection:
        await connection.execute("insert into open_one values (9)")
        await sql(pg, "select pg_terminate_backend(pid) from pg_stat_replication")
        last = (await findings(project, "open_one"))[-1]
        assert (last.step, last.status) == ("row changes", "failed")
        assert f"pid {connection.info.backend_pid} idle in transaction" in last.detail
        assert f"pg_terminate_backend({connection.info.backend_pid})" in last.fix
        await connection.rollback()
    async with asyncio.timeout(PATIENCE):
        while (await findings(project, "open_one"))[-1].status != "ok":  # noqa: ASYNC110
            await asyncio.sleep(0.1)
    await sql(pg, "drop table open_one")


async def test_a_local_server_is_not_sent_to_supabases_settings(server: RealtimeServer, pg: str) -> None:
    for is_local in (True, False):
        checks = ConnectionChecks(Project(server.url, server.anon_key, None, pg, is_local))
        assert ("Project Settings" in checks.settings("Switch on Realtime")) is not is_local
        await checks.client.close()
    last = (await findings(Project("http://127.0.0.1:1", server.anon_key, is_local=True)))[-1]
    assert "Project" not in last.fix


async def test_a_view_is_no_table(server: RealtimeServer, pg: str) -> None:
    await sql(pg, "create or replace view seen as select 1 as id; grant select on seen to anon")
    last = (await findings(Project(server.url, server.anon_key, None, pg), "seen"))[-1]
    assert last.status == "failed"
    assert "is a view" in last.detail
    await sql(pg, "drop view seen")


async def test_an_unlogged_table_sends_nothing(server: RealtimeServer, pg: str) -> None:
    await sql(pg, "create unlogged table quick (id int primary key); grant select on quick to anon")
    last = (await findings(Project(server.url, server.anon_key, None, pg), "quick"))[-1]
    assert last.status == "failed"
    assert "is unlogged" in last.detail
    await sql(pg, last.fix)
    last = (await findings(Project(server.url, server.anon_key, None, pg), "quick"))[-1]
    assert "add table" in last.fix
    await sql(pg, "drop table quick")


async def test_a_dsn_of_another_database(server: RealtimeServer, pg: str) -> None:
    await sql(pg, "drop table if exists mine; create table mine (id int primary key)")
    await sql(pg, "drop database if exists elsewhere")
    await sql(pg, "create database elsewhere")
    elsewhere = f"{pg} dbname=elsewhere"
    last = (await findings(Project(server.url, server.anon_key, None, elsewhere), "mine"))[-1]
    assert last.status == "failed"
    assert "this database has no table" in last.detail
    nobody = f"{pg} port=1"
    last = (await findings(Project(server.url, server.anon_key, None, nobody), "mine"))[-1]
    assert last.status == "failed"
    assert "SUPABASE_DB_URL" in last.fix
    await sql(pg, "drop database elsewhere")


async def test_a_project_that_allows_private_channels_alone(
    server: RealtimeServer, pg: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A setting of Supabase's, which the local server has not: the refusal is given in its words."""
    admit = server.sessions.admit

    def private_only(channel: ServerChannel) -> Any:
        if not channel.config.private:
            raise Refused("PrivateOnly: This project only allows private channels")
        return admit(channel)

    monkeypatch.setattr(server.sessions, "admit", private_only)
    await sql(pg, "drop table if exists quiet; create table quiet (id int primary key); insert into quiet values (1)")
    await sql(pg, "alter publication supabase_realtime add table quiet")
    project = Project(server.url, server.anon_key, None, pg)
    last = (await findings(project, "quiet"))[-1]
    assert (last.step, last.status) == ("broadcast", "failed")
    assert "private channels alone, and anon may not use one" in last.detail
    await sql(pg, last.fix)
    try:
        found = await findings(project, "quiet")
        assert [finding.step for finding in found if finding.status == "warning"] == ["broadcast"]
        assert found[-1].status == "ok"
        assert found[-1].step == "from the database"
    finally:
        await sql(pg, 'drop policy "realtime" on realtime.messages; drop table quiet')


@pytest.mark.parametrize("key", ["sb_secret_abc", "sb_publishable_abc"])
async def test_new_style_keys(key: str) -> None:
    """Which the local server has not; what is known of one stands in its name."""
    doctor = ConnectionChecks(Project("http://127.0.0.1:1", key))
    finding = await doctor.key()
    assert (finding.status, doctor.role) == (("warning", "service_role") if "secret" in key else ("ok", "anon"))
    await doctor.client.close()


@pytest.mark.parametrize(
    ("key", "step", "said"),
    [
        ("garbage", "key", "no JWT"),
        (mint(SECRET, "anon", expires_in=-400), "key", "minutes ago"),
        (mint("another secret of some length to please it", "anon"), "socket", "Failed to validate JWT signature"),
    ],
)
async def test_a_wrong_key(server: RealtimeServer, key: str, step: str, said: str) -> None:
    last = (await findings(Project(server.url, key)))[-1]
    assert (last.step, last.status) == (step, "failed")
    assert said in last.detail
    assert last.fix
    assert key not in str(last)


@pytest.mark.parametrize("url", ["nonsense", "ftp://x", ""])
async def test_a_url_that_is_none(url: str) -> None:
    (only,) = await findings(Project(url, mint(SECRET, "anon")))
    assert (only.step, only.status) == ("url", "failed")
    assert "looks like https://PROJECT.supabase.co" in only.detail
    assert repr(url) in only.fix


def test_wrong_arguments_are_refused_in_one_line() -> None:
    for arguments, words in (
        (("demo", "--port", "99999"), "between 0 (a free one) and 65535"),
        (("serve", "--port", "x"), "x is not between 0"),
        (("tail",), "required: TOPIC|TABLE"),
        (("tail", "x", "--topic", "--table"), "not allowed with"),
        (("doctor", "--url", "nonsense", "--key", "k"), "looks like https://PROJECT.supabase.co"),
        (("tail", "x", "--url", "nonsense", "--key", "k"), "looks like https://PROJECT.supabase.co"),
    ):
        process = rtwidgets(*arguments)
        out, said = process.communicate(timeout=60)
        assert process.returncode in (1, 2)
        assert words in out + said
        assert "Traceback" not in said


async def test_nobody_there() -> None:
    (only,) = await findings(Project("http://127.0.0.1:1", mint(SECRET, "anon")))
    assert (only.step, only.status) == ("url", "failed")


async def test_a_role_that_row_level_security_does_not_bind(server: RealtimeServer) -> None:
    found = await findings(Project(server.url, server.service_key))
    assert [finding.step for finding in found if finding.status == "warning"] == ["key"]


@pytest.fixture
def running(home: Path) -> Iterator[Local]:
    handle = local("t", idle_timeout=1)
    yield handle
    handle.stop()


def rtwidgets(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "rtwidgets.cli", *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def test_the_commands(running: Local) -> None:
    doctor = rtwidgets("doctor", "orders", "--name", "t", "--json")
    said, _ = doctor.communicate(timeout=60)
    assert doctor.returncode == 1
    assert json.loads(said)[-1]["fix"].startswith('create table "public"."orders"')

    running.sql("create table orders (id int primary key, doc jsonb)")
    running.publish("orders")
    lines = follow(
        ["tail", "orders", "--name", "t", "--filter", "id=gt.1"],
        "live",
        lambda: running.sql("""insert into orders values (1), (2); update orders set doc = '{"a": null}'"""),
        2,
    )
    assert [(line["type"], line["record"]) for line in lines] == [
        ("INSERT", {"id": 2, "doc": None}),
        ("UPDATE", {"id": 2, "doc": {"a": None}}),
    ]
    lines = follow(
        ["tail", "room", "--name", "t", "--as", "11111111-1111-1111-1111-111111111111"],
        "joined",
        lambda: running.sql(
            "select realtime.send('{}', 'e', 'room', false); select realtime.send_binary('\\x00ff', 'b', 'room', false)"
        ),
        2,
    )
    assert [(line["event"], line.get("base64")) for line in lines] == [("e", None), ("b", "AP8=")]

    nothing = rtwidgets("tail", "orders", "--name", "t", "--filter", "nonsense")
    _, said = nothing.communicate(timeout=60)
    assert nothing.returncode == 1
    assert said.strip().splitlines()[-1].startswith("InvalidFilter: ")
    said = said.strip().splitlines()
    assert len(said) == 1, "once, not in a log as well"
    nobody = rtwidgets("tail", "orders", "--name", "elsewhere")
    _, said = nobody.communicate(timeout=60)
    assert nobody.returncode == 1
    assert said.startswith("NotConfigured: ")


def test_a_tail_ends_quietly_when_nobody_reads_on(running: Local) -> None:
    """As in `rtwidgets tail orders | head -1`."""
    running.sql("create table heads (id int primary key)")
    running.publish("heads")
    process = rtwidgets("tail", "heads", "--name", "t")
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        for line in process.stderr:
            if line.strip() == "live":
                break
        running.sql("insert into heads values (1)")
        assert json.loads(process.stdout.readline())["record"] == {"id": 1}
        process.stdout.close()
        running.sql("insert into heads values (2)")
        assert process.wait(PATIENCE) == 0
        assert process.stderr.read() == ""
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


def follow(command: list[str], ready: str, act: object, count: int) -> list[dict]:
    """Runs a tail, acts once it says that it is ready, and ends it after so many lines."""
    process = rtwidgets(*command)
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        for line in process.stderr:
            if line.strip() == ready:
                break
        act()  # type: ignore[operator]
        lines = [json.loads(process.stdout.readline()) for _ in range(count)]
        process.terminate()
        assert process.wait(PATIENCE) == 130
        assert "Traceback" not in process.stderr.read()
        return lines
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
        process.stderr.close()
