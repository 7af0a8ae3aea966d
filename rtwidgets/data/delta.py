"""What one batch changed in a table: the keys of the rows that came, changed and went, and their values.

A view that follows a table needs no comparison of its own:

- `inserted`, `deleted`: lists of keys. A row that went and came again within the batch is in both.
- `updated`: a list of `(key, names)`, where `names` are the columns whose values really differ. No key of it is in
  `inserted`.
- `columns`: the names of all columns in which some row differs: a view that shows none of them has nothing to do.
- `reset`, `columns_changed`: everything that was known before is void. `deleted` does not list the rows of a reset.
- `size`: how many rows that is, without building any list.

Keys are those of the `Store`: the raw JSON value of a single key column, a tuple of them for several. `updated` and the
rows (`inserted_rows()`, ...) are built when they are first read, from arrays that were copied when the batch was
applied. `joined` makes one delta of several in a row, so a view may collect deltas until its next tick.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from .column_kinds import Array, Block

Key = Any
"""A row's key: the raw JSON value of a single key column, a tuple of them for several."""
Row = dict[str, Any]
"""A row as JSON carries it, by column."""
Entry = tuple[Key, tuple[str, ...]]


def _rows(block: Block, count: int) -> list[Row]:
    lists = {name: kind.to_python(data, mask) for name, (kind, data, mask) in block.items()}
    return [{name: values[i] for name, values in lists.items()} for i in range(count)]


def _kept(blocks: list[tuple[list[Key], Block]], keys: list[Key]) -> list[Row]:
    """The rows of all blocks; where there are several, only rows that the whole batch still reports."""
    if len(blocks) <= 1 and len(keys) == sum(len(part) for part, _ in blocks):
        return [row for part, block in blocks for row in _rows(block, len(part))]
    found = {key: row for part, block in blocks for key, row in zip(part, _rows(block, len(part)), strict=True)}
    return [found[key] for key in keys if key in found]


@dataclass(slots=True)
class Updates:
    """Rows written together: for each column that changed anywhere, which rows differ, and its values before and after.

    Kept as arrays: which row changed where is worked out only when somebody reads it.
    """

    keys: list[Key]
    flags: dict[str, Array]
    before: Block
    after: Block
    _size: int | None = field(default=None, repr=False)

    @property
    def size(self) -> int:
        """How many of the rows differ."""
        if self._size is None:
            self._size = int(np.logical_or.reduce(list(self.flags.values())).sum())
        return self._size

    def entries(self) -> list[Entry]:
        """(key, names of changed columns) of the rows where anything changed."""
        names = list(self.flags)
        found: list[Entry] = []
        memo: dict[bytes, tuple[str, ...]] = {}
        table = np.array(list(self.flags.values())).T
        packed, width = table.tobytes(), len(names)
        nothing = bytes(width)
        for i, key in enumerate(self.keys):
            code = packed[i * width : (i + 1) * width]
            if code != nothing:
                named = memo.get(code)
                if named is None:
                    named = memo[code] = tuple([name for name, yes in zip(names, code, strict=True) if yes])
                found.append((key, named))
        return found

    def rows(self) -> Iterator[tuple[Key, Row, Row]]:
        old, new = _rows(self.before, len(self.keys)), _rows(self.after, len(self.keys))
        at = {key: i for i, key in enumerate(self.keys)}
        for key, names in self.entries():
            was, now = old[at[key]], new[at[key]]
            yield key, {n: was[n] for n in names}, {n: now[n] for n in names}


@dataclass(slots=True)
class Delta:
    """The visible difference between two revisions of a `Store`; falsy where a reader could see none."""

    revision: int
    inserted: list[Key] = field(default_factory=list[Any])
    deleted: list[Key] = field(default_factory=list[Any])
    reset: bool = False
    """Everything before was thrown away (load, TRUNCATE); `deleted` does not list those rows."""
    cleared: list[Key] = field(default_factory=list[Any])
    """The keys of the rows that a reset threw away, as far as they are from before this batch."""
    unknown: list[Key] = field(default_factory=list[Any])
    """Updates of rows that the table does not hold, with too few columns to insert: read them by key."""
    reread: list[Key] = field(default_factory=list[Any])
    """Rows whose change was too large to be sent whole (Error 413): read them by key."""
    columns_changed: bool = False
    """Columns were added, dropped or retyped. No message says what older rows hold now: read the table again."""
    unreadable: int = 0
    """Changes without a usable key (for example Error 401): nothing could be done with them."""
    inserted_blocks: list[tuple[list[Key], Block]] = field(default_factory=list[Any], repr=False)
    updates: list[Updates] = field(default_factory=list[Updates], repr=False)
    deleted_blocks: list[tuple[list[Key], Block]] = field(default_factory=list[Any], repr=False)
    parts: list[Delta] = field(default_factory=list[Any], repr=False)
    """What this is the sum of, in order; empty for a part."""
    _updated: list[Entry] | None = field(default=None, repr=False)

    def __bool__(self) -> bool:
        return bool(self.inserted or self.updates or self.deleted or self.reset or self.columns_changed)

    @property
    def size(self) -> int:
        """How many rows came, changed or went; rows that did several of these in one batch may count twice."""
        return len(self.inserted) + sum(part.size for part in self.updates) + len(self.deleted)

    @property
    def columns(self) -> frozenset[str]:
        """The columns in which a row that was there before differs."""
        return frozenset(name for part in self.updates for name in part.flags)

    @property
    def updated(self) -> list[Entry]:
        """Key and names of the columns whose values really differ."""
        if self._updated is None:
            if len(self.parts) < 2:
                self._updated = [entry for part in self.updates for entry in part.entries()]
            else:
                self._updated = list(self._joined().items())
        return self._updated

    def _joined(self) -> dict[Key, tuple[str, ...]]:
        came: set[Key] = set()
        updated: dict[Key, tuple[str, ...]] = {}
        for part in self.parts:
            if part.reset:
                updated.clear()
                came.clear()
            for key in part.deleted:
                updated.pop(key, None)
                came.discard(key)
            came.update(part.inserted)
            for key, names in part.updated:
                if key not in came:
                    known = updated.get(key)
                    updated[key] = names if known is None else tuple(dict.fromkeys((*known, *names)))
        return updated

    def inserted_rows(self) -> list[Row]:
        """The new rows as Python values (null as None), as they were when this batch was applied."""
        if len(self.parts) < 2 or not self.updates:
            return _kept(self.inserted_blocks, self.inserted)
        found: dict[Key, Row] = {}
        for part in self.parts:  # a row may come and change
            if part.reset:
                found.clear()
            for key in part.deleted:
                found.pop(key, None)
            found.update(zip(part.inserted, part.inserted_rows(), strict=True))
            for key, _, after in part.updated_rows():
                if key in found:
                    found[key].update(after)
        return [found[key] for key in self.inserted]

    def deleted_rows(self) -> list[Row]:
        """The rows that went, as they were last."""
        return _kept(self.deleted_blocks, self.deleted)

    def updated_rows(self) -> Iterator[tuple[Key, Row, Row]]:
        """Key, old values and new values of the columns that changed."""
        still = {key for key, _ in self.updated} if len(self.parts) > 1 else None
        for part in self.updates:
            for entry in part.rows():
                if still is None or entry[0] in still:
                    yield entry


class DeltaListener(Protocol):
    """Something that follows a store's changes, such as the window of a grid."""

    def apply(self, delta: Delta) -> None:
        """Called after each batch that changed something, on the writer's thread, under the store's lock."""
        ...


def joined(parts: Sequence[Delta]) -> Delta:
    """Several deltas in a row as one, with each key in at most one place or, where it went and came, in two."""
    if len(parts) == 1:
        return parts[0]
    inserted: dict[Key, None] = {}
    deleted: dict[Key, None] = {}
    cleared: dict[Key, None] = {}
    total = Delta(0, parts=list(parts))
    for part in parts:
        if part.reset:
            total.reset = True
            cleared |= deleted | {key: None for key in part.cleared if key not in inserted}
            for found in (inserted, deleted, total.inserted_blocks, total.updates, total.deleted_blocks):
                found.clear()
        for key in part.deleted:
            if key in inserted:
                del inserted[key]
            else:
                deleted[key] = None
        inserted.update(dict.fromkeys(part.inserted))
        total.inserted_blocks += part.inserted_blocks
        total.updates += part.updates
        total.deleted_blocks += part.deleted_blocks
        total.columns_changed = total.columns_changed or part.columns_changed
        total.revision = max(total.revision, part.revision)
    total.inserted, total.deleted, total.cleared = list(inserted), list(deleted), list(cleared)
    return total
