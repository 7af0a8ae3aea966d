"""Presence as a server keeps it: who tracks what on one topic, and the diffs that its members receive."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from typing import Any, Generic, TypeVar

Owner = TypeVar("Owner", bound=Hashable)
Meta = dict[str, Any]
_REFS = ("phx_ref", "phx_ref_prev")


class PresenceTracker(Generic[Owner]):
    """Tracks one topic. What changes is collected until `diff` hands it out: joins first, then leaves, by `phx_ref`.

    Args:
        new_ref: makes a `phx_ref`, different each time.
    """

    def __init__(self, new_ref: Callable[[], str]) -> None:
        self._new_ref = new_ref
        self._present: dict[str, dict[Owner, Meta]] = {}
        self._joins: dict[str, dict[str, Meta]] = {}
        self._leaves: dict[str, dict[str, Meta]] = {}

    @property
    def changed(self) -> bool:
        """Whether `diff` would hand out something."""
        return bool(self._joins or self._leaves)

    def track(self, owner: Owner, key: str, state: Mapping[str, Any]) -> None:
        """The owner is present under that key with that state, instead of what it tracked before."""
        metas = self._present.setdefault(key, {})
        own = {name: value for name, value in state.items() if name not in _REFS}
        before = metas.get(owner)
        if before is not None and {name: value for name, value in before.items() if name not in _REFS} == own:
            return
        meta: Meta = {"phx_ref": self._new_ref()}
        if before is not None:
            meta["phx_ref_prev"] = before["phx_ref"]
            self._left(key, before)
        metas[owner] = meta = meta | own
        self._joins.setdefault(key, {})[meta["phx_ref"]] = meta

    def untrack(self, owner: Owner, key: str) -> None:
        """The owner is not present any more."""
        metas = self._present.get(key)
        meta = metas.pop(owner, None) if metas is not None else None
        if meta is None:
            return
        if not metas:
            del self._present[key]
        self._left(key, meta)

    def state(self) -> dict[str, Any]:
        """The payload of a `presence_state`."""
        return {key: {"metas": list(metas.values())} for key, metas in self._present.items()}

    def diff(self) -> dict[str, Any]:
        """The payload of a `presence_diff`: what changed since the last one."""
        halves = {"joins": self._joins, "leaves": self._leaves}
        self._joins, self._leaves = {}, {}
        return {
            name: {key: {"metas": list(metas.values())} for key, metas in half.items()} for name, half in halves.items()
        }

    def _left(self, key: str, meta: Meta) -> None:
        ref = meta["phx_ref"]
        joins = self._joins.get(key)
        if joins is None or joins.pop(ref, None) is None:
            self._leaves.setdefault(key, {})[ref] = meta
        elif not joins:  # nobody was told that it came
            del self._joins[key]
