"""Queues for groups whose changes wait for an answer, and for groups that cannot be served in time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from itertools import chain
from typing import Any

import psycopg

from ..client.log import child
from ..protocol.server_session import AWAY
from .bindings import UNABLE
from .catalogue import Table
from .groups import Group, Groups
from .hub import Member
from .matching import LIMIT as FILTER_LIMIT
from .matching import TooSlow
from .parcels import Parcel
from .policies import LIMIT
from .pool import Pool
from .transaction_gate import Gate
from .visibility import read_access_to_rows

log = child(__name__)

_MOST_WAITING = 20_000
"""Changes that wait for one group."""
_STRIKES = 3
"""Times that Postgres may take too long over a group's filters."""
_PROBES = (1.0, 2.0, 4.0, 8.0, 16.0, 30.0)
"""Seconds until it is tried whether a suspended group can be served again."""

Write = Callable[[Parcel, Group, Iterable[Member]], None]


class Waiting:
    """A parcel, for those who were members when it was their turn."""

    def __init__(self, write: Write, parcel: Parcel, group: Group) -> None:
        self._write = write
        self._parcel = parcel
        self._group = group
        self._members = list(group.members)
        self.size = parcel.size

    async def ready(self) -> None:
        awaited = self._parcel.awaited_by(self._group)
        if awaited:
            await asyncio.wait(awaited)

    def deliver(self) -> None:
        self._write(self._parcel, self._group, self._members)


class Missed:
    """A part of what a channel missed while it was away, looked up when it is its turn."""

    size = 0

    def __init__(self, write: Write, look_up: Callable[[], Awaitable[Parcel]], group: Group) -> None:
        self._write = write
        self._look_up = look_up
        self._group = group
        self._parcel: Parcel | None = None

    async def ready(self) -> None:
        self._parcel = await self._look_up()
        awaited = self._parcel.awaited()
        if awaited:
            await asyncio.wait(awaited)

    def deliver(self) -> None:
        if self._parcel is not None:
            self._write(self._parcel, self._group, self._group.members)


class Notice:
    """Something that is sent when its turn has come."""

    size = 0

    def __init__(self, send: Callable[[], None]) -> None:
        self._send = send

    async def ready(self) -> None:
        pass

    def deliver(self) -> None:
        self._send()


class Lanes:
    """Args:
    pool: for questions about subscribers' tables, which may take long.
    gate: between which transactions groups may change.
    resume: lets a suspended group go on, between two transactions; whether that could be done.
    spawn: starts a task that ends with the server.
    """

    def __init__(
        self,
        pool: Pool,
        groups: Groups,
        gate: Gate,
        resume: Callable[[Group], Awaitable[bool]],
        spawn: Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]],
    ) -> None:
        self._pool = pool
        self._groups = groups
        self._gate = gate
        self._resume = resume
        self._spawn = spawn
        self._busy: set[Group] = set()

    @property
    def busy(self) -> bool:
        """Whether anything waits."""
        return bool(self._busy)

    def enqueue(self, group: Group, entry: Waiting | Missed | Notice) -> None:
        """Puts something behind all that waits for a group."""
        group.lane.append(entry)
        self._busy.add(group)
        if sum(entry.size for entry in group.lane) > _MOST_WAITING:
            self.suspend(group, None, "QueryCanceled: too many changes wait to be checked; they are sent again later")
        elif group.running is None:
            group.running = self._spawn(self._work_off(group))

    def clear(self) -> None:
        """What waits is not delivered any more."""
        for group in self._busy:
            group.stop_lane()
        self._busy.clear()

    async def _work_off(self, group: Group) -> None:
        try:
            await self._deliver_all(group)
            while group.key is None and not group.suspended and group.members:
                # Who is alone joins those that get the same: between two transactions, each goes to one group alone.
                async with self._gate:
                    if not group.lane:
                        self._groups.share(group)
                await self._deliver_all(group)
        except (psycopg.Error, OSError) as error:
            log.warning("what a channel missed could not be sent: %s", error)
            self.suspend(group, None, f"UnableToConnectToProject: {AWAY}")
        finally:
            if not group.lane:
                self._busy.discard(group)
            if group.running is asyncio.current_task():
                group.running = None

    async def _deliver_all(self, group: Group) -> None:
        while group.lane:
            entry = group.lane[0]
            await entry.ready()
            if group.lane and group.lane[0] is entry:
                group.lane.popleft()
                entry.deliver()
        self._busy.discard(group)

    # --- groups that cannot be served

    def serves(self, parcel: Parcel, group: Group) -> bool:
        """Whether the group can be sent this, now that all is known; else it is suspended."""
        if group.suspended:
            return False
        problem = parcel.problem(group)
        if problem is None:
            return True
        if isinstance(problem, TooSlow):
            self._strike(group)
        else:
            name = f"{problem.relation.schema}.{problem.relation.name}"
            text = f"QueryCanceled: Postgres did not tell within {LIMIT:g} s which rows of {name} may be seen; "
            self.suspend(group, problem, text + "changes are sent again once it does")
        return False

    def _strike(self, group: Group) -> None:
        group.strikes += 1
        late = f"the filter took Postgres longer than {FILTER_LIMIT:g} s"
        if group.strikes < _STRIKES:
            self.suspend(group, None, f"QueryCanceled: {late}; changes are sent again later")
            return
        asked = "An exception happened so please check your connect parameters"
        group.system("error", f"{UNABLE} {asked}. Exception: ERROR 57014 (query_canceled) {late}")
        self._busy.discard(group)
        self._groups.end(group)

    def suspend(self, group: Group, table: Table | None, text: str) -> None:
        """Tells a group that it gets nothing for now, drops what waits for it, and sees when it can go on.

        `table`: the one that could not be asked about.
        """
        group.stop_lane()
        self._busy.discard(group)
        if not group.suspended:
            group.suspended = True
            self._groups.changed()
            group.system("error", text)
            self._spawn(self._recover(group, table))

    async def _recover(self, group: Group, table: Table | None) -> None:
        for wait in chain(_PROBES, iter(lambda: _PROBES[-1], 0.0)):
            await asyncio.sleep(wait)
            if not group.suspended or not group.members:
                return
            try:
                if table is not None:
                    await read_access_to_rows(self._pool, table, group.identity)
                if await self._resume(group):
                    return
            except (psycopg.errors.QueryCanceled, TimeoutError):
                continue
            except (psycopg.Error, OSError) as error:
                log.warning("a subscription waits for Postgres: %s", error)
