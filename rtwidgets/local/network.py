"""A simulated bad network: a proxy between this process's clients and the local server that cuts, delays and stalls.

local.network.drop()      # breaks every connection; new ones succeed
local.network.cut(5)      # no network for five seconds
local.network.delay(100)  # adds 100 ms in each direction
local.network.stall(10)   # connections stay open, but no data passes
local.network.restore()
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from urllib.parse import urlsplit

from rtwidgets.client.thread import io_loop, on_io_thread, run

_CHUNK = 256 * 1024
_IN_FLIGHT = 256  # chunks under way in one direction; with more, the sender waits, as on a real network


class Network:
    """The network between this process and one server. Methods are thread-safe and take effect before they return."""

    def __init__(self, server_url: str) -> None:
        place = urlsplit(server_url)
        self._host, self._port = place.hostname or "127.0.0.1", place.port or 80
        self._delay = 0.0
        self._is_cut = False
        self._timer: asyncio.TimerHandle | None = None
        self._lines: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self._flowing = asyncio.Event()
        self._flowing.set()

    def __repr__(self) -> str:
        state = "cut" if self._is_cut else "open" if self._flowing.is_set() else "stalled"
        return f"<Network {state}, {self._delay * 1000:g} ms each way, {len(self._lines)} connections>"

    @property
    def url(self) -> str:
        """The URL that reaches the server through this proxy."""
        assert self._server is not None
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    def cut(self, seconds: float | None = None) -> None:
        """Breaks every connection and refuses new ones, for `seconds` or, if None, until `restore()`."""
        self._do(lambda: self._cut(seconds))

    def drop(self) -> None:
        """Breaks every connection; new ones succeed, as after a restart of the server."""

        def work() -> None:
            for line in list(self._lines):
                line.cancel()

        self._do(work)

    def delay(self, ms: float) -> None:
        """Delays all data by `ms` milliseconds in each direction, in order. 0 removes the delay."""

        def work() -> None:
            self._delay = ms / 1000

        self._do(work)

    def stall(self, seconds: float | None = None) -> None:
        """Holds back all data on open connections, for `seconds` or, if None, until `restore()`; then passes it."""

        def work() -> None:
            self._flowing.clear()
            self._restore_in(seconds)

        self._do(work)

    def restore(self) -> None:
        """Ends a cut or a stall and removes the delay."""

        def work() -> None:
            self._delay = 0.0
            self._restore()

        self._do(work)

    # --- for Local

    def start(self) -> None:
        """Starts the proxy on a free port of the loopback interface."""
        run(self._start(), 10)

    def stop(self) -> None:
        """Stops the proxy and breaks its connections. Safe to call twice."""

        def work() -> None:
            if self._server is not None:
                self._server.close()
            self._cut(None)

        self._do(work)

    # --- on the I/O thread

    @staticmethod
    def _do(work: Callable[[], None]) -> None:
        if on_io_thread():
            work()
            return

        async def call() -> None:
            work()

        run(call(), 10)

    def _cut(self, seconds: float | None) -> None:
        self._is_cut = True
        for line in list(self._lines):
            line.cancel()
        self._restore_in(seconds)

    def _restore_in(self, seconds: float | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if seconds is not None:
            self._timer = io_loop().call_later(seconds, self._restore)

    def _restore(self) -> None:
        self._restore_in(None)
        self._is_cut = False
        self._flowing.set()

    async def _start(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0, limit=_CHUNK)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        line = asyncio.current_task()
        assert line is not None
        self._lines.add(line)
        server_writer: asyncio.StreamWriter | None = None
        try:
            if not self._is_cut:
                server_reader, server_writer = await asyncio.open_connection(self._host, self._port, limit=_CHUNK)
                async with asyncio.TaskGroup() as group:
                    group.create_task(self._carry(reader, server_writer))
                    group.create_task(self._carry(server_reader, writer))
        except (OSError, asyncio.CancelledError, ExceptionGroup):
            pass  # a cut, or one side closed: both are closed below
        finally:
            self._lines.discard(line)
            for end in (writer, server_writer):
                if end is not None:
                    end.transport.abort()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Copies one direction of a connection until its end."""
        loop = asyncio.get_running_loop()
        in_flight: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(_IN_FLIGHT)

        async def arrive() -> None:
            while True:
                due, chunk = await in_flight.get()
                wait = due - loop.time()
                if wait > 0:
                    await asyncio.sleep(wait)
                await self._flowing.wait()
                if not chunk:
                    break
                writer.write(chunk)
                await writer.drain()
            with contextlib.suppress(OSError):
                writer.write_eof()

        async def leave() -> None:
            chunk = b"-"
            while chunk:
                chunk = await reader.read(_CHUNK)
                await in_flight.put((loop.time() + self._delay, chunk))

        async with asyncio.TaskGroup() as group:
            group.create_task(arrive())
            group.create_task(leave())
