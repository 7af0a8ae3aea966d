"""A session from a file, in the widgets that a live one has."""

from __future__ import annotations

import contextlib
import gzip
import os
import time
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest

import rtwidgets as rt
from rtwidgets.protocol.codec import dumps
from rtwidgets.sessions.recording import Writer, read

from ..waits import wait_until

COLUMNS = [["id", "int8"], ["item", "text"], ["amount", "numeric"], ["at", "timestamptz"]]
ORDERS = {"schema": "public", "table": "orders"}


def change(at: float, type: str, record: Any = None, old: Any = None) -> dict[str, Any]:
    return {"at": at, "kind": "change", **ORDERS, "type": type, "record": record, "old_record": old}


def meta(ref: str, **state: Any) -> dict[str, Any]:
    return {"phx_ref": ref, **state}


SESSION: list[dict[str, Any]] = [
    {"at": 0, "kind": "presence", "topic": "lobby", "joins": {"ana": [meta("a", team="x")]}, "leaves": {}},
    {"at": 0, "kind": "snapshot", **ORDERS, "columns": COLUMNS, "key": ["id"], "rows": [[1, "apples", 2.5, None]]},
    {"at": 0, "kind": "rows", **ORDERS, "rows": [[2, "pears", None, None]]},
    {"at": 0, "kind": "live", **ORDERS},
    {"at": 0, "kind": "start"},
    change(
        1,
        "INSERT",
        {"id": 3, "item": "plums", "amount": Decimal("12345678901234567890.5")},
    ),
    {"at": 2, "kind": "broadcast", "topic": "lobby", "event": "message", "payload": {"sender": "ana", "text": "hello"}},
    {"at": 2, "kind": "broadcast", "topic": "lobby", "event": "raw", "base64": "AAH/"},
    {"at": 2, "kind": "a kind of a later version", "topic": "lobby"},
    change(3, "UPDATE", {"id": 1, "amount": 7}),  # the other columns did not change, and were not sent
    {"at": 4, "kind": "presence", "topic": "lobby", "joins": {"bob": [meta("b")]}, "leaves": {"ana": [meta("a")]}},
    change(5, "DELETE", None, {"id": 2}),
    {"at": 10, "kind": "end"},
]


def written(path: Path, lines: list[dict[str, Any]]) -> Path:
    header = {"format": "rtwidgets session", "version": 1, "started_at": "2026-01-01T00:00:00.000Z"}
    path.write_bytes(b"".join(dumps(line) + b"\n" for line in [header, *lines]))
    return path


@pytest.fixture
def session(tmp_path: Path) -> Path:
    return written(tmp_path / "session.jsonl", SESSION)


def ids(table: rt.LiveTable) -> list[int]:
    return sorted(table.df["id"].tolist()) if "id" in table.df else []


def test_a_table_a_feed_and_a_presence_see_it_as_if_it_were_live(session: Path) -> None:
    """From the first row to the last, by the widgets' own public names."""
    with rt.replay(session, speed=float("inf"), paused=True) as player:
        orders = rt.LiveTable("orders").wait_live()
        room = rt.Channel("lobby")
        chat, online = rt.BroadcastFeed(room), rt.Presence(room)
        online.wait_live()
        assert ids(orders) == [1, 2]
        assert online.count == 1
        assert player.status == "paused"
        player.play().wait()
        wait_until(lambda: ids(orders) == [1, 3] and len(chat.messages) == 2 and list(online.state) == ["bob"])
        row = orders.df.set_index("id").loc[1]
        assert (row["item"], row["amount"]) == ("apples", 7)
        assert chat.messages == [{"sender": "ana", "text": "hello"}, b"\x00\x01\xff"]
        assert orders.status == "live"
        assert player.status == "finished"
        assert player.position == player.duration == 10
        for widget in (orders, chat, online):
            widget.close()


def test_time_goes_from_the_first_join_at_the_speed_that_was_asked_for(session: Path) -> None:
    with rt.replay(session, speed=20) as player:
        assert player.status == "waiting"
        assert player.position == 0
        orders = rt.LiveTable("orders")
        began = time.monotonic()
        orders.wait_live()
        player.wait()
        assert time.monotonic() - began >= 0.4
        wait_until(lambda: ids(orders) == [1, 3])
        orders.close()


def test_a_seek_after_a_pause_at_the_end_stays_paused(session: Path) -> None:
    with rt.replay(session, speed=float("inf")) as player:
        orders = rt.LiveTable("orders").wait_live()
        player.wait()
        player.pause().seek(0)
        wait_until(lambda: len(orders.df) == 2)
        assert (player.status, player.position) == ("paused", 0)


def test_pause_and_seek_both_ways(session: Path) -> None:
    """A table is what it was at that moment, and only what differs is reported."""
    with rt.replay(session, paused=True) as player:
        orders = rt.LiveTable("orders").wait_live()
        online = rt.Presence("lobby").wait_live()
        player.seek(4.5)
        wait_until(lambda: ids(orders) == [1, 2, 3] and list(online.state) == ["bob"])
        player.seek(10)
        wait_until(lambda: ids(orders) == [1, 3])
        batches: list[rt.ChangeBatch] = []
        orders.on_change(batches.append)
        player.seek(0)
        wait_until(lambda: ids(orders) == [1, 2] and list(online.state) == ["ana"])
        # `df` shows a change before callbacks get it, so that the first batch may be that of the seek before.
        wait_until(lambda: bool(batches) and [row["id"] for row in batches[-1].inserted] == [2])
        assert [row["id"] for row in batches[-1].deleted] == [3]
        player.seek(99)
        assert player.position == 10
        player.play()
        wait_until(lambda: player.status == "finished")
        player.speed = 0.05  # the rows of the first second can be seen for twenty
        player.play()
        wait_until(lambda: player.position < 5 and ids(orders) == [1, 2])
        player.pause()
        at = player.position
        time.sleep(0.05)
        assert player.position == at
        orders.close()
        online.close()


def test_a_table_takes_its_filter_order_limit_and_columns(session: Path) -> None:
    with rt.replay(session, paused=True) as player:
        player.seek(4)
        few = rt.LiveTable("orders", filter="item=in.(apples,plums)", order="id desc", limit=1, columns=["item"])
        few.wait_live()
        assert few.df.to_dict("records") == [{"id": 3, "item": "plums"}]
        exact = rt.LiveTable("orders", numeric="decimal").wait_live()
        assert str(exact.df.set_index("id").loc[3, "amount"]) == "12345678901234567890.5"
        few.close()
        exact.close()


def test_names_and_values_of_any_sort_are_read_in_a_replay(tmp_path: Path) -> None:
    names = ["order", "select", 'a"b', "c,d", "limit", "e.f", "(g)"]
    table = {"schema": "ünï", "table": "a/b?c.d"}
    rows = [[n, n % 2, *[f'"v,{n}"' for _ in names[2:]]] for n in range(5)]
    columns = [[name, "int4" if at < 2 else "text"] for at, name in enumerate(names)]
    path = written(
        tmp_path / "odd.jsonl",
        [
            {"at": 0, "kind": "snapshot", **table, "columns": columns, "key": names[:1], "rows": rows},
            {"at": 0, "kind": "live", **table},
            {"at": 0, "kind": "start"},
            {"at": 1, "kind": "end"},
        ],
    )
    with rt.replay(path, paused=True):
        for at, name in enumerate(names):
            value: Any = rows[3][at]
            both = rt.where(name, "eq", value) & rt.where(name, "in", [value])
            found = rt.LiveTable(
                table["table"], schema=table["schema"], filter=both,
                order='select desc, "order" desc', limit=2, columns=[name],
            ).wait_live()  # fmt: skip
            want = [row for row in rows if row[at] == value]
            want = sorted(want, key=lambda row: (-row[1], -row[0]))[:2]
            assert found.df["order"].tolist() == [row[0] for row in want], name
            found.close()


def test_who_watches_may_talk_and_be_present_too(session: Path) -> None:
    with rt.replay(session, paused=True) as player:
        room = rt.Channel("lobby", ack=True, broadcast_self=True)
        me = rt.Presence(room, key="me", state={"watching": True})
        chat = rt.BroadcastFeed(room, "message")
        me.wait_live()
        assert set(me.state) == {"ana", "me"}
        chat.send("is anybody here?")
        wait_until(lambda: chat.messages == [{"text": "is anybody here?"}])
        me.untrack()
        wait_until(lambda: set(me.state) == {"ana"})
        player.seek(5)
        wait_until(lambda: set(me.state) == {"bob"})
        me.close()
        chat.close()


def test_a_gap_in_the_recording_shows_as_one(tmp_path: Path) -> None:
    """What was not recorded must not look current."""
    lines = [
        *SESSION[1:5],
        {"at": 1, "kind": "gap", **ORDERS, "reason": "the connection was lost"},
        {"at": 60, "kind": "snapshot", **ORDERS, "columns": COLUMNS, "key": ["id"], "rows": [[9, "figs", 1, None]]},
        {"at": 60, "kind": "live", **ORDERS},
    ]
    with rt.replay(written(tmp_path / "gap.jsonl", lines), paused=True) as player:
        orders = rt.LiveTable("orders").wait_live()
        player.speed = 20
        player.play()
        wait_until(lambda: orders.status == "stale")
        assert ids(orders) == [1, 2]
        player.seek(61)
        wait_until(lambda: orders.status == "live" and ids(orders) == [9])
        orders.close()


def test_what_is_not_in_it_is_said(session: Path) -> None:
    with rt.replay(session) as player:
        other = rt.LiveTable("customers")
        wait_until(lambda: other.status == "error")
        assert "public.customers is not in this recording, which has public.orders" in other.error
        assert player.tables == [("public", "orders")]
        assert player.topics == ["lobby"]
        assert "session.jsonl" in repr(player)
        assert "public.orders, lobby" in player._repr_html_()
        other.close()


def test_nobody_else_on_this_machine_gets_in(session: Path) -> None:
    """Any page in a browser may knock at a port: without the key it learns nothing."""
    with rt.replay(session) as player:
        for path in ("/rest/v1/orders", "/realtime/v1/websocket?vsn=2.0.0&apikey=guess"):
            assert httpx.get(player.client.url + path).status_code == 401


def test_the_default_client_of_before_comes_back(session: Path, tmp_path: Path) -> None:
    rt.set_default_client(None)
    other = written(tmp_path / "other.jsonl", SESSION)
    with rt.replay(session) as outer:
        with rt.replay(other) as inner:
            assert rt.default_client() is inner.client
        assert rt.default_client() is outer.client
    assert outer.status == "closed"


def test_a_cell_may_run_again(session: Path) -> None:
    """The replay of before does not go on beside the new one, also where nobody has kept it."""
    first = rt.replay(session, paused=True)
    table = rt.LiveTable("orders").wait_live()
    second = rt.replay(session, paused=True)
    assert first.status == "closed"
    wait_until(lambda: table.status != "live")
    again = rt.LiveTable("orders").wait_live()
    assert ids(again) == [1, 2]
    for widget in (table, again):
        widget.close()
    second.close()
    second.close()


def test_in_a_loop_it_begins_again(tmp_path: Path) -> None:
    lines = [{"at": 0.05, "kind": "broadcast", "topic": "lobby", "event": "tick", "payload": {}}]
    with rt.replay(written(tmp_path / "tick.jsonl", lines), loop=True) as player:
        ticks = rt.BroadcastFeed("lobby")
        wait_until(lambda: len(ticks.messages) >= 3)
        with pytest.raises(rt.RealtimeError, match="loop"):
            player.wait()
        ticks.close()


def test_what_is_no_session_is_refused(tmp_path: Path, session: Path) -> None:
    other = tmp_path / "other.jsonl"
    other.write_text("hello\n")
    with pytest.raises(rt.RealtimeError, match="not a session") as raised:
        rt.replay(other)
    assert raised.value.code == "NotARecording"
    other.write_text('{"format": "rtwidgets session", "version": 2}\n')
    with pytest.raises(rt.RealtimeError, match="version 2"):
        rt.replay(other)
    with pytest.raises(FileNotFoundError):
        rt.replay(tmp_path / "nothing.jsonl")
    with pytest.raises(ValueError, match="speed"):
        rt.replay(session, speed=0)
    lines = session.read_text().splitlines()
    other.write_text("\n".join([*lines[:3], "{broken", *lines[3:]]))
    with pytest.raises(rt.RealtimeError, match="line 4"):
        rt.replay(other)


def test_a_last_line_that_was_cut_off_is_left_out(session: Path, tmp_path: Path) -> None:
    whole = len(read(session).entries)
    text = session.read_text()
    session.write_text(text + text[-20:-5])
    assert len(read(session).entries) == whole
    packed = tmp_path / "session.jsonl.gz"
    packed.write_bytes(gzip.compress(text.encode()))
    assert len(read(packed).entries) == whole
    packed.write_bytes(packed.read_bytes()[:-30])
    with pytest.raises(rt.RealtimeError, match="decompress"):
        read(packed)


def test_a_damaged_recording_raises_what_is_documented(session: Path, tmp_path: Path) -> None:
    """Wherever the damage is; or nothing, where it does not matter."""
    packed = tmp_path / "session.jsonl.gz"
    whole = gzip.compress(session.read_bytes())
    seen = 0
    for at in range(len(whole)):
        packed.write_bytes(whole[:at] + bytes([whole[at] ^ 0xFF]) + whole[at + 1 :])
        with contextlib.suppress(rt.RealtimeError):
            read(packed)
            continue
        seen += 1
    assert seen > len(whole) // 2


@pytest.mark.parametrize("name", ["session.jsonl", "session.jsonl.gz"])
def test_a_recording_is_for_its_owner_alone(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    before = os.umask(0o022)
    try:
        writer = Writer(path, {}, overwrite=False)
        writer.write(0, "start", {})
        writer.close()
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o600
    assert [entry.kind for entry in read(path).entries] == ["start"]
