"""`rt.local()`: one server for every process that asks for the name, gone after the last of them."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest
from websockets.sync.client import connect

from rtwidgets.cli import main
from rtwidgets.client.connect import close_all
from rtwidgets.client.notebook import Channel
from rtwidgets.client.running import running_local
from rtwidgets.local import handle as handle_module
from rtwidgets.local.auth import verify
from rtwidgets.local.handle import Local, local
from rtwidgets.local.home import Home, ServerState
from rtwidgets.local.leases import read_status
from rtwidgets.local.shared_server import SharedServer
from rtwidgets.protocol.errors import RealtimeError

from ..waits import PATIENCE, wait_until

pytestmark = pytest.mark.pg


@pytest.fixture
def server(home: Path) -> Iterator[Local]:
    handle = local("t", idle_timeout=1)
    yield handle
    handle.stop()


def status() -> dict:
    state = Home("t").read_state()
    assert state is not None
    return read_status(state.control)


def test_after_close_all_the_same_cell_works_again(server: Local) -> None:
    before = server.client
    for _ in range(3):
        close_all()
        assert local("t") is server
        assert server.client is not before
        assert Channel("lobby").subscribe().status == "joined"


def test_sql_publish_and_the_same_handle_again(server: Local, monkeypatch: pytest.MonkeyPatch) -> None:
    assert local("t") is server
    assert server.sql("create table orders (id int primary key, region text)") is None
    server.publish("orders")
    server.publish("public.orders")
    server.sql("insert into orders values (%s, %s)", 1, "north")
    frame = server.sql("select * from orders")
    assert frame is not None
    assert frame.to_dict("records") == [{"id": 1, "region": "north"}]
    server.sql("create table keyless (a int)")
    with pytest.raises(RealtimeError, match="no primary key"):
        server.publish("keyless")
    with pytest.raises(RealtimeError, match="no table"):
        server.publish("nothing")
    monkeypatch.setenv("RTWIDGETS_LOCAL", "t")
    assert running_local() == (server.url, server.anon_key)


def test_what_it_writes_is_its_owners_alone(server: Local) -> None:
    folder = Home("t").folder
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    for name in ("secrets.json", "state.json", "port.json", "supervisor.log"):
        assert stat.S_IMODE((folder / name).stat().st_mode) == 0o600
    assert stat.S_IMODE((folder / "data").stat().st_mode) == 0o700


def test_status_and_stop(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status"]) == 0
    assert capsys.readouterr().out == "No local server runs.\n"
    server = local("t", idle_timeout=60)
    try:
        assert main(["status"]) == 0
        line = capsys.readouterr().out
        assert line.startswith(f"t  {server.url}  used by 1  up ")
        assert server.service_key not in line
        assert main(["stop", "t"]) == 0
        assert capsys.readouterr().out == "Stopped 't'.\n"
        assert not server.alive()
        assert main(["stop", "t"]) == 1
        assert capsys.readouterr().out == "No local server runs under the name 't'.\n"
    finally:
        server.stop()


def test_two_processes_share_one_server_and_killed_ones_let_go(home: Path) -> None:
    code = (
        "import time; from rtwidgets.local.handle import local\n"
        "s = local('t', idle_timeout=1); print(s.url, flush=True); time.sleep(600)"
    )
    users = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(2)]
    urls = set()
    for user in users:
        assert user.stdout is not None
        urls.add(user.stdout.readline())
    assert len(urls) == 1
    found = status()
    assert found["leases"] == 2
    for user in users:
        user.kill()
        user.wait()
        assert user.stdout is not None
        user.stdout.close()
    wait_until(lambda: not psutil.pid_exists(found["pid"]) and not psutil.pid_exists(found["postgres_pid"]))
    assert not Home("t").state_file.exists()


def test_postgres_comes_back_in_the_same_place(server: Local) -> None:
    server.sql("create table kept (id int primary key)")
    server.publish("kept")
    old = status()["postgres_pid"]
    url = f"{server.url.replace('http', 'ws')}/realtime/v1/websocket?apikey={server.anon_key}&vsn=2.0.0"
    with connect(url) as ws:
        config = {"postgres_changes": [{"event": "*", "schema": "public", "table": "kept"}]}
        ws.send(json.dumps(["1", "1", "realtime:t", "phx_join", {"config": config}]))

        def told() -> tuple[str, str]:
            while (frame := json.loads(ws.recv(timeout=PATIENCE)))[3] != "system":
                pass
            return frame[4]["status"], frame[4]["message"]

        assert told() == ("ok", "Subscribed to PostgreSQL")
        psutil.Process(old).send_signal(signal.SIGKILL)
        assert told() == ("error", "Realtime was unable to connect to the project database")
        # The server itself goes on meanwhile.
        ws.send(json.dumps([None, "2", "phoenix", "heartbeat", {}]))
        assert json.loads(ws.recv(timeout=PATIENCE))[1] == "2"
        assert told() == ("ok", "Subscribed to PostgreSQL")
        assert status()["postgres_pid"] not in (None, old)
        server.sql("insert into kept values (1)")
        assert json.loads(ws.recv(timeout=PATIENCE))[4]["data"]["record"] == {"id": 1}


def test_a_killed_supervisor_is_followed_by_a_new_one(home: Path) -> None:
    """Without a word from anybody, in the same place: what a notebook shows goes on by itself."""
    first = local("t", idle_timeout=1)
    try:
        url, key = first.url, first.anon_key
        first.sql("create table kept (id int primary key)")
        channel = Channel("c", client=first.client)
        channel.subscribe()
        wait_until(lambda: channel.status == "joined")
        for number in (1, 2):
            found = status()
            psutil.Process(found["pid"]).kill()
            wait_until(lambda: not psutil.pid_exists(found["postgres_pid"]))  # noqa: B023
            wait_until(first.alive)
            assert status()["pid"] != found["pid"]
            assert (first.url, first.anon_key) == (url, key)
            wait_until(lambda: first.client.aio.reconnects >= number and channel.status == "joined")  # noqa: B023
            assert local("t", idle_timeout=1) is first
            frame = first.sql("select count(*) as n from kept")
            assert frame is not None
            assert frame["n"].item() == 0
            assert status()["leases"] == 1
    finally:
        first.stop()
    # One that was stopped stays so.
    wait_until(lambda: not any(thread.name == "rtwidgets lease of t" for thread in threading.enumerate()))
    assert not first.alive()
    assert not Home("t").state_file.exists()


def test_a_port_that_is_taken(home: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        with pytest.raises(RealtimeError) as caught:
            local("t", port=other.getsockname()[1])
    assert caught.value.code == "PortTaken"


def test_a_folder_that_cannot_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("RTWIDGETS_HOME", str(tmp_path / "file"))
    with pytest.raises(RealtimeError) as caught:
        local("t")
    assert caught.value.code == "DataFolderNotWritable"


def test_the_limits_of_a_plan(home: Path) -> None:
    with pytest.raises(RealtimeError) as caught:
        local("t", limits="nothing")
    assert caught.value.code == "BadLimits"
    server = local("t", idle_timeout=1, limits="supabase")
    try:
        message = {"topic": "t", "event": "e", "payload": {}}
        answer = httpx.post(
            f"{server.url}/realtime/v1/api/broadcast",
            json={"messages": [message] * 101},
            headers={"apikey": server.anon_key},
        )
        assert answer.status_code == 429
    finally:
        server.stop()


def test_others_reach_it_only_with_a_secret_of_ones_own(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RealtimeError) as caught:
        local("shut", host="0.0.0.0")
    assert caught.value.code == "NotLoopback"
    monkeypatch.setenv("RTWIDGETS_JWT_SECRET", "short")
    with pytest.raises(RealtimeError) as caught:
        local("open", host="0.0.0.0")
    assert caught.value.code == "WeakSecret"
    monkeypatch.setenv("RTWIDGETS_JWT_SECRET", "a secret of one's own that is long enough")
    with local("open", host="0.0.0.0", idle_timeout=1) as server:
        assert server.url.startswith("http://127.0.0.1:")
        assert verify("a secret of one's own that is long enough", server.service_key).role == "service_role"
        assert not (home / "open" / "secrets.json").exists()
        for other in ({"host": "127.0.0.1"}, {"limits": "supabase"}):
            with pytest.raises(RealtimeError) as caught:
                local("open", **other)  # type: ignore[arg-type]
            assert caught.value.code == "LocalServerDiffers"
        server.stop()
    with pytest.raises(RealtimeError) as caught:
        local("open", host="192.0.2.1")
    assert caught.value.code == "CannotListen"


def test_sql_reads_and_writes_text_in_whatever_encoding_the_database_has(server: Local) -> None:
    server.sql("create table texts (t text); alter database postgres set client_encoding = 'latin1'")
    server.sql("alter database postgres set datestyle = 'German'; alter database postgres set bytea_output = 'escape'")
    try:
        server.sql("insert into texts values ('äöü€')")
        frame = server.sql("select t, length(t), '2026-11-23'::date::text as d, '\\x00ff'::bytea as b from texts")
        assert frame is not None
        (row,) = frame.to_dict("records")
        assert row == {"t": "äöü€", "length": 4, "d": "2026-11-23", "b": b"\x00\xff"}
    finally:
        server.sql("alter database postgres reset all")


def test_a_forked_child_leaves_its_parents_server_alone(server: Local) -> None:
    before = status()["leases"]
    child = os.fork()
    if child == 0:
        os._exit(int(bool(handle_module._open)))  # without the exit handlers, which pytest has more of
    assert os.waitpid(child, 0)[1] == 0
    assert server.alive()
    assert status()["leases"] == before


def test_a_stop_leaves_no_traceback_in_the_log(server: Local) -> None:
    log_file = Home("t").log_file
    lease = socket.socket(socket.AF_UNIX)
    state = Home("t").read_state()
    assert state is not None
    lease.connect(state.control)
    lease.sendall(b'{"do": "lease"}\n')
    assert lease.recv(100)
    server.stop()
    lease.close()
    assert "Traceback" not in log_file.read_text()


def test_killed_processes_come_back_although_the_first_try_fails(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server = local("t", idle_timeout=1)
    try:
        tries: list[None] = []
        start = SharedServer._start

        def fail_twice(self: SharedServer) -> tuple[ServerState, socket.socket]:
            tries.append(None)
            if len(tries) < 3:
                raise RealtimeError("The local server ended at once, with code -9.", code="LocalServerFailed")
            return start(self)

        monkeypatch.setattr(SharedServer, "_start", fail_twice)
        found = status()
        for process in [psutil.Process(found[name]) for name in ("pid", "postgres_pid")]:
            with contextlib.suppress(psutil.NoSuchProcess):  # Postgres ends with its supervisor
                process.kill()
        wait_until(lambda: len(tries) >= 3 and server.alive(), 90)
        assert server.sql("select 1 as one") is not None
    finally:
        server.stop()
