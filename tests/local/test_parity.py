"""What Supabase Realtime 2.129 does where no recording shows it."""

from __future__ import annotations

import json
from typing import Any

import psycopg
import pytest

from rtwidgets.local.auth import mint
from rtwidgets.local.server import RealtimeServer

from .client import ask, change, connected, sql, subscribed, system
from .conftest import SECRET

pytestmark = pytest.mark.pg


@pytest.mark.parametrize("identity", ["default", "full"])
async def test_a_delete_meets_no_filter_on_what_it_does_not_carry(
    server: RealtimeServer, pg: str, identity: str
) -> None:
    await sql(
        pg,
        f"drop table if exists fewer; create table fewer (id int primary key, v text);"
        f"alter table fewer replica identity {identity}; insert into fewer values (1, null), (2, 'x');"
        "alter publication supabase_realtime add table fewer",
    )
    entry = {"event": "DELETE", "schema": "public", "table": "fewer"}
    wanted = ["v=is.null", "v=isdistinct.x", "v=not.is.null", "v=neq.x", "id=gt.0"]
    async with connected(server) as ws:
        ids = await subscribed(ws, *({**entry, "filter": text} for text in wanted))
        await sql(pg, "delete from fewer where id = 1", "delete from fewer where id = 2")
        got = [set((await change(ws))["ids"]) for _ in range(2)]
    names = dict(zip(ids, wanted, strict=True))
    told = [{names[number] for number in found} for found in got]
    if identity == "default":
        assert told == [{"id=gt.0"}] * 2
    else:
        assert told == [{"v=is.null", "v=isdistinct.x", "id=gt.0"}, {"v=not.is.null", "id=gt.0"}]


@pytest.mark.parametrize("op", ["like", "ilike", "match", "imatch"])
@pytest.mark.parametrize(("column", "kind"), [("n", "numeric"), ("i", "integer"), ("j", "jsonb"), ("d", "date")])
async def test_a_pattern_needs_a_text_column(server: RealtimeServer, pg: str, op: str, column: str, kind: str) -> None:
    await sql(
        pg,
        "drop table if exists kinds; create table kinds (id int primary key, n numeric, i int, j jsonb, d date);"
        "alter publication supabase_realtime add table kinds",
    )
    entry = {"event": "*", "schema": "public", "table": "kinds", "filter": f"{column}={op}.1%"}
    async with connected(server) as ws:
        await ask(ws, "realtime:t", "phx_join", {"config": {"postgres_changes": [entry]}})
        said = await system(ws)
    assert said["status"] == "error"
    assert said["message"].endswith(f"operator {op} requires a text-compatible column type, got {kind}")


async def test_what_is_no_object_is_not_sent(server: RealtimeServer, pg: str) -> None:
    warnings: list[str] = []
    async with connected(server) as ws, await psycopg.AsyncConnection.connect(pg, autocommit=True) as connection:
        connection.add_notice_handler(lambda notice: warnings.append(notice.message_primary or ""))
        await ask(ws, "realtime:sent", "phx_join", {"config": {}})
        for payload in ("'[1, 2]'", "'5'", "'\"s\"'", "'null'", "null", "'{}'"):
            await connection.execute(f"select realtime.send({payload}, 'e', 'sent', false)".encode())
        frame = await ws.recv()
        assert b'"id"' in frame
        assert (await ask(ws, "phoenix", "heartbeat", {}))["status"] == "ok"
    assert [text.split(":")[0] for text in warnings] == ["WarnSendingBroadcastMessage"] * 4


async def test_replays_as_supabase_grants_them(server: RealtimeServer, pg: str) -> None:
    await sql(
        pg,
        "drop policy if exists past on realtime.messages;"
        "create policy past on realtime.messages for select to anon"
        " using (realtime.topic() = 'past' and (extension = 'presence' or auth.jwt() ->> 'reads' = 'all'))",
    )
    reads_all, presence_alone = mint(SECRET, "anon", reads="all"), mint(SECRET, "anon")

    async def join(ws: Any, token: str, **replay: Any) -> Any:
        config = {"private": True, "broadcast": {"replay": {"since": 0, **replay}}}
        return await ask(ws, "realtime:past", "phx_join", {"config": config, "access_token": token})

    async with connected(server) as ws:
        assert (await join(ws, reads_all, limit=99))["status"] == "ok"
        reason = "Unauthorized: You do not have permissions to read from this Channel topic: past"
        assert (await join(ws, presence_alone))["response"]["reason"] == reason
    await sql(pg, "drop policy past on realtime.messages")


async def test_half_a_character_in_a_json_column_leaves_the_frame_readable(server: RealtimeServer, pg: str) -> None:
    await sql(
        pg,
        "drop table if exists halves; create table halves (id int primary key, j json);"
        "alter publication supabase_realtime add table halves",
    )
    cases = {
        r'"\ud800"': "\ufffd",
        r'"\udc00\ud800x"': "\ufffd\ufffdx",
        r'"\ud83d\ude00"': "\U0001f600",
        r'"\\ud800"': r"\ud800",
        r'{"\uD800": "\\\ud800"}': {"\ufffd": "\\\ufffd"},
    }
    async with connected(server) as ws:
        await subscribed(ws, {"event": "*", "schema": "public", "table": "halves"})
        async with await psycopg.AsyncConnection.connect(pg, autocommit=True) as connection:
            for number, text in enumerate(cases):
                await connection.execute("insert into halves values (%s, %s)", (number, text))
        for expected in cases.values():
            frame = await ws.recv()
            assert json.loads(frame)[4]["data"]["record"]["j"] == expected
