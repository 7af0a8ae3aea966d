"""`ConnectionStatus`: the state of a connection in one line, with its details below."""

from __future__ import annotations

import asyncio
import html
import time
from typing import Any

import pandas as pd
import traitlets

from ..client.connect import default_client
from ..client.notebook import Channel, Client
from ..client.thread import io_loop
from ..protocol.errors import RealtimeError, redact
from .base import STATIC, RtWidget
from .checks import paragraph
from .threads import call_on_io
from .tick import tick
from .views import View

LOOK_EVERY = 1.0
"""Seconds between two looks at the figures that change with every frame."""
CHANNELS_SHOWN = 100

_Row = tuple[str, str, int, float | None, str]


class ConnectionStatus(RtWidget):
    """A connection: its state, round trip, time since the last frame, reconnects, channels, and the last error with how
    to fix it.

    Args:
        client: the client, or a channel for its client; default the last `rt.connect()` or `rt.local()`.

    Raises TypeError for anything else.
    """

    _esm = STATIC / "connection.js"
    _css = STATIC / "connection.css"

    status = traitlets.Unicode(
        "closed",
        read_only=True,
        help='`"closed"`, `"connecting"`, `"connected"`, `"reconnecting"` or `"error"`.',
    ).tag(sync=True)
    round_trip_ms = traitlets.Float(
        None, allow_none=True, read_only=True, help="Milliseconds of the last heartbeat; None before the first."
    ).tag(sync=True)
    last_frame_at = traitlets.Float(
        None, allow_none=True, read_only=True, help="Unix time of the last frame received; None before the first."
    ).tag(sync=True)
    reconnects = traitlets.Int(0, read_only=True, help="How often the connection was opened again.").tag(sync=True)
    count = traitlets.Int(0, read_only=True, help="Channels in use.").tag(sync=True)
    revision = traitlets.Int(
        0, read_only=True, help="Grows when the connection, or one of its channels, changes its status: observe this."
    ).tag(sync=True)
    last_error = traitlets.Unicode(
        "", read_only=True, help="The last error; it stays after the connection has recovered."
    ).tag(sync=True)

    def __init__(self, client: Client | Channel | None = None) -> None:
        if isinstance(client, Channel):
            client = client.client
        if client is None:
            client = default_client()
        if not isinstance(client, Client):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(
                "client must be what rt.connect() returns, rt.local().client, or a channel, "
                f"not {type(client).__name__}"
            )
        self.client = client
        self._timer: asyncio.TimerHandle | None = None
        self._seen: Any = None
        self._changes = 0
        self._failed_at: float | None = None
        super().__init__()
        call_on_io(self._open)

    def _open(self) -> None:
        aio = self.client.aio
        self._registered += [aio.on_status(self._on_status), aio.on_beat(lambda: tick.mark(self))]
        self._look()
        self._refresh()

    def __repr__(self) -> str:
        aio = self.client.aio
        trip = "" if aio.round_trip_ms is None else f", {aio.round_trip_ms:.1f} ms"
        return f"<ConnectionStatus {self.name}: {aio.status}{trip}, {len(aio.channels)} channels>"

    @property
    def name(self) -> str:
        """The client's URL, without secrets."""
        return redact(self.client.aio.url)

    # --- what it holds

    @property
    def df(self) -> pd.DataFrame:
        """One row a channel: `topic`, `status`, `rejoins`, `last_frame_at` (UTC) and `error` (with how to fix it)."""
        rows = call_on_io(self._channels)
        text = "str" if pd.__version__ >= "3" else object
        received = pd.Series([row[3] for row in rows], dtype="float64")
        return pd.DataFrame(
            {
                "topic": pd.Series([row[0] for row in rows], dtype=text),
                "status": pd.Series([row[1] for row in rows], dtype=text),
                "rejoins": pd.Series([row[2] for row in rows], dtype="int64"),
                "last_frame_at": pd.to_datetime(received, unit="s", utc=True).astype("datetime64[us, UTC]"),
                "error": pd.Series([row[4] for row in rows], dtype=text),
            }
        )

    # --- on the I/O thread

    def _on_status(self, status: str, error: RealtimeError | None) -> None:
        if error is not None:
            self._failed_at = time.time()
        tick.mark(self)

    def _look(self) -> None:
        """Marks the figures as due: frames are not counted one by one, as a table may receive 100,000 a second."""
        tick.mark(self)
        self._timer = io_loop().call_later(LOOK_EVERY, self._look)

    def _channels(self) -> list[_Row]:
        return [
            (redact(name), channel.status, channel.rejoins, channel.last_frame_at, paragraph(channel.error))
            for name, channel in list(self.client.aio.channels.items())
        ]

    def _traits_now(self) -> dict[str, Any]:
        aio = self.client.aio
        now = (aio.status, aio.reconnects, [row[:3] for row in self._channels()])
        if now != self._seen:
            self._seen, self._changes = now, self._changes + 1
        return {
            "status": aio.status,
            "round_trip_ms": aio.round_trip_ms,
            "last_frame_at": aio.last_frame_at,
            "reconnects": aio.reconnects,
            "count": len(aio.channels),
            "error": paragraph(aio.error),
            "last_error": paragraph(aio.last_error),
            "revision": self._changes,
        }

    def _frame(self, view: View) -> dict[str, Any] | None:
        aio, frame = self.client.aio, dict[str, Any]()
        rows = self._channels()
        state = {
            "status": "closed" if self._closed else aio.status,
            "error": paragraph(aio.error),
            "url": self.name,
            "vsn": aio.vsn,
            "heartbeat": aio.heartbeat_interval,
            "trip": None if aio.round_trip_ms is None else round(aio.round_trip_ms, 1),
            "reconnects": aio.reconnects,
            "bad": aio.frames.bad,
            "last": paragraph(aio.last_error),
            "failed": None if self._failed_at is None else round(self._failed_at * 1000),
            "channels": [[topic, status, rejoins, error] for topic, status, rejoins, _, error in rows[:CHANNELS_SHOWN]],
            "count": len(rows),
        }
        if view.differs("state", state):
            frame["state"] = state
        received = aio.last_frame_at
        if received is not None and view.differs("heard", received):
            # An age and not a time: the page's clock differs.
            frame["ago"] = round(1000 * max(0.0, time.time() - received))
        return frame or None

    def _release(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _html(self) -> str:
        aio = self.client.aio
        rows = call_on_io(self._channels)
        channels = "".join(f"<li>{html.escape(row[0])}: {html.escape(row[1])}</li>" for row in rows)
        error = f"<p>{html.escape(paragraph(aio.error))}</p>" if aio.error else ""
        return f"<p><b>{html.escape(self.name)}</b>: {html.escape(aio.status)}</p>{error}<ul>{channels}</ul>"
