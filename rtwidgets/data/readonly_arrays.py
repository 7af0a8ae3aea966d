"""Read-only pandas arrays over the memory of a store.

Nothing that a user does with them writes to that memory, and everything that pandas does with its own arrays works.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from .column_kinds import Array, ColumnKind, Data
from .kinds.text import text_array

_extension_array: Any = pd.api.extensions.ExtensionArray

COPY_ON_WRITE = hasattr(_extension_array, "_readonly")
"""Whether this pandas copies a column before it writes to memory that is shared, and refuses to write to an extension
array that says so. Before (pandas 2), frames get copies of text, nullable integers, booleans and enums."""


def readonly_array(kind: ColumnKind, data: Data, mask: Array | None) -> Any:
    """A pandas array over this memory, which is not copied and must not change as long as a frame shows it.

    The memory of a masked array stays writable: pandas' own `cumsum` writes to the places of nulls. So the array itself
    refuses to be written to, as pandas' interface for extension arrays has it.
    """
    if kind.masked:
        return _readonly(kind.to_pandas(data, np.zeros(len(data), dtype=bool) if mask is None else mask))
    if kind.storage == "text":
        return _readonly(kind.to_pandas(data, None))
    view = data.view()
    view.flags.writeable = False
    return kind.to_pandas(view, None)


def readonly_text(texts: Sequence[pa.Array]) -> Any:
    """A pandas array of text over these arrays of `large_string`, which are not copied."""
    return _readonly(text_array(pa.chunked_array(texts, pa.large_string())))


def _readonly(array: Any) -> Any:
    if COPY_ON_WRITE:
        array._readonly = True
    return array
