"""The live table beside Perspective, DuckDB, polars and pandas: the same batches of decoded records, upserted by key.

    python -m bench.table [ROWS ...]

Each takes the records (dicts, as a frame's JSON gives them) in the way of its own manual that is fastest here; those
that are not installed are left out (`pip install rtwidgets[bench]`). All take turns, so that a slow minute of the
machine is everybody's. Then: what `.df` costs, what a row weighs, and groups kept up against groups worked out anew.
"""

from __future__ import annotations

import ctypes
import gc
import importlib.util
import multiprocessing
import random
import sys
import time
from collections.abc import Callable
from typing import Any

import pandas as pd
import pyarrow as pa

from rtwidgets.data.groupby import GroupBy
from rtwidgets.data.store import Store
from rtwidgets.protocol.messages import Change, Column

TYPES = {"id": "int8", "symbol": "text", "price": "float8", "quantity": "int4", "at": "timestamptz", "ok": "bool"}
COLUMNS = [Column(name, kind) for name, kind in TYPES.items()]
SIZES = {1: 400, 100: 20_000, 2000: 60_000}
"""Rows a batch, and the most changes for one round."""
ROUNDS, PATIENCE = 3, 1.0  # seconds a round
Row = dict[str, Any]
Apply = Callable[[list[Row]], object]


def row(i: int) -> Row:
    at = f"2026-01-01T00:00:{i % 60:02}.123+00:00"
    return {"id": i, "symbol": random.choice("abc"), "price": random.random(), "quantity": i % 9, "at": at, "ok": True}


def made(rows: int, size: int) -> list[Row]:
    """A batch: new values, since what changes nothing would cost less."""
    at = f"2026-01-02T00:00:{random.randrange(60):02}.456+00:00"
    return [{**row(random.randrange(rows)), "at": at, "quantity": random.randrange(9)} for _ in range(size)]


def changes(records: list[Row]) -> list[Change]:
    return [Change("UPDATE", "public", "t", COLUMNS, record, {"id": record["id"]}) for record in records]


# --- each: a table of these rows, and what applies a batch to it ---


def ours(rows: list[Row]) -> Apply:
    store = Store(COLUMNS, ["id"])
    store.load(rows)
    return store.apply  # type: ignore[return-value]


def perspective(rows: list[Row]) -> Apply:
    import perspective  # pyright: ignore[reportMissingImports]

    kinds = dict(zip(TYPES, ("integer", "string", "float", "integer", "datetime", "boolean"), strict=True))
    table = perspective.Server().new_local_client().table(kinds, index="id")
    for i in range(0, len(rows), 50_000):
        table.update(rows[i : i + 50_000])

    def apply(batch: list[Row]) -> None:
        table.update(batch)
        table.size()  # has it take the batch now, as a reader would

    apply(rows[:1])
    return apply


def duckdb(rows: list[Row]) -> Apply:
    import duckdb  # pyright: ignore[reportMissingImports]

    base = duckdb.connect()
    frame = pd.DataFrame(rows)
    base.execute(
        'create table t (id int8 primary key, symbol text, price float8, quantity int4, "at" timestamptz, ok bool)'
    )
    base.execute("insert into t select * from frame")
    del frame

    def apply(batch: list[Row]) -> None:
        frame = pd.DataFrame(list({record["id"]: record for record in batch}.values()))
        base.register("batch", frame)
        base.execute("insert or replace into t select * from batch")

    return apply


def polars(rows: list[Row]) -> Apply:
    import polars  # pyright: ignore[reportMissingImports]

    held = [polars.DataFrame(rows)]

    def apply(batch: list[Row]) -> None:
        held[0] = held[0].update(polars.DataFrame(batch).unique("id", keep="last"), on="id")

    return apply


def pandas(rows: list[Row]) -> Apply:
    frame = pd.DataFrame(rows)
    frame["at"] = pd.to_datetime(frame["at"])
    frame = frame.set_index("id")

    def apply(batch: list[Row]) -> None:
        new = pd.DataFrame(batch).drop_duplicates("id", keep="last").set_index("id")
        new["at"] = pd.to_datetime(new["at"])
        frame.loc[new.index] = new

    return apply


def in_arrow(rows: list[Row]) -> Apply:
    """What the same rows take in an Arrow table, which nothing can be applied to."""
    table = pa.table(
        {"at": pd.to_datetime([row["at"] for row in rows])}
        | {name: [row[name] for row in rows] for name in TYPES if name != "at"}
    )
    return table.equals  # type: ignore[return-value]


def installed() -> dict[str, Callable[[list[Row]], Apply]]:
    others = {"perspective": perspective, "duckdb": duckdb, "polars": polars, "pandas": pandas}
    return {"ours": ours} | {name: make for name, make in others.items() if importlib.util.find_spec(name)}


# --- what is measured ---


def rate(name: str, apply: Apply, rows: int, size: int, total: int) -> float:
    """Changes a second. Each batch is made just before it is applied, as a decoder would: only `apply` counts."""
    took, done, end = 0.0, 0, time.perf_counter() + PATIENCE
    while done < total and time.perf_counter() < end:
        batch: Any = made(rows, size)
        if name == "ours":
            batch = changes(batch)
        start = time.perf_counter()
        apply(batch)
        took += time.perf_counter() - start
        done += size
    return done / took


def applying(rows: int) -> None:
    data = [row(i) for i in range(rows)]
    tables = {name: make(data) for name, make in installed().items()}
    del data
    gc.collect()
    for size, total in SIZES.items():
        best = dict.fromkeys(tables, 0.0)
        for _ in range(ROUNDS):
            for name, apply in tables.items():
                best[name] = max(best[name], rate(name, apply, rows, size, total))
        line = "   ".join(
            f"{name} {found:>9,.0f}" + ("" if name == "ours" else f" ({best['ours'] / found:>5,.1f}x)")
            for name, found in best.items()
        )
        print(f"{rows:>9,} rows, batches of {size:>4}, changes/s: {line}", flush=True)


def ms(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return 1e3 * (time.perf_counter() - start)


def middle(values: list[float]) -> float:
    return sorted(values)[len(values) // 2]


def frames(rows: int) -> None:
    wide = [Column("id", "int8")] + [Column(f"c{i}", kind) for i, kind in enumerate(("float8", "int4", "text") * 3)]
    store = Store(wide, ["id"])
    store.load([{"id": i} | {f"c{k}": i if k % 3 < 2 else str(i % 100) for k in range(9)} for i in range(rows)])
    found: dict[str, list[float]] = {}
    for turn in range(1, 22):
        store.df()
        found.setdefault("unchanged", []).append(ms(store.df))
        some = [
            Change("UPDATE", "public", "t", wide, {"id": random.randrange(rows), "c0": turn + i / 7})
            for i in range(100)
        ]
        store.apply(some)
        found.setdefault("after 100 changes in 1 of 10 columns", []).append(ms(store.df))
        held = store.df()
        some = [
            Change("UPDATE", "public", "t", wide, {"id": random.randrange(rows), "c0": -turn - i}) for i in range(100)
        ]
        both = ms(lambda some=some: (store.apply(some), store.df()))
        found.setdefault("the same with the frame before still held (apply and .df)", []).append(both)
        del held
        store.apply([Change("DELETE", "public", "t", wide, None, {"id": rows // 2 + turn})])
        found.setdefault("after a row in the middle went", []).append(ms(store.df))
        some = [
            Change("UPDATE", "public", "t", wide, {"id": random.randrange(rows), "c2": f"{turn} {i}"})
            for i in range(100)
        ]
        store.apply(some)
        found.setdefault("after 100 changes in 1 text column", []).append(ms(store.df))
    for name, values in found.items():
        print(f"{rows:>9,} rows of 10 columns, .df {name}: {middle(values):.2f} ms")


def arrow(rows: int) -> None:
    numbers = [Column("id", "int8")] + [Column(f"c{i}", kind) for i, kind in enumerate(("float8", "int4", "int8") * 3)]
    cold: list[float] = []
    changed: list[float] = []
    store = Store(numbers, ["id"])
    store.load([{"id": i} | {f"c{k}": i for k in range(9)} for i in range(rows)])
    for turn in range(7):
        store.apply(
            [Change("UPDATE", "public", "t", numbers, {"id": i} | {f"c{k}": -turn for k in range(9)}) for i in (0, 9)]
        )
        cold.append(ms(store.arrow))
        store.apply([Change("UPDATE", "public", "t", numbers, {"id": 7, "c0": turn + 0.5})])
        changed.append(ms(store.arrow))
    print(
        f"{rows:>9,} rows of 10 columns of numbers, .arrow() after changes in all columns: {middle(cold):.2f} ms, "
        f"in 1 column: {middle(changed):.2f} ms"
    )


def groups(rows: int) -> None:
    store = Store(COLUMNS, ["id"])
    store.load([row(i) | {"symbol": f"s{i % 1000}"} for i in range(rows)])
    named = {"total": ("price", "sum"), "rows": ("id", "count"), "top": ("quantity", "max")}
    grouped = GroupBy(store, "symbol", named)
    kept: list[float] = []
    anew: list[float] = []
    for _ in range(7):
        batch = [record | {"symbol": f"s{random.randrange(1000)}"} for record in made(rows, 100)]
        delta = store.apply(changes(batch))
        kept.append(ms(lambda delta=delta: (grouped.apply(delta), grouped.df())))
        anew.append(ms(lambda: store.df().groupby("symbol").agg(**named)))
    print(
        f"{rows:>9,} rows, 1,000 groups, a batch of 100: kept up {middle(kept):.1f} ms, "
        f"pandas anew {middle(anew):.1f} ms ({middle(anew) / middle(kept):.1f}x)"
    )


def weigh(name: str, rows: int, out: Any) -> None:
    """Runs in a process of its own: what the table adds to it, with the rows that it was made of gone, and without what
    allocators keep for later."""
    import psutil

    make, process = (installed() | {"Arrow": in_arrow})[name], psutil.Process()
    make([row(i) for i in range(100)])
    gc.collect()
    before = process.memory_info().rss
    held = make([row(i) for i in range(rows)])
    gc.collect()
    pa.default_memory_pool().release_unused()
    if sys.platform == "linux":
        ctypes.CDLL(None).malloc_trim(0)
    out.put((process.memory_info().rss - before) / rows)
    del held


def memory(rows: int) -> None:
    context = multiprocessing.get_context("spawn")
    found: dict[str, float] = {}
    for name in [*installed(), "Arrow"]:
        out = context.Queue()
        process = context.Process(target=weigh, args=(name, rows, out))
        process.start()
        found[name] = out.get()
        process.join()
    print(f"{rows:>9,} rows, bytes a row: " + ", ".join(f"{name} {size:,.0f}" for name, size in found.items()))


def main() -> None:
    random.seed(1)
    for rows in [int(text) for text in sys.argv[1:]] or [10_000, 100_000, 1_000_000]:
        applying(rows)
        frames(rows)
        arrow(rows)
        groups(rows)
    memory(1_000_000)


if __name__ == "__main__":
    main()
