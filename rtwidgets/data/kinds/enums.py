"""The kind of an enum's columns: codes into its labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from . import arrow
from .base import COMPARISONS, Array, ColumnKind, Test, Values


class EnumKind(ColumnKind):
    """An enum: codes into its labels, in the order in which they are declared.

    A label that nobody has declared yet (`alter type ... add value` sends no message) is added at the end. Each column
    has a kind of its own.
    """

    shareable = False
    borrowed = True

    def __init__(self, labels: Sequence[str], pg_type: str = "enum") -> None:
        super().__init__("enum", (pg_type,))
        self.labels = list(dict.fromkeys(labels))
        self._codes = {label: code for code, label in enumerate(self.labels)}
        self._dtype: Any = None
        self.storage = self._narrowest()

    @property
    def null(self) -> Any:
        return -1

    @property
    def layout(self) -> object:
        return len(self.labels)

    def same_as(self, other: ColumnKind) -> bool:
        return isinstance(other, EnumKind) and self.labels == other.labels

    @property
    def dtype(self) -> Any:
        """The ordered categories of the labels."""
        if self._dtype is None or len(self._dtype.categories) != len(self.labels):
            self._dtype = pd.CategoricalDtype(pd.Index(self.labels, dtype=object), ordered=True)
        return self._dtype

    def parse(self, values: Sequence[Any]) -> Values:
        codes = self._codes
        try:
            return np.array([-1 if value is None else codes[value] for value in values], dtype=self.storage), None
        except (KeyError, TypeError):
            found = [-1 if value is None else self._code(str(value)) for value in values]
            return np.array(found, dtype=self.storage), None

    def _code(self, label: str) -> int:
        code = self._codes.get(label)
        if code is None:
            code = self._codes[label] = len(self.labels)
            self.labels.append(label)
            self.storage = self._narrowest()
        return code

    def _narrowest(self) -> str:
        """pandas has the narrowest codes that all labels fit into, and copies any others."""
        return "int8" if len(self.labels) < 127 else "int16"

    def differ(self, old: Array, new: Array) -> Array:
        return old != new

    def nulls(self, data: Array, mask: Array | None) -> Array:
        return data < 0

    def is_null(self, value: Any) -> bool:
        return value < 0

    def to_python(self, data: Array, mask: Array | None) -> list[Any]:
        labels = self.labels
        return [None if code < 0 else labels[code] for code in data.tolist()]

    def to_pandas(self, data: Array, mask: Array | None) -> Any:
        make: Any = pd.Categorical.from_codes
        return make(data, dtype=self.dtype, validate=False)

    @property
    def arrow_type(self) -> pa.DataType:
        return pa.dictionary(pa.from_numpy_dtype(self.storage), pa.large_string(), ordered=True)

    def from_arrow(self, values: pa.Array) -> Values:
        if not pa.types.is_dictionary(values.type):
            values = values.dictionary_encode()
        codes, _ = self.parse(values.dictionary.to_pylist())
        places, nulls = values.indices.fill_null(0).to_numpy(zero_copy_only=False), arrow.nulls_of(values.indices)
        data = codes[places] if len(codes) else np.full(len(places), -1, dtype=self.storage)
        if nulls is not None:
            data[nulls] = -1
        return data, None

    def to_arrow(self, data: Array, mask: Array | None) -> pa.Array:
        nulls, storage = data < 0, pa.from_numpy_dtype(data.dtype)
        some = bool(nulls.any())
        codes = arrow.from_fixed(storage, np.where(nulls, 0, data).astype(data.dtype) if some else data, nulls)
        labels = pa.array(self.labels, pa.large_string())
        return pa.DictionaryArray.from_arrays(codes, labels, ordered=True, safe=False)

    def order_key(self, value: Any) -> Any:
        return int(value)

    def order_codes(self, data: Array, nulls: Array) -> Array:
        return data

    def element_key(self, value: Any) -> Any:
        return self.operand(str(value))

    def operand(self, text: str) -> Any:
        code = self._codes.get(text)
        if code is None:
            raise ValueError(f"{text!r} is none of {', '.join(self.labels)}")
        return code

    def compares(self, sign: str, operand: str) -> Test:
        compare, wanted = COMPARISONS[sign], self.operand(operand)
        return lambda data, mask: np.asarray(compare(data, wanted)) & (data >= 0)
