"""What `--limits=supabase` refuses, in Supabase's words."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
import websockets

from rtwidgets.local.auth import mint
from rtwidgets.local.limits import SUPABASE, Limits
from rtwidgets.local.server import RealtimeServer

from .client import ask, connected
from .conftest import SECRET

pytestmark = pytest.mark.pg


@asynccontextmanager
async def limited(pg: str, **values: Any) -> AsyncIterator[RealtimeServer]:
    running = RealtimeServer(pg, jwt_secret=SECRET, anon_key=mint(SECRET, "anon"), limits=Limits(**values))
    await running.start()
    try:
        yield running
    finally:
        await running.stop()


def test_the_preset_is_the_free_plan() -> None:
    assert (SUPABASE.max_users, SUPABASE.joins, SUPABASE.messages, SUPABASE.max_channels) == (200, 100, 100, 100)


async def test_users(pg: str) -> None:
    async with limited(pg, max_users=1) as server, connected(server):
        with pytest.raises(websockets.InvalidStatus) as caught:
            await connected(server)
        assert caught.value.response.status_code == 429
        assert json.loads(caught.value.response.body or b"") == {"error": "Too many connected users"}


async def test_joins(pg: str) -> None:
    async with limited(pg, joins=2) as server, connected(server) as ws:
        for topic in ("a", "b"):
            assert (await ask(ws, f"realtime:{topic}", "phx_join", {"config": {}}))["status"] == "ok"
        answer = await ask(ws, "realtime:c", "phx_join", {"config": {}})
        assert answer["response"] == {"reason": "ClientJoinRateLimitReached: Too many joins per second"}
        with pytest.raises(websockets.ConnectionClosed):
            await ws.recv()


async def test_channels(pg: str) -> None:
    async with limited(pg, max_channels=1) as server, connected(server) as ws:
        assert (await ask(ws, "realtime:a", "phx_join", {"config": {}}))["status"] == "ok"
        answer = await ask(ws, "realtime:b", "phx_join", {"config": {}})
        assert answer["response"] == {"reason": "ChannelRateLimitReached: Too many channels"}


async def test_entries_of_one_join(pg: str) -> None:
    async with limited(pg, max_bindings=2) as server, connected(server) as ws:
        entries = [{"event": "*", "schema": "public", "table": "t", "filter": f"id=eq.{n}"} for n in range(3)]
        answer = await ask(ws, "realtime:a", "phx_join", {"config": {"postgres_changes": entries}})
        reason = "UnprocessableEntity: 3 postgres_changes in one join, the most are 2"
        assert answer["response"] == {"reason": reason}
        answer = await ask(ws, "realtime:a", "phx_join", {"config": {"postgres_changes": entries[:2]}})
        assert answer["status"] == "ok"


async def test_messages(pg: str) -> None:
    async with limited(pg, messages=3) as server, connected(server) as ws, httpx.AsyncClient() as http:
        url, headers = f"{server.url}/realtime/v1/api/broadcast", {"apikey": server.anon_key}
        message = {"topic": "t", "event": "e", "payload": {}}
        await ask(ws, "realtime:t", "phx_join", {"config": {}})
        assert (await http.post(url, json={"messages": [message] * 2}, headers=headers)).status_code == 202
        answer = await http.post(url, json={"messages": [message] * 3}, headers=headers)
        assert (answer.status_code, answer.json()) == (429, {"message": "You have exceeded your rate limit"})
        answer = await http.post(url, json={"messages": [message] * 4}, headers=headers)
        assert (answer.status_code, answer.json()["message"][:28]) == (429, "Too many messages to broadca")
        for _ in range(4):
            await ws.send(json.dumps(["1", None, "realtime:t", "broadcast", {"event": "e", "payload": {}}]))
        told = []
        while "phx_close" not in told:
            frame = json.loads(await ws.recv())
            told.append(frame[4]["message"] if frame[3] == "system" else frame[3])
        assert told[-2:] == ["Too many messages per second", "phx_close"]


async def test_presence(pg: str) -> None:
    async with limited(pg, presence=2, max_payload=1000) as server, connected(server) as ws:
        for topic, state, expected in (
            ("a", {"x": "y" * 2000}, "Track message size exceeded"),
            ("b", {}, None),
            ("c", {}, "Too many presence messages per second"),
        ):
            await ask(ws, f"realtime:{topic}", "phx_join", {"config": {}})
            await ws.send(json.dumps(["1", "9", f"realtime:{topic}", "presence", {"event": "track", "payload": state}]))
            frame = json.loads(await ws.recv())
            while frame[3] in ("presence_diff", "presence_state"):
                frame = json.loads(await ws.recv())
            if expected:
                assert frame[4]["message"] == expected
                assert json.loads(await ws.recv())[3] == "phx_close"
            else:
                assert frame[4]["status"] == "ok"
