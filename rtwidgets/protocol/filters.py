"""The filter of a change subscription: `column=op.value`, several joined by commas (all must hold).

A column whose name holds any of `, = " ( )`, or begins or ends with a blank, stands in double quotes, where a backslash
escapes; Supabase's own server cannot read such a filter, the local server can.

Operators: eq neq lt lte gt gte in is like ilike match imatch isdistinct, each also as `not.op`. Older servers know eq
neq lt lte gt gte in alone, and one condition. What a filter means for a row is in `filter_eval`.

Source: Supabase Realtime v2.122.0 and the frames recorded from it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import date, time, timedelta
from enum import Enum
from typing import Any, cast

import msgspec

from .errors import RealtimeError, make

OPS = ("eq", "neq", "lt", "lte", "gt", "gte", "in", "is", "like", "ilike", "match", "imatch", "isdistinct")
IN_MAX = 100
_IS = ("null", "true", "false", "unknown")


def _bad(text: str) -> RealtimeError:
    return make("InvalidFilter", text)


class Condition(msgspec.Struct, frozen=True):
    """One condition. `value` is text as Postgres reads it, or a tuple of such for `in`."""

    column: str
    op: str
    value: str | tuple[str, ...]
    negated: bool = False

    def __str__(self) -> str:
        value = self.value if isinstance(self.value, str) else f"({','.join(_quoted(item) for item in self.value)})"
        shown = _quoted(value) if isinstance(self.value, str) else value
        column = _quoted(self.column, always="=" in self.column)
        return f"{column}={'not.' if self.negated else ''}{self.op}.{shown}"


class Filter(msgspec.Struct, frozen=True):
    """Conditions that must all hold; none: every row matches. `a & b` joins two."""

    conditions: tuple[Condition, ...] = ()

    def __str__(self) -> str:
        return ",".join(str(condition) for condition in self.conditions)

    def __and__(self, other: Filter) -> Filter:
        return Filter(self.conditions + other.conditions)

    @property
    def columns(self) -> frozenset[str]:
        """The columns that it looks at."""
        return frozenset(condition.column for condition in self.conditions)

    def rest(self) -> list[tuple[str, str]]:
        """The same for PostgREST: query parameters, not yet percent-encoded.

        PostgREST reads `*` in `like` and `ilike` as `%`, and has no way to write a literal `*` there, so such a pattern
        is sent as the regular expression that matches the same.
        """
        found: list[tuple[str, str]] = []
        for condition in map(_without_star, self.conditions):
            value = (
                condition.value
                if isinstance(condition.value, str)
                else f"({','.join(_quoted(item, always=True) for item in condition.value)})"
            )
            found.append((condition.column, f"{'not.' if condition.negated else ''}{condition.op}.{value}"))
        return found


def _without_star(condition: Condition) -> Condition:
    pattern = condition.value
    if condition.op not in ("like", "ilike") or not isinstance(pattern, str) or "*" not in pattern:
        return condition
    parts: list[str] = []
    characters = iter(pattern)
    for character in characters:
        if character == "%":
            parts.append(".*")
        elif character == "_":
            parts.append(".")
        else:
            literal = next(characters, "\\") if character == "\\" else character
            parts.append(literal if literal.isalnum() or literal.isspace() else f"\\{literal}")
    op = "match" if condition.op == "like" else "imatch"
    return Condition(condition.column, op, f"^{''.join(parts)}$", condition.negated)


def where(column: str, op: str, value: Any, *, negated: bool = False) -> Filter:
    """A filter of one condition from Python values (numbers, text, bool, bytes, dates, members of an Enum; None for
    `is`, a list for `in`), quoted as needed. Raises `RealtimeError`.
    """
    if op not in OPS:
        raise _bad(f"unknown operator {op!r}: use one of {', '.join(OPS)}")
    _check_column(column)
    if op == "in":
        if isinstance(value, str | bytes | Mapping) or not isinstance(value, Iterable):
            raise _bad(f"in takes a list of values, not {value!r}")
        items = tuple(_plain(item, column, op) for item in cast("Iterable[Any]", value))
        return _checked(Condition(column, op, items, negated))
    return _checked(Condition(column, op, _plain(value, column, op), negated))


def parse(text: str | Filter | None) -> Filter:
    """Reads a filter as Supabase writes it. Raises `RealtimeError` (`InvalidFilter`) with what is wrong."""
    if isinstance(text, Filter):
        return text
    if text is None or not text.strip():
        return Filter()
    found: list[Condition] = []
    for part in _split(text):
        column, rest = _column(part)
        negated = rest.startswith("not.")
        op, dot, value = (rest[4:] if negated else rest).partition(".")
        if not dot or op not in OPS:
            raise _bad(f"{rest!r} does not begin with an operator: use one of {', '.join(name + '.' for name in OPS)}")
        if op == "in":
            if not (value.startswith("(") and value.endswith(")")):
                raise _bad(f"in takes a list in parentheses, as in {column}=in.(a,b)")
            items = (
                tuple(_unquoted(item.strip()) for item in _split(value[1:-1], parens=False))
                if value[1:-1].strip()
                else ()
            )
            found += _checked(Condition(column, op, items, negated)).conditions
        else:
            found += _checked(Condition(column, op, _unquoted(value), negated)).conditions
    return Filter(tuple(found))


def _checked(condition: Condition) -> Filter:
    if condition.op == "is":
        value = str(condition.value).lower()
        if value not in _IS:
            raise _bad(f"is takes null, true, false or unknown, not {condition.value!r}")
        condition = Condition(condition.column, "is", value, condition.negated)
    if condition.op == "in" and not 1 <= len(condition.value) <= IN_MAX:
        raise _bad(f"in takes 1 to {IN_MAX} values, not {len(condition.value)}")
    return Filter((condition,))


def _check_column(column: object) -> None:
    if not isinstance(column, str) or not column:
        raise _bad(f"{column!r} is not the name of a column")


# Possessive: a long text that is no condition takes linear time.
_NAMED = re.compile(r"""\s*+(?:"((?:[^"\\]|\\.)*+)"\s*+|([^="()]*+))=""", re.S)


def _column(part: str) -> tuple[str, str]:
    """The column that a condition names, and what follows the `=`."""
    found = _NAMED.match(part)
    if found is None:
        if "=" not in part:
            raise _bad(f"{part!r} has no '=': write column=op.value")
        name = part.partition("=")[0].strip()
        raise _bad(f"{name!r} is not a column name that stands alone: write it in double quotes")
    column = found[2].rstrip() if found[1] is None else re.sub(r"\\(.)", r"\1", found[1], flags=re.S)
    _check_column(column)
    return column, part[found.end() :]


def _plain(value: Any, column: str, op: str) -> str:
    """A value as Postgres reads it."""
    if isinstance(value, Enum):
        value = value.value
    if value is None:
        if op != "is":
            raise _bad(f"{op} with None matches no row, as NULL in SQL: use where({column!r}, 'is', None)")
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, date | time):
        return value.isoformat()
    if isinstance(value, timedelta):
        return f"{value.days} days {value.seconds}.{value.microseconds:06} seconds"
    if isinstance(value, bytes):
        return "\\x" + value.hex()
    if isinstance(value, Mapping | list | tuple | set | frozenset):
        raise _bad(f"{op} takes one value, not {value!r}: use 'in' for a list")
    return str(value)


_QUOTE = re.compile(r'[,()"\\]|^\s|\s$|^$')


def _quoted(text: str, *, always: bool = False) -> str:
    if always or _QUOTE.search(text):
        return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return text


def _unquoted(text: str) -> str:
    if len(text) >= 2 and text[0] == '"' and text[-1] == '"':
        return re.sub(r"\\(.)", r"\1", text[1:-1], flags=re.S)
    return text


def _split(text: str, *, parens: bool = True) -> list[str]:
    """Splits on commas outside quotes (and parentheses)."""
    parts: list[str] = []
    start = depth = 0
    quoted = escaped = False
    for at, char in enumerate(text):
        if escaped:
            escaped = False
        elif quoted:
            escaped, quoted = char == "\\", char != '"'
        elif char == '"':
            quoted = True
        elif char == "(" and parens:
            depth += 1
        elif char == ")" and parens:
            depth -= 1
        elif char == "," and depth <= 0:
            parts.append(text[start:at])
            start = at + 1
    if quoted or depth > 0:
        raise _bad(f"a quote or a parenthesis in {text!r} is not closed")
    parts.append(text[start:])
    return parts
