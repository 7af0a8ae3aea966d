"""The live table's follower: subscribe, read a snapshot, join it with the changes, stay true, heal after a gap.

Everything here runs on the I/O loop; only `store` may be read from other threads.

The order matters: the server confirms the subscription first, then the snapshot is read, then what arrived meanwhile is
applied. Where changes carry a commit LSN and an xid, and the snapshot its LSN and `pg_current_snapshot()` (our local
server), the join is exact: a transaction is applied iff its commit LSN >= the snapshot's, or the snapshot did not see
its xid. Elsewhere everything that waited is applied by key: an old change may show for a moment, but the changes after
it follow, so the table ends up right.

What is asked for is checked by `plan`; rows are read by `source`; `screen` applies the filter to changes; `watch`
compares with the database from time to time.
"""

from __future__ import annotations

import asyncio
import inspect
import time
from collections import Counter, deque
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from itertools import repeat
from typing import TYPE_CHECKING, Any, Literal, Protocol

import pandas as pd

from ..client.log import child
from ..protocol.channel import ChangesBinding
from ..protocol.errors import RealtimeError
from ..protocol.messages import Change
from .change_filter import ChangeFilter
from .delta import Delta, Key
from .events import Events
from .history import History
from .kinds.moments import lag_ms
from .request import TableRequest, plan
from .snapshot import Cut, RestLike, Row, Source, Whole, key_in
from .sorting import Sort, parse_order
from .store import Store
from .verification import Verification

if TYPE_CHECKING:
    from ..client.rest import TableInfo

log = child("rtwidgets.table")

Status = Literal["connecting", "catching up", "live", "stale", "error", "closed"]
Listener = Callable[[Delta], object]
StatusListener = Callable[[Status, "RealtimeError | None"], object]

MAX_WAITING = 200_000
"""Changes kept while paused or catching up; past this they are dropped and the table is read again instead."""
_FIRST_RETRY, _LAST_RETRY = 1.0, 30.0  # seconds
_REREAD_AT_ONCE = 50  # keys in one request: the URL must stay short
_REFILL_AFTER = 0.05  # seconds from a loss to the read that makes up for it; at least _REFILL_SHARE times as long as a
_REFILL_SHARE = 4.0  # read takes, so that reading stays a small part of the load however often rows leave the window
_MANY_ROWS = 5_000  # what takes so long to apply that it is done off the loop


class ChannelLike(Protocol):
    def add_changes(self, binding: ChangesBinding, sink: Any) -> Callable[[], object]: ...


class TableFollower:
    """A `Store` kept equal to a table of the database. `channel` and `rest` are an `AsyncChannel` and a `RestClient`.

    `filter` (`status=eq.open`) is applied here, to what the whole table sends: a server that filters says nothing
    when a row
    stops matching, and the table would keep its ghost. `server_filter=True` saves that traffic and leaves ghosts to
    `verify_every` (seconds; None: never), which compares with the database and applies what differs: the whole table if
    it has at most `verify_rows` rows, else as many, the next ones by key each time. The table is also compared when a
    burst of changes is over, if they came from a server that may leave some out.

    `append_only=True` follows also a table without a primary key, as a log: rows are numbered. The server sends no
    values of such tables, only that something was inserted, so each burst of inserts has the table read again.

    With `events=True` the table is what happens from now on: a row a change, append-only, with its commit_timestamp and
    type before the table's columns; of `limit` rows, or as many as `log_size`.

    With `seed` these rows stand in for what the database holds at the beginning, and it is never read whole: after a
    gap the rows stay, and `error` says that changes may be missing.

    Raises ValueError for an option that makes no sense, whatever the table.
    """

    def __init__(
        self,
        channel: ChannelLike,
        rest: RestLike,
        table: str,
        *,
        schema: str = "public",
        filter: str | None = None,
        columns: Sequence[str] | None = None,
        order: str | None = None,
        limit: int | None = None,
        key: Sequence[str] | str | None = None,
        numeric: Literal["float", "decimal"] = "float",
        server_filter: bool = False,
        verify_every: float | None = 300.0,
        verify_rows: int = 20_000,
        log_size: int = 10_000,
        append_only: bool = False,
        seed: Sequence[Row] | None = None,
        events: bool = False,
    ) -> None:
        _check(limit=limit, history=log_size, verify_rows=verify_rows)
        if verify_every is not None and not verify_every > 0:
            raise ValueError(f"verify_every is a number of seconds, or None for never, not {verify_every!r}")
        parse_order(order)
        self.channel = channel
        self.table = table
        self.schema = schema
        self.filter = filter or None
        self.limit = limit
        self.key: tuple[str, ...] | None = (key,) if isinstance(key, str) else tuple(key) if key else None
        self.server_filter = server_filter
        self.verify_every = verify_every
        self.verify_rows = verify_rows
        self.seed: Sequence[Row] | None = [] if events else seed
        self._wish = TableRequest(
            table, schema, columns, order, limit, self.key, numeric, append_only or events, events, log_size
        )
        self._source = Source(rest, table, schema, self.filter, columns)
        self._screen: ChangeFilter | None = None
        self._events: Events | None = None
        self._gap_from: datetime | None = None
        self._missing: datetime | None = None
        """Since when changes are missing, of a table that cannot be read again."""
        self.repaired = 0
        """Rows that comparing with the database (`verify`) found to differ, so far; one that was on its way counts."""
        self.history = History(log_size)
        self.resume_lsn: int | None = None
        """See `client.sinks.ResumingSink`."""
        self._again: Counter[tuple[str, Key | None]] = Counter()
        """Changes of the transaction at `resume_lsn` that came before the break, and come again."""
        self.status: Status = "connecting"
        self.error: RealtimeError | None = None
        self.lag_ms: float | None = None
        """Milliseconds from the last change's commit until it was in the table (two clocks: never below 0)."""
        self.snapshot_at: datetime | None = None
        self.paused = False
        self.progress: tuple[int, int | None] | None = None
        """While the table is being read: rows read, and how many there are where that is known."""
        self.on_progress: Callable[[], object] | None = None
        """Called when `progress` has grown."""
        self._store: Store | None = None
        self._sort: Sort = ()
        self._foreign_order = False
        self._listeners: dict[int, Listener] = {}
        self._status_listeners: dict[int, StatusListener] = {}
        self._log: deque[tuple[datetime, Change]] = deque(maxlen=log_size)
        self._unregister: Callable[[], object] | None = None
        self._waiting: list[Change] | None = None
        """Changes since the subscription was confirmed, while a snapshot is being read; None when changes apply at
        once.
        """
        self._held: list[Change] = []
        self._overflow = False
        """Of what waits, not everything is kept: the table is read again instead."""
        self._cut: Cut | None = None
        self._ready = False
        self._reading: asyncio.Task[None] | None = None
        self._rereading: asyncio.Task[None] | None = None
        self._reread: dict[Key, None] = {}
        self._seen_by: list[set[Key]] = []
        """Keys of the changes that came while rows are read by key, for each such read."""
        self._refused_change = False
        """The server has sent a change without its values, for want of a permission."""
        self._refilling: asyncio.Task[None] | None = None
        self._row_names: frozenset[str] | None = None
        """The columns of the rows that were read last. They may be more than ours: a generated one comes with no
        change."""
        self.read_took = 0.0
        """Seconds that reading the whole table took last."""
        self._verifying = False
        self._watch = Verification(self)

    # -- what readers use ----------------------------------------------------------------------------------------------

    @property
    def store(self) -> Store:
        """The table. Before the first description of the table has come, an empty one without columns."""
        if self._store is None:
            return Store([], self.key or ("id",))
        return self._store

    @property
    def waiting(self) -> int:
        """Changes that wait because the table is paused."""
        return len(self._held)

    @property
    def changes(self) -> pd.DataFrame:
        """The last changes received, oldest first: received_at, commit_timestamp, type, key, record, old_record."""
        names = ["received_at", "commit_timestamp", "type", "key", "record", "old_record"]
        rows = [(at, c.commit_timestamp, c.type, self._key_of(c), c.record, c.old_record) for at, c in list(self._log)]
        frame = pd.DataFrame(rows, columns=names)
        for name in names[:2]:
            frame[name] = pd.to_datetime(frame[name], utc=True, format="ISO8601").astype("datetime64[us, UTC]")
        return frame

    def on_delta(self, fn: Listener) -> Callable[[], None]:
        """Calls `fn(delta)` on the loop after each batch that changed something. Returns what unregisters it."""
        return _register(self._listeners, fn)

    def on_status(self, fn: StatusListener) -> Callable[[], None]:
        """Calls `fn(status, error)` on the loop when either changes. Returns what unregisters it."""
        return _register(self._status_listeners, fn)

    async def wait_live(self, timeout: float | None = 30.0) -> None:
        """Returns when the table is live; raises the table's `RealtimeError`, or `TimeoutError` after `timeout`
        seconds.
        """
        changed = asyncio.Event()
        unregister = self.on_status(lambda status, error: changed.set())
        try:
            async with asyncio.timeout(timeout):
                while self.status != "live":
                    if self.status == "error" and self.error is not None:
                        raise self.error
                    if self.status == "closed":
                        raise RealtimeError("the table was closed", code="Closed", hint="make a new one")
                    changed.clear()
                    await changed.wait()
        except TimeoutError:
            raise TimeoutError(
                f"{self.schema}.{self.table} is not live after {timeout} s, it is {self.status}"
                + (f": {self.error}" if self.error else "")
            ) from None
        finally:
            unregister()

    # -- life ----------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Describes the table and subscribes to it. What goes wrong is in `status` and `error`; nothing is raised."""
        if self._unregister is not None or self.status == "closed":
            return
        if self._store is None and not await self._describe():
            return
        binding = ChangesBinding(
            event="*", schema=self.schema, table=self.table, filter=self.filter if self.server_filter else None
        )
        self._unregister = self.channel.add_changes(binding, self)
        if self.verify_every:
            self._watch.begin(self.verify_every)

    async def stop(self) -> None:
        """Stops following the table. Its rows stay readable."""
        if self._unregister is not None:
            done = self._unregister()
            self._unregister = None
            if inspect.isawaitable(done):
                await done
        running = (self._reading, self._rereading, self._refilling, *self._watch.end())
        tasks = [task for task in running if task is not None]
        self._reading = self._rereading = self._refilling = None
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._waiting = None
        self._set_status("closed", None)

    def pause(self) -> None:
        """Holds the table still; changes wait."""
        self.paused = True

    def resume(self) -> None:
        """Applies what waited, and goes on."""
        self.paused = False
        held, self._held = self._held, []
        if self._overflow:
            if self._ready:
                self._catch_up()
            return
        if held:
            self._take(held)
        if self._reread and self._reading is None:
            self._read_again(())

    async def _describe(self) -> bool:
        wait = _FIRST_RETRY
        while True:
            try:
                self._begin(await self._source.describe())
                return True
            except RealtimeError as error:
                if not error.retryable:
                    self._set_status("error", error)
                    return False
                self._set_status("connecting", error)
            await asyncio.sleep(wait)
            wait = min(wait * 2, _LAST_RETRY)

    def _begin(self, info: TableInfo) -> None:
        wish = self._wish
        made = plan(wish, info)
        self._screen = ChangeFilter(self.filter, info)
        if wish.events:
            self._events = Events(self._screen.verdict, self._screen.names)
        self.key, self.limit = made.key, made.limit
        self._sort, self._foreign_order = made.sort, made.foreign_order
        self._source.key, self._source.hex_keys = made.key, made.hex_keys
        self._store = Store(
            made.columns,
            made.key,
            numeric=wish.numeric,
            select=made.select,
            order=made.sort,
            limit=made.limit,
            append_only=wish.append_only,
            bases=info.bases,
            labels=info.labels,
        )

    # -- the sink: what the channel tells ------------------------------------------------------------------------------

    def on_ready(self) -> None:
        """The server confirmed the subscription: from now on no change is missed, so a snapshot may be read."""
        if self.status == "closed":
            return
        self._ready = True
        self._catch_up()

    def on_resumed(self) -> None:
        """The line was broken, and the server sends what came meanwhile: the table need not be read again."""
        if self.status == "closed":
            return
        self._ready = True
        self._gap_from = None
        point = self.resume_lsn
        self._again = Counter((c.type, self._key_of(c)) for _, c in self._log if c.lsn == point)
        self._set_status("live", None if self._missing is None else _missed(self._missing))

    def _fresh(self, changes: Sequence[Change]) -> list[Change]:
        """Those that did not come before the break. The transaction in which it came is sent whole once more."""
        fresh: list[Change] = []
        for change in changes:
            known = (change.type, self._key_of(change))
            if change.lsn == self.resume_lsn and self._again[known] > 0:
                self._again[known] -= 1
            else:
                fresh.append(change)
        if changes[-1].lsn != self.resume_lsn:
            self._again.clear()
        return fresh

    def on_gap(self, reason: object = None) -> None:
        """Changes may be missing from here on. The rows stay; the next `on_ready` mends them."""
        if self.status == "closed":
            return
        busy = self._waiting is not None or self._held or self._overflow or self._refilling is not None
        busy = busy or self._reread or self._rereading is not None
        if self.seed is not None and self.snapshot_at is not None:
            self._gap_from = self._gap_from or datetime.now(UTC)
        busy = busy or (not self.key and self._events is None)
        if self._ready and (busy or self.snapshot_at is None or self.status != "live"):
            self.resume_lsn = None  # what is held is not all that was sent: read again
        self._ready = False
        self._waiting = None
        self._held.clear()
        self._overflow = False
        self._cancel_reading()
        if self.status != "error":
            error = reason if isinstance(reason, RealtimeError) else None
            self._set_status("stale" if self.snapshot_at is not None else "connecting", error)

    def on_error(self, error: RealtimeError) -> None:
        """The channel cannot serve this table. Errors that pass by themselves leave the table stale."""
        if self.status == "closed":
            return
        if error.retryable:
            self._set_status("stale" if self.snapshot_at is not None else "connecting", error)
        elif error.code == "Closed":  # the client was: it does not come back, so neither do changes
            self._set_status("closed", error)
        else:
            self._set_status("error", error)

    def on_changes(self, changes: Sequence[Change]) -> None:
        """All changes of one read of the socket."""
        if self._store is None or self.status == "closed":
            return
        if self._again:
            changes = self._fresh(changes)
            if not changes:
                return
        if self._ready and self.resume_lsn is not None and changes[-1].lsn is not None:
            self.resume_lsn = changes[-1].lsn
        if changes and changes[-1].lsn is None and self.verify_every and self._ready:
            self._watch.note(len(changes))
        now = datetime.now(UTC)
        self._log.extend(zip(repeat(now), changes, strict=False))
        if self._waiting is not None:
            if len(self._waiting) + len(changes) > MAX_WAITING:
                self._overflow = True
                self._waiting.clear()
            else:
                self._waiting.extend(changes)
        elif not self._ready:
            return  # before the subscription is confirmed: the snapshot to come holds it
        elif self.paused:
            if len(self._held) + len(changes) > MAX_WAITING:
                self._overflow = True
                self._held.clear()
            elif not self._overflow:
                self._held.extend(changes)
        else:
            self._take(changes)

    # -- changes -------------------------------------------------------------------------------------------------------

    def _key_of(self, change: Change) -> Key | None:
        values = change.record if change.record is not None else change.old_record
        if not values or not self.key:
            return None
        return values.get(self.key[0]) if len(self.key) == 1 else tuple(values.get(name) for name in self.key)

    def _take(self, changes: Sequence[Change]) -> bool:
        """Applies changes and tells the listeners; whether that went well."""
        store = self._store
        if store is None or not changes:
            return True
        last = changes[-1]
        if self._cut is not None:
            passed = [change for change in changes if self._cut.passes(change)]
            if self._cut.done(last):
                self._cut = None
            changes = passed
        if self._events is not None:
            changes = self._events.of(changes)
        elif not self.key and any(not change.record for change in changes):
            self._refill()  # of a table without a key, no values are sent
            changes = [change for change in changes if change.record]
        if [change.errors for change in changes].count(None) < len(changes):
            for change in changes:
                if change.errors and change.record is not None and not change.record and change.type != "DELETE":
                    self._refused(change.errors)
        elif self._refused_change and changes and self.seed is None:
            self._refused_change = False  # allowed again: what was refused meanwhile is in the database
            self._catch_up(describe=False)
            if self._waiting is not None:
                self._waiting.extend(changes)
            return True
        unsure: list[Key] = []
        if self._screen is not None and self._screen.names and self._events is None:
            changes, unsure = self._screen.apply(changes, store)
        for seen in self._seen_by:
            for change in changes:
                seen.add(self._key_of(change))
                if change.old_record and self.key and all(name in change.old_record for name in self.key):
                    seen.add(key_in(change.old_record, self.key))  # under which it was known before
        if changes:
            try:
                delta = store.apply(changes)
            except Exception as error:  # values that are not of their column's type
                self._failed(error)
                return False
            self.lag_ms = lag_ms(last.commit_timestamp, datetime.now(UTC))
            self._tell(delta, datetime.now(UTC) - timedelta(milliseconds=self.lag_ms or 0))
            if delta.columns_changed:
                if last.columns and self._screen is not None:
                    self._screen.declare(last.columns)
                if self.seed is None:
                    self._catch_up(describe=False)  # the change itself said what the columns are
                    return True
            unsure += [*delta.reread, *delta.unknown]
            left = self._foreign_order and self._moved(delta)
            if store.short or left or (delta.unreadable and self.status != "error"):
                self._refill()
        if unsure and self.key:
            self._read_again(unsure)
        elif unsure:
            self._refill()
        return True

    def _moved(self, delta: Delta) -> bool:
        """Whether the batch may have changed which rows are the first."""
        names = {name for name, _ in self._sort}
        return bool(delta.inserted or delta.deleted) or any(names.intersection(part.flags) for part in delta.updates)

    def _failed(self, error: Exception) -> None:
        """Changes could not be applied: the table is not what the database has until it is read again."""
        log.exception("changes of %s.%s could not be applied", self.schema, self.table)
        self._set_status("stale", _broken(self.schema, self.table, error))
        self.resume_lsn = None
        self._refill(_FIRST_RETRY)

    def _refill(self, least: float = _REFILL_AFTER) -> None:
        """Reads the table again, shortly: rows that we do not hold belong into it now, or a change lacked our key."""

        async def refill() -> None:
            await asyncio.sleep(max(least, _REFILL_SHARE * self.read_took))
            self._refilling = None
            if self._ready and self._reading is None and not self.paused:
                self._catch_up(quietly=self.status == "live")

        if self._refilling is None:
            self._refilling = asyncio.create_task(refill())

    def _refused(self, errors: list[str]) -> None:
        text = "; ".join(errors)
        if "401" in text:
            self._refused_change = True
            error = RealtimeError(
                f"{self.schema}.{self.table}: {text}",
                code="Unauthorized",
                hint=(
                    f"`grant select on {self.schema}.{self.table} to` the role of the token in use, "
                    "and check its policies"
                ),
            )
        elif "400" in text:
            error = RealtimeError(
                f"{self.schema}.{self.table}: {text}",
                code="NoPrimaryKey",
                hint=f"`alter table {self.schema}.{self.table} add primary key (...)`",
            )
        else:
            return
        if self.error is None or self.error.code != error.code:
            self._set_status("error", error)

    def _tell(self, delta: Delta, committed_at: datetime | None = None) -> None:
        if not delta:
            return
        self.history.add(committed_at or datetime.now(UTC), delta)
        for fn in list(self._listeners.values()):
            try:
                fn(delta)
            except Exception:
                log.exception("a listener of %s failed", self.table)

    def _set_status(self, status: Status, error: RealtimeError | None) -> None:
        if status == self.status and error is self.error:
            return
        self.status, self.error = status, error
        for fn in list(self._status_listeners.values()):
            try:
                fn(self.status, self.error)
            except Exception:
                log.exception("a status listener of %s failed", self.table)

    # -- the snapshot --------------------------------------------------------------------------------------------------

    def _cancel_reading(self) -> None:
        for task in (self._reading, self._rereading):
            if task is not None and task is not asyncio.current_task():
                task.cancel()
        self._reading = self._rereading = None
        self._reread.clear()

    def _catch_up(self, *, quietly: bool = False, describe: bool | None = None) -> None:
        """Reads the table and joins it with what arrives meanwhile; where it is paused, once it goes on. `describe`:
        whether its columns may be others than we know of; by default so after a gap, else where rows look like it.
        """
        self._cancel_reading()
        self._verifying = False
        if self.paused and self.snapshot_at is not None:
            self._held.clear()
            self._overflow = True
            return
        self._waiting = list(self._held) if self._held else []
        self._held.clear()
        self._overflow = False
        if not quietly:
            self._set_status("catching up", None)
        if describe is None and not quietly and self.snapshot_at is not None:
            describe = True
        self._reading = asyncio.create_task(self._read(describe))

    async def _read(self, describe: bool | None) -> None:
        wait = _FIRST_RETRY
        while True:
            began = time.monotonic()
            try:
                # What changed of the table's columns during a gap no message tells.
                info = await self._source.describe() if describe and self.seed is None else None
                found = await self._snapshot()
                if found is not None and self._differ(found.rows) and describe is None:
                    info = await self._source.describe()
                if self.paused and self.snapshot_at is not None:  # since it began to read
                    self._waiting = self._reading = None
                    self._overflow = True
                    return
                delta = await self._put(found, info)
                break
            except RealtimeError as error:
                if not error.retryable:
                    self._waiting = self._reading = None
                    self._set_status("error", error)
                    return
                self._set_status("stale" if self.snapshot_at is not None else "catching up", error)
            except Exception as error:  # values that are not of their column's type, or an answer that makes no sense
                log.exception("the rows of %s.%s could not be taken", self.schema, self.table)
                if describe or self.seed is not None:
                    self._waiting = self._reading = None
                    self._set_status("error", _broken(self.schema, self.table, error))
                    return
                describe = True
                continue
            await asyncio.sleep(wait)
            wait = min(wait * 2, _LAST_RETRY)
        store = self._store
        assert store is not None
        self._missing, self._gap_from = self._missing or self._gap_from, None
        missed = None if self._missing is None else _missed(self._missing)
        store.more(self.limit is not None and found is not None and len(found.rows) >= self.limit)
        self.read_took = time.monotonic() - began
        if self._verifying and delta:
            self.note_repaired(delta.size)
        self._verifying = False
        self.snapshot_at = datetime.now(UTC)
        self._cut = found.cut if found is not None else None
        waiting, self._waiting = self._waiting or [], None
        overflow, self._overflow = self._overflow, False
        self._reading = None
        if not delta and self.history.since is None:  # an empty table has been empty since now
            self.history.add(self.snapshot_at, delta)
        self._tell(delta, self.snapshot_at)
        if overflow:
            self._catch_up()
            return
        if self.paused:
            self._held = [*waiting, *self._held]
        elif not self._take(waiting):
            return
        if self._reading is None and self._may_be_live():
            self._set_status("live", missed)  # unless what waited has itself asked for another read

    def _may_be_live(self) -> bool:
        return self.status != "error" or (self.error is not None and self.error.retryable)

    def _differ(self, rows: Sequence[Row]) -> bool:
        """Whether rows as read have other columns than before, or lack one of ours."""
        store = self._store
        if not rows or store is None or self.seed is not None:
            return False
        before, self._row_names = self._row_names, frozenset(rows[0])
        return not self._row_names.issuperset(store.kinds) or before not in (None, self._row_names)

    async def _put(self, found: Whole | None, info: TableInfo | None) -> Delta:
        """Has the store hold these rows, and no others; None: those that it holds stay. Only what differs is told."""
        store = self._store
        assert store is not None
        if found is None:
            return store.upsert([])
        columns = info.columns if info is not None and info.columns else None
        if columns and info is not None:
            self._screen = ChangeFilter(self.filter, info)
        put = store.load if self.snapshot_at is None else store.resync
        if len(found.rows) <= _MANY_ROWS:
            return put(found.rows, columns)
        # Off the loop, so that heartbeats and other tables go on. It runs to its end also where this task is cancelled:
        # what it did is told then, too.
        task = asyncio.ensure_future(asyncio.to_thread(put, found.rows, columns))
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            task.add_done_callback(lambda done: done.exception() or self._tell(done.result()))
            raise

    async def _snapshot(self) -> Whole | None:
        """All rows; None where they cannot be read again."""
        if self.seed is not None:
            return Whole(list(self.seed), None) if self.snapshot_at is None else None
        # The table sorts by itself, so the server need not, and pages go by key. Only a limit makes its order matter:
        # without one of the table's own, the last rows by key are the best guess at those that arrived last.
        sort: Sort = ()
        if self.limit is not None:
            sort = self._sort or tuple((name, True) for name in self.key or ())
        try:
            found = await self._source.whole(sort, self.limit, self._progressed)
        finally:
            self.progress = None
        if self.limit is not None and not self._sort:
            found.rows.reverse()
        return found

    def _progressed(self, read: int, total: int | None) -> None:
        self.progress = (read, total)
        if self.on_progress is not None:
            self.on_progress()

    # -- single rows ---------------------------------------------------------------------------------------------------

    def _read_again(self, keys: Sequence[Key]) -> None:
        """Reads rows by key: those of changes that came without all their values, or that only Postgres can judge."""
        self._reread.update(dict.fromkeys(keys))
        if self._rereading is None:
            self._rereading = asyncio.create_task(self._read_keys())

    async def _read_keys(self) -> None:
        try:
            done = await self._reread_all()
        except Exception as error:
            log.warning("rows of %s.%s could not be read again: %s", self.schema, self.table, error)
            done = None
        if self._rereading is asyncio.current_task():
            self._rereading = None
            if not done:  # reading everything says what is wrong, and tries until it can
                self._catch_up(quietly=done is not None)

    async def _reread_all(self) -> bool:
        """False where a key has values that no filter can say."""
        store = self._store
        assert store is not None
        while self._reread and not self.paused:
            await asyncio.sleep(0)
            keys = list(self._reread)[:_REREAD_AT_ONCE]
            for one in keys:
                del self._reread[one]
            tests = self._source.naming(keys)
            if tests is None:
                return False
            with self.seeing() as seen:
                found = await self._source.matching(tests)
            if self.paused:
                self._reread.update(dict.fromkeys(keys))
                return True
            # A row that changed while we read may be older here than in the table: it is read once more.
            self._reread.update((one, None) for one in keys if one in seen and one in store)
            self._tell(store.upsert([row for one, row in found.items() if one not in seen]))
            self._tell(store.remove([one for one in keys if one not in found and one not in seen]))
        return True

    @contextmanager
    def seeing(self) -> Generator[set[Key]]:
        """The keys of which changes come meanwhile."""
        seen = set[Key]()
        self._seen_by.append(seen)
        try:
            yield seen
        finally:
            self._seen_by.remove(seen)

    # -- comparing -----------------------------------------------------------------------------------------------------

    @property
    def comparable(self) -> bool:
        """Whether what the table holds now should be what the database holds."""
        calm = self.status == "live" and self._ready and self._reading is None and not self.paused
        return calm and self.seed is None

    async def verify(self) -> None:
        """Reads the table again, now, and applies what differs."""
        if self.comparable:
            self._catch_up(quietly=True)
            self._verifying = True
            if self._reading is not None:
                await asyncio.wait([self._reading])

    async def verify_part(self, test: str, keys: Sequence[Key]) -> None:
        """The same for the rows that this filter names; `keys` are those of them that the table holds."""
        store = self._store
        if store is None or not self.comparable:
            return
        with self.seeing() as seen:
            try:
                found = await self._source.matching([test])
            except RealtimeError as error:
                log.warning("rows of %s could not be compared: %s", self.table, error)
                return
        if not self.comparable:
            return
        came = store.upsert([row for key, row in found.items() if key not in seen])
        went = store.remove([key for key in keys if key not in found and key not in seen])
        self.note_repaired(came.size + went.size)
        self._tell(came)
        self._tell(went)

    def note_repaired(self, rows: int) -> None:
        if rows:
            self.repaired += rows
            log.info("%s.%s: %d rows differed from the database's", self.schema, self.table, rows)


def _check(**counts: int | None) -> None:
    for name, count in counts.items():
        if count is not None and (type(count) is not int or count < 1):
            raise ValueError(f"{name} is a whole number, at least 1, not {count!r}")


def _broken(schema: str, table: str, error: Exception) -> RealtimeError:
    return RealtimeError(
        # Not the exception's own words, which hold values.
        f"the rows of {schema}.{table} could not be taken ({type(error).__name__})",
        code="BadRows",
        hint="a column may hold what its type does not allow; the log of rtwidgets.table has the whole story",
    )


def _missed(since: datetime) -> RealtimeError:
    return RealtimeError(
        f"changes since {since.astimezone():%H:%M:%S} may be missing: the line was broken, and this table has no "
        "source to be read again from",
        code="Gap",
        hint="leave source= out, or give a DSN, and it heals itself",
    )


def _register(listeners: dict[int, Any], fn: Any) -> Callable[[], None]:
    token = max(listeners, default=0) + 1
    listeners[token] = fn

    def unregister() -> None:
        listeners.pop(token, None)

    return unregister
