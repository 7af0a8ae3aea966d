"""JSON text as Postgres writes it: numbers with every digit, and halves of surrogate pairs."""

from __future__ import annotations

import re
from decimal import Decimal, InvalidOperation

# A pair of surrogates, one alone, or any other escape.
_ESCAPE = re.compile(
    rb"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(\\u[dD][89a-fA-F][0-9a-fA-F]{2})|\\."
)


def without_lone_surrogates(data: bytes) -> bytes:
    """The JSON text with U+FFFD for each half of a surrogate pair: Postgres' type json may hold one, Unicode has no
    such character.
    """
    return _ESCAPE.sub(lambda found: rb"\ufffd" if found[1] else found[0], data)


def exact_number(text: str) -> float | Decimal:
    """The number of a JSON literal with a fraction or exponent: `float` where that loses no digit, else `Decimal`."""
    value = float(text)
    if len(text) <= 16 and "e" not in text and "E" not in text:
        return value  # at most 15 digits: every such decimal survives a float
    try:
        exact = Decimal(text)
    except InvalidOperation:  # an exponent beyond what Decimal holds
        return value
    return value if Decimal(repr(value)) == exact else exact


def exact_int(text: str) -> int | Decimal:
    """The whole number of a JSON literal."""
    return int(text) if len(text) < 4000 else Decimal(text)  # int() refuses more than 4300 digits
