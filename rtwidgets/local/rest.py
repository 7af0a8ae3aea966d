"""Reading tables as PostgREST serves them, as the caller's own role and claims, in one read-only snapshot.

Nothing that a client sends becomes SQL text: names are quoted identifiers, values are parameters, operators come from
a list.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec
import psycopg
from aiohttp import web
from psycopg import sql

from .auth import Identity, TokenError, verify
from .pool import Connection, Pool, identifier
from .rls import become

_OPERATORS = {
    "eq": "=",
    "neq": "<>",
    "gt": ">",
    "gte": ">=",
    "lt": "<",
    "lte": "<=",
    "like": "like",
    "ilike": "ilike",
    "match": "~",
    "imatch": "~*",
    "isdistinct": "is distinct from",
    "cs": "@>",
    "cd": "<@",
}
_IS = {"null": "null", "not_null": "not null", "true": "true", "false": "false", "unknown": "unknown"}
_RESERVED = {"select", "order", "limit", "offset", "and", "or", "apikey", "columns"}
_CASTS = {"text", "int", "int4", "int8", "float8", "numeric", "json", "jsonb", "date", "timestamptz", "bool"}
_SINGLE = "application/vnd.pgrst.object+json"
_CSV = "text/csv"
_JSON = {"application/json", "application/vnd.pgrst.array+json", "application/*", "*/*", ""}
_RANGE = re.compile(r"(\d+)-(\d*)$")

Composed = sql.Composable


class RestError(Exception):
    def __init__(
        self, status: int, code: str, message: str, details: str | None = None, hint: str | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.body = {"code": code, "details": details, "hint": hint, "message": message}


class Rest:
    def __init__(self, pool: Pool, secret: str, max_rows: int = 0) -> None:
        self._pool = pool
        self._secret = secret
        self._max_rows = max_rows

    def routes(self, app: web.Application) -> None:
        app.router.add_get("/rest/v1/rpc/rtwidgets_describe", self._describe)
        app.router.add_post("/rest/v1/rpc/rtwidgets_describe", self._describe)
        app.router.add_get("/rest/v1/{table}", self._select)
        app.router.add_route("*", "/rest/v1/{table}", self._read_only)
        app.router.add_route("*", "/rest/v1/rpc/{function}", self._no_function)

    def _caller(self, request: web.Request) -> Identity:
        key = request.headers.get("apikey") or request.query.get("apikey")
        token = _bearer(request) or key
        if not token:
            raise RestError(401, "PGRST301", "No API key found in request", None, "Send the key in the `apikey` header")
        try:
            return verify(self._secret, token)
        except TokenError as error:
            if error.handshake == "Token has expired":
                raise RestError(401, "PGRST303", "JWT expired") from None
            raise RestError(401, "PGRST301", error.message) from None

    async def _read_only(self, request: web.Request) -> web.Response:
        hint = "The local server reads; write with SQL, such as local.sql(...)"
        error = RestError(405, "PGRST117", f"Unsupported HTTP method: {request.method}", hint=hint)
        return web.json_response(error.body, status=error.status)

    async def _no_function(self, request: web.Request) -> web.Response:
        name = request.match_info["function"]
        hint = "The local server calls no functions; call them with SQL, such as local.sql(...)"
        error = RestError(404, "PGRST202", f"Could not find the function {name} in the schema cache", hint=hint)
        return web.json_response(error.body, status=error.status)

    async def _select(self, request: web.Request) -> web.Response:
        try:
            identity = self._caller(request)
            return await self._answer(request, identity)
        except RestError as error:
            return web.json_response(error.body, status=error.status)
        except psycopg.errors.InsufficientPrivilege as error:
            return _database_error(error, 401 if identity.role == "anon" else 403)
        except psycopg.errors.InvalidParameterValue as error:
            nobody = str(error.diag.message_primary).startswith("role ")  # the token's
            return _database_error(error, 401 if nobody else 400)
        except psycopg.errors.UndefinedFunction as error:  # such as an operator that the column's type lacks
            return _database_error(error, 404)
        except psycopg.OperationalError as error:
            return _database_error(error, 503)
        except psycopg.Error as error:
            return _database_error(error, 400)

    async def _answer(self, request: web.Request, identity: Identity) -> web.Response:
        schema = request.headers.get("Accept-Profile") or "public"
        if schema.startswith("pg_") or schema == "information_schema":
            raise RestError(406, "PGRST106", f"Invalid schema: {schema}", hint="Postgres' own schemas are not served")
        table = request.match_info["table"]
        offset, limit = _bounds(request)
        if self._max_rows:
            limit = self._max_rows if limit is None else min(limit, self._max_rows)
        values: list[str] = []
        where = _where(request, values)
        columns = _columns(request.query.get("select", "*"))
        order = _order(request.query.get("order", ""))
        # What PostgREST would estimate is counted as well: at this size that is as cheap.
        count = re.search("count=(exact|planned|estimated)", request.headers.get("Prefer", "")) is not None
        name = identifier(schema, table)
        parts: list[Composed] = [sql.SQL("select "), columns, sql.SQL(" from "), name, sql.SQL(" t"), where, order]
        if limit is not None:
            parts.append(sql.SQL(" limit {}").format(sql.Literal(limit)))
        if offset:
            parts.append(sql.SQL(" offset {}").format(sql.Literal(offset)))
        wanted = _wanted(request.headers.get("Accept", "*/*"))
        as_csv, single = wanted == _CSV, wanted == _SINGLE
        # A row as text is its CSV line in parentheses: so does PostgREST write it.
        shape = "substring(r::text from 2 for length(r::text) - 2)" if as_csv else "row_to_json(r)::text"
        rows = sql.SQL("select " + shape + " from ({}) r").format(sql.Composed(parts))
        async with self._pool.connection() as connection, connection.transaction():
            await connection.execute("set transaction read only")
            # The snapshot is taken by this first query, the position after it: so every transaction that the
            # snapshot sees has its commit record before that position, also an asynchronous one (hence insert_lsn).
            lsn, snapshot = await _position(connection)
            await become(connection, identity)
            try:
                cursor = await connection.execute(rows, values)
            except psycopg.errors.UndefinedTable:
                raise RestError(
                    404, "PGRST205", f"Could not find the table '{schema}.{table}' in the schema cache"
                ) from None
            found = [row[0] for row in await cursor.fetchall()]
            heading = ""
            if as_csv:
                named = sql.SQL("select r.* from ({}) r limit 0").format(sql.Composed(parts))
                cursor = await connection.execute(named, values)
                heading = ",".join(_csv_name(column.name) for column in cursor.description or ())
            total = None
            if count:
                cursor = await connection.execute(sql.SQL("select count(*) from {} t{}").format(name, where), values)
                row = await cursor.fetchone()
                total = row[0] if row else 0
        last = offset + len(found) - 1
        span = f"{offset}-{last}" if found else "*"
        headers = {
            "Content-Range": f"{span}/{'*' if total is None else total}",
            "x-rtwidgets-lsn": str(lsn),
            "x-rtwidgets-snapshot": snapshot,
        }
        if total is not None and offset > 0 and offset >= total:
            detail = f"An offset of {offset} was requested, but there are only {total} rows."
            raise RestError(416, "PGRST103", "Requested range not satisfiable", detail)
        status = 206 if total is not None and len(found) < total else 200
        if single and len(found) != 1:
            detail = f"The result contains {len(found)} rows"
            raise RestError(406, "PGRST116", "Cannot coerce the result to a single JSON object", detail)
        text = "\n".join([heading, *found]) if as_csv else found[0] if single else "[" + ",\n ".join(found) + "]"
        return web.Response(status=status, text=text, content_type=wanted, charset="utf-8", headers=headers)

    async def _describe(self, request: web.Request) -> web.Response:
        try:
            identity = self._caller(request)
            values: Any = request.query
            if request.method == "POST":
                try:
                    values = msgspec.json.decode(await request.read())
                except (msgspec.DecodeError, RecursionError):
                    values = None
                if not isinstance(values, dict):
                    raise RestError(400, "PGRST102", "Empty or invalid json")
            schema, table = str(values.get("schema") or "public"), str(values.get("table") or "")
            async with self._pool.connection() as connection, connection.transaction():
                await become(connection, identity)
                cursor = await connection.execute(_DESCRIBE, {"schema": schema, "table": table})
                row = await cursor.fetchone()
            if row is None:
                raise RestError(404, "PGRST205", f"Could not find the table '{schema}.{table}' in the schema cache")
            return web.json_response({"columns": row[0] or [], "key": row[1], "published": row[2], "rls": row[3]})
        except RestError as error:
            return web.json_response(error.body, status=error.status)
        except psycopg.OperationalError as error:
            return _database_error(error, 503)
        except psycopg.Error as error:
            return _database_error(error, 400)


def _wanted(accepts: str) -> str:
    """The first kind of answer that is named and served."""
    kinds = [part.split(";")[0].strip().lower() for part in accepts.split(",")]
    for kind in kinds:
        if kind in (_CSV, _SINGLE):
            return kind
        if kind in _JSON:
            return "application/json"
    raise RestError(406, "PGRST107", f"None of these media types are available: {', '.join(kinds)}")


def _bearer(request: web.Request) -> str:
    """The token of an Authorization header, or an empty text."""
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def _csv_name(name: str) -> str:
    return '"' + name.replace('"', '""') + '"' if set(name) & set('",\n\r') else name


# The catalogue is open to every role; only columns that the caller may SELECT are told, and of a published table only
# those that changes carry (not virtual generated ones, nor those outside its list): the others would grow stale.
_DESCRIBE = """
select
  (select json_agg(json_strip_nulls(json_build_object('name', a.attname, 'type', y.typname,
     'base', coalesce(b2.typname, b.typname),
     'labels', (select json_agg(e.enumlabel order by e.enumsortorder) from pg_catalog.pg_enum e
       where e.enumtypid = y.oid),
     -- Whether its text is sorted otherwise than by code point. 100: the database's own collation.
     'collated', case when a.attcollation = 100 then nullif('a' < 'B', false)
       when a.attcollation <> 0 then (select true from pg_catalog.pg_collation l where l.oid = a.attcollation
         and l.collname not in ('C', 'POSIX', 'C.UTF-8', 'C.utf8', 'ucs_basic', 'pg_c_utf8', 'pg_unicode_fast')) end
     )) order by a.attnum)
   from pg_catalog.pg_attribute a join pg_catalog.pg_type y on y.oid = a.atttypid
   left join pg_catalog.pg_type b on b.oid = y.typbasetype left join pg_catalog.pg_type b2 on b2.oid = b.typbasetype
   where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
     and pg_catalog.has_column_privilege(c.oid, a.attnum, 'SELECT')
     and not exists (select from pg_catalog.pg_publication_tables p where p.pubname = 'supabase_realtime'
       and p.schemaname = n.nspname and p.tablename = c.relname and (not a.attname = any(p.attnames)
         or (a.attgenerated <> '' and current_setting('server_version_num')::int < 180000)))),
  coalesce((select array_agg(a.attname::text order by k.n) from pg_catalog.pg_index i
    cross join unnest(i.indkey::int2[]) with ordinality as k(attnum, n)
    join pg_catalog.pg_attribute a on a.attrelid = i.indrelid and a.attnum = k.attnum
    where i.indrelid = c.oid and i.indisprimary and k.n <= i.indnkeyatts), '{}'),
  exists (select from pg_catalog.pg_publication_tables p
    where p.pubname = 'supabase_realtime' and p.schemaname = n.nspname and p.tablename = c.relname),
  c.relrowsecurity
from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
where n.nspname = %(schema)s::text and c.relname = %(table)s::text and c.relkind in ('r', 'p', 'v', 'm', 'f')
"""


async def _position(connection: Connection) -> tuple[int, str]:
    cursor = await connection.execute("select pg_current_snapshot()::text")
    row = await cursor.fetchone()
    assert row is not None
    snapshot = row[0]
    cursor = await connection.execute("select (pg_current_wal_insert_lsn() - '0/0'::pg_lsn)::int8")
    row = await cursor.fetchone()
    assert row is not None
    return row[0], snapshot


def _bounds(request: web.Request) -> tuple[int, int | None]:
    try:
        offset = int(request.query.get("offset", "0"))
        limit = int(request.query["limit"]) if "limit" in request.query else None
    except ValueError:
        raise RestError(400, "PGRST100", "limit and offset are whole numbers") from None
    span = _RANGE.match(request.headers.get("Range", "").removeprefix("items="))
    if span:
        first = int(span[1])
        offset += first
        if span[2]:
            size = int(span[2]) - first + 1
            if size < 0:
                raise RestError(
                    416,
                    "PGRST103",
                    "Requested range not satisfiable",
                    "The lower boundary must be lower than the upper",
                )
            limit = size if limit is None else min(limit, size)
    if offset < 0 or (limit is not None and limit < 0):
        raise RestError(
            416, "PGRST103", "Requested range not satisfiable", "Limit should be greater than or equal to zero."
        )
    return offset, limit


def _columns(text: str) -> Composed:
    if text.strip() in ("", "*"):
        return sql.SQL("t.*")
    items: list[Composed] = []
    for item in split(text):
        if item == "*":
            items.append(sql.SQL("t.*"))
            continue
        alias, sep, rest = item.partition(":") if "::" not in item.split(":", 1)[0] + ":" else ("", "", item)
        if sep and rest.startswith(":"):  # a cast, not an alias
            alias, rest = "", item
        name, _, cast = (rest if sep and alias else item).partition("::")
        if "(" in name:
            raise RestError(400, "PGRST200", "Embedding other tables is not supported by the local server")
        column: Composed = sql.SQL("t.{}").format(identifier(unquoted(name)))
        if cast:
            if cast not in _CASTS:
                raise RestError(400, "PGRST100", f"cast to {cast} is not supported by the local server")
            column = sql.SQL("{}::{}").format(column, sql.SQL(cast))
        label = unquoted(alias) if alias else unquoted(name)
        items.append(sql.SQL("{} as {}").format(column, identifier(label)))
    return sql.SQL(", ").join(items)


def _order(text: str) -> Composed:
    if not text:
        return sql.SQL("")
    items: list[Composed] = []
    for item in split(text):
        name, *flags = split(item, ".")
        clause: Composed = sql.SQL("t.{}").format(identifier(unquoted(name)))
        words = {"asc": " asc", "desc": " desc", "nullsfirst": " nulls first", "nullslast": " nulls last"}
        for flag in flags:
            if flag not in words:
                raise RestError(400, "PGRST100", f'"failed to parse order ({text})"')
            clause = clause + sql.SQL(words[flag])
        items.append(clause)
    return sql.SQL(" order by ") + sql.SQL(", ").join(items)


def _where(request: web.Request, values: list[str]) -> Composed:
    tests: list[Composed] = []
    for name, value in request.query.items():
        if name in ("and", "or", "not.and", "not.or"):
            tests.append(_group(name, value, values))
        elif name not in _RESERVED:
            tests.append(_test(unquoted(name), value, values))
    return sql.SQL(" where ") + sql.SQL(" and ").join(tests) if tests else sql.SQL("")


def _group(word: str, text: str, values: list[str]) -> Composed:
    """`and=(a.eq.1,or(b.eq.2,c.is.null))`"""
    negated, word = word.startswith("not."), word.removeprefix("not.")
    if not (text.startswith("(") and text.endswith(")")):
        raise RestError(400, "PGRST100", f'"failed to parse logic tree ({text})"')
    tests: list[Composed] = []
    for item in split(text[1:-1]):
        head, paren, _ = item.partition("(")
        if paren and head in ("and", "or", "not.and", "not.or"):
            tests.append(_group(head, item[len(head) :], values))
        else:
            name, *rest = split(item, ".", 1)
            if not rest:
                raise RestError(400, "PGRST100", f'"failed to parse logic tree ({text})"')
            tests.append(_test(unquoted(name), rest[0], values, quoted=True))
    if not tests:
        raise RestError(400, "PGRST100", f'"failed to parse logic tree ({text})"')
    joined = sql.SQL("(") + sql.SQL(f" {word} ").join(tests) + sql.SQL(")")
    return sql.SQL("not ") + joined if negated else joined


def _test(column: str, text: str, values: list[str], *, quoted: bool = False) -> Composed:
    """One condition, such as `gte.10` or `not.in.(a,"b,c")`. `quoted`: within `and` and `or`, where commas end a value,
    quotes around it are not part of it."""
    name = sql.SQL("t.{}").format(identifier(column))
    negated = text.startswith("not.")
    op, dot, value = text.removeprefix("not.").partition(".")
    if not dot:
        raise RestError(
            400, "PGRST100", f'"failed to parse filter ({text})"', f"unexpected {text!r}: expecting an operator"
        )
    test: Composed
    if op == "is":
        word = _IS.get(value.lower())
        if word is None:
            raise RestError(400, "PGRST100", f'"failed to parse filter ({text})"')
        test = sql.SQL("{} is {}").format(name, sql.SQL(word))
    elif op == "in":
        if not (value.startswith("(") and value.endswith(")")):
            raise RestError(400, "PGRST100", f'"failed to parse filter ({text})"')
        items = [bound(unquoted(item), values) for item in split(value[1:-1])]
        test = sql.SQL("{} in ({})").format(name, sql.SQL(", ").join(items)) if items else sql.SQL("false")
    elif op in _OPERATORS:
        value = unquoted(value) if quoted else value
        if op in ("like", "ilike"):
            value = value.replace("*", "%")
        test = sql.SQL("{} {} {}").format(name, sql.SQL(_OPERATORS[op]), bound(value, values))
    else:
        raise RestError(400, "PGRST100", f'"failed to parse filter ({text})"', f"unknown operator {op!r}")
    return sql.SQL("not {}").format(test) if negated else test


def bound(value: str, values: list[str]) -> Composed:
    """A placeholder for the value, which travels apart, without a type: so it takes that of the column beside it."""
    if "\x00" in value:
        raise RestError(400, "22021", "a value holds the character NUL")
    values.append(value)
    return sql.SQL("%s")


def split(text: str, separator: str = ",", times: int = -1) -> list[str]:
    """Splits outside quotes and parentheses."""
    items: list[str] = []
    item, depth, quoted, escaped = "", 0, False, False
    for char in text:
        if escaped:
            escaped = False
        elif quoted and char == "\\":
            escaped = True
        elif char == '"':
            quoted = not quoted
        elif not quoted and char == "(":
            depth += 1
        elif not quoted and char == ")":
            depth -= 1
        elif char == separator and not quoted and not depth and times != 0:
            items.append(item)
            item = ""
            times -= 1
            continue
        item += char
    return [*items, item] if item or items else []


def unquoted(text: str) -> str:
    text = text.strip()
    if len(text) > 1 and text[0] == text[-1] == '"':
        return re.sub(r"\\(.)", r"\1", text[1:-1])
    return text


def _database_error(error: psycopg.Error, status: int) -> web.Response:
    diag = error.diag
    body = {
        "code": error.sqlstate or "PGRST000",
        "details": diag.message_detail,
        "hint": diag.message_hint,
        "message": diag.message_primary or "Could not query the database",
    }
    return web.json_response(body, status=status)
