"""Who receives row changes: channels that get the same bytes form a group, and what each group gets of a table.

A change is framed once a group. What depends on a table and its groups alone is worked out once, as a `Route`.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from typing import Protocol

import msgspec

from ..protocol.filters import Condition
from ..protocol.messages import Vsn
from ..protocol.server_channel import Identity
from . import wire_frames
from .bindings import EVENTS, Binding
from .catalogue import Access, Projection, Table
from .hub import Member
from .matching import Test, Values
from .pgoutput import Relation, Row, RowChange

GroupKey = tuple[Vsn, str, tuple[Binding, ...], str, str]


class LaneEntry(Protocol):
    """Something that goes to a group's members once what it needs is known."""

    size: int
    """Changes in it."""

    async def ready(self) -> None:
        """Waits until that is known."""
        ...

    def deliver(self) -> None:
        """Sends it."""
        ...


class Group:
    """Channels that get the same bytes: serializer, topic, subscriptions and claims are the same.

    While something must be found out before a change may go to it, what follows waits in its lane, in order.
    """

    def __init__(self, key: GroupKey | None, member: Member, bindings: tuple[Binding, ...]) -> None:
        """`key`: None for a group of one that no other channel may join."""
        channel = member.channel
        self.key = key
        self.bindings = bindings
        self.identity: Identity = channel.identity
        self.members: dict[Member, None] = {}
        self.lane: deque[LaneEntry] = deque()
        self.running: asyncio.Task[None] | None = None
        """Works the lane off."""
        self.suspended = False
        """Whether it gets nothing until it is told to read again."""
        self.strikes = 0
        """How often Postgres took too long over its filters."""
        before, self.after = wire_frames.around(member.connection.vsn, channel.topic, "postgres_changes")
        self.before = before + b'{"data":'

    def write(self, members: Iterable[Member], frames: bytes) -> None:
        """Sends framed bytes to those that are still members."""
        for member in list(members):
            if member in self.members:
                member.connection.write(frames)

    def system(self, status: str, text: str, **more: object) -> None:
        """Sends a `system` message about the row changes to every member."""
        for member in list(self.members):
            member.system("postgres_changes", status, text, **more)

    def stop_lane(self) -> None:
        """What waits is not delivered any more."""
        self.lane.clear()
        if self.running is not None and self.running is not asyncio.current_task():
            self.running.cancel()
        self.running = None


class Target:
    """A group's bindings on one table."""

    def __init__(self, group: Group, table: Table, tests: dict[Condition, Test]) -> None:
        """`tests`: those of the table, shared by all who set the same condition."""
        relation = table.relation
        self.group = group
        self.bindings = [b for b in group.bindings if b.covers(relation.oid, relation.schema, relation.name)]
        self.tests: list[tuple[Binding, list[Test]]] = []
        for binding in self.bindings:
            for condition in binding.filter.conditions:
                if condition not in tests:
                    tests[condition] = Test(condition, table)
            self.tests.append((binding, [tests[condition] for condition in binding.filter.conditions]))
        # Where several entries of one channel match, it gets one frame: with the columns that any of them asked for.
        selects = [binding.select for binding in self.bindings]
        self.select = None if None in selects else frozenset(name for select in selects if select for name in select)
        self.filtered = any(tests for _, tests in self.tests)
        self._simple = {
            kind: self._suffix([binding.id for binding in self.bindings if kind in binding.events]) for kind in EVENTS
        }

    def _suffix(self, ids: list[int]) -> bytes:
        return b',"ids":[%b]}%b' % (b",".join(b"%d" % i for i in ids), self.group.after) if ids else b""

    def suffix(self, kind: str, values: Values | None) -> bytes:
        """What ends the frame of a change: its matching ids; empty where none matches.

        `values`: those of the columns that filters look at.
        """
        if not self.filtered:
            return self._simple[kind]
        values = values or {}
        return self._suffix(
            [
                binding.id
                for binding, tests in self.tests
                if kind in binding.events and all(test.matches(values) for test in tests)
            ]
        )


class Plan(msgspec.Struct, eq=False):
    """How one group gets one table's changes."""

    target: Target
    projection: Projection
    error: str
    """What it gets instead of the row, if anything."""
    restricted: bool
    """Whether it must be asked which rows it may see."""


class Route:
    """How the groups get one table's changes, for as long as the grants are believed."""

    def __init__(self, table: Table, targets: list[tuple[Target, Access]]) -> None:
        self.table = table
        self.plans = [_plan(table, target, access) for target, access in targets]
        self.strict = any(access.changed for _, access in targets)
        """Whether grants or policies have changed since the table was looked up."""
        self.until = min((access.until for _, access in targets), default=float("inf"))
        self.restricted = [plan for plan in self.plans if plan.restricted]
        self.tests = list({test for plan in self.plans for _, tests in plan.target.tests for test in tests})
        self._filtered = tuple({test.condition.column for test in self.tests})

    def serves(self, table: Table) -> bool:
        """Whether it is still true of that table."""
        return self.table is table and (not self.plans or self.until > time.monotonic())

    def callers(self) -> list[Identity]:
        """Whose visibility must be asked."""
        return list({plan.target.group.identity: None for plan in self.restricted})

    def versions(self, changes: Iterable[tuple[int, RowChange]]) -> dict[int, Row]:
        """By number, the versions of rows that visibility is asked about."""
        relation = self.table.relation
        return {n: change.new for n, change in changes if change.relation is relation and change.new is not None}

    def values(self, changes: Iterable[tuple[int, RowChange]]) -> dict[int, Values]:
        """By number, the values that filters look at."""
        if not self.tests:
            return {}
        found: dict[int, Values] = {}
        for number, change in changes:
            if change.relation is self.table.relation:
                found[number] = self._values(change)
        return found

    def _values(self, change: RowChange) -> Values:
        table, old, new = self.table, change.old, change.new
        if change.kind == "DELETE":
            # Of a row that is gone nobody can tell who saw it: under row level security its key is all that is sent.
            known, row = (table.key if table.rls else table.identity), old
        else:
            known, row = range(len(table.relation.columns)), new
        values: dict[str, str | None] = {}
        for name in self._filtered:
            i = table.position.get(name)
            if i is None or i not in known or row is None:
                continue
            value = row[i]
            if not isinstance(value, bytes) and value is not None and old is not None and not change.old_is_key:
                value = old[i]  # an update that left a long value as it was
            values[name] = value.decode() if isinstance(value, bytes) else None
        return values


def _plan(table: Table, target: Target, access: Access) -> Plan:
    columns = access.columns & table.every
    if target.select is not None:
        columns &= target.select | table.key_names
    error = ""
    if not table.key:
        error = "Error 400: Bad Request, no primary key"
    elif not table.key_names <= access.columns:
        error = "Error 401: Unauthorized"
    return Plan(target, table.projection(columns), error, not error and (access.restricted or access.changed))


class Groups:
    """All groups, and the tests of their filters."""

    def __init__(self) -> None:
        self._groups: dict[GroupKey, Group] = {}
        self._alone: dict[Group, None] = {}
        self._of: dict[Member, Group] = {}
        self._targets: dict[int, tuple[Table, list[Target]]] = {}
        self.version = 0
        """Changes whenever a group comes, goes, or is suspended."""

    def __iter__(self) -> Iterator[Group]:
        yield from list(self._groups.values())
        yield from list(self._alone)

    def of(self, member: Member) -> Group | None:
        """The group of a member."""
        return self._of.get(member)

    def join(self, member: Member, bindings: tuple[Binding, ...], *, alone: bool = False) -> Group:
        """Puts a member into the group of those that get the same, or into one of its own."""
        self.leave(member)
        channel = member.channel
        key = (member.connection.vsn, channel.topic, bindings, channel.identity.role, channel.identity.claims)
        group = None if alone else self._groups.get(key)
        if group is None:
            group = Group(None if alone else key, member, bindings)
            if alone:
                self._alone[group] = None
            else:
                self._groups[key] = group
            self.changed()
        group.members[member] = None
        self._of[member] = group
        return group

    def leave(self, member: Member) -> None:
        """The member gets nothing more."""
        group = self._of.pop(member, None)
        if group is None:
            return
        group.members.pop(member, None)
        if not group.members:
            self.end(group)

    def end(self, group: Group) -> None:
        """Forgets a group, and what waits for it."""
        for member in group.members:
            self._of.pop(member, None)
        group.members.clear()
        group.stop_lane()
        if group.key is None:
            self._alone.pop(group, None)
        elif self._groups.get(group.key) is group:
            del self._groups[group.key]
        self.changed()

    def resume(self, group: Group) -> None:
        """The group gets changes again."""
        if group.suspended:
            group.suspended = False
            self.changed()

    def share(self, group: Group) -> None:
        """Who is alone joins those that get the same; nothing may wait for it."""
        if group.key is None and not group.lane:
            for member in list(group.members):
                self.join(member, group.bindings)

    def changed(self) -> None:
        """What was worked out for the groups is not true any more."""
        self.version += 1
        self._targets.clear()

    def targets(self, table: Table) -> list[Target]:
        """Those that receive something of a table."""
        oid = table.relation.oid
        found = self._targets.get(oid)
        if found is None or found[0] is not table:
            tests: dict[Condition, Test] = {}
            targets = [Target(group, table, tests) for group in self if not group.suspended]
            found = self._targets[oid] = (table, [target for target in targets if target.bindings])
        return found[1]


def covering(groups: Iterable[Group], schema: str, table: str) -> Mapping[Group, None]:
    """The groups that follow a table of that name, by its name or with a wildcard."""
    return {
        group: None
        for group in groups
        if any(b.schema in ("*", schema) and b.table in ("*", table) for b in group.bindings)
    }


def is_messages(relation: Relation) -> bool:
    """Whether it is the table of stored broadcasts."""
    return relation.schema == "realtime" and relation.name == "messages"
