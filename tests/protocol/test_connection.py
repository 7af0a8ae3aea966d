"""The connection's machine by itself: a table of every state and every event, and its heartbeat, tokens and retries."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtwidgets.protocol import connection
from rtwidgets.protocol.backoff import Backoff
from rtwidgets.protocol.connection import (
    STABLE,
    Abort,
    Beat,
    Closed,
    Connected,
    ConnectionMachine,
    Disconnected,
    Effects,
    Failed,
    GaveUp,
    Open,
    Opening,
    OpenSocket,
    RenewToken,
    Send,
    Waiting,
)
from rtwidgets.protocol.errors import make
from rtwidgets.protocol.messages import Message

from .state_table import check_cell, rows

NOW, WALL = 1000.0, 5000.0
LOST, REFUSED = make("ConnectionLost", "gone"), make("TenantNotFound", "no such project")


def machine_of(*, renewable: bool = True) -> ConnectionMachine:
    backoff = Backoff(0.5, 20.0, rng=random.Random(1))
    return ConnectionMachine(heartbeat=25.0, timeout=10.0, renewable=renewable, backoff=backoff)


def opening(**options: Any) -> ConnectionMachine:
    machine = machine_of(**options)
    assert machine.connect() == [OpenSocket(fresh_token=False)]
    return machine


def opened(**options: Any) -> ConnectionMachine:
    machine = opening(**options)
    machine.opened(NOW, WALL)
    return machine


def answered() -> ConnectionMachine:
    machine = opened()
    machine.receive(Message("phoenix", "phx_reply", {}, "1"), NOW)
    return machine


def waiting() -> ConnectionMachine:
    machine = opened()
    machine.lost(LOST, NOW)
    return machine


def failed() -> ConnectionMachine:
    machine = opening()
    machine.refused(REFUSED, NOW)
    return machine


STATES: dict[str, tuple[Callable[[], ConnectionMachine], type]] = {
    "closed": (machine_of, Closed),
    "opening": (opening, Opening),
    "beating": (opened, Open),
    "open": (answered, Open),
    "waiting": (waiting, Waiting),
    "failed": (failed, Failed),
}
EVENTS: dict[str, Callable[[ConnectionMachine], Effects]] = {
    "connect": lambda m: m.connect(),
    "close": lambda m: m.close(),
    "opened": lambda m: m.opened(NOW, WALL),
    "refused": lambda m: m.refused(REFUSED, NOW),
    "lost": lambda m: m.lost(LOST, NOW),
    "answer": lambda m: m.receive(Message("phoenix", "phx_reply", {}, "1"), NOW),
    "data": lambda m: m.data_received(NOW),
    "renewed": lambda m: m.renewed(600, NOW),
    "not_renewed": lambda m: m.not_renewed(NOW),
    "tick": lambda m: m.tick(NOW + 30, WALL + 30),
    "slept": lambda m: m.tick(NOW + 1, WALL + 3600),
}
# What each event does in each state: the state after it, and the effects by name. A dash: nothing at all.
TABLE = """
state   | connect            | close  | opened              | refused       | lost
closed  | Opening OpenSocket | -      | -                   | -             | -
opening | -                  | Closed | Open Connected Send | Failed GaveUp | -
beating | -                  | Closed | -                   | -             | Waiting Disconnected
open    | -                  | Closed | -                   | -             | Waiting Disconnected
waiting | -                  | Closed | -                   | -             | -
failed  | Opening OpenSocket | Closed | -                   | -             | -

state   | data  | answer    | renewed | not_renewed | tick               | slept
closed  | -     | -         | -       | -           | -                  | -
opening | -     | -         | -       | -           | -                  | -
beating | -     | Open Beat | Open    | Open        | Open Abort         | Open Send
open    | -     | -         | Open    | Open        | Open Send          | Open Send
waiting | -     | -         | -       | -           | Opening OpenSocket | Opening OpenSocket
failed  | -     | -         | -       | -           | -                  | -
"""
CELLS = rows(TABLE)


def test_the_table_is_whole() -> None:
    assert sorted((state, event) for state, event, _ in CELLS) == sorted((s, e) for s in STATES for e in EVENTS)
    assert {kind for _, kind in STATES.values()} == set(get_args(connection.State))


@pytest.mark.parametrize(("state", "event", "wanted"), CELLS)
def test_each_event_in_each_state(state: str, event: str, wanted: str) -> None:
    make_machine, kind = STATES[state]
    check_cell(make_machine(), kind, EVENTS[event], wanted)


# --- heartbeat ---


def test_a_silent_connection_is_dropped_after_one_heartbeat_and_its_patience() -> None:
    """Clients that trusted the socket listened for ever to a server that was gone."""
    machine = answered()
    at = NOW
    while not isinstance(machine.state, Waiting):
        assert machine.wake_at is not None
        at = machine.wake_at
        for effect in machine.tick(at, WALL + at - NOW):
            if isinstance(effect, Abort):
                machine.lost(make("ConnectionLost", "the connection broke off"), at)
    assert at - NOW == 25 + 10
    assert machine.state.error.message == "no answer to the heartbeat within 10 s"


def test_a_server_that_goes_on_sending_is_alive() -> None:
    """The answer to a heartbeat stands behind everything that was sent before it."""
    machine = opened()
    for seconds in range(1, 60):
        assert machine.data_received(NOW + seconds) == []
        assert Abort() not in machine.tick(NOW + seconds, WALL + seconds)
    assert machine.tick(NOW + 69, WALL + 69) == [Abort()]


def test_a_heartbeat_measures_the_round_trip() -> None:
    machine = opened()
    assert machine.receive(Message("phoenix", "phx_reply", {}, "other"), NOW) == []
    assert machine.receive(Message("phoenix", "phx_reply", {}, "1"), NOW + 0.2) == [Beat()]
    assert machine.round_trip == pytest.approx(0.2)
    assert machine.receive(Message("phoenix", "phx_reply", {}, "1"), NOW + 0.3) == [], "answered once"


def test_a_machine_that_slept_asks_at_once() -> None:
    """Timers stand still while a laptop sleeps: by them alone it takes a whole interval and more."""
    machine = answered()
    assert machine.wake_at == NOW + connection.LOOK
    assert machine.tick(NOW + 2, WALL + 2) == []
    (effect,) = machine.tick(NOW + 4, WALL + 8 * 3600)
    assert isinstance(effect, Send)
    assert effect.message.event == "heartbeat"


# --- reconnecting ---


def test_it_tries_again_without_end_and_less_and_less() -> None:
    """Clients that gave up after five tries went silent for good."""
    machine = opened()
    machine.lost(LOST, NOW)
    waits, at = list[float](), NOW
    for _ in range(100):
        assert machine.wake_at is not None
        waits.append(machine.wake_at - at)
        at = machine.wake_at
        assert machine.tick(at, WALL) == [OpenSocket(fresh_token=False)]
        machine.refused(LOST, at)
    assert max(waits) <= 20
    assert sum(waits[:3]) < 4 < sum(waits[-10:])
    assert machine.status == "reconnecting"
    machine.tick(at + 60, WALL)
    machine.opened(at + 60, WALL)
    assert machine.reconnects == 1
    machine.lost(LOST, at + 60 + STABLE)
    assert machine.wake_at is not None
    assert machine.wake_at - at - 60 - STABLE <= 0.5, "a connection that lasted makes the next failure the first one"


def test_a_rate_limit_is_waited_for() -> None:
    machine = opening()
    machine.refused(make("ConnectionRateLimitReached", "too many"), NOW)
    assert machine.wake_at is not None
    assert 30 <= machine.wake_at - NOW <= 45


def test_a_refusal_at_the_first_connection_is_a_persons_turn() -> None:
    machine = failed()
    assert (machine.status, machine.error) == ("error", REFUSED)
    assert machine.connect() == [OpenSocket(fresh_token=False)], "who may try again"


def test_a_refusal_after_it_was_open_passes_by_itself() -> None:
    """A proxy that answered 403 once, while the server restarted, ended tables for good."""
    machine = waiting()
    machine.tick(NOW + 30, WALL)
    assert machine.refused(REFUSED, NOW + 30) == []
    assert (machine.status, machine.error) == ("reconnecting", REFUSED)


def test_an_expired_token_is_renewed_once() -> None:
    machine, expired = opening(), make("TokenExpired", "it has expired")
    assert machine.refused(expired, NOW) == []
    assert machine.tick(NOW + 1, WALL) == [OpenSocket(fresh_token=True)]
    assert machine.refused(expired, NOW + 1) == [GaveUp(expired)]
    alone = opening(renewable=False)
    assert alone.refused(expired, NOW) == [GaveUp(expired)]


# --- tokens ---


@pytest.mark.parametrize(("left", "due"), [(600.0, 540.0), (100.0, 80.0), (0.5, 1.0), (-50.0, 10.0)])
def test_a_token_is_renewed_before_it_ends_and_never_in_a_storm(left: float, due: float) -> None:
    machine = answered()
    machine.renewed(left, NOW)
    assert isinstance(machine.state, Open)
    assert machine.state.renew_at == NOW + due
    assert RenewToken() in machine.tick(NOW + due, WALL + due)
    machine.not_renewed(NOW + due)
    assert machine.state.renew_at == NOW + due + connection.RETRY_RENEWAL


@pytest.mark.parametrize(("left", "renewable"), [(None, True), (600.0, False)])
def test_what_does_not_end_or_cannot_be_renewed_is_left_alone(left: float | None, renewable: bool) -> None:
    machine = opened(renewable=renewable)
    machine.renewed(left, NOW)
    assert isinstance(machine.state, Open)
    assert machine.state.renew_at is None


# --- whatever comes in whatever order ---


@pytest.mark.slow
@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from([*EVENTS, "later"]), max_size=40), st.booleans())
def test_whatever_comes_in_whatever_order_it_stands(script: list[str], renewable: bool) -> None:
    machine, now = machine_of(renewable=renewable), NOW
    for step in script:
        before = machine.state
        if step == "later":
            now += 7
            effects = machine.tick(now, WALL + now - NOW)
        else:
            effects = EVENTS[step](machine)
        after = machine.state
        for effect in effects:
            assert not isinstance(effect, OpenSocket) or isinstance(after, Opening)
            assert not isinstance(effect, Connected) or isinstance(before, Opening)
            assert not isinstance(effect, Disconnected) or isinstance(before, Open)
            assert not isinstance(effect, Send) or isinstance(after, Open)
        assert (machine.wake_at is not None) is isinstance(after, Open | Waiting)
        assert (machine.error is not None) or machine.status in ("closed", "connecting", "connected")
