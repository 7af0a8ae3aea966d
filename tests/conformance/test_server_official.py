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
    return [node, str(HERE / "js")]


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
        node, folder = javascript
        told = await converse([node, f"{folder}/client.mjs"], place.server.url, part_of_the_test(place))
    assert told["broadcast"]["replies"] == ["ok", "ok", True, True]
    heard = [["text", {"n": 1, "umlaut": "ü"}], ["bytes", [0, 255, 7]], ["http", {"n": 2}], ["http bytes", [9, 0]]]
    assert told["broadcast"]["one"] == heard
    assert told["broadcast"]["two"] == heard
    assert told["presence"]["tracked"] == ["ok"] * 4
    assert told["presence"]["events"] == ["join ana", "join bob", "join ana", "leave ana", "leave ana"]
    # A number of JavaScript has 53 bits: that it is rounded is the client's doing, with Supabase's server too.
    check_changes(told, 9007199254740992)
    check_rest(told)


FRUIT = """
create table fruit (id int8 primary key, value text, details text, n int, tags text[]);
alter publication supabase_realtime add table fruit;
create table noted (id int primary key, value text);
create function tell() returns trigger language plpgsql security definer as $$ begin
  perform realtime.broadcast_changes('team', tg_op, tg_op, tg_table_name, tg_table_schema, new, old);
  return null; end $$;
create trigger tell after insert or update or delete on noted for each row execute function tell();
"""
FRUITS = """
insert into fruit values (1, 'apple', 'keep', 1, '{red}'), (2, 'avocado', 'skip it', 2, null),
  (3, 'Cherry', null, 3, '{red}'), (4, 'a,b "q"', 'keep too', 4, null);
update fruit set n = 5 where id = 3; delete from fruit where id = 2
"""
TEAM = """
select realtime.send('{"n": 2}', 'stored', 'team'); select realtime.send_binary('\\xdead00ff', 'bytes', 'team');
insert into noted values (1, 'a'); update noted set value = 'b'; delete from noted
"""


async def test_a_whole_project_in_javascript(javascript: list[str], postgres: Postgres) -> None:
    node, folder = javascript
    async with site(postgres) as place:
        assert place.server is not None
        await place.sql(FRUIT)
        actions = {"fruit": lambda: place.sql(FRUITS), "team": lambda: place.sql(TEAM)}
        told = await converse([node, f"{folder}/project.mjs"], place.server.url, actions)
    assert told["filters"]["seen"] == {
        "eq": [1],
        "neq": [2, 3, 4],
        "lt": [1, 2, 3, 4],
        "lte": [1, 2],
        "gt": [],
        "gte": [3, 4],
        "in": [1, 4],
        "like": [1],
        "ilike": [1],
        "is": [3],
        "match": [1, 2, 4],
        "imatch": [3],
        "isdistinct": [2, 3, 4],
        "not": [2, 3, 4],
        "not is": [1, 2, 4],
        "and": [],
        "four conditions": [1, 4],
    }
    assert told["filters"]["chosen"] == [{"id": 1, "value": "apple"}]
    assert "invalid column for filter nope" in str(told["filters"]["refused"])
    cherry = {"id": 3, "value": "Cherry", "details": None, "n": 5, "tags": ["red"]}
    assert told["filters"]["changes"] == [["UPDATE", cherry, {"id": 3}], ["DELETE", {}, {"id": 2}]]
    assert told["removed"] == {"left": 2}
    quoted = 'a,b "q"'
    assert told["read"] == {
        "plain": [
            200,
            [{"id": 1, "value": "apple"}, {"id": 3, "value": "Cherry"}, {"id": 4, "value": quoted}],
            None,
            None,
        ],
        "range": [206, [{"id": 3}, {"id": 1}], 3, None],
        "head": [200, None, 3, None],
        "single": [200, {"value": "apple"}, None, None],
        "none": [406, None, None, "PGRST116"],
        "maybe": [200, None, None, None],
        "or": [200, [{"id": 1}, {"id": 4}], None, None],
        # supabase-js does not escape quotes inside a value: PostgREST, too, reads two values here, not `a,b "q"`.
        "in": [200, [{"id": 1}], None, None],
        "not": [200, [{"id": 1}, {"id": 4}], None, None],
        "contains": [200, [{"id": 1}, {"id": 3}], None, None],
        "csv": [200, "id,value\n1,apple", None, None],
        "missing": [404, None, None, "PGRST205"],
        "write": [405, None, None, "PGRST117"],
    }
    heard = [[event, what, replayed] for event, what, replayed in told["heard"]["heard"]]
    assert [event for event, _, _ in heard] == ["said", "stored", "bytes", "INSERT", "UPDATE", "DELETE"]
    assert heard[2][1] == [0xDE, 0xAD, 0, 0xFF]
    assert [what["record"] for _, what, _ in heard[3:]] == [{"id": 1, "value": "a"}, {"id": 1, "value": "b"}, None]
    assert [what["old_record"] for _, what, _ in heard[3:]] == [None, {"id": 1, "value": "a"}, {"id": 1, "value": "b"}]
    assert not any(replayed for _, _, replayed in heard)
    rest = {name: told["heard"][name] for name in ("joins", "tracked", "untracked", "sent", "asked")}
    assert rest == {"joins": [["ana", "fine"]], "tracked": "ok", "untracked": "ok", "sent": "ok", "asked": True}
    assert told["replayed"]["heard"] == [[word, word, True] for word in ("INSERT", "UPDATE", "DELETE")]
    assert "Unauthorized" in str(told["done"]["elsewhere"])
    assert told["done"]["own"] == 202


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
