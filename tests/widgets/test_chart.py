"""`LiveChart`: pictures of frames, what of them travels, and a chart of a real table."""

from __future__ import annotations

import time
import uuid
from datetime import datetime
from typing import Any

import numpy as np
import pandas as pd
import pytest
import traitlets

import rtwidgets as rt
from rtwidgets.widgets import chart_data as pictures
from rtwidgets.widgets.chart_data import ChartData, Spec, check, draw, step

from ..waits import wait_until
from .page import Page


def spec(**more: Any) -> Spec:
    given = {"x": "t", "y": "v", "by": None, "kind": "line", "window": None, "agg": None, "every": None}
    return Spec(**{**given, **more})


def frame(n: int = 100) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "t": pd.date_range("2026-01-31", periods=n, freq="s", tz="UTC"),
            "v": np.arange(n) * 1.0,
            "g": np.array(["south", "north"])[np.arange(n) % 2],
            "i": pd.array(range(n), dtype="Int64"),
        }
    )


# --- pictures


def test_points_stand_in_order_of_x_whatever_the_rows_do() -> None:
    made = draw(frame().sample(frac=1, random_state=1), spec(), {})
    assert made.axis == "time"
    assert made.y.tolist() == list(range(100))
    assert made.frame(spec())["t"].iloc[0] == pd.Timestamp("2026-01-31", tz="UTC")


def test_groups_are_series_which_keep_their_colour() -> None:
    seats: dict[str, int] = {}
    made = draw(frame(), spec(by="g"), seats)
    assert made.series == [("north", 0), ("south", 1)]
    assert made.frame(spec(by="g"))["g"].tolist()[:3] == ["south", "north", "south"]
    more = pd.concat([frame(), frame(3).assign(g="east")])
    assert draw(more, spec(by="g"), seats).series == [("north", 0), ("south", 1), ("east", 2)]
    assert draw(more[more["g"] != "north"], spec(by="g"), seats).series == [("south", 1), ("east", 2)]
    assert draw(frame(), spec(by="g"), seats).series == [("south", 1), ("north", 0)]


def test_more_groups_than_an_eye_tells_apart_are_said() -> None:
    made = draw(frame().assign(g=range(100)), spec(by="g"), {})
    assert len(made.series) == pictures.SERIES_MOST
    assert made.notes == ["12 of 100 groups are drawn: the others are left out"]
    assert len(made) == 12


def test_windows() -> None:
    assert draw(frame(), spec(window=10), {}).y.tolist() == list(range(90, 100))
    assert len(draw(frame(), spec(window=10, by="g"), {})) == 10, "points along x, over all series"
    assert len(draw(frame(), spec(window="30s"), {})) == 30
    assert len(draw(frame(), spec(x="i", window=5.0), {})) == 5
    assert len(draw(frame(), spec(window=pd.Timedelta("5s")), {})) == 5


def test_what_is_worked_out_equals_pandas() -> None:
    data = frame(200)
    made = draw(data, spec(agg="mean", every="1min", by="g"), {}).frame(spec(by="g"))
    wanted: Any = data.groupby([data["t"].dt.floor("1min"), "g"])["v"].mean().reset_index()
    assert made["v"].tolist() == wanted["v"].tolist()
    assert made["t"].tolist() == wanted["t"].tolist()
    assert draw(data, spec(x="g", y="g", agg="count"), {}).y.tolist() == [100, 100]
    assert draw(data, spec(x="g", agg=0.5), {}).y.tolist() == data.groupby("g", sort=False)["v"].quantile(0.5).tolist()


def test_names_along_x_keep_the_order_of_the_source_and_bars_stand_once() -> None:
    made = draw(frame(), spec(x="g", kind="bar"), {})
    assert (made.categories, made.y.tolist()) == (["south", "north"], [98, 99])
    assert "several rows share an x" in made.notes[0]


def test_nulls_are_gaps_and_rows_without_x_are_no_points() -> None:
    data = pd.DataFrame({"t": [1.0, None, 3.0, 4.0], "v": pd.array([1, 2, None, 4], dtype="Int64")})
    made = draw(data, spec(), {})
    assert made.x.tolist() == [1, 3, 4]
    assert np.isnan(made.y[1])
    assert draw(pd.DataFrame({"t": [1], "v": [np.inf]}), spec(), {}).y.tolist() != [np.inf]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"x": "nope"}, "no column 'nope'"),
        ({"y": "g"}, "not numbers"),
        ({"x": "g", "window": "5min"}, "holds names"),
        ({"x": "i", "window": "5min"}, "holds numbers"),
        ({"x": "i", "window": "5min"}, "does not fit"),
    ],
)
def test_what_cannot_be_drawn_says_why_and_what_to_do(more: dict[str, Any], said: str) -> None:
    with pytest.raises(rt.RealtimeError, match=said) as raised:
        draw(frame(), spec(**more), {})
    assert raised.value.hint


@pytest.mark.parametrize(
    "more",
    [
        {"kind": "pie"},
        {"x": 3},
        {"by": 3},
        {"agg": "most"},
        {"agg": 1.5},
        {"window": "soon"},
        {"window": 0},
        {"window": True},
        {"window": "-5s"},
        {"every": "1min"},
    ],
)
def test_arguments_that_fit_no_source_are_refused(more: dict[str, Any]) -> None:
    with pytest.raises((TypeError, ValueError)) as raised:
        check(spec(**more))
    assert ", not " in str(raised.value) or "give agg" in str(raised.value)


def replay(old: ChartData, new: ChartData) -> None:
    """What a page makes of the step from one picture to the next."""
    moved = step(old, new)
    assert moved is not None
    y = old.y[moved.drop :].copy()
    y[moved.places] = new.y[moved.places]
    assert np.array_equal(np.concatenate([old.x[moved.drop :], new.x[moved.start :]]), new.x)
    assert np.array_equal(np.concatenate([y, new.y[moved.start :]]), new.y, equal_nan=True)
    assert np.array_equal(np.concatenate([old.s[moved.drop :], new.s[moved.start :]]), new.s)


@pytest.mark.parametrize("by", [None, "g"])
def test_only_what_is_new_travels(by: str | None) -> None:
    data, seats = frame(500), dict[str, int]()
    old = draw(data[:400], spec(by=by, window=300), seats)
    new = draw(data[:450], spec(by=by, window=300), seats)
    replay(old, new)
    moved = step(old, new)
    assert moved is not None
    assert (moved.drop, len(moved.places), len(new) - moved.start) == (50, 0, 50)
    changed = data[:450].assign(v=lambda d: d["v"].where(d.index != 444, -1.0))
    replay(new, draw(changed, spec(by=by, window=300), seats))
    assert step(new, draw(data[1:450:3], spec(by=by), seats)) is None


# --- the widget, without a server


def numbers(page: Page) -> tuple[list[float], list[float]]:
    """What the page would draw."""
    x, y = np.empty(0), np.empty(0)
    for sent in page.frames:
        if "points" in sent:
            buffers = [np.frombuffer(b, dtype="float64") for b in sent["buffers"][:2]]
            drop = len(x) if sent["points"]["whole"] else sent["points"]["drop"]
            x, y = np.concatenate([x[drop:], buffers[0]]), np.concatenate([y[drop:], buffers[1]])
            if not sent["points"]["whole"]:
                y[np.frombuffer(sent["buffers"][3], dtype="int32")] = np.frombuffer(sent["buffers"][4], dtype="float64")
            assert len(x) == sent["points"]["count"]
    return x.tolist(), y.tolist()


def test_a_frame_that_stays_is_drawn_too() -> None:
    chart = rt.LiveChart(frame(), "t", "v", kind="area")
    page = Page(chart)
    wait_until(lambda: len(numbers(page)[1]) == 100)
    assert page.state["status"] == "live"
    assert chart.df["v"].tolist() == list(range(100))
    wait_until(lambda: chart.count == 100)
    chart.close()


def test_unknown_arguments_and_sources_are_refused() -> None:
    with pytest.raises(TypeError, match="not dict"):
        rt.LiveChart({}, "x", "y")
    with pytest.raises(TypeError):
        rt.LiveChart(frame(), "t", "v", color="red")  # type: ignore[call-arg]
    with pytest.raises(ValueError, match="kind is one of line, area, bar, scatter, not 'pie'"):
        rt.LiveChart(frame(), "t", "v", kind="pie")


def test_what_is_drawn_can_be_changed() -> None:
    chart = rt.LiveChart(frame(), "t", "v")
    page = Page(chart)
    wait_until(lambda: len(numbers(page)[1]) == 100)
    chart.by, chart.kind, chart.window = "g", "scatter", 10
    wait_until(lambda: page.state["kind"] == "scatter" and len(numbers(page)[1]) == 10)
    assert [name for name, _ in page.state["series"]] == ["north", "south"]
    with pytest.raises(traitlets.TraitError, match="kind is one of"):
        chart.kind = "pie"
    assert chart.kind == "scatter"
    chart.y = "nope"
    wait_until(lambda: "no column 'nope'" in chart.error)
    assert "columns are t, v, g, i" in chart.error
    assert len(numbers(page)[1]) == 10, "the last good picture stays"
    chart.y = "v"
    wait_until(lambda: chart.error == "")
    chart.close()


def test_names_are_escaped_in_a_saved_notebook() -> None:
    evil = "<script>hit()</script>"
    data = pd.DataFrame({evil: [evil], "v": [1.0]})
    chart = rt.LiveChart(data, evil, "v", by=evil, kind="bar")
    wait_until(lambda: chart.count == 1)
    assert "<script>" not in chart._html()
    assert "&lt;script&gt;" in chart._html()
    chart.close()


# --- of live sources


@pytest.mark.pg
def test_a_table_is_followed_row_by_row(orders: Any) -> None:
    table = rt.LiveTable("orders", order="id").wait_live()
    chart = rt.LiveChart(table, "id", "amount")
    page = Page(chart)
    wait_until(lambda: numbers(page)[0] == [1, 2, 3])
    whole = sum(sent.get("points", {}).get("whole", False) for sent in page.frames)
    orders.sql("insert into orders values (4, 'figs', 9, true)")
    orders.sql("update orders set amount = 77 where id = 1")
    wait_until(lambda: numbers(page)[1][:1] == [77] and numbers(page)[1][-1:] == [9])
    assert sum(sent.get("points", {}).get("whole", False) for sent in page.frames) == whole, "only what is new is sent"
    orders.sql("delete from orders where id = 1")
    wait_until(lambda: numbers(page)[0] == [2, 3, 4])
    assert chart.df["id"].tolist() == [2, 3, 4]
    seen: list[int] = []
    chart.observe(lambda change: seen.append(change["new"]), "revision")
    orders.sql("update orders set amount = 1 where id = 4")
    wait_until(lambda: seen)
    chart.close()
    table.close()


@pytest.mark.pg
def test_groups_of_a_table_are_bars(orders: Any) -> None:
    table = rt.LiveTable("orders").wait_live()
    groups = table.group_by("paid").agg(total=("amount", "sum"))
    chart = rt.LiveChart(groups, x="paid", y="total", kind="bar")
    page = Page(chart)
    wait_until(lambda: numbers(page)[1] == [4, 2.5])
    assert page.state["categories"] == ["False", "True"]
    orders.sql("insert into orders values (9, 'figs', 1.5, true)")
    wait_until(lambda: numbers(page)[1] == [4, 4])
    chart.close()
    table.close()


@pytest.mark.pg
def test_a_feed_is_drawn_once_it_has_messages(local: Any) -> None:
    client = local.connect()
    room = rt.Channel(f"chart-{uuid.uuid4().hex[:6]}", client=client)
    feed = rt.BroadcastFeed(room, "tick").wait_live()
    chart = rt.LiveChart(feed, "received_at", "price", by="symbol", window="5min")
    page = Page(chart)
    wait_until(lambda: page.state)
    assert chart.error == ""
    for n in range(5):
        feed.send({"price": n, "symbol": "ab"[n % 2]})
    wait_until(lambda: numbers(page)[1] == [0, 1, 2, 3, 4])
    assert [name for name, _ in page.state["series"]] == ["a", "b"]
    chart.close()
    client.close()


@pytest.mark.pg
def test_a_closed_source_leaves_the_picture_and_a_closed_chart_leaves_nothing(orders: Any) -> None:
    table = rt.LiveTable("orders", order="id").wait_live()
    chart = rt.LiveChart(table, "id", "amount")
    page = Page(chart)
    wait_until(lambda: numbers(page)[0] == [1, 2, 3])
    table.close()
    wait_until(lambda: page.state["status"] == "closed")
    assert numbers(page)[0] == [1, 2, 3]
    assert chart.df["id"].tolist() == [1, 2, 3]
    chart.close()
    chart.close()
    assert not table._followers
    assert chart.status == "closed"
    time.sleep(0.1)
    assert chart._task is None or chart._task.done()


def points(chart: rt.LiveChart) -> pd.DataFrame:
    wait_until(lambda: chart.ready)
    return chart.df


def test_iso_texts_along_x_are_times() -> None:
    at = [f"2026-01-31T12:{i // 60:02}:{i % 60:02}Z" for i in range(250)]
    frame = pd.DataFrame({"at": at, "v": range(250)})
    drawn = points(rt.LiveChart(frame, "at", "v"))
    assert len(drawn) == 250
    assert drawn["v"].iloc[-1] == 249
    assert drawn["at"].iloc[-1] == pd.Timestamp(at[-1])
    days = points(rt.LiveChart(pd.DataFrame({"at": ["2026-01-31", "2026-02-01"], "v": [1, 2]}), "at", "v"))
    assert days["at"].tolist() == [pd.Timestamp("2026-01-31"), pd.Timestamp("2026-02-01")]


def test_texts_that_are_not_all_times_are_names() -> None:
    frame = pd.DataFrame({"at": ["2026-01-31", "soon"], "v": [1, 2]})
    assert points(rt.LiveChart(frame, "at", "v"))["at"].tolist() == ["2026-01-31", "soon"]
    years = pd.DataFrame({"at": ["2024", "2025"], "v": [1, 2]})
    assert points(rt.LiveChart(years, "at", "v"))["at"].tolist() == ["2024", "2025"]


def test_times_of_several_offsets_are_all_drawn() -> None:
    texts = ["2026-01-31T12:00:00+01:00", "2026-01-31T12:00:00+02:00", "2026-01-31T12:00:00Z"]
    for at in (texts, [datetime.fromisoformat(text) for text in texts]):
        drawn = points(rt.LiveChart(pd.DataFrame({"at": pd.Series(at, dtype=object), "v": [1, 2, 3]}), "at", "v"))
        assert drawn["at"].dt.hour.tolist() == [10, 11, 12]
        assert drawn["v"].tolist() == [2, 1, 3]


def test_of_too_many_names_the_last_are_drawn() -> None:
    frame = pd.DataFrame({"name": [f"n{i}" for i in range(250)], "v": range(250)})
    chart = rt.LiveChart(frame, "name", "v")
    assert points(chart)["v"].tolist() == list(range(50, 250))
    assert "the first 50 values of x are left out" in chart._picture.notes


def test_infinities_along_x_are_left_out() -> None:
    at = pd.Series([np.iinfo(np.int64).max, 0, 1_000_000], dtype="int64").astype("datetime64[us]").dt.tz_localize("UTC")
    chart = rt.LiveChart(pd.DataFrame({"at": at, "v": [1, 2, 3]}), "at", "v", window="1d")
    assert points(chart)["v"].tolist() == [2, 3]
    assert "1 point at infinity is left out" in chart._picture.notes
    numbers = rt.LiveChart(pd.DataFrame({"x": [np.inf, 1.0, -np.inf], "v": [1, 2, 3]}), "x", "v")
    assert points(numbers)["v"].tolist() == [2]
    assert "2 points at infinity are left out" in numbers._picture.notes


def test_ordered_categories_stand_in_their_order() -> None:
    size = pd.Categorical(["high", "low", "mid"], categories=["low", "mid", "high"], ordered=True)
    frame = pd.DataFrame({"size": size, "v": [3, 1, 2]})
    chart = rt.LiveChart(frame, "size", "v", kind="bar")
    wait_until(lambda: chart.ready)
    assert chart._picture.categories == ["low", "mid", "high"]
    assert points(chart)["v"].tolist() == [1, 2, 3]
    by = rt.LiveChart(frame.assign(x=[1, 2, 3]), "x", "v", by="size")
    wait_until(lambda: by.ready)
    assert [name for name, _ in by._picture.series] == ["low", "mid", "high"]


def test_long_names_stay_apart() -> None:
    names = ["x" * 300 + "a", "x" * 300 + "b", "y" * 150 + "1" + "z" * 150, "y" * 150 + "2" + "z" * 150]
    chart = rt.LiveChart(pd.DataFrame({"name": names, "v": range(4)}), "name", "v", kind="bar")
    wait_until(lambda: chart.ready)
    assert len(set(chart._picture.categories)) == 4


def test_columns_that_are_missing_or_twice_are_named() -> None:
    twice = pd.DataFrame([[1, 2, 3]], columns=["x", "v", "v"])
    chart = rt.LiveChart(twice, "x", "v")
    wait_until(lambda: "2 columns are called 'v'" in chart.error)
    grouped = pd.DataFrame({"region": ["a", "b"], "v": [1, 2]}).groupby("region").sum()
    assert points(rt.LiveChart(grouped, "region", "v", kind="bar"))["region"].tolist() == ["a", "b"]
    missing = rt.LiveChart(grouped, "bo", "v")
    wait_until(lambda: "the columns are v; the index is region" in missing.error.lower())
