"""Rows' keys between a store and a page, which has lists for tuples, and texts for integers that it cannot hold."""

from __future__ import annotations

import re
from typing import Any, cast

from ..data.column_kinds import ColumnKind, kind_named
from ..data.delta import Key
from ..data.store import Store
from .page_values import list_of

_WHOLE = re.compile(r"-?[0-9]{1,19}")


def json_key(key: Key) -> Any:
    """A key as a page can hold it."""
    if isinstance(key, tuple):
        return [json_key(part) for part in list_of(key)]
    return str(key) if isinstance(key, int) and abs(key) > 2**53 else key


def key_from_page(store: Store, key: Any) -> Key:
    """A key as the store has it; None for what cannot be one."""
    kinds: list[ColumnKind | None] = [store.kinds.get(name) for name in store.key] or [kind_named("int64")]
    if isinstance(key, list | tuple):
        parts = list_of(key)
        return tuple(map(_part, parts, kinds)) if len(parts) == len(kinds) else None
    return _part(key, kinds[0])


def _part(part: Any, kind: ColumnKind | None) -> Key:
    if isinstance(part, str) and kind is not None and kind.whole and _WHOLE.fullmatch(part):
        return int(part)
    return part if isinstance(part, str | int | float | bool) else None


def keys_of_values(store: Store, values: Any) -> Any:
    """Keys as `.df` shows them (timestamps, decimals) as the store has them; what is no key of a row stays."""
    if not isinstance(values, list | tuple) or all(map(_is_json, list_of(values))):
        return cast(Any, values)
    with store.lock:
        keys: list[Key] = store.window(0, len(store), columns=[])["keys"]
        shown = store.df()[list(store.key)]
    columns = [shown[name].tolist() for name in shown]
    rows = columns[0] if len(columns) == 1 else list(zip(*columns, strict=True))
    known: dict[Any, Key] = dict(zip(rows, keys, strict=True))
    found: list[Any] = []
    for value in list_of(values):
        try:
            found.append(known.get(tuple(list_of(value)) if isinstance(value, list) else value, value))
        except TypeError:  # not hashable: no key
            found.append(value)
    return found


def _is_json(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return all(map(_is_json, list_of(value)))
    return isinstance(value, str | int | float | bool)
