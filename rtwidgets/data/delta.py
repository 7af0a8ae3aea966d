"""What one batch did to a table."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from .types import Array, Kind, to_python

Key = Any
"""A row's key: the raw JSON value of a single key column, a tuple of them for several."""
Block = dict[str, tuple[Kind, Array, "Array | None"]]


def _rows(block: Block, count: int) -> list[dict[str, Any]]:
    lists = {name: to_python(kind, data, mask) for name, (kind, data, mask) in block.items()}
    return [{name: values[i] for name, values in lists.items()} for i in range(count)]


def _kept(blocks: list[tuple[list[Key], Block]], keys: list[Key]) -> list[dict[str, Any]]:
    """The rows of all blocks; where there are several, only rows that the whole batch still reports."""
    if len(blocks) <= 1 and len(keys) == sum(len(part) for part, _ in blocks):
        return [row for part, block in blocks for row in _rows(block, len(part))]
    found = {key: row for part, block in blocks for key, row in zip(part, _rows(block, len(part)), strict=True)}
    return [found[key] for key in keys if key in found]


@dataclass(slots=True)
class Delta:
    """The visible difference between two revisions of a `Store`; a falsy one changed nothing that a reader could see.

    Rows are worked out only when asked for (`inserted_rows()`, ...), from copies taken when the batch was applied.
    """

    revision: int
    inserted: list[Key] = field(default_factory=list[Any])
    updated: list[tuple[Key, tuple[str, ...]]] = field(default_factory=list[Any])
    """Key and names of the columns whose values really differ."""
    deleted: list[Key] = field(default_factory=list[Any])
    reset: bool = False
    """Everything before was thrown away (load, TRUNCATE); `deleted` does not list those rows."""
    unknown: list[Key] = field(default_factory=list[Any])
    """Updates of rows that the table does not hold, with too few columns to insert: read them by key."""
    reread: list[Key] = field(default_factory=list[Any])
    """Rows whose change was too large to be sent whole (Error 413): read them by key."""
    columns_changed: bool = False
    """Columns were added, dropped or retyped. No message tells what older rows hold now: read the table again."""
    unreadable: int = 0
    """Changes without a usable key (for example Error 401): nothing could be done with them."""
    inserted_blocks: list[tuple[list[Key], Block]] = field(default_factory=list[Any], repr=False)
    updated_blocks: list[tuple[list[tuple[Key, tuple[str, ...]]], Block, Block]] = field(
        default_factory=list[Any], repr=False
    )
    deleted_blocks: list[tuple[list[Key], Block]] = field(default_factory=list[Any], repr=False)

    def __bool__(self) -> bool:
        return bool(self.inserted or self.updated or self.deleted or self.reset or self.columns_changed)

    def inserted_rows(self) -> list[dict[str, Any]]:
        """The new rows as Python values (null as None), as they were when this batch was applied."""
        return _kept(self.inserted_blocks, self.inserted)

    def deleted_rows(self) -> list[dict[str, Any]]:
        """The rows that went, as they were last."""
        return _kept(self.deleted_blocks, self.deleted)

    def updated_rows(self) -> Iterator[tuple[Key, dict[str, Any], dict[str, Any]]]:
        """Key, old values and new values of the columns that changed."""
        still = {key for key, _ in self.updated} if len(self.updated_blocks) > 1 else None
        for entries, before, after in self.updated_blocks:
            old, new = _rows(before, len(entries)), _rows(after, len(entries))
            for (key, names), was, now in zip(entries, old, new, strict=True):
                if still is None or key in still:
                    yield key, {n: was[n] for n in names}, {n: now[n] for n in names}
