"""What a person writes in the search box and the filters of a grid, as tests of a column's values.

| written | passes |
|---|---|
| `text`, `"text"` | contains it, in any case; quotation marks keep signs and words literal |
| `=x` `==x` · `!x` `!=x` `<>x` | is x (of a time: begins so) · is not x |
| `>5` `>=5` `<5` `<=5` · `between 5 and 9` | compares so, in Postgres' order of the type |
| `in (a, b)` · `not in (a, b)` · `a | b` | is one of these · is none of these · meets one of these conditions |
| `null` `is null` `=null` · `not null` `is not null` `!null` | is null · is not null |
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd

from ..protocol.moments import FIRST, LAST
from .column_kinds import Array, ColumnKind, Test, kind_of
from .kinds.objects import JsonKind

Make = Callable[[ColumnKind, str], Test]

_COMPARING = (">=", "<=", ">", "<")
_EQUAL, _DIFFERENT = ("==", "="), ("!=", "<>", "!")
_SIGNS = (*_DIFFERENT[:2], *_COMPARING[:2], "==", *_COMPARING[2:], "=", "!")
_NULL = re.compile(r"(?:(?:is|=|==)\s*)?null", re.IGNORECASE)
_NOT_NULL = re.compile(r"(?:is\s+not|not|!=|<>|!)\s*null", re.IGNORECASE)
_IN = re.compile(r"(not\s+)?in\s*\((.*)\)", re.IGNORECASE | re.DOTALL)
_BETWEEN = re.compile(r"between\s+(.+?)\s+and\s+(.+)", re.IGNORECASE | re.DOTALL)
_ITEM = re.compile(r'\s*(?:"((?:[^"]|"")*)"|([^,"]*?))\s*(?:,|$)')
_WORD = re.compile(r'"([^"]+)"(?=\s|$)|(\S+)')
_TIME_MARK = re.compile(r"(?<=\d)t")
_OFFSET = re.compile(r"\d(?:Z|[+-]\d\d(?::?\d\d)?)$", re.IGNORECASE)


def words_of(search: str) -> list[str]:
    """The words of a search, in small letters; what stands in quotation marks is one word."""
    return [(found[1] or found[2]).casefold() for found in _WORD.finditer(search)]


def contains(kind: ColumnKind, word: str, zone: ZoneInfo | None = None) -> Test:
    """Whether a value's text contains the word, in any case."""
    return _in_zone(_contains, kind, word, zone)


def filter_test(kind: ColumnKind, text: str, zone: ZoneInfo | None = None) -> Test:
    """The test that a filter of a column stands for. Raises ValueError where it makes no sense for the column."""
    return _any([_condition(kind, part.strip(), zone) for part in _alternatives(text)])


def _alternatives(text: str) -> list[str]:
    """The parts between `|`, where there are any: one within quotation marks or brackets stands for itself."""
    parts, depth, quoted, start = list[str](), 0, False, 0
    for i, letter in enumerate(text):
        if letter == '"':
            quoted = not quoted
        elif not quoted and letter in "([{":
            depth += 1
        elif not quoted and letter in ")]}":
            depth -= 1
        elif letter == "|" and not quoted and depth <= 0:
            parts.append(text[start:i])
            start = i + 1
    parts.append(text[start:])
    return parts if len(parts) > 1 and all(part.strip() for part in parts) else [text]


def _condition(kind: ColumnKind, text: str, zone: ZoneInfo | None) -> Test:
    if _NULL.fullmatch(text):
        return kind.nulls
    if _NOT_NULL.fullmatch(text):
        return _not(kind.nulls)
    found = _IN.fullmatch(text)
    if found is not None:
        test = _any([_in_zone(_equals, kind, item, zone) for item in _items(found[2])])
        return _not(test) if found[1] else test
    found = _BETWEEN.fullmatch(text)
    if found is not None:
        low, high = (_literal(kind, operand) for operand in (found[1], found[2]))
        return _both(_in_zone(_compares(">="), kind, low, zone), _in_zone(_compares("<="), kind, high, zone))
    sign = next((sign for sign in _SIGNS if text.startswith(sign)), "")
    operand = text[len(sign) :].strip()
    if not sign:
        return contains(kind, _literal(kind, text).casefold(), zone)
    if not operand:
        raise ValueError(f"nothing stands after {sign}")
    operand = _literal(kind, operand)
    if sign in _COMPARING:
        return _in_zone(_compares(sign), kind, operand, zone)
    test = _in_zone(_equals, kind, operand, zone)
    return test if sign in _EQUAL else _not(test)


def _items(text: str) -> list[str]:
    """The values of a list, separated by commas."""
    found = [match for match in _ITEM.finditer(text) if match[0]]
    values = [match[2] if match[1] is None else match[1].replace('""', '"') for match in found]
    if not values or sum(len(match[0]) for match in found) != len(text):
        raise ValueError(f"({text}) is no list: write in (a, b), and a value with a comma in quotation marks")
    return values


def _literal(kind: ColumnKind, operand: str) -> str:
    """The operand without the quotation marks that keep it literal; to JSON these are part of the value."""
    quoted = len(operand) > 1 and operand[0] == operand[-1] == '"'
    return operand[1:-1] if quoted and not isinstance(kind, JsonKind) else operand


def _equals(kind: ColumnKind, operand: str) -> Test:
    return kind.equals(operand)


def _compares(sign: str) -> Make:
    return lambda kind, operand: kind.compares(sign, operand)


def _contains(kind: ColumnKind, word: str) -> Test:
    # A name is in no number and no time: most columns need no look at all.
    if not kind.may_contain(frozenset(word)):
        return lambda data, mask: np.zeros(len(data), dtype=bool)
    wanted = _TIME_MARK.sub(" ", word) if kind.time else word

    def test(data: Array, mask: Array | None) -> Array:
        texts = kind.to_text(data, mask)
        return np.array([text is not None and wanted in text.casefold() for text in texts], dtype=bool)

    return test


# -- combinations -----------------------------------------------------------------------------------------------------


def _not(test: Test) -> Test:
    return lambda data, mask: ~test(data, mask)


def _both(one: Test, other: Test) -> Test:
    return lambda data, mask: one(data, mask) & other(data, mask)


def _any(tests: Sequence[Test]) -> Test:
    if len(tests) == 1:
        return tests[0]

    def test(data: Array, mask: Array | None) -> Array:
        found = np.zeros(len(data), dtype=bool)
        for one in tests:
            found |= one(data, mask)
        return found

    return test


# -- zones ------------------------------------------------------------------------------------------------------------


def _in_zone(make: Make, kind: ColumnKind, operand: str, zone: ZoneInfo | None) -> Test:
    """The test of moments as a clock in the zone shows them; what names its own offset means that moment."""
    if zone is None or kind.name != "timestamptz" or _OFFSET.search(operand):
        return make(kind, operand)
    test = make(_WALL, operand)
    return lambda data, mask: test(wall_times(data, zone), mask)


_WALL = kind_of("timestamp")


def wall_times(data: Array, zone: ZoneInfo) -> Array:
    """What a clock in the zone shows at these moments in UTC; infinities and years that no calendar of Python has
    stay as they are."""
    within = (data >= FIRST + np.timedelta64(1, "D")) & (
        data <= LAST - np.timedelta64(1, "D")
    )  # nothing compares with NaT
    found = data.copy()
    local = pd.DatetimeIndex(data[within]).tz_localize("UTC").tz_convert(zone).tz_localize(None)
    found[within] = local.to_numpy().astype("datetime64[us]")
    return found


def zone_named(name: str) -> ZoneInfo | None:
    """The time zone, or None where this machine does not know it."""
    try:
        return ZoneInfo(name) if name else None
    except (KeyError, ValueError, OSError):
        return None
