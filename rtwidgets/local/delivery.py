"""Row changes to those who asked for them: subscriptions, filters, visibility, and frames made once for many.

Channels that would receive the very same bytes (same serializer, topic, subscriptions and claims) form a group: a
change is framed once a group, and all changes of a batch go to each member in one write.
"""

from __future__ import annotations

import asyncio
import re
import zlib
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec
import psycopg
from psycopg import sql

from ..client.log import child
from ..protocol import codec, filters
from ..protocol.errors import RealtimeError
from ..protocol.messages import Vsn
from . import json_casts, wire_frames
from .auth import Identity
from .hub import Channel, Hub
from .limits import Limits
from .matching import PATTERNS, Test, compare
from .pgoutput import Row, RowChange, Transaction
from .pool import Connection, Pool
from .recent_transactions import RecentTransactions
from .rls import Catalogue, Projection, Table

log = child(__name__)

_REMEMBERED = 10_000  # transactions sent, to be seen by everybody before somebody new is told that what follows is all
_CHUNK = 1000  # changes between two looks at other clients
_EVENTS = frozenset({"INSERT", "UPDATE", "DELETE"})
_MAX_IN = 100
_UNABLE = "Unable to subscribe to changes with given parameters."


class SubscribeError(Exception):
    """A subscription that cannot be: the text is what the client is told."""


class Binding(msgspec.Struct, frozen=True):
    """One entry of a join's `postgres_changes`, understood."""

    id: int
    events: frozenset[str]
    schema: str
    table: str
    filter: filters.Filter
    """Its values as Postgres writes them."""
    select: tuple[str, ...] | None


class _Bound(msgspec.Struct):
    """A binding on one table."""

    binding: Binding
    tests: list[Test]


class _Target:
    """A group's bindings on one table, compiled for it."""

    def __init__(self, group: Group, table: Table, tests: dict[filters.Condition, Test]) -> None:
        """`tests`: those of the table, shared by all who set the same condition."""
        relation = table.relation
        self.group = group
        self.bound: list[_Bound] = []
        selects: list[tuple[str, ...] | None] = []
        for binding in group.bindings:
            if binding.schema in ("*", relation.schema) and binding.table in ("*", relation.name):
                for one in binding.filter.conditions:
                    if one not in tests:
                        tests[one] = Test(one, table)
                self.bound.append(_Bound(binding, [tests[one] for one in binding.filter.conditions]))
                selects.append(binding.select)
        # Where several entries of one channel match, it gets one frame: with the columns that any of them asked for.
        self.select = None if None in selects else frozenset(name for select in selects if select for name in select)
        self.simple = {
            kind: self._suffix([bound.binding.id for bound in self.bound if kind in bound.binding.events])
            for kind in _EVENTS
        }
        self.filtered = any(bound.tests for bound in self.bound)

    def _suffix(self, ids: list[int]) -> bytes:
        return b',"ids":[%b]}%b' % (b",".join(b"%d" % i for i in ids), self.group.after) if ids else b""

    def suffix(self, kind: str, values: Mapping[str, Any] | None) -> bytes:
        """What ends the frame of this change: its matching ids; empty where none matches. `values`: those of the
        columns in filters."""
        if not self.filtered:
            return self.simple[kind]
        assert values is not None
        return self._suffix(
            [
                bound.binding.id
                for bound in self.bound
                if kind in bound.binding.events and all(test.holds(values) for test in bound.tests)
            ]
        )


def _hidden(table: Table, kind: str) -> bool:
    """Whether a filter looks at no more than the key, which is all that everybody is told: of a row that is gone nobody
    can tell who saw it."""
    return kind == "DELETE" and table.rls


def _values(table: Table, row: Row, columns: tuple[str, ...], hidden: bool) -> dict[str, Any]:
    """As Postgres writes them, like those of the filter; `hidden`: all but those of the key are unknown."""
    values: dict[str, Any] = {}
    for name in columns:
        i = table.position.get(name)
        value = None if i is None or (hidden and i not in table.key) else row[i]
        values[name] = value.decode() if isinstance(value, bytes) else None
    return values


_Tables = dict[int, tuple[Table, list[_Target]]]


class Group:
    """Channels that get the same bytes."""

    def __init__(self, key: Any, vsn: Vsn, topic: str, bindings: tuple[Binding, ...], identity: Identity) -> None:
        self.key = key
        self.bindings = bindings
        self.identity = identity
        self.members: set[Channel] = set()
        before, self.after = wire_frames.around(vsn, topic, "postgres_changes")
        self.before = before + b'{"data":'


class Changes:
    def __init__(
        self, pool: Pool, catalogue: Catalogue, hub: Hub, limits: Limits, streaming: Callable[[], asyncio.Event]
    ) -> None:
        self._pool = pool
        self._catalogue = catalogue
        self._hub = hub
        self._limits = limits
        self._streaming = streaming
        self._groups: dict[Any, Group] = {}
        self._targets: dict[int, tuple[Table, list[_Target]]] = {}
        self._ring = RecentTransactions()
        self._sent: deque[int] = deque(maxlen=_REMEMBERED)
        self._turn = asyncio.Lock()
        """Held while a transaction goes out, from its first part to its last."""
        self._within = False
        """Between two parts of one."""
        self._losses = 0

    # --- subscriptions

    def answer(self, params: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """What a join's reply says of its `postgres_changes`: the same entries, each with its id."""
        return [{"id": _id(entry), **entry} for entry in params]

    async def subscribe(self, channel: Channel) -> None:
        """Makes the channel's subscriptions true and tells it so, or tells it why not."""
        bindings: list[Binding] | None = None
        while bindings is None:
            try:
                await self._streaming().wait()
                bindings = [await self._check(entry, channel.identity) for entry in channel.params]
            except SubscribeError as error:
                channel.system("postgres_changes", "error", str(error))
                return
            except (psycopg.OperationalError, OSError) as error:
                log.warning("a subscription waits for Postgres: %s", error)
                await asyncio.sleep(0.5)
            except psycopg.Error as error:  # such as a name that no table can have
                channel.system("postgres_changes", "error", f"{_UNABLE} An exception happened. Exception: {error}")
                return
            if channel.closed:
                return
        while not channel.closed:
            try:
                async with self._turn:  # what was sent is in the ring, and what follows comes by itself
                    missed = None if channel.resume is None else self._ring.since(channel.resume)
                    # A snapshot read from now on must hold all that was sent before: a commit is in the log, and sent,
                    # a moment before others see it.
                    if missed is None and not await self._catalogue.seen(self._sent):
                        continue
                    self.unsubscribe(channel)
                    self._join(channel, tuple(bindings))
                    if self._streaming().is_set():  # else `announce` tells it
                        self._subscribed(channel, resumed=missed is not None)
                        if missed is not None:
                            await self._catch_up(channel, missed)
                    # Of this join; when a new token subscribes again, other rows may be visible: to be read anew.
                    channel.resume = None
                    return
            except (psycopg.OperationalError, OSError) as error:
                log.warning("a subscription waits for Postgres: %s", error)
                await asyncio.sleep(0.5)

    def _subscribed(self, channel: Channel, *, resumed: bool = False) -> None:
        # Keys of our own: from which LSN a client may resume, and whether it has been.
        more: dict[str, Any] = {} if self._ring.last is None else {"lsn": self._ring.last}
        if resumed:
            more["resumed"] = True
        channel.system("postgres_changes", "ok", "Subscribed to PostgreSQL", **more)

    async def _catch_up(self, channel: Channel, missed: list[Transaction]) -> None:
        """Sends what a channel missed to it alone."""
        own: Group = channel.group
        alone = Group(None, channel.socket.vsn, channel.name, own.bindings, own.identity)
        alone.members.add(channel)
        for group in _gathered(missed):
            for pieces in _chunks(group):
                await channel.socket.drain(self._limits.max_buffer // 4)
                rows = [(t, [c for c in changes if c.relation.schema != "realtime"]) for t, changes in pieces]
                await self._deliver(rows, alone)

    def _join(self, channel: Channel, bindings: tuple[Binding, ...]) -> None:
        socket, identity = channel.socket, channel.identity
        key = (socket.vsn, channel.name, bindings, identity.role, identity.claims)
        group = self._groups.get(key)
        if group is None:
            group = self._groups[key] = Group(key, socket.vsn, channel.name, bindings, identity)
            self._targets.clear()
        group.members.add(channel)
        channel.group = group

    def unsubscribe(self, channel: Channel) -> None:
        group: Group | None = channel.group
        if group is None:
            return
        channel.group = None
        group.members.discard(channel)
        if not group.members:
            self._groups.pop(group.key, None)
            self._targets.clear()

    def lost(self) -> None:
        """The stream was lost: who shows rows must not show them as if they were true of this moment."""
        self._losses += 1
        if self._within:
            self._within = False
            self._turn.release()
        for group in self._groups.values():
            for channel in group.members:
                channel.system("postgres_changes", "error", "Realtime was unable to connect to the project database")
        self._ring.clear()

    def announce(self) -> None:
        """After the stream was lost and is back: everybody is told again, since changes may have been missed."""
        self._ring.clear()  # what went out after the loss came before the gap
        for group in self._groups.values():
            for channel in group.members:
                self._subscribed(channel)

    async def _check(self, entry: dict[str, Any], identity: Identity) -> Binding:
        schema, table = entry.get("schema"), entry.get("table")
        if not isinstance(schema, str) and not isinstance(table, str):
            raise SubscribeError(
                "No subscription params provided. Please provide at least a `schema` or `table` to subscribe to: "
                + _inspect_map(entry)
            )
        schema = schema if isinstance(schema, str) else "public"
        table = table if isinstance(table, str) else "*"
        event = str(entry.get("event", "*")).upper()
        events = frozenset({event}) if event in _EVENTS else _EVENTS
        text = entry.get("filter") or ""
        select = entry.get("select")
        if select is not None and not (isinstance(select, list) and all(isinstance(name, str) for name in select)):
            raise SubscribeError("Error parsing `select` params: it must be a list of column names")
        if not isinstance(text, str):
            raise SubscribeError("Error parsing `filter` params: it must be text")
        try:
            conditions = list(filters.parse(text).conditions)
        except RealtimeError:
            too_many = _long_list(text)
            if too_many is None:
                raise SubscribeError(f"Error parsing `filter` params: [{_inspect(text)}]") from None
            conditions = [too_many]  # refused below, in the words that Postgres has for it
        shown = f"[event: {event if event in _EVENTS else '*'}, schema: {schema}, table: {table}, "
        shown += f"filters: {_inspect_filters(conditions)}, "
        shown += f"select: {'nil' if select is None else '[' + ', '.join(_inspect(name) for name in select) + ']'}]"
        if select is not None and "*" in (schema, table):
            raise SubscribeError(
                f"{_UNABLE} Column selection is not supported for wildcard subscriptions, "
                f"please check your connect parameters: {shown}"
            )
        wanted = await self._check_table(schema, table, conditions, select, identity, shown)
        return Binding(_id(entry), events, schema, table, wanted, None if select is None else tuple(select))

    async def _check_table(
        self,
        schema: str,
        table: str,
        conditions: list[filters.Condition],
        select: list[str] | None,
        identity: Identity,
        shown: str,
    ) -> filters.Filter:
        """The filter with its values as Postgres writes them; SubscribeError for what it refuses."""
        async with self._pool.connection() as connection:
            cursor = await connection.execute(
                "select c.oid::int8 from pg_catalog.pg_publication_tables p "
                "join pg_catalog.pg_namespace n on n.nspname = p.schemaname "
                "join pg_catalog.pg_class c on c.relnamespace = n.oid and c.relname = p.tablename "
                "where p.pubname = 'supabase_realtime' and (%(s)s::text = '*' or p.schemaname = %(s)s) "
                "and (%(t)s::text = '*' or p.tablename = %(t)s)",
                {"s": schema, "t": table},
            )
            oids = [row[0] for row in await cursor.fetchall()]
            if not oids:
                raise SubscribeError(
                    f"{_UNABLE} Please check Realtime is enabled for the given connect parameters: {shown}"
                )
            failed = (
                f"{_UNABLE} An exception happened so please check your connect parameters: {shown}. Exception: ERROR "
            )
            cursor = await connection.execute(
                "select pg_catalog.pg_has_role('authenticator', oid, 'MEMBER') from pg_catalog.pg_roles "
                "where rolname = %s",
                (identity.role,),
            )
            found = await cursor.fetchone()
            if found is None:
                raise SubscribeError(f'{failed}22023 (invalid_parameter_value) role "{identity.role}" does not exist')
            if not found[0]:
                raise SubscribeError(
                    f'{failed}42501 (insufficient_privilege) permission denied to set role "{identity.role}"'
                )
            if not conditions and select is None:
                return filters.Filter()
            # The type without its length, since a cast to that would cut the value.
            cursor = await connection.execute(
                "select a.attname::text, pg_catalog.format_type(a.atttypid, -1) "
                "from pg_catalog.pg_attribute a join pg_catalog.pg_roles r on r.rolname = %s "
                "where a.attrelid = any(%s) and a.attnum > 0 and not a.attisdropped "
                "and pg_catalog.has_column_privilege(r.oid, a.attrelid, a.attnum, 'SELECT')",
                (identity.role, oids),
            )
            columns = dict(await cursor.fetchall())
            written: list[filters.Condition] = []
            for condition in conditions:
                if condition.column not in columns:
                    raise SubscribeError(
                        f"{failed}P0001 (raise_exception) invalid column for filter {condition.column}"
                    )
                if condition.op == "in" and len(condition.value) > _MAX_IN:
                    raise SubscribeError(
                        f"{failed}P0001 (raise_exception) too many values for `in` filter. Maximum {_MAX_IN}"
                    )
                try:
                    written.append(await _written(connection, condition, columns[condition.column]))
                except psycopg.OperationalError:
                    raise
                except psycopg.Error as error:
                    message = error.diag.message_primary or str(error)
                    name = _condition_name(error)
                    raise SubscribeError(f"{failed}{error.sqlstate} ({name}) {message}") from None
            for name in select or []:
                if name not in columns:
                    raise SubscribeError(f"{failed}P0001 (raise_exception) invalid column for select {name}")
            return filters.Filter(tuple(written))

    # --- delivery

    async def deliver(self, batch: list[Transaction]) -> None:
        losses = self._losses
        for group in _gathered(batch):
            goes_on, self._within = self._within, False
            if not goes_on:
                await self._turn.acquire()
            try:
                for number, pieces in enumerate(_chunks(group)):
                    if number or goes_on:
                        await self._drain()
                    await self._deliver(pieces)
                for transaction in group:
                    self._ring.add(transaction)
                    if transaction.last:
                        self._sent.append(transaction.xid)
                # What is lost has no further part.
                self._within = not group[-1].last and losses == self._losses
            finally:
                if not self._within:
                    self._turn.release()

    async def _deliver(self, pieces: _Pieces, alone: Group | None = None) -> None:
        for wait in (0.05, 0.5, 2):
            try:
                tables, plans = await self._prepare(pieces, alone)
                break
            except (psycopg.OperationalError, OSError) as error:
                log.warning("changes wait for Postgres: %s", error)
                await asyncio.sleep(wait)
        else:
            tables, plans = await self._prepare(pieces, alone)
        self._send(pieces, tables, plans)

    async def _drain(self) -> None:
        """Within a big transaction: lets clients read, for a while those too that are slower than Postgres.

        A client that takes nothing for a second is not waited for again until it reads on: it cannot hold up others.
        """
        await asyncio.sleep(0)
        high = self._limits.max_buffer // 4
        for group in list(self._groups.values()):
            for channel in list(group.members):
                await channel.socket.drain(high)

    async def _prepare(self, pieces: _Pieces, alone: Group | None) -> tuple[_Tables, dict[int, list[_Plan]]]:
        """All that must be asked of Postgres before these changes go out, to everybody or to this group alone."""
        tables: _Tables = {}
        for transaction, changes in pieces:
            for change in changes:
                relation = change.relation
                if id(relation) not in tables:
                    table = self._catalogue.known(relation) or await self._catalogue.table(relation, transaction.xid)
                    targets = self._targets_of(table) if alone is None else _targets([alone], table)
                    tables[id(relation)] = (table, targets)
        xids = {transaction.xid for transaction, _ in pieces}
        every = [change for _, changes in pieces for change in changes]
        for mark, (table, _) in tables.items():
            rows = [row for c in every if id(c.relation) == mark for row in (c.new, c.old) if row is not None]
            await json_casts.ask(self._pool, table.converters, rows)
        plans = {mark: await self._plans(xids, table, targets, every) for mark, (table, targets) in tables.items()}
        return tables, plans

    def _send(self, pieces: _Pieces, tables: _Tables, plans: dict[int, list[_Plan]]) -> None:
        out: dict[Group, list[bytes]] = {}
        max_record = self._limits.max_record
        every = ((change, tail) for tail, changes in _tails(pieces) for change in changes)
        for number, (change, tail) in enumerate(every):
            relation = change.relation
            if relation.schema == "realtime" and relation.name == "messages":
                self._broadcast(tables[id(relation)][0], change)
                continue
            made: dict[Projection | None, bytes] = {}
            for plan in plans[id(relation)]:
                suffix = plan.target.suffix(change.kind, plan.values.get(number))
                if not suffix:
                    continue
                if change.kind != "DELETE":
                    if plan.error:
                        data = _error(plan.table, change.kind, plan.error)
                        group = plan.target.group
                        out.setdefault(group, []).append(wire_frames.framed(group.before + data + suffix))
                        continue
                    if plan.visible is not None and number not in plan.visible:
                        continue
                projection = plan.projection
                data = made.get(projection)
                if data is None:
                    data = made[projection] = _data(plan.table, projection, change, tail, max_record)
                group = plan.target.group
                out.setdefault(group, []).append(wire_frames.framed(group.before + data + suffix))
        for group, made_frames in out.items():
            blob = b"".join(made_frames)
            for channel in list(group.members):
                channel.socket.write(blob)

    def _targets_of(self, table: Table) -> list[_Target]:
        oid = table.relation.oid
        found = self._targets.get(oid)
        if found is None or found[0] is not table:
            found = self._targets[oid] = (table, _targets(self._groups.values(), table))
        return found[1]

    async def _plans(
        self, xids: set[int], table: Table, targets: list[_Target], changes: list[RowChange]
    ) -> list[_Plan]:
        plans: list[_Plan] = []
        asking: list[_Plan] = []
        values = await self._looked_at(table, targets, changes)
        for target in targets:
            role = target.group.identity.role
            grants = await self._catalogue.grants(table, role)
            columns = grants & table.every
            if target.select is not None:
                columns &= target.select | table.key_names
            plan = _Plan(table, target, table.projection(columns), values)
            if not table.key:
                plan.error = "Error 400: Bad Request, no primary key"
            elif not table.key_names <= grants:
                plan.error = "Error 401: Unauthorized"
            elif await self._catalogue.restricted(table, role):
                plan.visible = frozenset()
                asking.append(plan)
            plans.append(plan)
        rows = {
            number: change.new
            for number, change in enumerate(changes)
            if change.relation is table.relation and change.new is not None
        }
        if asking and rows:
            callers = {plan.target.group.identity: None for plan in asking}
            visible = await self._catalogue.visible(table, callers, rows, xids)
            for plan in asking:
                plan.visible = visible[plan.target.group.identity]
        return plans

    async def _looked_at(
        self, table: Table, targets: list[_Target], changes: list[RowChange]
    ) -> dict[int, dict[str, Any]]:
        """By the change's number, the values that filters look at, once Postgres has compared those that only it
        can."""
        tests = {test.condition: test for target in targets for bound in target.bound for test in bound.tests}
        if not tests:
            return {}
        columns = tuple({condition.column for condition in tests})
        values = {
            number: _values(table, row, columns, _hidden(table, change.kind))
            for number, change in enumerate(changes)
            if change.relation is table.relation
            and (row := change.old if change.kind == "DELETE" else change.new) is not None
        }
        for test in tests.values():
            await test.ask(self._pool, values.values())
        return values

    def _broadcast(self, table: Table, change: RowChange) -> None:
        """A row of realtime.messages: realtime.send and realtime.broadcast_changes speak through it."""
        row = change.new
        if change.kind != "INSERT" or row is None:
            return

        def get(name: str) -> bytes | None:
            value = row[table.position[name]]
            return value if isinstance(value, bytes) else None

        topic, event, body = get("topic"), get("event"), get("payload")
        if topic is None or event is None or get("extension") != b"broadcast":
            return
        raw = body is None
        if raw:
            binary = get("binary_payload")
            if binary is None:
                return
            body = bytes.fromhex(binary[2:].decode())
        assert body is not None
        sub, identity = topic.decode(), get("id")
        message = wire_frames.Broadcast(
            f"realtime:{sub}",
            event.decode(),
            body,
            raw=raw,
            binary=True,
            meta={"id": identity.decode()} if identity else None,
        )
        self._hub.broadcast(sub, get("private") == b"t", message)

    async def replay(self, channel: Channel, since_ms: int, limit: int) -> list[wire_frames.Broadcast]:
        """The newest stored broadcasts of a private topic, oldest first."""
        async with self._pool.connection() as connection:
            cursor = await connection.execute(
                "select id::text, event, payload::text, binary_payload from realtime.messages "
                "where topic = %s and private and extension = 'broadcast' "
                "and (payload is not null or binary_payload is not null) "
                "and inserted_at >= to_timestamp(%s) at time zone 'UTC' order by inserted_at desc limit %s",
                (channel.sub, since_ms / 1000, limit),
            )
            rows = await cursor.fetchall()
        return [
            wire_frames.Broadcast(
                channel.name,
                event,
                body.encode() if body is not None else raw,
                raw=body is None,
                binary=True,
                meta={"id": message_id, "replayed": True},
            )
            for message_id, event, body, raw in reversed(rows)
        ]


async def _written(connection: Connection, condition: filters.Condition, kind: str) -> filters.Condition:
    """The condition with its value as Postgres writes one of the column's type, so that all that it reads (`today`) is
    understood. Raises psycopg.Error for what it does not read."""
    if condition.op == "is":
        return condition
    if condition.op in PATTERNS:
        await compare(connection, condition, "text", [""])
        return condition
    values = [condition.value] if isinstance(condition.value, str) else list(condition.value)
    # The type's name comes from the catalogue, never from the client.
    query = sql.SQL("select format('%%s', v::{}) from unnest(%s::text[]) with ordinality as u(v, n) order by n")
    cursor = await connection.execute(query.format(sql.SQL(kind.replace("%", "%%"))), (values,))
    found = tuple([row[0] for row in await cursor.fetchall()])
    await compare(connection, condition, kind, list(found[:1]))  # such as json, which has no operators
    return filters.Condition(
        condition.column, condition.op, found if condition.op == "in" else found[0], condition.negated
    )


_Pieces = list[tuple[Transaction, list[RowChange]]]
"""Transactions, or parts of one, that go out together, so that what must be asked is asked once for all of them."""


def _gathered(batch: Iterable[Transaction]) -> Iterator[list[Transaction]]:
    """Small ones that wait together; a long one, and each part of one but the last, ends its group."""
    group: list[Transaction] = []
    size = 0
    for transaction in batch:
        if group and size + len(transaction.changes) > _CHUNK:
            yield group
            group, size = [], 0
        group.append(transaction)
        size += len(transaction.changes)
        if not transaction.last:
            yield group
            group, size = [], 0
    if group:
        yield group


def _chunks(group: list[Transaction]) -> Iterator[_Pieces]:
    if len(group) > 1:
        yield [(transaction, transaction.changes) for transaction in group]
        return
    (transaction,) = group
    for start in range(0, len(transaction.changes), _CHUNK):
        yield [(transaction, transaction.changes[start : start + _CHUNK])]


def _tails(pieces: _Pieces) -> Iterator[tuple[bytes, list[RowChange]]]:
    """What each transaction's changes have in common, as JSON, and those."""
    for transaction, changes in pieces:
        stamp = datetime.fromtimestamp(transaction.commit_us / 1_000_000, UTC).isoformat(timespec="milliseconds")[:-6]
        yield (
            b'"commit_timestamp":"%bZ","lsn":%d,"xid":%d' % (stamp.encode(), transaction.lsn, transaction.xid),
            changes,
        )


def _targets(groups: Iterable[Group], table: Table) -> list[_Target]:
    tests: dict[filters.Condition, Test] = {}
    targets = [_Target(group, table, tests) for group in groups]
    return [target for target in targets if target.bound]


class _Plan(msgspec.Struct):
    """How one group gets one table's changes of this batch; `visible`: the numbers of those that it may be told of,
    None for all."""

    table: Table
    target: _Target
    projection: Projection
    values: Mapping[int, Mapping[str, Any]]
    """By the change's number: what filters look at."""
    error: str = ""
    visible: Collection[int] | None = None


def _data(table: Table, projection: Projection, change: RowChange, tail: bytes, max_record: int) -> bytes:
    """The JSON of `payload.data`."""
    kind, new, old = change.kind, change.new, change.old
    record = old_record = b""
    if new is not None:
        record = table.full_row(new) if projection.all else table.row(new, projection.indices)
    if kind != "INSERT":
        source = old if old is not None else new
        assert source is not None
        # The identity's columns, which with REPLICA IDENTITY FULL are all; under row level security those of the key.
        wanted = [i for i in table.identity if i in projection.indices and (i in table.key or not table.rls)]
        old_record = table.row(source, wanted)
    errors = b"null"
    if len(record) + len(old_record) > max_record:
        errors = b'["Error 413: Payload Too Large"]'
        if new is not None:
            record = table.row(new, _short(table, new, projection.indices))
        if old_record and old is not None:
            old_record = table.row(old, _short(table, old, wanted))
    parts = [projection.heads[kind], errors, b",", tail]
    if record:
        parts += [b',"record":', record]
    if old_record:
        parts += [b',"old_record":', old_record]
    parts.append(b"}")
    return b"".join(parts)


def _short(table: Table, row: Row, indices: list[int]) -> list[int]:
    """The columns whose values are kept of a row that is too large: as recorded, NULLs are not."""
    return [i for i in indices if isinstance(value := row[i], bytes) and len(table.converters[i](value)) <= 64]


def _error(table: Table, kind: str, error: str) -> bytes:
    data: dict[str, Any] = {"columns": [], "commit_timestamp": None, "errors": [error], "record": {}}
    if kind == "UPDATE":
        data["old_record"] = {}
    data |= {"schema": table.relation.schema, "table": table.relation.name, "type": kind}
    return codec.dumps(data)


def _id(entry: dict[str, Any]) -> int:
    """The same parameters have the same id, as in Supabase (which hashes them with Erlang's phash2, 27 bits)."""
    return zlib.crc32(msgspec.json.encode(entry, order="sorted")) & 0x7FFFFFF


def _long_list(text: str) -> filters.Condition | None:
    """The condition of an `in` with more values than are allowed."""
    found = re.fullmatch(r'([^=,"()]+)=(not\.)?in\.\(([^()"]*)\)', text)
    if found is None or found[3].count(",") < _MAX_IN:
        return None
    return filters.Condition(found[1], "in", tuple(found[3].split(",")), bool(found[2]))


# --- texts as Elixir's `inspect` writes them


def _inspect(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _inspect_map(entry: dict[str, Any]) -> str:
    return (
        "%{" + ", ".join(f"{_inspect(name)} => {_inspect(str(value))}" for name, value in sorted(entry.items())) + "}"
    )


def _inspect_filters(conditions: list[Any]) -> str:
    items = []
    for condition in conditions:
        value = condition.value
        shown = "{" + ",".join(str(item) for item in value) + "}" if isinstance(value, list | tuple) else str(value)
        items.append(
            [_inspect(condition.column), _inspect(condition.op), _inspect(shown), str(condition.negated).lower()]
        )
    line = "[" + ", ".join("{" + ", ".join(item) + "}" for item in items) + "]"
    if len(line) <= 80:
        return line
    return "[\n" + ",\n".join(f"  {{{a}, {b},\n   {c},\n   {d}}}" for a, b, c, d in items) + "\n]"


def _condition_name(error: psycopg.Error) -> str:
    names = {
        "22P02": "invalid_text_representation",
        "22007": "invalid_datetime_format",
        "22003": "numeric_value_out_of_range",
        "22008": "datetime_field_overflow",
        "2201B": "invalid_regular_expression",
    }
    return names.get(error.sqlstate or "", "data_exception")
