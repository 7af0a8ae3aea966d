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
from rtwidgets.data.store import Store
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
