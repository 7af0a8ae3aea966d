"""A grid in the page: each view is sent the window of rows that it shows, and then what changes in it."""

from __future__ import annotations

import contextlib
import copy
import html
import io
from typing import Any

import numpy as np
import pandas as pd
import traitlets

from ..client.log import logger
from ..client.thread import io_loop
from ..data.store import Store
from ..data.view_filter import AT_ONCE, ViewFilter
from .base import STATIC, RtWidget, View, whole_number
from .tick import tick

MOST_ROWS = 400
"""Rows that one view may ask for at once: a window and its margins."""
FIRST_ROWS = 60
"""Rows that a view gets before it said what it shows."""
CSV_MOST = 50_000_000
"""Characters of CSV that a page is sent."""
HTML_ROWS = 20
"""Rows in a saved notebook."""


class Grid(RtWidget):
    """Shows a `Store`: the page asks for a window, sort, search and filters, and is answered with that window and then
    with its changes."""

    _esm = STATIC / "table.js"
    _css = STATIC / "table.css"

    count = traitlets.Int(0, read_only=True).tag(sync=True)
    """Rows held."""
    revision = traitlets.Int(0, read_only=True).tag(sync=True)
    """Grows by one or more at each visible change: observe this."""
    selected = traitlets.List(trait=traitlets.Any()).tag(sync=True)
    """Keys of the rows that are selected in the grid; set it to select."""
    arrangement = traitlets.Dict().tag(sync=True)
    """How the grid is arranged, as a person did in the page or as code sets it; `{}` for how it was at first.

    `order`, `hidden`, `pinned`: lists of columns. `widths`: pixels (40 to 1200) by column. `sort`: pairs `[column,
    descending]`, the first decides. `search`: a text that some column holds. `filters`: by column, a text that it holds
    or a comparison (`">5"`). Columns that the table has not are passed over: they may come.
    """

    def __init__(self, **traits: Any) -> None:
        self._narrows: dict[str, tuple[Any, ViewFilter]] = {}
        self._looking: set[ViewFilter] = set()
        super().__init__(**traits)

    @property
    def store(self) -> Store:
        """The rows, column by column."""
        raise NotImplementedError

    @property
    def df(self) -> pd.DataFrame:
        """The rows, as a DataFrame that never changes after you got it."""
        raise NotImplementedError

    @property
    def selected_df(self) -> pd.DataFrame:
        """The selected rows, in the table's order; keys that have gone are passed over."""
        return self.store.take([self._key(key) for key in self.selected], arrange=True)

    def state(self) -> dict[str, Any]:
        """What a person set up in the grid (`arrangement`, `selected`), as JSON can hold it: keep it for `restore`."""
        return {
            "arrangement": copy.deepcopy(self.arrangement),
            "selected": [list(key) if isinstance(key, tuple) else key for key in self.selected],
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Sets the grid up as `state()` found it, there or in another notebook.

        Raises TraitError, and changes nothing, where it is no such state.
        """
        if not isinstance(state, dict) or not state.keys() <= {"arrangement", "selected"}:
            raise traitlets.TraitError(f"restore takes what state() gave: arrangement and selected, not {state!r:.200}")
        arrangement = checked_arrangement(state.get("arrangement", self.arrangement))
        selected = checked_keys(state.get("selected", self.selected))
        with self.hold_sync():
            self.arrangement, self.selected = arrangement, selected

    @traitlets.validate("arrangement")
    def _check_arrangement(self, proposal: Any) -> dict[str, Any]:
        return checked_arrangement(proposal.value)

    @traitlets.validate("selected")
    def _check_selected(self, proposal: Any) -> list[Any]:
        return checked_keys(proposal.value)

    def to_csv(self, path: Any = None, **options: Any) -> str | None:
        """The rows as CSV: into a file or, without a path, as text. Options as for `DataFrame.to_csv`."""
        return self.df.to_csv(path, **{"index": False, **options})

    # --- to the page, on the I/O thread

    def _title(self) -> str:
        """A name for people and for files."""
        raise NotImplementedError

    def _state(self) -> dict[str, Any]:
        """What the status line says: `status`, `error`, `paused`, `waiting`, `lag`, `rate`, `note`."""
        raise NotImplementedError

    def _frame(self, view: View) -> dict[str, Any] | None:
        store, shown = self.store, view.shown
        frame: dict[str, Any] = {}
        narrow = self._narrowed(view)
        with store.lock:  # what is known of the rows and the window are those of one moment, also while a thread looks
            pending = 0 if narrow is None else narrow.pending
            asked = (store.revision, repr(view.wants), narrow is None, pending)
            if store.columns and asked != shown.get("asked"):
                self._window(view, frame, narrow)
                shown["asked"] = asked
        state = {**self._state(), "total": len(store), "order": [list(pair) for pair in store.order]}
        if narrow is not None:
            state["shown"] = shown.get("rows", 0)
            state["looking"] = pending > AT_ONCE
            state["note"] = "; ".join(filter(None, [state["note"], _note(narrow, pending, len(store))]))
        if state != shown.get("state"):
            shown["state"] = frame["state"] = state
        if view.outbox:
            frame["csv"] = view.outbox.pop(0)
        return frame or None

    def _narrowed(self, view: View) -> ViewFilter | None:
        """The rows that the view's search and filters leave; None where it has none."""
        text, by_column = _narrowing(view.wants)
        store, known = self.store, self._narrows.get(view.name)
        asked = (store, [(column.name, column.type) for column in store.columns], text, by_column)
        if known is None or known[0] != asked:
            if known is not None:
                known[1].stopped = True
            with self._lock:
                gone = self._narrows.keys() - self._views.keys()
            for name in gone:
                del self._narrows[name]
            known = self._narrows[view.name] = (asked, ViewFilter(store, text, by_column))
        narrow = known[1]
        if not narrow:
            return None
        if narrow in self._looking or narrow.pending > AT_ONCE:
            self._look(narrow)
        else:
            while narrow.work():
                pass
        return narrow

    def _look(self, narrow: ViewFilter) -> None:
        """Has a thread look through the rows, so that the line to the server is heard meanwhile."""
        if narrow in self._looking:
            return
        self._looking.add(narrow)

        def look() -> None:
            while narrow.work() and not narrow.stopped and not self._closed:
                tick.mark(self)

        def done(looked: Any) -> None:
            self._looking.discard(narrow)
            if not looked.cancelled() and looked.exception() is not None:
                logger.error("a grid could not search its rows", exc_info=looked.exception())
            tick.mark(self)

        io_loop().run_in_executor(None, look).add_done_callback(done)

    def _window(self, view: View, frame: dict[str, Any], narrow: ViewFilter | None) -> None:
        """Puts the window into the frame: whole, or only the cells that differ where the same rows stand in the same
        places."""
        wants, shown, store = view.wants, view.shown, self.store
        start = whole_number(wants.get("start"), 0)
        stop = min(max(start, whole_number(wants.get("stop"), start + FIRST_ROWS)), start + MOST_ROWS)
        sort = _sort(wants.get("sort"), {column.name for column in store.columns})
        hold = self._hold(view)
        window = store.window(start, stop, sort=sort or None, narrow=narrow, tail=wants.get("tail") is True, hold=hold)
        shown["moved"] = window["start"] - start
        start, shown["rows"] = window["start"], window["shown"]
        schema = [[column.name, column.type] for column in store.columns if column.name in window["columns"]]
        keys = [list(key) if isinstance(key, tuple) else key for key in window["keys"]]
        keys = [str(key) if isinstance(key, int) and abs(key) > 2**53 else key for key in keys]
        before, of = shown.get("window"), (store, _narrowing(wants))
        if before is not None and shown["window_of"] == of:
            gone = self._gone(before[2], keys, narrow)
            if gone:
                frame["gone"] = gone
        shown["window"], shown["window_of"] = (schema, start, keys, window["columns"]), of
        if before is not None and before[0] == schema and before[1] == start and before[2] == keys:
            patch: list[tuple[str, list[tuple[int, Any]]]] = []
            for name, values in window["columns"].items():
                was = before[3][name]
                if was != values:
                    both = enumerate(zip(values, was, strict=True))
                    patch.append((name, [(i, value) for i, (value, old) in both if value != old]))
            if patch:
                frame["patch"] = patch
        else:
            if before is None or before[0] != schema:
                frame["schema"] = schema
            frame["start"], frame["keys"] = start, keys
            frame["columns"] = [window["columns"][name] for name, _ in schema]

    def _gone(self, before: list[Any], now: list[Any], narrow: ViewFilter | None) -> list[Any]:
        """Keys of the last window that the table no longer holds, or that search and filters, which are the same ones,
        no longer leave. A row that has only moved out of the window is none, nor is one not looked at again yet."""
        here = {str(key) for key in now}
        out = [key for key in before if str(key) not in here]
        if not out:
            return []
        slots = self.store.find([self._key(key) for key in out])
        gone = slots < 0
        if narrow is not None and narrow.pending == 0:
            gone[~gone] = ~narrow.keep(slots[~gone])
        return [key for key, is_gone in zip(out, gone, strict=True) if is_gone]

    def _hold(self, view: View) -> list[tuple[Any, int]]:
        """The row that the person looks at, and those after it if it goes, with the places that they had when the page
        said what it wants: rows that come above must not move what is being read."""
        anchor, window = view.wants.get("anchor"), view.shown.get("window")
        if not isinstance(anchor, list) or len(anchor) != 2:
            return []
        place, key = whole_number(anchor[0], 0), self._key(anchor[1])
        hold = [(key, place)]
        if window is not None:
            _, start, keys, _ = window
            start -= view.shown.get("moved", 0)
            hold += [(self._key(other), start + i) for i, other in enumerate(keys) if start + i > place]
        return hold

    def _key(self, key: Any) -> Any:
        """A key as the store has it: pages know lists for tuples, and texts for integers that they could not hold."""
        if isinstance(key, list):
            return tuple(self._key(part) for part in key)
        if isinstance(key, str) and key not in self.store and key.lstrip("-").isdigit():
            return int(key)
        return key if isinstance(key, str | int | float | bool) else None

    def _asked(self, view: View, kind: Any, content: dict[str, Any]) -> None:
        if kind == "csv":
            self._write_csv(view, content.get("columns"))
        elif kind in ("select", "layout"):
            with contextlib.suppress(traitlets.TraitError):  # nothing that a page sends may raise here
                if kind == "select":
                    self.selected = content.get("keys")
                else:
                    self.arrangement = content.get("layout")

    def _first_wants(self) -> dict[str, Any]:
        return {name: self.arrangement[name] for name in ("sort", "search", "filters") if name in self.arrangement}

    def _write_csv(self, view: View, columns: Any) -> None:
        """Answers with the rows that the view is left with, in its order and columns, as CSV."""

        def write() -> dict[str, str]:
            store = self.store
            sort = _sort(view.wants.get("sort"), {column.name for column in store.columns})
            # Not the view's own, which may not have looked at all rows yet: a file has all that match.
            narrow = ViewFilter(store, *_narrowing(view.wants))
            while narrow.pending > AT_ONCE:
                narrow.work()
            with store.lock:
                while narrow.work():
                    pass
                frame = store.shown(sort=sort or None, narrow=narrow if narrow else None)
            wanted = [name for name in columns if name in frame] if isinstance(columns, list) else []
            text = frame[wanted or list(frame)].to_csv(index=False)
            if len(text) > CSV_MOST:
                hint = f"{len(text) / 1e6:.0f} MB are too much for a page: write them with .to_csv(path)"
                return {"problem": hint}
            return {"name": f"{self._title()}.csv", "text": text}

        def done(written: Any) -> None:
            if written.cancelled():
                return
            problem = written.exception()
            if problem is not None:
                logger.error("a grid could not write its rows", exc_info=problem)
            answer = {"problem": f"not written: {problem}"} if problem is not None else written.result()
            view.outbox.append(answer)
            tick.mark(self)

        def go() -> None:
            io_loop().run_in_executor(None, write).add_done_callback(done)

        io_loop().call_soon_threadsafe(go)

    def _html(self) -> str:
        frame = self.df
        text = io.StringIO()
        frame.head(HTML_ROWS).to_html(text, index=False, escape=True, na_rep="")
        more = f"<p>… {len(frame) - HTML_ROWS} more rows</p>" if len(frame) > HTML_ROWS else ""
        return f"<p><b>{html.escape(self._title())}</b></p>{text.getvalue()}{more}"


NARROWEST, WIDEST = 40, 1200
"""Pixels that a column may be wide."""


def checked_arrangement(value: Any) -> dict[str, Any]:
    """The arrangement, if it is one. Raises TraitError that says what is not."""
    if not isinstance(value, dict):
        raise traitlets.TraitError(f"arrangement is a dict, not {value!r:.200}")
    for name, part in value.items():
        if name in ("order", "hidden", "pinned"):
            good, means = _texts(part), "a list of columns"
        elif name == "widths":
            good = isinstance(part, dict) and _texts(list(part)) and all(map(_is_width, part.values()))
            means = f"a dict of pixels by column, each from {NARROWEST} to {WIDEST}"
        elif name == "sort":
            good = isinstance(part, list | tuple) and all(map(_is_sort, part))
            means = "a list of pairs (column, whether descending)"
        elif name == "filters":
            good = isinstance(part, dict) and _texts([*part, *part.values()])
            means = "a dict of texts by column"
        elif name == "search":
            good, means = isinstance(part, str), "a text"
        else:
            known = "order, hidden, pinned, widths, sort, search and filters"
            raise traitlets.TraitError(f"arrangement has {known}, not {name!r:.200}")
        if not good:
            raise traitlets.TraitError(f"arrangement[{name!r}] is {means}, not {part!r:.200}")
    return value


def checked_keys(value: Any) -> list[Any]:
    """The keys, if they are keys. Raises TraitError that says what is not."""
    if not isinstance(value, list | tuple):
        raise traitlets.TraitError(f"selected is a list of keys, not {value!r:.200}")
    return [_checked_key(key) for key in value]


def _checked_key(key: Any) -> Any:
    if isinstance(key, list | tuple) and key:
        return type(key)(_checked_key(part) for part in key)
    # A key that was read off a DataFrame is a number of numpy's.
    plain = key.item() if isinstance(key, np.generic) else key
    if not isinstance(plain, str | int | float | bool):
        means = "a row's key as the server writes it (a number, a text), or a tuple of them where the key has several"
        raise traitlets.TraitError(f"selected holds keys: {means}; not {key!r:.200}")
    return plain


def _texts(values: Any) -> bool:
    return isinstance(values, list | tuple) and all(isinstance(value, str) for value in values)


def _is_width(value: Any) -> bool:
    return isinstance(value, int | float) and NARROWEST <= value <= WIDEST


def _is_sort(pair: Any) -> bool:
    return isinstance(pair, list | tuple) and len(pair) == 2 and isinstance(pair[0], str) and isinstance(pair[1], bool)


def _narrowing(wants: dict[str, Any]) -> tuple[str, dict[str, str]]:
    """Search and filters, as far as they are ones."""
    search, filters = wants.get("search"), wants.get("filters")
    by_column = {name: str(text) for name, text in filters.items()} if isinstance(filters, dict) else {}
    return search if isinstance(search, str) else "", by_column


def _note(narrow: ViewFilter, pending: int, rows: int) -> str:
    parts = list(narrow.problems)
    if pending > AT_ONCE:
        parts.append(f"looking, {100 - round(100 * pending / max(rows, pending))} % done")
    return "; ".join(parts)


def _sort(wanted: Any, names: set[str]) -> list[tuple[str, bool]]:
    pairs = [pair for pair in wanted if isinstance(pair, list) and len(pair) == 2] if isinstance(wanted, list) else []
    return [(name, bool(down)) for name, down in pairs if isinstance(name, str) and name in names]
