"""Postgres' order of values that a column keeps as text or JSON: for each type, a key that compares as Postgres does.

Each function raises ValueError for a text that is no value of the type.
"""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from typing import Any, cast

from ...protocol.moments import offset_seconds, parse_moment

OrderKey = Callable[[Any], Any]
"""From a value to something that compares with the others of its type as Postgres compares them."""

_UNITS = {
    "year": (12, 0, 0),
    "mon": (1, 0, 0),
    "month": (1, 0, 0),
    "week": (0, 7, 0),
    "day": (0, 1, 0),
    "hour": (0, 0, 3_600_000_000),
    "min": (0, 0, 60_000_000),
    "minute": (0, 0, 60_000_000),
    "sec": (0, 0, 1_000_000),
    "second": (0, 0, 1_000_000),
}
"""Months, days and microseconds of each unit."""
_SHORT = {"y": "year", "d": "day", "h": "hour", "m": "min", "s": "sec", "w": "week", "hr": "hour", "hrs": "hour"}
_ISO = {"Y": "year", "M": "mon", "W": "week", "D": "day"}, {"H": "hour", "M": "min", "S": "sec"}
_AMOUNT = re.compile(r"([+-]?\d+(?:\.\d*)?|[+-]?\.\d+)\s*([A-Za-z]+)", re.ASCII)
_CLOCK = re.compile(r"([+-])?(\d+):(\d\d)(?::(\d\d(?:\.\d+)?))?", re.ASCII)
_TIME = re.compile(r"(\d\d):(\d\d)(?::(\d\d)(?:\.(\d{1,6}))?)?", re.ASCII)
_TIMETZ = re.compile(rf"({_TIME.pattern})\s*(Z|[+-]\d\d(?::?\d\d){{0,2}})", re.ASCII)


def interval(value: Any) -> int:
    """Microseconds, a month being 30 days and a day 24 hours, as Postgres compares intervals."""
    text = str(value).strip()
    if text.lower() in ("infinity", "-infinity"):
        return 2**100 if text[0] != "-" else -(2**100)
    months = days = micros = Decimal(0)
    rest, found, direction = text.lstrip("@ "), False, 1
    if rest.endswith(" ago"):
        rest, direction = rest[:-4], -1
    if rest[:1] == "P":
        rest = _from_iso(rest)
    while rest := rest.strip():
        clock, amount = _CLOCK.match(rest), _AMOUNT.match(rest)
        if clock:
            sign, hours, minutes, seconds = clock.groups()
            span = (int(hours) * 3600 + int(minutes) * 60 + Decimal(seconds or 0)) * 1_000_000
            micros += -span if sign == "-" else span
            rest = rest[clock.end() :]
        elif amount:
            unit = amount[2].lower()
            unit = _SHORT.get(unit, unit.rstrip("s") if len(unit) > 1 else unit)
            if unit not in _UNITS:
                raise ValueError(f"{text!r} is no interval: write 3 days, 2 hours or 01:30:00")
            in_months, in_days, in_micros = _UNITS[unit]
            number = Decimal(amount[1])
            months, days, micros = months + number * in_months, days + number * in_days, micros + number * in_micros
            rest = rest[amount.end() :]
        else:
            raise ValueError(f"{text!r} is no interval: write 3 days, 2 hours or 01:30:00")
        found = True
    if not found:
        raise ValueError(f"{text!r} is no interval: write 3 days, 2 hours or 01:30:00")
    return direction * int((months * 30 + days) * 86_400_000_000 + micros)


def _from_iso(text: str) -> str:
    """`P1Y2DT3H` as `1 year 2 day 3 hour`."""
    date, _, time = text[1:].partition("T")
    parts: list[str] = []
    for body, names in zip((date, time), _ISO, strict=True):
        for number, unit in re.findall(r"([+-]?[\d.]+)([A-Z])", body):
            parts.append(f"{number} {names.get(unit, unit)}")
    return " ".join(parts)


def inet(value: Any) -> tuple[int, str, int]:
    """IPv4 before IPv6, then by network, the shorter prefix first, then by address."""
    found = ipaddress.ip_interface(str(value).strip())
    width = 32 if found.version == 4 else 128
    bits = format(int(found.ip), f"0{width}b")
    return found.version, bits[: found.network.prefixlen], int(found.ip)


def money(value: Any) -> int:
    """The amount in its smallest unit; how many digits that has is the same for a whole database."""
    text = str(value).strip()
    digits = "".join(character for character in text if character.isdecimal())
    if not digits:
        raise ValueError(f"{text!r} is no amount of money")
    return -int(digits) if "-" in text or text.startswith("(") else int(digits)


def money_operand(value: Any) -> int:
    """The amount that a person writes in a filter, where the cents may be left out."""
    number = re.sub(r"[^0-9.,()-]", "", str(value))
    last = max(number.rfind("."), number.rfind(","))
    cents = len(re.sub("[^0-9]", "", number[last:])) if last >= 0 else 0
    if not re.search("[0-9]", number):
        raise ValueError(f"{value!r} is no amount of money")
    return money(number + ("0" if cents == 1 else "" if cents == 2 else "00"))


def time(value: Any) -> int:
    """Microseconds since midnight."""
    found = _TIME.fullmatch(str(value).strip())
    if found is None:
        raise ValueError(f"{value!r} is no time: write 12:00:00")
    hour, minute, second, fraction = found.groups()
    seconds = int(hour) * 3600 + int(minute) * 60 + int(second or 0)
    return seconds * 1_000_000 + int((fraction or "").ljust(6, "0"))


def timetz(value: Any) -> tuple[int, int]:
    """The moment in UTC, then the zone, the eastern one first."""
    found = _TIMETZ.fullmatch(str(value).strip())
    if found is None:
        raise ValueError(f"{value!r} is no time with a zone: write 12:00:00+02")
    east = offset_seconds(found[6])
    return time(found[1]) - east * 1_000_000, -east


def number(value: Any) -> tuple[int, Any]:
    """NaN after every other number."""
    if value is None or isinstance(value, bool):
        raise ValueError(value)
    try:
        found = Decimal(str(value).strip().replace("_", ""))
    except InvalidOperation:
        raise ValueError(f"{value!r} is not a number") from None
    return (1, 0) if found.is_nan() else (0, found)


def whole(value: Any) -> int:
    return int(str(value).strip())


def lsn(value: Any) -> int:
    high, _, low = str(value).strip().partition("/")
    return (int(high, 16) << 32) + int(low, 16)


def blank_padded(value: Any) -> str:
    """`char(n)`: blanks at the end do not count."""
    return str(value).rstrip(" ")


def case_blind(value: Any) -> str:
    """`citext`."""
    return str(value).lower()


def truth(value: Any) -> bool:
    text = str(value).strip().lower()
    if text not in ("true", "false", "t", "f"):
        raise ValueError(f"{value!r} is neither true nor false")
    return text[0] == "t"


def moment(value: Any) -> int:
    found = parse_moment(str(value).strip('"'))
    micros = int(found.view("int64"))
    if micros == -(2**63):
        raise ValueError(f"{value!r} is no date or time")
    return micros


# -- arrays, ranges and jsonb ----------------------------------------------------------------------------------------


def array_of(element: OrderKey) -> OrderKey:
    """Element by element, null last; then the shorter one first; then by dimensions."""

    def key(value: Any) -> Any:
        if not isinstance(value, list):
            raise ValueError(f"{value!r} is no array")
        flat: list[Any] = []
        dimensions = _flatten(cast("list[Any]", value), flat)
        keys = tuple((item is None, 0 if item is None else element(item)) for item in flat)
        return keys, len(dimensions), dimensions

    return key


def _flatten(value: list[Any], into: list[Any]) -> tuple[int, ...]:
    if not value:
        return ()
    inner: tuple[int, ...] = ()
    for item in value:
        if isinstance(item, list):
            inner = _flatten(cast("list[Any]", item), into)
        else:
            into.append(item)
    return (len(value), *inner)


def array_operand(element: OrderKey) -> OrderKey:
    """A Postgres array literal of one dimension, as a person writes it in a filter: `{1,2,NULL}`."""
    key = array_of(element)

    def parse(value: Any) -> Any:
        text = str(value).strip()
        if not (text.startswith("{") and text.endswith("}")) or "{" in text[1:]:
            raise ValueError(f"{text!r} is no array: write {{1,2}}")
        parts = re.findall(r'"(?:[^"\\]|\\.)*"|[^,]+', text[1:-1])
        return key([_array_item(part.strip()) for part in parts])

    return parse


def _array_item(text: str) -> str | None:
    if text[:1] == '"':
        return re.sub(r"\\(.)", r"\1", text[1:-1])
    return None if text.upper() == "NULL" else text


_RANGE = re.compile(
    r'([\[(])("(?:[^"\\]|\\.|"")*"|[^,"\])]*),("(?:[^"\\]|\\.|"")*"|[^,"\])]*)([\])])',
)


def range_of(element: OrderKey) -> OrderKey:
    """The empty range first, then by the lower bound, then by the upper one."""

    def bound(text: str) -> Any:
        return element(text[1:-1].replace('""', '"') if text[:1] == '"' else text)

    def key(value: Any) -> Any:
        text = str(value).strip()
        if text.lower() == "empty":
            return (0,)
        found = _RANGE.fullmatch(text)
        if found is None:
            raise ValueError(f"{text!r} is no range: write [1,5)")
        opens, low, high, closes = found.groups()
        lower = (1, bound(low), opens == "(") if low else (0,)
        upper = (0, bound(high), closes == "]") if high else (1,)
        return 1, lower, upper

    return key


def multirange_of(element: OrderKey) -> OrderKey:
    """Range by range, then the shorter one first."""
    one = range_of(element)

    def key(value: Any) -> Any:
        text = str(value).strip()
        if not (text.startswith("{") and text.endswith("}")):
            raise ValueError(f"{text!r} is no multirange: write {{[1,5)}}")
        return tuple(one(part[0]) for part in re.finditer(_RANGE, text[1:-1]))

    return key


_NULL, _STRING, _NUMBER, _BOOL, _ARRAY, _OBJECT = range(6)


def jsonb(value: Any) -> tuple[Any, ...]:
    """Object > array > boolean > number > string > null; an empty array at the top comes before all of them."""
    return (-1,) if value == [] and isinstance(value, list) else _jsonb(value)


def _jsonb(value: Any) -> tuple[Any, ...]:
    if value is None:
        return (_NULL,)
    if isinstance(value, str):
        return _STRING, value
    if isinstance(value, bool):
        return _BOOL, value
    if isinstance(value, list):
        items = cast("list[Any]", value)
        return _ARRAY, len(items), tuple(map(_jsonb, items))
    if isinstance(value, dict):
        pairs = cast("dict[str, Any]", value)
        stored = sorted(pairs, key=lambda name: (len(name.encode()), name.encode()))  # as Postgres stores the keys
        return _OBJECT, len(stored), tuple((name, _jsonb(pairs[name])) for name in stored)
    return _NUMBER, value


def jsonb_operand(value: Any) -> tuple[Any, ...]:
    """The JSON that a person writes in a filter."""
    text = str(value)
    try:
        return jsonb(json.loads(text, parse_float=Decimal))
    except ValueError:
        raise ValueError(f'{text!r} is no JSON: write a text as "text"') from None
