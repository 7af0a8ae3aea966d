"""Search and filters: what they leave equals what a plain loop over the rows leaves, after any changes."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtwidgets.data.store import Store
from rtwidgets.data.view_filter import ViewFilter
from rtwidgets.protocol.messages import Change, Column

COLUMNS = [
    Column("id", "int8"),
    Column("name", "text"),
    Column("price", "float8"),
    Column("exact", "numeric"),
    Column("paid", "bool"),
    Column("at", "timestamptz"),
    Column("tags", "jsonb"),
]
ROWS: list[dict[str, Any]] = [
    {
        "id": 1,
        "name": "Äpfel",
        "price": 2.5,
        "exact": "10.50",
        "paid": True,
        "at": "2013-01-01T05:15:00+00:00",
        "tags": {"a": 1},
    },
    {
        "id": 2,
        "name": "pears",
        "price": 10.0,
        "exact": "9.99",
        "paid": False,
        "at": "2013-01-02T05:15:00+00:00",
        "tags": ["x"],
    },
    {"id": 3, "name": None, "price": None, "exact": None, "paid": None, "at": None, "tags": None},
    {
        "id": 2**60 + 1,
        "name": "=5",
        "price": float("-2"),
        "exact": "10.5",
        "paid": True,
        "at": "2014-01-01T00:00:00+00:00",
        "tags": None,
    },
]


def insert(row: dict[str, Any]) -> Change:
    return Change("INSERT", "public", "t", COLUMNS, row)


def shown(store: Store, narrow: ViewFilter, **more: Any) -> list[Any]:
    while narrow.work():
        pass
    return store.window(0, 100, view_filter=narrow, **more)["keys"]


@pytest.fixture
def store() -> Store:
    store = Store(COLUMNS, ["id"], numeric="decimal")
    store.load(ROWS)
    return store


BIG = 2**60 + 1


@pytest.mark.parametrize(
    ("search", "filters", "keys"),
    [
        ("", {}, [1, 2, 3, BIG]),
        ("äPF", {}, [1]),
        ("2013-01", {}, [1, 2]),
        ("05:15", {}, [1, 2]),
        ("true", {}, [1, BIG]),
        ('"a":1', {}, [1]),
        ("nothing like it", {}, []),
        ("", {"name": "p"}, [1, 2]),
        ("", {"name": "=pears"}, [2]),
        ("", {"name": "!pears"}, [1, 3, BIG]),
        ("", {"name": "=null"}, [3]),
        ("", {"name": "!null"}, [1, 2, BIG]),
        ("", {"name": '="=5"'}, [BIG]),
        ("", {"name": "==pears"}, [2]),
        ("", {"name": "!=pears"}, [1, 3, BIG]),
        ("", {"name": "<>pears"}, [1, 3, BIG]),
        ("", {"name": "null"}, [3]),
        ("", {"name": "is null"}, [3]),
        ("", {"name": "IS NULL"}, [3]),
        ("", {"name": "= null"}, [3]),
        ("", {"name": '"null"'}, []),
        ("", {"name": "not null"}, [1, 2, BIG]),
        ("", {"name": "is not null"}, [1, 2, BIG]),
        ("", {"name": "!= null"}, [1, 2, BIG]),
        ("", {"name": "<> null"}, [1, 2, BIG]),
        ("", {"name": '=""'}, []),
        ("", {"name": "in (pears, Äpfel)"}, [1, 2]),
        ("", {"name": 'not in ("pears", "=5")'}, [1, 3]),
        ("", {"name": "äp|=5|null"}, [1, 3]),
        ("", {"name": "äp | =pears"}, [1, 2]),
        ("", {"id": "in (1, 3)"}, [1, 3]),
        ("", {"id": "between 2 and 3"}, [2, 3]),
        ("", {"id": "!=1"}, [2, 3, BIG]),
        ("", {"price": "in (10, 2.5)"}, [1, 2]),
        ("", {"price": ">=10|null"}, [2, 3]),
        ("", {"at": "between 2013-01-02 and 2013-12-31"}, [2]),
        ("", {"paid": "<>true"}, [2, 3]),
        ("", {"tags": '["x"]'}, [2]),
        ("", {"tags": '=["x"]'}, [2]),
        ("pears 10", {}, [2]),
        ("2013 pears", {}, [2]),
        ("pears nothing", {}, []),
        ('"pears 10"', {}, []),
        ('"2013-01-01 05"', {}, [1]),
        ("", {"price": ">2.5"}, [2]),
        ("", {"price": ">=2.5"}, [1, 2]),
        ("", {"price": "<0"}, [BIG]),
        ("", {"price": "!10"}, [1, 3, BIG]),
        ("", {"price": "=10"}, [2]),
        ("", {"exact": "=10.5"}, [1, BIG]),
        ("", {"id": f"={BIG}"}, [BIG]),
        ("", {"id": f"<{BIG}"}, [1, 2, 3]),
        ("", {"paid": "=false"}, [2]),
        ("", {"at": ">2013-01-01 12:00"}, [2, BIG]),
        ("", {"at": "=2013-01-01"}, [1]),
        ("", {"at": "<=2013-01-01T05:15"}, [1]),
        ("p", {"price": ">5"}, [2]),
        ("", {"no such column": "x"}, [1, 2, 3, BIG]),
    ],
)
def test_what_is_left(store: Store, search: str, filters: dict[str, str], keys: list[Any]) -> None:
    narrow = ViewFilter(store, search, filters)
    assert shown(store, narrow) == keys
    assert store.window(0, 1, view_filter=narrow)["shown"] == len(keys)
    assert not narrow.problems


@pytest.mark.parametrize(
    ("column", "text"),
    [
        ("price", ">much"),
        ("at", "<yesterday"),
        ("exact", "=x"),
        ("name", ">"),
        ("name", "!="),
        ("id", "in ()"),
        ("id", "in (1, x)"),
        ("name", 'in ("a, b)'),
        ("id", "between x and 5"),
        ("id", "5|>x"),
    ],
)
def test_a_filter_without_sense_is_named_and_passed_over(store: Store, column: str, text: str) -> None:
    narrow = ViewFilter(store, "", {column: text})
    assert len(shown(store, narrow)) == 4
    assert len(narrow.problems) == 1
    assert column in narrow.problems[0]


def test_the_last_rows_of_what_is_left(store: Store) -> None:
    narrow = ViewFilter(store, "", {"name": "!null"})
    assert shown(store, narrow, sort=[("id", True)]) == [BIG, 2, 1]
    assert store.window(0, 2, view_filter=narrow, tail=True)["keys"] == [2, BIG]
    assert store.window(0, 2, view_filter=narrow, tail=True)["start"] == 1
    assert store.window(0, 9, tail=True)["keys"] == [1, 2, 3, BIG]


def test_what_is_not_looked_at_yet_is_not_shown() -> None:
    store = Store(COLUMNS[:2], ["id"])
    store.load({"id": n, "name": "yes" if n % 2 else "no"} for n in range(40_000))
    narrow = ViewFilter(store, "yes")
    assert store.window(0, 1, view_filter=narrow)["shown"] == 0
    assert narrow.work()
    assert store.window(0, 1, view_filter=narrow)["shown"] == 8_192
    while narrow.work():
        pass
    assert store.window(0, 1, view_filter=narrow)["shown"] == 20_000


def test_what_a_thread_is_looking_at_is_pending(store: Store) -> None:
    narrow = ViewFilter(store, "pears")
    seen: list[int] = []
    test, narrow._test = narrow._test, lambda columns, count: seen.append(narrow.pending) or test(columns, count)
    assert not narrow.work()
    assert (seen, narrow.pending) == ([4], 0)


KEYS = st.integers(0, 30)
STEP = st.one_of(
    st.tuples(st.just("put"), KEYS, st.sampled_from(["ab", "b", "", None]), st.sampled_from([0, 1, 7, None])),
    st.tuples(st.just("delete"), KEYS),
    st.tuples(st.just("rename"), KEYS, KEYS),
    st.tuples(st.just("truncate")),
    st.tuples(st.just("look")),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(STEP, max_size=60), st.sampled_from(["", "b"]), st.sampled_from([{}, {"n": ">0"}, {"n": "=null"}]))
def test_it_follows_any_changes(steps: list[tuple[Any, ...]], search: str, filters: dict[str, str]) -> None:
    columns = [Column("id", "int4"), Column("t", "text"), Column("n", "int4")]
    store = Store(columns, ["id"])
    narrow = ViewFilter(store, search, filters)
    model: dict[int, dict[str, Any]] = {}

    def apply(kind: Any, record: Any, old: Any) -> None:
        store.apply([Change(kind, "public", "t", columns, record, old)])

    def passes(row: dict[str, Any]) -> bool:
        n, wanted = row["n"], filters.get("n")
        if wanted == ">0" and not (n is not None and n > 0):
            return False
        if wanted == "=null" and n is not None:
            return False
        return search in (row["t"] or "")

    for step in steps:
        if step[0] == "put":
            row = {"id": step[1], "t": step[2], "n": step[3]}
            apply("UPDATE" if step[1] in model else "INSERT", row, None)
            model[step[1]] = row
        elif step[0] == "delete" and step[1] in model:
            apply("DELETE", None, {"id": step[1]})
            del model[step[1]]
        elif step[0] == "rename" and step[1] in model and step[2] not in model:
            row = {**model.pop(step[1]), "id": step[2]}
            apply("UPDATE", row, {"id": step[1]})
            model[step[2]] = row
        elif step[0] == "truncate":
            apply("TRUNCATE", None, None)
            model.clear()
        elif step[0] == "look":
            narrow.work()
    assert sorted(shown(store, narrow)) == sorted(key for key, row in model.items() if passes(row))


def test_a_filter_that_nobody_refers_to_is_not_marked(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    marked: list[Any] = []
    monkeypatch.setattr(ViewFilter, "mark", lambda self, slots: marked.append(slots))
    view_filter = ViewFilter(store, "x")
    store.apply([insert({**ROWS[0], "id": 76})])
    assert len(marked) == 1
    del view_filter
    store.apply([insert({**ROWS[0], "id": 77})])
    assert len(marked) == 1


@pytest.mark.parametrize(
    ("search", "filters", "keys"),
    [
        # 05:15 UTC is 06:15 in Berlin, and the new year of 2014 begins there at 23:00 UTC.
        ("06:15", {}, [1, 2]),
        ("05:15", {}, []),
        ("2014-01-01 01:00", {}, [BIG]),
        ("", {"at": "2013-01-01 06:15:00"}, [1]),
        ("", {"at": "=2013-01-01 06:15"}, [1]),
        ("", {"at": ">=2013-01-01 06:15:01"}, [2, BIG]),
        ("", {"at": "<=2013-01-01 06:15"}, [1]),
        ("", {"at": "<=2013-01-01T05:15:00Z"}, [1]),
        ("", {"at": "<=2013-01-01T07:15:00+02:00"}, [1]),
        ("", {"at": "null"}, [3]),
        ("", {"at": "between 2013-01-01 06:00 and 2013-01-02 06:15"}, [1, 2]),
    ],
)
def test_what_is_searched_is_what_a_clock_in_the_zone_of_the_page_shows(
    store: Store, search: str, filters: dict[str, str], keys: list[Any]
) -> None:
    assert shown(store, ViewFilter(store, search, filters, zone="Europe/Berlin")) == keys


@pytest.mark.parametrize("zone", ["", "UTC", "Etc/Unknown", "../../etc/passwd", "\x00"])
def test_a_zone_that_is_not_known_is_utc(store: Store, zone: str) -> None:
    assert shown(store, ViewFilter(store, "05:15", zone=zone)) == [1, 2]


def test_times_out_of_range_have_no_zone() -> None:
    store = Store([Column("id", "int4"), Column("at", "timestamptz")], ["id"])
    times = [
        "infinity",
        "-infinity",
        "0044-03-15T00:00:00+00:00 BC",
        "20000-01-01T00:00:00+00:00",
        "0001-01-01T00:00:00+00:00",
        None,
    ]
    store.load([{"id": i, "at": at} for i, at in enumerate(times)])
    assert shown(store, ViewFilter(store, "", {"at": ">2026-01-01"}, zone="Asia/Tokyo")) == [0, 3]
    assert shown(store, ViewFilter(store, "infinity", zone="Asia/Tokyo")) == [0, 1]


def test_empty_values_stand_last_in_a_view_both_ways_and_as_in_postgres_in_an_order(store: Store) -> None:
    for column in ("name", "price", "exact", "at", "tags", "paid"):
        for down in (False, True):
            assert store.window(0, 9, sort=[(column, down)], nulls_last=True)["keys"][-1] in (3, BIG)
            nulls = [
                store.row(key)[column] is None
                for key in store.window(0, 9, sort=[(column, down)], nulls_last=True)["keys"]
            ]
            assert nulls == sorted(nulls)
            first = [store.row(key)[column] is None for key in store.window(0, 9, sort=[(column, down)])["keys"]]
            assert first == sorted(first, reverse=down)
    view = store.window(0, 9, sort=[("price", True)], nulls_last=True)["keys"]
    assert view == [2, 1, BIG, 3]
    store.upsert([{**ROWS[0], "price": None}, {**ROWS[2], "price": 3.0}])
    assert store.window(0, 9, sort=[("price", True)], nulls_last=True)["keys"] == [2, 3, BIG, 1]
