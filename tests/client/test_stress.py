"""Everything at once, cancelled anywhere: nothing is left behind, nothing hangs, and it still works afterwards."""

from __future__ import annotations

import asyncio
import gc
import random
import threading
import tracemalloc
from typing import Any

import pytest

from rtwidgets.client import notebook, thread
from rtwidgets.client.client import AsyncClient
from rtwidgets.client.connect import connect
from rtwidgets.protocol.backoff import Backoff
from rtwidgets.protocol.errors import RealtimeError
from rtwidgets.protocol.subscription import ChangesBinding

from ..waits import until, within
from .fake import FakeServer
from .test_client import Sink, client_of, jwt, server

__all__ = ["server"]


def ours() -> set[asyncio.Task[Any]]:
    return {task for task in asyncio.all_tasks() if "rtwidgets/client" in repr(task)}


def timers() -> list[Any]:
    """What this loop still has to do of ours, later."""
    loop: Any = asyncio.get_running_loop()
    waiting = [handle._callback for handle in loop._scheduled if not handle.cancelled()]
    return [callback for callback in waiting if "rtwidgets" in str(getattr(callback, "__module__", ""))]


class Person:
    """Does what people do, in any order, and gives up waiting whenever it likes."""

    def __init__(self, client: AsyncClient, server: FakeServer, random: random.Random) -> None:
        self.client, self.server, self.random = client, server, random
        self.unregister: list[Any] = []

    async def act(self) -> None:
        topic = self.random.choice("abc")
        try:
            channel = self.client.channel(topic, ack=True, broadcast_self=True)
            what = self.random.randrange(11)
            if what == 0:
                await channel.subscribe(1)
            elif what == 1:
                await channel.unsubscribe()
            elif what == 2:
                await asyncio.gather(*(channel.send("m", n) for n in range(5)))
            elif what == 3:
                await channel.track({"n": self.random.random()})
            elif what == 4:
                await channel.untrack()
            elif what == 5:
                self.unregister.append(channel.add_changes(ChangesBinding(table=topic), Sink()))
            elif what == 6:
                self.unregister.append(channel.retain())
            elif what == 7 and self.unregister:
                self.unregister.pop(self.random.randrange(len(self.unregister)))()
            elif what == 8:
                async for _ in channel.broadcasts("m"):
                    break
            elif what == 9:
                self.server.drop()
            else:
                await self.server.close_channel(topic, self.random.choice([None, "Token has expired 0 seconds ago"]))
        except RealtimeError:
            pass


@pytest.mark.parametrize("seed", range(4))
async def test_any_call_may_be_cancelled_at_any_moment(server: FakeServer, seed: int) -> None:
    rng = random.Random(seed)
    before, threads = ours(), set(threading.enumerate())
    source: Any = [None, jwt(5000), lambda: jwt(rng.randrange(3000, 9000)), None][seed]
    client = client_of(server, token=source, heartbeat_interval=0.2, timeout=0.5)
    await client.connect()
    for topic in "abc":
        client.channel(topic, ack=True, broadcast_self=True)._machine.backoff = Backoff(0.01, 0.05)
    people = [Person(client, server, rng) for _ in range(5)]

    async def live(person: Person) -> None:
        for _ in range(40):
            acting = asyncio.ensure_future(person.act())
            await asyncio.wait([acting], timeout=rng.choice([0.0, 0.001, 0.01, 0.1]))
            acting.cancel()
            await asyncio.gather(acting, return_exceptions=True)

    await asyncio.wait_for(asyncio.gather(*(live(person) for person in people)), 60)
    # It is as good as new: whatever was going on, a channel can be joined and a message goes round.
    await until(lambda: client.status == "connected")
    got: list[Any] = []
    channel = client.channel("a", ack=True, broadcast_self=True)
    channel.on_broadcast("after", got.append)
    await channel.subscribe(5)
    for n in range(20):  # a rejoin that was due may come in between: then the sender is told, and sends again
        try:
            await channel.send("after", n)
            break
        except RealtimeError:
            await channel.subscribe(5)
    await until(lambda: got)
    await client.close()
    await until(lambda: ours() <= before and set(threading.enumerate()) <= threads)
    assert timers() == []
    assert not channel._outgoing.replies
    assert not channel._outgoing.buffer
    assert not channel._waiters
    assert client.channels == {}


async def test_closing_in_the_middle_of_everything(server: FakeServer) -> None:
    for moment in [*range(40), *range(40, 400, 20)]:
        client = client_of(server, timeout=0.5)
        channel = client.channel("t", ack=True, presence_key="ana")
        calls = [
            asyncio.ensure_future(call)
            for call in (client.connect(), channel.subscribe(2), channel.send("m", 1), channel.track({"n": 1}))
        ]
        for _ in range(moment + 1):
            await asyncio.sleep(0)  # each one turn of the loop later
        await client.close()
        done = await within(asyncio.gather(*calls, return_exceptions=True))
        assert all(found is None or isinstance(found, RealtimeError) for found in done), done
        assert client.status == "closed"
        await until(lambda: not ours())
        assert timers() == []


@pytest.mark.slow
async def test_clients_that_are_closed_leave_no_memory_behind(server: FakeServer) -> None:
    async def one() -> None:
        async with client_of(server) as client:
            channel = client.channel("t")
            channel.add_changes(ChangesBinding(table="t"), Sink())
            await channel.subscribe()

    for _ in range(20):
        await one()
    server.received.clear()
    server.sockets.clear()
    server.vsn.clear()
    gc.collect()
    kinds = ("AsyncClient", "AsyncChannel", "Wire", "Receiver", "ChangeSinks")
    alive = [found for found in gc.get_objects() if type(found).__name__ in kinds]
    assert len(alive) <= len(kinds), "at most the last one's"


@pytest.mark.slow
async def test_memory_is_bounded_however_much_comes(server: FakeServer) -> None:
    """Messages that nobody reads fast enough: what waits for a reader is bounded, what was handed on is forgotten."""
    async with client_of(server) as client:
        channel = client.channel("t")
        count = 0

        class Counting(Sink):
            def on_changes(self, changes: list[Any]) -> None:
                nonlocal count
                count += len(changes)

        channel.add_changes(ChangesBinding(table="t"), Counting())
        await channel.subscribe()
        reader = channel.broadcasts("m", maxlen=10)
        first = asyncio.ensure_future(anext(reader))
        await asyncio.sleep(0)

        async def wave(waves: int) -> None:
            for n in range(waves):
                await server.change("t", *({"id": n * 100 + i, "status": "x" * 1000} for i in range(100)))
                for i in range(20):
                    body = {"type": "broadcast", "event": "m", "payload": {"d": "y" * 1000, "n": i}}
                    await server.everyone("t", "broadcast", body)
                    await server.everyone(
                        "t", "presence_diff", {"joins": {f"k{i}": {"metas": [{"phx_ref": f"{n}"}]}}, "leaves": {}}
                    )
                await asyncio.sleep(0)

        await wave(5)
        await until(lambda: count == 500)
        assert (await first)["n"] >= 0
        gc.collect()
        tracemalloc.start()
        await wave(40)
        await until(lambda: count == 4500)
        gc.collect()
        grown, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert grown < 1_000_000, "what was handed on is not kept"
        assert most < 20_000_000
        await reader.aclose()


def test_no_thread_and_no_task_is_left_after_a_stormy_session() -> None:
    fake = FakeServer()
    thread.run(fake.__aenter__(), 5)
    threads = threading.active_count()
    for _ in range(10):
        client = connect(fake.url, "key", token=lambda: jwt(1000))
        room = notebook.Channel("chat", ack=True).subscribe()
        room.send("m", {"a": 1})
        room.track({"n": 1})
        client.close()

    async def left() -> list[str]:
        return [repr(task) for task in ours()]

    assert thread.run(left(), 5) == []
    assert threading.active_count() == threads
    thread.run(fake.__aexit__(), 5)
