"""The grammar of a read's query string."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtwidgets.local.rest_errors import RestError
from rtwidgets.local.rest_query import (
    MAX_DEPTH,
    MAX_LENGTH,
    Condition,
    Field,
    Group,
    Ordered,
    PathStep,
    Query,
    Selected,
    parse,
)


def where(*parameters: tuple[str, str]) -> tuple[Condition | Group, ...]:
    return parse(parameters).where


def test_nothing_reads_everything() -> None:
    assert parse([]) == Query()


@pytest.mark.parametrize(
    ("text", "selected"),
    [
        ("*", ("*",)),
        ("a,b", (Selected(Field("a")), Selected(Field("b")))),
        ("full name, b", (Selected(Field("full name")), Selected(Field("b")))),
        ('"a,b","c""d"', None),
        ('"a,b","c\\"d","e\\\\f"', (Selected(Field("a,b")), Selected(Field('c"d')), Selected(Field("e\\f")))),
        ("x:a", (Selected(Field("a"), "x"),)),
        ('"a:b"', (Selected(Field("a:b")),)),
        ('"x:y":"a:b"::text', (Selected(Field("a:b"), "x:y", "text"),)),
        ("a::int4[]", (Selected(Field("a"), None, "int4[]"),)),
        ("a-b", (Selected(Field("a-b")),)),
        ("a->b->>0", (Selected(Field("a", (PathStep("b", False), PathStep(0, True)))),)),
        ("a->1b", (Selected(Field("a", (PathStep("1b", False),))),)),
        ("a->-1", (Selected(Field("a", (PathStep(-1, False),))),)),
        ("a,", None),
        (",a", None),
        ("a::", None),
        ("a b::text c", None),
        ("other(*)", None),
        ("...other(*)", None),
        ("n.sum()", None),
    ],
)
def test_select(text: str, selected: tuple[Selected, ...] | None) -> None:
    if selected is None:
        with pytest.raises(RestError):
            parse([("select", text)])
    else:
        assert parse([("select", text)]).selected == selected


@pytest.mark.parametrize(
    ("text", "order"),
    [
        ("", ()),
        ("a", (Ordered(Field("a")),)),
        ("a.desc,b.asc.nullsfirst", (Ordered(Field("a"), True), Ordered(Field("b"), False, "first"))),
        ("a.nullslast", (Ordered(Field("a"), False, "last"),)),
        ('"a.b".desc', (Ordered(Field("a.b"), True),)),
        ('"desc".desc.nullslast', (Ordered(Field("desc"), True, "last"),)),
        (",id", None),
        ("id,,v", None),
        ("id.down", None),
        ("id.desc.desc", None),
        ("a.b.desc", None),
        ("id.descending", None),
    ],
)
def test_order(text: str, order: tuple[Ordered, ...] | None) -> None:
    if order is None:
        with pytest.raises(RestError) as caught:
            parse([("order", text)])
        assert caught.value.body["code"] == "PGRST100"
    else:
        assert parse([("order", text)]).order == order


@pytest.mark.parametrize(
    ("key", "value", "condition"),
    [
        ("a", "eq.1", Condition(Field("a"), "eq", "1")),
        ("a", "not.eq.1", Condition(Field("a"), "eq", "1", True)),
        ("a", "eq.x.y,(z)", Condition(Field("a"), "eq", "x.y,(z)")),
        ("a", 'eq."x"', Condition(Field("a"), "eq", '"x"')),
        ("a", "eq.", Condition(Field("a"), "eq", "")),
        ("a", "is.NULL", Condition(Field("a"), "is", "null")),
        ("a", 'in.(x,"y,z", w,"q"r)', Condition(Field("a"), "in", ("x", "y,z", " w", '"q"r'))),
        ("a", "in.()", Condition(Field("a"), "in", ())),
        ('"order"', "gt.3", Condition(Field("order"), "gt", "3")),
        ('"limit"', "gt.3", Condition(Field("limit"), "gt", "3")),
        ('"and"', "eq.1", Condition(Field("and"), "eq", "1")),
        ('"a.order"', "eq.1", Condition(Field("a.order"), "eq", "1")),
        ('"a\\"b"', "eq.1", Condition(Field('a"b'), "eq", "1")),
        ("a->>k", "eq.1", Condition(Field("a", (PathStep("k", True),)), "eq", "1")),
    ],
)
def test_a_condition(key: str, value: str, condition: Condition) -> None:
    assert where((key, value)) == (condition,)


@pytest.mark.parametrize(
    ("key", "value", "code"),
    [
        ("a", "1", "PGRST100"),
        ("a", "frob.1", "PGRST100"),
        ("a", "eq(any).{1}", "PGRST100"),
        ("a", "is.maybe", "PGRST100"),
        ("a", "in.x", "PGRST100"),
        ("a", "in.(x", "PGRST100"),
        ("a", "in.(x)y", "PGRST100"),
        ("", "eq.1", "PGRST100"),
        ('"a"b', "eq.1", "PGRST100"),
        ("a.b", "eq.1", "PGRST108"),
        ("a.order", "id", "PGRST108"),
        ("order", "gt.3", "PGRST100"),
        ("limit", "x", "PGRST100"),
        ("limit", "٣", "PGRST100"),
        ("limit", "-1", "PGRST103"),
        ("and", "", "PGRST100"),
        ("and", "()", "PGRST100"),
        ("and", "(,id.eq.1)", "PGRST100"),
        ("and", "(id.eq.1,)", "PGRST100"),
        ("and", "(id.eq.1", "PGRST100"),
        ("and", "(id.eq.1))", "PGRST100"),
        ("or", "(id)", "PGRST100"),
    ],
)
def test_what_is_refused(key: str, value: str, code: str) -> None:
    with pytest.raises(RestError) as caught:
        parse([(key, value)])
    assert caught.value.body["code"] == code


def test_a_tree() -> None:
    (found,) = where(("not.or", '(a.eq.1,not.and(b.not.in.(2,"3)"),"c,d".is.null),and.eq."x,y",e.cs.{1,2},f.eq.z)'))
    assert found == Group(
        "or",
        (
            Condition(Field("a"), "eq", "1"),
            Group(
                "and",
                (Condition(Field("b"), "in", ("2", "3)"), True), Condition(Field("c,d"), "is", "null")),
                negated=True,
            ),
            Condition(Field("and"), "eq", "x,y"),
            Condition(Field("e"), "cs", "{1,2}"),
            Condition(Field("f"), "eq", "z"),
        ),
        negated=True,
    )


def test_depth_and_length_are_bounded() -> None:
    def nested(depth: int) -> str:
        return "(" + "and(" * (depth - 1) + "a.eq.1" + ")" * depth

    parse([("and", nested(MAX_DEPTH))])
    with pytest.raises(RestError, match="deeper"):
        parse([("and", nested(MAX_DEPTH + 1))])
    with pytest.raises(RestError, match="deeper"):
        parse([("and", nested(10_000))])
    with pytest.raises(RestError) as caught:
        parse([("a", "eq." + "x" * MAX_LENGTH)])
    assert caught.value.status == 414


@pytest.mark.parametrize(
    "pair",
    [
        ("and", "(" * MAX_LENGTH),
        ("and", "(" + '"' * (MAX_LENGTH - 9)),
        ("and", "(" + "a.eq.{" * (MAX_LENGTH // 7)),
        ("and", "(" + "a.eq.1," * (MAX_LENGTH // 8) + "a.eq.1)"),
        ("select", "a->" * (MAX_LENGTH // 4)),
        ("select", "a " * (MAX_LENGTH // 3)),
        ("select", '"' + "\\" * (MAX_LENGTH - 9)),
        ("order", '"' * (MAX_LENGTH - 9)),
        ("a", "in.(" + '"x",' * (MAX_LENGTH // 5)),
        ("a", "in.(" + '"' * (MAX_LENGTH - 9)),
    ],
)
def test_time_is_linear(pair: tuple[str, str]) -> None:
    began = time.process_time()
    try:
        parse([pair])
    except RestError:
        pass
    assert time.process_time() - began < 1


@pytest.mark.parametrize(
    ("span", "offset", "limit"),
    [("1-1", 1, 1), ("items=0-9", 0, 10), ("5-", 5, None), ("x", 0, None), ("9" * 4000 + "-", 0, None)],
)
def test_a_range(span: str, offset: int, limit: int | None) -> None:
    found = parse([], span)
    assert (found.offset, found.limit) == (offset, limit)


def test_a_range_narrows_the_limit() -> None:
    assert parse([("limit", "3"), ("offset", "2")], "1-9") == Query(offset=3, limit=3)
    with pytest.raises(RestError):
        parse([], "3-1")
    assert parse([("limit", "9" * 30)]).limit == 2**63 - 1


NAMES = st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), min_size=1)


def quoted(name: str) -> str:
    return '"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"'


@given(NAMES, NAMES)
def test_any_name_can_be_quoted(one: str, two: str) -> None:
    a, b = quoted(one), quoted(two)
    found = parse(
        [("select", f"{a}:{b},{a}->{b}"), ("order", f"{a}.desc,{b}"), (a, f"in.({b},x)"), ("or", f"({b}.eq.{a})")]
    )
    assert found.selected == (Selected(Field(two), one), Selected(Field(one, (PathStep(two, False),))))
    assert found.order == (Ordered(Field(one), True), Ordered(Field(two)))
    assert found.where == (
        Condition(Field(one), "in", (two, "x")),
        Group("or", (Condition(Field(two), "eq", one),)),
    )


KEYS = st.sampled_from(["select", "order", "and", "or", "not.and", "limit", "offset", "a", '"a', "a.b", "a->b"])
PIECES = st.sampled_from(
    [*'.,:()"{}*->\\ a1', "eq.", "not.", "in.(", "and(", "or(", "is.null", "::text", ".desc", "a.eq.1"]
)


@pytest.mark.slow
@settings(max_examples=500)
@given(st.lists(st.tuples(KEYS | NAMES, st.lists(PIECES, max_size=30).map("".join) | st.text()), max_size=4), st.text())
def test_nothing_but_the_documented_error_is_raised(parameters: list[tuple[str, str]], span: str) -> None:
    status = 200
    try:
        parse(parameters, span)
    except RestError as error:
        status = error.status
    assert status in (200, 400, 414, 416)
