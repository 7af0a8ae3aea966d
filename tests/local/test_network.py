"""A bad line on request, and a crowd on request."""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from rtwidgets.client.thread import run
from rtwidgets.local.handle import Local, local
from rtwidgets.local.simulate import people

from ..waits import wait_until

pytestmark = pytest.mark.pg


@pytest.fixture
def server(home: Path) -> Iterator[Local]:
    handle = local("t", idle_timeout=1)
    yield handle
    handle.stop()


class Room:
    """A topic on the handle's own client, that hears itself."""

    def __init__(self, server: Local) -> None:
        self.aio = server.client.aio
        self.heard: list[Any] = []
        self.channel = run(self._open(), 10)

    async def _open(self) -> Any:
        channel = self.aio.channel("room", broadcast_self=True)
        channel.on_broadcast("*", self.heard.append)
        await channel.subscribe()
        return channel

    def say(self, payload: Any) -> float:
        """Seconds until it was heard."""
        began = time.monotonic()
        run(self.channel.send("e", payload), 10)
        wait_until(lambda: payload in self.heard)
        return time.monotonic() - began

    @property
    def connected(self) -> bool:
        return self.aio.status == "connected" and self.channel.status == "joined"


def test_a_dropped_connection_is_made_anew(server: Local) -> None:
    """Nothing has to be restored: the next connection gets through."""
    room = Room(server)
    server.network.delay(0)
    wait_until(lambda: room.connected)
    before = room.aio.reconnects
    server.network.drop()
    wait_until(lambda: room.aio.reconnects > before and room.connected)
    room.say("still here")


def test_a_cut_a_delay_and_a_stall(server: Local) -> None:
    room = Room(server)
    room.say(1)
    network = server.network
    assert server.network is network
    wait_until(lambda: room.aio.reconnects == 1 and room.connected)
    room.say(2)

    network.delay(100)
    assert room.say(3) >= 0.2, "each way"
    network.restore()
    again = itertools.count()
    wait_until(lambda: room.say(f"again {next(again)}") < 0.15)

    network.stall(1.5)
    assert room.say(5) > 0.5
    assert room.aio.reconnects == 1, "the connection stood"

    network.cut()
    wait_until(lambda: not room.connected)
    time.sleep(0.5)
    assert not room.connected
    with pytest.raises(Exception, match=r"connect|disconnect|answer"):
        run(room.aio.rest.describe("nothing"), 10)
    network.restore()
    wait_until(lambda: room.connected)
    room.say(6)

    before = room.aio.reconnects
    network.cut(0.3)
    wait_until(lambda: room.aio.reconnects > before and room.connected)
    assert "open" in repr(network)
    second = server.connect("11111111-1111-1111-1111-111111111111")
    assert second.url == network.url, "later clients take the same line"


def test_much_data_keeps_its_order(server: Local) -> None:
    server.sql("create table many (id int primary key, body text)")
    server.sql("insert into many select n, repeat('x', 1000) from generate_series(1, 20000) n")
    server.network.delay(5)

    async def read() -> list[int]:
        return [row["id"] async for page in server.client.aio.rest.select("many", key=["id"]) for row in page.rows]

    assert run(read(), 60) == list(range(1, 20001))


def test_a_crowd_comes_talks_and_goes(server: Local) -> None:
    assert people(60, 1) == people(60, 1)
    assert people(60, 1) != people(60, 2)
    assert len({person["name"] for person in people(60, 1)}) == 60
    heard: list[Any] = []
    moves: list[Any] = []

    async def listen() -> Any:
        channel = server.client.aio.channel("lobby")
        channel.on_broadcast("cursor", moves.append)
        channel.on_presence(lambda _: None)
        channel.on_broadcast("message", heard.append)
        await channel.subscribe()
        return channel

    channel = run(listen(), 10)
    with server.simulate(users=20, seed=7, every=0.5) as crowd:
        assert crowd.running
        process = psutil.Process(crowd._process.pid)
        assert not any("eyJ" in part for part in process.cmdline()), "no token shows in ps"
        wait_until(lambda: len(channel.presence) >= 15)
        wait_until(lambda: len(heard) >= 20)
        assert {"sender", "text"} == set(heard[0])
        wait_until(lambda: len(moves) >= 50)
        assert all(0 <= move["x"] <= 1 and 0 <= move["y"] <= 1 for move in moves)
        assert {person["name"] for person in people(20, 7)} >= set(channel.presence)
    assert not crowd.running
    crowd.stop()
    for wrong in ({"users": 0}, {"every": 0}):
        with pytest.raises(ValueError, match="users is 1 or more"):
            server.simulate(**wrong)
    unkept = server.simulate(users=1)._process.pid
    assert psutil.Process(unkept).status() != psutil.STATUS_ZOMBIE, "at work though nobody keeps it"
    wait_until(lambda: len(channel.presence) == 0)
    with contextlib.suppress(psutil.NoSuchProcess):
        assert process.status() == psutil.STATUS_ZOMBIE
