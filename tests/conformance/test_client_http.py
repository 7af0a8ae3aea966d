"""Our client against what the recorded server answered over HTTP: handshakes refused, broadcasts posted."""

from __future__ import annotations

import asyncio
import http
import json
import re
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.asyncio.server import ServerConnection, serve

from rtwidgets.client.client import AsyncClient
from rtwidgets.client.rest import RestClient
from rtwidgets.protocol.backoff import Backoff
from rtwidgets.protocol.codec import loads
from rtwidgets.protocol.errors import RealtimeError

FOLDER = Path(__file__).parent / "transcripts"
CODES = {
    "noKey": "MissingAPIKey",
    "bad": "MalformedJWT",
    "expired": "TokenExpired",
    "wrongsig": "JwtSignatureError",
    "norole": "InvalidJWTToken",
    "noexp": "InvalidJWTToken",
    "badvsn": "HandshakeRefused",
}


def recorded(name: str, kind: str) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (FOLDER / f"{name}.jsonl").read_text().splitlines()]
    return [line for line in lines if line["dir"] == kind]


HANDSHAKES = recorded("01_auth", "open")
POSTS = recorded("11_rest_broadcast", "http")


def test_nothing_of_the_recording_is_left_out() -> None:
    assert {line["conn"] for line in HANDSHAKES} == {*CODES, "good"}
    assert {line["frame"]["status"] for line in POSTS} == {202, 400, 401, 422}


@pytest.mark.parametrize("line", HANDSHAKES, ids=lambda line: line["conn"])
async def test_a_handshake(line: dict[str, Any]) -> None:
    frame, asked = line["frame"], 0

    def answer(connection: ServerConnection, request: Any) -> Any:
        nonlocal asked
        asked += 1
        if "error" not in frame:
            return None
        status = int(re.search(r"HTTP (\d+)", frame["error"])[1])  # type: ignore[index]
        return connection.respond(http.HTTPStatus(status), frame["body"])

    async def hold(connection: ServerConnection) -> None:
        await connection.wait_closed()

    async with serve(hold, "127.0.0.1", 0, process_request=answer) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        client = AsyncClient(f"http://127.0.0.1:{port}", "key", timeout=3, backoff=Backoff(0.01, 0.02))
        if "error" not in frame:
            await client.connect()
            assert client.status == "connected"
        else:
            with pytest.raises(RealtimeError) as caught:
                await client.connect()
            assert caught.value.code == CODES[line["conn"]]
            assert json.loads(frame["body"] or '{"error":"HTTP 403"}')["error"] in caught.value.message
            assert caught.value.hint
            assert client.status == "error"
            await asyncio.sleep(0.1)
            assert asked == 1, "a key that is wrong stays wrong: asking on would only cost"
        await client.close()


async def test_an_expired_key_of_a_renewable_token_is_asked_for_once_more() -> None:
    frame = next(line["frame"] for line in HANDSHAKES if line["conn"] == "expired")
    asked: list[str] = []

    def answer(connection: ServerConnection, request: Any) -> Any:
        asked.append(request.path)
        return connection.respond(http.HTTPStatus.UNAUTHORIZED, frame["body"])

    async def hold(connection: ServerConnection) -> None: ...

    async with serve(hold, "127.0.0.1", 0, process_request=answer) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        client = AsyncClient(
            f"http://127.0.0.1:{port}", "key", token=lambda: "token", timeout=3, backoff=Backoff(0.01, 0.02)
        )
        with pytest.raises(RealtimeError) as caught:
            await client.connect()
        await client.close()
    assert (caught.value.code, len(asked)) == ("TokenExpired", 2)


def sendable(line: dict[str, Any]) -> bool:
    """Whether this client can send that body at all: the malformed ones are answers only."""
    body = line["frame"]["request"]["body"]
    return isinstance(body, dict) and len(body.get("messages", [])) == 1 and "payload" in body["messages"][0]


@pytest.mark.parametrize("line", POSTS, ids=lambda line: f"{line['frame']['status']}-at-{line['t']:.0f}s")
async def test_a_posted_broadcast(line: dict[str, Any]) -> None:
    frame, sent = line["frame"], []

    def answer(request: httpx.Request) -> httpx.Response:
        sent.append(request)
        return httpx.Response(frame["status"], text=frame["body"])

    async def no_token() -> str | None:
        return None

    client = RestClient("http://project", "sb_publishable_x", no_token)
    client._http = httpx.AsyncClient(transport=httpx.MockTransport(answer))
    recorded_one = frame["request"]["body"]["messages"][0] if sendable(line) else {}
    private = bool(recorded_one.get("private"))
    call = client.broadcast("team" if private else "chat", "message", recorded_one.get("payload", {}), private)
    if frame["status"] == 202:
        await call
    else:
        with pytest.raises(RealtimeError) as caught:
            await call
        assert not caught.value.retryable
        assert caught.value.code in {400: ("UnprocessableEntity",), 401: ("InvalidJWTToken",)}.get(
            frame["status"], ("UnprocessableEntity", "PayloadTooLarge")
        )
        if "size exceeds" in frame["body"]:
            assert caught.value.code == "PayloadTooLarge"
    body = loads(sent[0].content)
    if sendable(line):
        assert body["messages"] == [{"private": False, **recorded_one}]
    assert sent[0].headers["apikey"] == "sb_publishable_x"
    assert "authorization" not in sent[0].headers
    await client.close()
