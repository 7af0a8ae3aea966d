"""Evaluates a filter on a row without Postgres; `None` where only Postgres can decide.

A table reads its rows through Postgres and judges each change here. Where the two differed, rows would come and go as
they are read or changed, so whatever only Postgres knows (how `inet` compares, what `today` means, a regular expression
in its own dialect) is left to it: the row is then read again by key, with the filter. The local server asks the same of
the rows in the log, and Postgres where only it knows.
"""

from __future__ import annotations

import re
import struct
import uuid
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from .filters import Condition, Filter
from .patterns import compile_like, compile_regex

Verdict = Callable[[Mapping[str, Any]], bool | None]
Reader = Callable[[Any], Any]
"""Makes of a value something that compares as Postgres does; raises ValueError where it cannot."""

_NULL_IS_TWO = frozenset(["float4", "float8", "numeric", "json", "jsonb"])
"""Types of which a null on the wire may be a value: NaN or an infinity of a number, null of JSON."""
_LONGEST_NUMBER = 1000
"""Characters of a number that is compared here: longer ones take long to convert."""
_COLLATED = frozenset(["text", "varchar", "bpchar", "name"])
_WHOLE = re.compile(r"[+-]?\d+")
_DECIMAL = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)(e[+-]?\d+)?|nan|[+-]?inf(inity)?", re.I)
_UUID = re.compile(r"[0-9a-f]{8}(-?)[0-9a-f]{4}\1[0-9a-f]{4}\1[0-9a-f]{4}\1[0-9a-f]{12}", re.I)
_DATE = r"\d{4,6}-\d\d-\d\d"
_TIME = r"[T ]\d\d:\d\d(:\d\d(\.\d{1,6})?)?"
_TIMES = {
    "date": re.compile(rf"({_DATE})( BC)?|-?infinity"),
    "timestamp": re.compile(rf"({_DATE})({_TIME})?( BC)?|-?infinity"),
    # A time without an offset is in the session's zone, which we do not know.
    "timestamptz": re.compile(rf"({_DATE}){_TIME}(Z|[+-]\d\d(:?\d\d)?)( BC)?|-?infinity"),
}


def judge(
    wanted: Filter,
    types: Mapping[str, str],
    labels: Mapping[str, Sequence[str]] | None = None,
    collated: Collection[str] = (),
    *,
    logged: bool = False,
) -> Verdict:
    """A function from a row (JSON values by column) to whether it matches; None where only Postgres can tell.

    `types`: Postgres type names by column, of domains their base types. `labels`: an enum's labels in order, by its
    name. `collated`: columns that Postgres does not sort by code point. `logged`: the rows are those of Postgres' log,
    values as it writes them, where a null is one.
    """
    tests = [
        _verdict(condition, types.get(condition.column, ""), labels or {}, condition.column in collated, logged)
        for condition in wanted.conditions
    ]

    def verdict(row: Mapping[str, Any]) -> bool | None:
        found: bool | None = True
        for test in tests:
            one = test(row)
            if one is False:
                return False
            if one is None:
                found = None
        return found

    return verdict


def _whole(value: Any) -> int:
    text = str(value).strip()
    if len(text) > _LONGEST_NUMBER or not _WHOLE.fullmatch(text):
        raise ValueError(text)
    return int(text)


def _decimal(value: Any) -> Any:
    text = str(value).strip()
    if len(text) > _LONGEST_NUMBER or not _DECIMAL.fullmatch(text):
        raise ValueError(text)
    number = Decimal(text)
    # Postgres puts NaN above every number and equal to itself.
    return (1, Decimal(0)) if number.is_nan() else (0, number)


def _float8(value: Any) -> Any:
    rank, number = _decimal(value)
    return rank, float(number)


def _float4(value: Any) -> Any:
    rank, number = _float8(value)
    try:
        return rank, struct.unpack("f", struct.pack("f", number))[0]
    except OverflowError:
        raise ValueError(value) from None


def _truth(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    text = str(value).strip().lower()
    if text not in ("true", "false", "t", "f"):
        raise ValueError(text)
    return text[0] == "t"


def _uuid(value: Any) -> str:
    text = str(value).strip()
    if not _UUID.fullmatch(text):
        raise ValueError(text)
    return uuid.UUID(text).hex


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(value)
    return value


_YEAR = re.compile(r"(\d{4,6})(-.*?)( BC)?$", re.S)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_CYCLE = timedelta(days=146_097)  # the calendar repeats every 400 years


def _moment(value: Any) -> tuple[int, timedelta]:
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


def _time(kind: str) -> Reader:
    pattern = _TIMES[kind]

    def read(value: Any) -> Any:
        text = str(value).strip()
        if not pattern.fullmatch(text):
            raise ValueError(text)
        return _moment(text)

    return read


def _label(labels: Sequence[str]) -> Reader:
    places = {label: place for place, label in enumerate(labels)}

    def read(value: Any) -> int:
        if value not in places:
            raise ValueError(value)
        return places[value]

    return read


_READERS: dict[str, Reader] = {
    **dict.fromkeys(("int2", "int4", "int8", "oid"), _whole),
    **{kind: _time(kind) for kind in _TIMES},
    **dict.fromkeys(("text", "varchar", "name"), _text),
    "numeric": _decimal,
    "float8": _float8,
    "float4": _float4,
    "bool": _truth,
    "uuid": _uuid,
    "bpchar": lambda value: _text(value).rstrip(" "),  # blanks at its end do not count
}


def _verdict(
    condition: Condition, kind: str, labels: Mapping[str, Sequence[str]], collated: bool, logged: bool
) -> Verdict:
    column, op, negated = condition.column, condition.op, condition.negated
    maybe_value = kind in _NULL_IS_TWO and not logged
    null = None if maybe_value else op == "isdistinct" and not negated
    matches = _value_test(condition, kind, labels, collated)

    def test(row: Mapping[str, Any]) -> bool | None:
        if column not in row:
            return None
        value = row[column]
        if op == "is":
            found = _is(value, kind, str(condition.value), maybe_value)
        elif value is None:
            return null
        else:
            found = matches(value)
        return None if found is None else found is not negated

    return test


def _is(value: Any, kind: str, wanted: str, maybe_value: bool) -> bool | None:
    if value is None:
        return None if maybe_value else wanted in ("null", "unknown")
    if wanted in ("null", "unknown"):
        return False
    return _truth(value) is (wanted == "true") if kind == "bool" else None


def _unknown(value: Any) -> None:
    return None


def _value_test(
    condition: Condition, kind: str, labels: Mapping[str, Sequence[str]], collated: bool
) -> Callable[[Any], bool | None]:
    """Whether a value that is not null meets the condition, before negation."""
    op = condition.op
    if op in ("like", "ilike", "match", "imatch"):
        return _pattern(op, str(condition.value)) if kind in ("text", "varchar") else _unknown
    if op == "is":
        return _unknown
    read = _label(labels[kind]) if kind in labels else _READERS.get(kind)
    if read is None:
        return _same(condition)
    if collated and kind in _COLLATED and op not in ("eq", "neq", "in", "isdistinct"):
        return _unknown
    try:
        wanted: Any = {read(item) for item in condition.value} if op == "in" else read(condition.value)
    except ValueError:
        return _unknown
    compare = _COMPARE[op]

    def matches(value: Any) -> bool | None:
        try:
            return compare(read(value), wanted)
        except ValueError:
            return None

    return matches


_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "eq": lambda value, wanted: value == wanted,
    "neq": lambda value, wanted: value != wanted,
    "isdistinct": lambda value, wanted: value != wanted,
    "in": lambda value, wanted: value in wanted,
    "lt": lambda value, wanted: value < wanted,
    "lte": lambda value, wanted: value <= wanted,
    "gt": lambda value, wanted: value > wanted,
    "gte": lambda value, wanted: value >= wanted,
}


def _same(condition: Condition) -> Callable[[Any], bool | None]:
    """Of a type that we know nothing of: what is written alike is equal, and of all else nothing is known."""
    op = condition.op
    if op not in ("eq", "neq", "in", "isdistinct"):
        return _unknown
    members = condition.value if op == "in" else (condition.value,)
    return lambda value: op in ("eq", "in") if isinstance(value, str) and value in members else None


def _pattern(op: str, pattern: str) -> Callable[[Any], bool | None]:
    compiled = (compile_like if op.endswith("like") else compile_regex)(pattern, ignore_case=op.startswith("i"))
    if compiled is None:
        return _unknown
    return lambda value: compiled(value) if isinstance(value, str) else None
