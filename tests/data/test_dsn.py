"""Rows over a DSN are those that PostgREST's way gives, whatever the filter."""

from __future__ import annotations

from typing import Any

import pytest

from rtwidgets.client.client import AsyncClient
from rtwidgets.client.dsn import DsnSource
from rtwidgets.local.handle import Local
from rtwidgets.protocol.errors import RealtimeError

pytestmark = pytest.mark.pg

FILTERS = [
    None, "n=gt.3", "n=not.gt.3", "n=lte.3,name=like.b%", "name=ilike.B%", "name=in.(a1,\"it's, 'q'\",b4)", "n=is.null",
    "n=not.is.null", "ok=is.true", "ok=not.is.true", "ok=is.unknown", "name=match.^a[12]$", "name=imatch.^A1",
    "n=isdistinct.3", "n=not.isdistinct.3", "name=neq.a1", "at=gte.2026-01-02T00:00:00Z", "name=eq.a%s{}",
]  # fmt: skip


async def read(source: Any, **options: Any) -> list[Any]:
    return [row async for page in source.select("picked", **options) for row in page.rows]


async def test_every_filter_order_and_limit(server: Local) -> None:
    server.sql("create table picked (id int primary key, name text, n int, ok bool, at timestamptz)")
    server.sql(
        "insert into picked select i, case when i % 2 = 0 then 'b' else 'a' end || i, nullif(i, 5), "
        "case i % 3 when 0 then true when 1 then false end, timestamptz '2026-01-01Z' + i * interval '6 hours' "
        "from generate_series(1, 12) i; insert into picked values (90, 'it''s, ''q''', 1), (91, 'a%s{}', 2)"
    )
    source = DsnSource(server.dsn)
    async with AsyncClient(server.url, server.anon_key) as client:
        for text in FILTERS:
            want = await read(client.rest, filter=text, key=["id"])
            got = await read(source, filter=text, order=[("id", False)], page_size=5)
            assert got == want, text
            assert text is None or 0 < len(got) < 14, text
            some = await read(source, filter=text, order=[("id", True)], limit=2, columns=["id"])
            assert some == [{"id": row["id"]} for row in reversed(want)][:2], text
    with pytest.raises(RealtimeError, match="could not be read"):
        await read(source, filter="n=eq.many")
    with pytest.raises(RealtimeError) as caught:
        await DsnSource("postgresql://x:topsecret@127.0.0.1:1/db").describe("picked")
    assert "topsecret" not in repr(caught.value) + str(caught.value)
    server.sql("drop table picked")
