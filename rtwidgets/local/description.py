"""What a table is, read from the catalogue: columns and their types, key, replica identity, and how it is published.

No statement here waits for a lock on another table: `pg_publication_tables` would, and so the catalogues under it are
read.
"""

from __future__ import annotations

from typing import Any

from ..client.table_description import PUBLICATION as PUBLICATION
from ..client.table_description import TABLE, description_of
from .pool import Connection

_SCHEMA = """
select c.relname::text, a.attname::text, pg_catalog.format_type(a.atttypid, a.atttypmod), a.attnotnull,
  exists (select from pg_catalog.pg_index i where i.indrelid = c.oid and i.indisprimary
    and a.attnum = any(i.indkey::int2[])),
  (select array_agg(e.enumlabel::text order by e.enumsortorder) from pg_catalog.pg_enum e
    where e.enumtypid = a.atttypid),
  pg_catalog.col_description(c.oid, a.attnum), y.typcategory::text
from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
join pg_catalog.pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
join pg_catalog.pg_type y on y.oid = a.atttypid
where n.nspname = %s::text and c.relkind in ('r', 'p', 'v', 'm', 'f') and not c.relispartition
  and pg_catalog.has_column_privilege(c.oid, a.attnum, 'SELECT')
order by c.relname, a.attnum
"""


async def describe(connection: Connection, schema: str, table: str) -> dict[str, Any] | None:
    """The table as the current role may see it (see `description_of`); None where there is none of that name."""
    cursor = await connection.execute(TABLE.encode(), {"schema": schema, "table": table})
    row = await cursor.fetchone()
    if row is None:
        return None
    return description_of(row)


async def open_api(connection: Connection, schema: str, url: str) -> dict[str, Any]:
    """PostgREST's OpenAPI document of a schema: the tables that the current role may read, for GET."""
    cursor = await connection.execute(_SCHEMA, (schema,))
    definitions: dict[str, dict[str, Any]] = {}
    for table, column, type_name, required, in_key, labels, comment, category in await cursor.fetchall():
        definition = definitions.setdefault(table, {"required": [], "properties": {}, "type": "object"})
        said = "\n\n".join([*filter(None, [comment]), *(["Note:\nThis is a Primary Key.<pk/>"] if in_key else [])])
        found: dict[str, Any] = {"format": type_name, "type": _json_type(type_name, category)}
        definition["properties"][column] = found | _given(description=said, enum=labels)
        if required:
            definition["required"].append(column)
    ok = {"200": {"description": "OK"}, "206": {"description": "Partial Content"}}
    paths = {f"/{table}": {"get": {"tags": [table], "responses": ok}} for table in definitions}
    return {
        "swagger": "2.0",
        "info": {"title": "rtwidgets local server", "description": "Reads tables of one schema", "version": "1"},
        "host": url,
        "basePath": "/rest/v1",
        "schemes": ["http"],
        "consumes": ["application/json"],
        "produces": ["application/json", "application/vnd.pgrst.object+json", "text/csv"],
        "paths": {"/": {"get": {"tags": ["Introspection"], "responses": ok}}} | paths,
        "definitions": definitions,
    }


def _given(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value}


def _json_type(name: str, category: str) -> str:
    if name in ("smallint", "integer", "bigint"):
        return "integer"
    if category == "N":
        return "number"
    return {"B": "boolean", "A": "array"}.get(category, "string")
