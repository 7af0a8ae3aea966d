"""Names of all awkward sorts, for schema, table, column, type, label and key, on every way that a table takes.

Each round makes one table of such names and compares what every view of it shows with what SELECT gives.
RTWIDGETS_NAME_ROUNDS sets the number of rounds (96 try each name in each role), RTWIDGETS_SEED which names meet.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import rtwidgets as rt
from rtwidgets.client.client import AsyncClient
from rtwidgets.client.thread import io_loop
from rtwidgets.tools.tail import tail_table

from ..data.conftest import server as server
from ..data.live import in_order, rows_of, selected

pytestmark = pytest.mark.pg

ROUNDS = int(os.environ.get("RTWIDGETS_NAME_ROUNDS", "11"))
SECONDS = 60.0
"""No round begins after them."""
PATIENCE = 60.0
"""Seconds within which everything comes, however slow the machine."""
SEED = int(os.environ.get("RTWIDGETS_SEED", "1"))

NAMES = (
    # SQL's keywords, and what our own SQL calls things
    "select", "order", "table", "user", "from", "where", "group", "r", "s", "t", "c", "oid",
    # PostgREST's parameters and words
    "limit", "offset", "and", "or", "not", "columns", "on_conflict", "apikey", "select.limit", "not.and", "in", "is",
    "asc", "a.desc", "and(b.eq.1)", "a->b", "a->>b", "a::int", "rpc", "*", "eq.1",
    # signs
    'quo"te', "apo'strophe", "dot.ted", ".", "..", "com,ma", "co:lon", "(par)", "per%cent", "%2e", "%s", "{brace}",
    "back\\slash", "a/b", "a?b&c=d", "a=b", "a#b", "semi;colon", "--", "$1", "new\nline", "tab\tbed", "<b>", "&amp;",
    " blanks ", "Mixed", "1digit", "-", "+", "@", "null", "true",
    # letters
    "ünïcödé", "名前", "😀", "e\u0301", "ß" * 31,
    # JavaScript's, pandas' and Python's
    "__proto__", "constructor", "toString", "length", "hasOwnProperty", "index", "values", "count", "size", "dtype",
    "self", "class", "None", "lambda", "__class__", "level_0",
    # ours
    "_id", "id", "key", "type", "commit_timestamp", "record", "old_record", "errors", "schema", "data",
)  # fmt: skip
LABELS = ("sad", "NULL", "a,b", 'q"q', "(x)", "", " ", "\\", "é", "not.x")
"""Of an enum, in its order."""


class Awkward(NamedTuple):
    """The names of one round. Of `columns`, the first two are the key; the kinds are those of `KINDS`."""

    schema: str
    table: str
    type: str
    columns: tuple[str, ...]
    result: str


KINDS = ("int4", "text", "int4", "int8", "text", "float8", "jsonb", "text[]", "enum")


def names_of(number: int) -> Awkward:
    """Each name is a column in one of eleven rounds in a row, and each name in each role in as many as there are."""
    names = list(NAMES)
    random.Random(SEED).shuffle(names)
    at = number * len(KINDS)
    turned = [names[(at + i) % len(names)] for i in range(len(names))]
    columns = tuple(turned[: len(KINDS)])
    schema, table, kind, result = (names[(number + shift) % len(names)] for shift in (0, 17, 31, 47))
    result = next(name for name in (result, *turned[len(KINDS) :]) if name not in columns)
    if table in (".", ".."):  # which no URL can carry
        table += "x"
    return Awkward("public" if number % 2 else schema.strip().replace("\n", ""), table, kind, columns, result)


def q(*names: str) -> str:
    """As SQL writes it."""
    return ".".join('"' + name.replace('"', '""') + '"' for name in names)


def until(condition: Callable[[], object], what: object = "it") -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not happen in time"
        time.sleep(0.01)


class Shown:
    """A live table, and the SELECT that it must equal."""

    def __init__(self, what: str, table: rt.LiveTable, query: str, *, ordered: bool = False) -> None:
        self.what, self.table, self.query = what, table, query
        self._arrange: Any = list if ordered else in_order

    def check(self, server: rt.Local) -> None:
        want = self._arrange(selected(server, self.query))
        try:
            until(lambda: self.table.status == "live" and self._arrange(rows_of(self.table.df)) == want)
        except AssertionError:
            assert (self.table.status, self.table.error) == ("live", ""), self.what
            assert self._arrange(rows_of(self.table.df)) == want, self.what
            raise


@pytest.fixture
def using(server: rt.Local) -> rt.Local:
    rt.set_default_client(server.client)
    return server


@pytest.mark.timeout(600)
def test_a_table_of_any_names_is_what_select_gives(using: rt.Local, tmp_path: Path) -> None:
    started = time.monotonic()
    for number in range(ROUNDS):
        if number and ROUNDS < 12 and time.monotonic() - started > SECONDS:
            break
        names = names_of(number)
        print(f"round {number} of seed {SEED}: {names}")
        one_round(using, names, tmp_path / f"{number}.jsonl")


def one_round(server: rt.Local, names: Awkward, path: Path) -> None:
    a, b, n, big, words, _, doc, several, mood = names.columns
    name, mood_type = q(names.schema, names.table), q(names.schema, names.type)
    kinds = [mood_type if kind == "enum" else kind for kind in KINDS]
    made = ", ".join(f"{q(column)} {kind}" for column, kind in zip(names.columns, kinds, strict=True))
    labels = ", ".join("'" + label + "'" for label in LABELS)
    server.sql(
        f"create schema if not exists {q(names.schema)}; grant usage on schema {q(names.schema)} to anon;"
        f"drop table if exists {name}; drop type if exists {mood_type};"
        f"create type {mood_type} as enum ({labels});"
        f"create table {name} ({made}, primary key ({q(a)}, {q(b)})); grant select on {name} to anon;"
        f"alter table {name} replica identity full"
    )
    values = [LABELS[i % len(LABELS)] for i in range(len(NAMES))]

    def insert(key: int) -> None:
        server.sql(
            f"insert into {name.replace('%', '%%')} values (%s, %s, %s, %s, %s, %s, %s, %s, %s)",
            key, NAMES[key], key % 7, 2**53 + key, NAMES[-key], key / 4, json.dumps({NAMES[key]: key}),
            [NAMES[key], values[key]], values[key],
        )  # fmt: skip

    for key in range(1, 12):
        insert(key)
    server.publish(name)
    common: dict[str, Any] = {"schema": names.schema}
    over_dsn = {**common, "source": server.dsn}
    where = rt.where(n, "gte", 2) & rt.where(mood, "gte", "a,b") & rt.where(words, "neq", NAMES[-3])
    condition = f"{q(n)} >= 2 and {q(mood)} >= 'a,b' and {q(words)} <> '{NAMES[-3]}'"
    as_text = f'"{n}"=gte.2' if '"' not in n and "\\" not in n else str(rt.where(n, "gte", 2))
    ordered, by = f"{q(n)} desc, {q(a)}", f"{q(n)} desc, {q(a)}"
    pair = (NAMES[3], NAMES[5])
    within = rt.where(b, "in", pair)
    shown: list[Shown] = []

    def show(what: str, query: str, *, sorted: bool = False, **options: Any) -> None:
        shown.append(Shown(what, rt.LiveTable(names.table, **options), query, ordered=sorted))

    few = [doc, n, several]
    listed = ", ".join(q(column) for column in names.columns if column in (a, b, *few))
    for what, given in (("REST", common), ("DSN", over_dsn)):
        show(what, f"select * from {name}", **given)
        show(f"{what}, filter", f"select * from {name} where {condition}", filter=where, **given)
        show(f"{what}, filter as text", f"select * from {name} where {q(n)} >= 2", filter=as_text, **given)
        show(f"{what}, in", f"select * from {name} where {q(b)} in ('{pair[0]}', '{pair[1]}')", filter=within, **given)
        top = f"select * from {name} order by {by} limit 5"
        show(f"{what}, order and limit", top, sorted=True, order=ordered, limit=5, **given)
        show(f"{what}, order", f"select * from {name} order by {by}", sorted=True, order=ordered, **given)
        show(f"{what}, columns", f"select {listed} from {name}", columns=few, **given)
        show(f"{what}, key", f"select * from {name}", key=[big], **given)
        last = f"select * from (select * from {name} order by {q(a)} desc, {q(b)} desc limit 3) x"
        show(f"{what}, limit", last, limit=3, **given)
    events = rt.LiveTable(names.table, source="events", schema=names.schema)
    tables = [events, *(one.table for one in shown)]
    whole = shown[0].table
    lines, reports = list[str](), list[str]()
    tailing = asyncio.run_coroutine_threadsafe(tail(server, names, n, lines, reports), io_loop())
    try:
        for one in shown:
            one.table.wait_live(PATIENCE)
            one.check(server)
        events.wait_live(PATIENCE)
        groups = whole.group_by([mood, n]).agg(**{names.result: (big, "sum"), "n" + names.result: (words, "count")})
        until(lambda: "live" in reports, reports)
        with (
            rt.record(whole, path) as by_table,
            rt.record(names.table, path.with_suffix(".named"), schema=names.schema) as by_name,
        ):
            # `limit` without an order keeps what came last, which SELECT does not know
            for key in range(12, 20):
                insert(key)
            server.sql(f"update {name} set {q(n)} = {q(n)} + 1 where {q(a)} < 5")
            server.sql(f"update {name} set {q(a)} = 100 + {q(a)} where {q(a)} = 19")
            server.sql(f"delete from {name} where {q(a)} = 6")
            for one in shown:
                if not one.what.endswith("limit") or "order" in one.what:
                    one.check(server)
            until(lambda: len(events.df) == 14, "every event")
            until(lambda: by_table.count >= 14 and by_name.count >= 14, "the recordings")
        until(lambda: any('"DELETE"' in line for line in lines), "the last line of the tail")
        assert sum('"INSERT"' in line for line in lines) == sum(key % 7 >= 2 for key in range(12, 20))
        assert events.df[names.columns[1]].tolist()[:8] == [NAMES[key] for key in range(12, 20)]
        grouped = whole.df.groupby([mood, n], observed=True)
        totals = grouped.agg(total=(big, "sum"), count=(words, "count")).reset_index()
        totals.columns = [mood, n, names.result, "n" + names.result]
        assert groups.df.to_dict("records") == totals.to_dict("records")
        found = rt.doctor(names.table, schema=names.schema)
        assert found.ok, found
        assert {finding.status for finding in found.findings} == {"ok"}, found
    finally:
        tailing.cancel()
        for table in tables:
            table.close()
    rows = selected(server, f"select * from {name}")
    for recorded in (path, path.with_suffix(".named")):
        check_replay(recorded, names, rows, as_text)
    server.sql(f"drop table {name}; drop type {mood_type}")


async def tail(server: rt.Local, names: Awkward, column: str, lines: list[str], reports: list[str]) -> None:
    async with AsyncClient(server.url, server.anon_key) as client:
        text = str(rt.where(column, "gte", 2))
        await tail_table(
            client, names.table, schema=names.schema, filter=text, write=lines.append, report=reports.append
        )


def check_replay(path: Path, names: Awkward, rows: list[dict[str, Any]], filter: str) -> None:
    """What was recorded is the table, also filtered, sorted and cut by the replay."""
    a, b, n, *_, doc, several, _ = names.columns
    with rt.replay(path, speed=float("inf")) as player:
        common: dict[str, Any] = {"schema": names.schema, "client": player.client}
        tables = [
            rt.LiveTable(names.table, **common),
            rt.LiveTable(names.table, filter=filter, **common),
            rt.LiveTable(names.table, filter=rt.where(n, "in", [2, 3]), **common),
            rt.LiveTable(names.table, order=f"{q(n)} desc, {q(a)}", limit=5, **common),
            rt.LiveTable(names.table, columns=[doc, several], **common),
        ]
        for table in tables:
            table.wait_live(PATIENCE)
        player.wait(PATIENCE)
        expected = [
            rows,
            [row for row in rows if row[n] >= 2],
            [row for row in rows if row[n] in (2, 3)],
            sorted(rows, key=lambda row: (-row[n], row[a]))[:5],
            [{name: row[name] for name in names.columns if name in (a, b, doc, several)} for row in rows],
        ]
        for table, want in zip(tables, expected, strict=True):
            until(lambda t=table, w=want: t.status == "live" and in_order(rows_of(t.df)) == in_order(w), path.name)
            table.close()
