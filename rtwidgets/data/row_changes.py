"""What a batch of row changes says as a whole: the rows that it touches, what was refused, what came before."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from ..protocol.errors import RealtimeError
from ..protocol.messages import Change
from .delta import Key
from .snapshot import key_in

Repeats = Counter[tuple[str, Key]]
"""Changes, by type and key, that are expected once more."""


def fresh(
    changes: Sequence[Change], lsn: int | None, repeats: Repeats, key: tuple[str, ...]
) -> tuple[list[Change], Repeats]:
    """The changes that did not come before the break: the transaction in which it came is sent whole once more."""
    left, fresh = repeats.copy(), list[Change]()
    for change in changes:
        known = (change.type, key_of(change, key))
        if change.lsn == lsn and left[known] > 0:
            left[known] -= 1
        else:
            fresh.append(change)
    return fresh, left if changes[-1].lsn == lsn else Repeats()


def refusal_of(changes: Sequence[Change]) -> RealtimeError | None:
    """The error of a change that the server sent without its values."""
    for change in changes:
        if not change.errors or change.type == "DELETE" or change.record is None or change.record:
            continue
        text, name = "; ".join(change.errors), f"{change.schema}.{change.table}"
        if "401" in text:
            hint = f"`grant select on {name} to` the role of the token in use, and check its policies"
            return RealtimeError(f"{name}: {text}", code="Unauthorized", hint=hint)
        if "400" in text:
            hint = f"`alter table {name} add primary key (...)`"
            return RealtimeError(f"{name}: {text}", code="NoPrimaryKey", hint=hint)
    return None


def key_of(change: Change, key: tuple[str, ...]) -> Key | None:
    """The key of a change's row, as far as the change has it."""
    values = change.record if change.record is not None else change.old_record
    if not values or not key:
        return None
    return values.get(key[0]) if len(key) == 1 else tuple(values.get(name) for name in key)


def keys_in(changes: Sequence[Change], key: tuple[str, ...]) -> frozenset[Key]:
    """The keys of the changes' rows, and those under which they were known before."""
    found: set[Key] = {key_of(change, key) for change in changes}
    found.update(
        key_in(change.old_record, key)
        for change in changes
        if change.old_record and key and all(name in change.old_record for name in key)
    )
    return frozenset(found)
