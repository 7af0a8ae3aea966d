"""`record()`: writes the changes of tables and the messages of topics to a file, on the I/O thread."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import weakref
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, cast

from ..client.client import AsyncClient
from ..client.connect import default_client
from ..client.log import logger
from ..client.notebook import Channel, Client
from ..client.snapshot_source import Page
from ..client.thread import io_loop, on_io_thread, run
from ..protocol.errors import RealtimeError
from ..protocol.events import Broadcast
from ..protocol.messages import Change, Message
from ..protocol.presence import PresenceChange, State
from ..protocol.subscription import ChangesBinding
from .recording import Writer

ROWS = 1_000  # rows in one line of a snapshot
FLUSH_EVERY = 1.0  # seconds; a killed process loses at most this much
RETRY = 2.0  # seconds before a failed snapshot is read again

_open: weakref.WeakSet[Recorder] = weakref.WeakSet()


def record(
    source: Any, path: str | Path, *, schema: str = "public", client: Client | None = None, overwrite: bool = False
) -> Recorder:
    """Records tables and channels to a file that `replay()` plays. Recording starts at once and ends with `.stop()`.

    Args:
        source: one of these, or a list of them: a `Channel` or a topic (its presence and its broadcasts, including
            those that this client sends); a `LiveTable` or a table's name (its rows and every change); a
            `BroadcastFeed` or a `Presence` (their channel). A name is first looked up as a table.
        path: path of the file of JSON lines; compressed if it ends in `.gz`.
        schema: schema of the tables given by name.
        client: client for the sources given by name; default the last `rt.connect()` or `rt.local()`.
        overwrite: whether to replace an existing file. A recording to that file in this process is stopped.

    Anything that looks like a key or a token is replaced by `<redacted>`, and the project's URL is not recorded. The
    file does contain the data of rows and messages, so protect it as you protect that data. Tables are recorded whole;
    set filters during the replay.

    Raises RealtimeError if a source cannot be recorded or the file exists, TypeError if `source` is not a source.
    """
    sources = list(cast("Iterable[Any]", source)) if isinstance(source, list | tuple | set) else [source]
    if not sources:
        raise TypeError("the list of sources is empty: pass a channel, a table, or a list of them")
    found: list[_Target] = []
    for one in sources:
        target = _target(one, schema, client)
        if not any(other.same(target) for other in found):
            found.append(target)
    where = Path(path)
    for other in list(_open):
        if overwrite and other.running and other.path.resolve() == where.resolve():
            other.stop()
    recorder = Recorder(where, found, overwrite=overwrite)
    _open.add(recorder)
    return recorder


class _Target:
    """One table or one channel to record."""

    def __init__(self, client: Client, *, table: tuple[str, str] | None = None, channel: Channel | None = None) -> None:
        self.client, self.table, self.channel = client, table, channel

    def same(self, other: _Target) -> bool:
        return (self.table, self.channel) == (other.table, other.channel) and self.client is other.client


def _target(source: Any, schema: str, client: Client | None) -> _Target:
    if isinstance(source, Channel):
        return _Target(source.client, channel=source)
    channel = getattr(source, "channel", None)
    if isinstance(channel, Channel):  # a widget; this package cannot import its class
        table = getattr(source, "table", None)
        if isinstance(table, str):
            return _Target(channel.client, table=(str(getattr(source, "schema", "public")), table))
        return _Target(channel.client, channel=channel)
    if isinstance(source, str):
        client = client or default_client()
        before, dot, after = source.rpartition(".")
        for where, name in [(schema, source), *([(before, after)] if dot else [])]:
            try:
                run(client.aio.rest.describe(name, where), 40)
            except RealtimeError as error:
                if error.retryable:
                    raise
            else:
                return _Target(client, table=(where, name))
        known = client.channels.get(source)
        return _Target(client, channel=known or Channel(source, client=client))
    raise TypeError(f"a {type(source).__name__} cannot be recorded: pass a channel, a table, or a widget of one")


class Recorder:
    """A running recording, returned by `record()`. As a context manager, it stops at the end of the block."""

    def __init__(self, path: Path, targets: list[_Target], *, overwrite: bool) -> None:
        self.path = path
        self.count = 0
        """Events written so far: row changes, broadcasts and presence changes."""
        self._parts: list[_Part] = []
        self._running = True
        about = {
            "tables": [".".join(target.table) for target in targets if target.table is not None],
            "topics": [target.channel.topic for target in targets if target.channel is not None],
        }
        self._writer = Writer(path, about, overwrite=overwrite)
        try:
            run(self._start(targets), 60)
        except BaseException:
            self.stop()
            raise

    def __repr__(self) -> str:
        state = "recording" if self._running else "stopped"
        return f"<Recorder {self.path.name}: {self.count} events, {self.seconds:.1f} s, {state}>"

    @property
    def running(self) -> bool:
        """Whether the recording is running."""
        return self._running

    @property
    def seconds(self) -> float:
        """Length of the recording in seconds."""
        return max(0.0, (io_loop().time() if self._running else self._stopped_at) - self._started_at)

    def stop(self) -> Path:
        """Stops the recording and returns the file's path. Safe to call twice."""
        if self._running:
            if on_io_thread():
                self._stop_now()
            else:
                run(self._call(self._stop_now), 10)
        return self.path

    def __enter__(self) -> Recorder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    # --- on the I/O thread

    _started_at = _stopped_at = 0.0
    _flusher: asyncio.Task[None] | None = None

    @staticmethod
    async def _call(fn: Callable[[], Any]) -> None:
        fn()

    async def _start(self, targets: list[_Target]) -> None:
        self._started_at = float("inf")  # so that everything written before the start gets time 0
        for target in targets:
            if target.table is not None:
                table = _Table(self, target.client.aio, *target.table)
                self._parts.append(table)
                await table.start()
            else:
                assert target.channel is not None
                topic = _Topic(self, target.channel)
                self._parts.append(topic)
                await topic.start()
        self.write("start", {}, count=0)
        self._started_at = asyncio.get_running_loop().time()
        self._flusher = asyncio.create_task(self._flush())

    async def _flush(self) -> None:
        while True:
            await asyncio.sleep(FLUSH_EVERY)
            try:
                self._writer.flush()
            except OSError as error:  # a full disk must not close the connection
                logger.error("the recording %s has stopped: %s", self.path, error)
                self._stop_now()
                return

    def write(self, kind: str, data: Mapping[str, Any], *, count: int = 1) -> None:
        """Writes a line. Does nothing after the recording has stopped."""
        if self._running:
            try:
                self._writer.write(max(0.0, asyncio.get_running_loop().time() - self._started_at), kind, data)
                self.count += count
            except OSError as error:
                logger.error("the recording %s has stopped: %s", self.path, error)
                self._stop_now()

    def _stop_now(self) -> None:
        if not self._running:
            return
        for part in self._parts:
            part.stop()
        # The time since the last event is part of the session.
        self.write("end", {}, count=0)
        self._running, self._stopped_at = False, io_loop().time()
        if self._flusher is not None:
            self._flusher.cancel()
        try:
            self._writer.close()
        except OSError as error:
            logger.error("could not write the end of the recording %s: %s", self.path, error)


class _Part:
    def stop(self) -> None:
        raise NotImplementedError


class _Topic(_Part):
    """The broadcasts and the presence of one channel."""

    def __init__(self, recorder: Recorder, channel: Channel) -> None:
        self._recorder, self._channel = recorder, channel
        self._known: dict[str, dict[Any, Mapping[str, Any]]] = {}
        self._synced = asyncio.Event()
        self._undo: list[Callable[[], Any]] = []

    async def start(self) -> None:
        aio = self._channel.aio
        self._undo += [
            aio.on_event(Broadcast, self._broadcast),
            aio.on_presence(self._presence),
            aio.client.on_frame(self._frame),
            aio.on_status(self._status),
            aio.retain(),
        ]
        self._compare(aio.presence_state)
        await aio.wait_joined(20)
        # The session starts with the users who are present.
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._synced.wait() if not aio.presence_synced else asyncio.sleep(0), 5)

    def _status(self, status: str, error: RealtimeError | None) -> None:
        if status == "errored":
            self._recorder.write("gap", {"topic": self._channel.topic, "reason": error.code if error else ""}, count=0)

    def _frame(self, direction: str, message: Message) -> None:
        # The server does not send a broadcast back to its sender: this client's own are recorded when they are sent.
        sent_here = direction == "out" and message.topic.removeprefix("realtime:") == self._channel.topic
        if sent_here and message.event == "broadcast" and not self._channel.options.broadcast_self:
            self._broadcast(Broadcast.decode(message))

    def _broadcast(self, message: Broadcast) -> None:
        self._recorder.write("broadcast", {"topic": self._channel.topic, **message.as_json()})

    def _presence(self, change: PresenceChange) -> None:
        if change.sync:
            self._synced.set()
        self._compare(change.state)

    def _compare(self, state: State) -> None:
        """Writes the difference from the state in the file. After a rejoin the server sends the whole state again."""
        now = {key: {meta.get("phx_ref"): meta for meta in metas} for key, metas in state.items()}
        joins, leaves = _missing(now, self._known), _missing(self._known, now)
        self._known = now
        if joins or leaves:
            self._recorder.write("presence", {"topic": self._channel.topic, "joins": joins, "leaves": leaves})

    def stop(self) -> None:
        while self._undo:
            self._undo.pop()()


def _missing(
    these: Mapping[str, Mapping[Any, Mapping[str, Any]]], those: Mapping[str, Mapping[Any, Mapping[str, Any]]]
) -> dict[str, list[dict[str, Any]]]:
    found = {
        key: [dict(meta) for ref, meta in metas.items() if ref not in those.get(key, {})]
        for key, metas in these.items()
    }
    return {key: metas for key, metas in found.items() if metas}


class _Table(_Part):
    """The rows of a table, then its changes; the rows again after each gap, and where the table has become another. It
    is also the sink of the changes."""

    def __init__(self, recorder: Recorder, client: AsyncClient, schema: str, table: str) -> None:
        self._recorder, self._client = recorder, client
        self._schema, self._table = schema, table
        self._name = {"schema": schema, "table": table}
        self._waiting: list[Change] | None = []
        self._reading: asyncio.Task[None] | None = None
        self._columns: list[Any] = []
        self._live: asyncio.Future[None] | None = None
        self._undo: list[Callable[[], Any]] = []

    async def start(self) -> None:
        self._live = asyncio.get_running_loop().create_future()
        # A separate channel: adding a binding to a channel in use would make it rejoin.
        channel = self._client.channel(f"rtwidgets-record:{self._schema}.{self._table}")
        self._undo += [channel.add_changes(ChangesBinding("*", self._schema, self._table), self), channel.retain()]
        try:
            await asyncio.wait_for(asyncio.shield(self._live), 50)
        except TimeoutError:
            raise RealtimeError(
                f"no subscription to the changes of {self._schema}.{self._table} within 50 s",
                code="Timeout",
                retryable=True,
                hint=f'run rt.doctor("{self._table}") to find the cause',
            ) from None

    def on_ready(self) -> None:
        self._stop_reading()
        self._waiting = []
        self._reading = asyncio.create_task(self._read())

    def on_table_changed(self, rows_kept: bool) -> None:
        self.on_ready()

    def on_gap(self, reason: RealtimeError) -> None:
        self._stop_reading()
        self._write_gap(reason)

    def _write_gap(self, reason: RealtimeError) -> None:
        if self._live is not None and self._live.done():
            self._recorder.write("gap", {**self._name, "reason": reason.message}, count=0)

    def on_error(self, error: RealtimeError) -> None:
        if self._live is not None and not self._live.done():
            if not error.retryable:
                self._live.set_exception(error)
        else:
            self.on_gap(error)

    def on_changes(self, changes: list[Change]) -> None:
        if self._waiting is not None:
            self._waiting.extend(changes)
        else:
            self._write(changes)

    async def _read(self) -> None:
        while True:
            pages: list[Page] = []
            try:
                info = await self._client.rest.describe(self._table, self._schema)
                select = self._client.rest.select(self._table, schema=self._schema, key=info.key, page_size=50_000)
                pages = [page async for page in select]
                break
            except RealtimeError as error:
                if not error.retryable and self._live is not None:
                    if not self._live.done():
                        self._live.set_exception(error)
                    else:  # it is gone, or must not be read any more: what comes then is recorded again
                        self._write_gap(error)
                    return
            await asyncio.sleep(RETRY)
        names = [column.name for column in info.columns]
        rows = [[row.get(name) for name in names] for page in pages for row in page.rows]
        self._columns = [[column.name, column.type] for column in info.columns]
        kind, head = "snapshot", {"columns": self._columns, "key": list(info.key)}
        for start in range(0, max(len(rows), 1), ROWS):
            self._recorder.write(kind, {**self._name, **head, "rows": rows[start : start + ROWS]}, count=0)
            kind, head = "rows", {}
            await asyncio.sleep(0)
        self._recorder.write("live", self._name, count=0)
        waiting, self._waiting = self._waiting or [], None
        first = pages[0] if pages else Page([])
        self._write([change for change in waiting if not _in(change, first)])
        if self._live is not None and not self._live.done():
            self._live.set_result(None)

    def _write(self, changes: Iterable[Change]) -> None:
        for change in changes:
            data: dict[str, Any] = {**self._name, "schema": change.schema, "table": change.table, "type": change.type}
            columns = [[column.name, column.type] for column in change.columns]
            if columns and columns != self._columns:
                data["columns"] = self._columns = columns
            for name in ("record", "old_record", "errors", "commit_timestamp"):
                value = getattr(change, name)
                if value:
                    data[name] = value
            self._recorder.write("change", data)

    def _stop_reading(self) -> None:
        if self._reading is not None:
            self._reading.cancel()
            self._reading = None

    def stop(self) -> None:
        self._stop_reading()
        while self._undo:
            self._undo.pop()()


def _in(change: Change, page: Page) -> bool:
    """Whether the snapshot already contains the change. Only the local server sends the LSNs that this needs; without
    them the change is played twice, which is harmless."""
    if change.lsn is None or page.lsn is None or change.lsn >= page.lsn:
        return False
    return change.xid is None or page.snapshot is None or page.snapshot.visible(change.xid)


def _stop_all() -> None:
    for recorder in list(_open):
        try:
            recorder.stop()
        except Exception:
            logger.debug("could not stop a recording at exit", exc_info=True)


atexit.register(_stop_all)
