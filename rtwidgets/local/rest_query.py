"""The query string of a read, parsed: PostgREST's grammar, text in, a typed query out.

No I/O, linear in the length of the text, and bounded in length and depth. A name stands bare or, with any character
that the grammar uses (`. , : ( ) "` and `->`), in double quotes, where a backslash escapes. A quoted name is never a
reserved word: `"order"=gt.3` is a condition on the column `order`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Literal, TypeVar

import msgspec

from .rest_errors import RestError

MAX_LENGTH = 65_536
"""Characters of all parameters together."""
MAX_DEPTH = 32
"""How deep `and` and `or` may nest."""
MAX_BIGINT = 2**63 - 1

OPERATORS = frozenset(
    (
        *("eq", "neq", "gt", "gte", "lt", "lte", "like", "ilike", "match", "imatch", "in", "is", "isdistinct"),
        *("cs", "cd", "ov", "sl", "sr", "nxr", "nxl", "adj"),
    )
)
_IS = ("null", "not_null", "true", "false", "unknown")
_RESERVED = frozenset(("select", "columns", "on_conflict", "apikey"))
_MODIFIERS = frozenset(("order", "limit", "offset", "and", "or"))
"""Reserved as the last word of a dotted key: with a path before it, they are of an embedded table."""
_GROUP = re.compile(r"(not\.)?(and|or)(?=\()")
_BARE = re.compile(r'(?:[^",:.()\s-]|-(?!>)|[ ](?=[^",:.()]))+')
_INDEX = re.compile(r"-?\d{1,9}(?![^,:.()-])")
_CAST = re.compile(r"\w+(?:\[\])?")
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"', re.S)
_ESCAPE = re.compile(r"\\(.)", re.S)
_VALUE = re.compile(r"\{[^{}]*\}(?=[,)])|[^,)]*")
_RANGE = re.compile(r"(?:items=)?(\d{1,18})-(\d{0,18})$", re.A)
_COUNT = re.compile(r"\d{1,30}$", re.A)

T = TypeVar("T")


class PathStep(msgspec.Struct, frozen=True):
    """One arrow into a JSON value; `text` for `->>`."""

    key: str | int
    text: bool


class Field(msgspec.Struct, frozen=True):
    """A column, or what a path of arrows finds in it."""

    name: str
    path: tuple[PathStep, ...] = ()

    @property
    def label(self) -> str:
        """The name in the answer: the column's, or the last key of the path."""
        keys = [step.key for step in self.path if isinstance(step.key, str)]
        return keys[-1] if keys else self.name


class Selected(msgspec.Struct, frozen=True):
    """One entry of `select=`."""

    field: Field
    alias: str | None = None
    cast: str | None = None


class Ordered(msgspec.Struct, frozen=True):
    """One entry of `order=`. `nulls`: where they stand, None for Postgres' default."""

    field: Field
    descending: bool = False
    nulls: Literal["first", "last"] | None = None


class Condition(msgspec.Struct, frozen=True):
    """A test of one column. `value` is text as Postgres reads it, a tuple of texts for `in`."""

    field: Field
    operator: str
    value: str | tuple[str, ...]
    negated: bool = False


class Group(msgspec.Struct, frozen=True):
    """Tests joined by `and` or `or`."""

    conjunction: Literal["and", "or"]
    tests: tuple[Test, ...]
    negated: bool = False


Test = Condition | Group


class Query(msgspec.Struct, frozen=True):
    """A read of one table. No `selected`: every column. `limit` None: no limit."""

    selected: tuple[Selected | Literal["*"], ...] = ("*",)
    where: tuple[Test, ...] = ()
    order: tuple[Ordered, ...] = ()
    offset: int = 0
    limit: int | None = None


def parse(parameters: Iterable[tuple[str, str]], span: str = "") -> Query:
    """Parses the parameters of a URL, and the header `Range` (`0-9`). Raises RestError, and nothing else."""
    pairs = list(parameters)
    if sum(len(key) + len(value) for key, value in pairs) > MAX_LENGTH:
        raise RestError(414, "PGRST100", f"The query is longer than {MAX_LENGTH} characters")
    selected: tuple[Selected | Literal["*"], ...] = ("*",)
    order: tuple[Ordered, ...] = ()
    where: list[Test] = []
    offset, limit = 0, None
    for key, value in pairs:
        last = key.rpartition(".")[2]
        if key in ("and", "or", "not.and", "not.or"):
            where.append(_parse_tree(key, value))
        elif key in _RESERVED or last in _MODIFIERS:
            if last != key:
                raise _embedded(key.rpartition(".")[0])
            if key == "select":
                selected = _parse_select(value)
            elif key == "order":
                order = _parse_order(value)
            elif key == "limit":
                limit = _parse_count(key, value)
            elif key == "offset":
                offset = _parse_count(key, value)
        else:
            where.append(_parse_condition(key, value))
    offset, limit = _narrowed(offset, limit, span)
    return Query(selected, tuple(where), order, offset, limit)


class _Text:
    """A text and how far it has been parsed. `what` names it in errors."""

    def __init__(self, text: str, what: str) -> None:
        self.text = text
        self.at = 0
        self.what = what

    def error(self, expected: str) -> RestError:
        found = repr(self.text[self.at]) if self.at < len(self.text) else "end of input"
        details = f"unexpected {found} expecting {expected}"
        message = f'"failed to parse {self.what} ({_shortened(self.text)})" (line 1, column {self.at + 1})'
        return RestError(400, "PGRST100", message, details)

    def skip(self, text: str) -> bool:
        """Whether the text comes next; it is then passed."""
        if self.text.startswith(text, self.at):
            self.at += len(text)
            return True
        return False

    def match(self, pattern: re.Pattern[str]) -> re.Match[str] | None:
        found = pattern.match(self.text, self.at)
        if found is not None:
            self.at = found.end()
        return found

    def expect(self, text: str) -> None:
        if not self.skip(text):
            raise self.error(repr(text))

    def ends(self) -> bool:
        return self.at >= len(self.text)

    def name(self) -> str:
        found = self.match(_QUOTED)
        if found is not None:
            return _ESCAPE.sub(r"\1", found[1])
        found = self.match(_BARE)
        if found is None:
            raise self.error('a column name (in double quotes where it holds any of . , : ( ) ")')
        return found[0].strip(" ")

    def field(self) -> Field:
        name, path = self.name(), list[PathStep]()
        while self.skip("->"):
            text = self.skip(">")
            index = self.match(_INDEX)
            path.append(PathStep(int(index[0]) if index else self.name(), text))
        return Field(name, tuple(path))

    def listed(self, entry: Callable[[], T]) -> tuple[T, ...]:
        """Entries between commas, to the end of the text."""
        found = [entry()]
        while self.skip(","):
            found.append(entry())
        if not self.ends():
            raise self.error("',' or end of input")
        return tuple(found)


def _parse_select(value: str) -> tuple[Selected | Literal["*"], ...]:
    if not value.strip():
        return ("*",)
    text = _Text(value, "select parameter")

    def entry() -> Selected | Literal["*"]:
        text.match(re.compile(" *"))
        if text.skip("*"):
            return "*"
        if text.skip("..."):
            raise _no_embedding()
        alias: str | None = None
        field = text.field()
        if not text.text.startswith("::", text.at) and text.skip(":"):
            alias, field = field.name, text.field()
        if text.skip("("):
            raise _no_embedding()
        if text.skip("."):
            raise RestError(400, "PGRST123", "Use of aggregate functions is not allowed")
        cast: str | None = None
        if text.skip("::"):
            found = text.match(_CAST)
            if found is None:
                raise text.error("a type")
            cast = found[0]
        return Selected(field, alias, cast)

    return text.listed(entry)


def _parse_order(value: str) -> tuple[Ordered, ...]:
    if not value:
        return ()
    text = _Text(value, "order")

    def entry() -> Ordered:
        field = text.field()
        descending, nulls = False, None
        if text.skip(".asc") or text.skip(".desc"):
            descending = text.text.endswith("desc", 0, text.at)
        if text.skip(".nullsfirst"):
            nulls = "first"
        elif text.skip(".nullslast"):
            nulls = "last"
        if not text.ends() and not text.text.startswith(",", text.at):
            raise text.error("asc, desc, nullsfirst or nullslast")
        return Ordered(field, descending, nulls)

    return text.listed(entry)


def _parse_condition(key: str, value: str) -> Condition:
    name = _Text(key, "filter column")
    field = name.field()
    if name.skip("."):
        raise _embedded(field.name)
    if not name.ends():
        raise name.error("end of input")
    text = _Text(value, "filter")
    negated, operator = _parse_operator(text)
    if operator == "in":
        return Condition(field, operator, _parse_list(text, whole=True), negated)
    return Condition(field, operator, _checked(text, operator, value[text.at :]), negated)


def _parse_operator(text: _Text) -> tuple[bool, str]:
    """`not.` and the operator, with the dot after it."""
    negated = text.skip("not.")
    end = text.text.find(".", text.at)
    operator = text.text[text.at : end] if end >= 0 else ""
    if operator not in OPERATORS:
        if operator.partition("(")[0] in OPERATORS | {"fts", "plfts", "phfts", "wfts"}:
            raise RestError(400, "PGRST100", f"The operator {operator} is not supported by the local server")
        raise text.error(f"an operator: one of {', '.join(sorted(OPERATORS))}")
    text.at = end + 1
    return negated, operator


def _checked(text: _Text, operator: str, value: str) -> str:
    if operator != "is":
        return value
    word = value.lower()
    if word not in _IS:
        raise text.error("null, not_null, true, false or unknown")
    return word


def _parse_list(text: _Text, *, whole: bool) -> tuple[str, ...]:
    """`(a,"b,c")`. `whole`: nothing may follow."""
    text.expect("(")
    items: list[str] = []
    if text.text.startswith(")", text.at):
        text.at += 1
    else:
        while True:
            items.append(_parse_value(text))
            if text.skip(")"):
                break
            text.expect(",")
    if whole and not text.ends():
        raise text.error("end of input")
    return tuple(items)


def _parse_value(text: _Text) -> str:
    """A value within a list or a tree, where commas and parentheses end it: in quotes, `{...}`, or bare."""
    before = text.at
    found = text.match(_QUOTED)
    if found is not None:
        if text.ends() or text.text[text.at] in ",)":
            return _ESCAPE.sub(r"\1", found[1])
        text.at = before  # quotes are part of a bare value
    found = text.match(_VALUE)
    assert found is not None  # it matches an empty text too
    return found[0]


def _parse_tree(key: str, value: str) -> Group:
    """`and=(a.eq.1,or(b.eq.2,c.is.null))`"""
    text = _Text(value, "logic tree")
    negated, _, conjunction = key.rpartition(".")
    group = _parse_group(text, conjunction, bool(negated), 1)
    if not text.ends():
        raise text.error("end of input")
    return group


def _parse_group(text: _Text, conjunction: str, negated: bool, depth: int) -> Group:
    if depth > MAX_DEPTH:
        raise RestError(400, "PGRST100", f"The logic tree is nested deeper than {MAX_DEPTH} levels")
    text.expect("(")
    tests: list[Test] = []
    while True:
        found = text.match(_GROUP)
        if found is not None:
            tests.append(_parse_group(text, found[2], found[1] is not None, depth + 1))
        else:
            tests.append(_parse_member(text))
        if text.skip(")"):
            return Group("and" if conjunction == "and" else "or", tuple(tests), negated)
        text.expect(",")


def _parse_member(text: _Text) -> Condition:
    field = text.field()
    text.expect(".")
    negated, operator = _parse_operator(text)
    if operator == "in":
        return Condition(field, operator, _parse_list(text, whole=False), negated)
    return Condition(field, operator, _checked(text, operator, _parse_value(text)), negated)


def _parse_count(key: str, value: str) -> int:
    if not _COUNT.match(value):
        if value[:1] == "-" and _COUNT.match(value[1:]):
            detail = f"{key.capitalize()} should be greater than or equal to zero."
            raise RestError(416, "PGRST103", "Requested range not satisfiable", detail)
        raise RestError(400, "PGRST100", f"{key} must be a whole number, not {_shortened(value)!r}")
    return min(int(value), MAX_BIGINT)


def _narrowed(offset: int, limit: int | None, span: str) -> tuple[int, int | None]:
    """Offset and limit, within the rows that the header `Range` names."""
    found = _RANGE.match(span)
    if found is None:
        return offset, limit
    first = int(found[1])
    if found[2]:
        size = int(found[2]) - first + 1
        if size < 0:
            detail = "The lower boundary must be lower than or equal to the upper boundary in the Range header."
            raise RestError(416, "PGRST103", "Requested range not satisfiable", detail)
        limit = size if limit is None else min(limit, size)
    return min(offset + first, MAX_BIGINT), limit


def _embedded(name: str) -> RestError:
    hint = "The local server embeds no tables. A column name that holds a dot stands in double quotes."
    return RestError(400, "PGRST108", f"'{_shortened(name)}' is not an embedded resource in this request", hint=hint)


def _no_embedding() -> RestError:
    hint = "Join the tables in a view, or read each of them."
    return RestError(400, "PGRST200", "Embedding other tables is not supported by the local server", hint=hint)


def _shortened(text: str) -> str:
    return text if len(text) <= 200 else text[:200] + "…"
