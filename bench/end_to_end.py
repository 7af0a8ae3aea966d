"""From the socket into `.df`: a burst of changes through client, channel, follower and table.

    python -m bench.end_to_end [CHANGES]

Changes a second from the first one received until `.df` holds the last, with and without a reader that asks for `.df`
all the while, as a grid and a chart do. The server is the raw one of `bench.ingest`, in a process of its own. (How long
one commit takes into `.df`: `bench.latency`.)
"""

from __future__ import annotations

import asyncio
import multiprocessing
import sys
import threading
import time
from collections.abc import AsyncIterator
from typing import Any

from rtwidgets.client.client import AsyncClient
from rtwidgets.client.snapshot_source import Page, TableInfo
from rtwidgets.data.follower import TableFollower
from rtwidgets.protocol.messages import Column

from .ingest import CHANGES, DISTINCT, TYPES, record, serve

ROUNDS = 3
READ_EVERY = 0.1  # seconds


class Empty:
    """Stands for PostgREST: the table's columns, and no rows."""

    repeatable = True

    async def describe(self, table: str, schema: str = "public") -> TableInfo:
        return TableInfo([Column(name, kind) for name, kind in TYPES.items()], ("id",), True)

    async def select(self, table: str, **options: Any) -> AsyncIterator[Page]:
        yield Page([], 0)


class Reader(threading.Thread):
    """Asks for `.df` ten times a second, and looks at it."""

    def __init__(self, follower: TableFollower) -> None:
        super().__init__(daemon=True)
        self.follower, self.done, self.slowest, self.reads = follower, threading.Event(), 0.0, 0

    def run(self) -> None:
        while not self.done.wait(READ_EVERY):
            start = time.perf_counter()
            frame = self.follower.store.df()
            self.slowest, self.reads = max(self.slowest, time.perf_counter() - start), self.reads + 1
            frame["amount"].sum()


async def burst(url: str, changes: int, read: bool) -> tuple[float, float, Reader]:
    """Seconds and seconds of this process' CPU."""
    async with AsyncClient(url, "key") as client:
        channel = client.channel("bench")
        follower = TableFollower(channel, Empty(), "orders", verify_every=None)
        took = cpu = 0.0
        seen, done = 0, asyncio.Event()
        take = follower.on_changes

        def counted(batch: Any) -> None:
            nonlocal took, cpu, seen
            if not seen:
                took, cpu = time.perf_counter(), time.process_time()
            seen += len(batch)
            take(batch)
            if seen >= changes:
                follower.store.df()
                took, cpu = time.perf_counter() - took, time.process_time() - cpu
                done.set()

        follower.on_changes = counted  # type: ignore[method-assign]
        reader = Reader(follower)
        await follower.start()
        await channel.subscribe()
        await follower.wait_live(10)
        if read:
            reader.start()
        await asyncio.wait_for(done.wait(), 300)
        reader.done.set()
        if read:
            await asyncio.to_thread(reader.join)
        frame = follower.store.df().set_index("order_no")
        last = record(DISTINCT - 1)
        if dict(frame.loc[last["order_no"], ["amount", "quantity"]]) != {k: last[k] for k in ("amount", "quantity")}:
            raise SystemExit("the last change is not in .df")
        await follower.stop()
    return took, cpu, reader


def main() -> None:
    changes = int(sys.argv[1]) // DISTINCT * DISTINCT if len(sys.argv) > 1 else CHANGES
    context = multiprocessing.get_context("spawn")
    port = context.Value("i", 0)
    server = context.Process(target=serve, args=(port, changes), daemon=True)
    server.start()
    try:
        while not port.value and server.is_alive():
            time.sleep(0.05)
        for read in (False, True):
            found = [asyncio.run(burst(f"http://127.0.0.1:{port.value}", changes, read)) for _ in range(ROUNDS)]
            took, cpu, reader = min(found, key=lambda one: one[0])
            line = f"{changes:,} changes into .df: {changes / took:>9,.0f}/s, {1e6 * cpu / changes:.2f} us of CPU each"
            if read:
                line += f"; beside {reader.reads} reads of .df, the slowest {1e3 * reader.slowest:.1f} ms"
            print(line)
    finally:
        server.terminate()
        server.join(10)


if __name__ == "__main__":
    main()
