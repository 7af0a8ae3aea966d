"""A version of a row that was hidden when it was written is never sent, whatever lets the caller in afterwards and
whenever it asks."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from rtwidgets.local.auth import mint
from rtwidgets.local.server import RealtimeServer

from ..waits import received
from .client import ask, change, connected, sql, subscribed, system
from .conftest import SECRET

pytestmark = pytest.mark.pg

ENTRY = {"event": "*", "schema": "public", "table": "held"}
TABLE = (
    "drop table if exists held, letin cascade; create table held (id int primary key, body text, at timestamptz);"
    "create table letin (who text); alter table held enable row level security;"
    "grant select on letin, held to anon; alter publication supabase_realtime add table held"
)
WAYS = {
    "a row in another table": (
        ["create policy p on held for select using (exists (select from letin))"],
        ["insert into letin values ('anon')"],
    ),
    "a function": (
        [
            "create or replace function let_in() returns bool language sql security definer stable as "
            "'select exists (select from letin)'",
            "create policy p on held for select using (let_in())",
        ],
        ["insert into letin values ('anon')"],
    ),
    "a new policy": ([], ["create policy p on held for select using (true)"]),
    "another policy": (
        ["create policy p on held for select using (body = 'none')"],
        ["alter policy p on held using (true)"],
    ),
    "no row level security any more": ([], ["alter table held disable row level security"]),
    "a grant": (
        ["create policy p on held for select using (true)", "revoke select on held from anon"],
        ["grant select on held to anon"],
    ),
    "a grant on a column": (
        [
            "create policy p on held for select using (true)",
            "revoke select on held from anon",
            "grant select (id) on held to anon",
        ],
        ["grant select (body) on held to anon"],
    ),
    "a role that passes by": ([], ["alter role anon bypassrls"]),
}


@pytest.mark.parametrize("way", WAYS)
async def test_who_is_let_in_and_resumes_gets_no_version_of_before(server: RealtimeServer, pg: str, way: str) -> None:
    before, then = WAYS[way]
    await sql(pg, TABLE, *before)
    try:
        async with connected(server) as owner, connected(server) as ws:
            config = {"postgres_changes": [ENTRY]}
            await ask(owner, "realtime:t", "phx_join", {"config": config, "access_token": server.service_key})
            assert (await system(owner))["status"] == "ok"
            await sql(pg, "insert into held values (0, 'first')")
            since = (await change(owner))["data"]["lsn"]
            await sql(pg, "insert into held values (1, 'SECRET')", "update held set body = 'redacted' where id = 1")
            for _ in range(2):
                await change(owner)
            await sql(pg, *then)
            await ask(ws, "realtime:t", "phx_join", {"config": {**config, "resume": {"lsn": since}}})
            frames: list[Any] = [await received(ws)]
            await sql(pg, "insert into held values (2, 'last')")
            while '"last"' not in json.dumps(frames):
                frames.append(await received(ws))
            assert "SECRET" not in json.dumps(frames)
            # It has what stands, or knows that it has to read.
            resumed = frames[0][4].get("resumed", False)
            assert not resumed or "redacted" in json.dumps(frames)
    finally:
        await sql(pg, "alter role anon nobypassrls")


@pytest.mark.parametrize("way", ["a row in another table", "a function", "another policy", "a grant on a column"])
async def test_who_is_let_in_meanwhile_gets_no_version_of_before(server: RealtimeServer, pg: str, way: str) -> None:
    """All of it waits together to be sent."""
    before, then = WAYS[way]
    await sql(pg, TABLE, *before)
    async with connected(server) as ws:
        await subscribed(ws, ENTRY)
        await sql(pg, "insert into held values (0, 'first')")
        await asyncio.sleep(0.3)
        async with server.delivery.gate:
            await sql(pg, "insert into held values (1, 'SECRET')", "update held set body = 'redacted' where id = 1")
            await sql(pg, *then)
            await asyncio.sleep(0.3)
        frames: list[Any] = []
        await sql(pg, "insert into held values (2, 'last')")
        while '"last"' not in json.dumps(frames):
            frames.append(await received(ws))
        assert "SECRET" not in json.dumps(frames)


async def test_a_policy_about_the_time_shows_no_version_of_before(server: RealtimeServer, pg: str) -> None:
    await sql(pg, TABLE, "create policy p on held for select using (at < now())")
    async with connected(server) as owner, connected(server) as ws:
        config = {"postgres_changes": [ENTRY]}
        await ask(owner, "realtime:t", "phx_join", {"config": config, "access_token": server.service_key})
        assert (await system(owner))["status"] == "ok"
        later = "now() + interval '1 second'"
        await sql(pg, f"insert into held values (1, 'SECRET', {later})", "update held set body = 'redacted'")
        since = (await change(owner))["data"]["lsn"]
        await change(owner)
        await asyncio.sleep(1.2)
        await ask(ws, "realtime:t", "phx_join", {"config": {**config, "resume": {"lsn": since}}})
        assert (await system(ws))["resumed"] is True
        assert (await change(ws))["data"]["record"]["body"] == "redacted"


async def test_a_policy_about_the_rows_own_columns_shows_every_version(server: RealtimeServer, pg: str) -> None:
    """What decides is the same in each of them, so each was as visible when it was written."""
    await sql(pg, TABLE, "create policy p on held for select using (id > 0 and body <> auth.jwt() ->> 'hides')")
    token = mint(SECRET, "anon", hides="x")
    async with connected(server) as ws:
        join = {"config": {"postgres_changes": [ENTRY]}, "access_token": token}
        await ask(ws, "realtime:t", "phx_join", join)
        since = (await system(ws)).get("lsn")
        await sql(pg, "insert into held values (1, 'a')", *["update held set at = now()"] * 3)
        got = [(await change(ws))["data"] for _ in range(4)]
    assert [data["type"] for data in got] == ["INSERT", "UPDATE", "UPDATE", "UPDATE"]
    assert since is None or since < got[0]["lsn"]
    async with connected(server) as ws:
        join["config"]["resume"] = {"lsn": got[0]["lsn"]}  # type: ignore[index]
        await ask(ws, "realtime:t", "phx_join", join)
        assert (await system(ws))["resumed"] is True
        assert [(await change(ws))["data"]["lsn"] for _ in range(4)] == [data["lsn"] for data in got]
