"""Patterns in linear time: they mean what Python's engine says they mean, and no pattern takes long."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtwidgets.protocol import errors, filters
from rtwidgets.protocol.filter_eval import judge
from rtwidgets.protocol.patterns import compile_like, compile_regex


def as_regex(pattern: str) -> str:
    """A pattern of `like` as Python's engine reads it."""
    out, escaped = "", False
    for char in pattern:
        if escaped or char not in "\\%_":
            out, escaped = out + re.escape(char), False
        elif char == "\\":
            escaped = True
        else:
            out += ".*" if char == "%" else "."
    return out


texts = st.text("ab%_\\\nAÉ.", max_size=12)


@given(st.text("ab%_\\A", max_size=10), texts)
def test_like_means_what_a_regex_of_it_means(pattern: str, text: str) -> None:
    matcher = compile_like(pattern)
    if (len(pattern) - len(pattern.rstrip("\\"))) % 2:
        assert matcher is None, "Postgres refuses a pattern that ends within an escape"
        return
    assert matcher is not None
    assert matcher(text) is (re.fullmatch(as_regex(pattern), text, re.S) is not None)
    folded = compile_like(pattern, ignore_case=True)
    assert folded is not None
    if text.isascii():
        assert folded(text) is (re.fullmatch(as_regex(pattern), text, re.S | re.I) is not None)
    else:
        assert folded(text) is None, "the database's locale decides"


@given(st.text("ab.*^$|\\-", max_size=8), texts)
def test_a_regex_that_is_decided_here_means_the_same_in_python(pattern: str, text: str) -> None:
    matcher = compile_regex(pattern)
    if matcher is None:
        return
    in_python = pattern.replace("$", r"\Z") if "\\$" not in pattern else pattern
    assert matcher(text) is (re.search(in_python, text, re.S) is not None)


@pytest.mark.parametrize(
    ("pattern", "text", "found"),
    [
        ("b", "abc", True),
        ("^b", "abc", False),
        ("c$", "abc", True),
        ("^b$", "b\n", False),
        ("^a.c$", "a\nc", True),
        ("a.*c", "xaxxcx", True),
        (r"1\.5", "1x5", False),
        ("^a|c$", "xc", True),
        ("", "x", True),
    ],
)
def test_plain_regular_expressions_are_decided_here(pattern: str, text: str, found: bool) -> None:
    matcher = compile_regex(pattern)
    assert matcher is not None
    assert matcher(text) is found


@pytest.mark.parametrize(
    "pattern",
    [
        "a*",
        "a+",
        "a?",
        "a{2}",
        "(a)",
        "[ab]",
        r"\d",
        r"\ma",
        "***=a",
        "(?i)a",
        "a**",
        "^*",
        "a$b",
        "a.*?b",
        "\\",
    ],
)
def test_whatever_needs_an_engine_is_left_to_postgres(pattern: str) -> None:
    assert compile_regex(pattern) is None
    assert judge(filters.Filter((filters.Condition("v", "match", pattern),)), {"v": "text"})({"v": "aaa"}) is None


@pytest.mark.parametrize(
    ("op", "pattern", "text"),
    [
        ("match", "a*" * 12 + "b", "a" * 2000),
        ("match", "(a+)+$", "a" * 50_000 + "b"),
        ("imatch", "(x|x)*y", "x" * 50_000),
        ("match", "|".join(["a.*" * 50 + "b"] * 40), "a" * 100_000),
        ("match", "a.*" * 1000 + "b", "a" * 1_000_000),
        pytest.param("like", "%a" * 200_000 + "b", "a" * 1_000_000, marks=pytest.mark.slow),
        ("like", "%" + "_a" * 50_000 + "b%", "a" * 1_000_000),
        ("like", "%" + "a" * 500_000 + "b%", "a" * 1_000_000),
        ("ilike", "%" + "a_" * 1000 + "b%", "a" * 1_000_000),
        ("like", "_" * 1_000_000 + "%", "a" * 1_000_000),
        ("eq", "1", "1" * 1_000_000 + "x"),
    ],
)
def test_no_pattern_of_a_stranger_takes_long(op: str, pattern: str, text: str) -> None:
    """Run in the server's loop or in a kernel, one that backtracks would stop everybody else."""
    start = time.process_time()
    kind = "numeric" if op == "eq" else "text"
    verdict = judge(filters.Filter((filters.Condition("v", op, pattern),)), {"v": kind})
    for _ in range(3):
        verdict({"v": text})
    # An engine that backtracks would take hours; a busy machine or coverage makes this one a few times slower.
    assert time.process_time() - start < 10


@pytest.mark.parametrize("piece", ["eyJ", "eyJaaaaa.", "a.", "eyJ-", "password='", "sb_secret_", "://a:", "apikey="])
def test_no_text_of_a_stranger_takes_long_to_redact(piece: str) -> None:
    start = time.process_time()
    errors.redact(piece * (1_000_000 // len(piece)))
    # An engine that backtracks would take hours; a busy machine or coverage makes this one a few times slower.
    assert time.process_time() - start < 10


def test_a_token_is_redacted_wherever_it_stands() -> None:
    token = "eyJhbGciOiJIUzI1NiJ9.eyJyb2xlIjoiYW5vbiJ9.c2ln"
    for text in (token, f"Bearer {token}", f"x={token}&y", f"prefix_{token}", f"a.{token}", f"({token})"):
        assert "c2ln" not in errors.redact(text)
        assert "eyJhbG" not in errors.redact(text)
    assert errors.redact("www.example.org and a.b.c") == "www.example.org and a.b.c"
