"""Rows that are read as columns are those that are read one by one, whatever their types; and reading blocks nobody."""

from __future__ import annotations

import asyncio
import gc
import random
import time
from decimal import Decimal
from typing import Any

import pandas as pd
import psycopg
import pytest

from rtwidgets.client import copy_columns
from rtwidgets.client.client import AsyncClient
from rtwidgets.client.dsn import DsnSource
from rtwidgets.client.snapshot_source import SnapshotSource
from rtwidgets.data.first_load import rows_of
from rtwidgets.data.store import Store
from rtwidgets.local.handle import Local
from rtwidgets.protocol.errors import RealtimeError

from ..waits import until
from . import live

pytestmark = pytest.mark.pg

TYPES: dict[str, list[str]] = {
    "int2": ["0", "-32768", "32767"],
    "int4": ["0", "-2147483648", "2147483647"],
    "int8": ["0", "-9223372036854775808", "9223372036854775807", "9007199254740993"],
    "oid": ["0", "4294967295"],
    "float4": ["0.1", "-0", "NaN", "Infinity", "1e-38", "3.4028235e+38"],
    "float8": ["0.1", "-0", "NaN", "-Infinity", "5e-324", "1.7976931348623157e+308", "123456789.123456789"],
    "numeric": ["1.50", "NaN", "Infinity", "-Infinity", "123456789012345678901234567890.123456789", "0", "1e-20"],
    "numeric(12,2)": ["1.50", "NaN", "-9999999999.99", "0"],
    "bool": ["true", "false"],
    "text": ["", " ", "a\x01b\x02c", "q\"u'o", "line\nline\r\n", "\\N", "\\.", "NaN", "null", "ünï😀", "t", "x" * 3000],
    "varchar(5)": ["", "abc"],
    "char(4)": ["", "ab", "abcd"],
    '"char"': ["a", ""],
    "name": ["nom", ""],
    "bytea": ["", "\\x00ff", "\\x5c78"],
    "date": ["2026-01-31", "infinity", "-infinity", "0044-03-15 BC", "0001-01-01", "12026-01-31", "5874897-12-31"],
    "timestamp": ["2026-01-31 12:00", "infinity", "-infinity", "0044-03-15 12:00:00.5 BC", "12026-01-31", "1970-01-01"],
    "timestamptz": [
        "2026-01-31 12:00:00.123456+02",
        "infinity",
        "-infinity",
        "0044-03-15 BC",
        "9999-12-31 23:59:59+00",
    ],
    "time": ["00:00", "24:00", "12:34:56.789"],
    "timetz": ["12:00+05:30", "00:00-11"],
    "interval": ["1 day", "-3 months 2 days 04:05:06.7", "0"],
    "money": ["1.50", "-1000"],
    "uuid": ["00000000-0000-4000-8000-000000000001", "ffffffff-ffff-ffff-ffff-ffffffffffff"],
    "json": ['{"a": [1, 2.50, null]}', "null", '"text"', '{ "spaced" :\n true }', "12345678901234567890"],
    "jsonb": ['{"a": [1, 2.50, null]}', "null", '"text"', "[]", "0.10"],
    "int4[]": ["{}", "{1,NULL,-3}", "{{1,2},{3,4}}", "[0:1]={7,8}"],
    "text[]": ["{}", '{"a b",NULL,"","\\"q\\""}'],
    "timestamptz[]": ["{2026-01-31 12:00+00,infinity}"],
    "numeric[]": ["{1.50,NaN}"],
    "inet": ["10.0.0.1", "10.0.0.0/8", "::1"],
    "macaddr": ["08:00:2b:01:02:03"],
    "bit(3)": ["101"],
    "varbit": ["", "10101"],
    "int4range": ["empty", "[1,5)", "(,)"],
    "tstzrange": ["[2026-01-31,)", "empty"],
    "int8multirange": ["{}", "{[1,3),[5,9)}"],
    "point": ["(1,2)"],
    "tsvector": ["a b c", ""],
    "xid8": ["17"],
    "pg_lsn": ["0/16B3748"],
    "mood": ["sad", "so so", "happy"],
    "small": ["1", "7"],
    "words": ["{a,b}"],
    "pair": ["(1,x)", '(,"a ""b"", c")'],
    "pair[]": ['{"(1,x)",NULL}'],
    "mood[]": ["{sad,happy}"],
}


@pytest.fixture(scope="module")
def typed(server: Local) -> list[str]:
    """A table with a column of every type; each value of each, nulls among them, in no order."""
    server.sql(
        "create type mood as enum ('sad', 'so so', 'happy'); create domain small as int4 check (value < 10);"
        "create domain words as text[]; create type pair as (n int, t text)"
    )
    names = [f'c{number} % "{kind[:9]}' for number, kind in enumerate(TYPES)]
    quoted = ['"' + name.replace('"', '""') + '"' for name in names]
    made = ", ".join(f"{name} {kind}" for name, kind in zip(quoted, TYPES, strict=True))
    server.sql(f"create table typed (id int8 primary key, {made})".replace("%", "%"))
    dice = random.Random(5)
    with psycopg.connect(server.dsn, autocommit=True) as db:
        for number in range(60):
            values = [dice.choice([None, *texts]) if number else texts[0] for texts in TYPES.values()]
            marks = ", ".join(f"%s::{kind}" for kind in TYPES)
            db.execute(f"insert into typed values ({number * 3}, {marks})".encode(), values)
        for number, name in enumerate(quoted):  # each value once at least
            kind, texts = list(TYPES.items())[number]
            for at, text in enumerate(texts):
                into = f"insert into typed (id, {name}) values ({1000 + number * 100 + at}, %s::{kind})"
                db.execute(into.replace(name, name.replace("%", "%%")).encode(), [text])
    server.publish("typed")
    return names


async def loaded(source: SnapshotSource, table: str, *, arrow: bool, numeric: Any = "float", **options: Any) -> Store:
    info = await source.describe(table)
    store = Store(info.columns, info.key, numeric=numeric, bases=info.bases, labels=info.labels)
    arrived: list[Any] = []
    async for page in source.select(table, key=info.key, arrow=arrow, **options):
        assert (page.batch is not None) == arrow
        arrived += rows_of(page)
    store.load(arrived)
    return store


@pytest.mark.parametrize("numeric", ["float", "decimal"])
async def test_every_type_is_the_same_in_columns_and_in_rows(
    server: Local, typed: list[str], numeric: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    dsn = DsnSource(server.dsn)
    async with AsyncClient(server.url, server.anon_key) as client:
        want = await loaded(client.rest, "typed", arrow=False, numeric=numeric)
        assert len(want) > 190
        for size in (1, 4096, copy_columns.BLOCK):
            monkeypatch.setattr(copy_columns, "BLOCK", size)
            monkeypatch.setattr(copy_columns, "FIRST_BLOCK", size)
            for source in (dsn, client.rest):
                got = await loaded(source, "typed", arrow=True, numeric=numeric)
                assert got.columns == want.columns
                assert sorted(got.keys()) == sorted(want.keys())
                for key in want:
                    assert _comparable(got.row(key)) == _comparable(want.row(key)), (source, key)
                pd.testing.assert_frame_equal(
                    got.df().sort_values("id", ignore_index=True), want.df().sort_values("id", ignore_index=True)
                )


def _comparable(row: dict[str, Any] | None) -> dict[str, str]:
    """NaN equal to itself; a Decimal by its value, since JSON may leave zeros out."""
    values = (row or {}).items()
    return {name: repr(value.normalize() if isinstance(value, Decimal) else value) for name, value in values}


async def test_filters_orders_limits_and_columns(server: Local, typed: list[str]) -> None:
    async with AsyncClient(server.url, server.anon_key) as client:
        for source in (DsnSource(server.dsn), client.rest):
            await source.describe("typed")
            pages = source.select(
                "typed", columns=["id", typed[0]], filter="id=gt.5,id=lt.1000", order=[("id", True)], limit=3,
                key=["id"], arrow=True,
            )  # fmt: skip
            got = [row for page in [page async for page in pages] for row in page.batch.to_pylist()]
            assert [row["id"] for row in got] == [177, 174, 171]
            assert list(got[0]) == ["id", typed[0]]
            pages = source.select("typed", filter="id=in.(3,6,7)", key=["id"], arrow=True)
            assert sum([len(page) async for page in pages]) == 2
            with pytest.raises(RealtimeError, match="invalid input"):
                async for _ in source.select("typed", filter="id=eq.many", key=["id"], arrow=True):
                    pass


async def test_an_empty_table(server: Local) -> None:
    server.sql("create table nothing (id int primary key, t text)")
    server.publish("nothing")
    async with live.table(server, "nothing") as follower:
        assert len(follower.store) == 0
        assert list(follower.store.df()) == ["id", "t"]
    server.sql("drop table nothing")


@pytest.mark.parametrize("over", ["dsn", "rest"])
async def test_a_large_table_is_shown_while_it_comes_and_blocks_nobody(server: Local, over: str) -> None:
    rows = 300_000
    server.sql(
        f"create table large as select i as id, md5(i::text) as t, i * 0.5::float8 as f, now() as at, i % 7 = 0 as ok"
        f", (i % 100 / 3.0)::numeric(9, 2) as n from generate_series(1, {rows}) i;"
        "alter table large add primary key (id);"
        "grant select on large to anon"
    )
    server.publish("large")
    seen: list[tuple[int, str]] = []
    worked: list[float] = []

    async def beat() -> None:
        while True:
            before = time.thread_time()
            await asyncio.sleep(0.001)
            worked.append(time.thread_time() - before)

    async with live.table(server, "large", live=False) as follower:
        if over == "dsn":
            follower.source = DsnSource(server.dsn)
            await follower.stop()
            follower = type(follower)(follower.channel, DsnSource(server.dsn), "large", verify_every=None)
            await follower.start()
        follower.on_progress = lambda: seen.append((len(follower.store), follower.status))
        gc.disable()  # whose work is nobody's here
        heart = asyncio.create_task(beat())
        await follower.channel.subscribe()  # type: ignore[attr-defined]
        await follower.wait_live(60)
        heart.cancel()
        gc.enable()
        assert len(follower.store) == rows
        assert any(0 < count < rows and status == "catching up" for count, status in seen)
        assert sorted(worked)[-1] < 0.02
        server.sql("update large set t = 'new' where id = 77; delete from large where id = 78")
        await until(lambda: len(follower.store) == rows - 1)
        record = follower.store.row(77)
        assert record is not None
        assert record["t"] == "new"
        await follower.stop()
    server.sql("drop table large")


async def test_a_read_that_is_given_up_leaves_nothing_behind(server: Local) -> None:
    server.sql("create table given as select i as id, repeat('x', 500) as t from generate_series(1, 100000) i")
    server.sql("alter table given add primary key (id)")
    source = DsnSource(server.dsn)
    pages = source.select("given", arrow=True, columns=["id", "t"])
    assert len(await anext(pages)) > 0
    await pages.aclose()  # type: ignore[attr-defined]

    def reading() -> int:
        found = server.sql(
            "select count(*) as n from pg_stat_activity where query like 'copy%given%' and state = 'active'"
        )
        assert found is not None
        return int(found["n"].iloc[0])

    await until(lambda: reading() == 0)
    server.sql("drop table given")


async def test_how_large_a_table_is_known_before_it_is_read(server: Local) -> None:
    server.sql(
        "create table many as select i as id from generate_series(1, 3000) i; alter table many add primary key (id)"
    )
    server.sql("grant select on many to anon; analyze many")
    async with AsyncClient(server.url, server.anon_key) as client:
        for source in (DsnSource(server.dsn), client.rest):
            await source.describe("many")
            for filter, most, total in ((None, 2000, 3000), ("id=lte.2500", 2000, 2500)):
                pages = source.select("many", columns=["id"], filter=filter, key=["id"], arrow=True, max_rows=most)
                assert (await anext(pages)).total == total
                await pages.aclose()  # type: ignore[attr-defined]
    server.sql("drop table many")
