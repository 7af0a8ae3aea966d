"""`rt.local()`: the local server of a name, as this process uses it."""

from __future__ import annotations

import atexit
import contextlib
import os
import sys
from collections.abc import Generator
from types import TracebackType
from typing import TYPE_CHECKING, Any

import psycopg

from rtwidgets.client.connect import set_default_client
from rtwidgets.client.notebook import Client
from rtwidgets.client.thread import on_io_thread, run
from rtwidgets.local.auth import mint
from rtwidgets.local.home import default_name
from rtwidgets.local.limits import PRESETS
from rtwidgets.local.network import Network
from rtwidgets.local.pool import FORMATS, with_settings
from rtwidgets.local.publishing import publish
from rtwidgets.local.shared_server import ServerOptions, SharedServer
from rtwidgets.local.simulate import Simulation, people
from rtwidgets.protocol.errors import RealtimeError

if TYPE_CHECKING:
    import pandas as pd

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
    """Starts or joins the Postgres and realtime server of that name, and makes a client of it the default client.

    Every process of this user that gives the same name shares one server, so two notebooks can exchange messages. The
    server stops `idle_timeout` seconds after the last process has ended, however it ended; its tables stay for the
    next start.

    Args:
        name: letters, digits, `-`, `_`, `.`; default the environment variable RTWIDGETS_LOCAL, else `"default"`.
        postgres: a DSN to use instead of the embedded Postgres. It needs `wal_level = logical` and a superuser.
        idle_timeout: seconds.
        port: TCP port if this call starts the server; 0 takes a free one.
        limits: `"supabase"` for the limits of a project on Supabase's free plan; default none but the protocol's.
        host: address to listen on, default 127.0.0.1. Any other (`0.0.0.0` for all) needs a secret of your own in the
            environment variable RTWIDGETS_JWT_SECRET, since other machines can reach it then.

    Raises:
        RealtimeError: where there is no Postgres for this platform, the one of the DSN cannot serve, the folder cannot
            be written, the port is taken, or a server of that name runs with other options. `hint` says what to do.
    """
    name = default_name(name)
    options = ServerOptions(postgres, port, limits, host)
    handle = _open.get(name)
    if handle is None or handle.over():
        handle = _open[name] = Local(name, options, idle_timeout=idle_timeout)
    else:
        handle.rejoin(options)
    set_default_client(handle.client)
    return handle


def local_of(client: Client) -> Local | None:
    """The local server of this process that the client was made by."""
    return next((handle for handle in _open.values() if handle.made(client)), None)


class Local:
    """A local server that this process uses. Made by `rt.local()`; also a context manager that closes at its end."""

    def __init__(self, name: str, options: ServerOptions, *, idle_timeout: float) -> None:
        if sys.platform == "win32":
            raise RealtimeError(
                "rt.local() does not run on Windows yet.",
                code="PlatformNotSupported",
                hint="Run it under WSL, or use a Supabase project: rt.connect(url, key).",
            )
        if options.limits is not None and options.limits not in PRESETS:
            raise RealtimeError(
                f"There are no limits named {options.limits!r}.",
                code="BadLimits",
                hint=f"Use one of: {', '.join(PRESETS)}.",
            )
        self.name = name
        self._server = SharedServer(name, options, idle_timeout)
        self._clients: list[Client] = []
        self._network: Network | None = None
        self._simulations: list[Simulation] = []
        self._server.enter()
        try:
            self.client = self.connect()
            """What `rt.local()` makes the default client."""
        except BaseException:  # such as an interrupted cell
            self._server.release()
            raise

    def __repr__(self) -> str:
        return f"<Local {self.name!r} at {self.url}>"

    @property
    def url(self) -> str:
        """Laid out as a Supabase project's URL: any client of Supabase connects to it."""
        return self._server.state.url

    @property
    def anon_key(self) -> str:
        """JWT of the role `anon`; what `rt.local()` itself connects with."""
        return self._server.state.anon_key

    @property
    def service_key(self) -> str:
        """JWT of the role `service_role`, which bypasses row level security."""
        return self._server.state.service_key

    @property
    def dsn(self) -> str:
        """Connects to Postgres as the superuser."""
        return self._server.state.dsn

    # --- the database

    def sql(self, query: str, *params: Any) -> pd.DataFrame | None:
        """Runs SQL as the superuser, committed at once. Pass values as `params` for `%s`, never in the text.

        Without `params`, the text may hold several statements, and `%` stands for itself.

        Returns:
            The rows as a DataFrame, or None where the statement returns none.

        Raises:
            RealtimeError: where Postgres cannot be reached.
            psycopg.Error: what Postgres says of the statement.
        """
        with self._database() as connection:
            cursor = connection.execute(query.encode(), params or None)
            if cursor.description is None:
                return None
            import pandas as pd

            return pd.DataFrame(cursor.fetchall(), columns=[column.name for column in cursor.description])

    def publish(self, *tables: str) -> None:
        """Adds tables (`"orders"` or `"schema.orders"`) to the publication `supabase_realtime`, so that their changes
        are sent. Safe to call again.

        A name that holds a dot stands in double quotes, as in SQL: `'"a.b"'`. A partitioned table is published as a
        whole, under its own name.

        Raises RealtimeError for a table that does not exist, is a view, or has no primary key or other replica
        identity; `hint` has the SQL that helps.
        """
        with self._database() as connection:
            for table in tables:
                publish(connection, table)

    @contextlib.contextmanager
    def _database(self) -> Generator[psycopg.Connection]:
        dsn = with_settings(self.dsn, FORMATS)
        try:
            with psycopg.connect(dsn, autocommit=True, connect_timeout=10) as connection:
                yield connection
        except psycopg.OperationalError as error:
            if error.sqlstate is not None and not error.sqlstate.startswith(("08", "57P")):
                raise  # Postgres answered: it is the statement that failed
            raise RealtimeError(
                f"Postgres cannot be reached: {' '.join(str(error).split())}",
                code="PostgresGone",
                retryable=True,
                hint=(
                    f"The supervisor starts it again within seconds: try again. Else see {self._server.home.log_file}."
                    if self._server.answers()
                    else f"The server was stopped: rt.local({self.name!r}) starts it again, with its tables."
                ),
            ) from None

    # --- clients

    def token(
        self, sub: str | None = None, role: str = "authenticated", expires_in: float = 3600, **claims: Any
    ) -> str:
        """A JWT of this server: of the user `sub`, for `role`, valid for `expires_in` seconds, with further `claims`.

        Policies that call `auth.uid()` need a `sub` that is a UUID.
        """
        return mint(self._server.state.jwt_secret, role, sub=sub, expires_in=expires_in, **claims)

    def connect(self, user: str | None = None) -> Client:
        """A further client: as that user (role `authenticated`, `sub` = user) or, without one, as `anon`."""
        token = None if user is None else lambda: self.token(user)
        client = Client(self._network.url if self._network else self.url, self.anon_key, token=token)
        self._clients.append(client)
        return client

    def made(self, client: Client) -> bool:
        """Whether the client is one of this handle's."""
        return client in self._clients

    @property
    def network(self) -> Network:
        """The network between this process and the server, to cut, delay and stall: how a dashboard behaves on a bad
        one.

        Made at first use; from then on this handle's clients connect through it, after one reconnect.
        """
        if self._network is None:
            self._network = Network(self.url)
            self._network.start()
            _move(self._clients, self._network.url)
        return self._network

    def simulate(
        self, users: int = 50, *, seed: int = 0, topic: str = "lobby", every: float = 5.0, move: bool = True
    ) -> Simulation:
        """Fills a topic with users who join, are present, send broadcasts of the event `message`, move their pointers
        (event `cursor`), and leave.

        Args:
            users: how many; each with a connection and a user id of its own.
            seed: the same seed gives the same people, who send the same messages in the same order.
            topic: of the channel.
            every: seconds between two messages of one user, on average.
            move: whether they move pointers too, which are some messages a second for each.

        Returns:
            The simulation, for its `stop()`; it also ends with this handle and with this process.

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
        self._simulations.append(simulation)  # it runs also where nobody keeps what is returned
        return simulation

    # --- life

    def alive(self) -> bool:
        """Whether the server answers and this process still has its lease."""
        return self._server.alive()

    def over(self) -> bool:
        """As `not alive()`; one that is over stays so."""
        return self._server.over()

    def rejoin(self, options: ServerOptions) -> None:
        """Uses the server again, with a new client where the last one was closed (`rt.close_all()`).

        Raises RealtimeError where the server runs with other options.
        """
        self._server.check(options)
        if self.client.aio.closed:
            self.client = self.connect()

    def close(self) -> None:
        """Closes this process's clients and ends its lease. The server stops when nobody else has one. Safe to call
        twice."""
        for client in self._clients:
            with contextlib.suppress(Exception):
                client.close()
        self._clients.clear()
        while self._simulations:
            self._simulations.pop().stop()
        if self._network is not None:
            self._network.stop()
            self._network = None
        self._server.release()
        if _open.get(self.name) is self:
            del _open[self.name]

    def stop(self) -> None:
        """Stops the server now, for everybody, and waits until it has stopped. Its tables stay for the next start."""
        self._server.stop()
        self.close()

    def forget(self) -> None:
        """After a fork, in the child: the server and its clients are the parent's."""
        self._clients.clear()
        self._simulations.clear()
        self._network = None
        self._server.forget()

    def __enter__(self) -> Local:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _move(clients: list[Client], url: str) -> None:
    """Lets clients connect to another URL from now on."""

    def work() -> None:
        for client in clients:
            client.aio.move(url)

    async def on_the_loop() -> None:
        work()

    if on_io_thread():
        work()
    else:
        run(on_the_loop(), 10)


def _close_all() -> None:
    for handle in list(_open.values()):
        handle.close()


def _after_fork() -> None:
    for handle in _open.values():
        handle.forget()
    _open.clear()


atexit.register(_close_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
