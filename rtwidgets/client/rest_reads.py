"""How a table is read over PostgREST: the paths of its pages, and the order in which they are asked for."""

from __future__ import annotations

import asyncio
import re
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, cast
from urllib.parse import quote

import httpx

from ..protocol.codec import FrameError, loads
from ..protocol.errors import RealtimeError, from_rest
from ..protocol.filters import Filter, parse
from ..protocol.pg_snapshot import PgSnapshot
from ..protocol.rest_headers import LSN, SNAPSHOT
from ..protocol.rest_names import quote_name
from ..protocol.sql_names import sql_name
from .snapshot_source import Page, Row

LEAST_ROWS = 100
"""Rows that are always asked for at once, however slow the line is."""
IN_FLIGHT = 4
"""Stretches of a table that are read at the same time."""
STRETCH = 10_000
"""Rows of a stretch, about; one page, where that has more."""

_PART = 128 * 1024
"""Bytes of JSON that are decoded at once: some milliseconds."""
_HEADER = re.compile(r"(?! )[^\x00-\x1f\x7f]*(?<! )")
"""What an HTTP header can hold."""


class Answer(NamedTuple):
    """An HTTP answer, read to its end."""

    status: int
    headers: httpx.Headers
    content: bytes


Get = Callable[[str, dict[str, str]], Awaitable[Answer]]
"""Asks for a path with these headers."""


class PageSize:
    """How many rows are asked for at once: fewer, where as many did not come through."""

    def __init__(self) -> None:
        self.most: int | None = None

    def of(self, wanted: int) -> int:
        return min(wanted, self.most or wanted)

    def came(self, wanted: int) -> None:
        if self.most is not None:
            self.most = min(self.most * 2, wanted)

    def failed(self, asked: int) -> None:
        self.most = max(LEAST_ROWS, asked // 8)


@dataclass(frozen=True)
class TableRead:
    """What is read of a table. The key columns follow in the order, so that no page overlaps another."""

    table: str
    schema: str
    columns: Sequence[str] | None = None
    filter: str | Filter | None = None
    order: Sequence[tuple[str, bool]] = ()
    limit: int | None = None
    key: Sequence[str] = ()

    @property
    def name(self) -> str:
        return sql_name(self.schema, self.table)

    @property
    def keyed(self) -> tuple[str, ...]:
        """The key, where rows have it."""
        return tuple(self.key) if not self.columns or set(self.key) <= set(self.columns) else ()

    @property
    def by_key(self) -> tuple[str, ...]:
        """The key, where pages go by it: by offset, a row deleted meanwhile would make the next one skip another."""
        return () if self.order else self.keyed

    @property
    def headers(self) -> dict[str, str]:
        return {"Accept-Profile": profile(self.schema)}

    def path(self, place: str = "", *, columns: Sequence[str] | None = None, ordered: bool = True) -> str:
        """The path of a page; `place` says which, in further parameters."""
        columns = columns or self.columns
        query = [f"select={_names(columns) if columns else '*'}", *_conditions(parse(self.filter))]
        names = {name for name, _ in self.order}
        order = [f"{quote_name(name)}.{'desc' if down else 'asc'}" for name, down in self.order]
        order += [f"{quote_name(name)}.asc" for name in self.key if name not in names]
        if order and ordered:
            query.append("order=" + quote(",".join(order), safe=',."()'))
        return f"/rest/v1/{_segment(self.table)}?{'&'.join(query)}{place}"

    def after(self, row: Row, shared: int) -> str:
        """Parameters for the rows that follow this one, by key, among those that share so many columns of its key."""
        tests = zip(self.by_key, ["eq"] * shared + ["gt"], strict=False)
        return "".join(f"&{_key(name)}={op}.{quote(value_text(row[name]), safe='')}" for name, op in tests)

    def until(self, row: Row) -> str:
        """Parameters for the rows up to this one; for a key of one column."""
        name = self.by_key[0]
        return f"&{_key(name)}=lte.{quote(value_text(row[name]), safe='')}"


class Pager:
    """Reads the pages of one table: by key and several at a time, where that can be. Raises `RealtimeError`."""

    def __init__(self, read: TableRead, get: Get, size: PageSize, page_size: int) -> None:
        self._read = read
        self._get = get
        self._size = size
        self._page_size = page_size
        self._seen: set[Any] = set()
        """What the pages so far began and ended with."""

    async def pages(self) -> AsyncGenerator[Page]:
        """The pages, in order."""
        read = self._read
        total: int | None = None
        done, last, shared = 0, Row(), -1
        while read.limit is None or done < read.limit:
            want = self._size.of(self._page_size)
            want = want if read.limit is None else min(want, read.limit - done)
            place = "" if not done else read.after(last, shared) if read.by_key else f"&offset={done}"
            page = await self._page(f"{place}&limit={want}", want, first=done == 0)
            if page is None:  # the rows ended exactly at the last page
                return
            if done == 0:
                total = page.total
            yield page
            done += len(page)
            # A server may give fewer rows than asked (max-rows), so only an empty page or the known total ends it.
            if total is not None and done >= total and (not read.by_key or len(page) < want):
                return
            if page.rows:
                last, shared = page.rows[-1], len(read.by_key) - 1
                if len(read.by_key) == 1 and read.limit is None and total is not None and total - done > 2 * len(page):
                    async for further in self._stretches(last, len(page)):
                        yield further
                    return
            else:
                shared -= 1  # no more rows that share so much with the last one
                if shared < 0:
                    return

    async def _stretches(self, last: Row, rows: int) -> AsyncGenerator[Page]:
        """The pages after this row, of `rows` rows each, several stretches at a time.

        Each row is read once, at some moment after the first page was: as one by one.
        """
        reading: deque[asyncio.Task[list[Page]]] = deque()
        size = max(1, STRETCH // rows) * rows
        start: Row | None = last
        try:
            while start is not None or reading:
                while start is not None and len(reading) < IN_FLIGHT:
                    end = await self._row_at(start, size)
                    reading.append(asyncio.create_task(self._stretch(start, end)))
                    start = end
                for page in await reading.popleft():
                    yield page
        finally:
            for task in reading:
                task.cancel()
            await asyncio.gather(*reading, return_exceptions=True)

    async def _row_at(self, start: Row, count: int) -> Row | None:
        """The key of the row that stands so many places after this one; None past the last one."""
        read = self._read
        path = read.path(f"{read.after(start, 0)}&offset={count - 1}&limit=1", columns=read.by_key)
        answer = await self._get(path, {**read.headers, "Accept": "application/json"})
        if answer.status == 416:
            return None
        rows = (await _page(answer, read.name)).rows
        if len(rows) > 1 or (rows and rows[0] == {name: start[name] for name in read.by_key}):
            raise self._repeats()
        return rows[0] if rows else None

    async def _stretch(self, start: Row, end: Row | None) -> list[Page]:
        """The pages after one row, up to another."""
        read, found = self._read, list[Page]()
        name = read.by_key[0]
        until = "" if end is None else read.until(end)
        while end is None or start[name] != end[name]:
            want = self._size.of(self._page_size)
            page = await self._page(f"{read.after(start, 0)}{until}&limit={want}", want)
            if page is None or not page.rows:
                break
            found.append(page)
            start = page.rows[-1]
        return found

    async def _page(self, place: str, want: int, *, first: bool = False) -> Page | None:
        read = self._read
        headers = {**read.headers, "Accept": "application/json"}
        if first:
            headers["Prefer"] = "count=exact"
        try:
            answer = await self._get(read.path(place), headers)
        except RealtimeError as error:
            if error.code in ("Timeout", "AnswerTooLarge"):  # a smaller page may come through
                self._size.failed(want)
            raise
        if answer.status == 416:
            return None
        page = await _page(answer, read.name)
        self._size.came(self._page_size)
        self._check_new(page, answer)
        return page

    def _check_new(self, page: Page, answer: Answer) -> None:
        """Raises `RealtimeError` where the rows were read before: else there would be no end."""
        keyed = self._read.keyed
        if not page.rows:
            return
        if keyed:
            mark: Any = tuple(str(page.rows[at].get(name)) for at in (0, -1) for name in keyed)
        elif page.rows.count(page.rows[0]) == len(page.rows):
            return  # rows that are alike may fill many pages
        else:
            mark = hash(answer.content)
        if mark in self._seen:
            raise self._repeats()
        self._seen.add(mark)

    def _repeats(self) -> RealtimeError:
        ignored = f"conditions on {', '.join(self._read.by_key)}" if self._read.by_key else "offset="
        return RealtimeError(
            f"{self._read.name} cannot be read in pages: the server sends the same rows again and again",
            code="BadAnswer",
            retryable=True,
            hint=f"check that the server applies {ignored}, and does not cache answers",
        )


def bad_answer(text: str) -> RealtimeError:
    return RealtimeError(
        text, code="BadAnswer", retryable=True, hint="check the project's URL; it is tried again by itself"
    )


def position_of(headers: httpx.Headers) -> tuple[int | None, int | None, PgSnapshot | None]:
    """The count of the whole result, and where the rows stand in Postgres' log, as far as the answer says."""
    total = headers.get("content-range", "").rpartition("/")[2]
    lsn = headers.get(LSN)
    snapshot = headers.get(SNAPSHOT)
    return (
        int(total) if total.isdigit() else None,
        int(lsn) if lsn else None,
        PgSnapshot.parse(snapshot) if snapshot else None,
    )


async def _page(answer: Answer, table: str) -> Page:
    if answer.status not in (200, 206):
        raise from_rest(answer.status, answer.content, table)
    try:
        rows = await _decode_rows(answer.content)
    except FrameError:
        rows = None
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in cast("list[Any]", rows)):
        raise bad_answer("the answer is not a list of rows")
    return Page(cast("list[Row]", rows), *position_of(answer.headers))


async def _decode_rows(content: bytes) -> Any:
    """The rows of an answer. A long one is decoded in parts, between which the event loop serves others."""
    text = content.strip()
    if len(text) > _PART and text.startswith(b"[") and text.endswith(b"]"):
        try:
            return await _decode_parts(text[1:-1])
        except FrameError:
            pass  # a value has a line break of its own
    return loads(content)


async def _decode_parts(text: bytes) -> list[Any]:
    """Rows between commas, each on a line of its own as Postgres aggregates them."""
    rows: list[Any] = []
    start = 0
    while start < len(text):
        end = text.find(b"\n {", start + _PART)
        end = len(text) if end < 0 else end
        rows += cast("list[Any]", loads(b"[" + text[start:end].rstrip().removesuffix(b",") + b"]"))
        start = end
        await asyncio.sleep(0)
    return rows


def _segment(table: str) -> str:
    """The table's name as a part of a path."""
    if table not in (".", ".."):
        return quote(table, safe="")
    raise _unsupported(f"the table {table!r} cannot be named in a URL, where it means a folder")


def profile(schema: str) -> str:
    """The schema's name as the header that names it. Raises `RealtimeError` where it cannot be one."""
    if _HEADER.fullmatch(schema):
        return schema
    text = "cannot be named in an HTTP header, which has no control characters and no blanks at its ends"
    raise _unsupported(f"the schema {schema!r} {text}")


def _unsupported(text: str) -> RealtimeError:
    return RealtimeError(text, code="UnsupportedName", hint="give source= a Postgres DSN, or choose another name")


def _key(column: str) -> str:
    return quote(quote_name(column), safe="")


def _names(columns: Sequence[str]) -> str:
    return quote(",".join(quote_name(column) for column in columns), safe=",")


def _conditions(filter: Filter) -> list[str]:
    return [f"{_key(column)}={quote(value, safe='')}" for column, value in filter.rest()]


def value_text(value: Any) -> str:
    """A raw JSON value, such as a key's, as a condition has it."""
    return str(value).lower() if isinstance(value, bool) else str(value)
