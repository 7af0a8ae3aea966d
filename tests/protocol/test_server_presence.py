"""Presence as a server keeps it: what its diffs say is what a client then has."""

from __future__ import annotations

import itertools
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from rtwidgets.protocol.presence import PresenceMachine
from rtwidgets.protocol.server_presence import PresenceTracker


def tracker() -> PresenceTracker[str]:
    refs = itertools.count()
    return PresenceTracker(lambda: f"r{next(refs)}")


def test_a_state_that_is_tracked_anew_is_one_diff() -> None:
    one = tracker()
    one.track("a", "ana", {"n": 1})
    assert one.diff() == {"joins": {"ana": {"metas": [{"phx_ref": "r0", "n": 1}]}}, "leaves": {}}
    one.track("a", "ana", {"n": 1})
    assert not one.changed
    one.track("a", "ana", {"n": 2})
    assert one.diff() == {
        "joins": {"ana": {"metas": [{"phx_ref": "r1", "phx_ref_prev": "r0", "n": 2}]}},
        "leaves": {"ana": {"metas": [{"phx_ref": "r0", "n": 1}]}},
    }
    one.untrack("a", "ana")
    one.untrack("a", "ana")
    assert list(one.diff()["leaves"]) == ["ana"]
    assert one.state() == {}


def test_who_came_and_went_unseen_is_in_no_diff() -> None:
    one = tracker()
    one.track("a", "ana", {})
    one.untrack("a", "ana")
    assert not one.changed


steps = st.lists(
    st.tuples(st.sampled_from(["track", "track", "untrack", "diff"]), st.sampled_from("abc"), st.integers(0, 2))
)


@given(steps)
def test_a_client_that_follows_the_diffs_has_the_state(script: list[tuple[str, str, int]]) -> None:
    one, client = tracker(), PresenceMachine()
    client.on_state({})
    for what, owner, n in [*script, ("diff", "a", 0)]:
        key = "x" if owner in "ab" else "y"
        if what == "track":
            one.track(owner, key, {"n": n})
        elif what == "untrack":
            one.untrack(owner, key)
        elif one.changed:
            client.on_diff(one.diff())
    have: dict[str, Any] = {key: sorted(str(meta) for meta in metas) for key, metas in client.state.items()}
    assert have == {key: sorted(str(meta) for meta in entry["metas"]) for key, entry in one.state().items()}
