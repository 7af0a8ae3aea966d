"""Plays the client's side of a recorded transcript against our server, and compares what comes back."""

from __future__ import annotations

import asyncio
import base64
import json
import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import websockets

from rtwidgets.local.server import RealtimeServer

from ..waits import PATIENCE

TRANSCRIPTS = Path(__file__).parent / "transcripts"
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


def lines(name: str) -> list[dict[str, Any]]:
    """The transcript, up to where the recording shortens a frame."""
    out: list[dict[str, Any]] = []
    for text in (TRANSCRIPTS / f"{name}.jsonl").read_text().splitlines():
        line = json.loads(text)
        if "…" in text and line["dir"] == "send":
            break
        out.append(line)
    # A close is recorded when it is done: what it made others receive may stand before it, at the same instant.
    told = {(line["t"], line["conn"]) for line in out if line["dir"] == "recv"}
    return sorted(out, key=lambda line: (line["t"], line["dir"] != "close" or (line["t"], line["conn"]) in told))


def normal(frame: Any) -> Any:
    """A frame without what differs from run to run: references, ids, clocks. Of one that the recording shortens, the
    event."""
    if isinstance(frame, dict) and "base64" in frame:
        return frame
    if isinstance(frame, str) and (shortened := re.match(r'\{"event":"(\w+)".*\u2026', frame)):
        return {"shortened": shortened[1]}
    if isinstance(frame, bytes):
        return {"base64": base64.b64encode(frame).decode()}
    return _clean(json.loads(_UUID.sub("<uuid>", frame)))


def _clean(value: Any, table: str = "") -> Any:
    if isinstance(value, list):
        return [_clean(item, table) for item in value]
    if not isinstance(value, dict):
        return value
    out = {}
    table = value.get("table", table)
    for name, item in value.items():
        if name in ("lsn", "xid", "resumed"):
            continue  # our own extra keys
        if (
            name in ("phx_ref", "phx_ref_prev", "id")
            and not isinstance(item, dict)
            and (name != "id" or "event" in value)
        ):
            out[name] = f"<{name}>"
        elif name == "commit_timestamp" or (name == "ts" and table == "f_t"):
            out[name] = item and re.sub(r"\d+", "0", item)
        elif name == "ids":
            out[name] = len(item)
        elif isinstance(item, str) and name == "message":
            out[name] = re.sub(r"expired \d+ seconds", "expired N seconds", item)
        else:
            out[name] = _clean(item, table)
    return out


Action = Callable[[], Awaitable[None]]


async def received(socket: Any, timeout: float = PATIENCE) -> Any:
    """The next frame, but for messages of our own that other clients ignore."""
    async with asyncio.timeout(timeout):
        while True:
            frame = await socket.recv()
            if not isinstance(frame, str) or '"message":"Table changed"' not in frame:
                return frame


async def replay(
    server: RealtimeServer,
    name: str,
    *,
    tokens: dict[str, str | list[str]] | None = None,
    actions: dict[float, Action] | None = None,
    until: float = 1e9,
    instead: dict[str, str] | None = None,
    more: dict[str, list[str]] | None = None,
) -> None:
    """Sends what the recorded clients sent and asserts that each gets what it got then.

    `tokens`: the token that stands for `<jwt>` in a connection's frames, or a list of them in order. `actions`: what to
    do (SQL) at a time of the recording. `instead`: what our server says on purpose where the recording has the key.
    `more`: frames that ours sends to a connection besides, last of all.
    Order is compared only between two steps, since the recorded server itself does not keep it otherwise.
    """
    queues = {conn: list(given) for conn, given in (tokens or {}).items() if isinstance(given, list)}
    open_sockets: dict[str, Any] = {}
    waiting: dict[str, list[Any]] = {}
    todo = sorted((actions or {}).items())

    async def settle() -> None:
        for conn, expected in waiting.items():
            got = []
            for _ in expected:
                try:
                    got.append(normal(await received(open_sockets[conn])))
                except TimeoutError:
                    break
            for frame in [frame for frame in expected if isinstance(frame, dict) and "shortened" in frame]:
                expected.remove(frame)
                # Which of ours stands for it: the one that no whole frame of the recording equals.
                other = next(found for found in got if found not in expected)
                got.remove(other)
                assert other["event"] == frame["shortened"], (name, conn, other)
            key = lambda frame: json.dumps(frame, sort_keys=True)  # noqa: E731
            assert sorted(got, key=key) == sorted(expected, key=key), (name, conn, got, expected)
        waiting.clear()

    try:
        script = lines(name)
        while more and script and script[-1]["dir"] == "close":
            script.pop()
        for line in script:
            if line["t"] > until:
                break
            while todo and todo[0][0] <= line["t"]:
                await settle()
                await todo.pop(0)[1]()
            conn, frame = line["conn"], line["frame"]
            if line["dir"] == "recv":
                for recorded, ours in (instead or {}).items():
                    frame = frame.replace(recorded, ours) if isinstance(frame, str) else frame
                waiting.setdefault(conn, []).append(normal(frame))
                continue
            await settle()
            if line["dir"] == "open":
                url = f"ws://127.0.0.1:{server.port}/realtime/v1/websocket?apikey={server.anon_key}&vsn={frame['vsn']}"
                open_sockets[conn] = await websockets.connect(url, max_size=None)
            elif line["dir"] == "send":
                data = base64.b64decode(frame["base64"]) if isinstance(frame, dict) else frame
                if isinstance(data, str):
                    while "<jwt>" in data:
                        given = queues[conn].pop(0) if conn in queues else (tokens or {}).get(conn, server.anon_key)
                        assert isinstance(given, str)
                        data = data.replace("<jwt>", given, 1)
                await open_sockets[conn].send(data)
            elif line["dir"] == "close" and conn in open_sockets:
                if frame["code"] == 1006:
                    open_sockets.pop(conn).transport.abort()
                else:
                    await open_sockets.pop(conn).close()
        for conn, frames in (more or {}).items():
            waiting.setdefault(conn, []).extend(normal(frame) for frame in frames)
        await settle()
        for conn, socket in open_sockets.items():
            try:
                extra = await received(socket, 0.1)
                raise AssertionError(f"{name}: {conn} got one frame more: {extra!r}")
            except TimeoutError:
                pass
    finally:
        for socket in open_sockets.values():
            await socket.close()
