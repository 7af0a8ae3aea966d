"""Leases: whoever uses a local server holds an open connection to its supervisor, and a process that dies lets go of
it by itself.

The control socket speaks JSON lines: `{"do": "lease"}`, `{"do": "status"}`, `{"do": "stop"}`, each answered by one
line. A supervisor that stops says `{"bye": true}` to every lease; one that was killed says nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

FIRST_LEASE = 30.0
"""Seconds, at least, for whoever started the server to take the first lease, however busy the machine is."""


class LeaseBook:
    """The supervisor's side: counts the leases, and says when there have been none for a while.

    Args:
        idle_timeout: seconds without a lease after which `expired` is set.
        status: gives the answer to `status`.
    """

    def __init__(self, idle_timeout: float, status: Callable[[], dict[str, Any]]) -> None:
        self.idle_timeout = idle_timeout
        self.expired = asyncio.Event()
        self.count = 0
        self._status = status
        self._timer: asyncio.TimerHandle | None = None
        self._server: asyncio.Server | None = None
        self._leases: set[asyncio.StreamWriter] = set()

    async def listen(self, path: Path) -> None:
        self._server = await asyncio.start_unix_server(self._serve, path)
        self._arm(max(self.idle_timeout, FIRST_LEASE))

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        for lease in self._leases:
            lease.write(b'{"bye": true}\n')
        if self._server is not None:
            self._server.close()

    def _arm(self, patience: float | None = None) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self.count == 0:
            wait = self.idle_timeout if patience is None else patience
            self._timer = asyncio.get_running_loop().call_later(wait, self.expired.set)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        leased = False
        try:
            while line := await reader.readline():
                try:
                    wish = json.loads(line)
                except ValueError:
                    break
                answer: dict[str, Any] = {"ok": True}
                match wish.get("do"):
                    case "lease":
                        if not leased:
                            leased = True
                            self._leases.add(writer)
                            self.count += 1
                        # The most patient of those who share the server decides.
                        self.idle_timeout = max(self.idle_timeout, float(wish.get("idle_timeout", 0)))
                        self._arm()
                    case "status":
                        answer |= self._status()
                    case "stop":
                        self.expired.set()
                    case other:
                        answer = {"ok": False, "error": f"unknown command {other!r}"}
                writer.write(json.dumps(answer).encode() + b"\n")
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            if leased:
                self._leases.discard(writer)
                self.count -= 1
                self._arm()
            writer.close()


def ask(path: str, wish: dict[str, Any], *, timeout: float = 5.0) -> tuple[dict[str, Any], socket.socket]:
    """Sends one command. Returns the answer and the open connection: keep it to keep a lease, close it to let go.

    Raises OSError where no supervisor listens.
    """
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.settimeout(timeout)
        connection.connect(path)
        connection.sendall(json.dumps(wish).encode() + b"\n")
        received = b""
        while not received.endswith(b"\n"):
            chunk = connection.recv(65536)
            if not chunk:
                raise ConnectionError("the supervisor closed the connection")
            received += chunk
        connection.settimeout(None)
        return json.loads(received), connection
    except BaseException:
        with contextlib.suppress(OSError):
            connection.close()
        raise
