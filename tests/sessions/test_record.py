"""Recording from a real server, and playing what was recorded."""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

import rtwidgets as rt
from rtwidgets.sessions.recording import read

from ..waits import wait_until

pytestmark = pytest.mark.pg


@pytest.fixture(scope="module")
def local() -> Iterator[rt.Local]:
    home = tempfile.mkdtemp(prefix="rtw")
    before = os.environ.get("RTWIDGETS_HOME")
    os.environ["RTWIDGETS_HOME"] = home
    started = rt.local("record", idle_timeout=2)
    yield started
    rt.close_all()
    started.stop()
    if before is None:
        del os.environ["RTWIDGETS_HOME"]
    else:
        os.environ["RTWIDGETS_HOME"] = before
    shutil.rmtree(home, ignore_errors=True)


@pytest.fixture
def orders(local: rt.Local) -> Iterator[rt.Local]:
    rt.set_default_client(local.client)
    local.sql(
        "create table orders (id int primary key, item text, amount numeric, doc jsonb, at timestamptz default now())"
    )
    local.sql(
        "insert into orders select n, 'item ' || n, n * 1.10, '{\"n\": [1, null]}' from generate_series(1, 2500) n"
    )
    local.publish("orders")
    yield local
    local.sql("drop table orders")


def same(one: pd.DataFrame, other: pd.DataFrame) -> bool:
    frames = [frame.sort_values("id", ignore_index=True) for frame in (one, other)]
    return len(one) == len(other) and frames[0].equals(frames[1])


def test_what_was_recorded_beside_writers_plays_to_what_the_table_was(orders: rt.Local, tmp_path: Path) -> None:
    """The snapshot and the changes in the file join without a gap, whatever was written while it was read."""
    stop = threading.Event()

    def write() -> None:
        number = 10_000
        while not stop.is_set():
            number += 1
            orders.sql("insert into orders (id, item) values (%s, 'new')", number)
            orders.sql("update orders set amount = amount + 1 where id %% 500 = %s", number % 500)
            orders.sql("delete from orders where id = %s", number - 9_000)

    writer = threading.Thread(target=write)
    writer.start()
    table = rt.LiveTable("orders").wait_live()
    try:
        with rt.record("orders", tmp_path / "orders.jsonl") as recorder:
            wait_until(lambda: recorder.count > 100)
            stop.set()
            writer.join()
            orders.sql("update orders set item = 'the last' where id = 2499")
            wait_until(lambda: (table.df.set_index("id").item.get(2499)) == "the last")
            wait_until(lambda: '"the last"' in text(recorder))
    finally:
        stop.set()
        writer.join()
    before = table.df
    table.close()
    with rt.replay(recorder.path, speed=float("inf"), paused=True) as player:
        played = rt.LiveTable("orders").wait_live()
        assert len(played.df) >= 2_400
        player.play().wait()
        wait_until(lambda: same(played.df, before))
        played.close()
    # And from whatever moment one starts to watch.
    with rt.replay(recorder.path, paused=True) as player:
        player.seek(player.duration)
        late = rt.LiveTable("orders").wait_live()
        assert same(late.df, before)
        late.close()


def text(recorder: rt.Recorder) -> str:
    recorder._writer.flush()
    return recorder.path.read_text()


def test_a_channel_with_what_is_said_from_here_and_who_is_there(orders: rt.Local, tmp_path: Path) -> None:
    room = rt.Channel("lobby")
    online = rt.Presence(room, key="ana", state={"team": "support"}).wait_live()
    chat = rt.BroadcastFeed(room, "message", sender="ana")
    other = orders.connect(user="ben")
    there = rt.Channel("lobby", client=other, ack=True, presence_key="ben")
    with rt.record([room, online, chat], tmp_path / "lobby.jsonl.gz") as recorder:
        chat.send("hello")
        there.subscribe()
        there.track({"team": "sales"})
        wait_until(lambda: online.count == 2)
        there.send("message", {"sender": "ben", "text": "my key is " + orders.service_key})
        there.send("raw", b"\x00\x01")
        wait_until(lambda: recorder.count >= 4)
        there.unsubscribe()
        wait_until(lambda: online.count == 1)
    other.close()
    recording = read(recorder.path)
    assert recording.topics == ["lobby"]
    assert orders.service_key not in str(recording.entries)
    assert orders.anon_key not in str([recording.header, recording.entries])
    chat.close()
    online.close()
    room.unsubscribe()
    with rt.replay(recorder.path, speed=float("inf"), paused=True) as player:
        again, here = rt.BroadcastFeed("lobby"), rt.Presence("lobby").wait_live()
        assert list(here.state) == ["ana"]
        counts: list[int] = []
        here.on_join(lambda key, metas: counts.append(1))
        player.play().wait()
        wait_until(lambda: len(again.messages) == 3)
        assert [m if isinstance(m, bytes) else m["text"] for m in again.messages] == [
            *("hello", "my key is <redacted>", b"\x00\x01"),
        ]
        wait_until(lambda: len(counts) == 1 and list(here.state) == ["ana"])
        again.close()
        here.close()


def test_an_interruption_is_in_the_file_and_what_follows_it_too(orders: rt.Local, tmp_path: Path) -> None:
    with rt.record("orders", tmp_path / "cut.jsonl") as recorder:
        orders.network.cut()
        orders.sql("delete from orders where id > 10")
        orders.network.restore()
        wait_until(lambda: '"gap"' in text(recorder) and text(recorder).count('"live"') == 2)
    kinds = [entry.kind for entry in read(recorder.path).entries]
    assert kinds.index("gap") < len(kinds) - 1 - kinds[::-1].index("snapshot")
    with rt.replay(recorder.path, paused=True) as player:
        table = rt.LiveTable("orders").wait_live()
        assert len(table.df) == 2500
        player.seek(player.duration)
        wait_until(lambda: len(table.df) == 10)
        table.close()


def test_what_cannot_be_recorded_says_why(orders: rt.Local, tmp_path: Path) -> None:
    path = tmp_path / "session.jsonl"
    path.write_text("mine")
    with pytest.raises(rt.RealtimeError) as raised:
        rt.record("orders", path)
    assert raised.value.code == "FileExists"
    assert path.read_text() == "mine"
    orders.sql("create table hidden (id int primary key)")
    with pytest.raises(rt.RealtimeError) as raised:
        rt.record(["orders", "hidden"], path, overwrite=True)
    assert "publication" in f"{raised.value.message} {raised.value.hint}"
    with pytest.raises(TypeError):
        rt.record(3, path, overwrite=True)
    with pytest.raises(TypeError):
        rt.record([], path, overwrite=True)
    orders.sql("drop table hidden")


def test_stopping_twice_and_a_widget_as_source(orders: rt.Local, tmp_path: Path) -> None:
    table = rt.LiveTable("orders").wait_live()
    recorder = rt.record(table, tmp_path / "widget.jsonl")
    assert "recording" in repr(recorder)
    assert table.status == "live"  # it goes by a channel of its own
    assert recorder.stop() == recorder.stop() == tmp_path / "widget.jsonl"
    assert "stopped" in repr(recorder)
    first = rt.record(table, tmp_path / "widget.jsonl", overwrite=True)
    with rt.record(table, tmp_path / "widget.jsonl", overwrite=True) as recorder:
        assert not first.running
    assert read(recorder.path).tables == [("public", "orders")]
    table.close()


def test_the_doctor_in_a_notebook(orders: rt.Local) -> None:
    """The same steps as on the command line, as the client of the moment."""
    report = rt.doctor("orders")
    assert report.ok, report
    assert "row changes: subscribed" in repr(report)
    orders.sql('create table "a<b" (id int primary key)')
    report = rt.doctor("a<b")
    assert not report.ok
    assert report[-1].fix == 'alter publication supabase_realtime add table "public"."a<b";'
    assert "&quot;a&lt;b&quot;" in report._repr_html_()
    orders.sql(report[-1].fix)
    assert rt.doctor("a<b").ok
    assert rt.doctor().ok
    orders.network.cut()
    assert rt.doctor().findings[-1].step == "url"
    orders.network.restore()
    orders.sql('drop table "a<b"')


def test_a_table_that_becomes_another_is_recorded_as_it_is_then(local: rt.Local, tmp_path: Path) -> None:
    rt.set_default_client(local.client)
    name = '"dot.ted"'
    local.sql(f"create table {name} (id int primary key, v int); insert into {name} values (1, 1)")
    local.publish(name)
    with rt.record("dot.ted", tmp_path / "odd.jsonl") as recorder:
        local.sql(f"drop table {name}; create table {name} (id int primary key, other text)")
        local.publish(name)
        local.sql(f"insert into {name} values (5, 'five')")
        wait_until(lambda: '"five"' in text(recorder))
        wait_until(lambda: text(recorder).rstrip().splitlines()[-1].count('"live"') or "change" in text(recorder))
    with rt.replay(recorder.path, speed=float("inf")) as player:
        played = rt.LiveTable("dot.ted").wait_live()
        player.wait()
        wait_until(lambda: played.df.to_dict("records") == [{"id": 5, "other": "five"}])
        played.close()
    local.sql(f"drop table {name}")
