"""What a client does about frames that it cannot read, tokens that come later, and refusals without a reason."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from rtwidgets.client.client import AsyncClient
from rtwidgets.protocol.codec import loads, receive
from rtwidgets.protocol.errors import RealtimeError
from rtwidgets.protocol.messages import Change, Message
from rtwidgets.protocol.receiver import Receiver
from rtwidgets.protocol.subscription import ChangesBinding

from ..waits import until, within
from .fake import FakeServer
from .test_client import Sink, client_of, jwt, server

__all__ = ["server"]


# --- frames that cannot be read ---


async def joined(client: AsyncClient, topic: str) -> Sink:
    channel, sink = client.channel(topic), Sink()
    channel.add_changes(ChangesBinding(table="t"), sink)
    await channel.subscribe()
    await until(lambda: sink.ready == 1)
    return sink


async def test_a_frame_that_cannot_be_read_makes_what_it_was_for_stale(server: FakeServer) -> None:
    """The row in it was lost, and the table went on saying that it is live."""
    async with client_of(server) as client:
        one, other = await joined(client, "one"), await joined(client, "other")
        await server.sockets[0].send('[null,null,"realtime:one","postgres_changes",{"data":5}]')
        await until(lambda: one.ready == 2)
        assert [gap.code for gap in one.gaps] == ["MalformedWebSocketMessage"]
        assert (other.gaps, other.ready) == ([], 1)
        await server.sockets[0].send("[")  # nobody can tell for whom
        await until(lambda: one.ready == 3 and other.ready == 2)
        assert (len(one.gaps), len(other.gaps), client.frames.bad) == (2, 1, 2)
        await server.change("one", {"id": 1})
        await until(lambda: one.rows == [{"id": 1}])


LONE = r'"\ud800 \\ud800 \ud83d\ude00 \udc00\n"'
READ = "\ufffd \\ud800 \U0001f600 \ufffd\n"


@pytest.mark.parametrize("text", [LONE, f'{{"a":[{LONE}]}}'])
def test_half_a_surrogate_pair_is_read_as_the_replacement_character(text: str) -> None:
    """Postgres' type json may hold one; whoever refused it lost the row, and every snapshot of its table."""
    expected = READ if text == LONE else {"a": [READ]}
    assert loads(text) == loads(text.encode()) == expected


def test_the_same_in_a_row_change() -> None:
    frame = (
        '[null,null,"realtime:t","postgres_changes",{"ids":[1],"data":{"type":"INSERT","schema":"public","table":"t",'
        '"columns":[{"name":"id","type":"int4"},{"name":"j","type":"json"}],"commit_timestamp":"2026-01-01T00:00:00Z",'
        '"errors":null,"record":{"id":1,"j":%s}}}]'
    )
    reader = Receiver("2.0.0")
    for text in ('"fine"', LONE, LONE):
        data = (frame % text).encode()
        for message in (receive(data, "2.0.0"), reader.receive(data)):
            assert isinstance(message.payload, Change)
            assert message.payload.record == {"id": 1, "j": "fine" if text == '"fine"' else READ}


# --- tokens ---


async def test_another_token_revives_what_failed_for_the_old_one(server: FakeServer) -> None:
    async with client_of(server, token=jwt(1000)) as client:
        sink = await joined(client, "t")
        channel = client.channel("t")
        await server.close_channel("t", "Token has expired 0 seconds ago")
        await until(lambda: channel.status == "errored")
        assert sink.errors[-1].code == "TokenExpired"
        await client.set_token(jwt(2000))
        await until(lambda: channel.status == "joined" and sink.ready == 2)
        assert (channel.error, client.status) == (None, "connected")


@pytest.mark.slow
async def test_a_join_that_is_refused_again_and_again_gives_its_reason(server: FakeServer) -> None:
    server.join_errors = ["UnableToConnectToProject: Unable to connect to the project database"] * 2
    async with client_of(server) as client:
        channel, sink = client.channel("t"), Sink()
        channel.add_changes(ChangesBinding(table="t"), sink)
        channel.start()
        await until(lambda: sink.gaps)
        assert (sink.gaps[0].code, channel.status) == ("UnableToConnectToProject", "errored")
        with pytest.raises(RealtimeError, match="Unable to connect to the project database"):
            await channel.wait_joined(0.01)
        await until(lambda: sink.ready == 1)


async def test_a_presence_state_that_a_policy_refuses_is_unauthorized(
    server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server gives no reason, and it looked like success."""

    async def refuse(message: Message) -> bool:
        if message.event != "presence":
            return False
        reply = Message(message.topic, "phx_reply", {"status": "error", "response": {}}, message.ref, message.join_ref)
        await server.send(server.sockets[0], reply)
        return True

    monkeypatch.setattr(server, "_ignores", refuse)
    async with client_of(server) as client:
        channel = client.channel("room's", private=True, presence_key="ana")
        await channel.subscribe()
        with pytest.raises(RealtimeError) as caught:
            await channel.track({"name": "Ana"})
        assert caught.value.code == "Unauthorized"
        assert "for insert" in caught.value.hint
        assert "realtime.topic() = 'room''s'" in caught.value.hint


# --- holds ---


async def test_a_hold_that_is_taken_again_in_the_same_turn_keeps_the_channel(server: FakeServer) -> None:
    async with client_of(server) as client:
        channel = client.channel("t")
        release = channel.retain()
        await channel.wait_joined()
        release()
        channel.retain()
        await asyncio.sleep(0.1)
        assert channel.status == "joined"
        assert not [m for m in server.received if m.event == "phx_leave"]


# --- this machine ---


@pytest.mark.parametrize(
    ("url", "seconds"),
    [
        ("http://127.0.0.1:9", 5.0),
        ("http://localhost:9", 5.0),
        ("http://[::1]:9", 5.0),
        ("https://x.supabase.co", 25.0),
    ],
)
def test_a_server_on_this_machine_is_asked_more_often(url: str, seconds: int) -> None:
    assert AsyncClient(url, "key").heartbeat_interval == seconds
    assert AsyncClient(url, "key", heartbeat_interval=7.0).heartbeat_interval == 7.0


# --- fork ---

FORKED = """
import os, sys, time
from rtwidgets.client.connect import connect
from rtwidgets.client.notebook import Channel
from rtwidgets.protocol.errors import RealtimeError

client = connect(sys.argv[1], "key")
room = Channel("chat").subscribe()
seen = []
room.observe(seen.append, "status")
child = os.fork()
if child:
    _, status = os.waitpid(child, 0)
    room.send("m", {"from": "the parent"})
    print(os.waitstatus_to_exitcode(status), room.status, client.status, flush=True)
else:
    print(room.status, client.status, room.error.code, len(seen), flush=True)
    start = time.monotonic()
    for call in (lambda: room.send("m", {}), room.subscribe, room.start, lambda: client.set_token("x"), room.untrack):
        try:
            call()
            print("no error")
        except RealtimeError as error:
            assert error.code == "Closed" and "fork" in error.message and "child" in error.hint
    fresh = connect(sys.argv[1], "key")
    own = Channel("chat").subscribe()
    own.send("m", {"from": "the child"})
    print(own is not room, own.status, time.monotonic() - start < 3, flush=True)
    fresh.close()
    start = time.monotonic()
    sys.exit(3 if time.monotonic() - start < 1 else 4)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
async def test_a_forked_child_starts_anew(server: FakeServer) -> None:
    """Its inherited objects waited ten seconds for a thread that is not there, or went on saying `live`."""
    command = (sys.executable, "-c", textwrap.dedent(FORKED), server.url)
    process = await asyncio.create_subprocess_exec(
        *command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=Path(__file__).parents[2]
    )
    out, err = await within(process.communicate())
    assert out.decode().splitlines() == ["closed closed Closed 0", "True joined True", "3 joined connected"], (
        err.decode()
    )
    senders = [m.payload["payload"]["from"] for m in server.received if m.event == "broadcast"]
    assert senders == ["the child", "the parent"]
