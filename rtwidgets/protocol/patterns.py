"""Patterns of `like`, `ilike`, `match` and `imatch` in linear time: a stranger's pattern never reaches a regex engine.

A pattern that is literal text with wildcards is compiled here. Whatever needs more, Postgres decides.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import groupby
from typing import cast

Matcher = Callable[[str], bool | None]
"""Whether a text matches; None where it cannot be told in linear time."""

MAX_BRANCHES = 16
"""Alternatives of a regular expression: each costs a pass over the text."""
STEPS = 16
"""Comparisons for each character of a text, after which a search is given up."""
_PIECE = 32
"""Comparisons that looking for one more literal text costs as much as."""
_SPECIAL = frozenset("\\^$.[](){}*+?|")

_Char = str | None
"""A character of a pattern; None for any one character."""


def compile_like(pattern: str, *, ignore_case: bool = False) -> Matcher | None:
    """What `like` (with `ignore_case`, `ilike`) means; None for a pattern that Postgres refuses."""
    if ignore_case:
        return _ignoring_case(compile_like, pattern)
    parts: list[list[_Char]] = [[]]
    escaped = False
    for char in pattern:
        if escaped:
            parts[-1].append(char)
            escaped = False
        elif char == "\\":
            escaped = True
        elif char == "%":
            parts.append([])
        elif char == "_":
            parts[-1].append(None)
        else:
            parts[-1].append(char)
    return None if escaped else _sequence([_Part(part) for part in parts])


def compile_regex(pattern: str, *, ignore_case: bool = False) -> Matcher | None:
    """What `match` (with `ignore_case`, `imatch`) means, where the pattern is literal text with `^`, `$`, `.`, `.*`,
    escaped punctuation and alternatives of such; None for everything else.
    """
    if ignore_case:
        return _ignoring_case(compile_regex, pattern)
    if pattern.startswith("***"):  # a prefix that changes what the rest means
        return None
    matchers: list[Matcher] = []
    for branch in _branches(pattern):
        parts = _regex_parts(branch)
        if parts is None or len(matchers) == MAX_BRANCHES:
            return None
        matchers.append(_sequence(parts))
    return matchers[0] if len(matchers) == 1 else _any_of(matchers)


def _ignoring_case(compile_: Callable[[str], Matcher | None], pattern: str) -> Matcher | None:
    if not pattern.isascii():
        return None  # which letters are one but for their case, the database's locale decides
    matcher = compile_(pattern.lower())
    return None if matcher is None else lambda text: matcher(text.lower()) if text.isascii() else None


def _branches(pattern: str) -> list[str]:
    found: list[str] = []
    start, escaped = 0, False
    for at, char in enumerate(pattern):
        if escaped:
            escaped = False
        elif char == "\\":
            escaped = True
        elif char == "|":
            found.append(pattern[start:at])
            start = at + 1
    return [*found, pattern[start:]]


def _regex_parts(branch: str) -> list[_Part] | None:
    """The branch as the parts of a sequence, which begins or ends with an empty part where it has no anchor."""
    anchored = branch.startswith("^")
    parts: list[list[_Char]] = [[]] if anchored else [[], []]
    at, stop = int(anchored), len(branch)
    while at < stop:
        char, following = branch[at], branch[at + 1 : at + 2]
        if char == "$" and at + 1 == stop:
            return [_Part(part) for part in parts]
        if char == "." and following == "*":
            parts.append([])
            at += 2
        elif char == ".":
            parts[-1].append(None)
            at += 1
        elif char == "\\" and following and following.isascii() and not following.isalnum():
            parts[-1].append(following)
            at += 2
        elif char in _SPECIAL:
            return None
        else:
            parts[-1].append(char)
            at += 1
        if branch[at : at + 1] in ("*", "+", "?", "{"):
            return None
    return [_Part(part) for part in [*parts, []]]


def _any_of(matchers: list[Matcher]) -> Matcher:
    def match(text: str) -> bool | None:
        found: bool | None = False
        for matcher in matchers:
            one = matcher(text)
            if one:
                return True
            if one is None:
                found = None
        return found

    return match


class _Part:
    """Literal texts and single wildcards in a row: what stands between two wildcards of any length."""

    def __init__(self, chars: list[_Char]) -> None:
        self.size = len(chars)
        self._pieces: list[tuple[int, str]] = []
        """The literal texts with their offsets."""
        offset = 0
        for is_wildcard, run in groupby(chars, lambda char: char is None):
            found = list(run)
            if not is_wildcard:
                self._pieces.append((offset, "".join(cast("list[str]", found))))
            offset += len(found)
        self._longest = max(self._pieces, key=lambda piece: len(piece[1]), default=(0, ""))

    def at(self, text: str, start: int) -> bool:
        """Whether it stands at `start`, where the text is long enough."""
        return all(text.startswith(piece, start + offset) for offset, piece in self._pieces)

    def find(self, text: str, start: int, stop: int) -> int | None:
        """Where it first stands between `start` and `stop`; -1 where it does not, None after too many comparisons."""
        offset, longest = self._longest
        if start + self.size > stop:
            return -1
        tail = self.size - offset - len(longest)
        budget = STEPS * (stop - start) // (self.size + _PIECE * len(self._pieces) + 1)
        while True:
            found = text.find(longest, start + offset, stop - tail)
            if found < 0 or self.at(text, found - offset):
                return found - offset if found >= 0 else -1
            start = found - offset + 1
            budget -= 1
            if budget < 0:
                return None


def _sequence(parts: list[_Part]) -> Matcher:
    """Parts in order with anything between them, the first at the text's start and the last at its end."""
    if len(parts) == 1:
        only = parts[0]
        return lambda text: len(text) == only.size and only.at(text, 0)
    first, *middle, last = parts

    def match(text: str) -> bool | None:
        start, stop = first.size, len(text) - last.size
        if start > stop or not first.at(text, 0) or not last.at(text, stop):
            return False
        # Each part where it first stands leaves the most to the next ones, so nothing is ever tried twice.
        for part in middle:
            found = part.find(text, start, stop)
            if found is None:
                return None
            if found < 0:
                return False
            start = found + part.size
        return True

    return match
