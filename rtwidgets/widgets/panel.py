"""`ChannelPanel`: a channel's calls as buttons, to learn them and to try them out."""

from __future__ import annotations

import asyncio
import html
import json
from collections.abc import Callable, Coroutine
from typing import Any

import traitlets

from ..client.notebook import Channel
from ..client.thread import io_loop
from ..protocol.errors import RealtimeError
from .base import STATIC, RtWidget, View, paragraph, there, unregister_all
from .tick import tick


class ChannelPanel(RtWidget):
    """Buttons for subscribe, unsubscribe, track, untrack and broadcast, each with what became of it.

    It joins nothing by itself: that is what its first button is for.

    Args:
        channel: a `Channel`, or a topic.
    """

    _esm = STATIC / "panel.js"
    _css = STATIC / "panel.css"

    revision = traitlets.Int(0, read_only=True).tag(sync=True)
    """How many calls were made from here."""
    status = traitlets.Unicode("closed", read_only=True).tag(sync=True)
    """The channel's: `"closed"`, `"joining"`, `"joined"`, `"leaving"` or `"errored"`."""
    error = traitlets.Unicode("", read_only=True).tag(sync=True)
    """What is wrong and what to do, in one paragraph; empty while nothing is."""

    def __init__(self, channel: Channel | str) -> None:
        self.channel = channel if isinstance(channel, Channel) else Channel(channel)
        self._calls = 0
        self._running: set[asyncio.Task[None]] = set()
        self._registered: list[Callable[[], Any]] = []
        super().__init__()
        there(self._begin)

    def _begin(self) -> None:
        self._registered.append(self.channel.aio.on_status(lambda status, error: tick.mark(self)))
        tick.mark(self)

    def __repr__(self) -> str:
        return f"<ChannelPanel {self.channel.topic!r} {self.channel.aio.status}>"

    # --- on the I/O thread

    def _call_of(self, kind: str, content: dict[str, Any]) -> Coroutine[Any, Any, Any]:
        """The call that a button stands for. Raises ValueError for a form that cannot be understood."""
        aio = self.channel.aio
        if kind == "subscribe":
            return aio.subscribe()
        if kind == "unsubscribe":
            return aio.unsubscribe()
        if kind == "untrack":
            return aio.untrack()
        fields = _json(content.get("json"))
        if kind == "track":
            return aio.track(fields)
        event = content.get("event")
        if not isinstance(event, str) or not event.strip():
            raise ValueError("a broadcast needs the name of an event")
        return aio.send(event.strip(), fields)

    async def _go(self, view: View, kind: str, content: dict[str, Any]) -> None:
        began = io_loop().time()
        number, problem = content.get("number"), ""
        try:
            await self._call_of(kind, content)
        except RealtimeError as error:
            problem = paragraph(error)
        except (ValueError, TimeoutError) as error:
            problem = str(error) or "no answer in time"
        self._calls += 1
        took = round((io_loop().time() - began) * 1000, 1)
        view.outbox.append({"number": number, "problem": problem, "took": took})
        tick.mark(self)

    def _tick(self, now: float) -> bool:
        with self.hold_sync():
            if not self._closed:
                self.set_trait("status", self.channel.aio.status)
            self.set_trait("error", paragraph(self.channel.aio.error))
            self.set_trait("revision", self._calls)
        return super()._tick(now)

    def _frame(self, view: View) -> dict[str, Any] | None:
        aio, shown, frame = self.channel.aio, view.shown, dict[str, Any]()
        options = self.channel.options
        state = {
            "status": "closed" if self._closed else aio.status,
            "error": paragraph(aio.error),
            "topic": self.channel.topic,
            "private": options.private,
            "ack": options.ack,
            "key": aio.presence_key,
        }
        if state != shown.get("state"):
            shown["state"] = frame["state"] = state
        if view.outbox:
            frame["answers"], view.outbox = view.outbox, []
        return frame or None

    def _asked(self, view: View, kind: Any, content: dict[str, Any]) -> None:
        if kind not in ("subscribe", "unsubscribe", "track", "untrack", "broadcast"):
            return

        def go() -> None:
            task = io_loop().create_task(self._go(view, kind, content))
            self._running.add(task)
            task.add_done_callback(self._running.discard)

        io_loop().call_soon_threadsafe(go)

    def _release(self) -> None:
        there(unregister_all, self._registered)
        self.set_trait("status", "closed")

    def _html(self) -> str:
        return f"<p><b>{html.escape(self.channel.topic)}</b>: {self.channel.aio.status}</p>"


def _json(text: Any) -> dict[str, Any]:
    try:
        found = json.loads(text) if isinstance(text, str) and text.strip() else {}
    except ValueError as error:
        raise ValueError(f'this is no JSON: {error}. Write it as {{"text": "hello"}}') from None
    if not isinstance(found, dict):
        raise ValueError('a payload and a state are JSON objects: write {"text": "hello"}')
    return found
