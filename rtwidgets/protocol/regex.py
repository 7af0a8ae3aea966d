"""Postgres' regular expressions, as Python's: what `match` and `imatch` mean (`~` and `~*`).

Postgres' "advanced" expressions are Python's but for what stands here. What Python cannot say raises ValueError.
"""

from __future__ import annotations

import re
import string
import sys
from functools import cache

_ESCAPES = {"m": r"(?<!\w)(?=\w)", "M": r"(?<=\w)(?!\w)", "y": r"\b", "Y": r"\B", "Z": r"\Z", "A": r"\A", "B": r"\\"}
"""Outside brackets; every other escape is Python's own."""

_CLASSES = {
    "digit": "0-9",
    "xdigit": "0-9A-Fa-f",
    "space": r"\s",
    "blank": r" \t",
    "cntrl": r"\x00-\x1f\x7f",
    "punct": re.escape(string.punctuation),
    "word": r"\w",
}
_BY_TEST = {"alpha": str.isalpha, "alnum": str.isalnum, "upper": str.isupper, "lower": str.islower}


def regular(pattern: str, *, ignore_case: bool = False) -> re.Pattern[str]:
    """Raises ValueError (re.error is one) for what cannot be translated."""
    flags = re.DOTALL | (re.IGNORECASE if ignore_case else 0)
    lines = False
    if pattern.startswith("***="):
        return re.compile(re.escape(pattern[4:]), flags)
    if pattern.startswith("***"):
        raise ValueError("the prefix *** is not supported")
    options = re.match(r"\(\?([a-z]+)\)", pattern)
    if options:
        pattern = pattern[options.end() :]
        for letter in options[1]:
            if letter == "i":
                flags |= re.IGNORECASE
            elif letter == "c":
                flags &= ~re.IGNORECASE
            elif letter in "nm":
                lines, flags = True, flags & ~re.DOTALL
            elif letter == "p":
                flags &= ~re.DOTALL
            elif letter == "w":
                lines = True
            elif letter == "x":
                flags |= re.VERBOSE
            elif letter == "q":
                return re.compile(re.escape(pattern), flags)
            elif letter not in "st":
                raise ValueError(f"the option {letter} is not supported")
    if lines:
        flags |= re.MULTILINE
    return re.compile(_translated(pattern, end="$" if lines else r"\Z"), flags)


def _translated(pattern: str, *, end: str) -> str:
    out: list[str] = []
    at = 0
    while at < len(pattern):
        char = pattern[at]
        if char == "\\" and at + 1 < len(pattern):
            out.append(_ESCAPES.get(pattern[at + 1], pattern[at : at + 2]))
            at += 2
        elif char == "[":
            part, at = _bracket(pattern, at + 1)
            out.append(part)
        else:
            out.append(end if char == "$" else char)
            at += 1
    return "".join(out)


def _bracket(pattern: str, at: int) -> tuple[str, int]:
    """The bracket expression that begins there, and where it ends."""
    negated = pattern.startswith("^", at)
    at += negated
    items: list[str] = []
    first = True
    while first or not pattern.startswith("]", at):
        if at >= len(pattern):
            raise ValueError("brackets are not balanced")
        first = False
        if pattern.startswith(("[.", "[="), at):
            raise ValueError("collating elements are not supported")
        if pattern.startswith("[:", at):
            stop = pattern.find(":]", at)
            name = pattern[at + 2 : stop] if stop > 0 else ""
            if name not in _CLASSES and name not in _BY_TEST:
                raise ValueError(f"invalid character class {name}")
            items.append(_CLASSES.get(name) or _members(name))
            at = stop + 2
        elif pattern[at] == "\\" and at + 1 < len(pattern):
            items.append(pattern[at : at + 2])
            at += 2
        else:
            # Python warns of brackets and doubled signs in a set, which may mean something else one day.
            items.append("\\" + pattern[at] if pattern[at] in "[]&|~^" else pattern[at])
            at += 1
    return f"[{'^' if negated else ''}{''.join(items)}]", at + 1


@cache
def _members(name: str) -> str:
    """The ranges of the characters of a class."""
    test = _BY_TEST[name]
    ranges: list[str] = []
    start = None
    for code in range(sys.maxunicode + 2):
        belongs = code <= sys.maxunicode and test(chr(code))
        if belongs and start is None:
            start = code
        elif not belongs and start is not None:
            ranges.append(f"\\U{start:08x}-\\U{code - 1:08x}")
            start = None
    return "".join(ranges)
