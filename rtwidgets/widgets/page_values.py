"""Values that a page sent, read as what they should be: a page may send anything, and nothing of it may raise."""

from __future__ import annotations

from typing import Any, cast


def list_of(value: Any) -> list[Any]:
    """The list, or an empty one; of a tuple a list."""
    return list(cast("list[Any]", value)) if isinstance(value, list | tuple) else []


def dict_of(value: Any) -> dict[str, Any]:
    """The object, or an empty one."""
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def text_of(value: Any) -> str:
    """The text, or an empty one."""
    return value if isinstance(value, str) else ""


def whole_number(value: object, default: int) -> int:
    """The number, as a count or an index, or the default."""
    return value if isinstance(value, int) and 0 <= value < 2**53 else default


def share(value: object) -> float | None:
    """A share of a width or height (0 to 1), or None where the value is something else."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        return None
    return float(value)
