"""The server against the frames of Supabase's own, and what is ours alone."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from typing import Any

import httpx
import psycopg
import pytest
import websockets

from rtwidgets.local.auth import mint
from rtwidgets.local.server import RealtimeServer

from .conftest import SECRET
from .replay import lines, normal, replay

pytestmark = pytest.mark.pg

USER = "11111111-1111-1111-1111-111111111111"


async def sql(dsn: str, *statements: str) -> None:
    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:
        for statement in statements:
            await connection.execute(statement.encode())


@pytest.mark.parametrize(
    "name",
    [
        "02b_malformed_v2",
        "02c_binary_junk_v2",
        "03_broadcast_v1",
        "03_broadcast_v2",
        "04_presence_v1",
        "04c_presence_v2",
    ],
)
async def test_a_recorded_conversation_goes_the_same(server: RealtimeServer, name: str) -> None:
    await replay(server, name)


async def test_basics_go_as_recorded_but_for_joins_without_a_config(server: RealtimeServer) -> None:
    await replay(server, "02_basics_v1", until=3)


async def test_presence_without_a_key_gets_a_uuid(server: RealtimeServer) -> None:
    await replay(server, "04b_presence_nokey_disabled")


@pytest.mark.parametrize("line", lines("01_auth")[:7], ids=lambda line: line["conn"])
async def test_a_refused_handshake_says_what_supabase_says(server: RealtimeServer, line: dict[str, Any]) -> None:
    now = int(time.time())
    import jwt

    keys: dict[str, dict[str, str]] = {
        "noKey": {},
        "bad": {"apikey": "garbage"},
        "expired": {"apikey": mint(SECRET, "anon", expires_in=-50)},
        "wrongsig": {"apikey": mint("another secret of some length to please it", "anon")},
        "norole": {"apikey": jwt.encode({"exp": now + 60}, SECRET)},
        "noexp": {"apikey": jwt.encode({"role": "anon"}, SECRET)},
        "badvsn": {"apikey": server.anon_key, "vsn": "9.9.9"},
    }
    status = int(line["frame"]["error"].rsplit(" ", 1)[1])
    async with httpx.AsyncClient() as http:
        upgrade = {
            "Connection": "Upgrade",
            "Upgrade": "websocket",
            "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Key": "x" * 22 + "==",
        }
        url = f"{server.url}/realtime/v1/websocket"
        answer = await http.get(url, params=keys[line["conn"]], headers=upgrade)
    assert answer.status_code == status
    if line["frame"]["body"]:
        assert answer.json() == json.loads(line["frame"]["body"])


TYPES_T = """
drop table if exists types_t; drop type if exists mood; create type mood as enum ('sad', 'happy');
create table types_t (id bigserial primary key, i2 int2, i4 int4, i8 int8, n numeric, n2 numeric(10,3),
  f4 float4, f8 float8, b bool, t text, v varchar(20), c char(1), u uuid, tz timestamptz, ts timestamp,
  d date, tm time, iv interval, j json, jb jsonb, by bytea, ia int4[], ta text[],
  m mood, inet inet, pt point, i8big int8);
alter publication supabase_realtime add table types_t;
"""
TYPES_1 = r"""
insert into types_t values (1, -3, 70000, 9007199254740993, 123456789012345678.123456789, 1.5, 1.25, 0.1, true,
  E'héllo "q" \\ \n nl', 'vc', 'c', '6f1ed002-ab5b-4c9c-b7e0-1b2c3d4e5f60', '2026-11-23 10:00:00.123456+02',
  '2026-11-23 10:00:00.123456', '2026-11-23', '10:00:00.5', '1 day 02:03:04', '{"a": 2}', '{"b": [1, 2, null]}',
  '\xdeadbeef', '{1,2,null}', array['a', 'b,c', null], 'happy', '10.0.0.1', '(1,2)', -9223372036854775808)
"""


async def test_every_type_looks_as_recorded(server: RealtimeServer, pg: str) -> None:
    await sql(pg, TYPES_T)
    statements = {
        5: [TYPES_1],
        6: ["insert into types_t (id) values (2)"],
        7: [
            "insert into types_t (id, n, f4, f8, ts, tz) values (3, 'NaN', 'NaN', 'infinity', '-infinity', 'infinity')"
        ],
        8: ["update types_t set t = 'upd', i4 = 5 where id = 1"],
        9: ["update types_t set id = 10 where id = 2"],
        10: ["delete from types_t where id = 3"],
        11: ["alter table types_t replica identity full", "update types_t set t = 'full' where id = 1"],
        12: ["delete from types_t where id = 1"],
        13: [
            "begin; insert into types_t (id) values (51); rollback",
            "truncate types_t",
            "insert into types_t (id) values (52)",
        ],
        15: ["alter table types_t add column added text", "insert into types_t (id, added) values (60, 'x')"],
    }
    actions = {float(t): (lambda work=work: sql(pg, *work)) for t, work in statements.items()}
    await replay(server, "05_pg_types_v1", actions=actions)


async def test_row_level_security_goes_as_recorded(server: RealtimeServer, pg: str) -> None:
    await sql(
        pg,
        """
        drop table if exists rls_t, nopk_t, secret_t;
        create table rls_t (id int4 primary key, owner uuid, body text);
        alter table rls_t enable row level security;
        create policy own on rls_t for select to authenticated using (owner = auth.uid());
        create table nopk_t (a int4, b text); alter table nopk_t replica identity full;
        create table secret_t (id int4 primary key, x text, y text);
        revoke all on secret_t from anon, authenticated; grant select (id, x) on secret_t to authenticated;
        alter publication supabase_realtime add table rls_t, nopk_t, secret_t
        """,
    )
    other = "22222222-2222-2222-2222-222222222222"
    statements = {
        8.1: [f"insert into rls_t values (1, '{USER}', 'mine')"],
        9.1: [f"insert into rls_t values (2, '{other}', 'theirs')"],
        10.1: ["update rls_t set body = 'b2'"],
        11.1: [f"update rls_t set owner = '{other}' where id = 1"],
        12.1: ["delete from rls_t"],
        13.1: ["insert into nopk_t values (1, 'x')"],
        14.1: ["delete from nopk_t"],
        15.1: ["insert into secret_t values (1, 'xx', 'yy')"],
        16.1: ["update secret_t set y = 'zz'"],
        17.1: ["delete from secret_t"],
        18.1: [
            "alter table rls_t replica identity full",
            "insert into rls_t values (3, null, null)",
            "delete from rls_t",
        ],
    }
    tokens = {"user": mint(SECRET, "authenticated", sub=USER), "anon": server.anon_key, "service": server.service_key}
    actions = {t: (lambda work=work: sql(pg, *work)) for t, work in statements.items()}
    # What service_role, which sees everything, gets of the last insert was not recorded: it came before the delete.
    await replay(server, "08_pg_rls", tokens=tokens, actions=actions, until=18)


async def test_private_channels_go_as_recorded(server: RealtimeServer, pg: str) -> None:
    await sql(
        pg,
        """
        drop policy if exists r on realtime.messages; drop policy if exists w on realtime.messages;
        create policy r on realtime.messages for select to authenticated
          using (realtime.topic() = 'team' or (realtime.topic() = 'bro' and extension = 'broadcast'));
        create policy w on realtime.messages for insert to authenticated with check (realtime.topic() = 'team');
        drop table if exists bc_t; create table bc_t (id int primary key, name text);
        create or replace function bc() returns trigger language plpgsql security definer as $$ begin
          perform realtime.broadcast_changes('team', tg_op, tg_op, tg_table_name, tg_table_schema, new, old);
          return null; end $$;
        create trigger bc after insert or update or delete on bc_t for each row execute function bc()
        """,
    )
    send = [
        """select realtime.send('{"hello": "db"}', 'db_event', 'team', true)""",
        """select realtime.send('{"hello": "pub"}', 'db_event', 'team', false)""",
    ]
    work = ["insert into bc_t values (1, 'a')", "update bc_t set name = 'b'", "delete from bc_t"]
    user = mint(SECRET, "authenticated", sub=USER)
    await replay(
        server,
        "10_private_channel",
        tokens={"A": user, "B": user},
        actions={23.0: lambda: sql(pg, *send), 25.0: lambda: sql(pg, *work)},
        until=27,
    )


async def test_bad_tokens_at_a_join(server: RealtimeServer) -> None:
    bad = {
        "InvalidJWTToken: Token has expired 50 seconds ago": mint(SECRET, "anon", expires_in=-50),
        "MalformedJWT: The token provided is not a valid JWT": "garbage",
        "JwtSignatureError: Failed to validate JWT signature": mint(
            "another secret of some length to please it", "anon"
        ),
    }
    async with connected(server) as ws:
        for reason, token in bad.items():
            assert (await ask(ws, "realtime:x", "phx_join", {"config": {}, "access_token": token}))["response"] == {
                "reason": reason
            }


async def test_a_token_that_expires_ends_the_channel(server: RealtimeServer) -> None:
    async with connected(server) as ws:
        token = mint(SECRET, "anon", expires_in=2)
        assert (await ask(ws, "realtime:ex", "phx_join", {"config": {}, "access_token": token}))["status"] == "ok"
        expected = lines("09c_token_expires_while_joined")[3:5]
        for line in expected:
            got = json.loads(await asyncio.wait_for(ws.recv(), 5))
            assert normal(json.dumps(v1(got))) == normal(line["frame"])


async def test_the_access_token_can_be_replaced(server: RealtimeServer) -> None:
    async with connected(server) as ws:
        assert (await ask(ws, "realtime:at", "phx_join", {"config": {}}))["status"] == "ok"
        for token in (mint(SECRET, "anon", expires_in=999), None, "sb_publishable_x"):
            await ws.send(json.dumps(["1", None, "realtime:at", "access_token", {"access_token": token}]))
        assert (await ask(ws, "phoenix", "heartbeat", {}))["status"] == "ok"
        await ws.send(json.dumps(["1", None, "realtime:at", "access_token", {"access_token": "garbage"}]))
        assert json.loads(await ws.recv())[4]["message"] == "The token provided is not a valid JWT"
        assert json.loads(await ws.recv())[3] == "phx_close"


async def test_broadcast_over_http_as_recorded(server: RealtimeServer) -> None:
    async with connected(server) as ws, httpx.AsyncClient(base_url=server.url) as http:
        await ask(ws, "realtime:chat", "phx_join", {"config": {}})
        for line in lines("11_rest_broadcast"):
            if line["dir"] != "http" or 3.2 < line["t"] < 5:
                continue  # an expired key and the private ones: below
            request, body = line["frame"]["request"], line["frame"]["request"]["body"]
            if body == "…[4 MB]":
                body = {"messages": [{"topic": "chat", "event": "m", "payload": {"x": "y" * 4_000_000}}]}
            headers = {name: value.replace("<jwt>", server.anon_key) for name, value in request["headers"].items()}
            content = body if isinstance(body, str) else json.dumps(body)
            answer = await http.post("/realtime/v1/api/broadcast", content=content, headers=headers)
            assert (answer.status_code, answer.text.replace(": ", ":").replace(", ", ",")) == (
                line["frame"]["status"],
                line["frame"]["body"],
            ), request
        got = [json.loads(await ws.recv())[4]["payload"] for _ in range(4)]
        assert got == [{"t": 1}, {"t": 2}, {"t": 1}, {"t": 2}]


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


async def test_an_unpublished_table_is_refused_in_supabases_words(server: RealtimeServer, pg: str) -> None:
    await sql(pg, "drop table if exists unpub_t; create table unpub_t (id int primary key)")
    await replay(server, "07_not_published")
    await replay(server, "07_unknown_table")
    await replay(server, "07_unknown_schema")


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
            dropped = [socket.dropped for socket in running._sockets]
            assert "" in dropped
            assert len(dropped) == 1 or "client too slow" in dropped
    finally:
        await running.stop()


# --- a small client


def connected(server: RealtimeServer, vsn: str = "2.0.0") -> Any:
    url = f"ws://127.0.0.1:{server.port}/realtime/v1/websocket?apikey={server.anon_key}&vsn={vsn}"
    return websockets.connect(url, max_size=None, close_timeout=1)


async def ask(ws: Any, topic: str, event: str, payload: Any) -> Any:
    """Pushes and gives the reply's payload."""
    ref = base64.b16encode(str(time.monotonic_ns()).encode()).decode()[-12:]
    await ws.send(json.dumps(["1" if topic != "phoenix" else None, ref, topic, event, payload]))
    while True:
        frame = json.loads(await asyncio.wait_for(ws.recv(), 10))
        if frame[1] == ref and frame[3] == "phx_reply":
            return frame[4]


async def subscribed(ws: Any, *params: dict[str, str]) -> None:
    await ask(ws, "realtime:t", "phx_join", {"config": {"postgres_changes": list(params)}})
    frame = json.loads(await asyncio.wait_for(ws.recv(), 10))
    assert frame[4]["message"] == "Subscribed to PostgreSQL", frame


def v1(frame: list[Any]) -> dict[str, Any]:
    _, ref, topic, event, payload = frame
    return {"event": event, "payload": payload, "ref": ref, "topic": topic}


async def test_a_stream_that_broke_is_opened_again_and_everybody_told(server: RealtimeServer, pg: str) -> None:
    await sql(
        pg,
        "drop table if exists again; create table again (id int primary key);"
        "alter publication supabase_realtime add table again",
    )
    async with connected(server) as ws:
        await subscribed(ws, {"event": "*", "schema": "public", "table": "again"})
        await sql(pg, "select pg_terminate_backend(pid) from pg_stat_activity where application_name like 'rtwidgets%'")
        frame = json.loads(await asyncio.wait_for(ws.recv(), 15))
        assert frame[4]["status"] == "error", "what is shown is not true of this moment"
        # The channel is told once more, since rows may have been missed: a client reads its snapshot again.
        frame = json.loads(await asyncio.wait_for(ws.recv(), 15))
        assert frame[4]["message"] == "Subscribed to PostgreSQL"
        await sql(pg, "insert into again values (1)")
        assert json.loads(await asyncio.wait_for(ws.recv(), 10))[4]["data"]["record"] == {"id": 1}
        answer = await ask(ws, "realtime:other", "phx_join", {"config": {"private": True}})
        assert answer["response"]["reason"].startswith("Unauthorized")


F_T = """
drop table if exists f_t;
create table f_t (id int primary key, status text, amount numeric, ts timestamptz default now(), b bool default true);
alter publication supabase_realtime add table f_t
"""


async def test_filters_choose_as_recorded(server: RealtimeServer, pg: str) -> None:
    await sql(pg, F_T)
    statements = {
        6.1: "insert into f_t values (1, 'open', 10)",
        7.1: "update f_t set status = 'paid', amount = 20",
        8.1: "update f_t set status = 'shipped'",
        9.1: "delete from f_t",
    }
    await replay(
        server, "07_pg_filters", actions={t: (lambda work=work: sql(pg, work)) for t, work in statements.items()}
    )


@pytest.mark.parametrize(
    ("name", "row"),
    [
        ("07_bad_event", 107),
        ("07_bad_op", 101),
        ("07_bad_val", 102),
        ("07_garbage", 103),
        ("07_isnull", 111),
        ("07_not", 112),
        ("07_two", 113),
        ("07_unknown_col", 100),
        ("07_schema_star", 108),
        ("07_whole_schema", 109),
        ("07_in_many", 110),
    ],
)
async def test_a_filter_is_taken_or_refused_as_recorded(server: RealtimeServer, pg: str, name: str, row: int) -> None:
    await sql(pg, F_T)
    await replay(server, name, actions={9.0: lambda: sql(pg, f"insert into f_t values ({row}, 'open', 10)")})


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
        assert json.loads(await asyncio.wait_for(service.recv(), 5))[4]["data"]["record"] == {"id": 1}
        assert (await ask(anon, "phoenix", "heartbeat", {}))["status"] == "ok"


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
        *[f"select realtime.send('{{\"n\": {n}}}', 'e', 'history')" for n in range(4)],
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
        frame = await asyncio.wait_for(two.recv(), 5)
        assert frame[:1] == b"\x04"
        assert frame[-2:] == b"\x00\xff"
        assert b'"n": 1' in await asyncio.wait_for(two.recv(), 5)
        assert json.loads(await asyncio.wait_for(one.recv(), 5))["payload"]["payload"]["n"] == 1, "no bytes in 1.0.0"
        join["config"]["broadcast"] = {"replay": {"since": 0, "limit": 2}}
        assert (await ask(two, "realtime:bin", "phx_join", join))["status"] == "ok"
        frames = [await two.recv() for _ in range(3)]  # one of them the first join's phx_close
        assert [frame[-2:] == b"\x00\xff" and b'"replayed":true' in frame for frame in frames].count(True) == 1
