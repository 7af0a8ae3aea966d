"""The live table's engine: subscribe, read a snapshot, join it with the changes, stay true, heal after a gap.

Everything here runs on the I/O loop; only `store` may be read from other threads.

The order matters: the server confirms the subscription first, then the snapshot is read, then what arrived meanwhile is
applied. Where changes carry a commit LSN and an xid, and the snapshot its LSN and `pg_current_snapshot()` (our local
server), the join is exact: a transaction is applied iff its commit LSN >= the snapshot's, or the snapshot did not see
its xid. Elsewhere everything that waited is applied by key: an old change may show for a moment, but the changes after
it follow, so the table ends up right.
"""

from __future__ import annotations

import asyncio
import inspect
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import repeat
from typing import TYPE_CHECKING, Any, Literal, Protocol

import pandas as pd

from ..client.log import child
from ..protocol import filters
from ..protocol.channel import ChangesBinding
from ..protocol.errors import RealtimeError
from ..protocol.messages import Change, Column
from .delta import Delta, Key
from .events import Events, event_columns
from .history import History
from .slices import Slices
from .sorting import Sort, parse_order
from .store import Row, Store
from .types import lag_ms

if TYPE_CHECKING:
    from ..client.rest import Page, Snapshot, TableInfo

log = child("rtwidgets.table")

Status = Literal["connecting", "catching up", "live", "stale", "error", "closed"]
Listener = Callable[[Delta], object]
StatusListener = Callable[[Status, "RealtimeError | None"], object]

MAX_WAITING = 200_000
"""Changes kept while paused or catching up; past this they are dropped and the table is read again instead."""
_FIRST_RETRY, _LAST_RETRY = 1.0, 30.0  # seconds
_REREAD_AT_ONCE = 50  # keys in one request: the URL must stay short
_PAGE = 50_000  # rows: one page is one moment in the database; servers cap this as they like
_REFILL_AFTER = 0.05  # seconds from a loss to the read that makes up for it; at least _REFILL_SHARE times as long as a
_REFILL_SHARE = 4.0  # read takes, so that reading stays a small part of the load however often rows leave the window
_VERIFY_SHARE = 50.0  # a table that must be compared as a whole is, at most for a fiftieth of the time
_BURST = 100  # changes a second: past this Supabase may leave out some, and says nothing (its limit for a project)
_QUIET, _QUIET_AT_MOST = 2.0, 30.0  # seconds without changes that end a burst; a longer one is not waited for
_HARD = frozenset(",()\"\\'")  # what the filter grammar would have to quote


class ChannelLike(Protocol):
    def add_changes(self, binding: ChangesBinding, sink: Any) -> Callable[[], object]: ...


class RestLike(Protocol):
    def select(self, table: str, **options: Any) -> AsyncIterator[Page]: ...

    async def describe(self, table: str, schema: str = "public") -> TableInfo: ...


class _Cut:
    """Which transactions the snapshot already holds. Commits stream in LSN order, so past its LSN nothing needs a
    look.
    """

    def __init__(self, lsn: int | None, snapshot: Snapshot | None) -> None:
        self.lsn = lsn
        self.snapshot = snapshot

    def passes(self, change: Change) -> bool:
        if self.lsn is None or change.lsn is None:
            return True
        if change.lsn >= self.lsn:
            return True
        return self.snapshot is not None and change.xid is not None and not self.snapshot.visible(change.xid)

    def done(self, change: Change) -> bool:
        return self.lsn is None or change.lsn is None or change.lsn >= self.lsn


class LiveTableEngine:
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
        self.channel = channel
        self.rest = rest
        self.table = table
        self.schema = schema
        self.filter = filter or None
        self.columns = None if columns is None else list(columns)
        self.order = order
        self.limit = limit
        self.key: tuple[str, ...] | None = (key,) if isinstance(key, str) else tuple(key) if key else None
        self.numeric: Literal["float", "decimal"] = numeric
        self.server_filter = server_filter
        self.verify_every = verify_every
        self.verify_rows = verify_rows
        self.append_only = append_only
        self.seed: Sequence[Row] | None = [] if events else seed
        self._events: Events | None = None
        self._wants_events = events
        self._gap_from: datetime | None = None
        self._missing: datetime | None = None
        """Since when changes are missing, of a table that cannot be read again."""
        self.repaired = 0
        """Rows that comparing with the database (`verify`) found to differ, so far; one that was on its way counts."""
        self.history = History(log_size)
        self.resume_lsn: int | None = None
        """See `client.aio.ResumingSink`."""
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
        self._types: dict[str, str] = {}
        self._matches: Callable[[Mapping[str, Any]], bool] | None = None
        self._filter_names: tuple[str, ...] = ()
        self._listeners: dict[int, Listener] = {}
        self._status_listeners: dict[int, StatusListener] = {}
        self._next = 0
        self._log: deque[tuple[datetime, Change]] = deque(maxlen=log_size)
        self._unregister: Callable[[], object] | None = None
        self._waiting: list[Change] | None = None
        """Changes since the subscription was confirmed, while a snapshot is being read; None when changes apply at
        once.
        """
        self._held: list[Change] = []
        self._overflow = False
        self._cut: _Cut | None = None
        self._ready = False
        self._reading: asyncio.Task[None] | None = None
        self._rereading: asyncio.Task[None] | None = None
        self._reread: dict[Key, None] = {}
        self._seen_by: list[set[Key]] = []
        """Keys of the changes that came while rows are read by key, for each such read."""
        self._slices = Slices(verify_rows)
        self._second = 0.0
        self._in_second = 0
        self._burst_from: float | None = None
        self._burst_over: asyncio.TimerHandle | None = None
        self._burst: asyncio.Task[None] | None = None
        self._verifier: asyncio.Task[None] | None = None
        self._refilling: asyncio.Task[None] | None = None
        self._read_took = 0.0  # seconds
        self._verifying = False

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
            self._verifier = asyncio.create_task(self._verify(self.verify_every))

    async def stop(self) -> None:
        """Stops following the table. Its rows stay readable."""
        if self._unregister is not None:
            done = self._unregister()
            self._unregister = None
            if inspect.isawaitable(done):
                await done
        running = (self._reading, self._rereading, self._verifier, self._refilling, self._burst)
        if self._burst_over is not None:
            self._burst_over.cancel()
        tasks = [task for task in running if task is not None]
        self._reading = self._rereading = self._verifier = self._refilling = self._burst = None
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
            self._overflow = False
            if self._ready:
                self._catch_up()
        elif held:
            self._take(held)

    async def _describe(self) -> bool:
        wait = _FIRST_RETRY
        while True:
            try:
                info = await self.rest.describe(self.table, self.schema)
                self._begin(info)
                return True
            except RealtimeError as error:
                if not error.retryable:
                    self._set_status("error", error)
                    return False
                self._set_status("connecting", error)
            await asyncio.sleep(wait)
            wait = min(wait * 2, _LAST_RETRY)

    def _begin(self, info: TableInfo) -> None:
        name = f"{self.schema}.{self.table}"
        key = self.key or tuple(info.key)
        columns, select = list(info.columns), self.columns
        if self._wants_events:
            key, columns = (), event_columns(info.columns)
            select = None if select is None else [columns[0].name, columns[1].name, *select]
            self.append_only, self.limit = True, self.limit or self._log.maxlen
        names = [column.name for column in columns]
        if not key and not self.append_only:
            raise RealtimeError(
                f"{name} has no primary key, so its changes cannot be told apart",
                code="NoPrimaryKey",
                hint=(
                    f"`alter table {name} add primary key (...)`, or name unique columns: "
                    f'LiveTable("{self.table}", key=...); or append_only=True, if its rows never change'
                ),
            )
        if not key and self.limit is not None and not self.order and not self._wants_events:
            raise RealtimeError(
                f"{name} has no primary key, so which rows are the last ones cannot be told",
                code="NoPrimaryKey",
                hint="give order= beside limit=, such as order='created_at.desc'",
            )
        for column in (*key, *(self.columns or ())):
            if names and column not in names:
                raise RealtimeError(
                    f"{name} has no column {column!r}",
                    code="UndefinedColumn",
                    hint=f"its columns are {', '.join(names)}",
                )
        if info.published is False:
            raise RealtimeError(
                f"{name} is not in the publication, so it sends no changes",
                code="TableNotPublished",
                hint=f"`alter publication supabase_realtime add table {name};`",
            )
        self._compile(info.columns)
        if self._wants_events:
            self._events = Events(self._matches, self._filter_names)
        self.key = key
        self._sort = parse_order(self.order)
        if self.limit is not None and self._sort:  # whole rows decide which are the first: rank every one of them
            named = {name for name, _ in self._sort}
            self._sort += tuple((name, False) for name in key if name not in named)
        for column, _ in self._sort:
            if names and column not in names:
                raise RealtimeError(
                    f"{name} has no column {column!r} to order by",
                    code="UndefinedColumn",
                    hint=f"its columns are {', '.join(names)}",
                )
        self._store = Store(
            columns,
            key,
            numeric=self.numeric,
            select=select,
            order=self._sort,
            limit=self.limit,
            append_only=self.append_only,
        )

    def _compile(self, columns: Sequence[Column]) -> None:
        self._types = {column.name: column.type for column in columns}
        if self.filter is None:
            return
        try:
            parsed = filters.parse(self.filter)
            self._matches = parsed.compile(self._types)
            self._filter_names = tuple(parsed.columns)
        except RealtimeError:
            raise
        except ValueError as error:
            raise RealtimeError(
                str(error), code="InvalidFilter", hint="write it as column=op.value, such as status=eq.open"
            ) from error

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
        busy = self._waiting is not None or self._held or self._overflow or self._reread or self._refilling is not None
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
            self._note_rate(len(changes))
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

    def _take(self, changes: Sequence[Change]) -> None:
        """Applies changes and tells the listeners."""
        store = self._store
        if store is None or not changes:
            return
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
        for change in changes:
            if change.errors and change.record is not None and not change.record and change.type != "DELETE":
                self._refused(change.errors)
        if self._matches is not None and self._events is None:
            changes = self._filtered(changes)
        for seen in self._seen_by:
            for change in changes:
                seen.add(self._key_of(change))
                if change.old_record and self.key and all(name in change.old_record for name in self.key):
                    seen.add(_key_in(change.old_record, self.key))  # under which it was known before
        if not changes:
            return
        delta = store.apply(changes)
        self.lag_ms = lag_ms(last.commit_timestamp, datetime.now(UTC))
        self._tell(delta, datetime.now(UTC) - timedelta(milliseconds=self.lag_ms or 0))
        if delta.columns_changed:
            if last.columns:
                self._types = {column.name: column.type for column in last.columns}
                self._recompile()
            if self.seed is None:
                self._catch_up()
                return
        if delta.reread or delta.unknown:
            self._read_again([*delta.reread, *delta.unknown])
        if store.short or (delta.unreadable and self.status != "error"):
            self._refill()

    def _refill(self) -> None:
        """Reads the table again, shortly: rows that we do not hold belong into it now, or a change lacked our key."""

        async def refill() -> None:
            await asyncio.sleep(max(_REFILL_AFTER, _REFILL_SHARE * self._read_took))
            self._refilling = None
            if self._ready and self._reading is None and not self.paused:
                self._catch_up(quietly=True)

        if self._refilling is None:
            self._refilling = asyncio.create_task(refill())

    def _recompile(self) -> None:
        try:
            self._compile([Column(name, kind) for name, kind in self._types.items()])
        except RealtimeError as error:
            self._set_status("error", error)

    def _refused(self, errors: list[str]) -> None:
        text = "; ".join(errors)
        if "401" in text:
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

    def _filtered(self, changes: Sequence[Change]) -> list[Change]:
        """The changes with the filter applied here: a row that stops matching is deleted."""
        matches, key, store = self._matches, self.key, self._store
        if matches is None or key is None or store is None:
            return list(changes)
        out: list[Change] = []
        for change in changes:
            record = change.record
            if change.type in ("DELETE", "TRUNCATE") or not record or any(name not in record for name in key):
                out.append(change)
                continue
            values: Mapping[str, Any] = record
            if any(name not in record for name in self._filter_names):
                # An unchanged TOASTed column is left out: what we hold of it still counts.
                known = store.row(self._key_of(change)) or {}
                values = {**known, **record}
                if any(name not in values for name in self._filter_names):
                    self._read_again([self._key_of(change)])
                    continue
            if matches(values):
                out.append(change)
                continue
            if not key:
                continue
            for old in (change.old_record, record):
                if old and all(name in old for name in key):
                    out.append(
                        Change(
                            "DELETE", change.schema, change.table, change.columns, old_record={n: old[n] for n in key}
                        )
                    )
        return out

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

    def _catch_up(self, *, quietly: bool = False) -> None:
        """Reads the table and joins it with what arrives meanwhile."""
        self._cancel_reading()
        self._verifying = False
        self._waiting = list(self._held) if self._held else []
        self._held.clear()
        self._overflow = False
        if not quietly:
            self._set_status("catching up", None)
        self._reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        wait = _FIRST_RETRY
        while True:
            began = time.monotonic()
            try:
                rows, cut = await self._snapshot()
                break
            except RealtimeError as error:
                if not error.retryable:
                    self._waiting = None
                    self._set_status("error", error)
                    return
                self._set_status("stale" if self.snapshot_at is not None else "catching up", error)
            await asyncio.sleep(wait)
            wait = min(wait * 2, _LAST_RETRY)
        store = self._store
        assert store is not None
        again = rows is None
        rows = rows or []
        self._missing, self._gap_from = self._missing or self._gap_from, None
        missed = None if self._missing is None else _missed(self._missing)
        # Converting many rows takes a while: off the loop, so that heartbeats and other tables go on.
        first = self.snapshot_at is None
        work = store.load if first else store.upsert if again else store.resync
        delta = await asyncio.to_thread(work, rows) if len(rows) > 5_000 else work(rows)
        store.more(self.limit is not None and len(rows) >= self.limit)
        self._read_took = time.monotonic() - began
        if self._verifying and delta:
            self.repaired += delta.size
            log.info("%s.%s: %d rows differed from the database's", self.schema, self.table, delta.size)
        self._verifying = False
        self.snapshot_at = datetime.now(UTC)
        self._cut = cut
        waiting, self._waiting = self._waiting or [], None
        overflow, self._overflow = self._overflow, False
        self._reading = None
        self._tell(delta)
        if overflow:
            self._catch_up()
            return
        if self.paused:
            self._held = [*waiting, *self._held]
        else:
            self._take(waiting)
        if self._reading is None and (self.status != "error" or (self.error is not None and self.error.retryable)):
            self._set_status("live", missed)  # unless what waited has itself asked for another read

    async def _snapshot(self) -> tuple[list[Row] | None, _Cut | None]:
        """All rows, and which transactions the oldest page holds: those after it may come twice, which does no harm.
        None where they cannot be read again."""
        if self.seed is not None:
            return (list(self.seed) if self.snapshot_at is None else None), None
        rows: list[Row] = []
        cut: _Cut | None = None
        # The table sorts by itself, so the server need not, and pages go by key. Only a limit makes its order matter:
        # without one of the table's own, the last rows by key are the best guess at those that arrived last.
        sort: Sort = ()
        if self.limit is not None:
            sort = self._sort or tuple((name, True) for name in self.key or ())
        order = ",".join(f"{name}.{'desc' if down else 'asc'}" for name, down in sort) or None
        pages = self.rest.select(self.table, **self._options(), order=order, limit=self.limit, page_size=_PAGE)
        total: int | None = None
        try:
            async for page in pages:
                if cut is None:
                    cut, total = _Cut(page.lsn, page.snapshot), page.total
                rows.extend(page.rows)
                self.progress = (len(rows), total)
                if self.on_progress is not None:
                    self.on_progress()
        finally:
            self.progress = None
        if self.limit is not None and not self._sort:
            rows.reverse()
        return rows, cut if cut is not None and cut.lsn is not None else None

    def _options(self) -> dict[str, Any]:
        key = self.key or ()
        columns = None
        if self.columns is not None:
            columns = list(dict.fromkeys((*key, *self.columns)))
        return {"schema": self.schema, "columns": columns, "filter": self.filter, "key": key}

    def _read_again(self, keys: Sequence[Key]) -> None:
        """Reads rows by key: those of changes that came without all their values."""
        self._reread.update(dict.fromkeys(keys))
        if self._rereading is None or self._rereading.done():
            self._rereading = asyncio.create_task(self._read_keys())

    async def _read_keys(self) -> None:
        store, key = self._store, self.key
        if store is None or key is None:
            return
        while self._reread:
            await asyncio.sleep(0)
            keys = list(self._reread)[:_REREAD_AT_ONCE]
            for one in keys:
                del self._reread[one]
            tests = _key_filters(key, keys)
            if tests is None:  # values that a filter cannot say: read everything instead
                self._catch_up(quietly=True)
                return
            read = await self._read_where(tests)
            if read is None:
                return
            # A row that changed while we read may be older here than in the table: it is read once more.
            found, seen = read
            self._reread.update((one, None) for one in keys if one in seen and one in store)
            delta = store.upsert([row for one, row in found.items() if one not in seen])
            self._tell(delta)
            self._tell(store.remove([one for one in keys if one not in found and one not in seen]))

    async def _read_where(self, tests: Sequence[str]) -> tuple[dict[Key, Row], set[Key]] | None:
        """The rows of each of these tests by key, and the keys of which changes came meanwhile; None where the read
        failed.
        """
        assert self.key is not None
        seen = set[Key]()
        self._seen_by.append(seen)
        found: dict[Key, Row] = {}
        try:
            for test in tests:
                options = self._options()
                options["filter"] = ",".join(part for part in (self.filter, test) if part) or None
                async for page in self.rest.select(self.table, **options):
                    found.update((_key_in(row, self.key), row) for row in page.rows)
        except RealtimeError as error:
            log.warning("rows of %s could not be read again: %s", self.table, error)
            return None
        finally:
            self._seen_by.remove(seen)
        return found, seen

    async def verify(self) -> None:
        """Reads the table again, now, and applies what differs."""
        if self.seed is not None:
            return
        if self.status == "live" and self._ready and self._reading is None and not self.paused:
            self._catch_up(quietly=True)
            self._verifying = True
            if self._reading is not None:
                await asyncio.wait([self._reading])

    async def _verify(self, every: float) -> None:
        last, pause = time.monotonic(), every
        while True:
            await asyncio.sleep(max(pause - (time.monotonic() - last), 0.01))
            last, pause = time.monotonic(), every
            if len(self.store) <= self.verify_rows:
                await self.verify()
            elif self.limit is None and Slices.fit(self.store):
                await self._verify_slice()
            else:
                await self.verify()
                pause = max(every, _VERIFY_SHARE * self._read_took)

    async def _verify_slice(self) -> None:
        """Compares the next rows by key with the database's."""
        store = self._store
        if store is None or self.seed is not None or self.status != "live" or self._reading is not None or self.paused:
            return
        piece = await asyncio.to_thread(self._slices.next, store)
        read = await self._read_where([piece.test])
        if read is None or self._reading is not None or not self._ready or self.paused:
            return
        found, seen = read
        came = store.upsert([row for key, row in found.items() if key not in seen])
        went = store.remove([key for key in piece.keys if key not in found and key not in seen])
        differed = came.size + went.size
        if differed:
            self.repaired += differed
            log.info("%s.%s: %d rows differed from the database's", self.schema, self.table, differed)
        self._tell(came)
        self._tell(went)

    def _note_rate(self, count: int) -> None:
        """Finds bursts of which a server that does not number its changes may have left out some."""
        now = time.monotonic()
        if now - self._second > 1:
            self._second, self._in_second = now, 0
        self._in_second += count
        if self._in_second > _BURST:
            began = self._burst_from = self._burst_from or now
            if self._burst_over is not None:
                self._burst_over.cancel()
            wait = max(min(_QUIET, began + _QUIET_AT_MOST - now), 0.0)
            if len(self.store) > self.verify_rows:
                wait = max(wait, _VERIFY_SHARE * self._read_took)
            self._burst_over = asyncio.get_running_loop().call_later(wait, self._verify_burst)

    def _verify_burst(self) -> None:
        self._burst_from = self._burst_over = None
        if self._burst is None or self._burst.done():
            self._burst = asyncio.create_task(self.verify())


def _missed(since: datetime) -> RealtimeError:
    return RealtimeError(
        f"changes since {since.astimezone():%H:%M:%S} may be missing: the line was broken, and this table has no "
        "source to be read again from",
        code="Gap",
        hint="leave source= out, or give a DSN, and it heals itself",
    )


def _key_in(row: Row, key: tuple[str, ...]) -> Key:
    return row[key[0]] if len(key) == 1 else tuple(row[name] for name in key)


def _key_filters(key: tuple[str, ...], keys: list[Key]) -> list[str] | None:
    """Filters that together name these keys; None where a value has characters that the grammar would need quoted."""
    texts = [[str(part) for part in (one if len(key) > 1 else (one,))] for one in keys]
    if any(_HARD.intersection(text) or not text for row in texts for text in row):
        return None
    if len(key) == 1:
        return [f"{key[0]}=in.({','.join(row[0] for row in texts)})"]
    return [",".join(f"{name}=eq.{text}" for name, text in zip(key, row, strict=True)) for row in texts]


def _register(listeners: dict[int, Any], fn: Any) -> Callable[[], None]:
    token = max(listeners, default=0) + 1
    listeners[token] = fn

    def unregister() -> None:
        listeners.pop(token, None)

    return unregister
