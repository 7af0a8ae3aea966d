"""The table as it was equals what `.df` was."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtwidgets.data.history import History
from rtwidgets.data.store import Store

from .test_store import COLUMNS, FULL, OPS, cells, change, rows

BEGAN = datetime(2026, 1, 1, tzinfo=UTC)


def applied(store: Store, ops: list[Any]) -> Any:
    changes: list[Any] = []
    for kind, key, arg in ops:
        if kind in ("insert", "update"):
            changes.append(change(kind.upper(), {"id": key, **arg}, {"id": key} if kind == "update" else None))
        elif kind == "rekey":
            changes.append(change("UPDATE", {"id": arg}, {"id": key}))
        elif kind == "delete":
            changes.append(change("DELETE", None, {"id": key}))
    resynced = [arg for kind, _, arg in ops if kind == "resync"]
    if resynced:
        found = {key: {"id": key, **row} for key, row in resynced[0]}
        return store.resync(list(found.values()))
    return store.apply(changes)


@pytest.mark.slow
@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 12), FULL), max_size=6),
    st.lists(st.lists(OPS, max_size=8), max_size=6),
    st.sampled_from([None, "n.desc,id"]),
)
def test_every_moment_can_be_had_again(start: list[Any], batches: list[list[Any]], order: str | None) -> None:
    store, history = Store(COLUMNS, ["id"], order=order), History(1000)
    history.add(BEGAN, store.load([{"id": key, **row} for key, row in start]))
    was = {BEGAN: cells(store.df())}
    for i, ops in enumerate(batches, 1):
        delta = applied(store, ops)
        if delta:
            history.add(BEGAN + timedelta(seconds=i), delta)
        was[BEGAN + timedelta(seconds=i)] = cells(store.df())
    for moment, then in was.items():
        if history.since is None or moment < history.since:
            continue
        got = history.at(store, moment)
        assert got.dtypes.equals(store.df().dtypes)
        # Without an order, rows that went since stand last.
        arrange = (lambda found: found) if order else (lambda found: sorted(found, key=lambda row: row[0]))
        assert arrange(cells(got)) == arrange(then)


def test_it_is_bounded_and_says_from_when_on() -> None:
    store, history = Store(COLUMNS, ["id"]), History(3)
    with pytest.raises(LookupError):
        history.at(store, BEGAN)
    history.add(BEGAN, store.load(rows(5)))
    for i in range(1, 6):
        delta = store.apply([change("UPDATE", {"id": i % 5, "n": 10 * i}, {"id": i % 5})])
        history.add(BEGAN + timedelta(seconds=i), delta)
    assert history.since == BEGAN + timedelta(seconds=2)
    assert history.at(store, history.since)["n"].tolist() == [1, 10, 20, 1, 1]
    with pytest.raises(LookupError):
        history.at(store, BEGAN + timedelta(seconds=1))
    held = store.df()["n"].tolist()
    history.at(store, history.since)
    assert store.df()["n"].tolist() == held
    history.add(BEGAN + timedelta(seconds=9), store.load(rows(2)))
    assert history.since == BEGAN + timedelta(seconds=9), "what was there before a load is not known"
