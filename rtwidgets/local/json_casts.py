"""Values that only Postgres can render as JSON: those of types with a cast to json, once a batch of changes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import psycopg
from psycopg import sql

from ..client.log import child
from .pgoutput import Row
from .pool import Connection, Pool, type_name
from .render import CastConverter, Converter

log = child(__name__)


async def render(pool: Pool, converters: Sequence[Converter], rows: Iterable[Row]) -> None:
    """Lets the converters of these columns learn the values of these rows. Costs nothing where no column needs it.

    Raises psycopg.OperationalError where Postgres is away; what it refuses to render stays text.
    """
    wanted = [(i, converter) for i, converter in enumerate(converters) if isinstance(converter, CastConverter)]
    if not wanted:
        return
    rows = list(rows)
    for i, converter in wanted:
        missing = converter.missing([value for row in rows if isinstance(value := row[i], bytes)])
        if not missing:
            continue
        async with pool.connection() as connection:
            try:
                converter.learn(await _rendered(connection, converter.cast, missing))
            except psycopg.OperationalError:
                raise
            except psycopg.Error as error:  # the type is another one by now, or its cast raises
                log.warning("values of the type %s could not be rendered: %s", converter.cast, error)


async def _rendered(connection: Connection, cast: str, values: list[bytes]) -> dict[bytes, bytes]:
    kind = type_name(cast)
    query = sql.SQL("select to_jsonb(v::{})::text from unnest(%s::text[]) with ordinality u(v, n) order by n").format(
        kind
    )
    cursor = await connection.execute(query, ([value.decode() for value in values],))
    found = await cursor.fetchall()
    return {value: row[0].encode() for value, row in zip(values, found, strict=True)}
