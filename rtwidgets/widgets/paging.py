"""Older lines of a long list, which a page requests a screen at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from .page_values import whole_number
from .views import View

PAGE = 200
"""Lines in one answer."""
SCAN = 5_000
"""Lines searched for one answer where only some match: the I/O thread must not be blocked for long."""
MOST = 4
"""Requests of one view that may wait for an answer."""


class Read(NamedTuple):
    """Lines from `start` to before `stop`; where they are too many, the last of them if `back`, else the first."""

    start: int
    stop: int
    back: bool
    filter: str


def request(view: View, content: Mapping[str, Any]) -> None:
    """Notes what the page wants to read. On whichever thread the kernel chose."""
    start, stop = whole_number(content.get("start"), 0), whole_number(content.get("stop"), 0)
    text = content.get("filter")
    view.reads.append(Read(start, stop, content.get("back") is not False, text if isinstance(text, str) else ""))
    del view.reads[:-MOST]


def answers(
    view: View,
    first: int,
    total: int,
    lines: Callable[[int, int], Sequence[dict[str, Any]]],
    text: Callable[[dict[str, Any]], str],
) -> list[dict[str, Any]]:
    """The lines that the view requested: those that match its filter, with their numbers.

    Args:
        first: the number of the first line still kept.
        total: the number of the next line to come.
        lines: returns the lines from one number to before another.
        text: returns the text of a line that the filter searches.
    """
    found: list[dict[str, Any]] = []
    while view.reads:
        found.append(_answer(view.reads.pop(0), first, total, lines, text))
    return found


def _answer(
    read: Read,
    first_kept: int,
    total: int,
    lines: Callable[[int, int], Sequence[dict[str, Any]]],
    text: Callable[[dict[str, Any]], str],
) -> dict[str, Any]:
    wanted = read.filter.lower()
    first, last = max(read.start, first_kept), min(read.stop, total)
    found: list[tuple[int, dict[str, Any]]] = []
    start = stop = last if read.back else first
    while len(found) < PAGE and stop - start < SCAN and (start > first if read.back else stop < last):
        # A page at a time, so that no more lines are rendered than needed.
        begin, end = (max(first, start - PAGE), start) if read.back else (stop, min(last, stop + PAGE))
        numbered = enumerate(lines(begin, end), begin)
        part = [(number, line) for number, line in numbered if not wanted or wanted in text(line).lower()]
        found = part + found if read.back else found + part
        start, stop = min(start, begin), max(stop, end)
    return {"start": start, "stop": stop, "filter": read.filter, "lines": [list(one) for one in found]}
