"""Presence: who is on a channel, from `presence_state` and `presence_diff`.

States are immutable: each change makes a new mapping, so one that somebody holds never changes. A key in both halves
of a diff is an update
(a re-track), not a leave and a join. Source: Phoenix' Presence (phoenix.js) and the frames recorded from Supabase
Realtime v2.122.0.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, cast

import msgspec

Meta = Mapping[str, Any]
State = Mapping[str, tuple[Meta, ...]]

EMPTY: State = MappingProxyType({})
MOST_PENDING = 1000
"""Diffs that wait for a state; with more, none will come, and what is known is better than nothing."""


class PresenceChange(msgspec.Struct, frozen=True):
    """What one frame did.

    `state` is the whole state after it: key to that key's metas, one a connection, each with its `phx_ref`. `joins`,
    `leaves` and
    `updates` hold the metas that came, went, or replaced another of the same connection. `sync`: the frame was a whole
    state.
    """

    state: State
    joins: dict[str, tuple[Meta, ...]] = {}
    leaves: dict[str, tuple[Meta, ...]] = {}
    updates: dict[str, tuple[Meta, ...]] = {}
    sync: bool = False


def _ref(meta: Meta) -> Any:
    return meta.get("phx_ref")


def parse_state(payload: Any) -> dict[str, tuple[Meta, ...]]:
    """Key to metas, from a `presence_state` payload or a half of a diff. What does not fit is left out."""
    found: dict[str, tuple[Meta, ...]] = {}
    if not isinstance(payload, Mapping):
        return found
    for key, entry in cast("Mapping[Any, Any]", payload).items():
        metas: Any = cast("Mapping[str, Any]", entry).get("metas") if isinstance(entry, Mapping) else None
        if isinstance(metas, list):
            kept = tuple(cast("Meta", meta) for meta in cast("list[Any]", metas) if isinstance(meta, Mapping))
            if kept:
                found[str(key)] = kept
    return found


def apply_diff(state: State, joins: State, leaves: State) -> PresenceChange:
    """The state after a diff, and what the diff did: joins first, then leaves, both by `phx_ref`, as Phoenix does."""
    after: dict[str, tuple[Meta, ...]] = dict(state)
    came: dict[str, tuple[Meta, ...]] = {}
    went: dict[str, tuple[Meta, ...]] = {}
    updated: dict[str, tuple[Meta, ...]] = {}
    for key, metas in joins.items():
        before = after.get(key, ())
        known = {_ref(meta) for meta in before}
        new_refs = {_ref(meta) for meta in metas}
        after[key] = tuple(meta for meta in before if _ref(meta) not in new_refs) + tuple(metas)
        fresh = tuple(meta for meta in metas if _ref(meta) not in known)
        if fresh:
            came[key] = fresh
    for key, metas in leaves.items():
        before = after.get(key, ())
        gone_refs = {_ref(meta) for meta in metas}
        gone = tuple(meta for meta in before if _ref(meta) in gone_refs)
        rest = tuple(meta for meta in before if _ref(meta) not in gone_refs)
        if rest:
            after[key] = rest
        else:
            after.pop(key, None)
        if gone:
            went[key] = gone
    for key in [key for key in came if key in went]:
        # A re-track names the meta that it replaces; what is paired off so is an update, the rest really came or went.
        replaced = {_ref(meta) for meta in went[key]}
        pairs = tuple(meta for meta in came[key] if meta.get("phx_ref_prev") in replaced)
        if not pairs:
            continue
        updated[key] = pairs
        prevs = {meta.get("phx_ref_prev") for meta in pairs}
        _keep(came, key, tuple(meta for meta in came[key] if meta not in pairs))
        _keep(went, key, tuple(meta for meta in went[key] if _ref(meta) not in prevs))
    return PresenceChange(MappingProxyType(after), came, went, updated)


def _keep(half: dict[str, tuple[Meta, ...]], key: str, metas: tuple[Meta, ...]) -> None:
    if metas:
        half[key] = metas
    else:
        del half[key]


class PresenceMachine:
    """Follows one channel's presence. Diffs that come before the join's `presence_state` wait for it."""

    def __init__(self) -> None:
        self.state: State = EMPTY
        self.synced = False
        self._pending: list[tuple[State, State]] = []

    def rejoin(self) -> None:
        """A new join began: its `presence_state` comes first; until then the old state stands."""
        self.synced = False
        self._pending.clear()

    def expect_no_state(self) -> None:
        """The join did not ask for presence, so no `presence_state` will come: diffs apply at once."""
        self.synced = True

    def clear(self) -> PresenceChange:
        """Everybody is gone from view: the channel was left."""
        change = apply_diff(self.state, {}, self.state)
        self.state, self.synced = EMPTY, False
        self._pending.clear()
        return change

    def on_state(self, payload: Any) -> PresenceChange:
        """A `presence_state` payload: told as what differs from the state so far, with the diffs that waited."""
        before = self.state
        after: State = parse_state(payload)
        for joins, leaves in self._pending:
            after = apply_diff(after, joins, leaves).state
        return self._replace(before, after, sync=True)

    def _give_up(self) -> PresenceChange:
        before = after = self.state
        for joins, leaves in self._pending:
            after = apply_diff(after, joins, leaves).state
        return self._replace(before, after, sync=False)

    def _replace(self, before: State, after: State, *, sync: bool) -> PresenceChange:
        self._pending.clear()
        self.synced = True
        joins = {k: kept for k, metas in after.items() if (kept := _without(metas, before.get(k, ())))}
        leaves = {k: kept for k, metas in before.items() if (kept := _without(metas, after.get(k, ())))}
        told = apply_diff(before, joins, leaves)
        self.state = MappingProxyType(dict(after))
        return PresenceChange(self.state, told.joins, told.leaves, told.updates, sync=sync)

    def on_diff(self, payload: Any) -> PresenceChange | None:
        """A `presence_diff` payload; None while it waits for the state."""
        fields: Mapping[str, Any] = cast("Mapping[str, Any]", payload) if isinstance(payload, Mapping) else {}
        joins, leaves = parse_state(fields.get("joins")), parse_state(fields.get("leaves"))
        if not self.synced:
            self._pending.append((joins, leaves))
            return self._give_up() if len(self._pending) > MOST_PENDING else None
        change = apply_diff(self.state, joins, leaves)
        self.state = change.state
        return change


def _without(metas: tuple[Meta, ...], others: tuple[Meta, ...]) -> tuple[Meta, ...]:
    known = {_ref(meta) for meta in others}
    return tuple(meta for meta in metas if _ref(meta) not in known)
