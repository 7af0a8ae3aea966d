"""The local server alone: broadcast latency, throughput and fan-out, commit to client, and bursts of inserts, with and
without row level security. Beside each the ratio to Supabase Realtime v2.122.0, measured on two such cores with the
same kind of clients.

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
PER_SECOND, COMMITS = 20, 200
CALLERS = 100
# Supabase's: milliseconds (p50, p99), or so many a second; where a range was measured, its better end.
LATENCY, COMMIT = (0.6, 1.5), (255, 512)
BROADCASTS, DELIVERIES, CHANGES = 36_800, 94_000, 2_800


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


async def join(ws: Any, topic: str, token: str | None = None, **config: Any) -> None:
    await ws.send(json.dumps(["1", "1", topic, "phx_join", {"config": config, "access_token": token}]))
    await ws.recv()
    if "postgres_changes" in config:
        while "Subscribed" not in await ws.recv():
            pass


def told(what: str, samples: list[float], theirs: tuple[float, float]) -> None:
    samples = sorted(samples)
    p50, p99 = (samples[min(int(len(samples) * share), len(samples) - 1)] * 1000 for share in (0.5, 0.99))
    ratios = f"{theirs[0] / p50:,.1f} and {theirs[1] / p99:,.1f}"
    print(f"{what}: p50 {p50:.2f} ms, p99 {p99:.2f} ms ({ratios} times faster than {theirs[0]} and {theirs[1]} ms)")


def counted(what: str, each: str, rate: float, theirs: float) -> None:
    print(f"{what}: {rate:,.0f} {each} ({rate / theirs:.1f} times {theirs:,})")


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
        told("broadcast one to one", samples[100:], LATENCY)


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
        counted(f"broadcast one to one, {IN_FLIGHT} in flight", "a second", THROUGHPUT / took, BROADCASTS)


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
    counted(f"fan-out 1 to {SUBSCRIBERS}", "deliveries/s", SUBSCRIBERS * MESSAGES / took, DELIVERIES)
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
        samples: list[float] = []
        alone: list[float] = []
        due = time.perf_counter()
        for i in range(COMMITS):
            due += 1 / PER_SECOND
            await asyncio.sleep(max(due - time.perf_counter(), 0))
            waiting = asyncio.create_task(ws.recv())
            await asyncio.sleep(0)
            start = time.perf_counter()
            arrived: list[float] = []
            waiting.add_done_callback(lambda _, arrived=arrived: arrived.append(time.perf_counter()))
            await db.execute("insert into bench_rows values (%s, 'name', 1.5)", (-1 - i,))
            alone.append(time.perf_counter() - start)
            await waiting
            await asyncio.sleep(0)
            samples.append(arrived[0] - start)
        # The INSERT itself included: an upper bound of what comes after its commit, which the second line tells.
        told(f"insert and commit to client, {PER_SECOND} a second", samples, COMMIT)
        after = [max(sample - commit, 0.0) for sample, commit in zip(samples, alone, strict=True)]
        told("of that, from the commit's acknowledgement to the client", after, COMMIT)
        for round_ in range(3):
            took = await burst(db, "bench_rows", round_, [ws])
            counted(f"burst of {ROWS:,} inserts in one transaction", "changes/s", ROWS / took, CHANGES)


async def drain(ws: Any) -> None:
    for _ in range(ROWS):
        await ws.recv()


async def burst(db: Any, table: str, round_: int, sockets: list[Any]) -> float:
    """Seconds until everybody has received the last of them."""
    first = round_ * ROWS
    start = time.perf_counter()
    insert = db.execute(
        f"insert into {table} select i, 'name ' || i, i * 1.5 from generate_series(%s::int, %s::int) i".encode(),
        (first, first + ROWS - 1),
    )
    await asyncio.gather(insert, *(drain(ws) for ws in sockets))
    return time.perf_counter() - start


async def secured(port: int, dsn: str) -> None:
    """The same under row level security: a policy by claims, one caller and many, each seeing every row."""
    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as db:
        await db.execute("drop table if exists bench_secured")
        await db.execute(
            "create table bench_secured (id int8 primary key, name text, amount numeric, team text default 'red')"
        )
        await db.execute("alter table bench_secured enable row level security")
        await db.execute("create policy team on bench_secured for select using (team = auth.jwt() ->> 'team')")
        await db.execute("alter publication supabase_realtime add table bench_secured")
        for callers in (1, CALLERS):
            sockets = [await connect(port) for _ in range(callers)]
            entry = {"event": "*", "schema": "public", "table": "bench_secured"}
            for number, ws in enumerate(sockets):
                token = mint(SECRET, "authenticated", sub=str(number), team="red" if number == 0 else "blue")
                await join(ws, "realtime:s", token, postgres_changes=[entry])
            took = await burst(db, "bench_secured", callers, sockets[:1])
            counted(f"the same under row level security, {callers} callers", "changes/s", ROWS / took, CHANGES)
            if callers == 1:
                await db.execute("set synchronous_commit = off")  # else the disk is measured
                start = time.perf_counter()
                each = "insert into bench_secured values (-i, 'name ' || i, i * 1.5); commit"
                write = f"do $$ begin for i in 1..{ROWS} loop {each}; end loop; end $$"
                await asyncio.gather(db.execute(write.encode()), drain(sockets[0]))
                took = time.perf_counter() - start
                counted(f"and {ROWS:,} transactions of one row", "changes/s", ROWS / took, CHANGES)
            for ws in sockets:
                await ws.close()


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
        asyncio.run(secured(port.value, dsn))
    finally:
        process.terminate()
        process.join(10)


if __name__ == "__main__":
    main()
