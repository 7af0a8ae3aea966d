"""DataFrames from columns, and DataFrames as rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import numpy as np
import pandas as pd

from .column_kinds import Block


def frame_of(columns: Mapping[str, Any], index: pd.RangeIndex) -> pd.DataFrame:
    """A frame of these columns (arrays, or Series with this very index), without copying them."""
    return pd.DataFrame(dict(columns), index=index, copy=False)


def frame_of_block(block: Block, count: int) -> pd.DataFrame:
    """A frame of values that nobody else uses, `count` rows of them."""
    index, columns = pd.RangeIndex(count), dict[str, Any]()
    for name, (kind, data, mask) in block.items():
        columns[name] = series_of(kind.to_pandas(data if kind.showable(data) else kind.shown(data), mask), index)
    return frame_of(columns, index)


def series_of(array: Any, index: pd.RangeIndex | None = None) -> Any:
    """A Series over this array, which is not copied; one of objects stays one, also where all of them are texts."""
    series: Any = pd.Series
    return series(array, index=index, dtype=object if array.dtype == object else None, copy=False)


def records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows as JSON would carry them: null as None, times in ISO form."""
    return records_of({str(name): frame[name].array for name in frame.columns})


def records_of(columns: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The same of arrays, by column."""
    lists = [_plain_list(array) for array in columns.values()]
    return [dict(zip(columns, row, strict=True)) for row in zip(*lists, strict=True)]


def _plain_list(array: Any) -> list[Any]:
    kind = getattr(array.dtype, "kind", "O")
    if kind in "iub" and isinstance(array, np.ndarray):
        return cast(Any, array).tolist()
    return [_plain(value) for value in array.astype(object)]


def _plain(value: Any) -> Any:
    if value is None or value is pd.NA or value is pd.NaT:
        return None
    if isinstance(value, pd.Timestamp):
        return value.isoformat()
    plain: Any = cast(Any, value).item() if isinstance(value, np.generic) else value
    return None if isinstance(plain, float) and plain != plain else plain
