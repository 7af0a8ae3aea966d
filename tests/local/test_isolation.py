"""Nobody's filter, policy, lock or slow reading holds up others."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import Any

import psycopg
import pytest
import websockets

from rtwidgets.local import lanes, matching, policies
from rtwidgets.local.auth import mint
from rtwidgets.local.hub import SendBuffers
from rtwidgets.local.limits import Limits
from rtwidgets.local.server import RealtimeServer

from ..waits import PATIENCE, received
from .client import ask, change, connected, sql, subscribed, system
from .conftest import SECRET

pytestmark = pytest.mark.pg

LOCKED = {"event": "*", "schema": "public", "table": "lk"}
FREE = {"event": "*", "schema": "public", "table": "free"}


@pytest.fixture
async def tables(pg: str) -> None:
    await sql(
        pg,
        "drop table if exists lk, free; create table lk (id int primary key, v text);"
        "create table free (id int primary key, v text);"
        "alter table lk enable row level security; create policy everybody on lk for select using (true);"
        "alter publication supabase_realtime add table lk, free",
    )


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(policies, "LIMIT", 0.4)
    monkeypatch.setattr(matching, "LIMIT", 0.2)
    monkeypatch.setattr(lanes, "_PROBES", (0.1,))


async def locked(server: RealtimeServer, pg: str, *statements: str) -> psycopg.AsyncConnection[Any]:
    """Runs statements and locks `lk` before anybody is asked who may see what they did."""
    connection = await psycopg.AsyncConnection.connect(pg)
    async with server.delivery.gate:
        await sql(pg, *statements)
        await connection.execute("lock table lk in access exclusive mode")
    return connection


async def test_a_locked_table_holds_up_its_own_subscribers_alone(
    server: RealtimeServer, pg: str, tables: None, impatient: None
) -> None:
    async with connected(server) as waits, connected(server) as goes_on:
        await subscribed(waits, LOCKED)
        await subscribed(goes_on, FREE)
        lock = await locked(server, pg, "insert into lk values (1)")
        for number in range(3):
            await sql(pg, f"insert into free values ({number})")
            assert (await change(goes_on))["data"]["record"]["id"] == number  # the lock is still there
        # Whoever shows its rows must not show them as if they were true of this moment.
        error = await system(waits)
        assert (error["status"], error["message"].split(":")[0]) == ("error", "QueryCanceled")
        assert "public.lk" in error["message"]
        await lock.rollback()
        assert (await system(waits))["message"] == "Subscribed to PostgreSQL"
        await sql(pg, "insert into lk values (2)")
        assert (await change(waits))["data"]["record"]["id"] == 2
        await lock.close()


async def test_a_table_becomes_live_while_another_one_is_locked(server: RealtimeServer, pg: str, tables: None) -> None:
    lock = await locked(server, pg)
    async with connected(server) as ws:
        async with asyncio.timeout(PATIENCE):
            await subscribed(ws, FREE)
        async with asyncio.timeout(PATIENCE):
            await ask(ws, "realtime:all", "phx_join", {"config": {"postgres_changes": [{"schema": "*"}]}})
            assert (await system(ws))["message"] == "Subscribed to PostgreSQL"
    await lock.rollback()
    await lock.close()


async def test_a_slow_policy_delays_its_own_table_alone_and_keeps_the_order(
    server: RealtimeServer, pg: str, tables: None
) -> None:
    await sql(
        pg,
        "create or replace function slow_yes() returns bool language sql volatile as"
        " 'select pg_advisory_xact_lock_shared(42) is not null';"
        "drop policy everybody on lk; create policy slowly on lk for select using (slow_yes())",
    )
    async with connected(server) as slow, connected(server) as quick:
        await subscribed(slow, LOCKED, FREE)
        await subscribed(quick, FREE)
        async with await psycopg.AsyncConnection.connect(pg) as holder:
            await holder.execute("select pg_advisory_xact_lock(42)")
            await sql(pg, "insert into lk values (1)", "insert into free values (1)", "insert into free values (2)")
            for number in (1, 2):
                assert (await change(quick))["data"]["record"]["id"] == number
        got = [(await change(slow))["data"] for _ in range(3)]
        assert [(data["table"], data["record"]["id"]) for data in got] == [("lk", 1), ("free", 1), ("free", 2)]


async def test_a_filter_that_takes_for_ever_ends_its_own_subscription(
    server: RealtimeServer, pg: str, tables: None, impatient: None
) -> None:
    bad_filter = {**FREE, "filter": r"v=match.^(.*)(.*)(.*)(.*)\1\2\3\4b$"}
    async with connected(server) as bad, connected(server) as good:
        await subscribed(bad, bad_filter)
        await subscribed(good, FREE)
        said: list[str] = []
        for number in range(3):
            value = "a" * (2000 + number) + "b"  # not one that was asked about already
            await sql(pg, f"insert into free values ({number}, '{value}')")
            assert (await change(good))["data"]["record"]["id"] == number
            said.append((await system(bad))["message"])
            if number < 2:
                assert (await system(bad))["message"] == "Subscribed to PostgreSQL"
        assert [text.split(":")[0] for text in said[:2]] == ["QueryCanceled"] * 2
        assert said[2].startswith("Unable to subscribe to changes with given parameters.")
        assert "57014 (query_canceled)" in said[2]
        await sql(pg, "insert into free values (9)")
        assert (await change(good))["data"]["record"]["id"] == 9
        assert (await ask(bad, "phoenix", "heartbeat", {}))["status"] == "ok"


async def test_a_policy_of_a_private_channel_that_takes_for_ever_is_given_up(
    server: RealtimeServer, pg: str, impatient: None
) -> None:
    await sql(
        pg,
        "drop policy if exists sleepy on realtime.messages;"
        "create policy sleepy on realtime.messages for select to anon"
        " using (realtime.topic() = 'sleepy' and pg_sleep(30) is not null)",
    )
    try:
        async with connected(server) as ws, asyncio.timeout(PATIENCE):
            answer = await ask(ws, "realtime:sleepy", "phx_join", {"config": {"private": True}})
        assert answer["response"]["reason"].startswith("UnableToConnectToProject")
    finally:
        await sql(pg, "drop policy sleepy on realtime.messages")


async def test_slow_readers_together_are_bounded(pg: str) -> None:
    limits = Limits(max_buffer=4_000_000, max_buffers=6_000_000)
    running = RealtimeServer(pg, jwt_secret=SECRET, anon_key=mint(SECRET, "anon"), limits=limits)
    await running.start()
    try:
        async with contextlib.AsyncExitStack() as stack:
            slow = [await stack.enter_async_context(connected(running)) for _ in range(5)]
            fast = await stack.enter_async_context(connected(running))
            for ws in (*slow, fast):
                await ask(ws, "realtime:r", "phx_join", {"config": {}})
            for ws in slow:
                ws.transport.pause_reading()
            payload = {"type": "broadcast", "event": "m", "payload": {"x": "y" * 250_000}}
            for _ in range(60):
                await fast.send(json.dumps(["1", None, "realtime:r", "broadcast", payload]))
                waiting = [client.connection.waiting for client in running.clients]
                assert sum(waiting) <= limits.max_buffers + 300_000 * len(slow)
            assert (await ask(fast, "phoenix", "heartbeat", {}))["status"] == "ok"
            left = [client.connection for client in running.clients if not client.connection.dropped]
            assert 1 <= len(left) < 6
            for ws in slow:
                ws.transport.abort()
    finally:
        await running.stop()


def test_where_many_are_slow_the_sender_waits_for_each_of_them_sooner() -> None:
    buffers = SendBuffers(1000)
    assert buffers.share(200) == 200
    assert buffers.share(900) == 500


async def test_a_crowd_that_comes_gets_few_diffs_and_knows_everybody(server: RealtimeServer) -> None:
    crowd = 120
    async with contextlib.AsyncExitStack() as stack:
        sockets = [await stack.enter_async_context(connected(server)) for _ in range(crowd)]
        config = {"presence": {"enabled": True}}
        for number, ws in enumerate(sockets):
            config["presence"]["key"] = f"k{number}"  # type: ignore[assignment]
            await ws.send(json.dumps(["1", "1", "realtime:crowd", "phx_join", {"config": config}]))
        track = {"type": "presence", "event": "track", "payload": {"n": 1}}
        for ws in sockets:
            await ws.send(json.dumps(["1", "2", "realtime:crowd", "presence", track]))

        async def hears(ws: Any) -> int:
            known: set[str] = set()
            diffs = 0
            while len(known) < crowd:
                frame = await received(ws)
                if frame[3] == "presence_state":
                    known |= set(frame[4])
                elif frame[3] == "presence_diff":
                    diffs += 1
                    known |= set(frame[4]["joins"])
            return diffs

        diffs = await asyncio.gather(*(hears(ws) for ws in sockets))
        assert max(diffs) < crowd / 2
        await sockets[0].send(json.dumps(["1", "3", "realtime:crowd", "phx_leave", {}]))
        frame = [None, None, None, "", {}]
        async with asyncio.timeout(PATIENCE):
            while frame[3] != "presence_diff" or not frame[4]["leaves"]:
                frame = json.loads(await sockets[1].recv())
        assert list(frame[4]["leaves"]) == ["k0"]
        for ws in sockets:  # else each waits for the answer to its close behind what it has not read
            ws.transport.abort()


async def test_a_server_that_stops_logs_no_error(pg: str, caplog: pytest.LogCaptureFixture) -> None:
    running = RealtimeServer(pg, jwt_secret=SECRET, anon_key=mint(SECRET, "anon"))
    await running.start()
    await sql(pg, "drop table if exists free; create table free (id int primary key)")
    await sql(pg, "alter publication supabase_realtime add table free")
    async with connected(running) as ws, connected(running) as waiting:
        await subscribed(ws, FREE)
        await ask(waiting, "realtime:x", "phx_join", {"config": {"postgres_changes": [{**FREE, "table": "none"}]}})
        await running.stop()
        with contextlib.suppress(websockets.ConnectionClosed):
            async for _ in ws:
                pass
    assert [record.getMessage() for record in caplog.records if record.levelname in ("ERROR", "CRITICAL")] == []
    assert not any(record.exc_info for record in caplog.records)
