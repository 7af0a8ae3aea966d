"""How a grid is arranged and what is selected in it: the values of these traits, checked."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import numpy as np
import traitlets

from .page_values import dict_of, list_of

NARROWEST, WIDEST = 40, 1200
"""Pixels that a column may be wide."""

Check = Callable[[Any], bool]


def check_arrangement(value: Any) -> dict[str, Any]:
    """Returns the arrangement, with each column named once. Raises TraitError that says what is wrong."""
    if not isinstance(value, dict):
        raise traitlets.TraitError(f"arrangement is a dict, not {value!r:.200}")
    checked: dict[str, Any] = {}
    for name, part in dict_of(value).items():
        if name not in _PARTS:
            known = "order, hidden, pinned, widths, sort, search and filters"
            raise traitlets.TraitError(f"arrangement has {known}, not {name!r:.200}")
        is_valid, meaning = _PARTS[name]
        if not is_valid(part):
            raise traitlets.TraitError(f"arrangement[{name!r}] is {meaning}, not {part!r:.200}")
        checked[name] = _unique(part) if name in ("order", "hidden", "pinned") else part
    return checked


def check_keys(value: Any) -> list[Any]:
    """Returns the keys. Raises TraitError that says what is wrong."""
    if not isinstance(value, list | tuple):
        raise traitlets.TraitError(f"selected is a list of keys, not {value!r:.200}")
    return [_checked_key(key) for key in list_of(value)]


def _checked_key(key: Any) -> Any:
    if isinstance(key, list | tuple) and key:
        parts = [_checked_key(part) for part in list_of(key)]
        return tuple(parts) if isinstance(key, tuple) else parts
    # A key that was read off a DataFrame is a number of numpy's.
    plain = cast(Any, key.item() if isinstance(key, np.generic) else key)
    if not isinstance(plain, str | int | float | bool):
        meaning = "a row's key as the server writes it (a number, a text), or a tuple of them where the key has several"
        raise traitlets.TraitError(f"selected holds keys: {meaning}; not {key!r:.200}")
    return plain


def _unique(names: list[str] | tuple[str, ...]) -> list[str]:
    return list(dict.fromkeys(names))


def _is_texts(values: Any) -> bool:
    return isinstance(values, list | tuple) and all(isinstance(value, str) for value in list_of(values))


def _is_widths(value: Any) -> bool:
    return isinstance(value, dict) and _is_texts(list(dict_of(value))) and all(map(_is_width, dict_of(value).values()))


def _is_width(value: Any) -> bool:
    return isinstance(value, int | float) and NARROWEST <= value <= WIDEST


def _is_sort(value: Any) -> bool:
    return isinstance(value, list | tuple) and all(map(_is_sort_pair, list_of(value)))


def _is_sort_pair(pair: Any) -> bool:
    parts = list_of(pair)
    return len(parts) == 2 and isinstance(parts[0], str) and isinstance(parts[1], bool)


def _is_filters(value: Any) -> bool:
    return isinstance(value, dict) and _is_texts([*dict_of(value), *dict_of(value).values()])


_PARTS: dict[str, tuple[Check, str]] = {
    "order": (_is_texts, "a list of columns"),
    "hidden": (_is_texts, "a list of columns"),
    "pinned": (_is_texts, "a list of columns"),
    "widths": (_is_widths, f"a dict of pixels by column, each from {NARROWEST} to {WIDEST}"),
    "sort": (_is_sort, "a list of pairs (column, whether descending)"),
    "search": (lambda value: isinstance(value, str), "a text"),
    "filters": (_is_filters, "a dict of texts by column"),
}
