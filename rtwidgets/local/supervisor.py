"""The detached process that owns Postgres and the realtime server of one name, and ends some time after its last user.

Started by `rt.local()`; run by hand as `python -m rtwidgets.local.supervisor NAME`.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import errno
import logging
import logging.handlers
import os
import secrets
import signal
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import filelock

from rtwidgets.client.log import Redacting, child
from rtwidgets.local import preflight
from rtwidgets.local.auth import mint
from rtwidgets.local.home import Home, ServerState, read_json, write_json
from rtwidgets.local.leases import LeaseBook
from rtwidgets.local.limits import PRESETS
from rtwidgets.local.postgres import Postgres
from rtwidgets.local.server import RealtimeServer
from rtwidgets.local.socket_folder import SocketFolder
from rtwidgets.protocol.errors import RealtimeError

log = child("rtwidgets.local")

RESTARTS = 7
"""How often in a row a Postgres that has ended is started again: within half a minute."""
MOST_LOG = 5_000_000
"""Bytes of a log file."""
TEN_YEARS = 10 * 365 * 24 * 3600
OWN_SECRET = "RTWIDGETS_JWT_SECRET"
"""The environment variable that holds a secret of the user's own."""
LEAST = 32
"""Characters of such a secret, at least: HS256 needs them."""


def keys_of(home: Home) -> dict[str, str]:
    """The secrets of this server: the user's own where there is one, else those made at its first start.

    Raises RealtimeError where the user's own is too short.
    """
    own = os.environ.get(OWN_SECRET)
    if own:
        if len(own) < LEAST:
            raise RealtimeError(
                f"The secret in {OWN_SECRET} has only {len(own)} characters.",
                code="WeakSecret",
                hint=f"Use {LEAST} or more, such as from: openssl rand -base64 48",
            )
        return _keys(own)
    found = read_json(home.secrets_file)
    if found is not None:
        return {name: str(found[name]) for name in ("jwt_secret", "anon_key", "service_key")}
    made = _keys(secrets.token_urlsafe(48))
    write_json(home.secrets_file, made)
    return made


def _keys(secret: str) -> dict[str, str]:
    return {
        "jwt_secret": secret,
        "anon_key": mint(secret, "anon", expires_in=TEN_YEARS),
        "service_key": mint(secret, "service_role", expires_in=TEN_YEARS),
    }


class Supervisor:
    """Runs one local server from start to end.

    Args:
        home: its folder.
        idle_timeout: seconds without a lease after which it stops.
        postgres: DSN of the user's own Postgres; None for the embedded one.
        port: TCP port; 0 for the last one if that is free, else any.
        limits: the name of what it allows; None for the defaults.
        host: address to listen on; another than a loopback one takes a secret of the user's own.
    """

    def __init__(
        self,
        home: Home,
        *,
        idle_timeout: float,
        postgres: str | None = None,
        port: int = 0,
        limits: str | None = None,
        host: str = "127.0.0.1",
    ) -> None:
        self.home = home
        self.host = host
        self.port = port
        self.limits = limits
        self.dsn = postgres
        self.postgres = None if postgres else Postgres(home.data_dir)
        # Starting Postgres blocks, so it has a thread of its own; that thread lives as long as this process, since
        # Postgres is tied to the life of the thread that started it.
        self._keeper = ThreadPoolExecutor(1, "postgres")
        self.keys = keys_of(home)
        self.leases = LeaseBook(idle_timeout, self.status)
        self.server: RealtimeServer | None = None
        self.control = SocketFolder()
        self.started_at = time.time()

    def status(self) -> dict[str, Any]:
        return {
            "name": self.home.name,
            "url": self.server.url if self.server else None,
            "pid": os.getpid(),
            "postgres_pid": self.postgres.pid if self.postgres else None,
            "leases": self.leases.count,
            "uptime_s": round(time.time() - self.started_at, 1),
        }

    async def run(self) -> None:
        try:
            if self.postgres is not None:
                await self._keep(self.postgres.start)
                self.dsn = self.postgres.dsn
            else:
                assert self.dsn is not None
                await preflight.check(self.dsn)
            await self._listen()
            assert self.server is not None
            socket_path = self.control.path / "control"
            await self.leases.listen(socket_path)
            for number in (signal.SIGTERM, signal.SIGINT):
                asyncio.get_running_loop().add_signal_handler(number, self.leases.expired.set)
            state = ServerState(
                url=self.server.url,
                dsn=self.dsn,
                control=str(socket_path),
                pid=os.getpid(),
                host=self.host,
                limits=self.limits,
                **self.keys,
            )
            write_json(self.home.state_file, state)
            log.info("listening on %s", self.server.url)
            await self._watch()
            log.info("stopping: %d leases", self.leases.count)
        finally:
            # The state file goes first, so that whoever comes now starts a new server instead of joining a dying one.
            self.home.state_file.unlink(missing_ok=True)
            await self.leases.close()
            if self.server is not None:
                with contextlib.suppress(Exception):
                    await asyncio.wait_for(self.server.stop(), 10)
            if self.postgres is not None:
                await self._keep(self.postgres.stop)
            self.control.remove()

    def _new_server(self) -> RealtimeServer:
        public = bool(os.environ.get(OWN_SECRET))
        self.server = RealtimeServer(
            self.dsn or "", limits=PRESETS.get(self.limits or ""), host=self.host, public=public, **self.keys
        )
        return self.server

    async def _listen(self) -> None:
        last = (read_json(self.home.folder / "port.json") or {}).get("port", 0)
        server = self._new_server()
        try:
            await server.start(port=self.port or last)
        except OSError as error:
            if self.port or error.errno != errno.EADDRINUSE:
                taken = error.errno == errno.EADDRINUSE
                raise RealtimeError(
                    f"{f'Port {self.port}' if taken else self.host} "
                    f"{'is taken' if taken else 'cannot be listened on'}: {error.strerror}.",
                    code="PortTaken" if taken else "CannotListen",
                    hint="Leave the port out to take a free one, or end the program that listens there."
                    if taken
                    else "The host must be an address of this machine, or 0.0.0.0 for all of them.",
                ) from None
            await server.stop()
            server = self._new_server()
            await server.start(port=0)
        write_json(self.home.folder / "port.json", {"port": server.port})

    async def _watch(self) -> None:
        """Waits for the end, and starts a Postgres that ended meanwhile again, in the same place."""
        failures = 0
        while not self.leases.expired.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.leases.expired.wait(), 0.2 * 2**failures)
            if self.postgres is None or self.postgres.pid is not None or self.leases.expired.is_set():
                continue
            log.warning("Postgres has ended; starting it again")
            try:
                await self._keep(self.postgres.start)
                failures = 0
            except RealtimeError:
                # The processes of a postmaster that was killed may hold its memory for a moment.
                failures += 1
                if failures == RESTARTS:
                    raise
                log.exception("Postgres did not start; trying again")

    async def _keep(self, work: Callable[[], None]) -> None:
        await asyncio.get_running_loop().run_in_executor(self._keeper, work)


def log_to(path: Path) -> None:
    """Writes everything that this process logs, other libraries too, to a file: without secrets, bounded in size."""
    handler = logging.handlers.RotatingFileHandler(path, maxBytes=MOST_LOG, backupCount=1)
    handler.addFilter(Redacting())
    logging.basicConfig(
        handlers=[handler], level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m rtwidgets.local.supervisor")
    parser.add_argument("name")
    parser.add_argument("--idle-timeout", type=float, default=30.0)
    parser.add_argument(
        "--postgres", help="read from the environment variable of this name, so that no password shows in ps"
    )
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--limits", choices=PRESETS)
    arguments = parser.parse_args()
    home = Home(arguments.name)
    home.make()
    os.umask(0o077)
    log_to(home.log_file)
    home.error_file.unlink(missing_ok=True)
    try:
        # The kernel releases it whatever ends this process: never two owners of one data folder.
        with filelock.FileLock(home.owner_lock, timeout=60):
            supervisor = Supervisor(
                home,
                idle_timeout=arguments.idle_timeout,
                postgres=os.environ.get(arguments.postgres) if arguments.postgres else None,
                port=arguments.port,
                limits=arguments.limits,
                host=arguments.host,
            )
            try:
                import uvloop

                uvloop.run(supervisor.run())
            except ImportError:
                asyncio.run(supervisor.run())
    except RealtimeError as error:
        write_json(home.error_file, {"message": error.message, "code": error.code, "hint": error.hint})
        log.error("%s", error)
        sys.exit(1)
    except Exception as error:
        log.exception("the local server failed")
        write_json(
            home.error_file,
            {
                "message": f"The local server failed: {error}",
                "code": "LocalServerFailed",
                "hint": f"See {home.log_file}.",
            },
        )
        sys.exit(1)


if __name__ == "__main__":
    main()
