"""What users of other clients suffer from: gaps, callbacks, storms, broadcasts from the database, limits."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import msgspec
import pytest

from rtwidgets.client import dispatch, tracking
from rtwidgets.protocol.backoff import Backoff
from rtwidgets.protocol.channel_states import Waiting
from rtwidgets.protocol.errors import RealtimeError
from rtwidgets.protocol.messages import Message
from rtwidgets.protocol.subscription import ChangesBinding

from ..waits import until, within
from .fake import FakeServer
from .test_client import Sink, client_of, jwt, server

__all__ = ["server"]

REFUSED = "Unauthorized: You do not have permissions to read from this Channel topic: t"


class Story(Sink):
    """A sink that writes down what happened in which order."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[Any] = []

    def on_changes(self, changes: list[Any]) -> None:
        self.told += [change.record["id"] for change in changes]

    def on_ready(self) -> None:
        self.told.append("ready")

    def on_gap(self, reason: RealtimeError) -> None:
        self.told.append("gap")


async def test_a_gap_is_told_before_anything_that_comes_after_it(server: FakeServer) -> None:
    """What changed while a client was away is not sent again, and nobody said so. Nobody sends again what changed
    meanwhile: whoever holds rows must hear of it, and when to read them anew."""
    async with client_of(server) as client:
        channel, sink = client.channel("t"), Story()
        channel.add_changes(ChangesBinding(table="t"), sink)
        await channel.subscribe()
        await until(lambda: sink.told == ["ready"])
        await server.change("t", {"id": 1}, {"id": 2})
        await until(lambda: sink.told[-1] == 2)
        server.drop()
        await server.change("t", {"id": 3})  # nobody is there
        await until(lambda: sink.told[-1] == "ready" and len(sink.told) > 3)
        await server.change("t", {"id": 4})
        await until(lambda: sink.told[-1] == 4)
        assert sink.told == ["ready", 1, 2, "gap", "ready", 4]


async def test_each_way_to_lose_the_channel_is_a_gap(server: FakeServer) -> None:
    """What changed while a client was away is not sent again, and nobody said so."""
    async with client_of(server) as client:
        channel, sink = client.channel("t"), Story()
        channel._machine.backoff = Backoff(0.01, 0.02)
        channel.add_changes(ChangesBinding(table="t"), sink)
        await channel.subscribe()
        await until(lambda: sink.told == ["ready"])
        await server.close_channel("t")  # the server ends the channel, the socket stays
        await until(lambda: sink.told == ["ready", "gap", "ready"])
        channel.add_changes(ChangesBinding(table="u"), Story())  # joined anew, for a second binding
        await until(lambda: sink.told == ["ready", "gap", "ready", "gap", "ready"])


async def test_async_callbacks_run_and_what_they_raise_is_counted(server: FakeServer) -> None:
    """Async callbacks were not supported."""
    async with client_of(server) as client:
        channel = client.channel("t", broadcast_self=True)
        got: list[Any] = []

        async def slow(payload: Any) -> None:
            await asyncio.sleep(0.01)
            got.append(payload)

        async def bad(payload: Any) -> None:
            await asyncio.sleep(0)
            raise ValueError("in user code")

        channel.on_broadcast("m", bad)
        channel.on_broadcast("m", slow)
        await channel.subscribe()
        before = dispatch.callback_errors
        await channel.send("m", {"n": 1})
        await channel.send("m", {"n": 2})
        await until(lambda: got == [{"n": 1}, {"n": 2}])
        assert dispatch.callback_errors == before + 2


async def test_what_callbacks_raise_is_counted_and_reaches_nobody_else(
    server: FakeServer, caplog: pytest.LogCaptureFixture
) -> None:
    """An exception in a user's callback stopped all events."""
    async with client_of(server) as client:
        channel, sink = client.channel("t", broadcast_self=True), Sink()

        def bad(*_: Any) -> None:
            raise ValueError("in user code")

        class Bad(Sink):
            on_changes = on_ready = on_gap = bad  # type: ignore[assignment]

        for register in (channel.on_status, channel.on_presence, client.on_status, client.on_frame):
            register(bad)
        channel.on_broadcast("*", bad)
        channel.add_changes(ChangesBinding(table="t"), Bad())
        channel.add_changes(ChangesBinding(table="t"), sink)
        before = dispatch.callback_errors
        await channel.subscribe()
        await channel.send("m", {})
        await server.change("t", {"id": 1})
        await until(lambda: sink.rows == [{"id": 1}])
        server.drop()
        await until(lambda: sink.ready == 2)
        assert dispatch.callback_errors > before + 8
        assert "reaches_nobody_else" in caplog.text, "the log names the function that raised"


@pytest.mark.slow
@pytest.mark.parametrize("refusal", [REFUSED, "ChannelRateLimitReached: Too many channels", "UnknownErrorOnChannel: x"])
async def test_subscribing_again_in_the_callback_is_no_storm(server: FakeServer, refusal: str) -> None:
    """Callbacks that subscribe whenever the channel is down made hundreds of joins."""
    server.join_errors = [refusal] * 1000
    async with client_of(server) as client:
        channel = client.channel("t")
        channel.on_status(lambda status, error: status in ("errored", "closed") and channel.start())
        channel.start()
        await asyncio.sleep(1.0)
        assert 1 <= len(server.joins("t")) < 8


async def test_the_same_while_the_socket_comes_and_goes(server: FakeServer) -> None:
    """Callbacks that subscribe whenever the channel is down made hundreds of joins."""
    async with client_of(server) as client:
        channel = client.channel("t")

        async def again(status: str, error: Any) -> None:
            if status in ("errored", "closed"):
                await channel.subscribe()

        channel.on_status(again)
        await channel.subscribe()
        for drops in range(1, 6):
            server.drop()
            await until(lambda drops=drops: client.reconnects == drops and channel.status == "joined")
        assert len(server.joins("t")) <= 6


async def test_joined_can_wait_for_the_database(server: FakeServer) -> None:
    """What the database sends was lost before its connection stood, or went to the other of two topics of one name."""
    async with client_of(server) as client:
        channel = client.channel("t", private=True, replication_ready=True)
        joining = asyncio.ensure_future(channel.subscribe())
        await until(lambda: channel.status == "joined")
        assert server.joins("t")[0].payload["config"]["broadcast"]["replication_ready"] is True
        await asyncio.sleep(0.05)
        assert not joining.done(), "what realtime.send() says now would still be lost"
        ready = {"extension": "system", "status": "ok", "message": "Replication connection established"}
        await server.everyone("t", "system", ready)
        await within(joining)
        server.drop()
        await until(lambda: len(server.joins("t")) == 2 and channel.status == "joined")
        with pytest.raises(RealtimeError, match="not joined"):
            await channel.subscribe(0.05)


async def test_a_public_and_a_private_topic_are_told_apart(
    server: FakeServer, caplog: pytest.LogCaptureFixture
) -> None:
    """What the database sends was lost before its connection stood, or went to the other of two topics of one name."""
    async with client_of(server) as client:
        client.channel("t")
        posted: list[Any] = []

        async def post(*args: Any) -> None:
            posted.append(args)

        client.rest.broadcast = post  # type: ignore[method-assign]
        await client.broadcast("t", "m", {})
        assert not caplog.text
        await client.broadcast("realtime:t", "m", {}, private=True)
        assert "the private topic 't'" in caplog.text
        assert [args[0] for args in posted] == ["t", "t"]


async def test_a_rate_limit_is_told_and_waited_for(server: FakeServer) -> None:
    """Rate limits dropped messages without a word."""
    async with client_of(server) as client:
        channel = client.channel("t")
        told: list[Any] = []
        channel.on_status(lambda status, error: told.append((status, error and error.code)))
        await channel.subscribe()
        await server.close_channel("t", "Too many messages per second")
        await until(lambda: channel.status == "errored")
        assert told[-1] == ("errored", "MessagePerSecondRateLimitReached")
        assert channel.error is not None
        assert channel.error.retryable
        assert "30 s" in channel.error.hint
        assert (channel._performer.wakes_at or 0) - time.monotonic() > 25
        with pytest.raises(RealtimeError) as caught:  # and what is sent meanwhile does not look sent
            await asyncio.wait_for(channel.send("m", {}), 0.1)
        assert caught.value.code == "MessagePerSecondRateLimitReached"


async def test_the_socket_too_waits_after_a_rate_limit(server: FakeServer) -> None:
    """Rate limits dropped messages without a word."""
    server.refuse = [(429, "Too many connected users")]
    client = client_of(server, timeout=0.3)
    with pytest.raises(RealtimeError, match="Too many connected users"):
        await client.connect()
    assert client.status == "reconnecting"
    assert client.error is not None
    assert client.error.code == "ConnectionRateLimitReached"
    await client.close()


# --- replay ---


async def test_a_replay_goes_on_from_the_last_message_and_tells_nothing_twice(server: FakeServer) -> None:
    async with client_of(server) as client:
        channel = client.channel("t", private=True, replay={"since": 1000, "limit": 25})
        got: list[Any] = []
        channel.on_broadcast("*", got.append)
        await channel.subscribe()

        async def say(number: int, **meta: Any) -> None:
            body = {"type": "broadcast", "event": "m", "payload": number, "meta": {"id": f"id-{number}", **meta}}
            await server.everyone("t", "broadcast", body)

        await say(1, replayed=True)
        await say(2)
        await until(lambda: got == [1, 2])
        server.drop()
        await until(lambda: len(server.joins("t")) == 2 and channel.status == "joined")
        asked = [join.payload["config"]["broadcast"]["replay"] for join in server.joins("t")]
        assert asked[0] == {"since": 1000, "limit": 25}
        assert asked[1]["limit"] == 25
        assert 0 <= 1000 * time.time() - asked[1]["since"] < 10_000
        for number in (1, 2, 3):
            await say(number, replayed=True)
        await say(4)
        await until(lambda: got[-1] == 4)
        assert got == [1, 2, 3, 4]


# --- cancelling, and what is left behind ---


async def test_a_wait_that_is_cancelled_leaves_nothing_behind(server: FakeServer) -> None:
    server.mute_joins = 1000
    async with client_of(server, timeout=0.2) as client:
        channel = client.channel("t", ack=True)
        for call in (channel.subscribe(), channel.send("m", 1), channel.wait_joined()):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(call, 0.02)
        assert not channel._waiters
        server.mute_joins = 0
        channel._machine.backoff = Backoff(0.01, 0.02)
        await channel.subscribe()
        await channel.send("m", 2)
        assert [m.payload["payload"] for m in server.received if m.event == "broadcast"] == [2]
        assert not channel._outgoing.replies


async def test_leaving_goes_on_when_nobody_waits_for_it(server: FakeServer) -> None:
    async with client_of(server) as client:
        channel = client.channel("t")
        await channel.subscribe()
        leaving = asyncio.ensure_future(channel.unsubscribe())
        await asyncio.sleep(0)
        leaving.cancel()
        await until(lambda: channel.status == "closed")
        assert "t" not in client.channels
        await channel.subscribe()
        assert channel.status == "joined"


@pytest.mark.parametrize("moment", ["joined", "joining", "connecting", "reconnecting", "leaving"])
async def test_no_task_and_no_timer_is_left_after_close(server: FakeServer, moment: str) -> None:
    before = asyncio.all_tasks()
    handles = set()
    client = client_of(server, heartbeat_interval=0.1)
    channel = client.channel("t", presence_key="ana")
    if moment == "joining":
        server.mute_joins = 1000
    if moment == "reconnecting":
        server.refuse = [(500, "")] * 1000
    channel.start()
    if moment in ("joined", "leaving"):
        await channel.subscribe()
        for n in range(10):
            await channel.track({"n": n})
        if moment == "leaving":
            handles.add(asyncio.ensure_future(channel.unsubscribe()))
            await asyncio.sleep(0)
    elif moment != "connecting":
        await until(lambda: server.received if moment == "joining" else client.status == "reconnecting")
    await client.close()
    await within(asyncio.gather(*handles, return_exceptions=True))
    await asyncio.sleep(0.05)
    assert {
        task for task in asyncio.all_tasks() - before if "rtwidgets" in repr(task) and "fake" not in repr(task)
    } == set()
    assert (channel._performer.wakes_at, channel._outgoing.tracking._timer) == (None, None)
    assert (client.status, channel.status) == ("closed", "closed")


async def test_a_callback_that_subscribes_again_does_not_bring_a_closed_client_back(server: FakeServer) -> None:
    client = client_of(server)
    channel = client.channel("t")
    channel.on_status(lambda status, error: status in ("errored", "closed") and channel.start())
    await channel.subscribe()
    await client.close()
    await asyncio.sleep(0.1)
    assert (client.status, channel.status, len(server.joins("t"))) == ("closed", "closed", 1)
    with pytest.raises(RealtimeError) as caught:
        channel.start()
    assert caught.value.code == "Closed"
    await client.connect()  # a person may
    await client.channel("t").subscribe()
    await client.close()


async def test_closing_while_the_socket_is_being_closed(server: FakeServer) -> None:
    client = client_of(server)
    await client.channel("t").subscribe()
    client.channel("t").on_status(lambda status, error: None)
    await asyncio.gather(client.close(), client.close())
    assert client.status == "closed"


async def test_a_frame_for_a_channel_that_is_gone_does_nothing(server: FakeServer) -> None:
    async with client_of(server) as client:
        channel = client.channel("t")
        await channel.subscribe()
        socket = server.sockets[0]
        await channel.unsubscribe()
        for event in ("broadcast", "presence_state", "presence_diff", "phx_close", "phx_error", "postgres_changes"):
            await server.send(socket, Message("realtime:t", event, {}, None, None))
        await channel.subscribe()
        assert (channel.status, client.frames.bad) == ("joined", 1)  # the change without data


# --- keys ---


@pytest.mark.parametrize(
    "key", ["eyJhbGciOiJIUzI1NiJ9.eyJyb2xlIjoiYW5vbiJ9.c2ln", "sb_publishable_abc-DEF_123", "sb_secret_abc-DEF_123"]
)
async def test_keys_of_every_form_and_none_of_them_in_a_text(
    server: FakeServer, key: str, caplog: pytest.LogCaptureFixture
) -> None:
    from rtwidgets.client.client import AsyncClient

    seen: list[str] = []
    server.on_request = seen.append
    with caplog.at_level("DEBUG"):
        async with AsyncClient(server.url, key) as client:
            channel = client.channel("t")
            await channel.subscribe()
            assert "access_token" not in server.joins("t")[0].payload  # the key speaks, on the socket
            texts = [
                repr(client),
                repr(channel),
                repr(client.rest),
                repr(client.tokens),
                str(vars(client).get("error")),
            ]
    assert [f"apikey={key}&" in path for path in seen] == [True]
    assert not any(key in text for text in [*texts, *(r.getMessage() for r in caplog.records if "rtw" in r.name)])


async def test_a_token_given_later_is_in_every_join_from_then_on(server: FakeServer) -> None:
    """Rejoins used the old token for ever."""
    one, two = jwt(1000), jwt(2000)
    async with client_of(server, token=one) as client:
        channel = client.channel("t")
        await channel.subscribe()
        await client.set_token(two)
        await until(lambda: [m.payload for m in server.received if m.event == "access_token"])
        server.drop()
        await until(lambda: len(server.joins("t")) == 2)
        assert [join.payload["access_token"] for join in server.joins("t")] == [one, two]


# --- what waits, and what is thrown away ---


async def test_of_what_waits_too_long_each_sender_is_told(server: FakeServer) -> None:
    """What was sent before the join was lost, or looked sent."""
    server.join_after = 0.1
    async with client_of(server) as client:
        channel = client.channel("t", ack=True)
        channel.start()
        told = await asyncio.gather(*(channel.send("m", {"n": n}) for n in range(105)), return_exceptions=True)
        dropped = [n for n, error in enumerate(told) if isinstance(error, RealtimeError)]
        assert dropped == list(range(5)), "the oldest give way"
        assert told[0].code == "SendBufferFull"  # type: ignore[union-attr]
        sent = [m.payload["payload"]["n"] for m in server.received if m.event == "broadcast"]
        assert sent == list(range(5, 105))


@pytest.mark.slow
async def test_the_last_state_is_sent_when_the_server_allows_it(
    server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Too many presence calls closed the whole channel. 31 s at a sixtieth: never over 4 calls in one window, and the
    last one wins."""
    monkeypatch.setattr(tracking, "WINDOW", 0.5)
    async with client_of(server) as client:
        channel = client.channel("t", presence_key="ana")
        await channel.subscribe()
        times: list[float] = []
        client.on_frame(lambda way, m: way == "out" and m.event == "presence" and times.append(time.monotonic()))
        for n in range(100):
            await channel.track({"n": n})
            await asyncio.sleep(0.01)
        tracked = lambda: [m.payload["payload"] for m in server.received if m.event == "presence"]  # noqa: E731
        await until(lambda: tracked()[-1] == {"n": 99})
        assert all(later - first >= 0.49 for first, later in zip(times, times[4:], strict=False))


async def test_a_replay_that_fails_after_a_reconnect_costs_messages_and_not_the_channel(server: FakeServer) -> None:
    refusal = "UnableToReplayMessages: Realtime was unable to replay messages"
    async with client_of(server) as client:
        channel = client.channel("t", private=True, replay={"since": 0, "limit": 5})
        await channel.subscribe()
        server.join_errors = [refusal]
        channel._machine.backoff = Backoff(0.01, 0.02)
        server.drop()
        await until(lambda: len(server.joins("t")) == 3 and channel.status == "joined")
        asked = ["replay" in join.payload["config"]["broadcast"] for join in server.joins("t")]
        assert asked == [True, True, False]
        assert channel.last_error is not None
        assert channel.last_error.code == "UnableToReplayMessages"
        assert (channel.error, channel.rejoins) == (None, 1)
        # At the first join it is what was asked for that is wrong.
        server.join_errors = [refusal]
        with pytest.raises(RealtimeError, match="replay"):
            await client.channel("u", private=True, replay={"since": 0, "limit": 5}).subscribe()


async def test_a_client_that_is_moved_goes_on_at_the_other_url(server: FakeServer) -> None:
    async with FakeServer() as other, client_of(server) as client:
        channel = client.channel("t")
        await channel.subscribe()
        client.move(other.url + "/realtime/v1")
        await until(lambda: other.joins("t") and channel.status == "joined")
        assert client.url == other.url
        assert len(server.joins("t")) == 1
        with pytest.raises(ValueError, match="URL"):
            client.move("nonsense")


# --- the order of what is sent, and a state as it was when it was tracked ---


async def test_what_is_sent_later_does_not_overtake_what_waits(server: FakeServer) -> None:
    """What was sent before the join was lost, or looked sent."""
    async with client_of(server) as client:
        channel = client.channel("t", ack=True)
        late: list[asyncio.Future[None]] = []

        def joined(status: str, error: Any) -> None:
            if status == "joined":
                late.extend(asyncio.ensure_future(channel.send("m", n)) for n in (3, 4))

        channel.on_status(joined)
        channel.start()
        await asyncio.gather(*(channel.send("m", n) for n in range(3)))
        await asyncio.gather(*late)
        assert [m.payload["payload"] for m in server.received if m.event == "broadcast"] == [0, 1, 2, 3, 4]


async def test_what_waits_is_written_at_once_and_not_one_an_answer(server: FakeServer) -> None:
    """What was sent before the join was lost, or looked sent."""
    async with client_of(server) as client:
        channel = client.channel("t", ack=True)
        server.answer_after = 0.1
        channel.start()
        sending = [asyncio.ensure_future(channel.send("m", n)) for n in range(20)]
        await asyncio.wait(sending, return_when=asyncio.FIRST_COMPLETED)
        assert sum(m.event == "broadcast" for m in server.received) == 20, "before the first answer"
        await asyncio.gather(*sending)


async def test_what_is_not_yet_written_when_the_channel_ends_waits_for_the_next_join(
    server: FakeServer,
) -> None:
    """What was sent before the join was lost, or looked sent."""
    async with client_of(server) as client:
        channel = client.channel("t")
        channel.start()
        channel._machine.backoff = Backoff(0.01, 0.02)
        sending = [asyncio.ensure_future(channel.send("m", n)) for n in range(3)]
        await asyncio.sleep(0)
        write, ended = channel._outgoing.buffer._write, asyncio.Event()

        async def one_then_the_end(body: Any) -> Any:
            answer = await write(body)
            if not ended.is_set():
                ended.set()
                await server.close_channel("t")
                await until(lambda: channel.status != "joined")
            return answer

        channel._outgoing.buffer._write = one_then_the_end
        await within(asyncio.gather(*sending))
        assert [m.payload["payload"] for m in server.received if m.event == "broadcast"] == [0, 1, 2]
        assert len(server.joins("t")) == 2


async def test_the_same_state_again_after_a_failure_is_sent_again(server: FakeServer) -> None:
    """One's own presence vanished after a reconnect."""
    async with client_of(server, timeout=0.2) as client:
        channel = client.channel("t", presence_key="ana")
        await channel.subscribe()
        server.mute_presence = 1
        with pytest.raises(RealtimeError, match="no answer to presence"):
            await channel.track({"n": 1})
        await channel.track({"n": 1})
        assert len([m for m in server.received if m.event == "presence"]) == 2
        assert not channel._outgoing.replies


async def test_a_state_that_is_changed_in_place_is_another_state(server: FakeServer) -> None:
    async with client_of(server) as client:
        channel = client.channel("t", presence_key="ana")
        await channel.subscribe()
        state: dict[str, Any] = {"at": [1, 2]}
        await channel.track(state)
        state["at"][0] = 5
        assert channel.tracked == {"at": [1, 2]}
        await channel.track(state)
        sent = [m.payload["payload"] for m in server.received if m.event == "presence"]
        assert sent == [{"at": [1, 2]}, {"at": [5, 2]}]


@pytest.mark.parametrize("state", [5, "ana", None, [("a", 1)], {"f": object()}, {"b": [b"x"]}, {"n": float("nan")}])
async def test_a_state_that_cannot_be_shown_is_refused_in_words(server: FakeServer, state: Any) -> None:
    async with client_of(server) as client:
        channel = client.channel("t", presence_key="ana")
        await channel.subscribe()
        with pytest.raises(RealtimeError) as caught:
            await channel.track(state)
        assert caught.value.code == "InvalidPresencePayload"
        assert "track" in caught.value.hint
        assert not [m for m in server.received if m.event == "presence"]


async def test_bytes_travel_as_bytes_or_not_at_all(server: FakeServer) -> None:
    """JSON has no bytes: inside a value they would arrive as text, and nobody would be told."""
    loop: dict[str, Any] = {}
    loop["self"] = loop
    async with client_of(server) as client:
        channel = client.channel("t", broadcast_self=True)
        got: list[Any] = []
        channel.on_broadcast("m", got.append)
        await channel.subscribe()
        for bad in ({"d": b"x"}, [[bytearray(b"x")]], {"a": ({"b": memoryview(b"x")},)}, loop, {"f": object()}):
            with pytest.raises(RealtimeError, match="cannot be sent as JSON") as caught:
                await channel.send("m", bad)
            assert caught.value.code == "MalformedWebSocketMessage"
        await channel.send("m", bytearray(b"\x00\xff"))
        await channel.send("m", memoryview(b"\x01"))
        await until(lambda: got == [b"\x00\xff", b"\x01"])


async def test_a_rate_limit_that_ends_the_socket_too_is_waited_for_on_the_next(server: FakeServer) -> None:
    """Rate limits dropped messages without a word."""
    server.join_errors = ["ClientJoinRateLimitReached: Too many joins per second"]
    async with client_of(server) as client:
        channel = client.channel("t")
        channel.start()
        await until(lambda: channel.status == "errored")
        server.drop()
        await until(lambda: client.reconnects == 1)
        await asyncio.sleep(0.2)
        assert len(server.joins("t")) == 1
        waiting = channel._machine.state
        assert isinstance(waiting, Waiting)
        assert waiting.until - time.monotonic() > 25
        channel._machine._state = msgspec.structs.replace(waiting, until=time.monotonic() + 0.1)  # it is over
        server.drop()
        await until(lambda: channel.status == "joined")
