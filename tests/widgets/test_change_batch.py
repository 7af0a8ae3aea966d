"""Another table that is fed by `on_change(fn, initial=True)` equals the live table, whatever happens meanwhile."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import pandas as pd
import pytest

import rtwidgets as rt
from rtwidgets.data.delta import Delta
from rtwidgets.data.store import Store
from rtwidgets.protocol.messages import Change, Column
from rtwidgets.widgets.change_batch import ChangeBatch, ChangeFeed, RowsOfNow

from ..waits import wait_until

COLUMNS = [Column("id", "int8"), Column("v", "text")]


class Mirror:
    """A table elsewhere, which replaces rows by their key and removes rows by key."""

    def __init__(self) -> None:
        self.rows: dict[Any, Any] = {}
        self.batches: list[ChangeBatch] = []

    def __call__(self, batch: ChangeBatch) -> None:
        self.batches.append(batch)
        for row in batch.upserts.to_dict("records"):
            self.rows[row["id"]] = row["v"] if "v" in row else row["item"]
        for key in batch.gone:
            self.rows.pop(key, None)


def change(kind: str, key: int, value: str = "", old: int | None = None) -> Change:
    record = None if kind == "DELETE" else {"id": key, "v": value}
    before = {"id": key if old is None else old} if kind in ("UPDATE", "DELETE") else None
    return Change("DELETE" if kind == "DELETE" else kind, "public", "t", COLUMNS, record, before)  # type: ignore[arg-type]


def some_delta(store: Store, dice: random.Random, number: int) -> Delta:
    keys = store.keys()
    if dice.random() < 0.1:
        return store.load([{"id": key, "v": f"loaded {number}"} for key in dice.sample(range(20), 5)])
    if dice.random() < 0.1:
        return store.resync([{"id": key, "v": f"read {number}"} for key in dice.sample(range(20), 8)])
    changes: list[Change] = []
    for _ in range(dice.randrange(1, 8)):
        key, kind = dice.randrange(20), dice.choice(["INSERT", "UPDATE", "UPDATE", "DELETE", "TRUNCATE", "rename"])
        if kind == "TRUNCATE":
            if dice.random() < 0.2:
                changes.append(Change("TRUNCATE", "public", "t", COLUMNS, None, None))
        elif kind == "rename" and keys:
            changes.append(change("UPDATE", key, f"renamed {number}", old=dice.choice(keys)))
        elif kind != "rename":
            changes.append(change(kind, key, f"{kind} {number}"))
    return store.apply(changes)


@pytest.mark.parametrize("seed", range(60))
def test_a_mirror_of_any_changes_is_the_table(seed: int) -> None:
    dice = random.Random(seed)
    store = Store(COLUMNS, ["id"])
    store.load([{"id": key, "v": "first"} for key in range(6)])
    mirror, late = Mirror(), dice.randrange(4)
    feed = ChangeFeed(lambda: store, mirror, initial=True)
    first: RowsOfNow | None = None
    for number in range(25):
        delta = some_delta(store, dice, number)
        if number == late:
            first = RowsOfNow(store)  # a delta that it has is reported afterwards
        feed.deliver(delta)
        if number == late + 2:
            assert first is not None
            feed.start(first)
        if number >= late + 2:
            assert mirror.rows == {key: (store.row(key) or {})["v"] for key in store.keys()}, number  # noqa: SIM118


def test_each_batch_alone_says_which_rows_are_gone() -> None:
    store = Store(COLUMNS, ["id"])
    store.load([{"id": key, "v": "x"} for key in range(4)])
    truncate = Change("TRUNCATE", "public", "t", COLUMNS, None, None)
    delta = store.apply([change("DELETE", 0), change("INSERT", 9), truncate, change("INSERT", 1, "again")])
    batch = ChangeBatch(delta, store)
    assert (sorted(batch.gone), batch.deleted) == ([0, 2, 3], [])
    assert batch.upserts.to_dict("records") == [{"id": 1, "v": "again"}]


def test_the_first_rows_have_the_values_of_later_ones() -> None:
    columns = [Column("id", "int4"), Column("day", "date"), Column("at", "timestamptz"), Column("n", "numeric")]
    rows = [
        {"id": 1, "day": "2026-01-31", "at": "2026-01-31T12:00:00+00:00", "n": "NaN"},
        {"id": 2, "day": None, "at": None, "n": None},
        {"id": 3, "day": "2026-02-01", "at": None, "n": "1.50"},
    ]
    store = Store(columns, ["id"], numeric="decimal", order="id desc")
    later = ChangeBatch(store.load(rows), store).inserted
    first = RowsOfNow(store)
    assert [row["id"] for row in first.inserted] == first.upserts["id"].to_list() == [3, 2, 1]
    assert repr(first.inserted[::-1]) == repr(later)


@pytest.fixture
def table(orders: Any) -> Iterator[Any]:
    made = rt.LiveTable("orders").wait_live()
    yield made
    made.close()


@pytest.mark.pg
def test_the_rows_of_now_and_every_change_after(table: Any, orders: Any) -> None:
    mirror = Mirror()
    unregister = table.on_change(mirror, initial=True)
    wait_until(lambda: mirror.rows == {1: "apples", 2: "<b>pears</b>", 3: None} or len(mirror.rows) == 3)
    pd.testing.assert_frame_equal(mirror.batches[0].upserts, table.df)
    assert mirror.batches[0].inserted[2] == {"id": 3, "item": None, "amount": None, "paid": None}
    orders.sql("insert into orders values (4, 'plums', 1, true); delete from orders where id = 1")
    orders.sql("update orders set item = 'kiwis' where id = 2; update orders set id = 33 where id = 3")
    wait_until(lambda: set(mirror.rows) == {2, 33, 4} and mirror.rows[2] == "kiwis")
    orders.sql("truncate orders; insert into orders values (7, 'new', 1, true)")
    wait_until(lambda: mirror.rows == {7: "new"}, 20)
    unregister()
    with pytest.raises(TypeError, match="initial"):
        table.on_change(mirror, initial="yes")
