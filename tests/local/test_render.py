"""Values as `to_jsonb` has them, and as transcript 05 of Supabase's own server shows them."""

from __future__ import annotations

import asyncio
import json
from decimal import Decimal
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from rtwidgets.local.json_casts import render
from rtwidgets.local.pool import SETTINGS, Pool, with_settings
from rtwidgets.local.render import TYPES_QUERY, CastConverter, Types
from rtwidgets.local.server import RealtimeServer

from ..waits import within
from .client import connected, sql, subscribed
from .test_rest import get

TYPES = Types()
TYPES.load(
    [
        (16, "bool", 0, 0, ","),
        (17, "bytea", 0, 0, ","),
        (20, "int8", 0, 0, ","),
        (25, "text", 0, 0, ","),
        (114, "json", 0, 0, ","),
        (600, "point", 0, 0, ","),
        (603, "box", 0, 0, ";"),
        (701, "float8", 0, 0, ","),
        (1007, "_int8", 20, 0, ","),
        (1009, "_text", 25, 0, ","),
        (1020, "_box", 603, 0, ";"),
        (1114, "timestamp", 0, 0, ","),
        (1184, "timestamptz", 0, 0, ","),
        (1700, "numeric", 0, 0, ","),
        (29000, "positive", 0, 20, ","),
        (26, "oid", 0, 0, ","),
        (22, "int2vector", 21, 0, ","),
        (21, "int2", 0, 0, ","),
        (1001, "_bytea", 17, 0, ","),
        (29001, "blob", 0, 17, ","),
        (29002, "date", 0, 0, ","),
        (29003, "pair", 0, 0, ",", "pair", False, [["x", 20], ["y", 25]]),
        (29004, "_pair", 29003, 0, ","),
        (29005, "nothing", 0, 0, ",", "nothing", False, []),
        (29006, "hstore", 0, 0, ",", "hstore", True),
        (29007, "_hstore", 29006, 0, ","),
        (29008, "holder", 0, 0, ",", "holder", False, [["h", 29007]]),
    ]
)


@pytest.mark.parametrize(
    ("oid", "text", "rendered"),
    [
        (16, "t", "true"),
        (16, "f", "false"),
        (17, r"\xdeadbeef", '"deadbeef"'),
        (20, "-9223372036854775808", "-9223372036854775808"),
        (1700, "123456789012345678.123456789", "123456789012345678.123456789"),
        (1700, "1.500", "1.500"),
        (1700, "NaN", '"NaN"'),
        (1700, "Infinity", '"Infinity"'),
        (701, "-Infinity", '"-Infinity"'),
        (26, "42", '"42"'),
        (22, "1 2", "[1, 2]"),
        (22, "", "[]"),
        (1001, r'{"\\x01",NULL}', r'["\\x01", null]'),
        (29001, r"\x01", r'"\\x01"'),
        (29002, 'mon "day"', r'"mon \"day\""'),
        (29003, r'(3,"a ""b"" \\ c")', r'{"x": 3, "y": "a \"b\" \\ c"}'),
        (29003, "(,)", '{"x": null, "y": null}'),
        (29003, '(1,"")', '{"x": 1, "y": ""}'),
        (29003, "(1,2,3)", '"(1,2,3)"'),
        (29004, r'{"(1,a)","(2,\"b,c\")",NULL}', '[{"x": 1, "y": "a"}, {"x": 2, "y": "b,c"}, null]'),
        (29005, "()", "{}"),
        (701, "1e+20", "1e+20"),
        (25, 'héllo "q" \\ \n nl', '"héllo \\"q\\" \\\\ \\n nl"'),
        (114, '{"a": 2}', '{"a": 2}'),
        (600, "(1,2)", '"(1,2)"'),
        (1114, "2026-11-23 10:00:00.123456", '"2026-11-23T10:00:00.123456"'),
        (1114, "-infinity", '"-infinity"'),
        (1184, "2026-11-23 08:00:00.123456+00", '"2026-11-23T08:00:00.123456+00:00"'),
        (1184, "infinity", '"infinity"'),
        (1184, "0044-03-15 00:00:00+00 BC", '"0044-03-15T00:00:00+00:00 BC"'),
        (1007, "{1,2,NULL}", "[1, 2, null]"),
        (1007, "{}", "[]"),
        (1007, "{{1,2},{3,NULL}}", "[[1, 2], [3, null]]"),
        (1007, "[0:1]={5,6}", "[5, 6]"),
        (1009, '{a,"b,c",NULL,"NULL","q\\"\\\\"}', '["a", "b,c", null, "NULL", "q\\"\\\\"]'),
        (1020, "{(2,2),(1,1);(4,4),(3,3)}", '["(2,2),(1,1)", "(4,4),(3,3)"]'),
        (29000, "7", "7"),
        (4242, "of a type nobody knows", '"of a type nobody knows"'),
    ],
)
def test_a_value_is_rendered_as_supabase_renders_it(oid: int, text: str, rendered: str) -> None:
    out = TYPES.converter(oid)(text.encode()).decode()
    assert out == rendered
    json.loads(out)


def test_what_only_postgres_renders_needs_cast() -> None:
    for oid in (29006, 29007, 29008):
        converter = TYPES.converter(oid)
        assert isinstance(converter, CastConverter)
        assert converter.missing([b"v", b"v", b"w"]) == [b"v", b"w"]
        assert converter(b"v") == b'"v"'
        converter.learn({b"v": b'{"a": "1"}'})
        assert (converter(b"v"), converter.missing([b"v", b"w"])) == (b'{"a": "1"}', [b"w"])
    assert not isinstance(TYPES.converter(29004), CastConverter)


def test_a_base_type_is_named_so_that_it_cannot_be_another() -> None:
    types = Types()
    types.load([(1082, "date", 0, 0), (20000, "date", 0, 0, ",", "other.date"), (20001, "d", 0, 20000)])
    assert [types.base_name(oid) for oid in (1082, 20000, 20001)] == ["date", "other.date", "other.date"]


PREPARE = """
create extension if not exists hstore; create extension if not exists citext; create extension if not exists ltree;
drop table if exists typed; drop domain if exists d1, d2, d3, d4, d5 cascade; drop type if exists
  "Date", "Odd, ""name", public.json, pair, wrapped cascade;
create type "Date" as enum ('mon', 'a "b"'); create type public.json as enum ('ok');
create type pair as (x int, y text, "the ""z" float8, t timestamptz, b bytea, j pg_catalog.json);
create domain d1 as pair; create domain d2 as int2; create domain d3 as bytea; create domain d4 as hstore[];
create type wrapped as (p pair, ps pair[], h hstore, d "Date"); create domain d5 as d2;
create type "Odd, ""name" as (a int4[], d d3)
"""
SCALARS = {
    "float8": st.floats().map(str),
    "float4": st.floats(width=32).map(str),
    "numeric": st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**30), max_value=10**30).map(str)
    | st.sampled_from(["NaN", "Infinity", "-Infinity", "1.500"]),
    "int8": st.integers(-(2**63), 2**63 - 1).map(str),
    "oid": st.integers(0, 2**32 - 1).map(str),
    "bool": st.sampled_from(["t", "f"]),
    "text": st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])),
    "varchar": st.sampled_from(["", "NULL", "null", "{}", "()", "a,b", '"', "\\", " x "]),
    "char(4)": st.sampled_from(["", "a", "abcd"]),
    '"char"': st.sampled_from(["", "a", '"']),
    "citext": st.sampled_from(["Ann", "ANN"]),
    "name": st.sampled_from(["n", 'n"']),
    "bytea": st.binary().map(lambda value: "\\x" + value.hex()),
    "timestamptz": st.datetimes().map(str) | st.sampled_from(["infinity", "-infinity", "0044-03-15 BC"]),
    "timestamp": st.datetimes().map(str) | st.sampled_from(["infinity", "0044-03-15 BC", "294276-01-01"]),
    "date": st.dates().map(str) | st.sampled_from(["infinity", "0044-03-15 BC"]),
    "time": st.times().map(str),
    "timetz": st.times().map(lambda value: f"{value}+02"),
    "interval": st.sampled_from(["1 day -02:03:04.5", "3 mons", "0"]),
    "uuid": st.uuids().map(str),
    "pg_catalog.json": st.sampled_from(['{"b": 1, "a": [1, 2.50, null]}', '"x"', "null", "[ ]", '{"a":{"b":"c"}}']),
    "jsonb": st.sampled_from(['{"b": 1, "a": [1, 2.50, null]}', '"x"', "null"]),
    "public.json": st.just("ok"),
    '"Date"': st.sampled_from(["mon", 'a "b"']),
    "inet": st.sampled_from(["10.0.0.1", "10.0.0.1/8", "::1"]),
    "cidr": st.just("10.0.0.0/8"),
    "macaddr": st.just("08:00:2b:01:02:03"),
    "money": st.sampled_from(["1.50", "-1234.5"]),
    "bit(3)": st.just("101"),
    "point": st.just("(1,2.5)"),
    "box": st.just("(2,2),(1,1)"),
    "int4range": st.sampled_from(["[1,5)", "empty"]),
    "tstzrange": st.just("[2026-01-01 00:00+02,)"),
    "datemultirange": st.just("{[2026-01-01,2026-02-01)}"),
    "tsvector": st.just("'a':1 'b'"),
    "pg_lsn": st.just("0/16B3748"),
    "int2vector": st.sampled_from(["", "1", "1 2"]),
    "oidvector": st.sampled_from(["", "1 2"]),
    "hstore": st.sampled_from(["", "a=>1", 'a=>NULL,"b c"=>"d\\"e"']),
    "ltree": st.just("a.b"),
    "d2": st.just("7"),
    "d3": st.binary().map(lambda value: "\\x" + value.hex()),
    "d5": st.just("-7"),
}


def field(value: str | None) -> str:
    """A value within the text of a row or an array."""
    return "" if value is None else '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


def row(*fields: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.tuples(*(st.none() | one for one in fields)).map(lambda values: f"({','.join(map(field, values))})")


def listed(element: st.SearchStrategy[str], delimiter: str = ",") -> st.SearchStrategy[str]:
    flat = st.lists(st.none() | element, max_size=4).map(
        lambda values: "{" + delimiter.join("NULL" if one is None else field(one) for one in values) + "}"
    )
    nested = st.lists(element, min_size=1, max_size=2).map(
        lambda values: "{" + delimiter.join("{" + field(one) + "}" for one in values) + "}"
    )
    shifted = element.map(lambda one: "[0:0]={" + field(one) + "}")
    return flat | nested | shifted


PAIR = row(*(SCALARS[name] for name in ("d2", "text", "float8", "timestamptz", "bytea", "pg_catalog.json")))
MORE = {
    "pair": PAIR,
    "d1": PAIR,
    "pair[]": listed(PAIR),
    "d4": listed(SCALARS["hstore"]),
    "wrapped": row(PAIR, listed(PAIR), SCALARS["hstore"], SCALARS['"Date"']),
    '"Odd, ""name"': row(listed(SCALARS["d2"]), SCALARS["d3"]),
    '"Odd, ""name"[]': listed(row(listed(SCALARS["d2"]), SCALARS["d3"])),
}
PLAIN = [name for name in SCALARS if "(" not in name]
ARRAYS = {f"{name}[]": listed(SCALARS[name], ";" if name == "box" else ",") for name in PLAIN}
VALUES = SCALARS | ARRAYS | MORE


@pytest.fixture(scope="module")
def prepared(postgres: Any) -> str:
    asyncio.run(sql(postgres.dsn, PREPARE))
    return postgres.dsn


@pytest.mark.pg
@settings(
    max_examples=300,
    deadline=None,
    phases=[Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(st.sampled_from(sorted(VALUES)).flatmap(lambda name: st.tuples(st.just(name), VALUES[name])))
def test_any_value_is_what_to_jsonb_makes_of_it(prepared: str, typed: tuple[str, str]) -> None:
    name, value = typed
    with psycopg.connect(with_settings(prepared, SETTINGS), autocommit=True) as connection:
        types = Types()
        types.load(connection.execute(TYPES_QUERY.encode()).fetchall())
        query = f"select pg_typeof(v)::oid::int8, format('%%s', v), to_jsonb(v)::text from (select %s::{name} as v) x"
        found = connection.execute(query.encode(), (value,)).fetchone()
    assert found is not None
    oid, text, expected = found
    converter = types.converter(oid)

    async def rendered() -> bytes:
        pool = Pool(prepared)
        await render(pool, [converter], [(text.encode(),)])
        await pool.close()
        return converter(text.encode())

    assert exact(asyncio.run(rendered())) == (exact(expected)[2:] if name == "bytea" else exact(expected))


def exact(text: str | bytes) -> Any:
    return json.loads(text, parse_float=Decimal, parse_int=Decimal)


@pytest.mark.pg
@settings(
    max_examples=3, deadline=None, phases=[Phase.generate], suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(values=st.fixed_dictionaries(VALUES))
async def test_a_change_and_a_snapshot_have_one_value(server: RealtimeServer, pg: str, values: dict[str, str]) -> None:
    """After an insert, and after an update of another column."""
    await sql(pg, PREPARE)
    columns = {f"c{number}": name for number, name in enumerate(values)}
    async with await psycopg.AsyncConnection.connect(pg, autocommit=True) as connection:
        made = ", ".join(f"{column} {name}" for column, name in columns.items())
        await connection.execute(f"create table typed (id int primary key, v int, {made})".encode())
        await connection.execute("alter publication supabase_realtime add table typed")
        async with connected(server) as ws:
            await subscribed(ws, {"event": "*", "schema": "public", "table": "typed"})
            casts = ", ".join(f"%s::{name}" for name in columns.values())
            await connection.execute(f"insert into typed values (1, 1, {casts})".encode(), list(values.values()))
            await connection.execute("update typed set v = 2")
            live: dict[str, Any] = {}
            for v in (1, 2):
                # What an update left as it was, it may leave out.
                live |= exact(await within(ws.recv()))[4]["data"]["record"]
                (fresh,) = exact((await get(server, "typed")).text)
                for column, name in columns.items():
                    if name == "bytea":
                        fresh[column] = fresh[column][2:]
                    assert live[column] == fresh[column], (name, v)
                assert live["v"] == v
    await sql(pg, "drop table typed")
