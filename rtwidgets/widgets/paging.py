"""What a page reads of a long list beyond what it was sent: older lines, a page of them at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from .base import View, whole_number

PAGE = 200
"""Lines in one answer."""
SCAN = 5_000
"""Lines looked at for one answer where only some pass: the I/O thread has heartbeats to send as well."""

MOST = 4
"""Questions of one view that wait for an answer."""


class Read(NamedTuple):
    """Lines from `start` to before `stop`; where they are too many, the last of them if `back`, else the first."""

    start: int
    stop: int
    back: bool
    filter: str


def asked(view: View, content: dict[str, Any]) -> None:
    """Notes what the page wants to read. On whichever thread the kernel chose."""
    start, stop = whole_number(content.get("start"), 0), whole_number(content.get("stop"), 0)
    text = content.get("filter")
    view.reads.append(Read(start, stop, content.get("back") is not False, text if isinstance(text, str) else ""))
    del view.reads[:-MOST]


def answers(
    view: View,
    held: int,
    total: int,
    lines: Callable[[int, int], Sequence[dict[str, Any]]],
    text: Callable[[dict[str, Any]], str],
) -> list[dict[str, Any]]:
    """What was asked for: of the lines from `start` to before `stop`, all that pass the filter, with their numbers.

    Args:
        held: the number of the first line that there still is.
        total: the number of the next line to come.
        lines: gives the lines from one number to before another.
        text: what the filter looks at, of a line.
    """
    said: list[dict[str, Any]] = []
    while view.reads:
        said.append(_answer(view.reads.pop(0), held, total, lines, text))
    return said


def _answer(
    read: Read,
    held: int,
    total: int,
    lines: Callable[[int, int], Sequence[dict[str, Any]]],
    text: Callable[[dict[str, Any]], str],
) -> dict[str, Any]:
    wanted = read.filter.lower()
    first, last = max(read.start, held), min(read.stop, total)
    found: list[tuple[int, dict[str, Any]]] = []
    start = stop = last if read.back else first
    while len(found) < PAGE and stop - start < SCAN and (start > first if read.back else stop < last):
        # A page at a time, so that what is not wanted is not made into lines.
        begin, end = (max(first, start - PAGE), start) if read.back else (stop, min(last, stop + PAGE))
        numbered = enumerate(lines(begin, end), begin)
        part = [(number, line) for number, line in numbered if not wanted or wanted in text(line).lower()]
        found = part + found if read.back else found + part
        start, stop = min(start, begin), max(stop, end)
    return {"start": start, "stop": stop, "filter": read.filter, "lines": [list(one) for one in found]}
