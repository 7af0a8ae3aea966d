"""The server's end of a conversation: every event in every state, as the module's own table has it, and what goes with
each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtwidgets.protocol import server_session
from rtwidgets.protocol.messages import Message
from rtwidgets.protocol.server_channel import (
    NOTHING,
    PUBLIC,
    Identity,
    Permissions,
    Refused,
    ServerChannel,
    TokenError,
)
from rtwidgets.protocol.server_effects import (
    Authorize,
    AwaitReplication,
    Effects,
    Enter,
    Leave,
    Publish,
    ReadStored,
    Refuse,
    Send,
    SendPresence,
    SendStored,
    Subscribe,
    Track,
    Untrack,
    WakeAt,
)
from rtwidgets.protocol.server_session import ServerSession, SessionLimits, SharedRates

NOW = 1000.0
TOPIC = "realtime:t"


class Host:
    """Knows the tokens `t<exp>`; refuses the topics that a test names."""

    def __init__(self) -> None:
        self.refuses = ""

    def verify(self, token: str, now: float) -> Identity:
        if not token.startswith("t"):
            raise TokenError("MalformedJWT", "The token provided is not a valid JWT")
        return Identity("anon", token, exp=float(token[1:]))

    def admit(self, channel: ServerChannel) -> list[dict[str, Any]]:
        if self.refuses:
            raise Refused(self.refuses)
        return [{"id": 7, **entry} for entry in channel.config.changes]


class Conversation:
    """A session, and the last channel that it made."""

    def __init__(self, **limits: Any) -> None:
        self.host = Host()
        self.session = ServerSession(self.host, "t2000", SessionLimits(**limits))
        self.channel: ServerChannel | None = None
        self.refs = 0

    def push(self, event: str, payload: Any, *, join_ref: str | None = None, now: float = NOW) -> Effects:
        self.refs += 1
        ref = str(self.refs)
        message = Message(TOPIC, event, payload, ref, ref if event == "phx_join" else join_ref)
        return self.noted(self.session.receive(message, now))

    def noted(self, effects: Effects) -> Effects:
        for effect in effects:
            if isinstance(effect, Authorize | Enter):
                self.channel = effect.channel
        return effects

    def join(self, **config: Any) -> Effects:
        return self.push("phx_join", {"config": config})

    @property
    def known(self) -> ServerChannel:
        """The last channel; where there is none, one that has ended."""
        if self.channel is None:
            other = Conversation()
            other.join()
            other.push("phx_leave", {})
            assert other.channel is not None
            return other.channel
        return self.channel

    def granted(self, permissions: Permissions = PUBLIC) -> Effects:
        channel = self.known
        identity = getattr(channel.state, "identity", channel.identity)
        return self.noted(self.session.authorized(channel, identity, permissions))

    @property
    def state(self) -> str:
        channel = self.known
        return "none" if channel.closed else type(channel.state).__name__


def none() -> Conversation:
    return Conversation()


def authorizing(**config: Any) -> Conversation:
    talk = Conversation()
    talk.join(private=True, **config)
    return talk


def replaying() -> Conversation:
    talk = authorizing(broadcast={"replay": {"since": 0}})
    talk.granted()
    return talk


def joined() -> Conversation:
    talk = authorizing()
    talk.granted()
    return talk


def renewing() -> Conversation:
    talk = joined()
    talk.push("access_token", {"access_token": "t3000"})
    return talk


STATES: dict[str, Callable[[], Conversation]] = {
    "none": none,
    "Authorizing": authorizing,
    "Replaying": replaying,
    "Joined": joined,
    "Renewing": renewing,
}
REPLAY = {"broadcast": {"replay": {"since": 0}}}


def refused_join(talk: Conversation) -> Effects:
    talk.host.refuses = "PrivateOnly: no"
    return talk.join()


def granted_with_replay(talk: Conversation) -> Effects:
    """The same state, of a join that wants a replay."""
    if talk.state == "Authorizing":
        fresh = authorizing(**REPLAY)
        talk.session, talk.channel = fresh.session, fresh.channel
    return talk.granted()


def presence(event: str) -> Callable[[Conversation], Effects]:
    return lambda talk: talk.push("presence", {"type": "presence", "event": event, "payload": {"a": 1}})


EVENTS: dict[str, Callable[[Conversation], Effects]] = {
    "join, public": lambda talk: talk.join(),
    "join, private": lambda talk: talk.join(private=True),
    "join, refused": refused_join,
    "leave": lambda talk: talk.push("phx_leave", {}),
    "broadcast": lambda talk: talk.push("broadcast", {"type": "broadcast", "event": "e", "payload": {}}),
    "track": presence("track"),
    "untrack": presence("untrack"),
    "new token": lambda talk: talk.push("access_token", {"access_token": "t4000"}),
    "same token": lambda talk: talk.push(
        "access_token", {"access_token": "t3000" if talk.state == "Renewing" else "t2000"}
    ),
    "bad token": lambda talk: talk.push("access_token", {"access_token": "garbage"}),
    "stale frame": lambda talk: talk.push("broadcast", {"event": "e"}, join_ref="of another join"),
    "granted": lambda talk: talk.granted(),
    "granted, replay": granted_with_replay,
    "denied": lambda talk: talk.granted(NOTHING),
    "unable": lambda talk: talk.session.unable(talk.known),
    "stored": lambda talk: talk.noted(talk.session.stored(talk.known, ["m"])),
    "expired": lambda talk: talk.session.wake(2000.5),
    "closed": lambda talk: talk.session.close(talk.known, "because"),
    "disconnected": lambda talk: talk.session.disconnected(),
}


def words(effects: Effects) -> set[str]:
    """What the table says of these effects."""
    found: set[str] = set()
    for effect in effects:
        match effect:
            case Send(message):
                if message.event == "phx_close":
                    found.add("closes")
                elif message.event == "phx_reply" and message.payload["response"] == {"reason": "unmatched topic"}:
                    found.add("unmatched")
            case Enter():
                found.add("enters")
            case Leave():
                found.add("leaves")
            case Authorize():
                found.add("asks")
            case ReadStored():
                found.add("reads")
            case Refuse():
                found.add("refused")
            case Publish():
                found.add("publishes")
            case Track():
                found.add("tracks")
            case Untrack():
                found.add("untracks")
            case SendStored():
                found.add("replays")
            case SendPresence() | Subscribe() | AwaitReplication() | WakeAt():
                pass
    return found


def table() -> dict[tuple[str, str], tuple[str, set[str]]]:
    """The module's table: by event and state, the state after, and what happens."""
    lines = [line.strip("| ") for line in (server_session.__doc__ or "").splitlines() if line.startswith("|")]
    rows = [[cell.strip() for cell in line.split("|")] for line in lines]
    states = rows[0][1:]
    found: dict[tuple[str, str], tuple[str, set[str]]] = {}
    for event, *cells in rows[2:]:
        for state, cell in zip(states, cells, strict=True):
            after, *happens = cell.split()
            found[event, state] = (state if after == "=" else after, set(happens))
    return found


TABLE = table()


def test_the_table_is_whole() -> None:
    assert {event for event, _ in TABLE} == set(EVENTS)
    assert {state for _, state in TABLE} == set(STATES)
    assert len(TABLE) == len(EVENTS) * len(STATES)


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("event", EVENTS)
def test_every_event_in_every_state(state: str, event: str) -> None:
    talk = STATES[state]()
    assert talk.state == state
    before = talk.channel
    effects = EVENTS[event](talk)
    after, expected = TABLE[event, state]
    happens = words(effects)
    # A join that replaces a channel closes that one; the table names what becomes of the new one.
    replaces = event.startswith("join") and state in ("Joined", "Renewing") and before is not None
    if replaces and "closes" in happens:
        happens.remove("closes")
    if event == "join, refused" and state != "none":
        assert before is not None
        assert before.closed
    assert (talk.state, happens) == (after, expected)
    # A channel that has ended answers nothing any more.
    if before is not None and before.closed:
        session = talk.session
        assert session.close(before, "x") == session.unable(before) == session.stored(before, []) == []
        assert session.authorized(before, before.identity, PUBLIC) == []


@given(st.lists(st.sampled_from(sorted(EVENTS)), max_size=30))
def test_whatever_happens_a_channel_enters_and_leaves_once(events: list[str]) -> None:
    talk = Conversation(presence_calls=1000)
    inside: set[ServerChannel] = set()
    for event in events:
        if event != "granted, replay":
            talk.host.refuses = ""
            for effect in EVENTS[event](talk):
                if isinstance(effect, Enter):
                    assert effect.channel not in inside
                    inside.add(effect.channel)
                elif isinstance(effect, Leave):
                    inside.remove(effect.channel)
        assert inside == set(talk.session.channels.values())
        assert len(inside) <= 1


def sent(effects: Effects) -> list[tuple[str, Any]]:
    return [(effect.message.event, effect.message.payload) for effect in effects if isinstance(effect, Send | Refuse)]


def test_a_join_is_answered_in_the_order_of_supabase() -> None:
    talk = Conversation()
    entry = {"event": "*", "table": "t"}
    config = {"presence": {"enabled": True}, "postgres_changes": [entry], "broadcast": {"replication_ready": True}}
    effects = talk.join(**config)
    kinds = [type(effect) for effect in effects]
    assert kinds == [Enter, Send, SendPresence, WakeAt, Subscribe, AwaitReplication]
    assert sent(effects) == [("phx_reply", {"status": "ok", "response": {"postgres_changes": [{"id": 7, **entry}]}})]
    again = talk.join()
    assert [type(effect) for effect in again] == [Leave, Enter, Send, Send, WakeAt]
    assert isinstance(again[3], Send)
    assert (again[3].message.event, again[3].message.join_ref) == ("phx_close", "1"), "that of the first join"


@pytest.mark.parametrize(
    ("replay", "expected"),
    [
        ({"since": 5}, 25),
        ({"since": 5, "limit": 3}, 3),
        ({"since": 5, "limit": 99}, 25),
        ({"limit": 3}, None),
        ({"since": "x"}, None),
        ({"since": 5, "limit": 0}, None),
        ({"since": 10**18}, None),
        ("x", None),
    ],
)
def test_what_a_join_may_want_replayed(replay: Any, expected: int | None) -> None:
    talk = authorizing(broadcast={"replay": replay})
    (effect,) = talk.granted()
    if expected is None:
        assert isinstance(effect, Refuse)
        assert effect.reason == "UnableToReplayMessages: Replay params are not valid"
    else:
        assert isinstance(effect, ReadStored)
        assert (effect.since, effect.limit) == (5, expected)


def test_who_reads_presence_alone_gets_no_replay() -> None:
    talk = authorizing(**REPLAY)
    (effect,) = talk.granted(Permissions(read_broadcast=False))
    assert isinstance(effect, Refuse)
    assert effect.reason == "Unauthorized: You do not have permissions to read from this Channel topic: t"


def test_a_permission_that_is_lost_is_said_in_the_words_of_the_join() -> None:
    talk = renewing()
    system = sent(talk.granted(NOTHING))[0]
    assert system[1]["message"] == "You do not have permissions to read from this Channel topic: t"


def test_a_token_that_expires_ends_its_channels() -> None:
    talk = joined()
    assert talk.session.wake(1999.0) == [WakeAt(2000.0)]
    effects = talk.session.wake(2003.7)
    assert sent(effects)[0][1]["message"] == "Token has expired 3 seconds ago"
    assert talk.session.channels == {}


def test_rates_that_sessions_share() -> None:
    rates = SharedRates(joins=2, messages=1, presence=1)
    one, two = (ServerSession(Host(), "t2000", None, rates) for _ in range(2))
    for session in (one, two):
        assert isinstance(session.receive(Message(TOPIC, "phx_join", {}, "1", "1"), NOW)[0], Enter)
    (refused,) = two.receive(Message("realtime:u", "phx_join", {}, "2", "2"), NOW)
    assert isinstance(refused, Refuse)
    assert refused.drops
    message = Message(TOPIC, "broadcast", {"event": "e", "payload": 1}, "3", "1")
    assert isinstance(one.receive(message, NOW)[0], Publish)
    assert sent(two.receive(message, NOW))[0][1]["message"] == "Too many messages per second"


def test_presence_calls_are_counted() -> None:
    talk = joined()
    for _ in range(5):
        assert any(isinstance(effect, Track) for effect in presence("track")(talk))
    assert sent(presence("track")(talk))[0][1]["message"] == "Client presence rate limit exceeded"


def test_a_broadcast_and_its_acknowledgement() -> None:
    talk = Conversation(max_payload=10)
    talk.join(broadcast={"ack": True, "self": True})
    publish, reply = talk.push("broadcast", {"event": "e", "payload": {"a": 1}, "meta": {"x": 1}})
    assert isinstance(publish, Publish)
    assert (publish.event, publish.body, publish.raw, publish.meta) == ("e", b'{"a":1}', False, {"x": 1})
    assert isinstance(reply, Send)
    assert reply.message.payload == {"status": "ok", "response": {}}
    too_large = talk.push("broadcast", {"event": "e", "payload": "x" * 20})
    assert sent(too_large) == [("phx_reply", {"status": "error", "response": "payload_size_exceeded"})]
    assert talk.push("broadcast", {"event": 5}) == []


def test_heartbeats_and_what_is_unknown() -> None:
    session = ServerSession(Host(), "t2000")
    assert sent(session.receive(Message("phoenix", "heartbeat", {}, "1"), NOW)) == [
        ("phx_reply", {"status": "ok", "response": {}})
    ]
    (reply,) = session.receive(Message("nothing", "phx_join", {}, "2", "2"), NOW)
    assert isinstance(reply, Send)
    assert reply.message.payload == {"status": "error", "response": {"reason": "unmatched topic"}}
