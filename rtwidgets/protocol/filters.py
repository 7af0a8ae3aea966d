"""The filter of a change subscription: `column=op.value`, several joined by commas (all must hold).

Ops: eq neq lt lte gt gte in is like ilike match imatch isdistinct, each also as `not.op`. Older servers know eq neq lt
lte gt gte in alone, and one
condition. Source: Supabase Realtime v2.122.0 and the frames recorded from it. The local meaning is Postgres': a
comparison with NULL is unknown, and an
unknown row does not match, negated or not. Text is ordered by code point, whatever the database's collation.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal, InvalidOperation
from enum import Enum
from typing import Any, cast

import msgspec

from .errors import RealtimeError, make
from .regex import regular

OPS = ("eq", "neq", "lt", "lte", "gt", "gte", "in", "is", "like", "ilike", "match", "imatch", "isdistinct")
IN_MAX = 100
_IS = ("null", "true", "false", "unknown")

Predicate = Callable[[Mapping[str, Any]], bool]


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
        return f"{self.column}={'not.' if self.negated else ''}{self.op}.{shown}"


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
        """The same for PostgREST: query parameters, not yet percent-encoded."""
        found: list[tuple[str, str]] = []
        for condition in self.conditions:
            value = (
                condition.value
                if isinstance(condition.value, str)
                else f"({','.join(_quoted(item, always=True) for item in condition.value)})"
            )
            found.append((condition.column, f"{'not.' if condition.negated else ''}{condition.op}.{value}"))
        return found

    def compile(self, types: Mapping[str, str]) -> Predicate:
        """A function from a row (JSON values by column) to whether it matches.

        `types`: Postgres type names by column; a column that is not in them compares as text. Raises `RealtimeError`
        (`InvalidFilter`) where a value
        does not read as its column's type.
        """
        tests = [_test(condition, types.get(condition.column, "text")) for condition in self.conditions]
        return lambda row: all(test(row) for test in tests)


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
        column, equals, rest = part.partition("=")
        column = column.strip()
        if not equals:
            raise _bad(f"{part!r} has no '=': write column=op.value")
        _check_column(column)
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


def _check_column(column: str) -> None:
    if not column or any(mark in column for mark in ',="()'):
        raise _bad(f"{column!r} is not a column name that a filter can hold")


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


# --- what it means for a row -----------------------------------------------------------------------------------------

_NUMBERS = {"int2", "int4", "int8", "numeric", "float4", "float8", "oid", "money"}
_TIMES = {"timestamptz", "timestamp", "date"}


def _number(value: Any) -> Any:
    # Postgres puts NaN above every number and equal to itself; Decimal does not, so NaN gets a rank of its own.
    number = value if isinstance(value, Decimal) else Decimal(str(value))
    return (1, Decimal(0)) if number.is_nan() else (0, number)


_YEAR = re.compile(r"(\d{4,6})(-.*?)( BC)?$", re.S)
_CYCLE = timedelta(days=146_097)  # the calendar repeats every 400 years


def moment(value: Any) -> tuple[int, timedelta]:
    """A date or time as something that compares, years that Python's datetime does not know included. Without an
    offset it is in UTC. Raises `ValueError`.
    """
    text = str(value).strip()
    if text.lower() in ("infinity", "-infinity"):
        return (1 if text[0] != "-" else -1, timedelta())
    found = _YEAR.match(text)
    if found is None:
        raise ValueError(f"{text!r} is not a date")
    year = 1 - int(found[1]) if found[3] else int(found[1])
    cycles, within = divmod(year, 400)
    at = datetime.fromisoformat(f"{within + 2000:04}{found[2]}")
    return (0, (at if at.tzinfo else at.replace(tzinfo=UTC)) - _EPOCH + (cycles - 5) * _CYCLE)


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def _truth(value: Any) -> Any:
    if isinstance(value, bool):
        return value
    text = str(value).strip().lower()
    if text in ("t", "true", "y", "yes", "on", "1"):
        return True
    if text in ("f", "false", "n", "no", "off", "0"):
        return False
    raise ValueError(f"{value!r} is not a boolean")


def _as_text(value: Any) -> Any:
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if isinstance(value, str) else str(value)


def _unpadded(value: Any) -> Any:
    # Blanks at its end do not count in char(n).
    return str(value).rstrip(" ")


def _lower(value: Any) -> Any:
    return str(value).lower()


def _reader(kind: str) -> Callable[[Any], Any]:
    if kind in _NUMBERS:
        return _number
    if kind in _TIMES:
        return moment
    if kind == "bool":
        return _truth
    if kind == "bpchar":
        return _unpadded
    return _lower if kind == "uuid" else _as_text


def like(pattern: str, flags: int) -> re.Pattern[str]:
    """A pattern of `like` as a regular expression, for `fullmatch`."""
    pieces: list[str] = [""]
    escaped = False
    for char in pattern:
        if escaped:
            pieces[-1] += re.escape(char)
            escaped = False
        elif char == "\\":
            escaped = True
        elif char == "%":
            pieces.append("")
        else:
            pieces[-1] += "." if char == "_" else re.escape(char)
    first, *rest = pieces
    # What stands between two % matches best where it first occurs: atomic, so that no pattern takes for ever.
    middle = "".join(f"(?>.*?{piece})" for piece in rest[:-1])
    return re.compile(first + middle + (f".*{rest[-1]}" if rest else ""), re.S | flags)


def _test(condition: Condition, kind: str) -> Predicate:
    column, op, negated = condition.column, condition.op, condition.negated
    if op == "is":
        return _is(column, str(condition.value), negated)
    read = _reader(kind)
    holds: Callable[[Any], bool]
    try:
        if op == "in":
            # Numbers and moments are compared as values, so 1 and 1.0 are the same.
            members = {read(item) for item in condition.value}
            holds = lambda value: read(value) in members  # noqa: E731
        elif op in ("like", "ilike"):
            pattern = like(str(condition.value), re.I if op == "ilike" else 0)
            holds = lambda value: pattern.fullmatch(_as_text(value)) is not None  # noqa: E731
        elif op in ("match", "imatch"):
            regex = regular(str(condition.value), ignore_case=op == "imatch")
            holds = lambda value: regex.search(_as_text(value)) is not None  # noqa: E731
        else:
            holds = _compare(op, read, read(condition.value))
    except (ValueError, InvalidOperation, re.error) as error:
        raise _bad(f"{condition}: {condition.value!r} does not read as {kind} ({error})") from None

    def test(row: Mapping[str, Any]) -> bool:
        value = row.get(column)
        if value is None:
            return op == "isdistinct" and not negated
        try:
            return holds(value) is not negated
        except (ValueError, TypeError, InvalidOperation):
            return False

    return test


def _compare(op: str, read: Callable[[Any], Any], wanted: Any) -> Callable[[Any], bool]:
    if op == "eq":
        return lambda value: read(value) == wanted
    if op in ("neq", "isdistinct"):
        return lambda value: read(value) != wanted
    if op == "lt":
        return lambda value: read(value) < wanted
    if op == "lte":
        return lambda value: read(value) <= wanted
    if op == "gt":
        return lambda value: read(value) > wanted
    return lambda value: read(value) >= wanted


def _is(column: str, wanted: str, negated: bool) -> Predicate:
    if wanted in ("null", "unknown"):
        return lambda row: (row.get(column) is None) is not negated

    def test(row: Mapping[str, Any]) -> bool:
        value = row.get(column)
        try:
            same = value is not None and _truth(value) is (wanted == "true")
        except ValueError:
            return False
        return same is not negated

    return test
