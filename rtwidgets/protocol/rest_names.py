"""Column names in a URL of PostgREST: bare, or in double quotes where a character or the word means something else."""

from __future__ import annotations

import re

PARAMETERS = frozenset(
    ("select", "order", "limit", "offset", "and", "or", "not", "columns", "on_conflict", "apikey")
)  # fmt: skip
"""What stands in a URL for itself: a column of such a name is quoted."""

_BARE = re.compile(r"[a-z_][a-z0-9_]*")
_NAME = re.compile(r'\s*(?:"((?:[^"\\]|\\.)*)"|([^".,]*))', re.S)
_ENTRY = re.compile(r'(?:"(?:[^"\\]|\\.)*"|[^",])+', re.S)


def quote_name(column: str) -> str:
    """The column's name as it stands in a URL, not yet percent-encoded."""
    if _BARE.fullmatch(column) and column not in PARAMETERS:
        return column
    return '"' + column.replace("\\", "\\\\").replace('"', '\\"') + '"'


def parse_name(text: str) -> tuple[str, str]:
    """The name at the beginning of a decoded entry, and what follows it, such as `.desc`."""
    found = _NAME.match(text)
    assert found is not None  # it matches an empty text too
    name = found[2].strip() if found[1] is None else re.sub(r"\\(.)", r"\1", found[1], flags=re.S)
    return name, text[found.end() :]


def split_names(text: str) -> list[str]:
    """The entries of a list such as `select=` has, between commas outside of quotes."""
    return _ENTRY.findall(text)
