"""Snapshots over HTTP, against a small PostgREST."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from rtwidgets.client.rest import RestClient
from rtwidgets.protocol.errors import RealtimeError
from rtwidgets.protocol.pg_snapshot import PgSnapshot


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


async def test_pain_05_a_token_that_the_server_calls_expired_is_asked_for_once_more() -> None:
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
    assert [column.type for column in info.columns] == ["int8", "mood"]
    assert info.labels == {"mood": ("sad", "ok")}
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
