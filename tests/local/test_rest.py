"""Reading tables over HTTP, and the exact join of a snapshot with the stream."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import time
from typing import Any

import httpx
import psycopg
import pytest

from rtwidgets.client.rest import RestClient
from rtwidgets.local import rest
from rtwidgets.local.auth import mint
from rtwidgets.local.limits import Limits
from rtwidgets.local.server import RealtimeServer
from rtwidgets.protocol.rest_headers import ARROW_STREAM

from ..waits import PATIENCE, received
from .client import USER, change, connected, sql, subscribed
from .conftest import SECRET

pytestmark = pytest.mark.pg


@pytest.fixture
async def people(server: RealtimeServer, pg: str) -> RealtimeServer:
    await sql(
        pg,
        """
        drop table if exists people, "odd % ""name", locked;
        create table people (id int primary key, name text, n numeric, raw bytea, at timestamptz);
        insert into people values (1, 'ana', 1.50, '\\xdead', '2026-11-23 10:00+02'), (2, 'b,"(o)"b', null, null, null),
          (3, 'cy', 3, null, null);
        create table "odd % ""name" ("a%s" int primary key, "b;--" text);
        insert into "odd % ""name" values (1, 'x'), (2, 'y%s''');
        create table locked (id int primary key); revoke all on locked from anon, authenticated;
        alter publication supabase_realtime add table people
        """,
    )
    return server


async def get(
    server: RealtimeServer, path: str, params: Any = None, key: str | None = None, **headers: str
) -> httpx.Response:
    async with httpx.AsyncClient(base_url=server.url) as http:
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        return await http.get(f"/rest/v1/{path}", params=params, headers={"apikey": key or server.anon_key, **names})


async def test_values_are_those_of_postgrest(people: RealtimeServer) -> None:
    answer = await get(people, "people", {"order": "id"})
    assert answer.status_code == 200
    assert answer.headers["content-range"] == "0-2/*"
    assert '"n":1.50,' in answer.text
    assert answer.json()[0] == {"id": 1, "name": "ana", "n": 1.5, "raw": "\\xdead", "at": "2026-11-23T08:00:00+00:00"}
    assert int(answer.headers["x-rtwidgets-lsn"]) > 0
    assert answer.headers["x-rtwidgets-snapshot"].count(":") == 2


@pytest.mark.parametrize(
    ("params", "ids"),
    [
        ({"id": "eq.2"}, [2]),
        ({"name": 'eq.b,"(o)"b'}, [2]),
        ({"name": 'in.("b,\\"(o)\\"b",ana)'}, [1, 2]),
        ({"id": "not.in.(1,2)"}, [3]),
        ({"n": "is.null"}, [2]),
        ({"name": "like.a*"}, [1]),
        ({"id": ["gt.1", "lt.3"]}, [2]),
        ({"or": "(id.eq.1,name.eq.cy)"}, [1, 3]),
        ({"or": '(name.eq."b,\\"(o)\\"b",id.eq.3)'}, [2, 3]),
        ({"and": "(id.gt.1,not.or(id.eq.2,n.is.null))"}, [3]),
        ({"name": "eq.'; drop table people; --"}, []),
        ({"name": "eq.%s"}, []),
        ({"limit": "1", "offset": "1"}, [2]),
        ({"order": "n.desc.nullslast"}, [3, 1, 2]),
    ],
)
async def test_filters(people: RealtimeServer, params: dict[str, Any], ids: list[int]) -> None:
    answer = await get(people, "people", {"order": "id", **params, "select": "id"})
    assert [row["id"] for row in answer.json()] == ids


async def test_names_that_need_quoting(people: RealtimeServer) -> None:
    answer = await get(people, 'odd % "name', {'"b;--"': "eq.y%s'", "select": '"a%s"'})
    assert answer.json() == [{"a%s": 2}]


async def test_csv(people: RealtimeServer) -> None:
    """As spreadsheets and `pandas.read_csv` take it: empty for null, quotes where they are needed."""
    answer = await get(people, "people", {"order": "id", "select": "id,name,n,at"}, accept="text/csv")
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert list(csv.reader(io.StringIO(answer.text))) == [
        ["id", "name", "n", "at"],
        ["1", "ana", "1.50", "2026-11-23 08:00:00+00"],
        ["2", 'b,"(o)"b', "", ""],
        ["3", "cy", "3", ""],
    ]
    none = await get(people, "people", {"id": "eq.9"}, accept="text/csv")
    assert (none.status_code, none.text) == (200, "id,name,n,raw,at")
    odd = await get(people, 'odd % "name', accept="text/csv")
    assert odd.text.splitlines()[0] == "a%s,b;--"
    assert (await get(people, "locked", accept="text/csv")).json()["code"] == "42501"


async def test_count_and_range(people: RealtimeServer) -> None:
    answer = await get(people, "people", {"order": "id"}, Prefer="count=exact", Range="1-1")
    assert (answer.status_code, answer.headers["content-range"], len(answer.json())) == (206, "1-1/3", 1)
    assert (await get(people, "people", {"offset": "9"}, Prefer="count=exact")).status_code == 416
    for way in ("planned", "estimated"):
        assert (await get(people, "people", Prefer=f"count={way}")).headers["content-range"] == "0-2/3"


async def test_one_row_as_an_object(people: RealtimeServer) -> None:
    single = "application/vnd.pgrst.object+json"
    answer = await get(people, "people", {"id": "eq.1", "select": "id,name"}, accept=single)
    assert (answer.status_code, answer.json()) == (200, {"id": 1, "name": "ana"})
    assert answer.headers["content-type"].startswith(single)
    for params, count in (({}, 3), ({"id": "eq.9"}, 0)):
        answer = await get(people, "people", params, accept=single)
        assert answer.status_code == 406
        assert answer.json() == {
            "code": "PGRST116",
            "details": f"The result contains {count} rows",
            "hint": None,
            "message": "Cannot coerce the result to a single JSON object",
        }


async def test_the_kinds_of_answers(people: RealtimeServer) -> None:
    for accept, kind in (
        ("*/*", "application/json"),
        ("text/html,application/xhtml+xml,*/*;q=0.8", "application/json"),
        ("application/vnd.pgrst.array+json", "application/json"),
        ("text/csv;q=0.9, application/json", "text/csv"),
    ):
        assert (await get(people, "people", accept=accept)).headers["content-type"].startswith(kind)
    answer = await get(people, "people", accept="text/xml, image/png")
    assert (answer.status_code, answer.json()["code"]) == (406, "PGRST107")
    assert answer.json()["message"] == "None of these media types are available: text/xml, image/png"
    assert (await get(people, "people", Authorization=f"bearer {people.anon_key}")).status_code == 200
    assert (await get(people, "people", key=mint(SECRET, "nobody_of_that_name"))).status_code == 401


async def test_what_is_not_served_says_so(people: RealtimeServer) -> None:
    headers = {"apikey": people.anon_key}
    async with httpx.AsyncClient(base_url=people.url, headers=headers) as http:
        for method in ("POST", "PATCH", "PUT", "DELETE"):
            answer = await http.request(method, "/rest/v1/people", content=b"{}")
            assert (answer.status_code, answer.json()["code"]) == (405, "PGRST117")
            assert "SQL" in answer.json()["hint"]
        answer = await http.post("/rest/v1/rpc/anything", json={})
        assert (answer.status_code, answer.json()["code"]) == (404, "PGRST202")
        assert (await http.head("/rest/v1/people", headers={"Prefer": "count=exact"})).headers[
            "content-range"
        ] == "0-2/3"
    for schema in ("pg_catalog", "information_schema"):
        answer = await get(people, "tables", Accept_Profile=schema)
        assert (answer.status_code, answer.json()["code"]) == (406, "PGRST106")


async def test_the_rows_of_one_answer_are_bounded_as_on_a_plan(people: RealtimeServer, pg: str) -> None:
    running = RealtimeServer(pg, jwt_secret=SECRET, anon_key=people.anon_key, limits=Limits(max_rows=2))
    await running.start()
    try:
        client = RestClient(running.url, running.anon_key, token)
        pages = [page async for page in client.select("people", key=("id",))]
        assert [row["id"] for page in pages for row in page.rows] == [1, 2, 3]
        assert max(len(page.rows) for page in pages) == 2
        assert [row["id"] for row in (await get(running, "people", {"order": "id", "limit": "9"})).json()] == [1, 2]
        await client.close()
    finally:
        await running.stop()


async def token() -> None:
    return None


@pytest.mark.parametrize(
    ("path", "params", "status", "code"),
    [
        ("nope", {}, 404, "PGRST205"),
        ("people", {"id": "eq.abc"}, 400, "22P02"),
        ("people", {"nope": "eq.1"}, 400, "42703"),
        ("people", {"id": "frob.1"}, 400, "PGRST100"),
        ("people", {"id": "cs.1"}, 404, "42883"),
        ("people", {"name": "match.["}, 400, "2201B"),
        ("locked", {}, 401, "42501"),
    ],
)
async def test_errors(people: RealtimeServer, path: str, params: dict[str, str], status: int, code: str) -> None:
    answer = await get(people, path, params)
    assert (answer.status_code, answer.json()["code"]) == (status, code)


async def test_the_role_of_the_token_reads(people: RealtimeServer, pg: str) -> None:
    user = mint(SECRET, "authenticated", sub=USER)
    assert (await get(people, "locked", key=user)).status_code == 403
    assert (await get(people, "locked", Authorization="Bearer garbage")).status_code == 401
    assert (await get(people, "locked", key=mint(SECRET, "anon", expires_in=-5))).json()["message"] == "JWT expired"
    await sql(
        pg,
        "alter table people enable row level security",
        "create policy one on people to authenticated using (id = 1)",
    )
    assert (await get(people, "people")).json() == []
    assert [row["id"] for row in (await get(people, "people", key=user)).json()] == [1]


async def test_describe(people: RealtimeServer) -> None:
    answer = (await get(people, "rpc/rtwidgets_describe", {"table": "people"})).json()
    assert answer["columns"][:2] == [
        {"name": "id", "type": "int4", "type_oid": 23, "type_schema": "pg_catalog"},
        {"name": "name", "type": "text", "type_oid": 25, "type_schema": "pg_catalog"},
    ]
    assert (answer["key"], answer["published"], answer["rls"]) == (["id"], True, False)
    assert (answer["kind"], answer["identity"], answer["identity_columns"]) == ("r", "d", ["id"])
    verbs = ["insert", "update", "delete", "truncate"]
    assert (answer["member"], answer["via_root"], answer["filter"], answer["verbs"]) == (True, False, None, verbs)
    assert answer["oid"] == await sql_value(people.dsn, "select 'people'::regclass::oid::int8")
    assert (await get(people, "rpc/rtwidgets_describe", {"table": "nope"})).status_code == 404


async def described(server: RealtimeServer, table: str, schema: str = "public") -> dict[str, Any]:
    return (await get(server, "rpc/rtwidgets_describe", {"table": table, "schema": schema})).json()


async def test_describe_names_a_type_with_its_schema_and_what_is_under_it(server: RealtimeServer, pg: str) -> None:
    await sql(
        pg,
        """
        drop schema if exists other cascade; create schema other; grant usage on schema other to anon;
        drop table if exists kinds; drop type if exists "Date", _mood cascade; drop domain if exists outermost cascade;
        create type "Date" as enum ('mon', 'tue'); create type _mood as enum ('sad');
        create domain other.positive as int; create domain middle as other.positive; create domain outermost as middle;
        create table kinds (id int primary key, d "Date", m _mood, n outermost, l text[])
        """,
    )
    columns = {column.pop("name"): column for column in (await described(server, "kinds"))["columns"]}
    for column in columns.values():
        for name in ("type_oid", "base_oid", "element_oid"):
            column.pop(name, None)
    assert columns == {
        "id": {"type": "int4", "type_schema": "pg_catalog"},
        "d": {"type": "Date", "type_schema": "public", "labels": ["mon", "tue"]},
        "m": {"type": "_mood", "type_schema": "public", "labels": ["sad"]},
        "n": {"type": "outermost", "type_schema": "public", "base": "int4", "base_schema": "pg_catalog"},
        "l": {"type": "_text", "type_schema": "pg_catalog", "element": "text", "element_schema": "pg_catalog"},
    }
    await sql(pg, "drop table kinds; drop domain outermost, middle; drop schema other cascade")


async def test_describe_says_how_a_table_is_published(server: RealtimeServer, pg: str) -> None:
    await sql(
        pg,
        """
        drop table if exists plain, filtered, root, quiet cascade; drop view if exists seen;
        create table plain (id int primary key, code text not null unique);
        alter table plain replica identity using index plain_code_key;
        create table filtered (id int primary key);
        create table root (id int primary key) partition by range (id);
        create table leaf partition of root for values from (0) to (10);
        create view seen as select 1 as one;
        alter publication supabase_realtime add table filtered where (id > 5), root
        """,
    )
    plain = await described(server, "plain")
    assert (plain["published"], plain["member"]) == (False, False)
    assert (plain["key"], plain["identity"], plain["identity_columns"]) == (["id"], "i", ["code"])
    filtered = await described(server, "filtered")
    assert (filtered["published"], filtered["filter"]) == (True, "(id > 5)")
    assert ((await described(server, "seen"))["kind"], (await described(server, "seen"))["published"]) == ("v", False)
    for via_root, root, leaf in (("false", False, True), ("true", True, False)):
        await sql(pg, f"alter publication supabase_realtime set (publish_via_partition_root = {via_root})")
        found = await described(server, "root")
        assert (found["kind"], found["published"], found["member"]) == ("p", root, True)
        assert (await described(server, "leaf"))["published"] is leaf
        names = "select array_agg(tablename::text) from pg_publication_tables where pubname = 'supabase_realtime'"
        assert ("root" in await sql_value(pg, names), "leaf" in await sql_value(pg, names)) == (root, leaf)
    await sql(pg, "alter publication supabase_realtime set (publish_via_partition_root = false)")
    await sql(pg, "alter publication supabase_realtime set (publish = 'insert, update')")
    assert (await described(server, "filtered"))["verbs"] == ["insert", "update"]
    await sql(
        pg,
        "alter publication supabase_realtime set (publish = 'insert, update, delete, truncate')",
        "alter publication supabase_realtime drop table filtered, root",
        "alter publication supabase_realtime add tables in schema public",
    )
    try:
        assert (await described(server, "plain"))["published"]
        assert (await described(server, "filtered"))["filter"] is None
    finally:
        await sql(pg, "alter publication supabase_realtime drop tables in schema public", "drop table root, filtered")


async def test_describe_does_not_wait_for_a_lock_on_another_table(server: RealtimeServer, pg: str) -> None:
    await sql(
        pg,
        "drop table if exists locked_one, free_one; create table locked_one (id int primary key);"
        "create table free_one (id int primary key);"
        "alter publication supabase_realtime add table locked_one, free_one",
    )
    async with await psycopg.AsyncConnection.connect(pg) as connection:
        await connection.execute("lock table locked_one in access exclusive mode")
        async with asyncio.timeout(PATIENCE):
            assert (await described(server, "free_one"))["published"]
        await connection.rollback()


async def test_describe_takes_time_in_proportion_to_the_columns(server: RealtimeServer, pg: str) -> None:
    columns = ", ".join(f"c{number} int" for number in range(1500))
    await sql(pg, f"drop table if exists wide; create table wide (id int primary key, {columns})")
    await sql(pg, "alter publication supabase_realtime add table wide")
    began = time.monotonic()
    assert len((await described(server, "wide"))["columns"]) == 1501
    assert time.monotonic() - began < 5
    await sql(pg, "drop table wide")


@pytest.mark.parametrize(
    "name", ["r", "t", "k", "x", "select", "order", "a.b", "a b", "a,b", 'a"b', "a\\b", "a%s", "(", "->"]
)
async def test_a_column_may_have_any_name(server: RealtimeServer, pg: str, name: str) -> None:
    """Also that of an alias in the server's own queries, or of a parameter."""
    column, quoted = '"' + name.replace('"', '""') + '"', '"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"'
    await sql(
        pg,
        "drop table if exists named; drop type if exists shadow_row; create type shadow_row as (id int, v int)",
        f"create table named (id int primary key, {column} int, v shadow_row)",
        "insert into named values (7, 1, row(1, 2)), (8, 2, null)",
    )
    rows = [{"id": 7, name: 1, "v": {"id": 1, "v": 2}}, {"id": 8, name: 2, "v": None}]
    assert (await get(server, "named", {"order": "id"}, Prefer="count=exact")).json() == rows
    assert (await get(server, "named", {quoted: "eq.2"})).json() == rows[1:]
    assert (await get(server, "named", {"order": f"{quoted}.desc"})).json() == rows[::-1]
    assert (await get(server, "named", {"or": f"({quoted}.eq.1,id.eq.9)"})).json() == rows[:1]
    answer = await get(server, "named", {"select": f"{quoted},{quoted}:id", "id": "eq.7"})
    assert answer.text.count(json.dumps(name) + ":") == 2
    csv_text = (await get(server, "named", {"select": f"id,{quoted}", "order": "id"}, accept="text/csv")).text
    assert list(csv.reader(io.StringIO(csv_text))) == [["id", name], ["7", "1"], ["8", "2"]]


async def test_a_composite_column_called_like_an_alias_is_one_column(server: RealtimeServer, pg: str) -> None:
    await sql(
        pg,
        "drop table if exists aliased; drop type if exists pc; create type pc as (id int, v int);"
        "create table aliased (id int primary key, r pc, v int); insert into aliased values (7, row(1, 2), 70)",
    )
    assert (await get(server, "aliased")).json() == [{"id": 7, "r": {"id": 1, "v": 2}, "v": 70}]
    assert (await get(server, "aliased", accept="text/csv")).text == 'id,r,v\n7,"(1,2)",70'


async def test_json_paths_and_casts(server: RealtimeServer, pg: str) -> None:
    await sql(
        pg,
        "drop table if exists docs; create table docs (id int primary key, d jsonb);"
        """insert into docs values (1, '{"a": {"b c": 5}, "l": [1, "x"]}'), (2, '{"a": {"b c": 4}}')""",
    )
    answer = await get(server, "docs", {"select": 'd->a->"b c",last:d->l->>-1,id::text', "order": 'd->a->"b c"'})
    assert answer.json() == [{"b c": 4, "last": None, "id": "2"}, {"b c": 5, "last": "x", "id": "1"}]
    assert [row["id"] for row in (await get(server, "docs", {'d->a->>"b c"': "eq.5"})).json()] == [1]


async def test_filters_mean_what_they_mean_to_postgres_by_type(server: RealtimeServer, pg: str) -> None:
    await sql(
        pg,
        """
        create extension if not exists citext; drop table if exists texts;
        create table texts (id int primary key, ci citext, ch char(4), j jsonb);
        insert into texts values (1, 'Ann', 'a', 'null'), (2, 'ANN', 'abcd', null), (3, 'bob', null, '1')
        """,
    )
    for column, test, condition in (
        ("ci", "eq.ann", "ci = 'ann'"),
        ("ci", "like.an*", "ci like 'an%'"),
        ("ci", "in.(ann,BOB)", "ci in ('ann', 'BOB')"),
        ("ch", "like.a", "ch like 'a'"),
        ("ch", "eq.a", "ch = 'a'"),
        ("ch", "like.a*", "ch like 'a%'"),
        ("j", "is.null", "j is null"),
        ("j", "not.is.null", "j is not null"),
        ("j", "eq.null", "j = 'null'"),
    ):
        found = [row["id"] for row in (await get(server, "texts", {column: test, "order": "id"})).json()]
        query = f"select coalesce(array_agg(id order by id), '{{}}') from texts where {condition}"
        assert found == await sql_value(pg, query), (column, test)


async def test_the_root_is_an_open_api_document(people: RealtimeServer, pg: str) -> None:
    await sql(pg, "drop type if exists level cascade; create type level as enum ('low', 'high')")
    await sql(pg, "alter table people add column lv level")
    answer = await get(people, "")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/openapi+json; charset=utf-8")
    found = answer.json()["definitions"]
    assert "locked" not in found
    assert found["people"]["required"] == ["id"]
    assert found["people"]["properties"]["id"] == {
        "format": "integer",
        "type": "integer",
        "description": "Note:\nThis is a Primary Key.<pk/>",
    }
    assert found["people"]["properties"]["lv"]["enum"] == ["low", "high"]
    answer = await get(people, "people/1")
    assert (answer.status_code, answer.json()["code"]) == (404, "PGRST125")


async def test_an_error_names_its_cause_and_a_cure(people: RealtimeServer, pg: str) -> None:
    await sql(
        pg,
        """
        drop table if exists owned, partly; create table owned (id int primary key, owner uuid);
        alter table owned enable row level security;
        create policy own on owned to authenticated using (owner = auth.uid()); insert into owned values (1, null);
        create table partly (id int primary key, secret text, open text);
        revoke all on partly from anon; grant select (id, open) on partly to anon
        """,
    )
    ana = mint(SECRET, "authenticated", sub="ana")
    answer = await get(people, "owned", key=ana)
    assert (answer.status_code, answer.json()["code"]) == (400, "22P02")
    assert "auth.uid()" in answer.json()["hint"]
    assert (await get(people, "owned", {"owner": "eq.ana"}, key=ana)).json()["hint"] is None
    answer = await get(people, "partly")
    assert (answer.status_code, answer.json()["code"]) == (401, "42501")
    assert "columns=['id', 'open']" in answer.json()["hint"]
    assert (await get(people, "partly", {"select": "id,open"})).status_code == 200
    assert "schema='public'" in (await get(people, "public.people")).json()["hint"]
    assert "public.people" in (await get(people, "People")).json()["hint"]


async def test_an_answer_that_is_not_read_is_cut_off(
    people: RealtimeServer, pg: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(rest, "STALL", 0.5)
    await sql(pg, "drop table if exists big; create table big (id int primary key, v text)")
    await sql(pg, "insert into big select g, repeat('x', 10000) from generate_series(1, 5000) g")
    answer = await get(people, "big")
    assert (answer.headers["content-range"], len(answer.json())) == ("0-4999/*", 5000)
    page = "http://localhost:8888"
    for size in ("1", "5000"):  # sent whole, and in pieces
        answer = await get(people, "big", {"limit": size}, Origin=page)
        assert answer.headers["access-control-allow-origin"] == page
    request = f"GET /rest/v1/big?apikey={people.anon_key} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode()
    lines = [await asyncio.open_connection("127.0.0.1", people.port, limit=1024) for _ in range(4)]
    for _, writer in lines:
        writer.write(request)
    # As many of them as the server has connections to Postgres; and yet others are served.
    async with asyncio.timeout(PATIENCE):
        assert len((await get(people, "people")).json()) == 3
    async with asyncio.timeout(60):
        while caplog.text.count("is cut off") < len(lines):  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    for reader, writer in lines:
        with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
            await reader.readexactly(60_000_000)
        writer.close()
    await sql(pg, "drop table big")


async def test_what_changes_do_not_carry_is_no_column_of_a_live_table(server: RealtimeServer, pg: str) -> None:
    new = await sql_value(pg, "select current_setting('server_version_num')::int >= 180000")
    more = ", v int generated always as (a * 3) virtual" if new else ""
    await sql(
        pg,
        "drop table if exists made, part;"
        f"create table made (id int primary key, a int, s int generated always as (a * 2) stored{more});"
        "create table part (id int primary key, a int, b int);"
        "alter publication supabase_realtime add table made, part (id, a)",
    )
    told = {
        table: [
            column["name"]
            for column in (await get(server, "rpc/rtwidgets_describe", {"table": table})).json()["columns"]
        ]
        for table in ("made", "part")
    }
    async with connected(server) as ws:
        await subscribed(ws, {"event": "*", "schema": "public"})
        await sql(pg, "insert into made values (1, 5)", "insert into part values (1, 2, 3)")
        records = [(await change(ws))["data"]["record"] for _ in range(2)]
    assert records == [{"id": 1, "a": 5} | ({"s": 10} if new else {}), {"id": 1, "a": 2}]
    assert told == {"made": list(records[0]), "part": list(records[1])}


async def sql_value(pg: str, query: str) -> Any:
    async with await psycopg.AsyncConnection.connect(pg) as connection:
        cursor = await connection.execute(query.encode())
        return (await cursor.fetchone() or (None,))[0]


def in_snapshot(data: dict[str, Any], lsn: int, snapshot: str) -> bool:
    xmin, xmax, running = snapshot.split(":")
    xid = data["xid"]
    visible = xid < int(xmin) or (xid < int(xmax) and str(xid) not in running.split(","))
    return data["lsn"] < lsn and visible


async def test_a_snapshot_and_the_stream_join_without_a_gap_or_a_repetition(server: RealtimeServer, pg: str) -> None:
    await sql(pg, "drop table if exists flow; create table flow (id bigserial primary key)")
    await sql(pg, "alter publication supabase_realtime add table flow")
    done = asyncio.Event()

    async def write() -> int:
        written = 0
        async with await psycopg.AsyncConnection.connect(pg, autocommit=True) as connection:
            while not done.is_set():
                await connection.execute("insert into flow default values")
                written += 1
        return written

    async with connected(server) as ws:
        await subscribed(ws, {"event": "*", "schema": "public", "table": "flow"})
        writers = [asyncio.create_task(write()) for _ in range(3)]
        snapshots = []
        for _ in range(20):
            await asyncio.sleep(0.01)
            answer = await get(server, "flow")
            position = int(answer.headers["x-rtwidgets-lsn"]), answer.headers["x-rtwidgets-snapshot"]
            snapshots.append(({row["id"] for row in answer.json()}, *position))
        done.set()
        written = sum(await asyncio.gather(*writers))
        stream = [(await received(ws))[4]["data"] for _ in range(written)]
    for rows, lsn, snapshot in snapshots:
        before = {data["record"]["id"] for data in stream if in_snapshot(data, lsn, snapshot)}
        assert rows == before


@pytest.mark.parametrize(
    ("path", "params"),
    [
        ("people%00locked", {}),
        ("people", {"select": "a\x00b:id"}),
        ("people", {"select": '"id\x00"'}),
        ("people", {"select": "raw->>a\x00b"}),
        ("people", {"order": '"id\x00"'}),
        ("people", {"name": "eq.a\x00b"}),
        ("rpc/rtwidgets_describe", {"table": "people\x00"}),
    ],
)
@pytest.mark.parametrize("accept", ["application/json", ARROW_STREAM])
async def test_what_holds_the_character_nul_is_refused(
    people: RealtimeServer, path: str, params: dict[str, str], accept: str
) -> None:
    answer = await get(people, path, params, Accept=accept)
    assert (answer.status_code, answer.json()["code"]) == (400, "22021")


async def test_a_schema_that_is_not_utf_8_is_not_found(people: RealtimeServer) -> None:
    async with httpx.AsyncClient(base_url=people.url) as http:
        headers = [(b"apikey", people.anon_key.encode()), (b"Accept-Profile", b"\xff")]
        answer = await http.get("/rest/v1/people", headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (404, "PGRST205")
