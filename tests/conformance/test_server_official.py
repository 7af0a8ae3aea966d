"""Supabase's own clients against our server, as black boxes: the JavaScript one in Node, the Python one in an
environment of its own (it pins an older `websockets`)."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest

from rtwidgets.local.auth import mint
from rtwidgets.local.postgres import Postgres
from rtwidgets.local.server import RealtimeServer

pytestmark = [pytest.mark.pg, pytest.mark.slow]

HERE = Path(__file__).parent
SECRET = "a-secret-of-the-tests-that-is-long-enough-for-hs256"
ANA, BOB = (f"{digit * 8}-{digit * 4}-{digit * 4}-{digit * 4}-{digit * 12}" for digit in "12")

TABLES = """
create table official (id int8 primary key, status text, amount numeric, tags text[], doc jsonb, big text);
create table official_private (id int4 primary key, owner uuid);
alter table official_private enable row level security;
create policy own on official_private for select to authenticated using (owner = auth.uid());
alter publication supabase_realtime add table official, official_private;
create policy hear on realtime.messages for select to authenticated using (realtime.topic() = 'team');
create policy say on realtime.messages for insert to authenticated with check (realtime.topic() = 'team');
"""
CHANGES = """
insert into official values (9007199254740993, 'open', 1.50, array['a', 'b"c'], '{"x": [1, null]}', 'text');
insert into official values (2, 'paid', null, null, null, null);
update official set status = 'shipped' where id = 2;
delete from official where id = 2
"""


@pytest.fixture(scope="module")
def javascript() -> list[str]:
    sys.path.insert(0, str(HERE.parent.parent / "tools"))
    try:
        import js
    finally:
        sys.path.pop(0)
    node, npm = js.find_node()
    install(HERE / "js", "package-lock.json", "node_modules", [*npm, "ci", "--no-audit", "--no-fund"])
    return [node, str(HERE / "js" / "client.mjs")]


@pytest.fixture(scope="module")
def python() -> list[str]:
    folder = HERE / "python"
    own = folder / ".venv" / "bin" / "python"
    install(
        folder,
        "requirements.txt",
        ".venv",
        [sys.executable, "-m", "venv", "--clear", ".venv"],
        [str(own), "-m", "pip", "install", "-q", "--disable-pip-version-check", "-r", "requirements.txt"],
    )
    return [str(own), str(folder / "client.py")]


def install(folder: Path, pins: str, target: str, *commands: list[str]) -> None:
    """Once for each version of the pins."""
    stamp = folder / target / ".installed"
    wanted = hashlib.sha256((folder / pins).read_bytes()).hexdigest()
    if stamp.exists() and stamp.read_text() == wanted:
        return
    for command in commands:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=150, check=False)
        if done.returncode:
            reason = f"{folder.name}: the official client could not be installed: {done.stderr[-500:]}"
            pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)
    stamp.write_text(wanted)


@pytest.fixture
def postgres(tmp_path: Path) -> Iterator[Postgres]:
    running = Postgres(tmp_path / "data")
    running.start()
    yield running
    running.stop()


class Site:
    """A server that can be restarted at its place."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._port = 0
        self.server: RealtimeServer | None = None

    async def start(self) -> RealtimeServer:
        self.server = RealtimeServer(self._dsn, jwt_secret=SECRET, anon_key=mint(SECRET, "anon"))
        await self.server.start(port=self._port)
        self._port = self.server.port
        return self.server

    async def restart(self) -> None:
        assert self.server is not None
        await self.server.stop()
        await self.start()

    async def sql(self, text: str) -> None:
        async with await psycopg.AsyncConnection.connect(self._dsn, autocommit=True) as connection:
            await connection.execute(text.encode())


@asynccontextmanager
async def site(postgres: Postgres) -> AsyncIterator[Site]:
    found = Site(postgres.dsn)
    server = await found.start()
    await found.sql(TABLES)
    try:
        yield found
    finally:
        await (found.server or server).stop()


async def converse(
    command: list[str], url: str, actions: dict[str, Callable[[], Awaitable[None]]]
) -> dict[str, dict[str, Any]]:
    """Runs the program to its end and does what each of its steps asks for. Returns what it told."""
    given = {
        "url": url,
        "anon": mint(SECRET, "anon"),
        "ana": mint(SECRET, "authenticated", sub=ANA),
        "bob": mint(SECRET, "authenticated", sub=BOB),
    }
    process = await asyncio.create_subprocess_exec(
        *command, json.dumps(given), stdin=-1, stdout=-1, stderr=-1, limit=1_000_000
    )
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    errors = asyncio.create_task(process.stderr.read())
    told: dict[str, dict[str, Any]] = {}
    try:
        async with asyncio.timeout(60):
            while line := await process.stdout.readline():
                facts = json.loads(line)
                told[facts.pop("step")] = facts
                step = next(reversed(told))
                if step in actions:
                    await actions[step]()
                process.stdin.write(b"\n")
                await process.stdin.drain()
            code = await process.wait()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
        said = (await errors).decode()
        print(said)
    assert code == 0, (list(told), said)
    return told


def part_of_the_test(place: Site) -> dict[str, Callable[[], Awaitable[None]]]:
    return {
        "subscribed": lambda: place.sql(CHANGES),
        "as ana": lambda: place.sql(f"insert into official_private values (1, '{BOB}'), (2, '{ANA}')"),
        "as bob": lambda: place.sql(f"insert into official_private values (3, '{ANA}'), (4, '{BOB}')"),
        "private": lambda: place.sql("select realtime.send('{\"n\": 4}', 'from_db', 'team')"),
        "restart": place.restart,
        "back": lambda: place.sql("insert into official (id, status) values (77, 'late')"),
    }


async def test_the_javascript_client(javascript: list[str], postgres: Postgres) -> None:
    async with site(postgres) as place:
        assert place.server is not None
        told = await converse(javascript, place.server.url, part_of_the_test(place))
    assert told["broadcast"]["replies"] == ["ok", "ok", True, True]
    heard = [["text", {"n": 1, "umlaut": "ü"}], ["bytes", [0, 255, 7]], ["http", {"n": 2}], ["http bytes", [9, 0]]]
    assert told["broadcast"]["one"] == heard
    assert told["broadcast"]["two"] == heard
    assert told["presence"]["tracked"] == ["ok"] * 4
    assert told["presence"]["events"] == ["join ana", "join bob", "join ana", "leave ana", "leave ana"]
    # A number of JavaScript has 53 bits: that it is rounded is the client's doing, with Supabase's server too.
    check_changes(told, 9007199254740992)
    check_rest(told)


async def test_the_python_client(python: list[str], postgres: Postgres) -> None:
    async with site(postgres) as place:
        assert place.server is not None
        told = await converse(python, place.server.url, part_of_the_test(place))
    assert told["broadcast"]["one"] == [["text", {"n": 1, "umlaut": "ü"}], ["text", {"n": 3}]]
    assert told["presence"]["events"] == ["join ana", "join bob", "join ana", "leave ana", "leave ana"]
    assert told["rows"]["rows"] == [{"id": 9007199254740993, "status": "open", "doc": {"x": [1, None]}}]
    check_changes(told, 9007199254740993)
    check_rest(told)


def check_changes(told: dict[str, dict[str, Any]], big: int) -> None:
    first = {"id": big, "status": "open", "amount": 1.5, "tags": ["a", 'b"c'], "doc": {"x": [1, None]}, "big": "text"}
    second = {"id": 2, "status": "paid", "amount": None, "tags": None, "doc": None, "big": None}
    changes = {
        name: [[kind, new or {}, old or {}, errors] for kind, new, old, errors, _ in found]
        for name, found in told["changes"].items()
    }
    assert changes["open"] == [["INSERT", first, {}, None]]
    assert changes["gone"] == [["DELETE", {}, {"id": 2}, None]]
    assert changes["all"] == [
        ["INSERT", first, {}, None],
        ["INSERT", second, {}, None],
        ["UPDATE", second | {"status": "shipped"}, {"id": 2}, None],
        ["DELETE", {}, {"id": 2}, None],
    ]


def check_rest(told: dict[str, dict[str, Any]]) -> None:
    assert told["presence"]["synced"]
    assert told["seen"] == {"seen": [2, 4]}
    messages = told["private done"]["messages"]
    messages[1][1].pop("id")
    assert messages == [["hello", {"n": 3}], ["from_db", {"n": 4}]]
    assert "Unauthorized: You do not have permissions to read from this Channel topic: elsewhere" in str(
        told["private done"]["refused"]
    )
    assert told["healed"]["row"]["id"] == 77
