"""Row level security against Postgres itself as the oracle: whatever the policies and grants, each subscriber gets a
change if and only if a SELECT under its role and claims shows the row, and no column that it may not read."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Iterator
from contextlib import AsyncExitStack
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rtwidgets.local.auth import mint
from rtwidgets.local.postgres import Postgres
from rtwidgets.local.server import RealtimeServer

from .client import ask, connected
from .conftest import SECRET

pytestmark = pytest.mark.pg

ANA, BOB = "11111111-1111-1111-1111-111111111111", "22222222-2222-2222-2222-222222222222"
CALLERS: dict[str, dict[str, Any]] = {
    "anon": {"role": "anon"},
    "ana": {"role": "authenticated", "sub": ANA, "team": "red"},
    "bob": {"role": "authenticated", "sub": BOB, "team": "blue"},
    "service": {"role": "service_role"},
}

conditions = st.recursive(
    st.sampled_from(
        [
            "true",
            "false",
            "level > 1",
            "secret is null",
            "owner = auth.uid()",
            "auth.role() = 'anon'",
            "team = auth.jwt() ->> 'team'",
            "exists (select from friends f where f.friend = auth.uid() and f.owner = t.owner)",
        ]
    ),
    lambda inner: (
        st.builds(lambda a, word, b: f"({a} {word} {b})", inner, st.sampled_from(["and", "or"]), inner)
        | inner.map(lambda text: f"not {text}")
    ),
    max_leaves=3,
)
policies = st.tuples(
    st.sampled_from(["permissive", "permissive", "restrictive"]),
    st.sampled_from(["public", "anon", "authenticated"]),
    conditions,
)
rows = st.fixed_dictionaries(
    {
        "owner": st.sampled_from([ANA, BOB, None]),
        "team": st.sampled_from(["red", "blue", None]),
        "level": st.integers(0, 3),
        "secret": st.sampled_from(["s", None]),
    }
)
steps = st.lists(st.tuples(st.sampled_from(["insert", "update", "update", "delete"]), rows), min_size=1, max_size=5)


class World:
    """A server, and one subscriber for each caller."""

    def __init__(self, dsn: str) -> None:
        self.dsn = dsn
        self.runner = asyncio.Runner()
        self.server = RealtimeServer(dsn, jwt_secret=SECRET, anon_key=mint(SECRET, "anon"))
        self.runner.run(self.server.start())

    def close(self) -> None:
        self.runner.run(self.server.stop())
        self.runner.close()

    async def play(self, secured: bool, rules: list[tuple[str, str, str]], hidden: list[str], script: Any) -> None:
        async with AsyncExitStack() as stack:
            connection = await psycopg.AsyncConnection.connect(self.dsn, autocommit=True)
            await stack.enter_async_context(connection)
            await connection.execute(
                "drop table if exists t, friends cascade;"
                "create table friends (owner uuid, friend uuid);"
                f"insert into friends values ('{ANA}', '{BOB}');"
                "create table t (id int primary key, owner uuid, team text, level int, secret text);"
                "alter publication supabase_realtime add table t"
            )
            if secured:
                await connection.execute("alter table t enable row level security")
            for number, (kind, role, condition) in enumerate(rules):
                await connection.execute(
                    f"create policy p{number} on t as {kind} for select to {role} using ({condition})".encode()
                )
            for role in hidden:
                await connection.execute(
                    f"revoke select on t from {role}; grant select (id, owner, team, level) on t to {role}".encode()
                )
            sockets = {}
            for name, claims in CALLERS.items():
                ws = sockets[name] = await stack.enter_async_context(connected(self.server))
                rest = {key: value for key, value in claims.items() if key != "role"}
                config = {"postgres_changes": [{"event": "*", "schema": "public", "table": "t"}]}
                token = mint(SECRET, claims["role"], **rest)
                await ask(ws, "realtime:t", "phx_join", {"config": config, "access_token": token})
                assert json.loads(await ws.recv())[4]["status"] == "ok"
            exists = False
            for kind, row in script:
                kind = {"insert": "update" if exists else "insert"}.get(kind, kind if exists else "insert")
                if kind == "insert":
                    query = "insert into t values (1, %(owner)s, %(team)s, %(level)s, %(secret)s)"
                elif kind == "update":
                    query = "update t set owner=%(owner)s, team=%(team)s, level=%(level)s, secret=%(secret)s"
                else:
                    query = "delete from t"
                exists = kind != "delete"
                await connection.execute(query.encode(), row)
                for name in ("service", "anon", "ana", "bob"):
                    got = await self.received(sockets[name], at_least=name == "service")
                    expected = await self.expected(connection, kind, CALLERS[name], row, secured, hidden)
                    assert got == expected, (name, kind, row, rules)

    async def received(self, ws: Any, at_least: bool) -> list[Any]:
        """The changes that came: all of a commit are written at once, so a heartbeat's reply comes behind them."""
        found = [json.loads(await asyncio.wait_for(ws.recv(), 10))] if at_least else []
        await ws.send(json.dumps([None, "beat", "phoenix", "heartbeat", {}]))
        while (frame := json.loads(await asyncio.wait_for(ws.recv(), 10)))[1] != "beat":
            found.append(frame)
        return [(data["type"], data.get("record"), data["errors"]) for data in (frame[4]["data"] for frame in found)]

    async def expected(
        self, connection: Any, kind: str, claims: dict[str, Any], row: Any, secured: bool, hidden: list[str]
    ) -> list[Any]:
        if kind == "delete":
            return [("DELETE", None, None)]  # of a row that is gone no policy can tell: everybody gets the key
        async with connection.transaction():
            await connection.execute(
                "select set_config('request.jwt.claims', %s, true), set_config('role', %s, true)",
                (json.dumps(claims), claims["role"]),
            )
            cursor = await connection.execute("select id from t")
            visible = await cursor.fetchone() is not None
        if not visible:
            return []
        record = {"id": 1, **row}
        if claims["role"] in hidden:
            del record["secret"]
        return [(kind.upper(), record, None)]


@pytest.fixture(scope="module")
def world(postgres: Postgres) -> Iterator[World]:
    found = World(postgres.dsn)
    yield found
    found.close()


# More than each run of the tests needs: RTWIDGETS_EXAMPLES=1000 python -m pytest tests/local/test_rls_oracle.py
EXAMPLES = int(os.environ.get("RTWIDGETS_EXAMPLES", "40"))


@settings(max_examples=EXAMPLES, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(
    secured=st.booleans() | st.just(True),
    rules=st.lists(policies, max_size=3),
    hidden=st.lists(st.sampled_from(["anon", "authenticated"]), unique=True),
    script=steps,
)
def test_each_gets_what_a_select_would_show(
    world: World, secured: bool, rules: list[tuple[str, str, str]], hidden: list[str], script: Any
) -> None:
    world.runner.run(world.play(secured, rules, hidden, script))
