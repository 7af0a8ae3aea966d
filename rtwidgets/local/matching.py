"""Filters on rows of the log: evaluated in this process where that is certain, else by Postgres.

Supabase has Postgres compare each value, so an enum's labels have their order, `inet` its own, and a regular expression
is read in Postgres' dialect. Whatever `protocol.filter_eval` cannot decide as surely is asked of Postgres, once for all
changes that go out together, and remembered.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import psycopg
from psycopg import sql

from ..client.log import child
from ..protocol.filter_eval import judge
from ..protocol.filters import Condition, Filter
from .catalogue import Table
from .policies import limit_statements
from .pool import Connection, Pool, type_name

log = child(__name__)

Values = Mapping[str, str | None]
"""By column, what the log has, as Postgres writes it."""

LIMIT = 1.0
"""Seconds that Postgres may take to compare values with one condition: some expressions run for ever."""
REMEMBERED = 20_000
"""Values whose answers are kept for a condition, and as many of before."""
_SIGNS: dict[str, sql.SQL] = {
    "eq": sql.SQL("="),
    "neq": sql.SQL("<>"),
    "lt": sql.SQL("<"),
    "lte": sql.SQL("<="),
    "gt": sql.SQL(">"),
    "gte": sql.SQL(">="),
    "isdistinct": sql.SQL("is distinct from"),
    "like": sql.SQL("~~"),
    "ilike": sql.SQL("~~*"),
    "match": sql.SQL("~"),
    "imatch": sql.SQL("~*"),
}
PATTERNS = frozenset({"like", "ilike", "match", "imatch"})


class TooSlow(Exception):
    """Postgres could not compare values with a condition in time."""


class Test:
    """One condition on one table."""

    def __init__(self, condition: Condition, table: Table) -> None:
        self.condition = condition
        self._cast = table.casts.get(condition.column, "text")
        self._verdict = judge(Filter((condition,)), table.base_types, collated=table.collated, logged=True)
        self._answers: dict[str, bool] = {}
        self._before: dict[str, bool] = {}

    def matches(self, values: Values) -> bool:
        """Whether the values meet the condition; never where the log lacks the value, as of a deleted row."""
        if self.condition.column not in values:
            return False
        found = self._verdict(values)
        if found is not None:
            return found
        value = values[self.condition.column]
        # What Postgres could not compare matches nothing.
        return value is not None and self._answers.get(value, self._before.get(value, False))

    def unknown(self, rows: Iterable[Values]) -> set[str]:
        """Those of the rows' values that only Postgres can compare, and has not yet."""
        column = self.condition.column
        if self.condition.op == "is":
            return set()
        values = {value for row in rows if (value := row.get(column)) is not None and self._verdict(row) is None}
        return {value for value in values if value not in self._answers and value not in self._before}

    async def evaluate(self, pool: Pool, values: set[str]) -> None:
        """Has Postgres compare these values. Raises TooSlow, and OSError or OperationalError while it is away."""
        if len(self._answers) + len(values) > REMEMBERED:
            self._before, self._answers = self._answers, {}
        try:
            async with pool.connection() as connection, connection.transaction():
                await limit_statements(connection, LIMIT)
                self._answers |= await compare(connection, self.condition, self._cast, list(values))
        except psycopg.errors.QueryCanceled:
            raise TooSlow from None
        except (psycopg.DataError, psycopg.ProgrammingError) as error:
            # The column's type is another since the subscription was made: that must not keep changes from the others.
            log.warning("a filter matches nothing of %d values: %s", len(values), type(error).__name__)
            self._answers |= dict.fromkeys(values, False)


async def compare(connection: Connection, condition: Condition, cast: str, values: list[str]) -> dict[str, bool]:
    """Which of the values meet the condition, by Postgres. `cast`: the column's type as SQL writes it, from the
    catalogue and never from a client. Raises psycopg.Error."""
    op, wanted = condition.op, condition.value
    kind = type_name(cast)
    if op == "in":
        members = sql.SQL(", ").join(sql.SQL("%s::{}").format(kind) for _ in wanted)
        holds = sql.SQL("v::{} in ({})").format(kind, members)
    elif op in PATTERNS:
        holds = sql.SQL("v::{} {} %s").format(kind, _SIGNS[op])
    else:
        holds = sql.SQL("v::{0} {1} %s::{0}").format(kind, _SIGNS[op])
    many = [wanted] if isinstance(wanted, str) else list(wanted)
    query = sql.SQL("select v, {} from unnest(%s::text[]) v").format(holds)
    cursor = await connection.execute(query, (*many, values))
    return {value: found is not condition.negated for value, found in await cursor.fetchall() if found is not None}
