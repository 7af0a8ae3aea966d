"""What a person set up in a grid, kept and brought back; widgets linked with others."""

from __future__ import annotations

import gc
import json
import weakref
from typing import Any

import ipywidgets
import numpy as np
import pytest
import traitlets

import rtwidgets as rt

from ..waits import wait_until
from .page import Page

pytestmark = pytest.mark.pg

ARRANGED = {
    "order": ["item", "id"],
    "hidden": ["paid"],
    "pinned": ["item"],
    "widths": {"item": 222},
    "sort": [["amount", True]],
    "search": "a",
    "filters": {"amount": ">1"},
}


@pytest.fixture
def table(orders: Any) -> Any:
    made = rt.LiveTable("orders", order="id").wait_live()
    yield made
    made.close()


def test_a_grid_is_set_up_as_it_was(table: Any, orders: Any) -> None:
    page = Page(table)
    page.say("layout", layout=ARRANGED)
    page.say("select", keys=[1, 3])
    wait_until(lambda: table.selected == [1, 3])
    kept = json.loads(json.dumps(table.state()))
    assert kept == {"arrangement": ARRANGED, "selected": [1, 3]}
    kept["arrangement"]["order"].append("changed here only")
    assert table.arrangement == ARRANGED
    other = rt.LiveTable("orders", order="id").wait_live()
    other.restore(table.state())
    assert other.arrangement == ARRANGED
    assert other.selected_df["id"].tolist() == [1, 3]
    other.restore({"selected": []})
    assert other.state() == {"arrangement": ARRANGED, "selected": []}
    other.close()


def test_a_page_that_could_not_speak_yet_gets_its_rows_as_arranged(table: Any) -> None:
    table.arrangement = {"sort": [["id", True]], "filters": {"id": "<3"}}
    sent: list[Any] = []
    table._post = sent.append
    table._repr_mimebundle_()
    wait_until(lambda: any("keys" in frame for frame in sent))
    assert next(frame["keys"] for frame in sent if "keys" in frame) == [2, 1]


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("arrangement", {"sort": "id"}, r"arrangement\['sort'\] is a list of pairs"),
        ("arrangement", {"sort": [["id", "down"]]}, "whether descending"),
        ("arrangement", {"widths": {"id": 3}}, "from 40 to 1200"),
        ("arrangement", {"widths": {"id": None}}, "pixels by column"),
        ("arrangement", {"hidden": "id"}, "list of columns"),
        ("arrangement", {"hidden": [1]}, "list of columns"),
        ("arrangement", {"filters": {"id": 3}}, "texts by column"),
        ("arrangement", {"search": None}, "is a text"),
        ("arrangement", {"colour": "red"}, "search and filters, not 'colour'"),
        ("selected", [{"id": 1}], "selected holds keys"),
        ("selected", [None], "selected holds keys"),
        ("selected", [()], "selected holds keys"),
    ],
)
def test_what_is_no_arrangement_and_no_key_is_refused_in_words(table: Any, name: str, value: Any, said: str) -> None:
    table.arrangement, table.selected = ARRANGED, [2]
    with pytest.raises(traitlets.TraitError, match=said):
        setattr(table, name, value)
    with pytest.raises(traitlets.TraitError, match=said):
        table.restore({"selected": [1], name: value})
    assert table.state() == {"arrangement": ARRANGED, "selected": [2]}
    page = Page(table)
    page.say("layout", layout=value)
    page.say("select", keys=value)
    assert table.state() == {"arrangement": ARRANGED, "selected": [2]}


def test_only_what_state_gave_is_restored(table: Any) -> None:
    for other in ({"sort": []}, [], None):
        with pytest.raises(traitlets.TraitError, match="what state"):
            table.restore(other)


def test_keys_are_taken_from_a_dataframe(table: Any) -> None:
    table.selected = list(np.array([1, 2]))
    assert table.selected == [1, 2]
    assert all(type(key) is int for key in table.selected)
    assert len(table.selected_df) == 2


def test_rows_are_counted_elsewhere_too(table: Any, orders: Any) -> None:
    """`link` and `dlink` follow what comes from the server; `jslink` has its test in the browser."""
    number, text = ipywidgets.IntText(), ipywidgets.Text()
    one = traitlets.dlink((table, "count"), (number, "value"))
    two = traitlets.dlink((table, "status"), (text, "value"), transform=str.upper)
    assert (number.value, text.value) == (3, "LIVE")
    orders.sql("insert into orders values (9, 'figs', 1, true)")
    wait_until(lambda: number.value == 4)
    one.unlink()
    orders.sql("insert into orders values (10, 'dates', 1, true)")
    wait_until(lambda: table.count == 5)
    assert number.value == 4
    two.unlink()
    second = rt.LiveTable("orders", order="id").wait_live()
    both = traitlets.link((table, "selected"), (second, "selected"))
    second.selected = [9]
    assert table.selected == [9]
    table.selected = [1, 2]
    assert second.selected_df["id"].tolist() == [1, 2]
    both.unlink()
    with pytest.raises(traitlets.TraitError, match="read-only"):
        table.count = 0
    second.close()


def test_it_stands_in_boxes(table: Any) -> None:
    room = rt.Channel("boxed")
    feed = rt.BroadcastFeed(room)
    box = ipywidgets.VBox([table, ipywidgets.HBox([feed, ipywidgets.Label("beside")])])
    assert box.children[0] is table
    feed.close()


def test_what_is_closed_is_freed_with_its_rows(orders: Any) -> None:
    def used() -> list[weakref.ref[Any]]:
        room = rt.Channel("freed")
        table = rt.LiveTable("orders").wait_live()
        made = [
            table,
            table.group_by("paid").agg(n=("id", "count")),
            rt.LiveChart(table, "id", "amount"),
            rt.BroadcastFeed(room),
            rt.Presence(room, key="ana"),
            rt.Cursors(room),
            rt.ConnectionStatus(),
            rt.Inspector(room),
            rt.ChannelPanel(room),
        ]
        for one in made:
            one._repr_mimebundle_()
            one.observe(lambda change: None, "revision")
        for one in reversed(made):
            one.close()
        return [weakref.ref(one) for one in [*made, table.store]]

    refs = used()

    def freed() -> bool:
        gc.collect()
        return all(ref() is None for ref in refs)

    wait_until(freed)


def test_keys_may_be_selected_as_the_frame_shows_them(local: Any) -> None:
    local.sql("create table moments (at timestamptz primary key, n int)")
    local.sql(
        "insert into moments select timestamptz '2026-01-31 12:00Z' + n * interval '90 min', n"
        " from generate_series(1, 3) n"
    )
    local.publish("moments")
    moments = rt.LiveTable("moments", client=local.client, order="at desc").wait_live()
    try:
        moments.selected = moments.df["at"].tolist()[:2]
        assert sorted(moments.selected_df["n"]) == [2, 3]
        assert all(isinstance(key, str) for key in moments.selected)
        with pytest.raises(traitlets.TraitError):
            moments.selected = [object()]
    finally:
        moments.close()
        local.sql("drop table moments")


def test_who_takes_a_table_for_its_frame_is_shown_the_way(orders: Any) -> None:
    table = rt.LiveTable("orders").wait_live()
    for wrong, says in ((lambda: table.head(), r"\.df\.head"), (lambda: table.groupby("paid"), r"\.df\.groupby")):
        with pytest.raises(AttributeError, match=says):
            wrong()
    for wrong in (lambda: table["amount"], lambda: list(table), lambda: len(table)):
        with pytest.raises(TypeError, match=r"\.df"):
            wrong()
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        getattr(table, "nonsense")  # noqa: B009
    assert table
    assert not hasattr(table, "_repr_html_")
    table.close()
