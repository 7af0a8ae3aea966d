"""A filter means here what it means to Postgres, for every type: what we say of a row is what Postgres says, and where
we say nothing, the table asks.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from psycopg import sql

from rtwidgets.client.client import AsyncClient
from rtwidgets.client.dsn import DsnSource, _where
from rtwidgets.client.rest import TableInfo
from rtwidgets.local.handle import Local
from rtwidgets.protocol.filter_eval import judge
from rtwidgets.protocol.filters import Condition, Filter, parse

from .live import same, table

pytestmark = pytest.mark.pg

VALUES: dict[str, list[str]] = {
    "int4": ["-1", "0", "7", "10", "2147483647"],
    "int8": ["9007199254740993", "9007199254740992", "-5"],
    "numeric": ["1.10", "1.1", "NaN", "1e20", "-0.5", "Infinity"],
    "float8": ["0.1", "0.30000000000000004", "NaN", "Infinity", "-Infinity", "1e300"],
    "float4": ["0.1", "1.5", "16777217"],
    "bool": ["true", "false"],
    "text": [
        "a", "B", "b", "Z", "é", "É", "", "a b", "100%", "a_c", "abc", "Straße", "STRASSE", "ı", "İ", "10", "9", "a\\c",
        "a\nb", "k", "\u212a", "null",
    ],
    "varchar(10)": ["a", "B ", "b"],
    "char(3)": ["a", "ab", "B"],
    "uuid": ["6f1ed002-ab5b-4c9c-b7e0-1b2c3d4e5f60", "6F1ED002ab5b4c9cb7e01b2c3d4e5f61"],
    "timestamptz": [
        "2026-01-01T00:00:00Z", "2026-01-01 02:00:00+02", "infinity", "-infinity", "0044-03-15 00:00:00+00 BC",
        "12026-01-01 00:00Z", "2026-1-5", "2026-01-01T00:00:00",
    ],
    "timestamp": ["2026-01-01T00:00:00", "2026-01-01 12:00", "infinity", "2026-01-01T00:00:00+05"],
    "date": ["2026-01-01", "2026-01-02", "infinity", "12026-01-01", "2026-1-3"],
    "time": ["10:00", "10:00:00.5", "09:59"],
    "timetz": ["10:00+02", "09:00+00"],
    "interval": ["1 day", "24:00:00", "1 mon", "30 days", "2 hours"],
    "mood": ["sad", "ok", "happy"],
    "positive": ["7", "10", "100"],
    "code": ["A", "b"],
    "inet": ["10.0.0.1", "10.0.0.1/32", "10.0.0.0/8", "9.0.0.1"],
    "money": ["12.34", "2.00", "-1"],
    "int4[]": ["{1,2}", "{10}", "{2}"],
    "int4range": ["[1,5)", "[1,4]", "[2,3)"],
    "jsonb": ['{"a": 1}', '{"a":1}', "[1]", "1", "10", "2"],
    "bytea": ["\\xdeadbeef", "\\x00"],
    "oid": ["5", "4294967295"],
    "bit(4)": ["1010", "0001"],
    "macaddr": ["08:00:2b:01:02:03", "08-00-2b-01-02-04"],
}  # fmt: skip
COMPARE = ("eq", "neq", "lt", "lte", "gt", "gte", "isdistinct")
LIKE = ("a%", "%B%", "_", "100\\%", "A_C", "é", "ı", "STRASSE", "a\\\\c", "%\\", "K")
MATCH = (
    "^a", "[[:upper:]]", "\\mab", "a{,2}", "b$", "É", "a|b", "(?i)A", "\\d+", "\\yab", "a.b", "[a-c]b?$", "^$", "*a",
    "a**", "a$", "^a.*c$", "k",
)  # fmt: skip
TOLD = frozenset(VALUES) - {
    "time", "timetz", "interval", "inet", "money", "int4[]", "int4range", "jsonb", "bytea", "bit(4)", "macaddr",
}  # fmt: skip
"""Types of which comparisons are told here, for most values."""


@pytest.fixture(scope="module")
def postgres(server: Local) -> Iterator[psycopg.Connection[Any]]:
    server.sql(
        "create type mood as enum ('sad', 'ok', 'happy'); create domain positive as int check (value > 0);"
        "create domain code as text"
    )
    with psycopg.connect(server.dsn, autocommit=True) as connection:
        yield connection
    server.sql("drop type mood cascade; drop domain positive cascade; drop domain code cascade")


def conditions(values: list[str]) -> Iterator[Condition]:
    found: list[tuple[str, Any]] = [(op, value) for op in COMPARE for value in values]
    found += [("in", tuple(values[:2])), ("in", tuple(values))]
    found += [("is", value) for value in ("null", "true", "false", "unknown")]
    found += [(op, value) for op in ("like", "ilike") for value in LIKE]
    found += [(op, value) for op in ("match", "imatch") for value in MATCH]
    for op, value in found:
        yield Condition("c", op, value)
        yield Condition("c", op, value, negated=True)


def judged(info: TableInfo, condition: Condition, rows: list[dict[str, Any]]) -> dict[int, bool | None]:
    types = {column.name: info.bases.get(column.type, column.type) for column in info.columns}
    verdict = judge(Filter((condition,)), types, info.labels, info.collated)
    return {row["id"]: verdict(row) for row in rows}


@pytest.mark.parametrize("kind", VALUES)
async def test_every_operator_of_every_type(server: Local, postgres: psycopg.Connection[Any], kind: str) -> None:
    server.sql(f"drop table if exists judged; create table judged (id int primary key, c {kind})")
    values = VALUES[kind]
    for number, value in enumerate(values):
        postgres.execute(sql.SQL("insert into judged values ({}, {})").format(number, value))
    postgres.execute("insert into judged values (999, null)")
    async with AsyncClient(server.url, server.service_key) as client:
        info = await client.rest.describe("judged")
        rows = [row async for page in client.rest.select("judged") for row in page.rows]
    assert await DsnSource(server.dsn).describe("judged") == info
    told = asked = 0
    for condition in conditions(values):
        try:
            found = postgres.execute(sql.SQL("select id from judged where ") + _where(condition)).fetchall()
        except psycopg.Error:
            continue  # Postgres has no such comparison, so no table comes to be
        for number, verdict in judged(info, condition, rows).items():
            assert verdict in (None, (number,) in found), (condition, number)
            if condition.op in COMPARE:
                told, asked = told + (verdict is not None), asked + (verdict is None)
    assert told > asked or kind not in TOLD


@pytest.mark.parametrize(
    ("kind", "values", "text"),
    [
        ("mood", ["sad", "happy", "ok"], "c=gt.sad"),
        ("positive", ["5", "10", "200"], "c=gte.10"),
        ("inet", ["10.0.0.1", "10.0.0.0/8", "9.0.0.1"], "c=gt.10.0.0.0"),
        ("interval", ["1 day", "24:00:00", "1 hour"], "c=eq.1 day"),
        ("time", ["10:00", "10:00:00.5", "09:00"], "c=lte.10:00"),
        ("text", ["Ab", "x1", "x"], "c=match.[[:digit:]]"),
        ("text", ["É", "é", "e"], "c=ilike.É"),
        ("float8", ["NaN", "1", "0"], "c=gt.0.5"),
        ("date", ["2026-01-05", "2026-01-04", "infinity"], "c=gte.2026-1-5"),
        ("text", ["a*b", "axb", "a*bc"], "c=like.a*b%"),
        ("jsonb", ["null", "1", "{}"], "c=is.null"),
        ("jsonb", ["null", "1", "{}"], "c=not.is.null"),
    ],
)
async def test_a_table_asks_where_only_postgres_knows(
    server: Local, postgres: psycopg.Connection[Any], kind: str, values: list[str], text: str
) -> None:
    server.sql(f"drop table if exists asked; create table asked (id int primary key, n int, c {kind})")
    server.publish("asked")
    server.sql("insert into asked values (0, 0, null)")
    [condition] = parse(text).conditions
    query = "select id, n from asked where " + _where(condition).as_string(postgres)
    async with table(server, "asked", filter=text, columns=["n"]) as follower:
        for number, value in enumerate(values, 1):
            postgres.execute(sql.SQL("insert into asked values ({}, 0, {})").format(number, value))
        await same(follower, server, query)
        for value in (*values, None):
            postgres.execute(sql.SQL("update asked set n = n + 1, c = {} where id < 3").format(sql.Literal(value)))
            await same(follower, server, query)
        server.sql("update asked set id = id + 100 where id = 2; delete from asked where id = 3")
        await same(follower, server, query)
        await follower.verify()
        assert follower.repaired == 0


COLLATIONS = "select collname from pg_collation where collname ~ '^(en|de)[_-]' order by length(collname)"


async def test_text_that_is_sorted_by_a_language(server: Local, postgres: psycopg.Connection[Any]) -> None:
    found = postgres.execute(COLLATIONS).fetchone()
    if found is None:
        pytest.skip("this Postgres knows no collation of a language")
    server.sql(f'create table worded (id int primary key, c text collate "{found[0]}")')
    server.publish("worded")
    server.sql("insert into worded select i, chr(96 + i) from generate_series(1, 20) i")
    filtered = table(server, "worded", filter="c=lt.C")
    async with table(server, "worded", order="c", limit=5) as first, filtered as some:
        for statement in (
            "insert into worded values (100, 'B'), (101, 'É'), (102, 'Zoo')",
            "update worded set c = 'Z' where id = 1; update worded set c = 'A' where id = 9",
            "delete from worded where id in (2, 100)",
        ):
            server.sql(statement)
            await same(first, server, "select * from worded order by c, id limit 5")
            await same(some, server, "select * from worded where c < 'C'")


async def test_the_first_rows_in_an_order_that_only_postgres_knows(
    server: Local, postgres: psycopg.Connection[Any]
) -> None:
    server.sql("create table ranked (id int primary key, c inet, m mood)")
    server.publish("ranked")
    server.sql("insert into ranked select i, ('10.0.0.' || i)::inet, 'ok' from generate_series(1, 20) i")
    by_mood, by_address = table(server, "ranked", order="m desc", limit=4), table(server, "ranked", order="c", limit=4)
    async with by_mood as moods, by_address as addresses, table(server, "ranked", order="m,id") as everything:
        for statement in (
            "insert into ranked values (100, '9.0.0.1', 'happy'), (101, '10.0.0.0/8', 'sad')",
            "update ranked set c = '::1' where id = 1; update ranked set m = 'happy' where id = 9",
            "delete from ranked where id in (2, 100)",
            "update ranked set m = 'sad' where id < 9",
        ):
            server.sql(statement)
            hosts = "select id, regexp_replace(c::text, '/(32|128)$', '') as c, m::text as m"
            await same(moods, server, f"{hosts} from ranked order by ranked.m desc, id limit 4", ordered=True)
            await same(everything, server, f"{hosts} from ranked order by ranked.m, id", ordered=True)
            await same(addresses, server, f"{hosts} from ranked order by ranked.c, id limit 4")
    server.sql("drop table ranked")


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        ("int2", ["1", "2", "3"]), ("int8", ["9007199254740993", "2", "3"]), ("text", ["a", "b,c", '("x")\\']),
        ("uuid", ["6f1ed002-ab5b-4c9c-b7e0-1b2c3d4e5f60", "6f1ed002-ab5b-4c9c-b7e0-1b2c3d4e5f61", "7" * 32]),
        ("numeric", ["1.10", "2", "1e30"]), ("float8", ["0.1", "1", "1e300"]),
        ("bytea", ["\\xdeadbeef", "\\x00", "\\xff"]), ("date", ["2026-01-01", "infinity", "2026-01-03"]),
        ("timestamptz", ["2026-01-01T00:00:00.5Z", "2026-01-02", "infinity"]),
        ("time", ["10:00", "11:00", "12:00"]), ("mood", ["sad", "ok", "happy"]), ("positive", ["1", "2", "3"]),
        ("inet", ["10.0.0.1", "10.0.0.0/8", "::1"]), ("int4range", ["[1,5)", "[7,8)", "[9,10)"]),
        ("char(3)", ["a", "b", "c"]),
        ("interval", ["1 day", "2 days", "3 days"]), ("bool", ["t", "f", ""]),
    ],
)  # fmt: skip
async def test_a_key_of_every_type(
    server: Local, postgres: psycopg.Connection[Any], kind: str, values: list[str]
) -> None:
    server.sql(f"drop table if exists keyed; create table keyed (c {kind} primary key, n int, body text)")
    server.sql("alter table keyed alter column body set storage external")
    server.publish("keyed")
    values = [value for value in values if value]

    def begin() -> None:
        for number, value in enumerate(values[1:]):
            run("insert into keyed values ({}, {}, 'y')", value, str(number))

    def run(statement: str, *parts: str) -> None:
        postgres.execute(sql.SQL(statement).format(*map(sql.Literal, parts)))  # type: ignore[arg-type]

    run("insert into keyed values ({}, 0, repeat('x', 5000))", values[0])
    large = "(select string_agg(md5(k::text), '') from generate_series(1, 40000) k)"  # more than is sent
    query, some = "select n, length(body) as size from keyed", "select n, length(body) as size from keyed where n >= 0"
    async with table(server, "keyed") as follower, table(server, "keyed", filter="n=gte.0") as filtered:
        for work in (
            begin,
            lambda: run("update keyed set n = n + 10"),
            lambda: run(f"update keyed set body = {large} where c = {{}}", values[0]),
            lambda: run("update keyed set n = -1 where c = {}", values[1]),
            lambda: run("delete from keyed where c = {}", values[0]),
        ):
            work()
            for one, asked in ((follower, query), (filtered, some)):
                await sizes_are(one, server, asked)
        for one in (follower, filtered):
            await one.verify()
            assert one.repaired == 0


async def sizes_are(follower: Any, server: Local, query: str) -> None:
    class Sizes:
        """The same table with the length of its long column in place of that."""

        status = property(lambda self: follower.status)
        error = property(lambda self: follower.error)

        @property
        def store(self) -> Any:
            return self

        def df(self) -> Any:
            frame = follower.store.df()[["n", "body"]].copy()
            return frame.assign(size=frame.pop("body").str.len().astype("Int64"))

    await same(Sizes(), server, query)  # type: ignore[arg-type]
