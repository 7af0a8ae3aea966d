"""The notebook face: plain calls, one object a topic, callbacks that cannot hurt."""

from __future__ import annotations

import asyncio
import gc
import re
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from rtwidgets.client import notebook, running, thread
from rtwidgets.client.connect import close_all, connect, default_client
from rtwidgets.protocol.errors import RealtimeError, RealtimeTimeoutError
from rtwidgets.protocol.events import Broadcast
from rtwidgets.protocol.filters import where

from ..waits import PATIENCE, wait_until
from .fake import FakeServer


@pytest.fixture
def server() -> Iterator[FakeServer]:
    fake = FakeServer()
    thread.run(fake.__aenter__(), PATIENCE)
    yield fake
    close_all()
    thread.run(fake.__aexit__(), PATIENCE)


def test_plain_calls_from_a_cell(server: FakeServer) -> None:
    """There was no client for plain calls, without asyncio."""
    client = connect(server.url, "key")
    assert default_client() is client
    channel = notebook.Channel("chat", broadcast_self=True, ack=True)
    got: list[Any] = []
    channel.on_broadcast("m", got.append)
    channel.on_event(Broadcast, got.append)
    channel.subscribe()
    assert (channel.status, client.aio.status) == ("joined", "connected")
    channel.send("m", {"a": 1})
    wait_until(lambda: len(got) == 2)
    assert got == [{"a": 1}, Broadcast("m", {"a": 1}, {})]
    channel.unsubscribe()
    assert channel.status == "closed"
    client.close()
    client.close()
    assert client.aio.status == "closed"


def test_rerunning_a_cell_gives_the_same_channel(server: FakeServer) -> None:
    """Subscribing twice, as a cell that runs again does, raised."""
    client = connect(server.url, "key")
    one = notebook.Channel("chat", private=True)
    assert notebook.Channel("chat", private=True, client=client) is one
    assert client.channel("chat", private=True) is one
    one.subscribe()
    one.subscribe()
    with pytest.raises(RealtimeError) as caught:
        notebook.Channel("chat")
    assert caught.value.code == "ChannelOptionsDiffer"


def test_a_busy_cell_does_not_starve_the_connection(server: FakeServer) -> None:
    """A busy cell starved the keepalive, and the connection was closed."""
    client = connect(server.url, "key", heartbeat_interval=0.1)
    channel = notebook.Channel("chat").subscribe()
    end = time.monotonic() + PATIENCE
    while sum(m.event == "heartbeat" for m in server.received) < 3:
        assert time.monotonic() < end
    assert channel.status == "joined"
    assert client.aio.reconnects == 0


@pytest.mark.slow
def test_a_cell_that_is_busy_for_90_seconds(server: FakeServer) -> None:
    """A busy cell starved the keepalive, and the connection was closed. The same at full length: a cell that
    computes, and one that sleeps, with the heartbeats that a project gets."""
    client = connect(server.url, "key", heartbeat_interval=25.0)
    channel = notebook.Channel("chat").subscribe()
    end = time.monotonic() + 45
    while time.monotonic() < end:
        pass
    time.sleep(45)
    assert (channel.aio.status, client.aio.status, client.aio.reconnects) == ("joined", "connected", 0)
    assert sum(m.event == "heartbeat" for m in server.received) == 4


def test_row_changes_and_presence_through_the_sync_face(server: FakeServer) -> None:
    connect(server.url, "key")
    channel = notebook.Channel("t")
    changes: list[Any] = []
    presence: list[Any] = []
    channel.on_postgres_changes(changes.append, table="t")
    off = channel.on_presence(presence.append)
    channel.subscribe()
    thread.run(server.change("t", {"id": 12345678901234567890}), PATIENCE)
    wait_until(lambda: changes and presence)
    assert changes[0].record == {"id": 12345678901234567890}
    off()


def test_a_call_from_a_callback_on_the_io_thread_does_not_hang(server: FakeServer) -> None:
    connect(server.url, "key")
    channel = notebook.Channel("chat", broadcast_self=True)
    got: list[Any] = []

    def answer(payload: Any) -> None:
        got.append(payload)
        if len(got) < 3:
            channel.send("m", len(got))

    channel.on_broadcast("m", answer)
    channel.subscribe()
    channel.send("m", 0)
    wait_until(lambda: got == [0, 1, 2])


class Session:
    access_token = "eyJhbGciOi.eyJzdWIiOiJhbmEifQ.c2ln"


class Auth:
    """The session of a `supabase.Client`, which may go to the network and wait there."""

    def __init__(self) -> None:
        self.asked_on: list[str] = []

    def get_session(self) -> Session | None:
        self.asked_on.append(threading.current_thread().name)
        return Session()


class AsyncAuth(Auth):
    """The session of a `supabase.AsyncClient`."""

    async def get_session(self) -> Session | None:  # type: ignore[override]
        await asyncio.sleep(0)
        return super().get_session()


class Url:
    """As the real ones keep it: not a str, and with a slash at the end."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __str__(self) -> str:
        return self.text + "/"


class Supabase:
    def __init__(self, url: str, auth: Any) -> None:
        self.supabase_url, self.supabase_key, self.auth = Url(url), "sb_publishable_key", auth


@pytest.mark.parametrize("auth", [Auth, AsyncAuth])
def test_connect_takes_a_supabase_client(server: FakeServer, auth: Any) -> None:
    source = Supabase(server.url, auth())
    client = connect(source)
    assert client.url == server.url
    notebook.Channel("t", client=client).subscribe()
    assert server.joins("t")[0].payload["access_token"] == Session.access_token
    if auth is Auth:
        assert "rtwidgets-io" not in source.auth.asked_on, "what may wait must not hold every connection up"


def test_a_supabase_client_without_a_session_speaks_by_its_key(server: FakeServer) -> None:
    source = Supabase(server.url, Auth())
    source.auth.get_session = lambda: None
    notebook.Channel("t", client=connect(source)).subscribe()
    assert "access_token" not in server.joins("t")[0].payload
    with pytest.raises(RealtimeError, match="supabase_url"):
        connect(object())


def test_connect_finds_what_it_is_given(server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUPABASE_URL", server.url)
    monkeypatch.setenv("SUPABASE_KEY", "from-env")
    assert connect().url == server.url
    monkeypatch.delenv("SUPABASE_URL")
    monkeypatch.delenv("SUPABASE_KEY")
    monkeypatch.setattr(running, "running_local", lambda: None)
    with pytest.raises(RealtimeError, match="local"):
        connect()


def test_the_io_thread_is_one_and_refuses_to_wait_for_itself() -> None:
    async def nested() -> None:
        async def nothing() -> None: ...

        thread.run(nothing())

    with pytest.raises(RuntimeError, match="aio"):
        thread.run(nested(), PATIENCE)
    assert thread.io_loop() is thread.io_loop()
    assert sum(t.name == "rtwidgets-io" for t in threading.enumerate()) == 1
    with pytest.raises(TimeoutError):
        thread.run(asyncio.sleep(5), 0.05)


def test_rerunning_a_cell_after_a_widget_named_a_presence_key(server: FakeServer) -> None:
    client = connect(server.url, "key")
    channel = notebook.Channel("chat")

    async def name() -> None:
        channel.aio.set_presence_key("ana")

    thread.run(name(), PATIENCE)
    assert notebook.Channel("chat") is channel
    assert channel.options.presence_key is None
    assert client.channel("chat").aio is channel.aio


def test_figures_as_traits(server: FakeServer) -> None:
    """What a status line shows: new at each heartbeat, without a call."""
    client = connect(server.url, "key", heartbeat_interval=0.3)
    channel = notebook.Channel("t").subscribe()
    seen: list[Any] = []
    client.observe(lambda change: seen.append(change.new), "round_trip_ms")
    wait_until(lambda: len(seen) >= 2)
    assert all(0 < value < 1000 for value in seen)
    assert client.last_frame_at is not None
    assert channel.last_frame_at is not None
    assert abs(time.time() - client.last_frame_at) < 5
    assert (client.status, client.error, client.reconnects) == ("connected", None, 0)

    async def drop() -> None:
        server.drop()

    thread.run(drop(), PATIENCE)
    wait_until(lambda: client.reconnects == 1 and client.status == "connected")
    wait_until(lambda: channel.status == "joined" and channel.error is None)
    wait_until(lambda: channel.reconnects == 1)
    assert channel.round_trip_ms is not None
    for what in (client, channel):
        assert (what.last_error and what.last_error.code) == "ConnectionLost", "what went wrong can still be read"


def test_nothing_is_left_on_the_io_thread(server: FakeServer) -> None:
    async def running() -> set[str]:
        mine = asyncio.current_task()
        return {repr(task) for task in asyncio.all_tasks() if task is not mine and "/tests/" not in repr(task)}

    before, threads = thread.run(running(), 5), threading.active_count()
    client = connect(server.url, "key")
    notebook.Channel("t").subscribe()
    client.close()
    left = {name for name in thread.run(running(), 5) - before if "rtwidgets" in name}
    assert left == set()
    assert threading.active_count() == threads


@pytest.mark.parametrize("given", ["http://127.0.0.1", object()])
def test_what_is_no_client_is_refused_by_name(given: Any) -> None:
    with pytest.raises(TypeError, match=rf"client={type(given).__name__}\(\.\.\.\) is not a client: pass what rt.conn"):
        notebook.Channel("chat", client=given)


class Homebound(Auth):
    """A session that only its own loop may be asked for: connections belong to the loop that they were made on."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.get_running_loop()
        self.at_home: list[bool] = []

    async def get_session(self) -> Session | None:  # type: ignore[override]
        self.at_home.append(asyncio.get_running_loop() is self.loop)
        await asyncio.sleep(0)
        return Session()


def test_an_async_supabase_client_is_asked_on_its_own_loop(server: FakeServer) -> None:
    async def cell() -> None:
        source = Supabase(server.url, Homebound())
        client = connect(source)
        await asyncio.to_thread(client.channel("free").subscribe)
        assert source.auth.at_home == [True]
        client.aio.tokens._token = None
        # A cell that waits for the join keeps that loop from answering: not a deadlock.
        start = time.monotonic()
        client.channel("busy").subscribe()
        assert time.monotonic() - start < 5, "and not the ten seconds of a join"
        assert source.auth.at_home == [True, False]

    asyncio.run(cell())
    assert server.joins("busy")[0].payload["access_token"] == Session.access_token


def test_an_async_supabase_client_whose_loop_has_ended(server: FakeServer) -> None:
    async def script() -> notebook.Client:
        return connect(Supabase(server.url, Homebound()))

    notebook.Channel("t", client=asyncio.run(script())).subscribe()
    assert server.joins("t")[0].payload["access_token"] == Session.access_token


@pytest.mark.slow
def test_running_the_cell_that_connects_again_does_not_pile_up_sockets(server: FakeServer) -> None:
    """Channels and connections piled up until the server refused more."""

    def cell() -> notebook.Channel:
        connect(server.url, "key")
        return notebook.Channel("chat").subscribe()

    for _ in range(5):
        room = cell()
        gc.collect()
    wait_until(lambda: len({socket for socket, _ in server.joined}) <= 2)
    assert len(server.joins("chat")) == 5
    assert room.status == "joined"


def test_a_client_that_something_uses_lives_on_when_its_cell_is_run_again(server: FakeServer) -> None:
    connect(server.url, "key")
    held = notebook.Channel("chat").subscribe()
    connect(server.url, "key")
    gc.collect()
    time.sleep(0.1)
    assert held.aio.status == "joined"
    assert held.client.aio.status == "connected"
    close_all()
    assert held.client.aio.status == "closed", "also what was followed by another"


def test_callbacks_of_another_projects_client_go_on_though_nobody_holds_it(server: FakeServer) -> None:
    got: list[Any] = []
    connect(server.url, "key")
    notebook.Channel("chat").on_broadcast("m", got.append)
    notebook.Channel("chat").subscribe()
    connect(server.url, "another key")
    gc.collect()
    time.sleep(0.05)
    thread.run(server.everyone("chat", "broadcast", {"type": "broadcast", "event": "m", "payload": 1}), PATIENCE)
    wait_until(lambda: got == [1])
    close_all()
    wait_until(lambda: not server.joined)


def test_a_call_that_takes_too_long_is_a_time_out_error() -> None:
    with pytest.raises(RealtimeTimeoutError, match=r"no answer within 0\.05 s") as caught:
        thread.run(asyncio.sleep(5), 0.05)
    assert caught.value.code == "Timeout"


def test_a_refusal_is_told_once(server: FakeServer, caplog: pytest.LogCaptureFixture) -> None:
    """Who waits has the exception; in the log of a notebook the same would stand under an older cell. Where nobody
    waits, the log is all there is."""
    client = connect(server.url, "key")
    server.join_errors.append("Unauthorized: You do not have permissions to read from this Channel topic: one")
    with pytest.raises(RealtimeError, match="permissions"):
        client.channel("one").subscribe()
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []
    server.join_errors.append("Unauthorized: You do not have permissions to read from this Channel topic: two")
    client.channel("two").start()
    wait_until(lambda: any("two" in record.getMessage() for record in caplog.records if record.levelname == "ERROR"))


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda room: room.on_broadcast("m", None), TypeError, "a callback is a function, not NoneType"),
        (lambda room: room.on_presence("x"), TypeError, "a callback is a function, not str"),
        (lambda room: room.on_postgres_changes(5, table="t"), TypeError, "a callback is a function, not int"),
        (lambda room: room.on_postgres_changes(print, "UPSERT", table="t"), RealtimeError, "use one of *, INSERT"),
        (lambda room: room.on_postgres_changes(print, table="t", filter="a=1"), RealtimeError, "column=op.value"),
        (lambda room: room.client.channel(5), TypeError, "a topic is text, such as 'support-chat', not int"),
        (lambda room: room.client.channel("realtime:"), RealtimeError, "a channel needs a name"),
        (lambda room: connect("abcdefgh", "key"), ValueError, "'abcdefgh' is no URL of a project"),
    ],
)
def test_what_cannot_be_meant_is_refused_where_it_is_said(
    server: FakeServer, call: Any, error: Any, words: str
) -> None:
    connect(server.url, "key")
    room = notebook.Channel("chat")
    with pytest.raises(error, match=re.escape(words)):
        call(room)


def test_a_filter_from_where_and_an_event_in_any_case(server: FakeServer) -> None:
    connect(server.url, "key")
    room = notebook.Channel("chat")
    room.on_postgres_changes(print, "insert", table="t", filter=where("name", "eq", "a,b"))
    room.subscribe()
    asked = server.joins("chat")[0].payload["config"]["postgres_changes"]
    assert asked == [{"event": "INSERT", "schema": "public", "table": "t", "filter": 'name=eq."a,b"'}]


def test_the_reason_why_a_join_takes_too_long_is_in_the_error(server: FakeServer) -> None:
    client = connect("http://127.0.0.1:9", "key")
    with pytest.raises(RealtimeError, match="cannot connect") as caught:
        client.channel("t").subscribe(0.3)
    assert caught.value.code == "Timeout"
    assert "network" in caught.value.hint
    assert "policy" not in caught.value.hint
