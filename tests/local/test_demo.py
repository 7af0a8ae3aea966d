"""The flights feed, and the whole of `rtwidgets demo`."""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx
import pandas as pd
import psutil
import psycopg
import pytest
from websockets.sync.client import connect

from rtwidgets.demo.flights import KEEP, Feed
from rtwidgets.demo.notebooks import copy

from ..waits import wait_until
from .processes import running_in

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
        # As in `make demo &` of a script, whose background jobs inherit this.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN),
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
        second = subprocess.run(
            [sys.executable, "-m", "rtwidgets.cli", "demo", "--no-browser"],
            env={**os.environ, "RTWIDGETS_HOME": str(folder)},
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert (second.returncode, second.stderr.partition(":")[0]) == (1, "DemoRuns"), second
        demo.send_signal(signal.SIGINT)
        assert demo.wait(60) == 0
    finally:
        demo.kill()
        demo.wait()
        demo.stdout.close()
    wait_until(lambda: running_in(folder) == [])
    shutil.rmtree(folder)


def notebook(path: Path, source: str, output: str = "") -> None:
    cell = {"cell_type": "code", "source": [source], "outputs": [output] if output else []}
    path.write_text(json.dumps({"cells": [cell]}))


def test_an_edited_notebook_stays_and_an_untouched_one_follows(tmp_path: Path) -> None:
    origin, mine = tmp_path / "origin", tmp_path / "mine"
    origin.mkdir()

    def copied() -> str:
        return copy(origin, mine, ["a.ipynb", "b.ipynb"]).rpartition(", in ")[0]

    for name in ("a.ipynb", "b.ipynb"):
        notebook(origin / name, "first")
    assert copied() == "copied a.ipynb, b.ipynb"
    assert copied() == "as they were"
    notebook(mine / "a.ipynb", "first", output="of a run")
    notebook(mine / "b.ipynb", "mine")
    for name in ("a.ipynb", "b.ipynb"):
        notebook(origin / name, "second")
    assert copied() == "renewed a.ipynb; kept as you edited it: b.ipynb (remove it to get this version's)"
    assert "second" in (mine / "a.ipynb").read_text()
    assert "mine" in (mine / "b.ipynb").read_text()
    (mine / "b.ipynb").unlink()
    assert copied() == "copied b.ipynb"


def belongs_to(folder: Path) -> dict[int, str]:
    """Every process of this user that was started with that folder as its RTWIDGETS_HOME."""
    found = {}
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.environ().get("RTWIDGETS_HOME") == str(folder) and process.status() != psutil.STATUS_ZOMBIE:
                found[process.pid] = " ".join(process.cmdline())[:200]
    return found


def run_in_a_kernel(base: str, token: str, code: str) -> None:
    """Starts a kernel through Jupyter's own API, and the code in it; returns once the code runs."""
    query = f"?token={token}"
    kernel = httpx.post(f"{base}/api/kernels{query}", json={"name": "python3"}, timeout=30).json()["id"]
    with connect(f"ws{base.removeprefix('http')}/api/kernels/{kernel}/channels{query}", max_size=None) as ws:
        header = {"msg_id": "1", "msg_type": "execute_request", "username": "", "session": "1", "version": "5.3"}
        content = {"code": code, "silent": False, "store_history": False, "user_expressions": {}}
        message = {"header": header, "parent_header": {}, "metadata": {}, "content": content, "channel": "shell"}
        ws.send(json.dumps(message))
        while True:
            said = ws.recv(timeout=60)
            assert "Traceback" not in str(said), said
            if "the kernel is here" in str(said) and "stream" in str(said):
                return


@pytest.mark.pg
@pytest.mark.slow
def test_a_killed_demo_leaves_nothing() -> None:
    folder = Path(tempfile.mkdtemp(prefix="rtw")).resolve()
    env = {**os.environ, "RTWIDGETS_HOME": str(folder), "JUPYTER_RUNTIME_DIR": str(folder / "runtime")}
    demo = subprocess.Popen(
        [sys.executable, "-m", "rtwidgets.cli", "demo", "--no-browser"], env=env, stdout=subprocess.PIPE, text=True
    )
    assert demo.stdout is not None
    try:
        url = next(line.split()[-1] for line in demo.stdout if line.startswith("JupyterLab: "))
        base, token = url.split("/lab/")[0], url.split("token=")[1]
        # One kernel that uses the server and is in the middle of a cell, and one terminal.
        code = "import time; from rtwidgets.local.handle import local; s = local(idle_timeout=3)"
        run_in_a_kernel(base, token, f"{code}; print('the kernel is ' + 'here', flush=True); time.sleep(600)")
        httpx.post(f"{base}/api/terminals?token={token}", timeout=30)
        state = json.loads((folder / "demo" / "state.json").read_text())
        sockets = [Path(state["control"]).parent, Path(state["dsn"].split()[0].removeprefix("host="))]
        postmaster = (folder / "demo" / "data" / "postmaster.pid").read_text().split("\n")
        segment = postmaster[6].split()[1]
        maps = Path(f"/proc/{postmaster[0]}/maps")
        shared = set(re.findall(r"/dev/shm/\S+", maps.read_text())) if maps.exists() else set()
        assert all(path.exists() for path in sockets)
        assert len(belongs_to(folder)) > 5
    finally:
        demo.kill()
        demo.wait()
        demo.stdout.close()
    began = time.monotonic()
    wait_until(lambda: not belongs_to(folder), 60)
    print(f"all gone after {time.monotonic() - began:.1f} s")
    assert [path for path in sockets if path.exists()] == []
    assert [path for path in shared if Path(path).exists()] == []
    assert segment not in subprocess.run(["ipcs", "-m"], capture_output=True, text=True, check=True).stdout.split()
    assert not (folder / "demo" / "state.json").exists()
    assert list((folder / "runtime").glob("*.json")) == [], "Jupyter had the time to tidy up"
    shutil.rmtree(folder)
