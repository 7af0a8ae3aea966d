"""The SQL of a parsed read.

Nothing of a request becomes SQL text: names are quoted identifiers, values are parameters, or quoted literals in a
statement that can have no parameters, and operators and types come from lists. Columns are qualified by the table's
alias and rows are written `alias.*`, both of which Postgres looks up among relations before columns: so no column's
name can be taken for an alias.
"""

from __future__ import annotations

from typing import LiteralString

from psycopg import sql

from .pool import identifier
from .rest_errors import RestError
from .rest_query import Condition, Field, Ordered, Query, Selected, Test

_OPERATORS: dict[str, LiteralString] = {
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
    "ov": "&&",
    "sl": "<<",
    "sr": ">>",
    "nxr": "&<",
    "nxl": "&>",
    "adj": "-|-",
}
_IS: dict[str, LiteralString] = {
    "null": "null",
    "not_null": "not null",
    "true": "true",
    "false": "false",
    "unknown": "unknown",
}
_CASTS: tuple[LiteralString, ...] = (
    *("text", "varchar", "char", "int", "integer", "int2", "int4", "int8", "smallint", "bigint", "float4"),
    *("float8", "real", "numeric", "decimal", "json", "jsonb", "date", "time", "timetz", "timestamp"),
    *("timestamptz", "interval", "bool", "boolean", "uuid", "bytea", "inet", "cidr", "oid"),
)

Composed = sql.Composable


class Read:
    """The statements of one read, and their parameters. With `literal` there are none."""

    def __init__(self, query: Query, schema: str, table: str, *, literal: bool = False) -> None:
        self.values: list[str] = []
        """The values of the request: parameters of every statement, unless they are literals."""
        self._literal = literal
        name = self._identifier(schema, table)
        where = self._where(query)
        self._where_values = len(self.values)
        tail: list[Composed] = [sql.SQL(" from {} t").format(name), where]
        rows = [sql.SQL("select "), self._columns(query), *tail, self._order(query.order)]
        if query.limit is not None:
            rows.append(sql.SQL(" limit {}").format(sql.Literal(query.limit)))
        if query.offset:
            rows.append(sql.SQL(" offset {}").format(sql.Literal(query.offset)))
        self.rows = sql.Composed(rows)
        """The rows themselves."""
        self.total = sql.SQL("select count(*)") + sql.Composed(tail)
        """The count of all rows that meet the conditions, whatever the limit."""

    @property
    def json(self) -> Composed:
        """Each row as a JSON object."""
        return sql.SQL("select row_to_json(r.*)::text from ({}) r").format(self.rows)

    @property
    def csv(self) -> Composed:
        """Each row as a line of CSV: a row as text, without its parentheses."""
        return sql.SQL("select substring((r.*)::text from 2 for length((r.*)::text) - 2) from ({}) r").format(self.rows)

    @property
    def heading(self) -> Composed:
        """No row, with the names of the columns."""
        return sql.SQL("select r.* from ({}) r limit 0").format(self.rows)

    @property
    def count(self) -> Composed:
        """The count of the rows within the limit."""
        return sql.SQL("select count(*) from ({}) r").format(self.rows)

    def _where(self, query: Query) -> Composed:
        if not query.where:
            return sql.SQL("")
        return sql.SQL(" where ") + sql.SQL(" and ").join([self._test(test) for test in query.where])

    def _test(self, test: Test) -> Composed:
        if isinstance(test, Condition):
            found = self._condition(test)
        else:
            joint = sql.SQL(" and " if test.conjunction == "and" else " or ")
            found = sql.SQL("(") + joint.join([self._test(member) for member in test.tests]) + sql.SQL(")")
        return sql.SQL("not (") + found + sql.SQL(")") if test.negated else found

    def _condition(self, condition: Condition) -> Composed:
        column = self._field(condition.field)
        value = condition.value
        if isinstance(value, tuple):
            if not value:
                return sql.SQL("false")
            return sql.SQL("{} in ({})").format(column, sql.SQL(", ").join([self._bound(item) for item in value]))
        if condition.operator == "is":
            return sql.SQL("{} is {}").format(column, sql.SQL(_IS[value]))
        if condition.operator in ("like", "ilike"):
            value = value.replace("*", "%")
        return sql.SQL("{} {} {}").format(column, sql.SQL(_OPERATORS[condition.operator]), self._bound(value))

    def _bound(self, value: str) -> Composed:
        """A placeholder. The value travels without a type, so it takes that of the column beside it."""
        if "\x00" in value:
            raise RestError(400, "22021", "a value holds the character NUL")
        self.values.append(value)
        return sql.Literal(value) if self._literal else sql.SQL("%s")

    def _identifier(self, *names: str) -> sql.Identifier:
        if any("\x00" in name for name in names):  # libpq would leave out the rest
            raise RestError(400, "22021", "a name holds the character NUL")
        return sql.Identifier(*names) if self._literal else identifier(*names)

    def _field(self, field: Field) -> Composed:
        found: Composed = sql.SQL("t.{}").format(self._identifier(field.name))
        for step in field.path:
            key = step.key if isinstance(step.key, int) or self._literal else step.key.replace("%", "%%")
            arrow = sql.SQL("->>" if step.text else "->")
            found = sql.SQL("({} {} {})").format(found, arrow, sql.Literal(key))
        return found

    def _columns(self, query: Query) -> Composed:
        return sql.SQL(", ").join([sql.SQL("t.*") if one == "*" else self._selected(one) for one in query.selected])

    def _selected(self, one: Selected) -> Composed:
        column = self._field(one.field)
        if one.cast is not None:
            column = sql.SQL("{}::{}").format(column, sql.SQL(_type(one.cast)))
        return sql.SQL("{} as {}").format(column, self._identifier(one.alias or one.field.label))

    def _order(self, order: tuple[Ordered, ...]) -> Composed:
        if not order:
            return sql.SQL("")
        nulls: dict[str | None, LiteralString] = {None: "", "first": " nulls first", "last": " nulls last"}
        return sql.SQL(" order by ") + sql.SQL(", ").join(
            [
                self._field(one.field) + sql.SQL(" desc" if one.descending else " asc") + sql.SQL(nulls[one.nulls])
                for one in order
            ]
        )


def _type(cast: str) -> LiteralString:
    """The type that a cast names, from a list: so it may stand in SQL."""
    for name in _CASTS:
        if cast == name:
            return name
        if cast == f"{name}[]":
            return f"{name}[]"
    raise RestError(400, "PGRST100", f"A cast to {cast} is not supported by the local server")
