"""A frame of ours is a DataFrame like any other, on every pandas that we support: what pandas can do with a frame of
its own it can do with a borrowed one, with the same result, and the table's memory stays as it was.
"""

from __future__ import annotations

import copy
import io
import pickle
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pandas as pd
import pytest

from rtwidgets.data.store import Store
from rtwidgets.protocol.messages import Column

TYPES = {
    "id": "int8", "name": "text", "n": "int4", "x": "float8", "ok": "bool", "at": "timestamptz", "ts": "timestamp",
    "d": "date", "j": "jsonb", "m": "numeric", "by": "bytea", "e": "mood",
}  # fmt: skip
LABELS = {"mood": ("low", "high", "urgent")}
OBJECTS = [] if int(pd.__version__.split(".")[0]) >= 3 else ["j", "m", "by"]
COPY_ON_WRITE = int(pd.__version__.split(".")[0]) >= 3


def table(order: str | None) -> Store:
    store = Store(
        [Column(name, kind) for name, kind in TYPES.items()], ["id"], numeric="decimal", order=order, labels=LABELS
    )
    store.load(
        {
            "id": i, "name": None if i % 3 == 0 else f"a{i % 4}", "n": None if i == 2 else i, "x": i / 2,
            "ok": None if i == 3 else i % 2 == 0, "at": f"2026-01-01T0{i}:00:00+00:00", "ts": "2026-01-01T00:00:00",
            "d": "2026-01-01", "j": {"a": i}, "m": i, "by": "00",
            "e": None if i == 4 else ("low", "high")[i % 2],
        }
        for i in range(10)
    )  # fmt: skip
    return store


READS: dict[str, Callable[[Any], Any]] = {
    "head": lambda d: d.head(3),
    "tail of head": lambda d: d.head(5).tail(2),
    "slice": lambda d: d[2:5],
    "backwards": lambda d: d[::-1],
    "row": lambda d: d.iloc[1],
    "block": lambda d: d.iloc[1:4, 1:3],
    "loc": lambda d: d.loc[2:3, "name"],
    "mask": lambda d: d[d.name == "a1"],
    "query": lambda d: d.query("n > 3"),
    "sort": lambda d: d.sort_values(["name", "id"]),
    "groupby": lambda d: d.groupby("name").n.sum(),
    "groupby many": lambda d: d.groupby(["name", "ok"], dropna=False).agg({"x": "mean", "n": "max"}),
    "merge": lambda d: d.merge(d[["name", "x"]], on="name", suffixes=("", "_2")),
    "csv": lambda d: d.to_csv(),
    "json": lambda d: d.drop(columns=["by", "m"]).to_json(date_format="iso"),
    "repr": repr,
    "html": lambda d: d.to_html(),
    "describe": lambda d: d.drop(columns=["j"]).describe(include="all"),
    # Before pandas 3 it cannot weigh objects in memory that is read-only.
    "info": lambda d: d.drop(columns=OBJECTS).info(buf=io.StringIO(), memory_usage="deep"),
    "memory": lambda d: d.drop(columns=OBJECTS).memory_usage(deep=True).sum() > 0,
    "copy": lambda d: d.copy(),
    "deepcopy": copy.deepcopy,
    "pickle": lambda d: pickle.loads(pickle.dumps(d)),
    "assign": lambda d: d.assign(z=d.x * 2, name="b"),
    "str": lambda d: d.name.str.upper(),
    "fillna": lambda d: d.fillna({"name": "?", "n": 0, "ok": False}),
    "dropna": lambda d: d.dropna(),
    "isna": lambda d: d.isna(),
    "apply": lambda d: d.apply(lambda row: row["id"], axis=1),
    "itertuples": lambda d: [tuple(map(str, row)) for row in d.itertuples()],
    "set_index": lambda d: d.set_index("name").reset_index(),
    "concat": lambda d: pd.concat([d, d.copy(), d.head(2)]),
    "pivot": lambda d: d.pivot_table(index="name", columns="d", values="x"),
    "value_counts": lambda d: d.name.value_counts().sort_index(),
    "unique": lambda d: list(d.name.dropna().unique()),
    "rolling": lambda d: d.x.rolling(3).mean(),
    "resample": lambda d: d.set_index("at").x.resample("2h").sum(),
    "hour": lambda d: d["at"].dt.hour,
    "astype": lambda d: d.astype({"id": "float64", "name": "object"}),
    "category": lambda d: d.name.astype("category"),
    "isin": lambda d: d.name.isin(["a1"]),
    "map": lambda d: d.name.map({"a1": 1}),
    "shift": lambda d: d.shift(1),
    "cumsum": lambda d: d.n.cumsum(),
    "cumprod": lambda d: d.n.cumprod(),
    "cummax": lambda d: d[["n", "id", "x"]].cummax(),
    "cummin of booleans": lambda d: d.ok.cummin(),
    "diff": lambda d: d.n.diff(),
    "sample": lambda d: d.sample(3, random_state=1),
    "nlargest": lambda d: d.nlargest(3, "x"),
    "drop_duplicates": lambda d: d.drop_duplicates("name"),
    "melt": lambda d: d.melt(id_vars="id", value_vars=["name"]),
    "reindex": lambda d: d.reindex(range(5, 15)),
    "decimals": lambda d: d.m.sum(),
    "where": lambda d: d.where(d.x > 1),
    "arithmetic": lambda d: (d.x + d.n) / d.id - d.n % 2,
    "absolute": lambda d: abs(d.n),
    "any": lambda d: (d.ok.any(), d.ok.sum(), d.n.mean(), d.n.std()),
    "enum": lambda d: (d[d.e >= "high"].id.sum(), d.e.value_counts().to_dict(), d.e.max()),
    "enum order": lambda d: d.sort_values("e").id,
    "enum groups": lambda d: d.groupby("e", observed=False).x.sum(),
    "enum text": lambda d: d.e.astype("str").str.upper(),
    "enum codes": lambda d: d.e.cat.codes.sum(),
    "records": lambda d: d[["id", "name"]].to_dict("records"),
}  # fmt: skip


@pytest.mark.parametrize("order", [None, "id.desc"])
@pytest.mark.parametrize("name", READS)
def test_what_pandas_can_do_with_its_own_frames_it_can_with_ours(name: str, order: str | None) -> None:
    store = table(order)
    before = store.df().copy(deep=True)
    want, got = READS[name](before.copy(deep=True)), READS[name](store.df())
    if isinstance(want, pd.DataFrame):
        pd.testing.assert_frame_equal(got, want)
    elif isinstance(want, pd.Series):
        pd.testing.assert_series_equal(got, want)
    else:
        assert repr(got) == repr(want)
    pd.testing.assert_frame_equal(store.df(), before)


def test_columns_are_of_dtypes_that_do_not_look_at_the_data() -> None:
    text = str(table(None).df()["name"].dtype)
    want = ["Int64", text, "Int32", "float64", "boolean", "datetime64[us, UTC]", "datetime64[us]", "datetime64[us]"]
    want += ["object"] * 3 + ["category"]
    columns = [Column(name, kind) for name, kind in TYPES.items()]
    empty, nulls = (Store(columns, ["id"], numeric="decimal", labels=LABELS) for _ in range(2))
    nulls.load([{"id": 1, **dict.fromkeys(list(TYPES)[1:])}])
    for store in (table(None), empty, nulls):
        assert [str(kind) for kind in store.df().dtypes] == want
    assert nulls.df().iloc[0, 1:].isna().all()


def _array(d: Any, name: str, value: Any) -> None:
    d[name].array[0] = value


WRITES: dict[str, Callable[[Any, str, Any], Any]] = {
    "loc": lambda d, name, value: d.loc.__setitem__((0, name), value),
    "array": _array,
    "a part of it": lambda d, name, value: _array(d.iloc[0:3], name, value),
    "numpy": lambda d, name, value: d[name].to_numpy().__setitem__(0, value),
}


@pytest.mark.parametrize("how", WRITES)
@pytest.mark.parametrize(
    ("name", "value"), [("n", 77), ("x", 7.5), ("name", "mine"), ("ok", False), ("id", 99), ("e", "high")]
)
def test_nothing_that_a_reader_writes_reaches_the_table(how: str, name: str, value: Any) -> None:
    store = table(None)
    before = store.df().copy(deep=True)
    refused = ""
    try:
        WRITES[how](store.df(), name, value)
    except ValueError as error:
        refused = str(error)
    assert not refused or ("read-only" in refused and not (COPY_ON_WRITE and how == "loc"))
    pd.testing.assert_frame_equal(store.df(), before)
    mine = store.df()
    mine[name] = value
    mine.insert(0, "mine", 1)
    mine.drop(columns="x", inplace=True)
    pd.testing.assert_frame_equal(store.df(), before)


@pytest.mark.slow
def test_a_pickled_frame_is_read_without_this_package() -> None:
    program = (
        "import pickle, sys; frame = pickle.load(sys.stdin.buffer); print(frame.n.sum(), frame.name[1]); "
        "print([name for name in sys.modules if name.startswith('rtwidgets')])"
    )
    made = pickle.dumps(table(None).df())
    found = subprocess.run([sys.executable, "-c", program], input=made, capture_output=True, check=True)
    assert found.stdout.decode().split("\n")[:2] == ["43 a1", "[]"]
