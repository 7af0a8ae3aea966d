"""Quotes names for SQL that people read, and for types' names."""

from __future__ import annotations

import re

_PLAIN = re.compile(r"[a-z_][a-z0-9_]*")


def sql_name(schema: str, table: str) -> str:
    """A table's name with its schema; in double quotes what SQL would read otherwise.

    After a dot, every word is a name; before it, a keyword is not.
    """
    before = schema if schema == "public" else quote(schema)
    return f"{before}.{table if _PLAIN.fullmatch(table) else quote(table)}"


def quote(name: str) -> str:
    """One name in double quotes."""
    return '"' + name.replace('"', '""') + '"'
