"""Postgres types as columns: one kind for each type, by the declared type alone, so a dtype never flips with the data.

Values come as JSON gave them, from a change message or from PostgREST. Two differences between those matter: `bytea` is
bare hex in a change and `\\x` hex from PostgREST, and a float's NaN arrives as null in a change.

`infinity` and `-infinity` in dates and timestamps become the last and the first moment that Python's datetime can hold
(9999-12-31T23:59:59.999999 and 0001-01-01), as do years outside that range: so they still sort and compare rightly,
where NaT would say "unknown". They are written as `infinity` and `-infinity` again on the way to the browser.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any, Literal, cast

import numpy as np
import pandas as pd

Kind = Literal[
    "int16", "int32", "int64", "float", "decimal", "bool", "timestamptz", "timestamp", "date", "text", "bytes", "json"
]
Array = np.ndarray[Any, np.dtype[Any]]

_KINDS: dict[str, Kind] = {
    "int2": "int16",
    "smallint": "int16",
    "smallserial": "int16",
    "int4": "int32",
    "integer": "int32",
    "int": "int32",
    "serial": "int32",
    "int8": "int64",
    "bigint": "int64",
    "bigserial": "int64",
    "oid": "int64",
    "float4": "float",
    "real": "float",
    "float8": "float",
    "double precision": "float",
    "numeric": "decimal",
    "decimal": "decimal",
    "bool": "bool",
    "boolean": "bool",
    "timestamptz": "timestamptz",
    "timestamp with time zone": "timestamptz",
    "timestamp": "timestamp",
    "timestamp without time zone": "timestamp",
    "date": "date",
    "bytea": "bytes",
    "json": "json",
    "jsonb": "json",
}

_STORAGE: dict[Kind, str] = {
    "int16": "int16",
    "int32": "int32",
    "int64": "int64",
    "float": "float64",
    "decimal": "object",
    "bool": "bool",
    "timestamptz": "datetime64[us]",
    "timestamp": "datetime64[us]",
    "date": "datetime64[us]",
    "text": "object",
    "bytes": "object",
    "json": "object",
}

MASKED: frozenset[Kind] = frozenset(["int16", "int32", "int64", "bool"])
"""Kinds whose storage has no value that could mean null: they carry a mask beside it."""
TIMES: frozenset[Kind] = frozenset(["timestamptz", "timestamp", "date"])

LAST = np.datetime64("9999-12-31T23:59:59.999999", "us")
FIRST = np.datetime64("0001-01-01T00:00:00", "us")
_NAT = np.datetime64("NaT", "us")


def _text_dtype() -> Any:
    """What pandas 3 itself infers for text, on Python objects: so a frame can share them without a copy."""
    try:
        return pd.StringDtype("python", na_value=cast(Any, np.nan))
    except TypeError:  # pandas < 2.3
        return pd.StringDtype("python")


TEXT_DTYPE: Any = _text_dtype()
TEXT_NA: Any = TEXT_DTYPE.na_value
"""What a null is in a text column's storage: the very object that pandas' string dtype uses."""


def kind_of(pg_type: str, *, numeric: Literal["float", "decimal"] = "float") -> Kind:
    """The kind of column for a type's name, as a change (`int8`, `_text`) or PostgREST (`bigint`, `text[]`) writes
    it.
    """
    name = _plain_name(pg_type)
    kind = "json" if _is_array(name) else _KINDS.get(name, "text")
    return "float" if kind == "decimal" and numeric == "float" else kind


def is_known(pg_type: str) -> bool:
    """Whether the type's name alone says what its values are; else they are kept as text."""
    name = _plain_name(pg_type)
    return _is_array(name) or name in _KINDS or name in ("text", "varchar", "character varying", "bpchar", "character")


def _plain_name(pg_type: str) -> str:
    name = pg_type.strip().lower()
    if "(" in name and not _is_array(name):  # numeric(10,2), timestamp(3) with time zone
        head, _, rest = name.partition("(")
        name = " ".join([head.strip(), rest.partition(")")[2].strip()]).strip()
    return name.removeprefix("pg_catalog.")


def _is_array(name: str) -> bool:
    return name.startswith("_") or name.endswith("[]")


def null_of(kind: Kind) -> Any:
    """What stands in the storage where the value is null (a masked kind has a zero there, and its mask says so)."""
    if kind == "float":
        return np.nan
    if kind in TIMES:
        return _NAT
    if kind == "text":
        return TEXT_NA
    return 0 if kind in MASKED else None


def blank(kind: Kind, capacity: int) -> Array:
    """Storage for `capacity` values. What it holds means nothing yet: so memory that is not used is not touched."""
    return np.zeros(capacity, dtype=_STORAGE[kind]) if _STORAGE[kind] != "object" else np.empty(capacity, dtype=object)


def _objects(values: list[Any]) -> Array:
    out = np.empty(len(values), dtype=object)
    out[:] = values  # not np.array(values): that would make lists of one length a second dimension
    return out


def _text(value: Any) -> Any:
    if value is None or value is TEXT_NA:
        return TEXT_NA
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def _bytes(value: Any) -> bytes | None:
    if value is None or isinstance(value, bytes):
        return value
    try:
        return bytes.fromhex(value.removeprefix("\\x"))
    except (ValueError, AttributeError):
        return str(value).encode()


def _decimal(value: Any) -> Decimal | None:
    if value is None or isinstance(value, Decimal):
        return value
    try:  # str() gives a float's shortest digits, which are those that were sent
        return Decimal(str(value))
    except InvalidOperation:
        return None


def _moment(value: Any) -> np.datetime64:
    """One timestamp or date, however unusual: offsets, infinity, BC, years past 9999."""
    if value is None:
        return _NAT
    text = str(value).strip()
    if text in ("infinity", "+infinity", "Infinity"):
        return LAST
    if text in ("-infinity", "-Infinity") or text.endswith(" BC"):
        return FIRST
    if text[4:5].isdigit() and text[:4].isdigit():
        return LAST  # a year of five digits
    try:
        moment = datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        return _NAT
    if moment.tzinfo is not None:
        try:
            moment = moment.astimezone(UTC)
        except OverflowError:
            return LAST if moment.year > 5000 else FIRST
    return np.datetime64(moment.replace(tzinfo=None), "us")


def _times(values: list[Any]) -> Array:
    """The usual case in C: every value in UTC, or every one without an offset."""
    nulls = values.count(None)
    first = next((v for v in values if v is not None), "")
    try:
        offset = "+00:00" if first[-6:] == "+00:00" else ""
        text = "|".join(["NaT" + offset if v is None else v for v in values] if nulls else values) + "|"
        plain = text.split(offset + "|")[:-1]
        # Other offsets, Z, BC, infinity and blanks go the slow way: numpy would misread them or refuse.
        signs = text.count("+"), text.count("-")
        usual = len(values) if offset else 0, 2 * (len(values) - nulls)
        if len(plain) == len(values) and signs == usual and "Z" not in text and " " not in text:
            found = np.array(plain, dtype="datetime64[us]")
            if not ((found > LAST) | (found < FIRST)).any():
                return found
    except (ValueError, TypeError):
        pass
    return np.array([_moment(v) for v in values], dtype="datetime64[us]")


def _whole(value: Any) -> int:
    return int(value) if value is not None and value != "" else 0


def parse(kind: Kind, values: list[Any]) -> tuple[Array, Array | None]:
    """JSON values as (storage array, null mask or None where no value is null or the kind has a null of its own).

    Called once a column and batch.
    """
    if kind in MASKED:
        dtype = _STORAGE[kind]
        if kind != "bool" or None not in values:
            try:
                return np.array(values, dtype=dtype), None
            except (TypeError, ValueError, OverflowError):
                pass
        mask = np.array([v is None for v in values], dtype=bool)
        if kind == "bool":
            return np.array([v is True or v in ("t", "true", 1) for v in values], dtype=bool), mask
        return np.array([_whole(v) for v in values], dtype=dtype), mask
    if kind == "float":
        return np.array(values, dtype="float64"), None
    if kind in TIMES:
        return _times(values), None
    if kind == "text":
        if set(map(type, values)) == {str}:
            return np.array(values, dtype=object), None
        return _objects([v if type(v) is str else _text(v) for v in values]), None
    convert: dict[Kind, Callable[[Any], Any]] = {"decimal": _decimal, "bytes": _bytes}
    return _objects(values if kind == "json" else [convert[kind](v) for v in values]), None


def changed(kind: Kind, old: Array, new: Array) -> Array:
    """Which values differ; two nulls are equal (masks are compared by the caller)."""
    if kind == "float" or kind in TIMES:  # bit by bit, since NaN and NaT are not equal to themselves
        return old.view("int64") != new.view("int64")
    if kind == "text" and TEXT_NA is pd.NA:  # pandas 2.2, where a comparison with a null is neither true nor false
        pairs = zip(old.tolist(), new.tolist(), strict=True)
        return np.fromiter((a is not b and (a is TEXT_NA or b is TEXT_NA or a != b) for a, b in pairs), bool, len(old))
    if kind == "text":
        differs = old != new
        null = new != new  # a null is NaN, which is not equal to itself
        return differs & ~(null & (old != old)) if null.any() else differs
    if _STORAGE[kind] == "object":  # identity first: it is the common case, and NaN is not equal to itself
        return np.fromiter(
            (a is not b and a != b for a, b in zip(old.tolist(), new.tolist(), strict=True)), bool, len(old)
        )
    return old != new


def to_json(kind: Kind, data: Array, mask: Array | None) -> list[Any]:
    """Values as JSON can carry them to a browser without losing digits: integers past 2**53 and Decimals as strings."""
    if kind in TIMES:
        return [_iso(kind, v) for v in data.astype("datetime64[us]").tolist()]
    values: list[Any] = data.tolist()
    if mask is not None and mask.any():
        values = [None if gone else v for v, gone in zip(values, mask.tolist(), strict=True)]
    if kind == "int64":
        return [str(v) if v is not None and not -(2**53) <= v <= 2**53 else v for v in values]
    if kind == "float":
        return [v if v == v and v not in (np.inf, -np.inf) else (None if v != v else str(v)) for v in values]
    if kind == "text":
        return [v if type(v) is str else None for v in values]
    if kind == "decimal":
        return [None if v is None else str(v) for v in values]
    if kind == "bytes":
        return [None if v is None else "\\x" + v.hex() for v in values]
    if kind == "json":
        return [_plain(v) for v in values]
    return values


def to_python(kind: Kind, data: Array, mask: Array | None) -> list[Any]:
    """Values as Python has them, null as None: for `on_change` and for keys."""
    if kind in TIMES:
        values: list[Any] = data.astype("datetime64[us]").tolist()
        if kind == "timestamptz":
            return [None if v is None else v.replace(tzinfo=UTC) for v in values]
        return [None if v is None else v.date() for v in values] if kind == "date" else values
    values = data.tolist()
    if mask is not None:
        return [None if gone else v for v, gone in zip(values, mask.tolist(), strict=True)]
    if kind in ("float", "text"):
        return [None if v is TEXT_NA or v != v else v for v in values]
    return values


def _iso(kind: Kind, value: datetime | None) -> str | None:
    if value is None:
        return None
    if value.year in (1, 9999):
        if value == datetime.max or (kind == "date" and value.date() == date.max):
            return "infinity"
        if value == datetime.min:
            return "-infinity"
    if kind == "date":
        return value.date().isoformat()
    return value.isoformat() + ("+00:00" if kind == "timestamptz" else "")


def _plain(value: Any) -> Any:
    """A json value with what a browser's JSON.parse would spoil written as text."""
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in cast("dict[Any, Any]", value).items()}
    if isinstance(value, list):
        return [_plain(v) for v in cast("list[Any]", value)]
    if isinstance(value, Decimal) or (type(value) is int and not -(2**53) <= value <= 2**53):
        return str(value)
    if isinstance(value, float) and (value != value or value in (np.inf, -np.inf)):
        return None
    return value


def to_pandas(kind: Kind, data: Array, mask: Array | None) -> Any:
    """A pandas array over the same memory (no copy)."""
    arrays: Any = pd.arrays
    series: Any = pd.Series
    if kind in MASKED and mask is None:
        mask = np.zeros(len(data), dtype=bool)
    if kind == "bool":
        return arrays.BooleanArray(data, mask, copy=False)
    if kind in MASKED:
        return arrays.IntegerArray(data, mask, copy=False)
    if kind == "timestamptz":
        # The public constructors scan or copy; _simple_new only wraps, and exists from pandas 1 to 3.
        return arrays.DatetimeArray._simple_new(data, dtype=pd.DatetimeTZDtype("us", "UTC"))
    if kind == "text":
        if hasattr(arrays.StringArray, "_simple_new"):
            try:
                return arrays.StringArray._simple_new(data, TEXT_DTYPE)
            except (AssertionError, TypeError):
                pass
        make: Any = pd.array
        return make(data, dtype=TEXT_DTYPE, copy=True)  # an unknown pandas: slower, still right
    if cast(Any, data).dtype == object:
        return series(data, dtype=object, copy=False)  # else pandas may infer str
    return cast(Any, data)


def lag_ms(commit_timestamp: str | None, now: datetime) -> float | None:
    """Milliseconds from a commit to `now` (which is in UTC); never negative, since two clocks may disagree."""
    moment = _moment(commit_timestamp)
    if np.isnat(moment):
        return None
    then = cast(datetime, moment.astype(object)).replace(tzinfo=UTC)
    return max((now - then) / timedelta(milliseconds=1), 0.0)


def keys_of(rows: Sequence[dict[str, Any]], key: tuple[str, ...]) -> list[Any]:
    """Each row's key: the raw JSON value for a single key column, a tuple for several, its number for none."""
    if len(key) == 1:
        name = key[0]
        return [row[name] for row in rows]
    if not key:
        return list(range(len(rows)))
    return [tuple(row[name] for name in key) for row in rows]
