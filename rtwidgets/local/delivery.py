"""Row changes to those who subscribed to them, in the order of their commits.

A batch goes out at once where everything is known. Where Postgres must be asked who may see a row, or whether it meets
a filter, the answer is waited for as long as it comes quickly; then the groups that need it wait in lanes of their own,
and the others go on. A group whose answers do not come in time is told so, and to read again later.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Iterable
from functools import partial
from itertools import chain
from typing import Any

import psycopg

from ..client.log import child
from ..protocol.server_session import AWAY
from . import json_casts, stored_broadcasts
from .catalogue import Catalogue, Table
from .change_frames import frames_of
from .groups import Group, Groups, Route, Target, is_messages
from .hub import Hub, Member
from .inquiries import SLOW, Inquiries
from .lanes import Lanes, Missed, Notice, Waiting
from .limits import Limits
from .parcels import Parcel, Pieces, chunks, gathered
from .pgoutput import Relation, Transaction
from .pool import Pool
from .recent_transactions import RecentTransactions
from .render import CastConverter
from .transaction_gate import Gate

log = child(__name__)

_REMEMBERED = 10_000
"""Transactions sent, to be visible to everybody before somebody new is told that what follows is all."""
_RETRIES = (0.05, 0.5, 2.0)
"""Seconds between tries while Postgres is away."""


class Delivery:
    """Delivers what the stream hands over.

    Args:
        pool: for questions about subscribers' tables, which may take long.
        hub: where stored broadcasts go.
        spawn: starts a task that ends with the server.
    """

    def __init__(
        self,
        pool: Pool,
        catalogue: Catalogue,
        hub: Hub,
        groups: Groups,
        limits: Limits,
        spawn: Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]],
    ) -> None:
        self.gate = Gate()
        self.recent = RecentTransactions()
        self.sent: deque[int] = deque(maxlen=_REMEMBERED)
        """The last transactions that went out."""
        self.on_table: Callable[[Table], None] = lambda table: None
        """Called with each table that was looked up, before its changes go out."""
        self._pool = pool
        self._catalogue = catalogue
        self._hub = hub
        self._groups = groups
        self._limits = limits
        self._inquiries = Inquiries(pool)
        self._lanes = Lanes(pool, groups, self.gate, self._resume, spawn)
        self._routes: dict[int, tuple[int, Route]] = {}
        """By oid, each with the version of the groups that it was made for."""

    async def stop(self) -> None:
        """Ends what is being asked and what waits for it."""
        self._lanes.clear()
        await self._inquiries.stop()

    # --- the stream

    async def deliver(self, batch: list[Transaction]) -> None:
        """Delivers transactions, or parts of long ones, in order."""
        for group in gathered(batch):
            continued, complete = await self.gate.enter(), False
            try:
                for number, pieces in enumerate(chunks(group)):
                    if number or continued:
                        await self._drain()
                    await self._deliver(pieces)
                for transaction in group:
                    self.recent.add(transaction)
                    if transaction.last:
                        self.sent.append(transaction.xid)
                complete = True
            finally:
                self.gate.leave(more=complete and not group[-1].last)

    def lost(self) -> None:
        """The stream was lost: who shows rows must not show them as if they were true of this moment."""
        self.gate.lose()
        self._lanes.clear()
        self.recent.clear()
        for group in self._groups:
            group.system("error", AWAY)

    def started(self, lsn: int) -> None:
        """A stream has begun, with every transaction from that LSN on. What went out before came before a gap."""
        self.recent.restart(lsn)

    def announce(self) -> None:
        """After the stream was lost and is back: everybody is told again, since changes may have been missed."""
        for group in self._groups:
            self._groups.resume(group)
            self._groups.share(group)
        for group in self._groups:
            self.announce_to(group.members)

    def announce_to(self, members: Iterable[Member], *, resumed: bool = False) -> None:
        """Sends that all changes from here on follow."""
        # Keys of our own: from which LSN a client may resume, and whether it has been.
        more: dict[str, Any] = {} if self.recent.last is None else {"lsn": self.recent.last}
        if resumed:
            more["resumed"] = True
        for member in list(members):
            member.system("postgres_changes", "ok", "Subscribed to PostgreSQL", **more)

    def notify(self, group: Group, text: str, **more: Any) -> None:
        """Sends a `system` message in order with the changes."""
        if group.lane:
            self._lanes.enqueue(group, Notice(lambda: group.system("ok", text, **more)))
        else:
            group.system("ok", text, **more)

    async def _drain(self) -> None:
        """Within a big transaction: lets clients read, for a while those too that are slower than Postgres.

        A client that reads nothing for a second is not waited for again until it goes on: it cannot hold up others.
        """
        await asyncio.sleep(0)
        for group in self._groups:
            for member in list(group.members):
                await member.connection.drain()

    # --- one part

    async def _deliver(self, pieces: Pieces) -> None:
        parcel = await self._prepare(pieces)
        await self._render_first(parcel)
        parcel.start_inquiries(self._inquiries)
        if parcel.awaited():
            await self._await_quick(parcel)
        ready: set[Group] | None = None
        if parcel.has_inquiries or self._lanes.busy:
            ready = set()
            for group in parcel.groups():
                if group.lane or parcel.awaited_by(group):
                    self._lanes.enqueue(group, Waiting(self._write_to, parcel, group))
                elif self._serves(parcel, group):
                    ready.add(group)
        self._broadcast(parcel)
        for group, frames in frames_of(parcel, ready, self._limits.max_record).items():
            group.write(group.members, frames)

    async def _render_first(self, parcel: Parcel) -> None:
        """Has Postgres render the values that only it can, of types with casts of their own; if late, they are text."""
        for mark, route in parcel.routes.items():
            if not route.plans or not any(isinstance(one, CastConverter) for one in route.table.converters):
                continue
            changes = chain.from_iterable(changes for _, changes in parcel.pieces)
            rows = [row for c in changes if id(c.relation) == mark for row in (c.new, c.old) if row is not None]
            try:
                async with asyncio.timeout(SLOW):
                    await json_casts.render(self._pool, route.table.converters, rows)
            except (psycopg.OperationalError, OSError, TimeoutError) as error:
                log.warning("values are sent as text: Postgres did not render them (%s)", type(error).__name__)

    async def _await_quick(self, parcel: Parcel) -> None:
        """Waits a moment for answers, but not for those of a table that has not answered for longer."""
        quick = [
            future
            for mark, route in parcel.routes.items()
            if not self._inquiries.slow(route.table)
            for future in parcel.awaited(mark)
        ]
        if quick:
            await asyncio.wait(quick, timeout=SLOW)

    async def _prepare(self, pieces: Pieces) -> Parcel:
        relations: dict[int, tuple[Relation, int]] = {}
        for transaction, changes in pieces:
            for change in changes:
                if id(change.relation) not in relations:
                    relations[id(change.relation)] = (change.relation, transaction.xid)
        for wait in _RETRIES:
            try:
                return Parcel(pieces, {mark: await self._route(*found) for mark, found in relations.items()})
            except (psycopg.OperationalError, OSError) as error:
                log.warning("changes wait for Postgres: %s", error)
                await asyncio.sleep(wait)
        return Parcel(pieces, {mark: await self._route(*found) for mark, found in relations.items()})

    async def _route(self, relation: Relation, xid: int) -> Route:
        table = self._catalogue.known(relation)
        if table is None:
            table = await self._catalogue.table(relation, xid)
            self.on_table(table)
        version = self._groups.version
        found = self._routes.get(relation.oid)
        if found is not None and found[0] == version and found[1].serves(table):
            return found[1]
        targets = [] if is_messages(relation) else self._groups.targets(table)
        route = await self._new_route(table, targets)
        self._routes[relation.oid] = (version, route)
        return route

    async def _new_route(self, table: Table, targets: list[Target]) -> Route:
        if table.facts is None:  # dropped meanwhile
            return Route(table, [])
        access = [(target, await self._catalogue.access(table, target.group.identity.role)) for target in targets]
        route = Route(table, access)
        if route.strict:
            self._distrust(table)
        return route

    def _distrust(self, table: Table) -> None:
        """Grants or policies have changed without a message in the log: what was written before them is not sent again,
        and the table is looked up anew."""
        if table.relation.table is table:
            table.relation.table = None
            self.recent.clear()

    def _serves(self, parcel: Parcel, group: Group) -> bool:
        for table in parcel.distrusted():
            self._distrust(table)
        return self._lanes.serves(parcel, group)

    def _write_to(self, parcel: Parcel, group: Group, members: Iterable[Member]) -> None:
        if self._serves(parcel, group):
            for frames in frames_of(parcel, {group}, self._limits.max_record).values():
                group.write(members, frames)

    def _broadcast(self, parcel: Parcel) -> None:
        tables = {mark: r.table for mark, r in parcel.routes.items() if is_messages(r.table.relation)}
        for _, changes in parcel.pieces if tables else ():
            for change in changes:
                table = tables.get(id(change.relation))
                if table is not None:
                    stored_broadcasts.deliver(self._hub, table, change)

    # --- one group

    def catch_up(self, member: Member, missed: list[Transaction]) -> None:
        """Sends a channel what it missed, to it alone; what is committed meanwhile comes behind."""
        group = self._groups.of(member)
        if group is None:
            return
        for together in gathered(missed):
            for pieces in chunks(together):
                rows = [(t, [c for c in changes if not is_messages(c.relation)]) for t, changes in pieces]
                look_up = partial(self._prepare_missed, rows, group, member)
                self._lanes.enqueue(group, Missed(self._write_to, look_up, group))
        more: dict[str, Any] = {} if self.recent.last is None else {"lsn": self.recent.last}
        self._lanes.enqueue(group, Notice(lambda: group.system("ok", "Caught up", caught_up=True, **more)))

    async def _prepare_missed(self, pieces: Pieces, group: Group, member: Member) -> Parcel:
        await member.connection.drain()
        routes: dict[int, Route] = {}
        for transaction, changes in pieces:
            for change in changes:
                relation = change.relation
                if id(relation) not in routes:
                    table = await self._catalogue.table(relation, transaction.xid)
                    target = Target(group, table, {})
                    routes[id(relation)] = await self._new_route(table, [target] if target.bindings else [])
        parcel = Parcel(pieces, routes)
        await self._render_first(parcel)
        parcel.start_inquiries(self._inquiries)
        return parcel

    async def _resume(self, group: Group) -> bool:
        """Lets a suspended group go on; its members read again. Whether that could be done."""
        async with self.gate:
            if not await self._catalogue.seen(self.sent):
                return False
            if group.suspended:
                self._groups.resume(group)
                self.announce_to(group.members)
                self._groups.share(group)
            return True
