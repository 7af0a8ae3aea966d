"""What a client missed during a break is sent again, or it is told to read again."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtwidgets.client.client import AsyncClient
from rtwidgets.data.follower import TableFollower
from rtwidgets.local.handle import Local, local
from rtwidgets.local.pgoutput import Transaction
from rtwidgets.local.recent_transactions import RecentTransactions
from rtwidgets.protocol.backoff import Backoff
from tests.data.live import in_order, rows_of, selected, table

from ..waits import until


def transaction(lsn: int, changes: int = 1, size: int = 10, *, truncates: bool = False) -> Transaction:
    return Transaction(lsn, lsn + 1, lsn, 0, [None] * changes, size, truncates)  # type: ignore[list-item]


@given(st.lists(st.tuples(st.integers(1, 4), st.booleans()), max_size=30), st.integers(0, 40))
def test_all_since_or_nothing(sizes: list[tuple[int, bool]], since: int) -> None:
    ring, sent, cut = RecentTransactions(changes=10, size=10_000), [], None
    for lsn, (changes, truncates) in enumerate(sizes, 1):
        ring.add(transaction(lsn, changes, truncates=truncates))
        sent.append(lsn)
        cut = lsn if truncates else cut
    found = ring.since(since)
    if found is not None:
        assert [one.lsn for one in found] == [lsn for lsn in sent if lsn >= since]
        assert cut is None or since > cut
    assert sum(len(one.changes) for one in ring._kept) <= 10


def test_bytes_are_bounded_and_a_lost_stream_empties_it() -> None:
    ring = RecentTransactions(changes=1000, size=100)
    for lsn in range(1, 6):
        ring.add(transaction(lsn, size=40))
    assert ring.since(4) is not None
    assert ring.since(3) is None
    ring.clear()
    assert ring.since(5) is None
    assert ring.last is None


def test_a_stream_that_has_begun_lacks_nothing_from_there_on() -> None:
    ring = RecentTransactions()
    ring.restart(5)
    assert ring.last == 5
    assert ring.since(5) == []
    ring.add(transaction(7))
    assert [one.lsn for one in ring.since(5) or ()] == [7]
    assert ring.since(4) is None
    ring.restart(9)
    assert ring.since(7) is None


class Reads:
    """A REST client that counts how often a table is read whole."""

    def __init__(self, rest: Any) -> None:
        self.rest, self.whole = rest, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.rest, name)

    def select(self, table: str, **options: Any) -> Any:
        self.whole += "page_size" in options
        return self.rest.select(table, **options)


@pytest.mark.pg
async def test_a_table_goes_on_where_it_was(home: Path) -> None:
    server: Local = await asyncio.to_thread(local, "ring", idle_timeout=1)
    try:
        server.sql("create table t (id int primary key, v int); create table other (id int primary key)")
        server.publish("t", "other")
        server.sql("insert into t select n, 0 from generate_series(1, 200) n")
        network = server.network
        # Else the pauses between tries grow with each cut.
        client = AsyncClient(network.url, server.anon_key, backoff=Backoff(0.05, 0.2))
        reads = Reads(client.rest)
        channel = client.channel("ring")
        follower = TableFollower(channel, reads, "t", verify_every=None)
        await follower.start()
        await channel.subscribe()
        await follower.wait_live()
        server.sql("insert into t values (1000, 0)")
        await until(lambda: 1000 in follower.store)
        assert reads.whole == 1
        for number in range(5):
            network.cut()
            await until(lambda: follower.status == "stale")
            server.sql(f"update t set v = v + 1 where id % 3 = 0; delete from t where id = {10 + number}")
            server.sql("insert into t values (%s, 1)", 2000 + number)
            network.restore()
            await until(lambda: follower.status == "live")
            await until(lambda number=number: 2000 + number in follower.store)
            assert in_order(rows_of(follower.store.df())) == in_order(selected(server, "select * from t"))
        assert reads.whole == 1, "what was missed was sent: the table was not read again"
        # More than the server keeps: the table is read again.
        network.cut()
        await until(lambda: follower.status == "stale")
        async with table(server, "t") as beside:  # on a line of its own
            server.sql("insert into other select generate_series(1, 25000)")
            server.sql("delete from t where id = 1000")
            await until(lambda: 1000 not in beside.store)  # so it was sent
        network.restore()
        await until(lambda: follower.status == "live" and 1000 not in follower.store)
        assert reads.whole == 2
        # A table that was emptied meanwhile: nobody is told of that, so it is read again too.
        network.cut()
        await until(lambda: follower.status == "stale")
        server.sql("truncate t")
        network.restore()
        await until(lambda: follower.status == "live" and len(follower.store) == 0)
        await follower.stop()
        await client.close()
    finally:
        await asyncio.to_thread(server.stop)
