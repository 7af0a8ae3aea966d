"""The public names and signatures: others' notebooks rely on them, so they grow and do not change."""

from __future__ import annotations

import asyncio
import inspect
from typing import Any

import pytest
from traitlets import HasTraits

import rtwidgets as rt
from rtwidgets.protocol.errors import RealtimeError


def head(fn: Any) -> str:
    """The signature without annotations, and without what was added by keyword."""
    parameters = inspect.signature(fn).parameters.values()
    return ", ".join(str(p.replace(annotation=inspect.Parameter.empty)).replace(" ", "") for p in parameters)


@pytest.mark.parametrize(
    ("fn", "begins"),
    [
        (rt.connect, "url=None, key=None, token=None"),
        (rt.close_all, ""),
        (rt.Channel, "topic, private=False, ack=False, broadcast_self=False, presence_key=None, client=None"),
        (rt.Channel.subscribe, "self, timeout=10"),
        (rt.Channel.unsubscribe, "self"),
        (rt.Channel.send, "self, event, payload"),
        (rt.Channel.track, "self, state"),
        (rt.Channel.untrack, "self"),
        (rt.Channel.on_broadcast, "self, event, fn"),
        (rt.Channel.on_presence, "self, fn"),
        (
            rt.Channel.on_postgres_changes,
            "self, fn, event='*', schema='public', table=None, filter=None",
        ),
        (rt.Client.channel, "self, topic, private=False, ack=False, broadcast_self=False, presence_key=None"),
        (rt.Client.close, "self"),
        (rt.AsyncClient, "url, key"),
        (rt.AsyncChannel.subscribe, "self, timeout=10"),
        (rt.AsyncChannel.send, "self, event, payload"),
        (rt.AsyncChannel.broadcasts, "self, event='*'"),
    ],
)
def test_signatures(fn: Any, begins: str) -> None:
    assert head(fn).startswith(begins)


@pytest.mark.parametrize("name", ["token"])
def test_by_keyword_only(name: str) -> None:
    for fn in (rt.connect, rt.AsyncClient):
        assert inspect.signature(fn).parameters[name].kind is inspect.Parameter.KEYWORD_ONLY


def test_kinds() -> None:
    assert issubclass(rt.Client, HasTraits)
    assert issubclass(rt.Channel, HasTraits)
    assert set(rt.Channel.class_traits()) >= {"status", "error"}
    assert rt.Channel.class_traits()["status"].values == ("closed", "joining", "joined", "leaving", "errored")
    assert "status" in rt.Client.class_traits()
    for name in ("connect", "close", "broadcast", "set_token"):
        assert asyncio.iscoroutinefunction(getattr(rt.AsyncClient, name))
    for name in ("subscribe", "unsubscribe", "send", "track", "untrack"):
        assert asyncio.iscoroutinefunction(getattr(rt.AsyncChannel, name))
    error = RealtimeError("text", code="Unauthorized", retryable=True, hint="do this")
    assert rt.RealtimeError is RealtimeError
    assert (error.code, error.message, error.retryable, error.hint) == ("Unauthorized", "text", True, "do this")
    assert str(error) == "Unauthorized: text (do this)"
