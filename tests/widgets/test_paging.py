"""Older lines, a page of them at a time."""

from __future__ import annotations

from typing import Any

from rtwidgets.widgets import paging
from rtwidgets.widgets.views import View

HELD, TOTAL = 1_000, 20_000
looked: list[tuple[int, int]] = []


def lines(start: int, stop: int) -> list[dict[str, Any]]:
    assert HELD <= start < stop <= TOTAL
    looked.append((start, stop))
    return [{"text": f"line {number}"} for number in range(start, stop)]


def read(**content: Any) -> dict[str, Any]:
    view = View("page")
    looked.clear()
    paging.request(view, content)
    (answer,) = paging.answers(view, HELD, TOTAL, lines, lambda line: line["text"])
    assert view.reads == []
    return answer


def numbers(answer: dict[str, Any]) -> list[int]:
    assert all(line["text"] == f"line {number}" for number, line in answer["lines"])
    return [number for number, _ in answer["lines"]]


def test_a_page_of_a_gap_from_its_end_or_from_its_beginning() -> None:
    back = read(start=0, stop=5_000, back=True)
    assert (back["start"], back["stop"], numbers(back)) == (4_800, 5_000, list(range(4_800, 5_000)))
    on = read(start=3_000, stop=5_000, back=False)
    assert (on["start"], on["stop"], numbers(on)) == (3_000, 3_200, list(range(3_000, 3_200)))


def test_a_gap_is_answered_as_far_as_it_is_still_held() -> None:
    assert numbers(read(start=0, stop=1_050, back=True)) == list(range(1_000, 1_050))
    assert numbers(read(start=0, stop=1_050, back=False)) == list(range(1_000, 1_050))
    gone = read(start=0, stop=900, back=True)
    assert gone["start"] >= gone["stop"]
    assert gone["lines"] == []
    assert numbers(read(start=19_990, stop=30_000, back=True)) == list(range(19_990, 20_000))


def test_a_filter_leaves_what_passes_and_says_how_far_it_has_looked() -> None:
    one = read(start=0, stop=20_000, back=True, filter="LINE 1999")
    assert one["start"] == 20_000 - paging.SCAN
    assert numbers(one) == list(range(19_990, 20_000))
    assert sum(stop - start for start, stop in looked) == paging.SCAN
    many = read(start=0, stop=20_000, back=False, filter="line")
    assert numbers(many) == list(range(1_000, 1_200))
    assert many["stop"] == 1_200


def test_what_no_page_would_ask_does_no_harm() -> None:
    for odd in ({}, {"start": "x", "stop": None}, {"start": -5, "stop": 1e300}, {"filter": 7}, {"start": 9, "stop": 2}):
        assert read(**odd)["lines"] == []
    view = View("page")
    for _ in range(1_000):
        paging.request(view, {"start": 0, "stop": 2_000})
    assert len(paging.answers(view, HELD, TOTAL, lines, str)) == paging.MOST
