"""Values as JSON: from Postgres' text form straight to bytes, as `to_jsonb(value::type)` has them, compiled per type.

So a change carries what a snapshot has. The text must come from a session with the settings of `pool.SETTINGS`. The one
exception is Supabase's own: a `bytea` column is bare hex in a change.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

Converter = Callable[[bytes], bytes]

BUILTIN = 16384
"""Types of a lower oid are Postgres' own."""
_BYTEA = 17
_CACHED = 10_000

_json = msgspec.json.Encoder().encode


class PgType(msgspec.Struct, frozen=True):
    """A row of `TYPES_QUERY`."""

    oid: int
    name: str
    element: int
    """The type of a true array's elements, else 0."""
    base: int
    """The type under a domain, else 0."""
    delimiter: str = ","
    cast: str = "text"
    """As SQL writes the type, without its length: a cast to that would cut the value."""
    json_cast: bool = False
    """Whether it has a cast to json, which `to_jsonb` calls."""
    attributes: Sequence[tuple[str, int]] | None = None
    """Of a composite type: names and types, in order."""


def text(value: bytes) -> bytes:
    return _json(value.decode())


def _plain(value: bytes) -> bytes:
    return value


_ESCAPES = re.compile(
    rb"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|\\u[dD][89a-fA-F][0-9a-fA-F]{2}|\\."
)
"""A pair of surrogates, half of one, any other escape."""


def _json_text(value: bytes) -> bytes:
    """What was stored in a `json` column, as JSON that everybody can read: half a pair of surrogates stands for no
    character."""
    return _ESCAPES.sub(_whole_pairs, value) if b"\\u" in value else value


def _whole_pairs(found: re.Match[bytes]) -> bytes:
    escape = found[0]
    return escape if len(escape) != 6 else b"\\ufffd"


def _number(value: bytes) -> bytes:
    # NaN and the infinities are no JSON numbers. A finite number never ends in a letter.
    return b'"' + value + b'"' if value[-1] > 57 else value


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


def _bytea_column(value: bytes) -> bytes:
    return b'"' + value[2:] + b'"'


def _bytea(value: bytes) -> bytes:
    return b'"\\' + value + b'"'


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


def vector(element: Converter) -> Converter:
    """`int2vector` and `oidvector`: arrays that are written without braces."""
    return lambda value: b"[" + b", ".join([element(item) for item in value.split()]) + b"]"


def composite(attributes: Sequence[tuple[str, Converter]]) -> Converter:
    """A row, such as `(1,"a b",)`. A row of another shape (the type was altered since) is left as text."""
    heads = [_json(name) + b": " for name, _ in attributes]
    converters = [converter for _, converter in attributes]

    def convert(value: bytes) -> bytes:
        fields = list(_fields(value)) if value != b"()" or converters else []
        if len(fields) != len(converters):
            return text(value)
        found = [
            head + (b"null" if field is None else converter(field))
            for head, converter, field in zip(heads, converters, fields, strict=True)
        ]
        return b"{" + b", ".join(found) + b"}"

    return convert


def _fields(value: bytes) -> Iterator[bytes | None]:
    """The fields of a row's text; an empty one is null, one in quotes is not."""
    at, end = 1, len(value) - 1
    while True:
        out, quoted, present = bytearray(), False, False
        while at < end and (quoted or value[at] != 44):  # ,
            char = value[at]
            present = True
            if char == 92:  # a backslash
                at += 1
                out.append(value[at])
            elif char != 34:  # "
                out.append(char)
            elif quoted and value[at + 1] == 34:
                at += 1
                out.append(char)
            else:
                quoted = not quoted
            at += 1
        yield bytes(out) if present else None
        if at >= end:
            return
        at += 1


class CastConverter:
    """A converter for a type that only Postgres can render: one with a cast to json, or made of such.

    `missing` gives the values to be rendered, `learn` their JSON; a value that was not learnt is written as text.
    """

    def __init__(self, cast: str) -> None:
        self.cast = cast
        self._known: dict[bytes, bytes] = {}

    def missing(self, values: Iterable[bytes]) -> list[bytes]:
        if len(self._known) > _CACHED:
            self._known.clear()
        return [value for value in dict.fromkeys(values) if value not in self._known]

    def learn(self, found: Mapping[bytes, bytes]) -> None:
        self._known.update(found)

    def __call__(self, value: bytes) -> bytes:
        return self._known.get(value) or text(value)


_NUMBERS = (700, 701, 1700)
_BY_OID: dict[int, Converter] = {
    16: _bool,
    _BYTEA: _bytea,
    **dict.fromkeys((20, 21, 23), _plain),  # int8, int2, int4
    **dict.fromkeys(_NUMBERS, _number),
    114: _json_text,
    3802: _plain,  # jsonb
    1114: _timestamp,
    1184: _timestamptz,
    # date, time, timetz, interval, uuid, oid, inet, cidr
    **dict.fromkeys((1082, 1083, 1266, 1186, 2950, 26, 869, 650), _quoted),
    22: vector(_plain),
    30: vector(_quoted),
}


class Types:
    """What the catalogue has of every type, and a converter for each. A type is known by its oid: its name may be that
    of another one in another schema."""

    def __init__(self) -> None:
        self._types: dict[int, PgType] = {}
        self._converters: dict[int, Converter] = {}
        self.collated = False
        """Whether the database sorts text otherwise than by code point."""

    def load(self, rows: Iterable[Sequence[Any]], collated: bool = False) -> None:
        """Replaces what is known by the rows of `TYPES_QUERY`."""
        self.collated = collated
        self._types = {row[0]: PgType(*row) for row in rows}
        self._converters.clear()

    def __contains__(self, oid: int) -> bool:
        return oid in self._types

    def name(self, oid: int) -> str:
        """As changes write it: without its schema."""
        known = self._types.get(oid)
        return known.name if known else "text"

    def cast(self, oid: int) -> str:
        """As SQL writes it."""
        known = self._types.get(oid)
        return known.cast if known else "text"

    def base_name(self, oid: int) -> str:
        """The name of the type under all domains: short for one of Postgres' own (`int4`), else as SQL writes it."""
        known = self._types.get(oid)
        while known and known.base:
            known = self._types.get(known.base)
        if known is None:
            return "text"
        return known.name if known.oid < BUILTIN else known.cast

    def converter(self, oid: int) -> Converter:
        """For a column of that type."""
        return _bytea_column if oid == _BYTEA else self._within(oid)

    def _within(self, oid: int) -> Converter:
        """For a value of that type, also within arrays and rows."""
        found = self._converters.get(oid)
        if found is None:
            found = self._converters[oid] = (
                CastConverter(self.cast(oid)) if self._needs_cast(oid, set()) else self._make(oid)
            )
        return found

    def _needs_cast(self, oid: int, above: set[int]) -> bool:
        known = self._types.get(oid)
        if known is None or oid < BUILTIN or oid in above:
            return False
        if known.json_cast:
            return True
        inner = [known.base, known.element, *(kind for _, kind in known.attributes or ())]
        return any(self._needs_cast(one, above | {oid}) for one in inner if one)

    def _make(self, oid: int) -> Converter:
        known = self._types.get(oid)
        if known is None:
            return text
        if oid in _BY_OID:
            return _BY_OID[oid]
        if known.base:
            return self._within(known.base)
        if known.element:
            return array(self._within(known.element), known.delimiter.encode())
        if known.attributes is not None:
            return composite([(name, self._within(kind)) for name, kind in known.attributes])
        return text


# A true array only: `point` and `name` have elements too, but are written as text.
TYPES_QUERY = """
select t.oid::int8, t.typname, case when t.typlen = -1
    and t.typsubscript = 'pg_catalog.array_subscript_handler'::regproc then t.typelem::int8 else 0 end,
  t.typbasetype::int8, t.typdelim::text, pg_catalog.format_type(t.oid, -1),
  t.oid >= 16384 and t.typtype not in ('c', 'd') and exists (select from pg_catalog.pg_cast c
    where c.castsource = t.oid and c.casttarget = 'pg_catalog.json'::regtype and c.castmethod = 'f'),
  case when t.typtype = 'c' then coalesce((
    select json_agg(json_build_array(a.attname, a.atttypid::int8) order by a.attnum) from pg_catalog.pg_attribute a
    where a.attrelid = t.typrelid and a.attnum > 0 and not a.attisdropped), '[]') end
from pg_catalog.pg_type t
"""
