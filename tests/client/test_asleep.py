"""A process that is stopped, as a laptop that sleeps, and comes back to a connection that was given up long ago."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from ..waits import until
from .fake import FakeServer

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform == "win32", reason="a process cannot be stopped there")]

CLIENT = """
import asyncio, json, sys
from rtwidgets.client.client import AsyncClient
from rtwidgets.protocol.subscription import ChangesBinding
from rtwidgets.protocol.backoff import Backoff

def say(*what):
    print(json.dumps(what), flush=True)

class Sink:
    def on_changes(self, changes): say("changes", *(change.record["id"] for change in changes))
    def on_ready(self): say("ready")
    def on_gap(self, reason): say("gap")
    def on_error(self, error): say("error", str(error))

async def main():
    scale = float(sys.argv[2])
    times = {"heartbeat_interval": 25 * scale, "timeout": 10 * scale, "backoff": Backoff(2 * scale, 7 * scale)}
    client = AsyncClient(sys.argv[1], "key", **times)
    channel = client.channel("t", presence_key="ana")
    channel.add_changes(ChangesBinding(table="t"), Sink())
    channel.start()
    await channel.wait_joined(5)
    await channel.track({"name": "Ana"})
    await asyncio.sleep(300)

asyncio.run(main())
"""


@pytest.mark.parametrize(("server_gives_up", "scale"), [(True, 1 / 30), (False, 1 / 30), (True, 1.0)])
async def test_a_sleep_of_90_seconds(server_gives_up: bool, scale: float) -> None:
    """What changed while a client was away is not sent again, and nobody said so. Three heartbeats and more: at a
    thirtieth of the time, and once at full length."""
    async with FakeServer() as server:
        command = (sys.executable, "-c", CLIENT, server.url, str(scale))
        process = await asyncio.create_subprocess_exec(
            *command, stdout=asyncio.subprocess.PIPE, cwd=Path(__file__).parents[2]
        )
        told: list[list[Any]] = []

        async def listen() -> None:
            assert process.stdout is not None
            async for line in process.stdout:
                told.append(json.loads(line))

        listening = asyncio.ensure_future(listen())
        try:
            await until(lambda: ["ready"] in told)
            await server.change("t", {"id": 1})
            await until(lambda: ["changes", 1] in told)
            os.kill(process.pid, signal.SIGSTOP)
            await asyncio.sleep(0.1)
            if server_gives_up:
                for socket in server.sockets:
                    await socket.close()
                await server.change("t", {"id": 2})  # nobody hears it
            await asyncio.sleep(90 * scale)
            os.kill(process.pid, signal.SIGCONT)
            if server_gives_up:
                await until(lambda: told.count(["ready"]) == 2)
                assert told.count(["gap"]) == 1
                await until(lambda: sum(m.event == "presence" for m in server.received) == 2)  # here again
            await server.change("t", {"id": 3})
            await until(lambda: ["changes", 3] in told)
            assert ["changes", 2] not in told
            assert ["error"] not in [line[:1] for line in told]
        finally:
            process.kill()
            await process.wait()
            await listening


@pytest.mark.parametrize("stopped", [0.5, 3.0])
async def test_a_server_that_freezes(stopped: float, tmp_path: Path) -> None:
    """Clients of others went silent after some minutes, without an error. The socket stays open and nobody answers:
    found out by the heartbeat, and well again when somebody does."""
    from rtwidgets.client.client import AsyncClient
    from rtwidgets.protocol.backoff import Backoff

    script = (
        "import asyncio\n"
        "from tests.client.fake import FakeServer\n"
        "async def main():\n"
        "    async with FakeServer() as server:\n"
        "        print(server.url, flush=True)\n"
        "        await asyncio.sleep(60)\n"
        "asyncio.run(main())\n"
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", script, stdout=asyncio.subprocess.PIPE, cwd=Path(__file__).parents[2]
    )
    try:
        assert process.stdout is not None
        url = (await process.stdout.readline()).decode().strip()
        async with AsyncClient(url, "key", heartbeat_interval=1.5, timeout=1.0, backoff=Backoff(0.05, 0.2)) as client:
            channel = client.channel("t")
            await channel.subscribe()
            os.kill(process.pid, signal.SIGSTOP)
            await asyncio.sleep(stopped)
            if stopped > 2.6:
                assert client.status == "reconnecting", "a silence longer than a heartbeat and its wait is seen"
            os.kill(process.pid, signal.SIGCONT)
            await until(lambda: client.status == "connected" and channel.status == "joined")
            if stopped < 1:
                assert client.reconnects == 0, "a short silence costs nothing"
    finally:
        process.kill()
        await process.wait()
