"""What tools that read Arrow make of a table: the values of every type, and no copy where they need none."""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rtwidgets.data.store import Store
from rtwidgets.protocol.messages import Column

TYPES = {
    "id": "int8", "n": "int2", "x": "float8", "ok": "bool", "name": "text", "v": "numeric(10,2)", "at": "timestamptz",
    "d": "date", "tm": "time", "j": "jsonb", "tags": "_text", "e": "mood", "by": "bytea",
}  # fmt: skip
ROW: dict[str, Any] = {
    "id": 1, "n": 7, "x": 0.5, "ok": True, "name": "a name of more than twelve bytes", "v": Decimal("1.50"),
    "at": "2026-01-01T12:00:00+00:00", "d": "2026-01-31", "tm": "10:00:00.5", "j": {"a": 1}, "tags": ["x", None],
    "e": "high", "by": "00ff",
}  # fmt: skip


class Stream:
    """An object that is read as a stream, as a LiveTable is."""

    def __init__(self) -> None:
        columns = [Column(name, kind) for name, kind in TYPES.items()]
        self.store = Store(columns, ["id"], numeric="decimal", labels={"mood": ("low", "high", "urgent")})
        self.store.load([ROW, dict.fromkeys(TYPES) | {"id": 2}])

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return self.store.arrow().__arrow_c_stream__(requested_schema)


def test_pyarrow_reads_it_as_it_is() -> None:
    orders = Stream()
    assert pa.table(orders).equals(orders.store.arrow())
    assert orders.store.arrow().sort_by([("name", "descending")]).filter(pa.compute.field("n") > 1)[
        "id"
    ].to_pylist() == [1]


def test_duckdb_reads_it_by_the_name_of_its_variable() -> None:
    duckdb = pytest.importorskip("duckdb")
    orders = Stream()
    duckdb.sql("set timezone = 'UTC'")
    first, second = duckdb.sql("from orders order by id").fetchall()
    found = dict(zip(TYPES, first, strict=True))
    assert found["at"].astimezone(None) == datetime.fromisoformat(ROW["at"])
    assert (found["v"], found["d"], found["j"]) == (Decimal("1.50"), date(2026, 1, 31), '{"a":1}')
    assert (found["tags"], found["e"], found["by"], found["name"]) == (["x", None], "high", b"\x00\xff", ROW["name"])
    assert (found["n"], found["x"], found["ok"], str(found["tm"])) == (7, 0.5, True, "10:00:00.500000")
    assert second == (2, *[None] * 12)
    assert duckdb.sql("select sum(v) from orders").fetchall() == [(Decimal("1.50"),)]
    assert orders.store.df()["name"].tolist()[0] == ROW["name"]


def test_polars_and_narwhals_read_it() -> None:
    polars = pytest.importorskip("polars")
    narwhals = pytest.importorskip("narwhals")
    orders = Stream()
    frame = polars.DataFrame(orders)
    first = frame.row(0, named=True)
    assert (first["v"], first["d"], first["name"], first["e"]) == (
        Decimal("1.50"),
        date(2026, 1, 31),
        ROW["name"],
        "high",
    )
    assert (first["tags"], first["by"], first["j"]) == (["x", None], b"\x00\xff", '{"a":1}')
    assert frame.row(1) == (2, *[None] * 12)
    found = narwhals.from_native(orders.store.arrow()).filter(narwhals.col("name").str.starts_with("a name"))
    assert found["id"].to_list() == [1]


def test_pandas_and_parquet_read_it(tmp_path: Path) -> None:
    orders = Stream()
    frame = orders.store.arrow().to_pandas()
    assert frame["at"].tolist() == [pd.Timestamp(ROW["at"]), pd.NaT]
    assert frame["e"].cat.ordered
    pq.write_table(orders.store.arrow(), tmp_path / "orders.parquet")
    again = pq.read_table(tmp_path / "orders.parquet")
    assert again.to_pylist() == orders.store.arrow().to_pylist()
    assert again.schema.field("v").type == pa.decimal128(10, 2)
