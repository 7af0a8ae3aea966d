"""`Cursors`: pointers cross, are bounded, and go with their owners."""

from __future__ import annotations

import time
from typing import Any

import pytest

import rtwidgets as rt

from ..waits import wait_until
from .page import Page

pytestmark = pytest.mark.pg


@pytest.fixture
def boards(local: Any) -> Any:
    made = [rt.Cursors(rt.Channel("board", client=local.connect()), key=key) for key in ("ana", "bob")]
    wait_until(lambda: [board.count for board in made] == [2, 2])
    yield made
    for board in made:
        board.close()


def test_a_pointer_crosses(boards: Any) -> None:
    ana, bob = boards
    page = Page(bob)
    wait_until(lambda: page.state.get("count") == 2)
    ana.move(0.25, 0.5)
    wait_until(lambda: any(["ana", 0.25, 0.5] in frame.get("moved", []) for frame in page.frames))
    assert ana.position == (0.25, 0.5)
    assert bob.position is None
    assert bob.df[["key", "name", "x", "y"]].to_dict("records") == [{"key": "ana", "name": "ana", "x": 0.25, "y": 0.5}]
    page.say("move", x=0.1, y=0.9)
    wait_until(lambda: "bob" in set(ana.df["key"]))


def test_a_pointer_put_before_the_channel_is_joined_is_told_then_and_to_who_comes_later(local: Any) -> None:
    ana = rt.Cursors(rt.Channel("early", client=local.connect()), key="ana")
    ana.move(0.3, 0.4)
    bob = rt.Cursors(rt.Channel("early", client=local.connect()), key="bob")
    wait_until(lambda: bob.df["key"].tolist() == ["ana"])
    late = rt.Cursors(rt.Channel("early", client=local.connect()), key="cem")
    wait_until(lambda: late.df[["key", "x", "y"]].to_dict("records") == [{"key": "ana", "x": 0.3, "y": 0.4}])
    for board in (ana, bob, late):
        board.close()


def test_at_most_thirty_a_second_and_the_last_place_counts(boards: Any) -> None:
    ana, bob = boards
    heard: list[Any] = []
    bob.channel.on_broadcast("cursor", heard.append)
    began = time.monotonic()
    for number in range(300):
        ana.move(number / 300, 0)
        time.sleep(0.002)
    took = time.monotonic() - began
    wait_until(lambda: (heard and bob.df["x"].tolist() == [299 / 300]) or bob.df["x"].round(3).tolist() == [0.997])
    assert len(heard) <= took * 30 + 2


def test_a_pointer_goes_with_its_owner(boards: Any) -> None:
    ana, bob = boards
    ana.move(0.5, 0.5)
    wait_until(lambda: len(bob.df) == 1)
    page = Page(bob)
    wait_until(lambda: page.frames)
    ana.close()
    wait_until(lambda: bob.count == 1 and len(bob.df) == 0)
    wait_until(lambda: any(frame.get("gone") == ["ana"] for frame in page.frames))
    assert ana.status == "closed"


def test_what_is_no_place_is_refused_or_passed_over(boards: Any) -> None:
    ana, bob = boards
    with pytest.raises(ValueError, match="from 0 to 1"):
        ana.move(2, 0)
    for payload in ({"key": "x", "x": 5, "y": 0}, {"key": 3, "x": 0, "y": 0}, {"x": 0, "y": 0}, {"key": "y", "x": "0"}):
        ana.channel.send("cursor", payload)
    Page(ana).say("move", x="0", y=[])
    ana.move(1, 1)
    wait_until(lambda: bob.df["key"].tolist() == ["ana"])


def test_it_shares_the_key_of_the_channel(local: Any) -> None:
    room = rt.Channel("shared board", client=local.connect())
    online = rt.Presence(room, key="cleo", state={"name": "Cleo"}).wait_live()
    board = rt.Cursors(room)
    assert board.key == "cleo"
    wait_until(lambda: board.count == 1)
    assert online.df["name"].tolist() == ["Cleo"], "the state that was tracked stays"
    board.close()
    online.close()
