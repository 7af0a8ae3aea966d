"""The life of a live table as a machine: its table of transitions, row by row, and a walk that a database checks."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from rtwidgets.data import table_events as e
from rtwidgets.data import table_live, table_sync
from rtwidgets.data import table_states as s
from rtwidgets.data.row_changes import Repeats, key_of
from rtwidgets.data.snapshot import Snapshot, SnapshotPosition
from rtwidgets.data.table_sync import step
from rtwidgets.data.verification import Schedule
from rtwidgets.protocol.messages import Change

from .sync_samples import AT, COLUMNS, EVENTS, FINAL, FRESH, NOW, ONCE, PASSING, READ, STATES, change, tables

SPEC = Path(table_sync.__file__).with_suffix(".md")


def specified() -> dict[str, dict[str, tuple[str, str]]]:
    """The transitions as `table_sync.md` has them."""
    found: dict[str, dict[str, tuple[str, str]]] = {}
    for section in SPEC.read_text("utf-8").split("\n### ")[1:]:
        name, _, body = section.partition("\n")
        rows = found[name.strip()] = {}
        for line in re.findall(r"^\| (.+) \|$", body, re.M)[1:]:
            events, after, effects = line.split(" | ")
            rows.update(dict.fromkeys(events.split(", "), (after, effects)))
    return found


def test_the_specification_covers_every_state_and_event() -> None:
    assert {name: set(rows) for name, rows in specified().items()} == {
        kind.__name__: {event.__name__ for event in e.EVENTS} for kind in s.STATES
    }
    assert set(STATES) == set(s.STATES)
    assert set(EVENTS) == set(e.EVENTS)


@pytest.mark.parametrize("state", [kind.__name__ for kind in s.STATES])
def test_the_machine_does_what_the_specification_says(state: str) -> None:
    assert tables()[state] == specified()[state]


def test_a_closed_table_answers_nothing() -> None:
    for state in STATES[s.Closed]:
        for events in EVENTS.values():
            for event in events:
                assert step(state, event, NOW) == (state, ())


def test_what_a_state_runs_is_what_its_effects_began() -> None:
    """A read that nobody began would never end; one that is not known would never be cancelled."""
    for states in STATES.values():
        for before in states:
            for events in EVENTS.values():
                for event in events:
                    after, effects = step(before, event, NOW)
                    begun = {getattr(effect, "read", None) for effect in effects} - {None}
                    assert after.running <= before.running | begun, (before, event)
                    assert begun <= after.running, (before, event)


def run(state: s.State, *events: e.Event, now: float = NOW) -> tuple[s.State, list[e.Effect]]:
    """The last state, and the effects of the last event."""
    effects: Sequence[e.Effect] = ()
    for event in events:
        state, effects = step(state, event, now)
    return state, list(effects)


def test_a_refill_that_is_due_when_the_table_is_paused_is_done_after_it() -> None:
    live, _ = run(s.Live(READ, 10), e.Applied(refill=True))
    assert isinstance(live, s.Live)
    assert live.wake_at == NOW + table_live.REFILL_AFTER
    paused, effects = run(live, e.Pause(), e.Tick(), now=NOW + 10)
    assert (paused.wake_at, effects) == (None, [])
    resumed, _ = run(paused, e.Resume())
    assert resumed.wake_at == live.wake_at
    reading, effects = run(resumed, e.Tick(), now=NOW + 1)
    assert reading.status == "live"
    assert effects == [e.ReadAll(8)]


def test_a_quiet_read_that_a_pause_ends_is_done_after_it() -> None:
    reading, _ = run(s.Live(READ, 10), e.Verify(), e.Changed([change(1, lsn=11)]))
    paused, _ = run(reading, e.Pause())
    assert (paused.status, paused.running) == ("live", frozenset())
    again, effects = run(paused, e.SnapshotRead(8, Snapshot([])), e.Resume(), e.Tick())
    assert isinstance(again, s.Reading)
    assert effects == [e.ReadAll(9)]


def test_a_table_that_is_to_be_compared_while_it_is_read_is_read_once_more() -> None:
    """The read that goes on may be older than the request, as when rows are truncated meanwhile."""
    live, _ = run(s.Live(READ, 10), e.Applied(refill=True))
    reading, _ = run(live, e.Tick(), now=NOW + 1)
    assert isinstance(reading, s.Reading)
    again, effects = run(reading, e.Verify())
    assert isinstance(again, s.Reading)
    assert (again.verify, again.read, effects) == (True, reading.read + 1, [e.ReadAll(reading.read + 1)])
    assert run(again, e.SnapshotRead(reading.read, Snapshot([]))) == (again, [])
    loading, _ = run(reading, e.SnapshotRead(reading.read, Snapshot([])))
    assert run(loading, e.Verify())[1] == [e.ReadAll(reading.read + 1)]
    catching_up = s.Reading(READ, None, 5, 7)
    assert run(catching_up, e.Verify()) == (catching_up, [])


def test_rows_that_are_read_by_key_when_the_table_is_paused_are_read_after_it() -> None:
    live, effects = run(s.Live(READ, 10), e.Applied((1, 2)), e.Tick())
    assert effects == [e.ReadKeys(8, (1, 2))]
    paused, effects = run(live, e.Pause(), e.PartFound(8, {1: {"id": 1, "v": 5}}, (1, 2)))
    assert effects == []
    _, effects = run(paused, e.Resume(), e.Tick())
    assert effects == [e.ReadKeys(9, (1, 2))]


def test_what_changes_while_it_is_read_by_key_is_read_once_more() -> None:
    live, _ = run(s.Live(READ, 10), e.Applied((1, 2)), e.Tick(), e.Changed([change(1, 7)]))
    live, effects = run(live, e.PartFound(8, {1: {"id": 1, "v": 5}, 2: {"id": 2, "v": 5}}, (1, 2)))
    assert effects == [e.Merge([{"id": 2, "v": 5}], [])]
    _, effects = run(live, e.Tick())
    assert effects == [e.ReadKeys(9, (1,))]


def test_only_what_the_snapshot_lacks_is_applied() -> None:
    loading = s.Loading(READ, None, 5, 7, s.Backlog([change(1, lsn=20), change(2, lsn=30)]), SnapshotPosition(25))
    live, effects = run(loading, e.Loaded(7))
    assert effects == [e.Apply([change(2, lsn=30)])]
    assert isinstance(live, s.Live)
    assert (live.position, live.lsn) == (None, 30)


def test_a_transaction_that_comes_again_is_applied_once() -> None:
    stale, _ = run(s.Live(READ, 20), e.Gap(AT))
    resuming, _ = run(stale, e.Resumed(AT, Repeats([("UPDATE", 1)])))
    assert resuming.status == "catching up", "what came during the break is still to come"
    resuming, effects = run(resuming, e.Changed([change(1, 5, lsn=20), change(2, 5, lsn=20), change(3, 5, lsn=30)]))
    assert effects == [e.Apply([change(2, 5, lsn=20), change(3, 5, lsn=30)])]
    live, _ = run(resuming, e.CaughtUp())
    assert (live.status, isinstance(live, s.Live)) == ("live", True)


@pytest.mark.parametrize(
    "owing",
    [
        s.Live(READ, 20, unread=(1,)),
        s.Live(READ, 20, refill_at=NOW + 1),
        s.Live(READ, 20, parts={7: s.PartRead((1,))}),
        s.Paused(s.Live(READ, 20), s.Backlog([change(1)])),
        s.Reading(READ, None, 20, 7),
        s.Behind(READ, PASSING, 20, NOW),
        s.Live(replace(READ, resumable=False), 20),
    ],
)
def test_a_table_that_lacks_something_is_not_resumed(owing: s.State) -> None:
    stale, _ = run(owing, e.Gap(AT))
    assert (stale.status, getattr(stale, "lsn", "none")) == ("stale", None)
    assert getattr(run(s.Live(READ, 20), e.Gap(AT), e.Gap(AT))[0], "lsn", None) == 20


def test_a_table_without_a_source_to_read_again_says_what_it_lacks() -> None:
    stale, _ = run(s.Live(ONCE), e.Gap(AT), e.Gap(AT + timedelta(hours=1)))
    live, effects = run(stale, e.Confirmed(AT + timedelta(hours=2)))
    assert (live.status, effects) == ("live", [])
    assert live.error is not None
    assert f"changes since {AT.astimezone():%H:%M:%S}" in live.error.message
    assert run(s.Live(ONCE, 5), e.Gap(AT), e.Resumed(AT), e.CaughtUp())[0].error is None
    assert run(s.Paused(s.Live(ONCE), s.Backlog(overflow=True)), e.Resume())[0].error is not None


def test_an_altered_table_without_a_source_to_read_again_lacks_something_only_where_its_rows_are_others() -> None:
    live = s.Live(ONCE, 30)
    assert step(live, e.TableChanged(rows_kept=True), NOW) == (live, ())
    assert step(s.Resuming(live), e.TableChanged(rows_kept=True), NOW) == (s.Resuming(live), ())
    after, effects = step(live, e.TableChanged(), NOW)
    assert (after.status, after.error, effects) == ("live", table_live.OTHER_TABLE, ())
    repeatable, effects = step(s.Live(READ, 30), e.TableChanged(rows_kept=True), NOW)
    assert isinstance(repeatable, s.Reading)
    assert [type(effect) for effect in effects] == [e.ReadAll]


def test_reads_that_fail_are_tried_again_less_and_less_often() -> None:
    state: s.State = s.Reading(READ, read=1)
    now, waits = NOW, list[float]()
    for read in range(1, 9):
        state, _ = step(
            replace(state, read=read) if isinstance(state, s.Reading) else state, e.ReadFailed(read, PASSING), now
        )
        assert (state.status, state.error) == ("stale", PASSING)
        assert state.wake_at is not None
        waits.append(state.wake_at - now)
        now = state.wake_at
        state, effects = step(state, e.Tick(), now)
        assert [type(effect) for effect in effects] == [e.ReadAll]
        assert (state.status, state.error) == ("stale", PASSING), "until a read succeeds"
    assert waits[:5] == [1, 2, 4, 8, 16]
    assert set(waits[5:]) == {30}


def test_an_unconfirmed_subscription_becomes_an_error_to_show() -> None:
    state, _ = run(s.Subscribing(FRESH, at=NOW + 20), e.Tick(), now=NOW + 19)
    assert state.error is None
    state, _ = run(state, e.Tick(), now=NOW + 20)
    assert (state.status, state.error and state.error.code, state.wake_at) == ("connecting", "Timeout", None)


def test_a_refused_table_is_read_when_values_come_again() -> None:
    refused = change(1, errors=["Error 401: Unauthorized"])
    refused.record = {}
    failed, effects = run(s.Live(READ, 20), e.Changed([refused, change(2)]))
    assert (failed.status, failed.error and failed.error.code, effects) == ("error", "Unauthorized", [])
    assert run(failed, e.Changed([refused]))[0] == failed
    reading, effects = run(failed, e.Changed([change(3)]))
    assert isinstance(reading, s.Reading)
    assert reading.waiting.changes == [change(3)]
    assert effects == [e.ReadAll(8)]


def test_a_change_of_a_keyless_table_has_the_table_described_anew() -> None:
    """It may be of a table that had the name before."""
    keyless = change(1, errors=["Error 400: Bad Request, no primary key"])
    keyless.record = {}
    behind, _ = run(s.Live(READ, 20), e.Changed([keyless]))
    assert (behind.status, behind.error and behind.error.code) == ("stale", "NoPrimaryKey")
    _, effects = run(behind, e.Tick(), now=NOW + 1)
    assert effects == [e.ReadAll(8, describe=True)]
    log, effects = run(s.Live(replace(READ, key=(), resumable=False)), e.Changed([keyless]))
    assert (log.status, effects) == ("live", [e.Apply([keyless])])


def test_a_backlog_is_what_it_was_when_another_grows_from_it() -> None:
    one = s.NOTHING.add([change(1)])
    two, three = one.add([change(2)]), one.add([change(3)])
    assert [c.record["id"] for c in two.changes if c.record] == [1, 2]
    assert [c.record["id"] for c in three.changes if c.record] == [1, 3]
    assert (len(one), len(s.NOTHING), one.overflow) == (1, 0, False)
    assert two.add([change(1)] * s.MAX_WAITING) == s.Backlog(overflow=True)
    assert two != three


class Walk(RuleBasedStateMachine):
    """A database with a log, a server that sends it, and a table that follows: the shell, step by step.

    Reads are answered late; the line breaks anywhere, and is always resumed; the table is paused at any time. So no
    read of the whole table heals what the machine forgets.
    """

    schedule = Schedule()
    kinds: tuple[str, ...] = ("whole", "part", "gone")

    def __init__(self) -> None:
        super().__init__()
        self.now, self.lsn = NOW, 100
        self.db: dict[int, int] = {}
        self.log: list[Change] = []
        self.sent: int | None = None
        """How much of the log the server has sent; None while the line is down."""
        self.marking = False
        self.received: list[Change] = []
        self.rows: dict[int, int] = {}
        self.reads: dict[int, Any] = {}
        """The reads under way: an effect until it is read, then its answer."""
        self.frozen: dict[int, int] | None = None
        self.state: s.State = s.Idle(s.Table(schedule=self.schedule))
        self.handle(e.Start())
        self.handle(e.Described(1, ("id",), True))
        self.reads.clear()
        self.subscribe()
        self.handle(self.answer(self.reads.pop(2)))

    # --- the shell

    def handle(self, event: e.Event) -> None:
        waiting = [event]
        while waiting:
            self.state, effects = step(self.state, waiting.pop(0), self.now)
            for effect in effects:
                waiting += self.run(effect)
        for read in set(self.reads) - self.state.running:
            del self.reads[read]

    def run(self, effect: e.Effect) -> list[e.Event]:
        match effect:
            case e.Apply():
                return [self.apply(effect.changes)]
            case e.Merge():
                assert self.frozen is None, "rows moved while paused"
                self.rows.update((row["id"], row["v"]) for row in effect.rows)
                for key in effect.gone:
                    self.rows.pop(key, None)
            case e.Load():
                self.rows = {row["id"]: row["v"] for row in effect.snapshot.rows}
                return [e.Loaded(effect.read)]
            case e.ReadAll() | e.ReadKeys() | e.Compare():
                self.reads[effect.read] = effect
            case _:
                pass
        return []

    def apply(self, changes: Sequence[Change]) -> e.Event:
        assert self.frozen is None, "rows moved while paused"
        unread: list[int] = []
        for one in changes:
            key = key_of(one, ("id",))
            if one.type == "DELETE":
                self.rows.pop(key, None)
            elif one.record is not None and "v" in one.record:
                self.rows[key] = one.record["v"]
            else:
                unread.append(key)
        return e.Applied(tuple(unread), refill=any(one.commit_timestamp == "refill" for one in changes))

    # --- the database

    @rule(key=st.integers(0, 1), value=st.integers(0, 99), number=st.integers(0, 2), at_once=st.booleans())
    def commit(self, key: int, value: int, number: int, at_once: bool) -> None:
        kind = self.kinds[number]
        self.lsn += 10
        old = {"id": key}
        if kind == "gone":
            self.db.pop(key, None)
            self.log.append(Change("DELETE", "public", "t", COLUMNS, None, old, lsn=self.lsn, xid=1))
        else:
            self.db[key] = value
            record = old if kind == "part" else {"id": key, "v": value}
            stamp = "refill" if kind == "refill" else None
            self.log.append(Change("UPDATE", "public", "t", COLUMNS, record, old, stamp, lsn=self.lsn, xid=1))
        if at_once and self.sent is not None:
            self.deliver(3)
            self.wait(0.1)

    # --- the line

    @precondition(lambda self: self.sent is None)
    @rule()
    def subscribe(self, resume: bool = True) -> None:
        lsn = getattr(self.state, "lsn", None)
        if resume and lsn is not None:
            self.sent = next((i for i, one in enumerate(self.log) if (one.lsn or 0) >= lsn), len(self.log))
            repeats = Repeats((one.type, key_of(one, ("id",))) for one in self.received if one.lsn == lsn)
            self.marking = True
            self.handle(e.Resumed(AT, repeats))
        else:
            self.sent, self.marking = len(self.log), False
            self.handle(e.ResumePoint(self.lsn))
            self.handle(e.Confirmed(AT))

    @precondition(lambda self: self.sent is not None)
    @rule(count=st.integers(1, 3))
    def deliver(self, count: int) -> None:
        assert self.sent is not None
        batch = self.log[self.sent : self.sent + count]
        self.sent += len(batch)
        if batch:
            self.received += batch
            self.handle(e.Changed(batch))
        if self.marking and self.sent == len(self.log):
            self.marking = False
            self.handle(e.CaughtUp())

    @precondition(lambda self: self.sent is not None)
    @rule()
    def cut(self) -> None:
        self.sent, self.marking = None, False
        self.handle(e.Gap(AT))

    # --- reads

    @precondition(lambda self: self.reads)
    @rule(data=st.data())
    def read(self, data: st.DataObject) -> None:
        """What the database has now; the answer comes later."""
        read = data.draw(st.sampled_from(sorted(self.reads)))
        self.reads[read] = self.answer(self.reads[read])

    def answer(self, effect: Any) -> Any:
        rows = [{"id": key, "v": value} for key, value in self.db.items()]
        if isinstance(effect, e.ReadAll):
            return e.SnapshotRead(effect.read, Snapshot(rows, SnapshotPosition(self.lsn + 1)))
        if isinstance(effect, e.ReadKeys | e.Compare):
            keys = effect.keys if isinstance(effect, e.ReadKeys) else tuple(self.rows)
            found = {row["id"]: row for row in rows if isinstance(effect, e.Compare) or row["id"] in keys}
            return e.PartFound(effect.read, found, keys)
        return effect

    @precondition(lambda self: self.reads)
    @rule(data=st.data())
    def end_read(self, data: st.DataObject) -> None:
        read = data.draw(st.sampled_from(sorted(self.reads)))
        self.handle(self.answer(self.reads.pop(read)))

    @rule(seconds=st.sampled_from([0.0, 0.1, 40.0, 400.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds
        if self.state.wake_at is not None and self.state.wake_at <= self.now:
            self.handle(e.Tick())

    # --- the user

    @rule()
    def pause(self) -> None:
        self.handle(e.Pause())
        if self.state.table.loaded and not isinstance(inner(self.state), s.Loading):
            self.frozen = dict(self.rows)

    @rule()
    def resume(self) -> None:
        self.frozen = None
        self.handle(e.Resume())

    # --- what holds

    @invariant()
    def a_paused_table_stands_still(self) -> None:
        assert self.frozen is None or self.rows == self.frozen

    @invariant()
    def live_means_that_all_that_came_is_there(self) -> None:
        live = self.state
        if isinstance(live, s.Live) and live.settled and self.sent == len(self.log):
            assert self.rows == self.db

    @invariant()
    def reads_under_way_are_known(self) -> None:
        assert set(self.reads) == self.state.running

    @invariant()
    def something_is_awaited_where_rows_are_behind(self) -> None:
        state = self.state
        if isinstance(state, s.Behind | s.Reading) or (isinstance(state, s.Live) and not state.settled):
            assert state.running or state.wake_at is not None

    def teardown(self) -> None:
        """Whatever is owed is done once nothing fails any more; and a stopped table does nothing."""
        self.resume()
        if self.sent is None:
            self.subscribe()
        for _ in range(20):
            self.deliver(10)
            for read in sorted(self.reads):
                if read in self.reads:
                    self.handle(self.answer(self.reads.pop(read)))
            if self.state.wake_at is not None and not self.reads:
                self.now = max(self.now, min(self.state.wake_at, self.now + 60))
                self.handle(e.Tick())
        assert self.state.status == "live"
        assert self.rows == self.db
        self.handle(e.Stop())
        self.reads.clear()
        before = self.state
        self.handle(e.Confirmed(AT))
        self.handle(e.Changed([change(99)]))
        assert (self.state, self.reads, before.status) == (before, {}, "closed")
        assert 99 not in self.rows


def inner(state: s.State) -> s.State:
    return state.before if isinstance(state, s.Paused) else state


class RefillWalk(Walk):
    """The same, with changes after which the table must be read again."""

    kinds = ("whole", "gone", "refill")


class WholeWalk(Walk):
    """And reads fail, tables change, subscriptions cannot be resumed, and rows are compared."""

    schedule = Schedule(300.0)
    kinds = ("whole", "part", "refill")

    @precondition(lambda self: self.sent is None)
    @rule()
    def subscribe_anew(self) -> None:
        self.subscribe(resume=False)

    @precondition(lambda self: self.reads)
    @rule(data=st.data())
    def fail_read(self, data: st.DataObject) -> None:
        read = data.draw(st.sampled_from(sorted(self.reads)))
        del self.reads[read]
        self.handle(e.ReadFailed(read, PASSING))

    @precondition(lambda self: self.sent is not None)
    @rule()
    def alter(self) -> None:
        self.handle(e.TableChanged())

    @rule()
    def verify(self) -> None:
        self.handle(e.Verify())


WALKS = settings(max_examples=30, stateful_step_count=50, deadline=None, suppress_health_check=list(HealthCheck))
TestWalk, TestRefillWalk, TestWholeWalk = Walk.TestCase, RefillWalk.TestCase, WholeWalk.TestCase
TestWalk.settings = TestRefillWalk.settings = TestWholeWalk.settings = WALKS


def test_failed_names_are_kept_apart() -> None:
    """No two states or events share a name, which the specification goes by."""
    names = sorted(kind.__name__ for kind in (*s.STATES, *e.EVENTS))
    assert all(one != other for one, other in pairwise(names))
    assert FINAL.retryable is False
