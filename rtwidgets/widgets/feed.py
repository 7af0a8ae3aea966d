"""`BroadcastFeed`: a channel's broadcasts as a list, a DataFrame and a chat box."""

from __future__ import annotations

import html
import json
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from functools import partial
from typing import Any, cast

import pandas as pd
import traitlets

from ..client.callbacks import Unregister
from ..client.channel import AsyncChannel
from ..client.dispatch import dispatch
from ..client.notebook import Channel, Client
from ..client.thread import run
from ..data.broadcast_log import BroadcastLog
from ..protocol.errors import RealtimeError
from ..protocol.events import Broadcast
from ..protocol.payloads import to_json
from . import paging
from .base import STATIC
from .channel_widget import ChannelWidget
from .checks import check_callback, check_count, check_text, paragraph
from .threads import call_on_io, post_to_io
from .tick import tick
from .views import View

SHOWN = 500
"""Lines that a view gets when it opens, and at most in one frame; it requests older ones."""
HTML_LINES = 50
TEXT_MOST = 4_000
"""Characters of one message that a page shows; `messages` has all of them."""

Payload = Mapping[str, Any] | str | bytes | bytearray | memoryview


class BroadcastFeed(ChannelWidget):
    """The broadcasts of a channel, newest last. Joins the channel.

    Args:
        channel: a `Channel`, or a topic.
        event: the event to receive and to send; `"*"` receives all (and sends `"message"`).
        maxlen: the most messages kept.
        sender: the name under which text from the box is sent: `{"sender": ..., "text": ...}`; without one,
            `{"text": ...}`.
        client: the client of a topic; default the last `rt.connect()` or `rt.local()`.

    Raises TypeError or ValueError for an argument of the wrong type or value.
    """

    _newest_last = True

    _esm = STATIC / "feed.js"
    _css = STATIC / "feed.css"

    count = traitlets.Int(0, read_only=True, help="Messages kept.").tag(sync=True)
    revision = traitlets.Int(0, read_only=True, help="How many messages were ever received: observe this.").tag(
        sync=True
    )

    def __init__(
        self,
        channel: Channel | str,
        event: str = "*",
        *,
        maxlen: int = 10_000,
        sender: str | None = None,
        client: Client | None = None,
    ) -> None:
        self.event = check_text(event, 'event, such as "message", or "*" for all,')
        self.sender = None if sender is None else check_text(sender, "sender, the name under which text is sent,")
        self.received = BroadcastLog(check_count(maxlen, "maxlen, the most messages to keep,"))
        self._own: set[int] = set()
        super().__init__(channel, client)

    def _bind(self, aio: AsyncChannel) -> Iterable[Unregister]:
        return [aio.on_event(Broadcast, self._receive_broadcast)]

    def __repr__(self) -> str:
        name, count = self.channel.topic, len(self.received)
        return f"<BroadcastFeed {name!r} {self.event!r}: {count} messages, {self._aio.status}>"

    # --- what it holds

    @property
    def df(self) -> pd.DataFrame:
        """One row a message: `received_at` (UTC), `event`, then the payloads' fields."""
        return self.received.df()

    @property
    def messages(self) -> list[Any]:
        """The payloads, oldest first, those sent by this widget included."""
        return self.received.messages

    @property
    def last(self) -> Any:
        """The newest payload; None before the first."""
        return self.received.last

    def clear(self) -> None:
        """Forgets the messages kept."""
        self.received.clear()
        tick.mark(self)

    # --- sending and receiving

    def send(self, payload: Payload) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Broadcasts a dict, `bytes`, or text (in the form in which the box sends it), and adds it to `messages`.

        Raises TypeError for anything else, RealtimeError where the channel cannot send it.
        """
        if not isinstance(payload, Mapping | str | bytes | bytearray | memoryview):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"payload must be a dict, a str or bytes, not {payload!r:.200}")
        run(self._broadcast(payload), 30)

    def wait_live(self, timeout: float = 10.0) -> BroadcastFeed:
        """Waits until the channel is joined, so that every later broadcast is received; returns the feed.

        Raises RealtimeError where it cannot be joined, or was not within `timeout` seconds.
        """
        run(self._aio.wait_joined(timeout), timeout + 5)
        call_on_io(self._refresh)
        return self

    def on_message(self, fn: Callable[[Any], Any]) -> Unregister:
        """Calls `fn(payload)` with each message of others, on the kernel's main thread, between cells.

        Returns a function that unregisters.
        """
        check_callback(fn)
        unregister = call_on_io(self._aio.on_broadcast, self.event, partial(dispatch, self._callback(fn)))
        self._registered.append(unregister)
        return unregister

    async def _broadcast(self, payload: Payload) -> None:
        if isinstance(payload, str):
            payload = {"text": payload} if self.sender is None else {"sender": self.sender, "text": payload}
        event = "message" if self.event == "*" else self.event
        await self._aio.send(event, payload)
        if not self.channel.options.broadcast_self:
            # The server sends it to everyone else only; `messages` is the whole conversation.
            log = self.received
            if len(self._own) > 2 * len(log) + 100:
                self._own = {number for number in self._own if number >= log.total - len(log)}
            self._own.add(log.total)
            # A copy, as the others have it: the caller may go on with theirs.
            own = bytes(payload) if isinstance(payload, bytes | bytearray | memoryview) else to_json(payload, "payload")
            log.append(event, own)
            tick.mark(self)

    # --- on the I/O thread

    def _receive_broadcast(self, message: Broadcast) -> None:
        if message.is_of(self.event):
            self.received.append(message.event, message.payload)
            tick.mark(self)

    def _traits_now(self) -> dict[str, Any]:
        log = self.received
        return {**super()._traits_now(), "count": len(log), "revision": log.total}

    def _state(self) -> dict[str, Any]:
        return {"event": self.event, "sender": self.sender, "count": len(self.received)}

    def _fill(self, view: View, frame: dict[str, Any]) -> None:
        log, shown = self.received, view.shown
        first = log.total - len(log)
        since = shown.get("since")
        if since is None or log.total > since:
            start = max(since or 0, first, log.total - SHOWN)
            frame["from"] = start
            frame["lines"] = self._lines(start, log.total)
            shown["since"] = log.total
        if view.differs("held", first):
            frame["held"] = first
        if view.outbox:
            frame["answers"], view.outbox = view.outbox, []
        if view.reads:
            frame["pages"] = paging.answers(view, first, log.total, self._lines, _searched)

    def _lines(self, start: int, stop: int) -> list[dict[str, Any]]:
        entries = self.received.entries(start, stop)
        return [_line(*entry, own=start + i in self._own) for i, entry in enumerate(entries)]

    def _on_message(self, view: View, kind: str, content: Mapping[str, Any]) -> None:
        if kind == "read":
            paging.request(view, content)
        elif kind == "send" and isinstance(content.get("text"), str):
            post_to_io(lambda: self._start(self._send_typed(view, content.get("number"), content["text"])))

    async def _send_typed(self, view: View, number: object, text: str) -> None:
        """Sends what was typed into the box, and answers the page whether it was sent."""
        try:
            await self._broadcast(text)
            view.outbox.append([number, ""])
        except RealtimeError as error:
            view.outbox.append([number, paragraph(error)])

    def _html(self) -> str:
        log = self.received
        lines = [_line(*entry, own=False) for entry in log.entries(max(0, log.total - HTML_LINES))]
        items = "".join(f"<li><b>{html.escape(line['sender'])}</b> {html.escape(line['text'])}</li>" for line in lines)
        return f"<p><b>{html.escape(self.channel.topic)}</b>: {len(log)} messages</p><ul>{items}</ul>"


def _searched(line: dict[str, Any]) -> str:
    """The text that the page's filter searches; the page uses the same."""
    return f"{line['sender']} {line['event']} {line['text']}"


def _line(at: datetime, event: str, payload: Any, *, own: bool) -> dict[str, Any]:
    """What one line of the feed shows."""
    sender, text = "", None
    if isinstance(payload, Mapping):
        fields = cast("Mapping[str, Any]", payload)
        sender = next(
            (str(fields[n]) for n in ("sender", "user", "username", "name") if isinstance(fields.get(n), str)), ""
        )
        text = next((fields[n] for n in ("text", "message", "content", "body") if isinstance(fields.get(n), str)), None)
    if text is None:
        if isinstance(payload, bytes | bytearray | memoryview):
            data = bytes(cast("bytes", payload))
            text = f"{len(data)} bytes: {data[:32].hex(' ')}"
        else:
            text = json.dumps(payload, ensure_ascii=False, default=str)
    if len(text) > TEXT_MOST:
        text = text[:TEXT_MOST] + "…"
    return {
        "at": round(at.astimezone(UTC).timestamp() * 1000),
        "event": event,
        "sender": sender,
        "text": text,
        "mine": own,
    }
