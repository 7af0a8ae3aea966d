"""Columns in Arrow: each kind there and back, and stores that are loaded from Arrow tables."""

from __future__ import annotations

from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any
from uuid import UUID

import numpy as np
import pyarrow as pa
import pytest

from rtwidgets.data.column_kinds import kind_of
from rtwidgets.data.kinds.strings import TextArray
from rtwidgets.data.store import Store
from rtwidgets.protocol.messages import Change, Column

LABELS = {"mood": ("low", "high", "urgent")}
UID = "6f1ed002-ab5b-4c9c-b7e0-1b2c3d4e5f60"
LONG = "longer than twelve letters"
END = 2**31 - 1
FOREVER = 2**63 - 1
DIGITS = "0.10000000000000000000001"
NOON = datetime(2026, 1, 1, 12, 0, 0, 5, tzinfo=UTC)
SAMPLES: list[tuple[str, list[Any], pa.DataType, list[Any]]] = [
    ("int2", [1, None, -3], pa.int16(), [1, None, -3]),
    ("int4", [1, None, 2**31 - 1], pa.int32(), [1, None, 2**31 - 1]),
    ("int8", [2**63 - 1, None], pa.int64(), [2**63 - 1, None]),
    ("float8", [0.1, None, "Infinity"], pa.float64(), [0.1, None, float("inf")]),
    ("numeric", [Decimal("0.1"), None, "NaN"], pa.large_string(), ["0.1", None, "NaN"]),
    ("numeric(10,2)", [Decimal("1.50"), None], pa.decimal128(10, 2), [Decimal("1.50"), None]),
    ("numeric(5)", [Decimal(12), None], pa.decimal128(5, 0), [Decimal(12), None]),
    ("numeric(3,-2)", [Decimal(12300), None], pa.decimal128(5, 0), [Decimal(12300), None]),
    ("numeric(60,2)", [Decimal("1.5"), None], pa.large_string(), ["1.5", None]),
    ("bool", [True, None, False], pa.bool_(), [True, None, False]),
    ("timestamptz", ["2026-01-01T12:00:00.000005+00:00", None], pa.timestamp("us", "UTC"), [NOON, None]),
    ("timestamp", ["2026-01-01T12:00:00.000005", None], pa.timestamp("us"), [NOON.replace(tzinfo=None), None]),
    ("date", ["2026-01-01", None, "1969-12-31"], pa.date32(), [date(2026, 1, 1), None, date(1969, 12, 31)]),
    ("time", ["10:00:00.5", None], pa.time64("us"), [time(10, 0, 0, 500_000), None]),
    ("text", ["a", None, "", "a longer text: ä€😀"], pa.large_string(), ["a", None, "", "a longer text: ä€😀"]),
    ("uuid", [UID, None], pa.large_string(), [UID, None]),
    ("interval", ["1 day 02:03:04", None], pa.large_string(), ["1 day 02:03:04", None]),
    ("bytea", ["00ff", None, ""], pa.large_binary(), [b"\x00\xff", None, b""]),
    ("jsonb", [{"a": [1, None]}, None, "x", 1.5], pa.large_string(), ['{"a":[1,null]}', None, '"x"', "1.5"]),
    ("_int4", [[1, None], None, []], pa.list_(pa.int32()), [[1, None], None, []]),
    ("_text", [["a", None], None, []], pa.list_(pa.large_string()), [["a", None], None, []]),
    ("timestamptz[]", [["2026-01-01T12:00:00.000005+00:00"]], pa.list_(pa.timestamp("us", "UTC")), [[NOON]]),
    ("numeric(4,1)[]", [[Decimal("1.5"), None]], pa.list_(pa.decimal128(4, 1)), [[Decimal("1.5"), None]]),
    ("mood", ["high", None, "low"], pa.dictionary(pa.int8(), pa.large_string(), True), ["high", None, "low"]),
]  # fmt: skip


@pytest.mark.parametrize(("pg_type", "values", "arrow_type", "shown"), SAMPLES, ids=[sample[0] for sample in SAMPLES])
def test_a_kind_goes_to_arrow_and_back(
    pg_type: str, values: list[Any], arrow_type: pa.DataType, shown: list[Any]
) -> None:
    kind = kind_of(pg_type, numeric="decimal", labels=LABELS)
    stored = kind.parse(values)
    made = kind.to_arrow(*stored)
    made.validate(full=True)
    assert made.type == kind.arrow_type == arrow_type
    assert made.to_pylist() == shown
    assert kind.to_arrow(*kind.parse([])).type == arrow_type
    # The masks, the nulls and a slice of a longer array come back the same.
    again = pa.concat_arrays([made, made])[len(values) :]
    assert repr(kind.to_record(*kind.from_arrow(again))) == repr(kind.to_record(*stored))
    assert not kind.changed(stored, kind.from_arrow(made)).any()
    nulls = pa.nulls(2, arrow_type)
    assert kind.to_python(*kind.from_arrow(nulls)) == [None, None]
    assert kind.to_arrow(*kind.all_null(2)).null_count == 2


@pytest.mark.parametrize(
    ("pg_type", "values", "record"),
    [
        ("int8", pa.array([1, None], pa.int16()), [1, None]),
        ("float8", pa.array([0.1, None, float("nan")], pa.float32()), [0.1, None, float("nan")]),
        ("float8", pa.array([Decimal("0.30"), None], pa.decimal128(10, 2)), [0.3, None]),
        ("float8", pa.array(["0.3", None, "NaN", "-Infinity"]), [0.3, None, float("nan"), float("-inf")]),
        ("float8", pa.array([3, None]), [3.0, None]),
        ("text", pa.array(["a", None, LONG], pa.string_view()), ["a", None, LONG]),
        ("text", pa.array(["a", None, "a"]).dictionary_encode(), ["a", None, "a"]),
        ("uuid", pa.array([UUID(int=5).bytes, None], pa.binary(16)), [str(UUID(int=5)), None]),
        ("uuid", pa.array([UID.upper(), None, "{" + UID + "}", "none"]), [UID, None, UID, None]),
        ("time", pa.array([36_000_500_000, None, 5], pa.time64("us")), ["10:00:00.5", None, "00:00:00.000005"]),
        ("date", pa.array([END, -END, None], pa.int32()).cast(pa.date32()), ["infinity", "-infinity", None]),
        ("timestamptz", pa.array([FOREVER, -FOREVER]).cast(pa.timestamp("us", "UTC")), ["infinity", "-infinity"]),
        ("timestamp", pa.array([datetime(2026, 1, 1)], pa.timestamp("s")), ["2026-01-01T00:00:00"]),
        ("mood", pa.array(["high", None, "new"]), ["high", None, "new"]),
        ("mood", pa.array(["high", None, "low"]).dictionary_encode(), ["high", None, "low"]),
        ("_int4", pa.array(["[1, null]", None]), [[1, None], None]),
        ("jsonb", pa.array([f'{{"n": {DIGITS}}}', None]), [{"n": Decimal(DIGITS)}, None]),
        ("numeric", pa.array([Decimal("1.50"), None], pa.decimal128(10, 2)), [Decimal("1.50"), None]),
    ],
)  # fmt: skip
def test_what_a_reader_sends_in_another_type_is_cast(pg_type: str, values: Any, record: list[Any]) -> None:
    kind = kind_of(pg_type, numeric="float" if "float" in pg_type else "decimal", labels=LABELS)
    assert repr(kind.to_record(*kind.from_arrow(values))) == repr(record)


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="32768"):
        kind_of("int2").from_arrow(pa.array([32768]))
    kind = kind_of("numeric(4,1)", numeric="decimal")
    with pytest.raises(ValueError, match=r"numeric\(4, 1\).*verify\(\)"):
        kind.to_arrow(*kind.parse([Decimal("1.55")]))


COLUMNS = [Column("id", "int8"), Column("name", "text"), Column("n", "int4"), Column("mood", "mood")]
TABLE = pa.table(
    {
        "mood": pa.array(["low", None, "urgent"]),
        "id": pa.array([3, 1, 2]),
        "other": pa.array([1, 2, 3]),
        "n": pa.array([7, None, 9], pa.int32()),
        "name": pa.array(["c", "a", None]),
    }
)
ROWS = [
    {"id": 3, "name": "c", "n": 7, "mood": "low"},
    {"id": 1, "name": "a", "n": None, "mood": None},
    {"id": 2, "name": None, "n": 9, "mood": "urgent"},
]


def rows_of(store: Store) -> list[Any]:
    return [store.row(key) for key in store]


@pytest.mark.parametrize("key", [("id",), ("id", "name"), ("name",)])
@pytest.mark.parametrize("form", ["table", "chunks", "batch", "batches"])
def test_a_store_loads_a_table_as_it_loads_rows(form: str, key: tuple[str, ...]) -> None:
    table = TABLE.set_column(4, "name", pa.array(["c", "a", "b"])) if "name" in key else TABLE
    rows = [{**row, "name": row["name"] or "b"} for row in ROWS] if "name" in key else ROWS
    given: Any = {
        "table": table,
        "chunks": pa.concat_tables([table[:1], table[1:1], table[1:]]),
        "batch": table.to_batches()[0],
        "batches": [table[:1].to_batches()[0], table[1:].to_batches()[0]],
    }[form]
    store, plain = (Store(COLUMNS, key, labels=LABELS) for _ in range(2))
    delta = store.load(given)
    same = plain.load(rows)
    assert (delta.reset, delta.inserted, delta.inserted_rows()) == (True, same.inserted, same.inserted_rows())
    assert rows_of(store) == rows_of(plain) == rows
    assert store.df().equals(plain.df())
    assert not store.resync(given)
    assert not store.resync(rows)


def test_a_table_merges_into_rows_that_are_here_and_reports_what_differs() -> None:
    store = Store(COLUMNS, ["id"], labels=LABELS)
    store.load(ROWS)
    delta = store.upsert(pa.table({"id": [2, 4, 4], "n": pa.array([9, 1, 5]), "name": ["b", "x", "d"]}))
    assert delta.inserted == [4]
    assert list(delta.updated_rows()) == [(2, {"name": None}, {"name": "b"})]
    assert store.row(4) == {"id": 4, "name": "d", "n": 5, "mood": None}
    assert store.row(2) == {"id": 2, "name": "b", "n": 9, "mood": "urgent"}
    delta = store.resync(pa.table({"id": [4, 1], "n": pa.array([5, 6]), "name": ["d", "a"], "mood": ["low", None]}))
    assert sorted(delta.deleted) == [2, 3]
    assert delta.updated == [(4, ("mood",)), (1, ("n",))]
    assert store.keys() == [1, 4]
    store.apply([Change("UPDATE", "public", "t", COLUMNS, {"id": 4, "n": 0}, {"id": 4})])
    assert store.df()["n"].tolist() == [6, 0]


def test_rows_without_a_key_are_numbered() -> None:
    store = Store(COLUMNS, [], append_only=True, labels=LABELS)
    store.load(TABLE)
    assert store.keys() == [0, 1, 2]
    store.apply([Change("INSERT", "public", "t", COLUMNS, ROWS[0])])
    assert store.keys() == [0, 1, 2, 3]


def test_a_key_must_be_there_and_not_null() -> None:
    store = Store(COLUMNS, ["id"])
    store.load(ROWS)
    with pytest.raises(ValueError, match="no key column 'id'"):
        store.upsert(TABLE.drop_columns(["id"]))
    with pytest.raises(ValueError, match="'id' has a null"):
        store.upsert(TABLE.set_column(1, "id", pa.array([1, None, 2])))
    assert rows_of(store) == [{**row, "mood": row["mood"]} for row in ROWS]


def test_a_bytea_key_is_bare_hex_as_in_a_change() -> None:
    store = Store([Column("id", "bytea"), Column("n", "int4")], ["id"])
    store.load(pa.table({"id": pa.array([b"\x00\xff"]), "n": [1]}))
    store.apply([Change("UPDATE", "public", "t", store.columns, {"id": "00ff", "n": 2}, {"id": "00ff"})])
    assert store.keys() == ["00ff"]
    assert store.df()["n"].tolist() == [2]


def test_a_change_says_numeric_where_the_description_says_how_many_digits() -> None:
    columns = [Column("id", "int8"), Column("v", "numeric(10,2)")]
    store = Store(columns, ["id"], numeric="decimal")
    bare = [Column("id", "int8"), Column("v", "numeric")]
    delta = store.apply([Change("INSERT", "public", "t", bare, {"id": 1, "v": Decimal("1.5")})])
    assert not delta.columns_changed
    assert store.kinds["v"].arrow_type == pa.decimal128(10, 2)
    delta = store.resync([{"id": 1, "v": Decimal("1.555")}], [Column("id", "int8"), Column("v", "numeric(10,3)")])
    assert delta.columns_changed
    assert store.kinds["v"].arrow_type == pa.decimal128(10, 3)


def test_a_description_has_the_digits_beside_the_type() -> None:
    columns = [Column("id", "int8"), Column("v", "numeric")]
    store = Store(columns, ["id"], numeric="decimal", exact={"v": "numeric(10,2)"})
    assert not store.apply([Change("INSERT", "public", "t", columns, {"id": 1, "v": Decimal("1.5")})]).columns_changed
    assert store.arrow()["v"].type == pa.decimal128(10, 2)
    assert store.columns == columns
    assert store.resync([], columns, exact={"v": "numeric(8,3)"}).columns_changed
    assert store.arrow()["v"].type == pa.decimal128(8, 3)


def test_a_null_whose_place_has_bytes_is_null() -> None:
    uuids = Store([Column("id", "int4"), Column("v", "uuid")], ["id"])
    uuids.load([{"id": 1, "v": None}, {"id": 2, "v": UID}])
    texts = Store([Column("id", "int4"), Column("v", "text")], ["id"])
    texts.load(uuids.arrow())
    assert [(texts.row(key) or {})["v"] for key in (1, 2)] == [None, UID]


def test_text_far_behind_in_its_buffer() -> None:
    place = 2**31
    data = np.zeros(place + 4096, dtype="uint8")  # memory that is not used is not touched
    data[place : place + 40] = ord("x")
    ends = np.array([place, place + 3, place + 40], dtype="int64")
    array = pa.Array.from_buffers(pa.large_string(), 2, [None, pa.py_buffer(ends), pa.py_buffer(data)])
    assert TextArray.from_arrow(array).tolist() == ["xxx", "x" * 37]


def test_texts_that_are_written_to_keep_the_others() -> None:
    values = [f"{LONG} {number}" for number in range(8)]
    texts = TextArray.of([*values, None])
    texts[np.array([5])] = TextArray.of([f"another {LONG}"])
    assert texts.tolist() == [*values[:5], f"another {LONG}", *values[6:], None]
