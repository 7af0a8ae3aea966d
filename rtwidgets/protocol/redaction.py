"""Values as short text without keys and tokens, for the log and the inspector."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, cast

from .errors import redact

_SECRET_FIELDS = frozenset({"access_token", "user_token", "apikey", "token", "authorization", "password"})
_HEAD = 16
"""Bytes of a binary payload that are shown."""
_SEARCHED = 4096
"""Bytes of it that are searched for keys and tokens."""
_LONGEST = 120
"""Characters of a short text."""


def without_secrets(value: Any) -> Any:
    """The value with tokens and keys replaced: by the field's name, and by how they look wherever they stand."""
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, Mapping):
        found = cast("Mapping[Any, Any]", value)
        return {
            redact(str(name)): "<redacted>" if str(name).lower() in _SECRET_FIELDS and item else without_secrets(item)
            for name, item in found.items()
        }
    if isinstance(value, list | tuple):
        return [without_secrets(item) for item in cast("list[Any]", value)]
    if isinstance(value, bytes | bytearray | memoryview):
        return _bytes(bytes(cast("bytes", value)))
    return value


def short(value: Any) -> str:
    """The value as JSON text of at most 120 characters, without secrets."""
    text = json.dumps(without_secrets(value), ensure_ascii=False, default=str)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


def names(found: Any) -> str:
    """The first keys of a mapping, and how many more there are."""
    keys = [redact(str(name)) for name in cast("Mapping[Any, Any]", found)] if isinstance(found, Mapping) else []
    shown = ", ".join(keys[:5]) or "nobody"
    return shown if len(keys) <= 5 else f"{shown} and {len(keys) - 5} more"


def _bytes(value: bytes) -> str:
    """How many they are, and the first of them; a secret's bytes are a secret too."""
    start = value[:_SEARCHED].decode("latin-1")
    if not value or redact(start) != start:
        return f"<{len(value)} bytes{', redacted' if value else ''}>"
    more = " …" if len(value) > _HEAD else ""
    return f"<{len(value)} byte{'s' if len(value) > 1 else ''}: {value[:_HEAD].hex(' ')}{more}>"
