"""The life of a live table: which state follows which event, and what is to be done. No I/O, no clock, no asyncio.

`step(state, event, now)` returns the next state and the effects to run, in order. Subscribe first, then read a
snapshot, then apply what arrived meanwhile. Where changes carry a commit LSN and an xid, and the snapshot its LSN and
`pg_current_snapshot()` (our local server), the join is exact: a transaction is applied if and only if its commit LSN is
at or after the snapshot's, or the snapshot did not see its xid. Elsewhere everything that waited is applied by key: an
old change may show for a moment, but the changes after it follow, so the table ends up right.

The transitions are written down in `table_sync.md` beside this module, which the tests compare with it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from ..protocol.errors import make
from . import table_events as e
from . import table_live
from . import table_states as s
from .row_changes import refusal_of

CONFIRMED_WITHIN = 20.0
"""Seconds; a subscription that takes longer is an error to show."""


def step(state: s.State, event: e.Event, now: float) -> e.Step:
    """The state after `event`, and the effects to run. `now`: seconds of a clock that only goes forward."""
    if isinstance(state, s.Closed):
        return state, ()
    if isinstance(event, e.Stop):
        return s.Closed(state.table), (e.Unbind(),)
    if isinstance(event, e.ResumePoint):
        return _resume_point(state, event.lsn), ()
    if isinstance(state, s.Paused):
        return _paused(state, event, now)
    if isinstance(event, e.Pause):
        return _pause(state, now), ()
    handler = _TRANSITIONS.get((type(state), type(event)))
    return (state, ()) if handler is None else handler(state, event, now)


_S = TypeVar("_S", bound=s.State)

# --- what several states have in common


def _retry_at(tries: int, now: float) -> float:
    return now + min(table_live.FIRST_RETRY * 2**tries, table_live.LAST_RETRY)


def _read_changed(state: s.Unpaused, event: e.Confirmed | e.Resumed | e.TableChanged, now: float) -> e.Step:
    """Reads the table again, after it is described anew: it may not be what it was."""
    table = state.table
    if isinstance(event, e.TableChanged):
        describe, lost = True, table_live.OTHER_TABLE if table.key else None
    else:
        since = state.since if isinstance(state, s.Stale) else None
        describe, lost = table.loaded or None, table_live.missed(since or event.at)
    return table_live.read(table, now, lsn=_lsn(state), describe=describe, lost=lost)


def _lsn(state: s.State) -> int | None:
    return getattr(state, "lsn", None)


def _resume_point(state: s.State, lsn: int | None) -> s.State:
    if isinstance(state, s.Paused):
        inner = _resume_point(state.before, lsn)
        assert not isinstance(inner, s.Paused | s.Closed)
        return replace(state, before=inner)
    if isinstance(state, s.Resuming):
        return s.Resuming(replace(state.live, lsn=lsn))
    if isinstance(state, s.Idle | s.Describing | s.Closed):
        return state
    return replace(state, lsn=lsn)


def _lose(state: s.Unpaused, event: e.Gap, now: float) -> e.Step:
    """The subscription is lost: what is being read is given up, the rows stay."""
    table = state.table
    if not table.loaded:
        return s.Subscribing(table, event.reason, at=now + CONFIRMED_WITHIN), ()
    live = state.live if isinstance(state, s.Resuming) else state
    lsn = live.lsn if isinstance(live, s.Live) and live.settled else None
    return s.Stale(table, event.reason, lsn, event.at), ()


def _refuse(state: s.Unpaused, event: e.Refused, now: float) -> e.Step:
    """An error that passes by itself is a gap; any other ends the table, unless somebody changes something."""
    reason = event.reason
    if reason.code == "Closed":  # the client was: it does not come back, so neither do changes
        return s.Closed(state.table, reason), (e.Unbind(),)
    if not reason.retryable:
        return s.Failed(state.table, reason, bound=True), ()
    if isinstance(state, s.Failed):
        return state, ()
    if isinstance(state, s.Stale | s.Subscribing):
        return replace(state, reason=reason), ()
    return _lose(state, e.Gap(event.at, reason), now)


# --- before the first confirmation


def _describe(state: s.Idle | s.Describing | s.Failed, event: e.Event, now: float) -> e.Step:
    table = table_live.next_read(state.table)
    tries, reason = (state.tries, state.reason) if isinstance(state, s.Describing) else (0, None)
    return s.Describing(table, reason, table.reads, tries), (e.Describe(table.reads),)


def _start_again(state: s.Failed, event: e.Start, now: float) -> e.Step:
    return (state, ()) if state.bound else _describe(state, event, now)


def _retry_describing(state: s.Describing, event: e.Tick, now: float) -> e.Step:
    return _describe(state, event, now) if state.at is not None and now >= state.at else (state, ())


def _described(state: s.Describing, event: e.Described, now: float) -> e.Step:
    if event.read != state.read:
        return state, ()
    table = replace(state.table, key=event.key, resumable=event.resumable, schedule=state.table.schedule.started(now))
    return s.Subscribing(table, at=now + CONFIRMED_WITHIN), (e.Bind(),)


def _not_described(state: s.Describing, event: e.ReadFailed, now: float) -> e.Step:
    if event.read != state.read:
        return state, ()
    if not event.reason.retryable:
        return s.Failed(state.table, event.reason), ()
    return s.Describing(state.table, event.reason, None, state.tries + 1, _retry_at(state.tries, now)), ()


def _late(state: s.Subscribing, event: e.Tick, now: float) -> e.Step:
    if state.at is None or now < state.at:
        return state, ()
    text = f"the server has not confirmed the subscription within {CONFIRMED_WITHIN:.0f} s"
    hint = "check that the channel is joined, and that Realtime is enabled for the project's database; it is tried on"
    return replace(state, at=None, reason=state.reason or make("Timeout", text, hint=hint)), ()


def _first_read(state: s.Subscribing, event: e.Event, now: float) -> e.Step:
    return table_live.read(state.table, now, lsn=state.lsn)


# --- reading


def _wait(state: s.Reading | s.Loading | s.Behind, event: e.Changed, now: float) -> e.Step:
    state = replace(
        state, table=table_live.note(state.table, event.changes, now), waiting=state.waiting.add(event.changes)
    )
    last = event.changes[-1].lsn
    return (state if state.lsn is None or last is None else replace(state, lsn=last)), ()


def _snapshot(state: s.Reading, event: e.SnapshotRead, now: float) -> e.Step:
    if event.read != state.read:
        return state, ()
    position = event.snapshot.position
    described = event.snapshot.info is not None
    loading = s.Loading(
        state.table, state.reason, state.lsn, state.read, state.waiting, position, state.quiet, state.verify, described
    )
    return loading, (e.Load(state.read, event.snapshot, state.verify, event.took),)


def _read_failed(state: s.Reading | s.Loading, event: e.ReadFailed, now: float) -> e.Step:
    if event.read != state.read:
        return state, ()
    reason, table = event.reason, state.table
    described = state.describe if isinstance(state, s.Reading) else state.described
    if event.broken and table.repeatable and not described:  # its columns may be others than we know of
        waiting, quiet, verify = state.waiting, state.quiet, state.verify
        return table_live.read(table, now, lsn=state.lsn, waiting=waiting, quiet=quiet, verify=verify, describe=True)
    if event.broken or not reason.retryable:
        return s.Failed(table, reason, state.lsn, bound=True), ()
    tries = state.tries if isinstance(state, s.Reading) else 0
    return s.Behind(table, reason, state.lsn, _retry_at(tries, now), state.waiting, described, tries + 1), ()


def _retry_reading(state: s.Behind, event: e.Tick, now: float) -> e.Step:
    if now < state.at:
        return state, ()
    waiting = s.NOTHING if state.waiting.overflow else state.waiting  # the read to come holds what was dropped
    return table_live.read(
        state.table,
        now,
        lsn=state.lsn,
        waiting=waiting,
        describe=state.describe,
        tries=state.tries,
        reason=state.reason,
    )


def _loaded(state: s.Loading, event: e.Loaded, now: float) -> e.Step:
    if event.read != state.read:
        return state, ()
    schedule = state.table.schedule.read(now, event.took, event.large)
    table = replace(state.table, loaded=True, took=event.took, schedule=schedule)
    if state.waiting.overflow:
        return table_live.read(table, now, lsn=state.lsn, lost=table_live.OVERFLOW)
    return table_live.apply(s.Live(table, state.lsn, state.position), state.waiting.changes, now, noted=True)


def _shape_changed(state: s.Reading | s.Loading | s.Behind, event: e.TableChanged, now: float) -> e.Step:
    waiting = s.NOTHING if state.waiting.overflow else state.waiting
    return table_live.read(state.table, now, lsn=state.lsn, waiting=waiting, describe=True)


def _verify_after(state: s.Reading | s.Loading, event: e.Verify, now: float) -> e.Step:
    """What is being read may be older than the request to compare, so the table is read once more."""
    if not state.quiet:  # the rows are not up to date: they are read for that already
        return state, ()
    describe = state.describe if isinstance(state, s.Reading) else None
    return table_live.read(
        state.table, now, lsn=state.lsn, waiting=state.waiting, quiet=True, verify=True, describe=describe
    )


# --- live


def _live_of(state: s.Live | s.Resuming) -> s.Live:
    return state.live if isinstance(state, s.Resuming) else state


def _like(state: s.Live | s.Resuming, after: _S) -> _S | s.Resuming:
    """The state after a step of the live state within, with the status of before."""
    return s.Resuming(after) if isinstance(state, s.Resuming) and isinstance(after, s.Live) else after


def _inside(state: s.Resuming, event: e.Event, now: float) -> e.Step:
    """As while it is live, but for the status."""
    after, effects = _TRANSITIONS[s.Live, type(event)](state.live, event, now)
    return _like(state, after), effects


def _altered(state: s.Live | s.Resuming, event: e.TableChanged, now: float) -> e.Step:
    """A table that cannot be read again stays as it is where its rows are true: the next change names its columns."""
    if event.rows_kept and not state.table.repeatable:
        return state, ()
    return _read_changed(state, event, now)


def _caught_up(state: s.Resuming, event: e.CaughtUp, now: float) -> e.Step:
    return state.live, ()


# --- stale, failed


def _resume(state: s.Stale, event: e.Resumed, now: float) -> e.Step:
    if state.lsn is None:
        return _read_changed(state, event, now)
    return s.Resuming(s.Live(state.table, state.lsn, repeats=event.repeats)), ()


def _still_stale(state: s.Stale, event: e.Gap, now: float) -> e.Step:
    return replace(state, reason=event.reason or state.reason), ()


def _allowed_again(state: s.Failed, event: e.Changed, now: float) -> e.Step:
    """Values come again: what was refused meanwhile is in the database."""
    if not state.refused or refusal_of(event.changes) is not None:
        return state, ()
    return table_live.read(state.table, now, lsn=state.lsn, waiting=s.NOTHING.add(event.changes))


def _heal(state: s.Failed, event: e.Confirmed | e.Resumed | e.TableChanged, now: float) -> e.Step:
    return _read_changed(state, event, now) if state.bound else (state, ())


def _still_failed(state: s.Failed, event: e.Event, now: float) -> e.Step:
    return replace(state, lsn=None), ()


# --- paused


def _pause(state: s.Unpaused, now: float) -> s.Paused:
    """What is being read is given up, and owed: the rows stand still from now on."""
    if isinstance(state, s.Reading) and state.table.loaded:
        return s.Paused(_owing(state, now))
    if isinstance(state, s.Live | s.Resuming):
        live = _live_of(state)
        keys = tuple(key for part in live.parts.values() if not part.verify for key in part.keys)
        return s.Paused(_like(state, replace(live, unread=tuple(dict.fromkeys((*keys, *live.unread))), parts={})))
    return s.Paused(state)


def _owing(state: s.Reading, now: float) -> s.Unpaused:
    """The state of which this read is due."""
    if state.quiet:
        return s.Live(state.table, state.lsn, refill_at=now)
    return s.Behind(state.table, state.reason, state.lsn, now, state.waiting, state.describe, state.tries)


def _paused(state: s.Paused, event: e.Event, now: float) -> e.Step:
    before = state.before
    if isinstance(event, e.Resume):
        return _go_on(state, now)
    if isinstance(event, e.Pause) or (isinstance(event, e.Tick | e.Verify) and before.table.loaded):
        return state, ()
    if isinstance(event, e.Changed) and isinstance(before, s.Live | s.Resuming):
        live = _live_of(before)
        live = replace(live, table=table_live.note(live.table, event.changes, now))
        return s.Paused(_like(before, live), state.held.add(event.changes)), ()
    inner, effects = step(before, event, now)
    if isinstance(inner, s.Paused | s.Closed):
        return inner, effects
    if isinstance(event, e.Gap | e.Refused):  # what is held is not all that was sent: read again
        if isinstance(inner, s.Stale) and len(state.held) + state.held.overflow:
            inner = replace(inner, lsn=None)
        return s.Paused(inner), effects
    return _defer(state, inner, effects, now)


def _defer(state: s.Paused, inner: s.Unpaused, effects: Sequence[e.Effect], now: float) -> e.Step:
    """A paused table's rows stand still: changes wait, and reads are owed."""
    held = state.held
    for effect in effects:
        if isinstance(effect, e.Apply):
            held = held.add(effect.changes)
    if isinstance(inner, s.Reading) and inner.table.loaded:
        inner, held = _owing(inner, now), s.NOTHING
    moving = (e.Apply, e.ReadAll) if inner.table.loaded else ()
    return s.Paused(inner, held), [effect for effect in effects if not isinstance(effect, moving)]


def _go_on(state: s.Paused, now: float) -> e.Step:
    before, held = state.before, state.held
    if held.overflow and isinstance(before, s.Live | s.Resuming):
        return table_live.read(before.table, now, lsn=before.lsn, lost=table_live.OVERFLOW)
    if len(held) and isinstance(before, s.Live | s.Resuming):
        after, effects = table_live.apply(_live_of(before), held.changes, now, noted=True)
        return _like(before, after), effects
    return before, ()


# --- the table

Handler = Callable[[Any, Any, float], e.Step]
_Table = dict[tuple[type[s.State], type[e.Event]], Handler]


def _rows(states: tuple[type[s.State], ...], events: tuple[type[e.Event], ...], handler: Handler) -> _Table:
    return {(state, event): handler for state in states for event in events}


_BOUND = (s.Subscribing, s.Reading, s.Loading, s.Live, s.Resuming, s.Behind, s.Stale, s.Failed)
_TRANSITIONS: _Table = {
    (s.Idle, e.Start): _describe,
    (s.Describing, e.Described): _described,
    (s.Describing, e.ReadFailed): _not_described,
    (s.Describing, e.Tick): _retry_describing,
    **_rows(_BOUND, (e.Refused,), _refuse),
    **_rows((s.Reading, s.Loading, s.Live, s.Resuming, s.Behind, s.Stale), (e.Confirmed, e.Resumed), _read_changed),
    **_rows((s.Subscribing,), (e.Confirmed, e.Resumed), _first_read),
    **_rows((s.Subscribing, s.Reading, s.Loading, s.Live, s.Resuming, s.Behind), (e.Gap,), _lose),
    (s.Subscribing, e.Tick): _late,
    **_rows((s.Reading, s.Loading, s.Behind), (e.Changed,), _wait),
    **_rows((s.Reading, s.Loading, s.Behind), (e.TableChanged,), _shape_changed),
    **_rows((s.Reading, s.Loading), (e.ReadFailed,), _read_failed),
    **_rows((s.Reading, s.Loading), (e.Verify,), _verify_after),
    (s.Reading, e.SnapshotRead): _snapshot,
    (s.Loading, e.Loaded): _loaded,
    (s.Live, e.Changed): table_live.changed,
    (s.Live, e.Applied): table_live.applied,
    (s.Live, e.PartFound): table_live.part_found,
    (s.Live, e.ReadFailed): table_live.part_failed,
    (s.Live, e.Tick): table_live.do_due,
    (s.Live, e.Verify): table_live.verify,
    **_rows((s.Live, s.Resuming), (e.TableChanged,), _altered),
    **_rows((s.Resuming,), (e.Changed, e.Applied), _inside),
    (s.Resuming, e.CaughtUp): _caught_up,
    (s.Behind, e.Tick): _retry_reading,
    (s.Stale, e.Resumed): _resume,
    (s.Stale, e.Gap): _still_stale,
    (s.Failed, e.Start): _start_again,
    (s.Failed, e.Changed): _allowed_again,
    (s.Failed, e.Gap): _still_failed,
    **_rows((s.Failed,), (e.Confirmed, e.Resumed, e.TableChanged), _heal),
}
