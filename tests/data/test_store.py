"""The store against a plain model: dicts in a dict, changed one at a time."""

from __future__ import annotations

import random
import sys
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtwidgets.data.columns import ColumnData
from rtwidgets.data.delta import joined
from rtwidgets.data.store import Store
from rtwidgets.protocol.messages import Change, Column

COLUMNS = [
    Column("id", "int8"),
    Column("name", "text"),
    Column("n", "int4"),
    Column("x", "float8"),
    Column("ok", "bool"),
]
COLUMNS += [Column("at", "timestamptz"), Column("j", "jsonb")]
NAMES = [c.name for c in COLUMNS]


def change(kind: str, record: Any = None, old: Any = None, columns: list[Column] = COLUMNS, **more: Any) -> Change:
    return Change(kind, "public", "t", columns, record, old, **more)  # type: ignore[arg-type]


VALUES = {
    "name": st.none() | st.text(max_size=4),
    "n": st.none() | st.integers(-5, 5),
    "x": st.none() | st.floats(-2, 2, allow_nan=False),
    "ok": st.none() | st.booleans(),
    "at": st.none() | st.sampled_from(["2026-01-01T00:00:00+00:00", "2026-01-02T03:04:05.678+00:00"]),
    "j": st.none() | st.sampled_from([{"a": 1}, [1, 2], "text"]),
    "extra": st.none() | st.integers(0, 3),
}
IDS = st.integers(0, 12) | st.sampled_from([-5, 10**6, 2**63 - 1])  # the last ones lie too far apart for an array
FULL = st.fixed_dictionaries({k: v for k, v in VALUES.items() if k != "extra"})
PART = st.fixed_dictionaries({}, optional={k: v for k, v in VALUES.items() if k != "extra"})
OPS = st.one_of(
    st.tuples(st.just("insert"), IDS, FULL),
    st.tuples(st.just("update"), IDS, PART),
    st.tuples(st.just("rekey"), IDS, IDS),
    st.tuples(st.just("delete"), IDS, st.none()),
    st.tuples(st.just("truncate"), st.just(0), st.none()),
    st.tuples(st.just("column"), st.just(0), st.none()),
    st.tuples(st.just("resync"), IDS, st.lists(st.tuples(IDS, FULL), max_size=5)),
)


class Model:
    """What the table must hold, in order of arrival."""

    def __init__(self) -> None:
        self.rows: dict[int, dict[str, Any]] = {}
        self.columns = list(COLUMNS)

    def names(self) -> list[str]:
        return [c.name for c in self.columns]

    def blank(self, row: dict[str, Any]) -> dict[str, Any]:
        return {n: row.get(n) for n in self.names()}


def cells(df: pd.DataFrame) -> list[list[Any]]:
    """Frame as plain values, with None for every kind of null."""
    out = []
    for name in df.columns:
        column = df[name]
        values = column.astype(object).tolist()
        out.append([None if not isinstance(v, list | dict) and pd.isna(v) else v for v in values])
    return [list(row) for row in zip(*out, strict=True)] if len(df) else []


def expected(model: Model) -> list[list[Any]]:
    rows = []
    for row in model.rows.values():
        rows.append([pd.Timestamp(row[n]) if n == "at" and row[n] is not None else row[n] for n in model.names()])
    return rows


def check(store: Store, model: Model) -> pd.DataFrame:
    df = store.df()
    assert list(df.columns) == model.names()
    assert cells(df) == expected(model)
    assert df.index.equals(pd.RangeIndex(len(model.rows)))
    assert store.keys() == list(model.rows)
    window = store.window(0, 100)
    assert window["keys"] == list(model.rows)
    assert window["total"] == len(model.rows)
    down = store.window(0, 100, sort=[("n", True), ("name", False)])["keys"]
    assert down == sorted(model.rows, key=lambda k: order_of(model, k))
    return df


def order_of(model: Model, key: int) -> tuple[Any, ...]:
    row = model.rows[key]
    at = list(model.rows).index(key)
    first = (row["n"] is not None, -row["n"] if row["n"] is not None else 0)
    return (*first, row["name"] is None, row["name"] or "", at)


def snapshot(df: pd.DataFrame) -> list[Any]:
    return [df.dtypes.to_dict(), cells(df)]


@pytest.mark.slow
@settings(max_examples=250, deadline=None)
@given(st.lists(st.lists(OPS, max_size=8), max_size=6), st.booleans())
def test_any_history_gives_what_the_model_holds(batches: list[list[Any]], hold: bool) -> None:
    store, model = Store(COLUMNS, ["id"]), Model()
    held: list[tuple[pd.DataFrame, Any]] = []
    for ops in batches:
        pending: list[Change] = []
        seen = dict(model.rows)
        seen_names = model.names()
        deltas = []

        def flush(pending: list[Change] = pending, deltas: list[Any] = deltas) -> None:
            deltas.append(store.apply(pending))
            pending.clear()

        for kind, key, arg in ops:
            known = model.rows.get(key)
            if kind == "insert":
                row = model.blank({"id": key, **arg})
                pending.append(change("INSERT", row, columns=list(model.columns)))
                model.rows[key] = row
            elif kind == "update":
                old = {"id": key}
                pending.append(change("UPDATE", {"id": key, **arg}, old, columns=list(model.columns)))
                if known is not None:
                    model.rows[key] = {**known, **arg}
                elif len(arg) == len(model.names()) - 1:
                    model.rows[key] = {"id": key, **arg}
            elif kind == "rekey":
                if known is None or (arg in model.rows and arg != key):
                    continue
                pending.append(change("UPDATE", {"id": arg}, {"id": key}, columns=list(model.columns)))
                model.rows = {
                    arg if k == key else k: ({**r, "id": arg} if k == key else r) for k, r in model.rows.items()
                }
            elif kind == "delete":
                pending.append(change("DELETE", None, {"id": key}, columns=list(model.columns)))
                model.rows.pop(key, None)
            elif kind == "truncate":
                pending.append(change("TRUNCATE", columns=list(model.columns)))
                model.rows.clear()
            elif kind == "column":
                if len(model.columns) == len(COLUMNS):
                    model.columns = [*COLUMNS, Column("extra", "int2")]
                else:
                    model.columns = list(COLUMNS)
                pending.append(change("INSERT", model.blank({"id": 99}), columns=list(model.columns)))
                model.rows = {k: model.blank(r) for k, r in model.rows.items()}
                model.rows[99] = model.blank({"id": 99})
            elif kind == "resync":
                flush()
                rows = {k: model.blank({"id": k, **r}) for k, r in arg}
                deltas.append(store.resync(list(rows.values())))
                kept = {k: rows[k] for k in model.rows if k in rows}
                model.rows = {**kept, **{k: r for k, r in rows.items() if k not in kept}}
        flush()
        df = check(store, model)
        if len(deltas) == 1 and not deltas[0].reset and model.names() == seen_names:
            delta = deltas[0]
            went, came = set(delta.deleted), set(delta.inserted)
            assert went - came == set(seen) - set(model.rows)
            assert came - went == set(model.rows) - set(seen)
            differ = {k for k in seen if k in model.rows and seen[k] != model.rows[k]}
            assert differ <= {k for k, _ in delta.updated} | (went & came)
            assert [r["id"] for r in delta.inserted_rows()] == delta.inserted
            assert [r["id"] for r in delta.deleted_rows()] == delta.deleted
        if hold:
            held.append((df, snapshot(df)))
        del df
    for df, before in held:
        assert snapshot(df) == before


def rows(n: int) -> list[dict[str, Any]]:
    row = {"name": "a", "n": 1, "x": 0.5, "ok": True, "at": "2026-01-01T00:00:00+00:00", "j": None}
    return [{"id": i, **row} for i in range(n)]


def test_a_frame_is_borrowed_memory_until_the_table_writes_and_the_users_own_when_they_write() -> None:
    store = Store(COLUMNS, ["id"])
    store.load(rows(10))
    held = store.df()
    again = store.df()
    assert np.shares_memory(held["x"].to_numpy(), again["x"].to_numpy())
    view = held["x"].to_numpy()
    del held, again
    store.apply([change("UPDATE", {"id": 3, "x": 9.0}, {"id": 3})])
    assert view[3] == 0.5
    assert store.df()["x"].iloc[3] == 9.0
    mine = store.df()
    part = mine[["n", "x", "name", "at"]]
    if int(pd.__version__.split(".")[0]) >= 3:
        mine.loc[0, "x"] = 7.0
        mine.loc[0, "n"] = 7
        del mine
        part.loc[1, "name"] = "mine"
        part.loc[1, "x"] = 5.0
        assert store.df()["x"].iloc[:2].tolist() == [0.5, 0.5]
        assert store.df()["name"].iloc[1] == "a"
    mine = store.df()
    mine["new"] = 1
    assert "new" not in store.df()


def test_what_one_reader_writes_into_a_sorted_frame_no_other_sees() -> None:
    store = Store(COLUMNS, ["id"], order="id.desc")
    store.load(rows(4))
    mine = store.df()
    for name, value in (("x", 7.0), ("n", 7), ("n", None), ("name", "mine"), ("ok", False)):
        try:
            mine.loc[0, name] = value
        except ValueError:  # pandas 2.2: the memory is read-only
            pass
    other = store.df()
    assert other["id"].tolist() == [3, 2, 1, 0]
    assert (other["x"][0], other["n"][0], other["name"][0], other["ok"][0]) == (0.5, 1, "a", True)


def test_a_change_too_large_to_send_merges_and_asks_to_be_read_again() -> None:
    store = Store(COLUMNS, ["id"])
    store.load(rows(1))
    delta = store.apply([change("UPDATE", {"id": 0, "n": 2}, {"id": 0}, errors=["Error 413: Payload Too Large"])])
    assert delta.reread == [0]
    assert delta.updated == [(0, ("n",))]
    assert store.row(0)["name"] == "a"  # type: ignore[index]
    delta = store.apply([change("INSERT", {"id": 0, "n": 3}, errors=["Error 413: Payload Too Large"])])
    assert delta.reread == [0]
    assert store.row(0)["name"] == "a"
    delta = store.apply([change("UPDATE", {"id": 5, "n": 2}, {"id": 5})])
    assert delta.unknown == [5]
    assert not delta
    assert len(store) == 1
    delta = store.apply([change("INSERT", {}, errors=["Error 401: Unauthorized"])])
    assert delta.unreadable == 1


def test_before_and_after() -> None:
    store = Store(COLUMNS, ["id"])
    store.load(rows(3))
    delta = store.apply([change("UPDATE", {"id": 1, "n": 5, "x": 0.5}, {"id": 1}), change("DELETE", None, {"id": 2})])
    assert list(delta.updated_rows()) == [(1, {"n": 1}, {"n": 5})]
    assert delta.deleted == [2]
    assert delta.deleted_rows()[0]["name"] == "a"
    assert not store.apply([change("UPDATE", {"id": 1, "n": 5}, {"id": 1})])


def test_composite_keys_order_and_limit() -> None:
    columns = [Column("a", "int4"), Column("b", "text"), Column("v", "numeric")]
    store = Store(columns, ["a", "b"], order="v.desc", limit=2, numeric="decimal")
    store.load([{"a": 1, "b": "x", "v": 1}, {"a": 1, "b": "y", "v": 3}, {"a": 2, "b": "x", "v": 2}])
    assert store.window(0, 9)["keys"] == [(1, "y"), (2, "x")]
    delta = store.apply([change("INSERT", {"a": 3, "b": "z", "v": 10}, columns=columns)])
    assert delta.deleted == [(2, "x")]
    assert store.df()["v"].astype(str).tolist() == ["10", "3"]
    log = Store(columns, ["a", "b"], limit=2)
    for i in range(5):
        log.apply([change("INSERT", {"a": i, "b": "x", "v": 1}, columns=columns)])
    assert log.df()["a"].tolist() == [3, 4]


@pytest.mark.slow
@pytest.mark.parametrize("sort", [[("x", True)], [("name", False), ("x", False)], [("at", True), ("n", False)]])
def test_sorting_change_by_change_equals_sorting_anew(sort: list[tuple[str, bool]]) -> None:
    random.seed(4)
    store = Store(COLUMNS, ["id"])
    make = lambda i: {  # noqa: E731
        "id": i, "name": random.choice(["a", "b", None, "c"]), "n": random.choice([1, 2, None]), "x": random.random(),
        "ok": None, "at": random.choice([None, "2026-01-01T00:00:00+00:00", "2027-01-01T00:00:00+00:00"]), "j": None,
    }  # fmt: skip
    store.load([make(i) for i in range(200)])
    store.window(0, 5, sort=sort)
    for step in range(60):
        store.apply([change("UPDATE", make(random.randrange(200 + step)), {}) for _ in range(3)])
        store.apply([change("DELETE", None, {"id": random.randrange(200)})])
        store.apply([change("INSERT", make(200 + step))])
        keys = store.window(0, 1000, sort=sort)["keys"]
        fresh = Store(COLUMNS, ["id"])
        fresh.load([store.row(k) for k in store])  # type: ignore[misc]
        assert fresh.window(0, 1000, sort=sort)["keys"] == keys


@pytest.mark.parametrize("gaps", [1, 3, 64, 65, 400])
@pytest.mark.parametrize("at", ["front", "middle", "back", "anywhere"])
def test_closing_gaps_keeps_the_order_of_arrival(gaps: int, at: str) -> None:
    rng = random.Random(f"{gaps} {at}")
    store = Store(COLUMNS, ["id"])
    store.load([{**row, "n": row["id"], "name": str(row["id"])} for row in rows(1000)])
    model = list(range(1000))
    for turn in range(4):
        held = store.df()
        before = held["name"].tolist()
        low, high = {"front": (0, 450), "middle": (200, 650), "back": (550, 1000), "anywhere": (0, 1000)}[at]
        some = model[low:high]
        went = rng.sample(some, min(gaps, len(some)))
        store.apply([change("DELETE", None, {"id": key}) for key in went])
        store.apply([change("INSERT", {**rows(1)[0], "id": 2000 + turn, "n": 2000 + turn, "name": str(2000 + turn)})])
        model = [key for key in model if key not in set(went)] + [2000 + turn]
        frame = store.df()
        assert frame["id"].tolist() == frame["n"].tolist() == model
        assert frame["name"].tolist() == [str(key) for key in model]
        assert [store.row(key)["n"] for key in model] == model  # type: ignore[index]
        assert held["name"].tolist() == before


def composite(found: Change) -> Change:
    """The same change of a table whose key is (g, id), where g follows from id."""
    wide = [Column("g", "int4"), *COLUMNS]
    record, old = ({"g": row["id"] % 3, **row} if row else row for row in (found.record, found.old_record))
    return Change(found.type, "public", "t", wide, record, old)


@pytest.mark.slow
@settings(max_examples=100, deadline=None)
@given(st.lists(st.lists(OPS, max_size=8), max_size=6))
def test_a_composite_key_does_as_a_single_one_does(batches: list[list[Any]]) -> None:
    single, double = Store(COLUMNS, ["id"]), Store([Column("g", "int4"), *COLUMNS], ["g", "id"])
    for ops in batches:
        changes: list[Change] = []
        for kind, key, arg in ops:
            if kind == "insert":
                changes.append(change("INSERT", {"id": key, **arg}))
            elif kind == "update":
                changes.append(change("UPDATE", {"id": key, **arg}, {"id": key}))
            elif kind == "rekey":
                changes.append(change("UPDATE", {"id": arg}, {"id": key}))
            elif kind == "delete":
                changes.append(change("DELETE", None, {"id": key}))
            elif kind == "truncate":
                changes.append(change("TRUNCATE"))
        one, two = single.apply(changes), double.apply([composite(found) for found in changes])
        frame = double.df()
        assert cells(frame.drop(columns="g")) == cells(single.df())
        assert frame["g"].tolist() == [key % 3 for key in frame["id"].tolist()]
        for name in ("inserted", "deleted", "unknown"):
            assert [key for _, key in getattr(two, name)] == getattr(one, name)
        assert [(key, names) for (_, key), names in two.updated] == one.updated
        assert one.size == two.size


@pytest.mark.parametrize("low", [0, 400, 800])
def test_closing_gaps_neither_loses_nor_keeps_an_object(low: int) -> None:
    store = Store(COLUMNS, ["id"])
    texts = [f"text number {i}" for i in range(1000)]
    store.load([{**row, "j": texts[row["id"]]} for row in rows(1000)])
    held = [sys.getrefcount(texts[key]) for key in range(1000)]
    went = random.Random(low).sample(range(low, low + 200), 30)
    for key in went:
        store.apply([change("DELETE", None, {"id": key})])
        store.df()
    assert [sys.getrefcount(texts[key]) for key in went] == [held[key] - 1 for key in went]
    kept = [key for key in range(1000) if key not in went]
    assert [sys.getrefcount(texts[key]) for key in kept] == [held[key] for key in kept]


@pytest.mark.slow
@settings(max_examples=100, deadline=None)
@given(st.lists(st.lists(OPS, max_size=6), max_size=6), st.sampled_from(["n.desc,id", "name,id", "x,id"]))
def test_a_frame_in_order_is_the_unordered_one_sorted(batches: list[list[Any]], order: str) -> None:
    plain, sorted_, held = Store(COLUMNS, ["id"]), Store(COLUMNS, ["id"], order=order), []
    for ops in batches:
        changes: list[Change] = []
        for kind, key, arg in ops:
            if kind == "insert":
                changes.append(change("INSERT", {"id": key, **arg}))
            elif kind == "update":
                changes.append(change("UPDATE", {"id": key, **arg}, {"id": key}))
            elif kind == "delete":
                changes.append(change("DELETE", None, {"id": key}))
            elif kind == "truncate":
                changes.append(change("TRUNCATE"))
        plain.apply(changes)
        sorted_.apply(changes)
        frame = sorted_.df()
        keys = plain.window(0, 100, sort=[(part.split(".")[0], "desc" in part) for part in order.split(",")])["keys"]
        assert frame["id"].tolist() == keys
        assert cells(frame) == cells(plain.select(keys))
        held.append((frame, snapshot(frame)))
    for frame, before in held:
        assert snapshot(frame) == before


def test_room_that_is_made_later_moves_rows_and_keys_alike() -> None:
    store = Store(COLUMNS[:2], ("id",))
    store.load([{"id": i, "name": str(i)} for i in range(8)])
    store.remove([0, 1])
    store.df()
    assert store.keys() == [2, 3, 4, 5, 6, 7]
    store.reserve(1000)
    assert store.keys() == [2, 3, 4, 5, 6, 7]


def test_a_row_that_comes_and_changes_in_one_batch_is_reported_as_it_is() -> None:
    columns = COLUMNS[:2]
    store = Store(columns, ("id",))
    store.load([{"id": 1, "name": "old"}])
    renamed = change("UPDATE", {"id": 2, "name": "new"}, {"id": 1}, columns)
    delta = store.apply([change("INSERT", {"id": 5, "name": "first"}, None, columns), renamed])
    assert delta.deleted_rows() == [{"id": 1, "name": "old"}]
    assert delta.inserted_rows() == [{"id": 5, "name": "first"}, {"id": 2, "name": "new"}]
    deltas = [
        store.apply([change("INSERT", {"id": 7, "name": "first"}, None, columns)]),
        store.apply([change("UPDATE", {"id": 7, "name": "then"}, None, columns)]),
    ]
    assert joined(deltas).inserted_rows() == [{"id": 7, "name": "then"}]
    assert deltas[0].inserted_rows() == [{"id": 7, "name": "first"}]


def test_columns_that_change_type_are_never_seen_half_done(monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(COLUMNS[:3], ("id",))
    store.load([{"id": 1, "name": "7", "n": 2}])
    seen: list[list[str]] = []
    write_null = ColumnData.write_null
    monkeypatch.setattr(ColumnData, "write_null", lambda *args: (seen.append(list(store.kinds)), write_null(*args)))
    store.load([{"id": 1, "name": 7, "n": "2"}], [COLUMNS[0], Column("name", "int4"), Column("n", "text")])
    assert seen
    assert all(names == ["id", "name", "n"] for names in seen)
    assert store.row(1) == {"id": 1, "name": 7, "n": "2"}
