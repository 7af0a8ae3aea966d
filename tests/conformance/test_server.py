"""Our server against Supabase's own as recorded: a client plays each recording's part, and must be told the same.

What differs on purpose stands in `instead` below, and in docs/local.md with its reason.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest

from rtwidgets.local.auth import mint
from rtwidgets.local.limits import Limits
from rtwidgets.local.server import RealtimeServer

from ..local import conftest
from ..local.client import USER, ask, connected, sql
from ..local.conftest import SECRET
from ..waits import received, within
from .replay import TRANSCRIPTS, lines, normal, replay

pytestmark = pytest.mark.pg

pg, postgres, server = conftest.pg, conftest.postgres, conftest.server  # the same fixtures, here
OTHER_SECRET = "another secret of some length to please it"


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


async def test_presence_without_a_key_gets_a_uuid(server: RealtimeServer) -> None:
    await replay(server, "04b_presence_nokey_disabled")


@pytest.mark.parametrize("line", lines("01_auth")[:7], ids=lambda line: line["conn"])
async def test_a_refused_handshake_says_what_supabase_says(server: RealtimeServer, line: dict[str, Any]) -> None:
    now = int(time.time())
    keys: dict[str, dict[str, str]] = {
        "noKey": {},
        "bad": {"apikey": "garbage"},
        "expired": {"apikey": mint(SECRET, "anon", expires_in=-50)},
        "wrongsig": {"apikey": mint(OTHER_SECRET, "anon")},
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
    # Supabase sends null for NaN and the infinities; ours sends what SELECT has.
    recorded = '"n": null, "t": null, "u": null, "v": null, "by": null, "f4": null, "f8": null, "i2": null, '
    recorded += '"i4": null, "i8": null, "ia": null, "id": 3'
    ours = recorded.replace('"n": null', '"n": "NaN"').replace('"f4": null', '"f4": "NaN"')
    instead = {recorded: ours.replace('"f8": null', '"f8": "Infinity"')}
    await replay(server, "05_pg_types_v1", actions=actions, instead=instead)


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
    # The recorded server looks ten times a second, and found the last row gone: it told nobody of its insert. Ours
    # tells as it is committed, so service_role, which sees every row, hears of it.
    insert = """{"event": "postgres_changes", "topic": "realtime:rls", "ref": null, "payload": {"ids": [1], "data": {
        "columns": [
            {"name": "id", "type": "int4"}, {"name": "owner", "type": "uuid"}, {"name": "body", "type": "text"}],
        "commit_timestamp": "2026-11-23T17:26:05.730Z", "errors": null, "schema": "public", "table": "rls_t",
        "type": "INSERT", "record": {"id": 3, "owner": null, "body": null}}}}"""
    await replay(server, "08_pg_rls", tokens=tokens, actions=actions, more={"service": [insert]})


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
        tokens={"A": user, "B": user, "R": user},
        actions={23.0: lambda: sql(pg, *send), 25.0: lambda: sql(pg, *work)},
    )


async def test_a_token_that_expires_ends_the_channel(server: RealtimeServer) -> None:
    async with connected(server) as ws:
        token = mint(SECRET, "anon", expires_in=4)
        assert (await ask(ws, "realtime:ex", "phx_join", {"config": {}, "access_token": token}))["status"] == "ok"
        expected = lines("09c_token_expires_while_joined")[3:5]
        for line in expected:
            _, ref, topic, event, payload = await received(ws)
            got = {"event": event, "payload": payload, "ref": ref, "topic": topic}
            assert normal(json.dumps(got)) == normal(line["frame"])


async def test_broadcast_over_http_as_recorded(server: RealtimeServer, pg: str) -> None:
    await sql(
        pg,
        "drop policy if exists r on realtime.messages; drop policy if exists w on realtime.messages;"
        "create policy r on realtime.messages for select to authenticated using (realtime.topic() = 'team');"
        "create policy w on realtime.messages for insert to authenticated with check (realtime.topic() = 'team')",
    )
    user = mint(SECRET, "authenticated", sub=USER)
    # The recording does not tell its tokens apart: the third is one that has expired, the last one's may not write.
    tokens = {3.564: mint(SECRET, "anon", expires_in=-50), 4.184: user}
    async with connected(server) as ws, httpx.AsyncClient(base_url=server.url) as http:
        await ask(ws, "realtime:chat", "phx_join", {"config": {}})
        await ask(ws, "realtime:team", "phx_join", {"config": {"private": True}, "access_token": user})
        for line in lines("11_rest_broadcast"):
            if line["dir"] != "http":
                continue
            request, body = line["frame"]["request"], line["frame"]["request"]["body"]
            if body == "…[4 MB]":
                body = {"messages": [{"topic": "chat", "event": "m", "payload": {"x": "y" * 4_000_000}}]}
            token = tokens.get(line["t"], server.anon_key)
            headers = {name: value.replace("<jwt>", token) for name, value in request["headers"].items()}
            content = body if isinstance(body, str) else json.dumps(body)
            answer = await http.post("/realtime/v1/api/broadcast", content=content, headers=headers)
            assert (answer.status_code, answer.text.replace(": ", ":").replace(", ", ",")) == (
                line["frame"]["status"],
                line["frame"]["body"],
            ), request
        got = [json.loads(await ws.recv()) for _ in range(5)]
        assert [(frame[2], frame[4]["payload"]["t"]) for frame in got] == [
            *[("realtime:chat", t) for t in (1, 2, 1, 2)],
            ("realtime:team", 3),
        ]
        assert (await ask(ws, "phoenix", "heartbeat", {}))["status"] == "ok"  # and nothing more


async def test_an_unpublished_table_is_refused_in_supabases_words(server: RealtimeServer, pg: str) -> None:
    await sql(pg, "drop table if exists unpub_t; create table unpub_t (id int primary key)")
    await replay(server, "07_not_published")
    await replay(server, "07_unknown_table")
    await replay(server, "07_unknown_schema")


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


async def test_basics_go_as_recorded(server: RealtimeServer) -> None:
    await replay(
        server,
        "02_basics_v1",
        instead={
            '[{"id":65050455,"schema":"nocfg"}]': "[]",
            "no function clause matching in Access.get/3": "postgres_changes must be a list of objects",
        },
    )


async def test_a_token_is_replaced_as_recorded(server: RealtimeServer) -> None:
    user, expired = mint(SECRET, "authenticated", sub=USER), mint(SECRET, "authenticated", sub=USER, expires_in=-50)
    await replay(server, "09_access_token", tokens={"A": [user, mint(SECRET, "anon", expires_in=999), user, expired]})


async def test_bad_tokens_at_a_join_are_refused_as_recorded(server: RealtimeServer) -> None:
    tokens = [mint(SECRET, "anon", expires_in=-50), mint(OTHER_SECRET, "anon")]
    await replay(server, "09b_join_bad_tokens", tokens={"A": list(tokens)})


async def test_large_rows_go_as_recorded(server: RealtimeServer, pg: str) -> None:
    await sql(
        pg,
        "drop table if exists big_t; create table big_t (id int primary key, k text, big text, small text);"
        "alter table big_t alter big set storage external; alter publication supabase_realtime add table big_t",
    )
    statements = {
        5.3: "insert into big_t values (1, 'k', repeat('b', 10000), 's')",
        6.3: "update big_t set small = 's2' where id = 1",
        7.4: "insert into big_t values (2, 'k2', repeat('b', 1100000), null)",
        9.0: "update big_t set small = 's3' where id = 2",
        10.1: "update big_t set big = repeat('c', 1100000) where id = 2",
        11.3: "delete from big_t where id = 2",
    }
    actions = {t: (lambda work=work: sql(pg, work)) for t, work in statements.items()}
    # Later the recorded server subscribes anew by itself, which ours has no need of; then it sends what is below.
    await replay(server, "06_pg_toast_and_large", actions=actions, until=12)
    async with connected(server, "1.0.0") as ws:
        asked = next(line["frame"] for line in lines("06_pg_toast_and_large") if '"phx_join"' in str(line["frame"]))
        await ws.send(asked.replace("<jwt>", server.anon_key))
        while "Subscribed" not in await ws.recv():
            pass
        await sql(pg, "insert into big_t select n, 'tx', 'b', 's' from generate_series(100, 599) n")
        got = [normal(await within(ws.recv())) for _ in range(500)]
    recorded = [
        normal(line["frame"])
        for line in lines("06_pg_toast_and_large")
        if line["dir"] == "recv" and '"k": "tx"' in line["frame"]
    ]
    assert [*got[:3], *got[-2:]] == recorded


async def test_too_many_channels_are_refused_as_recorded(pg: str) -> None:
    limits = Limits(max_channels=3)
    running = RealtimeServer(pg, jwt_secret=SECRET, anon_key=mint(SECRET, "anon"), limits=limits)
    await running.start()
    try:
        await replay(running, "12_rate_limits")
    finally:
        await running.stop()


def test_every_recording_has_its_test() -> None:
    source = Path(__file__).read_text()
    missing = [path.stem for path in TRANSCRIPTS.glob("*.jsonl") if f'"{path.stem}"' not in source]
    assert missing == []
