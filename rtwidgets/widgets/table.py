"""`LiveTable`: a database table as a live grid and as an ordinary DataFrame."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

import pandas as pd
import traitlets

from ..client.connect import default_client
from ..client.dispatch import dispatch
from ..client.dsn import DsnSource
from ..client.notebook import Channel, Client
from ..client.snapshot_source import SnapshotSource
from ..client.thread import io_loop, on_io_thread, run, submit
from ..data.dataframes import records
from ..data.delta import Delta
from ..data.follower import TableFollower
from ..data.snapshot import EmptySource, FrameSource
from ..data.store import Store
from ..protocol.errors import RealtimeError
from .base import View, paragraph, there, unregister_all
from .grid import Grid
from .groups import Grouping
from .tick import tick


class ChangeBatch:
    """What one batch of changes did, for `LiveTable.on_change`.

    Rows are dicts of Python values; nothing is built before it is read.
    """

    def __init__(self, delta: Delta) -> None:
        self._delta = delta
        self.revision: int = delta.revision

    def __repr__(self) -> str:
        delta = self._delta
        return (
            f"<ChangeBatch {len(delta.inserted)} inserted, {len(delta.updated)} updated, {len(delta.deleted)} deleted>"
        )

    @cached_property
    def inserted(self) -> list[dict[str, Any]]:
        """The new rows."""
        return self._delta.inserted_rows()

    @cached_property
    def updated(self) -> list[tuple[Any, dict[str, Any], dict[str, Any]]]:
        """(key, before, after), each holding only the columns whose values differ."""
        return list(self._delta.updated_rows())

    @cached_property
    def deleted(self) -> list[dict[str, Any]]:
        """The rows that went, as they were last."""
        return self._delta.deleted_rows()


class LiveTable(Grid):
    """A table of the database, kept equal to what `SELECT` would give this user a moment ago.

    Args:
        table: its name.
        schema: its schema.
        filter: `column=op.value`, several joined by commas (`"status=eq.open,amount=gt.10"`).
        columns: the columns wanted; None for all. The key is always among them.
        order: column to order by, `"amount desc"` for descending; None for order of arrival.
        limit: most rows to hold.
        key: key column or columns where the table's own primary key is not wanted.
        numeric: `"float"`, or `"decimal"` for exact `decimal.Decimal` values in numeric columns.
        client: the client; default the last `rt.connect()` or `rt.local()`.
        channel: a channel to share; default one of the table's own.
        verify_every: seconds between two comparisons with the database; None for none. Of a table with more than 20,000
            rows, as many are compared each time, the next ones by key.
        append_only: a log whose rows never change: it needs no primary key, and rows are numbered as they come.
        history: changes to remember, for `changes` and `at`.
        source: where the rows come from before the changes: None for the project's REST API; a Postgres DSN
            (`"postgresql://..."`), read with COPY; a DataFrame; or `"events"` for nothing: a log of what happens from
            now on, a row a change, of `limit` rows or as many as `history`. After a gap, a DataFrame or `"events"`
            cannot be read again: the rows stay, and `error` says that some may be missing.

    A table that does not exist, is not published or has no primary key is no exception: `status` is `"error"`,
    `error` says what to do, and rows that were there stay. Raises ValueError for an option that makes no sense whatever
    the table is.
    """

    status = traitlets.Unicode("connecting", read_only=True).tag(sync=True)
    """`"connecting"`, `"catching up"`, `"live"`, `"stale"` (may have missed something; heals itself), `"error"` or
    `"closed"`."""
    error = traitlets.Unicode("", read_only=True).tag(sync=True)
    """What is wrong and what to do, in one paragraph; empty while nothing is."""
    lag_ms = traitlets.Float(None, allow_none=True, read_only=True).tag(sync=True)
    """Milliseconds from the last change's commit until it was in the table."""
    paused = traitlets.Bool(False, read_only=True).tag(sync=True)
    """Whether changes wait instead of showing."""

    def __init__(
        self,
        table: str,
        *,
        schema: str = "public",
        filter: str | None = None,
        columns: Sequence[str] | None = None,
        order: str | None = None,
        limit: int | None = None,
        key: str | Sequence[str] | None = None,
        numeric: str = "float",
        client: Client | None = None,
        channel: Channel | None = None,
        verify_every: float | None = 300.0,
        append_only: bool = False,
        history: int = 10_000,
        source: str | pd.DataFrame | None = None,
    ) -> None:
        if numeric not in ("float", "decimal"):
            raise ValueError(f'numeric is "float" or "decimal", not {numeric!r}')
        if isinstance(source, str) and source != "events" and "://" not in source and "=" not in source:
            raise ValueError('source is a DSN ("postgresql://user:password@host/db"), a DataFrame or "events"')
        client = client or (channel.client if channel is not None else default_client())
        self.channel = channel or Channel(f"rtwidgets:{schema}.{table}", client=client)
        self.table, self.schema = table, schema
        self._since_rate = self._rate = 0
        self._rate_at = 0.0
        self._changed_at: int | None = None
        super().__init__()
        options: dict[str, Any] = {
            "schema": schema,
            "filter": filter,
            "columns": columns,
            "order": order,
            "limit": limit,
            "key": key,
            "numeric": numeric,
            "verify_every": verify_every,
            "append_only": append_only,
            "log_size": history,
        }
        self.follower: TableFollower = run(self._begin(client, source, options), 30)

    async def _begin(self, client: Client, source: str | pd.DataFrame | None, options: dict[str, Any]) -> TableFollower:
        events = isinstance(source, str) and source == "events"
        rows: SnapshotSource = client.aio.rest
        if isinstance(source, pd.DataFrame):
            rows = FrameSource(records(source), rows)
        elif source is not None:
            rows = EmptySource(rows) if events else DsnSource(source)
        follower = TableFollower(self.channel.aio, rows, self.table, events=events, **options)
        self._registered: list[Callable[[], Any]] = [follower.on_delta(self._took), follower.on_status(self._now_is)]
        follower.on_progress = lambda: tick.mark(self)
        self.follower = follower
        self._starting = io_loop().create_task(self._start())
        return follower

    async def _start(self) -> None:
        await self.follower.start()
        if not self._closed and self.follower.status != "error":
            self._registered.append(self.channel.aio.hold())

    def __repr__(self) -> str:
        return f"<LiveTable {self.schema}.{self.table}: {len(self.follower.store)} rows, {self.follower.status}>"

    # --- what it holds

    @property
    def store(self) -> Store:
        """The rows, column by column. Safe to read from any thread."""
        return self.follower.store

    @property
    def df(self) -> pd.DataFrame:
        """The rows, true as of now.

        It never changes after you got it; asking again while nothing changed costs nothing.
        """
        return self.follower.store.df()

    @property
    def ready(self) -> bool:
        """Whether the table has been read once: before, `df` is empty for want of an answer, not of rows."""
        return self.follower.snapshot_at is not None

    @property
    def snapshot_at(self) -> datetime | None:
        """When the table was last read whole."""
        return self.follower.snapshot_at

    @property
    def changes(self) -> pd.DataFrame:
        """The last changes: when, which kind, which key."""
        return self.follower.changes

    # --- what happens

    def wait_live(self, timeout: float = 30.0) -> LiveTable:
        """Waits until the table is live.

        Raises RealtimeError with what to do if it cannot be, TimeoutError after `timeout` seconds.
        """
        run(self.follower.wait_live(timeout), timeout + 5)
        there(self._refresh)  # else `count` would be that of the last tick
        return self

    def verify(self, timeout: float = 60.0) -> LiveTable:
        """Compares the table with the database now, and applies what differs, instead of at the next `verify_every`.

        What no change tells is found so: rows that a policy hides from now on, a `TRUNCATE`, changes that the server
        dropped. Nothing happens while the table is not live, or paused. Raises TimeoutError after `timeout` seconds.
        """
        run(self.follower.verify(), timeout)
        there(self._refresh)
        return self

    def group_by(self, by: str | list[str]) -> Grouping:
        """Groups that follow the table: `orders.group_by("region").agg(total=("amount", "sum"), n=("id", "count"))`.

        Each batch of changes costs what it touches. Rows whose group is null are left out, as pandas leaves them out.
        """
        return Grouping(self, by)

    def at(self, time: datetime | str) -> pd.DataFrame:
        """The rows as they were at an earlier time, by the commit times of the changes since.

        Args:
            time: with a zone, or that of this machine; a text such as `"2026-01-31 12:00"` too.

        Raises ValueError where that is longer ago than the changes that are remembered (`history=`), or in the future.
        """
        asked = moment_of(time)
        if asked > datetime.now(UTC):
            raise ValueError(f"{time} is yet to come")
        history = self.follower.history
        try:
            return history.at(self.follower.store, asked)
        except LookupError:
            since = "it has been read" if history.since is None else f"{history.since.astimezone():%Y-%m-%d %H:%M:%S}"
            raise ValueError(
                f"{self.table} is remembered from when {since} on, not at {time}. "
                f"To remember more changes, make it with history= more than {history.most:,}"
            ) from None

    def on_change(self, fn: Callable[[ChangeBatch], Any]) -> Callable[[], None]:
        """Calls `fn` with each batch of changes, on the kernel's main thread. Returns a function that unregisters."""

        def hear(delta: Delta) -> None:
            if delta:
                dispatch(fn, ChangeBatch(delta))

        unregister = self.follower.on_delta(hear)
        self._registered.append(unregister)
        return unregister

    def pause(self) -> None:
        """Holds changes back: the rows stay as they are until `resume()`."""
        self._on_loop(self.follower.pause)
        self.set_trait("paused", True)
        tick.mark(self)

    def resume(self) -> None:
        """Applies what waited, and goes on."""
        self._on_loop(self.follower.resume)
        self.set_trait("paused", False)
        tick.mark(self)

    def _on_loop(self, fn: Callable[[], Any]) -> None:
        if on_io_thread():
            fn()
        else:
            io_loop().call_soon_threadsafe(fn)

    def _release(self) -> None:
        submit(self.follower.stop())
        there(unregister_all, self._registered)
        self.set_trait("status", "closed")

    # --- on the I/O thread

    def _took(self, delta: Delta) -> None:
        if not delta.reset:  # else the table was read: when its rows changed is not known
            self._changed_at = round(time.time() * 1000)
            self._since_rate += delta.size
        tick.mark(self)

    def _now_is(self, status: str, error: RealtimeError | None) -> None:
        tick.mark(self)

    def _tick(self, now: float) -> bool:
        self._refresh()
        if now - self._rate_at >= 1:
            # Over a second at least: a figure that jumps with each tick cannot be read.
            self._rate = round(self._since_rate / min(now - self._rate_at, 2.0))
            self._rate_at, self._since_rate = now, 0
        moving = self._rate > 0 or self._since_rate > 0 or self.paused
        return super()._tick(now) or moving

    def _refresh(self) -> None:
        follower = self.follower
        store = follower.store
        problem = paragraph(follower.error)
        with self.hold_sync():
            if not self._closed:
                self.set_trait("status", follower.status)
            self.set_trait("error", problem)
            self.set_trait("lag_ms", follower.lag_ms)
            self.set_trait("count", len(store))
            changed = store.revision != self.revision
            if changed:
                self.set_trait("revision", store.revision)
        if changed:
            self._announce_df()

    def _state(self) -> dict[str, Any]:
        follower = self.follower
        return {
            "status": follower.status,
            "error": paragraph(follower.error),
            "paused": self.paused,
            "waiting": follower.waiting,
            "lag": None if follower.lag_ms is None else round(follower.lag_ms),
            "rate": self._rate,
            "changed": self._changed_at,
            "note": _progress(follower.progress),
        }

    def _title(self) -> str:
        return self.table if self.schema == "public" else f"{self.schema}.{self.table}"

    def _asked(self, view: View, kind: Any, content: dict[str, Any]) -> None:
        if kind == "pause":
            self.pause()
        elif kind == "resume":
            self.resume()
        else:
            super()._asked(view, kind, content)


def moment_of(time: datetime | str) -> datetime:
    """The moment that is meant, in UTC; a time without a zone is this machine's. Raises ValueError for no time."""
    moment = pd.Timestamp(time)
    if moment.tzinfo is None:
        moment = moment.tz_localize(datetime.now().astimezone().tzinfo)
    found = moment.tz_convert("UTC").to_pydatetime()
    if not isinstance(found, datetime):
        raise ValueError(f"{time!r} is no time")
    return found


def _progress(progress: tuple[int, int | None] | None) -> str:
    """How far a long read has come."""
    if progress is None:
        return ""
    read, total = progress
    return f"{read:,} rows read" if total is None else f"{read:,} of {total:,} rows read"
