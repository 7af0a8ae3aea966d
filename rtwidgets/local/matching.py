"""Whether a row of the log matches a filter: told here where that is certain, else by Postgres, asked once a batch.

Supabase has Postgres compare each value, so an enum's labels have their order, `inet` its own, and a regular expression
is read in Postgres' dialect. Whatever `protocol.verdict` cannot tell as surely is asked here, and remembered.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import psycopg
from psycopg import sql

from ..client.log import child
from ..protocol.filter_eval import judge
from ..protocol.filters import Condition, Filter
from .pool import Connection, Pool
from .rls import Table

log = child(__name__)

PATIENCE = "1000"
"""Milliseconds that Postgres may take to compare a batch's values with one condition: some expressions run for ever."""
REMEMBERED = 10_000
"""Answers kept a condition."""
_COMPARED = {
    "eq": "=",
    "neq": "<>",
    "lt": "<",
    "lte": "<=",
    "gt": ">",
    "gte": ">=",
    "isdistinct": "is distinct from",
}
PATTERNS = {"like": "~~", "ilike": "~~*", "match": "~", "imatch": "~*"}


class Test:
    """One condition on one table, for rows whose values are as Postgres writes them."""

    def __init__(self, condition: Condition, table: Table) -> None:
        self.condition = condition
        self._cast = table.casts.get(condition.column, "text")
        self._verdict = judge(Filter((condition,)), table.base_types, collated=table.collated, logged=True)
        self._answers: dict[str, bool] = {}

    def holds(self, values: Mapping[str, Any]) -> bool:
        found = self._verdict(values)
        # What Postgres could not compare matches nothing.
        return self._answers.get(values[self.condition.column], False) if found is None else found

    async def ask(self, pool: Pool, rows: Iterable[Mapping[str, Any]]) -> None:
        """Has Postgres compare those of the rows' values that `holds` could not."""
        column = self.condition.column
        unknown = {row[column] for row in rows if row[column] is not None and self._verdict(row) is None}
        unknown -= self._answers.keys()
        if not unknown or self.condition.op == "is":
            return
        if len(self._answers) + len(unknown) > REMEMBERED:
            self._answers.clear()
        try:
            async with pool.connection() as connection, connection.transaction():
                await connection.execute("select set_config('statement_timeout', %s, true)", (PATIENCE,))
                self._answers |= await compare(connection, self.condition, self._cast, list(unknown))
        except psycopg.errors.QueryCanceled:
            log.warning("a filter matches nothing of %d values: its expression takes too long", len(unknown))
        except (psycopg.DataError, psycopg.ProgrammingError) as error:
            # The column's type is another since the subscription was made: that must not keep changes from the others.
            log.warning("a filter matches nothing of %d values: %s", len(unknown), type(error).__name__)


async def compare(connection: Connection, condition: Condition, cast: str, values: list[str]) -> dict[str, bool]:
    """Which of the values meet the condition, by Postgres. `cast`: the column's type as SQL writes it, from the
    catalogue and never from a client. Raises psycopg.Error."""
    op, wanted = condition.op, condition.value
    kind = sql.SQL(cast.replace("%", "%%"))
    if op == "in":
        members = sql.SQL(", ").join(sql.SQL("%s::{}").format(kind) for _ in wanted)
        holds = sql.SQL("v::{} in ({})").format(kind, members)
    elif op in PATTERNS:
        holds = sql.SQL("v::{}::text {} %s").format(kind, sql.SQL(PATTERNS[op]))
    else:
        holds = sql.SQL("v::{0} {1} %s::{0}").format(kind, sql.SQL(_COMPARED[op]))
    many = [wanted] if isinstance(wanted, str) else list(wanted)
    query = sql.SQL("select v, {} from unnest(%s::text[]) v").format(holds)
    cursor = await connection.execute(query, (*many, values))
    return {value: found is not condition.negated for value, found in await cursor.fetchall() if found is not None}
