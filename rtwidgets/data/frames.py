"""Frames over borrowed memory, and frames as rows."""

from __future__ import annotations

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
