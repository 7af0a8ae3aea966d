"""The stream of committed transactions: one temporary slot, read on the event loop, opened again when it was lost."""

from __future__ import annotations

import asyncio
import os
import struct
import time
from collections import deque
from collections.abc import Awaitable, Callable
from typing import NamedTuple

import psycopg
from psycopg import sql

from ..client.log import child
from .pgoutput import PG_EPOCH, Decoder, Transaction
from .pool import SETTINGS, with_settings

log = child(__name__)

PUBLICATIONS = ("supabase_realtime", "supabase_realtime_messages_publication")

_SESSION = f"{SETTINGS} -c wal_sender_timeout=0"
"""Values are written as the stream's own session has them. And a suspended laptop must not lose its slot."""

_ACK_EVERY = 10.0
"""Seconds."""
_TURN = 2000
"""Messages read in one turn of the loop, so that other clients are served during a big transaction."""
_MOST = 64 * 1024 * 1024
"""Bytes that wait to be handed over; then Postgres waits."""
_OVERHEAD = 200
"""Bytes that an object in memory takes besides."""
_BLOCKED = 2.0
"""Seconds from which on it is told why a slot is not there yet, and between two times."""

_BLOCKERS = """
select distinct b.pid, coalesce(b.state, b.backend_type, 'of another role'),
  extract(epoch from now() - b.xact_start)::float8
from pg_stat_activity w cross join unnest(pg_blocking_pids(w.pid)) as blocker(pid)
join pg_stat_activity b on b.pid = blocker.pid
where w.backend_type = 'walsender' and w.query ilike 'create_replication_slot%'
"""


class Blocker(NamedTuple):
    """A session whose transaction keeps a replication slot from being made."""

    pid: int
    state: str
    seconds: float | None
    """For which its transaction has been open; None where the role that asks may not see that."""

    def __str__(self) -> str:
        return f"pid {self.pid} {self.state}" + (f" for {self.seconds:.0f} s" if self.seconds is not None else "")


async def read_blockers(dsn: str) -> list[Blocker]:
    """What a replication slot that is being made waits for. Raises psycopg.Error."""
    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True, connect_timeout=10) as connection:
        cursor = await connection.execute(_BLOCKERS)
        return [Blocker(*row) for row in await cursor.fetchall()]


class Stream:
    """Reads the WAL and hands over batches of transactions.

    `on_batch` gets every transaction that is at hand, in commit order, a long one in parts, and is awaited before the
    next call; while it does not keep up, no more than a bound is read ahead. `on_start` gets the LSN from which on the
    stream has every commit, before the first batch of each connection. `on_lost` is called when changes begin to
    be missed, `on_back` when the stream is whole again after that. `on_blocked` gets the sessions whose open
    transactions keep the stream from beginning, every few seconds as long as they do, and an empty list once they do
    not any more.
    """

    def __init__(
        self,
        dsn: str,
        on_batch: Callable[[list[Transaction]], Awaitable[None]],
        on_start: Callable[[int], None],
        on_lost: Callable[[], None],
        on_back: Callable[[], None],
        on_blocked: Callable[[list[Blocker]], None],
    ) -> None:
        self._database = dsn
        self._dsn = with_settings(dsn, _SESSION, replication="database", application_name="rtwidgets stream")
        self._on_batch = on_batch
        self._on_start = on_start
        self._on_lost = on_lost
        self._on_back = on_back
        self._on_blocked = on_blocked
        self._pending: deque[Transaction] = deque()
        self._ahead = 0
        self._resume: Callable[[], None] | None = None
        """Set while nothing is read."""
        self._arrived = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._done_lsn = 0
        self._last_ack = 0.0
        self._tasks: list[asyncio.Task[None]] = []
        self.streaming = asyncio.Event()

    def start(self) -> None:
        self._tasks = [asyncio.create_task(self._run()), asyncio.create_task(self._pump())]

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []

    async def _pump(self) -> None:
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            while self._pending:
                batch = list(self._pending)
                self._pending.clear()
                self._idle.clear()
                try:
                    await self._on_batch(batch)
                except Exception:
                    log.exception("a batch of changes could not be delivered")
                    self._on_lost()  # a gap like any other
                    if self.streaming.is_set():
                        self._on_back()
                self._done_lsn = max(self._done_lsn, batch[-1].end_lsn)
                self._ahead -= sum(map(_weight, batch))
                if self._resume is not None and self._ahead < _MOST:
                    self._resume()
                self._idle.set()

    async def _run(self) -> None:
        lost, wait = False, 0.05
        while True:
            try:
                connection = await psycopg.AsyncConnection.connect(self._dsn, autocommit=True)
                try:
                    begin = await self._open(connection)
                    await self._idle.wait()  # what came before the gap goes out before it is said to be over
                    self._on_start(begin)
                    self.streaming.set()
                    wait = 0.05
                    if lost:
                        self._on_back()
                    await self._read(connection.pgconn)
                finally:
                    # Not close(): that would wait for the end of a COPY that only we could end.
                    connection.pgconn.finish()
                    if self.streaming.is_set():
                        self.streaming.clear()
                        lost = True
                        self._ahead -= sum(map(_weight, self._pending))
                        self._pending.clear()
                        self._on_lost()
            except (psycopg.Error, OSError) as error:
                if wait <= 0.05:  # not at each try
                    log.warning("the stream from Postgres was lost: %s", error)
            await asyncio.sleep(wait)
            wait = min(wait * 2, 1.0)

    async def _open(self, connection: psycopg.AsyncConnection[tuple[object, ...]]) -> int:
        """Begins to stream. Returns the LSN from which on every commit is in the stream."""
        slot = sql.Identifier(f"rtwidgets_{os.getpid()}_{time.monotonic_ns()}")
        create = sql.SQL("CREATE_REPLICATION_SLOT {} TEMPORARY LOGICAL pgoutput NOEXPORT_SNAPSHOT").format(slot)
        watching = asyncio.create_task(self._watch_blockers())
        try:
            cursor = await connection.execute(create)  # waits for every transaction that writes now
        finally:
            watching.cancel()
            self._on_blocked([])
        created = await cursor.fetchone()
        assert created is not None
        names = sql.Literal(",".join(f'"{name}"' for name in PUBLICATIONS))
        await connection.execute(
            sql.SQL("START_REPLICATION SLOT {} LOGICAL 0/0 (proto_version '1', publication_names {})").format(
                slot, names
            )
        )
        high, low = str(created[1]).split("/")  # name, consistent point, snapshot, plugin
        return (int(high, 16) << 32) + int(low, 16)

    async def _watch_blockers(self) -> None:
        while True:
            await asyncio.sleep(_BLOCKED)
            try:
                blockers = await read_blockers(self._database)
            except (psycopg.Error, OSError) as error:
                log.debug("what the stream waits for could not be read: %s", error)
                continue
            if blockers:
                self._on_blocked(blockers)

    async def _read(self, pgconn: psycopg.pq.abc.PGconn) -> None:
        loop = asyncio.get_running_loop()
        decoder = Decoder()
        ended: asyncio.Future[None] = loop.create_future()
        feed, pending = decoder.feed, self._pending

        def read() -> None:
            if ended.done() or self._resume is not None:
                return
            try:
                pgconn.consume_input()
                for _ in range(_TURN):
                    size, data = pgconn.get_copy_data(1)
                    if size <= 0:
                        if size < 0:
                            raise psycopg.OperationalError("Postgres ended the stream")
                        break
                    kind = data[0]
                    if kind == 119:  # w: WAL data after start, end and clock
                        transaction = feed(bytes(data[25:]))
                        if transaction is not None:
                            pending.append(transaction)
                            self._arrived.set()
                            self._ahead += _weight(transaction)
                            if self._ahead >= _MOST:
                                loop.remove_reader(descriptor)
                                self._resume = resume
                                break
                    elif kind == 107:  # k: keepalive
                        (wal_end,) = struct.unpack_from(">Q", data, 1)
                        if self._idle.is_set() and not pending and not decoder.in_transaction:
                            self._done_lsn = max(self._done_lsn, wal_end)
                        if data[17]:
                            self._acknowledge(pgconn)
                else:
                    # More is at hand, perhaps already in libpq's buffer, where the socket would not tell.
                    loop.call_soon(read)
                if time.monotonic() - self._last_ack > _ACK_EVERY:
                    self._acknowledge(pgconn)
            except Exception as error:
                ended.set_exception(error)

        def resume() -> None:
            self._resume = None
            loop.add_reader(descriptor, read)
            loop.call_soon(read)  # more may be in libpq's buffer

        # A descriptor of our own for the same socket: libpq closes its one the moment the connection is lost, and
        # forgets its number, which the next connection may get before the loop has let go of it.
        descriptor = os.dup(pgconn.socket)
        loop.add_reader(descriptor, read)
        try:
            read()
            await ended
        finally:
            self._resume = None
            loop.remove_reader(descriptor)
            os.close(descriptor)

    def _acknowledge(self, pgconn: psycopg.pq.abc.PGconn) -> None:
        """Tells Postgres what it need not keep; without an answer to its keepalive a fast shutdown would hang."""
        self._last_ack = time.monotonic()
        clock = int(time.time() * 1_000_000) - PG_EPOCH
        lsn = self._done_lsn
        pgconn.put_copy_data(struct.pack(">cQQQqB", b"r", lsn, lsn, lsn, clock, 0))
        pgconn.flush()


def _weight(transaction: Transaction) -> int:
    """Bytes that it takes while it waits, about."""
    return transaction.size + _OVERHEAD * (len(transaction.changes) + 1)
