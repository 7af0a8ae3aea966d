"""Values of every type of Postgres: what is live equals what is read anew and what SELECT gives, whatever was updated.

Each type stands for itself, in an array, under a domain and in a row type. RTWIDGETS_SEED sets which values meet.
"""

from __future__ import annotations

import json
import math
import os
import random
import time
from datetime import date
from decimal import Decimal
from typing import Any

import pandas as pd
import psycopg
import pytest

import rtwidgets as rt
from rtwidgets.local.pool import SETTINGS, with_settings

from ..data.conftest import server as server

pytestmark = pytest.mark.pg

SEED = int(os.environ.get("RTWIDGETS_SEED", "1"))
PATIENCE = 60.0
ROWS = 6

SAMPLES: dict[str, tuple[str, ...]] = {
    "bool": ("t", "f"),
    "int2": ("0", "-32768", "32767"),
    "int4": ("0", "-2147483648", "2147483647"),
    "int8": ("0", "-9223372036854775808", "9007199254740993"),
    "numeric": ("0", "1.50", "-0.000001", "12345678901234567890.5", "NaN", "Infinity", "-Infinity"),
    "float4": ("0", "-0", "1.5", "3.4e38", "1e-40", "NaN", "Infinity"),
    "float8": ("0", "-0", "0.1", "1e308", "5e-324", "NaN", "-Infinity"),
    "money": ("0", "1234.5", "-0.01"),
    "text": ("", " ", "NULL", 'a "b" \\ c', "{a,b}", "(a,b)", "é😀", "line\nline", "null", "2026-01-01"),
    "varchar": ("", "x", "ünï"),
    "bpchar": ("", "ab", "a "),
    '"char"': ("a", "", '"'),
    "name": ("n", 'q"q', ""),
    "bytea": ("\\x", "\\x00ff", "\\x5c22"),
    "uuid": ("6f1ed002-ab5b-4c9c-b7e0-1b2c3d4e5f60",),
    "date": ("2026-02-28", "0044-03-15 BC", "infinity", "-infinity", "20000-01-01"),
    "time": ("00:00", "24:00", "12:34:56.000001"),
    "timetz": ("10:00+02", "23:59:59.5-11:30"),
    "timestamp": ("2026-02-28 00:00", "2026-02-28 12:34:56.123456", "infinity", "0044-03-15 BC", "20000-01-01"),
    "timestamptz": ("2026-02-28 00:00+02", "2026-02-28 12:34:56.123456-11:30", "-infinity", "0044-03-15 BC"),
    "interval": ("0", "1 year 2 mons -3 days 04:05:06.7", "-1 day", "100 hours"),
    "json": ('{"b": 1, "a": [1, 2.50, null]}', '"x"', "[ ]", '{"a":{"b":"c"}}', "1e2"),
    "jsonb": ('{"b": 1, "a": [1, 2.50]}', '"x"', "null", "[]", "1e2"),
    "jsonpath": ("$", "$.a[*]"),
    "xml": ("<a>b</a>", "x"),
    "inet": ("10.0.0.1", "10.0.0.1/8", "::1", "::ffff:1.2.3.4/96"),
    "cidr": ("10.0.0.0/8", "::/0"),
    "macaddr": ("08:00:2b:01:02:03",),
    "macaddr8": ("08:00:2b:01:02:03:04:05",),
    "bit": ("1", "0"),
    "varbit": ("101", ""),
    "point": ("(1,2.5)", "(-0,1e300)"),
    "line": ("{1,2,3}",),
    "lseg": ("[(0,0),(1,1)]",),
    "box": ("(2,2),(1,1)",),
    "path": ("((0,0),(1,1))", "[(0,0),(1,1)]"),
    "polygon": ("((0,0),(1,1),(1,0))",),
    "circle": ("<(0,0),1.5>",),
    "tsvector": ("'a':1 'b c'", ""),
    "tsquery": ("'a' & !'b'", ""),
    "oid": ("0", "4294967295"),
    "xid": ("0", "4294967295"),
    "xid8": ("0", "18446744073709551615"),
    "cid": ("0", "7"),
    "tid": ("(0,1)",),
    "pg_lsn": ("0/0", "16/B374D848"),
    "pg_snapshot": ("10:20:10,14",),
    "txid_snapshot": ("10:20:10,14",),
    "int2vector": ("", "1 2"),
    "oidvector": ("", "1 2"),
    "refcursor": ("c", ""),
    "aclitem": ("postgres=r/postgres",),
    "regclass": ("pg_class", "-"),
    "regtype": ("integer", "text[]"),
    "regproc": ("now",),
    "regprocedure": ("now()",),
    "regoper": ("||/",),
    "regoperator": ("+(integer,integer)",),
    "regrole": ("postgres", "-"),
    "regnamespace": ("pg_catalog", "public"),
    "regconfig": ("english",),
    "regdictionary": ("simple",),
    "regcollation": ('"C"',),
    "regdatabase": ("postgres",),
    "int4range": ("[1,5)", "empty", "(,)"),
    "int8range": ("[1,9007199254740993)",),
    "numrange": ("[1.50,2.5]", "empty"),
    "tsrange": ("[2026-01-01 00:00,2026-01-02)", "(,infinity]"),
    "tstzrange": ("[2026-01-01 00:00+02,)",),
    "daterange": ("[2026-01-01,2026-02-01)", "[0044-03-15 BC,)"),
    "int4multirange": ("{[1,3),[5,7)}", "{}"),
    "int8multirange": ("{[1,3)}",),
    "nummultirange": ("{[1.5,2.5]}",),
    "tsmultirange": ("{[2026-01-01 00:00,2026-01-02)}",),
    "tstzmultirange": ("{[2026-01-01 00:00+02,)}",),
    "datemultirange": ("{[2026-01-01,2026-02-01)}",),
    "mood": ("sad", 'a "b"', "NULL", "a,b", "(x)"),
    "odd range": ("[sad,NULL]", "empty"),
    "odd multirange": ("{[sad,NULL]}",),
}
OTHERS = frozenset({"bit", "gtsvector", "pg_node_tree", "pg_ndistinct", "pg_dependencies", "pg_mcv_list",
                    "pg_brin_bloom_summary", "pg_brin_minmax_multi_summary", "char"})  # fmt: skip
"""Types of Postgres that no column of a person has, or that SAMPLES names otherwise."""
PREPARE = """
drop table if exists every_value; drop type if exists mood, "odd range", every_row, pair cascade;
create type mood as enum ('sad', 'a "b"', 'a,b', '(x)', 'NULL'); create type pair as (x int, "y ""z" text);
create type "odd range" as range (subtype = mood, multirange_type_name = "odd multirange");
"""


def quoted(value: str) -> str:
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


def listed(values: list[str | None], delimiter: str) -> str:
    """As the text of an array."""
    return "{" + delimiter.join("NULL" if value is None else quoted(value) for value in values) + "}"


def in_row(values: list[str | None]) -> str:
    """As the text of a row."""
    return "(" + ",".join("" if value is None else quoted(value) for value in values) + ")"


def quote(kind: str) -> str:
    return f'"{kind}"' if " " in kind else kind


def exists(connection: psycopg.Connection[Any], kind: str) -> bool:
    """Whether this Postgres has the type, and can read its values: one without libxml cannot read XML."""
    try:
        for value in SAMPLES[kind]:
            connection.execute(f"select %s::{quote(kind)}".encode(), (value,))
    except (psycopg.errors.UndefinedObject, psycopg.errors.FeatureNotSupported):
        return False
    return True


@pytest.fixture
def columns(server: rt.Local) -> dict[str, str]:
    """By column, its type: each for itself, in an array, and under a domain; then a row of all and an array of rows."""
    rt.set_default_client(server.client)
    server.sql(PREPARE)
    with psycopg.connect(server.dsn, autocommit=True) as connection:
        kinds = [quote(kind) for kind in SAMPLES if exists(connection, kind)]
    made = {f"c{at}": kind for at, kind in enumerate(kinds)}
    for name, kind in made.items():
        server.sql(f"drop domain if exists d{name} cascade; create domain d{name} as {kind}")
        server.sql(f"drop domain if exists dd{name} cascade; create domain dd{name} as d{name}[]")
    server.sql(f"create type every_row as ({', '.join(f'{name} {kind}' for name, kind in made.items())}, p pair[])")
    found = dict(made)
    found |= {f"a{name}": f"{kind}[]" for name, kind in made.items()}
    found |= {f"d{name}": f"d{name}" for name in made} | {f"dd{name}": f"dd{name}" for name in made}
    return found | {"r": "every_row", "rs": "every_row[]", "ps": "pair[]"}


def some(rng: random.Random, columns: dict[str, str]) -> dict[str, str | None]:
    """A random value for each column, as text."""

    def scalar(name: str) -> str | None:
        values = SAMPLES.get(columns[name], SAMPLES.get(columns[name].strip('"'), ()))
        return rng.choice((*values, None))

    def array(name: str) -> str:
        delimiter = ";" if columns[name] == "box" else ","
        return listed([scalar(name) for _ in range(rng.randrange(4))], delimiter)

    def row() -> str:
        pairs = listed([in_row([str(rng.randrange(9)), 'a "b",'])], ",")
        return in_row([*(scalar(name) for name in plain), pairs])

    plain = [name for name in columns if name[0] == "c"]
    found: dict[str, str | None] = {}
    for name in plain:
        found |= {name: scalar(name), f"a{name}": array(name), f"d{name}": scalar(name), f"dd{name}": array(name)}
    found |= {"r": row(), "rs": listed([row(), None], ","), "ps": listed([in_row([None, ""])], ",")}
    return {name: value if rng.random() < 0.9 else None for name, value in found.items()}


def test_every_type_of_postgres_is_here(server: rt.Local) -> None:
    with psycopg.connect(server.dsn) as connection:
        found = connection.execute(
            "select typname::text from pg_type where typtype in ('b', 'r', 'm') and oid < 16384 and typcategory <> 'A' "
        ).fetchall()
    assert {row[0] for row in found} - OTHERS <= {*SAMPLES, "char"}


@pytest.mark.timeout(600)
def test_live_equals_read_anew_equals_select(server: rt.Local, columns: dict[str, str]) -> None:
    rng = random.Random(SEED)
    made = ", ".join(f"{name} {kind}" for name, kind in columns.items())
    server.sql(f"create table every_value (id int primary key, other int default 0, {made})")
    server.publish("every_value")

    def write(statement: str, id: int) -> None:
        values = some(rng, columns)
        casts = ", ".join(f"%s::{kind}" for kind in columns.values())
        with psycopg.connect(server.dsn, autocommit=True) as connection:
            connection.execute(statement.format(casts=casts, id=id).encode(), [values[name] for name in columns])

    insert = f"insert into every_value (id, {', '.join(columns)}) values ({{id}}, {{casts}})"
    update = f"update every_value set ({', '.join(columns)}) = row({{casts}}) where id = {{id}}"
    for id in range(ROWS):
        write(insert, id)
    live = [rt.LiveTable("every_value"), rt.LiveTable("every_value", source=server.dsn)]
    try:
        for table in live:
            table.wait_live(PATIENCE)
        check(server, live, columns)
        for id in range(ROWS, 2 * ROWS):
            write(insert, id)
        check(server, live, columns)
        server.sql("update every_value set other = 1 where id % 2 = 0")  # what it leaves as it was, it may leave out
        check(server, live, columns)
        for id in range(0, 2 * ROWS, 3):
            write(update, id)
        server.sql("delete from every_value where id = 1; update every_value set id = id + 100 where id = 2")
        check(server, live, columns)
    finally:
        for table in live:
            table.close()
        server.sql("drop table every_value")


def check(server: rt.Local, live: list[rt.LiveTable], columns: dict[str, str]) -> None:
    fresh = [rt.LiveTable("every_value"), rt.LiveTable("every_value", source=server.dsn)]
    with psycopg.connect(with_settings(server.dsn, SETTINGS)) as connection:
        shown = ", ".join(f"to_jsonb({name})::text" for name in columns)
        cursor = connection.execute(f"select id, other, {shown} from every_value order by id".encode())
        selected = [(row[0], row[1], *row[2:]) for row in cursor.fetchall()]
    for table in fresh:
        table.wait_live(PATIENCE)
    versions = [(row[0], row[1]) for row in selected]
    read = [one(table.df) for table in fresh]
    for table in live:
        deadline = time.monotonic() + PATIENCE
        while list(zip(table.df["id"].sort_values(), table.df.sort_values("id")["other"], strict=True)) != versions:
            assert time.monotonic() < deadline, (table.status, table.error)
            time.sleep(0.02)
        while (got := one(table.df)) != read[0] and time.monotonic() < deadline:
            time.sleep(0.02)
        for name in columns:
            assert [row[name] for row in got] == [row[name] for row in read[0]], (name, columns[name])
    assert read[0] == read[1]
    for table in fresh:
        table.close()
    for row, want in zip(read[0], selected, strict=True):
        for name, text in zip(columns, want[2:], strict=True):
            value = None if text is None else json.loads(text, parse_float=Decimal)
            assert equal(row[name], value), (name, columns[name], row[name], text)


def one(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows by id, so that equal values compare equal."""
    frame = frame.sort_values("id")
    columns = {str(name): [plain(value, frame[name].dtype) for value in frame[name].astype(object)] for name in frame}
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def plain(value: Any, dtype: Any) -> Any:
    if isinstance(value, list | dict | bytes):
        return value
    if value is pd.NaT or value is pd.NA or value is None:
        return None
    if isinstance(value, float) and math.isnan(value):  # of text, it stands for no value
        return "NaN" if pd.api.types.is_float_dtype(dtype) else None
    return value


def equal(value: Any, wanted: Any) -> bool:
    """Whether a value of a frame is what `to_jsonb` gives."""
    if value == "NaN":  # as pandas has it, a frame shows it for no value too
        return wanted in (None, "NaN")
    if value is None or wanted is None:
        return value is None and wanted is None
    if isinstance(value, bytes):
        return "\\x" + value.hex() == wanted
    if isinstance(value, pd.Timestamp):
        if isinstance(wanted, str) and (wanted.endswith(("infinity", " BC")) or not wanted[:5].endswith("-")):
            return True  # which no frame can hold: `test_column_kinds` has what it shows instead
        found = pd.Timestamp(wanted)
        return value == (found.tz_convert(value.tz) if value.tz is not None and found.tz is not None else found)
    if isinstance(value, date):
        return value.isoformat() == wanted
    if isinstance(value, bool):
        return value is wanted
    if isinstance(value, int | float | Decimal):
        return float(value) == float(wanted)
    if isinstance(value, list | dict):
        return same_json(value, wanted)
    return str(value) == wanted or same_json(loaded(str(value)), wanted)


def loaded(text: str) -> Any:
    try:
        return json.loads(text, parse_float=Decimal)
    except ValueError:
        return text


def same_json(value: Any, wanted: Any) -> bool:
    if isinstance(wanted, list):
        return len(value) == len(wanted) and all(map(same_json, value, wanted))
    if isinstance(wanted, dict):
        return isinstance(value, dict) and value.keys() == wanted.keys() and all(
            same_json(value[name], wanted[name]) for name in wanted
        )  # fmt: skip
    if isinstance(wanted, int | Decimal) and not isinstance(wanted, bool):
        return float(value) == float(wanted)
    return value == wanted or (isinstance(value, float) and str(wanted) in ("NaN", "Infinity", "-Infinity"))
