"""Rows stand in Postgres' order, and compare as in Postgres, for every type that has one; see `kinds.pg_order`."""

from __future__ import annotations

import ipaddress
import json
import random
from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import Any

import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from psycopg.sql import quote

from rtwidgets.data.column_kinds import kind_of
from rtwidgets.data.store import Store
from rtwidgets.data.view_filter import ViewFilter
from rtwidgets.local.handle import Local
from rtwidgets.protocol.messages import Column

VALUES: dict[str, list[str]] = {
    "interval": [
        "2 days",
        "10 days",
        "100 hours",
        "1 mon",
        "30 days",
        "31 days",
        "-1 day",
        "1 year 2 mons -3 days 04:05:06.789",
        "00:00:00",
        "-00:00:01",
        "infinity",
        "-infinity",
        "1 day -01:00:00",
        "23:00:00",
        "00:00:00.000001",
    ],
    "inet": [
        "10.0.0.2",
        "10.0.0.10",
        "9.0.0.1",
        "10.0.0.0/8",
        "10.0.0.0/24",
        "10.0.0.1/8",
        "::1",
        "fe80::1/64",
        "0.0.0.0/0",
        "255.255.255.255",
    ],
    "cidr": ["10.0.0.0/8", "10.0.0.0/24", "9.0.0.0/8", "10.1.0.0/16", "::/0", "2001:db8::/32", "0.0.0.0/0"],
    "money": ["5", "10", "-3", "1234567.89", "1.5", "0", "-0.01", "999.99"],
    "timetz": ["12:00+00", "12:00+02", "13:00+01", "14:00:00.5+02", "00:00+14", "23:59-12", "24:00+00", "10:00-05:30"],
    "time": ["10:00", "09:59:59.999999", "24:00", "00:00", "10:00:00.5", "10:00:00.45"],
    "int4[]": [
        "{1,2}",
        "{1}",
        "{}",
        "{1,10}",
        "{1,9}",
        "{2}",
        "{NULL}",
        "{1,NULL}",
        "{{1,2},{3,4}}",
        "{1,2,3,4}",
        "{{1},{2},{3},{4}}",
    ],
    "text[]": ["{a,b}", "{a}", "{}", "{B}", "{NULL}", "{a,NULL}", '{"a b"}', "{aa}"],
    "numeric[]": ["{NaN}", "{1.5}", "{10}", "{9}", "{Infinity}", "{-Infinity}", "{1.50,0}"],
    "interval[]": ['{"2 days"}', '{"10 days"}', '{"100 hours"}', "{}"],
    "timestamptz[]": [
        '{"2026-01-01 00:00+00"}',
        '{"0044-03-15 00:00+00 BC"}',
        "{infinity}",
        '{"20000-01-01 00:00+00"}',
    ],
    "bool[]": ["{t,f}", "{f}", "{t}", "{}"],
    "jsonb": [
        "true",
        "false",
        "0",
        "-1",
        "10",
        "9",
        "1.5",
        "1e3",
        '""',
        '"a"',
        '"B"',
        '"aa"',
        "[]",
        "[1]",
        "[1,2]",
        "[2]",
        "[null]",
        "[[]]",
        "{}",
        '{"a":1}',
        '{"b":1}',
        '{"aa":1}',
        '{"a":1,"b":2}',
        '{"a":[1]}',
        '{"a":2}',
        '{"a":null}',
        '[{"a":1}]',
        '["a"]',
    ],
    "int4range": ["[1,5)", "[1,6)", "[2,3)", "empty", "(,5)", "[1,)", "(,)", "[10,20)", "[9,10)"],
    "numrange": ["[1.5,2]", "(1.5,2]", "[1.5,2)", "empty", "(,2)", "(,2]", "[10,11]", "[1.5,)"],
    "daterange": ["[2026-01-01,2026-02-01)", "[2025-12-31,)", "(,2026-01-01)", "empty", "[0044-03-15 BC,2026-01-01)"],
    "tsrange": [
        '["2026-01-01 00:00","2026-01-02 00:00")',
        '("2026-01-01 00:00",)',
        '["2026-01-01 00:00:00.5",]',
        "empty",
    ],
    "tstzrange": ['["2026-01-01 00:00+00","2026-01-02 00:00+00")', '["2026-01-01 00:00+02",)', "empty", "(,infinity]"],
    "int4multirange": ["{}", "{[1,3),[5,8)}", "{[1,3)}", "{[1,3),[4,5)}", "{[2,3)}", "{(,1)}"],
    "char(4)": ["a", "a  ", "ab", "a b", "", "B"],
    "name": ["a", "B", "aa"],
    "xid8": ["9", "10", "1", "18446744073709551615"],
    "pg_lsn": ["0/10", "0/9", "1/0", "FF/0", "A/FFFFFFFF"],
    "macaddr": ["08:00:2b:01:02:03", "08:00:2b:01:02:0a", "ff:00:00:00:00:00"],
    "bit varying": ["1", "10", "01", "11", "", "101"],
    "uuid": [
        "00000000-0000-0000-0000-00000000000a",
        "a0000000-0000-0000-0000-000000000000",
        "00000000-0000-0000-0000-000000000009",
    ],
    "float8": ["NaN", "Infinity", "-Infinity", "0", "-0.5", "1e300", "5e-324", "10", "9"],
    "numeric": ["NaN", "Infinity", "-Infinity", "0", "-0.5", "10", "9", "1e30"],
    "date": [
        "2026-01-01",
        "0044-03-15 BC",
        "20000-01-01",
        "infinity",
        "-infinity",
        "0001-01-01",
        "4713-01-01 BC",
        "9999-12-31",
    ],
    "timestamptz": [
        "2026-01-01 00:00+00",
        "2026-01-01 01:00+02",
        "0044-03-15 00:00+00 BC",
        "20000-01-01 00:00+00",
        "infinity",
        "-infinity",
        "0001-01-01 00:00+00",
        "9999-12-31 23:59:59.999999+00",
    ],
    "timestamp": ["2026-01-01 00:00", "0001-12-31 23:59 BC", "294246-12-31 00:00", "infinity", "-infinity"],
    "bytea": ["\\x00", "\\xff", "\\x", "\\x0001"],
    "bool": ["t", "f"],
    "int8": ["9223372036854775807", "-9223372036854775808", "0", "9", "10"],
    "mood": ["low", "urgent", "high"],
    "mood[]": ["{low}", "{urgent}", "{high}", "{high,low}", "{}"],
    "deep": ["9", "10", "-1"],
    "citext": ["Ann", "bob", "ANN", "Bob", "carl"],
}
LABELS = {"mood": ("low", "high", "urgent")}
BASES = {"deep": "middle", "middle": "shallow", "shallow": "int4"}


@pytest.fixture(scope="module")
def database(server: Local) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(server.dsn, autocommit=True) as connection:
        connection.execute("set timezone to 'UTC'")
        connection.execute("drop domain if exists deep, middle, shallow; drop type if exists mood cascade")
        connection.execute("create type mood as enum ('low', 'high', 'urgent')")
        connection.execute(
            "create domain shallow as int; create domain middle as shallow; create domain deep as middle"
        )
        available = "select from pg_available_extensions where name = 'citext'"
        if connection.execute(available).fetchone() is not None:
            connection.execute("create extension if not exists citext")
        yield connection


def table(database: psycopg.Connection[Any], pg_type: str) -> tuple[Store, str]:
    """A store with all values of the type, in some order, as PostgREST gives them; and a query of the same rows."""
    if pg_type == "interval" and database.info.server_version < 170_000:
        pytest.skip("this Postgres has no infinite intervals")
    values: list[str | None] = [*VALUES[pg_type], None]
    random.Random(pg_type).shuffle(values)
    try:
        return rows_of(database, pg_type, values)
    except psycopg.errors.UndefinedObject:
        pytest.skip(f"this Postgres has no {pg_type}")


def rows_of(database: psycopg.Connection[Any], pg_type: str, values: Sequence[str | None]) -> tuple[Store, str]:
    [named] = database.execute(f"select pg_typeof(null::{pg_type})::text".encode()).fetchone() or [""]
    rows = ", ".join(f"({i}, {'null' if v is None else quote(v)})" for i, v in enumerate(values))
    query = f"(select id, v::{pg_type} as v from (values {rows}) as t(id, v)) as t"
    found = database.execute(f"select row_to_json(t)::text from {query}".encode()).fetchall()
    columns = [Column("id", "int4"), Column("v", named)]
    store = Store(columns, ["id"], numeric="decimal", labels=LABELS, bases=BASES)
    store.load([json.loads(row[0], parse_float=Decimal) for row in found])
    return store, query


def ids(database: psycopg.Connection[Any], query: str) -> list[int]:
    return [row[0] for row in database.execute(query.encode()).fetchall()]


@pytest.mark.pg
@pytest.mark.parametrize("pg_type", VALUES)
def test_rows_stand_in_the_order_of_postgres(database: psycopg.Connection[Any], pg_type: str) -> None:
    store, query = table(database, pg_type)
    collate = ' collate "C"' if pg_type in ("char(4)", "text[]") else ""
    for down, words in ((False, ""), (True, " desc")):
        want = ids(database, f"select id from {query} order by v{collate}{words}, id")
        sort = [("v", down), ("id", False)]
        assert store.window(0, 99, sort=sort)["keys"] == want
        # The same when rows come one by one into a window that is sorted already.
        again = Store(store.columns, ["id"], numeric="decimal", labels=LABELS, bases=BASES)
        again.load([])
        again.window(0, 99, sort=sort)
        for key in store:
            again.upsert([store.row(key) or {}])
        assert again.window(0, 99, sort=sort)["keys"] == want
    assert store.unordered([("v", False)]) == []


@pytest.mark.pg
@pytest.mark.parametrize("pg_type", [name for name in VALUES if name not in ("timestamptz", "timestamp", "date")])
@pytest.mark.parametrize("sign", ["<", "<=", ">", ">="])
def test_the_grid_s_filters_compare_as_postgres_does(
    database: psycopg.Connection[Any], pg_type: str, sign: str
) -> None:
    store, query = table(database, pg_type)
    collate = ' collate "C"' if pg_type in ("char(4)", "text[]") else ""
    for value in VALUES[pg_type]:
        if not value or "},{" in value:  # no filter has an empty operand; an array of several dimensions is refused
            continue
        operand = quote(value)
        want = ids(database, f"select id from {query} where v{collate} {sign} {operand}::{pg_type} order by id")
        view_filter = ViewFilter(store, "", {"v": sign + value})
        while view_filter.work():
            pass
        assert view_filter.problems == []
        assert store.window(0, 99, sort=[("id", False)], view_filter=view_filter)["keys"] == want, value


@pytest.mark.parametrize("pg_type", ["point", "json", "json[]", "some_composite", "tsvector"])
def test_a_type_without_a_known_order_says_so(pg_type: str) -> None:
    store = Store([Column("id", "int4"), Column("v", pg_type)], ["id"])
    store.load([{"id": 1, "v": "(1,2)"}, {"id": 2, "v": None}])
    assert store.unordered([("id", False), ("v", True)]) == ["v"]
    [problem] = ViewFilter(store, "", {"v": ">3"}).problems
    assert "not applied" in problem
    assert "order" in problem


@pytest.mark.parametrize(
    ("pg_type", "wrong"),
    [
        ("interval", "3 dayz"), ("interval", "soon"), ("inet", "10.0.0"), ("money", "x"), ("timetz", "12:00"),
        ("int4[]", "1,2"), ("jsonb", "{a"), ("int4range", "1..5"), ("mood", "lowest"), ("xid8", "²"), ("bool", "5"),
    ],
)  # fmt: skip
def test_an_operand_that_is_no_value_of_the_type_is_refused(pg_type: str, wrong: str) -> None:
    kind = kind_of(pg_type, labels=LABELS)
    with pytest.raises(ValueError, match=r".") as refused:
        kind.compares(">", wrong)
    assert "unpack" not in str(refused.value)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-20, 20)
    | st.floats(-2, 2, allow_nan=False)
    | st.text("aBz1 é", max_size=2),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("aBc", max_size=2), inner, max_size=3),
    max_leaves=5,
)
INTERVAL = st.tuples(
    st.integers(-3, 3), st.integers(-14, 14), st.integers(-70, 70), st.integers(-100_000, 100_000_000)
).map(lambda parts: "{} years {} mons {} days {} milliseconds".format(*parts))
RANDOM: dict[str, st.SearchStrategy[str]] = {
    "jsonb": JSON.filter(lambda value: value is not None).map(json.dumps),
    "interval": INTERVAL,
    "int4[]": st.lists(st.none() | st.integers(-3, 3), max_size=4).map(
        lambda items: "{" + ",".join("NULL" if item is None else str(item) for item in items) + "}"
    ),
    "inet": st.tuples(st.integers(0, 2**32 - 1), st.integers(0, 32)).map(
        lambda pair: f"{ipaddress.IPv4Address(pair[0])}/{pair[1]}"
    ),
    "int4range": st.tuples(st.integers(-5, 5), st.integers(0, 5), st.sampled_from(["[]", "[)", "(]", "()"])).map(
        lambda parts: f"{parts[2][0]}{parts[0]},{parts[0] + parts[1]}{parts[2][1]}"
    ),
    "timetz": st.tuples(st.integers(0, 23), st.integers(0, 59), st.integers(-12, 14)).map(
        lambda parts: f"{parts[0]:02}:{parts[1]:02}:00{parts[2]:+03}"
    ),
    "numeric": st.decimals(allow_nan=True, allow_infinity=False, places=3, min_value=-99, max_value=99).map(
        lambda value: "NaN" if value.is_nan() else str(value)
    ),
    "float8": st.floats(allow_nan=True).map(str),
}


@pytest.mark.pg
@pytest.mark.parametrize("pg_type", RANDOM)
def test_any_values_stand_in_the_order_of_postgres(database: psycopg.Connection[Any], pg_type: str) -> None:
    @settings(max_examples=25, deadline=None)
    @given(st.lists(RANDOM[pg_type], min_size=2, max_size=30), st.booleans())
    def check(values: list[str], down: bool) -> None:
        store, query = rows_of(database, pg_type, values)
        want = ids(database, f"select id from {query} order by v{' desc' if down else ''}, id")
        assert store.window(0, 99, sort=[("v", down), ("id", False)])["keys"] == want

    check()
