"""`Inspector`: every frame, both ways, and what it means."""

from __future__ import annotations

import html
import json
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import traitlets

from ..client.connect import default_client
from ..client.notebook import Channel, Client
from ..data.broadcast_log import part
from ..protocol.channel import PREFIX
from ..protocol.explain import as_dict, explain
from ..protocol.messages import Message
from . import paging
from .base import STATIC, RtWidget, View, there, unregister_all
from .tick import tick

SHOWN = 300
"""Frames that a view gets when it opens, and at most at once; older ones it asks for."""
TEXT_MOST = 4_000
"""Characters of one frame that a page shows; `export` writes all of them."""


class Inspector(RtWidget):
    """Every frame that a client sends and receives, in the order of time. What is shown, exported or in `df` has its
    keys and tokens taken out.

    Args:
        source: a `Client` for all of its frames, or a `Channel` for those of its topic; default the default client.
        maxlen: most frames kept; the oldest go first.
    """

    _newest_last = True
    _esm = STATIC / "inspector.js"
    _css = STATIC / "inspector.css"

    count = traitlets.Int(0, read_only=True).tag(sync=True)
    """Frames kept."""
    revision = traitlets.Int(0, read_only=True).tag(sync=True)
    """How many frames there ever were: observe this."""
    paused = traitlets.Bool(False, read_only=True).tag(sync=True)
    """Whether the list stands still; frames are kept all the same."""

    def __init__(self, source: Client | Channel | None = None, *, maxlen: int = 5_000) -> None:
        if source is not None and not isinstance(source, Client | Channel):
            raise TypeError(f"rt.Inspector takes a client or a channel, not {type(source).__name__}")
        if maxlen < 1:
            raise ValueError(f"maxlen is the number of frames to keep, 1 or more, not {maxlen!r}")
        source = source or default_client()
        self.source = source
        client = source.client if isinstance(source, Channel) else source
        self._topic = PREFIX + source.topic if isinstance(source, Channel) else None
        self._entries: deque[tuple[datetime, str, Message]] = deque(maxlen=maxlen)
        self._total = 0
        self._held_at: int | None = None
        self._registered: list[Callable[[], Any]] = []
        super().__init__()
        self._registered.append(there(client.aio.on_frame, self._took))

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
            for at, way, message in entries:
                file.write(_line(at, way, message) + "\n")
        return len(entries)

    def pause(self) -> None:
        """Lets the list stand still; what comes meanwhile is kept, and shown by `resume()`."""
        self._hold(True)

    def resume(self) -> None:
        """Shows what came meanwhile, and goes on."""
        self._hold(False)

    def clear(self) -> None:
        """Forgets the frames kept."""
        self._entries.clear()
        tick.mark(self)

    def _hold(self, hold: bool) -> None:
        self._held_at = self._total if hold else None
        self.set_trait("paused", hold)
        tick.mark(self)

    # --- on the I/O thread

    def _took(self, direction: str, message: Message) -> None:
        if self._topic is not None and message.topic != self._topic:
            return
        # A join's payload is built anew for each join, and a received one belongs to nobody else: kept as they are, and
        # written without secrets when somebody looks.
        self._entries.append((datetime.now(UTC), direction, message))
        self._total += 1
        tick.mark(self)

    def _tick(self, now: float) -> bool:
        moved = self._total != self.revision
        with self.hold_sync():
            self.set_trait("count", len(self._entries))
            self.set_trait("revision", self._total)
        if moved:
            self._announce_df()
        return super()._tick(now)

    def _frame(self, view: View) -> dict[str, Any] | None:
        shown, frame = view.shown, dict[str, Any]()
        until = self._total if self._held_at is None else self._held_at
        of = self.source.topic if isinstance(self.source, Channel) else "all topics"
        state = {"of": of, "count": self._total, "paused": self.paused, "waiting": self._total - until}
        if state != shown.get("state"):
            shown["state"] = frame["state"] = state
        held = self._total - len(self._entries)
        since = shown.get("since", 0)
        start = max(since, held, until - SHOWN)
        if until > start or "since" not in shown:
            frame["from"] = start
            frame["lines"] = self._lines(start, until)
            shown["since"] = until
        if held != shown.get("held"):
            shown["held"] = frame["held"] = held
        if view.outbox:
            frame["file"] = view.outbox.pop(0)
        if view.reads:
            frame["pages"] = paging.answers(view, held, until, self._lines, _searched)
        return frame or None

    def _lines(self, start: int, stop: int) -> list[dict[str, Any]]:
        held = self._total - len(self._entries)
        return [_shown(*entry) for entry in part(self._entries, start - held, stop - held)]

    def _asked(self, view: View, kind: Any, content: dict[str, Any]) -> None:
        if kind in ("pause", "resume"):
            self._hold(kind == "pause")
        elif kind == "clear":
            self.clear()
        elif kind == "read":
            paging.asked(view, content)
        elif kind == "export":
            view.outbox.append("\n".join(_line(*entry) for entry in list(self._entries)))

    def _release(self) -> None:
        there(unregister_all, self._registered)

    def _plain(self) -> str:
        lines = [(at, way, explain(message)) for at, way, message in list(self._entries)[-10:]]
        return "\n".join(f"{at:%H:%M:%S} {'←' if way == 'in' else '→'} {meaning[:120]}" for at, way, meaning in lines)

    def _html(self) -> str:
        lines = [(at, way, explain(message)) for at, way, message in list(self._entries)[-50:]]
        items = "".join(
            f"<li>{at:%H:%M:%S} {'←' if way == 'in' else '→'} {html.escape(meaning)}</li>" for at, way, meaning in lines
        )
        return f"<p><b>{self._total} frames</b></p><ul>{items}</ul>"


def _line(at: datetime, way: str, message: Message) -> str:
    said = {"at": at.isoformat(), "direction": way, "meaning": explain(message), "frame": as_dict(message)}
    return json.dumps(said, ensure_ascii=False, default=str)


def _searched(line: dict[str, Any]) -> str:
    """What the page's filter looks at; the page does the same."""
    return f"{line['text']} {line['event']} {line['frame']}"


def _shown(at: datetime, way: str, message: Message) -> dict[str, Any]:
    text = json.dumps(as_dict(message), ensure_ascii=False, default=str, indent=1)
    return {
        "at": round(at.timestamp() * 1000),
        "way": way,
        "event": message.event,
        "text": explain(message),
        "frame": text if len(text) <= TEXT_MOST else f"{text[:TEXT_MOST]}…",
    }
