"""Live tables with the same arguments share one follower and one store, and each closes by itself."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

import rtwidgets as rt
from rtwidgets.client.thread import call
from rtwidgets.data.follower import TableFollower
from rtwidgets.widgets import shared_follower

from ..waits import wait_until
from .page import Page

pytestmark = pytest.mark.pg


def test_a_second_table_costs_nothing(orders: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    first = rt.LiveTable("orders", filter="id=gt.0").wait_live()
    asked: list[str] = []
    request = orders.client.aio.rest._send
    monkeypatch.setattr(orders.client.aio.rest, "_send", lambda *args: (asked.append(args[1]), request(*args))[1])
    second = rt.LiveTable("orders", filter=rt.where("id", "gt", 0))
    third = rt.LiveTable("orders", filter="id=gt.0")
    third.wait_live(5)
    assert (third.store is first.store, third.count, third.status) == (True, 3, "live")
    assert (asked, second.store is first.store) == ([], second.follower is first.follower)
    other = rt.LiveTable("orders", filter="id=gt.0", order="id").wait_live()
    assert other.store is not first.store
    for table in (first, second, third, other):
        table.close()


def test_each_closes_by_itself(orders: Any) -> None:
    first, second = rt.LiveTable("orders").wait_live(), rt.LiveTable("orders").wait_live()
    follower = first.follower
    assert second.follower is follower
    page = Page(second, start=0, stop=10)
    wait_until(lambda: len(page.rows) == 3)
    before = first.df
    first.close()
    first.close()
    assert (first.status, second.status) == ("closed", "live")
    orders.sql("insert into orders values (4, 'plums', 1, true)")
    wait_until(lambda: len(second.df) == 4 and len(page.rows) == 4)
    pd.testing.assert_frame_equal(first.df, before)
    assert first.count == 3
    second.close()
    wait_until(lambda: follower.status == "closed" and second.channel.aio.idle)
    assert call(lambda: follower not in [shared.follower for shared in shared_follower._shared.values()])
    assert len(second.df) == 4


def test_a_pause_is_one_of_the_rows(orders: Any) -> None:
    first, second = rt.LiveTable("orders").wait_live(), rt.LiveTable("orders").wait_live()
    first.pause()
    assert first.paused
    wait_until(lambda: second.paused)
    orders.sql("delete from orders where id = 1")
    wait_until(lambda: first.follower.waiting == 1)
    assert rt.LiveTable("orders").paused
    second.resume()
    wait_until(lambda: not first.paused and len(first.df) == 2)
    first.close()
    second.close()


def test_a_table_that_cannot_go_on_is_not_shared(orders: Any) -> None:
    orders.sql("create table later (id int primary key)")
    failed = rt.LiveTable("later")
    wait_until(lambda: failed.status == "error")
    orders.publish("later")
    again = rt.LiveTable("later").wait_live()
    assert again.follower is not failed.follower
    failed.close()
    assert again.status == "live"
    again.close()
    orders.sql("drop table later")


def test_what_begins_now_is_like_no_other(orders: Any) -> None:
    first = rt.LiveTable("orders", source="events").wait_live()
    orders.sql("delete from orders where id = 1")
    wait_until(lambda: len(first.df) == 1)
    second = rt.LiveTable("orders", source="events").wait_live()
    assert len(second.df) == 0
    frame = pd.DataFrame({"id": [2], "item": ["x"], "amount": [1.0], "paid": [True]})
    tables = [rt.LiveTable("orders", source=frame).wait_live() for _ in range(2)]
    assert tables[0].store is not tables[1].store
    for table in (first, second, *tables):
        table.close()


def test_a_closed_table_leaves_the_others_alone(orders: Any) -> None:
    first, second = rt.LiveTable("orders").wait_live(), rt.LiveTable("orders").wait_live()
    heard: list[Any] = []
    first.on_delta(heard.append)
    first.close()
    first.on_delta(heard.append)
    first.on_change(heard.append)
    first.pause()
    first.verify()
    with pytest.raises(rt.RealtimeError, match="closed"):
        first.wait_live()
    seen: list[Any] = []
    second.on_delta(seen.append)
    orders.sql("delete from orders where id = 1")
    wait_until(lambda: len(seen) == 1)
    first.verify()
    assert (heard, first.paused, second.follower.paused, first.count) == ([], False, False, 3)
    second.close()


def test_a_table_that_could_not_be_started_is_not_shared(orders: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fails(follower: TableFollower) -> None:
        raise LookupError("a fault")

    with monkeypatch.context() as patch:
        patch.setattr(TableFollower, "start", fails)
        failed = rt.LiveTable("orders")
        wait_until(lambda: failed.status == "error")
    again = rt.LiveTable("orders").wait_live()
    assert (again.status, failed.status) == ("live", "error")
    failed.close()
    again.close()
