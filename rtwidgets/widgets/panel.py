"""`ChannelPanel`: a channel's calls as buttons, to learn them and to try them out."""

from __future__ import annotations

import asyncio
import html
import json
from collections.abc import Coroutine, Mapping
from typing import Any, cast

import traitlets

from ..client.notebook import Channel, Client
from ..client.thread import io_loop
from ..protocol.errors import RealtimeError
from .base import STATIC
from .channel_widget import ChannelWidget
from .checks import paragraph
from .threads import post_to_io
from .views import View

CALLS = ("subscribe", "unsubscribe", "track", "untrack", "broadcast")


class ChannelPanel(ChannelWidget):
    """Buttons for subscribe, unsubscribe, track, untrack and broadcast, each with its result.

    It does not join the channel: that is what its first button is for.

    Args:
        channel: a `Channel`, or a topic.
        client: the client of a topic; default the last `rt.connect()` or `rt.local()`.
    """

    _esm = STATIC / "panel.js"
    _css = STATIC / "panel.css"
    _joins = False

    revision = traitlets.Int(0, read_only=True, help="How many calls were made from this panel.").tag(sync=True)

    def __init__(self, channel: Channel | str, *, client: Client | None = None) -> None:
        self._calls = 0
        super().__init__(channel, client)

    def __repr__(self) -> str:
        return f"<ChannelPanel {self.channel.topic!r} {self._aio.status}>"

    # --- on the I/O thread

    def _call_of(self, kind: str, content: Mapping[str, Any]) -> Coroutine[Any, Any, Any]:
        """The call that a button stands for. Raises ValueError for a form that cannot be parsed."""
        aio = self._aio
        if kind == "subscribe":
            return aio.subscribe()
        if kind == "unsubscribe":
            return aio.unsubscribe()
        if kind == "untrack":
            return aio.untrack()
        fields = _parse_object(content.get("json"))
        if kind == "track":
            return aio.track(fields)
        event = content.get("event")
        if not isinstance(event, str) or not event.strip():
            raise ValueError("a broadcast needs the name of an event")
        return aio.send(event.strip(), fields)

    async def _call(self, view: View, kind: str, content: Mapping[str, Any]) -> None:
        """Makes the call, and answers the page how it went."""
        started = io_loop().time()
        problem = ""
        try:
            await self._call_of(kind, content)
        except RealtimeError as error:
            problem = paragraph(error)
        except (ValueError, TimeoutError) as error:
            problem = str(error) or "no answer in time"
        except asyncio.CancelledError:
            problem = "cancelled"
            raise
        finally:
            self._calls += 1
            milliseconds = round((io_loop().time() - started) * 1000, 1)
            view.outbox.append({"number": content.get("number"), "problem": problem, "took": milliseconds})

    def _traits_now(self) -> dict[str, Any]:
        return {**super()._traits_now(), "revision": self._calls}

    def _state(self) -> dict[str, Any]:
        options = self.channel.options
        return {"private": options.private, "ack": options.ack, "key": self._aio.presence_key}

    def _fill(self, view: View, frame: dict[str, Any]) -> None:
        if view.outbox:
            frame["answers"], view.outbox = view.outbox, []

    def _on_message(self, view: View, kind: str, content: Mapping[str, Any]) -> None:
        if kind in CALLS:
            post_to_io(lambda: self._start(self._call(view, kind, content)))

    def _html(self) -> str:
        return f"<p><b>{html.escape(self.channel.topic)}</b>: {self._aio.status}</p>"


def _parse_object(text: object) -> dict[str, Any]:
    try:
        found: Any = json.loads(text) if isinstance(text, str) and text.strip() else {}
    except ValueError as error:
        raise ValueError(f'this is not JSON: {error}. Write it as {{"text": "hello"}}') from None
    if not isinstance(found, dict):
        raise ValueError('payloads and states are JSON objects: write {"text": "hello"}')
    return cast("dict[str, Any]", found)
