"""Groups equal pandas' own after every batch."""

from __future__ import annotations

from typing import Any

import pandas as pd
from hypothesis import given, settings
from hypothesis import strategies as st

from rtwidgets.data.groupby import group_by
from rtwidgets.data.store import Store
from rtwidgets.protocol.messages import Change, Column

COLUMNS = [Column("id", "int8"), Column("g", "text"), Column("n", "int4"), Column("x", "float8")]
ROW = st.fixed_dictionaries(
    {
        "g": st.none() | st.sampled_from("abc"),
        "n": st.none() | st.integers(-9, 9),
        "x": st.none() | st.floats(-1, 1, allow_nan=False),
    }
)
OPS = st.tuples(st.sampled_from(["INSERT", "UPDATE", "DELETE"]), st.integers(0, 8), ROW)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(OPS, max_size=5), max_size=5), st.sampled_from([["g"], ["g", "n"]]))
def test_groups_equal_pandas(batches: list[list[Any]], by: list[str]) -> None:
    store = Store(COLUMNS, ["id"])
    spec: dict[str, Any] = {
        "total": ("n", "sum"), "rows": ("x", "count"), "mean": ("x", "mean"), "low": ("x", "min"), "high": ("n", "max"),
        "kinds": ("n", "nunique"), "first": ("x", "first"), "last": ("x", "last"), "median": ("x", 0.5),
    }  # fmt: skip
    groups = group_by(store, by).agg(**spec)
    for ops in batches:
        changes = []
        for kind, i, values in ops:
            record = None if kind == "DELETE" else {"id": i, **values}
            changes.append(Change(kind, "public", "t", COLUMNS, record, {"id": i}))
        groups.apply(store.apply(changes))
        named = {k: (c, f if isinstance(f, str) else lambda v: v.quantile(0.5)) for k, (c, f) in spec.items()}
        want = store.df().groupby(by if len(by) > 1 else by[0], sort=True).agg(**named)
        pd.testing.assert_frame_equal(groups.df(), want, check_dtype=len(want) > 0, check_index_type=len(want) > 0)
