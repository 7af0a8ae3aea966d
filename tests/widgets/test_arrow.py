"""A live table and a group view in the hands of Arrow tools: with a real Postgres."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import rtwidgets as rt

from ..waits import wait_until

pytestmark = pytest.mark.pg


def test_a_table_and_its_groups_are_read_by_arrow_tools(orders: Any, tmp_path: Path) -> None:
    table = rt.LiveTable("orders", order="id", numeric="decimal").wait_live(10)
    by_paid = table.group_by("paid").agg(total=("amount", "sum"), n=("id", "count"))
    held = table.arrow()
    assert held.schema.field("amount").type == pa.decimal128(10, 2)
    assert held["item"].to_pylist() == ["apples", "<b>pears</b>", None]
    assert pa.table(table).equals(held)
    assert by_paid.arrow()["n"].to_pylist() == [1, 1]
    orders.sql("insert into orders values (4, 'plums', 1.25, true)")
    wait_until(lambda: table.count == 4)
    assert by_paid.arrow().to_pydict()["n"] == by_paid.df["n"].tolist() == [1, 2]
    assert table.arrow()["item"].to_pylist() == [*held["item"].to_pylist(), "plums"]
    assert held.num_rows == 3
    table.to_parquet(tmp_path / "orders.parquet", compression="zstd")
    assert pq.read_table(tmp_path / "orders.parquet").equals(table.arrow())
    duckdb, polars = pytest.importorskip("duckdb"), pytest.importorskip("polars")
    assert polars.DataFrame(by_paid)["n"].to_list() == [1, 2]
    rows = table
    assert duckdb.sql("select count(*), max(item) from rows").fetchall() == [(4, "plums")]
    by_paid.close()
    rows.close()
