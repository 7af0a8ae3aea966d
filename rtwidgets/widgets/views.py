"""The views of a widget: which pages show it, what each was sent, and how fast it may be sent more.

Nothing here sends or reads a clock: `receive` and `due` get the time. A page acknowledges the frames that it has
painted. Without acknowledgements either a cell is running (the page is well, and its messages wait), or the page is
slow, or it is gone: a reloaded page does not say goodbye. So a view that stays silent while the kernel is idle is sent
ever less, and the first message from it restores its pace.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any, cast

from .page_values import whole_number

CREDIT = 8
"""Frames that a view may leave unacknowledged before its pace falls; a page acknowledges about every fourth."""
BUSY_PACE, SLOW_PACE = 0.1, 0.5
"""Seconds between frames without acknowledgements: while a cell runs, and while the kernel is idle."""
PATIENCE = 20
"""Frames at `SLOW_PACE` after which the pause doubles with each further frame."""
SILENT_PACE = 60.0
"""Longest pause between frames, in seconds."""
SILENT_MOST = 100
"""Silent views kept; the one that was heard from longest ago goes first. A view that acknowledges is never dropped."""
WHOLE_EVERY = 1.0
"""Seconds between whole frames without acknowledgements: a lost frame would go unnoticed otherwise."""
ANYONE = "*"
"""Name of the view for pages that could not send hello yet, because the kernel has been busy since the display."""
ANYONE_FOR, ANYONE_PACE = 120.0, 0.5
"""Seconds for which, and between which, such pages are sent frames."""


class View:
    """One place in one page that shows the widget."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.wants: dict[str, Any] = {}
        """What the page asked for, such as a window of rows or a sort."""
        self.shown: dict[str, Any] = {}
        """What the page was sent last; the next frame is the difference. The widget's own."""
        self.outbox: list[Any] = []
        """Answers to the page's requests, for its next frame."""
        self.reads: list[Any] = []
        """Requests for older lines (see `paging`)."""
        self.failed = False
        """Whether its last frame could not be made."""
        self.seq = self.unacked = 0
        self.slow_frames = 0
        """Frames sent without an acknowledgement while the kernel was idle."""
        self.sent_at = self.whole_at = self.heard_at = 0.0

    @property
    def late(self) -> bool:
        """Whether its acknowledgements are missing."""
        return self.unacked >= CREDIT

    @property
    def silent(self) -> bool:
        """Whether it has probably gone."""
        return self.late and self.slow_frames > PATIENCE

    def pace(self, busy: bool) -> float:
        """Seconds from one frame to the next; 0 while acknowledgements come."""
        if not self.late:
            return 0.0
        if self.silent:
            return min(SLOW_PACE * 2.0 ** min(self.slow_frames - PATIENCE, 20), SILENT_PACE)
        return BUSY_PACE if busy else SLOW_PACE

    def differs(self, name: str, value: object) -> bool:
        """Whether the page was last sent another value of that name; remembers the new one."""
        if name in self.shown and self.shown[name] == value:
            return False
        self.shown[name] = value
        return True

    def number(self, now: float, whole: bool, busy: bool) -> int:
        """Counts a frame that is about to be sent. Returns its sequence number."""
        if self.late and not busy:
            self.slow_frames += 1
        self.seq += 1
        self.unacked += 1
        self.sent_at = now
        if whole:
            self.whole_at = now
        return self.seq


class Views:
    """The views of one widget, by name. Safe to use from any thread."""

    def __init__(self) -> None:
        self._by_name: dict[str, View] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._by_name)

    def names(self) -> set[str]:
        """The views' names."""
        with self._lock:
            return set(self._by_name)

    def receive(self, content: object, now: float) -> tuple[View, str, Mapping[str, Any]] | None:
        """Applies a page's message. Returns the view, the message's kind and its fields, or None where nothing is
        left to do: after an acknowledgement, a goodbye, or a message that is none."""
        if not isinstance(content, Mapping):
            return None
        fields = cast("Mapping[str, Any]", content)
        name, kind = fields.get("view"), fields.get("kind")
        if not isinstance(name, str) or not isinstance(kind, str):
            return None
        with self._lock:
            if kind == "bye":
                self._by_name.pop(name, None)
                return None
            view = self._by_name.get(name)
            if view is None or kind == "hello":
                view = self._by_name[name] = View(name)
                self._by_name.pop(ANYONE, None)
                self._drop_silent()
            view.heard_at, view.slow_frames = now, 0
            if kind == "ack":
                view.unacked = max(0, view.seq - whole_number(fields.get("seq"), 0))
                # A view that was dropped while it was silent has nothing numbered yet: it is sent everything.
                return (view, kind, fields) if view.seq == 0 else None
            wants = fields.get("wants")
            if isinstance(wants, dict):
                view.wants = cast("dict[str, Any]", wants)
            return view, kind, fields

    def _drop_silent(self) -> None:
        silent = sorted((view for view in self._by_name.values() if view.silent), key=lambda view: view.heard_at)
        for view in silent[: max(0, len(silent) - SILENT_MOST)]:
            del self._by_name[view.name]

    def expect_anyone(self, wants: dict[str, Any]) -> None:
        """Sends frames to any page from now on, until one says hello: the widget is being displayed."""
        view = View(ANYONE)
        view.wants = wants
        with self._lock:
            self._by_name[ANYONE] = view

    def due(self, now: float, busy: bool) -> tuple[list[View], bool]:
        """The views that may be sent a frame now, and whether others have to wait."""
        with self._lock:
            views = list(self._by_name.values())
        found: list[View] = []
        waits = False
        for view in views:
            if view.name == ANYONE:
                waits = self._is_due_anyone(view, now, found) or waits
            elif now - view.sent_at < view.pace(busy):
                waits = True
            else:
                if view.late and now - view.whole_at >= WHOLE_EVERY:
                    view.shown = {}
                found.append(view)
        return found, waits

    def _is_due_anyone(self, view: View, now: float, found: list[View]) -> bool:
        view.heard_at = view.heard_at or now
        if now - view.heard_at > ANYONE_FOR:
            with self._lock:
                self._by_name.pop(ANYONE, None)
            return False
        if now - view.sent_at >= ANYONE_PACE:
            view.shown = {}
            found.append(view)
        return True
