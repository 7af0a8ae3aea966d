"""Postgres' regular expressions as Python's. Postgres itself is asked in tests/local/test_server.py."""

from __future__ import annotations

import pytest

from rtwidgets.protocol import filters
from rtwidgets.protocol.errors import RealtimeError
from rtwidgets.protocol.regex import regular


@pytest.mark.parametrize(
    ("pattern", "text", "found"),
    [
        ("a.c", "a\nc", True),
        ("^b$", "b\n", False),
        ("^b$", "a\nb", False),
        ("(?n)^b$", "a\nb", True),
        ("[[:upper:]]", "É", True),
        ("[^[:upper:]]", "É", False),
        (r"\mb\M", "a b c", True),
        ("***=a.c", "abc", False),
        ("(?q)a.c", "a.c", True),
        ("[]]", "]", True),
        ("[$]", "$", True),
        (r"\$", "$", True),
    ],
)
def test_they_mean_what_they_mean_in_postgres(pattern: str, text: str, found: bool) -> None:
    assert (regular(pattern).search(text) is not None) is found


@pytest.mark.parametrize("pattern", ["[[.a.]]", "[[=a=]]", "[[:nope:]]", "[a", "***:a", "(?b)a", "(a"])
def test_what_cannot_be_said_is_refused(pattern: str) -> None:
    with pytest.raises(RealtimeError):
        filters.Filter((filters.Condition("v", "match", pattern),)).compile({"v": "text"})


def test_a_pattern_of_many_parts_takes_no_time() -> None:
    wanted = filters.Filter((filters.Condition("v", "like", "%a" * 20 + "b"),))
    assert wanted.compile({"v": "text"})({"v": "a" * 3000}) is False
