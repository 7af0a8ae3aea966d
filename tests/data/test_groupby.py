"""Groups equal pandas' own after every batch."""

from __future__ import annotations

import math
import random
from decimal import Decimal
from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtwidgets.data.column_kinds import TEXT_DTYPE
from rtwidgets.data.delta import Delta
from rtwidgets.data.groupby import GroupBy
from rtwidgets.data.store import Store
from rtwidgets.protocol.messages import Change, Column

COLUMNS = [Column("id", "int8"), Column("g", "text"), Column("n", "int4"), Column("x", "float8")]
COLUMNS += [Column("at", "timestamptz"), Column("t", "text"), Column("ok", "bool")]
ROW = st.fixed_dictionaries(
    {
        "g": st.none() | st.sampled_from("abc"),
        "n": st.none() | st.integers(-9, 9),
        "x": st.none() | st.floats(-1, 1, allow_nan=False) | st.sampled_from([1e300, -1e300, 5e-324, math.inf]),
        "at": st.none() | st.sampled_from(["2026-01-01T00:00:00+00:00", "2026-01-02T03:04:05.678+00:00"]),
        "t": st.none() | st.sampled_from("xyz"),
        "ok": st.none() | st.booleans(),
    }
)
OPS = st.tuples(st.sampled_from(["INSERT", "UPDATE", "DELETE", "REKEY", "PART"]), st.integers(0, 8), ROW)
SPEC: dict[str, Any] = {
    "total": ("n", "sum"), "rows": ("x", "count"), "mean": ("x", "mean"), "low": ("x", "min"), "high": ("n", "max"),
    "kinds": ("n", "nunique"), "first": ("x", "first"), "last": ("t", "last"), "median": ("n", 0.5),
    "size": ("g", "size"), "sum": ("x", "sum"), "from": ("at", "min"), "to": ("at", "max"), "texts": ("t", "count"),
    "least": ("n", "min"), "average": ("n", "mean"), "word": ("t", "max"), "yes": ("ok", "sum"), "ids": ("id", "max"),
}  # fmt: skip


DTYPES = dict.fromkeys(SPEC, "Int64") | dict.fromkeys(("rows", "kinds", "size", "texts"), "int64")
DTYPES |= dict.fromkeys(("mean", "low", "first", "sum"), "float64") | dict.fromkeys(("high", "least"), "Int32")
DTYPES |= dict.fromkeys(("median", "average"), "Float64") | dict.fromkeys(("from", "to"), "datetime64[us, UTC]")
DTYPES |= {"last": str(TEXT_DTYPE), "word": str(TEXT_DTYPE)}


def wanted(store: Store, by: list[str], spec: dict[str, Any]) -> pd.DataFrame:
    named = {k: (c, f if isinstance(f, str) else lambda v, f=f: v.quantile(f)) for k, (c, f) in spec.items()}
    return store.df().groupby(by if len(by) > 1 else by[0], sort=True).agg(**named)


def same(groups: GroupBy, by: list[str], spec: dict[str, Any]) -> None:
    want, got = wanted(groups.source, by, spec), groups.df()
    # pandas adds up in floats: beside 1e300, what it says of the small ones is a matter of order. And its dtypes flip.
    pd.testing.assert_frame_equal(got, want, check_dtype=False, check_index_type=len(want) > 0, atol=1e285)
    assert {name: str(got[name].dtype) for name in got} == {name: DTYPES[name] for name in spec}


def changes(ops: list[Any]) -> list[Change]:
    made: list[Change] = []
    for kind, i, values in ops:
        if kind == "REKEY":
            made.append(Change("UPDATE", "public", "t", COLUMNS, {"id": (i + 1) % 9, **values}, {"id": i}))
        elif kind == "PART":
            made.append(Change("UPDATE", "public", "t", COLUMNS, {"id": i, "g": values["g"]}, {"id": i}))
        else:
            record = None if kind == "DELETE" else {"id": i, **values}
            made.append(Change(kind, "public", "t", COLUMNS, record, {"id": i}))
    return made


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.lists(OPS, max_size=5), max_size=5),
    st.sampled_from([["g"], ["g", "n"], ["at"], ["ok", "t"]]),
    st.sampled_from([None, "x.desc,id"]),
    st.booleans(),
    st.sets(st.sampled_from(sorted(SPEC)), min_size=1),
)
def test_groups_equal_pandas(
    batches: list[list[Any]], by: list[str], order: str | None, always: bool, names: set[str]
) -> None:
    store = Store(COLUMNS, ["id"], order=order)
    spec = {name: found for name, found in SPEC.items() if name in names}
    groups = GroupBy(store, by, spec)
    follower, waiting = Follower(groups), list[Delta]()
    for i, ops in enumerate(batches):
        if i == 3:
            found = {key: {"id": key, **values} for _, key, values in ops}
            waiting.append(store.resync(list(found.values())))
        else:
            waiting.append(store.apply(changes(ops)))
        if always:  # else once, at the end
            follower.apply(groups.apply(*waiting))
            waiting.clear()
            same(groups, by, spec)
    follower.apply(groups.apply(*waiting))
    same(groups, by, spec)


class Follower:
    """Reads of the groups only what their deltas name."""

    def __init__(self, groups: GroupBy) -> None:
        self.groups = groups
        self.rows: dict[Any, Any] = {key: groups.store.row(key) for key in groups.store}

    def apply(self, delta: Delta) -> None:
        store = self.groups.store
        for key in delta.deleted:
            del self.rows[key]
        for key in [*delta.inserted, *(key for key, _ in delta.updated)]:
            self.rows[key] = store.row(key)
        assert self.rows == {key: store.row(key) for key in store}
        assert delta.revision == store.revision
        by = self.groups.by
        shown, want = plain(store.df()), plain(self.groups.df().reset_index())
        assert [row[: len(by)] for row in shown] == [row[: len(by)] for row in want]
        assert len(shown) == len(self.rows)


def plain(frame: pd.DataFrame) -> list[tuple[Any, ...]]:
    columns = [frame[name].astype(object).where(frame[name].notna(), None).tolist() for name in frame]
    return list(zip(*columns, strict=True))


@pytest.mark.slow
def test_sums_do_not_drift() -> None:
    """A running sum would be off after the first of these: 1e17 + 0.1 - 1e17 is 0."""
    rng = random.Random(3)
    store = Store(COLUMNS, ["id"])
    spec: dict[str, Any] = {"sum": ("x", "sum"), "mean": ("x", "mean")}
    groups = GroupBy(store, "g", spec)
    values: dict[int, float] = {}
    for _ in range(300):
        found = {rng.randrange(50): rng.choice([rng.random(), 1e17 * rng.random(), -1e-9, 0.1]) for _ in range(5)}
        values |= found
        groups.apply(
            store.apply(
                [Change("INSERT", "public", "t", COLUMNS, {"id": i, "g": "a", "x": x}) for i, x in found.items()]
            )
        )
        frame = groups.df()
        assert frame.loc["a", "sum"] == pytest.approx(math.fsum(values.values()), rel=1e-15)
        pd.testing.assert_frame_equal(frame, wanted(store, ["g"], spec), check_exact=True)
    groups.apply(store.remove([i for i, x in values.items() if abs(x) > 1]))
    rest = math.fsum(x for x in values.values() if abs(x) <= 1)
    assert groups.df().loc["a", "sum"] == pytest.approx(rest, rel=1e-15)


def test_many_rows_at_once_as_few() -> None:
    rng = random.Random(4)
    rows = [
        {"id": i, "g": rng.choice("abcd"), "x": rng.choice([rng.gauss(0, 1e6), 1e-300 * rng.random(), 7.0]), "n": i}
        for i in range(20_000)
    ]
    store = Store(COLUMNS, ["id"])
    groups = GroupBy(store, "g", {"sum": ("x", "sum"), "top": ("n", "max")})
    groups.apply(store.load(rows))
    for group in "abcd":
        total = math.fsum(row["x"] for row in rows if row["g"] == group)
        assert groups.df().loc[group, "sum"] == pytest.approx(total, rel=1e-15)
    groups.apply(store.remove([row["id"] for row in rows if row["n"] > 10]))
    assert len(groups.df()) == 4
    want = wanted(store, ["g"], {"sum": ("x", "sum"), "top": ("n", "max")})
    pd.testing.assert_frame_equal(groups.df(), want)


def test_a_batch_costs_what_it_touches(monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(COLUMNS, ["id"])
    groups = GroupBy(store, "g", {"sum": ("x", "sum"), "n": ("id", "count"), "top": ("n", "max")})
    groups.apply(store.load([{"id": i, "g": "ab"[i % 2], "x": i / 7, "n": i} for i in range(1000)]))
    looked: list[int] = []
    values = store.values
    monkeypatch.setattr(store, "values", lambda slots, *more: (looked.append(len(slots)), values(slots, *more))[1])
    monkeypatch.setattr(store, "df", lambda: pytest.fail("the whole table was looked at"))
    groups.apply(store.apply([Change("UPDATE", "public", "t", COLUMNS, {"id": 5, "x": 1.0}, {"id": 5})]))
    assert groups.df().loc["b", "n"] == 500
    assert looked == [1]


def test_an_unknown_function_says_what_there_is() -> None:
    with pytest.raises(ValueError, match="median"):
        GroupBy(Store(COLUMNS, ["id"]), "g", {"a": ("x", "mode")})
    with pytest.raises(ValueError, match="quantile"):
        GroupBy(Store(COLUMNS, ["id"]), "g", {"a": ("x", 95)})


EXACT = [
    Column("id", "int8"),
    Column("g", "float8"),
    Column("d", "numeric"),
    Column("day", "date"),
    Column("n8", "int8"),
]
EXACT_ROW = st.fixed_dictionaries(
    {
        "g": st.sampled_from([None, 0.5, math.nan, 2.0, -0.0, 0.0, math.inf]),
        "d": st.sampled_from([None, Decimal("1.10"), Decimal("1.1"), 3, Decimal("1e20"), Decimal("NaN")]),
        "day": st.sampled_from([None, "2026-01-01", "2026-02-01"]),
        "n8": st.sampled_from([None, 2**62, -(2**62), 2**53 + 1, 5]),
    }
)


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.lists(st.tuples(st.booleans(), st.integers(0, 8), EXACT_ROW), max_size=6), max_size=4),
    st.sampled_from([["g"], ["d"], ["day"], ["n8", "g"]]),
    st.sampled_from(["d", "day", "n8", "g"]),
    st.sampled_from(["count", "min", "max", "nunique", "first", "last", "size", "sum", "mean", "median"]),
)
def test_keys_that_are_nan_and_values_that_are_exact(
    batches: list[list[Any]], by: list[str], column: str, function: str
) -> None:
    if column == "day" and function in ("sum", "mean", "median"):
        return
    store = Store(EXACT, ["id"], numeric="decimal")
    groups = GroupBy(store, by, {"a": (column, function)})
    for ops in batches:
        groups.apply(
            store.apply(
                [
                    Change("INSERT", "public", "t", EXACT, {"id": i, **row})
                    if stays
                    else Change("DELETE", "public", "t", EXACT, None, {"id": i})
                    for stays, i, row in ops
                ]
            )
        )
        try:
            want = wanted(store, by, {"a": (column, function)})
        except (TypeError, ArithmeticError):  # pandas cannot compare a Decimal that is NaN
            return
        pd.testing.assert_frame_equal(groups.df(), want, check_dtype=False, check_index_type=False)
