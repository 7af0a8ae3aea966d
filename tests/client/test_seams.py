"""The client on a transport without sockets and on the caller's own loop, as on a host that has neither threads nor
sockets."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from rtwidgets.client import thread
from rtwidgets.client.client import AsyncClient
from rtwidgets.client.notebook import Client
from rtwidgets.client.runner import LoopRunner
from rtwidgets.client.transport import Receive
from rtwidgets.protocol import errors
from rtwidgets.protocol.backoff import Backoff
from rtwidgets.protocol.codec import decode, encode
from rtwidgets.protocol.errors import RealtimeError
from rtwidgets.protocol.messages import Message

from ..waits import until


class MemorySocket:
    """A socket whose server is a function from a message to answers."""

    date = ""

    def __init__(self, receive: Receive, answer: Callable[[Message], list[Message]]) -> None:
        self._receive, self._answer = receive, answer
        self._ended = asyncio.Event()
        self.sent: list[Message] = []

    async def send(self, data: str | bytes) -> None:
        message = decode(data, "2.0.0", sender="client")
        self.sent.append(message)
        for answer in self._answer(message):
            self.feed(answer)

    def feed(self, message: Message) -> None:
        frame = encode(message, "2.0.0", side="server")
        self._receive([frame.encode() if isinstance(frame, str) else frame])

    async def wait_closed(self) -> str:
        await self._ended.wait()
        return "the test ended it"

    async def close(self) -> None:
        self._ended.set()

    def abort(self) -> None:
        self._ended.set()


class MemoryTransport:
    """Opens memory sockets; the first `refusals` raise."""

    def __init__(self, *refusals: Exception) -> None:
        self.refusals = list(refusals)
        self.sockets: list[MemorySocket] = []
        self.urls: list[str] = []

    async def open(self, url: str, receive: Receive, *, timeout: float) -> MemorySocket:
        self.urls.append(url)
        if self.refusals:
            raise self.refusals.pop(0)
        self.sockets.append(MemorySocket(receive, ok))
        return self.sockets[-1]


def ok(message: Message) -> list[Message]:
    return [Message(message.topic, "phx_reply", {"status": "ok", "response": {}}, message.ref, message.join_ref)]


async def test_a_client_on_a_transport_without_sockets() -> None:
    transport = MemoryTransport()
    async with AsyncClient("http://memory", "key", transport=transport, backoff=Backoff(0.01, 0.02)) as client:
        assert transport.urls == ["ws://memory/realtime/v1/websocket?apikey=key&vsn=2.0.0"]
        channel = client.channel("t", ack=True)
        got: list[Any] = []
        channel.on_broadcast("m", got.append)
        await channel.subscribe()
        await channel.send("m", {"n": 1})
        transport.sockets[0].feed(Message("realtime:t", "broadcast", {"type": "broadcast", "event": "m", "payload": 2}))
        assert got == [2]
        transport.sockets[0].abort()
        await until(lambda: client.reconnects == 1 and channel.status == "joined")
        assert channel.last_error is not None
        assert channel.last_error.message == "the connection was lost: the test ended it"
    assert client.status == "closed"


@pytest.mark.parametrize("found", [lambda: errors.make("ConnectionLost", "no way"), OSError, ValueError])
async def test_whatever_a_transport_raises_is_tried_again(
    found: Callable[[], Exception], caplog: pytest.LogCaptureFixture
) -> None:
    transport = MemoryTransport(found())
    async with AsyncClient("http://memory", "key", transport=transport, backoff=Backoff(0.01, 0.02)) as client:
        assert client.status == "connected"
        assert isinstance(client.last_error, RealtimeError)
        assert client.last_error.code == "ConnectionLost"
    caplog.clear()  # its tracebacks would keep the client


@pytest.fixture
def own_loop() -> Iterator[None]:
    before = None

    async def enter() -> None:
        nonlocal before
        before = thread.use(LoopRunner(asyncio.get_running_loop()))

    yield enter  # type: ignore[misc]
    if before is not None:
        thread.use(before)


async def test_a_notebook_client_on_the_callers_own_loop(own_loop: Any) -> None:
    """No thread is started; calls that would wait go on by themselves."""
    await own_loop()
    transport = MemoryTransport()
    client = Client("http://memory", "key", transport=transport)
    channel = client.channel("t")
    channel.subscribe()
    await until(lambda: channel.status == "joined")
    channel.send("m", {"n": 1})
    await until(lambda: any(message.event == "broadcast" for message in transport.sockets[0].sent))
    with pytest.raises(RuntimeError, match="asyncio client"):
        thread.run(asyncio.sleep(0))
    client.close()
    await until(lambda: client.aio.status == "closed")
