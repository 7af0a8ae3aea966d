"""The window of rows that one page shows of a grid, and the frames that keep it up to date.

The store's deltas say which cells changed and which rows came and went, so nothing is compared: while the same rows
stand in the window, a frame is built from the changed cells alone.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..data.column_kinds import ColumnKind
from ..data.delta import Delta, Key
from ..data.store import Store
from ..data.view_filter import ViewFilter
from .page_values import dict_of, list_of, text_of, whole_number
from .row_keys import json_key, key_from_page

MOST_ROWS = 400
"""Rows that one page may request at once: a window and its margins."""
MOST_CELLS = 100_000
"""Cells in a window: of very wide tables a page gets fewer rows at once."""
FIRST_ROWS = 60
"""Rows that a page gets before it has said what it shows."""
FRAME_CHARACTERS = 1_000_000
"""Characters of text that a window carries, or a little more: of long texts it has only the beginning."""
SHORTEST_CUT, LONGEST_CUT = 40, 1_000
"""Characters of a long text that a page gets, in a large window and in a small one."""


Cell = tuple[int, Any] | tuple[int, Any, int]
"""Place in the window and value, with its whole length where a text is cut."""


@dataclass(frozen=True)
class WindowRequest:
    """What a page shows: which rows, in which order."""

    start: int
    stop: int
    sort: tuple[tuple[str, bool], ...]
    search: str
    filters: tuple[tuple[str, str], ...]
    zone: str
    tail: bool
    anchor: tuple[int, Any] | None

    @staticmethod
    def parse(wants: dict[str, Any], columns: dict[str, ColumnKind]) -> WindowRequest:
        """Reads what a page sent, as far as it makes sense: nothing that a page sends may raise."""
        most = min(MOST_ROWS, max(FIRST_ROWS, MOST_CELLS // max(1, len(columns))))
        start = whole_number(wants.get("start"), 0)
        stop = min(max(start, whole_number(wants.get("stop"), start + FIRST_ROWS)), start + most)
        anchor = list_of(wants.get("anchor"))
        return WindowRequest(
            start,
            stop,
            parse_sort(wants.get("sort"), columns),
            text_of(wants.get("search")),
            tuple((name, str(text)) for name, text in dict_of(wants.get("filters")).items()),
            text_of(wants.get("zone")),
            wants.get("tail") is True,
            (whole_number(anchor[0], 0), _frozen(anchor[1])) if len(anchor) == 2 else None,
        )

    @property
    def rows(self) -> tuple[str, tuple[tuple[str, str], ...], str]:
        """Which of the table's rows pass."""
        return self.search, self.filters, self.zone


def parse_sort(wanted: Any, columns: dict[str, ColumnKind]) -> tuple[tuple[str, bool], ...]:
    """The sort that a page sent, without columns that the table has not."""
    pairs = [pair for pair in map(list_of, list_of(wanted)) if len(pair) == 2]
    return tuple((name, bool(down)) for name, down in pairs if isinstance(name, str) and name in columns)


class WindowChanges:
    """What the store's deltas did since the last frame, as far as a window with these rows may show it."""

    def __init__(self) -> None:
        self.rows: dict[Key, int] = {}
        """The window's rows: place by key."""
        self.filtered: frozenset[str] | None = frozenset()
        """Columns that decide whether a row passes search and filters; None for all."""
        self.clear()

    def clear(self) -> None:
        self.cells: dict[str, set[Key]] = {}
        """Keys of the window whose cells changed, by column."""
        self.columns: set[str] = set()
        """Columns that changed in any row of the table."""
        self.inserted: set[Key] = set()
        self.tested: set[Key] = set()
        """Keys of the table that may pass search and filters since, and did not before."""
        self.moved = False
        """Whether rows came or went, wherever in the table."""
        self.reset = False
        """Whether anything may have changed."""

    def __bool__(self) -> bool:
        return bool(self.columns or self.moved or self.reset)

    def apply(self, delta: Delta) -> None:
        """Adds a delta. Called by the store, which holds its lock."""
        if delta.reset or delta.columns_changed:
            self.clear()
            self.reset = True
            return
        if delta.inserted or delta.deleted:
            self.moved = True
            self.inserted.difference_update(delta.deleted)
            self.inserted.update(delta.inserted)
        rows = self.rows
        for part in delta.updates:
            self.columns.update(part.flags)
            if self.filtered is None or self.filtered:
                names = part.flags if self.filtered is None else self.filtered.intersection(part.flags)
                for name in names:
                    self.tested.update(part.keys[i] for i in np.flatnonzero(part.flags[name]))
            here = [(i, key) for i, key in enumerate(part.keys) if key in rows]
            if here:
                for name, flags in part.flags.items():
                    changed = {key for i, key in here if flags[i]}
                    if changed:
                        self.cells.setdefault(name, set()).update(changed)

    def move_rows(self, sort: set[str]) -> bool:
        """Whether other rows may stand in the window now, or in other places."""
        return self.moved or self.reset or bool(self.tested) or not self.columns.isdisjoint(sort)


class GridWindow:
    """The window of one page. The store's lock is held around each call."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.view_filter: ViewFilter | None = None
        """Its search and filters, if it has any."""
        self.filter_of: Any = None
        """What these were made from."""
        self.shown = 0
        """Rows that pass them."""
        self._changes = WindowChanges()
        self._request: WindowRequest | None = None
        self._filtered: tuple[ViewFilter | None, int] = (None, 0)
        self._schema: list[list[str]] = []
        self._start = self._moved = 0
        store.add_listener(self._changes)

    def frame(self, wants: dict[str, Any], *, whole: bool) -> dict[str, Any]:
        """What the page lacks: nothing, the cells that changed, or the window; the window in any case if `whole`."""
        store, changes, view_filter = self.store, self._changes, self.view_filter
        request = WindowRequest.parse(wants, store.kinds)
        filtered = (view_filter, 0 if view_filter is None else view_filter.pending)
        same = not whole and request == self._request and filtered == self._filtered
        if same and not changes:
            return {}
        sort = {name for name, _ in request.sort or store.order}
        if not changes.columns.isdisjoint(sort):
            changes.tested.clear()  # a row that came in may only have moved
            changes.moved = True
        if same and filtered[1] == 0 and not changes.move_rows(sort):
            frame = _patch(self._changed_cells())
        else:
            frame = self._read(request, whole)
        self._request, self._filtered = request, filtered
        changes.clear()
        changes.filtered = frozenset() if view_filter is None else view_filter.names
        return frame

    def _changed_cells(self) -> list[tuple[str, list[Cell]]]:
        """The cells of the window that changed: where, and what they hold now."""
        limit, found = self._limit(), list[tuple[str, list[Cell]]]()
        for name, keys in self._changes.cells.items():
            ordered = sorted(keys, key=self._changes.rows.__getitem__)
            _, block = self.store.values(self.store.find(ordered), [name])
            values = block[name].to_json()
            cuts = cut_texts(block[name].kind, values, limit)
            cells: list[Cell] = []
            for i, key in enumerate(ordered):
                place = self._changes.rows[key]
                cells.append((place, values[i], cuts[i]) if i in cuts else (place, values[i]))
            found.append((name, cells))
        return found

    def _read(self, request: WindowRequest, whole: bool) -> dict[str, Any]:
        store, changes, before = self.store, self._changes, self._changes.rows
        window = store.window(
            request.start,
            request.stop,
            sort=request.sort or None,
            nulls_last=True,
            view_filter=self.view_filter,
            tail=request.tail,
            anchors=self._anchors(request),
        )
        keys, start, columns = window["keys"], window["start"], window["columns"]
        self.shown = window["shown"]
        schema = [[column.name, column.type] for column in store.columns if column.name in columns]
        known = self._request is not None
        rows = {key: place for place, key in enumerate(keys)}
        frame: dict[str, Any] = {}
        if self._request is not None and self._request.rows == request.rows:
            gone = self._gone([key for key in before if key not in rows])
            if gone:
                frame["gone"] = gone
            self._mark(frame, before, rows)
        same_rows = known and not whole and schema == self._schema and start == self._start
        if same_rows and not changes.reset and list(before) == keys:
            for key in changes.inserted & rows.keys():  # went and came again between two frames
                for name in columns:
                    changes.cells.setdefault(name, set()).add(key)
            frame |= _patch(self._changed_cells())
            frame.pop("changed", None)
        else:
            if whole or not known or schema != self._schema:
                frame["schema"] = schema
            frame["start"], frame["keys"] = start, [json_key(key) for key in keys]
            limit, kinds = self._limit(len(keys), len(columns)), store.kinds
            cuts = [(name, list(cut_texts(kinds[name], columns[name], limit).items())) for name, _ in schema]
            frame["columns"] = [columns[name] for name, _ in schema]
            if any(cells for _, cells in cuts):
                frame["cuts"] = [(name, cells) for name, cells in cuts if cells]
        changes.rows = rows
        self._schema, self._start, self._moved = schema, start, start - request.start
        return frame

    def _mark(self, frame: dict[str, Any], before: dict[Key, int], rows: dict[Key, int]) -> None:
        """Notes in a frame which cells changed, and which rows arrived."""
        changes = self._changes
        changed = [(name, sorted(rows[key] for key in keys if key in rows)) for name, keys in changes.cells.items()]
        changed = [(name, places) for name, places in changed if places]
        if changed:
            frame["changed"] = changed
        came = rows.keys() - before.keys()
        arrived = came & (changes.inserted | changes.tested)
        if arrived:
            frame["arrived"] = sorted(rows[key] for key in arrived)

    def _gone(self, out: list[Key]) -> list[Any]:
        """Those of the rows that left the window which are no longer in the table, or no longer pass search and
        filters. A row that has only moved out of the window is none of them, nor is one not tested again yet."""
        if not out:
            return []
        slots, view_filter = self.store.find(out), self.view_filter
        gone = slots < 0
        if view_filter is not None and view_filter.pending == 0:
            gone[~gone] = ~view_filter.keep(slots[~gone])
        return [json_key(key) for key, is_gone in zip(out, gone, strict=True) if is_gone]

    def _anchors(self, request: WindowRequest) -> list[tuple[Key, int]]:
        """The row that the person looks at, and those after it if it goes, with the places that they had when the page
        requested the window: rows that come above must not move what is being read."""
        if request.anchor is None:
            return []
        place, key = request.anchor[0], key_from_page(self.store, request.anchor[1])
        start = self._start - self._moved
        return [(key, place), *((other, start + i) for other, i in self._changes.rows.items() if start + i > place)]

    def _limit(self, rows: int | None = None, columns: int | None = None) -> int:
        """Characters of a long text that a cell of the window gets."""
        cells = (len(self._changes.rows) if rows is None else rows) * (columns or len(self._schema))
        return max(SHORTEST_CUT, min(LONGEST_CUT, FRAME_CHARACTERS // max(1, cells)))


def _frozen(value: Any) -> Any:
    return tuple(map(_frozen, list_of(value))) if isinstance(value, list) else value


def _patch(cells: list[tuple[str, list[Cell]]]) -> dict[str, Any]:
    return {"patch": cells} if cells else {}


def cut_texts(kind: ColumnKind, values: list[Any], limit: int) -> dict[int, int]:
    """Replaces each longer text (or JSON text) by its first `limit` characters; returns its whole length by place."""
    cuts: dict[int, int] = {}
    if not kind.nested:
        for i, value in enumerate(values):
            if isinstance(value, str) and len(value) > limit:
                cuts[i], values[i] = len(value), value[:limit]
    else:
        for i, value in enumerate(values):
            if isinstance(value, str | list | dict):
                text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
                if len(text) > limit:
                    cuts[i], values[i] = len(text), text[:limit]
    return cuts
