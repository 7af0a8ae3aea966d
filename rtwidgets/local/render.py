"""Values as Supabase Realtime renders them: from Postgres' text form straight to the bytes of JSON, compiled per type.

The connection that produced the text must have TimeZone UTC, DateStyle ISO and bytea_output hex.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

Converter = Callable[[bytes], bytes]

_json = msgspec.json.Encoder().encode


class PgType(msgspec.Struct, frozen=True):
    oid: int
    name: str
    element: int  # the element type of a true array, else 0
    base: int  # the type under a domain, else 0
    delimiter: str = ","
    cast: str = "text"
    """As SQL writes the type, without its length: a cast to that would cut the value."""


def text(value: bytes) -> bytes:
    return _json(value.decode())


def _plain(value: bytes) -> bytes:
    return value


def _number(value: bytes) -> bytes:
    # NaN and the infinities are no JSON numbers; Supabase sends null. A finite number never ends in a letter.
    return b"null" if value[-1] > 57 else value


def _bool(value: bytes) -> bytes:
    return b"true" if value == b"t" else b"false"


def _timestamp(value: bytes) -> bytes:
    return b'"' + value.replace(b" ", b"T", 1) + b'"' if value[-1] < 58 else _odd_timestamp(value)


def _timestamptz(value: bytes) -> bytes:
    if value[-3:] == b"+00":
        return b'"' + value.replace(b" ", b"T", 1) + b':00"'
    return _odd_timestamp(value)


def _odd_timestamp(value: bytes) -> bytes:
    """Infinity, and years before Christ."""
    if value.endswith(b" BC"):
        body = value[:-3].replace(b" ", b"T", 1)
        return b'"' + body + (b":00" if body.endswith(b"+00") else b"") + b' BC"'
    return b'"' + value + b'"'


def _bytea(value: bytes) -> bytes:
    return b'"' + value[2:] + b'"'


def _quoted(value: bytes) -> bytes:
    """Types whose text form never needs escaping."""
    return b'"' + value + b'"'


def array(element: Converter, delimiter: bytes = b",") -> Converter:
    comma = delimiter[0]

    def convert(value: bytes) -> bytes:
        if value[:1] == b"[":  # bounds other than 1: "[0:2]={1,2,3}"
            value = value[value.index(b"=") + 1 :]
        if b'"' not in value and b"{" not in value[1:]:
            body = value[1:-1]
            if not body:
                return b"[]"
            items = [b"null" if item == b"NULL" else element(item) for item in body.split(delimiter)]
            return b"[" + b", ".join(items) + b"]"
        return _nested(value, 0)[0]

    def _nested(value: bytes, at: int) -> tuple[bytes, int]:
        items: list[bytes] = []
        at += 1
        while True:
            char = value[at]
            if char == 125:  # }
                return b"[" + b", ".join(items) + b"]", at + 1
            if char == comma:
                at += 1
            elif char == 123:  # {
                item, at = _nested(value, at)
                items.append(item)
            elif char == 34:  # "
                out = bytearray()
                at += 1
                while value[at] != 34:
                    if value[at] == 92:
                        at += 1
                    out.append(value[at])
                    at += 1
                at += 1
                items.append(element(bytes(out)))
            else:
                start = at
                while value[at] not in (comma, 125):
                    at += 1
                raw = value[start:at]
                items.append(b"null" if raw == b"NULL" else element(raw))

    return convert


_BY_NAME: dict[str, Converter] = {
    "int2": _plain,
    "int4": _plain,
    "int8": _plain,
    "oid": _plain,
    "numeric": _number,
    "float4": _number,
    "float8": _number,
    "bool": _bool,
    "json": _plain,
    "jsonb": _plain,
    "bytea": _bytea,
    "timestamp": _timestamp,
    "timestamptz": _timestamptz,
    "date": _quoted,
    "time": _quoted,
    "timetz": _quoted,
    "interval": _quoted,
    "uuid": _quoted,
    "inet": _quoted,
    "cidr": _quoted,
}


class Types:
    """What the catalogue says of every type, and a converter for each."""

    def __init__(self) -> None:
        self._types: dict[int, PgType] = {}
        self._converters: dict[int, Converter] = {}
        self.collated = False
        """Whether the database sorts text otherwise than by code point."""

    def load(self, rows: list[tuple[Any, ...]], collated: bool = False) -> None:
        self.collated = collated
        self._types = {row[0]: PgType(*row) for row in rows}
        self._converters.clear()

    def __contains__(self, oid: int) -> bool:
        return oid in self._types

    def name(self, oid: int) -> str:
        known = self._types.get(oid)
        return known.name if known else "text"

    def cast(self, oid: int) -> str:
        known = self._types.get(oid)
        return known.cast if known else "text"

    def base_name(self, oid: int) -> str:
        known = self._types.get(oid)
        while known and known.base:
            known = self._types.get(known.base)
        return known.name if known else "text"

    def converter(self, oid: int) -> Converter:
        found = self._converters.get(oid)
        if found is None:
            found = self._converters[oid] = self._make(oid)
        return found

    def _make(self, oid: int) -> Converter:
        known = self._types.get(oid)
        if known is None:
            return text
        if known.base:
            return self.converter(known.base)
        if known.element:
            return array(self.converter(known.element), known.delimiter.encode())
        return _BY_NAME.get(known.name, text)


# A true array only: `point` and `name` have elements too, but are written as text.
TYPES_QUERY = """
select oid::int8, typname, case when typcategory = 'A' then typelem::int8 else 0 end, typbasetype::int8, typdelim::text,
  pg_catalog.format_type(oid, -1)
from pg_catalog.pg_type
"""
