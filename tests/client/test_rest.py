"""Snapshots over HTTP, against a small PostgREST."""

from __future__ import annotations

import asyncio
import gzip
import json
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from rtwidgets.client.rest import RestClient
from rtwidgets.client.snapshot_source import table_info
from rtwidgets.protocol.errors import RealtimeError
from rtwidgets.protocol.filters import Condition, Filter
from rtwidgets.protocol.pg_snapshot import PgSnapshot

from ..waits import within


def client_for(answer: Any) -> RestClient:
    async def token() -> str | None:
        return None

    client = RestClient("http://project", "key", token)
    client._http = httpx.AsyncClient(transport=httpx.MockTransport(answer))
    return client


async def test_pages_by_a_composite_key_miss_nothing_though_rows_go_meanwhile() -> None:
    rows = [{"a": a, "b": b} for a in (1, 2, 3) for b in range(5)]
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        found = rows
        for name in ("a", "b"):
            op, _, value = request.url.params.get(name, "gt.-1").partition(".")
            found = [row for row in found if (row[name] > int(value) if op == "gt" else row[name] == int(value))]
        asked.append(str(request.url))
        page = found[:2]
        total = {"content-range": f"*/{len(rows)}"}
        if len(asked) > 2 and rows[0]["a"] == 1:
            del rows[0]  # by offset, the next page would skip a row
        return httpx.Response(200, json=page, headers=total)

    want = [(row["a"], row["b"]) for row in rows]
    pages = [page async for page in client_for(answer).select("t", key=("a", "b"))]
    assert [(row["a"], row["b"]) for page in pages for row in page.rows] == want
    assert "offset" not in "".join(asked)


async def test_pages_by_key_under_a_servers_own_cap() -> None:
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(str(request.url))
        after = int(request.url.params.get("id", "gt.0")[3:])
        rows = ",".join(f'{{"id":{n},"v":123456789012345678.123456789}}' for n in range(after + 1, min(after + 3, 6)))
        headers = {"content-range": "0-1/5", "x-rtwidgets-lsn": "77", "x-rtwidgets-snapshot": "10:12:11"}
        return httpx.Response(206, content=f"[{rows}]", headers=headers)

    pages = [page async for page in client_for(answer).select("t", key=("id",))]
    assert [row["id"] for page in pages for row in page.rows] == [1, 2, 3, 4, 5]
    assert str(pages[0].rows[0]["v"]) == "123456789012345678.123456789"
    assert (pages[0].total, pages[0].lsn, pages[0].snapshot) == (5, 77, PgSnapshot(10, 12, frozenset({11})))
    assert "order=id.asc" in asked[0]


async def test_errors_say_what_to_do() -> None:
    body = {"code": "42501", "message": "permission denied for table t"}
    with pytest.raises(RealtimeError) as caught:
        async for _ in client_for(lambda request: httpx.Response(401, json=body)).select("t"):
            pass
    assert "grant select on public.t" in caught.value.hint


async def test_describe_from_openapi() -> None:
    definition = {
        "properties": {
            "id": {"format": "bigint", "description": "Note:\nThis is a Primary Key.<pk/>"},
            "at": {"format": "timestamp with time zone"},
            "tags": {"format": "text[]"},
        }
    }

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("rtwidgets_describe"):
            return httpx.Response(404, json={"code": "PGRST202", "message": "not found"})
        return httpx.Response(200, json={"definitions": {"t": definition}})

    info = await client_for(answer).describe("t")
    assert ([(c.name, c.type) for c in info.columns], info.key) == (
        [("id", "int8"), ("at", "timestamptz"), ("tags", "_text")],
        ("id",),
    )


@pytest.mark.parametrize(("xid", "seen"), [(9, True), (11, False), (10, True), (12, False), (5, True)])
@pytest.mark.parametrize("epoch", [0, 3 << 32])
def test_visibility(xid: int, seen: bool, epoch: int) -> None:
    snapshot = PgSnapshot.parse(f"{epoch + 10}:{epoch + 12}:{epoch + 11}")
    assert snapshot.visible(xid) is seen


def test_visibility_across_a_wraparound() -> None:
    snapshot = PgSnapshot.parse(f"{(1 << 32) + 5}:{(1 << 32) + 5}:")
    assert snapshot.visible(0xFFFFFFF0)
    assert not snapshot.visible(6)


async def test_a_token_that_the_server_calls_expired_is_asked_for_once_more() -> None:
    """Clocks differ: what is fine by ours may be over by the server's."""
    bearers: list[str | None] = []

    def answer(request: httpx.Request) -> httpx.Response:
        bearers.append(request.headers.get("authorization"))
        if bearers[-1] == "Bearer new":
            return httpx.Response(200, json=[{"id": 1}], headers={"content-range": "0-0/1"})
        return httpx.Response(401, json={"code": "PGRST303", "message": "JWT expired"})

    async def old() -> str:
        return "old"

    async def new() -> str:
        return "new"

    client = RestClient("http://project", "key", old, fresh=new)
    client._http = httpx.AsyncClient(transport=httpx.MockTransport(answer))
    assert [page.rows async for page in client.select("t")] == [[{"id": 1}]]
    assert bearers == ["Bearer old", "Bearer new"]

    stuck = RestClient("http://project", "key", old, fresh=old)
    stuck._http = client._http
    bearers.clear()
    with pytest.raises(RealtimeError) as caught:
        await stuck.describe("t")
    assert caught.value.code == "TokenExpired"
    assert "Bearer old" in bearers
    assert len(bearers) <= 2, "one for each question, none for the same token again"


async def test_a_table_is_described_anew_when_asked_again_and_its_enums_are_known() -> None:
    asked: list[str] = []
    properties: dict[str, Any] = {"id": {"format": "bigint"}, "m": {"format": 'public."mood"', "enum": ["sad", "ok"]}}

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("rtwidgets_describe"):
            return httpx.Response(404, json={"code": "PGRST202", "message": "not found"})
        asked.append(request.url.path)
        return httpx.Response(200, json={"definitions": {"t": {"properties": dict(properties)}, "u": {}}})

    client = client_for(answer)
    info = await client.describe("t")
    assert [column.type for column in info.columns] == ["int8", "public.mood"]
    assert info.labels == {"public.mood": ("sad", "ok")}
    await client.describe("u")
    assert len(asked) == 1, "one document tells of all tables"
    properties["more"] = {"format": "text"}
    assert [column.name for column in (await client.describe("t")).columns] == ["id", "m", "more"]


async def test_bytes_are_posted_as_they_are() -> None:
    sent: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        sent.append(request)
        return httpx.Response(202)

    client = client_for(answer)
    await client.broadcast("a/b c", "m?", bytearray(b"\x00\xff"), private=True)
    assert sent[0].url.raw_path == b"/realtime/v1/api/broadcast/a%2Fb%20c/events/m%3F?private=true"
    assert sent[0].headers["content-type"] == "application/octet-stream"
    assert sent[0].content == b"\x00\xff"
    for bad in ({"d": b"x"}, [1, [b"x"]], {"f": object()}):
        with pytest.raises(RealtimeError, match="cannot be sent as JSON") as caught:
            await client.broadcast("t", "m", bad)
        assert not caught.value.retryable
    assert len(sent) == 1


def no_function(request: httpx.Request) -> httpx.Response | None:
    if request.url.path.endswith("rtwidgets_describe"):
        return httpx.Response(404, json={"code": "PGRST202", "message": "not found"})
    return None


async def rows_of(client: RestClient, **options: Any) -> list[dict[str, Any]]:
    return [row async for page in client.select("t", **options) for row in page.rows]


@pytest.mark.parametrize("name", ["order", "limit", "and", "a.b", 'a"b', "a b", "A", "ü", "a,b", "a(b)", "a:b", "a\\b"])
async def test_a_column_of_any_name_is_selected_filtered_ordered_and_paged(name: str) -> None:
    """What PostgREST's grammar would read otherwise stands in double quotes."""
    rows = [{name: n} for n in range(5)]
    quoted = '"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"'

    def answer(request: httpx.Request) -> httpx.Response:
        given = request.url.params
        assert given["select"] == quoted
        assert given["order"] in (f"{quoted}.asc", f"{quoted}.desc")
        tests = given.get_list(quoted)
        assert tests[0] == "gte.1"
        found = [row for row in rows if row[name] >= 1 and all(row[name] > int(test[3:]) for test in tests[1:])]
        return httpx.Response(200, json=found[: int(given["limit"])])

    wanted = Filter((Condition(name, "gte", "1"),))
    options: dict[str, Any] = {"columns": [name], "filter": wanted, "key": [name], "page_size": 2}
    assert await rows_of(client_for(answer), **options) == rows[1:]
    assert len(await rows_of(client_for(answer), **options | {"limit": 2, "order": [(name, True)]})) == 2


async def test_pages_that_repeat_themselves_are_noticed() -> None:
    asked = 0

    def deaf(request: httpx.Request) -> httpx.Response:
        nonlocal asked
        asked += 1
        return httpx.Response(200, json=[{"id": 1}, {"id": 2}], headers={"content-range": "0-1/50010"})

    for options in ({"key": ["id"]}, {"key": ["id"], "order": [("id", True)]}):
        asked = 0
        with pytest.raises(RealtimeError, match="the same rows again and again"):
            await rows_of(client_for(deaf), **options, page_size=2)
        assert asked == 2


@pytest.mark.parametrize(
    ("answer", "retryable"),
    [
        (httpx.Response(503, json={"code": "PGRST000", "message": "no connection"}), True),
        (httpx.Response(500, json={"code": "57014", "message": "canceling statement due to statement timeout"}), True),
        (httpx.Response(500, json={"code": "40001", "message": "could not serialize"}), True),
        (httpx.Response(502, text="<html>Bad gateway</html>"), True),
        (httpx.Response(404, text="<html>Not found</html>"), True),
        (httpx.Response(302, headers={"location": "/login"}), True),
        (httpx.Response(403, text="blocked"), True),
        (httpx.Response(200, text="<html>Welcome</html>"), True),
        (httpx.Response(200, json={"not": "rows"}), True),
        (httpx.Response(200, json=[1, 2]), True),
        (httpx.Response(403, json={"code": "42501", "message": "permission denied"}), False),
        (httpx.Response(404, json={"code": "PGRST205", "message": "no such table"}), False),
        (httpx.Response(400, json={"code": "42703", "message": "no such column"}), False),
        (httpx.Response(401, json={"message": "Invalid API key"}), False),
    ],
)
async def test_only_a_definite_answer_is_final(answer: httpx.Response, retryable: bool) -> None:
    with pytest.raises(RealtimeError) as caught:
        await rows_of(client_for(lambda request: answer))
    assert caught.value.retryable is retryable
    assert caught.value.hint


@pytest.mark.parametrize(("status", "code"), [(503, "PGRST000"), (500, "57P03"), (404, "PGRST205")])
async def test_what_answers_the_description_is_no_reason_to_ask_another_question(status: int, code: str) -> None:
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.path)
        return httpx.Response(status, json={"code": code, "message": "no"})

    with pytest.raises(RealtimeError) as caught:
        await client_for(answer).describe("t")
    assert (caught.value.retryable, len(asked)) == (status >= 500, 1)


@pytest.mark.parametrize("document", [[], {}, {"definitions": 5}, "x"])
async def test_a_description_that_makes_no_sense_is_asked_for_again(document: Any) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        return no_function(request) or httpx.Response(200, json=document)

    with pytest.raises(RealtimeError) as caught:
        await client_for(answer).describe("t")
    assert (caught.value.code, caught.value.retryable) == ("BadAnswer", True)


async def test_an_answer_has_a_bound_of_bytes_and_smaller_pages_come_through(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rtwidgets.client.rest.MOST_BYTES", 20_000)
    asked: list[int] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(int(request.url.params["limit"]))
        after = int(request.url.params.get("id", "gt.0")[3:])
        rows = [{"id": n, "v": "x" * 50} for n in range(after + 1, min(after + asked[-1], 500) + 1)]
        packed = gzip.compress(json.dumps(rows).encode())
        return httpx.Response(200, content=packed, headers={"content-encoding": "gzip"})

    client = client_for(answer)
    with pytest.raises(RealtimeError) as caught:
        await rows_of(client, key=["id"], page_size=1000)
    assert (caught.value.code, caught.value.retryable) == ("AnswerTooLarge", True)
    assert len(await rows_of(client, key=["id"], page_size=200)) == 500
    assert asked[1] == 125


async def test_an_answer_that_drips_or_never_ends_has_a_bound_of_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rtwidgets.client.rest.MOST_SECONDS", 0.1)

    async def drip() -> AsyncIterator[bytes]:
        yield b"["
        while True:
            await asyncio.sleep(0.01)
            yield b" "

    client = client_for(lambda request: httpx.Response(200, content=drip()))
    with pytest.raises(RealtimeError, match="did not end within") as caught:
        await within(rows_of(client))
    assert (caught.value.code, caught.value.retryable) == ("Timeout", True)


async def test_a_schema_of_any_name_can_be_said_in_a_header() -> None:
    seen: list[bytes] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.extend(value for name, value in request.headers.raw if name.lower() == b"accept-profile")
        return httpx.Response(200, json=[])

    await rows_of(client_for(answer), schema="ünï")
    assert seen == ["ünï".encode()]


def test_types_of_other_schemas_are_told_from_postgres_own() -> None:
    columns = [
        {"name": "id", "type": "int4", "type_schema": "pg_catalog"},
        {"name": "d", "type": "Date", "type_schema": "public", "labels": ["mon"]},
        {"name": "a", "type": "_int4", "type_schema": "pg_catalog", "element": "int4"},
        {"name": "m", "type": "_mood", "type_schema": "public", "labels": ["x"]},
        {"name": "p", "type": "pos", "type_schema": "public", "base": "int4", "base_schema": "pg_catalog"},
        {"name": "q", "type": "dom", "type_schema": "s", "base": "Date", "base_schema": "public", "labels": ["mon"]},
        {"name": "l", "type": "list", "type_schema": "s", "base": "_int4", "element": "int4"},
    ]  # fmt: skip
    info = table_info({"columns": columns, "key": ["id"], "published": True, "kind": "p", "member": True, "oid": 5})
    assert [c.type for c in info.columns] == [
        "int4", 'public."Date"', "_int4", "public._mood", "public.pos", "s.dom", "s.list",
    ]  # fmt: skip
    assert info.labels == {'public."Date"': ("mon",), "public._mood": ("x",)}
    assert info.bases == {"public.pos": "int4", "s.dom": 'public."Date"', "s.list": "_int4"}
    assert (info.oid, info.kind, info.member) == (5, "p", True)


@pytest.mark.parametrize(
    ("table", "schema"), [(".", "public"), ("..", "public"), ("t", " a"), ("t", "a\n"), ("t", "a\r\nx: y"), ("t", "a ")]
)
async def test_a_name_that_http_cannot_carry_is_refused_with_the_way_out(table: str, schema: str) -> None:
    client = client_for(None)
    with pytest.raises(RealtimeError) as caught:
        _ = [page async for page in client.select(table, schema=schema)]
    assert (caught.value.code, "source=" in caught.value.hint) == ("UnsupportedName", True)
    await client.close()


def test_the_first_request_imports_nothing_large_on_the_loop() -> None:
    """A heartbeat would wait for it, seconds on a slow disk."""
    script = """
import asyncio, sys, threading
from rtwidgets.client.rest import RestClient
class Finder:
    def find_spec(self, name, path=None, target=None):
        if threading.current_thread() is threading.main_thread():
            print(name)
sys.meta_path.insert(0, Finder())
async def main():
    async def token(): return None
    try:
        async for page in RestClient("http://127.0.0.1:1", "key", token).select("t"): pass
    except Exception as error: print(type(error).__name__)
asyncio.run(main())
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=True)
    names = done.stdout.split()
    assert names[-1] == "ConnectionLostError" or "Error" in names[-1]
    large = ("httpcore", "h11", "certifi", "anyio._backends", "pyarrow", "psycopg")
    assert [name for name in names if name.startswith(large)] == []


class Pages:
    """A PostgREST with a cap on rows, whose rows change while they are read."""

    def __init__(self, keys: list[Any], cap: int) -> None:
        self.keys, self.cap = sorted(keys), cap
        self.asked: list[str] = []
        self.at_once = self.most_at_once = 0

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        self.at_once += 1
        self.most_at_once = max(self.at_once, self.most_at_once)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        self.at_once -= 1
        self.asked.append(str(request.url))
        found = self.keys
        for text in request.url.params.get_list("id"):
            op, _, value = text.partition(".")
            key = type(self.keys[0])(value)
            found = [one for one in found if (one > key if op == "gt" else one <= key)]
        start = int(request.url.params.get("offset", 0))
        found = found[start : start + min(int(request.url.params["limit"]), self.cap)]
        total = {"content-range": f"*/{len(self.keys)}"} if "prefer" in request.headers else {}
        if len(self.asked) % 5 == 0:  # some go and some come
            del self.keys[len(self.keys) * len(self.asked) // 97 % len(self.keys)]
        return httpx.Response(206, json=[{"id": one} for one in found], headers=total)


@pytest.mark.parametrize("text", [False, True])
async def test_several_stretches_of_a_table_are_read_at_once(text: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rtwidgets.client.rest_reads.STRETCH", 30)
    keys = [f"k{n:05}" if text else n for n in range(0, 3000, 3)]
    server = Pages(list(keys), 10)
    pages = [page async for page in client_for(server).select("t", key=("id",))]
    got = [row["id"] for page in pages for row in page.rows]
    assert got == sorted(set(got))
    assert set(server.keys) <= set(got) <= set(keys), "what was there all the time was read"
    assert 2 < server.most_at_once <= 5
    assert pages[0].total == len(keys)
    probes = [url for url in server.asked if "offset=29" in url]
    assert len(probes) < len(server.asked) / 3


async def test_an_error_in_one_stretch_ends_the_others() -> None:
    server = Pages(list(range(100_000)), 1000)

    async def answer(request: httpx.Request) -> httpx.Response:
        if len(server.asked) > 20:
            return httpx.Response(503, json={"message": "down"})
        return await server(request)

    with pytest.raises(RealtimeError):
        await rows_of(client_for(answer), key=("id",))
    asked = len(server.asked)
    await asyncio.sleep(0.05)
    assert len(server.asked) == asked


async def test_pages_that_repeat_end_whatever_repeats_them() -> None:
    turn = 0

    def alternate(request: httpx.Request) -> httpx.Response:
        nonlocal turn
        turn += 1
        return httpx.Response(200, json=[{"id": turn % 2}, {"id": turn % 2 + 10}])

    def deaf(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json=[{"v": 1}, {"v": 2}])

    def alike(request: httpx.Request) -> httpx.Response:
        left = 5 - int(request.url.params.get("offset", 0))
        return httpx.Response(200, json=[{"v": 1}] * min(max(left, 0), 2))

    for answer, options in ((alternate, {"key": ["id"]}), (deaf, {})):
        with pytest.raises(RealtimeError, match="again and again"):
            await rows_of(client_for(answer), **options, page_size=2)
    assert len(await rows_of(client_for(alike), page_size=2)) == 5, "rows may be alike where there is no key"


@pytest.mark.parametrize("between", [",", ",\n ", ", \n "])
async def test_a_long_page_is_decoded_in_parts(between: str) -> None:
    value = ["a,\n {b", '{"x": 1},\n {"y": 2}', 1.5, None, {"n": [1, {"m": "\n"}]}]
    rows = [{"id": n, "v": value[n % 5], "exact": "12345678901234567890"} for n in range(30_000)]
    text = f"[{between.join(json.dumps(row) for row in rows)}]"
    worked: list[float] = []

    async def beat() -> None:
        while True:
            before = time.thread_time()
            await asyncio.sleep(0)
            worked.append(time.thread_time() - before)

    client = client_for(lambda request: httpx.Response(200, content=text, headers={"content-range": "*/30000"}))
    heart = asyncio.create_task(beat())
    assert await rows_of(client, page_size=30_000) == rows
    heart.cancel()
    assert between == "," or sorted(worked)[-3] < 0.02  # the answer itself is made on this thread, too


async def test_a_value_with_a_line_break_of_its_own_is_read_whole() -> None:
    raw = '{"a": [1,\n {"b": 2}],\n "c": 3}'
    text = "[" + ",\n ".join(f'{{"id": {n}, "v": {raw}}}' for n in range(9000)) + "]"
    client = client_for(lambda request: httpx.Response(200, content=text, headers={"content-range": "*/9000"}))
    got = await rows_of(client, page_size=9000)
    assert got == [{"id": n, "v": {"a": [1, {"b": 2}], "c": 3}} for n in range(9000)]
