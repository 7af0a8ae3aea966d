"""`Store.arrow()`: equal to `df()` and to a plain model after any sequence of changes, and never changed afterwards."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtwidgets.data import chunks
from rtwidgets.data.store import Store
from rtwidgets.protocol.messages import Change, Column

LABELS = {"mood": ("low", "high", "urgent")}
TYPES = {
    "id": "int8", "n": "int4", "x": "float8", "ok": "bool", "name": "text", "u": "uuid", "v": "numeric(10,2)",
    "at": "timestamptz", "d": "date", "j": "jsonb", "tags": "_text", "e": "mood", "by": "bytea", "tm": "time",
}  # fmt: skip
COLUMNS = [Column(name, kind) for name, kind in TYPES.items()]
TEXTS = st.text(max_size=5) | st.sampled_from(["exactly 12 by", "x" * 12, "x" * 13, "ä" * 40, "long " * 30])
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "n": st.integers(-5, 5),
    "x": st.floats(-2, 2, allow_nan=False) | st.just("Infinity"),
    "ok": st.booleans(),
    "name": TEXTS,
    "u": st.uuids().map(str),
    "v": st.integers(-(10**6), 10**6).map(lambda cents: Decimal(cents).scaleb(-2)),
    "at": st.sampled_from(["2026-01-01T00:00:00+00:00", "2026-01-02T03:04:05.678000+00:00"]),
    "d": st.sampled_from(["2026-01-01", "1969-12-31"]),
    "j": st.sampled_from([{"a": 1}, [1, 2], "text"]),
    "tags": st.lists(st.none() | TEXTS, max_size=2),
    "e": st.sampled_from(["low", "high", "urgent", "new"]),
    "by": st.sampled_from(["00ff", ""]),
    "tm": st.sampled_from(["10:00:00", "23:59:59.5"]),
}
NULLABLE = {name: st.none() | values for name, values in VALUES.items()}
FULL, PART = st.fixed_dictionaries(NULLABLE), st.fixed_dictionaries({}, optional=NULLABLE)
IDS = st.integers(0, 12)
OPS = st.one_of(
    st.tuples(st.just("insert"), IDS, FULL),
    st.tuples(st.just("update"), IDS, PART),
    st.tuples(st.just("delete"), IDS, st.none()),
    st.tuples(st.just("truncate"), IDS, st.none()),
    st.tuples(st.just("resync"), IDS, st.lists(st.tuples(IDS, FULL), max_size=4)),
    st.tuples(st.just("upsert"), IDS, st.lists(st.tuples(IDS, FULL), max_size=4)),
)
Row = dict[str, Any]


def in_arrow(row: Row) -> Row:
    """A row as Arrow has it."""
    made = dict(row)
    for name, value in row.items():
        if value is None:
            continue
        if name == "x":
            made[name] = float(value)
        elif name == "at":
            made[name] = datetime.fromisoformat(value)
        elif name == "d":
            made[name] = datetime.fromisoformat(value).date()
        elif name == "j":
            made[name] = {"{'a': 1}": '{"a":1}', "[1, 2]": "[1,2]", "text": '"text"'}[str(value)]
        elif name == "by":
            made[name] = bytes.fromhex(value)
        elif name == "tm":
            made[name] = datetime.fromisoformat(f"2026-01-01T{value}").time()
    return made


def in_pandas(row: Row) -> Row:
    """A row as a frame has it."""
    made = in_arrow(row) | {name: row[name] for name in ("j", "tm")}
    if row["d"] is not None:
        made["d"] = pd.Timestamp(row["d"])
    return made


def cells(frame: pd.DataFrame) -> list[Row]:
    """Rows as plain values, with None for every kind of null."""
    columns = {
        name: [None if not isinstance(v, list | dict) and pd.isna(v) else v for v in frame[name].astype(object)]
        for name in frame.columns
    }
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def in_bytes(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()


def frame_bytes(frame: pd.DataFrame) -> list[Any]:
    """What a frame shows, and of columns of numbers the memory itself."""
    memory = [frame[name].to_numpy(dtype="float64", na_value=np.nan).tobytes() for name in ("id", "n", "x")]
    return [frame.dtypes.to_dict(), memory, repr(cells(frame))]


def change(kind: Any, record: Row | None, old: Row | None = None) -> Change:
    return Change(kind, "public", "t", COLUMNS, record, old)


def tabled(rows: list[Row]) -> pa.Table:
    """The rows as a snapshot source sends them."""
    types = {spec.name: spec.kind.arrow_type for spec in Store(COLUMNS, ["id"], numeric="decimal", labels=LABELS).specs}
    types |= {"e": pa.string()}
    rows = [in_arrow(row) for row in rows]
    return pa.table({name: pa.array([row[name] for row in rows], types[name]) for name in TYPES})


@pytest.mark.slow
@pytest.mark.parametrize("order", [None, "name desc, id"])
@settings(max_examples=120, deadline=None)
@given(batches=st.lists(st.lists(OPS, max_size=6), max_size=6), size=st.sampled_from([1, 3, 65_536]))
def test_any_history_leaves_arrow_df_and_the_model_equal(
    order: str | None, batches: list[list[Any]], size: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chunks, "SIZE", size)
        follow(order, batches)


def follow(order: str | None, batches: list[list[Any]]) -> None:
    store, model = Store(COLUMNS, ["id"], numeric="decimal", labels=LABELS, order=order), dict[int, Row]()
    tables: list[tuple[pa.Table, bytes]] = []
    frames: list[tuple[pd.DataFrame, Any]] = []
    for ops in batches:
        pending: list[Change] = []
        for kind, key, arg in ops:
            if kind == "insert":
                model[key] = {"id": key, **arg}
                pending.append(change("INSERT", model[key]))
            elif kind == "update" and key in model:
                model[key] = model[key] | arg
                pending.append(change("UPDATE", {"id": key, **arg}, {"id": key}))
            elif kind == "delete":
                model.pop(key, None)
                pending.append(change("DELETE", None, {"id": key}))
            elif kind == "truncate":
                model.clear()
                pending.append(change("TRUNCATE", None))
            elif kind in ("resync", "upsert"):
                store.apply(pending)
                pending = []
                rows = {k: {"id": k, **row} for k, row in arg}
                (store.resync if kind == "resync" else store.upsert)(tabled(list(rows.values())))
                kept = {k: row for k, row in model.items() if k in rows or kind == "upsert"}
                model = kept | rows
        store.apply(pending)
        table, frame = store.arrow(), store.df()
        table.validate(full=True)
        rows = list(model.values())
        if order is not None:
            rows.sort(key=lambda row: row["id"])
            rows.sort(key=lambda row: (row["name"] is None, row["name"] or ""), reverse=True)
        assert table.to_pylist() == [in_arrow(row) for row in rows]
        assert cells(frame) == [in_pandas(row) for row in rows]
        assert table.num_rows == len(store)
        tables.append((table, in_bytes(table)))
        frames.append((frame, frame_bytes(frame)))
        del table, frame
    for table, before in tables:
        assert in_bytes(table) == before
    for frame, shown in frames:
        assert frame_bytes(frame) == shown


ROWS = [
    {"id": i, **dict.fromkeys(VALUES), "n": i, "x": i / 2, "name": f"name number {i}", "at": "2026-01-01T00:00:00Z"}
    for i in range(10)
]


def table_of(rows: list[Row]) -> Store:
    store = Store(COLUMNS, ["id"], numeric="decimal", labels=LABELS)
    store.load(rows)
    return store


def addresses(table: pa.Table, name: str) -> list[int]:
    return [chunk.buffers()[-1].address for chunk in table.column(name).chunks]


def test_numbers_share_memory_until_the_table_writes() -> None:
    store = table_of(ROWS)
    for name in ("n", "x", "at"):
        assert addresses(store.arrow(), name) == addresses(store.arrow(), name)
    frame, held = store.df(), store.arrow()
    assert held.column("x").chunk(0).buffers()[1].address == frame["x"].to_numpy().__array_interface__["data"][0]
    store.apply([change("UPDATE", {"id": 3, "x": 99.0}, {"id": 3})])
    assert held.column("x")[3].as_py() == frame["x"][3] == 1.5
    assert store.arrow().column("x")[3].as_py() == store.df()["x"][3] == 99.0
    assert addresses(store.arrow(), "n") == addresses(held, "n")
    del frame, held
    before = addresses(store.arrow(), "x")
    store.apply([change("UPDATE", {"id": 3, "x": 98.0}, {"id": 3})])
    assert addresses(store.arrow(), "x") == before  # nobody held it: written in place


def test_a_table_that_is_held_before_any_frame_was_made_does_not_change() -> None:
    store = table_of(ROWS)
    held = store.arrow()
    store.df()
    store.apply([change("UPDATE", {"id": 3, "x": 99.0, "n": 9, "e": "new"}, {"id": 3})])
    assert (held.column("x")[3].as_py(), held.column("n")[3].as_py()) == (1.5, 3)
    assert store.arrow().column("e")[3].as_py() == "new"


def test_a_change_makes_only_the_chunks_anew_that_it_touched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunks, "SIZE", 4)
    store = table_of(ROWS)
    first = addresses(store.arrow(), "name")
    assert len(first) == 3
    held = store.arrow()
    store.apply([change("UPDATE", {"id": 5, "name": "changed"}, {"id": 5})])
    second = addresses(store.arrow(), "name")
    assert (second[0], second[2]) == (first[0], first[2])
    assert second[1] != first[1]
    assert store.arrow().column("name")[5].as_py() == "changed"
    assert held.column("name")[5].as_py() == "name number 5"
    store.apply([change("DELETE", None, {"id": 9}), change("DELETE", None, {"id": 1})])
    third = store.arrow().column("name")
    assert third.to_pylist() == [f"name number {i}" if i != 5 else "changed" for i in (0, 2, 3, 4, 5, 6, 7, 8)]
    assert {chunk.buffers()[-1].address for chunk in third.chunks} == set(second)
    store.apply([change("INSERT", {**ROWS[0], "id": 20, "name": "last"})])
    assert store.arrow().column("name").to_pylist()[-1] == "last"


def test_many_deleted_rows_do_not_leave_many_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunks, "_MOST", 8)
    store = table_of([{**ROWS[0], "id": i, "name": str(i)} for i in range(200)])
    for i in range(5, 100, 3):
        store.apply([change("DELETE", None, {"id": i})])
        assert store.arrow().column("name").num_chunks <= 10
    assert store.arrow().column("name").to_pylist() == [str(i) for i in store]


def test_the_memory_of_texts_that_went_is_freed() -> None:
    store = table_of([{**ROWS[0], "id": i, "name": "x" * 500} for i in range(200)])
    held = store.arrow()
    for turn in range(50):
        store.apply([change("UPDATE", {"id": i, "name": f"{turn} {i} " + "y" * 500}, {"id": i}) for i in range(200)])
    heap = store._rows.columns["name"].data.heap
    assert sum(map(len, heap.buffers)) < 5 * 200 * 510
    assert store.df()["name"].tolist() == [f"49 {i} " + "y" * 500 for i in range(200)]
    assert set(held.column("name").to_pylist()) == {"x" * 500}
    store.apply([change("TRUNCATE", None)])
    assert sum(map(len, store._rows.columns["name"].data.heap.buffers)) == 0


def test_an_empty_table_has_its_types() -> None:
    table = Store(COLUMNS, ["id"], numeric="decimal", labels=LABELS).arrow()
    assert table.num_rows == 0
    assert [str(field.type) for field in table.schema] == [
        "int64", "int32", "double", "bool", "large_string", "large_string", "decimal128(10, 2)",
        "timestamp[us, tz=UTC]", "date32[day]", "large_string", "list<item: large_string>",
        "dictionary<values=large_string, indices=int8, ordered=1>", "large_binary", "time64[us]",
    ]  # fmt: skip


def test_infinite_moments_keep_their_order() -> None:
    store = table_of([])
    for i, text in enumerate(("-infinity", "2026-01-01", "infinity")):
        store.upsert([{**ROWS[0], "id": i, "d": text, "at": text}])
    days = store.arrow().column("d").cast(pa.int32()).to_pylist()
    assert days == [-(2**31) + 1, (datetime(2026, 1, 1, tzinfo=UTC) - datetime(1970, 1, 1, tzinfo=UTC)).days, 2**31 - 1]
