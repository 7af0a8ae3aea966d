"""Snapshots over PostgREST, and broadcasts over HTTP. Numbers keep every digit."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, cast
from urllib.parse import quote

import httpx

from ..protocol.codec import FrameError, dumps, loads
from ..protocol.errors import RealtimeError, from_rest, from_status, make
from ..protocol.filters import Filter, parse
from ..protocol.messages import Column
from ..protocol.payloads import to_json
from ..protocol.pg_snapshot import PgSnapshot
from .addresses import is_loopback
from .snapshot_source import Page, Row, TableInfo

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


def _short(name: str) -> str:
    if name.endswith("[]"):
        return "_" + _short(name[:-2])
    name = name.split("(")[0].strip()
    # A type outside the search path comes with its schema, which changes do not say.
    return _SHORT.get(name, name.rpartition(".")[2].strip('"'))


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
        self._openapi: dict[str, Any] = {}
        self._described: dict[str, set[str]] = {}
        """The tables whose description was taken from it, by schema."""

    def __repr__(self) -> str:
        return f"RestClient({self._base!r})"

    async def _request(
        self, method: str, path: str, *, headers: dict[str, str] | None = None, content: bytes | None = None
    ) -> httpx.Response:
        http = await self._connections()
        token = await self._token()
        response = await self._ask(http, method, path, token, headers, content)
        if response.status_code == 401 and token and self._fresh is not None:
            other = await self._fresh()
            if other != token:
                response = await self._ask(http, method, path, other, headers, content)
        return response

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

    async def _ask(
        self,
        http: httpx.AsyncClient,
        method: str,
        path: str,
        token: str | None,
        headers: dict[str, str] | None,
        content: bytes | None,
    ) -> httpx.Response:
        sent = {"apikey": self._key, **(headers or {})}
        # A new-style key (sb_...) is no JWT: PostgREST would refuse it as a bearer.
        if token or not self._key.startswith("sb_"):
            sent["Authorization"] = f"Bearer {token or self._key}"
        try:
            return await http.request(method, self._base + path, headers=sent, content=content)
        except httpx.TimeoutException:
            raise make("Timeout", f"{method} {path.split('?')[0]} got no answer within {self._timeout} s") from None
        except httpx.HTTPError as error:
            raise make("ConnectionLost", f"{method} {path.split('?')[0]}: {error or type(error).__name__}") from None

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
        named = [f"{_name(name)}.{'desc' if down else 'asc'}" for name, down in order]
        named += [f"{_name(name)}.asc" for name in key if name not in ordered]
        if named:
            query.append("order=" + quote(",".join(named), safe=',."()'))
        # By offset, a row deleted meanwhile would make the next page skip another: so by key, where there is no order.
        by_key = tuple(key) if not order and (not columns or set(key) <= set(columns)) else ()
        level = -1  # how many of the key's columns, but one, the next page shares with the last row
        done = 0
        last: Row = {}
        total: int | None = None
        while limit is None or done < limit:
            want = page_size if limit is None else min(page_size, limit - done)
            headers = {"Accept-Profile": schema, "Accept": "application/json"}
            if done == 0:
                headers["Prefer"] = "count=exact"
            if by_key:
                tests = zip(by_key, ["eq"] * level + ["gt"], strict=False) if last else ()
                after = [f"&{quote(name, safe='')}={op}.{quote(str(last[name]), safe='')}" for name, op in tests]
                place = f"{''.join(after)}&limit={want}"
            else:
                place = f"&limit={want}&offset={done}"
            path = f"/rest/v1/{quote(table, safe='')}?{'&'.join(query)}{place}"
            response = await self._request("GET", path, headers=headers)
            if response.status_code == 416:  # the rows ended exactly at the last page
                return
            if response.status_code not in (200, 206):
                raise from_rest(response.status_code, response.content, f"{schema}.{table}")
            page = _page(response)
            if done == 0:
                total = page.total
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
        response = await self._request(
            "GET", f"/rest/v1/rpc/rtwidgets_describe?schema={quote(schema, safe='')}&table={quote(table, safe='')}"
        )
        if response.status_code == 200:
            found = _object(response)
            columns = [Column(str(column["name"]), str(column["type"])) for column in found.get("columns", [])]
            said: list[dict[str, Any]] = found.get("columns", [])
            return TableInfo(
                columns,
                tuple(found.get("key") or ()),
                found.get("published"),
                {one["type"]: tuple(one["labels"]) for one in said if one.get("labels")},
                {one["type"]: one["base"] for one in said if one.get("base")},
                frozenset(one["name"] for one in said if one.get("collated")),
            )
        if response.status_code == 404 and "PGRST205" in response.text:
            # Our server's answer: there is no such table. A project says PGRST202: there is no such function.
            raise from_rest(404, response.content, f"{schema}.{table}")
        if table in self._described.get(schema, ()):
            self._openapi.pop(schema, None)  # asked again: it may have changed
        if schema not in self._openapi:
            self._described[schema] = set()
            response = await self._request(
                "GET", "/rest/v1/", headers={"Accept-Profile": schema, "Accept": "application/openapi+json"}
            )
            if response.status_code != 200:
                raise from_rest(response.status_code, response.content, f"{schema}.{table}")
            self._openapi[schema] = _object(response).get("definitions", {})
        definition = self._openapi[schema].get(table)
        if not isinstance(definition, dict):
            self._openapi.pop(schema)
            raise RealtimeError(
                f"no table {schema}.{table} in the project's API",
                code="UndefinedTable",
                hint="check the table's name, and that the role may select from it",
            )
        self._described[schema].add(table)
        columns: list[Column] = []
        key: list[str] = []
        labels: dict[str, tuple[str, ...]] = {}
        for name, spec in cast(
            "dict[str, dict[str, Any]]", cast("dict[str, Any]", definition).get("properties", {})
        ).items():
            columns.append(Column(name, _short(str(spec.get("format", "text")))))
            if isinstance(spec.get("enum"), list):
                labels[columns[-1].type] = tuple(str(label) for label in spec["enum"])
            if "<pk/>" in str(spec.get("description", "")):
                key.append(name)
        return TableInfo(columns, tuple(key), labels=labels)

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
        response = await self._request("POST", path, headers={"Content-Type": kind}, content=body)
        if response.status_code == 404 and kind == "application/octet-stream":
            text = "this server takes no bytes over HTTP"
            raise make("UnprocessableEntity", text, hint="send them on a channel that is joined")
        if response.status_code != 202:
            raise from_status(response.status_code, response.content)

    def move(self, base: str) -> None:
        """Asks at another URL from the next request on."""
        self._base = base.rstrip("/")

    async def close(self) -> None:
        """Frees the connections; the next call opens new ones."""
        http, self._http = self._http, None
        if http is not None:
            await http.aclose()


def _name(column: str) -> str:
    return (
        column if column.replace("_", "a").isalnum() else '"' + column.replace("\\", "\\\\").replace('"', '\\"') + '"'
    )


def _names(columns: Sequence[str]) -> str:
    return quote(",".join(_name(column) for column in columns), safe=',"')


def _conditions(filter: Filter) -> list[str]:
    return [f"{quote(column, safe='')}={quote(value, safe='')}" for column, value in filter.rest()]


def _object(response: httpx.Response) -> dict[str, Any]:
    try:
        found = loads(response.content)
    except FrameError:
        found = None
    if not isinstance(found, dict):
        raise RealtimeError("the answer is not JSON as expected", code="BadAnswer", hint="check the project's URL")
    return cast("dict[str, Any]", found)


def _page(response: httpx.Response) -> Page:
    try:
        rows = loads(response.content)
    except FrameError:
        rows = None
    if not isinstance(rows, list):
        raise RealtimeError("the answer is not a list of rows", code="BadAnswer", hint="check the project's URL")
    total = response.headers.get("content-range", "").rpartition("/")[2]
    lsn = response.headers.get("x-rtwidgets-lsn")
    snapshot = response.headers.get("x-rtwidgets-snapshot")
    return Page(
        cast("list[Row]", rows),
        int(total) if total.isdigit() else None,
        int(lsn) if lsn else None,
        PgSnapshot.parse(snapshot) if snapshot else None,
    )
