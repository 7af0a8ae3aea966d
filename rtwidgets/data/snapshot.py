"""How a live table reads its rows: all of them in one moment, or some by key."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from ..protocol.messages import Change
from .delta import Key
from .sorting import Sort

if TYPE_CHECKING:
    from ..client.rest import Page, Snapshot, TableInfo

Row = dict[str, Any]
_PAGE = 50_000  # rows: one page is one moment in the database; servers cap this as they like
_HARD = frozenset(",()\"\\'")  # what the filter grammar would have to quote


class RestLike(Protocol):
    """A `RestClient`, a `DsnSource`, or whatever reads as they do."""

    def select(self, table: str, **options: Any) -> AsyncIterator[Page]: ...

    async def describe(self, table: str, schema: str = "public") -> TableInfo: ...


class Cut:
    """Which transactions a snapshot already holds.

    Commits stream in LSN order, so past its LSN nothing needs a look.
    """

    def __init__(self, lsn: int | None, snapshot: Snapshot | None) -> None:
        self.lsn = lsn
        self.snapshot = snapshot

    def passes(self, change: Change) -> bool:
        if self.lsn is None or change.lsn is None:
            return True
        if change.lsn >= self.lsn:
            return True
        return self.snapshot is not None and change.xid is not None and not self.snapshot.visible(change.xid)

    def done(self, change: Change) -> bool:
        return self.lsn is None or change.lsn is None or change.lsn >= self.lsn


class Whole(NamedTuple):
    """All rows, and which transactions the oldest page holds: those after it may come twice, which does no harm."""

    rows: list[Row]
    cut: Cut | None


class Source:
    """One table's rows, as far as they match the filter, with the columns that are wanted. Each call raises
    `RealtimeError`.
    """

    def __init__(
        self, rest: RestLike, table: str, schema: str, filter: str | None, columns: Sequence[str] | None
    ) -> None:
        self.rest, self.table, self.schema, self.filter = rest, table, schema, filter
        self.columns = None if columns is None else list(columns)
        self.key: tuple[str, ...] = ()
        self.hex_keys: tuple[str, ...] = ()
        """Key columns of bytes: bare hex in a change, but read as `\\x` and hex. Here they are as in a change."""

    async def describe(self) -> TableInfo:
        return await self.rest.describe(self.table, self.schema)

    async def whole(self, sort: Sort, limit: int | None, progress: Callable[[int, int | None], object]) -> Whole:
        """`progress(read, total)` is called after each page; `total` is None where it is not known."""
        rows: list[Row] = []
        cut: Cut | None = None
        total: int | None = None
        order = ",".join(f"{name}.{'desc' if down else 'asc'}" for name, down in sort) or None
        async for page in self.rest.select(
            self.table, **self._options(self.filter), order=order, limit=limit, page_size=_PAGE
        ):
            if cut is None:
                cut, total = Cut(page.lsn, page.snapshot), page.total
            rows.extend(self._as_changes_say(page.rows))
            progress(len(rows), total)
        return Whole(rows, cut if cut is not None and cut.lsn is not None else None)

    async def matching(self, tests: Sequence[str]) -> dict[Key, Row]:
        """By key, the rows of each of these further filters."""
        found: dict[Key, Row] = {}
        for test in tests:
            options = self._options(",".join(part for part in (self.filter, test) if part))
            async for page in self.rest.select(self.table, **options):
                found.update((key_in(row, self.key), row) for row in self._as_changes_say(page.rows))
        return found

    def naming(self, keys: Sequence[Key]) -> list[str] | None:
        """Filters that together name these keys; None where a value has what the grammar would need quoted."""
        texts = [[str(part) for part in (one if len(self.key) > 1 else (one,))] for one in keys]
        if any(_HARD.intersection(text) or not text for row in texts for text in row):
            return None
        if self.hex_keys:
            texts = [
                ["\\x" + text if name in self.hex_keys else text for name, text in zip(self.key, row, strict=True)]
                for row in texts
            ]
        if len(self.key) == 1:
            return [f"{self.key[0]}=in.({','.join(_in_list(row[0]) for row in texts)})"]
        return [",".join(f"{name}=eq.{text}" for name, text in zip(self.key, row, strict=True)) for row in texts]

    def _options(self, filter: str | None) -> dict[str, Any]:
        columns = None if self.columns is None else list(dict.fromkeys((*self.key, *self.columns)))
        return {"schema": self.schema, "columns": columns, "filter": filter or None, "key": self.key}

    def _as_changes_say(self, rows: list[Row]) -> list[Row]:
        for name in self.hex_keys:
            for row in rows:
                row[name] = str(row[name]).removeprefix("\\x")
        return rows


def _in_list(text: str) -> str:
    return text if "\\" not in text else '"' + text.replace("\\", "\\\\") + '"'


def key_in(row: Row, key: tuple[str, ...]) -> Key:
    """The row's key: raw JSON values, as everywhere."""
    return row[key[0]] if len(key) == 1 else tuple(row[name] for name in key)
