"""`ConnectionStatus` of a client of a real server."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import pytest

import rtwidgets as rt
from rtwidgets.client.thread import io_loop

from ..waits import wait_until
from .page import Page

pytestmark = pytest.mark.pg
EVIL = "<img src=x onerror=alert(1)>"


@pytest.fixture
def client(local: Any) -> Iterator[rt.Client]:
    made = local.connect()
    yield made
    made.close()


def test_it_says_how_the_connection_is(client: Any) -> None:
    shown = rt.ConnectionStatus(client)
    page = Page(shown)
    wait_until(lambda: page.state.get("status") == "closed")
    room = rt.Channel(f"{EVIL}-{uuid.uuid4().hex[:6]}", client=client).subscribe()
    wait_until(lambda: page.state["channels"] == [[room.topic, "joined", 0, ""]])
    wait_until(lambda: shown.status == "connected" and shown.round_trip_ms is not None)
    assert page.state["trip"] == pytest.approx(shown.round_trip_ms, abs=0.1)
    assert any("ago" in sent for sent in page.frames)
    assert shown.last_frame_at is not None
    assert shown.df[["topic", "status", "rejoins"]].to_numpy().tolist() == [[room.topic, "joined", 0]]
    assert EVIL not in shown._html()
    seen: list[int] = []
    shown.observe(lambda change: seen.append(change["new"]), "revision")
    room.unsubscribe()
    wait_until(lambda: seen and shown.count == 0)
    shown.close()


def test_a_lost_line_is_told_and_counted(client: Any) -> None:
    shown = rt.ConnectionStatus(client)
    page = Page(shown)
    room = rt.Channel(f"room-{uuid.uuid4().hex[:6]}", client=client).subscribe()
    wait_until(lambda: shown.status == "connected")
    io_loop().call_soon_threadsafe(client.aio._socket.abort)
    wait_until(lambda: shown.reconnects == 1)
    wait_until(lambda: page.state["channels"] == [[room.topic, "joined", 1, ""]])
    wait_until(lambda: page.state["error"] == "")
    assert "check the network" in shown.last_error.lower()
    assert page.state["failed"] is not None
    shown.close()


def test_a_key_that_is_refused_says_what_to_do_and_shows_no_key(local: Any) -> None:
    wrong = "eyJhbGciOiJIUzI1NiJ9.eyJyb2xlIjoiYW5vbiJ9.c2lnbmF0dXJl"
    client = rt.Client(local.url, wrong)
    shown = rt.ConnectionStatus(client)
    page = Page(shown)
    with pytest.raises(rt.RealtimeError):
        client.connect_socket()
    wait_until(lambda: shown.status == "error")
    wait_until(lambda: page.state["error"])
    assert "key" in page.state["error"].lower()
    assert wrong not in repr(page.frames) + repr(shown) + shown._html() + repr(shown.get_state())
    shown.close()
    client.close()


def test_the_default_client_a_channel_and_what_is_none(local: Any, client: Any) -> None:
    rt.set_default_client(client)
    one, other = rt.ConnectionStatus(), rt.ConnectionStatus(rt.Channel("x", client=client))
    assert one.client is other.client is client
    for shown in (one, other):
        shown.close()
        shown.close()
        assert shown._registered == []
        assert shown._timer is not None
        assert shown._timer.cancelled()
    rt.set_default_client(local.client)
    with pytest.raises(TypeError, match="not str"):
        rt.ConnectionStatus("http://127.0.0.1")  # type: ignore[arg-type]
