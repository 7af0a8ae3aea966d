"""A real Postgres and a running server for the tests of this room."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from rtwidgets.local.auth import mint
from rtwidgets.local.postgres import Postgres
from rtwidgets.local.server import RealtimeServer

from ..waits import wait_until
from .processes import running_in

SECRET = "a-secret-of-the-tests-that-is-long-enough-for-hs256"


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A fresh Postgres of its own."""
    folder = Path(tempfile.mkdtemp(prefix="rtw"))
    running = Postgres(folder / "data")
    running.start()
    yield running
    running.stop()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def home(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of its own for every local server of one test; nothing may run in it afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="rtw")).resolve()
    monkeypatch.setenv("RTWIDGETS_HOME", str(folder))
    yield folder
    wait_until(lambda: running_in(folder) == [])
    shutil.rmtree(folder)


@pytest.fixture
def pg(postgres: Postgres) -> str:
    return postgres.dsn


@pytest_asyncio.fixture
async def server(pg: str) -> AsyncIterator[RealtimeServer]:
    """A running server with the anonymous and the service key."""
    anon, service = mint(SECRET, "anon"), mint(SECRET, "service_role")
    running = RealtimeServer(pg, jwt_secret=SECRET, anon_key=anon, service_key=service)
    await running.start()
    yield running
    await running.stop()
