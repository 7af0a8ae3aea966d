"""The channel's state machine by itself: which frames count, what they mean, and what never changes."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtwidgets.protocol.channel import (
    ChangesBinding,
    ChannelMachine,
    ChannelOptions,
    Down,
    Joined,
    Left,
    Ready,
    Replied,
    SystemError_,
)
from rtwidgets.protocol.messages import Message

TOPIC = "realtime:t"
T, U = ChangesBinding(table="t"), ChangesBinding(table="u", event="INSERT", filter="id=gt.1", select=("id", "a"))


def reply(ref: str, status: str = "ok", response: Any = None) -> Message:
    return Message(TOPIC, "phx_reply", {"status": status, "response": {} if response is None else response}, ref)


def system(text: str, status: str = "ok", extension: str = "postgres_changes", **more: Any) -> Message:
    return Message(TOPIC, "system", {"extension": extension, "status": status, "message": text, **more})


def joined(*bindings: ChangesBinding, options: ChannelOptions | None = None) -> ChannelMachine:
    machine = ChannelMachine("t", options or ChannelOptions())
    machine.join("1", None, bindings, presence=False)
    entries = [{"id": 10 + at} for at in range(len(bindings))]
    assert isinstance(machine.handle(reply("1", response={"postgres_changes": entries})), Joined)
    return machine


def test_what_a_join_says() -> None:
    machine = ChannelMachine("t", ChannelOptions(True, True, True, "ana", {"limit": 5}, True))
    message = machine.join("7", "token", (T, U, T), presence=True, replay={"since": 3, "limit": 5}, resume=99)
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
    plain = ChannelMachine("realtime:t", ChannelOptions()).join("1", None, (), presence=False)
    assert plain.topic == TOPIC
    assert "access_token" not in plain.payload
    assert plain.payload["config"]["broadcast"] == {"ack": False, "self": False}


def test_ids_are_matched_by_position_though_the_server_rewrites_the_fields() -> None:
    machine = ChannelMachine("t", ChannelOptions())
    machine.join("1", None, (T, U), presence=False)
    entries = [
        {"id": 5, "event": "ALL", "schema": "PUBLIC", "table": None, "filter": None, "new": 1},
        {"id": 6, "table": "t"},  # the other's name: fields are never compared
        {"id": 7},
    ]
    machine.handle(reply("1", response={"postgres_changes": entries}))
    assert machine.routes == {5: (T,), 6: (U,)}


@pytest.mark.parametrize("entries", [None, "x", [], [None, 1, {}], [{"id": "5"}], {"id": 5}])
def test_a_reply_without_ids_is_still_a_join(entries: Any) -> None:
    machine = ChannelMachine("t", ChannelOptions())
    machine.join("1", None, (T,), presence=False)
    assert isinstance(machine.handle(reply("1", response={"postgres_changes": entries})), Joined)
    assert machine.routes == {}


def test_two_bindings_of_one_id_get_both() -> None:
    machine = ChannelMachine("t", ChannelOptions())
    machine.join("1", None, (T, U), presence=False)
    machine.handle(reply("1", response={"postgres_changes": [{"id": 5}, {"id": 5}]}))
    assert machine.routes == {5: (T, U)}


def test_a_reply_to_an_earlier_join_is_ignored() -> None:
    machine = joined(T)
    machine.join("2", None, (T, U), presence=False)
    assert machine.handle(system("Subscribed to PostgreSQL")) is None, "the new bindings are not served yet"
    assert machine.handle(system("Unable to subscribe to changes ...", "error")) is None
    assert machine.handle(Message(TOPIC, "phx_close", {}, "1")) is None
    assert machine.handle(Message(TOPIC, "phx_close", {}, None, "1")) is None
    assert machine.handle(Message(TOPIC, "phx_error", {}, "1", "1")) is None
    assert not isinstance(machine.handle(reply("1")), Joined)
    assert machine.status == "joining"
    assert isinstance(machine.handle(reply("2")), Joined)
    assert isinstance(machine.handle(system("Subscribed to PostgreSQL", lsn=5, resumed=True)), Ready)


def test_a_close_has_the_reason_of_the_system_message_before_it() -> None:
    machine = joined()
    told = machine.handle(system("Token has expired 3 seconds ago", "error", "system"))
    assert isinstance(told, SystemError_)
    down = machine.handle(Message(TOPIC, "phx_close", {}, "1"))
    assert isinstance(down, Down)
    assert (down.error.code, down.retry, down.fresh_token) == ("TokenExpired", True, True)
    machine.join("2", "other", (), presence=False)
    again = machine.handle(reply("2", "error", {"reason": "InvalidJWTToken: Token has expired 9 seconds ago"}))
    assert isinstance(again, Down)
    assert (again.retry, again.fresh_token) == (False, False), "a fresh token is tried once, then it is a person's turn"


@pytest.mark.parametrize(
    ("reason", "retry", "wait"),
    [
        ("ChannelRateLimitReached: Too many channels", True, 30),
        ("RealtimeRestarting: Realtime is restarting, please standby", True, 0),
        ("PrivateOnly: This project only allows private channels", False, 0),
        ("TenantNotFound: Tenant not found: x", False, 0),
        ("something that nobody has seen yet", True, 0),
    ],
)
def test_the_reason_of_a_refused_join_decides_whether_and_when_to_retry(reason: str, retry: bool, wait: float) -> None:
    machine = ChannelMachine("t", ChannelOptions())
    machine.join("1", None, (), presence=False)
    down = machine.handle(reply("1", "error", {"reason": reason}))
    assert isinstance(down, Down)
    assert (down.retry, down.wait, machine.status) == (retry, wait, "errored")


def test_leaving() -> None:
    machine = joined()
    leave = machine.leave("2")
    assert (leave.event, leave.ref, leave.join_ref, machine.status) == ("phx_leave", "2", "1", "leaving")
    assert isinstance(machine.handle(reply("2")), Left)
    assert machine.status == "closed"
    assert machine.handle(Message(TOPIC, "phx_close", {}, "1")) is None


def test_an_answer_is_matched_by_its_ref() -> None:
    machine = joined()
    good, bad = machine.handle(reply("9")), machine.handle(reply("8", "error", "payload_size_exceeded"))
    assert isinstance(good, Replied)
    assert (good.ref, good.error) == ("9", None)
    assert isinstance(bad, Replied)
    assert bad.error is not None
    assert bad.error.code == "PayloadTooLarge"


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
events = st.sampled_from(
    ["phx_reply", "phx_close", "phx_error", "system", "broadcast", "presence_state", "presence_diff", "x", ""]
)
steps = st.lists(
    st.one_of(
        st.builds(Message, st.just(TOPIC), events, payloads, refs, refs),
        st.sampled_from(["join", "leave", "lost", "end"]),
    ),
    max_size=25,
)


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(steps)
def test_whatever_comes_in_whatever_order_it_stands(script: list[Any]) -> None:
    machine = ChannelMachine("t", ChannelOptions())
    ref = 0
    for step in script:
        if step == "join":
            ref += 1
            machine.join(str(ref), None, (T,), presence=bool(ref % 2))
        elif step == "leave":
            if machine.status == "joined":
                machine.leave(f"leave-{ref}")
        elif isinstance(step, str):
            getattr(machine, step)()
        else:
            before = machine.status
            event = machine.handle(step)
            if isinstance(event, Joined):
                assert before == "joining"
                assert step.ref == machine.join_ref
            if isinstance(event, Ready):
                assert before == "joined"
            if isinstance(event, Down):
                assert machine.status == "errored"
        assert machine.status in ("closed", "joining", "joined", "leaving", "errored")
        assert not machine.routes or machine.status in ("joined", "leaving"), (
            "changes go nowhere while it is not joined"
        )
