"""How long after a COMMIT is the row in `.df`? 200 inserts over a real Postgres, server, socket and table.

The clock starts just before COMMIT is sent (so Postgres' own commit is inside the figure) and stops when `.df`, asked
for on the main thread, holds the row.
"""

from __future__ import annotations

import statistics
import tempfile
import threading
import time

INSERTS = 200
PAUSE = 0.02
"""Seconds between two inserts: each is measured alone, not as part of a burst."""


def main() -> None:
    import os

    with tempfile.TemporaryDirectory(prefix="rtw-bench-") as home:
        os.environ["RTWIDGETS_HOME"] = home
        measure()


def measure() -> None:
    import psycopg

    import rtwidgets as rt

    with rt.local("bench", idle_timeout=2) as local:
        local.sql("create table ticks (id int primary key, price float8, at timestamptz default now())")
        local.publish("ticks")
        table = rt.LiveTable("ticks")
        table.wait_live(30)
        arrived = threading.Event()
        table.on_change(lambda batch: arrived.set())
        took_commit: list[float] = []
        took_df: list[float] = []
        with psycopg.connect(local.dsn) as connection:
            for number in range(INSERTS):
                time.sleep(PAUSE)
                arrived.clear()
                connection.execute("insert into ticks (id, price) values (%s, %s)", (number, number / 7))
                start = time.perf_counter()
                connection.commit()
                took_commit.append(time.perf_counter() - start)
                if not arrived.wait(5):
                    raise SystemExit(f"insert {number} did not arrive within 5 s")
                frame = table.df
                took_df.append(time.perf_counter() - start)
                if frame["id"].iloc[-1] != number:
                    raise SystemExit(f"insert {number} was announced, but .df ends with {frame['id'].iloc[-1]}")
        table.close()
    for label, values in (("commit alone", took_commit), ("commit to .df", took_df)):
        p50, p99 = statistics.median(values) * 1e3, sorted(values)[int(len(values) * 0.99) - 1] * 1e3
        print(f"{label:>14}: p50 {p50:6.2f} ms   p99 {p99:6.2f} ms   over {len(values)} inserts")


if __name__ == "__main__":
    main()
