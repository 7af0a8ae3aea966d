"""`Inspector` and `ChannelPanel`: what travels, said in words and without secrets; calls by buttons."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import rtwidgets as rt

from ..waits import wait_until
from .page import Page

pytestmark = pytest.mark.pg


def test_every_frame_both_ways_in_words(local: Any, orders: Any, tmp_path: Path) -> None:
    client = local.connect(user="ana")
    inspector = rt.Inspector(client)
    page = Page(inspector)
    room = rt.Channel("inspected", client=client, broadcast_self=True)
    room.on_broadcast("hello", lambda payload: None)
    room.on_postgres_changes(lambda change: None, table="orders")
    room.subscribe()
    room.track({"team": "support"})
    room.send("hello", {"text": "<b>hi</b>", "token": "sb_secret_abcdefgh"})
    wait_until(lambda: any("Subscribed to PostgreSQL" in text for text in inspector.df["meaning"]))
    orders.sql("update orders set amount = 7 where id = 1")
    wait_until(lambda: any("updated in public.orders" in text for text in inspector.df["meaning"]))
    wait_until(lambda: any("broadcast 'hello' on" in text for text in inspector.df["meaning"]))
    frame = inspector.df
    said = frame["meaning"].tolist()
    first = said.index("asks to join inspected, with changes of public.orders, presence")
    assert frame["direction"][first] == "out"
    assert "inspected: accepted, 1 subscription" in said[first:]
    assert any("broadcast 'hello' on inspected" in text for text in said)
    assert frame["at"].is_monotonic_increasing
    wait_until(lambda: sum(len(f.get("lines", [])) for f in page.frames) >= len(said))
    path = tmp_path / "frames.jsonl"
    assert inspector.export(path) == inspector.count or path.stat().st_size
    everything = path.read_text() + json.dumps(page.frames) + frame.to_csv() + inspector._html()
    assert json.loads(path.read_text().splitlines()[first])["frame"]["event"] == "phx_join"
    assert "<redacted>" in everything
    assert "eyJ" not in everything
    assert "sb_secret_abc" not in everything
    assert "<b>" not in inspector._html().split("<ul>")[1]
    inspector.close()


def test_a_channels_frames_only_a_bounded_number_and_pause(local: Any) -> None:
    client = local.connect()
    room, other = rt.Channel("one", client=client).subscribe(), rt.Channel("other", client=client).subscribe()
    inspector = rt.Inspector(room, maxlen=10)
    page = Page(inspector)
    other.send("m", {"n": -1})
    for number in range(30):
        room.send("m", {"n": number})
    wait_until(lambda: inspector.revision >= 30)
    assert inspector.count == 10
    page.say("read", start=0, stop=10**6, back=True, filter='"n": 27')
    wait_until(lambda: any(f.get("pages") for f in page.frames))
    (older,) = next(f["pages"] for f in page.frames if f.get("pages"))
    assert ["27" in line["frame"] for _, line in older["lines"]] == [True]
    assert set(inspector.df["topic"]) == {"realtime:one"}
    wait_until(lambda: page.state.get("count") == inspector.revision >= 30)
    page.say("pause")
    wait_until(lambda: inspector.paused)
    room.send("m", {"n": 99})
    wait_until(lambda: page.state["waiting"] >= 1)
    page.say("resume")
    wait_until(lambda: any('"n": 99' in line["text"] for f in page.frames for line in f.get("lines", [])))
    page.say("export")
    wait_until(lambda: any("file" in frame for frame in page.frames))
    inspector.clear()
    wait_until(lambda: inspector.count == 0)
    with pytest.raises(TypeError, match="a client or a channel"):
        rt.Inspector("lobby")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="1 or more"):
        rt.Inspector(room, maxlen=0)


def answers(page: Page) -> dict[int, str]:
    return {answer["number"]: answer["problem"] for frame in page.frames for answer in frame.get("answers", [])}


def test_buttons_call_the_channel_and_say_what_became_of_it(local: Any) -> None:
    room = rt.Channel("panelled", client=local.connect(), presence_key="ana")
    panel = rt.ChannelPanel(room)
    other = rt.Channel("panelled", client=local.connect())
    heard = rt.BroadcastFeed(other, "message").wait_live()
    online = rt.Presence(other).wait_live()
    page = Page(panel)
    wait_until(lambda: page.state.get("status") == "closed")
    page.say("subscribe", number=1)
    wait_until(lambda: answers(page).get(1) == "" and panel.status == "joined")
    page.say("track", json='{"team": "support"}', number=2)
    wait_until(lambda: online.count == 1 and online.df["team"].tolist() == ["support"])
    page.say("broadcast", event="message", json='{"text": "from a button"}', number=3)
    wait_until(lambda: heard.messages == [{"text": "from a button"}])
    page.say("broadcast", event="message", json="{text}", number=4)
    wait_until(lambda: "not JSON" in answers(page).get(4, ""))
    page.say("broadcast", event=" ", json="{}", number=5)
    wait_until(lambda: "event" in answers(page).get(5, ""))
    page.say("track", json="[1]", number=6)
    wait_until(lambda: "JSON objects" in answers(page).get(6, ""))
    page.say("untrack", number=7)
    wait_until(lambda: online.count == 0)
    page.say("unsubscribe", number=8)
    wait_until(lambda: panel.status == "closed" and room.status == "closed")
    assert answers(page)[3] == answers(page)[8] == ""
    panel.close()


def test_an_inspector_that_is_opened_later_has_the_last_frames(local: Any) -> None:
    client = local.connect()
    room = rt.Channel("before", client=client)
    room.subscribe()
    room.send("m", {"n": 1})
    room.send("m", {"text": "x" * 50_000})
    inspector = rt.Inspector(client)
    meanings = inspector.df["meaning"].tolist()
    assert any(text.startswith("asks to join before") for text in meanings)
    assert any('"n": 1' in text for text in meanings)
    assert not any("xxxx" in text for text in meanings), "only small frames are kept"
    assert inspector.df["at"].is_monotonic_increasing
    inspector.close()
