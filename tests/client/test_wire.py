"""How messages are cut out of a read, against the parser of `websockets`: the same messages, the same answers."""

from __future__ import annotations

import asyncio
import http
import shutil
import ssl
import subprocess
from collections.abc import AsyncIterator
from itertools import pairwise
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from websockets.asyncio.server import ServerConnection, serve
from websockets.client import ClientProtocol
from websockets.exceptions import InvalidStatus
from websockets.frames import Frame, Opcode
from websockets.protocol import State
from websockets.uri import parse_uri
from websockets.utils import accept_key

from rtwidgets.client.wire import Wire, open_wire

from ..waits import until, within

MAX = 70_000


def frame(first: int, data: bytes, *, masked: bool = False) -> bytes:
    size, flag = len(data), 0x80 if masked else 0
    if size < 126:
        head = bytes((first, flag | size))
    elif size < 65536:
        head = bytes((first, flag | 126)) + size.to_bytes(2, "big")
    else:
        head = bytes((first, flag | 127)) + size.to_bytes(8, "big")
    return head + (b"\0\0\0\0" if masked else b"") + data


sizes = st.sampled_from([0, 1, 5, 124, 125, 126, 127, 300, 65535, 65536, MAX, MAX + 1]) | st.integers(0, 200)
data = st.builds(lambda size, fill: bytes((fill,)) * size, sizes, st.sampled_from(b"a{\x00\xff"))
small = st.binary(max_size=125)
# Whole messages mostly; the rest is what a server may send, and what none may.
stream = st.lists(
    st.one_of(
        st.builds(frame, st.sampled_from((0x81, 0x82)), data),
        st.builds(frame, st.sampled_from((0x81, 0x82)), data),
        st.builds(frame, st.sampled_from((0x01, 0x02, 0x00, 0x80)), data),
        st.builds(lambda a, b, c: frame(1, a) + frame(0x89, b"") + frame(0, b) + frame(0x80, c), data, data, small),
        st.builds(frame, st.sampled_from((0x89, 0x8A)), small),
        st.builds(
            lambda code, text: frame(0x88, code.to_bytes(2, "big") + text), st.integers(0, 5000), st.just(b"bye")
        ),
        st.builds(frame, st.integers(0, 255), data),
        st.builds(lambda payload: frame(0x81, payload, masked=True), small),
        st.binary(max_size=12),
    ),
    max_size=8,
).map(b"".join)


class Transport:
    def __init__(self) -> None:
        self.written: list[bytes] = []

    def write(self, data: bytes) -> None:
        self.written.append(data)

    def write_eof(self) -> None:
        self.written.append(b"")

    def can_write_eof(self) -> bool:
        return True

    def set_write_buffer_limits(self, *_: Any) -> None: ...

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...


def accepted(key: str) -> bytes:
    lines = ("HTTP/1.1 101 Switching Protocols", "Upgrade: websocket", "Connection: Upgrade")
    return "\r\n".join((*lines, f"Sec-WebSocket-Accept: {accept_key(key)}", "", "")).encode()


def handshake(protocol: ClientProtocol) -> bytes:
    request = protocol.connect()
    protocol.send_request(request)
    return accepted(request.headers["Sec-WebSocket-Key"])


def protocol() -> ClientProtocol:
    return ClientProtocol(parse_uri("ws://server/"), max_size=MAX)


def told(of: ClientProtocol) -> tuple[Any, ...]:
    return of.state, of.close_code if of.state is State.CLOSED else None, of.close_rcvd, of.close_sent


def as_websockets_reads_it(sent: bytes) -> tuple[list[bytes], bytes, Any, Any]:
    reference = protocol()
    opening = handshake(reference)
    reference.receive_data(opening)
    reference.receive_data(sent)
    messages, parts = [], []
    for event in reference.events_received()[1:]:
        assert isinstance(event, Frame)
        if event.opcode in (Opcode.TEXT, Opcode.BINARY, Opcode.CONT):
            parts.append(bytes(event.data))
            if event.fin:
                messages.append(b"".join(parts))
                parts.clear()
    before = told(reference)
    reference.receive_eof()
    return messages, b"".join(reference.data_to_send()[1:]), before, told(reference)


def as_we_read_it(sent: bytes, cuts: list[int]) -> tuple[list[bytes], bytes, Any, Any]:
    async def run() -> tuple[list[bytes], bytes, Any, Any]:
        messages: list[bytes] = []
        wire = Wire(messages.extend, MAX, protocol())
        transport: Any = Transport()
        wire.connection_made(transport)
        everything = handshake(wire.protocol) + sent
        wire.protocol.data_to_send()
        edges = [0, *sorted(cut % (len(everything) + 1) for cut in cuts), len(everything)]
        for start, stop in pairwise(edges):
            if start < stop:
                wire.data_received(everything[start:stop])
        before = told(wire.protocol)
        wire.eof_received()
        return messages, b"".join(transport.written), before, told(wire.protocol)

    return asyncio.run(run())


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(stream, st.lists(st.integers(0, 1 << 20), max_size=12))
def test_the_same_as_websockets_however_it_is_cut(sent: bytes, cuts: list[int]) -> None:
    with mock.patch("websockets.frames.secrets.token_bytes", return_value=b"\0\0\0\0"):
        assert as_we_read_it(sent, cuts) == as_websockets_reads_it(sent)


@given(st.lists(small, min_size=1, max_size=4))
def test_the_same_a_byte_at_a_time(messages: list[bytes]) -> None:
    sent = b"".join(frame(0x82, message) for message in messages)
    assert as_we_read_it(sent, list(range(1000)))[0] == messages


# --- over a real socket ---


async def heard(script: Any, **options: Any) -> tuple[list[bytes], Wire]:
    """What a wire heard of a server that runs `script(connection)`, once the connection has ended."""
    messages: list[bytes] = []
    async with serve(script, "127.0.0.1", 0, compression=None, **options) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        scheme, host = ("wss", "localhost") if "ssl" in options else ("ws", "127.0.0.1")
        wire = await open_wire(f"{scheme}://{host}:{port}/", messages.extend, max_size=MAX, timeout=5)
        await within(wire.wait_closed())
    return messages, wire


async def test_fragments_pings_and_a_close_with_a_reason() -> None:
    answered: list[float] = []

    async def script(connection: ServerConnection) -> None:
        await connection.send("one")
        answered.append(await (await connection.ping(b"still there?")))
        await connection.send(iter(["tw", "", "o"]))
        await connection.send(b"three")
        await connection.close(4001, "enough")

    messages, wire = await heard(script)
    assert messages == [b"one", b"two", b"three"]
    assert answered
    assert (wire.protocol.close_code, wire.protocol.close_reason) == (4001, "enough")


async def test_a_message_over_the_limit_ends_the_connection() -> None:
    async def script(connection: ServerConnection) -> None:
        await connection.send("x" * MAX)
        await connection.send("x" * (MAX + 1))
        await connection.wait_closed()

    messages, wire = await heard(script)
    assert [len(message) for message in messages] == [MAX]
    assert wire.protocol.close_sent is not None
    assert wire.protocol.close_sent.code == 1009


async def test_a_server_that_breaks_off_in_the_middle_of_a_frame() -> None:
    async def script(connection: ServerConnection) -> None:
        await connection.send("whole")
        connection.transport.write(frame(0x81, b"x" * 1000)[:500])
        await asyncio.sleep(0.05)
        connection.transport.abort()

    messages, wire = await heard(script)
    assert messages == [b"whole"]
    assert wire.protocol.close_code == 1006


async def test_many_messages_are_heard_in_few_calls_and_hold_the_sender_back() -> None:
    sent = 0

    async def script(connection: ServerConnection) -> None:
        nonlocal sent
        for number in range(3000):
            await connection.send(str(number).rjust(10_000))
            sent += 1
        await connection.close()

    calls: list[list[bytes]] = []
    ahead = 0

    def take(messages: list[bytes]) -> None:
        nonlocal ahead
        calls.append(messages)
        ahead = max(ahead, sent - sum(len(call) for call in calls))

    async with serve(script, "127.0.0.1", 0, compression=None) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        wire = await open_wire(f"ws://127.0.0.1:{port}/", take, max_size=MAX, timeout=5)
        await within(wire.wait_closed())
    assert [int(message) for call in calls for message in call] == list(range(3000))
    assert len(calls) < 2000
    assert ahead < 2000, "what is not read must wait in the sender, not here"


async def test_a_refused_handshake_still_tells_its_body() -> None:
    def refuse(connection: ServerConnection, request: Any) -> Any:
        return connection.respond(http.HTTPStatus.UNAUTHORIZED, '{"error":"API key is missing"}\nmore\n')

    async with serve(lambda connection: asyncio.sleep(0), "127.0.0.1", 0, process_request=refuse) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        with pytest.raises(InvalidStatus) as caught:
            await open_wire(f"ws://127.0.0.1:{port}/", lambda messages: None, max_size=MAX, timeout=5)
    assert caught.value.response.body == b'{"error":"API key is missing"}\nmore\n'


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("needs the openssl command to make a certificate")
    key, cert = tmp_path / "key.pem", tmp_path / "cert.pem"
    made = [openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", str(key), "-out", str(cert)]
    subject = ["-days", "1", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    subprocess.run([*made, *subject], check=True, capture_output=True)
    return key, cert


async def test_over_tls(certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    key, cert = certificate
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    monkeypatch.setenv("SSL_CERT_FILE", str(cert))

    async def script(connection: ServerConnection) -> None:
        for number in range(200):
            await connection.send(str(number).rjust(1000))
        await connection.close()

    messages, _ = await heard(script, ssl=context)
    assert [int(message) for message in messages] == list(range(200))


@pytest.fixture
async def silent() -> AsyncIterator[int]:
    """A server that never ends its half of a close."""

    async def hold(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        asked = next(line.split(": ")[1] for line in head.splitlines() if line.lower().startswith("sec-websocket-key"))
        writer.write(accepted(asked) + frame(0x81, b"with the handshake") + frame(0x81, b"half")[:3])
        await asyncio.sleep(0.05)
        writer.write(frame(0x81, b"half")[3:])
        await reader.read(-1)
        writer.close()

    server = await asyncio.start_server(hold, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


@pytest.mark.slow
async def test_frames_that_come_with_the_handshake(silent: int) -> None:
    messages: list[bytes] = []
    wire = await open_wire(f"ws://127.0.0.1:{silent}/", messages.extend, max_size=MAX, timeout=5)
    await until(lambda: messages == [b"with the handshake", b"half"])
    await within(wire.close())
