"""Random DDL while live: after each statement a table equals SELECT again, or it is not `live` and says why.

RTWIDGETS_DDL_STEPS sets the number of statements, RTWIDGETS_SEED which they are.
"""

from __future__ import annotations

import json
import os
import random
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import psycopg
import pytest

import rtwidgets as rt
from rtwidgets.local.network import Network

from ..data.conftest import server as server
from ..data.live import in_order, rows_of

pytestmark = pytest.mark.pg

STEPS = int(os.environ.get("RTWIDGETS_DDL_STEPS", "40"))
SEED = int(os.environ.get("RTWIDGETS_SEED", "1"))
SECONDS = 60.0
"""No step begins after them."""
PATIENCE = 60.0
"""Seconds within which a table is right again, however slow the machine."""

COLUMNS = "id int primary key, v int, m mood, ms mood[], p pair, ps pair[], d small, note text default 'n'"
REMAKE = "drop table if exists drifting; create table drifting ({columns}); grant select on drifting to anon;"
PUBLISH = "alter publication supabase_realtime add table drifting"
VERBS = "alter publication supabase_realtime set (publish = '{}')"
STATEMENTS = (
    "alter table drifting add column x1 int",
    "alter table drifting add column x2 text default 'given'",
    "alter table drifting add column x3 int generated always as (id * 2) stored",
    "alter table drifting add column x4 small",
    "alter table drifting drop column x1",
    "alter table drifting drop column x2, drop column if exists x3",
    "alter table drifting rename column v to w",
    "alter table drifting rename column w to v",
    "alter table drifting alter column v type text using 'v' || v",
    "alter table drifting alter column v type int using length(v::text)",
    "alter table drifting alter column v type int using coalesce(v, 0) + 1",
    "alter table drifting alter column note type varchar(3) using left(note, 1)",
    "alter table drifting alter column id type bigint",
    "alter table drifting rename to drifted",
    "alter table drifted rename to drifting",
    "alter table drifting set schema elsewhere",
    "alter table elsewhere.drifting set schema public",
    f"{REMAKE.format(columns=COLUMNS)} {PUBLISH}; insert into drifting values (5, 5)",
    f"{REMAKE.format(columns='id int primary key, other text')} {PUBLISH}",
    "drop table drifting",
    "alter type mood rename value 'sad' to 'blue'",
    "alter type mood rename value 'blue' to 'sad'",
    "alter type mood add value if not exists 'calm' before 'ok'",
    "alter type mood rename to moods",
    "alter type moods rename to mood",
    "alter type pair add attribute z int",
    "alter type pair drop attribute z",
    "alter type pair rename attribute y to yy",
    "alter type pair rename attribute yy to y",
    "alter publication supabase_realtime drop table drifting",
    PUBLISH,
    "alter publication supabase_realtime set table drifting (id, v)",
    "alter publication supabase_realtime set table drifting where (id > 5)",
    "alter publication supabase_realtime set table drifting",
    VERBS.format("insert, update"),
    VERBS.format("insert"),
    VERBS.format("insert, update, delete, truncate"),
    "alter table drifting drop constraint drifting_pkey",
    "alter table drifting add primary key (id)",
    "alter table drifting drop constraint drifting_pkey, add primary key (id)",
    "alter table drifting replica identity full",
    "alter table drifting replica identity default",
    "alter table drifting replica identity nothing",
    "truncate drifting",
    "truncate drifting; insert into drifting (id) values (77)",
    "vacuum full drifting",
    "alter table drifting enable row level security; create policy few on drifting for select using (id % 2 = 0)",
    "alter policy few on drifting using (id % 3 = 0)",
    "drop policy few on drifting",
    "alter table drifting disable row level security",
    "revoke select on drifting from anon",
    "grant select on drifting to anon",
    "begin; insert into drifting (id) values (501); alter table drifting add column x5 int default 5;"
    " insert into drifting (id) values (502); commit",
    "begin; insert into drifting (id) values (503); truncate drifting; insert into drifting (id) values (504); commit",
    "create table heir () inherits (drifting)",
    "drop table heir",
)  # fmt: skip
AGAIN = (
    "create schema if not exists elsewhere",
    "drop table if exists heir",
    "alter table elsewhere.drifting set schema public",
    "alter table drifted rename to drifting",
    "alter type moods rename to mood",
    VERBS.format("insert, update, delete, truncate"),
    "alter publication supabase_realtime set table drifting",
    PUBLISH,
    "alter table drifting replica identity full",
    "delete from drifting a using drifting b where a.id is null or a.id = b.id and a.ctid < b.ctid",
    "alter table drifting add primary key (id)",
    "alter table drifting replica identity default",
    "alter table drifting disable row level security",
    "grant select on drifting to anon",
)
"""What makes a table followable again, whatever it was."""


class Facts(NamedTuple):
    """What the catalogue says."""

    followable: bool
    columns: list[str]
    bound: bool
    """Whether the key's role sees less than the table: a DSN's rows are then not those that its changes are of."""


class Database:
    def __init__(self, dsn: str) -> None:
        self._connection = psycopg.connect(dsn, autocommit=True)

    def try_(self, statement: str) -> str:
        """Runs a statement; returns why it could not be, or nothing."""
        try:
            self._connection.execute(statement.encode())
        except psycopg.Error as error:
            self._connection.execute("rollback")
            return str(error).splitlines()[0]
        return ""

    def facts(self) -> Facts:
        row = self._connection.execute(_FACTS).fetchone()
        assert row is not None
        return Facts(bool(row[0]), list(row[1] or ()), bool(row[2]))

    def rows(self, where: str, columns: list[str], role: str) -> list[dict[str, Any]]:
        """What SELECT gives a role, in the form of a live table's rows."""
        names = ", ".join(f'"{name}"' for name in columns)
        with self._connection.transaction():
            if role:
                self._connection.execute(f"set local role {role}".encode())
            query = (
                f"select coalesce(json_agg(row_to_json(x)), '[]') from (select {names} from drifting where {where}) x"
            )
            row = self._connection.execute(query.encode()).fetchone()
        assert row is not None
        return row[0]

    def close(self) -> None:
        self._connection.close()


_FACTS = """
select c.relkind = 'r' and has_table_privilege('anon', c.oid, 'select') and t.attnames is not null
    and t.rowfilter is null and 'id' = any(t.attnames)
    and (select pubinsert and pubupdate and pubdelete from pg_publication where pubname = 'supabase_realtime')
    and not exists (select from pg_inherits where inhparent = c.oid)
    and (select array_agg(a.attname::text) from pg_index i join pg_attribute a on a.attrelid = c.oid
      and a.attnum = any(i.indkey::int2[]) where i.indrelid = c.oid and i.indisprimary) = '{id}',
  t.attnames::text[], c.relrowsecurity or not has_table_privilege('anon', c.oid, 'select')
from (select) one left join pg_class c on c.oid = to_regclass('public.drifting')
left join pg_publication_tables t
  on t.pubname = 'supabase_realtime' and t.schemaname = 'public' and t.tablename = 'drifting'
"""


class Followed:
    """A live table, and what it must equal."""

    def __init__(self, what: str, table: rt.LiveTable, where: str = "true", role: str = "anon") -> None:
        self.what, self.table, self.where, self.role = what, table, where, role

    def rows(self) -> list[dict[str, Any]]:
        """Its rows; what is of a row type, which a frame has as JSON, as that says."""
        rows = rows_of(self.table.df)
        return [{**row, "p": json.loads(row["p"])} if row.get("p") else row for row in rows]

    def settled(self, database: Database, facts: Facts) -> bool:
        """Whether it equals SELECT, or says why it does not."""
        if facts.bound and not self.role:
            return True
        if not facts.followable:
            return self.table.status not in ("live", "catching up") and bool(self.table.error)
        if self.table.status != "live":
            return False
        return in_order(self.rows()) == in_order(database.rows(self.where, facts.columns, self.role))


def write(database: Database, rng: random.Random) -> None:
    """Rows, as far as the table has columns for them."""
    for _ in range(rng.randrange(4)):
        key = rng.randrange(1, 30)
        database.try_(
            rng.choice(
                (
                    f"insert into drifting (id) values ({key})",
                    f"insert into drifting (id, v) values ({key}, {rng.randrange(100)})",
                    f"insert into drifting (id, m, ms) values ({key}, 'ok', '{{ok,happy}}')",
                    f"insert into drifting (id, p, ps) values ({key}, row(1, 'a b'), array[row(2, 'c')::pair])",
                    f"update drifting set id = id where id < {key}",
                    f"update drifting set v = {rng.randrange(100)} where id = {key}",
                    f"update drifting set id = id + 40 where id = {key}",
                    f"delete from drifting where id = {key}",
                )
            )
        )


@pytest.fixture
def database(server: rt.Local) -> Iterator[Database]:
    rt.set_default_client(server.client)
    made = Database(server.dsn)
    for statement in (
        "create schema if not exists elsewhere",
        "create type mood as enum ('sad', 'ok', 'happy')",
        "create type pair as (x int, y text)",
        "create domain small as int default 3",
        REMAKE.format(columns=COLUMNS),
        PUBLISH,
        "insert into drifting select i, i, 'ok', '{sad}', row(i, 'y')::pair, array[row(1, 'z')::pair] "
        "from generate_series(1, 12) i",
    ):
        assert not made.try_(statement), statement
    yield made
    made.close()


@pytest.mark.timeout(600)
def test_whatever_is_done_to_a_table_it_equals_select_or_is_not_live(server: rt.Local, database: Database) -> None:
    rng, started = random.Random(SEED), time.monotonic()
    line = Network(server.url)
    line.start()
    away = rt.Client(line.url, server.anon_key)
    followed = [
        Followed("REST", rt.LiveTable("drifting", verify_every=None)),
        Followed("filter", rt.LiveTable("drifting", filter="id=gt.3", verify_every=None), "id > 3"),
        Followed("DSN", rt.LiveTable("drifting", source=server.dsn, verify_every=None), role=""),
        Followed("away", rt.LiveTable("drifting", client=away, verify_every=None)),
    ]
    try:
        check(followed, database, "the beginning")
        done: list[str] = []
        for number in range(STEPS):
            if number and STEPS < 50 and time.monotonic() - started > SECONDS:
                break
            write(database, rng)
            cut = rng.random() < 0.3
            if cut:
                line.cut()
            for statement in [rng.choice(STATEMENTS)] if number % 6 else AGAIN:
                done.append(statement)
                if problem := database.try_(statement):
                    done[-1] += f" -- {problem}"
            write(database, rng)
            if cut:
                line.restore()
            check(followed, database, done)
        for statement in (*AGAIN, f"{REMAKE.format(columns=COLUMNS)} {PUBLISH}"):
            database.try_(statement)
        assert database.facts().followable
        check(followed, database, "the end")
    finally:
        for one in followed:
            one.table.close()
        away.close()
        line.stop()


def check(followed: list[Followed], database: Database, done: object) -> None:
    facts = database.facts()
    for one in followed:
        try:
            until(lambda f=one: f.settled(database, facts))
        except AssertionError:
            status = (one.table.status, one.table.error)
            assert facts.followable == (status[0] == "live"), (one.what, status, facts, done)
            rows = database.rows(one.where, facts.columns, one.role)
            assert in_order(one.rows()) == in_order(rows), (one.what, status, facts, done)
            raise


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)
