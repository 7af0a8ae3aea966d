"""The flights feed, and the whole of `rtwidgets demo`."""

from __future__ import annotations

import datetime as dt
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pandas as pd
import psycopg
import pytest

from rtwidgets.demo.flights import KEEP, Feed

from .test_postgres import running_in, until

NOON = dt.datetime(2013, 1, 1, 12, 0)


def minutes(number: float) -> dt.timedelta:
    return dt.timedelta(minutes=number)


@pytest.mark.pg
def test_a_flight_is_announced_leaves_arrives_and_goes(pg: str) -> None:
    flights = pd.DataFrame(
        {
            "id": [1, 2],
            "carrier": ["UA", "AA"],
            "flight": [10, 20],
            "origin": ["JFK", "JFK"],
            "dest": ["SFO", "MIA"],
            "sched_dep": [NOON + minutes(90), NOON + minutes(90)],
            "departed_at": [NOON + minutes(100), pd.NaT],
            "arrived_at": [NOON + minutes(200), pd.NaT],
            "dep_delay": pd.array([10, None], dtype="Int64"),
            "arr_delay": pd.array([-5, None], dtype="Int64"),
        }
    )
    feed = Feed(pg, start=NOON)

    def board() -> list[tuple]:
        with psycopg.connect(pg) as connection:
            return connection.execute("select id, status, dep_delay, arr_delay from flights order by id").fetchall()

    try:
        assert feed.load(flights) == 2
        assert board() == []
        feed.step(minutes(30))
        assert board() == [(1, "scheduled", None, None), (2, "scheduled", None, None)]
        feed.step(minutes(60))
        assert board() == [(1, "scheduled", None, None), (2, "cancelled", None, None)]
        feed.step(minutes(10))
        assert board() == [(1, "departed", 10, None), (2, "cancelled", None, None)]
        feed.step(minutes(100))
        assert board() == [(1, "arrived", 10, -5), (2, "cancelled", None, None)]
        feed.step(KEEP)
        assert board() == []
        feed.step(minutes(1))
        assert feed.clock == NOON, "after the last flight it begins anew"
    finally:
        feed.stop()
        with psycopg.connect(pg, autocommit=True) as connection:
            connection.execute("drop table flights, flight_history")


@pytest.mark.pg
@pytest.mark.slow
def test_the_demo_starts_and_an_interrupt_leaves_nothing() -> None:
    folder = Path(tempfile.mkdtemp(prefix="rtw")).resolve()
    demo = subprocess.Popen(
        [sys.executable, "-m", "rtwidgets.cli", "demo", "--no-browser", "--speed", "600"],
        env={**os.environ, "RTWIDGETS_HOME": str(folder)},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert demo.stdout is not None
    try:
        said = []
        for line in demo.stdout:
            said.append(line)
            if line.startswith("Run all cells"):
                break
        assert any("336,776 in Postgres" in line for line in said), said
        assert any("/lab/tree/flight_board.ipynb?token=" in line for line in said), said
        demo.send_signal(signal.SIGINT)
        assert demo.wait(40) == 130
    finally:
        demo.kill()
        demo.wait()
        demo.stdout.close()
    until(lambda: running_in(folder) == [])
    shutil.rmtree(folder)
