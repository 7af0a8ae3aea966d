"""The local server alone: broadcast latency, fan-out, commit to client, and a burst of inserts.

    python -m bench.server [DSN]

Starts a Postgres of its own unless a DSN (wal_level=logical) is given. Server, clients and Postgres share this
machine's cores; the server runs in a process of its own, the clients in this one.
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psycopg
import websockets

from rtwidgets.local.auth import mint
from rtwidgets.local.limits import Limits
from rtwidgets.local.server import RealtimeServer

SECRET = "a-secret-of-the-benchmark-that-is-long-enough"
SUBSCRIBERS, MESSAGES, ROWS = 200, 300, 10_000
IN_FLIGHT, THROUGHPUT = 500, 50_000


def serve(dsn: str, port: Any) -> None:
    async def run() -> None:
        server = RealtimeServer(dsn, jwt_secret=SECRET, limits=Limits(idle=3600))
        await server.start()
        port.value = server.port
        await asyncio.Event().wait()

    try:
        import uvloop
    except ImportError:
        asyncio.run(run())
    else:
        uvloop.run(run())


def connect(port: int) -> Any:
    url = f"ws://127.0.0.1:{port}/realtime/v1/websocket?apikey={mint(SECRET, 'anon')}&vsn=2.0.0"
    return websockets.connect(url, max_size=None, compression=None, max_queue=None)


async def join(ws: Any, topic: str, **config: Any) -> None:
    await ws.send(json.dumps(["1", "1", topic, "phx_join", {"config": config}]))
    await ws.recv()
    if "postgres_changes" in config:
        while "Subscribed" not in await ws.recv():
            pass


def percentiles(samples: list[float]) -> str:
    samples = sorted(samples)
    at = lambda share: samples[min(int(len(samples) * share), len(samples) - 1)] * 1000  # noqa: E731
    return f"p50 {at(0.5):.2f} ms, p99 {at(0.99):.2f} ms"


def message(text: str) -> str:
    return json.dumps(
        ["1", None, "realtime:b", "broadcast", {"type": "broadcast", "event": "m", "payload": {"t": text}}]
    )


async def latency(port: int) -> None:
    async with connect(port) as a, connect(port) as b:
        await join(a, "realtime:b")
        await join(b, "realtime:b")
        samples = []
        for i in range(1000):
            start = time.perf_counter()
            await a.send(message(str(i)))
            await b.recv()
            samples.append(time.perf_counter() - start)
        print(f"broadcast one to one: {percentiles(samples[100:])}")


async def in_flight(port: int) -> None:
    async with connect(port) as a, connect(port) as b:
        await join(a, "realtime:b")
        await join(b, "realtime:b")
        room, text = asyncio.Semaphore(IN_FLIGHT), message("x")

        async def hear() -> None:
            for _ in range(THROUGHPUT):
                await b.recv()
                room.release()

        start = time.perf_counter()
        hearing = asyncio.create_task(hear())
        for _ in range(THROUGHPUT):
            await room.acquire()
            await a.send(text)
        await hearing
        took = time.perf_counter() - start
        print(
            f"broadcast one to one, {IN_FLIGHT} in flight: {THROUGHPUT / took:,.0f} a second (Python clients included)"
        )


async def fan_out(port: int) -> None:
    sockets = [await connect(port) for _ in range(SUBSCRIBERS + 1)]
    for ws in sockets:
        await join(ws, "realtime:b")

    async def drain(ws: Any) -> None:
        for _ in range(MESSAGES):
            await ws.recv()

    start = time.perf_counter()
    tasks = [asyncio.create_task(drain(ws)) for ws in sockets[1:]]
    for i in range(MESSAGES):
        await sockets[0].send(message(str(i)))
    await asyncio.gather(*tasks)
    took = time.perf_counter() - start
    print(f"fan-out 1 to {SUBSCRIBERS}: {SUBSCRIBERS * MESSAGES / took:,.0f} deliveries/s (Python clients included)")
    for ws in sockets:
        await ws.close()


async def changes(port: int, dsn: str) -> None:
    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as db, connect(port) as ws:
        await db.execute("drop table if exists bench_rows")
        await db.execute(
            "create table bench_rows (id int8 primary key, name text, amount numeric, at timestamptz default now())"
        )
        await db.execute("alter publication supabase_realtime add table bench_rows")
        await join(ws, "realtime:r", postgres_changes=[{"event": "*", "schema": "public", "table": "bench_rows"}])
        samples = []
        for i in range(500):
            waiting = asyncio.create_task(ws.recv())
            await db.execute("insert into bench_rows values (%s, 'name', 1.5)", (-1 - i,))
            start = time.perf_counter()
            await waiting
            samples.append(time.perf_counter() - start)
        print(f"commit (as its writer sees it) to client: {percentiles(samples[50:])}")
        for round_ in range(3):
            start = time.perf_counter()
            first = round_ * ROWS
            insert = db.execute(
                "insert into bench_rows select i, 'name ' || i, i * 1.5 from generate_series(%s::int, %s::int) i",
                (first, first + ROWS - 1),
            )
            task = asyncio.create_task(insert)
            for _ in range(ROWS):
                await ws.recv()
            took = time.perf_counter() - start
            await task
            print(
                f"burst of {ROWS:,} inserts in one transaction: {ROWS / took:,.0f} changes/s until the last is received"
            )


def main() -> None:
    if len(sys.argv) > 1:
        measure(sys.argv[1])
        return
    from rtwidgets.local.postgres import Postgres

    with tempfile.TemporaryDirectory(prefix="rtw", ignore_cleanup_errors=True) as folder:
        postgres = Postgres(Path(folder) / "data")
        postgres.start()
        try:
            measure(postgres.dsn)
        finally:
            postgres.stop()


def measure(dsn: str) -> None:
    context = multiprocessing.get_context("spawn")
    port = context.Value("i", 0)
    process = context.Process(target=serve, args=(dsn, port), daemon=True)
    process.start()
    while not port.value and process.is_alive():
        time.sleep(0.02)
    try:
        asyncio.run(latency(port.value))
        asyncio.run(in_flight(port.value))
        asyncio.run(fan_out(port.value))
        asyncio.run(changes(port.value, dsn))
    finally:
        process.terminate()
        process.join(10)


if __name__ == "__main__":
    main()
