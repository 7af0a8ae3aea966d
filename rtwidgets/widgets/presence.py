"""`Presence`: who is on a channel, as a live count, a DataFrame and a list of people."""

from __future__ import annotations

import asyncio
import html
import json
from collections import deque
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import pandas as pd
import traitlets

from ..client.dispatch import dispatch
from ..client.notebook import Channel
from ..client.thread import io_loop, run
from ..data.presence_table import PresenceTable
from ..protocol.errors import RealtimeError
from ..protocol.presence import PresenceChange
from .base import STATIC, RtWidget, View, checked_state, checked_text, paragraph, there, unregister_all
from .tick import tick

PEOPLE_SHOWN = 200
TIMELINE = 50
STATE_MOST = 500
"""Characters of one state that a page shows."""


class Presence(RtWidget):
    """Who is here. It joins the channel by itself.

    Args:
        channel: a `Channel`, or a topic.
        key: the name under which this client is counted; the same name twice is one person with two connections.
            Default: one that the server makes.
        state: what the others see of this client, from now on and again after each interruption; None only watches.

    Raises RealtimeError where this channel is already present under another key.
    """

    _esm = STATIC / "presence.js"
    _css = STATIC / "presence.css"

    count = traitlets.Int(0, read_only=True).tag(sync=True)
    """People: distinct keys."""
    connections = traitlets.Int(0, read_only=True).tag(sync=True)
    """Connections: one person may be here twice."""
    revision = traitlets.Int(0, read_only=True).tag(sync=True)
    """Grows with each change of presence: observe this."""
    status = traitlets.Unicode("closed", read_only=True).tag(sync=True)
    """The channel's: `"closed"`, `"joining"`, `"joined"`, `"leaving"` or `"errored"`."""
    error = traitlets.Unicode("", read_only=True).tag(sync=True)
    """What is wrong and what to do, in one paragraph; empty while nothing is."""

    def __init__(self, channel: Channel | str, key: str | None = None, state: Mapping[str, Any] | None = None) -> None:
        self.key = None if key is None else checked_text(key, "key, the name under which one is here,")
        state = None if state is None else checked_state(state)
        self.channel = channel if isinstance(channel, Channel) else Channel(channel)
        self.roster = PresenceTable()
        self._problem: RealtimeError | None = None
        self._timeline: deque[dict[str, Any]] = deque(maxlen=TIMELINE)
        self._registered: list[Callable[[], Any]] = []
        super().__init__()
        self._shown = state is not None
        there(self._begin, state)

    def _begin(self, state: dict[str, Any] | None) -> None:
        aio = self.channel.aio
        if self.key is not None:
            aio.set_presence_key(self.key)
        known = PresenceChange(aio.presence_state)
        if known.state:
            self.roster.apply(known)
        for what, listen in (
            ("join", self.roster.on_join),
            ("leave", self.roster.on_leave),
            ("update", self.roster.on_update),
        ):
            self._registered.append(listen(lambda key, metas, what=what: self._note(what, key)))
        self._registered += [
            aio.on_presence(self._took),
            aio.on_status(lambda status, error: tick.mark(self)),
            aio.hold(),
        ]
        if state is not None:
            io_loop().create_task(self._track(state))
        tick.mark(self)

    async def _track(self, state: dict[str, Any]) -> None:
        try:
            await self.channel.aio.track(state)
        except RealtimeError as error:
            self._problem = error
            tick.mark(self)

    def __repr__(self) -> str:
        return f"<Presence {self.channel.topic!r}: {self.roster.count} here, {self.channel.aio.status}>"

    # --- what it holds

    @property
    def df(self) -> pd.DataFrame:
        """One row a connection: `key`, then the fields of its state."""
        return self.roster.df()

    @property
    def state(self) -> dict[str, list[dict[str, Any]]]:
        """Each key with the states of its connections."""
        return self.roster.state

    # --- what happens

    def track(self, state: Mapping[str, Any]) -> None:
        """Shows this state to the others from now on.

        Raises TypeError for what is no dict, RealtimeError where the server refuses it.
        """
        run(self.channel.aio.track(checked_state(state)), 30)
        self._problem, self._shown = None, True
        tick.mark(self)

    def untrack(self) -> None:
        """Takes this client's state away; it goes on watching."""
        run(self.channel.aio.untrack(), 30)
        self._shown = False

    def wait_live(self, timeout: float = 10.0) -> Presence:
        """Waits until `count` is true: the channel is joined, the server has said who is here, and the state given to
        the constructor is among them.

        Raises RealtimeError where it cannot be joined, or was not within `timeout` seconds; TimeoutError.
        """
        run(self._live(timeout), timeout + 5)
        there(self._refresh)
        return self

    async def _live(self, timeout: float) -> None:
        aio, come = self.channel.aio, asyncio.Event()
        unregister = aio.on_presence(lambda change: come.set())
        try:
            async with asyncio.timeout(timeout):
                await aio.wait_joined(timeout)
                while not aio.presence_synced or (self._shown and self.key and self.key not in aio.presence_state):
                    if self._problem is not None:
                        raise self._problem
                    come.clear()
                    await come.wait()
        finally:
            unregister()

    def on_join(self, fn: Callable[[str, list[dict[str, Any]]], Any]) -> Callable[[], None]:
        """Calls `fn(key, states)` when connections came, on the kernel's main thread.

        Returns a function that unregisters.
        """
        return self._on(self.roster.on_join, fn)

    def on_leave(self, fn: Callable[[str, list[dict[str, Any]]], Any]) -> Callable[[], None]:
        """Calls `fn(key, states)` when connections went."""
        return self._on(self.roster.on_leave, fn)

    def on_update(self, fn: Callable[[str, list[dict[str, Any]]], Any]) -> Callable[[], None]:
        """Calls `fn(key, states)` when a connection changed its state."""
        return self._on(self.roster.on_update, fn)

    def _on(self, listen: Callable[..., Callable[[], None]], fn: Callable[..., Any]) -> Callable[[], None]:
        unregister = listen(lambda key, metas: dispatch(fn, key, metas))
        self._registered.append(unregister)
        return unregister

    # --- on the I/O thread

    def _took(self, change: PresenceChange) -> None:
        self.roster.apply(change)
        tick.mark(self)

    def _note(self, what: str, key: str) -> None:
        self._timeline.append({"at": round(datetime.now(UTC).timestamp() * 1000), "what": what, "key": key})

    def _tick(self, now: float) -> bool:
        self._refresh()
        return super()._tick(now)

    def _refresh(self) -> None:
        aio = self.channel.aio
        changed = self.roster.revision != self.revision
        with self.hold_sync():
            if not self._closed:
                self.set_trait("status", aio.status)
            self.set_trait("error", paragraph(aio.error or self._problem))
            self.set_trait("count", self.roster.count)
            self.set_trait("connections", self.roster.connections)
            self.set_trait("revision", self.roster.revision)
        if changed:
            self._announce_df()

    def _frame(self, view: View) -> dict[str, Any] | None:
        aio, shown, frame = self.channel.aio, view.shown, dict[str, Any]()
        state = {
            "status": "closed" if self._closed else aio.status,
            "error": paragraph(aio.error or self._problem),
            "topic": self.channel.topic,
            "key": self.key,
            "count": self.roster.count,
            "connections": self.roster.connections,
        }
        if state != shown.get("state"):
            shown["state"] = frame["state"] = state
        if shown.get("revision") != self.roster.revision:
            shown["revision"] = self.roster.revision
            frame["people"] = [
                [key, [_text(meta) for meta in metas[:5]], len(metas)]
                for key, metas in list(self.roster.state.items())[:PEOPLE_SHOWN]
            ]
            frame["timeline"] = list(self._timeline)
        return frame or None

    def _release(self) -> None:
        there(unregister_all, self._registered)
        self.set_trait("status", "closed")

    def _html(self) -> str:
        people = "".join(f"<li>{html.escape(key)}</li>" for key in list(self.roster.state)[:PEOPLE_SHOWN])
        return f"<p><b>{html.escape(self.channel.topic)}</b>: {self.roster.count} here</p><ul>{people}</ul>"


def _text(meta: Mapping[str, Any]) -> str:
    text = ", ".join(
        f"{name}: {value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)}"
        for name, value in meta.items()
    )
    return text[:STATE_MOST]
