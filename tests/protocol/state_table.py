"""A machine's states and events as a table in text, and the check of one of its cells."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any


def rows(table: str) -> list[tuple[str, str, str]]:
    """Each cell of a table of several blocks: state, event, what happens."""
    found: list[tuple[str, str, str]] = []
    for block in table.strip().split("\n\n"):
        head, *lines = [[cell.strip() for cell in line.split("|")] for line in block.splitlines()]
        found += [(line[0], event, cell) for line in lines for event, cell in zip(head[1:], line[1:], strict=True)]
    return found


def check_cell(machine: Any, kind: type, event: Callable[[Any], Sequence[Any]], wanted: str) -> None:
    """The machine is in a state of this kind, and the event does what the cell says."""
    before = machine.state
    assert isinstance(before, kind)
    effects = event(machine)
    if wanted == "-":
        assert (machine.state, effects) == (before, [])
        return
    after, *names = wanted.split()
    assert [type(machine.state).__name__, *(type(effect).__name__ for effect in effects)] == [after, *names]
