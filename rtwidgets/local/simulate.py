"""`local.simulate()`: a crowd of users that join, send and leave, for demos and tests, in a process of its own.

Run by `Simulation` as `python -m rtwidgets.local.simulate`, with its settings as one line of JSON on stdin. It ends
when stdin does, so it never outlives the process that started it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import subprocess
import sys
import uuid
from types import TracebackType
from typing import Any

from rtwidgets.client.channel import AsyncChannel
from rtwidgets.client.client import AsyncClient
from rtwidgets.protocol.errors import RealtimeError

NAMES = (
    *("ana", "ben", "chloe", "deniz", "emil", "fatima", "goran", "hana", "ines", "jonas", "kira", "liam", "mei"),
    *("nadia", "omar", "petra", "quinn", "rosa", "sven", "tara", "uma", "victor", "wanda", "xenia", "yusuf", "zoe"),
)
TEAMS = ("support", "sales", "operations")
MOVE = 0.2
"""Seconds between two positions of a moving pointer."""
WORDS = ("hello", "late again", "on it", "who has the keys?", "done", "lunch?", "looks good", "not yet", "thanks")


class Simulation:
    """A crowd that runs until `stop()`, or until this process ends. Also a context manager."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self.users: int = settings["users"]
        self.topic: str = settings["topic"]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "rtwidgets.local.simulate"], stdin=subprocess.PIPE, start_new_session=True
        )
        assert self._process.stdin is not None
        # Not as arguments: those show in ps, and there are tokens among them.
        self._process.stdin.write(json.dumps(settings).encode() + b"\n")
        self._process.stdin.flush()

    def __repr__(self) -> str:
        return f"<Simulation of {self.users} users in {self.topic!r}, {'running' if self.running else 'stopped'}>"

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    def stop(self) -> None:
        """Ends it: every user leaves. Safe to call twice."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def __enter__(self) -> Simulation:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def people(users: int, seed: int) -> list[dict[str, str]]:
    """The crowd of a seed: the same people each time, each with an own name."""
    chance = random.Random(seed)
    found: list[dict[str, str]] = []
    for number in range(users):
        name = NAMES[number % len(NAMES)] + (str(number // len(NAMES) + 1) if number >= len(NAMES) else "")
        person = str(uuid.UUID(int=chance.getrandbits(128), version=4))
        found.append({"id": person, "name": name, "team": chance.choice(TEAMS)})
    return found


async def _live(person: dict[str, str], settings: dict[str, Any], chance: random.Random) -> None:
    """One user: joins, moves a pointer, sends messages, and is away for a while after every dozen of them."""
    every = settings["every"]
    await asyncio.sleep(chance.uniform(0, min(every, 2)))
    while True:
        async with AsyncClient(settings["url"], settings["key"], token=person["token"]) as client:
            channel = client.channel(settings["topic"], presence_key=person["name"])
            channel.on_presence(lambda _: None)
            await channel.subscribe(30)
            await channel.track({"name": person["name"], "team": person["team"]})
            moving = asyncio.create_task(_move(channel, person, settings["seed"])) if settings["move"] else None
            try:
                for _ in range(chance.randint(8, 16)):
                    await asyncio.sleep(chance.expovariate(1 / every))
                    await channel.send("message", {"sender": person["name"], "text": chance.choice(WORDS)})
            finally:
                if moving is not None:
                    moving.cancel()
        await asyncio.sleep(chance.uniform(every, 3 * every))


async def _move(channel: AsyncChannel, person: dict[str, str], seed: int) -> None:
    """A pointer that moves from place to place, and rests there. Places are shares of width and height."""
    # A generator of its own: the messages and their order do not depend on how often the pointer moved.
    chance = random.Random(f"{seed} {person['name']} moves")
    x, y = chance.random(), chance.random()
    with contextlib.suppress(RealtimeError):  # the connection was lost: so is the user, for a moment
        while True:
            to_x, to_y = chance.random(), chance.random()
            steps = chance.randint(5, 15)
            for step in range(1, steps + 1):
                place = (x + (to_x - x) * step / steps, y + (to_y - y) * step / steps)
                at = {"x": round(place[0], 4), "y": round(place[1], 4)}
                await channel.send("cursor", {"key": person["name"], **at})
                await asyncio.sleep(MOVE)
            x, y = to_x, to_y
            await asyncio.sleep(chance.uniform(1, 8))


async def _stay(person: dict[str, str], settings: dict[str, Any], chance: random.Random) -> None:
    while True:
        try:
            await _live(person, settings, chance)
        except RealtimeError:  # such as a server that is being restarted
            await asyncio.sleep(1)


async def _main() -> None:
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    settings = json.loads(await reader.readline())
    crowd = [
        asyncio.create_task(_stay(person, settings, random.Random(f"{settings['seed']} {person['name']}")))
        for person in settings["people"]
    ]
    await reader.read()  # until the process that started this closes the pipe, or ends
    for task in crowd:
        task.cancel()
    await asyncio.gather(*crowd, return_exceptions=True)


if __name__ == "__main__":
    asyncio.run(_main())
