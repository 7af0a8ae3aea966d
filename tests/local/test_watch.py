"""When the server looks again at the tables that are followed, on a catalogue that the test writes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import pytest

from rtwidgets.local import subscriptions
from rtwidgets.local.subscriptions import Subscriptions

from ..waits import until


class Database:
    """Answers where its log stands and which transactions are visible, as far as it is asked."""

    def __init__(self) -> None:
        self.answers = {"pg_current_wal_insert_lsn": "0/10", "pg_current_snapshot": "5:5:"}
        self.asked = 0

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Database]:
        yield self

    async def execute(self, query: str) -> Database:
        self.asked += 1
        self.row = tuple(answer for function, answer in self.answers.items() if function in query)
        return self

    async def fetchone(self) -> tuple[str, ...]:
        return self.row


class Follower:
    """A channel that has asked for a table's changes."""

    def __init__(self, entry: dict[str, str]) -> None:
        self.channel = SimpleNamespace(config=SimpleNamespace(changes=[entry]))


async def test_a_commit_that_is_seen_later_than_it_is_in_the_log_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    looks = 0

    async def look(connection: Database, names: Sequence[tuple[str, str]]) -> list[Any]:
        nonlocal looks
        looks += 1
        return []

    monkeypatch.setattr(subscriptions, "read_published", look)
    monkeypatch.setattr(subscriptions, "_LOOK", 0.001)
    database, streaming = Database(), asyncio.Event()
    streaming.set()
    unused: Any = SimpleNamespace()
    watched = Subscriptions(database, unused, unused, SimpleNamespace(), streaming, unused)  # type: ignore[arg-type]
    watched._follow(Follower({"event": "*", "schema": "public", "table": "orders"}))  # type: ignore[arg-type]
    watching = asyncio.create_task(watched.watch())

    async def asked_again() -> None:
        asked = database.asked
        await until(lambda: database.asked > asked + 2)

    await until(lambda: looks == 1)
    await asked_again()
    assert looks == 1, "nothing was written"
    database.answers["pg_current_snapshot"] = "6:6:"  # what was in the log already is seen now
    await until(lambda: looks == 2)
    database.answers["pg_current_wal_insert_lsn"] = "0/20"
    await until(lambda: looks == 3)
    await asked_again()
    assert looks == 3
    watching.cancel()
