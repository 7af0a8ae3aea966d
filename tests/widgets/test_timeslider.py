"""`TimeSlider` against a real Postgres and server, seen from a page."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import ipywidgets
import pandas as pd
import pytest
import traitlets

import rtwidgets as rt
from rtwidgets.widgets.timeslider import EVERY

from ..waits import wait_until
from .page import Page

pytestmark = pytest.mark.pg


@pytest.fixture
def table(orders: Any) -> Any:
    made = rt.LiveTable("orders", order="id").wait_live()
    yield made
    made.close()


@pytest.fixture
def past(table: Any) -> Any:
    made = rt.TimeSlider(table)
    yield made
    made.close()


def changed(table: Any, local: Any, sql: str, *args: Any) -> pd.DataFrame:
    """One more change in the log, committed at a moment of its own; returns the rows after it."""
    revision = table.store.revision
    local.sql(sql, *args)
    wait_until(lambda: table.store.revision > revision)
    return table.df


def test_each_step_shows_the_rows_as_they_were(past: Any, table: Any, orders: Any) -> None:
    page = Page(past.past)
    wait_until(lambda: page.keys == [1, 2, 3])
    frames = [
        table.df,
        changed(table, orders, "update orders set amount = 9 where id = 1"),
        changed(table, orders, "delete from orders where id = 2"),
        changed(table, orders, "insert into orders values (7, 'kiwis', 1, true)"),
    ]
    wait_until(lambda: past.slider.max == 3)
    assert (past.slider.value, past.at, past.play.max) == (3, None, 3)
    for place in (0, 1, 2, 1, 0):
        past.slider.value = place  # as a person drags it
        assert past.at == past.past.moments[place]
        pd.testing.assert_frame_equal(past.df, frames[place])
        wait_until(lambda place=place: page.keys == frames[place]["id"].tolist() and past.count == len(frames[place]))
        wait_until(lambda place=place: page.rows[0]["amount"] == frames[place]["amount"][0])
        assert page.state["paused"]
        assert "as of" in page.state["note"]
        assert f"change {place} of 3" in past.label.value
    past.slider.value = 3
    assert past.at is None
    pd.testing.assert_frame_equal(past.df, frames[3])
    wait_until(lambda: page.keys == [1, 3, 7] and not page.state["paused"])
    assert past.label.value == "now · change 3 of 3"


def test_the_past_stands_still_while_the_table_goes_on(past: Any, table: Any, orders: Any) -> None:
    changed(table, orders, "delete from orders where id = 1")
    wait_until(lambda: past.slider.max == 1)
    past.slider.value = 0
    was = past.df
    wait_until(lambda: past.count == 3)
    changed(table, orders, "delete from orders where id = 2")
    time.sleep(3 * EVERY)
    assert (past.slider.value, past.slider.max) == (0, 1), "the scale stands still too"
    pd.testing.assert_frame_equal(past.df, was)
    assert past.count == 3
    page = Page(past.past)
    wait_until(lambda: page.keys == [1, 2, 3])
    page.say("resume")  # the grid's own button
    wait_until(lambda: page.keys == [3])
    assert past.at is None
    wait_until(lambda: (past.slider.value, past.slider.max) == (2, 2))
    page.say("pause")
    wait_until(lambda: past.at is not None)
    changed(table, orders, "delete from orders where id = 3")
    assert page.keys == [3]


def test_at_is_set_by_code_too(past: Any, table: Any, orders: Any) -> None:
    between = datetime.now(UTC)
    changed(table, orders, "delete from orders where id = 1")
    past.at = between
    assert past.at == between
    assert len(past.df) == 3
    wait_until(lambda: past.slider.value == 0 and past.slider.max == 1)
    past.at = between.astimezone().strftime("%Y-%m-%d %H:%M:%S.%f")
    assert past.at == between
    for wrong in (between - timedelta(hours=1), "2100-01-01", "soon", 3.5j):
        with pytest.raises(traitlets.TraitError):
            past.at = wrong
        assert past.at == between, "what was refused changes nothing"
        assert len(past.df) == 3
    past.at = None
    assert len(past.df) == 2
    with pytest.raises(TypeError, match=r"must be an rt\.LiveTable"):
        rt.TimeSlider(table.df)


def test_it_is_a_source(past: Any, table: Any, orders: Any) -> None:
    @rt.live(past, max_fps=50)
    def rows(df: pd.DataFrame) -> int:
        return len(df)

    wait_until(lambda: rows.value == 3)
    changed(table, orders, "delete from orders where id = 1")
    wait_until(lambda: rows.value == 2)
    past.slider.value = 0
    wait_until(lambda: rows.value == 3)
    rows.close()


def test_every_type_comes_back_as_it_was(orders: Any) -> None:
    orders.sql("drop table if exists kinds")
    orders.sql(
        "create table kinds (id int8 primary key, n numeric, f float8, b bool, t text, u uuid, tz timestamptz,"
        "ts timestamp, d date, tm time, iv interval, j jsonb, by bytea, ia int[])"
    )
    orders.sql(
        "insert into kinds values (9007199254740993, 0.1, 1e-9, true, '<b>', gen_random_uuid(), now(), now(), now(),"
        "'10:00', '1 day', '{\"a\": [1]}', '\\x00ff', '{1,null}')"
    )
    orders.sql("insert into kinds values (2)")
    orders.publish("kinds")
    table = rt.LiveTable("kinds", numeric="decimal").wait_live()
    past = rt.TimeSlider(table)
    now, then = Page(table), Page(past.past)
    wait_until(lambda: len(now.rows) == 2 and len(then.rows) == 2)
    shown = now.rows
    changed(table, orders, "delete from kinds")
    past.at = past.past.moments[0]
    wait_until(lambda: then.state.get("paused") and len(then.rows) == 2)
    assert sorted(then.rows, key=str) == sorted(shown, key=str)
    past.close()
    table.close()
    orders.sql("drop table kinds")


def test_a_table_is_remembered_from_its_reading_on(table: Any, orders: Any) -> None:
    """From that very moment, also where it was empty then."""
    read = table.snapshot_at
    orders.sql("delete from orders")
    wait_until(lambda: len(table.df) == 0)
    assert len(table.at(read)) == 3
    empty = rt.LiveTable("orders").wait_live()
    assert len(empty.at(empty.snapshot_at)) == 0
    past = rt.TimeSlider(empty)
    changed(empty, orders, "insert into orders values (1)")
    wait_until(lambda: past.slider.max == 1)
    past.slider.value = 0
    assert len(past.df) == 0
    assert len(empty.df) == 1
    past.close()
    empty.close()


def test_what_the_table_forgets_is_no_place_any_more(orders: Any) -> None:
    table = rt.LiveTable("orders", order="id", history=2).wait_live()
    past = rt.TimeSlider(table)
    for n in range(6):
        changed(table, orders, "update orders set amount = %s where id = 1", n)
    wait_until(lambda: past.past.moments == table.follower.history.moments())
    past.slider.value = 0
    assert past.df["amount"][0] == 3.0
    for n in range(6, 9):
        changed(table, orders, "update orders set amount = %s where id = 1", n)
    was = past.at
    past.slider.value = 1  # on a page that cannot know what is forgotten
    assert past.at == was, "what is shown stays"
    assert past.df["amount"][0] == 3.0
    assert past.past.moments == table.follower.history.moments()
    assert past.slider.value == 0
    past.slider.value = past.slider.max
    assert past.at is None
    past.close()
    table.close()


def test_closing_it_leaves_the_table_alone(table: Any, orders: Any) -> None:
    past = rt.TimeSlider(table)
    past.close()
    past.close()
    changed(table, orders, "delete from orders where id = 1")
    assert table.status == "live"
    assert past.play.value == 0
    assert threading.active_count() < 50
    assert isinstance(past, ipywidgets.VBox)
