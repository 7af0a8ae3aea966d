"""The frames of a parcel: a change is rendered once for all who see the same columns, and joined once a group."""

from __future__ import annotations

from collections.abc import Collection

from . import change_json, wire_frames
from .catalogue import Projection
from .groups import Group
from .parcels import Parcel


def frames_of(parcel: Parcel, groups: Collection[Group] | None, max_record: int) -> dict[Group, bytes]:
    """What goes to each group, of these or of all; a row with more than `max_record` bytes is cut short."""
    out: dict[Group, list[bytes]] = {}
    plans, number = parcel.plans(groups), -1
    for transaction, changes in parcel.pieces:
        tail = change_json.tail_of(transaction)
        for change in changes:
            number += 1
            mark, kind = id(change.relation), change.kind
            wanted = plans[mark]
            if not wanted:
                continue
            route = parcel.routes[mark]
            made: dict[Projection, bytes] = {}
            values = parcel.values[mark].get(number) if route.tests else None
            for plan, shown in wanted:
                if shown is not None and number not in shown and kind != "DELETE":
                    continue
                target = plan.target
                suffix = target.suffix(kind, values)
                if not suffix:
                    continue
                if plan.error and kind != "DELETE":
                    data = change_json.render_error(route.table, transaction, kind, plan.error)
                else:
                    projection = plan.projection
                    found = made.get(projection)
                    if found is None:
                        found = change_json.render(route.table, projection, change, tail, max_record)
                        made[projection] = found
                    data = found
                group = target.group
                before = group.before
                frames = out.get(group)
                if frames is None:
                    frames = out[group] = []
                frames += (wire_frames.head(len(before) + len(data) + len(suffix)), before, data, suffix)
    return {group: b"".join(frames) for group, frames in out.items()}
