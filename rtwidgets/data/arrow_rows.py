"""Rows that arrive in Arrow, column by column."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa

from .column_kinds import Array, Block, ColumnKind, ColumnValues
from .delta import Key


class ArrowRows:
    """The rows of a `pyarrow.Table`, as storage of the kinds that their columns have.

    Columns that `kinds` does not name are left out. Raises ValueError for a key column that is missing or null, and
    for a value that does not fit its column.
    """

    def __init__(self, table: pa.Table, kinds: Mapping[str, ColumnKind], key: Sequence[str]) -> None:
        self.count: int = table.num_rows
        names = [name for name in table.column_names if name in kinds]
        self.block: Block = {name: _values(table.column(name), kinds[name]) for name in names}
        self.keys: Sequence[Key] | Array = self._keys(key)
        """An array where the key is one whole number."""

    def __len__(self) -> int:
        return self.count

    def _keys(self, key: Sequence[str]) -> Sequence[Key] | Array:
        if not key:
            return list(range(self.count))
        for name in key:
            if name not in self.block:
                raise ValueError(f"the rows have no key column {name!r}: their columns are {', '.join(self.block)}")
            kind, data, mask = self.block[name]
            if kind.nulls(data, mask).any():
                raise ValueError(f"the key column {name!r} has a null: each row needs a key")
        kind, data, _ = self.block[key[0]]
        if len(key) == 1 and kind.whole:
            return data.astype(np.int64)
        columns = [self.block[name].to_keys() for name in key]
        return columns[0] if len(key) == 1 else list(zip(*columns, strict=True))

    def last_of_each(self) -> ArrowRows:
        """These rows, or where a key comes twice the last one with it."""
        if isinstance(self.keys, np.ndarray):
            _, first = np.unique(self.keys[::-1], return_index=True)
            if len(first) == self.count:
                return self
            where = np.sort(self.count - 1 - first)
        else:
            last = dict(zip(self.keys, range(self.count), strict=True))
            if len(last) == self.count:
                return self
            where = np.array(sorted(last.values()), dtype=np.int64)
        return self.at(where)

    def at(self, where: Array) -> ArrowRows:
        """Some of the rows."""
        part = object.__new__(ArrowRows)
        part.count = len(where)
        part.block = {name: values.at(where) for name, values in self.block.items()}
        keys = self.keys
        part.keys = keys[where] if isinstance(keys, np.ndarray) else [keys[i] for i in where.tolist()]
        return part


def arrow_table(rows: object) -> pa.Table | None:
    """The rows as a `pyarrow.Table`, if they are one, a record batch or a list of these; else None."""
    if isinstance(rows, pa.Table):
        return rows
    if isinstance(rows, pa.RecordBatch):
        return pa.Table.from_batches([rows])
    if isinstance(rows, list) and rows and isinstance(rows[0], pa.RecordBatch):
        return pa.Table.from_batches(rows)
    return None


def _values(column: pa.ChunkedArray, kind: ColumnKind) -> ColumnValues:
    """One column's values, its chunks joined."""
    parts = [kind.from_arrow(chunk) for chunk in column.chunks if len(chunk)]
    if not parts:
        return ColumnValues(kind, kind.blank(0), None)
    if len(parts) == 1:
        return ColumnValues(kind, *parts[0])
    data, masks = kind.joined([data for data, _ in parts]), [mask for _, mask in parts]
    if all(mask is None for mask in masks):
        return ColumnValues(kind, data, None)
    full = [np.zeros(len(part[0]), dtype=bool) if part[1] is None else part[1] for part in parts]
    return ColumnValues(kind, data, np.concatenate(full))
