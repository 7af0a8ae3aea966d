"""Quotes names for the SQL that hints propose."""

from __future__ import annotations

import re

_PLAIN = re.compile(r"[a-z_][a-z0-9_]*")


def sql_name(schema: str, table: str) -> str:
    """A table's name with its schema; in double quotes what SQL would read otherwise.

    After a dot, every word is a name; before it, a keyword is not.
    """
    before = schema if schema == "public" else _quoted(schema)
    return f"{before}.{table if _PLAIN.fullmatch(table) else _quoted(table)}"


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
