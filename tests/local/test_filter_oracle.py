"""What a filter keeps is what Postgres would keep: each operator of each type, by the ids of the changes sent."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest
from psycopg import sql

from rtwidgets.local.server import RealtimeServer
from rtwidgets.protocol.filters import Condition, Filter

from ..waits import received
from .client import connected, subscribed

pytestmark = pytest.mark.pg

VALUES: dict[str, list[str]] = {
    "int4": ["-1", "7", "10"],
    "int8": ["9007199254740993", "9007199254740992"],
    "numeric": ["1.10", "1.1", "NaN", "1e20", "Infinity"],
    "float8": ["0.1", "0.30000000000000004", "NaN", "-Infinity"],
    "float4": ["0.1", "16777217"],
    "bool": ["true", "false"],
    "text": ["a", "B", "é", "É", "", "a b", "100%", "a_c", "abc", "a\nb"],
    "char(3)": ["a", "ab", "B"],
    "uuid": ["6f1ed002-ab5b-4c9c-b7e0-1b2c3d4e5f60", "6F1ED002ab5b4c9cb7e01b2c3d4e5f61"],
    "timestamptz": ["2026-01-01 00:00:00Z", "2026-01-01 02:00:00+02", "infinity", "0044-03-15 00:00:00+00 BC"],
    "date": ["2026-01-01", "2026-01-02", "infinity", "12026-01-01"],
    "time": ["10:00", "09:59"],
    "interval": ["1 day", "24:00:00", "1 mon", "30 days"],
    "feeling": ["sad", "ok", "happy"],
    "positive": ["7", "10", "100"],
    "inet": ["10.0.0.1", "10.0.0.1/32", "10.0.0.0/8", "9.0.0.1"],
    "money": ["12.34", "2.00", "-1"],
    "int4[]": ["{1,2}", "{10}"],
    "int4range": ["[1,5)", "[1,4]"],
    "jsonb": ['{"a": 1}', '{"a":1}', "10", "2"],
    "bytea": ["\\xdeadbeef", "\\x00"],
    "bit(4)": ["1010", "0001"],
}
SIGNS = {"eq": "=", "neq": "<>", "lt": "<", "lte": "<=", "gt": ">", "gte": ">=", "isdistinct": "is distinct from"}
PATTERNS = {"like": "~~", "ilike": "~~*", "match": "~", "imatch": "~*"}


def conditions(values: list[str]) -> Iterator[tuple[Condition, sql.Composable]]:
    """Each condition on the column `c`, and the same in SQL."""
    found: list[tuple[Condition, sql.Composable]] = []
    for op, sign in SIGNS.items():
        found += [(Condition("c", op, value), sql.SQL(f"c {sign} {{}}").format(value)) for value in values]
    members = sql.SQL(", ").join(map(sql.Literal, values[:2]))
    found.append((Condition("c", "in", tuple(values[:2])), sql.SQL("c in ({})").format(members)))
    for op, sign in PATTERNS.items():
        found += [
            (Condition("c", op, pattern), sql.SQL(f"c {sign} {{}}").format(pattern))
            for pattern in ("a%", "%B%", "_", "É", "^a", "[[:upper:]]", "b$", "1.")
        ]
    found.append((Condition("c", "is", "null"), sql.SQL("c is null")))
    for condition, meaning in found:
        yield condition, meaning
        yield Condition("c", condition.op, condition.value, True), sql.SQL("not ({})").format(meaning)


@pytest.mark.parametrize("kind", VALUES)
async def test_each_change_goes_to_whom_postgres_would_give_it(server: RealtimeServer, pg: str, kind: str) -> None:
    values = VALUES[kind]
    async with await psycopg.AsyncConnection.connect(pg, autocommit=True) as connection:
        await connection.execute(
            "drop table if exists compared; drop type if exists feeling cascade;"
            "drop domain if exists positive cascade;"
            "create type feeling as enum ('sad', 'ok', 'happy'); create domain positive as int check (value > 0)"
        )
        table = sql.SQL("create table compared (id int primary key, c {})").format(sql.SQL(kind))
        await connection.execute(table)
        await connection.execute("alter publication supabase_realtime add table compared")
        await connection.execute("grant select on compared to anon")
        asked: list[tuple[Condition, sql.Composable]] = []
        for condition, meaning in conditions(values):
            try:
                await connection.execute(sql.SQL("select 1 from compared where {}").format(meaning))
            except psycopg.Error:
                continue  # refused when it is asked for, as by Supabase: see test_server.py
            asked.append((condition, meaning))
        assert len(asked) > 20
        async with connected(server) as ws:
            entry = {"event": "INSERT", "schema": "public", "table": "compared"}
            ids = await subscribed(ws, *({**entry, "filter": str(Filter((one,)))} for one, _ in asked), entry)
            for number, value in enumerate([*values, None]):
                await connection.execute("insert into compared values (%s, %s)", (number, value))
            for number in range(len(values) + 1):
                payload = (await received(ws))[4]
                assert payload["data"]["record"]["id"] == number
                told = set(payload["ids"])
                for (condition, meaning), own in zip(asked, ids, strict=False):
                    query = sql.SQL("select coalesce({}, false) from compared where id = {}").format(meaning, number)
                    row = await (await connection.execute(query)).fetchone()
                    assert row is not None
                    assert (own in told) is row[0], f"{condition} of {[*values, None][number]!r}"
