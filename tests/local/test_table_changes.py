"""A table that becomes another one under its subscribers: they are told, and get what belongs to it alone."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from rtwidgets.local import subscriptions
from rtwidgets.local.replication import Blocker, read_blockers
from rtwidgets.local.server import RealtimeServer

from ..waits import received, until, within
from .client import ask, change, connected, sql, subscribed, system

pytestmark = pytest.mark.pg

ENTRY = {"event": "*", "schema": "public", "table": "shape"}
MARKER = {"event": "*", "schema": "public", "table": "marker"}
CHANGED = {"schema": "public", "table": "shape"}


@pytest.fixture(autouse=True)
def frequent_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subscriptions, "_LOOK", 0.05)


@pytest.fixture
async def shape(pg: str) -> None:
    await sql(
        pg,
        "drop table if exists shape, shape_old cascade; drop type if exists mood; create type mood as enum ('sad');"
        "create table shape (id int primary key, v int, m mood);"
        "alter publication supabase_realtime add table shape; insert into shape values (1, 1)",
    )


@pytest.fixture
async def marker(pg: str) -> AsyncIterator[None]:
    """A table whose changes show that a look at all of them has been taken."""
    await sql(
        pg,
        "drop table if exists marker; create table marker (id int primary key);"
        "alter publication supabase_realtime add table marker",
    )
    yield
    await sql(pg, "drop table marker")


async def told(ws: Any) -> Any:
    """What of the next "Table changed" is about."""
    said = await system(ws)
    assert (said["status"], said["message"]) == ("ok", "Table changed")
    return said["changed"]


async def no_news(ws: Any, pg: str) -> None:
    """A look at the tables finds nothing but the change of `marker` that is made here."""
    await sql(pg, f"alter table marker add column c{time.monotonic_ns()} int")
    assert await told(ws) == {"schema": "public", "table": "marker"}


@pytest.mark.parametrize(
    "statement",
    [
        "alter table shape add column more text default 'x'",
        "alter table shape alter v type text using v::text",
        "alter table shape replica identity full",
        "alter table shape drop constraint shape_pkey",
        "alter type mood rename value 'sad' to 'happy'",
        "alter type mood add value 'calm'",
        "alter table shape rename column v to w",
        "alter table shape rename to shape_old",
        "alter publication supabase_realtime drop table shape",
        "alter publication supabase_realtime set table marker, shape where (id > 5)",
        "alter publication supabase_realtime set table marker, shape (id, v)",
        "drop table shape",
    ],
)
async def test_whatever_makes_a_table_another_is_told_without_a_further_row(
    server: RealtimeServer, pg: str, shape: None, marker: None, statement: str
) -> None:
    async with connected(server) as ws:
        await subscribed(ws, ENTRY, MARKER)
        await sql(pg, statement)
        assert await told(ws) == CHANGED
        await no_news(ws, pg)  # what is the same is not told again
    if "rename to" in statement:
        await sql(pg, "drop table shape_old")


@pytest.mark.parametrize(
    ("statement", "kept"),
    [
        ("alter table shape add column more text", True),
        ("alter table shape drop column m", True),
        ("alter table shape replica identity full", True),
        ("alter type mood add value 'calm'", True),
        ("alter table shape add column more text default 'x'", False),
        ("alter table shape add column more int generated always as identity", False),
        ("alter table shape rename column v to w", False),
        ("alter table shape alter v type text using v::text", False),
        ("alter table shape drop constraint shape_pkey, add primary key (v)", False),
        ("alter publication supabase_realtime set table shape where (id > 5)", False),
        ("drop table shape", False),
        ("drop table shape; create table shape (id int primary key, v int, m mood); "
         "alter publication supabase_realtime add table shape", False),
    ],
)  # fmt: skip
async def test_it_is_told_whether_rows_that_were_read_before_are_still_true(
    server: RealtimeServer, pg: str, shape: None, statement: str, kept: bool
) -> None:
    async with connected(server) as ws:
        await subscribed(ws, ENTRY)
        await sql(pg, statement)
        said = await system(ws)
        assert (said["message"], said["rows_kept"]) == ("Table changed", kept)


async def test_a_change_of_the_new_shape_comes_after_the_news(server: RealtimeServer, pg: str, shape: None) -> None:
    async with connected(server) as ws, connected(server) as every:
        await subscribed(ws, ENTRY)
        await subscribed(every, {"event": "*", "schema": "public"})
        await sql(pg, "update shape set v = 2")
        for one in (ws, every):
            assert (await change(one))["data"]["record"]["v"] == 2
        await sql(
            pg, "begin; alter table shape add column more text; insert into shape values (2, 2, null, 'x'); commit"
        )
        for one in (ws, every):
            assert await told(one) == CHANGED
            assert (await change(one))["data"]["record"]["more"] == "x"


async def test_a_table_that_is_made_again_is_followed_from_the_news_on(
    server: RealtimeServer, pg: str, shape: None
) -> None:
    """As `DataFrame.to_sql(if_exists="replace")` does."""
    async with connected(server) as ws:
        await subscribed(ws, ENTRY)
        await sql(
            pg,
            "drop table shape; create table shape (id int primary key, v int); insert into shape values (5, 5);"
            "alter publication supabase_realtime add table shape",
        )
        assert await told(ws) == CHANGED
        assert await told(ws) == CHANGED, "from here on it follows the new one"
        await sql(pg, "insert into shape values (6, 6)")
        assert (await change(ws))["data"]["record"] == {"id": 6, "v": 6}


async def test_a_table_that_comes_back_is_told(server: RealtimeServer, pg: str, shape: None) -> None:
    async with connected(server) as ws:
        await subscribed(ws, ENTRY)
        await sql(pg, "alter publication supabase_realtime drop table shape")
        assert await told(ws) == CHANGED
        await sql(pg, "alter publication supabase_realtime add table shape")
        assert await told(ws) == CHANGED
        await sql(pg, "insert into shape values (2, 2)")
        assert (await change(ws))["data"]["record"]["id"] == 2


async def test_a_subscription_to_no_table_begins_once_there_is_one(server: RealtimeServer, pg: str) -> None:
    await sql(pg, "drop table if exists shape")
    async with connected(server) as ws:
        await ask(ws, "realtime:t", "phx_join", {"config": {"postgres_changes": [ENTRY]}})
        assert "Please check Realtime is enabled" in (await system(ws))["message"]
        await sql(pg, "create table shape (id int primary key)", "alter publication supabase_realtime add table shape")
        assert (await system(ws))["message"] == "Subscribed to PostgreSQL"
        await sql(pg, "insert into shape values (1)")
        assert (await change(ws))["data"]["record"] == {"id": 1}


@pytest.mark.parametrize(
    "statement",
    [
        "revoke select on shape from anon",
        "alter table shape enable row level security",
        "create policy p on shape using (true)",
        "truncate shape",
        "vacuum full shape",
        "alter table shape alter v type int using v + 1",
        "alter publication supabase_realtime set (publish = 'insert')",
        "alter type shape_part add attribute more int",
        "alter type shape_part rename attribute x to z",
        "alter type mood rename value 'sad' to 'blue'",
        "alter domain d rename to e",
        "create table heir () inherits (shape)",
    ],
)
@pytest.mark.parametrize("by", [ENTRY, {"event": "*", "schema": "public"}])
async def test_what_the_log_does_not_say_is_told_to_those_who_name_the_table_and_to_those_who_do_not(
    server: RealtimeServer, pg: str, shape: None, statement: str, by: dict[str, str]
) -> None:
    await sql(
        pg,
        "drop type if exists shape_part; drop domain if exists d, e; create type shape_part as (x int, m mood[]);"
        "create domain d as mood; alter table shape add m2 shape_part[], add m3 d; grant select on shape to anon",
    )
    async with connected(server) as ws:
        await subscribed(ws, by)
        await sql(pg, statement)
        said = await system(ws)
        assert (said["message"], said["changed"], said["rows_kept"]) == (
            "Table changed",
            CHANGED,
            "domain" in statement,
        )
    await sql(
        pg,
        "alter publication supabase_realtime set (publish = 'insert, update, delete, truncate');"
        "drop table shape cascade; drop type shape_part; drop domain if exists d, e",
    )


async def test_indexes_and_statistics_are_no_news(server: RealtimeServer, pg: str, shape: None) -> None:
    async with connected(server) as ws:
        await subscribed(ws, ENTRY)
        await sql(pg, "analyze shape; create index on shape (v)", "insert into shape values (7, 7)")
        assert (await received(ws))[4]["data"]["record"]["id"] == 7


async def test_who_was_away_while_a_table_became_another_does_not_resume(
    server: RealtimeServer, pg: str, shape: None
) -> None:
    async with connected(server) as ws:
        await subscribed(ws, ENTRY)
        await sql(pg, "insert into shape values (2, 2)")
        lsn = (await change(ws))["data"]["lsn"]
    config = {"postgres_changes": [ENTRY], "resume": {"lsn": lsn}}
    async with connected(server) as ws:
        await ask(ws, "realtime:t", "phx_join", {"config": config})
        assert (await system(ws))["resumed"] is True
    for statement in ("alter table shape alter v type int using v + 1", "drop table shape",
                      "create table shape (id int primary key);"
                      "alter publication supabase_realtime add table shape"):  # fmt: skip
        await sql(pg, statement)
        if statement == "drop table shape":
            continue
        async with connected(server) as ws:
            await ask(ws, "realtime:t", "phx_join", {"config": config})
            assert "resumed" not in await system(ws)


async def test_a_row_type_that_is_altered_while_rows_flow_is_rendered_anew(
    server: RealtimeServer, pg: str, shape: None
) -> None:
    await sql(
        pg,
        "drop type if exists shape_part cascade; create type shape_part as (x int, y text);"
        "alter table shape add p shape_part",
    )
    async with connected(server) as ws:
        await subscribed(ws, ENTRY)
        await sql(pg, "insert into shape (id, p) values (8, row(1, 'a'))")
        assert (await change(ws))["data"]["record"]["p"] == {"x": 1, "y": "a"}
        await sql(pg, "alter type shape_part add attribute z int, drop attribute y")
        assert await told(ws) == CHANGED
        await sql(pg, "update shape set v = 9 where id = 8")
        assert (await change(ws))["data"]["record"]["p"] == {"x": 1, "z": None}
    await sql(pg, "drop table shape; drop type shape_part")


async def test_changes_of_the_table_before_go_to_nobody_who_follows_the_new_one(
    server: RealtimeServer, pg: str, shape: None
) -> None:
    async with connected(server) as ws:
        async with server.delivery.gate:  # so that they are still on their way
            await sql(pg, "insert into shape values (2, 2), (3, 3)", "drop table shape")
            await sql(
                pg, "create table shape (id int primary key)", "alter publication supabase_realtime add table shape"
            )
            joining = asyncio.create_task(subscribed(ws, ENTRY))
            await until(lambda: len(server.delivery.gate._lock._waiters or ()) == 2)  # they, and the join
        await within(joining)
        await sql(pg, "insert into shape values (9)")
        got = await change(ws)
        assert got["data"]["errors"] is None
        assert got["data"]["record"] == {"id": 9}


async def test_an_error_says_of_which_commit_it_is(server: RealtimeServer, pg: str, shape: None) -> None:
    await sql(pg, "revoke select on shape from anon")
    async with connected(server) as ws:
        await subscribed(ws, ENTRY)
        await sql(pg, "insert into shape values (2, 2)")
        data = (await change(ws))["data"]
        assert data["errors"] == ["Error 401: Unauthorized"]
        assert data["lsn"] > 0
        assert data["xid"] > 0


async def test_what_was_written_before_the_table_was_published_is_read_after_its_commit(
    server: RealtimeServer, pg: str, marker: None
) -> None:
    await sql(pg, "drop table if exists shape; create table shape (id int primary key)")
    async with await psycopg.AsyncConnection.connect(pg) as writer, connected(server) as ws:
        await writer.execute("insert into shape values (1)")
        await sql(pg, "alter publication supabase_realtime add table shape")
        await subscribed(ws, ENTRY, MARKER)
        await no_news(ws, pg)
        await writer.commit()
        assert await told(ws) == CHANGED
    # One that is open for other reasons is none of its business.
    async with await psycopg.AsyncConnection.connect(pg) as writer, connected(server) as ws:
        await sql(pg, "drop table if exists other_t; create table other_t (id int primary key)")
        await writer.execute("insert into other_t values (1)")
        await subscribed(ws, ENTRY, MARKER)
        await writer.commit()
        await no_news(ws, pg)


async def test_the_end_of_a_catch_up_is_marked(server: RealtimeServer, pg: str, shape: None) -> None:
    async with connected(server) as ws:
        await subscribed(ws, ENTRY)
        await sql(
            pg, "insert into shape select n, n from generate_series(10, 12) n", "insert into shape values (20, 0)"
        )
        lsns = [(await change(ws))["data"]["lsn"] for _ in range(4)]
    last = lsns[-1]
    for since, expected in ((lsns[0], [10, 11, 12, 20]), (last, [20]), (last + 1, [])):
        async with connected(server) as ws:
            config = {"postgres_changes": [ENTRY], "resume": {"lsn": since}}
            await ask(ws, "realtime:t", "phx_join", {"config": config})
            assert (await system(ws))["resumed"] is True
            got = [await received(ws) for _ in expected]
            assert [frame[4]["data"]["record"]["id"] for frame in got] == expected
            end = await system(ws)
            assert (end["message"], end["caught_up"], end["lsn"]) == ("Caught up", True, last)
    async with connected(server) as ws:
        await ask(ws, "realtime:t", "phx_join", {"config": config})
        assert [(await system(ws))["message"] for _ in range(2)] == ["Subscribed to PostgreSQL", "Caught up"]
        await sql(pg, "insert into shape values (30, 0)")
        assert (await change(ws))["data"]["record"]["id"] == 30


async def test_who_waits_for_the_stream_is_told_which_transaction_it_waits_for(
    server: RealtimeServer, pg: str, shape: None
) -> None:
    async with await psycopg.AsyncConnection.connect(pg) as writer, connected(server) as before:
        await subscribed(before, ENTRY)
        await writer.execute("insert into shape values (2, 2)")
        await sql(pg, "select pg_terminate_backend(pid) from pg_stat_replication")
        assert (await system(before))["status"] == "error"
        async with connected(server) as ws:
            await ask(ws, "realtime:t", "phx_join", {"config": {"postgres_changes": [ENTRY]}})
            for one in (ws, before):
                said = await system(one)
                assert said["status"] == "error"
                assert said["message"].startswith("ReplicationBlocked: ")
                assert f"pid {writer.info.backend_pid} idle in transaction" in said["message"]
            await writer.commit()
            for one in (ws, before):
                while (said := await system(one))["status"] == "error":
                    pass
                assert said["message"] == "Subscribed to PostgreSQL"


async def test_a_role_that_may_not_see_a_session_learns_its_number(
    server: RealtimeServer, pg: str, shape: None
) -> None:
    await sql(pg, "drop role if exists copies; create role copies login replication")
    asking = make_conninfo(pg, user="copies")
    stream = await psycopg.AsyncConnection.connect(make_conninfo(asking, replication="database"), autocommit=True)
    async with await psycopg.AsyncConnection.connect(pg) as writer:
        await writer.execute("insert into shape values (2, 2)")
        slot = asyncio.create_task(
            stream.execute(b"CREATE_REPLICATION_SLOT copies TEMPORARY LOGICAL pgoutput NOEXPORT_SNAPSHOT")
        )
        found: list[Blocker] = []
        while not found and not slot.done():
            found = await within(read_blockers(asking))
        assert [str(one) for one in found] == [f"pid {writer.info.backend_pid} of another role"]
    await within(slot)
    await stream.close()
    await sql(pg, "drop role copies")
