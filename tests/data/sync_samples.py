"""Samples of every state and event of `table_sync`, for the test of its table and to print it anew:
`python -m tests.data.sync_samples`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

from rtwidgets.data import table_events as e
from rtwidgets.data import table_states as s
from rtwidgets.data.snapshot import Snapshot, SnapshotPosition
from rtwidgets.data.table_sync import step
from rtwidgets.data.verification import Schedule
from rtwidgets.protocol.errors import RealtimeError
from rtwidgets.protocol.messages import Change, Column

NOW = 1000.0
AT = datetime(2026, 1, 1, tzinfo=UTC)
COLUMNS = [Column("id", "int8"), Column("v", "int4")]
PASSING = RealtimeError("down", code="ConnectionLost", retryable=True)
FINAL = RealtimeError("no", code="Unauthorized")
LATER = NOW + 3600


def change(i: int, v: int = 0, **more: object) -> Change:
    return Change("UPDATE", "public", "t", COLUMNS, {"id": i, "v": v}, {"id": i}, **more)  # type: ignore[arg-type]


FRESH = s.Table(key=("id",), schedule=Schedule(300.0, LATER), reads=7)
READ = replace(FRESH, loaded=True, took=0.01)
ONCE = replace(READ, repeatable=False, schedule=Schedule())
OVERFLOW = s.Backlog(overflow=True)
WAITING = s.Backlog([change(1)])
READS = {7: s.PartRead((1,)), 6: s.PartRead(verify=True)}
LIVE: list[s.Live] = [
    s.Live(READ, 10),
    s.Live(ONCE, 10),
    s.Live(READ, 10, SnapshotPosition(20)),
    s.Live(READ, 10, unread=(1,), refill_at=LATER),
    s.Live(READ, 10, parts=READS),
    s.Live(READ, None, refill_at=NOW - 1),
    s.Live(replace(READ, schedule=Schedule(300.0, NOW - 1)), None),
    s.Live(replace(READ, schedule=Schedule(300.0, LATER, burst_at=NOW - 1)), None),
]
UNPAUSED: dict[type[s.State], list[s.Unpaused]] = {
    s.Idle: [s.Idle(FRESH)],
    s.Describing: [s.Describing(FRESH, None, 7), s.Describing(FRESH, PASSING, None, 2, NOW - 1)],
    s.Subscribing: [s.Subscribing(FRESH, None, None, NOW - 1), s.Subscribing(FRESH, PASSING, 5, LATER)],
    s.Reading: [
        s.Reading(FRESH, None, None, 7),
        s.Reading(READ, None, 5, 7, WAITING, quiet=True),
        s.Reading(READ, PASSING, 5, 7, WAITING, describe=True, tries=3),
        s.Reading(replace(FRESH, repeatable=False), None, None, 7, describe=False),
    ],
    s.Loading: [
        s.Loading(FRESH, None, None, 7),
        s.Loading(READ, None, 5, 7, WAITING, SnapshotPosition(4), quiet=True),
        s.Loading(READ, None, 5, 7, OVERFLOW, described=True),
    ],
    s.Live: list(LIVE),
    s.Resuming: [s.Resuming(live) for live in LIVE[:5]],
    s.Behind: [s.Behind(FRESH, PASSING, 5, NOW - 1, WAITING), s.Behind(READ, PASSING, 5, LATER, OVERFLOW, tries=4)],
    s.Stale: [s.Stale(READ, None, 5, AT), s.Stale(READ, PASSING, None, AT), s.Stale(ONCE, None, None, AT)],
    s.Failed: [
        s.Failed(FRESH, FINAL),
        s.Failed(READ, FINAL, 5, bound=True),
        s.Failed(READ, FINAL, 5, bound=True, refused=True),
        s.Failed(ONCE, FINAL, 5, bound=True),
    ],
}
STATES: dict[type[s.State], list[s.State]] = {
    **{kind: list[s.State](states) for kind, states in UNPAUSED.items()},
    s.Paused: [s.Paused(state) for states in UNPAUSED.values() for state in states]
    + [s.Paused(live, held) for live in LIVE for held in (WAITING, OVERFLOW)],
    s.Closed: [s.Closed(READ), s.Closed(FRESH, FINAL)],
}
REFUSED = [change(1, errors=["Error 401: Unauthorized"]), change(1, errors=["Error 400: Bad Request"])]
for _one in REFUSED:
    _one.record = {}
EVENTS: dict[type[e.Event], list[e.Event]] = {
    e.Start: [e.Start()],
    e.Described: [e.Described(7, ("id",), True), e.Described(1, ("id",), True)],
    e.Confirmed: [e.Confirmed(AT)],
    e.Resumed: [e.Resumed(AT)],
    e.CaughtUp: [e.CaughtUp()],
    e.Gap: [e.Gap(AT), e.Gap(AT, PASSING)],
    e.Refused: [
        e.Refused(PASSING, AT),
        e.Refused(FINAL, AT),
        e.Refused(RealtimeError("closed", code="Closed"), AT),
    ],
    e.TableChanged: [e.TableChanged(), e.TableChanged(rows_kept=True)],
    e.ResumePoint: [e.ResumePoint(None), e.ResumePoint(77)],
    e.Changed: [e.Changed([change(1, lsn=30, xid=1)]), e.Changed([change(2)]), *(e.Changed([one]) for one in REFUSED)],
    e.Applied: [
        e.Applied(),
        e.Applied((1, 2), refill=True),
        e.Applied(reshaped=True),
        e.Applied(broken=RealtimeError("rows", code="BadRows")),
    ],
    e.SnapshotRead: [e.SnapshotRead(7, Snapshot([])), e.SnapshotRead(1, Snapshot([]))],
    e.Loaded: [e.Loaded(7), e.Loaded(1), e.Loaded(7, 2.0, large=True)],
    e.PartFound: [e.PartFound(7, {1: {"id": 1, "v": 2}}, (1, 2)), e.PartFound(1, {}, ())],
    e.ReadFailed: [
        e.ReadFailed(7, PASSING),
        e.ReadFailed(7, FINAL),
        e.ReadFailed(7, FINAL, broken=True),
        e.ReadFailed(6, PASSING),
        e.ReadFailed(1, PASSING),
    ],
    e.Verify: [e.Verify()],
    e.Pause: [e.Pause()],
    e.Resume: [e.Resume()],
    e.Tick: [e.Tick()],
    e.Stop: [e.Stop()],
}


def row(states: Sequence[s.State], events: Sequence[e.Event]) -> tuple[str, str]:
    """What the machine does with these: the states that may follow, and the effects. `·` for nothing."""
    states_found, effects_found = set[str](), set[str]()
    for state in states:
        for event in events:
            after, effects = step(state, event, NOW)
            if after != state or effects:
                states_found.add(type(after).__name__)
                effects_found.update(type(effect).__name__ for effect in effects)
    order = [kind.__name__ for kind in s.STATES]
    return " ".join(sorted(states_found, key=order.index)) or "·", " ".join(sorted(effects_found)) or "·"


def tables() -> dict[str, dict[str, tuple[str, str]]]:
    """By state and event."""
    return {
        kind.__name__: {event.__name__: row(STATES[kind], EVENTS[event]) for event in e.EVENTS} for kind in s.STATES
    }


def markdown() -> str:
    """The tables as they stand in `table_sync.md`."""
    lines: list[str] = []
    for state, rows in tables().items():
        lines += ["", f"### {state}", "", "| event | next state | effects |", "|---|---|---|"]
        lines += [f"| {event} | {after} | {effects} |" for event, (after, effects) in rows.items() if after != "·"]
        nothing = [event for event, (after, _) in rows.items() if after == "·"]
        if nothing:
            lines.append(f"| {', '.join(nothing)} | · | · |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(markdown())
