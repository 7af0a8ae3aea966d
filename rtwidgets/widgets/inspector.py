"""`Inspector`: every frame, both ways, and what it means."""

from __future__ import annotations

import html
import json
from collections import deque
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import traitlets

from ..client.connect import default_client
from ..client.notebook import Channel, Client
from ..data.broadcast_log import part
from ..protocol.channel import PREFIX
from ..protocol.explain import Direction, as_dict, explain
from ..protocol.messages import Message
from . import paging
from .base import STATIC, RtWidget
from .checks import check_count
from .threads import call_on_io
from .tick import tick
from .views import View

SHOWN = 300
"""Frames that a view gets when it opens, and at most at once; it requests older ones."""
TEXT_MOST = 4_000
"""Characters of one frame that a page shows; `export` writes all of them."""
HTML_LINES, PLAIN_LINES = 50, 10

Entry = tuple[datetime, Direction, Message]
"""When, `"in"` or `"out"`, and the frame."""


class Inspector(RtWidget):
    """Every frame that a client sends and receives, in order of time. Keys and tokens are removed from what is shown,
    exported or in `df`. It begins with the last small frames from before it was made, up to 200.

    Args:
        source: a `Client` for all of its frames, or a `Channel` for those of its topic; default the default client.
        maxlen: the most frames kept; the oldest go first.

    Raises TypeError or ValueError for an argument of the wrong type or value.
    """

    _newest_last = True
    _esm = STATIC / "inspector.js"
    _css = STATIC / "inspector.css"

    count = traitlets.Int(0, read_only=True, help="Frames kept.").tag(sync=True)
    revision = traitlets.Int(0, read_only=True, help="How many frames there ever were: observe this.").tag(sync=True)
    paused = traitlets.Bool(
        False, read_only=True, help="Whether the list stands still; frames are kept all the same."
    ).tag(sync=True)

    def __init__(self, source: Client | Channel | None = None, *, maxlen: int = 5_000) -> None:
        if source is not None and not isinstance(source, Client | Channel):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"source must be a client or a channel, not {type(source).__name__}")
        self.source = source or default_client()
        self._topic = PREFIX + self.source.topic if isinstance(self.source, Channel) else None
        self._entries: deque[Entry] = deque(maxlen=check_count(maxlen, "maxlen, the most frames to keep,"))
        self._total = 0
        self._paused_at: int | None = None
        super().__init__()
        call_on_io(self._open)

    def _open(self) -> None:
        aio = self._client.aio
        for at, direction, message in aio.frames.entries():
            self._add(direction, message, datetime.fromtimestamp(at, UTC))
        self._registered.append(aio.on_frame(self._add))

    @property
    def _client(self) -> Client:
        return self.source.client if isinstance(self.source, Channel) else self.source

    @property
    def name(self) -> str:
        """The channel's topic, or "all topics"."""
        return self.source.topic if isinstance(self.source, Channel) else "all topics"

    def __repr__(self) -> str:
        return f"<Inspector of {self.source!r}: {len(self._entries)} frames>"

    @property
    def df(self) -> pd.DataFrame:
        """`at` (UTC), `direction` (`"in"`, `"out"`), `topic`, `event`, `meaning`, `frame` (a dict, without secrets)."""
        rows = [
            (at, way, message.topic, message.event, explain(message), as_dict(message))
            for at, way, message in list(self._entries)
        ]
        frame = pd.DataFrame(rows, columns=["at", "direction", "topic", "event", "meaning", "frame"])
        return frame.astype({"at": "datetime64[us, UTC]"})

    def export(self, path: str | Path) -> int:
        """Writes the frames as JSON lines (`at`, `direction`, `meaning`, `frame`). Returns how many."""
        entries = list(self._entries)
        with Path(path).open("w", encoding="utf-8") as file:
            for entry in entries:
                file.write(_line(*entry) + "\n")
        return len(entries)

    def pause(self) -> None:
        """Stops the list; frames are kept, and shown by `resume()`."""
        self._set_paused(True)

    def resume(self) -> None:
        """Shows the frames kept meanwhile, and goes on."""
        self._set_paused(False)

    def clear(self) -> None:
        """Forgets the frames kept."""
        self._entries.clear()
        tick.mark(self)

    def _set_paused(self, paused: bool) -> None:
        self._paused_at = self._total if paused else None
        self.set_trait("paused", paused)
        tick.mark(self)

    # --- on the I/O thread

    def _add(self, direction: str, message: Message, at: datetime | None = None) -> None:
        way: Direction = "in" if direction == "in" else "out"
        if self._topic is not None and message.topic != self._topic:
            return
        # The message is kept as it is, since nobody changes one, and rendered without secrets when it is shown.
        self._entries.append((at or datetime.now(UTC), way, message))
        self._total += 1
        tick.mark(self)

    def _traits_now(self) -> dict[str, Any]:
        return {"count": len(self._entries), "revision": self._total}

    def _frame(self, view: View) -> dict[str, Any] | None:
        shown, frame = view.shown, dict[str, Any]()
        until = self._total if self._paused_at is None else self._paused_at
        state = {"of": self.name, "count": self._total, "paused": self.paused, "waiting": self._total - until}
        if view.differs("state", state):
            frame["state"] = state
        first = self._total - len(self._entries)
        start = max(shown.get("since", 0), first, until - SHOWN)
        if until > start or "since" not in shown:
            frame["from"] = start
            frame["lines"] = self._lines(start, until)
            shown["since"] = until
        if view.differs("held", first):
            frame["held"] = first
        if view.outbox:
            frame["file"] = view.outbox.pop(0)
        if view.reads:
            frame["pages"] = paging.answers(view, first, until, self._lines, _searched)
        return frame or None

    def _lines(self, start: int, stop: int) -> list[dict[str, Any]]:
        first = self._total - len(self._entries)
        return [_shown(*entry) for entry in part(self._entries, start - first, stop - first)]

    def _on_message(self, view: View, kind: str, content: Mapping[str, Any]) -> None:
        if kind in ("pause", "resume"):
            self._set_paused(kind == "pause")
        elif kind == "clear":
            self.clear()
        elif kind == "read":
            paging.request(view, content)
        elif kind == "export":
            view.outbox.append("\n".join(_line(*entry) for entry in list(self._entries)))

    def _last_lines(self, count: int) -> list[str]:
        return [
            f"{at:%H:%M:%S} {'←' if way == 'in' else '→'} {explain(message)}"
            for at, way, message in list(self._entries)[-count:]
        ]

    def _plain(self) -> str:
        return "\n".join(line[:132] for line in self._last_lines(PLAIN_LINES))

    def _html(self) -> str:
        items = "".join(f"<li>{html.escape(line)}</li>" for line in self._last_lines(HTML_LINES))
        return f"<p><b>{self._total} frames</b></p><ul>{items}</ul>"


def _line(at: datetime, way: Direction, message: Message) -> str:
    fields = {"at": at.isoformat(), "direction": way, "meaning": explain(message), "frame": as_dict(message)}
    return json.dumps(fields, ensure_ascii=False, default=str)


def _searched(line: dict[str, Any]) -> str:
    """The text that the page's filter searches; the page uses the same."""
    return f"{line['text']} {line['event']} {line['frame']}"


def _shown(at: datetime, way: Direction, message: Message) -> dict[str, Any]:
    text = json.dumps(as_dict(message), ensure_ascii=False, default=str, indent=1)
    return {
        "at": round(at.timestamp() * 1000),
        "way": way,
        "event": message.event,
        "text": explain(message),
        "frame": text if len(text) <= TEXT_MOST else f"{text[:TEXT_MOST]}…",
    }
