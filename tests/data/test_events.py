"""A table's changes as rows of their own."""

from __future__ import annotations

from rtwidgets.data.events import Events, event_columns
from rtwidgets.protocol import filters
from rtwidgets.protocol.filter_eval import judge
from rtwidgets.protocol.messages import Change, Column

COLUMNS = [Column("id", "int8"), Column("type", "text")]


def test_each_change_is_an_event() -> None:
    assert [c.name for c in event_columns(COLUMNS)] == ["commit_timestamp", "change.type", "id", "type"]
    parsed = filters.parse("type=eq.a")
    events = Events(judge(parsed, {"type": "text"}))
    made = events.of(
        [
            Change("INSERT", "public", "t", COLUMNS, {"id": 1, "type": "a"}, commit_timestamp="2026-01-01T00:00:00Z"),
            Change("UPDATE", "public", "t", COLUMNS, {"id": 1, "type": "b"}, {"id": 1}),
            Change("DELETE", "public", "t", COLUMNS, None, {"id": 1}),
            Change("INSERT", "public", "t", COLUMNS, {}, errors=["Error 401: Unauthorized"]),
        ]
    )
    assert [(c.type, c.record) for c in made] == [
        ("INSERT", {"commit_timestamp": "2026-01-01T00:00:00Z", "change.type": "INSERT", "id": 1, "type": "a"}),
        ("INSERT", {"commit_timestamp": None, "change.type": "DELETE", "id": 1}),
    ]
    assert made[0].columns is made[1].columns
