"""Frames over borrowed memory, and frames as rows."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from importlib import import_module
from typing import Any, cast

import numpy as np
import pandas as pd


def _witness() -> Any:
    """A block that never dies (pandas 3 only)."""
    try:
        return pd.DataFrame({"witness": np.zeros(1)})._mgr.blocks[0]  # pyright: ignore[reportAttributeAccessIssue]
    except (AttributeError, IndexError):
        return None


_WITNESS = _witness()


def _assembler() -> Callable[..., Any] | None:
    """pandas' own last step in making a frame of columns: the public way there looks at every column three times over
    and takes three times as long, which is half a millisecond for a frame that is asked for after a pause.
    """
    try:
        managers: Any = import_module("pandas.core.internals.managers")
        make: Any = managers.create_block_manager_from_column_arrays
        made = make([np.zeros(1)], [pd.Index(["a"]), pd.RangeIndex(1)], consolidate=False, refs=[None])
        frame: Any = pd.DataFrame
        frame._from_mgr(made, axes=made.axes)
    except Exception:
        return None
    return make


_ASSEMBLE = _assembler()


@lru_cache(64)
def _index(names: tuple[str, ...]) -> Any:
    return pd.Index(list(names))


def frame_of(arrays: dict[str, Any], rows: int) -> pd.DataFrame:
    """A frame of these columns (of `to_pandas`), all `rows` long, without copying them."""
    if _ASSEMBLE is None or not arrays:
        return pd.DataFrame(arrays, index=pd.RangeIndex(rows), copy=False)
    columns: list[Any] = []
    times: Any = pd.arrays.DatetimeArray
    for array in arrays.values():
        if hasattr(array, "_values"):  # a Series of objects
            array = array._values
        if str(array.dtype) == "datetime64[us]":
            array = times._simple_new(array, dtype=array.dtype)
        columns.append(array)
    # A view: whoever names a frame's columns must not name those of every other.
    axes = [_index(tuple(arrays)).view(), pd.RangeIndex(rows)]
    made = _ASSEMBLE(columns, axes, consolidate=False, refs=[None] * len(columns))
    frame: Any = pd.DataFrame
    return frame._from_mgr(made, axes=made.axes)


def guard(frame: pd.DataFrame) -> pd.DataFrame:
    """Makes pandas copy a column before it writes to it, for as long as the frame or any frame made from it lives.

    pandas 3 copies on write when a block's memory is known to have another owner. Ours has one that pandas cannot
    see (the
    store), so a block that never dies is named as that owner. Elsewhere (pandas 2 without copy-on-write) writing raises
    "assignment destination is read-only": the arrays are read-only. Either way the table's memory is safe.
    """
    if _WITNESS is not None:
        try:
            for block in frame._mgr.blocks:  # pyright: ignore[reportAttributeAccessIssue]
                block.refs.add_reference(_WITNESS)
        except (AttributeError, TypeError):
            pass
    return frame


def pg_type(dtype: Any) -> str:
    """A Postgres type that holds what a column of this dtype holds."""
    if isinstance(dtype, pd.DatetimeTZDtype):
        return "timestamptz"
    types: Any = pd.api.types
    if types.is_bool_dtype(dtype):
        return "bool"
    if types.is_integer_dtype(dtype):
        return "int8"
    if types.is_float_dtype(dtype):
        return "float8"
    if types.is_datetime64_dtype(dtype):
        return "timestamp"
    return "text" if isinstance(dtype, pd.StringDtype) else "jsonb"


def records(frame: Any) -> list[dict[str, Any]]:
    """Rows as JSON would carry them: null as None, times in ISO form."""
    columns = {str(name): [_plain(value) for value in frame[name].astype(object)] for name in frame.columns}
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _plain(value: Any) -> Any:
    if value is None or value is pd.NA or value is pd.NaT:
        return None
    if isinstance(value, pd.Timestamp):
        return value.isoformat()
    plain: Any = cast(Any, value).item() if isinstance(value, np.generic) else value
    return None if isinstance(plain, float) and plain != plain else plain
