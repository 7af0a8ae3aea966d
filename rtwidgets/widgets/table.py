"""`LiveTable`: a database table as a live grid and as an ordinary DataFrame."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Literal, cast

import pandas as pd
import traitlets

from ..client.callbacks import Unregister
from ..client.connect import default_client
from ..client.dsn import DsnSource
from ..client.log import logger
from ..client.notebook import Channel, Client
from ..client.snapshot_source import SnapshotSource
from ..client.thread import run
from ..client.twin import made_before_fork
from ..data.dataframes import records
from ..data.delta import Delta
from ..data.follower import TableFollower
from ..data.request import LOG_SIZE, MAX_ROWS, VERIFY_EVERY
from ..data.snapshot import EmptySource, FrameSource
from ..data.store import Store
from ..protocol.errors import RealtimeError
from ..protocol.filters import Filter
from .change_batch import ChangeBatch, ChangeFeed, RowsOfNow
from .checks import channel_of, check_bool, check_callback, check_count, check_positive, check_text, paragraph
from .grid import Grid
from .groups import Grouping
from .shared_follower import SharedFollower
from .sources import RowSource
from .threads import call_on_io, post_to_io
from .tick import tick
from .views import View

RATE_OVER = 1.0
"""Least seconds over which changes a second are counted: a figure that changes with each tick cannot be read."""


class LiveTable(Grid, RowSource):
    """A table of the database, kept up to date: equal to what `SELECT` would have given this user a moment ago.

    Tables with the same arguments in one process share their rows: a second one costs nothing, and each is closed by
    itself. A pause is one of the rows, so it is theirs together.

    Args:
        table: its name.
        schema: its schema.
        filter: `"column=op.value"`, several joined by commas (`"status=eq.open,amount=gt.10"`), or what `rt.where`
            returns.
        columns: the columns wanted; None for all. The key columns are always included.
        order: the column to order by, `"amount desc"` for descending, several joined by commas; None for the order of
            arrival.
        limit: the most rows to keep, the first by `order`.
        max_rows: the most rows to load: of a table that has more none is loaded, and `error` says how many it has and
            what helps. None for no such bound.
        key: the key column or columns, where the table's own primary key is not wanted.
        numeric: `"float"`, or `"decimal"` for exact `decimal.Decimal` values in numeric columns.
        client: the client; default the last `rt.connect()` or `rt.local()`.
        channel: a channel, or a topic, to share; default one of the table's own.
        verify_every: seconds between checks against the database; None disables them. Larger tables are checked
            20,000 rows at a time, in key order.
        append_only: a log whose rows never change: it needs no primary key, and rows are numbered as they arrive.
        history: the number of changes to remember, for `changes` and `at`.
        source: where rows are read before changes are followed. None: the project's REST API. A Postgres DSN
            (`"postgresql://..."`): read with COPY. A DataFrame: its rows. `"events"`: nothing is read, and the table
            becomes a log of changes from now on, one row a change, of `limit` rows (default: `history`). A DataFrame
            or `"events"` cannot be read again after a gap: the rows stay, and `error` says that some may be missing.

    A missing, unpublished or keyless table does not raise: `status` becomes `"error"`, `error` says how to fix it, and
    rows already read stay. Raises TypeError or ValueError for an argument of the wrong type or value.
    """

    status = traitlets.Unicode(
        "connecting",
        read_only=True,
        help='`"connecting"`, `"catching up"`, `"live"`, `"stale"` (may have missed changes; recovers without help), '
        '`"error"` or `"closed"`.',
    ).tag(sync=True)
    lag_ms = traitlets.Float(
        None,
        allow_none=True,
        read_only=True,
        help="Milliseconds from the last change's commit until it was applied; None before the first.",
    ).tag(sync=True)
    paused = traitlets.Bool(False, read_only=True, help="Whether changes wait instead of showing.").tag(sync=True)

    def __init__(
        self,
        table: str,
        *,
        schema: str = "public",
        filter: str | Filter | None = None,
        columns: Sequence[str] | None = None,
        order: str | None = None,
        limit: int | None = None,
        key: str | Sequence[str] | None = None,
        numeric: Literal["float", "decimal"] = "float",
        client: Client | None = None,
        channel: Channel | str | None = None,
        verify_every: float | None = VERIFY_EVERY,
        append_only: bool = False,
        history: int = LOG_SIZE,
        max_rows: int | None = MAX_ROWS,
        source: str | pd.DataFrame | None = None,
    ) -> None:
        self.table = check_text(table, 'table, the name of a table such as "orders",')
        self.schema = check_text(schema, 'schema, such as "public",')
        if filter is not None and not isinstance(filter, str | Filter):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f'filter must be a str such as "status=eq.open", or from rt.where(), not {filter!r:.200}')
        if order is not None:
            check_text(order, 'order, such as "created_at desc",')
        if numeric not in ("float", "decimal"):  # pyright: ignore[reportUnnecessaryContains]
            raise ValueError(f'numeric must be "float" or "decimal", not {numeric!r}')
        options: dict[str, Any] = {
            "schema": schema,
            "filter": filter,
            "columns": None if columns is None else _names(columns, "columns"),
            "order": order,
            "limit": None if limit is None else check_count(limit, "limit, the most rows to keep,"),
            "key": key if key is None or isinstance(key, str) else _names(key, "key"),
            "numeric": numeric,
            "verify_every": None if verify_every is None else check_positive(verify_every, "verify_every, in seconds,"),
            "append_only": check_bool(append_only, "append_only"),
            "max_rows": None if max_rows is None else check_count(max_rows, "max_rows, the most rows to load,"),
            "log_size": check_count(history, "history, the number of changes to remember,"),
        }
        if isinstance(channel, Channel | str):
            self.channel = channel_of(channel, client)
        else:
            self.channel = Channel(f"rtwidgets:{schema}.{table}", client=client or default_client())
        self._rate = _Rate()
        self._problem: RealtimeError | None = None
        super().__init__()
        self._last: pd.DataFrame | None = None
        """The rows when it was closed, where others go on following them."""
        self.follower: TableFollower
        self._shared = run(self._share_follower(_checked_source(source), options), 30)

    async def _share_follower(self, source: str | pd.DataFrame | None, options: dict[str, Any]) -> SharedFollower:
        channel, events = self.channel.aio, isinstance(source, str) and source == "events"

        def make() -> TableFollower:
            rows: SnapshotSource = self.channel.client.aio.rest
            if isinstance(source, pd.DataFrame):
                rows = FrameSource(records(source), rows)
            elif source is not None:
                rows = EmptySource(rows) if events else DsnSource(source)
            return TableFollower(channel, rows, self.table, events=events, **options)

        # What begins at a moment of its own, or with rows of its own, is like no other.
        alike = not events and not isinstance(source, pd.DataFrame)
        key = (channel, self.table, source, str(options["filter"]), repr(options | {"filter": None})) if alike else None
        shared = SharedFollower.of(key, channel, make)
        follower = self.follower = shared.follower
        self._registered += [
            follower.on_delta(self._count),
            follower.on_status(lambda status, error: tick.mark(self)),
            shared.progressed.add(lambda: tick.mark(self)),
            shared.paused.add(self._note_paused),
        ]
        self._note_paused(follower.paused)
        shared.starting.add_done_callback(self._note_started)
        return shared

    def _note_started(self, started: asyncio.Task[None]) -> None:
        error = None if started.cancelled() else started.exception()
        if error is None:
            return
        logger.error("%r could not start", self, exc_info=error)
        self._problem = RealtimeError(
            f"{self.schema}.{self.table} could not be started ({type(error).__name__}: {error})",
            code="StartFailed",
            hint="check the table's and schema's names and the arguments; rt.doctor() tests each step",
        )
        tick.mark(self)

    def __repr__(self) -> str:
        return f"<LiveTable {self.schema}.{self.table}: {len(self.follower.store)} rows, {self._status()}>"

    # --- what it holds

    @property
    def name(self) -> str:
        """The table's name, with its schema where that is not `public`."""
        return self.table if self.schema == "public" else f"{self.schema}.{self.table}"

    @property
    def store(self) -> Store:
        """The rows, column by column. Safe to read from any thread."""
        return self.follower.store

    @property
    def df(self) -> pd.DataFrame:
        """The rows as a DataFrame that is always up to date.

        A frame never changes after it was returned; reading it again while nothing changed costs nothing.
        """
        return self.follower.store.df() if self._last is None else self._last

    @property
    def ready(self) -> bool:
        """Whether the table has been read once: before that, `df` is empty because nothing was received yet."""
        return self.follower.snapshot_at is not None

    @property
    def snapshot_at(self) -> datetime | None:
        """When the whole table was last read."""
        return self.follower.snapshot_at

    @property
    def changes(self) -> pd.DataFrame:
        """The last changes: when, of which kind, to which key."""
        return self.follower.changes

    # --- following

    def wait_live(self, timeout: float = 30.0) -> LiveTable:
        """Waits until the table is live; returns it.

        Raises RealtimeError with a hint if it cannot be, TimeoutError after `timeout` seconds.
        """
        self._check_started()
        if self._closed:  # others may go on with the follower
            raise RealtimeError("the table was closed", code="Closed", hint="make a new one")
        run(self.follower.wait_live(timeout), timeout + 5)
        call_on_io(self._refresh)  # else `count` would be that of the last tick
        return self

    def verify(self, timeout: float = 60.0) -> LiveTable:
        """Compares the table with the database now, instead of at the next `verify_every`, and applies the differences;
        returns the table.

        This finds what no change reports: rows that a policy hides from now on, a `TRUNCATE`, changes that the server
        dropped. Does nothing while the table is not live, paused or closed. Raises RealtimeError if the table could not
        be started or was made before a fork, TimeoutError after `timeout` seconds.
        """
        self._check_started()
        if not self._closed:
            run(self.follower.verify(), timeout)
            call_on_io(self._refresh)
        return self

    def _check_started(self) -> None:
        if self._problem is not None:
            raise self._problem

    def _on_fork(self) -> None:
        super()._on_fork()
        self._problem = made_before_fork()

    def group_by(self, by: str | Sequence[str]) -> Grouping:
        """Groups that follow the table: `orders.group_by("region").agg(total=("amount", "sum"), n=("id", "count"))`.

        Each batch of changes costs what it touches. Rows whose group is null are left out, as pandas leaves them out.
        """
        return Grouping(self, by)

    def at(self, time: datetime | str) -> pd.DataFrame:
        """The rows as they were at an earlier time, by the commit times of the changes since.

        Args:
            time: a datetime, or a text such as `"2026-01-31 12:00"`; without a zone, in this machine's.

        Raises ValueError for a time in the future, or before the oldest change remembered (`history=`).
        """
        moment = moment_of(time)
        if moment > datetime.now(UTC):
            raise ValueError(f"{time} is in the future")
        history = self.follower.history
        try:
            return history.at(self.follower.store, moment)
        except LookupError:
            since = "it was read" if history.since is None else f"{history.since.astimezone():%Y-%m-%d %H:%M:%S}"
            raise ValueError(
                f"changes of {self.table} are remembered from when {since} on, and {time} is before that. "
                f"To remember more changes, make the table with history= above {history.most:,}"
            ) from None

    def on_change(self, fn: Callable[[ChangeBatch], Any], *, initial: bool = False) -> Unregister:
        """Calls `fn(batch)` with each batch of changes, on the kernel's main thread, between cells.

        With `initial`, the first batch has the rows of now, and every change after it follows: none is left out, and
        none comes twice. Returns a function that unregisters.
        """
        check_callback(fn)
        feed = ChangeFeed(lambda: self.store, self._callback(fn), initial=check_bool(initial, "initial"))
        unregister = self.on_delta(feed.deliver)
        if initial:
            post_to_io(feed.start, RowsOfNow(self.store))
        return unregister

    def on_delta(self, fn: Callable[[Delta], object]) -> Unregister:
        """Calls `fn(delta)` on the I/O thread with each difference between two revisions of `store`. Returns a function
        that unregisters. After `close` it is called no more."""
        unregister = self.follower.on_delta(fn)
        if self._closed:
            unregister()
        self._registered.append(unregister)
        return unregister

    def pause(self) -> None:
        """Keeps the rows as they are until `resume()`; changes wait. So do those of other tables with the same
        arguments, which are the same rows."""
        self._set_paused(True)

    def resume(self) -> None:
        """Applies the changes that waited, and goes on."""
        self._set_paused(False)

    def _set_paused(self, paused: bool) -> None:
        if self._closed:
            return
        post_to_io(self._shared.pause, paused)
        self._note_paused(paused)

    def _note_paused(self, paused: bool) -> None:
        if paused != self.paused:
            self.set_trait("paused", paused)
            self._emit()
        tick.mark(self)

    # --- on the I/O thread

    def _release(self) -> None:
        if not self._shared.alone:
            self._last = self.follower.store.df()
        self._shared.release()

    def _count(self, delta: Delta) -> None:
        if self.ready and not delta.reset:  # when the rows changed that are loaded is not known
            self._rate.add(delta.size)
        tick.mark(self)

    def _tick(self, now: float) -> bool:
        moving = self._rate.update(now)
        return super()._tick(now) or moving or self.paused

    def _status(self) -> str:
        if self._closed:
            return "closed"
        return self.follower.status if self._problem is None else "error"

    def _error(self) -> str:
        return paragraph(self._problem or self.follower.error)

    def _traits_now(self) -> dict[str, Any]:
        store = self.follower.store
        return {
            "status": self._status(),
            "error": self._error(),
            "lag_ms": self.follower.lag_ms,
            "count": len(store),
            "revision": store.revision,
        }

    def _state(self) -> dict[str, Any]:
        follower = self.follower
        return {
            "status": self._status(),
            "error": self._error(),
            "paused": self.paused,
            "waiting": follower.waiting,
            "lag": None if follower.lag_ms is None else round(follower.lag_ms),
            "rate": self._rate.per_second,
            "changed": self._rate.changed_at,
            "note": _progress(follower.progress) or self.callback_log.note,
        }

    def _on_message(self, view: View, kind: str, content: Mapping[str, Any]) -> None:
        if kind in ("pause", "resume"):
            self._set_paused(kind == "pause")
        else:
            super()._on_message(view, kind, content)


class _Rate:
    """Changes a second, and when the last one was."""

    def __init__(self) -> None:
        self.per_second = 0
        self.changed_at: int | None = None
        """Unix time in ms; None before the first change."""
        self._count = 0
        self._since = 0.0

    def add(self, count: int) -> None:
        self.changed_at = round(time.time() * 1000)
        self._count += count

    def update(self, now: float) -> bool:
        """Counts anew where it is time; whether there is something to count."""
        if now - self._since >= RATE_OVER:
            self.per_second = round(self._count / min(now - self._since, 2 * RATE_OVER))
            self._since, self._count = now, 0
        return self.per_second > 0 or self._count > 0


def moment_of(time: datetime | str) -> datetime:
    """The moment, in UTC; a time without a zone is in this machine's. Raises ValueError for anything else."""
    moment = pd.Timestamp(time)
    if moment.tzinfo is None:
        moment = moment.tz_localize(datetime.now().astimezone().tzinfo)
    if moment is pd.NaT:
        raise ValueError(f"{time!r} is not a time")
    return moment.tz_convert("UTC").to_pydatetime()


def _names(value: object, what: str) -> list[str]:
    """The value, if it is a list of column names."""
    names = None if isinstance(value, str) or not isinstance(value, Sequence) else cast("Sequence[object]", value)
    if names is None or not all(isinstance(name, str) for name in names):
        raise TypeError(f'{what} must be a list of column names, such as ["id", "amount"], not {value!r:.200}')
    return [str(name) for name in names]


def _checked_source(source: object) -> str | pd.DataFrame | None:
    if source is None or isinstance(source, pd.DataFrame):
        return source
    if isinstance(source, str) and (source == "events" or "://" in source or "=" in source):
        return source
    error = TypeError if not isinstance(source, str) else ValueError
    raise error('source must be a DSN ("postgresql://user:password@host/db"), a DataFrame or "events"')


def _progress(progress: tuple[int, int | None] | None) -> str:
    """How many rows a long read has received."""
    if progress is None:
        return ""
    read, total = progress
    return f"{read:,} rows read" if total is None else f"{read:,} of {total:,} rows read"
