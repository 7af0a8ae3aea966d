"""Row level security against Postgres itself as the oracle: whatever the policies and grants, each subscriber gets a
change if a SELECT under its role and claims shows the row, no version of a row that such a SELECT would not have shown,
and no column that it may not read."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Iterator
from contextlib import AsyncExitStack
from typing import Any, NamedTuple

import psycopg
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from rtwidgets.local.auth import mint
from rtwidgets.local.postgres import Postgres
from rtwidgets.local.server import RealtimeServer

from ..waits import received
from .client import ask, connected
from .conftest import SECRET

pytestmark = pytest.mark.pg

ANA, BOB = "11111111-1111-1111-1111-111111111111", "22222222-2222-2222-2222-222222222222"
CALLERS: dict[str, dict[str, Any]] = {
    "service": {"role": "service_role"},
    "anon": {"role": "anon"},
    "ana": {"role": "authenticated", "sub": ANA, "team": "red", "teams": ["red", "green"]},
    "bob": {"role": "authenticated", "sub": BOB, "team": "blue", "teams": []},
}
LONG = "long" * 1000
"""Stored apart, so that an update which leaves it alone does not carry it."""

conditions = st.recursive(
    st.sampled_from(
        [
            "true",
            "false",
            "level > 1",
            "id % 2 = 0",
            "secret is null",
            "owner = auth.uid()",
            "(select auth.uid()) = owner",
            "auth.role() = 'anon'",
            "team = auth.jwt() ->> 'team'",
            "auth.jwt() -> 'teams' ? team",
            "team = current_setting('request.jwt.claims', true)::json ->> 'team'",
            "exists (select from friends f where f.friend = auth.uid() and f.owner = t.owner)",
            "befriended(owner)",
            "in_the_open(id)",  # reads the table itself, as its owner
            "harmless(t)",
            "(to_jsonb(t) ->> 'level')::int > 1",  # a whole row
            "exists (select from t other where other.owner = auth.uid())",  # recurses: whoever asks is refused
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
values = {
    "owner": st.sampled_from([ANA, BOB, None]),
    "team": st.sampled_from(["red", "blue", None]),
    "level": st.integers(0, 3),
    "secret": st.sampled_from(["s", LONG, None]),
}
ids = st.integers(1, 3)
statements = st.one_of(
    st.tuples(st.just("insert"), ids, st.fixed_dictionaries(values)),
    st.tuples(st.just("update"), ids, st.fixed_dictionaries({}, optional=values)),
    st.tuples(st.just("move"), ids, ids),
    st.tuples(st.just("delete"), ids, st.none()),
)
transactions = st.lists(statements, min_size=1, max_size=4)
steps = st.lists(transactions | transactions | transactions | st.just("friends"), min_size=1, max_size=4)
grants = st.fixed_dictionaries(
    {role: st.sampled_from(["all", "all", "no secret", "none"]) for role in ("anon", "authenticated")}
)

TABLES = f"""
drop table if exists t, friends cascade;
create table friends (owner uuid, friend uuid);
insert into friends values ('{ANA}', '{BOB}');
create table t (id int primary key, owner uuid, team text, level int, secret text);
alter table t alter secret set storage external;
alter publication supabase_realtime add table t;
create or replace function befriended(whose uuid) returns bool language sql stable security definer as
  $$ select exists (select from friends f where f.friend = auth.uid() and f.owner = whose) $$;
create or replace function in_the_open(which int) returns bool language sql stable security definer as
  $$ select exists (select from t where id = which and (owner = auth.uid() or level > 2)) $$;
create or replace function harmless(r t) returns bool language sql as $$ select r.secret is null or r.level = 0 $$;
"""


class Change(NamedTuple):
    kind: str
    id: int
    version: dict[str, Any] | None
    shown: frozenset[str]
    """To whom a SELECT showed this version, right after it was made."""
    standing: list[str]
    """To whom a SELECT showed the row of that key, once all was committed; empty for a version that was replaced."""


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

    async def play(
        self, secured: bool, full: bool, rules: Any, granted: dict[str, str], script: Any, hurried: bool
    ) -> None:
        async with AsyncExitStack() as stack:
            connection = await psycopg.AsyncConnection.connect(self.dsn, autocommit=True)
            await stack.enter_async_context(connection)
            await connection.execute(TABLES.encode())
            if secured:
                await connection.execute("alter table t enable row level security")
            if full:
                await connection.execute("alter table t replica identity full")
            for number, (kind, role, condition) in enumerate(rules):
                await connection.execute(
                    f"create policy p{number} on t as {kind} for select to {role} using ({condition})".encode()
                )
            for role, what in granted.items():
                if what != "all":
                    await connection.execute(f"revoke select on t from {role}".encode())
                if what == "no secret":
                    await connection.execute(f"grant select (id, owner, team, level) on t to {role}".encode())
            sockets = {}
            for name, claims in CALLERS.items():
                ws = sockets[name] = await stack.enter_async_context(connected(self.server))
                rest = {key: value for key, value in claims.items() if key != "role"}
                config = {"postgres_changes": [{"event": "*", "schema": "public", "table": "t"}]}
                token = mint(SECRET, claims["role"], **rest)
                await ask(ws, "realtime:t", "phx_join", {"config": config, "access_token": token})
                assert json.loads(await ws.recv())[4]["status"] == "ok"
            state: dict[int, dict[str, Any]] = {}
            made: list[Change] = []
            for step in script:
                if step == "friends":
                    if not hurried:  # else what was hidden when it was made is rightly seen when it is asked for
                        await connection.execute(
                            f"with gone as (delete from friends returning 1) insert into friends "
                            f"select '{ANA}', '{BOB}' where not exists (select from gone)".encode()
                        )
                    continue
                await self.commit(connection, state, step, made)
                if not hurried:
                    await self.compare(sockets, made, state, granted)
                    made.clear()
            await self.compare(sockets, made, state, granted)

    async def commit(self, connection: Any, state: dict[int, dict[str, Any]], script: Any, made: list[Change]) -> None:
        """One transaction; adds what it changed to `made`."""
        async with connection.transaction():
            for kind, key, what in script:
                kind = {"insert": "update" if key in state else "insert"}.get(kind, kind if key in state else "skip")
                if kind == "insert":
                    query = "insert into t values (%(id)s, %(owner)s, %(team)s, %(level)s, %(secret)s)"
                    state[key] = {"id": key, **what}
                elif kind == "update":
                    query = f"update t set {', '.join(f'{name} = %({name})s' for name in what) or 'id = id'}"
                    query += " where id = %(id)s"
                    state[key] = state[key] | what
                elif kind == "delete":
                    query = "delete from t where id = %(id)s"
                    del state[key]
                elif kind == "move" and what not in state:
                    query = f"update t set id = {what} where id = %(id)s"
                    state[what] = state.pop(key) | {"id": what}
                else:
                    continue
                await connection.execute(query.encode(), state.get(key, {"id": key}))
                now = what if kind == "move" else key
                word = {"insert": "INSERT", "delete": "DELETE"}.get(kind, "UPDATE")
                version = dict(state[now]) if now in state else None
                made[:] = [change._replace(standing=[]) if change.id in (key, now) else change for change in made]
                shown = await self.shown(connection, now)
                made.append(Change(word, now, version, frozenset(shown), shown))

    async def shown(self, connection: Any, key: int) -> list[str]:
        """Who sees the row of that key now."""
        found = []
        for name, claims in CALLERS.items():
            try:
                async with connection.transaction(force_rollback=True):
                    await connection.execute(
                        "select set_config('request.jwt.claims', %s, true), set_config('role', %s, true)",
                        (json.dumps(claims), claims["role"]),
                    )
                    cursor = await connection.execute("select id from t where id = %s", (key,))
                    if await cursor.fetchone() is not None:
                        found.append(name)
            except psycopg.Error:
                pass
        return found

    async def compare(
        self, sockets: dict[str, Any], made: list[Change], state: dict[int, Any], granted: dict[str, str]
    ) -> None:
        for name, ws in sockets.items():
            got = await self.received(ws, len(made) if name == "service" else 0)
            may = granted.get(CALLERS[name]["role"], "all")
            for change in made:
                told = got.pop(0) if got and self.tells(got[0], change, may) else None
                if change.kind == "DELETE" or may == "none":
                    assert told, (name, change)
                elif told:
                    # Without a long value that it left as it was, a version may say no more than what stands now.
                    seen = any(name in other.standing for other in made if other.id == change.id)
                    standing = state[change.id] if seen else {}
                    assert name in change.shown or told[1].items() <= standing.items(), ("a leak", name, change)
                else:
                    assert name not in change.standing, ("a loss", name, change)
            assert got == [], (name, "what nobody did", got)

    @staticmethod
    def tells(got: Any, change: Change, may: str) -> bool:
        """Whether this event tells of that change, and of no more than the caller may read."""
        kind, record, old, errors = got
        if kind != change.kind:
            return False
        if kind == "DELETE":  # of a row that is gone no policy can tell: everybody gets the key
            return set(old) <= {"id", "owner", "team", "level", "secret"} and (
                old == {} if may == "none" else old["id"] == change.id
            )
        if may == "none":
            return record == {} and errors == ["Error 401: Unauthorized"]
        assert change.version is not None
        expected = {column: value for column, value in change.version.items() if column != "secret" or may == "all"}
        if expected.get("secret") == LONG and "secret" not in record:
            del expected["secret"]
        return errors is None and record == expected

    async def received(self, ws: Any, at_least: int) -> list[Any]:
        """The changes that came: all of a commit are written at once, so a heartbeat's reply comes behind them."""
        found = [await received(ws) for _ in range(at_least)]
        await ws.send(json.dumps([None, "beat", "phoenix", "heartbeat", {}]))
        while (frame := await received(ws))[1] != "beat":
            found.append(frame)
        told = [frame[4]["data"] for frame in found]
        return [(data["type"], data.get("record"), data.get("old_record"), data["errors"]) for data in told]


@pytest.fixture(scope="module")
def world(postgres: Postgres) -> Iterator[World]:
    found = World(postgres.dsn)
    yield found
    found.close()


cases = given(
    secured=st.booleans() | st.just(True),
    full=st.booleans(),
    rules=st.lists(policies, max_size=3),
    granted=grants,
    script=steps,
    hurried=st.booleans(),
)


def check(world: World, secured: bool, full: bool, rules: Any, granted: Any, script: Any, hurried: bool) -> None:
    world.runner.run(world.play(secured, full, rules, granted, script, hurried))


def row(owner: str, level: int = 0, secret: str | None = None) -> dict[str, Any]:
    return {"owner": owner, "team": "red", "level": level, "secret": secret}


def let_in(condition: str, before: dict[str, Any], *then: dict[str, Any]) -> Any:
    """A row that the policy hides from ana until the last update of a transaction shows it to her."""
    script = [[("insert", 1, before)], [("update", 1, what) for what in then]]
    rules = [("permissive", "authenticated", condition)]
    granted = {"anon": "all", "authenticated": "all"}
    return example(secured=True, full=False, rules=rules, granted=granted, script=script, hurried=False)


@let_in("owner = auth.uid()", row(BOB), {"level": 1}, {"owner": ANA})
@let_in("in_the_open(id)", row(BOB), {"level": 1}, {"level": 3})
@let_in("(to_jsonb(t) ->> 'level')::int > 1", row(BOB), {"team": "blue"}, {"level": 3})
@let_in("secret is null", row(BOB, secret=LONG), {"level": 1}, {"level": 2, "secret": None})
@settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@cases
def test_each_gets_what_a_select_would_show(world: World, **case: Any) -> None:
    check(world, **case)


# RTWIDGETS_EXAMPLES=5000 for a longer search.
EXAMPLES = int(os.environ.get("RTWIDGETS_EXAMPLES", "1000"))


@pytest.mark.slow
@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@cases
def test_each_gets_what_a_select_would_show_a_thousand_times(world: World, **case: Any) -> None:
    check(world, **case)
