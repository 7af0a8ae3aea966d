"""`Cursors`: a board on which everybody sees everybody's pointer."""

from __future__ import annotations

import html
import secrets
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import pandas as pd
import traitlets

from ..client.notebook import Channel
from ..client.thread import io_loop
from ..protocol.errors import RealtimeError
from .base import STATIC, RtWidget, View, checked_text, paragraph, there, unregister_all
from .tick import tick

EVENT = "cursor"
"""The broadcast that carries a pointer: `{"key", "x", "y"}`, shares of width and height from 0 to 1."""
PAUSE = 1 / 30
"""Seconds between two positions sent: more often no eye sees, and a channel has its limits."""
MOST = 200
"""Pointers that a page shows."""


class Cursors(RtWidget):
    """Everybody's pointer on one board. It joins the channel by itself, and is present on it.

    Positions go by broadcast, since a lost one does not matter: the next comes soon. Who is here is presence.

    Args:
        channel: a `Channel`, or a topic.
        key: the name under which this client is here; default the channel's presence key, else one made up.

    Raises RealtimeError where this channel is already present under another key.
    """

    _esm = STATIC / "cursors.js"
    _css = STATIC / "cursors.css"

    count = traitlets.Int(0, read_only=True).tag(sync=True)
    """People on the channel, this one among them."""
    revision = traitlets.Int(0, read_only=True).tag(sync=True)
    """Grows as pointers move, come and go: observe this."""
    status = traitlets.Unicode("closed", read_only=True).tag(sync=True)
    """The channel's: `"closed"`, `"joining"`, `"joined"`, `"leaving"` or `"errored"`."""
    error = traitlets.Unicode("", read_only=True).tag(sync=True)
    """What is wrong and what to do, in one paragraph; empty while nothing is."""

    def __init__(self, channel: Channel | str, key: str | None = None) -> None:
        if key is not None:
            checked_text(key, "key, the name under which one is here,")
        self.channel = channel if isinstance(channel, Channel) else Channel(channel)
        self.key = key or self.channel.aio.presence_key or f"guest-{secrets.token_hex(2)}"
        self._places: dict[str, tuple[float, float, datetime]] = {}
        self._people: dict[str, str] = {}
        self._changes = 0
        self._sent_at = 0.0
        self._sending = False
        self._problem: RealtimeError | None = None
        self._registered: list[Callable[[], Any]] = []
        super().__init__()
        there(self._begin)

    def _begin(self) -> None:
        aio = self.channel.aio
        aio.set_presence_key(self.key)
        self._registered += [
            aio.on_broadcast(EVENT, self._heard_pointer),
            aio.on_presence(lambda change: self._here(change.state)),
            aio.on_status(self._now_is),
            aio.hold(),
        ]
        self._here(aio.presence_state)
        if aio.tracked is None:  # else a Presence widget says who we are
            io_loop().create_task(self._track())

    async def _track(self) -> None:
        try:
            await self.channel.aio.track({"name": self.key})
        except RealtimeError as error:
            self._problem = error
            tick.mark(self)

    def __repr__(self) -> str:
        return f"<Cursors {self.channel.topic!r}: {len(self._people)} here, {self.channel.aio.status}>"

    # --- what it holds

    @property
    def df(self) -> pd.DataFrame:
        """One row a pointer that has been seen: `key`, `name`, `x`, `y` (0 to 1), `at` (UTC)."""
        rows = [(key, self._people.get(key, key), *place) for key, place in list(self._places.items())]
        frame = pd.DataFrame(rows, columns=["key", "name", "x", "y", "at"])
        return frame.astype({"x": "float64", "y": "float64", "at": "datetime64[us, UTC]"})

    @property
    def position(self) -> tuple[float, float] | None:
        """Where one's own pointer is, as shares of width and height; None before it was anywhere."""
        place = self._places.get(self.key)
        return None if place is None else place[:2]

    def move(self, x: float, y: float) -> None:
        """Puts one's own pointer there: shares of width and height. Raises ValueError outside of 0 to 1."""
        if not all(isinstance(one, int | float) and 0 <= one <= 1 for one in (x, y)):
            raise ValueError(f"x and y are shares of width and height, from 0 to 1, not {x!r} and {y!r}")
        there(self._moved, float(x), float(y))

    # --- on the I/O thread

    def _now_is(self, status: str, error: RealtimeError | None) -> None:
        tick.mark(self)
        if status == "joined":
            self._tell_pointer()  # it may have been put somewhere before

    def _moved(self, x: float, y: float) -> None:
        self._put(self.key, x, y)
        self._tell_pointer()

    def _tell_pointer(self) -> None:
        if not self._sending and self.key in self._places:
            self._sending = True
            loop = io_loop()
            loop.call_at(max(loop.time(), self._sent_at + PAUSE), self._send_pointer)

    def _send_pointer(self) -> None:
        self._sending = False
        place = self._places.get(self.key)
        if place is None or self._closed or self.channel.aio.status != "joined":
            return  # it is sent when the channel is joined
        self._sent_at = io_loop().time()
        io_loop().create_task(self._say({"key": self.key, "x": round(place[0], 4), "y": round(place[1], 4)}))

    async def _say(self, payload: dict[str, Any]) -> None:
        try:
            await self.channel.aio.send(EVENT, payload)
            self._problem = None
        except RealtimeError as error:
            self._problem = error
            tick.mark(self)

    def _heard_pointer(self, event: str, payload: Any, meta: Mapping[str, Any]) -> None:
        if not isinstance(payload, Mapping):
            return
        key, x, y = payload.get("key"), payload.get("x"), payload.get("y")
        numbers = isinstance(x, int | float) and isinstance(y, int | float) and 0 <= x <= 1 and 0 <= y <= 1
        if isinstance(key, str) and key != self.key and numbers and (key in self._places or len(self._places) < MOST):
            self._put(key, float(x), float(y))

    def _put(self, key: str, x: float, y: float) -> None:
        self._places[key] = (x, y, datetime.now(UTC))
        self._changes += 1
        tick.mark(self)

    def _here(self, state: Mapping[str, Any]) -> None:
        people = {}
        for key, metas in state.items():
            name = next((meta["name"] for meta in metas if isinstance(meta.get("name"), str)), key)
            people[key] = name
        were, are = ({*known, *known.values()} for known in (self._people, people))  # pointers go by key or by name
        for key in [key for key in self._places if key in were and key not in are and key != self.key]:
            del self._places[key]  # its owner has gone
        if people.keys() - self._people.keys():
            self._tell_pointer()  # who comes now has not heard where it rests
        self._people = people
        self._changes += 1
        tick.mark(self)

    def _tick(self, now: float) -> bool:
        aio = self.channel.aio
        moved = self._changes != self.revision
        with self.hold_sync():
            if not self._closed:
                self.set_trait("status", aio.status)
            self.set_trait("error", paragraph(aio.error or self._problem))
            self.set_trait("count", len(self._people))
            self.set_trait("revision", self._changes)
        if moved:
            self._announce_df()
        return super()._tick(now)

    def _frame(self, view: View) -> dict[str, Any] | None:
        aio, shown, frame = self.channel.aio, view.shown, dict[str, Any]()
        state = {
            "status": "closed" if self._closed else aio.status,
            "error": paragraph(aio.error or self._problem),
            "topic": self.channel.topic,
            "key": self.key,
            "count": len(self._people),
        }
        if state != shown.get("state"):
            shown["state"] = frame["state"] = state
        people = [[key, name] for key, name in list(self._people.items())[:MOST]]
        if people != shown.get("people"):
            shown["people"] = frame["people"] = people
        before = shown.get("places", {})
        places = {key: place[:2] for key, place in self._places.items()}
        moved = [[key, *place] for key, place in places.items() if before.get(key) != place]
        gone = [key for key in before if key not in places]
        if moved:
            frame["moved"] = moved
        if gone:
            frame["gone"] = gone
        shown["places"] = places
        return frame or None

    def _asked(self, view: View, kind: Any, content: dict[str, Any]) -> None:
        x, y = content.get("x"), content.get("y")
        if kind == "move" and isinstance(x, int | float) and isinstance(y, int | float) and 0 <= x <= 1 and 0 <= y <= 1:
            io_loop().call_soon_threadsafe(self._moved, float(x), float(y))

    def _release(self) -> None:
        there(unregister_all, self._registered)
        self.set_trait("status", "closed")

    def _html(self) -> str:
        names = "".join(f"<li>{html.escape(name)}</li>" for name in self._people.values())
        return f"<p><b>{html.escape(self.channel.topic)}</b>: {len(self._people)} here</p><ul>{names}</ul>"
