"""The live table: changes applied a second, what a frame costs, and how others do (those that are installed)."""

from __future__ import annotations

import importlib.util
import random
import time
from typing import Any

import pandas as pd

from rtwidgets.data.store import Store
from rtwidgets.protocol.messages import Change, Column

TYPES = {"id": "int8", "symbol": "text", "price": "float8", "quantity": "int4", "at": "timestamptz", "ok": "bool"}
COLUMNS = [Column(name, kind) for name, kind in TYPES.items()]


def row(i: int) -> dict[str, Any]:
    at = f"2026-01-01T00:00:{i % 60:02}.123+00:00"
    return {"id": i, "symbol": random.choice("abc"), "price": random.random(), "quantity": i % 9, "at": at, "ok": True}


def batches(rows: int, size: int, total: int) -> list[list[Change]]:
    made = [row(random.randrange(rows)) for _ in range(total)]
    changes = [Change("UPDATE", "public", "t", COLUMNS, record, {"id": record["id"]}) for record in made]
    return [changes[i : i + size] for i in range(0, total, size)]


def ms(since: float) -> str:
    return f"{1e3 * (time.perf_counter() - since):.2f} ms"


def main() -> None:
    random.seed(1)
    ours = 0.0
    for rows in (10_000, 100_000, 1_000_000):
        store = Store(COLUMNS, ["id"])
        store.load([row(i) for i in range(rows)])
        for size in (100, 1000, 2000):
            work = batches(rows, size, 40_000)
            start = time.perf_counter()
            for batch in work:
                store.apply(batch)
            ours = 40_000 / (time.perf_counter() - start)
            print(f"{rows:>9,} rows, batches of {size:>4}: {ours / 1e6:.2f} M changes/s")
        held = store.df()
        start = time.perf_counter()
        store.df()
        print(f"{rows:>9,} rows, .df unchanged: {ms(start)}", end="")
        del held
        store.apply(work[0])
        start = time.perf_counter()
        store.df()
        print(f", after a batch: {ms(start)}")
    frame = pd.DataFrame([row(i) for i in range(100_000)]).set_index("id", drop=False)
    some = [change.record for batch in batches(100_000, 100, 300) for change in batch]
    start = time.perf_counter()
    for record in some:
        assert record is not None
        frame.loc[record["id"]] = record
    theirs = len(some) / (time.perf_counter() - start)
    print(f"DataFrame.loc, 100,000 rows: {theirs:,.0f} changes/s; ours is {ours / theirs:,.0f} times that")
    if importlib.util.find_spec("perspective"):
        import perspective  # pyright: ignore[reportMissingImports]

        table = perspective.Server().new_local_client().table([row(i) for i in range(100_000)], index="id")
        work = batches(100_000, 1000, 20_000)
        start = time.perf_counter()
        for batch in work:
            table.update([change.record for change in batch])
        table.size()
        theirs = 20_000 / (time.perf_counter() - start)
        print(f"Perspective, 100,000 rows, batches of 1000: {theirs:,.0f} changes/s; ours is {ours / theirs:.1f} times")


if __name__ == "__main__":
    main()
