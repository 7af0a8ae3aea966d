"""Dates and timestamps as microseconds: from the texts that Postgres writes, and back.

`datetime64[us]` ends in the year 294,246, 30 years before a Postgres timestamp does: what is later counts as
`infinity`. That and `-infinity` are the greatest and the least number of microseconds, as in Postgres itself.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]

NAT = np.datetime64("NaT", "us")
FOREVER = np.datetime64(2**63 - 1, "us")
"""`infinity`."""
NEVER = np.datetime64(-(2**63) + 1, "us")
"""`-infinity`; one less is NaT."""
FIRST = np.datetime64("0001-01-01T00:00:00", "us")
LAST = np.datetime64("9999-12-31T23:59:59.999999", "us")
"""The first and the last moment that Python's datetime, and so a cell of a DataFrame, can show."""

_DAY = 86_400_000_000
_FIRST_MICROS = int(FIRST.view("int64"))
_SPAN = np.uint64(int(LAST.view("int64")) - _FIRST_MICROS)
_PARTS = re.compile(
    r"(?P<year>\d{4,7})-(?P<month>\d\d)-(?P<day>\d\d)"
    r"(?:[T ](?P<hour>\d\d):(?P<minute>\d\d)(?::(?P<second>\d\d)(?:\.(?P<fraction>\d{1,9}))?)?)?"
    r"(?P<zone>Z|[+-]\d\d(?::?\d\d){0,2})?(?P<bc> BC)?",
    re.ASCII,
)


def parse_moment(value: Any) -> np.datetime64:
    """One date or timestamp, in UTC where it has an offset; NaT for None and for what is no date."""
    if value is None:
        return NAT
    text = str(value).strip()
    if len(text) < 33 and text[4:5] == "-" and text[-3:] != " BC":
        try:
            moment = datetime.fromisoformat(text)
        except ValueError:
            return _parse_odd(text)
        if moment.tzinfo is not None:
            try:
                moment = moment.astimezone(UTC)
            except OverflowError:
                return _parse_odd(text)
        return np.datetime64(moment.replace(tzinfo=None), "us")
    return _parse_odd(text)


def _parse_odd(text: str) -> np.datetime64:
    """Infinity, years before Christ and years of five digits or more."""
    word = text.lower()
    if word in ("infinity", "+infinity"):
        return FOREVER
    if word == "-infinity":
        return NEVER
    found = _PARTS.fullmatch(text)
    if found is None:
        return NAT
    year = int(found["year"])
    if found["bc"]:
        year = 1 - year
    elif year == 0:
        return NAT
    try:
        # The days of a year and month are the same 400 years later, where datetime can check them.
        within = datetime(year % 400 + 400, int(found["month"]), int(found["day"]))
        days = within.toordinal() - datetime(1970, 1, 1).toordinal() + (year - year % 400 - 400) // 400 * 146_097
        time = timedelta(
            hours=int(found["hour"] or 0), minutes=int(found["minute"] or 0), seconds=int(found["second"] or 0)
        )
    except ValueError:
        return NAT
    micros = days * _DAY + time // timedelta(microseconds=1) + int((found["fraction"] or "0").ljust(6, "0")[:6])
    micros -= offset_seconds(found["zone"] or "Z") * 1_000_000
    if not -(2**63) + 1 < micros < 2**63 - 1:  # a date may be later than any timestamp
        return FOREVER if micros > 0 else NEVER
    return np.datetime64(micros, "us")


def offset_seconds(zone: str) -> int:
    """Seconds east of UTC of `Z`, `+02`, `-05:30` or `+05:30:15`."""
    if zone == "Z":
        return 0
    digits = zone[1:].replace(":", "").ljust(6, "0")
    seconds = int(digits[:2]) * 3600 + int(digits[2:4]) * 60 + int(digits[4:6])
    return -seconds if zone[0] == "-" else seconds


def parse_moments(values: Sequence[Any]) -> Array:
    """Many at once: in C where every value is in UTC, or every one without an offset."""
    nulls = list(values).count(None)
    first = next((v for v in values if v is not None), "")
    try:
        offset = "+00:00" if first[-6:] == "+00:00" else ""
        text = "|".join(["NaT" + offset if v is None else v for v in values] if nulls else values) + "|"
        plain = text.split(offset + "|")[:-1]
        # Other offsets, Z, BC, infinity, blanks and years of five digits go the slow way: numpy would misread them or
        # refuse.
        short = {v[4:5] for v in plain} <= {"-", ""}  # of NaT the latter
        signs = text.count("+"), text.count("-")
        usual = len(values) if offset else 0, 2 * (len(values) - nulls)
        if short and len(plain) == len(values) and signs == usual and "Z" not in text and " " not in text:
            return np.array(plain, dtype="datetime64[us]")
    except (ValueError, TypeError):
        pass
    return np.array([parse_moment(v) for v in values], dtype="datetime64[us]")


def render_moments(data: Array, *, date: bool, offset: str) -> list[str | None]:
    """As a change message writes them: ISO 8601, years before Christ with ` BC`, null as None."""
    if in_datetime_range(data):
        found: list[datetime | None] = data.astype("datetime64[us]").tolist()
        if date:
            return [None if v is None else v.date().isoformat() for v in found]
        return [None if v is None else v.isoformat() + offset for v in found]
    return [_render(value, date=date, offset=offset) for value in data.astype("datetime64[us]")]


def _render(value: np.datetime64, *, date: bool, offset: str) -> str | None:
    if np.isnat(value):
        return None
    if value == FOREVER:
        return "infinity"
    if value == NEVER:
        return "-infinity"
    text = str(value)  # numpy counts a year 0, and writes the year before it as -0001
    head, _, time = text.partition("T")
    year, month, day = head.rsplit("-", 2)
    number = int(year)
    shown = f"{number if number > 0 else 1 - number:04d}-{month}-{day}"
    if not date:
        shown += "T" + time.removesuffix(".000000") + offset
    return shown if number > 0 else shown + " BC"


def in_datetime_range(data: Array) -> bool:
    """Whether Python's datetime can hold every value."""
    # As unsigned numbers, what comes before the first moment (and NaT) is past the last one, too.
    outside = (data.view("int64") - _FIRST_MICROS).view("uint64") > _SPAN
    return not outside.any() or bool(np.isnat(data[outside]).all())


def clamp(data: Array) -> Array:
    """A copy in which what datetime cannot hold is the first or the last moment that it can."""
    return np.clip(data, FIRST, LAST)


def lag_ms(commit_timestamp: str | None, now: datetime) -> float | None:
    """Milliseconds from a commit to `now` (in UTC); never negative, since two clocks may disagree."""
    moment = parse_moment(commit_timestamp)
    if np.isnat(moment):
        return None
    then = cast(datetime, moment.astype(object)).replace(tzinfo=UTC)
    return max((now - then) / timedelta(milliseconds=1), 0.0)
