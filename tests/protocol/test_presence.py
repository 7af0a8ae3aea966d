"""The presence algebra against a model: a server that holds connections."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from rtwidgets.protocol.presence import EMPTY, MOST_PENDING, PresenceMachine, apply_diff, parse_state

steps = st.lists(
    st.tuples(st.sampled_from(["track", "untrack", "state"]), st.integers(0, 4), st.integers(0, 3)), max_size=30
)


def whole(model: dict[int, dict[str, Any]]) -> dict[str, Any]:
    """The model's `presence_state`: connection n has key n % 3, so keys are shared."""
    state: dict[str, Any] = {}
    for connection, meta in model.items():
        state.setdefault(f"k{connection % 3}", {"metas": []})["metas"].append(meta)
    return state


def as_sets(state: Any) -> dict[str, set[str]]:
    return {key: {meta["phx_ref"] for meta in metas} for key, metas in state.items()}


@given(steps, st.integers(0, 30))
def test_it_follows_the_server_whenever_the_state_comes(script: list[tuple[str, int, int]], first_state: int) -> None:
    model: dict[int, dict[str, Any]] = {}
    machine = PresenceMachine()
    serial = 0
    for at, (what, connection, value) in enumerate(script):
        if at == first_state:
            machine.on_state(whole(model))
        before, copy = machine.state, {key: list(metas) for key, metas in machine.state.items()}
        key = f"k{connection % 3}"
        if what == "state":
            if machine.synced:
                machine.rejoin()
                machine.on_state(whole(model))
        elif what == "track":
            serial += 1
            old = model.get(connection)
            model[connection] = {"phx_ref": str(serial), "v": value} | ({"phx_ref_prev": old["phx_ref"]} if old else {})
            diff = {"joins": {key: {"metas": [model[connection]]}}, "leaves": {key: {"metas": [old]}} if old else {}}
            change = machine.on_diff(diff)
            if change is not None and old:
                assert (change.joins, change.leaves) == ({}, {}), "an update is not a leave and a join"
                assert list(change.updates) == [key]
        elif connection in model:
            machine.on_diff({"joins": {}, "leaves": {key: {"metas": [model.pop(connection)]}}})
        assert {k: list(m) for k, m in before.items()} == copy, "a state that was returned never changes"
    if not machine.synced:
        machine.on_state(whole(model))
    assert as_sets(machine.state) == as_sets(parse_state(whole(model)))


def test_diffs_before_the_state_wait_for_it() -> None:
    machine = PresenceMachine()
    assert (
        machine.on_diff({"joins": {"b": {"metas": [{"phx_ref": "2"}]}}, "leaves": {"a": {"metas": [{"phx_ref": "1"}]}}})
        is None
    )
    change = machine.on_state({"a": {"metas": [{"phx_ref": "1"}]}})
    assert as_sets(change.state) == {"b": {"2"}}
    assert (list(change.joins), list(change.leaves), change.sync) == (["b"], [], True)


def test_a_second_state_is_told_as_a_difference() -> None:
    machine = PresenceMachine()
    machine.on_state({"a": {"metas": [{"phx_ref": "1"}]}, "b": {"metas": [{"phx_ref": "2"}]}})
    machine.rejoin()
    change = machine.on_state({"b": {"metas": [{"phx_ref": "2"}]}, "c": {"metas": [{"phx_ref": "3"}]}})
    assert (list(change.joins), list(change.leaves)) == (["c"], ["a"])


@given(
    st.recursive(
        st.none() | st.integers() | st.text(), lambda x: st.lists(x) | st.dictionaries(st.text(), x), max_leaves=8
    )
)
def test_odd_payloads_do_no_harm(payload: Any) -> None:
    machine = PresenceMachine()
    machine.on_diff(payload)
    machine.on_state(payload)
    machine.on_diff({"joins": payload, "leaves": payload})


def test_leaving_one_of_two_connections_keeps_the_key() -> None:
    state = apply_diff(EMPTY, parse_state({"a": {"metas": [{"phx_ref": "1"}, {"phx_ref": "2"}]}}), {}).state
    change = apply_diff(state, {}, parse_state({"a": {"metas": [{"phx_ref": "1"}]}}))
    assert as_sets(change.state) == {"a": {"2"}}


def meta(ref: str, prev: str | None = None, **state: Any) -> dict[str, Any]:
    return {"phx_ref": ref, **({"phx_ref_prev": prev} if prev else {}), **state}


def test_a_changed_state_is_one_update_and_no_leave() -> None:
    machine = PresenceMachine()
    machine.on_state({"ana": {"metas": [meta("1", n=1), meta("2", n=9)]}})
    change = machine.on_diff(
        {"joins": {"ana": {"metas": [meta("3", "1", n=2)]}}, "leaves": {"ana": {"metas": [meta("1", n=1)]}}}
    )
    assert change is not None
    assert (change.joins, change.leaves) == ({}, {})
    assert change.updates == {"ana": (meta("3", "1", n=2),)}
    assert as_sets(change.state) == {"ana": {"2", "3"}}


def test_a_key_stays_while_one_of_its_connections_replaces_another() -> None:
    machine = PresenceMachine()
    machine.on_state({"ana": {"metas": [meta("1")]}})
    change = machine.on_diff({"joins": {"ana": {"metas": [meta("2")]}}, "leaves": {"ana": {"metas": [meta("1")]}}})
    assert change is not None
    assert (list(change.joins), list(change.leaves), change.updates) == (["ana"], ["ana"], {})


def test_presence_has_no_ghosts_and_no_duplicates() -> None:
    machine = PresenceMachine()
    machine.on_state({"ana": {"metas": [meta("1")]}})
    before = machine.state
    join = {"joins": {"ana": {"metas": [meta("2")]}}, "leaves": {}}
    machine.on_diff(join)
    machine.on_diff(join)  # the same connection told twice
    assert as_sets(machine.state) == {"ana": {"1", "2"}}
    assert len(machine.state["ana"]) == 2
    for ref in ("1", "2"):
        machine.on_diff({"joins": {}, "leaves": {"ana": {"metas": [meta(ref)]}}})
    assert dict(machine.state) == {}
    assert as_sets(before) == {"ana": {"1"}}, "a state that was handed out never changes"


def test_waiting_for_a_presence_state_that_never_arrives_ends() -> None:
    """Some servers send diffs alone: better shown late than never, and what waits is bounded."""
    machine = PresenceMachine()
    told = [
        machine.on_diff({"joins": {f"k{n}": {"metas": [meta(str(n))]}}, "leaves": {}}) for n in range(MOST_PENDING + 2)
    ]
    assert told[:MOST_PENDING] == [None] * MOST_PENDING
    assert told[MOST_PENDING] is not None
    assert len(told[MOST_PENDING].joins) == MOST_PENDING + 1
    assert told[-1] is not None
    assert list(told[-1].joins) == [f"k{MOST_PENDING + 1}"]
    assert not machine._pending
