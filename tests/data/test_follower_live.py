"""The follower against the real thing: `.df` equals SELECT, whatever happens to the table, the line and the server."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from typing import Any

import psutil
import pytest
import pytest_asyncio

from rtwidgets.client.client import AsyncClient
from rtwidgets.data.follower import TableFollower
from rtwidgets.local.handle import Local
from rtwidgets.local.home import Home
from rtwidgets.local.leases import read_status
from rtwidgets.local.network import Network
from rtwidgets.protocol.errors import RealtimeError

from ..waits import until
from .live import rows_of, same, selected, table

pytestmark = pytest.mark.pg


@pytest_asyncio.fixture
async def client(server: Local) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(server.url, server.anon_key) as made:
        yield made


def make(server: Local, name: str, columns: str, *rows: str, publish: bool = True) -> None:
    server.sql(f"drop table if exists {name}; create table {name} ({columns})")
    if publish:
        server.publish(name)
    for row in rows:
        server.sql(f"insert into {name} {row}")


async def test_inserts_updates_deletes_and_truncate(server: Local) -> None:
    make(
        server, "things", "id int8 primary key, name text, n int, x float8, ok bool, at timestamptz default now()",
        "(id, name) select i, 'thing ' || i from generate_series(1, 100) i",
    )  # fmt: skip
    query = "select * from things"
    async with table(server, "things") as follower:
        first = await same(follower, server, query)
        assert len(first) == 100
        held = rows_of(first)
        for statement in (
            "insert into things values (101, 'new', 1, 0.1, true, '2026-01-01T00:00:00.000001Z')",
            "update things set n = id, x = id / 7.0, ok = id % 2 = 0 where id % 3 = 0",
            "update things set name = null where id = 4; delete from things where id between 10 and 20",
            "update things set id = 1000 + id where id in (1, 2, 3)",
            "begin; delete from things where id = 50; insert into things (id, name) values (50, 'again'); commit",
            "begin; insert into things (id) values (2000); delete from things where id = 2000; commit",
            "begin; update things set id = -1 where id = 60; update things set id = 60 where id = -1; commit",
            "truncate things; insert into things (id, name) select i, 'later' from generate_series(5, 9) i",
            "delete from things",
        ):
            server.sql(statement)
            if "truncate" in statement:  # of which Supabase sends nothing: only reading again tells
                await follower.verify()
            await same(follower, server, query)
        assert rows_of(first) == held
        assert follower.changes["type"].iloc[-1] == "DELETE"


async def test_a_filter_follows_rows_in_and_out(server: Local, client: AsyncClient) -> None:
    make(
        server, "orders", "id int primary key, region text, amount numeric(10, 2)",
        "select i, case when i % 2 = 0 then 'north' else 'south' end, i * 1.5 from generate_series(1, 40) i",
    )  # fmt: skip
    where = "where region = 'north' and amount > 10"
    filtered = table(server, "orders", client=client, filter="region=eq.north,amount=gt.10", columns=["amount"])
    async with filtered as follower:
        query = f"select id, amount from orders {where}"
        await same(follower, server, query)
        for statement in (
            "update orders set region = 'north' where id = 21",
            "update orders set region = 'south' where id = 20",
            "update orders set amount = 1 where id > 30",
            "insert into orders values (100, 'north', 11), (101, 'south', 12), (102, null, 13)",
            "update orders set id = id + 1000 where id in (22, 24, 100)",
            "delete from orders where id % 4 = 0",
        ):
            server.sql(statement)
            await same(follower, server, query)


async def test_order_and_limit(server: Local, client: AsyncClient) -> None:
    make(server, "scores", "id int primary key, score int", "select i, (i * 7919) % 101 from generate_series(1, 60) i")
    query = "select * from scores order by score desc, id limit 10"
    async with (
        table(server, "scores", client=client, order="score.desc,id", limit=10) as top,
        table(server, "scores", client=client, order="score desc") as everything,
    ):
        await same(top, server, query, ordered=True)
        for statement in (
            "insert into scores values (61, 1000), (62, 50), (63, -1)",
            "update scores set score = 500 where id = 7",
            "update scores set score = 0 where id = 61",  # falls out: a row that we never saw comes in
            "delete from scores where id in (select id from scores order by score desc limit 4)",
            "update scores set score = -score",
            "delete from scores where id > 5",
            "truncate scores",
            "insert into scores select i, i from generate_series(1, 30) i",
        ):
            server.sql(statement)
            if "truncate" in statement:
                await top.verify()
                await everything.verify()
            await same(top, server, query, ordered=True)
        frame = await same(everything, server, "select * from scores")
        assert frame["score"].is_monotonic_decreasing
    async with table(server, "scores", client=client, limit=5) as last:
        await same(last, server, "select * from scores order by id desc limit 5")
        server.sql("insert into scores values (100, 1), (101, 2)")
        frame = await same(last, server, "select * from scores order by id desc limit 5")
        assert frame["id"].tolist() == [28, 29, 30, 100, 101]


async def test_composite_keys_and_a_key_of_ones_own(server: Local, client: AsyncClient) -> None:
    make(
        server, "stock", "shop text, item text, n int, code text unique not null, primary key (shop, item)",
        "select 's' || i % 3, 'i, (\"' || i, i, 'c' || i from generate_series(1, 30) i",
    )  # fmt: skip
    server.sql("alter table stock replica identity full")
    query = "select * from stock"
    async with (
        table(server, "stock", client=client) as follower,
        table(server, "stock", client=client, key="code") as by_code,
    ):
        for statement in (
            "update stock set n = n + 100 where shop = 's1'",
            "update stock set shop = 's9' where item like '%7'",
            "delete from stock where shop = 's2'",
            "insert into stock values ('s1', 'new', 1, 'c-new')",
            "update stock set code = code || '!' where n % 5 = 0",
        ):
            server.sql(statement)
            await same(follower, server, query)
            await same(by_code, server, query)
    assert follower.key == ("shop", "item")


async def test_numbers_keep_every_digit(server: Local, client: AsyncClient) -> None:
    make(
        server, "amounts", "id int8 primary key, a numeric, b numeric(40, 20)",
        "values (9007199254740993, 123456789012345678901234567890.123456789, 1), (1, 0.1, null)",
    )  # fmt: skip
    async with table(server, "amounts", client=client, numeric="decimal") as follower:
        await same(follower, server, "select * from amounts", decimals=True)
        server.sql("update amounts set b = 12345678901234567890.12345678901234567890, a = 1e-30")
        server.sql("insert into amounts values (-9223372036854775808, 1e50, 0), (9223372036854775807, -0.0, 2)")
        await same(follower, server, "select * from amounts", decimals=True)
    async with table(server, "amounts", client=client) as follower:
        await same(follower, server, "select * from amounts")


async def test_values_that_stay_out_of_line_and_rows_too_large_to_send(server: Local, client: AsyncClient) -> None:
    make(
        server, "texts", "id int primary key, n int, body text",
        "select i, 0, string_agg(md5((i * 1000 + k)::text), '') from generate_series(1, 3) i, "
        "generate_series(1, 500) k group by i",
    )  # fmt: skip
    server.sql("alter table texts alter column body set storage external")
    server.sql("update texts set body = body || '.'")
    query = "select * from texts"
    async with (
        table(server, "texts", client=client) as follower,
        table(server, "texts", client=client, filter="n=lt.5") as some,
        table(server, "texts", client=client, filter="body=like.%.%") as by_body,
    ):
        server.sql("update texts set n = id")
        await same(follower, server, query)
        await same(by_body, server, "select * from texts where body like '%.%'")
        server.sql("update texts set n = 9 where id = 1")
        await same(some, server, "select * from texts where n < 5")
        server.sql("update texts set n = 1 where id = 1")  # comes back, without its text
        await same(some, server, "select * from texts where n < 5")
        server.sql("update texts set body = 'plain' where id = 2")
        await same(by_body, server, "select * from texts where body like '%.%'")
        large = "(select string_agg(md5(k::text), '') from generate_series(1, 40000) k)"  # 1.28 MB
        server.sql(f"insert into texts values (10, 1, {large})")
        await same(follower, server, query)
        await same(some, server, "select * from texts where n < 5")
        server.sql(f"update texts set n = 2, body = 'x' || {large} where id = 3")
        frame = await same(follower, server, query)
        assert frame["body"].str.len().max() > 2**20
        server.sql("update texts set n = 3 where id = 3; delete from texts where id = 10")
        await same(follower, server, query)
        assert len(await same(some, server, "select * from texts where n < 5")) == 3


async def test_columns_come_and_go_while_it_runs(server: Local, client: AsyncClient) -> None:
    make(server, "shapes", "id int primary key, a text", "select i, 'a' || i from generate_series(1, 5) i")
    query = "select * from shapes"
    async with table(server, "shapes", client=client) as follower:
        for statement in (
            "alter table shapes add column b int default 7",
            "insert into shapes values (6, 'six', 6)",
            "alter table shapes rename column a to c",
            "update shapes set b = 8 where id = 1",
            "alter table shapes alter column b type text using 'b' || b",
            "insert into shapes values (7, 'seven', 'x')",
            "alter table shapes drop column c",
            "delete from shapes where id = 2",
            "insert into shapes values (8, 'y')",
        ):
            server.sql(statement)
            if not statement.startswith("alter"):  # no message tells of DDL: the next change does
                await same(follower, server, query)


async def test_tables_that_cannot_be_followed_say_so(server: Local, client: AsyncClient) -> None:
    make(server, "keyless", "a int, b text", "values (1, 'x'), (1, 'x')", publish=False)
    make(server, "silent", "id int primary key", publish=False)
    for name, code in (("nothing", "UndefinedTable"), ("keyless", "NoPrimaryKey"), ("silent", "TableNotPublished")):
        async with table(server, name, client=client, live=False) as follower:
            assert (follower.status, follower.error and follower.error.code) == ("error", code)
            with pytest.raises(RealtimeError) as caught:
                await follower.wait_live()
            assert caught.value.hint


async def test_a_table_without_a_key_is_followed_as_a_log(server: Local, client: AsyncClient) -> None:
    make(server, "journal", "a int, b text", "values (1, 'x'), (1, 'x')", publish=False)
    server.sql("alter publication supabase_realtime add table journal")
    async with table(server, "journal", client=client, append_only=True) as follower:
        first = await same(follower, server, "select * from journal")
        deltas: list[Any] = []
        follower.on_delta(deltas.append)
        for i in range(5):
            server.sql(f"insert into journal select {i}, 'y' from generate_series(1, 3)")
        frame = await same(follower, server, "select * from journal")
        assert (len(first), len(frame), frame["b"].tolist()[:3]) == (2, 17, ["x", "x", "y"])
        assert sorted(key for delta in deltas for key in delta.inserted) == list(range(2, 17)), "each row once"
    async with table(server, "journal", client=client, append_only=True, limit=5, live=False) as follower:
        assert follower.error is not None
        assert "order=" in follower.error.hint
    async with table(server, "journal", client=client, append_only=True, limit=5, order="a.desc") as follower:
        server.sql("insert into journal values (100, 'top')")
        await same(follower, server, "select * from journal order by a desc limit 5")


async def test_what_no_message_told_is_found_by_comparing(server: Local, client: AsyncClient) -> None:
    """Which rows a policy shows may rest on another table."""
    make(server, "told", "id int primary key", "select generate_series(1, 10)")
    server.sql(
        "create table if not exists shown (id int primary key); insert into shown select generate_series(1, 11);"
        "grant select on shown to anon; alter table told enable row level security;"
        "create policy seen on told for select using (id in (select id from shown))"
    )
    async with table(server, "told", client=client) as follower:
        server.sql("delete from shown where id between 2 and 10; insert into told values (11)")
        await until(lambda: 11 in follower.store)
        assert len(follower.store) == 11
        await follower.verify()
        await same(follower, server, "select * from told where id in (select id from shown)")
        assert follower.repaired == 9
        await follower.verify()
        assert follower.repaired == 9
    server.sql("drop table told, shown")


async def test_a_truncated_table_is_read_again(server: Local, client: AsyncClient) -> None:
    make(server, "emptied", "id int primary key", "select generate_series(1, 10)")
    async with table(server, "emptied", client=client) as follower:
        server.sql("truncate emptied")
        await same(follower, server, "select * from emptied")
        server.sql("insert into emptied values (3); truncate emptied; insert into emptied values (1), (11)")
        await same(follower, server, "select * from emptied")


async def test_a_broken_line_heals_as_a_difference(server: Local) -> None:
    make(server, "lines", "id int primary key, n int", "select i, 0 from generate_series(1, 50) i")
    line = Network(server.url)
    line.start()
    try:
        async with AsyncClient(line.url, server.anon_key) as client, table(server, "lines", client=client) as follower:
            deltas: list[Any] = []
            seen: list[str] = []
            follower.on_delta(deltas.append)
            follower.on_status(lambda status, error: seen.append(status))
            for round in range(1, 4):
                await asyncio.to_thread(line.cut)
                await until(lambda: follower.status == "stale")
                assert len(follower.store) == len(selected(server, "select * from lines")), "the rows stay"
                server.sql(f"update lines set n = n + 1 where id <= 2; delete from lines where id = {10 + round}")
                server.sql(f"insert into lines values ({100 + round}, 0)")
                deltas.clear()
                await asyncio.to_thread(line.restore)
                await same(follower, server, "select * from lines")
                assert sum(len(delta.updated) for delta in deltas) == 2
                assert [key for delta in deltas for key in delta.inserted] == [100 + round]
                assert [key for delta in deltas for key in delta.deleted] == [10 + round]
                if round == 2:
                    follower.resume_lsn = None  # as if the server had not kept what was missed: the table is read again
            assert seen == ["stale", "catching up", "live"] * 3
    finally:
        await asyncio.to_thread(line.stop)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
async def test_postgres_goes_away_and_comes_back(server: Local, client: AsyncClient, how: signal.Signals) -> None:
    make(server, "kept", "id int primary key, n int", "select i, 0 from generate_series(1, 50) i")
    async with table(server, "kept", client=client) as follower:
        server.sql("update kept set n = 1 where id = 1")
        before = rows_of(await same(follower, server, "select * from kept"))
        state = Home("data").read_state()
        assert state is not None
        psutil.Process(read_status(state.control)["postgres_pid"]).send_signal(how)
        await until(lambda: follower.status != "live")
        assert rows_of(follower.store.df()) == before

        def write() -> bool:
            try:
                server.sql("update kept set n = n + 1; insert into kept values (100, 0) on conflict do nothing")
            except RealtimeError:
                return False
            return True

        await until(write)
        await until(lambda: follower.status == "live")
        server.sql("delete from kept where id = 2")
        await same(follower, server, "select * from kept")


TYPES = (
    "i2 int2, i4 int4, i8 int8, o oid, n numeric, n2 numeric(10, 2), f4 float4, f8 float8, b bool, t text,"
    " v varchar(20), c char(3), u uuid, tz timestamptz, ts timestamp, d date, tm time, tmz timetz, iv interval,"
    " j json, jb jsonb, by bytea, ia int4[], i8a int8[], ta text[], fa float8[], ba bool[],"
    " na numeric[], ma int4[], m mood, mm mood[],"
    " pos positive, code code, ir int4range, tr tstzrange, nr numrange, mr int4multirange, inet inet, cidr cidr,"
    " mac macaddr, pt point, bx box, bt bit(4), vb varbit, mo money, ts_v tsvector"
)
SHOWN = {"inet": "host(inet) as inet", "mm": "to_json(mm) as mm", "na": "to_json(na) as na"}
for _name in (
    "tm",
    "tmz",
    "iv",
    "m",
    "code",
    "ir",
    "tr",
    "nr",
    "mr",
    "cidr",
    "mac",
    "pt",
    "bx",
    "bt",
    "vb",
    "mo",
):
    SHOWN[_name] = f"{_name}::text"  # what has no Python type of its own stands in the frame as Postgres writes it
SHOWN["ts_v"] = "ts_v::text"
ROWS = (
    "(1, -3, 2147483647, 9007199254740993, 4294967295, 12345.5, -0.01, 1.5, 0.1, true, 'héllo \"q\" \\ ' || chr(10),"
    " 'v', 'c', '6f1ed002-ab5b-4c9c-b7e0-1b2c3d4e5f60', '2026-11-23T08:00:00.123456+02', '2026-11-23T08:00:00.5',"
    " '2026-11-23', '10:00:00.5', '10:00+02', '1 day 02:03:04', '{\"a\": [1, null]}', '{\"b\": {\"c\": 1.5}}',"
    " '\\xdeadbeef', '{1,2,null}', '{9007199254740993}', '{a,\"b,c\",null,\"\"}', '{0.1,-2}', '{t,f,null}', '{1.10,2}',"
    " '{{1,2},{3,4}}', 'happy', '{sad,happy}', 7, 'AB', '[1,5)', '[2026-01-01,)', '(1.5,2]', '{[1,3),[5,7)}',"
    " '10.0.0.1', '10.0.0.0/8', '08:00:2b:01:02:03', '(1,2)', '(1,1),(0,0)', '1010', '101', '12.34',"
    " 'a b')"
)


async def test_every_type_arrives_by_snapshot_and_by_change_as_select_has_it(
    server: Local, client: AsyncClient
) -> None:
    server.sql(
        "create type mood as enum ('sad', 'happy'); create domain positive as int check (value > 0);"
        "create domain code as text"
    )
    make(server, "types", f"id int primary key, {TYPES}", f"values {ROWS}", "(id) values (2)")
    names = [column.name for column in (await client.rest.describe("types")).columns]
    shown = ", ".join(SHOWN.get(name, name) for name in names)
    async with table(server, "types", client=client) as follower:
        loaded = follower.store.df()
        server.sql(f"insert into types values {ROWS.replace('(1,', '(3,', 1)}; insert into types (id) values (4)")
        await until(lambda: len(follower.store) == 4)
        frame = follower.store.df()
        assert frame.dtypes.equals(loaded.dtypes)
        got, want = rows_of(frame), selected(server, f"select {shown} from types order by id")
        # A change says the same as the snapshot ...
        for loaded_row, changed_row in zip(got[:2], got[2:], strict=True):
            assert {n: (v, changed_row[n]) for n, v in loaded_row.items() if n != "id" and changed_row[n] != v} == {}
        # ... and both what SELECT says, natively or as text.
        differ = {n: (got[0][n], want[0][n]) for n in names if got[0][n] != want[0][n]}
        assert differ == {}
        assert all(value is None for name, value in got[1].items() if name != "id")
        server.sql("update types set t = 'again', pos = 8 where id in (1, 2)")
        await until(lambda: follower.store.df()["t"].tolist()[:2] == ["again"] * 2)
        server.sql("update types set t = 'again', pos = 8 where id in (3, 4)")
        await until(lambda: follower.store.df()["t"].tolist() == ["again"] * 4)
        assert (
            rows_of(follower.store.df().drop(columns="id"))[:2] == rows_of(follower.store.df().drop(columns="id"))[2:]
        )


async def test_a_second_table_over_the_same_rows_disturbs_the_first_in_nothing(
    server: Local, client: AsyncClient
) -> None:
    make(server, "shared", "id int primary key, n int", "select i, 0 from generate_series(1, 5) i")
    async with table(server, "shared", client=client) as first:
        channel = first.channel
        seen: list[str] = []
        first.on_status(lambda status, error: seen.append(status))
        second = TableFollower(channel, client.rest, "shared", filter="n=gt.0", verify_every=None)
        await second.start()
        await second.wait_live()
        server.sql("update shared set n = id - 3")
        await same(first, server, "select * from shared")
        await same(second, server, "select * from shared where n > 0")
        assert seen == []
        assert channel.rejoins == 0  # type: ignore[attr-defined]
        assert client._socket is not None
        client._socket.abort()
        server.sql("update shared set n = n + 1")
        await until(lambda: "live" in seen)
        await same(first, server, "select * from shared")
        await same(second, server, "select * from shared where n > 0")
        assert seen == ["stale", "catching up", "live"], "both go on where they were"
        await second.stop()
        server.sql("delete from shared where id = 1")
        await same(first, server, "select * from shared")


async def test_a_key_that_changes_carry_no_more_of_than_its_new_value(server: Local, client: AsyncClient) -> None:
    """Another index identifies the rows, or another key was asked for: the row before has not the key."""
    make(server, "renamed", "id int primary key, code text not null unique, v int", "values (1, 'a', 0), (2, 'b', 0)")
    async with table(server, "renamed", client=client, key="code") as by_code:
        server.sql("update renamed set code = 'c' where id = 1")
        await same(by_code, server, "select * from renamed")
        server.sql("delete from renamed where id = 2")
        await same(by_code, server, "select * from renamed")
    server.sql("alter table renamed replica identity using index renamed_code_key")
    async with table(server, "renamed", client=client) as follower:
        for statement in (
            "update renamed set id = 10", "insert into renamed values (11, 'd', 1)", "update renamed set v = v + 1",
            "update renamed set id = id + 100, code = code || '!'", "delete from renamed where code = 'd!'",
        ):  # fmt: skip
            server.sql(statement)
            await same(follower, server, "select * from renamed")
