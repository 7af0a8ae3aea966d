"""`BroadcastFeed` and `Presence` between two clients of a real server."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import rtwidgets as rt

from ..waits import wait_until
from .page import Page

pytestmark = pytest.mark.pg


@pytest.fixture
def rooms(local: Any) -> Iterator[tuple[Any, Any]]:
    """One topic, joined by two clients."""
    topic = f"room-{uuid.uuid4().hex[:8]}"
    one, other = local.connect(), local.connect("bob")
    yield rt.Channel(topic, client=one), rt.Channel(topic, client=other)
    one.close()
    other.close()


def test_a_talk_between_two(rooms: Any) -> None:
    ana, bob = rt.BroadcastFeed(rooms[0], "message", sender="ana"), rt.BroadcastFeed(rooms[1], "message", sender="bob")
    wait_until(lambda: rooms[0].status == rooms[1].status == "joined")
    ana.send("is it open?")
    wait_until(lambda: bob.messages)
    bob.send({"sender": "bob", "text": "yes", "gate": "B12"})
    wait_until(lambda: len(ana.messages) == 2)
    said = [{"sender": "ana", "text": "is it open?"}, {"sender": "bob", "text": "yes", "gate": "B12"}]
    assert ana.messages == said == bob.messages
    assert ana.last["gate"] == "B12"
    wait_until(lambda: ana.count == 2)
    assert ana.df[["event", "sender", "text"]].to_numpy().tolist() == [
        ["message", "ana", "is it open?"],
        ["message", "bob", "yes"],
    ]


def test_what_was_sent_stays_as_it_was_sent(rooms: Any) -> None:
    ana, bob = rt.BroadcastFeed(rooms[0], "message"), rt.BroadcastFeed(rooms[1], "message")
    wait_until(lambda: rooms[0].status == rooms[1].status == "joined")
    payload = {"text": "a", "deep": [{"n": np.int64(1)}]}
    ana.send(payload)
    payload["text"], payload["deep"] = "changed", []
    data = bytearray(b"ab")
    ana.send(data)
    data[0] = 0
    wait_until(lambda: len(bob.messages) == 2)
    assert ana.messages == bob.messages == [{"text": "a", "deep": [{"n": 1}]}, b"ab"]


def test_the_box_sends_and_answers(rooms: Any) -> None:
    ana, bob = rt.BroadcastFeed(rooms[0], "message", sender="ana"), rt.BroadcastFeed(rooms[1])
    wait_until(lambda: rooms[0].status == rooms[1].status == "joined")
    page, other = Page(ana), Page(bob)
    page.say("send", text="<i>hi</i>", number=1)
    wait_until(lambda: any(f.get("answers") == [[1, ""]] for f in page.frames))
    lines = [line for f in page.frames for line in f.get("lines", [])]
    assert [(line["text"], line["mine"]) for line in lines] == [("<i>hi</i>", True)]
    wait_until(lambda: any(f.get("lines") for f in other.frames))
    heard = [line for f in other.frames for line in f.get("lines", [])]
    assert [(line["sender"], line["text"], line["mine"]) for line in heard] == [("ana", "<i>hi</i>", False)]


def test_a_refused_message_is_not_in_the_talk(rooms: Any) -> None:
    feed = rt.BroadcastFeed(rooms[0], "message")
    wait_until(lambda: rooms[0].status == "joined")
    page = Page(feed)
    rooms[0].unsubscribe()
    page.say("send", text="into the void", number=4)
    wait_until(lambda: any(f.get("answers") for f in page.frames))
    number, why = next(f["answers"][0] for f in page.frames if f.get("answers"))
    assert number == 4
    assert "not subscribed" in why
    assert feed.messages == []
    with pytest.raises(rt.RealtimeError):
        feed.send("again")


def test_own_messages_come_once_where_the_server_sends_them_back(local: Any) -> None:
    client = local.connect()
    room = rt.Channel(f"self-{uuid.uuid4().hex[:6]}", broadcast_self=True, client=client)
    feed = rt.BroadcastFeed(room, "message")
    wait_until(lambda: room.status == "joined")
    feed.send("once")
    wait_until(lambda: feed.count == 1)
    feed.send("twice")
    wait_until(lambda: feed.count == 2)
    assert feed.messages == [{"text": "once"}, {"text": "twice"}]
    client.close()


def test_bytes_and_odd_payloads_have_a_line(rooms: Any) -> None:
    ana, bob = rt.BroadcastFeed(rooms[0], "m"), rt.BroadcastFeed(rooms[1], "m", maxlen=3)
    wait_until(lambda: rooms[0].status == rooms[1].status == "joined")
    page = Page(bob)
    for n, payload in enumerate((b"\x00\x01", {"n": 1}, {"text": 5}, {"text": "x" * 9000}), 1):
        ana.send(payload)
        wait_until(lambda n=n: sum(len(f.get("lines", [])) for f in page.frames) == n)
    texts = [line["text"] for f in page.frames for line in f.get("lines", [])]
    assert texts[:3] == ["2 bytes: 00 01", '{"n": 1}', '{"text": 5}']
    assert len(texts[3]) == 4001
    assert len(bob.messages) == 3
    late = Page(bob)
    wait_until(lambda: late.frames)
    assert late.frames[0]["from"] == 1
    assert len(late.frames[0]["lines"]) == 3


def test_a_page_reads_back_as_far_as_the_feed_holds(rooms: Any) -> None:
    ana, bob = rt.BroadcastFeed(rooms[0], "m"), rt.BroadcastFeed(rooms[1], "m", maxlen=1_000)
    wait_until(lambda: rooms[0].status == rooms[1].status == "joined")
    ana.send("the very first")
    bob.send("my own")
    for n in range(1_100):
        rooms[0].send("m", {"sender": "ana", "text": f"line {n}"})
    wait_until(lambda: bob.received.total == 1_102)
    page = Page(bob)
    wait_until(lambda: page.frames)
    assert (page.frames[0]["from"], page.frames[0]["held"]) == (602, 102)
    page.say("read", start=102, stop=602, back=True, filter="")
    wait_until(lambda: any(f.get("pages") for f in page.frames))
    (older,) = next(f["pages"] for f in page.frames if f.get("pages"))
    assert [line["text"] for _, line in older["lines"]] == [f"line {n}" for n in range(400, 600)]
    assert [number for number, _ in older["lines"]] == list(range(402, 602))
    page.frames.clear()
    page.say("read", start=102, stop=602, back=True, filter="ana m line 15")
    wait_until(lambda: any(f.get("pages") for f in page.frames))
    (found,) = next(f["pages"] for f in page.frames if f.get("pages"))
    assert (found["start"], found["stop"], found["filter"]) == (102, 602, "ana m line 15")
    assert [line["text"] for _, line in found["lines"]] == [f"line {n}" for n in range(150, 160)]
    bob.clear()
    wait_until(lambda: page.frames[-1].get("held") == 1_102)


def test_own_messages_stay_own_when_read_back(rooms: Any) -> None:
    ana = rt.BroadcastFeed(rooms[0], "m", maxlen=50)
    wait_until(lambda: rooms[0].status == "joined")
    for n in range(300):
        ana.send(f"mine {n}")
    page = Page(ana)
    wait_until(lambda: page.frames)
    page.say("read", start=0, stop=300, back=True, filter="")
    wait_until(lambda: any(f.get("pages") for f in page.frames))
    (older,) = next(f["pages"] for f in page.frames if f.get("pages"))
    assert all(line["mine"] for _, line in older["lines"])
    assert len(older["lines"]) == 50
    assert len(ana._own) <= 250, "what was forgotten is forgotten here as well"


def test_presence_counts_people(rooms: Any) -> None:
    ana = rt.Presence(rooms[0], key="ana", state={"team": "support"})
    page = Page(ana)
    wait_until(lambda: ana.count == 1)
    seen: list[Any] = []
    ana.on_join(lambda key, states: seen.append(("join", key)))
    ana.on_update(lambda key, states: seen.append(("update", key, states[0]["busy"])))
    ana.on_leave(lambda key, states: seen.append(("leave", key)))
    bob = rt.Presence(rooms[1], key="bob", state={"busy": False})
    wait_until(lambda: ana.count == bob.count == 2)
    bob.track({"busy": True})
    wait_until(lambda: ("update", "bob", True) in seen)
    assert ana.df.set_index("key")["team"].dropna().to_dict() == {"ana": "support"}
    wait_until(lambda: page.state.get("count") == 2)
    assert [entry[0] for entry in page.frames[-1]["people"]] == ["ana", "bob"]
    bob.untrack()
    wait_until(lambda: ana.count == 1)
    assert [entry[:2] for entry in seen] == [("join", "bob"), ("update", "bob"), ("leave", "bob")]


def test_the_same_name_twice_is_one_person(rooms: Any) -> None:
    ana = rt.Presence(rooms[0], key="ana", state={"tab": 1})
    rt.Presence(rooms[1], key="ana", state={"tab": 2})
    wait_until(lambda: ana.connections == 2)
    assert ana.count == 1
    assert sorted(ana.df["tab"]) == [1, 2]


def test_running_the_cell_again_is_safe(rooms: Any) -> None:
    for _ in range(3):
        online = rt.Presence(rt.Channel(rooms[0].topic, client=rooms[0].client), key="ana", state={"x": 1})
    wait_until(lambda: online.count == 1)
    assert online.connections == 1


def test_another_name_on_the_same_channel_is_refused(rooms: Any) -> None:
    rt.Presence(rooms[0], key="ana")
    with pytest.raises(rt.RealtimeError, match="ana"):
        rt.Presence(rooms[0], key="bob")


def test_closing_the_last_widget_leaves_the_channel(rooms: Any) -> None:
    feed, online = rt.BroadcastFeed(rooms[0]), rt.Presence(rooms[0], key="ana", state={})
    other = rt.Presence(rooms[1])
    wait_until(lambda: other.count == 1)
    feed.close()
    wait_until(lambda: rooms[0].status == "joined")
    online.close()
    wait_until(lambda: rooms[0].status == "closed")
    wait_until(lambda: other.count == 0)


def test_after_wait_live_the_count_is_true(rooms: Any) -> None:
    first = rt.Presence(rooms[0], key="ana", state={}).wait_live()
    assert (first.count, first.status) == (1, "joined")
    assert rt.Presence(rooms[1], key="bob", state={}).wait_live().count == 2
    assert rt.BroadcastFeed(rooms[0]).wait_live().status == "joined"
