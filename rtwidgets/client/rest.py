"""Snapshots over PostgREST, and broadcasts over HTTP. Numbers keep every digit."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from importlib import import_module
from typing import Any, cast
from urllib.parse import quote

import httpx

from ..protocol.codec import FrameError, dumps, loads
from ..protocol.errors import RealtimeError, code_of, from_rest, from_status, make
from ..protocol.filters import Filter
from ..protocol.messages import Column
from ..protocol.payloads import to_json
from ..protocol.rest_headers import ARROW_STREAM, FORMATS
from ..protocol.sql_names import sql_name
from .addresses import is_loopback
from .rest_reads import Answer, Pager, PageSize, TableRead, bad_answer, position_of, profile
from .snapshot_source import Page, TableInfo, table_info, type_name

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


MOST_BYTES = 256 * 1024 * 1024
"""Bytes that one answer may have, decompressed."""
MOST_SECONDS = 120.0
"""Seconds that one answer may take from its first byte to its last."""


def _short(name: str) -> str:
    """A type's name as changes have it; outside the search path, with its schema."""
    if name.endswith("[]"):
        return "_" + _short(name[:-2]).rpartition(".")[2].strip('"')
    plain = name.split("(")[0].strip()
    schema, dot, bare = plain.rpartition(".")
    return type_name(schema.strip('"'), bare.strip('"')) if dot else _SHORT.get(plain, plain)


def _new_http(options: Mapping[str, Any]) -> httpx.AsyncClient:
    import anyio

    anyio.run(anyio.sleep, 0)  # imports what httpx would with its first request
    return httpx.AsyncClient(**options)


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
        self._opening = asyncio.Lock()
        self._direct = False
        self._page_size = PageSize()
        self._arrow = False
        """Whether the server said that it has rows as an Arrow stream."""
        self._openapi: dict[str, Any] = {}
        self._described: dict[str, set[str]] = {}
        """The tables whose description was taken from it, by schema."""

    def __repr__(self) -> str:
        return f"RestClient({self._base!r})"

    async def _request(
        self, method: str, path: str, *, headers: dict[str, str] | None = None, content: bytes | None = None
    ) -> Answer:
        async with self._authorized(method, path, headers, content) as (response, what):
            try:
                async with asyncio.timeout(MOST_SECONDS):
                    return Answer(response.status_code, response.headers, await _read(response, what))
            except TimeoutError as error:
                if isinstance(error, RealtimeError):
                    raise
                text = f"the answer to {what} did not end within {MOST_SECONDS:.0f} s"
                raise make("Timeout", text) from None

    @asynccontextmanager
    async def _authorized(
        self, method: str, path: str, headers: dict[str, str] | None = None, content: bytes | None = None
    ) -> AsyncGenerator[tuple[httpx.Response, str]]:
        """The answer to a request, yet to be read, and what was asked. A token that has expired is renewed."""
        token = await self._token()
        async with AsyncExitStack() as stack:
            response = await stack.enter_async_context(self._send(method, path, token, headers, content))
            if response.status_code == 401 and token and self._fresh is not None:
                other = await self._fresh()
                if other != token:
                    await stack.aclose()
                    response = await stack.enter_async_context(self._send(method, path, other, headers, content))
            yield response, _what(method, path)

    async def _connections(self) -> httpx.AsyncClient:
        async with self._opening:
            direct, before = is_loopback(self._base), self._http
            if before is not None and direct == self._direct:
                return before
            options: dict[str, Any] = {"timeout": self._timeout, "trust_env": not direct}
            try:
                # Off the loop: the first one imports half of httpx, and reads certificates.
                self._http, self._direct = await asyncio.to_thread(_new_http, options), direct
            except ImportError as error:  # a SOCKS proxy, for which httpx needs another package
                raise make("ConnectionLost", str(error), hint="install socksio, or unset ALL_PROXY") from None
            if before is not None:
                await before.aclose()
            return self._http

    @asynccontextmanager
    async def _send(
        self, method: str, path: str, token: str | None, headers: dict[str, str] | None, content: bytes | None
    ) -> AsyncGenerator[httpx.Response]:
        http = await self._connections()
        sent = {"apikey": self._key, **(headers or {})}
        # A new-style key (sb_...) is no JWT: PostgREST would refuse it as a bearer.
        if token or not self._key.startswith("sb_"):
            sent["Authorization"] = f"Bearer {token or self._key}"
        encoded = {name.encode(): value.encode() for name, value in sent.items()}
        what = _what(method, path)
        try:
            async with http.stream(method, self._base + path, headers=encoded, content=content) as response:
                yield response
        except httpx.TimeoutException:
            raise make("Timeout", f"{what} got no answer within {self._timeout} s") from None
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
        arrow: bool = False,
        max_rows: int | None = None,
    ) -> AsyncIterator[Page]:
        """The rows of a table, in pages; see `SnapshotSource`. Without a key and an order, pages may overlap where rows
        change meanwhile. Raises `RealtimeError`.
        """
        read = TableRead(table, schema, columns, filter, order, limit, key)
        if arrow and self._arrow:
            async for page in self._arrow_pages(read):
                yield page
        else:
            async for page in Pager(read, self._get, self._page_size, page_size).pages():
                yield page

    async def _get(self, path: str, headers: dict[str, str]) -> Answer:
        return await self._request("GET", path, headers=headers)

    async def _arrow_pages(self, read: TableRead) -> AsyncIterator[Page]:
        """All rows of one moment, in the batches of one answer."""
        # Here, since it takes a while and few need it; and off the loop.
        await asyncio.to_thread(import_module, ".arrow_stream", __package__)
        from .arrow_stream import ArrowDecoder

        place = "" if read.limit is None else f"&limit={read.limit}"
        path = read.path(place, ordered=read.limit is not None)
        headers = {**read.headers, "Accept": ARROW_STREAM, "Prefer": "count=exact"}
        decoder = ArrowDecoder()
        async with self._authorized("GET", path, headers) as (response, what):
            if response.status_code != 200:
                raise from_rest(response.status_code, await _read(response, what), read.name)
            position = position_of(response.headers)
            try:
                async for data in response.aiter_bytes():
                    for batch in decoder.decode(data):
                        yield Page([], *position, batch)
            except ValueError as error:
                raise bad_answer(f"the rows of {read.name} cannot be decoded: {error}") from None
        if not decoder.ended:
            raise make("ConnectionLost", f"{what} ended before its last row")

    async def describe(self, table: str, schema: str = "public") -> TableInfo:
        """The table's columns and key: from our local server's own function, else from PostgREST's OpenAPI document.

        Raises `RealtimeError`.
        """
        name, quoted = f"{schema}.{table}", sql_name(schema, table)
        answer = await self._request(
            "GET", f"/rest/v1/rpc/rtwidgets_describe?schema={quote(schema, safe='')}&table={quote(table, safe='')}"
        )
        if answer.status == 200:
            self._arrow = ARROW_STREAM in answer.headers.get(FORMATS, "")
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
                "GET", "/rest/v1/", headers={"Accept-Profile": profile(schema), "Accept": "application/openapi+json"}
            )
            if answer.status != 200:
                raise from_rest(answer.status, answer.content, quoted)
            definitions = _object(answer).get("definitions")
            if not isinstance(definitions, dict):
                raise bad_answer("the description of the project's API has no tables")
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


def _what(method: str, path: str) -> str:
    return f"{method} {path.split('?')[0]}"


async def _read(response: httpx.Response, what: str) -> bytes:
    parts: list[bytes] = []
    count = 0
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


def _object(answer: Answer) -> dict[str, Any]:
    try:
        found = loads(answer.content)
    except FrameError:
        found = None
    if not isinstance(found, dict):
        raise bad_answer("the answer is not JSON as expected")
    return cast("dict[str, Any]", found)
