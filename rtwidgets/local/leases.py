"""Leases: each user of a local server has an open connection to its supervisor, which ends with the process.

The control socket speaks JSON lines: `{"do": "lease"}`, `{"do": "status"}`, `{"do": "stop"}`, each answered by one
line. A supervisor that stops sends `{"bye": true}` on every lease; one that was killed sends nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

FIRST_LEASE = 30.0
"""Seconds, at least, for whoever started the server to get the first lease, however busy the machine is."""


class LeaseBook:
    """The supervisor's side: counts the leases, and sets `expired` when there have been none for a while.

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
        self._conversations: set[asyncio.Task[None]] = set()

    async def listen(self, path: Path) -> None:
        """Listens on the control socket."""
        self._server = await asyncio.start_unix_server(self._serve, path)
        self._schedule(max(self.idle_timeout, FIRST_LEASE))

    async def close(self) -> None:
        """Ends every lease, and returns when all conversations have ended. Safe to call twice."""
        self._cancel()
        if self._server is not None:
            self._server.close()
        for lease in self._leases:
            lease.write(b'{"bye": true}\n')
        for conversation in self._conversations:
            conversation.cancel()
        # Awaited: asyncio logs a conversation that the loop's end cancels as an error.
        await asyncio.gather(*self._conversations, return_exceptions=True)

    def _schedule(self, delay: float | None = None) -> None:
        """The end, unless there is a lease."""
        self._cancel()
        if self.count == 0:
            wait = self.idle_timeout if delay is None else delay
            self._timer = asyncio.get_running_loop().call_later(wait, self.expired.set)

    def _cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        conversation = asyncio.current_task()
        assert conversation is not None
        self._conversations.add(conversation)
        try:
            with contextlib.suppress(ConnectionError, asyncio.CancelledError, ValueError):
                while line := await reader.readline():
                    writer.write(json.dumps(self._answer(json.loads(line), writer)).encode() + b"\n")
                    await writer.drain()
        finally:
            self._conversations.discard(conversation)
            if writer in self._leases:
                self._leases.discard(writer)
                self.count -= 1
                self._schedule()
            writer.close()

    def _answer(self, command: object, writer: asyncio.StreamWriter) -> dict[str, Any]:
        given = cast("dict[str, Any]", command) if isinstance(command, dict) else {}
        match given.get("do"):
            case "lease":
                if writer not in self._leases:
                    self._leases.add(writer)
                    self.count += 1
                # The most patient of those who share the server decides.
                self.idle_timeout = max(self.idle_timeout, float(given.get("idle_timeout", 0)))
                self._schedule()
            case "status":
                return {"ok": True} | self._status()
            case "stop":
                self.expired.set()
            case other:
                return {"ok": False, "error": f"unknown command {other!r}"}
        return {"ok": True}


def send_command(path: str, command: dict[str, Any], *, timeout: float = 5.0) -> tuple[dict[str, Any], socket.socket]:
    """Sends one command. Returns the answer and the open connection: keep it to keep a lease, close it to end it.

    Raises OSError where no supervisor listens.
    """
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.settimeout(timeout)
        connection.connect(path)
        connection.sendall(json.dumps(command).encode() + b"\n")
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


def read_status(path: str) -> dict[str, Any]:
    """The status of the supervisor that listens there. Raises OSError where none does."""
    answer, connection = send_command(path, {"do": "status"})
    connection.close()
    return answer


def send_stop(path: str) -> None:
    """Stops the server of the supervisor that listens there. Raises OSError where none does."""
    send_command(path, {"do": "stop"})[1].close()
