"""Joins and reconnects beside four writers: every committed change reaches the table once, nothing else ever does.

A writer's transaction number n inserts row n, deletes row n - 20 and counts up; some are rolled back, some take a
while. So what a table applies after its snapshot must be n + 1, n + 2, ... of each writer: one less is a duplicate, one
more a gap.
"""

from __future__ import annotations

import asyncio
import os
import random
import threading
import time
from collections.abc import AsyncIterator, Iterator
from functools import partial
from typing import Any

import psycopg
import pytest
import pytest_asyncio

from rtwidgets.client.client import AsyncClient
from rtwidgets.data.follower import TableFollower
from rtwidgets.local.handle import Local
from rtwidgets.protocol.backoff import Backoff
from rtwidgets.protocol.messages import Change

from ..data.conftest import server as server
from ..data.live import rows_of, selected, table
from ..waits import until

pytestmark = [pytest.mark.pg, pytest.mark.slow]

JOINS = int(os.environ.get("RTWIDGETS_JOINS", "200"))
"""Of each sort."""
WRITERS, WINDOW = 4, 20
AT_ONCE = 4


class Writer(threading.Thread):
    def __init__(self, dsn: str, number: int, stop: threading.Event) -> None:
        super().__init__(daemon=True)
        self.dsn, self.number, self.stop = dsn, number, stop
        self.done = self.undone = 0

    def run(self) -> None:
        rng = random.Random(self.number)
        with psycopg.connect(self.dsn) as connection:
            while not self.stop.is_set():
                n = self.done + 1
                connection.execute("insert into joined values (%s, %s, 0)", (self.number, n))
                connection.execute("update joined set v = v + 1 where w = %s and n = -1000", (self.number,))
                if rng.random() < 0.3:
                    time.sleep(rng.random() / 100)  # stays open while others, begun later, commit
                connection.execute("delete from joined where w = %s and n = %s", (self.number, n - WINDOW))
                if rng.random() < 0.2:
                    connection.rollback()
                    self.undone += 1
                else:
                    connection.commit()
                    self.done = n
                time.sleep(rng.random() / 200)


@pytest.fixture
def writers(server: Local) -> Iterator[list[Writer]]:
    server.sql("drop table if exists joined; create table joined (w int, n int, v int, primary key (w, n))")
    server.sql("insert into joined select w, -1000, 0 from generate_series(1, 4) w")
    server.publish("joined")
    stop = threading.Event()
    running = [Writer(server.dsn, number, stop) for number in range(1, WRITERS + 1)]
    for writer in running:
        writer.start()
    yield running
    stop.set()
    for writer in running:
        writer.join()


@pytest_asyncio.fixture
async def client(server: Local) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(server.url, server.anon_key, backoff=Backoff(0.005, 0.02)) as made:
        yield made


class Auditor:
    """Looks at everything that a table applies."""

    def __init__(self, follower: TableFollower) -> None:
        self.last: dict[int, int] = {}
        self.count = self.reads = 0
        self.faults: list[str] = []
        store = follower.store
        load, resync, apply = store.load, store.resync, store.apply

        def loaded(work: Any, given: Any, *columns: Any, **described: Any) -> Any:
            self.reads += 1
            rows: list[dict[str, Any]] = []
            for part in given:  # rows as JSON carries them, or batches of columns
                rows += [part] if isinstance(part, dict) else part.to_pylist()
            self.last = {row["w"]: row["v"] for row in rows if row["n"] < 0}
            for w, v in self.last.items():
                held = sorted(row["n"] for row in rows if row["w"] == w and row["n"] > 0)
                if held != list(range(max(v - WINDOW + 1, 1), v + 1)):
                    self.faults.append(f"the snapshot is torn: writer {w} at {v} has {held}")
            return work(given, *columns, **described)

        def applied(changes: list[Change]) -> Any:
            for change in changes:
                self._look(change, store)
            return apply(changes)

        store.load = partial(loaded, load)  # type: ignore[method-assign]
        store.resync = partial(loaded, resync)  # type: ignore[method-assign]
        store.apply = applied  # type: ignore[method-assign,assignment]

    def _look(self, change: Change, store: Any) -> None:
        self.count += 1
        record, old = change.record or {}, change.old_record or {}
        if change.type == "UPDATE":
            w, v = record["w"], record["v"]
            if v != self.last[w] + 1:
                kind = "duplicate" if v <= self.last[w] else "gap"
                self.faults.append(f"{kind}: writer {w} went from {self.last[w]} to {v}")
            self.last[w] = v
        elif change.type == "INSERT" and record["n"] != self.last[record["w"]] + 1:
            self.faults.append(f"insert {record['n']} of writer {record['w']} after {self.last[record['w']]}")
        elif change.type == "DELETE" and old["n"] != self.last[old["w"]] - WINDOW:
            self.faults.append(f"delete {old['n']} of writer {old['w']} after {self.last[old['w']]}")


async def test_joins(server: Local, client: AsyncClient, writers: list[Writer]) -> None:
    left = iter(range(JOINS))
    audits: list[Auditor] = []

    async def join() -> None:
        for number in left:
            async with table(server, "joined", client=client, live=False) as follower:
                audits.append(audit := Auditor(follower))
                await follower.channel.subscribe()  # type: ignore[attr-defined]
                await follower.wait_live()
                await until(lambda: audit.count > 20)
                assert audit.faults == []
                no_ghosts(follower, f"join {number}")
            await asyncio.sleep(0)

    await asyncio.gather(*(join() for _ in range(AT_ONCE)))
    assert [fault for audit in audits for fault in audit.faults] == []
    assert len(audits) == JOINS
    assert min(writer.done for writer in writers) > WINDOW
    assert min(writer.undone for writer in writers) > 0


async def test_reconnects(server: Local, client: AsyncClient, writers: list[Writer]) -> None:
    async with table(server, "joined", client=client, live=False) as follower:
        audit = Auditor(follower)
        await follower.channel.subscribe()  # type: ignore[attr-defined]
        await follower.wait_live()
        rng = random.Random(1)
        for number in range(JOINS):
            assert client._socket is not None
            if number % 2:
                follower.resume_lsn = None  # every other time the table is read again, as where nothing was kept
            client._socket.abort()  # with whatever was on its way
            await until(lambda: follower.status != "live")
            await until(lambda: follower.status == "live")
            await asyncio.sleep(rng.random() / 20)
            if number % 10 == 0:
                no_ghosts(follower, f"reconnect {number}")
        await until(lambda: audit.count > 20)
        writers[0].stop.set()
        for writer in writers:
            await asyncio.to_thread(writer.join)
        want = sorted(tuple(row.values()) for row in selected(server, "select * from joined"))
        await until(lambda: sorted(tuple(row.values()) for row in rows_of(follower.store.df())) == want)
        assert audit.faults == []
        assert audit.reads >= JOINS // 2 + 1


def no_ghosts(follower: TableFollower, when: str) -> None:
    """At most the last transaction of each writer is in the table by half."""
    frame = follower.store.df()
    at = frame.loc[frame["n"] < 0].set_index("w")["v"]
    events = frame.loc[frame["n"] > 0]
    behind = events["w"].map(at) - events["n"]
    fine = behind.between(-1, WINDOW)
    assert fine.all(), f"{when}: {at.to_dict()} {events.assign(behind=behind)[~fine].to_dict('records')}"
    assert events.groupby("w").size().between(WINDOW - 1, WINDOW + 1).all() or at.min() < WINDOW, when
