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


async def test_a_column_may_be_called_like_an_alias_of_the_query(server: Local) -> None:
    server.sql(
        "create type pair as (id int, v int);"
        'create table aliased (id int primary key, r pair, t pair, t_ float8, "row" int, v int)'
    )
    server.sql("insert into aliased values (7, row(1, 2), row(3, 4), 0.5, 5, 70)")
    want = [{"id": 7, "r": {"id": 1, "v": 2}, "t": {"id": 3, "v": 4}, "t_": 0.5, "row": 5, "v": 70}]
    async with AsyncClient(server.url, server.anon_key) as client:
        for source in (DsnSource(server.dsn), client.rest):
            assert [row async for page in source.select("aliased", key=["id"]) for row in page.rows] == want
    server.sql("drop table aliased; drop type pair")


async def test_values_do_not_depend_on_the_settings_of_the_database(server: Local) -> None:
    """As text they would be in the form that the database or the role prefers."""
    server.sql("create table formed (id int primary key, b bytea, f float8, i interval, r tstzrange, d daterange)")
    server.sql(
        "insert into formed values (1, '\\x00ff', pi(), '1 day 02:00', '[2026-01-31 00:00Z,)',"
        " '[2026-01-31,2026-02-01)')"
    )
    server.sql(
        "alter database postgres set bytea_output = 'escape'; alter database postgres set datestyle = 'German';"
        "alter database postgres set timezone = 'Asia/Tokyo'; alter database postgres set intervalstyle = 'iso_8601';"
        "alter database postgres set extra_float_digits = 0"
    )
    try:
        [row] = [row async for page in DsnSource(server.dsn).select("formed") for row in page.rows]
    finally:
        server.sql("alter database postgres reset all")
    assert row == {
        "id": 1, "b": "\\x00ff", "f": 3.141592653589793, "i": "1 day 02:00:00", "r": '["2026-01-31 00:00:00+00",)',
        "d": "[2026-01-31,2026-02-01)",
    }  # fmt: skip
    server.sql("drop table formed")


async def test_a_table_is_described_by_a_dsn_as_by_the_server(server: Local) -> None:
    server.sql(
        "create type \"Date\" as enum ('mon', 'tue'); create domain small as int; create domain smaller as small;"
        'create table told (id int primary key, d "Date", s smaller, a text[], ds "Date"[]);'
        "create view seen as select * from told"
    )
    async with AsyncClient(server.url, server.anon_key) as client:
        for name in ("told", "seen"):
            info = await DsnSource(server.dsn).describe(name)
            assert info == await client.rest.describe(name)
            assert [column.type for column in info.columns] == [
                "int4",
                'public."Date"',
                "public.smaller",
                "_text",
                "_Date",
            ]
            assert (info.labels, info.bases) == ({'public."Date"': ("mon", "tue")}, {"public.smaller": "int4"})
            assert info.kind == ("r" if name == "told" else "v")
    server.sql('drop table told cascade; drop type "Date"; drop domain small cascade')
