"""Rows as an Arrow stream: under the caller's policies, from one moment, and never half an answer for a whole one."""

from __future__ import annotations

import asyncio

import httpx
import pyarrow as pa
import pytest

from rtwidgets.client.rest import RestClient
from rtwidgets.local.auth import mint
from rtwidgets.local.limits import Limits
from rtwidgets.local.server import RealtimeServer
from rtwidgets.protocol.errors import RealtimeError
from rtwidgets.protocol.rest_headers import ARROW_STREAM

from .client import sql
from .conftest import SECRET
from .test_rest import get

pytestmark = pytest.mark.pg


@pytest.fixture
async def notes(server: RealtimeServer, pg: str) -> RealtimeServer:
    await sql(
        pg,
        """
        drop table if exists notes, locked_notes;
        create table notes (id int primary key, "the % owner" text, note text);
        insert into notes select i, case when i % 2 = 0 then 'ana' else 'bo''b' end, repeat('x', i % 50)
          from generate_series(1, 5000) i;
        alter table notes enable row level security;
        create policy own on notes for select using ("the % owner" = auth.jwt() ->> 'name');
        create table locked_notes (id int primary key); revoke all on locked_notes from anon, authenticated;
        alter publication supabase_realtime add table notes
        """,
    )
    return server


def rows(answer: httpx.Response) -> pa.Table:
    assert answer.headers["content-type"] == ARROW_STREAM
    return pa.ipc.open_stream(answer.content).read_all()


async def test_each_gets_the_rows_of_their_policies(notes: RealtimeServer) -> None:
    for name, count in (("ana", 2500), ("bo'b", 2500), ("cy", 0)):
        key = mint(SECRET, "authenticated", sub="x", name=name)
        answer = await get(notes, "notes", {"select": "*"}, key, Accept=ARROW_STREAM, Prefer="count=exact")
        assert answer.status_code == 200
        assert answer.headers["content-range"] == f"*/{count}"
        assert int(answer.headers["x-rtwidgets-lsn"]) > 0
        assert answer.headers["x-rtwidgets-snapshot"]
        found = rows(answer)
        assert found.num_rows == count
        assert found.schema.names == ["id", "the % owner", "note"]
        assert set(found.column(1).to_pylist()) <= {name}


async def test_the_query_is_that_of_json(notes: RealtimeServer) -> None:
    key = notes.service_key
    for query in (
        {"select": "id,n:note", "order": "id.desc", "limit": "7", "offset": "3", "id": "gt.10"},
        {"select": "id", '"the % owner"': "eq.bo'b", "or": "(id.lt.9,note.like.xx%)", "limit": "40", "order": "id"},
        {"select": "id", '"the % owner"': 'in.("bo\'b","a\\\\b")', "id": "lt.50", "order": "id"},
    ):
        want = (await get(notes, "notes", query, key)).json()
        assert want
        assert rows(await get(notes, "notes", query, key, Accept=ARROW_STREAM)).to_pylist() == want


async def test_who_does_not_ask_for_it_gets_json_and_errors_are_those_of_postgrest(notes: RealtimeServer) -> None:
    for accept in ("*/*", "application/json", f"application/json, {ARROW_STREAM}"):
        answer = await get(notes, "notes", {"limit": "1"}, notes.service_key, Accept=accept)
        assert answer.headers["content-type"].startswith("application/json")
    either = await get(
        notes, "notes", {"limit": "1"}, notes.service_key, Accept=f"{ARROW_STREAM}, application/json;q=0.9"
    )
    assert rows(either).num_rows == 1
    for path, params, status, code in (
        ("nothing_here", {}, 404, "PGRST205"),
        ("locked_notes", {}, 401, "42501"),
        ("notes", {"id": "eq.many"}, 400, "22P02"),
        ("notes", {"note": "eq.a\x00b"}, 400, "22021"),
    ):
        answer = await get(notes, path, params, Accept=ARROW_STREAM)
        assert (answer.status_code, answer.json()["code"]) == (status, code)


async def test_what_fails_with_the_first_row_is_named(notes: RealtimeServer, pg: str) -> None:
    await sql(
        pg,
        "create or replace function peek() returns bool language plpgsql as"
        " $$ begin return exists (select from locked_notes); end $$;"
        " drop policy own on notes; create policy own on notes for select using (peek())",
    )
    as_json = await get(notes, "notes")
    assert (as_json.status_code, as_json.json()["message"]) == (401, "permission denied for table locked_notes")
    as_arrow = await get(notes, "notes", Accept=ARROW_STREAM)
    assert (as_arrow.status_code, as_arrow.json()) == (401, as_json.json())


async def test_a_server_with_a_cap_on_rows_does_not_offer_it(pg: str, notes: RealtimeServer) -> None:
    described = await get(notes, "rpc/rtwidgets_describe", {"table": "notes"}, notes.service_key)
    assert described.headers["x-rtwidgets-formats"] == ARROW_STREAM
    capped = RealtimeServer(pg, jwt_secret=SECRET, limits=Limits(max_rows=10))
    await capped.start()
    try:
        described = await get(capped, "rpc/rtwidgets_describe", {"table": "notes"}, notes.service_key)
        assert described.status_code == 200
        assert "x-rtwidgets-formats" not in described.headers
        assert (await get(capped, "notes", {}, notes.service_key, Accept=ARROW_STREAM)).status_code == 406
    finally:
        await capped.stop()


async def test_half_an_answer_is_an_error_and_frees_the_connection(notes: RealtimeServer, pg: str) -> None:
    await sql(
        pg,
        "drop table if exists breaks; create table breaks (id int primary key, t text); insert into breaks select i,"
        " repeat(md5(i::text), 20) from generate_series(1, 60000) i; drop view if exists breaking;"
        " create view breaking as select id, t, 1 / (50000 - id) as x from breaks; grant select on breaking to anon",
    )

    async def token() -> str | None:
        return None

    client = RestClient(notes.url, notes.service_key, token)
    await client.describe("breaking")
    read: list[int] = []

    async def read_all() -> None:
        async for page in client.select("breaking", arrow=True):
            read.append(len(page))

    with pytest.raises(RealtimeError) as caught:
        await read_all()
    assert 0 < sum(read) < 50_000
    assert caught.value.retryable
    for _ in range(6):  # more than there are connections
        pages = client.select("breaks", arrow=True)
        assert len(await anext(pages)) > 0
        await pages.aclose()  # type: ignore[attr-defined]
    async with asyncio.timeout(20):
        assert sum([len(page) async for page in client.select("breaks", arrow=True)]) == 60_000
    await client.close()
