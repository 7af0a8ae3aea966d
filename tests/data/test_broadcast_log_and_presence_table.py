"""The broadcast log and the presence table."""

from __future__ import annotations

from collections import deque

from rtwidgets.data.broadcast_log import BroadcastLog, part
from rtwidgets.data.presence_table import PresenceTable
from rtwidgets.protocol.presence import PresenceMachine


def test_the_log_is_bounded_and_its_frame_has_a_column_a_field() -> None:
    log = BroadcastLog(maxlen=3)
    assert list(log.df().columns) == ["received_at", "event"]
    for i in range(5):
        log.append("message", {"text": f"m{i}", "event": i})
    log.append("raw", b"bytes")
    held = log.df()
    assert (len(log), log.total, log.last) == (3, 6, b"bytes")
    assert log.messages[0] == {"text": "m3", "event": 3}
    assert list(held.columns) == ["received_at", "event", "text", "payload.event", "payload"]
    assert str(held["received_at"].dtype) == "datetime64[us, UTC]"
    held.loc[0, "text"] = "mine"
    assert log.df().loc[0, "text"] == "m3"
    assert [event for _, event, _ in log.entries(5)] == ["raw"]


def test_a_part_of_a_log_is_that_of_a_list_from_either_end() -> None:
    entries = deque(range(10))
    for start in range(-2, 12):
        for stop in range(-2, 12):
            assert part(entries, start, stop) == list(entries)[max(start, 0) : max(stop, 0)]


def test_entries_go_by_the_numbers_ever_received() -> None:
    log = BroadcastLog(maxlen=4)
    for number in range(10):
        log.append("m", number)
    payloads = [payload for _, _, payload in log.entries(2, 8)]
    assert payloads == [6, 7]
    assert log.entries(0, 6) == []


def test_the_roster_counts_people_and_connections() -> None:
    machine, roster = PresenceMachine(), PresenceTable()
    seen: list[tuple[str, str]] = []
    roster.on_join(lambda key, states: seen.append(("join", key)))
    roster.on_leave(lambda key, states: seen.append(("leave", key)))
    stop = roster.on_update(lambda key, states: seen.append(("update", key)))
    assert list(roster.df().columns) == ["key"]
    roster.apply(machine.on_state({"ana": {"metas": [{"phx_ref": "1", "team": "a"}, {"phx_ref": "2", "team": "b"}]}}))
    assert (roster.count, roster.connections) == (1, 2)
    again = {"phx_ref": "4", "phx_ref_prev": "1", "team": "c"}
    diff = {
        "joins": {"bo": {"metas": [{"phx_ref": "3", "key": 1}]}, "ana": {"metas": [again]}},
        "leaves": {"ana": {"metas": [{"phx_ref": "1", "team": "a"}]}},
    }
    change = machine.on_diff(diff)
    assert change is not None
    roster.apply(change)
    assert sorted(seen) == [("join", "ana"), ("join", "bo"), ("update", "ana")]
    frame = roster.df()
    assert list(frame.columns) == ["key", "team", "state.key"]
    assert sorted(frame["key"]) == ["ana", "ana", "bo"]
    assert roster.state["bo"] == [{"key": 1}]
    stop()
