"""Filters, backoff, errors."""

from __future__ import annotations

import pickle
import random
import re
from datetime import UTC, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtwidgets.protocol import errors, filters
from rtwidgets.protocol.backoff import Backoff
from rtwidgets.protocol.errors import RealtimeError
from rtwidgets.protocol.filter_eval import judge
from rtwidgets.protocol.filters import OPS, parse, where
from rtwidgets.protocol.rest_names import PARAMETERS, parse_name, quote_name, split_names
from rtwidgets.protocol.sql_names import sql_name

TYPES = {"id": "int8", "amount": "numeric", "name": "text", "ok": "bool", "at": "timestamptz"}


@pytest.mark.parametrize(
    ("text", "row", "matches"),
    [
        ("id=eq.1", {"id": 1}, True),
        ("id=eq.1", {"id": 2}, False),
        ("id=neq.1", {"id": None}, False),
        ("id=not.eq.1", {"id": None}, False),
        ("id=not.eq.1", {"id": 2}, True),
        ("id=isdistinct.1", {"id": None}, True),
        ("id=in.(1,2,3)", {"id": 3}, True),
        ("id=not.in.(1,2,3)", {"id": 3}, False),
        ("amount=gt.9", {"amount": 10.5}, True),
        ("amount=eq.1.10", {"amount": 1.1}, True),
        ("name=gt.9", {"name": "10"}, False),
        ("name=is.null", {"name": None}, True),
        ("name=not.is.null", {"name": None}, False),
        ("ok=is.true", {"ok": True}, True),
        ("ok=is.unknown", {"ok": None}, True),
        ("ok=eq.f", {"ok": False}, True),
        ("name=like.a%", {"name": "Abc"}, False),
        ("name=ilike.a%", {"name": "Abc"}, True),
        ("name=match.^a.c$", {"name": "abc"}, True),
        ("name=imatch.^A", {"name": "abc"}, True),
        ("at=lt.2026-01-01T00:00:00Z", {"at": "2025-12-31T23:59:59+00:00"}, True),
        ("id=gte.1,name=eq.x", {"id": 1, "name": "x"}, True),
        ("id=gte.1,name=eq.x", {"id": 1, "name": "y"}, False),
        ('name=eq."a,b"', {"name": "a,b"}, True),
        ('name=in.("a,b","c""")', {"name": "a,b"}, True),
        ("", {"id": 1}, True),
    ],
)
def test_a_filter_means_what_it_means_in_postgres(text: str, row: Any, matches: bool) -> None:
    assert judge(parse(text), TYPES, logged=True)(row) is matches


@pytest.mark.parametrize(
    "bad",
    [
        "garbage",
        "id=1",
        "id=foo.1",
        "id=in.1",
        "id=in.()",
        "=eq.1",
        '""=eq.1',
        'a"b"=eq.1',
        "a(b)=eq.1",
        "name=is.maybe",
        'name=eq."a',
        "id=in.(" + ",".join("1" * 101) + ")",
        pytest.param(" " * 50_000 + "x", id="blanks"),  # in linear time
        pytest.param('"' + "\\a" * 20_000 + '"' + " " * 20_000 + "x", id="quoted, and blanks"),
    ],
)
def test_an_invalid_filter_raises(bad: str) -> None:
    with pytest.raises(RealtimeError) as caught:
        parse(bad)
    assert caught.value.code == "InvalidFilter"


def test_a_value_that_is_not_of_the_type_leaves_the_result_unknown() -> None:
    assert judge(parse("id=eq.abc"), TYPES)({"id": 1}) is None


@given(st.sampled_from([op for op in OPS if op not in ("in", "is")]), st.text(max_size=20), st.booleans())
def test_the_filter_builder_quotes_values_that_need_it(op: str, value: str, negated: bool) -> None:
    built = where("name", op, value, negated=negated) & where("id", "in", [1, 2])
    assert parse(str(built)) == built


@given(st.text(min_size=1, max_size=20), st.text(max_size=10))
def test_a_column_of_any_name_stands_in_a_filter(column: str, value: str) -> None:
    built = where(column, "eq", value) & where(column, "in", [value])
    assert parse(str(built)) == built


def test_a_plain_column_stands_for_itself() -> None:
    assert [str(where(name, "eq", 1)) for name in ("id", "Mixed", "a.b", "a b", "ü")] == [
        "id=eq.1", "Mixed=eq.1", "a.b=eq.1", "a b=eq.1", "ü=eq.1",
    ]  # fmt: skip
    assert str(where('a"=(b)', "eq", 1)) == r'"a\"=(b)"=eq.1'


@given(st.text(min_size=1, max_size=20), st.sampled_from(["", ".desc", ".asc.nullslast"]))
def test_a_column_of_any_name_stands_in_a_url(name: str, suffix: str) -> None:
    quoted = quote_name(name)
    assert quoted not in PARAMETERS
    assert parse_name(quoted + suffix) == (name, suffix)
    assert split_names(f"{quoted}{suffix},id,{quoted}") == [quoted + suffix, "id", quoted]


@pytest.mark.parametrize(
    ("schema", "table", "written"),
    [
        ("public", "orders", "public.orders"),
        ("public", "order", "public.order"),  # after a dot, a keyword is a name
        ("app", "orders", '"app".orders'),
        ("select", 'a"b', '"select"."a""b"'),
        ("public", "Mixed", 'public."Mixed"'),
    ],
)
def test_names_in_hints_are_names_in_sql(schema: str, table: str, written: str) -> None:
    assert sql_name(schema, table) == written
    text = (
        "Unable to subscribe to changes with given parameters. Please check Realtime is enabled for the given connect "
        f"parameters: [event: *, schema: {schema}, table: {table}, filters: [], select: nil]"
    )
    assert f"add table {written};`" in errors.from_system(text).hint


@given(st.lists(st.text(max_size=10), min_size=1, max_size=5))
def test_the_filter_builder_quotes_lists_of_any_text(values: list[str]) -> None:
    built = where("name", "in", values)
    assert parse(str(built)) == built
    assert all(judge(built, TYPES)({"name": value}) for value in values)


@given(st.text(max_size=40))
def test_any_text_parses_or_is_refused(text: str) -> None:
    try:
        found = parse(text)
    except RealtimeError:
        return
    assert parse(str(found)) == found


class Status(Enum):
    OPEN = "open"


@pytest.mark.parametrize(
    ("op", "value", "text"),
    [
        ("eq", b"\xde\xad", 'c=eq."\\\\xdead"'),
        ("eq", Status.OPEN, "c=eq.open"),
        ("in", [Status.OPEN, "b,c"], 'c=in.(open,"b,c")'),
        ("eq", Decimal("0.10"), "c=eq.0.10"),
        ("gte", datetime(2026, 1, 2, 3, tzinfo=UTC), "c=gte.2026-01-02T03:00:00+00:00"),
        ("eq", time(10, 1), "c=eq.10:01:00"),
        ("eq", timedelta(days=1, seconds=2, microseconds=3), "c=eq.1 days 2.000003 seconds"),
        ("is", None, "c=is.null"),
        ("is", False, "c=is.false"),
        ("eq", "", 'c=eq.""'),
    ],
)
def test_python_values_are_written_as_postgres_reads_them(op: str, value: Any, text: str) -> None:
    assert str(where("c", op, value)) == text
    assert parse(text) == where("c", op, value)


@pytest.mark.parametrize(
    ("op", "value", "words"),
    [
        ("eq", None, "use where('c', 'is', None)"),
        ("neq", None, "matches no row"),
        ("in", [1, None], "matches no row"),
        ("eq", [1, 2], "use 'in'"),
        ("eq", {"a": 1}, "takes one value"),
        ("in", "abc", "a list"),
        ("in", b"abc", "a list"),
        ("in", 5, "a list"),
    ],
)
def test_a_filter_that_can_match_nothing_raises(op: str, value: Any, words: str) -> None:
    with pytest.raises(RealtimeError, match=re.escape(words)) as caught:
        where("c", op, value)
    assert caught.value.code == "InvalidFilter"


def test_rest_parameters() -> None:
    assert parse("id=in.(1,2),name=not.eq.x").rest() == [("id", 'in.("1","2")'), ("name", "not.eq.x")]


@pytest.mark.parametrize(
    ("text", "sent"),
    [
        ("c=like.a*b%", "match.^a\\*b.*$"),
        ("c=not.ilike.*é_", "not.imatch.^\\*é.$"),
        ("c=like.a%", "like.a%"),
        ("c=eq.a*b", "eq.a*b"),
    ],
)
def test_rest_does_not_read_a_star_in_a_pattern_as_a_wildcard(text: str, sent: str) -> None:
    assert parse(text).rest() == [("c", sent)]


@pytest.mark.parametrize("kind", ["json", "jsonb", "float8"])
def test_a_null_that_may_be_a_value_on_the_wire_is_left_to_postgres(kind: str) -> None:
    test = judge(parse("c=is.null"), {"c": kind})
    assert test({"c": None}) is None
    assert judge(parse("c=is.null"), {"c": kind}, logged=True)({"c": None}) is True


@given(st.integers(0, 50), st.integers())
def test_backoff_is_jittered_and_bounded(tries: int, seed: int) -> None:
    backoff = Backoff(0.5, 20, rng=random.Random(seed))
    delays = [backoff.next() for _ in range(tries)]
    assert all(0.05 <= delay <= min(20, max(0.05, 0.5 * 2**n)) for n, delay in enumerate(delays))
    assert 30 <= backoff.next(30) <= 45


@pytest.mark.parametrize(
    ("reason", "code", "retryable"),
    [
        ("InvalidJWTToken: Token has expired 3 seconds ago", "TokenExpired", False),
        ("Unauthorized: You do not have permissions to read from this Channel topic: t", "Unauthorized", False),
        ("ChannelRateLimitReached: Too many channels", "ChannelRateLimitReached", True),
        ("RealtimeRestarting: Realtime is restarting, please standby", "RealtimeRestarting", True),
        ("unmatched topic", "NotSubscribed", False),
        ("Client presence rate limit exceeded", "ClientPresenceRateLimitReached", True),
        ("Unknown Error on Channel", "UnknownErrorOnChannel", True),
        ("", "UnknownErrorOnChannel", True),
    ],
)
def test_a_reason_becomes_an_error_with_a_code(reason: str, code: str, retryable: bool) -> None:
    error = errors.from_reason(reason)
    assert (error.code, error.retryable) == (code, retryable)
    assert error.hint
    again = pickle.loads(pickle.dumps(error))
    assert (again.code, again.message, again.hint) == (error.code, error.message, error.hint)


# PROTOCOL's table of operational codes: what a client does about each group.
CALLER = """TopicNameRequired InvalidJoinPayload RealtimeDisabledForConfiguration InvalidPresencePayload
    UnknownPresenceEvent UnprocessableEntity MalformedWebSocketMessage"""
AUTH = """MissingAPIKey InvalidJWTToken MalformedJWT JwtSignatureError JwtSignerError Unauthorized PrivateOnly
    RlsPolicyError"""
LIMITS = """ChannelRateLimitReached ConnectionRateLimitReached ClientJoinRateLimitReached JoinsRateLimitReached
    MessagePerSecondRateLimitReached PresenceRateLimitReached ClientPresenceRateLimitReached
    DatabaseConnectionRateLimitReached"""
PROJECT = "TenantNotFound RealtimeDisabledForTenant"
DATABASE = """UnableToConnectToProject DatabaseLackOfConnections IncreaseConnectionPool
    IncreaseSubscriptionConnectionPool InitializingProjectConnection QueryCanceled MissingPartition UnableToSetPolicies
    UnableToSubscribeToPostgres ReconnectSubscribeToPostgres ReplicationMaxWalSendersReached ReplicationSlotBeingUsed"""
SERVICE = "RealtimeRestarting TimeoutOnRpcCall ErrorOnRpcCall MusterJoinError UnknownErrorOnChannel"
GROUPS = [
    (CALLER, False, 0), (AUTH, False, 0), (LIMITS, True, 30), (PROJECT, False, 0), (DATABASE, True, 0),
    (SERVICE, True, 0), ("UnableToReplayMessages", False, 0),
]  # fmt: skip


@pytest.mark.parametrize(
    ("code", "retryable", "wait"),
    [(code, retryable, wait) for group, retryable, wait in GROUPS for code in group.split()],
)
def test_every_known_code_says_whether_to_retry(code: str, retryable: bool, wait: int) -> None:
    error = errors.from_reason(f"{code}: some text: with a colon")
    assert (error.code, error.retryable, errors.min_wait(error)) == (code, retryable, wait)
    assert error.message == "some text: with a colon"
    assert len(error.hint) > 10, "a hint says what to do"


def test_rate_limits_wait() -> None:
    assert errors.min_wait(errors.from_reason("ClientJoinRateLimitReached: Too many joins per second")) == 30
    assert errors.from_status(429, b'{"error":"Too many connected users"}').code == "ConnectionRateLimitReached"
    assert errors.from_status(401, b'{"error":"Token has expired"}').code == "TokenExpired"
    assert errors.from_status(403, b"").retryable is False
    assert errors.from_status(503, b"").retryable is True


def test_errors_carry_no_secret() -> None:
    token = "eyJhbGciOiJIUzI1NiJ9.eyJyb2xlIjoiYW5vbiJ9.c2lnbmF0dXJl"
    assert token not in str(errors.from_reason(f"MalformedJWT: {token} is bad"))


def test_a_languages_order_is_not_ours_to_judge() -> None:
    wanted = filters.parse("c=lt.m")
    assert judge(wanted, {"c": "text"})({"c": "a"}) is True
    assert judge(wanted, {"c": "text"}, collated=["c"])({"c": "a"}) is None
    assert judge(filters.parse("c=eq.m"), {"c": "text"}, collated=["c"])({"c": "a"}) is False
    assert (
        judge(filters.parse("c=lt.m,n=eq.1"), {"c": "text", "n": "int4"}, collated=["c"])({"c": "a", "n": 2}) is False
    )
