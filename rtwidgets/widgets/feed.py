"""`BroadcastFeed`: what is said on a channel, as a list, a DataFrame and a chat box."""

from __future__ import annotations

import html
import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, cast

import pandas as pd
import traitlets

from ..client.dispatch import dispatch
from ..client.notebook import Channel
from ..client.thread import io_loop, run
from ..data.broadcast_log import BroadcastLog
from ..protocol.errors import RealtimeError
from . import paging
from .base import STATIC, RtWidget, View, checked_text, paragraph, there, unregister_all
from .tick import tick

SHOWN = 500
"""Lines that a view gets when it opens, and at most in one frame; older ones it asks for."""
HTML_LINES = 50
TEXT_MOST = 4_000
"""Characters of one message that a page shows; the variable holds all of them."""


class BroadcastFeed(RtWidget):
    """The broadcasts of a channel, newest last. It joins the channel by itself.

    Args:
        channel: a `Channel`, or a topic.
        event: the event to hear and to send; `"*"` hears all (and sends `"message"`).
        maxlen: most messages kept.
        sender: the name that what is typed into the box goes out under: `{"sender": ..., "text": ...}`; without
            it, `{"text": ...}`.

    Raises TypeError or ValueError for an event, a sender or a `maxlen` that is none.
    """

    _newest_last = True

    _esm = STATIC / "feed.js"
    _css = STATIC / "feed.css"

    count = traitlets.Int(0, read_only=True).tag(sync=True)
    """Messages held."""
    revision = traitlets.Int(0, read_only=True).tag(sync=True)
    """How many messages ever came: observe this."""
    status = traitlets.Unicode("closed", read_only=True).tag(sync=True)
    """The channel's: `"closed"`, `"joining"`, `"joined"`, `"leaving"` or `"errored"`."""
    error = traitlets.Unicode("", read_only=True).tag(sync=True)
    """What is wrong and what to do, in one paragraph; empty while nothing is."""

    def __init__(
        self, channel: Channel | str, event: str = "*", *, maxlen: int = 10_000, sender: str | None = None
    ) -> None:
        if not isinstance(maxlen, int) or isinstance(maxlen, bool) or maxlen < 1:
            raise ValueError(f"maxlen is the number of messages to keep, 1 or more, not {maxlen!r}")
        self.event = checked_text(event, 'event, such as "message", or "*" for all,')
        self.sender = None if sender is None else checked_text(sender, "sender, the name under which is written,")
        self.channel = channel if isinstance(channel, Channel) else Channel(channel)
        self.heard = BroadcastLog(maxlen)
        self._own: set[int] = set()
        self._registered: list[Callable[[], Any]] = []
        super().__init__()
        there(self._begin)

    def _begin(self) -> None:
        aio = self.channel.aio
        self._registered += [
            aio.on_broadcast(self.event, self._heard_one),
            aio.on_status(lambda status, error: tick.mark(self)),
            aio.hold(),
        ]
        tick.mark(self)

    def __repr__(self) -> str:
        name, count, status = self.channel.topic, len(self.heard), self.channel.aio.status
        return f"<BroadcastFeed {name!r} {self.event!r}: {count} messages, {status}>"

    # --- what it holds

    @property
    def df(self) -> pd.DataFrame:
        """`received_at` (UTC), `event`, then the payloads' fields."""
        return self.heard.df()

    @property
    def messages(self) -> list[Any]:
        """The payloads, oldest first: also those sent from here."""
        return self.heard.messages

    @property
    def last(self) -> Any:
        """The newest payload; None before the first."""
        return self.heard.last

    def clear(self) -> None:
        """Forgets the messages held."""
        self.heard.clear()
        tick.mark(self)

    # --- what happens

    def send(self, payload: Mapping[str, Any] | str | bytes) -> None:
        """Broadcasts a dict, `bytes`, or text (sent as the box sends it). It is among `messages` once it is sent.

        Raises TypeError for anything else, RealtimeError where the channel cannot take it.
        """
        if not isinstance(payload, Mapping | str | bytes | bytearray | memoryview):
            raise TypeError(f"a feed sends a dict, a text or bytes, not {payload!r:.200}")
        run(self._broadcast(payload), 30)

    def wait_live(self, timeout: float = 10.0) -> BroadcastFeed:
        """Waits until the channel is joined, so that what others say from now on is heard.

        Raises RealtimeError where it cannot be joined, or was not within `timeout` seconds.
        """
        run(self.channel.aio.wait_joined(timeout), timeout + 5)
        there(self._refresh)
        return self

    def on_message(self, fn: Callable[[Any], Any]) -> Callable[[], None]:
        """Calls `fn(payload)` for each message heard from others, on the kernel's main thread.

        Returns a function that unregisters.
        """
        unregister = there(
            self.channel.aio.on_broadcast, self.event, lambda event, payload, meta: dispatch(fn, payload)
        )
        self._registered.append(unregister)
        return unregister

    async def _broadcast(self, payload: Any) -> None:
        if isinstance(payload, str):
            payload = {"text": payload} if self.sender is None else {"sender": self.sender, "text": payload}
        event = "message" if self.event == "*" else self.event
        await self.channel.aio.send(event, payload)
        if not self.channel.options.broadcast_self:
            # The server sends it to everybody else; whoever reads `messages` expects the whole talk.
            if len(self._own) > 2 * len(self.heard) + 100:
                self._own = {number for number in self._own if number >= self.heard.total - len(self.heard)}
            self._own.add(self.heard.total)
            self.heard.append(event, payload)
            tick.mark(self)

    # --- on the I/O thread

    def _heard_one(self, event: str, payload: Any, meta: Mapping[str, Any]) -> None:
        self.heard.append(event, payload)
        tick.mark(self)

    def _tick(self, now: float) -> bool:
        self._refresh()
        return super()._tick(now)

    def _refresh(self) -> None:
        aio = self.channel.aio
        changed = self.heard.total != self.revision
        with self.hold_sync():
            if not self._closed:
                self.set_trait("status", aio.status)
            self.set_trait("error", paragraph(aio.error))
            self.set_trait("count", len(self.heard))
            self.set_trait("revision", self.heard.total)
        if changed:
            self._announce_df()

    def _frame(self, view: View) -> dict[str, Any] | None:
        shown, frame = view.shown, dict[str, Any]()
        aio = self.channel.aio
        state = {
            "status": "closed" if self._closed else aio.status,
            "error": paragraph(aio.error),
            "topic": self.channel.topic,
            "event": self.event,
            "sender": self.sender,
            "count": len(self.heard),
        }
        if state != shown.get("state"):
            shown["state"] = frame["state"] = state
        held = self.heard.total - len(self.heard)
        since = shown.get("since")
        if since is None or self.heard.total > since or shown.get("held", 0) > self.heard.total:
            start = max(since or 0, held, self.heard.total - SHOWN)
            frame["from"] = start
            frame["lines"] = self._lines(start, self.heard.total)
            shown["since"] = self.heard.total
        if held != shown.get("held"):
            shown["held"] = frame["held"] = held
        answers = view.outbox
        if answers:
            frame["answers"], view.outbox = answers, []
        if view.reads:
            frame["pages"] = paging.answers(view, held, self.heard.total, self._lines, _searched)
        return frame or None

    def _lines(self, start: int, stop: int) -> list[dict[str, Any]]:
        entries = self.heard.entries(start, stop)
        return [_line(*entry, mine=start + i in self._own) for i, entry in enumerate(entries)]

    def _asked(self, view: View, kind: Any, content: dict[str, Any]) -> None:
        if kind == "read":
            paging.asked(view, content)
        elif kind == "send" and isinstance(content.get("text"), str):
            number, text = content.get("number"), content["text"]

            async def go() -> None:
                try:
                    await self._broadcast(text)
                    view.outbox.append([number, ""])
                except RealtimeError as error:
                    view.outbox.append([number, paragraph(error)])
                tick.mark(self)

            io_loop().call_soon_threadsafe(lambda: io_loop().create_task(go()))

    def _release(self) -> None:
        there(unregister_all, self._registered)
        self.set_trait("status", "closed")

    def _html(self) -> str:
        lines = [_line(*entry, mine=False) for entry in self.heard.entries(max(0, self.heard.total - HTML_LINES))]
        items = "".join(f"<li><b>{html.escape(line['sender'])}</b> {html.escape(line['text'])}</li>" for line in lines)
        return f"<p><b>{html.escape(self.channel.topic)}</b>: {len(self.heard)} messages</p><ul>{items}</ul>"


def _searched(line: dict[str, Any]) -> str:
    """What the page's filter looks at; the page does the same."""
    return f"{line['sender']} {line['event']} {line['text']}"


def _line(at: datetime, event: str, payload: Any, *, mine: bool) -> dict[str, Any]:
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
            text = f"{len(payload)} bytes: {bytes(payload[:32]).hex(' ')}"
        else:
            text = json.dumps(payload, ensure_ascii=False, default=str)
    if len(text) > TEXT_MOST:
        text = text[:TEXT_MOST] + "…"
    return {
        "at": round(at.astimezone(UTC).timestamp() * 1000),
        "event": event,
        "sender": sender,
        "text": text,
        "mine": mine,
    }
