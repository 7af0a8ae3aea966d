"""The presence state of a channel as a table: who is online."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal

import pandas as pd

from ..protocol.presence import PresenceChange

Meta = Mapping[str, Any]
State = Mapping[str, "tuple[Meta, ...] | list[Meta]"]
Event = Literal["join", "leave", "update", "sync"]
Listener = Callable[[str, list[dict[str, Any]]], object]

_HIDDEN = ("phx_ref", "phx_ref_prev")


def _public(meta: Meta) -> dict[str, Any]:
    return {name: value for name, value in meta.items() if name not in _HIDDEN}


class PresenceTable:
    """People (keys) and their connections (metas), from each `PresenceChange`. Safe to read from any thread."""

    def __init__(self) -> None:
        self._state: State = {}
        self._frame: pd.DataFrame | None = None
        self._lock = threading.Lock()
        self._listeners: dict[Event, list[Listener]] = {"join": [], "leave": [], "update": []}
        self.revision = 0

    def apply(self, change: PresenceChange) -> None:
        """Replaces the state by that after the change and calls the listeners, leaves first: a name may leave and join
        within one change.
        """
        with self._lock:
            self._state = change.state
            self._frame = None
            self.revision += 1
        happened: Iterable[tuple[Event, Mapping[str, Any]]] = (
            ("leave", change.leaves),
            ("join", change.joins),
            ("update", change.updates),
        )
        for event, metas in happened:
            for key, found in metas.items():
                for fn in list(self._listeners[event]):
                    fn(key, [_public(meta) for meta in found])

    @property
    def count(self) -> int:
        """People: distinct keys."""
        return len(self._state)

    @property
    def connections(self) -> int:
        """Connections (metas): one person may have several."""
        return sum(len(metas) for metas in self._state.values())

    @property
    def state(self) -> dict[str, list[dict[str, Any]]]:
        """Each key with the states of its connections, without Phoenix' own fields."""
        return {key: [_public(meta) for meta in metas] for key, metas in self._state.items()}

    def df(self) -> pd.DataFrame:
        """One row a connection: `key`, then its state's fields (a field called key shows as `state.key`)."""
        with self._lock:
            if self._frame is None:
                rows = [(key, _public(meta)) for key, metas in self._state.items() for meta in metas]
                columns: dict[str, Any] = {
                    "key": pd.Series([key for key, _ in rows], dtype="str" if pd.__version__ >= "3" else object)
                }
                for name in dict.fromkeys(name for _, meta in rows for name in meta):
                    values = pd.Series([meta.get(name) for _, meta in rows], dtype=object)
                    columns[f"state.{name}" if name in columns else name] = values.infer_objects()
                self._frame = pd.DataFrame(columns)
            return self._frame.copy()

    def on_join(self, fn: Listener) -> Callable[[], None]:
        """Calls `fn(key, states)` when connections join. Returns a function that unregisters."""
        return self._on("join", fn)

    def on_leave(self, fn: Listener) -> Callable[[], None]:
        """Calls `fn(key, states)` when connections leave. Returns a function that unregisters."""
        return self._on("leave", fn)

    def on_update(self, fn: Listener) -> Callable[[], None]:
        """Calls `fn(key, states)` when a connection changes its state. Returns a function that unregisters."""
        return self._on("update", fn)

    def _on(self, event: Event, fn: Listener) -> Callable[[], None]:
        listeners = self._listeners[event]
        listeners.append(fn)
        return lambda: listeners.remove(fn) if fn in listeners else None
