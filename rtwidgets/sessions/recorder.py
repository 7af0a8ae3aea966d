"""`record()`: writes what happens in tables and topics into a file, from the I/O thread."""

from __future__ import annotations

import asyncio
import atexit
import base64
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
from ..client.snapshot_source import Page, TableInfo
from ..client.thread import io_loop, on_io_thread, run
from ..protocol.errors import RealtimeError
from ..protocol.messages import Change, Message
from ..protocol.presence import PresenceChange, State
from ..protocol.subscription import ChangesBinding
from .recording import Writer

ROWS = 1_000  # a line of a snapshot
FLUSH_EVERY = 1.0  # seconds: what a killed process loses at most
RETRY = 2.0  # seconds until a snapshot that could not be read is tried again

_open: weakref.WeakSet[Recorder] = weakref.WeakSet()


def record(
    source: Any, path: str | Path, *, schema: str = "public", client: Client | None = None, overwrite: bool = False
) -> Recorder:
    """Writes what happens into a file that `replay()` plays again, until `.stop()`.

    Args:
        source: a `Channel` or a topic (its broadcasts, also those sent from here, and its presence), a `LiveTable` or
            the name of a table (its rows now, and each change), a `BroadcastFeed` or a `Presence` (their channel), or
            a list of such. A name counts as a table where there is one of that name.
        path: of the file, JSON lines; compressed where it ends in `.gz`.
        schema: of tables given by name.
        client: who listens to sources given by name; default the last `rt.connect()` or `rt.local()`.
        overwrite: whether a file that exists may be replaced; a recording into it that is under way ends.

    What looks like a key or a token is replaced by `<redacted>`, and where it was recorded is not in the file; what
    rows and messages say is, so treat it as you treat them. Tables are recorded whole: a filter can be set when they
    are played.

    Raises RealtimeError where a source cannot be recorded or the file exists, TypeError for what is no source.
    """
    sources = list(cast("Iterable[Any]", source)) if isinstance(source, list | tuple | set) else [source]
    if not sources:
        raise TypeError("there is nothing to record: give a channel, a table, or a list of them")
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
    if isinstance(channel, Channel):  # a widget, which this room does not know
        table = getattr(source, "table", None)
        if isinstance(table, str):
            return _Target(channel.client, table=(str(getattr(source, "schema", "public")), table))
        return _Target(channel.client, channel=channel)
    if isinstance(source, str):
        client = client or default_client()
        where, _, name = source.rpartition(".") if "." in source else (schema, "", source)
        try:
            run(client.aio.rest.describe(name, where), 40)
        except RealtimeError as error:
            if error.retryable:
                raise
        else:
            return _Target(client, table=(where, name))
        known = client.channels.get(source)
        return _Target(client, channel=known or Channel(source, client=client))
    raise TypeError(f"a {type(source).__name__} cannot be recorded: give a channel, a table, or a widget of one")


class Recorder:
    """A recording under way. Made by `record()`; also a context manager that stops at its end."""

    def __init__(self, path: Path, targets: list[_Target], *, overwrite: bool) -> None:
        self.path = path
        self.count = 0
        """Events written so far: changes, broadcasts, changes of presence."""
        self._clients: dict[Client, AsyncClient] = {}
        self._parts: list[_Part] = []
        self._undo: list[Callable[[], Any]] = []
        self._running = True
        about = {
            "tables": [".".join(target.table) for target in targets if target.table is not None],
            "topics": [target.channel.topic for target in targets if target.channel is not None],
        }
        self._writer = Writer(path, about, overwrite=overwrite)
        try:
            run(self._begin(targets), 60)
        except BaseException:
            self.stop()
            raise

    def __repr__(self) -> str:
        state = "recording" if self._running else "stopped"
        return f"<Recorder {self.path.name}: {self.count} events, {self.seconds:.1f} s, {state}>"

    @property
    def running(self) -> bool:
        """Whether it still records."""
        return self._running

    @property
    def seconds(self) -> float:
        """How long it has been recording."""
        return max(0.0, (io_loop().time() if self._running else self._ended) - self._began)

    def stop(self) -> Path:
        """Ends the recording and returns the file's path. Safe to call twice."""
        if self._running:
            if on_io_thread():
                self._end()
            else:
                run(self._call(self._end), 10)
        return self.path

    def __enter__(self) -> Recorder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    # --- on the I/O thread

    _began = _ended = 0.0
    _flusher: asyncio.Task[None] | None = None

    @staticmethod
    async def _call(fn: Callable[[], Any]) -> None:
        fn()

    async def _begin(self, targets: list[_Target]) -> None:
        self._began = float("inf")  # what is written until then, happens before: at 0
        for target in targets:
            if target.table is not None:
                table = _Table(self, target.client.aio, *target.table)
                self._parts.append(table)
                await table.begin()
            else:
                assert target.channel is not None
                topic = _Topic(self, target.channel)
                self._parts.append(topic)
                await topic.begin()
        self.write("start", {}, count=0)
        self._began = asyncio.get_running_loop().time()
        self._flusher = asyncio.create_task(self._flush())

    async def _flush(self) -> None:
        while True:
            await asyncio.sleep(FLUSH_EVERY)
            try:
                self._writer.flush()
            except OSError as error:  # a full disk must not end the line to the server
                logger.error("the recording %s has ended: %s", self.path, error)
                self._end()
                return

    def write(self, kind: str, data: Mapping[str, Any], *, count: int = 1) -> None:
        """Adds a line; nothing once it has stopped."""
        if self._running:
            try:
                self._writer.write(max(0.0, asyncio.get_running_loop().time() - self._began), kind, data)
                self.count += count
            except OSError as error:
                logger.error("the recording %s has ended: %s", self.path, error)
                self._end()

    def _end(self) -> None:
        if not self._running:
            return
        for part in self._parts:
            part.end()
        # The time from the last event to here is part of the session.
        self.write("end", {}, count=0)
        self._running, self._ended = False, io_loop().time()
        if self._flusher is not None:
            self._flusher.cancel()
        try:
            self._writer.close()
        except OSError as error:
            logger.error("the recording %s could not be written to its end: %s", self.path, error)


class _Part:
    def end(self) -> None:
        raise NotImplementedError


class _Topic(_Part):
    """The broadcasts and the presence of one channel."""

    def __init__(self, recorder: Recorder, channel: Channel) -> None:
        self._recorder, self._channel = recorder, channel
        self._known: dict[str, dict[Any, Mapping[str, Any]]] = {}
        self._synced = asyncio.Event()
        self._undo: list[Callable[[], Any]] = []

    async def begin(self) -> None:
        aio = self._channel.aio
        self._undo += [
            aio.on_broadcast("*", self._broadcast),
            aio.on_presence(self._presence),
            aio.client.on_frame(self._frame),
            aio.on_status(self._status),
            aio.hold(),
        ]
        self._compare(aio.presence_state)
        await aio.wait_joined(20)
        # Who is here is how the session begins.
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._synced.wait() if not aio.presence_synced else asyncio.sleep(0), 5)

    def _status(self, status: str, error: RealtimeError | None) -> None:
        if status == "errored":
            self._recorder.write("gap", {"topic": self._channel.topic, "reason": error.code if error else ""}, count=0)

    def _frame(self, direction: str, message: Message) -> None:
        # The server sends a broadcast to everybody else: one's own is seen on its way out.
        mine = direction == "out" and message.topic.removeprefix("realtime:") == self._channel.topic
        if mine and message.event == "broadcast" and not self._channel.options.broadcast_self:
            self._broadcast(str(message.payload.get("event", "")), message.payload.get("payload"), {})

    def _broadcast(self, event: str, payload: Any, meta: Mapping[str, Any]) -> None:
        data: dict[str, Any] = {"topic": self._channel.topic, "event": event}
        if isinstance(payload, bytes | bytearray | memoryview):
            data["base64"] = base64.b64encode(bytes(cast("bytes", payload))).decode()
        else:
            data["payload"] = payload
        self._recorder.write("broadcast", data | ({"meta": dict(meta)} if meta else {}))

    def _presence(self, change: PresenceChange) -> None:
        if change.sync:
            self._synced.set()
        self._compare(change.state)

    def _compare(self, state: State) -> None:
        """Writes what differs from what the file holds: also right after a rejoin, where the server tells all anew."""
        now = {key: {meta.get("phx_ref"): meta for meta in metas} for key, metas in state.items()}
        joins, leaves = _missing(now, self._known), _missing(self._known, now)
        self._known = now
        if joins or leaves:
            self._recorder.write("presence", {"topic": self._channel.topic, "joins": joins, "leaves": leaves})

    def end(self) -> None:
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
    """A table: its rows, then its changes; the rows once more after each interruption. Also the sink of its changes."""

    def __init__(self, recorder: Recorder, client: AsyncClient, schema: str, table: str) -> None:
        self._recorder, self._client = recorder, client
        self._schema, self._table = schema, table
        self._name = {"schema": schema, "table": table}
        self._info: TableInfo | None = None
        self._waiting: list[Change] | None = []
        self._reading: asyncio.Task[None] | None = None
        self._columns: list[Any] = []
        self._live: asyncio.Future[None] | None = None
        self._undo: list[Callable[[], Any]] = []

    async def begin(self) -> None:
        self._info = await self._client.rest.describe(self._table, self._schema)
        self._live = asyncio.get_running_loop().create_future()
        # A channel of its own: to bind to one in use would have it joined anew.
        channel = self._client.channel(f"rtwidgets-record:{self._schema}.{self._table}")
        self._undo += [channel.add_changes(ChangesBinding("*", self._schema, self._table), self), channel.hold()]
        try:
            await asyncio.wait_for(asyncio.shield(self._live), 50)
        except TimeoutError:
            raise RealtimeError(
                f"{self._schema}.{self._table} sent nothing to record from within 50 s",
                code="Timeout",
                retryable=True,
                hint=f'see what is missing: rt.doctor("{self._table}")',
            ) from None

    def on_ready(self) -> None:
        self._stop_reading()
        self._waiting = []
        self._reading = asyncio.create_task(self._read())

    def on_gap(self, reason: RealtimeError) -> None:
        self._stop_reading()
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
        info = self._info
        assert info is not None
        while True:
            pages: list[Page] = []
            try:
                select = self._client.rest.select(self._table, schema=self._schema, key=info.key, page_size=50_000)
                pages = [page async for page in select]
                break
            except RealtimeError as error:
                if not error.retryable and self._live is not None and not self._live.done():
                    self._live.set_exception(error)
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

    def end(self) -> None:
        self._stop_reading()
        while self._undo:
            self._undo.pop()()


def _in(change: Change, page: Page) -> bool:
    """Whether the snapshot holds the change already; only our local server tells. Played twice, it does no harm."""
    if change.lsn is None or page.lsn is None or change.lsn >= page.lsn:
        return False
    return change.xid is None or page.snapshot is None or page.snapshot.visible(change.xid)


def _stop_all() -> None:
    for recorder in list(_open):
        try:
            recorder.stop()
        except Exception:
            logger.debug("a recording could not be stopped at exit", exc_info=True)


atexit.register(_stop_all)
