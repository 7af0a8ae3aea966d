"""A grid over a store of its own, without a server: what one view does to the others."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from rtwidgets.data.store import Store
from rtwidgets.protocol.messages import Column
from rtwidgets.widgets.grid import Grid
from rtwidgets.widgets.grid_window import GridWindow
from rtwidgets.widgets.tick import tick

from ..waits import wait_until
from .page import Page


class Rows(Grid):
    """A grid of the rows of a store."""

    def __init__(self) -> None:
        self._rows = Store([Column("id", "int4"), Column("n", "int4")], ["id"], order="id")
        self._rows.load([{"id": key, "n": 0} for key in range(10)])
        super().__init__()

    @property
    def store(self) -> Store:
        return self._rows

    def _state(self) -> dict[str, Any]:
        return {"status": "live", "error": "", "paused": False, "waiting": 0, "lag": None, "rate": 0, "note": ""}

    def _traits_now(self) -> dict[str, Any]:
        return {}

    def _title(self) -> str:
        return "rows"


@pytest.fixture
def grid() -> Iterator[Rows]:
    made = Rows()
    yield made
    made.close()


def test_one_view_that_fails_does_not_stop_the_others(
    grid: Rows, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    frame = GridWindow.frame

    def fail_at_seven(window: GridWindow, wants: dict[str, Any], **options: Any) -> dict[str, Any]:
        if wants.get("start") == 7:
            raise RuntimeError("seven")
        return frame(window, wants, **options)

    monkeypatch.setattr(GridWindow, "frame", fail_at_seven)
    broken, well = Page(grid, start=7), Page(grid, start=0)
    wait_until(lambda: well.keys == list(range(10)))
    for n in (1, 2):
        grid.store.upsert([{"id": 8, "n": n}])
        tick.mark(grid)
        wait_until(lambda n=n: well.rows[8]["n"] == n)
    assert broken.keys == []
    assert caplog.text.count("could not make a frame") == 1, "logged once, not at each tick"
    broken.say("wants", wants={"start": 8})
    wait_until(lambda: broken.rows and broken.rows[0] == {"id": 8, "n": 2})


@pytest.mark.parametrize("odd", [None, 5, "x", [], {"view": 3}, {"view": "v"}, {"view": "v", "kind": 3}])
def test_a_message_that_is_none_is_ignored(grid: Rows, odd: Any) -> None:
    grid._receive(grid, odd, [])
    page = Page(grid)
    wait_until(lambda: page.keys == list(range(10)))
