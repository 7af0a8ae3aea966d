"""This process's part in a local server that several share: joins the one that runs or starts it, and keeps a lease."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import threading
import time
from typing import NamedTuple
from urllib.parse import urlsplit

import filelock

from rtwidgets.client.log import child
from rtwidgets.local.home import Home, ServerState, read_json
from rtwidgets.local.leases import read_status, send_command, send_stop
from rtwidgets.protocol.errors import RealtimeError, RealtimeTimeoutError

START_TIMEOUT = 90.0
"""Seconds within which a new supervisor must listen; initdb on a slow disk is most of it."""
STOP_TIMEOUT = 30.0
LOOPBACK = "127.0.0.1"
_RETRIES = (0.0, 0.2, 0.5, 1.0, 2.0, 5.0, 5.0, 10.0, 10.0)
"""Seconds before each try to replace a supervisor that was killed."""

log = child(__name__)


class ServerOptions(NamedTuple):
    """The server that is wanted; what is left out (None, port 0) may be as it is."""

    postgres: str | None = None
    port: int = 0
    limits: str | None = None
    host: str | None = None


class SharedServer:
    """The server of a name. `enter()` joins or starts it; from then on a supervisor that was killed is replaced by
    another, in the same place, where clients of before find it, until `release()`.
    """

    def __init__(self, name: str, options: ServerOptions, idle_timeout: float) -> None:
        self.home = Home(name)
        self.home.make()
        self._options = options
        self._idle_timeout = idle_timeout
        self._state: ServerState | None = None
        self._lease: socket.socket | None = None
        self._entering = threading.Lock()

    @property
    def state(self) -> ServerState:
        """Of the server that was entered last."""
        assert self._state is not None
        return self._state

    def enter(self) -> None:
        """Joins the server, or starts it. Raises RealtimeError."""
        with self._entering:
            self._enter()

    def alive(self) -> bool:
        """Whether the server answers and this process has a lease. Waits while it is being replaced."""
        with self._entering:
            return self._answers()

    def over(self) -> bool:
        """As `not alive()`; one that is over is released."""
        with self._entering:
            if self._answers():
                return False
            self._release()
            return True

    def answers(self) -> bool:
        """As `alive()`, at once."""
        return self._answers()

    def check(self, options: ServerOptions) -> None:
        """Raises RealtimeError where the server that runs is not one with these options."""
        _check_same(self.home.name, self.state, options)

    def release(self) -> None:
        """Ends this process's lease: the server stops when nobody else has one. Safe to call twice."""
        with self._entering:
            self._release()

    def stop(self) -> None:
        """Stops the server for everybody, and returns when it has stopped."""
        with contextlib.suppress(OSError):
            send_stop(self.state.control)
        self.release()
        # The supervisor has this lock until Postgres has stopped.
        with contextlib.suppress(filelock.Timeout), filelock.FileLock(self.home.owner_lock, timeout=STOP_TIMEOUT):
            pass

    def forget(self) -> None:
        """After a fork, in the child: the lease is the parent's, and stays open there."""
        lease, self._lease = self._lease, None
        self._entering = threading.Lock()
        if lease is not None:
            lease.close()

    def _answers(self) -> bool:
        if self._lease is None:
            return False
        try:
            read_status(self.state.control)
        except OSError:
            return False
        return True

    def _release(self) -> None:
        lease, self._lease = self._lease, None
        if lease is not None:
            with contextlib.suppress(OSError):
                lease.shutdown(socket.SHUT_RDWR)  # close() alone would not wake the thread that waits for its end
            lease.close()

    def _enter(self) -> None:
        try:
            with filelock.FileLock(self.home.start_lock, timeout=START_TIMEOUT + 10):
                self._state, self._lease = self._join(self._options) or self._start()
        except filelock.Timeout:
            raise _not_in_time(self.home) from None
        work = threading.Thread(target=self._follow, args=(self._lease,), daemon=True)
        work.name = f"rtwidgets lease of {self.home.name}"
        work.start()

    def _follow(self, lease: socket.socket) -> None:
        """Waits for the supervisor's end, and replaces one that was killed.

        It is tried several times: whatever killed the one may kill the next, and others may try at the same moment.
        """
        try:
            stopped = lease.recv(1)
        except OSError:
            stopped = b""
        if stopped:
            return  # "bye"
        for wait in _RETRIES:
            time.sleep(wait)
            with self._entering:
                if self._lease is not lease:
                    return  # released, or entered again
                log.warning("the supervisor of %r has ended; starting another", self.home.name)
                try:
                    self._enter()
                except (RealtimeError, OSError) as error:
                    log.warning("the local server %r could not be started again: %s", self.home.name, error)
                else:
                    lease.close()
                    return
        with self._entering:
            if self._lease is lease:
                self._release()

    def _join(self, options: ServerOptions) -> tuple[ServerState, socket.socket] | None:
        state = self.home.read_state()
        if state is None:
            return None
        try:
            _, lease = send_command(state.control, {"do": "lease", "idle_timeout": self._idle_timeout})
        except OSError:
            return None  # left behind by a supervisor that was killed: the next one writes its own
        try:
            _check_same(self.home.name, state, options)
        except RealtimeError:
            lease.close()
            raise
        return state, lease

    def _start(self) -> tuple[ServerState, socket.socket]:
        home, options = self.home, self._options
        home.state_file.unlink(missing_ok=True)
        home.error_file.unlink(missing_ok=True)
        command = [sys.executable, "-m", "rtwidgets.local.supervisor", home.name]
        command += ["--idle-timeout", str(self._idle_timeout), "--port", str(options.port)]
        command += ["--host", options.host or LOOPBACK]
        if options.limits is not None:
            command += ["--limits", options.limits]
        env = dict(os.environ)
        if options.postgres is not None:
            command += ["--postgres", "RTWIDGETS_POSTGRES_DSN"]
            env["RTWIDGETS_POSTGRES_DSN"] = options.postgres
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=home.folder,
            env=env,
            start_new_session=True,
        )
        deadline = time.monotonic() + START_TIMEOUT
        while time.monotonic() < deadline:
            joined = self._join(options._replace(port=0))
            if joined is not None:
                return joined
            if process.poll() is not None:
                raise _failed(home, process.returncode)
            time.sleep(0.02)
        process.terminate()
        raise _not_in_time(home)


def _check_same(name: str, state: ServerState, options: ServerOptions) -> None:
    if options.postgres is not None and options.postgres != state.dsn:
        differs = "on another Postgres"
    elif options.port and options.port != urlsplit(state.url).port:
        differs = f"on port {urlsplit(state.url).port}"
    elif options.limits is not None and options.limits != state.limits:
        differs = "without these limits"
    elif options.host is not None and options.host != state.host:
        differs = f"listening on {state.host}"
    else:
        return
    raise RealtimeError(
        f"A local server of the name {name!r} runs already, {differs}.",
        code="LocalServerDiffers",
        hint=f"Use another name, or stop it first: rtwidgets stop {name}",
    )


def _failed(home: Home, code: int) -> RealtimeError:
    problem = read_json(home.error_file) or {}
    return RealtimeError(
        str(problem.get("message") or f"The local server ended at once, with code {code}."),
        code=str(problem.get("code") or "LocalServerFailed"),
        hint=str(problem.get("hint") or f"See {home.log_file}."),
    )


def _not_in_time(home: Home) -> RealtimeTimeoutError:
    return RealtimeTimeoutError(
        f"The local server did not listen within {START_TIMEOUT:.0f} s.",
        code="LocalServerTimeout",
        hint=f"See {home.log_file}.",
    )
