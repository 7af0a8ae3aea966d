"""`ConnectionStatus`: how a connection is doing, in one line that opens to the details."""

from __future__ import annotations

import asyncio
import html
import time
from collections.abc import Callable
from typing import Any

import pandas as pd
import traitlets

from ..client.connect import default_client
from ..client.notebook import Channel, Client
from ..client.thread import io_loop
from ..protocol.errors import RealtimeError, redact
from .base import STATIC, RtWidget, View, paragraph, there, unregister_all
from .tick import tick

LOOK_EVERY = 1.0
"""Seconds between two looks at the figures that change with every frame."""
CHANNELS_SHOWN = 100


class ConnectionStatus(RtWidget):
    """Whether the connection is well: its state, the round trip, how long nothing was heard, reconnects, channels, and
    the last error with what to do about it.

    Args:
        client: the client; default the last `rt.connect()` or `rt.local()`. A channel stands for its client.
    """

    _esm = STATIC / "connection.js"
    _css = STATIC / "connection.css"

    status = traitlets.Unicode("closed", read_only=True).tag(sync=True)
    """`"closed"`, `"connecting"`, `"connected"`, `"reconnecting"` or `"error"`."""
    round_trip_ms = traitlets.Float(None, allow_none=True, read_only=True).tag(sync=True)
    """Milliseconds that the last heartbeat took; None before the first."""
    last_frame_at = traitlets.Float(None, allow_none=True, read_only=True).tag(sync=True)
    """Unix time of the last frame heard; None before the first."""
    reconnects = traitlets.Int(0, read_only=True).tag(sync=True)
    """How often the connection was made anew."""
    count = traitlets.Int(0, read_only=True).tag(sync=True)
    """Channels in use."""
    revision = traitlets.Int(0, read_only=True).tag(sync=True)
    """Grows when the connection, or one of its channels, changes its state: observe this."""
    error = traitlets.Unicode("", read_only=True).tag(sync=True)
    """What is wrong and what to do, in one paragraph; empty while nothing is."""
    last_error = traitlets.Unicode("", read_only=True).tag(sync=True)
    """What went wrong last; stays when all is well again."""

    def __init__(self, client: Client | Channel | None = None) -> None:
        if isinstance(client, Channel):
            client = client.client
        if client is None:
            client = default_client()
        if not isinstance(client, Client):
            raise TypeError(
                f"client is what rt.connect() or rt.local().client gives, or a Channel, not {type(client).__name__}"
            )
        self.client = client
        self._registered: list[Callable[[], Any]] = []
        self._timer: asyncio.TimerHandle | None = None
        self._told: Any = None
        self._changes = 0
        self._failed_at: float | None = None
        super().__init__()
        there(self._begin)

    def _begin(self) -> None:
        aio = self.client.aio
        self._registered += [aio.on_status(self._now_is), aio.on_beat(lambda: tick.mark(self))]
        self._look()
        self._refresh()

    def __repr__(self) -> str:
        aio = self.client.aio
        trip = "" if aio.round_trip_ms is None else f", {aio.round_trip_ms:.1f} ms"
        return f"<ConnectionStatus {redact(aio.url)}: {aio.status}{trip}, {len(aio.channels)} channels>"

    # --- what it holds

    @property
    def df(self) -> pd.DataFrame:
        """One row a channel: `topic`, `status`, `rejoins`, `last_frame_at` (UTC) and `error` (what to do, in words)."""
        rows = there(self._channels)
        frame = pd.DataFrame(
            {
                "topic": pd.Series([row[0] for row in rows], dtype="str" if pd.__version__ >= "3" else object),
                "status": pd.Series([row[1] for row in rows], dtype="str" if pd.__version__ >= "3" else object),
                "rejoins": pd.Series([row[2] for row in rows], dtype="int64"),
            }
        )
        heard = pd.Series([row[3] for row in rows], dtype="float64")
        frame["last_frame_at"] = pd.to_datetime(heard, unit="s", utc=True).astype("datetime64[us, UTC]")
        frame["error"] = pd.Series([row[4] for row in rows], dtype="str" if pd.__version__ >= "3" else object)
        return frame

    # --- on the I/O thread

    def _now_is(self, status: str, error: RealtimeError | None) -> None:
        if error is not None:
            self._failed_at = time.time()
        tick.mark(self)

    def _look(self) -> None:
        """Frames are not counted one by one, since a table may get a hundred thousand a second."""
        tick.mark(self)
        self._timer = io_loop().call_later(LOOK_EVERY, self._look)

    def _channels(self) -> list[tuple[str, str, int, float | None, str]]:
        return [
            (redact(name), channel.status, channel.rejoins, channel.last_frame_at, paragraph(channel.error))
            for name, channel in list(self.client.aio.channels.items())
        ]

    def _tick(self, now: float) -> bool:
        self._refresh()
        return super()._tick(now)

    def _refresh(self) -> None:
        aio = self.client.aio
        told = (aio.status, aio.reconnects, [row[:3] for row in self._channels()])
        changed = told != self._told
        if changed:
            self._told, self._changes = told, self._changes + 1
        with self.hold_sync():
            if not self._closed:
                self.set_trait("status", aio.status)
            self.set_trait("round_trip_ms", aio.round_trip_ms)
            self.set_trait("last_frame_at", aio.last_frame_at)
            self.set_trait("reconnects", aio.reconnects)
            self.set_trait("count", len(aio.channels))
            self.set_trait("error", paragraph(aio.error))
            self.set_trait("last_error", paragraph(aio.last_error))
            self.set_trait("revision", self._changes)
        if changed:
            self._announce_df()

    def _frame(self, view: View) -> dict[str, Any] | None:
        aio, shown, frame = self.client.aio, view.shown, dict[str, Any]()
        rows = self._channels()
        state = {
            "status": "closed" if self._closed else aio.status,
            "error": paragraph(aio.error),
            "url": redact(aio.url),
            "vsn": aio.vsn,
            "heartbeat": aio.heartbeat_interval,
            "trip": None if aio.round_trip_ms is None else round(aio.round_trip_ms, 1),
            "reconnects": aio.reconnects,
            "bad": aio.bad_frames,
            "last": paragraph(aio.last_error),
            "failed": None if self._failed_at is None else round(self._failed_at * 1000),
            "channels": [[topic, status, rejoins, error] for topic, status, rejoins, _, error in rows[:CHANNELS_SHOWN]],
            "count": len(rows),
        }
        if state != shown.get("state"):
            shown["state"] = frame["state"] = state
        heard = aio.last_frame_at
        if heard is not None and heard != shown.get("heard"):
            # An age and not a time: the page's clock is another.
            shown["heard"] = heard
            frame["ago"] = round(1000 * max(0.0, time.time() - heard))
        return frame or None

    def _release(self) -> None:
        there(self._stop)
        self.set_trait("status", "closed")

    def _stop(self) -> None:
        unregister_all(self._registered)
        if self._timer is not None:
            self._timer.cancel()

    def _html(self) -> str:
        aio = self.client.aio
        channels = "".join(f"<li>{html.escape(row[0])}: {html.escape(row[1])}</li>" for row in there(self._channels))
        said = f"<p>{html.escape(paragraph(aio.error))}</p>" if aio.error else ""
        return f"<p><b>{html.escape(redact(aio.url))}</b>: {html.escape(aio.status)}</p>{said}<ul>{channels}</ul>"
