"""The registry of column kinds: how values of each Postgres type are stored, compared, ordered and shown.

To support another type, add one entry to `KINDS`. A kind follows from the declared type alone, so the dtype of a column
never changes with its data.

Values arrive as JSON carries them, from a change message or from PostgREST. The two differ in `bytea`: bare hex in a
change, `\\x` hex from PostgREST.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Literal

from .kinds import pg_order as order
from .kinds.base import Array, Block, ColumnKind, ColumnValues, Data, Test, Values
from .kinds.enums import EnumKind
from .kinds.objects import ArrayKind, BytesKind, DecimalKind, JsonKind
from .kinds.scalars import BoolKind, FloatKind, IntegerKind
from .kinds.text import TEXT_DTYPE, ClockKind, TextKind
from .kinds.times import TimeKind
from .kinds.uuids import UuidKind

__all__ = [
    "KINDS",
    "OTHER",
    "TEXT_DTYPE",
    "Array",
    "Block",
    "ColumnKind",
    "ColumnValues",
    "Data",
    "EnumKind",
    "Numeric",
    "Test",
    "Values",
    "bare_name",
    "is_known",
    "kind_named",
    "kind_of",
]

Numeric = Literal["float", "decimal"]

KINDS: tuple[ColumnKind, ...] = (
    IntegerKind("int16", ("int2", "smallint", "smallserial"), "int16"),
    IntegerKind("int32", ("int4", "integer", "int", "serial"), "int32"),
    IntegerKind("int64", ("int8", "bigint", "bigserial", "oid"), "int64"),
    FloatKind("float", ("float8", "double precision", "float4", "real")),
    DecimalKind("decimal", ("numeric", "decimal")),
    BoolKind("bool", ("bool", "boolean")),
    TimeKind("timestamptz", ("timestamptz", "timestamp with time zone"), utc=True),
    TimeKind("timestamp", ("timestamp", "timestamp without time zone")),
    TimeKind("date", ("date",), date=True),
    BytesKind("bytes", ("bytea",)),
    JsonKind("jsonb", ("jsonb",), operand=order.jsonb_operand),
    JsonKind("json", ("json",), ordered=False),
    TextKind("text", ("text", "varchar", "character varying", "name", "char")),
    TextKind("bpchar", ("bpchar", "character"), key=order.blank_padded),
    TextKind("citext", ("*.citext",), key=order.case_blind),
    UuidKind("uuid", ("uuid",)),
    ClockKind("time", ("time", "time without time zone"), key=order.time),
    TextKind("timetz", ("timetz", "time with time zone"), key=order.timetz),
    TextKind("interval", ("interval",), key=order.interval),
    TextKind("money", ("money",), key=order.money, operand=order.money_operand),
    TextKind("inet", ("inet", "cidr"), key=order.inet),
    TextKind("macaddr", ("macaddr", "macaddr8")),
    TextKind("bit", ("bit", "varbit", "bit varying")),
    TextKind("xid8", ("xid8",), key=order.whole),
    TextKind("lsn", ("pg_lsn",), key=order.lsn),
    TextKind("range", ("int4range", "int8range", "numrange"), key=order.range_of(order.number)),
    TextKind("range", ("daterange", "tsrange", "tstzrange"), key=order.range_of(order.moment)),
    TextKind("range", ("int4multirange", "int8multirange", "nummultirange"), key=order.multirange_of(order.number)),
    TextKind("range", ("datemultirange", "tsmultirange", "tstzmultirange"), key=order.multirange_of(order.moment)),
)
"""Every kind, with the names of its types: Postgres' own name first, then those that SQL and PostgREST use. `*.` stands
for any schema: the type belongs to an extension. A type that is not here is kept as its text."""

OTHER = TextKind("other", ordered=False)
"""Of a type that is not known: a composite, a geometric type, one of an extension."""

_BY_TYPE: dict[str, ColumnKind] = {pg_type: kind for kind in KINDS for pg_type in kind.pg_types}
_BY_NAME: dict[str, ColumnKind] = {kind.name: kind for kind in reversed(KINDS)}
_IDENTIFIER = r'"(?:[^"]|"")*"|[^."]+'
_DIGITS = re.compile(r"\(\s*(\d+)\s*(?:,\s*(-?\d+)\s*)?\)")
_QUALIFIED = re.compile(rf"(?:(?:{_IDENTIFIER})\.)?({_IDENTIFIER})")


def kind_named(name: str) -> ColumnKind:
    """A kind by its own name, such as `"int64"` or `"timestamptz"`. Raises KeyError."""
    return _BY_NAME[name]


def kind_of(
    pg_type: str,
    *,
    numeric: Numeric = "float",
    labels: Mapping[str, Sequence[str]] | None = None,
    bases: Mapping[str, str] | None = None,
) -> ColumnKind:
    """The kind of column for a type.

    Args:
        pg_type: its name, as a change (`int8`, `_text`) or PostgREST (`bigint`, `text[]`, `public.mood`) writes it.
            Names are case-sensitive, and one with a schema is never a type of Postgres' own.
        numeric: whether numeric columns hold floats or exact Decimals.
        labels: of enums, by name, their labels in order. An enum may be called like a type of Postgres' own.
        bases: of domains, by name, the type that they are made of, which may be a domain itself.
    """
    labels, bases, seen = labels or {}, bases or {}, set[str]()
    while pg_type not in labels and pg_type in bases and pg_type not in seen:
        seen.add(pg_type)
        pg_type = bases[pg_type]
    if pg_type in labels:
        return EnumKind(labels[pg_type], pg_type)
    known = _known(pg_type)
    if known is not None and known.name == "decimal":
        return _BY_NAME["float"] if numeric == "float" else _decimal(pg_type)
    if known is not None:
        return known
    element = _element(pg_type)
    if element is None:
        return OTHER
    if element in labels or element in bases or numeric == "decimal":
        return ArrayKind(kind_of(element, numeric=numeric, labels=labels, bases=bases))
    return _array_of(element)


def is_known(pg_type: str) -> bool:
    """Whether the type's name alone says what its values are; else they are kept as text."""
    return _known(pg_type) is not None or _element(pg_type) is not None


def bare_name(pg_type: str) -> str:
    """The type's name without its schema and quotes, as change messages have it."""
    found = _QUALIFIED.fullmatch(pg_type)
    if found is None:
        return pg_type
    name = found[1]
    return name[1:-1].replace('""', '"') if name.startswith('"') else name


@lru_cache(256)
def _array_of(element: str) -> ColumnKind:
    return ArrayKind(kind_of(element))


@lru_cache(256)
def _decimal(pg_type: str) -> ColumnKind:
    """The kind of `numeric`, `numeric(10)` or `numeric(10,2)`."""
    known, found = _BY_NAME["decimal"], _DIGITS.search(pg_type)
    if found is None:
        return known
    return DecimalKind(known.name, known.pg_types, (int(found[1]), int(found[2] or 0)))


def _known(pg_type: str) -> ColumnKind | None:
    name = pg_type.removeprefix("pg_catalog.")
    found = _BY_TYPE.get(name)
    if found is None and "(" in name and not name.startswith("_"):  # numeric(10,2), timestamp(3) with time zone
        head, _, rest = name.partition("(")
        found = _BY_TYPE.get(" ".join([head.strip(), rest.partition(")")[2].strip()]).strip())
    return found or _BY_TYPE.get("*." + bare_name(name))


def _element(pg_type: str) -> str | None:
    """Of an array's type, that of its elements."""
    if pg_type.endswith("[]"):
        return pg_type[:-2]
    return pg_type[1:] if pg_type.startswith("_") else None
