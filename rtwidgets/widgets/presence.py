"""`Presence`: who is on a channel, as a live count, a DataFrame and a list of people."""

from __future__ import annotations

import asyncio
import html
import json
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

import pandas as pd
import traitlets

from ..client.callbacks import Unregister
from ..client.channel import AsyncChannel
from ..client.dispatch import dispatch
from ..client.notebook import Channel, Client
from ..client.thread import run
from ..data.presence_table import PresenceTable
from ..protocol.presence import PresenceChange
from .base import STATIC
from .channel_widget import ChannelWidget
from .checks import check_callback, check_state, check_text
from .threads import call_on_io
from .tick import tick
from .views import View

PEOPLE_SHOWN = 200
TIMELINE = 50
STATE_MOST = 500
"""Characters of one state that a page shows."""

StatesCallback = Callable[[str, list[dict[str, Any]]], Any]


class Presence(ChannelWidget):
    """Who is on a channel. Joins the channel.

    Args:
        channel: a `Channel`, or a topic.
        key: the name under which this client is counted; two connections with the same key are one person. Without
            a key the server makes one.
        state: what others see of this client, from now on and again after each interruption. Default: `{}` where
            there is a key, else nothing: the widget only watches.
        client: the client of a topic; default the last `rt.connect()` or `rt.local()`.

    Raises TypeError or ValueError for an argument of the wrong type or value, RealtimeError where this channel is
    already tracked under another key.
    """

    _esm = STATIC / "presence.js"
    _css = STATIC / "presence.css"

    count = traitlets.Int(0, read_only=True, help="People: distinct keys.").tag(sync=True)
    connections = traitlets.Int(0, read_only=True, help="Connections: one person may have several.").tag(sync=True)
    revision = traitlets.Int(0, read_only=True, help="Grows with each change of presence: observe this.").tag(sync=True)

    def __init__(
        self,
        channel: Channel | str,
        key: str | None = None,
        state: Mapping[str, Any] | None = None,
        *,
        client: Client | None = None,
    ) -> None:
        self.key = None if key is None else check_text(key, "key, the name under which this client is counted,")
        self._first_state = None if state is None else check_state(state)
        self._tracked = key is not None or state is not None
        self.people = PresenceTable()
        self._timeline: deque[dict[str, Any]] = deque(maxlen=TIMELINE)
        super().__init__(channel, client)

    def _bind(self, aio: AsyncChannel) -> Iterable[Unregister]:
        people, state = self.people, self._first_state
        if self.key is not None:
            aio.set_presence_key(self.key)
        known = PresenceChange(aio.presence_state)
        if known.state:
            people.apply(known)
        # A key alone must not replace the state that another widget tracks on this channel.
        if state is not None or (self.key is not None and aio.tracked is None):
            self._start(aio.track(state or {}))
        return [
            people.on_join(lambda key, states: self._note("join", key)),
            people.on_leave(lambda key, states: self._note("leave", key)),
            people.on_update(lambda key, states: self._note("update", key)),
            aio.on_presence(self._apply),
        ]

    def __repr__(self) -> str:
        return f"<Presence {self.channel.topic!r}: {self.people.count} here, {self._aio.status}>"

    # --- what it holds

    @property
    def df(self) -> pd.DataFrame:
        """One row a connection: `key`, then the fields of its state."""
        return self.people.df()

    @property
    def state(self) -> dict[str, list[dict[str, Any]]]:
        """Each key with the states of its connections."""
        return self.people.state

    # --- tracking and callbacks

    def track(self, state: Mapping[str, Any]) -> None:
        """Shows this state to the others from now on.

        Raises TypeError for anything but a dict, RealtimeError where the server refuses it.
        """
        run(self._aio.track(check_state(state)), 30)
        self._problem, self._tracked = None, True
        tick.mark(self)

    def untrack(self) -> None:
        """Removes this client's state; the widget goes on watching."""
        run(self._aio.untrack(), 30)
        self._tracked = False

    def wait_live(self, timeout: float = 10.0) -> Presence:
        """Waits until `count` is right: the channel is joined, the server has sent who is on it, and this client is
        among them where it is tracked under a key. Returns the widget.

        Raises RealtimeError where it cannot be joined, or was not within `timeout` seconds; TimeoutError.
        """
        run(self._live(timeout), timeout + 5)
        call_on_io(self._refresh)
        return self

    async def _live(self, timeout: float) -> None:
        aio, changed = self._aio, asyncio.Event()
        unregister = aio.on_presence(lambda change: changed.set())
        try:
            async with asyncio.timeout(timeout):
                await aio.wait_joined(timeout)
                while not aio.presence_synced or (self._tracked and self.key and self.key not in aio.presence_state):
                    if self._problem is not None:
                        raise self._problem
                    changed.clear()
                    await changed.wait()
        finally:
            unregister()

    def on_join(self, fn: StatesCallback) -> Unregister:
        """Calls `fn(key, states)` when connections join, on the kernel's main thread, between cells.

        Returns a function that unregisters.
        """
        return self._on(self.people.on_join, fn)

    def on_leave(self, fn: StatesCallback) -> Unregister:
        """Calls `fn(key, states)` when connections leave. Returns a function that unregisters."""
        return self._on(self.people.on_leave, fn)

    def on_update(self, fn: StatesCallback) -> Unregister:
        """Calls `fn(key, states)` when a connection changes its state. Returns a function that unregisters."""
        return self._on(self.people.on_update, fn)

    def _on(self, register: Callable[[StatesCallback], Unregister], fn: StatesCallback) -> Unregister:
        check_callback(fn)
        fn = self._callback(fn)
        unregister = register(lambda key, states: dispatch(fn, key, states))
        self._registered.append(unregister)
        return unregister

    # --- on the I/O thread

    def _apply(self, change: PresenceChange) -> None:
        self.people.apply(change)
        tick.mark(self)

    def _note(self, what: str, key: str) -> None:
        self._timeline.append({"at": round(datetime.now(UTC).timestamp() * 1000), "what": what, "key": key})

    def _traits_now(self) -> dict[str, Any]:
        people = self.people
        figures = {"count": people.count, "connections": people.connections, "revision": people.revision}
        return {**super()._traits_now(), **figures}

    def _state(self) -> dict[str, Any]:
        return {"key": self.key, "count": self.people.count, "connections": self.people.connections}

    def _fill(self, view: View, frame: dict[str, Any]) -> None:
        if view.differs("revision", self.people.revision):
            frame["people"] = [
                [key, [_text(state) for state in states[:5]], len(states)]
                for key, states in list(self.people.state.items())[:PEOPLE_SHOWN]
            ]
            frame["timeline"] = list(self._timeline)

    def _html(self) -> str:
        people = "".join(f"<li>{html.escape(key)}</li>" for key in list(self.people.state)[:PEOPLE_SHOWN])
        return f"<p><b>{html.escape(self.channel.topic)}</b>: {self.people.count} here</p><ul>{people}</ul>"


def _text(state: Mapping[str, Any]) -> str:
    text = ", ".join(
        f"{name}: {value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)}"
        for name, value in state.items()
    )
    return text[:STATE_MOST]
