"""The asyncio client against a server that does wrong what real ones do wrong."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed

from rtwidgets.client import wire
from rtwidgets.client.addresses import is_loopback
from rtwidgets.client.client import AsyncClient
from rtwidgets.protocol import connection
from rtwidgets.protocol.backoff import Backoff
from rtwidgets.protocol.errors import RealtimeError
from rtwidgets.protocol.events import Broadcast
from rtwidgets.protocol.messages import Change
from rtwidgets.protocol.subscription import ChangesBinding

from ..waits import until, within
from .fake import FakeServer


@pytest.fixture
async def server() -> AsyncIterator[FakeServer]:
    async with FakeServer() as found:
        yield found


@pytest.fixture(params=["2.0.0", "1.0.0"])
def vsn(request: pytest.FixtureRequest) -> Any:
    return request.param


def client_of(server: FakeServer, **options: Any) -> AsyncClient:
    return AsyncClient(server.url, "key", backoff=Backoff(0.02, 0.1), **{"timeout": 10.0, **options})


def jwt(left: float) -> str:
    body = (
        base64.urlsafe_b64encode(json.dumps({"role": "authenticated", "exp": int(time.time() + left)}).encode())
        .decode()
        .rstrip("=")
    )
    return f"eyJhbGciOiJIUzI1NiJ9.{body}.c2lnbmF0dXJl{left:.0f}"


class Sink:
    def __init__(self) -> None:
        self.batches: list[list[Change]] = []
        self.ready = 0
        self.gaps: list[RealtimeError] = []
        self.errors: list[RealtimeError] = []

    def on_changes(self, changes: list[Change]) -> None:
        self.batches.append(changes)

    def on_ready(self) -> None:
        self.ready += 1

    def on_gap(self, reason: RealtimeError) -> None:
        self.gaps.append(reason)

    def on_error(self, error: RealtimeError) -> None:
        self.errors.append(error)

    @property
    def rows(self) -> list[Any]:
        return [change.record for batch in self.batches for change in batch]


async def test_broadcast_there_and_back(server: FakeServer, vsn: Any) -> None:
    async with client_of(server, vsn=vsn) as a, client_of(server, vsn=vsn) as b:
        got: list[Any] = []
        one, two = a.channel("chat", ack=True), b.channel("chat")
        two.on_broadcast("MESSAGE", got.append)
        two.on_event(Broadcast, got.append)
        await one.subscribe()
        await two.subscribe()
        await one.send("message", {"text": "hello"})
        await until(lambda: got)
        assert got == [{"text": "hello"}, Broadcast("message", {"text": "hello"}, {})]


async def test_bytes_and_broadcasts_as_an_iterator(server: FakeServer) -> None:
    async with client_of(server) as client:
        channel = client.channel("chat", broadcast_self=True)
        await channel.subscribe()
        payloads = channel.broadcasts("m")
        first = asyncio.ensure_future(anext(payloads))
        await asyncio.sleep(0)
        await channel.send("m", b"\x00\xff")
        assert await within(first) == b"\x00\xff"
        await payloads.aclose()


async def test_a_silent_connection_is_found_out_and_replaced(server: FakeServer) -> None:
    """Clients of others went silent after some minutes, without an error."""
    client = client_of(server, heartbeat_interval=0.2, timeout=0.1)
    client.timeout = 0.1
    async with client:
        channel = client.channel("chat")
        await channel.subscribe()
        assert client.round_trip_ms is not None or server.received
        server.deaf = True
        await until(lambda: client.reconnects >= 1)
        server.deaf = False
        await until(lambda: channel.status == "joined" and len(server.joins("chat")) >= 2)
    assert client.status == "closed"


async def test_changes_come_again_after_a_reconnect(server: FakeServer, vsn: Any) -> None:
    """After a reconnect a channel looked joined, and its row changes never came again."""
    async with client_of(server, vsn=vsn) as client:
        channel, sink = client.channel("t"), Sink()
        channel.add_changes(ChangesBinding(table="t"), sink)
        await channel.subscribe()
        await until(lambda: sink.ready == 1)
        server.drop()
        await until(lambda: sink.ready == 2)
        assert len(sink.gaps) == 1
        await server.change("t", {"id": 1})
        await until(lambda: sink.rows)
        first, second = server.joins("t")
        assert first.ref != second.ref


async def test_ready_is_told_apart_from_joined(server: FakeServer) -> None:
    """A client that counted as subscribed at the join lost the changes of its first seconds."""
    text = (
        "Unable to subscribe to changes with given parameters. Please check Realtime is enabled for the given connect "
        "parameters: [event: *, schema: public, table: unpub_t, filters: [], select: nil]"
    )
    server.system = ("error", text)
    async with client_of(server) as client:
        channel, sink = client.channel("t"), Sink()
        channel.add_changes(ChangesBinding(table="unpub_t"), sink)
        await channel.subscribe()
        await until(lambda: sink.errors)
        assert channel.status == "joined"
        assert sink.ready == 0
        # what to do is in the error.
        assert "alter publication supabase_realtime add table public.unpub_t;" in sink.errors[0].hint


async def test_expiry_brings_a_fresh_token_and_a_rejoin(server: FakeServer) -> None:
    """A token expired, the channel was closed, and nobody joined it again."""
    tokens = [jwt(1000), jwt(2000)]
    asked: list[str] = []

    async def token() -> str:
        asked.append(tokens[min(len(asked), 1)])
        return asked[-1]

    async with client_of(server, token=token) as client:
        channel = client.channel("t")
        await channel.subscribe()
        await server.close_channel("t", "Token has expired 0 seconds ago")
        await until(lambda: len(server.joins("t")) == 2 and channel.status == "joined")
        assert [join.payload["access_token"] for join in server.joins("t")] == tokens


async def test_an_expired_token_that_nobody_renews_stops_with_a_hint(server: FakeServer) -> None:
    """A token expired, the channel was closed, and nobody joined it again."""
    async with client_of(server, token=jwt(1000)) as client:
        channel = client.channel("t")
        await channel.subscribe()
        await server.close_channel("t", "Token has expired 0 seconds ago")
        await until(lambda: channel.status == "errored")
        assert channel.error is not None
        assert channel.error.code == "TokenExpired"
        assert "token" in channel.error.hint
        await asyncio.sleep(0.1)
        assert len(server.joins("t")) == 1


@pytest.mark.slow
async def test_renewal_is_pushed_to_joined_channels(server: FakeServer) -> None:
    """A token expired, the channel was closed, and nobody joined it again."""
    made: list[str] = []

    def token() -> str:
        made.append(jwt(2 + 1000 * len(made)))
        return made[-1]

    async with client_of(server, token=token) as client:
        await client.channel("t").subscribe()
        await until(lambda: any(m.event == "access_token" for m in server.received))
        pushed = next(m for m in server.received if m.event == "access_token")
        assert pushed.payload["access_token"] == made[1]


async def test_bindings_are_mapped_by_position(server: FakeServer) -> None:
    """Bindings that were compared field by field did not match what the server made of them."""
    async with client_of(server) as client:
        channel, one, two, same = client.channel("t"), Sink(), Sink(), Sink()
        channel.add_changes(ChangesBinding(table="t"), one)
        channel.add_changes(ChangesBinding(table="u"), two)
        channel.add_changes(ChangesBinding(table="t"), same)
        await channel.subscribe()
        assert len(server.joins("t")[0].payload["config"]["postgres_changes"]) == 2
        await server.change("t", {"id": 1}, ids=[100])
        await server.change("t", {"id": 2}, ids=[101])
        await until(lambda: two.rows)
        assert (one.rows, two.rows, same.rows) == ([{"id": 1}], [{"id": 2}], [{"id": 1}])


async def test_a_binding_added_later_rejoins_and_unregisters(server: FakeServer) -> None:
    async with client_of(server) as client:
        channel, one, two = client.channel("t"), Sink(), Sink()
        channel.add_changes(ChangesBinding(table="t"), one)
        await channel.subscribe()
        unregister = channel.add_changes(ChangesBinding(table="u"), two)
        await until(lambda: two.ready)
        assert len(server.joins("t")) == 2
        assert one.gaps
        unregister()
        await server.change("t", {"id": 2}, ids=[100, 101])
        await until(lambda: one.rows)
        assert not two.rows


async def test_changes_of_one_read_come_in_one_call(server: FakeServer) -> None:
    async with client_of(server) as client:
        channel, sink = client.channel("t"), Sink()
        channel.add_changes(ChangesBinding(table="t"), sink)
        await channel.subscribe()
        await until(lambda: sink.ready)
        await server.change("t", *({"id": n} for n in range(500)))
        await until(lambda: len(sink.rows) == 500)
        assert [row["id"] for row in sink.rows] == list(range(500))
        assert len(sink.batches) < 250


async def test_a_join_without_an_answer_is_tried_again(server: FakeServer) -> None:
    """A join without an answer left the channel to itself."""
    server.mute_joins = 1
    async with client_of(server, timeout=0.2) as client:
        channel = client.channel("t")
        channel._machine.backoff = Backoff(0.02, 0.05)
        await channel.subscribe(5)
        assert len(server.joins("t")) == 2


async def test_a_refused_join_says_what_to_do(server: FakeServer) -> None:
    """A refused join gave no reason, and nobody knew what to do."""
    server.join_errors = ["Unauthorized: You do not have permissions to read from this Channel topic: t"]
    async with client_of(server) as client:
        channel = client.channel("t", private=True)
        with pytest.raises(RealtimeError) as caught:
            await channel.subscribe()
        assert caught.value.code == "Unauthorized"
        assert "create policy" in caught.value.hint
        assert len(server.joins("t")) == 1
        # a second try is a second try.
        await channel.subscribe()
        assert channel.status == "joined"


async def test_one_topic_is_one_channel(server: FakeServer) -> None:
    """Two subscriptions to one topic ended each other."""
    async with client_of(server) as client:
        one = client.channel("t")
        assert client.channel("t") is one
        assert client.channel("realtime:t") is one
        await one.subscribe()
        await one.subscribe()
        assert len(server.joins("t")) == 1
        with pytest.raises(RealtimeError) as caught:
            client.channel("t", private=True)
        assert caught.value.code == "ChannelOptionsDiffer"


async def test_subscribing_while_a_join_is_under_way_is_the_same_join(server: FakeServer) -> None:
    """Subscribing twice, as a cell that runs again does, raised."""
    server.join_after = 0.1
    async with client_of(server) as client:
        channel = client.channel("t")
        first = asyncio.ensure_future(channel.subscribe())
        await until(lambda: server.joins("t"))
        await asyncio.gather(first, channel.subscribe(), channel.subscribe())
        channel.start()
        await asyncio.sleep(0.05)
        assert len(server.joins("t")) == 1


async def test_leaving_and_coming_back(server: FakeServer, vsn: Any) -> None:
    async with client_of(server, vsn=vsn) as client:
        channel = client.channel("t")
        await channel.subscribe()
        await channel.unsubscribe()
        assert channel.status == "closed"
        assert "t" not in client.channels
        await channel.subscribe()
        assert channel.status == "joined"


async def test_presence_is_asked_for_when_it_is_bound(server: FakeServer) -> None:
    """Presence stayed silent where the join had not asked for it."""
    async with client_of(server) as client:
        channel = client.channel("t")
        await channel.subscribe()
        got: list[Any] = []
        channel.on_presence(got.append)
        await until(lambda: got)
        assert [join.payload["config"]["presence"]["enabled"] for join in server.joins("t")] == [False, True]


async def test_track_calls_are_joined_into_few(server: FakeServer) -> None:
    """Too many presence calls closed the whole channel."""
    async with client_of(server) as client:
        channel = client.channel("t", presence_key="ana")
        await channel.subscribe()
        for n in range(50):
            await channel.track({"n": n})
        await asyncio.sleep(0.1)
        assert len([m for m in server.received if m.event == "presence"]) <= 5
        assert channel.tracked == {"n": 49}


async def test_presence_is_tracked_again_after_a_rejoin(server: FakeServer) -> None:
    """One's own presence vanished after a reconnect."""
    async with client_of(server) as client:
        channel = client.channel("t", presence_key="ana")
        await channel.subscribe()
        await channel.track({"name": "Ana"})
        server.drop()
        await until(lambda: len([m for m in server.received if m.event == "presence"]) == 2)
        assert server.received[-1].payload["payload"] == {"name": "Ana"}


async def test_messages_wait_for_the_join(server: FakeServer) -> None:
    """What was sent before the join was lost, or looked sent."""
    async with client_of(server) as client:
        channel = client.channel("t", ack=True)
        with pytest.raises(RealtimeError, match="not subscribed"):
            await channel.send("m", {})
        channel.start()
        await asyncio.gather(*(channel.send("m", {"n": n}) for n in range(5)))
        sent = [m.payload["payload"]["n"] for m in server.received if m.event == "broadcast"]
        assert sent == list(range(5))


async def test_a_message_of_3_mb(server: FakeServer) -> None:
    """A message larger than the socket's default limit ended the connection."""
    async with client_of(server) as client:
        got: list[Any] = []
        channel = client.channel("t")
        channel.on_broadcast("*", got.append)
        await channel.subscribe()
        await server.everyone(
            "t", "broadcast", {"type": "broadcast", "event": "big", "payload": {"d": "x" * 3_000_000}}
        )
        await until(lambda: got)
        assert len(got[0]["d"]) == 3_000_000


async def test_an_exception_in_a_callback_stops_nothing(server: FakeServer) -> None:
    """An exception in a user's callback stopped all events."""
    async with client_of(server) as client:
        got: list[Any] = []
        channel = client.channel("t")

        def bad(*_: Any) -> None:
            raise ValueError("in user code")

        channel.on_broadcast("m", bad)
        channel.on_broadcast("m", got.append)
        await channel.subscribe()
        for n in range(3):
            await server.everyone("t", "broadcast", {"type": "broadcast", "event": "m", "payload": n})
        await until(lambda: got == [0, 1, 2])


async def test_a_refused_handshake_stops_and_explains(server: FakeServer) -> None:
    server.refuse = [(401, "Failed to validate JWT signature")]
    client = client_of(server)
    with pytest.raises(RealtimeError) as caught:
        await client.connect()
    assert caught.value.code == "JwtSignatureError"
    assert client.status == "error"
    await client.connect()  # a person may try again
    assert client.status == "connected"
    await client.close()


async def test_a_refused_handshake_that_passes_is_tried_again(server: FakeServer) -> None:
    server.refuse = [(500, "Error connecting to Realtime"), (503, "")]
    async with client_of(server) as client:
        assert client.status == "connected"


async def test_frames_of_an_old_join_and_junk_are_left_out(server: FakeServer) -> None:
    async with client_of(server) as client:
        channel = client.channel("t")
        await channel.subscribe()
        socket = server.sockets[0]
        for junk in (
            "{",
            "[]",
            "[1]",
            b"\x07",
            b"\x04\xff\xff\xff\x00",
            '[null,null,"realtime:t","phx_close",{}',
            '["0","0","realtime:t","phx_close",{}]',
        ):
            await socket.send(junk)
        await channel.send("m", {})
        await until(lambda: client.frames.bad >= 6)
        assert channel.status == "joined"


async def test_no_secret_in_a_repr_or_a_log(server: FakeServer, caplog: pytest.LogCaptureFixture) -> None:
    secret = jwt(1000)
    client = AsyncClient("http://127.0.0.1:1", secret, token=secret, timeout=0.2)
    with caplog.at_level("DEBUG", "rtwidgets"), pytest.raises(RealtimeError) as caught:
        await client.connect()
    await client.close()
    for text in (repr(client), repr(client.rest), repr(client.tokens), str(caught.value), caplog.text):
        assert secret not in text


@pytest.mark.parametrize(
    "key",
    ["sb_secret_abcDEF123456789", "an-odd-key-of-a-proxy", jwt(1000)],
    ids=["a secret key", "an odd key", "a JWT"],
)
async def test_no_secret_in_any_log_of_ours(server: FakeServer, caplog: pytest.LogCaptureFixture, key: str) -> None:
    """Also not in what the libraries below log, everything switched on."""
    token, other = jwt(1500), jwt(2500)
    with caplog.at_level("DEBUG"):
        async with client_of(server, token=token) as client:
            client._key = key
            await client.channel("t").subscribe()
            await client.set_token(other)
            server.drop()
            await until(lambda: client.reconnects == 1 and client.channel("t").status == "joined")
    told = "\n".join(record.getMessage() for record in caplog.records if record.name != "websockets.server")
    assert "trying again" in told, "it was on"
    for secret in (key, token, other):
        assert secret not in told
        assert secret.split(".")[-1] not in told


# --- opening and closing ---


async def test_connect_waits_for_a_socket_also_while_it_reconnects(server: FakeServer) -> None:
    async with client_of(server) as client:
        server.refuse = [(500, "")] * 3
        server.drop()
        await until(lambda: client.status == "reconnecting")
        await client.connect()
        assert client.status == "connected"
        assert client.connected
        assert client.reconnects == 1


async def test_a_with_that_could_not_connect_leaves_nothing_behind(server: FakeServer) -> None:
    server.refuse = [(500, "")] * 1000
    before = asyncio.all_tasks()
    client = client_of(server, timeout=0.2)
    with pytest.raises(RealtimeError, match="HTTP 500") as caught:
        async with client:
            pytest.fail("there is no connection")
    assert caught.value.retryable
    assert client.status == "closed"
    assert {task for task in asyncio.all_tasks() - before if "rtwidgets" in repr(task)} == set()


async def test_closing_ends_the_wait_for_a_connection(server: FakeServer) -> None:
    server.refuse = [(500, "")] * 1000
    client = client_of(server, timeout=30)
    connecting = asyncio.ensure_future(client.connect())
    await until(lambda: client.status == "reconnecting")
    await client.close()
    with pytest.raises(RealtimeError) as caught:
        await within(connecting)
    assert caught.value.code == "Closed"


async def test_what_does_not_speak_websocket_is_said_in_words(caplog: pytest.LogCaptureFixture) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail.example ESMTP ready\r\n")
        await writer.drain()
        writer.close()

    mail = await asyncio.start_server(talk, "127.0.0.1", 0)
    async with mail:
        url = f"http://127.0.0.1:{mail.sockets[0].getsockname()[1]}"
        client = AsyncClient(url, "key", timeout=0.5, backoff=Backoff(0.05, 0.1))
        with pytest.raises(RealtimeError, match=f"what answers at {url} does not speak WebSocket") as caught:
            await client.connect()
        assert "check the URL" in caught.value.hint
        assert "Traceback" not in caplog.text
        await client.close()


async def test_a_machine_that_slept_asks_at_once_whether_the_line_still_stands(
    server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Timers stand still while a laptop sleeps: without a look at the wall clock it takes a whole interval and more."""
    monkeypatch.setattr(connection, "LOOK", 0.05)
    async with client_of(server, heartbeat_interval=1000.0, timeout=0.2) as client:
        channel = client.channel("t")
        await channel.subscribe()
        await until(lambda: client.round_trip_ms is not None)  # the first heartbeat has been answered
        server.deaf = True  # as after a night: nobody is there
        real = time.time
        monkeypatch.setattr(time, "time", lambda: real() + 8 * 3600)
        await until(lambda: client.reconnects >= 1)
        server.deaf = False
        await until(lambda: channel.status == "joined")


async def test_a_heartbeat_that_fails_for_whatever_reason_is_a_lost_connection(
    server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with client_of(server, heartbeat_interval=0.1, timeout=0.1) as client:
        tick, failed = client._machine.tick, []

        def once_bad(now: float, wall: float) -> Any:
            if not failed:
                failed.append(now)
                raise LookupError("nobody foresaw it")
            return tick(now, wall)

        monkeypatch.setattr(client._machine, "tick", once_bad)
        await until(lambda: client.reconnects >= 1 and client.status == "connected")


async def test_row_changes_by_a_function(server: FakeServer) -> None:
    async with client_of(server) as client:
        channel, got = client.channel("t"), []

        async def later(change: Change) -> None:
            await asyncio.sleep(0)
            got.append(change.record)

        unregister = channel.on_postgres_changes(later, table="t", filter="id=gt.0")
        await channel.subscribe()
        await server.change("t", {"id": 1}, {"id": 2})
        await until(lambda: got == [{"id": 1}, {"id": 2}])
        unregister()
        with pytest.raises(TypeError, match="a callback is a function"):
            channel.on_broadcast("m", None)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("end", "words"),
    [
        (lambda socket: socket.close(1012), "code 1012: it restarts"),
        (lambda socket: socket.close(1001), "code 1001: it goes away"),
        (lambda socket: socket.close(1000), "the server closed the connection with code 1000"),
        (lambda socket: socket.close(4321, "no more today"), "code 4321: no more today"),
        (lambda socket: socket.send("x" * (wire.MAX_FRAME + 1)), "a message was larger than 8 MiB"),
        (lambda socket: asyncio.sleep(0, socket.transport.abort()), "the connection broke off"),
    ],
)
async def test_why_a_connection_ended_is_told(server: FakeServer, end: Any, words: str) -> None:
    async with client_of(server) as client:
        channel, sink = client.channel("t"), Sink()
        channel.add_changes(ChangesBinding(table="t"), sink)
        await channel.subscribe()
        try:
            await end(server.sockets[0])
        except ConnectionClosed:
            pass
        await until(lambda: client.reconnects == 1 and channel.status == "joined")
        for error in (client.last_error, channel.last_error):
            assert error is not None
            assert (error.code, error.retryable) == ("ConnectionLost", True)
            assert words in error.message
        assert words in sink.gaps[0].message


async def test_that_the_heartbeat_was_not_answered_is_told(server: FakeServer) -> None:
    """Clients of others went silent after some minutes, without an error."""
    async with client_of(server, heartbeat_interval=0.2, timeout=0.2) as client:
        server.deaf = True
        await until(lambda: client.reconnects >= 1)
        server.deaf = False
        assert client.last_error is not None
        assert client.last_error.message == "no answer to the heartbeat within 0.2 s"


@pytest.mark.parametrize("proxy", ["http://127.0.0.1:1", "socks5://127.0.0.1:1"])
async def test_this_machine_is_not_reached_through_a_proxy(
    server: FakeServer, monkeypatch: pytest.MonkeyPatch, proxy: str
) -> None:
    """As in many a company: HTTP_PROXY is set, and nobody thought of NO_PROXY."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, proxy)
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    async with client_of(server) as client:
        await client.channel("t").subscribe()
        with pytest.raises(RealtimeError) as caught:
            await client.broadcast("t", "m", {})
        assert "Server disconnected" in caught.value.message, "the fake answers no POST, but it was asked"
        client.move("http://192.0.2.1:9")  # another machine: by the proxy, which is not there
        client.rest._timeout = 0.5
        with pytest.raises(RealtimeError):
            await client.broadcast("t", "m", {})


@pytest.mark.parametrize(
    ("url", "loopback"),
    [
        ("http://localhost:1/x", True),
        ("ws://127.0.0.1:54321/realtime", True),
        ("http://127.8.9.1", True),
        ("http://[::1]:80", True),
        ("http://a.localhost", True),
        ("https://localhost.example.com", False),
        ("http://192.168.0.1", False),
        ("https://abc.supabase.co", False),
        ("nonsense", False),
    ],
)
def test_which_hosts_are_this_machine(url: str, loopback: bool) -> None:
    assert is_loopback(url) is loopback


async def test_a_line_that_is_cut_in_the_handshake_is_no_wrong_address() -> None:
    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    line = await asyncio.start_server(hang_up, "127.0.0.1", 0)
    async with line:
        url = f"http://127.0.0.1:{line.sockets[0].getsockname()[1]}"
        client = AsyncClient(url, "key", timeout=0.3, backoff=Backoff(0.05, 0.1))
        with pytest.raises(RealtimeError, match="cannot connect: ") as caught:
            await client.connect()
        assert "network" in caught.value.hint
        await client.close()
