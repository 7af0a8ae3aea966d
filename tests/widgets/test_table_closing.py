"""`LiveTable.close()` before the table was ever live: nothing goes on."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

import rtwidgets as rt
from rtwidgets.client.rest import TableInfo
from rtwidgets.client.thread import call, io_loop
from rtwidgets.protocol.errors import RealtimeError
from rtwidgets.protocol.messages import Column

from ..waits import wait_until


@pytest.fixture
def client() -> Iterator[rt.Client]:
    """A client of a server that does not answer: nothing listens on that port."""
    made = rt.Client("http://127.0.0.1:9", "key")
    yield made
    made.close()


def tasks_of(table: rt.LiveTable) -> list[str]:
    """The unfinished tasks on the I/O thread that belong to the table or its follower."""

    def find() -> list[str]:
        names = [repr(task.get_coro()) for task in asyncio.all_tasks(io_loop())]
        return [name for name in names if "LiveTable." in name or "TableFollower." in name]

    return call(find)


def is_over(table: rt.LiveTable) -> bool:
    """Whether the table is closed, runs nothing, and receives nothing."""
    follower = table.follower
    idle = not follower._tasks and follower._timer is None and table._shared.starting.done() and not tasks_of(table)
    return table.status == follower.status == "closed" and idle and table.channel.aio.idle


def test_closing_tables_that_cannot_connect_ends_everything(client: rt.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    async def describe(table: str, schema: str = "public") -> TableInfo:
        asked.append(table)
        raise RealtimeError("down", code="ConnectionLost", retryable=True)

    monkeypatch.setattr(client.aio.rest, "describe", describe)
    tables = [rt.LiveTable(f"t{number}", client=client) for number in range(5)]
    wait_until(lambda: all(table.error for table in tables))
    assert {table.status for table in tables} == {"connecting"}
    before = len(asked)
    for table in tables:
        table.close()
    wait_until(lambda: all(map(is_over, tables)))
    call(lambda: [table.follower._tick() for table in tables])
    assert all(map(is_over, tables)), "nothing turns a closed table back into one that connects"
    assert len(asked) == before


def test_closing_a_table_that_is_being_described_subscribes_to_nothing(
    client: rt.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    describing, gate = call(asyncio.Event), call(asyncio.Event)

    async def describe(table: str, schema: str = "public") -> TableInfo:
        describing.set()
        try:
            await gate.wait()
        except asyncio.CancelledError:
            await gate.wait()  # an answer that had arrived already
        return TableInfo([Column("id", "int8")], ("id",), True)

    monkeypatch.setattr(client.aio.rest, "describe", describe)
    table = rt.LiveTable("t", client=client)
    wait_until(describing.is_set)
    table.close()
    call(gate.set)
    wait_until(lambda: is_over(table))
    sinks: Any = table.channel.aio._sinks
    assert not sinks
    assert table.channel.status == "closed"
