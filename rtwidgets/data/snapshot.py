"""How a live table reads its rows from a snapshot source: all of one moment, or some by key."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, NamedTuple, cast
from uuid import UUID

import numpy as np

from ..client.dsn import DsnSource
from ..client.rest import RestClient
from ..client.rest_reads import value_text
from ..client.snapshot_source import ArrowBatch, Page, Row, SnapshotSource, TableInfo
from ..protocol.errors import RealtimeError
from ..protocol.filters import Condition, Filter
from ..protocol.messages import Change
from ..protocol.pg_snapshot import PgSnapshot
from .column_kinds import kind_of
from .delta import Key
from .first_load import Rows, rows_of
from .request import ResolvedTable, TableRequest

_PAGE = 50_000  # rows: one page is one moment in the database; servers cap this as they like
_KEYS_AT_ONCE = 50  # in one request: the URL must stay short

Progress = Callable[[int, "int | None"], object]


class SnapshotPosition(NamedTuple):
    """Where a snapshot stands in Postgres' log: which transactions it holds already.

    Commits are sent in the order of the log, so from `lsn` on nothing needs a look.
    """

    lsn: int
    snapshot: PgSnapshot | None = None

    def lacks(self, change: Change) -> bool:
        """Whether the change is not in the snapshot, so that it must be applied."""
        if change.lsn is None or change.lsn >= self.lsn:
            return True
        return self.snapshot is not None and change.xid is not None and not self.snapshot.visible(change.xid)

    def passed(self, change: Change) -> bool:
        """Whether every change after this one is not in the snapshot."""
        return change.lsn is None or change.lsn >= self.lsn


class Snapshot(NamedTuple):
    """All rows, and where the oldest page stands: what came after it may come twice, which does no harm.

    `rows` are rows, or batches of columns. `more`: the source has further rows, past the limit. `info`: what the table
    is now, where asked. `stored`: the rows are in the store already, and not here.
    """

    rows: Rows
    position: SnapshotPosition | None = None
    more: bool = False
    info: TableInfo | None = None
    stored: bool = False


class TableReader:
    """The rows of one table that its request names. Methods that read raise `RealtimeError`."""

    def __init__(self, source: SnapshotSource, request: TableRequest, resolved: ResolvedTable | None = None) -> None:
        self._source, self._request = source, request
        self._key = () if resolved is None else resolved.key
        self._hex_keys = () if resolved is None else resolved.hex_keys
        self._sort = () if resolved is None else resolved.sort
        self._limit = request.limit if resolved is None else resolved.limit
        self._filter = Filter() if resolved is None else resolved.filter
        self._columnar = resolved is not None and resolved.columnar
        self._row_names: frozenset[str] | None = None
        """The columns of the rows that were read last. They may be more than the table's: a generated one comes with
        no change."""

    async def read(
        self,
        progress: Progress,
        put: Callable[[Rows, int], Awaitable[None]] | None = None,
        *,
        max_rows: int | None = None,
    ) -> Snapshot:
        """All rows of one moment. `progress(read, total)` is called after each page; `total` is None where it is not
        known. With `put`, each page's rows go there, with about how many there are. More than `max_rows` are an error.
        """
        if self._limit is not None and max_rows is not None and self._limit <= max_rows:
            max_rows = None
        # The table sorts by itself, so the server need not, and pages go by key. Only a limit makes its order matter:
        # without one of the table's own, the last rows by key are the best guess at those that arrived last.
        order = () if self._limit is None else self._sort or tuple((name, True) for name in self._key)
        rows: list[Any] = []
        position: SnapshotPosition | None = None
        total: int | None = None
        expected: int | None = None
        count = 0
        first = True
        pages = self._select(
            self._filter, order=order, limit=self._limit, page_size=_PAGE, arrow=self._columnar, max_rows=max_rows
        )
        async with _closing(pages):
            async for page in pages:
                if first:
                    first, total = False, page.total
                    position = None if page.lsn is None else SnapshotPosition(page.lsn, page.snapshot)
                    expected = page.estimate if total is None else total
                    if total is not None:
                        self._check_count(total if self._limit is None else min(total, self._limit), max_rows)
                self._as_changes(page.rows)
                if put is None:
                    rows.extend(rows_of(page))
                elif len(page):
                    await put(rows_of(page), expected or 0)
                count += len(page)
                self._check_count(count, max_rows, "more than ")
                progress(count, total)
        if self._limit is not None and not self._sort:
            rows = [row if isinstance(row, dict) else _reversed(row) for row in reversed(rows)]
        return Snapshot(rows, position, self._limit is not None and count >= self._limit)

    def _check_count(self, count: int, max_rows: int | None, known: str = "") -> None:
        if max_rows is not None and count > max_rows:
            text = f"{known}{max_rows if known else count:,} rows"
            raise RealtimeError(
                f"{self._request.name} has {text}, and at most max_rows={max_rows:,} are loaded",
                code="TooManyRows",
                hint="give filter= or limit= for fewer rows, or a greater max_rows=; columns= saves memory",
            )

    def differs(self, rows: Rows, known: frozenset[str]) -> bool:
        """Whether rows as read have other columns than before, or lack one of the table's."""
        if not rows:
            return False
        first = rows[0]
        names: frozenset[str] = frozenset(cast(Row, first) if isinstance(first, dict) else first.schema.names)
        before, self._row_names = self._row_names, names
        return not self._row_names.issuperset(known) or before not in (None, self._row_names)

    async def matching(self, test: Filter) -> dict[Key, Row]:
        """The rows that match this filter too, by key."""
        found: dict[Key, Row] = {}
        async for page in self._select(self._filter & test):
            found.update((key_in(row, self._key), row) for row in self._as_changes(page.rows))
        return found

    async def by_key(self, keys: Sequence[Key]) -> dict[Key, Row]:
        """The rows with these keys, as far as they are there and match."""
        found: dict[Key, Row] = {}
        for test in self._naming(keys):
            found.update(await self.matching(test))
        return found

    def _naming(self, keys: Sequence[Key]) -> list[Filter]:
        """Filters that together name these keys."""
        if len(self._key) == 1:
            name = self._key[0]
            texts = [self._text(name, key) for key in keys]
            parts = [texts[at : at + _KEYS_AT_ONCE] for at in range(0, len(texts), _KEYS_AT_ONCE)]
            return [Filter((Condition(name, "in", tuple(part)),)) for part in parts]
        return [
            Filter(tuple(Condition(n, "eq", self._text(n, value)) for n, value in zip(self._key, key, strict=True)))
            for key in keys
        ]

    def _text(self, name: str, value: Any) -> str:
        text = value_text(value)
        return "\\x" + text if name in self._hex_keys else text

    def _select(
        self,
        filter: Filter,
        *,
        order: Sequence[tuple[str, bool]] = (),
        limit: int | None = None,
        page_size: int = 10_000,
        arrow: bool = False,
        max_rows: int | None = None,
    ) -> AsyncIterator[Page]:
        columns = self._request.columns
        return self._source.select(
            self._request.table,
            schema=self._request.schema,
            columns=None if columns is None else list(dict.fromkeys((*self._key, *columns))),
            filter=filter,
            order=order,
            limit=limit,
            key=self._key,
            page_size=page_size,
            arrow=arrow,
            max_rows=max_rows,
        )

    def _as_changes(self, rows: list[Row]) -> list[Row]:
        """Key columns of bytes are bare hex in a change, but read as `\\x` and hex: here they are as in a change."""
        for name in self._hex_keys:
            for row in rows:
                row[name] = str(row[name]).removeprefix("\\x")
        return rows


@asynccontextmanager
async def _closing(pages: AsyncIterator[Page]) -> AsyncGenerator[None]:
    """Ends a read that is given up: an error that is kept keeps the generator in its traceback, and so a connection."""
    try:
        yield
    finally:
        if isinstance(pages, AsyncGenerator):
            await pages.aclose()


def _reversed(batch: ArrowBatch) -> ArrowBatch:
    return batch.take(np.arange(batch.num_rows)[::-1])


class EmptySource:
    """No rows: what happens from now on is all. `origin` describes the table."""

    repeatable = False

    def __init__(self, origin: SnapshotSource) -> None:
        self._origin = origin

    async def describe(self, table: str, schema: str = "public") -> TableInfo:
        """As `origin` describes it."""
        return await self._origin.describe(table, schema)

    async def select(
        self,
        table: str,
        *,
        schema: str = "public",
        columns: Sequence[str] | None = None,
        filter: str | Filter | None = None,
        order: Sequence[tuple[str, bool]] = (),
        limit: int | None = None,
        key: Sequence[str] = (),
        page_size: int = 10_000,
        arrow: bool = False,
        max_rows: int | None = None,
    ) -> AsyncIterator[Page]:
        """One page without rows."""
        yield Page([], 0)


class FrameSource(EmptySource):
    """These rows, such as those of a DataFrame, stand in for what the database has. `origin` describes the table."""

    def __init__(self, rows: Sequence[Row], origin: SnapshotSource) -> None:
        super().__init__(origin)
        self._rows = rows
        self._info = TableInfo([], ())

    async def describe(self, table: str, schema: str = "public") -> TableInfo:
        """As `origin` describes it."""
        self._info = await super().describe(table, schema)
        return self._info

    async def select(
        self,
        table: str,
        *,
        schema: str = "public",
        columns: Sequence[str] | None = None,
        filter: str | Filter | None = None,
        order: Sequence[tuple[str, bool]] = (),
        limit: int | None = None,
        key: Sequence[str] = (),
        page_size: int = 10_000,
        arrow: bool = False,
        max_rows: int | None = None,
    ) -> AsyncIterator[Page]:
        """One page with all the rows: whoever gave them has chosen them. Their keys are read as the key's type, so that
        changes find their rows. Raises `RealtimeError` where that cannot be.
        """
        rows = [dict(row) for row in self._rows]
        types = {column.name: column.type for column in self._info.columns}
        for name in key:
            try:
                kind = kind_of(types[name], labels=self._info.labels, bases=self._info.bases)
                data, nulls = kind.parse([row[name] for row in rows])
                values = kind.to_record(data, nulls)
                if kind.name == "uuid":  # which Postgres writes in one form
                    values = [None if value is None else str(UUID(value)) for value in values]
                if None in values:
                    raise ValueError("a key is missing")
            except (KeyError, ValueError, TypeError, OverflowError) as error:
                raise RealtimeError(
                    f"the rows of source= have no usable key {name!r} of type {types.get(name, 'unknown')} "
                    f"({type(error).__name__})",
                    code="BadRows",
                    hint=f"give the DataFrame a column {name!r} with a value in each row",
                ) from None
            for row, value in zip(rows, values, strict=True):
                row[name] = value
        yield Page(rows, len(rows))


SOURCES: tuple[type[SnapshotSource], ...] = (RestClient, DsnSource, FrameSource, EmptySource)
"""The sources there are; the type checker compares each with the protocol here."""


def check_source(source: object) -> SnapshotSource:
    """The source itself. Raises TypeError for what is none."""
    if not isinstance(source, SnapshotSource):
        raise TypeError(
            f"a snapshot source has repeatable, describe() and select() (SnapshotSource), not {type(source).__name__}"
        )
    return source


def key_in(row: Mapping[str, Any], key: tuple[str, ...]) -> Key:
    """The row's key: raw JSON values, as everywhere."""
    return row[key[0]] if len(key) == 1 else tuple(row[name] for name in key)
