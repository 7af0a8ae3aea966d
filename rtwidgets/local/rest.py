"""The REST API: tables as PostgREST serves them, read as the caller's role and claims in one read-only snapshot."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from typing import Any, cast

import msgspec
import psycopg
from aiohttp import web

from ..client.log import child
from ..protocol.rest_headers import ARROW_STREAM, FORMATS, LSN, SNAPSHOT
from .auth import Identity, TokenError, verify
from .description import describe, open_api
from .policies import become
from .pool import Connection, Pool
from .rest_arrow import send_arrow
from .rest_errors import RestError, from_database
from .rest_query import Query, parse
from .rest_sql import Read

log = child(__name__)

WHOLE = 4 * 1024 * 1024
"""Bytes of an answer that are read before it is sent. A longer one is read as the client takes it."""
PIECE = 256 * 1024
"""Bytes that are written at once."""
FIRST_ROWS = 64
"""Rows that are fetched to learn how long they are."""
STALL = 30.0
"""Seconds in which a client must take a piece; else its answer is cut off, since it holds a connection to Postgres."""

_SINGLE = "application/vnd.pgrst.object+json"
_CSV = "text/csv"
_JSON = frozenset(("application/json", "application/vnd.pgrst.array+json", "application/*", "*/*", ""))
_OPEN_API = "application/openapi+json"
_COUNT = re.compile("count=(exact|planned|estimated)")

Handler = Callable[[web.Request, Identity], Awaitable[web.StreamResponse]]


class Rest:
    """`routes()` adds the API to an application."""

    def __init__(self, pool: Pool, secret: str, max_rows: int = 0) -> None:
        self._pool = pool
        self._secret = secret
        self._max_rows = max_rows

    def routes(self, app: web.Application) -> None:
        described = self._route(self._describe)
        app.router.add_get("/rest/v1/rpc/rtwidgets_describe", described)
        app.router.add_post("/rest/v1/rpc/rtwidgets_describe", described)
        app.router.add_route("*", "/rest/v1/rpc/{function:[^/]+}", self._route(self._call))
        app.router.add_get("/rest/v1/", self._route(self._root))
        app.router.add_get("/rest/v1", self._route(self._root))
        app.router.add_get("/rest/v1/{table:[^/]+}", self._route(self._select))
        app.router.add_route("*", "/rest/v1/{table:[^/]+}", self._route(self._refuse_method))
        app.router.add_route("*", "/rest/v1{path:.*}", self._route(self._refuse_path))

    def _route(self, handler: Handler) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        """The handler for a verified caller, with every error as PostgREST's JSON."""

        async def handle(request: web.Request) -> web.StreamResponse:
            anonymous = True
            try:
                identity = self._caller(request)
                anonymous = identity.role == "anon"
                return await handler(request, identity)
            except RestError as error:
                return _refused(error)
            except psycopg.Error as error:
                return _refused(from_database(error, anonymous=anonymous))

        return handle

    def _caller(self, request: web.Request) -> Identity:
        scheme, _, bearer = request.headers.get("Authorization", "").partition(" ")
        token = bearer.strip() if scheme.lower() == "bearer" else ""
        token = token or request.headers.get("apikey") or request.query.get("apikey") or ""
        if not token:
            raise RestError(401, "PGRST301", "No API key found in request", None, "Send the key in the `apikey` header")
        try:
            return verify(self._secret, token)
        except TokenError as error:
            if error.handshake == "Token has expired":
                raise RestError(401, "PGRST303", "JWT expired") from None
            raise RestError(401, "PGRST301", error.message) from None

    # --- what is not served

    async def _refuse_method(self, request: web.Request, _: Identity) -> web.Response:
        hint = "The local server reads; write with SQL, such as local.sql(...)"
        raise RestError(405, "PGRST117", f"Unsupported HTTP method: {request.method}", hint=hint)

    async def _refuse_path(self, request: web.Request, _: Identity) -> web.Response:
        raise RestError(404, "PGRST125", "Invalid path specified in request URL")

    async def _call(self, request: web.Request, _: Identity) -> web.Response:
        name = request.match_info["function"]
        hint = "The local server calls no functions; call them with SQL, such as local.sql(...)"
        raise RestError(404, "PGRST202", f"Could not find the function {name} in the schema cache", hint=hint)

    # --- what a table is

    async def _describe(self, request: web.Request, identity: Identity) -> web.Response:
        values: object = dict(request.query)
        if request.method == "POST":
            try:
                values = msgspec.json.decode(await request.read())
            except (msgspec.DecodeError, RecursionError):
                values = None
        if not isinstance(values, dict):
            raise RestError(400, "PGRST102", "Empty or invalid json")
        given = cast("dict[str, Any]", values)
        schema, table = str(given.get("schema") or "public"), str(given.get("table") or "")
        async with self._pool.connection() as connection:
            async with connection.transaction():
                await become(connection, identity)
                found = await describe(connection, schema, table)
            if found is None:
                raise await _no_table(connection, schema, table)
        # PostgREST's cap on rows is one of pages: there, rows come as from PostgREST.
        return web.json_response(found, headers={} if self._max_rows else {FORMATS: ARROW_STREAM})

    async def _root(self, request: web.Request, identity: Identity) -> web.Response:
        async with self._pool.connection() as connection, connection.transaction():
            await become(connection, identity)
            found = await open_api(connection, _schema(request), request.host)
        return web.json_response(found, content_type=_OPEN_API)

    # --- rows

    async def _select(self, request: web.Request, identity: Identity) -> web.StreamResponse:
        schema, table = _schema(request), request.match_info["table"]
        kind = _accepted(request.headers.get("Accept", "*/*"), arrow=not self._max_rows)
        query = parse(request.query.items(), request.headers.get("Range", ""))
        if self._max_rows:
            most = self._max_rows if query.limit is None else min(self._max_rows, query.limit)
            query = msgspec.structs.replace(query, limit=most)
        # What PostgREST would estimate is counted as well: at this size that is as cheap.
        counted = _COUNT.search(request.headers.get("Prefer", "")) is not None
        read = Read(query, schema, table, literal=kind == ARROW_STREAM)
        async with self._pool.connection() as connection:
            try:
                async with connection.transaction():
                    position = await _open_snapshot(connection, identity)
                    if kind == ARROW_STREAM:
                        return await _send_arrow(request, connection, read, position, counted)
                    answer = await _Answer.open(connection, position, read, query, kind, counted)
                    return await answer.send(request)
            except psycopg.errors.UndefinedTable as error:
                raise await _undefined(connection, schema, table, error) from None
            except psycopg.errors.InsufficientPrivilege as error:
                hint = await _readable(connection, identity, schema, table)
                raise from_database(error, anonymous=identity.role == "anon", hint=hint) from None
            except psycopg.errors.InvalidTextRepresentation as error:
                hint = _not_a_uuid(error, identity, read.values)
                raise from_database(error, anonymous=False, hint=hint) from None


class _Answer:
    """The rows of one read, out of a cursor in the current transaction."""

    def __init__(self, connection: Connection, kind: str) -> None:
        self._connection = connection
        self._kind = kind
        self._rows: list[bytes] = []
        self._size = 0
        self._mean = 1
        """Bytes of a row, about."""
        self._ended = False
        self._heading = b""
        self._headers: dict[str, str] = {}
        self._status = 200

    @classmethod
    async def open(
        cls, connection: Connection, position: dict[str, str], read: Read, query: Query, kind: str, counted: bool
    ) -> _Answer:
        """Runs the read, and fetches as much as is sent at once. Raises RestError and psycopg.Error."""
        self = cls(connection, kind)
        rows = read.csv if kind == _CSV else read.json
        await connection.execute(b"declare r no scroll cursor for " + rows.as_bytes(connection), read.values)
        await self._fetch(FIRST_ROWS)
        while not self._ended and self._size < WHOLE:
            await self._fetch_piece(WHOLE - self._size)
        if kind == _CSV:
            cursor = await connection.execute(read.heading.as_bytes(connection), read.values)
            self._heading = ",".join(_csv_name(column.name) for column in cursor.description or ()).encode()
        total = await _one(connection, read.total.as_bytes(connection), read.values) if counted else None
        if self._ended:
            count = len(self._rows)
        elif total is not None:
            count = min(total - query.offset, query.limit if query.limit is not None else total)
        else:
            count = await _one(connection, read.count.as_bytes(connection), read.values)
        if total is not None and 0 < query.offset >= total:
            detail = f"An offset of {query.offset} was requested, but there are only {total} rows."
            raise RestError(416, "PGRST103", "Requested range not satisfiable", detail)
        if kind == _SINGLE and count != 1:
            detail = f"The result contains {count} rows"
            raise RestError(406, "PGRST116", "Cannot coerce the result to a single JSON object", detail)
        span = f"{query.offset}-{query.offset + count - 1}" if count else "*"
        self._headers = {"Content-Range": f"{span}/{'*' if total is None else total}", **position}
        self._status = 206 if total is not None and count < total else 200
        return self

    async def send(self, request: web.Request) -> web.StreamResponse:
        """Sends the answer, and fetches the rest of the rows as the client reads them."""
        start, between, end = {_CSV: (b"", b"\n", b""), _SINGLE: (b"", b"", b"")}.get(self._kind, (b"[", b",\n ", b"]"))
        lines = [self._heading, *self._rows] if self._kind == _CSV else self._rows
        body = start + between.join(lines)
        if self._ended and len(body) <= PIECE:
            return web.Response(
                status=self._status, body=body + end, headers=self._headers, content_type=self._kind, charset="utf-8"
            )
        response = web.StreamResponse(status=self._status, headers=self._headers)
        response.content_type, response.charset = self._kind, "utf-8"
        if self._ended:
            response.content_length = len(body) + len(end)
        await response.prepare(request)
        if request.method == "HEAD":
            return response
        try:
            await _write(response, body)
            while not self._ended:
                self._rows, self._size = [], 0
                await self._fetch_piece(WHOLE)
                await _write(response, b"".join([between + row for row in self._rows]))
            await _write(response, end)
            await response.write_eof()
        except TimeoutError:
            log.warning("an answer was not read for %s s, and is cut off", STALL)
            _cut(request)
        except (psycopg.Error, ConnectionError) as error:
            log.warning("an answer is cut off: %s", error)
            _cut(request)
        return response

    async def _fetch_piece(self, size: int) -> None:
        """About so many bytes, by the rows so far."""
        if self._rows:
            self._mean = max(1, self._size // len(self._rows))
        await self._fetch(min(max(size // self._mean, 1), 100_000))

    async def _fetch(self, rows: int) -> None:
        cursor = await self._connection.execute(b"fetch forward %d from r" % rows)
        result = cursor.pgresult
        assert result is not None
        found = [result.get_value(number, 0) or b"" for number in range(result.ntuples)]
        self._rows += found
        self._size += sum(map(len, found))
        self._ended = len(found) < rows


async def _open_snapshot(connection: Connection, identity: Identity) -> dict[str, str]:
    """Begins to read as the caller; returns the headers that say where the snapshot stands in Postgres' log."""
    await connection.execute("set transaction read only")
    # The snapshot is taken by this first query, the position after it: so every transaction that the snapshot sees has
    # its commit record before that position, also an asynchronous one (hence insert_lsn).
    snapshot = await _one(connection, "select pg_current_snapshot()::text")
    lsn = await _one(connection, "select (pg_current_wal_insert_lsn() - '0/0'::pg_lsn)::int8")
    await become(connection, identity)
    return {LSN: str(lsn), SNAPSHOT: snapshot}


async def _send_arrow(
    request: web.Request, connection: Connection, read: Read, position: dict[str, str], counted: bool
) -> web.StreamResponse:
    total = await _one(connection, read.total.as_bytes(connection)) if counted else "*"
    response = web.StreamResponse(headers={"Content-Range": f"*/{total}", **position})
    try:
        await send_arrow(request, response, connection, read, _write)
    except (TimeoutError, ConnectionError, psycopg.Error) as error:
        if not response.prepared:
            raise
        log.warning("an answer is cut off: %s", error or type(error).__name__)
        _cut(request)
    return response


async def _write(response: web.StreamResponse, data: bytes) -> None:
    """Piece by piece, none of which may take longer than STALL."""
    view = memoryview(data)
    for at in range(0, len(view), PIECE):
        await asyncio.wait_for(response.write(view[at : at + PIECE]), STALL)


def _cut(request: web.Request) -> None:
    """Ends the connection, so that the client cannot take half an answer for a whole one."""
    if request.transport is not None:
        request.transport.abort()


async def _one(connection: Connection, query: str | bytes, values: list[str] | None = None) -> Any:
    cursor = await connection.execute(query.encode() if isinstance(query, str) else query, values)
    row = await cursor.fetchone()
    return row[0] if row is not None else None


def _refused(error: RestError) -> web.Response:
    return web.json_response(error.body, status=error.status)


def _schema(request: web.Request) -> str:
    given = request.headers.get("Accept-Profile") or "public"
    schema = given.encode(errors="surrogateescape").decode(errors="replace")
    if schema.startswith("pg_") or schema == "information_schema":
        raise RestError(406, "PGRST106", f"Invalid schema: {schema}", hint="Postgres' own schemas are not served")
    return schema


def _accepted(header: str, *, arrow: bool) -> str:
    """The first kind of answer that is named and served."""
    kinds = [part.split(";")[0].strip().lower() for part in header.split(",")]
    for kind in kinds:
        if kind in (_CSV, _SINGLE) or (arrow and kind == ARROW_STREAM):
            return kind
        if kind in _JSON:
            return "application/json"
    raise RestError(406, "PGRST107", f"None of these media types are available: {', '.join(kinds)}")


def _csv_name(name: str) -> str:
    return '"' + name.replace('"', '""') + '"' if set(name) & set('",\n\r') else name


# --- what to do about an error


async def _undefined(connection: Connection, schema: str, table: str, error: psycopg.Error) -> RestError:
    """Either there is no such table, or something that it reads (a view, a policy) names one that is missing."""
    if await _one(connection, "select to_regclass(format('%%I.%%I', %s::text, %s::text)) is null", [schema, table]):
        return await _no_table(connection, schema, table)
    return from_database(error, anonymous=False, hint="A view or a policy of the table reads one that does not exist")


async def _no_table(connection: Connection, schema: str, table: str) -> RestError:
    hint: str | None = None
    other_schema, dot, name = table.partition(".")
    if dot and await _one(
        connection, "select to_regclass(format('%%I.%%I', %s::text, %s::text)) is not null", [other_schema, name]
    ):
        hint = f"Name the schema apart from the table: table {name!r}, schema={other_schema!r}"
    else:
        near = await _one(
            connection,
            "select n.nspname || '.' || c.relname from pg_catalog.pg_class c join pg_catalog.pg_namespace n "
            "on n.oid = c.relnamespace where c.relkind in ('r', 'p', 'v', 'm', 'f') and lower(c.relname) = lower(%s) "
            "and n.nspname not in ('pg_catalog', 'information_schema') order by n.nspname <> %s, 1 limit 1",
            [table, schema],
        )
        hint = f"Perhaps you meant the table '{near}'" if near else None
    message = f"Could not find the table '{schema}.{table}' in the schema cache"
    return RestError(404, "PGRST205", message, hint=hint)


async def _readable(connection: Connection, identity: Identity, schema: str, table: str) -> str | None:
    """A hint that names the columns that the role may read, where those are some of the table's."""
    async with connection.transaction():
        await become(connection, identity)
        found = await describe(connection, schema, table)
    names = [column["name"] for column in found["columns"]] if found else []
    if not names:
        return None
    return f"{identity.role} may read these columns alone: {', '.join(names)}. Name them: columns={names!r}"


def _not_a_uuid(error: psycopg.Error, identity: Identity, values: list[str]) -> str | None:
    """A hint where it is the token's user that a policy cannot read, and no value of the request."""
    message = error.diag.message_primary or ""
    if "uuid" not in message or not identity.sub or f'"{identity.sub}"' not in message or identity.sub in values:
        return None
    return (
        f"A policy calls auth.uid(), and the token's user {identity.sub!r} is no UUID: use one, such as "
        "local.connect(user=str(uuid.uuid4())), or compare with auth.jwt() ->> 'sub' in the policy"
    )
