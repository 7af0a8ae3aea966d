"""A cell that runs again closes the widgets that it replaced."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from typing import Any

import pytest

from rtwidgets.widgets import replaced
from rtwidgets.widgets.replaced import close_replaced


class Widget:
    """As much of a widget as is needed."""

    comm = None

    def __init__(self, source: Any = None) -> None:
        self.kept = self.closed = False
        self.source = source
        self.children: tuple[Any, ...] = ()

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def cell(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Runs "cells": `cell(run, name)` makes a widget in that run of the cell of that name."""
    namespace: dict[str, Any] = {}
    monkeypatch.setattr(replaced, "_origins", {})
    monkeypatch.setattr(replaced, "post_to_io", lambda call: None)

    def run(number: int, name: str = "a", source: Any = None) -> Widget:
        monkeypatch.setattr(replaced, "_where", lambda: (name, number, namespace))
        widget = Widget(source)
        replaced.note_made(widget)  # type: ignore[arg-type]
        return widget

    run.namespace = namespace  # type: ignore[attr-defined]
    run.check = lambda name="a": close_replaced(replaced._origins[name])  # type: ignore[attr-defined]
    gc.collect()
    gc.freeze()  # looking through all that other tests have left takes a second
    yield run
    gc.unfreeze()


def test_what_no_variable_holds_any_more_is_closed(cell: Any) -> None:
    first = cell.namespace["orders"] = cell(1)
    second = cell.namespace["orders"] = cell(2)
    cell.check()
    assert first.closed
    assert not second.closed


def test_several_of_one_run_stay(cell: Any) -> None:
    first, second = cell(1), cell(1)
    cell.check()
    assert not first.closed
    assert not second.closed


@pytest.mark.parametrize(
    "hold",
    [lambda w: w, lambda w: [w], lambda w: {"k": (w,)}, lambda w: lambda: w],
    ids=["itself", "a list", "a tuple in a dict", "a closure"],
)
def test_what_a_variable_holds_stays(cell: Any, hold: Any) -> None:
    first = cell(1)
    cell.namespace["kept"] = hold(first)
    cell(2)
    cell.check()
    assert not first.closed
    del cell.namespace["kept"]
    gc.collect()
    third = cell(3)
    cell.check()
    assert first.closed
    assert not third.closed


def test_the_source_of_a_widget_in_use_stays(cell: Any) -> None:
    table = cell(1)
    cell.namespace["chart"] = cell(1, "b", source=table)
    cell(2)
    cell.check()
    assert not table.closed
    box = cell.namespace["box"] = Widget()
    inner = cell(1, "c")
    box.children = (inner,)
    cell(2, "c")
    cell.check("c")
    assert not inner.closed


def test_output_history_is_no_reference(cell: Any) -> None:
    first = cell(1)
    cell.namespace |= {"_": first, "_5": first, "Out": {5: first}, "__": [first]}
    cell(2)
    cell.check()
    assert first.closed


def test_keep_is_the_way_out(cell: Any) -> None:
    first = cell(1)
    first.kept = True
    cell(2)
    cell.check()
    assert not first.closed


def test_too_much_to_search_closes_nothing(cell: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replaced, "SEARCHED_MOST", 100)
    first = cell(1)
    cell.namespace["data"] = [object() for _ in range(200)]
    cell(2)
    cell.check()
    assert not first.closed


def test_a_script_has_no_runs() -> None:
    assert replaced._where() is None
