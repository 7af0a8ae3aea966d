"""Groups that follow a table, alerts, the table as it was, and where its rows may come from: with a real Postgres."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pandas as pd
import pytest

import rtwidgets as rt
from rtwidgets.client import dispatch

from ..waits import wait_until
from .page import Page

pytestmark = pytest.mark.pg


@pytest.fixture
def table(orders: Any) -> Any:
    made = rt.LiveTable("orders", order="id").wait_live()
    yield made
    made.close()


def test_groups_equal_pandas_and_are_a_grid_and_a_source(table: Any, orders: Any) -> None:
    by_paid = table.group_by("paid").agg(total=("amount", "sum"), n=("id", "count"))
    twice = rt.live(by_paid, max_fps=100)(lambda groups: groups["total"].tolist())
    page = Page(by_paid)
    wait_until(lambda: page.rows == [{"paid": False, "total": 4.0, "n": 1}, {"paid": True, "total": 2.5, "n": 1}])
    orders.sql("insert into orders select n, 'x', n, n % 2 = 0 from generate_series(10, 60) n")
    orders.sql("update orders set amount = amount + 1 where id % 3 = 0")
    orders.sql("delete from orders where id > 50")
    wait_until(lambda: len(table.df) == 44)
    wanted = table.df.groupby("paid").agg(total=("amount", "sum"), n=("id", "count")).reset_index()
    pd.testing.assert_frame_equal(by_paid.df, wanted, check_dtype=False)
    wait_until(lambda: [row["total"] for row in page.rows] == wanted["total"].tolist())
    wait_until(lambda: twice.value == wanted["total"].tolist())
    wait_until(lambda: by_paid.count == 2)
    assert by_paid.status == "live"
    page.say("wants", wants={"sort": [["total", True]], "filters": {"paid": "=true"}})
    wait_until(lambda: len(page.rows) == 1 and page.state["shown"] == 1)
    by_paid.close()
    assert by_paid.status == "closed"


def test_a_pause_in_a_group_grid_shows_there_and_can_be_undone_there(table: Any, orders: Any) -> None:
    """The source stood still, and the grid went on saying "live" with a button that read "pause"."""
    groups = table.group_by("paid").agg(total=("amount", "sum"))
    page = Page(groups)
    wait_until(lambda: len(page.rows) == 2 and page.state["paused"] is False)
    page.say("pause")
    wait_until(lambda: page.state["paused"] is True)
    assert (table.paused, groups.paused) == (True, True)
    orders.sql("insert into orders values (5, 'kiwis', 10, true)")
    wait_until(lambda: table.follower.waiting == 1)
    assert groups.df["total"].tolist() == [4.0, 2.5]
    page.say("resume")
    wait_until(lambda: page.state["paused"] is False)
    assert (table.paused, groups.paused) == (False, False)
    wait_until(lambda: [row["total"] for row in page.rows] == [4.0, 12.5])
    groups.close()


def test_a_result_with_the_name_of_a_group_is_refused_with_another_name(
    table: Any, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(ValueError, match=r"agg\(paid=.*choose another one, such as amount_sum=\('amount', 'sum'\)"):
        table.group_by("paid").agg(paid=("amount", "sum"))
    with pytest.raises(ValueError, match="names the column 'paid' twice"):
        table.group_by(["paid", "paid"]).agg(total=("amount", "sum"))
    assert caplog.records == []


def test_groups_of_what_is_not_there(table: Any) -> None:
    with pytest.raises(ValueError, match="mode"):
        table.group_by("paid").agg(total=("amount", "mode"))
    with pytest.raises(ValueError, match="what to compute"):
        table.group_by("paid").agg()
    wrong = table.group_by("region").agg(total=("amount", "sum"))
    wait_until(lambda: "region" in wrong.error and "paid" in wrong.error)
    assert wrong.status == "error"


def test_an_alert_fires_once_a_crossing(table: Any, orders: Any) -> None:
    met: list[int] = []
    alert = table.when(lambda df: df["amount"].max() > 100, lambda df: met.append(len(df)))
    for amount in (150, 200, 50, 300):
        orders.sql("update orders set amount = %s where id = 1", amount)
        wait_until(lambda amount=amount: float(table.df["amount"][0]) == amount)
        wait_until(lambda amount=amount: alert.is_true == (amount > 100))
    wait_until(lambda: met == [3, 3])
    assert alert.fired == 2
    alert.cancel()
    orders.sql("update orders set amount = 1 where id = 1")
    orders.sql("update orders set amount = 1000 where id = 1")
    time.sleep(0.4)
    assert met == [3, 3]
    assert "cancelled" in repr(alert)


def test_a_condition_that_fails_is_counted_and_asked_again(table: Any, orders: Any) -> None:
    met: list[Any] = []
    before = dispatch.callback_errors
    alert = table.when(lambda df: 1 / (len(df) - 3) > 0, met.append)
    wait_until(lambda: alert.failed == 1)
    assert dispatch.callback_errors == before + 1
    assert isinstance(alert.error, ZeroDivisionError)
    orders.sql("insert into orders values (4, 'figs', 1, true)")
    wait_until(lambda: len(met) == 1)
    assert alert.error is None
    with pytest.raises(TypeError, match="condition must be a function"):
        table.when("amount > 3", print)


def test_presence_has_alerts_too(local: Any) -> None:
    first, second = rt.Channel("alerts", client=local.connect()), rt.Channel("alerts", client=local.connect())
    online = rt.Presence(first, key="ana", state={}).wait_live()
    met: list[int] = []
    online.when(lambda df: len(df) >= 2, lambda df: met.append(len(df)))
    other = rt.Presence(second, key="bob", state={}).wait_live()
    wait_until(lambda: met == [2])
    other.close()
    online.close()


def test_the_table_as_it_was(table: Any, orders: Any) -> None:
    before = table.df
    time.sleep(0.05)
    then = datetime.now(UTC)
    time.sleep(0.05)
    orders.sql("update orders set amount = 99, item = 'other' where id = 1")
    orders.sql("delete from orders where id = 2")
    orders.sql("insert into orders values (7, 'late', 1, true)")
    wait_until(lambda: list(table.df["id"]) == [1, 3, 7])
    pd.testing.assert_frame_equal(table.at(then), before)
    pd.testing.assert_frame_equal(table.at(datetime.now(UTC)), table.df)
    with pytest.raises(ValueError, match="history="):
        table.at(then - timedelta(hours=1))
    with pytest.raises(ValueError, match="in the future"):
        table.at("2100-01-01")


def test_rows_straight_from_postgres(orders: Any) -> None:
    orders.sql("insert into orders select n, 'item ' || n || E'\\t\\n\\\\', n, null from generate_series(10, 400) n")
    table = rt.LiveTable("orders", source=orders.dsn, filter="amount=gt.3", order="id").wait_live()
    over_rest = rt.LiveTable("orders", filter="amount=gt.3", order="id").wait_live()
    pd.testing.assert_frame_equal(table.df, over_rest.df)
    assert len(table.df) == 392
    orders.sql("update orders set amount = 1 where id = 10")
    wait_until(lambda: len(table.df) == 391)
    table.close()
    over_rest.close()


@pytest.mark.parametrize(
    ("dsn", "said"),
    [("postgresql://127.0.0.1:1/none", "cannot be reached"), ("postgresql://u:secret@127.0.0.1:1/none", "reached")],
)
def test_a_dsn_that_leads_nowhere(orders: Any, dsn: str, said: str) -> None:
    table = rt.LiveTable("orders", source=dsn)
    wait_until(lambda: said in table.error)
    assert "secret" not in table.error
    table.close()


def test_what_is_no_source(orders: Any) -> None:
    with pytest.raises(ValueError, match="DSN"):
        rt.LiveTable("orders", source="postgres")


def test_a_log_of_what_happens_from_now_on(orders: Any) -> None:
    table = rt.LiveTable("orders", source="events", columns=["id", "paid"], limit=6).wait_live()
    assert len(table.df) == 0
    orders.sql("insert into orders values (9, 'new', 1, true)")
    orders.sql("update orders set paid = false where id = 9")
    orders.sql("delete from orders where id = 9")
    wait_until(lambda: len(table.df) == 3)
    frame = table.df
    assert list(frame.columns) == ["commit_timestamp", "type", "id", "paid"]
    assert frame["type"].tolist() == ["INSERT", "UPDATE", "DELETE"]
    assert frame["paid"].tolist()[:2] == [True, False]
    assert frame["commit_timestamp"].is_monotonic_increasing

    def interrupted() -> None:
        orders.network.cut()
        wait_until(lambda: table.status == "stale")
        orders.sql("insert into orders values (10, 'meanwhile', 1, true)")
        orders.sql("delete from orders where id = 10")
        orders.network.restore()

    interrupted()
    wait_until(
        lambda: table.df["id"].tolist() == [9, 9, 9, 10, 10], timeout=20
    )  # the local server goes on where it was
    wait_until(lambda: (table.status, table.error) == ("live", ""))  # which follow the rows within a tick
    table.follower.resume_lsn = None  # as with Supabase's, which cannot
    interrupted()
    wait_until(lambda: table.status == "live")
    wait_until(lambda: "may be missing" in table.error)
    assert table.df["id"].tolist() == [9, 9, 9, 10, 10], "what was there stays"
    orders.sql("insert into orders select n, 'more', 1, true from generate_series(20, 22) n")
    wait_until(lambda: table.df["id"].tolist() == [9, 10, 10, 20, 21, 22])
    assert "may be missing" in table.error, "and what is missing is not forgotten"
    table.close()


def test_a_frame_to_begin_with(orders: Any) -> None:
    frame = pd.DataFrame({"id": [1, 50], "item": ["kept", None], "amount": [1.5, None], "paid": [True, False]})
    table = rt.LiveTable("orders", source=frame, order="id").wait_live()
    assert table.df["item"].tolist()[0] == "kept"
    orders.sql("update orders set item = 'from the stream' where id = 1")
    wait_until(lambda: table.df["item"].tolist()[0] == "from the stream")
    assert table.df["id"].tolist() == [1, 50]
    orders.sql("alter table orders add column note text")
    orders.sql("insert into orders values (60, 'with a note', 1, true, 'a note')")
    wait_until(lambda: len(table.df) == 3)
    assert "note" in table.df
    assert (table.status, table.error) == ("live", ""), "nothing is missing"
    orders.sql("alter table orders drop column note")
    table.close()


def test_a_log_without_a_key(orders: Any) -> None:
    orders.sql("create table lines (at timestamptz default now(), text text); alter table lines replica identity full")
    orders.sql("alter publication supabase_realtime add table lines; insert into lines (text) values ('one')")
    refused = rt.LiveTable("lines")
    wait_until(lambda: "append_only=True" in refused.error)
    table = rt.LiveTable("lines", append_only=True).wait_live()
    orders.sql("insert into lines (text) values ('two')")
    wait_until(lambda: table.df["text"].tolist() == ["one", "two"])
    table.close()
    refused.close()
    orders.sql("drop table lines")
