"""Values as Elixir's `inspect` writes them, for error texts that are Supabase's own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..protocol.filters import Condition

_WIDTH = 80


def inspect_text(text: str) -> str:
    """A quoted string."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def inspect_list(names: Sequence[str]) -> str:
    """A list of strings."""
    return "[" + ", ".join(map(inspect_text, names)) + "]"


def inspect_map(entry: Mapping[str, Any]) -> str:
    """A map, in the order of its keys."""
    items = (f"{inspect_text(name)} => {inspect_text(str(value))}" for name, value in sorted(entry.items()))
    return "%{" + ", ".join(items) + "}"


def inspect_filters(conditions: Sequence[Condition]) -> str:
    """The conditions of a filter, as a list of tuples."""
    items: list[list[str]] = []
    for condition in conditions:
        value = condition.value
        shown = value if isinstance(value, str) else "{" + ",".join(value) + "}"
        negated = str(condition.negated).lower()
        items.append([inspect_text(condition.column), inspect_text(condition.op), inspect_text(shown), negated])
    line = "[" + ", ".join("{" + ", ".join(item) + "}" for item in items) + "]"
    if len(line) <= _WIDTH:
        return line
    return "[\n" + ",\n".join(f"  {{{a}, {b},\n   {c},\n   {d}}}" for a, b, c, d in items) + "\n]"
