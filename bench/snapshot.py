"""A whole table into memory: rows a second and peak memory, beside ADBC, connectorx, polars and psycopg with pandas.

    python -m bench.snapshot [ROWS ...]

Default 10,000 and 1,000,000 rows of ten mixed columns, and 5,000,000 for those that read over a DSN. Each read is a
process of its own; they take turns, so that a slow minute of the machine is everybody's. Peak memory is what the
process has used at most, less what its imports take. Ours is a live table: subscribed, with its key index, ready for
changes. Those that are not installed are left out (`pip install --group bench`).
"""

from __future__ import annotations

import importlib.util
import json
import os
import resource
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg

ROUNDS = {10_000: 9, 1_000_000: 5, 5_000_000: 3}
DSN_ONLY = 2_000_000
"""From so many rows on, REST is left out."""
COLUMNS = """select i::int8 as id, (i * 7919 % 50021)::int4 as customer,
  ('00000000-0000-4000-8000-' || lpad(to_hex(i * 2654435761), 12, '0'))::uuid as ref,
  (array['open', 'paid', 'sent', 'lost', 'back'])[i % 5 + 1] as status,
  case when i % 10 > 0 then 'note ' || md5(i::text) end as note, random() * 1000 as price,
  (i % 99991 / 100.0)::numeric(12, 2) as amount, i % 3 = 0 as paid,
  timestamptz '2026-01-01' + i * interval '1.234567 s' as at, date '2020-01-01' + (i % 3000)::int as day
  from generate_series(1, {rows}::int8) i"""


# --- each: reads the table, and returns what holds it


def adbc(table: str, dsn: str) -> Callable[[], object]:
    from adbc_driver_postgresql import dbapi  # pyright: ignore[reportMissingImports]

    def read() -> object:
        with dbapi.connect(dsn) as connection, connection.cursor() as cursor:
            cursor.execute(f"select * from {table}")
            return cursor.fetch_arrow_table()

    return read


def connectorx(table: str, dsn: str) -> Callable[[], object]:
    import connectorx  # pyright: ignore[reportMissingImports]
    import pyarrow  # noqa: F401 -- which it loads for the result

    return lambda: connectorx.read_sql(dsn, f"select * from {table}", return_type="arrow", protocol="binary")


def polars(table: str, dsn: str) -> Callable[[], object]:
    import connectorx  # noqa: F401 # pyright: ignore[reportMissingImports] -- which it reads with
    import polars  # pyright: ignore[reportMissingImports]
    import pyarrow  # noqa: F401 -- which it loads for the result

    return lambda: polars.read_database_uri(f"select * from {table}", dsn)


def psycopg_pandas(table: str, dsn: str) -> Callable[[], object]:
    import pandas

    def read() -> object:
        with psycopg.connect(dsn) as connection:
            cursor = connection.execute(f"select * from {table}".encode())
            return pandas.DataFrame(cursor.fetchall(), columns=[one.name for one in cursor.description or ()])

    return read


def ours(table: str, source: str | None) -> Callable[[], object]:
    import rtwidgets as rt

    client, make = rt.connect(os.environ["BENCH_URL"], os.environ["BENCH_KEY"]), rt.LiveTable
    client.channel("bench").subscribe()

    def read() -> object:
        live = make(table, source=source, verify_every=None)
        live.wait_live(600)
        assert live.count == int(os.environ["BENCH_ROWS"]), live
        return live

    return read


READERS: dict[str, Callable[[str, str], Callable[[], object]]] = {
    "rtwidgets (DSN)": ours,
    "rtwidgets (local REST)": lambda table, dsn: ours(table, None),
    "adbc-driver-postgresql": adbc,
    "connectorx": connectorx,
    "polars": polars,
    "psycopg and pandas": psycopg_pandas,
}
NEEDS = {"adbc-driver-postgresql": "adbc_driver_postgresql", "connectorx": "connectorx", "polars": "polars"}


def peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # MB


def child(name: str, table: str, dsn: str) -> None:
    """One read, in a process of its own."""
    read = READERS[name](table, dsn)
    before, start = peak(), time.perf_counter()
    held = read()
    took = time.perf_counter() - start
    print(json.dumps([took, peak() - before]), flush=True)
    os._exit(0 if held is not None else 1)  # without taking it apart


def measure(rows: int, dsn: str) -> None:
    table = f"snapshot_{rows}"
    with psycopg.connect(dsn, autocommit=True) as db:
        db.execute(f"create table {table} as {COLUMNS.format(rows=rows)}".encode())
        db.execute(f"alter table {table} add primary key (id)".encode())
        db.execute(f"alter publication supabase_realtime add table {table}".encode())
        db.execute(f"grant select on {table} to anon".encode())
        db.execute(f"vacuum analyze {table}".encode())
    names = [name for name in READERS if name not in NEEDS or importlib.util.find_spec(NEEDS[name])]
    names = [name for name in names if rows < DSN_ONLY or "REST" not in name]
    samples: dict[str, list[tuple[float, float]]] = {name: [] for name in names}
    environment = os.environ | {"BENCH_ROWS": str(rows)}
    for _ in range(ROUNDS.get(rows, 3)):
        for name in names:
            command = [sys.executable, "-m", "bench.snapshot", "--child", name, table, dsn]
            done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
            if done.returncode:
                print(f"{name} failed: {done.stderr.strip()[-2000:]}")
                return
            took, memory = json.loads(done.stdout.splitlines()[-1])
            samples[name].append((took, memory))
    found = {name: [statistics.median(part) for part in zip(*each, strict=True)] for name, each in samples.items()}
    best = found.get("adbc-driver-postgresql")
    print(f"\n{rows:,} rows, medians of {ROUNDS.get(rows, 3)}")
    for name, (took, memory) in found.items():
        ratio = "" if best is None else f"{took / best[0]:6.2f} times ADBC's time {memory / best[1]:6.2f} its memory"
        print(f"{name:>24}: {took:7.3f} s {rows / took:12,.0f} rows/s {memory:7,.0f} MB {ratio}", flush=True)


def main() -> None:
    if sys.argv[1:2] == ["--child"]:
        child(*sys.argv[2:])
        return
    from rtwidgets.local.postgres import Postgres

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    os.environ["PGPORT"] = str(port)  # for the server and whoever connects
    with tempfile.TemporaryDirectory(prefix="rtw", ignore_cleanup_errors=True) as folder:
        os.environ["RTWIDGETS_HOME"] = folder
        postgres = Postgres(Path(folder) / "data")
        postgres.start()
        try:
            with psycopg.connect(postgres.dsn, autocommit=True) as db:
                db.execute("alter system set listen_addresses = '127.0.0.1'")
            postgres.stop()
            postgres.start()
            over(f"postgresql://postgres@127.0.0.1:{port}/postgres")
        finally:
            postgres.stop()


def over(dsn: str) -> None:
    import rtwidgets as rt

    with rt.local("bench", postgres=dsn, idle_timeout=2) as local:
        os.environ["BENCH_URL"], os.environ["BENCH_KEY"] = local.url, local.anon_key
        counts: list[Any] = [int(text.replace(",", "")) for text in sys.argv[1:]]
        for rows in counts or [10_000, 1_000_000, 5_000_000]:
            measure(rows, dsn)


if __name__ == "__main__":
    main()
