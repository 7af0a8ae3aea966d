"""Values as Supabase Realtime v2.122.0 and PostgREST send them (copied from the recording of every common type)."""

from __future__ import annotations

import pickle
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pytest

from rtwidgets.data.column_kinds import TEXT_DTYPE, Block, ColumnValues, kind_of
from rtwidgets.data.dataframes import frame_of_block
from rtwidgets.data.groupby import GroupBy
from rtwidgets.data.store import Store
from rtwidgets.data.view_filter import ViewFilter
from rtwidgets.protocol.messages import Change, Column

TYPES = {
    "id": "int8", "i2": "int2", "i8": "int8", "n": "numeric", "f8": "float8", "b": "bool", "t": "text", "u": "uuid",
    "tz": "timestamptz", "ts": "timestamp", "d": "date", "tm": "time", "iv": "interval", "jb": "jsonb", "by": "bytea",
    "ia": "_int4", "ta": "_text", "m": "mood", "pt": "point",
}  # fmt: skip
COLUMNS = [Column(name, kind) for name, kind in TYPES.items()]
RECORD: dict[str, Any] = {
    "id": 1, "i2": -3, "i8": 9007199254740993, "n": Decimal("123456789012345678.123456789"), "f8": 0.1, "b": True,
    "t": 'héllo "q" \\ \n nl', "u": "6f1ed002-ab5b-4c9c-b7e0-1b2c3d4e5f60", "tz": "2026-11-23T08:00:00.123456+00:00",
    "ts": "2026-11-23T10:00:00.123456", "d": "2026-11-23", "tm": "10:00:00.5", "iv": "1 day 02:03:04",
    "jb": {"b": [1, 2, None]}, "by": "deadbeef", "ia": [1, 2, None], "ta": ["a", "b,c", None],
    "m": "happy", "pt": "(1,2)",
}  # fmt: skip
DTYPES = {
    "id": "Int64", "i2": "Int16", "i8": "Int64", "n": "float64", "f8": "float64", "b": "boolean",
    "tz": "datetime64[us, UTC]", "ts": "datetime64[us]", "d": "datetime64[us]", "jb": "object", "by": "object",
    "ia": "object",
}  # fmt: skip


def change(kind: str, record: dict[str, Any]) -> Change:
    return Change(kind, "public", "types_t", COLUMNS, record)  # type: ignore[arg-type]


def test_every_type_keeps_its_dtype_and_its_value() -> None:
    store = Store(COLUMNS, ["id"])
    empty = store.df().dtypes.to_dict()
    assert {name: str(empty[name]) for name in DTYPES} == DTYPES
    assert isinstance(empty["t"], pd.StringDtype)
    store.apply([change("INSERT", dict.fromkeys(TYPES) | {"id": 2})])
    assert store.df().dtypes.to_dict() == empty
    assert store.df().drop(columns="id").isna().all(axis=None)
    store.apply([change("INSERT", RECORD)])
    df = store.df()
    assert df.dtypes.to_dict() == empty
    got = df.iloc[1]
    assert (got["i8"], got["by"], got["b"]) == (9007199254740993, bytes.fromhex("deadbeef"), True)
    assert got["tz"] == pd.Timestamp(RECORD["tz"])
    assert got["ts"] == pd.Timestamp(RECORD["ts"])
    for name in ("t", "u", "tm", "iv", "jb", "ia", "ta", "m", "pt"):
        assert got[name] == RECORD[name]


def test_what_goes_to_the_browser_loses_no_digit() -> None:
    store = Store(COLUMNS, ["id"], numeric="decimal")
    store.load([RECORD, dict.fromkeys(TYPES) | {"id": 2}])
    shown = {name: values[0] for name, values in store.window(0, 2)["columns"].items()}
    assert shown["i8"] == "9007199254740993"
    assert shown["n"] == "123456789012345678.123456789"
    assert (shown["tz"], shown["d"], shown["by"]) == (RECORD["tz"], RECORD["d"], "\\xdeadbeef")
    assert {name: values[1] for name, values in store.window(0, 2)["columns"].items()} == dict.fromkeys(TYPES) | {
        "id": 2
    }


def test_postgrest_and_changes_agree() -> None:
    store = Store(COLUMNS, ["id"])
    store.load([RECORD | {"by": "\\xdeadbeef", "tz": "2026-11-23T09:00:00.123456+01:00"}])
    assert not store.apply([change("UPDATE", RECORD)])


def test_what_no_datetime_can_hold_is_shown_as_it_is_and_clamped_in_a_frame() -> None:
    store = Store(COLUMNS, ["id"])
    store.load([RECORD | {"tz": "infinity", "ts": "-infinity", "d": "0044-03-15 BC", "f8": "Infinity"}])
    row = store.window(0, 1)["columns"]
    assert (row["tz"], row["ts"], row["d"]) == (["infinity"], ["-infinity"], ["0044-03-15 BC"])
    assert store.df()["f8"].iloc[0] == np.inf
    assert [store.df()[name].iloc[0].year for name in ("tz", "ts", "d")] == [9999, 1, 1]


def test_moments_with_and_without_an_offset_in_one_batch() -> None:
    columns = [Column("id", "int8"), Column("at", "timestamptz")]
    texts = ["2026-01-01T00:00:00+00:00", "2026-01-01T01:00:00+01:00", "2025-12-31T19:00:00-05:00", None]
    texts += ["2026-01-01T00:00:00Z", "2026-01-01 00:00:00+00"]
    want = pd.Timestamp("2026-01-01", tz="UTC")
    for some in (texts[:1], texts[1:2], texts[2:3], texts[:2], [texts[0], None], [None, *texts], texts):
        store = Store(columns, ["id"])
        store.load([{"id": i, "at": text} for i, text in enumerate(some)])
        for at, text in zip(store.df()["at"], some, strict=True):
            assert at is pd.NaT if text is None else at == want


@pytest.mark.parametrize("rows", [0, 1, 3])
def test_a_frame_is_put_together_as_pandas_would(rows: int) -> None:
    values: dict[str, list[Any]] = {
        "int4": [1, None, 3], "int8": [1, 2, 3], "float8": [0.5, None, 2], "bool": [True, None, False],
        "timestamptz": ["2026-01-01T00:00:00+00:00", None, "2026-01-02T00:00:00+00:00"], "text": ["a", None, "c"],
        "timestamp": ["2026-01-01T00:00:00", None, "2026-01-02T00:00:00"], "date": ["2026-01-01", None, "2026-01-02"],
        "numeric": [1, None, 2], "jsonb": [{"a": 1}, None, [1, 2]], "bytea": ["00ff", None, ""],
    }  # fmt: skip
    block: Block = {}
    for name, some in values.items():
        kind = kind_of(name, numeric="decimal")
        block[name] = ColumnValues(kind, *kind.parse(some[:rows]))
    frame = frame_of_block(block, rows)
    assert frame.index.equals(pd.RangeIndex(rows))
    assert [str(dtype) for dtype in frame.dtypes] == [
        "Int32", "Int64", "float64", "boolean", "datetime64[us, UTC]", str(TEXT_DTYPE), "datetime64[us]",
        "datetime64[us]", "object", "object", "object",
    ]  # fmt: skip
    want = frame.copy(deep=True)
    if rows:
        assert np.shares_memory(frame["float8"].to_numpy(), block["float8"].data)
        assert frame.groupby("int8").size().tolist() == [1] * rows
        pd.testing.assert_frame_equal(frame.sort_values("int8", ascending=False), want.iloc[::-1])
        pd.testing.assert_frame_equal(pickle.loads(pickle.dumps(frame)), want)
    frame.columns.name = "mine"
    assert frame_of_block(block, rows).columns.name is None


@pytest.mark.parametrize(
    ("pg_type", "labels", "bases", "name"),
    [
        ("Date", {"Date": ("mon", "tue")}, {}, "enum"),  # create type "Date" as enum
        ("Date", {}, {}, "other"),
        ("date", {}, {}, "date"),
        ("json", {"json": ("ok",)}, {}, "enum"),  # create type public.json as enum
        ("public.json", {"public.json": ("ok",)}, {}, "enum"),
        ("public.json", {}, {}, "other"),
        ("pg_catalog.json", {}, {}, "json"),
        ('public."Date"', {}, {}, "other"),
        ("_mood", {"_mood": ("a", "b")}, {}, "enum"),  # an enum whose name begins with _
        ("_mood", {"mood": ("a", "b")}, {}, "array"),
        ("__mood", {"_mood": ("a", "b")}, {}, "array"),
        ("deep", {}, {"deep": "middle", "middle": "shallow", "shallow": "int4"}, "int32"),
        ("deep", {}, {"deep": "numbers", "numbers": "_numeric"}, "array"),
        ("kind", {"mood": ("a",)}, {"kind": "mood"}, "enum"),
        ("int4", {}, {"int4": "text"}, "text"),  # create domain public.int4 as text
        ("loop", {}, {"loop": "pool", "pool": "loop"}, "other"),
        ("numeric(10,2)", {}, {}, "decimal"),
        ("timestamp(3) with time zone", {}, {}, "timestamptz"),
        ("character(4)", {}, {}, "bpchar"),
        ("extensions.citext", {}, {}, "citext"),
        ("character varying[]", {}, {}, "array"),
    ],
)
def test_a_type_is_known_by_its_exact_name(pg_type: str, labels: Any, bases: Any, name: str) -> None:
    assert kind_of(pg_type, numeric="decimal", labels=labels, bases=bases).name == name


def test_a_change_with_bare_names_keeps_the_types_of_the_description() -> None:
    described = [Column("id", "int4"), Column("state", "public.json"), Column("day", 'public."Date"')]
    labels = {"public.json": ("ok", "bad"), 'public."Date"': ("tue", "mon")}
    store = Store(described, ["id"], labels=labels)
    store.load([{"id": 1, "state": "bad", "day": "mon"}])
    bare = [Column("id", "int4"), Column("state", "json"), Column("day", "Date")]
    delta = store.apply([Change("INSERT", "public", "t", bare, {"id": 2, "state": "ok", "day": "tue"})])
    assert not delta.columns_changed
    assert store.df()["state"].tolist() == ["bad", "ok"]
    assert store.window(0, 2, sort=[("day", False)])["keys"] == [2, 1]


MOOD = [Column("id", "int4"), Column("mood", "mood")]
LABELS = {"mood": ("low", "high", "urgent")}


def moods() -> Store:
    store = Store(MOOD, ["id"], labels=LABELS)
    store.load([{"id": i, "mood": mood} for i, mood in enumerate(["urgent", None, "low", "high", "urgent"])])
    return store


def test_an_enum_is_an_ordered_category_in_a_frame() -> None:
    store = moods()
    frame = store.df()
    assert frame["mood"].cat.categories.tolist() == ["low", "high", "urgent"]
    assert frame["mood"].cat.ordered
    assert (frame["mood"] >= "high").tolist() == [True, False, False, True, True]
    assert frame.sort_values("mood")["id"].tolist() == [2, 3, 0, 4, 1]
    assert frame.groupby("mood", observed=True).size().to_dict() == {"low": 1, "high": 1, "urgent": 2}
    assert frame["mood"].max() == "urgent"
    assert Store(MOOD, ["id"], labels=LABELS).df()["mood"].dtype == frame["mood"].dtype
    held = frame["mood"].tolist()
    store.apply([Change("UPDATE", "public", "t", MOOD, {"id": 1, "mood": "high"}, {"id": 1})])
    assert store.df()["mood"].tolist() == ["urgent", "high", "low", "high", "urgent"]
    assert repr(frame["mood"].tolist()) == repr(held)


def test_an_enum_s_filters_and_groups_have_the_declared_order() -> None:
    store = moods()
    for text, keys in ((">=high", [0, 3, 4]), ("<urgent", [2, 3]), ("=low", [2]), ("urg", [0, 4]), ("=null", [1])):
        view_filter = ViewFilter(store, "", {"mood": text})
        while view_filter.work():
            pass
        assert (view_filter.problems, store.window(0, 9, view_filter=view_filter)["keys"]) == ([], keys)
    [problem] = ViewFilter(store, "", {"mood": ">highest"}).problems
    assert "low, high, urgent" in problem
    groups = GroupBy(store, "mood", {"n": ("id", "count"), "last": ("mood", "max")})
    assert groups.df().index.tolist() == ["low", "high", "urgent"]
    assert groups.store.keys() == ["low", "high", "urgent"]
    assert groups.store.df()["mood"].cat.categories.tolist() == ["low", "high", "urgent"]
    assert store.window(0, 9, sort=[("mood", True)])["keys"] == [1, 0, 4, 3, 2]


def test_a_label_that_was_added_meanwhile_comes_last_until_the_table_is_described_again() -> None:
    store = moods()
    before = store.df()
    store.apply([Change("INSERT", "public", "t", MOOD, {"id": 9, "mood": "medium"})])
    assert store.df()["mood"].cat.categories.tolist() == ["low", "high", "urgent", "medium"]
    assert store.df()["mood"].tolist()[-1] == "medium"
    assert before["mood"].cat.categories.tolist() == ["low", "high", "urgent"]
    rows = [store.row(key) or {} for key in store]
    delta = store.resync(rows, MOOD, labels={"mood": ("low", "medium", "high", "urgent")})
    assert delta.columns_changed
    assert store.df()["mood"].cat.categories.tolist() == ["low", "medium", "high", "urgent"]
    assert store.window(0, 9, sort=[("mood", False)])["keys"] == [2, 9, 3, 0, 4, 1]


def test_an_enum_of_many_labels() -> None:
    labels = [f"label {i}" for i in range(300)]
    store = Store(MOOD, ["id"], labels={"mood": labels})
    store.load([{"id": i, "mood": label} for i, label in enumerate(labels)])
    assert store.df()["mood"].tolist() == labels
    few = Store(MOOD, ["id"], labels={"mood": labels[:1]})
    few.load([])
    for i, label in enumerate(labels):
        few.upsert([{"id": i, "mood": label}])
        if i % 50 == 0:
            assert few.df()["mood"].tolist() == labels[: i + 1]
    assert few.df()["mood"].tolist() == labels


FLOATS = [Column("id", "int4"), Column("f", "float8"), Column("n", "numeric")]


@pytest.mark.parametrize("numeric", ["float", "decimal"])
def test_nan_infinity_and_null_are_three_things(numeric: Any) -> None:
    store = Store(FLOATS, ["id"], numeric=numeric)
    values = ["NaN", None, "Infinity", "-Infinity", 1.5]
    store.load([{"id": i, "f": value, "n": value} for i, value in enumerate(values)])
    shown = store.window(0, 9)["columns"]
    assert shown["f"] == ["NaN", None, "Infinity", "-Infinity", 1.5]
    assert shown["n"] == ["NaN", None, "Infinity", "-Infinity", 1.5 if numeric == "float" else "1.5"]
    for name in ("f", "n"):
        for text, keys in (
            ("=null", [1]), ("=NaN", [0]), ("!null", [0, 2, 3, 4]), (">1", [0, 2, 4]), ("<2", [3, 4]), (">=NaN", [0]),
            ("=Infinity", [2]), ("<NaN", [2, 3, 4]), ("nan", [0]), ("inf", [2, 3]),
        ):  # fmt: skip
            view_filter = ViewFilter(store, "", {name: text})
            while view_filter.work():
                pass
            assert (text, store.window(0, 9, view_filter=view_filter)["keys"]) == (text, keys)
        assert store.window(0, 9, sort=[(name, False)])["keys"] == [3, 4, 2, 0, 1]
        assert store.window(0, 9, sort=[(name, True)])["keys"] == [1, 0, 2, 4, 3]
    assert store.df()["f"].isna().tolist() == [True, True, False, False, False]
    assert store.row(1) == {"id": 1, "f": None, "n": None}
    for i, value in enumerate(values):  # the same again is no change, in a change and in a snapshot
        assert not store.apply([Change("UPDATE", "public", "t", FLOATS, {"id": i, "f": value, "n": value}, {"id": i})])
    delta = store.apply([Change("UPDATE", "public", "t", FLOATS, {"id": 0, "f": None, "n": None}, {"id": 0})])
    assert delta.updated == [(0, ("f", "n"))]
    [(_, was, now)] = delta.updated_rows()
    assert was["f"] != was["f"]
    assert now == {"f": None, "n": None}


DATES = [Column("id", "int4"), Column("d", "date"), Column("ts", "timestamp"), Column("tz", "timestamptz")]


def test_dates_before_christ_and_after_9999_are_shown_and_compared_as_they_are() -> None:
    store = Store(DATES, ["id"])
    texts = [
        ("0044-03-15 BC", "0044-03-15T12:00:00 BC", "0044-03-15T12:00:00+00:00 BC"),
        ("20000-01-01", "20000-01-01T00:00:00.5", "20000-01-01T00:00:00+00:00"),
        ("infinity", "infinity", "infinity"),
        ("-infinity", "-infinity", "-infinity"),
        ("2026-11-23", "2026-11-23T10:00:00", "2026-11-23T10:00:00+00:00"),
        (None, None, None),
    ]
    rows = [{"id": i, "d": d, "ts": ts, "tz": tz} for i, (d, ts, tz) in enumerate(texts)]
    store.load(rows)
    shown = store.window(0, 9)["columns"]
    assert shown["d"] == [d for d, _, _ in texts]
    assert shown["ts"] == [ts and ts.replace(".5", ".500000") for _, ts, _ in texts]
    assert shown["tz"] == [tz for _, _, tz in texts]
    for name in ("d", "ts", "tz"):
        assert store.window(0, 9, sort=[(name, False)])["keys"] == [3, 0, 4, 1, 2, 5]
        for text, keys in (
            ("<2026-01-01", [0, 3]),
            ("=infinity", [2]),
            ("=-infinity", [3]),
            ("20000", [1]),
            ("bc", [0]),
        ):
            view_filter = ViewFilter(store, "", {name: text})
            while view_filter.work():
                pass
            assert (text, store.window(0, 9, view_filter=view_filter)["keys"]) == (text, keys)
    assert not store.resync(rows)
    years = [None if pd.isna(value) else value.year for value in store.df()["tz"]]
    assert years == [1, 9999, 9999, 1, 2026, None]
    assert store.df().sort_values("d")["id"].tolist()[-1] == 5


@pytest.mark.parametrize("text", ["²", "--1", "٣", "1²"])
def test_a_text_that_only_looks_like_a_number_stays_a_text(text: str) -> None:
    store = Store([Column("code", "text"), Column("n", "int4")], ["code"])
    store.load([{"code": text, "n": 1}])
    assert store.select([text])["n"].tolist() == [1]
    assert store.row(text) == {"code": text, "n": 1}
    for name in ("n",):
        view_filter = ViewFilter(store, "", {name: f">{text}"})
        assert len(view_filter.problems) == (text != "٣")


@pytest.mark.filterwarnings("error::RuntimeWarning")
@pytest.mark.parametrize("values", [["Infinity", "-Infinity"], [1e308, 1e308], [None, "NaN", "Infinity", "-Infinity"]])
def test_infinities_of_both_signs_and_large_sums_warn_of_nothing(values: list[Any]) -> None:
    store = Store(FLOATS, ["id"])
    store.load([{"id": i, "f": value, "n": value} for i, value in enumerate(values)])
    assert store.window(0, 9)["columns"]["f"] == values
