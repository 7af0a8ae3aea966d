"""Postgres by our own layer: its life, its end, and what is said where it cannot start."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import threading
from pathlib import Path

import psutil
import psycopg
import pytest

from rtwidgets.local import postgres as module
from rtwidgets.local import socket_folder
from rtwidgets.local.postgres import Postgres
from rtwidgets.local.socket_folder import SocketFolder, sweep
from rtwidgets.protocol.errors import RealtimeError

from ..waits import wait_until
from .processes import running_in

pytestmark = pytest.mark.pg


def test_it_streams_keeps_its_tables_and_leaves_nothing_behind(tmp_path: Path) -> None:
    postgres = Postgres(tmp_path / "data")
    postgres.start()
    sockets = postgres.sockets
    assert sockets is not None
    try:
        assert stat.S_IMODE(sockets.stat().st_mode) == 0o700
        assert len(str(sockets / ".s.PGSQL.5432")) < 103
        with psycopg.connect(postgres.dsn) as connection:
            row = connection.execute(
                "select current_setting('wal_level'), current_setting('listen_addresses'),"
                " (select rolsuper from pg_roles where rolname = current_user)"
            ).fetchone()
            assert row == ("logical", "", True)
            connection.execute("create table kept (id int primary key)")
    finally:
        postgres.stop()
    postgres.stop()  # safe to call twice
    assert running_in(tmp_path) == []
    assert not sockets.exists()

    postgres.start()
    try:
        with psycopg.connect(postgres.dsn) as connection:
            assert connection.execute("select count(*) from kept").fetchone() == (0,)
    finally:
        postgres.stop()


def test_one_that_has_ended_but_still_has_its_number_is_waited_for(tmp_path: Path) -> None:
    """Else the new one said that another was running in its folder."""
    ended = subprocess.Popen([sys.executable, "-c", ""])
    wait_until(lambda: psutil.Process(ended.pid).status() == psutil.STATUS_ZOMBIE)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "postmaster.pid").write_text(f"{ended.pid}\n")
    threading.Timer(0.3, ended.wait).start()
    Postgres(tmp_path / "data")._end_orphan()
    assert not psutil.pid_exists(ended.pid)


def test_it_dies_with_its_owner(tmp_path: Path) -> None:
    owner = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sys, time; from pathlib import Path; from rtwidgets.local.postgres import Postgres\n"
            "p = Postgres(Path(sys.argv[1])); p.start(); print(p.pid, p.sockets, flush=True); time.sleep(600)",
            str(tmp_path / "data"),
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert owner.stdout is not None
    pid, sockets = owner.stdout.readline().split()
    owner.kill()
    owner.wait()
    owner.stdout.close()
    wait_until(lambda: not psutil.pid_exists(int(pid)) and running_in(tmp_path) == [])
    # Its owner had no time to remove the folder of its socket: the next one does.
    assert Path(sockets).exists()
    SocketFolder().remove()
    assert not Path(sockets).exists()


def test_an_orphan_is_ended_before_a_second_one_starts(tmp_path: Path) -> None:
    orphan, postgres = Postgres(tmp_path / "data"), Postgres(tmp_path / "data")
    orphan.start()
    try:
        old = orphan.pid
        assert old is not None
        # Nobody waits for a child of this process but this process: reap it as init would.
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        try:
            postgres.start()
        finally:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        assert not psutil.pid_exists(old)
        psycopg.connect(postgres.dsn).close()
    finally:
        postgres.stop()
        orphan.stop()
    assert running_in(tmp_path) == []


def test_no_binaries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(module.shutil, "which", lambda name: None)
    monkeypatch.setattr(Path, "glob", lambda self, pattern: iter(()))
    with pytest.raises(RealtimeError) as caught:
        Postgres(tmp_path / "data").start()
    assert caught.value.code == "PostgresNotFound"
    assert "rt.local(postgres=" in caught.value.hint


def test_the_folder_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    postgres = Postgres(tmp_path / "file" / "data")
    with pytest.raises(RealtimeError) as caught:
        postgres.start()
    assert caught.value.code == "DataFolderNotWritable"
    postgres.stop()


def test_initdb_says_why(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "something").write_text("of the user's")
    postgres = Postgres(tmp_path / "data")
    with pytest.raises(RealtimeError) as caught:
        postgres.start()
    assert caught.value.code == "InitdbFailed"
    assert "not empty" in caught.value.message
    assert (tmp_path / "data" / "something").exists(), "what is not ours is not removed"
    postgres.stop()


def test_the_number_of_another_program_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "postmaster.pid").write_text(f"{os.getpid()}\n")
    Postgres(tmp_path / "data")._end_orphan()  # still here


def test_a_sweep_takes_only_what_is_ours_and_unused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket_folder, "BASE", tmp_path)
    used = SocketFolder()
    new, old, other, served = (tmp_path / name for name in ("rtw-new", "rtw-old", "elsewhere", "rtw-served"))
    for folder in (new, old, other, served):
        folder.mkdir()
    (tmp_path / "rtw-link").symlink_to(other)
    somebodys = tmp_path / "rtw-notes"
    somebodys.mkdir()
    (somebodys / "kept").write_text("not ours, though the prefix is")
    os.utime(somebodys, (0, 0))
    (served / ".s.PGSQL.5432.lock").write_text(f"{os.getpid()}\n")
    for folder in (old, other, served):
        os.utime(folder, (0, 0))
    if os.geteuid() == 0:
        (tmp_path / "rtw-foreign").mkdir()
        os.utime(tmp_path / "rtw-foreign", (0, 0))
        os.chown(tmp_path / "rtw-foreign", 12345, 12345)
    before = set(tmp_path.iterdir())
    assert sweep() == [old]
    assert set(tmp_path.iterdir()) == before - {old}
    used.remove()
    used.remove()
    assert not used.path.exists()


@pytest.mark.parametrize("system", ["linux", "darwin"])
def test_a_program_ends_with_whoever_started_it(tmp_path: Path, system: str) -> None:
    """Where the kernel does not tell a child of its parent's end, the launcher looks for itself."""
    launch = f"import sys; sys.platform = {system!r}; from rtwidgets.local import launch; launch.main()"
    owner = (
        "import os, subprocess, sys, time\n"
        "subprocess.Popen([sys.executable, '-c', sys.argv[1], 'program', str(os.getpid()), *sys.argv[2:]])\n"
        "time.sleep(600)"
    )
    program = [sys.executable, "-c", "import sys, time; open(sys.argv[1], 'w').close(); time.sleep(600)"]
    started = tmp_path / "started"
    process = subprocess.Popen([sys.executable, "-c", owner, launch, *program, str(started)])
    try:
        wait_until(started.exists)
        assert len(running_in(tmp_path)) == {"linux": 2, "darwin": 3}[system]
    finally:
        process.kill()
        process.wait()
    wait_until(lambda: running_in(tmp_path) == [])
