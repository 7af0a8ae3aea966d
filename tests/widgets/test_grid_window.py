"""The window of a grid, from a store's deltas to frames, without a page and without a server."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

from rtwidgets.data.store import Store
from rtwidgets.data.view_filter import ViewFilter
from rtwidgets.protocol.messages import Column
from rtwidgets.widgets.grid_window import FRAME_CHARACTERS, LONGEST_CUT, MOST_ROWS, GridWindow, WindowRequest
from rtwidgets.widgets.row_keys import json_key, key_from_page

from .page import Shown

COLUMNS = [Column("id", "int8"), Column("name", "text"), Column("n", "int4")]


def row(key: int, name: str | None = None, n: int = 0) -> dict[str, Any]:
    return {"id": key, "name": f"row {key}" if name is None else name, "n": n}


@pytest.fixture
def store() -> Store:
    made = Store(COLUMNS, ["id"], order="id")
    made.load([row(key) for key in range(10, 60)])
    return made


class Window:
    """A window and the page that shows it."""

    def __init__(self, store: Store, **wants: Any) -> None:
        self.store, self.wants = store, wants
        self.window = GridWindow(store)
        self.page = Shown()
        self.last: dict[str, Any] = {}
        self.send(whole=True)

    def send(self, *, whole: bool = False) -> dict[str, Any]:
        with self.store.lock:
            view_filter = self.window.view_filter
            while view_filter is not None and view_filter.work():
                pass
            self.last = json.loads(json.dumps(self.window.frame(self.wants, whole=whole)))
        self.page.apply(self.last)
        return self.last


def test_first_the_window_then_nothing_then_the_cells_that_changed(store: Store) -> None:
    window = Window(store, start=0, stop=5)
    assert window.last == {
        "schema": [["id", "int8"], ["name", "text"], ["n", "int4"]],
        "start": 0,
        "keys": [10, 11, 12, 13, 14],
        "columns": [[10, 11, 12, 13, 14], [f"row {key}" for key in range(10, 15)], [0] * 5],
    }
    assert window.send() == {}
    store.upsert([row(12, n=7), row(14, name="last", n=8), row(40, n=9)])
    assert window.send() == {"patch": [["name", [[4, "last"]]], ["n", [[2, 7], [4, 8]]]]}
    assert window.send() == {}


def test_no_rows_are_read_for_changes_outside_of_the_window(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    window = Window(store, start=0, stop=5)
    monkeypatch.setattr(store, "window", None)
    store.upsert([row(40, n=9)])
    assert window.send() == {}
    store.upsert([row(11, n=9)])
    assert window.send() == {"patch": [["n", [[1, 9]]]]}


def test_rows_that_come_and_go_are_marked_and_those_that_only_moved_are_not(store: Store) -> None:
    window = Window(store, start=0, stop=4)
    store.upsert([row(9), row(11, n=5)])
    frame = window.send()
    assert (frame["keys"], frame["arrived"], frame["changed"]) == ([9, 10, 11, 12], [0], [["n", [2]]])
    assert "gone" not in frame
    store.remove([10, 55])
    frame = window.send()
    assert (frame["keys"], frame["gone"]) == ([9, 11, 12, 13], [10])
    assert "arrived" not in frame, "13 was there all the time"
    store.upsert([row(100)])
    assert window.send() == {}, "the same rows stand in the window"
    store.remove([11])
    store.upsert([row(11, name="again")])
    assert window.send() == {"patch": [["id", [[1, 11]]], ["name", [[1, "again"]]], ["n", [[1, 0]]]]}


def test_a_sort_by_a_column_that_changes_moves_rows(store: Store) -> None:
    window = Window(store, start=0, stop=3, sort=[["n", True]])
    store.upsert([row(30, n=5)])
    frame = window.send()
    assert frame["keys"][0] == 30
    assert "arrived" not in frame
    window.wants = {"start": 0, "stop": 3, "sort": [["no such column", True]]}
    assert window.send()["keys"] == [10, 11, 12]


def test_rows_that_come_through_a_filter_or_fall_out_of_it_are_marked(store: Store) -> None:
    window = Window(store, start=0, stop=5, filters={"n": ">3"})
    window.window.view_filter = ViewFilter(store, "", {"n": ">3"})
    assert window.send()["keys"] == []
    store.upsert([row(20, n=5), row(30, n=6), row(31, n=1)])
    frame = window.send()
    assert (frame["keys"], frame["arrived"], window.window.shown) == ([20, 30], [0, 1], 2)
    store.upsert([row(20, n=0), row(30, name="x", n=6)])
    frame = window.send()
    assert (frame["keys"], frame["gone"], frame["changed"]) == ([30], [20], [["name", [0]]])


def test_after_a_reload_or_new_columns_everything_is_sent_and_nothing_marked(store: Store) -> None:
    window = Window(store, start=0, stop=3)
    store.load([row(key, n=1) for key in range(10, 60)])
    frame = window.send()
    assert frame["columns"][2] == [1, 1, 1]
    assert not {"changed", "arrived", "gone", "schema"} & frame.keys()
    store.resync([{**row(key), "more": True} for key in range(10, 60)], [*COLUMNS, Column("more", "bool")])
    frame = window.send()
    assert len(frame["schema"]) == 4
    assert frame["columns"][3] == [True, True, True]


def test_a_whole_frame_says_what_changed_all_the_same(store: Store) -> None:
    """A page that is late gets whole frames, and still shows what changed."""
    window = Window(store, start=0, stop=3)
    store.upsert([row(11, n=3)])
    frame = window.send(whole=True)
    assert frame["changed"] == [["n", [1]]]
    assert {"schema", "keys", "columns"} <= frame.keys()


def test_what_is_read_stays_in_place_while_rows_come_above(store: Store) -> None:
    window = Window(store, start=20, stop=25, anchor=[22, 32])
    store.upsert([row(key) for key in range(5)])
    frame = window.send()
    assert frame == {"start": 25, "keys": [30, 31, 32, 33, 34], "columns": frame["columns"]}
    store.remove([32])
    assert window.send()["keys"] == [29, 30, 31, 33, 34], "the row after it keeps the place: 33 stood at 28"


def test_long_texts_travel_as_their_beginnings() -> None:
    store = Store([Column("id", "int4"), Column("t", "text"), Column("j", "jsonb")], ["id"])
    store.load([{"id": key, "t": "é" * 1_000_000, "j": {"a": "x" * 5_000}} for key in range(40)])
    window = Window(store, start=0, stop=40)
    assert len(json.dumps(window.last)) < FRAME_CHARACTERS
    assert [len(text) for text in window.last["columns"][1]] == [LONGEST_CUT] * 40
    assert window.last["cuts"][0] == ["t", [[place, 1_000_000] for place in range(40)]]
    assert window.last["columns"][2][0] == ('{"a":"' + "x" * 5_000)[:LONGEST_CUT]
    store.upsert([{"id": 3, "t": "y" * 2_000, "j": 1}])
    assert window.send() == {"patch": [["t", [[3, "y" * LONGEST_CUT, 2_000]]], ["j", [[3, 1]]]]}


@pytest.mark.slow
def test_a_large_window_has_a_limit_in_characters_whatever_it_shows() -> None:
    columns = [Column("id", "int4"), *(Column(f"c{n}", "text") for n in range(500))]
    store = Store(columns, ["id"])
    store.load([{"id": key, **{f"c{n}": "x" * 10_000 for n in range(500)}} for key in range(300)])
    window = Window(store, start=0, stop=10**9)
    assert len(window.last["keys"]) < MOST_ROWS
    assert len(json.dumps(window.last)) < 8 * FRAME_CHARACTERS


@pytest.mark.parametrize("seed", range(6))
def test_whatever_happens_the_page_shows_the_window_and_every_change_is_marked(seed: int) -> None:
    roll = random.Random(seed)
    store = Store(COLUMNS, ["id"], order=roll.choice([None, "n desc", "id"]))
    store.load([row(key, n=roll.randrange(20)) for key in range(80)])
    window = Window(store, start=0, stop=20)
    before: dict[int, Any] = {}
    for _ in range(300):
        for _ in range(roll.randrange(4)):
            key = roll.randrange(100)
            if roll.random() < 0.2:
                store.remove([key])
            elif roll.random() < 0.02:
                store.load([row(key, n=roll.randrange(20)) for key in range(80)])
                before = {}
            else:
                store.upsert([row(key, name=roll.choice(["a", "b"]), n=roll.randrange(20))])
        if roll.random() < 0.1:
            start, filters = roll.randrange(60), roll.choice([{}, {"n": ">10"}])
            sort = roll.choice([[], [["n", False]], [["name", True], ["n", False]]])
            window.wants = {"start": start, "stop": start + roll.randrange(40), "sort": sort, "filters": filters}
            window.window.view_filter = ViewFilter(store, "", filters) if filters else None
        frame = window.send(whole=roll.random() < 0.1)
        page, wants = window.page, window.wants
        found = store.window(
            wants["start"],
            wants["stop"],
            sort=wants.get("sort") or None,
            nulls_last=True,
            view_filter=window.window.view_filter,
        )
        assert page.keys == found["keys"]
        assert page.rows == [
            dict(zip(found["columns"], values, strict=True)) for values in zip(*found["columns"].values(), strict=True)
        ]
        marked = {(page.keys[i], name) for name, places in frame.get("changed", []) for i in places}
        marked |= {(page.keys[i], name) for name, cells in frame.get("patch", []) for i, *_ in cells}
        now = {r["id"]: r for r in page.rows}
        differ = {(key, name) for key, r in now.items() if key in before for name in r if r[name] != before[key][name]}
        if "arrived" not in frame and not {"start", "keys"} & frame.keys():
            assert differ <= marked
        before = now


@pytest.mark.parametrize(
    ("sent", "kind", "key"),
    [
        (5, "int8", 5),
        ("9007199254740993", "int8", 9007199254740993),
        ("5", "text", "5"),
        ("²", "int8", "²"),
        ("--1", "int8", "--1"),
        ("--1", "text", "--1"),
        ("9" * 5000, "int8", "9" * 5000),
        (None, "int8", None),
        ({}, "text", None),
        ([1, 2], "int8", None),
    ],
)
def test_a_key_from_a_page_never_raises(sent: Any, kind: str, key: Any) -> None:
    assert key_from_page(Store([Column("id", kind)], ["id"]), sent) == key


def test_keys_of_several_columns_are_lists_in_a_page() -> None:
    store = Store([Column("a", "int8"), Column("b", "text")], ["a", "b"])
    assert json_key((9007199254740993, "x")) == ["9007199254740993", "x"]
    assert key_from_page(store, ["9007199254740993", "5"]) == (9007199254740993, "5")


@pytest.mark.parametrize(
    "odd", [None, 5, "x", [], {"start": "a", "stop": -1, "sort": [[1], None, ["n"]], "filters": [1], "anchor": 3}]
)
def test_a_request_is_read_whatever_a_page_sends(odd: Any) -> None:
    request = WindowRequest.parse(odd if isinstance(odd, dict) else {"sort": odd, "anchor": odd, "filters": odd}, {})
    assert (request.start, request.sort, request.filters) == (0, (), ())
