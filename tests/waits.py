"""How a test waits for what must happen: for a condition, a message or an answer, and as long as a slow machine needs.

A test that passes waits no longer than it must, whatever the limit. Limits of their own are for tests of time-outs.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

T = TypeVar("T")

PATIENCE = 30.0
"""Seconds until a wait fails its test."""


async def until(condition: Callable[[], object], timeout: float = PATIENCE) -> None:
    """Waits until `condition()` is true, on the loop. Raises AssertionError after `timeout` seconds."""
    end = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < end, f"not true within {timeout:g} s"
        await asyncio.sleep(0.005)


def wait_until(condition: Callable[[], object], timeout: float = PATIENCE) -> None:
    """As `until`, blocking."""
    end = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < end, f"not true within {timeout:g} s"
        time.sleep(0.01)


async def within(awaitable: Awaitable[T], timeout: float = PATIENCE) -> T:
    """What it returns. Raises TimeoutError after `timeout` seconds."""
    return await asyncio.wait_for(awaitable, timeout)


async def received(ws: Any) -> Any:
    """The next frame of a WebSocket, as JSON."""
    return json.loads(await within(ws.recv()))
