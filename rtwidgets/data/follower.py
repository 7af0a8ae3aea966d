"""The live table's follower: runs the effects of `table_sync` on the I/O loop, and reports what happens as events.

Only `store` may be read from other threads.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Literal, Protocol

import pandas as pd

from ..client.callbacks import Callbacks, Unregister
from ..client.log import child
from ..client.snapshot_source import SnapshotSource
from ..protocol.errors import RealtimeError, RealtimeTimeoutError
from ..protocol.filters import Filter, parse
from ..protocol.messages import Change
from ..protocol.moments import lag_ms
from ..protocol.subscription import ChangesBinding
from . import table_events as e
from . import table_states as t
from .change_log import ChangeLog
from .delta import Delta
from .followed_table import FollowedTable
from .history import History
from .request import LOG_SIZE, MAX_ROWS, VERIFY_EVERY, VERIFY_ROWS, TableRequest, resolve
from .snapshot import check_source
from .store import Store
from .table_sync import step
from .verification import Schedule

log = child("rtwidgets.table")

Listener = Callable[[Delta], object]
StatusListener = Callable[[t.Status, "RealtimeError | None"], object]


class ChannelLike(Protocol):
    """What the follower needs of an `AsyncChannel`."""

    def add_changes(self, binding: ChangesBinding, sink: Any) -> Unregister: ...


class TableFollower:
    """A `Store` kept equal to a table of the database. `channel` is an `AsyncChannel`; the rows come from `source`.

    `filter` (`status=eq.open`) is applied on the client, to what the whole table sends: a server that filters does not
    report rows that stop matching, so they would never be removed. `server_filter=True` saves that traffic and leaves
    such rows to `verify_every` (seconds; None: never), which compares with the database and applies what differs: the
    whole table if it has at most `verify_rows` rows, else as many, the next ones by key each time. The table is also
    compared when a burst of changes is over, if they came from a server that may leave some out.

    `append_only=True` follows also a table without a primary key, as a log: rows are numbered. The server sends no
    values of such tables, only that something was inserted, so each burst of inserts has the table read again.

    With `events=True` the table is what happens from now on: a row a change, append-only, with its commit_timestamp and
    type before the table's columns; of `limit` rows, or as many as `log_size`.

    A table of more than `max_rows` rows is not loaded: that is an error. A `source` that cannot be read again gives the
    rows of the beginning: after a gap they stay, and `error` says that changes may be missing.

    Raises ValueError for an option that makes no sense, whatever the table; TypeError for what is no source.
    """

    def __init__(
        self,
        channel: ChannelLike,
        source: SnapshotSource,
        table: str,
        *,
        schema: str = "public",
        filter: str | Filter | None = None,
        columns: Sequence[str] | None = None,
        order: str | None = None,
        limit: int | None = None,
        key: Sequence[str] | str | None = None,
        numeric: Literal["float", "decimal"] = "float",
        server_filter: bool = False,
        verify_every: float | None = VERIFY_EVERY,
        verify_rows: int = VERIFY_ROWS,
        max_rows: int | None = MAX_ROWS,
        log_size: int = LOG_SIZE,
        append_only: bool = False,
        events: bool = False,
    ) -> None:
        keys = (key,) if isinstance(key, str) else tuple(key) if key else None
        self.request = TableRequest(
            table, schema, filter, columns, order, limit, keys, numeric, server_filter, append_only, events, log_size,
            verify_every, verify_rows, max_rows,
        )  # fmt: skip
        self.channel = channel
        self.source = check_source(source)
        self.status: t.Status = "connecting"
        self.error: RealtimeError | None = None
        self.history = History(log_size)
        self.log = ChangeLog(log_size)
        self.repaired = 0
        """Rows that comparing with the database (`verify`) found to differ, so far; one that was on its way counts."""
        self.lag_ms: float | None = None
        """Milliseconds from the last change's commit until it was in the table (two clocks: never below 0)."""
        self.snapshot_at: datetime | None = None
        """When the table was last read whole."""
        self.progress: tuple[int, int | None] | None = None
        """While the table is being read: rows read, and how many there are where that is known."""
        self.on_progress: Callable[[], object] | None = None
        """Called when `progress` has grown."""
        self._state: t.State = t.Idle(
            t.Table(repeatable=source.repeatable, schedule=Schedule(verify_every if source.repeatable else None))
        )
        self._table: FollowedTable | None = None
        self._events: deque[e.Event] = deque()
        """Those to step through: the one under way first."""
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._unregister: Unregister | None = None
        self._deltas, self._statuses = Callbacks(), Callbacks()

    # --- what readers use

    @property
    def store(self) -> Store:
        """The table. Before the first description of the table has come, an empty one without columns."""
        return Store([], self.request.key or ("id",)) if self._table is None else self._table.store

    @property
    def key(self) -> tuple[str, ...]:
        """The key columns; empty for a log, and before the table is described unless the request names them."""
        return (self.request.key or ()) if self._table is None else self._table.resolved.key

    @property
    def paused(self) -> bool:
        """Whether the rows stand still."""
        return isinstance(self._state, t.Paused)

    @property
    def waiting(self) -> int:
        """Changes that wait because the table is paused."""
        return len(self._state.held) if isinstance(self._state, t.Paused) else 0

    @property
    def changes(self) -> pd.DataFrame:
        """The last changes received, oldest first: received_at, commit_timestamp, type, key, record, old_record."""
        return self.log.frame(self.key)

    def on_delta(self, fn: Listener) -> Unregister:
        """Calls `fn(delta)` on the loop after each batch that changed something. Returns a function to unregister."""
        return self._deltas.add(fn)

    def on_status(self, fn: StatusListener) -> Unregister:
        """Calls `fn(status, error)` on the loop when either changes. Returns a function to unregister."""
        return self._statuses.add(fn)

    async def wait_live(self, timeout: float | None = 30.0) -> None:
        """Returns when the table is live. Raises the table's `RealtimeError`, or `RealtimeTimeoutError` after `timeout`
        seconds.
        """
        try:
            async with asyncio.timeout(timeout):
                while self.status != "live":
                    if self.status == "error" and self.error is not None:
                        raise self.error
                    if self.status == "closed":
                        raise RealtimeError("the table was closed", code="Closed", hint="make a new one")
                    await self._next_status()
        except TimeoutError as error:
            if isinstance(error, RealtimeError):  # the table's own
                raise
            reason = f": {self.error}" if self.error else ""
            text = f"{self.request.name} is not live after {timeout} s, it is {self.status}{reason}"
            raise RealtimeTimeoutError(text, hint=self.error.hint if self.error else "") from None

    async def _next_status(self) -> None:
        changed = asyncio.Event()
        unregister = self.on_status(lambda status, error: changed.set())
        try:
            await changed.wait()
        finally:
            unregister()

    # --- what users do

    async def start(self) -> None:
        """Describes the table and subscribes to it. Returns when that is done or has failed; what goes wrong is in
        `status` and `error`, nothing is raised.
        """
        self._handle(e.Start())
        while isinstance(state := _inner(self._state), t.Describing):
            task = None if state.read is None else self._tasks.get(state.read)
            await (self._next_status() if task is None else asyncio.wait([task]))

    async def stop(self) -> None:
        """Stops following the table. Its rows stay readable."""
        tasks = list(self._tasks.values())
        self._handle(e.Stop())
        await asyncio.gather(*tasks, return_exceptions=True)

    def pause(self) -> None:
        """Lets the rows stand still; changes wait."""
        self._handle(e.Pause())

    def resume(self) -> None:
        """Applies what waited, and goes on."""
        self._handle(e.Resume())

    async def verify(self) -> None:
        """Reads the table again, now, and applies what differs. Nothing happens while it is paused or not live."""
        self._handle(e.Verify())
        while isinstance(state := _inner(self._state), t.Reading | t.Loading) and state.verify:
            await asyncio.wait([self._tasks[state.read]])

    # --- what the channel reports: see `client.change_sinks.ResumingSink`

    @property
    def resume_lsn(self) -> int | None:
        """The position in the log from which the subscription may be resumed; None where the table must be read."""
        return getattr(self._state, "lsn", None)

    @resume_lsn.setter
    def resume_lsn(self, lsn: int | None) -> None:
        self._state, _ = step(self._state, e.ResumePoint(lsn), 0.0)  # which asks for nothing

    def on_ready(self) -> None:
        """The server confirmed the subscription: from now on no change is missed, so a snapshot may be read."""
        self._handle(e.Confirmed(datetime.now(UTC)))

    def on_resumed(self) -> None:
        """The line was broken, and the server sends what came meanwhile: the table need not be read again."""
        self._handle(e.Resumed(datetime.now(UTC), self.log.at(self.resume_lsn, self.key)))

    def on_caught_up(self) -> None:
        """Every change that came during the break has been sent."""
        self._handle(e.CaughtUp())

    def on_table_changed(self, rows_kept: bool) -> None:
        """The table is not what it was, so it is described anew and read again where it can be. `rows_kept`: what was
        read is still true, but for columns that came or went."""
        self._handle(e.TableChanged(rows_kept))

    def on_gap(self, reason: object = None) -> None:
        """Changes may be missing from here on. The rows stay; the next `on_ready` brings them up to date."""
        self._handle(e.Gap(datetime.now(UTC), reason if isinstance(reason, RealtimeError) else None))

    def on_error(self, error: RealtimeError) -> None:
        """The channel cannot serve this table. Errors that pass by themselves leave the table stale."""
        self._handle(e.Refused(error, datetime.now(UTC)))

    def on_changes(self, changes: Sequence[Change]) -> None:
        """All changes of one read of the socket."""
        if changes and self._table is not None and self.status != "closed":
            self.log.add(changes)
            self._handle(e.Changed(changes))

    # --- the shell of the machine

    def _handle(self, event: e.Event) -> None:
        """Steps through an event and those that its effects cause, then emits the status."""
        self._events.append(event)
        if len(self._events) > 1:
            return  # an effect of the event before caused it: its turn comes
        while self._events:
            try:
                self._state, effects = step(self._state, self._events[0], self._now())
                for effect in effects:
                    self._run(effect)
            except Exception as error:  # a fault of ours: an error that is seen, not a table that stands still
                log.exception("%s: a step failed", self.request.name)
                reason = error if isinstance(error, RealtimeError) else self._broken(error)
                self._state = t.Failed(self._state.table, reason, bound=True)
            self._events.popleft()
        self._keep_up()

    def _keep_up(self) -> None:
        """Ends reads that the state does not know any more, sets the timer and emits the status."""
        state = self._state
        if self._tasks and not state.running.issuperset(self._tasks):
            for read in [read for read in self._tasks if read not in state.running]:
                task = self._tasks.pop(read)
                if task is not asyncio.current_task():
                    task.cancel()
        at = state.wake_at
        timer = self._timer
        if timer is not None and (at is None or timer.when() != at):
            timer.cancel()
            timer = self._timer = None
        if at is not None and timer is None:
            self._timer = asyncio.get_running_loop().call_at(at, self._tick)
        if (state.status, state.error) != (self.status, self.error):
            self.status, self.error = state.status, state.error
            self._statuses.call(self.status, self.error)

    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    def _tick(self) -> None:
        self._timer = None
        self._handle(e.Tick())

    def _run(self, effect: e.Effect) -> None:
        match effect:
            case e.Apply():
                self._apply(effect.changes)
            case e.Merge():
                self._merge(effect)
            case e.Load():
                self._spawn(effect.read, partial(self._load, effect))
            case e.ReadAll():
                self._spawn(effect.read, partial(self._read, effect))
            case e.ReadKeys():
                self._spawn(effect.read, partial(self._read_keys, effect))
            case e.Compare():
                self._spawn(effect.read, partial(self._compare, effect))
            case e.Describe():
                self._spawn(effect.read, partial(self._describe, effect))
            case e.Bind():
                self._bind()
            case e.Unbind():
                unregister, self._unregister = self._unregister, None
                if unregister is not None:
                    unregister()

    def _spawn(self, read: int, work: Callable[[], Awaitable[e.Event]]) -> None:
        """Runs a read. However it ends, that is an event."""

        async def run() -> None:
            try:
                event = await work()
            except RealtimeError as error:
                event = e.ReadFailed(read, error)
            except Exception as error:  # values that do not fit their column's type, or an answer that makes no sense
                log.exception("could not load rows of %s", self.request.name)
                event = e.ReadFailed(read, self._broken(error), broken=True)
            if self._tasks.get(read) is task:
                del self._tasks[read]
            self._handle(event)

        task = self._tasks[read] = asyncio.create_task(run())

    def _broken(self, error: Exception) -> RealtimeError:
        return RealtimeError(
            # Not the exception's own words, which hold values.
            f"could not load rows of {self.request.name}: a value does not fit its column's type "
            f"({type(error).__name__})",
            code="BadRows",
            hint="the log of rtwidgets.table has the whole story",
        )

    # --- effects

    async def _describe(self, effect: e.Describe) -> e.Event:
        info = await self.source.describe(self.request.table, self.request.schema)
        self._table = FollowedTable(self.source, self.request, resolve(self.request, info))
        return e.Described(effect.read, self._table.resolved.key, self._table.resumable)

    def _bind(self) -> None:
        request = self.request
        text = str(parse(request.filter)) if request.server_filter and request.filter else None
        self._unregister = self.channel.add_changes(ChangesBinding("*", request.schema, request.table, text), self)

    async def _read(self, effect: e.ReadAll) -> e.Event:
        assert self._table is not None
        start = self._now()
        try:
            snapshot = await self._table.read(effect.describe, self._progressed, self._deltas.call)
        finally:
            self.progress = None
        return e.SnapshotRead(effect.read, snapshot, self._now() - start)

    def _progressed(self, read: int, total: int | None) -> None:
        self.progress = (read, total)
        if self.on_progress is not None:
            self.on_progress()

    async def _load(self, effect: e.Load) -> e.Event:
        assert self._table is not None
        start = self._now()
        # It runs to its end also where this task is cancelled: what it did is emitted then, too.
        loading = asyncio.ensure_future(self._table.load(effect.snapshot))
        try:
            delta = await asyncio.shield(loading)
        except asyncio.CancelledError:
            loading.add_done_callback(lambda done: done.exception() or self._emit(done.result(), datetime.now(UTC)))
            raise
        self.snapshot_at = datetime.now(UTC)
        if effect.verify:
            self._note_repaired(delta.size)
        if not delta and self.history.since is None:  # an empty table has been empty since now
            self.history.add(self.snapshot_at, delta)
        self._emit(delta, self.snapshot_at)
        return e.Loaded(effect.read, effect.took + self._now() - start, self._table.large)

    async def _read_keys(self, effect: e.ReadKeys) -> e.Event:
        assert self._table is not None
        return e.PartFound(effect.read, await self._table.by_key(effect.keys), effect.keys)

    async def _compare(self, effect: e.Compare) -> e.Event:
        assert self._table is not None
        try:
            found = await self._table.next_slice()
        except Exception as error:  # the next one comes by itself
            log.warning("rows of %s could not be compared: %s", self.request.name, error)
            return e.PartFound(effect.read, {}, ())
        return e.Verify() if found is None else e.PartFound(effect.read, found[1], found[0].keys)

    def _apply(self, changes: Sequence[Change]) -> None:
        assert self._table is not None
        try:
            done = self._table.apply(changes)
        except Exception as error:  # values that are not of their column's type
            log.exception("changes of %s could not be applied", self.request.name)
            self._handle(e.Applied(broken=self._broken(error)))
            return
        if done.delta is not None:
            self.lag_ms = lag_ms(changes[-1].commit_timestamp, datetime.now(UTC))
            self._emit(done.delta, datetime.now(UTC) - timedelta(milliseconds=self.lag_ms or 0))
        reshaped = done.delta is not None and done.delta.columns_changed
        if done.unread or done.refill or reshaped:
            self._handle(e.Applied(done.unread, done.refill, reshaped))

    def _merge(self, effect: e.Merge) -> None:
        assert self._table is not None
        try:
            deltas = self._table.merge(effect.rows, effect.gone)
        except Exception as error:
            log.exception("rows of %s that were read by key could not be applied", self.request.name)
            self._handle(e.Applied(broken=self._broken(error)))
            return
        if effect.verify:
            self._note_repaired(sum(delta.size for delta in deltas))
        for delta in deltas:
            self._emit(delta, datetime.now(UTC))

    def _emit(self, delta: Delta, committed_at: datetime) -> None:
        if delta:
            self.history.add(committed_at, delta)
            self._deltas.call(delta)

    def _note_repaired(self, rows: int) -> None:
        if rows:
            self.repaired += rows
            log.info("%s: %d rows differed from the database's", self.request.name, rows)


def _inner(state: t.State) -> t.State:
    return state.before if isinstance(state, t.Paused) else state
