"""Between numpy's arrays and pyarrow's: shared buffers, byte masks and validity bitmaps."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from .base import Array


def nulls_of(values: pa.Array) -> Array | None:
    """Which values are null; None where none is."""
    if not values.null_count:
        return None
    return values.is_null().to_numpy(zero_copy_only=False)


def fixed(values: pa.Array, dtype: str) -> Array:
    """The values of an array of fixed width, in its own memory; those of nulls mean nothing."""
    if not len(values):
        return np.empty(0, dtype=dtype)
    made = np.frombuffer(values.buffers()[1], dtype=dtype)
    return made[values.offset : values.offset + len(values)]


def from_fixed(arrow_type: pa.DataType, data: Array, nulls: Array | None) -> pa.Array:
    """An array over this memory, which is not copied unless there are gaps in it."""
    return pa.Array.from_buffers(arrow_type, len(data), [validity(nulls), buffer(data)])


def buffer(data: Array) -> Any:
    """A buffer over this memory."""
    return pa.py_buffer(np.ascontiguousarray(data).view("uint8"))


def validity(nulls: Array | None) -> Any:
    """A validity bitmap; None where no value is null."""
    if nulls is None or not nulls.any():
        return None
    return pa.py_buffer(np.packbits(~nulls, bitorder="little"))


def plain(values: pa.Array, arrow_type: pa.DataType) -> pa.Array:
    """The array in this type: dictionaries are resolved, and other types cast. Raises pyarrow.ArrowInvalid where a
    value does not fit."""
    if values.type.equals(arrow_type):
        return values
    return values.cast(arrow_type)
