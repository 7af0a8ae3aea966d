"""`LiveTable` against a real Postgres and server, seen from a page."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

import rtwidgets as rt
from rtwidgets.client.thread import on_io_thread
from rtwidgets.data.delta import Updates
from rtwidgets.data.store import Store
from rtwidgets.data.view_filter import ViewFilter
from rtwidgets.widgets.grid import Grid

from ..waits import wait_until
from .page import Page

pytestmark = pytest.mark.pg


@pytest.fixture
def table(orders: Any) -> Any:
    made = rt.LiveTable("orders", order="id").wait_live()
    yield made
    made.close()


def test_it_is_a_dataframe_and_a_number(table: Any) -> None:
    assert table.count == 3
    assert table.status == "live"
    assert table.df["item"].tolist()[:2] == ["apples", "<b>pears</b>"]
    assert list(table.df.columns) == ["id", "item", "amount", "paid"]


def test_a_page_follows_inserts_updates_and_deletes(table: Any, orders: Any) -> None:
    page = Page(table)
    wait_until(lambda: len(page.rows) == 3)
    assert page.rows[0] == {"id": 1, "item": "apples", "amount": 2.5, "paid": True}
    assert page.state["total"] == 3
    orders.sql("update orders set amount = 9 where id = 2")
    wait_until(lambda: page.rows[1]["amount"] == 9)
    assert any(f.get("patch") == [("amount", [(1, 9.0)])] for f in page.frames), "one cell changed: one cell travels"
    orders.sql("insert into orders values (0, 'plums', 1, true)")
    wait_until(lambda: page.keys == [0, 1, 2, 3])
    orders.sql("delete from orders where id = 1")
    wait_until(lambda: page.keys == [0, 2, 3])


def test_a_page_hears_which_rows_went_and_of_none_that_only_moved(table: Any, orders: Any) -> None:
    orders.sql("insert into orders select n, 'item ' || n, n, true from generate_series(10, 59) n")
    wait_until(lambda: len(table.df) == 53)
    page = Page(table, start=0, stop=10)
    wait_until(lambda: page.keys == [1, 2, 3, *range(10, 17)])
    orders.sql("insert into orders values (0, 'plums', 1, true)")  # moves 16 out of the window
    wait_until(lambda: page.keys == [0, 1, 2, 3, *range(10, 16)])
    page.say("wants", wants={"start": 5, "stop": 15})
    wait_until(lambda: page.keys[0] == 11)
    page.say("wants", wants={"start": 0, "stop": 10, "sort": [["id", True]]})
    wait_until(lambda: page.keys[0] == 59)
    page.say("wants", wants={"start": 0, "stop": 10, "filters": {"amount": "<15"}})
    wait_until(lambda: page.keys == [0, 1, 2, *range(10, 15)])
    assert not any("gone" in frame for frame in page.frames), "only the view has moved, or looks at other rows"
    orders.sql("update orders set amount = 99 where id = 11")
    wait_until(lambda: 11 not in page.keys)
    orders.sql("delete from orders where id in (12, 40)")  # 40 is not seen
    wait_until(lambda: 12 not in page.keys)
    assert [frame["gone"] for frame in page.frames if "gone" in frame] == [[11], [12]]
    page.say("wants", wants={"start": 0, "stop": 10})
    wait_until(lambda: page.keys == [0, 1, 2, 3, 10, 11, 13, 14, 15, 16])
    # Gone and back at once, and one that goes while another comes in its place.
    orders.sql("begin; delete from orders where id = 10; insert into orders values (10, 'back', 1, true); commit")
    wait_until(lambda: "back" in {row["item"] for row in page.rows})
    assert len([frame for frame in page.frames if "gone" in frame]) == 2
    orders.sql("update orders set id = 12 where id = 11")
    wait_until(lambda: page.keys == [0, 1, 2, 3, 10, 12, 13, 14, 15, 16])
    assert page.frames[-1]["gone"] == [11]


def test_what_changes_outside_of_the_window_does_not_travel(table: Any, orders: Any) -> None:
    orders.sql("insert into orders select n, 'item ' || n, n, true from generate_series(10, 500) n")
    wait_until(lambda: len(table.df) == 494)
    page = Page(table, start=0, stop=20)
    wait_until(lambda: len(page.rows) == 20)
    sent = len(page.frames)
    orders.sql("update orders set item = 'elsewhere' where id = 400")
    wait_until(lambda: "elsewhere" in set(table.df["item"].dropna()))
    time.sleep(0.2)
    assert not any("patch" in f or "columns" in f for f in page.frames[sent:])
    page.say("wants", wants={"start": 390, "stop": 420, "sort": [["id", False]]})
    wait_until(lambda: any(row["item"] == "elsewhere" for row in page.rows))


def test_a_page_sorts_for_itself(table: Any) -> None:
    up, down = Page(table), Page(table, sort=[["id", True]])
    wait_until(lambda: up.keys == [1, 2, 3] and down.keys == [3, 2, 1])
    down.say("wants", wants={"sort": [["no such column", True]]})
    wait_until(lambda: down.keys == [1, 2, 3])


def test_a_window_is_never_larger_than_a_page_can_want(table: Any, orders: Any) -> None:
    orders.sql("insert into orders select n, 'x', n, true from generate_series(10, 900) n")
    wait_until(lambda: len(table.df) == 894)
    page = Page(table, start=0, stop=10**9)
    wait_until(lambda: page.rows)
    assert len(page.rows) == 400


def test_counting_changes_does_not_build_them(table: Any, orders: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """10,000 updates cost as much to count as to apply, while a delta knows how many it has."""
    built: list[Updates] = []
    entries = Updates.entries
    monkeypatch.setattr(Updates, "entries", lambda part: [built.append(part), *entries(part)][1:])
    monkeypatch.setattr("rtwidgets.widgets.table.RATE_OVER", float("inf"))  # what was counted stays to be seen
    orders.sql("update orders set item = 'plums' where id < 3")
    wait_until(lambda: table._rate._count == 2)
    assert built == []


def test_observers_and_batches(table: Any, orders: Any) -> None:
    seen: list[str] = []
    batches: list[Any] = []
    table.observe(lambda change: seen.append(change.name), ["revision", "count"])
    unregister = table.on_change(batches.append)
    orders.sql("update orders set paid = true where id = 2")
    orders.sql("insert into orders values (9, 'figs', 3, false)")
    wait_until(lambda: {"revision", "count"} <= set(seen))
    updated = [entry for batch in batches for entry in batch.updated]
    assert updated == [(2, {"paid": False}, {"paid": True})]
    assert [row["item"] for batch in batches for row in batch.inserted] == ["figs"]
    unregister()
    orders.sql("delete from orders where id = 9")
    wait_until(lambda: table.count == 3)
    assert not any(batch.deleted for batch in batches)


def test_what_an_observer_raises_stops_nothing(table: Any, orders: Any, caplog: pytest.LogCaptureFixture) -> None:
    page, batches = Page(table), []
    table.observe(lambda change: 1 / 0, "revision")
    table.on_change(lambda batch: 1 / 0)
    table.on_change(batches.append)
    frames: list[Any] = []
    table.observe(frames.append, "df")
    orders.sql("update orders set amount = 9 where id = 2")
    wait_until(lambda: batches and frames and page.rows and page.rows[1]["amount"] == 9)
    assert caplog.text.count("ZeroDivisionError") >= 2
    assert table.status == "live"


def test_observing_df_gives_the_frame(table: Any, orders: Any) -> None:
    frames: list[Any] = []
    table.observe(lambda change: frames.append(change.new), "df")
    orders.sql("delete from orders where id = 3")
    wait_until(lambda: frames and len(frames[-1]) == 2)


def test_paused_it_counts_what_waits(table: Any, orders: Any) -> None:
    page = Page(table)
    table.pause()
    orders.sql("update orders set item = 'later' where id = 1")
    wait_until(lambda: page.state.get("waiting") == 1)
    assert table.df["item"][0] == "apples"
    page.say("resume")
    wait_until(lambda: page.rows and page.rows[0]["item"] == "later")
    assert table.paused is False


def test_it_moves_while_the_main_thread_sleeps(table: Any, orders: Any) -> None:
    page = Page(table)
    wait_until(lambda: len(page.rows) == 3)

    def work() -> None:
        for n in range(5):
            orders.sql("update orders set item = %s where id = 1", f"tick {n}")
            time.sleep(0.1)

    worker = threading.Thread(target=work)
    worker.start()
    wait_until(lambda: page.rows[0]["item"] == "tick 4")  # which sleeps here
    worker.join()


@pytest.mark.parametrize(
    ("name", "prepare", "says"),
    [
        ("nowhere", "", "create"),
        ("keyless", "create table if not exists keyless (a int)", "add primary key"),
        (
            "private_",
            "create table if not exists private_ (a int primary key)",
            "alter publication supabase_realtime add table",
        ),
    ],
)
def test_what_cannot_be_followed_says_what_to_do(orders: Any, name: str, prepare: str, says: str) -> None:
    if prepare:
        orders.sql(prepare)
    table = rt.LiveTable(name)
    page = Page(table)
    wait_until(lambda: table.status == "error")
    assert name in table.error
    assert says in table.error.lower()
    assert "\n" not in table.error
    wait_until(lambda: page.state.get("error") == table.error)
    with pytest.raises(rt.RealtimeError):
        table.wait_live()
    table.close()


def test_closing_one_of_two_leaves_the_other_live(orders: Any) -> None:
    one, other = rt.LiveTable("orders").wait_live(), rt.LiveTable("orders").wait_live()
    assert one.channel is other.channel
    one.close()
    assert one.status == "closed"
    assert len(one.df) == 3, "what was there stays readable"
    orders.sql("insert into orders values (77, 'kiwis', 1, true)")
    wait_until(lambda: other.count == 4)
    other.close()


def test_no_secret_is_in_any_synced_trait(table: Any, orders: Any) -> None:
    page = Page(table)
    wait_until(lambda: page.frames)
    text = repr(table.get_state()) + repr(page.frames) + repr(table) + str(table._repr_mimebundle_())
    for secret in (orders.anon_key, orders.service_key, orders.dsn, orders._server.state.jwt_secret):
        assert secret not in text


def test_the_static_table_of_a_saved_notebook_escapes_values(table: Any) -> None:
    data = table._repr_mimebundle_()
    text = (data[0] if isinstance(data, tuple) else data)["text/html"]
    assert "apples" in text
    assert "&lt;b&gt;pears&lt;/b&gt;" in text
    assert "<b>pears" not in text


def test_wrong_options_say_so_at_once(orders: Any) -> None:
    with pytest.raises(ValueError, match="decimal"):
        rt.LiveTable("orders", numeric="exact")
    with pytest.raises(TypeError):
        rt.LiveTable("orders", filtr="id=eq.1")  # type: ignore[call-arg]


def test_a_page_searches_filters_and_follows_the_tail(table: Any, orders: Any) -> None:
    orders.sql("insert into orders select n, 'item ' || n, n, true from generate_series(10, 500) n")
    wait_until(lambda: len(table.df) == 494)
    page = Page(table, start=0, stop=20, search='"ITEM 49"')
    wait_until(lambda: page.keys == [49, *range(490, 500)])
    assert (page.state["shown"], page.state["total"], page.state["note"]) == (11, 494, "")
    orders.sql("update orders set item = 'gone' where id = 49")
    wait_until(lambda: page.keys == [*range(490, 500)])
    assert page.state["shown"] == 10
    assert abs(page.state["changed"] - time.time() * 1000) < 60_000
    page.say("wants", wants={"start": 0, "stop": 20, "search": "", "filters": {"amount": ">=495", "paid": "=true"}})
    wait_until(lambda: page.keys == [*range(495, 501)])
    page.say("wants", wants={"start": 0, "stop": 5, "search": "", "filters": {"amount": "more"}, "tail": True})
    wait_until(lambda: page.state["shown"] == 0)
    page.say("wants", wants={"start": 0, "stop": 5, "filters": {"amount": ">more"}, "tail": True})
    wait_until(lambda: page.keys == [*range(496, 501)])
    assert "amount" in page.state["note"]
    orders.sql("insert into orders values (501, 'last', 1, true)")
    wait_until(lambda: page.keys == [*range(497, 502)])


def test_rows_that_a_thread_has_just_taken_up_count_as_not_looked_at(
    table: Any, orders: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A frame built in that moment holds no row that matches: it must not be taken for the answer."""
    orders.sql("insert into orders select n, 'item ' || n, n, true from generate_series(10, 3008) n")
    wait_until(lambda: table.count == 3002)
    taken_up, shown = threading.Event(), threading.Event()
    grow, test, look, window = ViewFilter._grow, ViewFilter._test, Grid._filter_later, Store.window

    def slow_grow(narrow: ViewFilter) -> None:
        if not on_io_thread() and not narrow._under_way:
            taken_up.set()
            time.sleep(0.02)
        grow(narrow)

    def slow_test(narrow: ViewFilter, *values: Any) -> Any:
        shown.wait(5)
        return test(narrow, *values)

    def look_until_taken_up(grid: Grid, narrow: ViewFilter) -> None:
        look(grid, narrow)
        taken_up.wait(5)

    def slow_window(store: Store, *args: Any, **options: Any) -> Any:
        found = window(store, *args, **options)
        if on_io_thread() and options["view_filter"] is not None:
            shown.set()
            time.sleep(0.05)
        return found

    monkeypatch.setattr(ViewFilter, "_grow", slow_grow)
    monkeypatch.setattr(ViewFilter, "_test", slow_test)
    monkeypatch.setattr(Grid, "_filter_later", look_until_taken_up)
    monkeypatch.setattr(Store, "window", slow_window)
    page = Page(table, start=0, stop=20, search='"item 299"')
    wait_until(lambda: page.state.get("shown") == 11)


def test_a_page_gets_what_it_shows_as_csv(table: Any, orders: Any) -> None:
    page = Page(table, start=0, stop=20, sort=[["id", True]], filters={"amount": ">2"})
    wait_until(lambda: page.rows)
    page.say("csv", columns=["item", "id", "no such column"])
    wait_until(lambda: any("csv" in frame for frame in page.frames))
    answer = next(frame["csv"] for frame in page.frames if "csv" in frame)
    assert answer["name"] == "orders.csv"
    assert answer["text"].splitlines()[0] == "item,id"
    assert answer["text"].splitlines()[-1] == "apples,1"


def test_what_is_read_stays_while_rows_come_above(table: Any, orders: Any) -> None:
    orders.sql("insert into orders select n, 'item ' || n, n, true from generate_series(1001, 1500) n")
    wait_until(lambda: len(table.df) == 503)
    page = Page(table, start=200, stop=220, anchor=[205, 1203])
    wait_until(lambda: page.keys and page.keys[0] == 1198)
    orders.sql("insert into orders select n, 'above', n, true from generate_series(101, 160) n")
    wait_until(lambda: page.state.get("total") == 563)
    assert page.keys == list(range(1198, 1218))
    assert page.frames[-1].get("start", 260) == 260
    orders.sql("delete from orders where id in (1203, 1204) or id between 101 and 110")
    wait_until(lambda: page.state.get("total") == 551)
    assert page.keys[:8] == [1196, 1197, 1198, 1199, 1200, 1201, 1202, 1205], "the rows after it hold the place"
    up = Page(table, start=3, stop=9, sort=[["amount", True]], anchor=[4, 1496])
    wait_until(lambda: up.keys == [1497, 1496, 1495, 1494, 1493, 1492])
    orders.sql("insert into orders values (2000, 'most', 99999, true)")
    wait_until(lambda: up.state.get("total") == 552)
    assert up.keys == [1497, 1496, 1495, 1494, 1493, 1492]


def test_a_client_that_was_closed_takes_its_tables_along(orders: Any) -> None:
    """Not "stale, heals itself": nothing comes from there any more."""
    other = orders.connect()
    table = rt.LiveTable("orders", client=other).wait_live()
    page = Page(table)
    wait_until(lambda: len(page.rows) == 3)
    other.close()
    wait_until(lambda: table.status == "closed" and page.state["status"] == "closed")
    assert "make this anew" in table.error
    assert len(table.df) == 3, "what it had stays"
    table.close()


def test_verify_finds_what_no_change_told(orders: Any) -> None:
    """Which rows a policy shows may rest on another table."""
    orders.sql(
        "create table shown (id int primary key); insert into shown values (1), (2), (3);"
        "grant select on shown to anon;"
        "alter table orders enable row level security;"
        "create policy seen on orders for select using (id in (select id from shown))"
    )
    table = rt.LiveTable("orders").wait_live()
    orders.sql("delete from shown where id > 1")
    orders.sql("update orders set item = 'plums' where id = 1")
    wait_until(lambda: "plums" in set(table.df["item"].dropna()))
    assert len(table.df) == 3, "nobody is told of a row that a policy reads"
    assert table.verify().count == 1
    assert len(table.df) == 1
    table.close()
    orders.sql("drop policy seen on orders; drop table shown")


def answer(page: Page, name: str) -> Any:
    wait_until(lambda: any(name in frame for frame in page.frames))
    return [frame[name] for frame in page.frames if name in frame][-1]


def test_a_page_selects_rows_that_it_has_not_loaded(table: Any, orders: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    orders.sql("insert into orders select n, 'item ' || n, n, true from generate_series(10, 500) n")
    wait_until(lambda: table.count == 494)
    page = Page(table, start=0, stop=20, sort=[["id", True]], filters={"amount": ">=100"})
    wait_until(lambda: page.keys)
    page.say("select range", range=[105, 102])
    assert answer(page, "selected") == {"count": 4}
    assert table.selected == [105, 104, 103, 102], "as the view is sorted"
    page.frames.clear()
    page.say("select range", range=None)
    assert answer(page, "selected") == {"count": 401}
    assert len(table.selected_df) == 401
    for odd in ([1, 2], [105, 999], [[], {}], "x", [105]):
        page.frames.clear()
        page.say("select range", range=odd)
        assert "problem" in answer(page, "selected")
    monkeypatch.setattr("rtwidgets.widgets.grid.SELECT_MOST", 100)
    page.frames.clear()
    page.say("select range", range=None)
    assert "401 rows are too many to select" in answer(page, "selected")["problem"]
    assert len(table.selected) == 401, "what was selected stays"


def test_a_page_reads_whole_rows(table: Any, orders: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    orders.sql("insert into orders values (0, repeat('x', 5000), 1, true)")
    wait_until(lambda: table.count == 4)
    page = Page(table)
    wait_until(lambda: page.keys == [0, 1, 2, 3])
    assert len(page.rows[0]["item"]) == 1000
    page.say("rows", number=1, keys=[0], columns=["item"])
    assert answer(page, "rows") == {"number": 1, "columns": [("item", ["x" * 5000])]}
    table.selected = [3, 1, 99]
    page.frames.clear()
    page.say("rows", number=2, keys=None, columns=["item", "id", "no such column"])
    assert answer(page, "rows") == {"number": 2, "columns": [("item", ["apples", None]), ("id", [1, 3])]}
    monkeypatch.setattr("rtwidgets.widgets.grid.ANSWER_MOST", 1000)
    page.frames.clear()
    page.say("rows", number=3, keys=[0], columns=["item"])
    assert "too much for a page" in answer(page, "rows")["problem"]
    for odd in ({"keys": 5}, {"keys": [{}]}, {"columns": None}, {}):
        page.frames.clear()
        page.say("rows", number=4, **odd)
        assert answer(page, "rows")["number"] == 4


def test_json_is_json_in_csv(local: Any) -> None:
    local.sql("create table docs (id int primary key, doc jsonb, tags text[])")
    local.sql("""insert into docs values (1, '{"a": null, "b": "ü"}', '{x,y}'), (2, null, null)""")
    local.publish("docs")
    docs = rt.LiveTable("docs", client=local.client, order="id").wait_live()
    try:
        page = Page(docs)
        page.say("csv", columns=["doc", "tags"])
        text = answer(page, "csv")["text"]
        assert text.splitlines() == ["doc,tags", '"{""a"": null, ""b"": ""ü""}","[""x"", ""y""]"', ","]
        assert docs.to_csv(columns=["doc", "tags"]) == text
    finally:
        docs.close()
        local.sql("drop table docs")


@pytest.mark.parametrize("name", ["²", "--1", "5", "9" * 400])
def test_a_row_with_an_odd_text_key_goes_without_harm(local: Any, name: str) -> None:
    local.sql("create table named (name text primary key, n int)")
    local.sql("insert into named values (%s, 1), ('other', 2)", name)
    local.publish("named")
    named = rt.LiveTable("named", client=local.client).wait_live()
    try:
        page = Page(named)
        wait_until(lambda: len(page.keys) == 2)
        page.say("select", keys=[name])
        local.sql("delete from named where name = %s", name)
        wait_until(lambda: page.keys == ["other"])
        assert named.selected_df.empty
        local.sql("update named set n = 3")
        wait_until(lambda: page.rows[0]["n"] == 3)
    finally:
        named.close()
        local.sql("drop table named")
