"""`Cursors`: a board on which everyone sees everyone's pointer."""

from __future__ import annotations

import html
import secrets
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, cast

import pandas as pd
import traitlets

from ..client.callbacks import Unregister
from ..client.channel import AsyncChannel
from ..client.notebook import Channel, Client
from ..client.thread import io_loop
from ..protocol.errors import RealtimeError
from .base import STATIC
from .channel_widget import ChannelWidget
from .checks import channel_of, check_text
from .page_values import share
from .threads import call_on_io, post_to_io
from .tick import tick
from .views import View

EVENT = "cursor"
"""The broadcast with a pointer: `{"key", "x", "y"}`, shares of width and height from 0 to 1."""
PAUSE = 1 / 30
"""Seconds between two positions sent: the eye sees no more, and channels have rate limits."""
MOST = 200
"""Pointers that a page shows."""


class Cursors(ChannelWidget):
    """Everyone's pointer on one board. Joins the channel and tracks this client on it.

    Positions are broadcasts, since a lost one does not matter: the next comes soon. Who is there is presence.

    Args:
        channel: a `Channel`, or a topic.
        key: the name under which this client is shown; default the channel's presence key, else a random one.
        client: the client of a topic; default the last `rt.connect()` or `rt.local()`.

    Raises TypeError or ValueError for an argument of the wrong type or value, RealtimeError where this channel is
    already tracked under another key.
    """

    _esm = STATIC / "cursors.js"
    _css = STATIC / "cursors.css"

    count = traitlets.Int(0, read_only=True, help="People on the channel, this client included.").tag(sync=True)
    revision = traitlets.Int(0, read_only=True, help="Grows as pointers move, come and go: observe this.").tag(
        sync=True
    )

    def __init__(self, channel: Channel | str, key: str | None = None, *, client: Client | None = None) -> None:
        if key is not None:
            check_text(key, "key, the name under which this client is shown,")
        channel = channel_of(channel, client)
        self.key = key or channel.aio.presence_key or f"guest-{secrets.token_hex(2)}"
        self._places: dict[str, tuple[float, float, datetime]] = {}
        self._people: dict[str, str] = {}
        self._changes = 0
        self._sent_at = 0.0
        self._sending = False
        super().__init__(channel)

    def _bind(self, aio: AsyncChannel) -> Iterable[Unregister]:
        aio.set_presence_key(self.key)
        self._apply(aio.presence_state)
        if aio.tracked is None:  # else a Presence widget has set the state
            self._start(aio.track({"name": self.key}))
        return [
            aio.on_broadcast(EVENT, self._receive_pointer),
            aio.on_presence(lambda change: self._apply(change.state)),
        ]

    def __repr__(self) -> str:
        return f"<Cursors {self.channel.topic!r}: {len(self._people)} here, {self._aio.status}>"

    # --- what it holds

    @property
    def df(self) -> pd.DataFrame:
        """One row a pointer that was seen: `key`, `name`, `x`, `y` (0 to 1), `at` (UTC)."""
        rows = [(key, self._people.get(key, key), *place) for key, place in list(self._places.items())]
        frame = pd.DataFrame(rows, columns=["key", "name", "x", "y", "at"])
        return frame.astype({"x": "float64", "y": "float64", "at": "datetime64[us, UTC]"})

    @property
    def position(self) -> tuple[float, float] | None:
        """This client's pointer, as shares of width and height; None before it was anywhere."""
        place = self._places.get(self.key)
        return None if place is None else place[:2]

    def move(self, x: float, y: float) -> None:
        """Puts this client's pointer there: shares of width and height. Raises ValueError outside of 0 to 1."""
        at = share(x), share(y)
        if at[0] is None or at[1] is None:
            raise ValueError(f"x and y must be shares of width and height, from 0 to 1, not {x!r} and {y!r}")
        call_on_io(self._move, at[0], at[1])

    # --- on the I/O thread

    def _on_status(self, status: str, error: RealtimeError | None) -> None:
        if status == "joined":
            self._schedule_send()  # the pointer may have moved before

    def _move(self, x: float, y: float) -> None:
        self._put(self.key, x, y)
        self._schedule_send()

    def _schedule_send(self) -> None:
        if not self._sending and self.key in self._places:
            self._sending = True
            loop = io_loop()
            loop.call_at(max(loop.time(), self._sent_at + PAUSE), self._send_pointer)

    def _send_pointer(self) -> None:
        self._sending = False
        place = self._places.get(self.key)
        if place is None or self._closed or self._aio.status != "joined":
            return  # it is sent when the channel is joined
        self._sent_at = io_loop().time()
        pointer = {"key": self.key, "x": round(place[0], 4), "y": round(place[1], 4)}
        self._start(self._aio.send(EVENT, pointer))

    def _receive_pointer(self, payload: Any) -> None:
        if not isinstance(payload, Mapping):
            return
        pointer = cast("Mapping[str, Any]", payload)
        key, x, y = pointer.get("key"), share(pointer.get("x")), share(pointer.get("y"))
        if not isinstance(key, str) or key == self.key or x is None or y is None:
            return
        if key in self._places or len(self._places) < MOST:
            self._put(key, x, y)

    def _put(self, key: str, x: float, y: float) -> None:
        self._places[key] = (x, y, datetime.now(UTC))
        self._changes += 1
        tick.mark(self)

    def _apply(self, state: Mapping[str, Any]) -> None:
        people: dict[str, str] = {}
        for key, metas in state.items():
            people[key] = next((meta["name"] for meta in metas if isinstance(meta.get("name"), str)), key)
        # A pointer's key is its owner's presence key, or the name in that state.
        before, now = ({*known, *known.values()} for known in (self._people, people))
        for key in [key for key in self._places if key in before and key not in now and key != self.key]:
            del self._places[key]
        if people.keys() - self._people.keys():
            self._schedule_send()  # who has just come does not know where the pointer rests
        self._people = people
        self._changes += 1
        tick.mark(self)

    def _traits_now(self) -> dict[str, Any]:
        return {**super()._traits_now(), "count": len(self._people), "revision": self._changes}

    def _state(self) -> dict[str, Any]:
        return {"key": self.key, "count": len(self._people)}

    def _fill(self, view: View, frame: dict[str, Any]) -> None:
        people = [[key, name] for key, name in list(self._people.items())[:MOST]]
        if view.differs("people", people):
            frame["people"] = people
        before: dict[str, tuple[float, float]] = view.shown.get("places", {})
        places = {key: place[:2] for key, place in self._places.items()}
        moved = [[key, *place] for key, place in places.items() if before.get(key) != place]
        gone = [key for key in before if key not in places]
        if moved:
            frame["moved"] = moved
        if gone:
            frame["gone"] = gone
        view.shown["places"] = places

    def _on_message(self, view: View, kind: str, content: Mapping[str, Any]) -> None:
        x, y = share(content.get("x")), share(content.get("y"))
        if kind == "move" and x is not None and y is not None:
            post_to_io(self._move, x, y)

    def _html(self) -> str:
        names = "".join(f"<li>{html.escape(name)}</li>" for name in self._people.values())
        return f"<p><b>{html.escape(self.channel.topic)}</b>: {len(self._people)} here</p><ul>{names}</ul>"
