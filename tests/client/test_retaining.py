"""Who keeps a channel joined, and under which presence key: several widgets on one channel, each with its own end."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from rtwidgets.protocol.errors import RealtimeError
from rtwidgets.protocol.subscription import ChangesBinding

from ..waits import until
from .fake import FakeServer
from .test_client import Sink, client_of, server

__all__ = ["server"]


def keys(server: FakeServer) -> list[str]:
    return [join.payload["config"]["presence"]["key"] for join in server.joins()]


async def test_the_last_release_leaves_and_not_before(server: FakeServer) -> None:
    async with client_of(server) as client:
        channel = client.channel("t")
        one, two = channel.retain(), channel.retain()
        await until(lambda: channel.status == "joined")
        assert len(server.joins()) == 1
        one()
        one()  # twice is once
        await asyncio.sleep(0.05)
        assert channel.status == "joined"
        two()
        await until(lambda: channel.status == "closed")
        assert [m.event for m in server.received].count("phx_leave") == 1


async def test_a_person_who_subscribed_outlives_the_releases(server: FakeServer) -> None:
    async with client_of(server) as client:
        channel = client.channel("t")
        release = channel.retain()
        await channel.subscribe()
        release()
        await asyncio.sleep(0.05)
        assert channel.status == "joined"


async def test_unsubscribe_leaves_whoever_retains_the_channel_and_subscribe_restores(server: FakeServer) -> None:
    async with client_of(server) as client:
        channel, sink = client.channel("t"), Sink()
        channel.add_changes(ChangesBinding(table="t"), sink)
        release = channel.retain()
        await until(lambda: sink.ready == 1)
        await channel.unsubscribe()
        assert channel.status == "closed"
        await channel.subscribe()
        await until(lambda: sink.ready == 2)
        release()
        await asyncio.sleep(0.05)
        assert channel.status == "joined"


async def test_a_channel_retained_while_it_is_being_left_joins_again(server: FakeServer) -> None:
    """A cell that closes a widget and shows another: the answer to the leave must not end the new join."""
    async with client_of(server) as client:
        channel = client.channel("t")
        release = channel.retain()
        await until(lambda: channel.status == "joined")
        taken: list[Any] = []
        channel.on_status(lambda status, error: taken or status != "leaving" or taken.append(channel.retain()))
        release()
        await until(lambda: taken and channel.status == "joined")
        await asyncio.sleep(0.05)
        assert channel.status == "joined"
        assert len(server.joins()) == 2
        assert client.channels["t"] is channel
        taken[0]()
        await until(lambda: channel.status == "closed")


async def test_closing_the_client_that_is_retained(server: FakeServer) -> None:
    client = client_of(server)
    release = client.channel("t").retain()
    await until(lambda: client.channels["t"].status == "joined")
    await client.close()
    release()
    assert client.status == "closed"


async def test_a_presence_key_named_later_rejoins_once(server: FakeServer) -> None:
    async with client_of(server) as client:
        channel = client.channel("t")
        await channel.subscribe()
        channel.set_presence_key("ana")
        channel.set_presence_key("ana")
        await until(lambda: keys(server) == ["", "ana"] and channel.status == "joined")
        channel.set_presence_key("ana")
        await asyncio.sleep(0.05)
        assert keys(server) == ["", "ana"]
        # Whoever asks for the channel as it was made, or as it is now, gets this one.
        assert client.channel("t") is channel
        assert client.channel("t", presence_key="ana") is channel


async def test_a_presence_key_named_before_the_join(server: FakeServer) -> None:
    async with client_of(server) as client:
        channel = client.channel("t")
        channel.set_presence_key("ana")
        assert not server.joins()
        await channel.subscribe()
        assert keys(server) == ["ana"]


@pytest.mark.parametrize("given", ["option", "call"])
async def test_a_second_presence_key_is_refused_and_says_what_to_do(server: FakeServer, given: Any) -> None:
    async with client_of(server) as client:
        channel = client.channel("t", presence_key="ana" if given == "option" else None)
        channel.set_presence_key("ana")
        with pytest.raises(RealtimeError) as caught:
            channel.set_presence_key("bob")
        assert caught.value.code == "ChannelOptionsDiffer"
        assert "'ana'" in caught.value.message
        assert "'bob'" in caught.value.message
        assert "another topic" in caught.value.hint
        assert channel.options.presence_key == "ana"
