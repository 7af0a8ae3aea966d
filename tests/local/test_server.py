"""The server's own ways: what no recording shows. Its conformance is tested in tests/conformance."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import socket
import time
from collections.abc import Collection
from typing import Any

import httpx
import psycopg
import pytest
import websockets

from rtwidgets.local import catalogue, delivery, pgoutput, replication, visibility
from rtwidgets.local import server as module
from rtwidgets.local.auth import Identity, mint
from rtwidgets.local.server import RealtimeServer
from rtwidgets.protocol import filters
from rtwidgets.protocol.errors import RealtimeError
from rtwidgets.protocol.filter_eval import judge

from ..waits import PATIENCE, received, until, within
from .client import ask, change, connected, sql, subscribed, system
from .conftest import SECRET

pytestmark = pytest.mark.pg


async def test_two_tables_in_one_transaction_arrive_in_order_with_one_position(server: RealtimeServer, pg: str) -> None:
    await sql(
        pg,
        "drop table if exists one, two;"
        "create table one (id int primary key); create table two (id int primary key);"
        "alter publication supabase_realtime add table one, two",
    )
    async with connected(server) as ws:
        await subscribed(ws, {"event": "*", "schema": "public"})
        await sql(
            pg, "begin; insert into one values (1); insert into two values (1); insert into one values (2); commit"
        )
        got = [json.loads(await ws.recv())[4]["data"] for _ in range(3)]
    assert [(data["table"], data["record"]["id"]) for data in got] == [("one", 1), ("two", 1), ("one", 2)]
    assert len({(data["lsn"], data["xid"]) for data in got}) == 1


async def test_toast_and_large_rows(server: RealtimeServer, pg: str) -> None:
    await sql(
        pg,
        "drop table if exists big_t; create table big_t (id int primary key, k text, big text, small text);"
        "alter table big_t alter big set storage external; alter publication supabase_realtime add table big_t",
    )
    async with connected(server) as ws:
        await subscribed(ws, {"event": "*", "schema": "public", "table": "big_t"})
        await sql(pg, "insert into big_t values (1, 'k', repeat('b', 10000), 's')", "update big_t set small = 's2'")
        await sql(pg, "insert into big_t values (2, 'k2', repeat('b', 1100000), 's')")
        first, second, third = [json.loads(await ws.recv())[4]["data"] for _ in range(3)]
    assert len(first["record"]["big"]) == 10000
    assert (second["record"], second["old_record"]) == ({"id": 1, "k": "k", "small": "s2"}, {"id": 1})
    assert third["errors"] == ["Error 413: Payload Too Large"]
    assert third["record"] == {"id": 2, "k": "k2", "small": "s"}


async def test_only_the_columns_asked_for_and_the_key(server: RealtimeServer, pg: str) -> None:
    await sql(
        pg,
        "drop table if exists chosen; create table chosen (id int primary key, a text, b text, c text);"
        "alter table chosen replica identity full; alter publication supabase_realtime add table chosen",
    )
    table = {"event": "*", "schema": "public", "table": "chosen"}
    async with connected(server) as ws:
        entries = [{**table, "select": ["a"], "filter": "c=eq.open"}, {**table, "event": "DELETE", "select": ["b"]}]
        await ask(ws, "realtime:t", "phx_join", {"config": {"postgres_changes": entries}})
        assert (await received(ws))[4]["status"] == "ok"
        await sql(
            pg,
            "insert into chosen values (1, 'a', 'b', 'open'), (2, 'a', 'b', 'shut')",
            "update chosen set a = 'z' where id = 1",
            "delete from chosen where id = 1",
            "delete from chosen where id = 2",
        )
        got = [(await received(ws))[4] for _ in range(4)]
    # Of a channel with several entries each change comes once, with what any of them asked for on that table.
    columns = [{"name": "id", "type": "int4"}, {"name": "a", "type": "text"}, {"name": "b", "type": "text"}]
    assert [frame["data"]["columns"] for frame in got] == [columns] * 4
    assert [(frame["data"].get("record"), frame["data"].get("old_record")) for frame in got] == [
        ({"id": 1, "a": "a", "b": "b"}, None),
        ({"id": 1, "a": "z", "b": "b"}, {"id": 1, "a": "a", "b": "b"}),
        (None, {"id": 1, "a": "z", "b": "b"}),
        (None, {"id": 2, "a": "a", "b": "b"}),
    ]
    assert [len(frame["ids"]) for frame in got] == [1, 1, 2, 1]
    async with connected(server) as ws:
        await subscribed(ws, {**table, "select": ["a"]})  # type: ignore[dict-item]
        await sql(pg, "insert into chosen values (3, 'a', 'b', 'c')")
        assert (await received(ws))[4]["data"]["record"] == {"id": 3, "a": "a"}


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({"table": "chosen", "select": ["nope"]}, "P0001 (raise_exception) invalid column for select nope"),
        ({"table": "chosen", "select": ["hidden"]}, "P0001 (raise_exception) invalid column for select hidden"),
        ({"table": "chosen", "filter": "hidden=eq.x"}, "P0001 (raise_exception) invalid column for filter hidden"),
        (
            {"schema": "*", "table": "*", "select": ["id"]},
            "Column selection is not supported for wildcard subscription",
        ),
        ({"table": "*", "select": ["id"]}, "Column selection is not supported for wildcard subscriptions"),
        ({"schema": None, "table": None}, "No subscription params provided."),
    ],
)
async def test_columns_that_cannot_be_asked_for(
    server: RealtimeServer, pg: str, entry: dict[str, Any], said: str
) -> None:
    await sql(
        pg,
        "drop table if exists chosen; create table chosen (id int primary key, hidden text);"
        "revoke select on chosen from anon; grant select (id) on chosen to anon;"
        "alter publication supabase_realtime add table chosen",
    )
    async with connected(server) as ws:
        entry = {"event": "*", "schema": "public", **entry}
        await ask(ws, "realtime:t", "phx_join", {"config": {"postgres_changes": [entry]}})
        answer = (await received(ws))[4]
    assert answer["status"] == "error"
    assert said in answer["message"]


async def test_every_table_of_every_schema_as_it_comes_and_goes(server: RealtimeServer, pg: str) -> None:
    """Wildcards take in what is published after the join; and a table made anew under its old name is another one."""
    await sql(pg, "drop schema if exists side cascade; create schema side; grant usage on schema side to anon")
    await sql(pg, "drop table if exists here; create table here (id int primary key)")
    await sql(pg, "alter publication supabase_realtime add table here")
    async with connected(server) as ws:
        await subscribed(ws, {"event": "INSERT", "schema": "*", "table": "*"})

        async def heard() -> tuple[str, str, Any, Any]:
            data = (await change(ws))["data"]
            return data["schema"], data["table"], data.get("record"), data["errors"]

        await sql(pg, "insert into here values (1)")
        assert await heard() == ("public", "here", {"id": 1}, None)
        await sql(pg, "create table side.there (id int primary key); grant select on side.there to anon")
        await sql(pg, "alter publication supabase_realtime add table side.there", "insert into side.there values (2)")
        assert await heard() == ("side", "there", {"id": 2}, None)
        await sql(pg, "drop table here; create table here (name text primary key, n int)")
        await sql(pg, "alter publication supabase_realtime add table here", "insert into here values ('x', 3)")
        assert await heard() == ("public", "here", {"name": "x", "n": 3}, None)
        await sql(pg, "alter table here drop constraint here_pkey", "alter table here replica identity full")
        await sql(pg, "insert into here values ('y', 4)")
        assert await heard() == ("public", "here", {}, ["Error 400: Bad Request, no primary key"])
        await sql(pg, "alter table here add primary key (n)", "revoke select on here from anon")
        await sql(pg, "grant select (name) on here to anon", "insert into here values ('z', 5)")
        assert await heard() == ("public", "here", {}, ["Error 401: Unauthorized"])
        await sql(pg, "alter publication supabase_realtime drop table here", "insert into here values ('-', 6)")
        await sql(pg, "truncate side.there", "insert into side.there values (7)")
        assert await heard() == ("side", "there", {"id": 7}, None), "and of a TRUNCATE nobody is told, as in Supabase"


async def test_a_broadcast_between_the_serializers(server: RealtimeServer) -> None:
    """Bytes reach 2.0.0 alone; what is JSON reaches both, each in its own form, whoever sends it and in whichever."""
    name, long = "realtime:mixed", "realtime:" + "x" * 300
    async with connected(server) as two, connected(server) as other, connected(server, "1.0.0") as one:
        for topic in (name, long):
            for ws in (two, other):
                assert (await ask(ws, topic, "phx_join", {"config": {}}))["status"] == "ok"
            await one.send(json.dumps({"topic": topic, "event": "phx_join", "payload": {"config": {}}, "ref": "1"}))
            assert json.loads(await one.recv())["payload"]["status"] == "ok"

        def push(encoding: int, body: bytes) -> bytes:
            names = [b"1", b"", name.encode(), b"e", b""]
            return bytes([3, *map(len, names), encoding]) + b"".join(names) + body

        kind4 = bytes([4, len(name), 1, 0])
        await two.send(push(0, b"\x00\xff"))
        assert await within(other.recv()) == kind4 + b"\x00" + name.encode() + b"e\x00\xff"
        await two.send(push(1, b'{"n":1}'))
        assert await within(other.recv()) == kind4 + b"\x01" + name.encode() + b'e{"n":1}'
        said = {"event": "e", "payload": {"n": 1}, "type": "broadcast"}
        assert (await received(one))["payload"] == said
        await one.send(json.dumps({"topic": name, "event": "broadcast", "payload": said, "ref": None, "join_ref": "1"}))
        for ws in (two, other):
            assert await received(ws) == [None, None, name, "broadcast", said]
        # A name that is too long for a binary frame travels as text.
        await two.send(json.dumps(["1", None, long, "broadcast", said]))
        assert (await received(other))[2:] == [long, "broadcast", said]
        assert (await received(one))["topic"] == long


async def test_a_frame_that_makes_no_sense_ends_nothing(
    server: RealtimeServer, caplog: pytest.LogCaptureFixture
) -> None:
    odd: list[Any] = [
        None,
        True,
        5,
        -1.5,
        "x",
        "",
        "\x00",
        [],
        [1],
        {},
        {"type": 1},
        {"config": 1},
        {"access_token": 7},
    ]
    odd += [{"type": "presence", "event": event, "payload": value} for event in ("track", 5, None) for value in odd[:6]]
    odd += [{"type": "broadcast", "event": event, "payload": value} for event in ("e", 5) for value in odd[:6]]
    config = ["postgres_changes", "broadcast", "presence", "private", "resume"]
    odd += [{"config": {name: value}} for name in config for value in odd[:12]]
    odd += [{"config": {"broadcast": {"replay": value}, "private": True}} for value in odd[:12]]
    odd += [{"config": {"resume": {"lsn": value}}} for value in (10**30, -1, True, "x")]
    odd += [{"config": {"postgres_changes": [{"schema": a, "table": b}]}} for a in odd[:9] for b in odd[:9]]
    odd += [
        {"config": {"postgres_changes": [{"schema": "public", name: a}]}}
        for name in ("filter", "event")
        for a in odd[:9]
    ]
    events = ["phx_join", "broadcast", "presence", "access_token", "phx_leave", "heartbeat", "", "else"]
    async with connected(server, "1.0.0") as one, connected(server) as two:
        for ws in (one, two):
            heard = asyncio.create_task(answered(ws))
            for number, (event, payload) in enumerate(itertools.product(events, odd)):
                topic = ["realtime:t", "realtime:", "phoenix", ""][number % 4]
                frame = {"topic": topic, "event": event, "payload": payload, "ref": str(number), "join_ref": "1"}
                await ws.send(json.dumps(frame if ws is one else ["1", str(number), topic, event, payload]))
            for text in ("", "[", "{}", "[]", "null", '{"topic":1}', "[1,2,3,4,5]", '["1","2","realtime:t"]'):
                await ws.send(text)
            beat = {"topic": "phoenix", "event": "heartbeat", "payload": {}, "ref": "beat"}
            await ws.send(json.dumps(beat if ws is one else [None, "beat", "phoenix", "heartbeat", {}]))
            await within(heard)
    assert [record.message for record in caplog.records if record.levelname in ("ERROR", "CRITICAL")] == []


async def answered(ws: Any) -> None:
    while True:
        frame = json.loads(await ws.recv())
        if "beat" in (frame["ref"] if isinstance(frame, dict) else frame[1],):
            return


async def test_requests_have_a_size(server: RealtimeServer) -> None:
    async with httpx.AsyncClient(base_url=server.url, headers={"apikey": server.anon_key}) as http:
        for path in ("/realtime/v1/api/broadcast", "/realtime/v1/api/broadcast/t/events/e", "/rest/v1/rpc/any"):
            answer = await http.post(path, content=b"x" * 5_000_001, headers={"Content-Type": "application/json"})
            assert answer.status_code in (404, 413), path
        assert (await http.get("/rest/v1/any?id=eq." + "x" * 40_000)).status_code == 400
    async with connected(server) as ws:
        with contextlib.suppress(websockets.ConnectionClosed):
            await ws.send(b"x" * 5_000_001)
        with pytest.raises(websockets.ConnectionClosed) as caught:
            await within(ws.recv())
        assert caught.value.rcvd is not None
        assert caught.value.rcvd.code == 1009


@pytest.mark.parametrize(
    "headers", [{"Host": "evil.example"}, {"Origin": "https://evil.example"}, {"Origin": "null"}], ids=str
)
async def test_a_page_from_elsewhere_opens_no_socket(server: RealtimeServer, headers: dict[str, str]) -> None:
    upgrade = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "x" * 22 + "==",
    }
    async with httpx.AsyncClient(base_url=server.url) as http:
        path = f"/realtime/v1/websocket?apikey={server.anon_key}&vsn=2.0.0"
        assert (await http.get(path, headers=upgrade | headers)).status_code == 403


async def test_a_page_from_elsewhere_is_refused(server: RealtimeServer) -> None:
    async with httpx.AsyncClient(base_url=server.url) as http:
        for headers in ({"Host": "evil.example"}, {"Origin": "https://evil.example"}, {"Origin": "null"}):
            assert (await http.get("/health", headers=headers)).status_code == 403
        for headers in ({}, {"Origin": "http://localhost:8888"}, {"Host": "localhost:1"}, {"Host": "127.0.0.1"}):
            assert (await http.get("/health", headers=headers)).status_code == 200


async def test_a_client_that_does_not_read_is_dropped(pg: str) -> None:
    from rtwidgets.local.limits import Limits

    running = RealtimeServer(pg, jwt_secret=SECRET, anon_key=mint(SECRET, "anon"), limits=Limits(max_buffer=1_000_000))
    await running.start()
    try:
        async with connected(running) as slow, connected(running) as fast:
            for ws in (slow, fast):
                await ask(ws, "realtime:r", "phx_join", {"config": {}})
            slow.transport.pause_reading()
            payload = {"type": "broadcast", "event": "m", "payload": {"x": "y" * 500_000}}
            for _ in range(40):
                await fast.send(json.dumps(["1", None, "realtime:r", "broadcast", payload]))
            assert (await ask(fast, "phoenix", "heartbeat", {}))["status"] == "ok"
            dropped = [client.connection.dropped for client in running.clients]
            assert "" in dropped
            assert len(dropped) == 1 or "client too slow" in dropped
    finally:
        await running.stop()


@pytest.fixture
async def long(server: RealtimeServer, pg: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """A table, and a server for which everything is long."""
    monkeypatch.setattr(pgoutput, "PART", 2000)
    monkeypatch.setattr(replication, "_MOST", 8000)
    await sql(
        pg,
        "drop table if exists long; create table long (id int primary key);"
        "alter publication supabase_realtime add table long",
    )
    return {"event": "*", "schema": "public", "table": "long"}


async def test_a_long_transaction_goes_in_parts_and_no_more_is_read_than_is_sent(
    server: RealtimeServer, pg: str, long: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    most, parts, deliver = 0, 0, server.stream._on_batch

    async def slowly(batch: list[pgoutput.Transaction]) -> None:
        nonlocal most, parts
        most = max(most, server.stream._ahead)
        parts += len(batch)
        await asyncio.sleep(0.002)
        await deliver(batch)

    monkeypatch.setattr(server.stream, "_on_batch", slowly)
    async with connected(server) as ws:
        await subscribed(ws, long)
        await sql(pg, "insert into long select generate_series(1, 5000)", "insert into long values (0)")
        got = [(await received(ws))[4]["data"] for _ in range(5001)]
    assert [data["record"]["id"] for data in got] == [*range(1, 5001), 0]
    assert len({(data["lsn"], data["xid"], data["commit_timestamp"]) for data in got[:5000]}) == 1
    assert parts > 20
    assert most < 40_000, "what was read and not sent"


async def test_small_transactions_that_wait_together_are_asked_about_together(
    server: RealtimeServer, pg: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await sql(
        pg,
        "drop table if exists small; create table small (id int primary key);"
        "alter table small enable row level security; create policy even on small for select using (id % 2 = 0);"
        "alter publication supabase_realtime add table small",
    )
    go_on, deliver, visible, asked = asyncio.Event(), server.stream._on_batch, visibility.read_visible, 0
    arrived = 0

    async def waiting(batch: list[pgoutput.Transaction]) -> None:
        nonlocal arrived
        arrived += sum(len(transaction.changes) for transaction in batch)
        await go_on.wait()
        await deliver(batch)

    async def counted(*arguments: Any, **options: Any) -> Any:
        nonlocal asked
        asked += 1
        return await visible(*arguments, **options)

    monkeypatch.setattr(server.stream, "_on_batch", waiting)
    monkeypatch.setattr(visibility, "read_visible", counted)
    async with connected(server) as ws:
        await subscribed(ws, {"event": "*", "schema": "public", "table": "small"})
        await sql(pg, *[f"insert into small values ({number})" for number in range(50)])
        stream = server.stream
        await until(lambda: arrived + sum(len(t.changes) for t in stream._pending) == 50)
        go_on.set()
        got = [(await received(ws))[4]["data"] for _ in range(25)]
        assert (await ask(ws, "phoenix", "heartbeat", {}))["status"] == "ok"
    assert [data["record"]["id"] for data in got] == list(range(0, 50, 2))
    assert len({(data["lsn"], data["xid"]) for data in got}) == 25
    assert asked == 2, "of what came first, and of all that waited"


async def test_whoever_comes_during_a_long_transaction_is_told_after_it(
    server: RealtimeServer, pg: str, long: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    halfway, go_on = asyncio.Event(), asyncio.Event()
    frames_of, told = delivery.frames_of, 0

    async def drain() -> None:
        halfway.set()
        await go_on.wait()

    def count(*arguments: Any) -> Any:
        nonlocal told
        told += 1
        return frames_of(*arguments)

    monkeypatch.setattr(delivery, "frames_of", count)
    async with connected(server) as ws, connected(server) as late, connected(server) as back:
        await subscribed(ws, long)
        monkeypatch.setattr(server.delivery, "_drain", drain)
        await sql(pg, "insert into long select generate_series(1, 500)")
        first = (await received(ws))[4]["data"]
        await within(halfway.wait())
        assert 0 < told < 5
        waiting = asyncio.create_task(subscribed(late, long))
        config = {"postgres_changes": [long], "resume": {"lsn": first["lsn"]}}
        await ask(back, "realtime:t", "phx_join", {"config": config})
        await until(lambda: len(server.delivery.gate._lock._waiters or ()) == 2)
        assert not waiting.done()
        go_on.set()
        await within(waiting)
        frames = [(await received(back))[4] for _ in range(501)]
        assert frames[0]["resumed"] is True
        assert [frame["data"]["record"]["id"] for frame in frames[1:]] == [*range(1, 501)]
        await sql(pg, "insert into long values (0)")
        assert (await received(late))[4]["data"]["record"] == {"id": 0}


@pytest.mark.parametrize("most", [8000, 10**9], ids=["noticed later", "noticed at once"])
async def test_a_stream_that_breaks_within_a_long_transaction_holds_up_nobody(
    server: RealtimeServer, pg: str, long: dict[str, str], monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    monkeypatch.setattr(replication, "_MOST", most)
    halfway, go_on = asyncio.Event(), asyncio.Event()

    async def drain() -> None:
        halfway.set()
        await go_on.wait()

    async with connected(server) as ws:
        await subscribed(ws, long)
        monkeypatch.setattr(server.delivery, "_drain", drain)
        await sql(pg, "insert into long select generate_series(1, 2000)")
        await within(halfway.wait())
        await sql(pg, "select pg_terminate_backend(pid) from pg_stat_replication")
        if most > 8000:
            await until(lambda: not server.stream.streaming.is_set())
        go_on.set()
        async with asyncio.timeout(PATIENCE):
            while "Subscribed" not in json.loads(await ws.recv())[4].get("message", ""):
                pass
            async with connected(server) as late:
                await subscribed(late, long)
            await sql(pg, "insert into long values (0)")
            while json.loads(await ws.recv())[4]["data"]["record"] != {"id": 0}:
                pass


async def test_a_stream_that_broke_is_opened_again_and_everybody_told(server: RealtimeServer, pg: str) -> None:
    await sql(
        pg,
        "drop table if exists again; create table again (id int primary key);"
        "alter publication supabase_realtime add table again",
    )
    async with connected(server) as ws:
        await subscribed(ws, {"event": "*", "schema": "public", "table": "again"})
        await sql(pg, "select pg_terminate_backend(pid) from pg_stat_activity where application_name like 'rtwidgets%'")
        frame = await received(ws)
        assert frame[4]["status"] == "error", "what is shown is not true of this moment"
        # The channel is told once more, since rows may have been missed: a client reads its snapshot again.
        frame = await received(ws)
        assert frame[4]["message"] == "Subscribed to PostgreSQL"
        await sql(pg, "insert into again values (1)")
        assert (await received(ws))[4]["data"]["record"] == {"id": 1}
        answer = await ask(ws, "realtime:other", "phx_join", {"config": {"private": True}})
        assert answer["response"]["reason"].startswith("Unauthorized")


async def test_a_stream_that_broke_leaves_no_hole_that_a_resumed_client_would_not_hear_of(
    server: RealtimeServer, pg: str
) -> None:
    """What still waits to go out when the stream breaks came before the gap, and nobody may go on from there."""
    await sql(
        pg,
        "drop table if exists holed; create table holed (id int primary key);"
        "alter publication supabase_realtime add table holed",
    )
    holed = {"event": "*", "schema": "public", "table": "holed"}
    stream = server.stream
    opened, gate = stream._open, asyncio.Event()

    async def held(connection: Any) -> None:
        await gate.wait()
        await opened(connection)

    async with connected(server) as ws, connected(server) as other:
        await subscribed(ws, holed)
        async with server.delivery.gate:
            await sql(pg, "insert into holed values (1)")
            await until(lambda: not stream._idle.is_set())
            stream._open = held  # type: ignore[method-assign]
            await sql(
                pg, "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'rtwidgets stream'"
            )
            await until(lambda: not stream.streaming.is_set())
            await sql(pg, "insert into holed values (2)")  # which nobody is told of
        gate.set()
        frames: list[Any] = []
        while not frames or frames[-1].get("status") != "ok":
            frames.append((await received(ws))[4])
        lsn = next(frame["data"]["lsn"] for frame in frames if "data" in frame)
        config = {"postgres_changes": [holed], "resume": {"lsn": lsn}}
        await ask(other, "realtime:t", "phx_join", {"config": config})
        assert "resumed" not in (await received(other))[4]


async def test_a_new_token_does_not_send_again_what_came_since_the_join(server: RealtimeServer, pg: str) -> None:
    await sql(
        pg,
        "drop table if exists anew; create table anew (id int primary key);"
        "alter publication supabase_realtime add table anew",
    )
    anew = {"event": "*", "schema": "public", "table": "anew"}
    async with connected(server) as ws:
        await subscribed(ws, anew)
        await sql(pg, "insert into anew values (1)", "insert into anew values (2)")
        lsn = [(await received(ws))[4]["data"]["lsn"] for _ in range(2)][1]
    async with connected(server) as ws:
        config = {"postgres_changes": [anew], "resume": {"lsn": lsn}}
        await ask(ws, "realtime:t", "phx_join", {"config": config})
        assert (await received(ws))[4]["resumed"] is True
        assert (await change(ws))["data"]["record"] == {"id": 2}
        assert (await system(ws))["caught_up"] is True
        token = mint(SECRET, "authenticated", sub="11111111-1111-1111-1111-111111111111")
        await ws.send(json.dumps(["1", None, "realtime:t", "access_token", {"access_token": token}]))
        again = (await received(ws))[4]
        assert (again["message"], again.get("resumed")) == ("Subscribed to PostgreSQL", None)
        await sql(pg, "insert into anew values (3)")
        assert (await received(ws))[4]["data"]["record"] == {"id": 3}


@pytest.mark.parametrize(
    "condition",
    [
        "d=eq.2026-1-5",
        "d=lt.Jan 6 2026",
        "at=gte.20260105T000000Z",
        "at=lt.tomorrow",
        "n=eq.1e1",
        'a=eq."{1, 2}"',
        'j=eq."{\\"b\\":1}"',
        "raw=eq.\\xDEAD",
        "c=eq.ab",
        "v=neq.abcdef",
        "ok=eq.yes",
        "span=eq.60 minutes",
        "name=match.^a[0-9]?$",
    ],
)
async def test_a_filter_reads_its_value_as_postgres_does(server: RealtimeServer, pg: str, condition: str) -> None:
    await sql(
        pg,
        "drop table if exists read; create table read (id int primary key, d date, at timestamptz, n numeric, a int[],"
        "j jsonb, raw bytea, c char(4), v varchar(3), ok bool, span interval, name text);"
        "alter publication supabase_realtime add table read",
    )
    async with connected(server) as ws:
        await subscribed(ws, {"event": "*", "schema": "public", "table": "read", "filter": condition})
        await sql(
            pg,
            "insert into read values (1)",
            """insert into read values (2, '2026-01-05', '2026-01-05 12:00+00', 10.0, '{1,2}', '{"b": 1}', '\\xdead',
            'ab', 'abc', true, '1 hour', 'a1')""",
        )
        assert (await received(ws))[4]["data"]["record"]["id"] == 2


REGEXES = [
    ("^[[:upper:]]+$", ["ABC", "ABc"]),
    ("^[^[:alpha:]_]$", ["1", "a", "_"]),
    (r"\mfoo\M", ["a foo b", "food"]),
    (r"\yfoo\Y", ["food", "foo"]),
    ("a.c", ["a\nc", "abc"]),
    ("^b$", ["a\nb", "b", "b\n"]),
    ("(?n)^b$", ["a\nb", "b"]),
    ("(?n)a.c", ["a\nc", "abc"]),
    ("(?p)a.c", ["a\nc", "abc"]),
    ("(?w)^b$", ["a\nb", "ab"]),
    ("(?i)AbC", ["abc", "x"]),
    ("(?q)a.c", ["a.c", "abc"]),
    ("***=a.c", ["a.c", "abc"]),
    (r"[]a]$", ["]", "b"]),
    (r"[\]x]$", ["]", "b", "x"]),
    (r"^\d{2,}$", ["12", "1"]),
    (r"\Aab\Z", ["ab", "ab\n", "xab"]),
    (r"(a)\1", ["aa", "ab"]),
    ("(?:a|b)+?c", ["abc", "c"]),
    ("[[:space:][:punct:]]", ["a b", "a-b", "ab"]),
]


@pytest.mark.parametrize(("pattern", "values"), REGEXES, ids=[pattern for pattern, _ in REGEXES])
async def test_a_regular_expression_is_postgres_own(
    server: RealtimeServer, pg: str, pattern: str, values: list[str]
) -> None:
    """The server asks Postgres; a live table, which applies its filter itself, has them translated."""
    async with await psycopg.AsyncConnection.connect(pg, autocommit=True) as connection:
        await connection.execute(
            "drop table if exists texts; create table texts (id int primary key, v text);"
            "alter publication supabase_realtime add table texts"
        )
        for op, negated, sign in (("match", False, "~"), ("imatch", False, "~*"), ("match", True, "!~")):
            wanted = filters.Filter((filters.Condition("v", op, pattern, negated),))
            async with connected(server) as ws:
                entry = {"event": "INSERT", "schema": "public", "table": "texts", "filter": str(wanted)}
                await subscribed(ws, entry)
                await connection.execute("delete from texts")
                for number, value in enumerate(values):
                    await connection.execute("insert into texts values (%s, %s)", (number, value))
                query = f"select v, v {sign} %s from texts order by id"
                cursor = await connection.execute(query.encode(), (pattern,))
                expected = await cursor.fetchall()
                chosen = [value for value, told in expected if told]
                got = [(await received(ws))[4]["data"]["record"]["v"] for _ in chosen]
                assert got == chosen, op
                assert (await ask(ws, "phoenix", "heartbeat", {}))["status"] == "ok"
            test = judge(wanted, {"v": "text"})
            assert all(test({"v": value}) in (told, None) for value, told in expected), op


async def test_a_filter_that_takes_for_ever_holds_up_nobody(server: RealtimeServer, pg: str) -> None:
    await sql(
        pg,
        "drop table if exists texts; create table texts (id int primary key, v text);"
        "alter publication supabase_realtime add table texts",
    )
    entry = {"event": "*", "schema": "public", "table": "texts"}
    filters_ = ["v=match.^(a|aa|a?)+$", "v=like." + "%a" * 12 + "b", r"v=match.^(.*)(.*)(.*)(.*)\1\2\3\4b$"]
    async with connected(server) as bad, connected(server) as good:
        await subscribed(bad, *({**entry, "filter": text} for text in filters_))
        await subscribed(good, entry)
        await sql(pg, "insert into texts values (1, repeat('a', 2000) || 'c')")
        assert (await received(good))[4]["data"]["record"]["id"] == 1


async def test_a_filter_that_fits_no_more_keeps_nothing_from_the_others(server: RealtimeServer, pg: str) -> None:
    await sql(
        pg,
        "drop table if exists changed; create table changed (id int primary key, v text);"
        "alter publication supabase_realtime add table changed",
    )
    changed = {"event": "*", "schema": "public", "table": "changed"}
    async with connected(server) as ws, connected(server) as filtered:
        await subscribed(ws, changed)
        await subscribed(filtered, {**changed, "filter": "v=eq.abc"})
        await sql(pg, "alter table changed alter v type int using 0", "insert into changed values (1, 5)")
        assert (await change(ws))["data"]["record"] == {"id": 1, "v": 5}
        assert (await system(filtered))["changed"] == {"schema": "public", "table": "changed"}
        refused = await system(filtered)
        assert refused["status"] == "error"
        assert "22P02 (invalid_text_representation)" in refused["message"]


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({"filter": 5}, "Error parsing `filter` params: it must be text"),
        ({"filter": {"id": 1}}, "Error parsing `filter` params: it must be text"),
        ({"select": "id"}, "Error parsing `select` params: it must be a list of column names"),
        ({"table": "a\x00b"}, "Unable to subscribe to changes with given parameters. An exception happened."),
        ({"filter": "name=match.["}, "Exception: ERROR 2201B (invalid_regular_expression) invalid regular expression:"),
        (
            {"filter": "d=eq.soon"},
            "Exception: ERROR 22007 (invalid_datetime_format) invalid input syntax for type date",
        ),
        ({"filter": "d=eq.2026-13-01"}, "Exception: ERROR 22008 (datetime_field_overflow) "),
    ],
)
async def test_a_subscription_that_cannot_be_is_answered(
    server: RealtimeServer, pg: str, entry: dict[str, Any], said: str
) -> None:
    await sql(
        pg,
        "drop table if exists odd; create table odd (id int primary key, name text, d date);"
        "alter publication supabase_realtime add table odd",
    )
    async with connected(server) as ws:
        config = {"postgres_changes": [{"event": "*", "schema": "public", "table": "odd", **entry}]}
        await ask(ws, "realtime:t", "phx_join", {"config": config})
        answer = (await received(ws))[4]
    assert answer["status"] == "error"
    assert said in answer["message"]


async def test_a_policy_that_fails_keeps_nothing_from_the_others(server: RealtimeServer, pg: str) -> None:
    await sql(
        pg,
        "drop table if exists broken; create table broken (id int primary key);"
        "alter table broken enable row level security;"
        "create policy fails on broken for select to anon using (1 / (id - id) = 1);"
        "alter publication supabase_realtime add table broken",
    )
    async with connected(server) as anon, connected(server) as service:
        table = {"event": "*", "schema": "public", "table": "broken"}
        await subscribed(anon, table)
        config = {"config": {"postgres_changes": [table]}, "access_token": server.service_key}
        await ask(service, "realtime:t", "phx_join", config)
        assert json.loads(await service.recv())[4]["status"] == "ok"
        await sql(pg, "insert into broken values (1)")
        assert (await received(service))[4]["data"]["record"] == {"id": 1}
        assert (await ask(anon, "phoenix", "heartbeat", {}))["status"] == "ok"


async def test_grants_and_policies_hold_from_the_next_change_on(server: RealtimeServer, pg: str) -> None:
    """What is remembered of a table must not outlive what it was read from."""
    await sql(
        pg,
        "drop table if exists ruled, marker; create table ruled (id int primary key, secret text);"
        "create table marker (id int primary key); grant select on ruled, marker to anon;"
        "alter publication supabase_realtime add table ruled, marker",
    )
    number = 0

    async with connected(server) as ws:
        await subscribed(ws, *({"event": "*", "schema": "public", "table": table} for table in ("ruled", "marker")))

        async def seen(*statements: str) -> Any:
            """What comes of an insert after these: the record, the errors, or None."""
            nonlocal number
            number += 1
            # Each as a statement of its own, as a person in an editor runs them.
            await sql(pg, *statements, f"insert into ruled values ({number}, 's')")
            await sql(pg, f"insert into marker values ({number})")
            data = (await change(ws))["data"]
            if data["table"] == "marker":
                return None
            assert (await change(ws))["data"]["table"] == "marker"
            return data["errors"] or data["record"]

        whole = {"id": 1, "secret": "s"}
        assert await seen() == whole
        assert await seen("revoke select on ruled from anon") == ["Error 401: Unauthorized"]
        assert await seen("grant select (id) on ruled to anon") == {"id": 3}
        assert await seen("grant select on ruled to anon") == whole | {"id": 4}
        assert await seen("alter table ruled enable row level security") is None
        assert await seen("create policy odd on ruled for select using (id % 2 = 0)") == whole | {"id": 6}
        assert await seen() is None
        assert await seen("alter policy odd on ruled using (id % 2 = 1)") is None
        assert await seen() == whole | {"id": 9}
        assert await seen("drop policy odd on ruled") is None
        assert await seen("alter table ruled disable row level security") == whole | {"id": 11}
        assert await seen("alter table ruled rename secret to open") == {"id": 12, "open": "s"}


async def test_a_commit_that_others_do_not_see_yet_is_not_judged_by_the_rows_of_before(
    server: RealtimeServer, pg: str
) -> None:
    """A commit reaches the log a moment before other sessions see it. That moment is made long here: by a standby to
    wait for, which there is not."""
    await sql(
        pg,
        "drop table if exists early; create table early (id int primary key, mine bool);"
        "alter table early enable row level security; create policy mine on early for select using (mine);"
        "insert into early values (1, true), (2, false); alter publication supabase_realtime add table early",
    )
    async with connected(server) as ws:
        await subscribed(ws, {"event": "*", "schema": "public", "table": "early"})
        await sql(pg, "update early set mine = mine")
        assert (await received(ws))[4]["data"]["record"] == {"id": 1, "mine": True}
        await sql(pg, "alter system set synchronous_standby_names = 'nobody'", "select pg_reload_conf()")
        writing = asyncio.create_task(sql(pg, "set synchronous_commit = on", "update early set mine = not mine"))
        try:
            # By the rows of before, 1 would be told of and 2 would not.
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(ws.recv(), 0.5)
            assert not writing.done()
        finally:
            await sql(pg, "alter system reset synchronous_standby_names", "select pg_reload_conf()")
            await writing
        assert (await received(ws))[4]["data"]["record"] == {"id": 2, "mine": True}
        assert (await ask(ws, "phoenix", "heartbeat", {}))["status"] == "ok"


async def test_whoever_is_told_that_all_follows_can_read_all_that_went_before(
    server: RealtimeServer, pg: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was sent before a subscription must be in a snapshot read after it, or a table would lack it for good."""
    seen, looks = server.catalogue.seen, 0

    async def counted(xids: Collection[int]) -> bool:
        nonlocal looks
        looks += 1
        return await seen(xids)

    await sql(
        pg,
        "drop table if exists early; create table early (id int primary key);"
        "alter publication supabase_realtime add table early",
    )
    early = {"event": "*", "schema": "public", "table": "early"}
    async with connected(server) as ws, connected(server) as other, httpx.AsyncClient(base_url=server.url) as http:
        await subscribed(ws, early)
        await sql(pg, "insert into early values (0)", "delete from early")
        assert [(await received(ws))[4]["data"]["type"] for _ in range(2)]
        await sql(pg, "alter system set synchronous_standby_names = 'nobody'", "select pg_reload_conf()")
        writing = asyncio.create_task(sql(pg, "set synchronous_commit = on", "insert into early values (1)"))
        try:
            assert (await received(ws))[4]["data"]["record"] == {"id": 1}
            monkeypatch.setattr(server.catalogue, "seen", counted)
            joining = asyncio.create_task(subscribed(other, early))
            await until(lambda: looks > 1)  # and yet it is not seen
            headers = {"apikey": server.service_key}
            assert (await http.get("/rest/v1/early", headers=headers)).json() == []
            assert not joining.done()
        finally:
            await sql(pg, "alter system reset synchronous_standby_names", "select pg_reload_conf()")
            await writing
        await within(joining)
        assert (await http.get("/rest/v1/early", headers=headers)).json() == [{"id": 1}]
        await sql(pg, "insert into early values (2)")
        assert (await received(other))[4]["data"]["record"] == {"id": 2}


async def test_a_new_token_is_asked_of_the_policies_again(
    server: RealtimeServer, pg: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await sql(
        pg,
        "drop policy if exists team on realtime.messages;"
        "create policy team on realtime.messages for select to authenticated"
        " using (realtime.topic() = 'red' and 6 / length(auth.jwt() ->> 'team') = 2)",
    )
    red = mint(SECRET, "authenticated", team="red")

    async def after(token: str) -> list[Any]:
        async with connected(server) as ws:
            join = {"config": {"private": True}, "access_token": red}
            assert (await ask(ws, "realtime:red", "phx_join", join))["status"] == "ok"
            await ws.send(json.dumps(["1", None, "realtime:red", "access_token", {"access_token": token}]))
            heard = [(await received(ws))[3:] for _ in range(2)]
            assert heard[1] == ["phx_close", {}]
            return heard[0][1]["message"]

    gone = "You do not have permissions to read from this Channel topic: red"
    assert await after(mint(SECRET, "authenticated", team="orange")) == gone
    assert await after(mint(SECRET, "authenticated", team="")) == gone, "the policy fails: a division by zero"
    assert await after(mint(SECRET, "no_such_role")) == gone

    async def away(*_: Any) -> Any:
        raise psycopg.OperationalError("gone")

    async with connected(server) as ws:
        join = {"config": {"private": True}, "access_token": mint(SECRET, "authenticated", team="")}
        answer = await ask(ws, "realtime:red", "phx_join", join)
        reason = "Unauthorized: You do not have permissions to read from this Channel topic: red"
        assert answer["response"]["reason"] == reason
        join["access_token"] = red
        assert (await ask(ws, "realtime:red", "phx_join", join))["status"] == "ok"
        monkeypatch.setattr(module, "read_permissions", away)
        await ws.send(
            json.dumps(["1", None, "realtime:red", "access_token", {"access_token": mint(SECRET, "authenticated")}])
        )
        said = (await received(ws))[4]["message"]
        assert said == "Realtime was unable to connect to the project database"
    async with httpx.AsyncClient(base_url=server.url, headers={"apikey": red}) as http:
        message = {"topic": "red", "event": "e", "payload": {}, "private": True}
        answer = await http.post("/realtime/v1/api/broadcast", json={"messages": [message]})
        assert (answer.status_code, answer.json()["message"]) == (503, said)


async def test_messages_are_kept_three_days_also_while_it_runs(pg: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_FORGET", 0.05)
    running = RealtimeServer(pg, jwt_secret=SECRET)
    await running.start()
    try:
        add = "insert into realtime.messages (topic, extension, inserted_at) values "
        await sql(
            pg,
            f"{add} ('aged', 'broadcast', now() at time zone 'utc' - interval '73 hours')",
            f"{add} ('aged', 'broadcast', now() at time zone 'utc' - interval '71 hours')",
        )
        async with await psycopg.AsyncConnection.connect(pg) as connection:
            async with asyncio.timeout(PATIENCE):
                left = 2
                while left != 1:
                    cursor = await connection.execute(
                        "select count(*)::int from realtime.messages where topic = 'aged'"
                    )
                    (left,) = await cursor.fetchone() or (0,)
                    await connection.rollback()
                    await asyncio.sleep(0.02)
        await sql(pg, "delete from realtime.messages where topic = 'aged'")
    finally:
        await running.stop()


async def test_a_session_in_another_time_zone_is_replayed_all_the_same(server: RealtimeServer, pg: str) -> None:
    await sql(
        pg,
        "drop policy if exists west on realtime.messages;"
        "create policy west on realtime.messages for select to anon using (realtime.topic() = 'west');"
        "set timezone = 'America/Los_Angeles'; select realtime.send('{}', 'e', 'west')",
    )
    async with connected(server) as ws:
        since = int(time.time() * 1000) - 60_000
        config = {"private": True, "broadcast": {"replay": {"since": since}}}
        assert (await ask(ws, "realtime:west", "phx_join", {"config": config}))["status"] == "ok"
        assert b'"replayed":true' in await within(ws.recv())


async def test_it_listens_to_this_machine_alone(pg: str) -> None:
    for host in ("0.0.0.0", "::", "192.0.2.1", "example.org"):
        with pytest.raises(RealtimeError) as caught:
            await RealtimeServer(pg, jwt_secret=SECRET, host=host).start()
        assert caught.value.code == "NotLoopback"


async def test_where_others_reach_it_a_page_from_elsewhere_still_does_not(pg: str) -> None:
    running = RealtimeServer(pg, jwt_secret=SECRET, host="0.0.0.0", public=True)
    await running.start()
    try:
        assert running.url == f"http://127.0.0.1:{running.port}"
        async with httpx.AsyncClient(base_url=running.url) as http:
            for headers, status in (
                ({"Host": "192.0.2.7:80"}, 200),
                ({"Host": "[2001:db8::1]"}, 200),
                ({"Host": socket.gethostname()}, 200),
                ({"Host": "192.0.2.7", "Origin": "http://192.0.2.7:8888"}, 200),
                ({"Host": "evil.example"}, 403),
                ({"Host": "192.0.2.7", "Origin": "http://192.0.2.8"}, 403),
                ({"Host": "192.0.2.7", "Origin": "null"}, 403),
            ):
                assert (await http.get("/health", headers=headers)).status_code == status, headers
    finally:
        await running.stop()


async def test_reading_slowly_keeps_no_changes_from_going_out(server: RealtimeServer, pg: str) -> None:
    await sql(
        pg,
        "drop view if exists slow; create view slow as select n, pg_sleep(60)::text from generate_series(1, 1) n;"
        "drop table if exists quick; create table quick (id int primary key);"
        "alter table quick enable row level security;"
        "create policy all_of_it on quick for select using (true); alter publication supabase_realtime add table quick",
    )
    async with connected(server) as ws, httpx.AsyncClient(base_url=server.url, timeout=None) as http:
        await subscribed(ws, {"event": "*", "schema": "public", "table": "quick"})
        headers = {"apikey": server.anon_key}
        reading = [asyncio.create_task(http.get("/rest/v1/slow", headers=headers)) for _ in range(8)]
        running = "select pid from pg_stat_activity where state = 'active' and wait_event = 'PgSleep'"
        async with await psycopg.AsyncConnection.connect(pg, autocommit=True) as connection:
            while len(await (await connection.execute(running)).fetchall()) < 4:  # noqa: ASYNC110 - as many as can
                await asyncio.sleep(0.01)
            await sql(pg, "insert into quick values (1)")
            assert (await received(ws))[4]["data"]["record"] == {"id": 1}
            assert not any(task.done() for task in reading)
            for task in reading:
                task.cancel()
            await connection.execute(f"select pg_cancel_backend(pid) from ({running}) s")


async def test_replication_ready_is_answered(server: RealtimeServer) -> None:
    async with connected(server) as ws:
        await ask(ws, "realtime:t", "phx_join", {"config": {"broadcast": {"replication_ready": True}}})
        assert json.loads(await ws.recv())[4]["message"] == "Replication connection established"


async def test_replay_gives_the_newest_stored_messages_oldest_first(server: RealtimeServer, pg: str) -> None:
    await sql(
        pg,
        "drop policy if exists history on realtime.messages;"
        "create policy history on realtime.messages for select to anon using (realtime.topic() = 'history');"
        "delete from realtime.messages",
        "; ".join(f"select realtime.send('{{\"n\": {n}}}', 'e', 'history')" for n in range(4)),
    )
    async with connected(server) as ws:
        config = {"private": True, "broadcast": {"replay": {"since": 0, "limit": 3}}}
        assert (await ask(ws, "realtime:history", "phx_join", {"config": config}))["status"] == "ok"
        frames = [await ws.recv() for _ in range(3)]
        assert [b'"n": %d' % n in frame for n, frame in zip((1, 2, 3), frames, strict=True)] == [True] * 3
        assert all(b'"replayed":true' in frame for frame in frames)
        config["broadcast"]["replay"] = {"since": "x", "limit": 500}
        answer = await ask(ws, "realtime:history", "phx_join", {"config": config})
        assert answer["response"]["reason"] == "UnableToReplayMessages: Replay params are not valid"
        for since in (10**18, -(10**18), 10**400):
            config["broadcast"]["replay"] = {"since": since}
            answer = await ask(ws, "realtime:history", "phx_join", {"config": config})
            assert answer["response"]["reason"].startswith("UnableToReplayMessages: ")


async def test_bytes_from_the_database_and_their_replay(server: RealtimeServer, pg: str) -> None:
    await sql(
        pg,
        "drop policy if exists bin on realtime.messages;"
        "create policy bin on realtime.messages for select to anon using (realtime.topic() = 'bin');"
        "drop policy if exists bin_send on realtime.messages;"
        "create policy bin_send on realtime.messages for insert to anon with check (realtime.topic() = 'bin')",
    )
    join = {"config": {"private": True}}
    async with connected(server) as two, connected(server, "1.0.0") as one:
        await ask(two, "realtime:bin", "phx_join", join)
        await one.send(json.dumps({"topic": "realtime:bin", "event": "phx_join", "payload": join, "ref": "1"}))
        assert json.loads(await one.recv())["payload"]["status"] == "ok"
        # As a role that the policies bind: they ask for the topic.
        await sql(
            pg,
            "begin; set local role anon; select realtime.send_binary('\\x00ff', 'e', 'bin');"
            """select realtime.send('{"n": 1}', 'e', 'bin'); commit""",
        )
        frame = await within(two.recv())
        assert frame[:1] == b"\x04"
        assert frame[-2:] == b"\x00\xff"
        assert b'"n": 1' in await within(two.recv())
        assert (await received(one))["payload"]["payload"]["n"] == 1, "no bytes in 1.0.0"
        join["config"]["broadcast"] = {"replay": {"since": 0, "limit": 2}}
        assert (await ask(two, "realtime:bin", "phx_join", join))["status"] == "ok"
        frames = [await two.recv() for _ in range(3)]  # one of them the first join's phx_close
        assert [frame[-2:] == b"\x00\xff" and b'"replayed":true' in frame for frame in frames].count(True) == 1


@pytest.mark.parametrize("role", ["postgres", "none", "pg_read_all_data", "nobody_of_that_name", "authenticator"])
async def test_a_token_makes_nobody_what_was_not_granted(server: RealtimeServer, pg: str, role: str) -> None:
    """Also one that is signed: as on Supabase, a role must be granted to `authenticator`."""
    await sql(
        pg,
        "drop table if exists granted; create table granted (id int primary key);"
        "alter table granted enable row level security; insert into granted values (1);"
        "create policy team on granted for select to public using (true);"
        "revoke all on granted from public; alter publication supabase_realtime add table granted;"
        "drop policy if exists anybody on realtime.messages;"
        "create policy anybody on realtime.messages for select to public using (realtime.topic() = 'anybody')",
    )
    token = mint(SECRET, role)
    entry = {"event": "*", "schema": "public", "table": "granted"}
    async with connected(server) as ws, httpx.AsyncClient(base_url=server.url) as http:
        join = {"config": {"postgres_changes": [entry]}, "access_token": token}
        await ask(ws, "realtime:t", "phx_join", join)
        said = (await received(ws))[4]
        if role == "authenticator":
            assert said["message"] == "Subscribed to PostgreSQL"
        else:
            assert said["status"] == "error"
            assert "role" in said["message"].partition("Exception: ")[2]
        await sql(pg, "insert into granted values (2)")
        if role == "authenticator":
            assert (await received(ws))[4]["data"]["errors"] == ["Error 401: Unauthorized"]
        answer = await ask(ws, "realtime:anybody", "phx_join", {"config": {"private": True}, "access_token": token})
        assert answer["status"] == "error"
        answer = await http.get("/rest/v1/granted", headers={"apikey": token})
        assert answer.status_code in (401, 403)
        assert "[" not in answer.text


async def test_a_caller_who_cannot_be_asked_about_sees_nothing_and_hides_nothing_from_others(
    server: RealtimeServer, pg: str
) -> None:
    """A role may be dropped between two looks at it."""
    await sql(
        pg,
        "drop table if exists granted; create table granted (id int primary key, n int);"
        "alter table granted enable row level security; insert into granted values (1, 1), (2, 0);"
        "create policy sixth on granted for select to anon using (6 / n > 1); grant select on granted to authenticated",
    )
    async with await psycopg.AsyncConnection.connect(pg) as connection:
        cursor = await connection.execute("select 'granted'::regclass::oid::int8")
        (oid,) = await cursor.fetchone() or (0,)
    column = pgoutput.RelationColumn
    relation = pgoutput.Relation(oid, "public", "granted", "d", (column("id", 23, True), column("n", 23, False)))
    table = await server.catalogue.table(relation)
    who = {role: Identity(role, "{}") for role in ("postgres", "nobody_of_that_name", "anon", "service_role")}
    rows = {10: [b"1", b"1"], 11: [b"1", b"7"]}
    seen = await visibility.read_visible(server.pool, table, list(who.values()), rows, {3})
    assert seen.shown == {
        who["postgres"]: set(),
        who["nobody_of_that_name"]: set(),
        who["anon"]: {10},
        who["service_role"]: {10},
    }
    seen = await visibility.read_visible(server.pool, table, [who["anon"]], {0: [b"2", b"0"]}, {3})
    assert seen.shown == {who["anon"]: set()}, "a division by zero"


async def test_a_role_of_ones_own_is_granted_and_taken_back(server: RealtimeServer, pg: str) -> None:
    await sql(
        pg,
        "drop table if exists granted; create table granted (id int primary key, inside text);"
        "alter publication supabase_realtime add table granted; revoke all on granted from anon;"
        "do $$ begin create role clerks nologin; exception when duplicate_object then null; end $$;"
        "do $$ begin create role clerk nologin; exception when duplicate_object then null; end $$;"
        "grant select on granted to clerks; grant clerks to clerk; grant clerk to authenticator",
    )
    token = mint(SECRET, "clerk")
    entry = {"event": "*", "schema": "public", "table": "granted"}
    async with connected(server) as ws:
        await ask(ws, "realtime:t", "phx_join", {"config": {"postgres_changes": [entry]}, "access_token": token})
        assert (await received(ws))[4]["message"] == "Subscribed to PostgreSQL"
        await sql(pg, "insert into granted values (1, 'x')")
        assert (await change(ws))["data"]["record"] == {"id": 1, "inside": "x"}
        # Of roles the log tells nothing.
        await sql(pg, "revoke clerks from clerk")
        await asyncio.sleep(catalogue.FRESH)
        await sql(pg, "insert into granted values (2, 'y')")
        assert (await change(ws))["data"]["record"] == {}
        await sql(pg, "grant select on granted to clerk", "revoke clerk from authenticator")
        await sql(pg, "insert into granted values (3, 'z')")
        assert (await change(ws))["data"]["record"] == {}


async def test_a_row_that_is_gone_says_no_more_than_its_key_under_row_level_security(
    server: RealtimeServer, pg: str
) -> None:
    await sql(
        pg,
        "drop table if exists gone, keyless; create table gone (id int primary key, body text);"
        "create table keyless (body text);"
        "alter table gone enable row level security; alter table gone replica identity full;"
        "alter table keyless enable row level security; alter table keyless replica identity full;"
        "insert into gone values (1, 'secret'), (2, 'other'); insert into keyless values ('secret');"
        "alter publication supabase_realtime add table gone, keyless",
    )
    entries = [
        {"event": "DELETE", "schema": "public", "table": "gone", "filter": "body=eq.secret"},
        {"event": "DELETE", "schema": "public", "table": "gone", "filter": "id=eq.2"},
        {"event": "*", "schema": "public", "table": "keyless"},
    ]
    async with connected(server) as ws:
        await subscribed(ws, *entries)
        await sql(pg, "delete from gone", "delete from keyless")
        got = [(await received(ws))[4]["data"] for _ in range(2)]
        assert [(data["table"], data["old_record"]) for data in got] == [("gone", {"id": 2}), ("keyless", {})]


async def test_the_old_record_is_that_of_the_replica_identity(server: RealtimeServer, pg: str) -> None:
    await sql(
        pg,
        "drop table if exists named; create table named (id int primary key, name text not null unique, v text);"
        "alter table named replica identity using index named_name_key;"
        "alter publication supabase_realtime add table named",
    )
    async with connected(server) as ws:
        await subscribed(ws, {"event": "*", "schema": "public", "table": "named"})
        await sql(
            pg,
            "insert into named values (1, 'a', 'v')",
            "update named set v = 'w'",
            "update named set name = 'b'",
            "delete from named",
        )
        got = [(await received(ws))[4]["data"] for _ in range(4)]
    assert [data.get("old_record") for data in got] == [None, {"name": "a"}, {"name": "a"}, {"name": "b"}]


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("bool", "true"),
        ("inet", "'10.0.0.1'"),
        ("char(5)", "'ab'"),
        ("numeric(10, 2)", "1.5"),
        ("float8", "0.1"),
        ("timestamptz", "'2026-11-23 10:00+02'"),
        ("bytea", "'\\x00ff'"),
        ("interval", "'1 day'"),
        ("int[]", "'{1,2}'"),
        ("text[]", """'{a,"b,c"}'"""),
        ("jsonb", """'{"a": 1}'"""),
        ("int4range", "'[1,5]'"),
        ("key_domain", "false"),
        ("key_enum", "'a b'"),
        ("key_row", "row(1, 'a b')"),
    ],
)
async def test_a_key_of_any_type_is_found_under_row_level_security(
    server: RealtimeServer, pg: str, kind: str, value: str
) -> None:
    await sql(
        pg,
        "drop table if exists keyed; drop type if exists key_row, key_enum; drop domain if exists key_domain",
        "create type key_row as (a int, b text); create type key_enum as enum ('a b');create domain key_domain as bool",
        f"create table keyed (k {kind}, n int, primary key (k, n)); alter table keyed enable row level security;"
        "create policy first on keyed for select to anon using (n = 1);"
        "alter publication supabase_realtime add table keyed",
    )
    async with connected(server) as ws:
        await subscribed(ws, {"event": "*", "schema": "public", "table": "keyed"})
        await sql(pg, f"insert into keyed values ({value}, 2), ({value}, 1)")
        assert (await received(ws))[4]["data"]["record"]["n"] == 1
