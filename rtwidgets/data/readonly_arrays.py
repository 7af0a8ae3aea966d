"""pandas arrays over memory that stays ours: nothing that a person does with them may write to it, and all that pandas
does with arrays of its own must work with them.

Read-only buffers alone are not enough: pandas' own `cumsum` of a nullable column writes into its (masked) places, and
before pandas 3 every slice of a text column, so `head()` too, wants to write into what it is made of.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from .column_kinds import MASKED, Array, Kind, to_pandas

_arrays: Any = pd.arrays
_KNOWS_READONLY = hasattr(_arrays.IntegerArray, "_readonly")
"""pandas 3 refuses by itself to write to an array that says so, and passes that on to its views."""


class _Integers(_arrays.IntegerArray):  # type: ignore[misc]
    def _accumulate(self, name: str, **options: Any) -> Any:
        return _arrays.IntegerArray(self._data.copy(), self._mask)._accumulate(name, **options)

    def __reduce__(self) -> Any:  # what is pickled needs none of ours to be read
        return _arrays.IntegerArray, (self._data, self._mask)


class _Booleans(_arrays.BooleanArray):  # type: ignore[misc]
    def _accumulate(self, name: str, **options: Any) -> Any:
        return _arrays.BooleanArray(self._data.copy(), self._mask)._accumulate(name, **options)

    def __reduce__(self) -> Any:
        return _arrays.BooleanArray, (self._data, self._mask)


class _Strings(_arrays.StringArray):  # type: ignore[misc]
    def _from_backing_data(self, arr: Array) -> Any:
        # pandas' own looks through all values for nulls that are not its own, and would write over them: we have none.
        return type(self)._simple_new(arr, self.dtype)

    def memory_usage(self, deep: bool = False) -> int:
        return _arrays.StringArray._simple_new(self._ndarray.copy(), self.dtype).memory_usage(deep)

    def __reduce__(self) -> Any:
        return _arrays.StringArray, (self._ndarray.copy(),)


def lend(kind: Kind, data: Array, mask: Array | None) -> Any:
    """A pandas array over this memory, which is not copied and must not change as long as anybody holds the array."""
    if mask is None and kind in MASKED:
        mask = np.zeros(len(data), dtype=bool)
    if mask is not None:
        mask.flags.writeable = False
    if _KNOWS_READONLY and kind in MASKED:
        array = to_pandas(kind, data, mask)
        array._readonly = True
        return array
    data.flags.writeable = False
    if not _KNOWS_READONLY and kind in MASKED:
        return (_Booleans if kind == "bool" else _Integers)(data, mask, copy=False)
    array = to_pandas(kind, data, mask)
    if not _KNOWS_READONLY and kind == "text" and type(array) is _arrays.StringArray:
        own: Any = _Strings
        return own._simple_new(data, array.dtype)
    return array
