"""The channel's machine by itself: a table of every state and every event, and what never happens in any order."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtwidgets.protocol import channel_states as states
from rtwidgets.protocol.backoff import Backoff
from rtwidgets.protocol.channel import STABLE, ChannelMachine
from rtwidgets.protocol.channel_states import (
    Authorizing,
    BindingsRefused,
    CaughtUp,
    Closed,
    Deliver,
    Down,
    Effects,
    Ended,
    Failed,
    Gap,
    GetToken,
    Joined,
    Joining,
    Leaving,
    Offline,
    Opened,
    Ready,
    Replicating,
    Replied,
    Send,
    TableChanged,
    Waiting,
)
from rtwidgets.protocol.errors import RealtimeError, make
from rtwidgets.protocol.events import Broadcast
from rtwidgets.protocol.messages import Message
from rtwidgets.protocol.subscription import ChangesBinding, ChannelOptions, JoinRequest

from .state_table import check_cell, rows

TOPIC = "realtime:t"
NOW = 1000.0
T, U = ChangesBinding(table="t"), ChangesBinding(table="u", event="INSERT", filter="id=gt.1", select=("id", "a"))


def reply(ref: str, status: str = "ok", response: Any = None) -> Message:
    return Message(TOPIC, "phx_reply", {"status": status, "response": {} if response is None else response}, ref)


def refusal(ref: str, reason: str) -> Message:
    return reply(ref, "error", {"reason": reason})


def system(text: str, status: str = "ok", extension: str = "postgres_changes", **more: Any) -> Message:
    return Message(TOPIC, "system", {"extension": extension, "status": status, "message": text, **more})


def machine_of(options: ChannelOptions | None = None, *, renewable: bool = True) -> ChannelMachine:
    backoff = Backoff(1.0, 10.0, rng=random.Random(1))
    return ChannelMachine("t", options or ChannelOptions(), timeout=10.0, renewable=renewable, backoff=backoff)


def authorizing(**options: Any) -> ChannelMachine:
    machine = machine_of(**options)
    machine.connected(NOW)
    machine.subscribe(NOW)
    return machine


def joining(*bindings: ChangesBinding, ref: str = "1", **options: Any) -> ChannelMachine:
    machine = authorizing(**options)
    machine.authorized(JoinRequest(ref, "token", bindings), NOW)
    return machine


def joined(*bindings: ChangesBinding, **options: Any) -> ChannelMachine:
    machine = joining(*bindings, **options)
    entries = [{"id": 10 + at} for at in range(len(bindings))]
    assert machine.receive(reply("1", response={"postgres_changes": entries}), NOW) == [Opened()]
    return machine


def rejoining() -> ChannelMachine:
    machine = joined()
    machine.rebind()
    return machine


def waiting(reason: str = "RealtimeRestarting: later") -> ChannelMachine:
    machine = joining()
    machine.receive(refusal("1", reason), NOW)
    return machine


def offline() -> ChannelMachine:
    machine = joined()
    machine.disconnected(make("ConnectionLost", "gone"), NOW)
    return machine


def failed(reason: str = "PrivateOnly: private channels only", **options: Any) -> ChannelMachine:
    machine = joining(**options)
    machine.receive(refusal("1", reason), NOW)
    return machine


def leaving() -> ChannelMachine:
    machine = joined()
    machine.unsubscribe("2", NOW)
    return machine


def closed() -> ChannelMachine:
    machine = machine_of()
    machine.connected(NOW)
    return machine


STATES: dict[str, tuple[Callable[[], ChannelMachine], type]] = {
    "closed": (closed, Closed),
    "authorizing": (authorizing, Authorizing),
    "rejoining": (rejoining, Authorizing),
    "joining": (joining, Joining),
    "joined": (joined, Joined),
    "waiting": (waiting, Waiting),
    "offline": (offline, Offline),
    "failed": (failed, Failed),
    "leaving": (leaving, Leaving),
}
LOST = make("ConnectionLost", "gone")
EVENTS: dict[str, Callable[[ChannelMachine], Effects]] = {
    "subscribe": lambda m: m.subscribe(NOW),
    "unsubscribe": lambda m: m.unsubscribe("9", NOW),
    "drop": lambda m: m.drop(),
    "rebind": lambda m: m.rebind(),
    "refuse": lambda m: m.refuse(make("TenantNotFound", "no such project"), NOW),
    "authorized": lambda m: m.authorized(JoinRequest("5", "token"), NOW),
    "unauthorized": lambda m: m.unauthorized(make("TokenSourceFailed", "no token"), NOW),
    "new_token": lambda m: m.new_token(),
    "connected": lambda m: m.connected(NOW),
    "disconnected": lambda m: m.disconnected(LOST, NOW),
    "tick": lambda m: m.tick(NOW + 60),
    "ok": lambda m: m.receive(reply("1"), NOW),
    "refused": lambda m: m.receive(refusal("1", "RealtimeRestarting: later"), NOW),
    "left": lambda m: m.receive(reply("2"), NOW),
    "close": lambda m: m.receive(Message(TOPIC, "phx_close", {}, "1"), NOW),
    "crash": lambda m: m.receive(Message(TOPIC, "phx_error", {}, "1"), NOW),
    "subscribed": lambda m: m.receive(system("Subscribed to PostgreSQL"), NOW),
    "broadcast": lambda m: m.receive(Message(TOPIC, "broadcast", {"event": "m", "payload": 1}), NOW),
}
# What each event does in each state: the state after it, and the effects by name. A dash: nothing at all.
TABLE = """
state       | subscribe            | unsubscribe  | drop             | rebind
closed      | Authorizing GetToken | -            | -                | -
authorizing | -                    | Closed Ended | Closed Ended     | -
rejoining   | -                    | Leaving Send | Closed Gap Ended | -
joining     | -                    | Leaving Send | Closed Ended     | Authorizing GetToken
joined      | -                    | Leaving Send | Closed Gap Ended | Authorizing Gap GetToken
waiting     | -                    | Closed Ended | Closed Ended     | -
offline     | -                    | Closed Ended | Closed Ended     | -
failed      | Authorizing GetToken | Closed Ended | Closed Ended     | -
leaving     | Authorizing GetToken | -            | Closed Gap Ended | -

state       | refuse          | authorized   | unauthorized     | new_token | connected            | disconnected
closed      | -               | -            | -                | -         | -                    | -
authorizing | Failed Gap Down | Joining Send | Waiting Gap Down | -         | -                    | Offline
rejoining   | Failed Gap Down | Joining Send | Waiting Gap Down | -         | -                    | Offline Gap
joining     | Failed Gap Down | -            | -                | -         | -                    | Offline
joined      | Failed Gap Down | -            | -                | -         | -                    | Offline Gap
waiting     | Failed Gap Down | -            | -                | -         | -                    | Offline
offline     | Failed Gap Down | -            | -                | -         | Authorizing GetToken | -
failed      | Failed Gap Down | -            | -                | -         | Authorizing GetToken | -
leaving     | -               | -            | -                | -         | -                    | Closed Gap Ended

state       | tick                 | ok                  | refused             | left
closed      | -                    | -                   | -                   | -
authorizing | -                    | Authorizing Replied | Authorizing Replied | Authorizing Replied
rejoining   | -                    | Authorizing Replied | Authorizing Replied | Authorizing Replied
joining     | Waiting Gap Down     | Joined Opened       | Waiting Gap Down    | Joining Replied
joined      | -                    | Joined Replied      | Joined Replied      | Joined Replied
waiting     | Authorizing GetToken | Waiting Replied     | Waiting Replied     | Waiting Replied
offline     | -                    | Offline Replied     | Offline Replied     | Offline Replied
failed      | -                    | Failed Replied      | Failed Replied      | Failed Replied
leaving     | Closed Gap Ended     | Leaving Replied     | Leaving Replied     | Closed Gap Ended

state       | close
closed      | -
authorizing | -
rejoining   | Waiting Gap Down
joining     | Waiting Gap Down
joined      | Waiting Gap Down
waiting     | -
offline     | -
failed      | -
leaving     | Closed Gap Ended

state       | crash            | subscribed   | broadcast
closed      | -                | -            | -
authorizing | -                | -            | Authorizing Deliver
rejoining   | Waiting Gap Down | -            | Authorizing Deliver
joining     | Waiting Gap Down | -            | Joining Deliver
joined      | Waiting Gap Down | Joined Ready | Joined Deliver
waiting     | -                | -            | Waiting Deliver
offline     | -                | -            | Offline Deliver
failed      | -                | -            | Failed Deliver
leaving     | Closed Gap Ended | -            | Leaving Deliver
"""


CELLS = rows(TABLE)


def test_the_table_is_whole() -> None:
    assert sorted((state, event) for state, event, _ in CELLS) == sorted((s, e) for s in STATES for e in EVENTS)
    assert {kind for _, kind in STATES.values()} == set(get_args(states.State))


@pytest.mark.parametrize(("state", "event", "wanted"), CELLS)
def test_each_event_in_each_state(state: str, event: str, wanted: str) -> None:
    make_machine, kind = STATES[state]
    check_cell(make_machine(), kind, EVENTS[event], wanted)


# --- the join ---


def test_the_payload_of_a_join() -> None:
    machine = authorizing(options=ChannelOptions(True, True, True, "ana", {"limit": 5}, True))
    request = JoinRequest("7", "token", (T, U, T), presence=True, replay={"since": 3, "limit": 5}, resume=99)
    (effect,) = machine.authorized(request, NOW)
    assert isinstance(effect, Send)
    message = effect.message
    assert (message.topic, message.event, message.ref, message.join_ref) == (TOPIC, "phx_join", "7", "7")
    assert message.payload == {
        "config": {
            "broadcast": {
                "ack": True,
                "self": True,
                "replay": {"since": 3, "limit": 5},
                "replication_ready": True,
            },
            "presence": {"key": "ana", "enabled": True},
            "postgres_changes": [
                {"event": "*", "schema": "public", "table": "t"},
                {"event": "INSERT", "schema": "public", "table": "u", "filter": "id=gt.1", "select": ["id", "a"]},
            ],
            "private": True,
            "resume": {"lsn": 99},
        },
        "access_token": "token",
    }
    plain = JoinRequest("1").payload(ChannelOptions())
    assert "access_token" not in plain
    assert plain["config"]["broadcast"] == {"ack": False, "self": False}


def test_bindings_are_mapped_by_position_whatever_the_server_makes_of_the_fields() -> None:
    """A client that compared fields refused replies with null for a missing filter, or with more keys."""
    machine = joining(T, U)
    entries = [
        {"id": 5, "event": "ALL", "schema": "PUBLIC", "table": None, "filter": None, "new": 1},
        {"id": 6, "table": "t"},  # the other's name: fields are never compared
        {"id": 7},
    ]
    machine.receive(reply("1", response={"postgres_changes": entries}), NOW)
    assert machine.joined is not None
    assert machine.joined.routes == {5: (T,), 6: (U,)}


@pytest.mark.parametrize("entries", [None, "x", [], [None, 1, {}], [{"id": "5"}], {"id": 5}])
def test_a_reply_without_ids_is_still_a_join(entries: Any) -> None:
    machine = joining(T)
    assert machine.receive(reply("1", response={"postgres_changes": entries}), NOW) == [Opened()]
    assert machine.joined is not None
    assert machine.joined.routes == {}


def test_two_bindings_of_one_id_get_both() -> None:
    machine = joining(T, U)
    machine.receive(reply("1", response={"postgres_changes": [{"id": 5}, {"id": 5}]}), NOW)
    assert machine.joined is not None
    assert machine.joined.routes == {5: (T, U)}


def test_what_the_server_sends_of_the_join_before_does_not_count() -> None:
    """A rejoin that mixed up two joins looked joined, and its row changes never came."""
    machine = joined(T)
    machine.rebind()
    machine.authorized(JoinRequest("2", None, (T, U)), NOW)
    for late in (
        system("Subscribed to PostgreSQL"),  # the new bindings are not served yet
        system("Unable to subscribe to changes ...", "error"),
        Message(TOPIC, "phx_close", {}, "1"),
        Message(TOPIC, "phx_close", {}, None, "1"),
        Message(TOPIC, "phx_error", {}, "1", "1"),
    ):
        assert machine.receive(late, NOW) == []
    assert machine.receive(reply("1"), NOW) == [Replied("1", None)]
    assert machine.status == "joining"
    assert machine.receive(reply("2"), NOW) == [Opened()]
    assert machine.receive(system("Subscribed to PostgreSQL", lsn=5, resumed=True), NOW) == [Ready(5, True)]
    assert machine.receive(system("Caught up", lsn=9, caught_up=True), NOW) == [CaughtUp()]
    changed = {"schema": "public", "table": "t"}
    assert machine.receive(system("Table changed", changed=changed), NOW) == [TableChanged("public", "t")]
    kept = system("Table changed", changed=changed, rows_kept=True)
    assert machine.receive(kept, NOW) == [TableChanged("public", "t", rows_kept=True)]


# --- refused and ended ---


def test_the_reason_of_a_close_is_what_the_system_reported_before_it() -> None:
    machine = joined()
    assert machine.receive(system("Token has expired 3 seconds ago", "error", "system"), NOW) == []
    gap, down, token = machine.receive(Message(TOPIC, "phx_close", {}, "1"), NOW)
    assert isinstance(gap, Gap)
    assert isinstance(down, Down)
    assert (down.error.code, down.retry_in, token) == ("TokenExpired", 0.0, GetToken(fresh=True))
    machine.authorized(JoinRequest("2", "other"), NOW)
    machine.receive(refusal("2", "InvalidJWTToken: Token has expired 9 seconds ago"), NOW)
    assert isinstance(machine.state, Failed), "a fresh token is tried once, then it is a person's turn"


def test_a_join_that_lasted_makes_the_next_expiry_the_first_one() -> None:
    machine = joined()
    for ref, at in (("1", NOW), ("2", NOW + 3600), ("3", NOW + 7200)):
        machine.receive(system("Token has expired 3 seconds ago", "error", "system"), at)
        machine.receive(Message(TOPIC, "phx_close", {}, ref), at + STABLE)
        assert machine.state == Authorizing(fresh_token=True, error=machine.error)
        machine.authorized(JoinRequest(str(int(ref) + 1), "new"), at + STABLE)
        machine.receive(reply(str(int(ref) + 1)), at + STABLE)
        assert machine.status == "joined"


def test_without_a_function_to_ask_an_expired_token_is_a_persons_turn_until_there_is_another() -> None:
    machine = failed("InvalidJWTToken: Token has expired 3 seconds ago", renewable=False)
    assert isinstance(machine.state, Failed)
    assert machine.new_token() == [GetToken(fresh=False)]
    machine.authorized(JoinRequest("2", "new"), NOW)
    machine.receive(reply("2"), NOW)
    assert (machine.status, machine.error) == ("joined", None)


def test_a_token_that_could_not_be_fetched_is_tried_again_fresh_where_it_was_refused() -> None:
    machine = joined()
    machine.receive(system("Token has expired 3 seconds ago", "error", "system"), NOW)
    machine.receive(Message(TOPIC, "phx_close", {}, "1"), NOW)
    machine.unauthorized(make("TokenSourceFailed", "for now"), NOW)
    machine.disconnected(LOST, NOW)
    assert machine.connected(NOW) == [GetToken(fresh=True)]


@pytest.mark.parametrize(
    ("reason", "state", "wait"),
    [
        ("ChannelRateLimitReached: Too many channels", Waiting, 30),
        ("RealtimeRestarting: Realtime is restarting, please standby", Waiting, 0),
        ("PrivateOnly: This project only allows private channels", Failed, 0),
        ("TenantNotFound: Tenant not found: x", Failed, 0),
        ("something that nobody has seen yet", Waiting, 0),
    ],
)
def test_a_refused_join_is_a_decision(reason: str, state: type, wait: float) -> None:
    """Clients that passed on no reason left their users guessing which failures pass by themselves."""
    machine = waiting(reason)
    assert isinstance(machine.state, state)
    assert machine.status == "errored"
    if isinstance(machine.state, Waiting):
        assert wait <= machine.state.until - NOW <= max(10, 1.5 * wait)
        assert machine.wake_at == machine.state.until


def test_a_rate_limit_outlasts_the_connection() -> None:
    machine = waiting("ClientJoinRateLimitReached: Too many joins per second")
    machine.disconnected(LOST, NOW)
    assert machine.connected(NOW + 1) == []
    assert isinstance(machine.state, Waiting)
    assert machine.tick(NOW + 20) == []
    assert machine.tick(NOW + 46) == [GetToken(fresh=False)]


def test_subscribing_again_and_again_is_no_storm() -> None:
    """Callbacks that subscribe whenever the channel is down made hundreds of joins a second."""
    machine = failed()
    machine.subscribe(NOW)
    machine.authorized(JoinRequest("2"), NOW)
    machine.receive(refusal("2", "PrivateOnly: private channels only"), NOW)
    assert machine.subscribe(NOW) == []
    assert isinstance(machine.state, Waiting)


def test_a_replay_that_worked_before_does_not_end_the_channel() -> None:
    machine = joined()
    machine.rebind()
    machine.authorized(JoinRequest("2", None, replay={"limit": 5}), NOW)
    machine.receive(refusal("2", "UnableToReplayMessages: no"), NOW)
    assert isinstance(machine.state, Waiting)
    machine.tick(NOW + 60)
    (effect,) = machine.authorized(JoinRequest("3", None, replay={"limit": 5}), NOW + 60)
    assert isinstance(effect, Send)
    assert "replay" not in effect.message.payload["config"]["broadcast"]
    first = joining()
    first.receive(refusal("1", "UnableToReplayMessages: no"), NOW)
    assert isinstance(first.state, Failed), "what never worked is wrong in itself"


def test_what_the_database_refuses_leaves_the_channel_joined() -> None:
    machine = joined(T)
    (effect,) = machine.receive(system("error parsing `filter` params", "error"), NOW)
    assert isinstance(effect, BindingsRefused)
    assert (machine.status, machine.error) == ("joined", effect.error)


# --- other messages ---


def test_replication_is_announced() -> None:
    machine = joined()
    text = "Replication connection established"
    assert machine.receive(system(text, extension="system"), NOW) == [Replicating()]
    assert machine.joined is not None
    assert machine.joined.replicating


def test_an_answer_is_matched_by_its_ref() -> None:
    machine = joined()
    assert machine.receive(reply("9"), NOW) == [Replied("9", None)]
    (bad,) = machine.receive(reply("8", "error", "payload_size_exceeded"), NOW)
    assert isinstance(bad, Replied)
    assert isinstance(bad.error, RealtimeError)
    assert bad.error.code == "PayloadTooLarge"


def test_broadcasts_and_presence_are_delivered() -> None:
    machine = joined()
    payload = {"event": "m", "payload": 1, "meta": {"id": "x"}}
    assert machine.receive(Message(TOPIC, "broadcast", payload), NOW) == [Deliver(Broadcast("m", 1, {"id": "x"}))]
    machine.receive(Message(TOPIC, "presence_state", {"ana": {"metas": [{"phx_ref": "1"}]}}), NOW)
    assert list(machine.presence.state) == ["ana"]
    deliver, ended = [effect for effect in machine.drop() if not isinstance(effect, Gap)]
    assert isinstance(deliver, Deliver), "everybody is gone from view"
    assert ended == Ended()


# --- whatever comes in whatever order ---

refs = st.sampled_from([None, "1", "2", "3", "x"])
junk = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)
payloads = junk | st.fixed_dictionaries(
    {},
    optional={
        "status": st.sampled_from(["ok", "error", 1]),
        "response": junk | st.fixed_dictionaries({"reason": junk, "postgres_changes": junk}),
        "extension": st.sampled_from(["system", "postgres_changes", "presence", None]),
        "message": junk | st.sampled_from(["Subscribed to PostgreSQL", "Token has expired 1 seconds ago"]),
        "event": junk,
        "payload": junk,
        "meta": junk,
        "joins": junk,
        "leaves": junk,
    },
)
names = st.sampled_from(
    ["phx_reply", "phx_close", "phx_error", "system", "broadcast", "presence_state", "presence_diff", "x", ""]
)
steps = st.lists(
    st.one_of(
        st.builds(Message, st.just(TOPIC), names, payloads, refs, refs),
        st.sampled_from([name for name in EVENTS if name not in ("ok", "refused", "left", "close", "crash")]),
        st.sampled_from(["join", "wait"]),
    ),
    max_size=30,
)


@pytest.mark.slow
@settings(max_examples=500, deadline=None)
@given(steps, st.booleans())
def test_whatever_comes_in_whatever_order_it_stands(script: list[Any], renewable: bool) -> None:
    machine = machine_of(renewable=renewable)
    now, ref, online = NOW, 0, False
    for step in script:
        before = machine.state
        if step == "join":
            ref += 1
            effects = machine.authorized(JoinRequest(str(ref), None, (T,), presence=bool(ref % 2)), now)
        elif step == "wait":
            now += 7
            effects = machine.tick(now)
        elif isinstance(step, str):
            online = step == "connected" or (online and step != "disconnected")
            effects = EVENTS[step](machine)
        else:
            effects = machine.receive(step, now)
        after = machine.state
        for effect in effects:
            assert not isinstance(effect, Opened) or (isinstance(before, Joining) and isinstance(after, Joined))
            assert not isinstance(effect, Ready) or isinstance(before, Joined)
            assert not isinstance(effect, GetToken) or isinstance(after, Authorizing)
            assert not isinstance(effect, Down) or machine.error == effect.error
        assert machine.status in ("closed", "joining", "joined", "leaving", "errored")
        assert online or not isinstance(after, Authorizing | Joining | Joined | Waiting), "offline"
        waits = isinstance(after, Joining | Waiting | Leaving)
        assert (machine.wake_at is not None) is waits
