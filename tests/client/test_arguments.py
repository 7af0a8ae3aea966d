"""Arguments of the wrong type are refused where they are given, and what cannot be sent is refused by its place."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import re
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pytest

from rtwidgets.client.channel import AsyncChannel
from rtwidgets.client.client import AsyncClient
from rtwidgets.client.notebook import Client
from rtwidgets.protocol.codec import FrameError, dumps
from rtwidgets.protocol.errors import RealtimeError
from rtwidgets.protocol.payloads import to_json

from ..waits import until
from .fake import FakeServer
from .test_client import client_of, server

__all__ = ["server"]


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda client: client.channel("t", private="yes"), "private= takes True or False, not 'yes'"),
        (lambda client: client.channel("t", private=1), "private= takes True or False, not 1"),
        (lambda client: client.channel("t", ack=None), "ack= takes True or False, not None"),
        (lambda client: client.channel("t", broadcast_self="False"), "broadcast_self= takes True or False"),
        (lambda client: client.channel("t", presence_key=5), "presence_key= takes text, not 5"),
        (lambda client: client.channel("t", replay=5), "replay= takes a dict"),
        (lambda client: client.channel(b"t"), "a topic is text, such as 'support-chat', not bytes"),
        (lambda client: client.channel("t").set_presence_key(5), "key= takes text, not 5"),
        (lambda client: client.channel("t").on_broadcast(None, print), "event= takes text, not None"),
        (lambda client: client.channel("t").on_broadcast("m", 5), "a callback is a function, not int"),
        (lambda client: client.channel("t").on_presence("x"), "a callback is a function, not str"),
        (lambda client: client.channel("t").on_postgres_changes(print, 5), "event= takes text, not 5"),
        (lambda client: client.channel("t").on_postgres_changes(print, table=5), "table= takes text, not 5"),
        (lambda client: client.channel("t").on_postgres_changes(print, schema=None), "schema= takes text, not None"),
        (lambda client: client.channel("t").on_postgres_changes(print, filter=5), "filter= takes text such as"),
        (lambda client: client.move(5), "url= takes text, not 5"),
        (lambda client: client.on_status(5), "a callback is a function, not int"),
        (lambda client: client.on_frame(None), "a callback is a function, not NoneType"),
        (lambda client: AsyncClient("http://x", 5), "key= takes text, not 5"),
        (lambda client: AsyncClient("http://x", "key", token=5), "token= takes a JWT as text, or a function"),
        (lambda client: AsyncClient(5, "key"), "url= takes text, not 5"),
    ],
)
def test_an_argument_of_another_type_is_refused_where_it_is_given(call: Callable[[Any], Any], words: str) -> None:
    """`private="yes"` joined the public channel, and what was meant to be private went there."""
    with pytest.raises(TypeError, match=re.escape(words)):
        call(AsyncClient("http://127.0.0.1:9", "key"))


@pytest.mark.parametrize(
    "call",
    [
        lambda client, channel: channel.send(None, {}),
        lambda client, channel: channel.send(5, {}),
        lambda client, channel: client.broadcast("t", None, {}),
        lambda client, channel: client.broadcast("t", "m", {}, private="yes"),
        lambda client, channel: client.set_token(5),
    ],
)
async def test_the_same_of_calls_that_send(server: FakeServer, call: Callable[[Any, Any], Any]) -> None:
    """An event that is not text was sent, and arrived nowhere."""
    async with client_of(server) as client:
        channel = client.channel("t")
        await channel.subscribe()
        with pytest.raises(TypeError, match="takes"):
            await call(client, channel)


def test_the_notebook_client_refuses_alike() -> None:
    client = Client("http://127.0.0.1:9", "key")
    with pytest.raises(TypeError, match="private= takes True or False"):
        client.channel("t", private="yes")
    with pytest.raises(TypeError, match="token= takes text"):
        client.set_token(5)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="vsn= takes"):
        Client("http://127.0.0.1:9", "key", vsn="3.0.0")
    client.close()


# --- payloads ---


@pytest.mark.parametrize(
    ("value", "place"),
    [
        (float("nan"), "payload is nan"),
        ({"a": {"b": [1, float("inf")]}}, "payload['a']['b'][1] is inf"),
        ({"mean": np.float64("nan")}, "payload['mean'] is nan"),
        ({"x": np.array([1.0, -np.inf])}, "payload['x'][1] is -inf"),
        ({"at": pd.NaT}, "payload['at'] is NaT"),
        ({"n": pd.NA}, "payload['n'] is <NA>"),
        ({"raw": b"x"}, "payload['raw'] is bytes"),
        ({"f": object()}, "payload['f'] is a object"),
        ({None: 1}, "payload has the key None"),
        ({"l": np.longdouble(1) / 3}, "payload['l'] is a longdouble"),
    ],
)
def test_what_cannot_be_sent_is_refused_by_its_place(value: Any, place: str) -> None:
    with pytest.raises(FrameError, match=re.escape(place)):
        to_json(value, "payload")


@pytest.mark.parametrize(
    ("value", "sent"),
    [
        (np.float64(0.1), "0.1"),
        (np.float32(0.1), repr(float(np.float32(0.1)))),
        (np.int64(2**62), str(2**62)),
        (np.uint64(2**64 - 1), str(2**64 - 1)),
        (np.bool_(True), "true"),
        (np.str_("é"), '"é"'),
        (np.array([[1, 2], [3, 4]]), "[[1,2],[3,4]]"),
        (np.array([]), "[]"),
        (np.datetime64("2026-01-02T03:04:05"), '"2026-01-02T03:04:05"'),
        ({np.int64(1): 2}, '{"1":2}'),
        (Decimal("0.10"), "0.10"),
        (dt.date(2026, 1, 2), '"2026-01-02"'),
        (pd.Timestamp("2026-01-02"), '"2026-01-02T00:00:00"'),
        ((1, [2, {"a": None}]), '[1,[2,{"a":null}]]'),
    ],
)
def test_numbers_of_numpy_are_sent_exactly(value: Any, sent: str) -> None:
    """A frame's mean could not be sent: numpy's types were refused, and the key was not named."""
    assert dumps(to_json(value, "payload")).decode() == sent


async def test_what_was_sent_is_not_changed_by_its_sender_later(server: FakeServer) -> None:
    server.join_after = 0.05
    async with client_of(server) as client:
        channel = client.channel("t", presence_key="ana")
        channel.start()
        payload = {"text": "a", "list": [1]}
        sending = asyncio.ensure_future(channel.send("m", payload))
        await asyncio.sleep(0)
        payload["text"] = "X"
        payload["list"].append(2)  # type: ignore[union-attr]
        await sending
        await until(lambda: any(m.event == "broadcast" for m in server.received))
        (sent,) = [m.payload["payload"] for m in server.received if m.event == "broadcast"]
        assert sent == {"text": "a", "list": [1]}


@pytest.mark.parametrize("payload", [{"d": "x" * 5_000_000}, {"d": "é" * 2_500_000}, b"x" * 5_000_000])
async def test_a_message_that_would_end_the_connection_is_not_sent(server: FakeServer, payload: Any) -> None:
    """The server answers a frame over 5,000,000 bytes by closing the connection that all channels share."""
    async with client_of(server) as client:
        channel: AsyncChannel = client.channel("t")
        await channel.subscribe()
        with pytest.raises(RealtimeError, match="5,000,0") as caught:
            await channel.send("m", payload)
        assert (caught.value.code, caught.value.retryable) == ("PayloadTooLarge", False)
        await channel.send("m", {"d": "x" * 3_000_000})
        assert client.reconnects == 0
        assert json.dumps(channel.status) == '"joined"'
