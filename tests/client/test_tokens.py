"""Tokens: from a string, a function or an async one; asked for once, in time, and told to every channel."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import pytest

from rtwidgets.client import tokens
from rtwidgets.client.tokens import TokenHolder
from rtwidgets.protocol.backoff import Backoff
from rtwidgets.protocol.errors import RealtimeError

from ..waits import until
from .fake import FakeServer
from .test_client import client_of, jwt, server

__all__ = ["server"]


def pushed(server: FakeServer) -> list[tuple[str, str]]:
    return [(m.topic, m.payload["access_token"]) for m in server.received if m.event == "access_token"]


def in_turn(*given: str) -> Any:
    """A function that returns one after the other, and the last for ever."""
    left = list(given)
    return lambda: left.pop(0) if len(left) > 1 else left[0]


@pytest.mark.parametrize("kind", ["string", "function", "async function", "function that returns a coroutine"])
async def test_every_form_of_a_token(server: FakeServer, kind: str) -> None:
    token = jwt(1000)

    async def later() -> str:
        await asyncio.sleep(0)
        return token + "\n"  # as read from a file

    source: Any = {"string": token + "\n", "function": lambda: token, "async function": later}.get(
        kind, lambda: later()
    )
    async with client_of(server, token=source) as client:
        await client.channel("t").subscribe()
        assert server.joins("t")[0].payload["access_token"] == token


@pytest.mark.slow
async def test_a_new_token_goes_to_every_joined_channel(server: FakeServer) -> None:
    """A token expired, the channel was closed, and nobody joined it again."""
    first, second = jwt(2), jwt(1000)
    async with client_of(server, token=in_turn(first, second)) as client:
        for topic in ("a", "b", "c"):
            await client.channel(topic).subscribe()
        await until(lambda: len(pushed(server)) == 3)
        assert sorted(pushed(server)) == [(f"realtime:{topic}", second) for topic in ("a", "b", "c")]


async def test_a_token_that_one_channel_asked_for_is_told_to_the_others(server: FakeServer) -> None:
    """A token expired, the channel was closed, and nobody joined it again."""
    first, second = jwt(1000), jwt(2000)
    async with client_of(server, token=in_turn(first, second)) as client:
        await client.channel("a").subscribe()
        await client.channel("b").subscribe()
        await server.close_channel("a", "Token has expired 0 seconds ago")
        await until(lambda: pushed(server))
        assert pushed(server) == [("realtime:b", second)]
        assert server.joins("a")[-1].payload["access_token"] == second


async def test_a_token_that_comes_while_a_join_is_under_way_is_told_after_it(server: FakeServer) -> None:
    """Rejoins used the old token for ever."""
    first, second = jwt(1000), jwt(2000)
    server.join_after = 0.1
    async with client_of(server, token=first) as client:
        channel = client.channel("t")
        joining = asyncio.ensure_future(channel.subscribe())
        await until(lambda: server.joins("t"))
        await client.set_token(second)
        await joining
        await until(lambda: pushed(server))
        assert server.joins("t")[0].payload["access_token"] == first
        assert pushed(server) == [("realtime:t", second)]


@pytest.mark.slow
async def test_a_session_that_begins_later_is_renewed_like_any(server: FakeServer) -> None:
    """As with a `supabase` client: nobody is signed in at first."""
    lifetimes, given = [3.0, 1000.0], list[str | None]()

    def source() -> str | None:
        given.append(jwt(lifetimes.pop(0)) if given and lifetimes else None if not given else given[-1])
        return given[-1]

    async with client_of(server, token=source) as client:
        await until(lambda: given == [None])  # asked at connect: nobody
        await client.channel("t").subscribe()
        await until(lambda: pushed(server))
        assert pushed(server) == [("realtime:t", given[2])]


@pytest.mark.slow
@pytest.mark.parametrize("left", [3.0, -50.0])
async def test_a_function_that_never_has_a_new_token_is_not_asked_in_a_storm(server: FakeServer, left: float) -> None:
    asked = 0
    token = jwt(left)

    def same() -> str:
        nonlocal asked
        asked += 1
        return token

    async with client_of(server, token=same) as client:
        await client.channel("t").subscribe()
        await asyncio.sleep(1.5)
        assert asked <= 3
        assert not pushed(server), "the same token says nothing new"


async def test_the_servers_clock_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    token = jwt(1000)
    holder = TokenHolder(lambda: token)
    await holder.get()
    assert 935 < (holder.renew_in() or 0) < 945
    holder.clock_ahead = 900.0  # our clock is 15 minutes late: the token is nearly over
    assert (holder.renew_in() or 0) < 85
    holder.clock_ahead = -3600.0  # ours is an hour early: nothing to do for long
    assert (holder.renew_in() or 0) > 4000


async def test_it_is_asked_once_for_all_who_need_it_and_whoever_stops_waiting() -> None:
    asked, answer = 0, asyncio.Event()

    async def source() -> str:
        nonlocal asked
        asked += 1
        await answer.wait()
        return "token"

    holder = TokenHolder(source)
    waiting = [asyncio.ensure_future(holder.get(fresh=fresh)) for fresh in (True, False, True)]
    await asyncio.sleep(0)
    waiting[0].cancel()
    answer.set()
    assert await asyncio.gather(*waiting[1:]) == ["token", "token"]
    assert asked == 1
    assert holder.current == "token"
    assert await holder.get(fresh=True) == "token"
    assert asked == 2


@pytest.mark.parametrize(
    ("source", "text"),
    [
        (lambda: 1 / 0, "ZeroDivisionError"),
        (lambda: next(iter(())), "StopIteration"),
        (lambda: {"access_token": "x"}, "it returned dict, not a token as text"),
        (lambda: time.sleep(1), "has not returned within 0.24 s"),
    ],
)
async def test_a_token_function_that_fails_is_named(server: FakeServer, source: Any, text: str) -> None:
    client = client_of(server, token=source, timeout=0.3)
    with pytest.raises(RealtimeError, match=text):
        await client.connect()
    assert client.error is not None
    assert (client.error.code, client.error.retryable) == ("TokenSourceFailed", True)
    assert "token=" in client.error.hint
    await client.close()


async def test_a_slow_token_function_is_called_once_and_waited_for(server: FakeServer) -> None:
    calls = 0

    def slow() -> str:
        nonlocal calls
        calls += 1
        time.sleep(0.5)
        return jwt(1000)

    client = client_of(server, token=slow, timeout=0.2)
    with pytest.raises(RealtimeError):
        await client.connect()
    await until(lambda: client.status == "connected")
    await client.channel("t").subscribe()
    assert calls == 1
    await client.close()


async def test_a_function_that_breaks_later_is_tried_again_less_and_less(server: FakeServer) -> None:
    given: list[Any] = [jwt(1000)]
    asked: list[float] = []

    def source() -> str:
        asked.append(time.monotonic())
        return given.pop()

    async with client_of(server, token=source) as client:
        channel = client.channel("t")
        channel._machine.backoff = Backoff(0.05, 0.1)
        await channel.subscribe()
        await server.close_channel("t", "Token has expired 0 seconds ago")
        await until(lambda: len(asked) >= 3)
        assert channel.error is not None
        assert channel.error.code == "TokenSourceFailed"
        given += [jwt(2000)] * 3
        await until(lambda: channel.status == "joined")


async def test_no_thread_is_left_of_a_token_function(server: FakeServer) -> None:
    before = set(threading.enumerate())
    names: list[str] = []

    def source() -> str:
        names.append(threading.current_thread().name)
        return jwt(1000)

    async with client_of(server, token=source) as client:
        await client.channel("t").subscribe()
    assert names
    assert threading.current_thread().name not in names
    await until(lambda: set(threading.enumerate()) <= before)


async def test_closing_does_not_wait_for_a_token_function_that_hangs(server: FakeServer) -> None:
    release = threading.Event()
    client = client_of(server, token=lambda: release.wait(20) and jwt(1000), timeout=0.2)
    with pytest.raises(RealtimeError, match="has not returned"):
        await client.connect()
    start = time.monotonic()
    await client.close()
    assert time.monotonic() - start < 10
    await asyncio.sleep(0)
    assert not [task for task in asyncio.all_tasks() if "rtwidgets/client" in repr(task)]
    release.set()
    await until(lambda: not any(thread.name == "rtwidgets-token" for thread in threading.enumerate()))


def test_claims_of_anything() -> None:
    for junk in ("", "a.b", "a.!!.c", "a.bnVsbA.c", "é.ü.ß", "sb_secret_x"):
        assert tokens.claims(junk) == {}


async def test_a_refused_token_stays_refused_on_the_next_socket(server: FakeServer) -> None:
    """Rejoins used the old token for ever."""
    first, second = jwt(1000), jwt(2000)
    given: list[Any] = [first, LookupError("for now"), LookupError("for now"), second]

    def source() -> str:
        found = given.pop(0) if len(given) > 1 else given[0]
        if isinstance(found, Exception):
            raise found
        return found

    async with client_of(server, token=source) as client:
        channel = client.channel("t")
        channel._machine.backoff = Backoff(0.05, 0.1)
        await channel.subscribe()
        await server.close_channel("t", "Token has expired 0 seconds ago")
        server.drop()
        await until(lambda: client.reconnects == 1 and channel.status == "joined")
        assert [join.payload["access_token"] for join in server.joins("t")] == [first, second]
