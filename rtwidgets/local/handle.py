"""`rt.local()`: starts the local server of a name, or joins the one that runs already."""

from __future__ import annotations

import atexit
import contextlib
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

import filelock
import psycopg
from psycopg import sql

from rtwidgets.client.connect import set_default_client
from rtwidgets.client.log import child
from rtwidgets.client.notebook import Client
from rtwidgets.local.auth import mint
from rtwidgets.local.home import Home, read_json
from rtwidgets.local.leases import ask
from rtwidgets.local.limits import PRESETS
from rtwidgets.local.network import Network
from rtwidgets.local.simulate import Simulation, people
from rtwidgets.protocol.errors import RealtimeError

if TYPE_CHECKING:
    import pandas as pd

START_TIMEOUT = 90.0
"""Seconds within which a new supervisor must listen; initdb on a slow disk is most of it."""

LOOPBACK = "127.0.0.1"

log = child(__name__)

_open: dict[str, Local] = {}


def local(
    name: str | None = None,
    *,
    postgres: str | None = None,
    idle_timeout: float = 30.0,
    port: int = 0,
    limits: str | None = None,
    host: str | None = None,
) -> Local:
    """Starts, or joins, the Postgres and realtime server of that name, and makes it the default of everything that
    needs a client.

    Every process of this user that asks for the same name shares one server: that is how two notebooks meet. It stops
    `idle_timeout` seconds after the last of them has gone, however it went; its tables stay for the next time.

    Args:
        name: letters, digits, `-`, `_`, `.`; default the environment variable RTWIDGETS_LOCAL, else `"default"`.
        postgres: a DSN to use instead of the embedded Postgres. It needs `wal_level = logical` and a superuser.
        idle_timeout: seconds.
        port: TCP port if this call starts the server; 0 takes a free one.
        limits: `"supabase"` for the limits of a project on Supabase's free plan; default none but the protocol's.
        host: address to listen on, default 127.0.0.1; any other (`0.0.0.0` for all) only with a secret of yours in the
            environment variable RTWIDGETS_JWT_SECRET, since others can reach it then.

    Raises:
        RealtimeError: with what to do, where there is no Postgres for this platform, the one of the DSN cannot serve,
            the folder cannot be written, or the port is taken.
    """
    name = name or os.environ.get("RTWIDGETS_LOCAL") or "default"
    handle = _open.get(name)
    wanted = Wanted(postgres, port, limits, host)
    if handle is None or handle.over():
        handle = _open[name] = Local(name, wanted, idle_timeout=idle_timeout)
    else:
        handle._refuse_another(handle._state, wanted)
        if handle.client.aio.closed:  # by rt.close_all(): the cell is run again to go on
            handle.client = handle._connect(None)
    set_default_client(handle.client)
    return handle


def running_default() -> tuple[str, str] | None:
    """URL and anonymous key of the local server that runs under the default name, or None."""
    try:
        state = read_json(Home(os.environ.get("RTWIDGETS_LOCAL") or "default").state_file)
        if state is None:
            return None
        ask(state["control"], {"do": "status"})[1].close()
    except (OSError, ValueError, KeyError):
        return None
    return state["url"], state["anon_key"]


class Wanted(NamedTuple):
    """What a call asks of the server; what it leaves out may be as it is."""

    postgres: str | None
    port: int
    limits: str | None
    host: str | None


class Local:
    """A local server that this process uses. Made by `rt.local()`; also a context manager that lets go at its end."""

    url: str
    """Laid out as a Supabase project's URL: any client of Supabase connects to it."""
    anon_key: str
    """JWT of the role `anon`; what `rt.local()` itself connects with."""
    service_key: str
    """JWT of the role `service_role`, which row level security does not bind."""
    dsn: str
    """Connects to Postgres as the superuser."""

    def __init__(self, name: str, wanted: Wanted, *, idle_timeout: float) -> None:
        if sys.platform == "win32":
            raise RealtimeError(
                "rt.local() does not run on Windows yet.",
                code="PlatformNotSupported",
                hint="Run it under WSL, or use a Supabase project: rt.connect(url, key).",
            )
        if wanted.limits is not None and wanted.limits not in PRESETS:
            raise RealtimeError(
                f"There are no limits named {wanted.limits!r}.",
                code="BadLimits",
                hint=f"Use one of: {', '.join(PRESETS)}.",
            )
        self.name = name
        self._home = Home(name)
        self._home.make()
        self._idle_timeout = idle_timeout
        self._clients: list[Client] = []
        self._network: Network | None = None
        self._simulations: list[Simulation] = []
        self._lease: socket.socket | None = None
        self._entering = threading.Lock()
        self._enter(wanted)
        self.client = self._connect(None)

    def __repr__(self) -> str:
        return f"<Local {self.name!r} at {self.url}>"

    # --- what a notebook does with it

    def sql(self, query: str, *params: Any) -> pd.DataFrame | None:
        """Runs SQL as the superuser, committed at once. Values go by `%s` and `params`, never into the text.

        Returns:
            The rows as a DataFrame, or None where the statement returns none.
        """
        with self._database() as connection:
            # Without params, several statements may stand in one text, and a % is just a %.
            cursor = connection.execute(query.encode(), params or None)
            if cursor.description is None:
                return None
            import pandas as pd

            return pd.DataFrame(cursor.fetchall(), columns=[column.name for column in cursor.description])

    def publish(self, *tables: str) -> None:
        """Adds tables (`"orders"` or `"schema.orders"`) to the publication `supabase_realtime`, so that their changes
        are sent.

        Idempotent. Raises RealtimeError for a table that does not exist or has no primary key.
        """
        with self._database() as connection:
            for table in tables:
                schema, _, name = table.rpartition(".")
                schema = schema or "public"
                row = connection.execute(
                    "select c.oid, c.relreplident, exists (select from pg_index i where i.indrelid = c.oid and "
                    "i.indisprimary),"
                    " exists (select from pg_publication_tables p"
                    " where p.pubname = 'supabase_realtime' and p.schemaname = n.nspname and p.tablename = c.relname)"
                    " from pg_class c join pg_namespace n on n.oid = c.relnamespace"
                    " where n.nspname = %s and c.relname = %s and c.relkind in ('r', 'p')",
                    (schema, name),
                ).fetchone()
                if row is None:
                    raise RealtimeError(
                        f"There is no table {schema}.{name}.",
                        code="TableNotFound",
                        hint="Create it first: local.sql('create table ...').",
                    )
                _, identity, keyed, published = row
                if not keyed and identity != "f":
                    raise RealtimeError(
                        f"The table {schema}.{name} has no primary key: published as it is, Postgres would "
                        "refuse its updates and deletes.",
                        code="NoPrimaryKey",
                        hint=f"alter table {schema}.{name} add primary key (...); or, append-only: alter table "
                        f"{schema}.{name} replica identity full;",
                    )
                if not published:
                    connection.execute(
                        sql.SQL("alter publication supabase_realtime add table {}").format(sql.Identifier(schema, name))
                    )

    @contextlib.contextmanager
    def _database(self) -> Iterator[psycopg.Connection]:
        try:
            with psycopg.connect(self.dsn, autocommit=True, connect_timeout=10) as connection:
                yield connection
        except psycopg.OperationalError as error:
            if error.sqlstate is not None and not error.sqlstate.startswith(("08", "57P")):
                raise  # Postgres answered: it is the statement that failed
            raise RealtimeError(
                f"Postgres cannot be reached: {' '.join(str(error).split())}",
                code="PostgresGone",
                retryable=True,
                hint=(
                    f"It is started again by itself within seconds: try again. Else see {self._home.log_file}."
                    if self._answers()
                    else f"The server was stopped: rt.local({self.name!r}) starts it again, with its tables."
                ),
            ) from None

    def token(
        self, sub: str | None = None, role: str = "authenticated", expires_in: float = 3600, **claims: Any
    ) -> str:
        """A JWT of this server: who (`sub`), as which role, for how many seconds, with which further claims."""
        return mint(self._secret, role, sub=sub, expires_in=expires_in, **claims)

    def connect(self, user: str | None = None) -> Client:
        """A further client: as that user (role `authenticated`, `sub` = user) or, without one, as `anon`."""
        return self._connect(user)

    @property
    def network(self) -> Network:
        """The line between this process and the server, to cut, delay and stall: how a dashboard behaves on a bad one.

        Made at first use; from then on this handle's clients speak through it, after one reconnect.
        """
        if self._network is None:
            self._network = Network(self.url)
            self._network.start()
            for client in self._clients:
                self._network.carry(client)
        return self._network

    def simulate(
        self, users: int = 50, *, seed: int = 0, topic: str = "lobby", every: float = 5.0, move: bool = True
    ) -> Simulation:
        """Fills a topic with users who come, are present, send broadcasts of the event `message`, move their pointers
        (event `cursor`), and go.

        Args:
            users: how many; each with a connection and a user id of its own.
            seed: the same seed gives the same people, who say the same things in the same order.
            topic: of the channel.
            every: seconds between two messages of one user, on average.
            move: whether they move pointers too, which are some messages a second for each.

        Returns:
            What `stop()` ends; it also ends with this handle and with this process.

        Raises ValueError for less than one user, or no time between messages.
        """
        if users < 1 or every <= 0:
            raise ValueError(f"users is 1 or more and every above 0 seconds, not {users} and {every:g}")
        crowd = people(users, seed)
        simulation = Simulation(
            {
                "url": self.url,
                "key": self.anon_key,
                "users": users,
                "seed": seed,
                "topic": topic,
                "every": every,
                "move": move,
                "people": [person | {"token": self.token(person["id"], expires_in=86400)} for person in crowd],
            }
        )
        self._simulations.append(simulation)  # it is at work also where nobody keeps what is returned
        return simulation

    def alive(self) -> bool:
        """Whether the server answers and this process still holds its lease."""
        with self._entering:  # while it is started again, that is waited for
            return self._answers()

    def over(self) -> bool:
        """As `not alive()`; one that is over stays so."""
        with self._entering:
            if self._answers():
                return False
            self._release()
            return True

    def _answers(self) -> bool:
        if self._lease is None:
            return False
        try:
            ask(self._control, {"do": "status"})[1].close()
        except OSError:
            return False
        return True

    def _release(self) -> None:
        lease, self._lease = self._lease, None
        if lease is not None:
            with contextlib.suppress(OSError):
                lease.shutdown(socket.SHUT_RDWR)  # close() alone would not wake who waits for its end
            lease.close()

    def close(self) -> None:
        """Lets go: closes this process's clients and its lease. The server stops when nobody else holds one. Safe to
        call twice."""
        for client in self._clients:
            with contextlib.suppress(Exception):
                client.close()
        self._clients.clear()
        while self._simulations:
            self._simulations.pop().stop()
        if self._network is not None:
            self._network.stop()
            self._network = None
        with self._entering:
            self._release()
        if _open.get(self.name) is self:
            del _open[self.name]

    def stop(self) -> None:
        """Stops the server now, for everybody, and waits until it has gone. Its tables stay for the next start."""
        with contextlib.suppress(OSError):
            ask(self._control, {"do": "stop"})[1].close()
        self.close()
        # The supervisor holds this lock until Postgres has stopped.
        with contextlib.suppress(filelock.Timeout), filelock.FileLock(self._home.owner_lock, timeout=30):
            pass

    def __enter__(self) -> Local:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # --- how it comes to be

    def _connect(self, user: str | None) -> Client:
        token = None if user is None else lambda: self.token(user)
        client = Client(self._network.url if self._network else self.url, self.anon_key, token=token)
        self._clients.append(client)
        return client

    def _enter(self, wanted: Wanted) -> None:
        with filelock.FileLock(self._home.start_lock, timeout=START_TIMEOUT + 10):
            state, lease = self._join(wanted) or self._start(wanted)
        self._state = state
        self.url, self.anon_key, self.service_key = state["url"], state["anon_key"], state["service_key"]
        self.dsn, self._secret, self._control = state["dsn"], state["jwt_secret"], state["control"]
        self._lease = lease
        work = threading.Thread(target=self._watch, args=(lease, wanted), daemon=True)
        work.name = f"rtwidgets lease of {self.name}"
        work.start()

    def _watch(self, lease: socket.socket, wanted: Wanted) -> None:
        """Waits for the supervisor's end. One that was killed is followed by a new one, in the same place, where the
        clients of before find it by themselves."""
        try:
            said = lease.recv(1)
        except OSError:
            said = b""
        if said:
            return  # goodbye: it was stopped
        with self._entering:
            if self._lease is not lease:
                return  # it is we who let go
            lease.close()
            self._lease = None
            log.warning("the supervisor of %r has gone; starting another", self.name)
            try:
                self._enter(wanted)
            except (RealtimeError, OSError, filelock.Timeout) as error:
                log.warning("the local server %r did not come back: %s", self.name, error)

    def _join(self, wanted: Wanted) -> tuple[dict[str, Any], socket.socket] | None:
        state = read_json(self._home.state_file)
        if state is None:
            return None
        try:
            _, lease = ask(state["control"], {"do": "lease", "idle_timeout": self._idle_timeout})
        except (OSError, KeyError):
            return None  # left behind by a supervisor that was killed: the next one writes its own
        try:
            self._refuse_another(state, wanted)
        except RealtimeError:
            lease.close()
            raise
        return state, lease

    def _refuse_another(self, state: dict[str, Any], wanted: Wanted) -> None:
        """Raises RealtimeError where the server that runs is not the one that was asked for."""
        port, limits, host = urlsplit(state["url"]).port, state.get("limits"), state.get("host", LOOPBACK)
        if wanted.postgres is not None and wanted.postgres != state["dsn"]:
            differs = "on another Postgres"
        elif wanted.port and wanted.port != port:
            differs = f"on port {port}"
        elif wanted.limits is not None and wanted.limits != limits:
            differs = "without these limits"
        elif wanted.host is not None and wanted.host != host:
            differs = f"listening on {host}"
        else:
            return
        raise RealtimeError(
            f"A local server of the name {self.name!r} runs already, {differs}.",
            code="LocalServerDiffers",
            hint=f"Use another name, or stop it first: rtwidgets stop {self.name}",
        )

    def _start(self, wanted: Wanted) -> tuple[dict[str, Any], socket.socket]:
        self._home.state_file.unlink(missing_ok=True)
        self._home.error_file.unlink(missing_ok=True)
        command = [sys.executable, "-m", "rtwidgets.local.supervisor", self.name]
        command += ["--idle-timeout", str(self._idle_timeout), "--port", str(wanted.port)]
        command += ["--host", wanted.host or LOOPBACK]
        if wanted.limits is not None:
            command += ["--limits", wanted.limits]
        env = dict(os.environ)
        if wanted.postgres is not None:
            command += ["--postgres", "RTWIDGETS_POSTGRES_DSN"]
            env["RTWIDGETS_POSTGRES_DSN"] = wanted.postgres
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=self._home.folder,
            env=env,
            start_new_session=True,
        )
        deadline = time.monotonic() + START_TIMEOUT
        while time.monotonic() < deadline:
            joined = self._join(wanted._replace(port=0))
            if joined is not None:
                return joined
            if process.poll() is not None:
                problem = read_json(self._home.error_file) or {
                    "message": f"The local server ended at once, with code {process.returncode}.",
                    "code": "LocalServerFailed",
                    "hint": f"See {self._home.log_file}.",
                }
                raise RealtimeError(problem["message"], code=problem["code"], hint=problem["hint"])
            time.sleep(0.02)
        process.terminate()
        raise RealtimeError(
            f"The local server did not listen within {START_TIMEOUT:.0f} s.",
            code="LocalServerTimeout",
            retryable=True,
            hint=f"See {self._home.log_file}.",
        )


def _let_go() -> None:
    for handle in list(_open.values()):
        handle.close()


atexit.register(_let_go)
