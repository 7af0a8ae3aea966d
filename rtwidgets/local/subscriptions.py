"""Subscribes joined channels to row changes, and again when a table was replaced or altered."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

import psycopg

from ..client.log import child
from .bindings import UNABLE, Binding, Published, SubscribeError, check_entry, entry_id, parse_entry, read_published
from .catalogue import Catalogue, Shape, Table
from .delivery import Delivery
from .groups import Groups, covering
from .hub import Member
from .pgoutput import Transaction
from .pool import Pool
from .replication import Blocker

log = child(__name__)

_RETRY = 0.5
"""Seconds between tries while Postgres is away."""
_LOOK = 1.0
"""Seconds between two looks at the tables that are followed."""
_SHARE = 20.0
"""At least so many times as long as a look takes."""

_GONE = Shape("", "", [])
"""The shape of a table that is not published any more."""

Name = tuple[str, str]
"""Schema and table."""


def answer(params: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What a join's reply has of its `postgres_changes`: the same entries, each with its id."""
    return [{"id": entry_id(entry), **entry} for entry in params]


class Subscriptions:
    """Args:
    pool: for questions to the catalogue.
    streaming: set while the stream is whole.
    spawn: starts a task that ends with the server.
    """

    def __init__(
        self,
        pool: Pool,
        catalogue: Catalogue,
        groups: Groups,
        delivery: Delivery,
        streaming: asyncio.Event,
        spawn: Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]],
    ) -> None:
        self._pool = pool
        self._catalogue = catalogue
        self._groups = groups
        self._delivery = delivery
        self._streaming = streaming
        self._spawn = spawn
        self._followers: dict[Name, dict[Member, None]] = {}
        """By the names that entries have, those who asked; also while there is no such table."""
        self._shapes: dict[Name, Shape] = {}
        """What a table was when it was last looked at, also when nobody followed it since; missing where it was never
        published."""
        self._changed: dict[Name, int] = {}
        """By tables that became others, the LSN of the last transaction that was sent before that was seen."""
        self._waiting: dict[Member, None] = {}
        """Those that subscribe once the stream has begun."""
        self._informed: dict[Member, str] = {}
        """What was sent to those that wait for the end of transactions."""
        self._unsettled: set[Name] = set()
        """Tables with open transactions from before they were published: what those wrote is not sent."""
        delivery.on_table = self._saw

    # --- one channel

    async def subscribe(self, member: Member) -> None:
        """Subscribes a channel to what its join asked for, and tells it so, or why not."""
        self._follow(member)
        try:
            bindings = await self._check(member)
        except SubscribeError as error:
            member.system("postgres_changes", "error", str(error))
            return
        await self._enter(member, bindings)

    def unsubscribe(self, member: Member) -> None:
        """The channel gets no more row changes."""
        self._groups.leave(member)
        for name in [name for name, followers in self._followers.items() if member in followers]:
            del self._followers[name][member]
            if not self._followers[name]:
                del self._followers[name]
                self._unsettled.discard(name)

    def _follow(self, member: Member) -> None:
        for entry in member.channel.config.changes:
            schema, table = entry.get("schema"), entry.get("table")
            name = (schema if isinstance(schema, str) else "public", table if isinstance(table, str) else "*")
            self._followers.setdefault(name, {})[member] = None

    async def _check(self, member: Member) -> tuple[Binding, ...]:
        """The entries, checked. Raises SubscribeError; while Postgres is away it waits."""
        while True:
            try:
                await self._stream(member)
                bindings: list[Binding] = []
                for asked in member.channel.config.changes:
                    binding, tables = await check_entry(self._pool, parse_entry(asked), member.channel.identity)
                    bindings.append(binding)
                    for table in tables:
                        self._compare((table.schema, table.table), table)
                return tuple(bindings)
            except (psycopg.OperationalError, OSError) as error:
                log.warning("a subscription waits for Postgres: %s", error)
                await asyncio.sleep(_RETRY)
            except psycopg.Error as error:  # such as a name that no table can have
                raise SubscribeError(f"{UNABLE} An exception happened. Exception: {error}") from None

    async def _stream(self, member: Member) -> None:
        """Waits for the stream."""
        self._waiting[member] = None
        try:
            await self._streaming.wait()
        finally:
            self._waiting.pop(member, None)

    def blocked(self, blockers: list[Blocker]) -> None:
        """The stream does not begin before these sessions have ended their transactions: tells all who wait for it,
        once. Without sessions: it begins now.
        """
        sessions = "; ".join(f"pid {blocker.pid} {blocker.state}" for blocker in blockers)
        text = f"ReplicationBlocked: the stream of changes waits for the end of transactions: {sessions}"
        before, self._informed = self._informed, {}
        if not blockers:
            return
        for member in [*self._waiting, *(member for group in self._groups for member in group.members)]:
            self._informed[member] = text
            if before.get(member) != text:
                member.system("postgres_changes", "error", text)

    async def _enter(
        self, member: Member, bindings: tuple[Binding, ...], changed: Mapping[str, str] | None = None
    ) -> None:
        """Lets the channel receive from a moment between two transactions on.

        `changed`: the table that became another, where that is why it subscribes.
        """
        while not member.channel.closed:
            try:
                async with self._delivery.gate:  # what was sent is remembered, and what follows comes by itself
                    missed = await self._missed(member, bindings)
                    # A snapshot read from now on must have all that was sent before: a commit is in the log, and sent,
                    # a moment before others see it.
                    if missed is None and not await self._catalogue.seen(self._delivery.sent):
                        continue
                    if member.channel.closed:
                        return
                    group = self._groups.join(member, bindings, alone=missed is not None)
                    if group.suspended:
                        return  # it is told with the others
                    if changed is not None:
                        member.system("postgres_changes", "ok", "Table changed", changed=changed, rows_kept=False)
                    elif self._streaming.is_set():  # else it is announced with all others
                        self._delivery.announce_to([member], resumed=missed is not None)
                        if missed is not None:
                            self._delivery.catch_up(member, missed)
                    # Of this join; when a new token subscribes again, other rows may be visible: to be read anew.
                    member.channel.resume = None
                    return
            except (psycopg.OperationalError, OSError) as error:
                log.warning("a subscription waits for Postgres: %s", error)
                await asyncio.sleep(_RETRY)

    async def _missed(self, member: Member, bindings: tuple[Binding, ...]) -> list[Transaction] | None:
        """What the channel missed since it was last there; None where it has to read again.

        It has to where a table has become another since, or where grants or policies have changed: what was hidden
        when it was written stays so.
        """
        since = member.channel.resume
        if since is None or any(self._changed_since(binding, since) for binding in bindings):
            return None
        missed = self._delivery.recent.since(since)
        if not missed:
            return missed
        relations = {id(c.relation): c.relation for t in missed for c in t.changes}
        now = await self._catalogue.accesses(list(relations.values()))
        for relation in relations.values():
            table = self._catalogue.known(relation)
            if table is None or table.facts is None or now.get(relation.oid) != table.facts.access:
                return None
        return missed

    def _changed_since(self, binding: Binding, lsn: int) -> bool:
        return any(
            lsn <= last and binding.schema in ("*", schema) and binding.table in ("*", table)
            for (schema, table), last in self._changed.items()
        )

    # --- tables that become others

    async def watch(self) -> None:
        """Looks again and again at the tables that are followed: not every change of a table is in the log."""
        written: Any = None
        took = 0.0
        while True:
            await asyncio.sleep(max(_LOOK, _SHARE * took))
            names = list(self._followers)
            if not names or not self._streaming.is_set():
                continue
            before = dict(self._shapes)
            began = time.monotonic()
            try:
                async with self._pool.connection() as connection:
                    # The snapshot too: a commit is in the log a moment before others see it.
                    cursor = await connection.execute(
                        "select pg_current_wal_insert_lsn()::text, pg_current_snapshot()::text"
                    )
                    position = await cursor.fetchone()
                    if position == written and not self._unsettled:
                        continue
                    found = {(table.schema, table.table): table for table in await read_published(connection, names)}
                written = position
            except (psycopg.Error, OSError) as error:
                log.debug("the tables could not be looked at: %s", error)
                continue
            took = time.monotonic() - began
            for name in {*found, *(name for name in self._shapes if self._followed(name))}:
                if self._shapes.get(name) != before.get(name):
                    written = None  # somebody else looked meanwhile, perhaps later: look once more
                elif self._followed(name):
                    self._compare(name, found.get(name))

    def _followed(self, name: Name) -> bool:
        """Whether somebody follows a table of that name, by its name or with a wildcard."""
        schema, table = name
        return any(one in self._followers for one in (name, (schema, "*"), ("*", table), ("*", "*")))

    def _compare(self, name: Name, table: Published | None) -> None:
        """Looks whether a table that is followed is another than before."""
        before, settled = self._shapes.get(name), False
        if table is None:
            self._unsettled.discard(name)
            if before not in (None, _GONE):
                self._learn(name, _GONE, rows_kept=False)
            return
        if table.unsettled:
            self._unsettled.add(name)
        elif name in self._unsettled:
            self._unsettled.discard(name)
            settled = True
        if before not in (None, table.shape):
            self._catalogue.forget(table.oid)
        if settled or before != table.shape:
            kept = not settled and before is not None and table.shape.keeps_rows_of(before)
            self._learn(name, table.shape, rows_kept=kept)
        if before != table.shape:
            self._subscribe_again(name)

    def _saw(self, table: Table) -> None:
        """A table was looked up, since the log has a new shape of it."""
        facts, name = table.facts, (table.relation.schema, table.relation.name)
        if facts is None or not facts.current:
            return
        before, shape = self._shapes.get(name), facts.shape
        if before == shape:
            return
        self._learn(name, shape, rows_kept=before is not None and shape.keeps_rows_of(before))
        self._subscribe_again(name)

    def _learn(self, name: Name, shape: Shape, *, rows_kept: bool) -> None:
        """A table is another: sends so to all who follow it. `rows_kept`: rows read before are still true."""
        known, last = name in self._shapes, self._delivery.recent.last
        self._shapes[name] = shape
        if not known:
            return
        if last is not None:  # else nobody can resume
            self._changed[name] = last
        changed = {"schema": name[0], "table": name[1]}
        for group in covering(self._groups, *name):
            self._delivery.notify(group, "Table changed", changed=changed, rows_kept=rows_kept)

    def _subscribe_again(self, name: Name) -> None:
        for member in list(self._followers.get(name, ())):
            if member.subscribing is None or member.subscribing.done():
                member.subscribing = self._spawn(self._again(member, name))

    async def _again(self, member: Member, name: Name) -> None:
        """Checks a channel's entries anew; where they come to something else, it subscribes to that."""
        group = self._groups.of(member)
        try:
            bindings = await self._check(member)
        except SubscribeError as error:
            if group is not None:
                self._groups.leave(member)
                member.system("postgres_changes", "error", str(error))
            return
        if group is None:
            await self._enter(member, bindings)
        elif bindings != group.bindings:
            await self._enter(member, bindings, {"schema": name[0], "table": name[1]})
