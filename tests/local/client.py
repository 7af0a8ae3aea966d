"""A small client for the tests: raw frames over a WebSocket, and SQL beside it."""

from __future__ import annotations

import base64
import json
import time
from typing import Any

import psycopg
import websockets

from rtwidgets.local.server import RealtimeServer

from ..waits import received

USER = "11111111-1111-1111-1111-111111111111"


async def sql(dsn: str, *statements: str) -> None:
    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:
        for statement in statements:
            await connection.execute(statement.encode())


def connected(server: RealtimeServer, vsn: str = "2.0.0") -> Any:
    url = f"ws://127.0.0.1:{server.port}/realtime/v1/websocket?apikey={server.anon_key}&vsn={vsn}"
    return websockets.connect(url, max_size=None, close_timeout=1)


async def ask(ws: Any, topic: str, event: str, payload: Any) -> Any:
    """Pushes and gives the reply's payload."""
    ref = base64.b16encode(str(time.monotonic_ns()).encode()).decode()[-12:]
    await ws.send(json.dumps(["1" if topic != "phoenix" else None, ref, topic, event, payload]))
    while True:
        frame = await received(ws)
        if frame[1] == ref and frame[3] == "phx_reply":
            return frame[4]


async def change(ws: Any) -> Any:
    """The payload of the next row change; `system` messages before it are skipped."""
    while (frame := await received(ws))[3] != "postgres_changes":
        assert frame[3] == "system", frame
    return frame[4]


async def system(ws: Any) -> Any:
    """The payload of the next message, which is a `system` one."""
    frame = await received(ws)
    assert frame[3] == "system", frame
    return frame[4]


async def subscribed(ws: Any, *params: dict[str, str]) -> list[int]:
    """Joins with these subscriptions; returns their ids."""
    reply = await ask(ws, "realtime:t", "phx_join", {"config": {"postgres_changes": list(params)}})
    frame = await received(ws)
    assert frame[4]["message"] == "Subscribed to PostgreSQL", frame
    return [entry["id"] for entry in reply["response"]["postgres_changes"]]
