"""Tables of several sorts beside random writes and random faults: each time that all say `live`, all equal SELECT."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable
from typing import Any

import pandas as pd
import psutil
import psycopg
import pytest

import rtwidgets as rt
from rtwidgets.client.thread import run
from rtwidgets.local.handle import Local
from rtwidgets.local.home import Home
from rtwidgets.local.leases import read_status

from ..data.conftest import server as server
from ..data.live import in_order, rows_of, selected

pytestmark = [pytest.mark.pg, pytest.mark.slow]

SECONDS = float(os.environ.get("RTWIDGETS_SOAK", "20"))
SEED = int(os.environ.get("RTWIDGETS_SEED", "1"))
MOODS = ("sad", "ok", "happy")
TABLES: dict[str, tuple[dict[str, Any], str]] = {
    "all": ({}, "select * from soaked"),
    "filtered": ({"filter": "n=gt.3,m=gte.ok"}, "select * from soaked where n > 3 and m >= 'ok'"),
    "narrow": ({"filter": "name=like.n1%", "columns": ["n"]}, "select id, n from soaked where name like 'n1%'"),
    "top": ({"order": "n desc", "limit": 20}, "select * from soaked order by n desc, id limit 20"),
    "by mood": ({"order": "m desc,id", "limit": 15}, "select * from soaked order by m desc, id limit 15"),
    "asked": (
        {"filter": "name=imatch.[[:digit:]]5$,flag=is.true"},
        "select * from soaked where name ~* '[[:digit:]]5$' and flag",
    ),
}
SPEC: dict[str, Any] = {
    "total": ("n", "sum"), "rows": ("id", "count"), "top": ("n", "max"), "low": ("n", "min"), "mean": ("x", "mean"),
    "kinds": ("name", "nunique"), "first": ("n", "first"),
}  # fmt: skip


def statement(rng: random.Random) -> str:
    def some() -> int:
        return rng.randrange(1, 400)

    number, mood = rng.randrange(9), rng.choice(MOODS)
    return rng.choice(
        [
            f"update soaked set n = {number}, m = '{mood}' where id between {some()} and {some()}",
            f"insert into soaked select i, i % 7, 'ok', i, 'n' || i, now(), true "
            f"from generate_series({some()}, {some()}) i on conflict (id) do update set n = excluded.n + 1",
            f"delete from soaked where id between {some()} and {some()} and id % 9 = 0",
            f"update soaked s set id = id + 1000 where id = {some()} "
            "and not exists (select from soaked o where o.id = s.id + 1000)",
            "update soaked s set id = id - 1000 where id > 1000 "
            "and not exists (select from soaked o where o.id = s.id - 1000)",
            f"begin; update soaked set n = n + 1; delete from soaked where id = {some()}; rollback",
            f"update soaked set name = 'n' || {rng.randrange(40)}, flag = not flag where id % {number + 2} = 0",
            "update soaked set x = null, n = null, name = null where id % 11 = 0",
            f"update soaked set x = x + 0.1, at = now() where id = {some()}",
        ]
    )


def patiently(work: Callable[[], Any]) -> Any:
    """Tries for as long as Postgres is away."""
    end = time.monotonic() + 30
    while True:
        try:
            return work()
        except psycopg.OperationalError:
            assert time.monotonic() < end, "Postgres stays away"
            time.sleep(0.2)


def write(server: Local, query: str) -> None:
    def once() -> None:
        with psycopg.connect(server.dsn, autocommit=True) as connection:
            connection.execute(query.encode())

    patiently(once)


def broken(server: Local, rng: random.Random, tables: dict[str, Any]) -> str:
    """Breaks something; returns what."""
    kind = rng.choice(["cut", "stall", "delay", "abort", "kill", "pause", "nothing"])
    if kind == "cut":
        server.network.cut(rng.random())
    elif kind == "stall":
        server.network.stall(rng.random())
    elif kind == "delay":
        server.network.delay(rng.randrange(60))
    elif kind == "abort":

        async def abort() -> None:
            for client in {table.channel.aio.client for table in tables.values()}:
                if client._socket is not None:
                    client._socket.abort()

        run(abort(), 5)
    elif kind == "kill":
        state = Home("data").read_state()
        answer = read_status(state.control) if state is not None else {}
        psutil.Process(answer["postgres_pid"]).send_signal(signal.SIGKILL)
    elif kind == "pause":
        table = rng.choice(list(tables.values()))
        table.pause()
        time.sleep(0.1)
        before = rows_of(table.df)
        write(server, statement(rng))
        time.sleep(0.1)
        assert rows_of(table.df) == before, "paused"
        table.resume()
    return kind


def different(server: Local, tables: dict[str, Any]) -> list[Any]:
    found: list[Any] = []
    for name, table in tables.items():
        options, query = TABLES[name]
        want, got = patiently(lambda query=query: selected(server, query)), rows_of(table.df)
        arrange: Any = list if "limit" in options else in_order
        if table.follower.status != "live" or arrange(got) != arrange(want):
            odd = [row for row in got if row not in want][:2], [row for row in want if row not in got][:2]
            found.append((name, table.follower.status, str(table.follower.error), *odd))
    return found


@pytest.mark.timeout(SECONDS + 120)
def test_a_long_time_of_writes_and_faults(server: Local) -> None:
    rng = random.Random(SEED)
    rt.set_default_client(server.client)
    server.sql(
        "create type feeling as enum ('sad', 'ok', 'happy'); create table soaked "
        "(id int primary key, n int, m feeling, x numeric, name text, at timestamptz default now(), flag bool)"
    )
    server.publish("soaked")
    server.sql(
        "insert into soaked select i, i % 7, (array['sad', 'ok', 'happy'])[1 + i % 3]::feeling, i * 1.5, 'n' || i, "
        "now(), i % 2 = 0 from generate_series(1, 300) i"
    )
    tables: dict[str, Any] = {name: rt.LiveTable("soaked", **options) for name, (options, _) in TABLES.items()}
    for table in tables.values():
        table.wait_live()
    groups = tables["all"].group_by("m").agg(**SPEC)
    held: list[tuple[pd.DataFrame, pd.DataFrame]] = []
    faults: list[str] = []
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        for _ in range(rng.randrange(1, 8)):
            write(server, statement(rng))
        faults.append(broken(server, rng, tables))
        for _ in range(rng.randrange(3)):
            write(server, statement(rng))
        server.network.restore()
        server.network.delay(0)
        patience = time.monotonic() + 30
        while found := different(server, tables):
            assert time.monotonic() < patience, (SEED, len(faults), faults[-3:], found)
            time.sleep(0.05)
        frame = tables["all"].df
        want = frame.groupby("m").agg(**SPEC).reset_index()
        pd.testing.assert_frame_equal(groups.df, want, check_dtype=False)
        held.append((frame, frame.copy(deep=True)))
    for frame, before in held[::7]:
        pd.testing.assert_frame_equal(frame, before)
    assert len(faults) > 3
    for table in (groups, *tables.values()):
        table.close()
