"""A live table while it is live: changes are applied, rows are read again by key or as a whole, and compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime

from ..protocol.errors import RealtimeError
from ..protocol.messages import Change
from . import table_events as e
from . import table_states as s
from .row_changes import fresh, keys_in, refusal_of

KEYS_AT_ONCE = 50
"""Rows read by key in one go."""
REFILL_AFTER, REFILL_SHARE = 0.05, 4.0
"""Seconds from a loss to the read that makes up for it; at least so many times as long as a read takes, so that reading
stays a small part of the load however often rows leave a limited table."""
FIRST_RETRY, LAST_RETRY = 1.0, 30.0
"""Seconds from a failed read to the next one; doubled each time."""


def refill_time(table: s.Table, now: float, least: float = REFILL_AFTER) -> float:
    return now + max(least, REFILL_SHARE * table.took)


def next_read(table: s.Table) -> s.Table:
    return replace(table, reads=table.reads + 1)


def read(
    table: s.Table,
    now: float,
    *,
    lsn: int | None,
    waiting: s.Backlog = s.NOTHING,
    quiet: bool = False,
    verify: bool = False,
    describe: bool | None = None,
    tries: int = 0,
    reason: RealtimeError | None = None,
    lost: RealtimeError | None = None,
) -> e.Step:
    """Reads the whole table. Where that is not possible, the rows stay, and `lost` becomes the error of the table."""
    if table.loaded and not table.repeatable:
        return apply(s.Live(replace(table, gap=table.gap or lost), lsn), waiting.changes, now)
    describe = describe if table.repeatable else False
    table = next_read(table)
    reading = s.Reading(table, reason, lsn, table.reads, waiting, quiet, verify, describe, tries)
    return reading, (e.ReadAll(table.reads, describe),)


def note(table: s.Table, changes: Sequence[Change], now: float) -> s.Table:
    if table.schedule.every is None or changes[-1].lsn is not None:
        return table
    return replace(table, schedule=table.schedule.noted(len(changes), now))


def changed(state: s.Live, event: e.Changed, now: float) -> e.Step:
    return apply(state, event.changes, now)


def apply(state: s.Live, changes: Sequence[Change], now: float, *, noted: bool = False) -> e.Step:
    """Applies those of the changes that the rows do not hold yet."""
    if not changes:
        return state, ()
    lsn, position, repeats, parts = state.lsn, state.position, state.repeats, state.parts
    table = state.table if noted else note(state.table, changes, now)
    last = changes[-1]
    if repeats:
        changes, repeats = fresh(changes, lsn, repeats, table.key)
    if lsn is not None and last.lsn is not None:
        lsn = last.lsn
    if position is not None:
        changes = [change for change in changes if position.lacks(change)]
        if position.passed(last):
            position = None
    refusal = None
    if [change.errors for change in changes].count(None) < len(changes):
        refusal = refusal_of(changes)
    if refusal is not None and refusal.code == "Unauthorized":
        return s.Failed(table, refusal, lsn, bound=True, refused=True), ()
    if refusal is not None and table.repeatable and table.resumable:
        # By now the table may have a key, and the message be of one that had its name before: describing it tells.
        return s.Behind(table, refusal, lsn, refill_time(table, now), describe=True), ()
    if parts:
        keys = keys_in(changes, table.key)
        parts = {read: replace(part, changed=part.changed | keys) for read, part in parts.items()}
    live = s.Live(table, lsn, position, repeats, state.unread, parts, state.refill_at)
    return live, (e.Apply(changes),) if changes else ()


def applied(state: s.Live, event: e.Applied, now: float) -> e.Step:
    table = state.table
    if event.broken is not None:
        at = refill_time(table, now, FIRST_RETRY)
        if not table.repeatable:
            return read(table, now, lsn=state.lsn, lost=event.broken)
        return s.Behind(table, event.broken, state.lsn, at, describe=True), ()
    if event.reshaped and table.repeatable:
        return read(table, now, lsn=state.lsn, describe=False)  # the change itself said what the columns are
    unread = tuple(dict.fromkeys((*state.unread, *event.unread)))
    refill_at = state.refill_at
    if event.refill and refill_at is None:
        refill_at = refill_time(table, now)
    if not table.repeatable:
        unread, refill_at = (), None
    return replace(state, unread=unread, refill_at=refill_at), ()


def part_found(state: s.Live, event: e.PartFound, now: float) -> e.Step:
    part = state.parts.get(event.read)
    if part is None:
        return state, ()
    rows = [row for key, row in event.rows.items() if key not in part.changed]
    gone = [key for key in event.keys if key not in event.rows and key not in part.changed]
    # A row that changed while it was read may be older here than in the table: it is read once more.
    again = () if part.verify else tuple(key for key in event.keys if key in part.changed)
    unread = tuple(dict.fromkeys((*state.unread, *again)))
    return replace(state, unread=unread, parts=_without(state.parts, event.read)), (e.Merge(rows, gone, part.verify),)


def _without(parts: Mapping[int, s.PartRead], read: int) -> dict[int, s.PartRead]:
    return {number: part for number, part in parts.items() if number != read}


def part_failed(state: s.Live, event: e.ReadFailed, now: float) -> e.Step:
    """Reading everything shows what is wrong, and goes on until it can; a part that was only compared comes again."""
    part = state.parts.get(event.read)
    if part is None:
        return state, ()
    if part.verify:
        return replace(state, parts=_without(state.parts, event.read)), ()
    return read(state.table, now, lsn=state.lsn)


def do_due(state: s.Live, event: e.Tick, now: float) -> e.Step:
    """Reads what is to be read by now, and compares what is to be compared."""
    table = state.table
    if state.refill_at is not None and now >= state.refill_at:
        return read(table, now, lsn=state.lsn, quiet=True)
    effects: list[e.Effect] = []
    parts, unread = dict(state.parts), state.unread
    if unread and all(part.verify for part in parts.values()):
        keys, unread = unread[:KEYS_AT_ONCE], unread[KEYS_AT_ONCE:]
        table = next_read(table)
        parts[table.reads] = s.PartRead(keys)
        effects.append(e.ReadKeys(table.reads, keys))
    schedule = table.schedule
    if schedule.burst_at is not None and now >= schedule.burst_at:
        return read(replace(table, schedule=schedule.compared(now)), now, lsn=state.lsn, quiet=True, verify=True)
    if schedule.at is not None and now >= schedule.at:
        table = replace(table, schedule=schedule.compared(now))
        if table.repeatable and not any(part.verify for part in parts.values()):
            table = next_read(table)
            parts[table.reads] = s.PartRead(verify=True)
            effects.append(e.Compare(table.reads))
    return replace(state, table=table, unread=unread, parts=parts), tuple(effects)


def verify(state: s.Live, event: e.Verify, now: float) -> e.Step:
    if not state.table.repeatable:
        return state, ()
    return read(state.table, now, lsn=state.lsn, quiet=True, verify=True)


def missed(since: datetime) -> RealtimeError:
    """The error of a table that lacks changes for good."""
    return _lost(f"changes since {since.astimezone():%H:%M:%S} may be missing: the line was broken")


def _lost(what: str) -> RealtimeError:
    text = f"{what}, and this table has no source to be read again from"
    return RealtimeError(text, code="Gap", hint="leave source= out, or give a DSN, and it heals itself")


OVERFLOW = _lost(f"more than {s.MAX_WAITING:,} changes came while the table was paused")
OTHER_TABLE = _lost("the table was changed or made again")
