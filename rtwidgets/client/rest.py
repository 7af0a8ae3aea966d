"""Snapshots over PostgREST, and broadcasts over HTTP. Numbers keep every digit."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, NamedTuple, cast
from urllib.parse import quote

import httpx

from ..protocol.codec import FrameError, dumps, loads
from ..protocol.errors import RealtimeError, code_of, from_rest, from_status, make
from ..protocol.filters import Filter, parse
from ..protocol.messages import Column
from ..protocol.payloads import to_json
from ..protocol.pg_snapshot import PgSnapshot
from ..protocol.rest_names import quote_name
from ..protocol.sql_names import sql_name
from .addresses import is_loopback
from .snapshot_source import Page, Row, TableInfo, table_info, type_name

# PostgREST's OpenAPI document says SQL's long names; change messages say Postgres' short ones.
_SHORT = {
    "bigint": "int8",
    "integer": "int4",
    "smallint": "int2",
    "boolean": "bool",
    "real": "float4",
    "double precision": "float8",
    "character varying": "varchar",
    "character": "bpchar",
    "timestamp with time zone": "timestamptz",
    "timestamp without time zone": "timestamp",
    "time with time zone": "timetz",
    "time without time zone": "time",
    "bit varying": "varbit",
}


_HEADER = re.compile(r"(?! )[^\x00-\x1f\x7f]*(?<! )")
"""What an HTTP header can hold."""

MOST_BYTES = 256 * 1024 * 1024
"""Bytes that one answer may have, decompressed."""
MOST_SECONDS = 120.0
"""Seconds that one answer may take from its first byte to its last."""
LEAST_ROWS = 100
"""Rows that are always asked for at once, however slow the line is."""


def _short(name: str) -> str:
    """A type's name as changes have it; outside the search path, with its schema."""
    if name.endswith("[]"):
        return "_" + _short(name[:-2]).rpartition(".")[2].strip('"')
    plain = name.split("(")[0].strip()
    schema, dot, bare = plain.rpartition(".")
    return type_name(schema.strip('"'), bare.strip('"')) if dot else _SHORT.get(plain, plain)


class Answer(NamedTuple):
    """An HTTP answer, read to its end."""

    status: int
    headers: httpx.Headers
    content: bytes


class RestClient:
    """Reads tables of a project.

    `base` is the project's URL; `token` gives the JWT of the moment (None: the key speaks), `fresh` another one, for
    when the server says that the first has expired. A `SnapshotSource`.
    """

    repeatable = True

    def __init__(
        self,
        base: str,
        key: str,
        token: Callable[[], Awaitable[str | None]],
        *,
        fresh: Callable[[], Awaitable[str | None]] | None = None,
        timeout: float = 30.0,
    ) -> None:
        self._base = base.rstrip("/")
        self._key = key
        self._token = token
        self._fresh = fresh
        self._timeout = timeout
        self._http: httpx.AsyncClient | None = None
        self._direct = False
        self._most_rows: int | None = None
        """Rows of a page, where larger ones did not come through."""
        self._openapi: dict[str, Any] = {}
        self._described: dict[str, set[str]] = {}
        """The tables whose description was taken from it, by schema."""

    def __repr__(self) -> str:
        return f"RestClient({self._base!r})"

    async def _request(
        self, method: str, path: str, *, headers: dict[str, str] | None = None, content: bytes | None = None
    ) -> Answer:
        http = await self._connections()
        token = await self._token()
        answer = await self._send(http, method, path, token, headers, content)
        if answer.status == 401 and token and self._fresh is not None:
            other = await self._fresh()
            if other != token:
                answer = await self._send(http, method, path, other, headers, content)
        return answer

    async def _connections(self) -> httpx.AsyncClient:
        direct, before = is_loopback(self._base), self._http
        if before is not None and direct == self._direct:
            return before
        try:
            self._http, self._direct = httpx.AsyncClient(timeout=self._timeout, trust_env=not direct), direct
        except ImportError as error:  # a SOCKS proxy, for which httpx needs another package
            raise make("ConnectionLost", str(error), hint="install socksio, or unset ALL_PROXY") from None
        if before is not None:
            await before.aclose()
        return self._http

    async def _send(
        self,
        http: httpx.AsyncClient,
        method: str,
        path: str,
        token: str | None,
        headers: dict[str, str] | None,
        content: bytes | None,
    ) -> Answer:
        sent = {"apikey": self._key, **(headers or {})}
        # A new-style key (sb_...) is no JWT: PostgREST would refuse it as a bearer.
        if token or not self._key.startswith("sb_"):
            sent["Authorization"] = f"Bearer {token or self._key}"
        encoded = {name.encode(): value.encode() for name, value in sent.items()}
        what = f"{method} {path.split('?')[0]}"
        try:
            async with (
                asyncio.timeout(self._timeout + MOST_SECONDS),
                http.stream(method, self._base + path, headers=encoded, content=content) as response,
            ):
                return Answer(response.status_code, response.headers, await _read(response, what))
        except httpx.TimeoutException:
            raise make("Timeout", f"{what} got no answer within {self._timeout} s") from None
        except TimeoutError as error:
            if isinstance(error, RealtimeError):
                raise
            raise make("Timeout", f"the answer to {what} did not end within {MOST_SECONDS:.0f} s") from None
        except httpx.HTTPError as error:
            raise make("ConnectionLost", f"{what}: {error or type(error).__name__}") from None

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
    ) -> AsyncIterator[Page]:
        """The rows of a table, in pages; see `SnapshotSource`. The key columns follow in the order, so that no page
        overlaps another. Without a key and an order, pages may overlap where rows change meanwhile.

        Raises `RealtimeError`.
        """
        query = [f"select={_names(columns) if columns else '*'}", *_conditions(parse(filter))]
        ordered = {name for name, _ in order}
        named = [f"{quote_name(name)}.{'desc' if down else 'asc'}" for name, down in order]
        named += [f"{quote_name(name)}.asc" for name in key if name not in ordered]
        if named:
            query.append("order=" + quote(",".join(named), safe=',."()'))
        keyed = tuple(key) if not columns or set(key) <= set(columns) else ()
        # By offset, a row deleted meanwhile would make the next page skip another: so by key, where there is no order.
        by_key = () if order else keyed
        level = -1  # how many of the key's columns, but one, the next page shares with the last row
        done = 0
        last: Row = {}
        ends: tuple[Any, ...] = ()
        total: int | None = None
        while limit is None or done < limit:
            want = min(page_size, self._most_rows or page_size)
            want = want if limit is None else min(want, limit - done)
            headers = {"Accept-Profile": _profile(schema), "Accept": "application/json"}
            if done == 0:
                headers["Prefer"] = "count=exact"
            if by_key:
                tests = zip(by_key, ["eq"] * level + ["gt"], strict=False) if last else ()
                after = [f"&{_key(name)}={op}.{quote(_text(last[name]), safe='')}" for name, op in tests]
                place = f"{''.join(after)}&limit={want}"
            else:
                place = f"&limit={want}&offset={done}"
            path = f"/rest/v1/{_segment(table)}?{'&'.join(query)}{place}"
            try:
                answer = await self._request("GET", path, headers=headers)
            except RealtimeError as error:
                if error.code in ("Timeout", "AnswerTooLarge"):  # a smaller page may come through
                    self._most_rows = max(LEAST_ROWS, want // 8)
                raise
            if answer.status == 416:  # the rows ended exactly at the last page
                return
            if answer.status not in (200, 206):
                raise from_rest(answer.status, answer.content, sql_name(schema, table))
            page = _page(answer)
            if self._most_rows is not None:
                self._most_rows = min(self._most_rows * 2, page_size)
            if done == 0:
                total = page.total
            before, ends = ends, _ends(page, keyed)
            if ends and ends == before:
                raise RealtimeError(
                    f"{schema}.{table} cannot be read in pages: the server sends the same rows again and again",
                    code="BadAnswer",
                    retryable=True,
                    hint=f"check that the server applies conditions on {', '.join(keyed)}, and does not cache answers",
                )
            yield page
            done += len(page.rows)
            # A server may give fewer rows than asked (max-rows), so only an empty page or the known total ends it.
            if total is not None and done >= total and (not by_key or len(page.rows) < want):
                return
            if page.rows:
                last, level = page.rows[-1], len(by_key) - 1
            else:
                level -= 1  # no more rows that share so much with the last one
                if level < 0:
                    return

    async def describe(self, table: str, schema: str = "public") -> TableInfo:
        """The table's columns and key: from our local server's own function, else from PostgREST's OpenAPI document.

        Raises `RealtimeError`.
        """
        name, quoted = f"{schema}.{table}", sql_name(schema, table)
        answer = await self._request(
            "GET", f"/rest/v1/rpc/rtwidgets_describe?schema={quote(schema, safe='')}&table={quote(table, safe='')}"
        )
        if answer.status == 200:
            return table_info(_object(answer))
        # A project has no such function (PGRST202), nor has a PostgREST without its schema cache (404 without a code).
        # Anything else is the answer to this question: that there is no such table, or that the server is down.
        if answer.status != 404 or code_of(answer.content) not in ("PGRST202", "42883", None):
            raise from_rest(answer.status, answer.content, quoted)
        if table in self._described.get(schema, ()):
            self._openapi.pop(schema, None)  # asked again: it may have changed
        if schema not in self._openapi:
            self._described[schema] = set()
            answer = await self._request(
                "GET", "/rest/v1/", headers={"Accept-Profile": _profile(schema), "Accept": "application/openapi+json"}
            )
            if answer.status != 200:
                raise from_rest(answer.status, answer.content, quoted)
            definitions = _object(answer).get("definitions")
            if not isinstance(definitions, dict):
                raise _bad_answer("the description of the project's API has no tables")
            self._openapi[schema] = cast("dict[str, Any]", definitions)
        definition = self._openapi[schema].get(table)
        if not isinstance(definition, dict):
            self._openapi.pop(schema)
            raise RealtimeError(
                f"no table {name} in the project's API",
                code="UndefinedTable",
                hint="check the table's name and schema=, and that the role may select from it",
            )
        self._described[schema].add(table)
        return _from_open_api(cast("dict[str, Any]", definition))

    async def columns_of(self, table: str, schema: str = "public") -> list[Column]:
        """The table's columns, in order."""
        return (await self.describe(table, schema)).columns

    async def primary_key(self, table: str, schema: str = "public") -> tuple[str, ...]:
        """The table's primary key; empty where it has none."""
        return (await self.describe(table, schema)).key

    async def broadcast(self, topic: str, event: str, payload: Any, private: bool = False) -> None:
        """Sends a broadcast over HTTP, without joining: a JSON value, or `bytes` (which servers before 2.97 refuse).

        Raises `RealtimeError`; a missing insert policy is not reported by the server.
        """
        path, kind = "/realtime/v1/api/broadcast", "application/json"
        if isinstance(payload, bytes | bytearray | memoryview):
            path += f"/{quote(topic, safe='')}/events/{quote(event, safe='')}?private={str(private).lower()}"
            kind, body = "application/octet-stream", bytes(cast("bytes", payload))
        else:
            try:
                sent = to_json(payload, "payload")
                body = dumps({"messages": [{"topic": topic, "event": event, "payload": sent, "private": private}]})
            except FrameError as error:
                raise make("UnprocessableEntity", str(error)) from None
        answer = await self._request("POST", path, headers={"Content-Type": kind}, content=body)
        if answer.status == 404 and kind == "application/octet-stream":
            text = "this server takes no bytes over HTTP"
            raise make("UnprocessableEntity", text, hint="send them on a channel that is joined")
        if answer.status != 202:
            raise from_status(answer.status, answer.content)

    def move(self, base: str) -> None:
        """Asks at another URL from the next request on."""
        self._base = base.rstrip("/")

    async def close(self) -> None:
        """Frees the connections; the next call opens new ones."""
        http, self._http = self._http, None
        if http is not None:
            await http.aclose()


async def _read(response: httpx.Response, what: str) -> bytes:
    parts: list[bytes] = []
    count = 0
    async with asyncio.timeout(MOST_SECONDS):
        async for part in response.aiter_bytes():
            parts.append(part)
            count += len(part)
            if count > MOST_BYTES:
                raise RealtimeError(
                    f"the answer to {what} has more than {MOST_BYTES // 2**20} MB",
                    code="AnswerTooLarge",
                    retryable=True,
                    hint="nothing to do: smaller pages are tried; columns= leaves large ones out",
                )
    return b"".join(parts)


def _segment(table: str) -> str:
    """The table's name as a part of a path."""
    if table not in (".", ".."):
        return quote(table, safe="")
    raise _unsupported(f"the table {table!r} cannot be named in a URL, where it means a folder")


def _profile(schema: str) -> str:
    """The schema's name as the header that names it."""
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


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _ends(page: Page, key: tuple[str, ...]) -> tuple[Any, ...]:
    """The keys of the first and the last row; empty where they are not known."""
    if not key or not page.rows:
        return ()
    return tuple(page.rows[at].get(name) for at in (0, -1) for name in key)


def _from_open_api(definition: dict[str, Any]) -> TableInfo:
    columns: list[Column] = []
    key: list[str] = []
    labels: dict[str, tuple[str, ...]] = {}
    for name, spec in cast("dict[str, dict[str, Any]]", definition.get("properties", {})).items():
        columns.append(Column(name, _short(str(spec.get("format", "text")))))
        if isinstance(spec.get("enum"), list):
            labels[columns[-1].type] = tuple(str(label) for label in spec["enum"])
        if "<pk/>" in str(spec.get("description", "")):
            key.append(name)
    return TableInfo(columns, tuple(key), labels=labels)


def _bad_answer(text: str) -> RealtimeError:
    return RealtimeError(
        text, code="BadAnswer", retryable=True, hint="check the project's URL; it is tried again by itself"
    )


def _object(answer: Answer) -> dict[str, Any]:
    try:
        found = loads(answer.content)
    except FrameError:
        found = None
    if not isinstance(found, dict):
        raise _bad_answer("the answer is not JSON as expected")
    return cast("dict[str, Any]", found)


def _page(answer: Answer) -> Page:
    try:
        rows = loads(answer.content)
    except FrameError:
        rows = None
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in cast("list[Any]", rows)):
        raise _bad_answer("the answer is not a list of rows")
    total = answer.headers.get("content-range", "").rpartition("/")[2]
    lsn = answer.headers.get("x-rtwidgets-lsn")
    snapshot = answer.headers.get("x-rtwidgets-snapshot")
    return Page(
        cast("list[Row]", rows),
        int(total) if total.isdigit() else None,
        int(lsn) if lsn else None,
        PgSnapshot.parse(snapshot) if snapshot else None,
    )
