"""A grid in the page: each view gets the window of rows that it shows, and then what changes in it."""

from __future__ import annotations

import contextlib
import copy
import html
import io
import json
from collections.abc import Callable, Generator, Mapping
from concurrent.futures import Future
from typing import Any, cast
from weakref import WeakKeyDictionary

import pandas as pd
import pyarrow as pa
import traitlets

from ..client.log import logger
from ..data.delta import Key
from ..data.store import Store
from ..data.view_filter import AT_ONCE, ViewFilter
from .arrangement import check_arrangement, check_keys
from .base import STATIC, RtWidget
from .grid_window import GridWindow, WindowRequest
from .page_values import dict_of, list_of
from .row_keys import json_key, key_from_page, keys_of_values
from .threads import post_to_io, submit_work
from .tick import tick
from .views import View

ANSWER_MOST = 50_000_000
"""Characters that a page is sent at its request: CSV, whole rows."""
SELECT_MOST = 100_000
"""Rows that a page may select."""
HTML_ROWS = 20
"""Rows in a saved notebook."""


class Grid(RtWidget):
    """Shows a `Store`: the page requests a window, sort, search and filters, and gets that window and then its
    changes."""

    _esm = STATIC / "table.js"
    _css = STATIC / "table.css"

    count = traitlets.Int(0, read_only=True, help="Rows.").tag(sync=True)
    selected: traitlets.List[Any] = traitlets.List(
        trait=traitlets.Any(), help="Keys of the rows selected in the grid; set it to select."
    ).tag(sync=True)
    arrangement: traitlets.Dict[str, Any] = traitlets.Dict(
        help="How the grid is arranged, by a person in the page or by code; `{}` for how it was at first. `order`, "
        "`hidden`, `pinned`: lists of columns. `widths`: pixels (40 to 1200) by column. `sort`: pairs `[column, "
        "descending]`, the first decides. `search`: text that some column contains. `filters`: by column, text that it "
        'contains or a comparison (`">5"`). Columns that the table does not have are ignored: they may be added later.'
    ).tag(sync=True)

    def __init__(self, **traits: Any) -> None:
        self._windows: WeakKeyDictionary[View, GridWindow] = WeakKeyDictionary()
        self._filtering: set[ViewFilter] = set()
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
        return self.store.select([key_from_page(self.store, key) for key in self.selected], arrange=True)

    def state(self) -> dict[str, Any]:
        """What a person set up in the grid (`arrangement`, `selected`), as JSON can hold it: keep it for `restore`."""
        return {
            "arrangement": copy.deepcopy(self.arrangement),
            "selected": [list_of(key) if isinstance(key, tuple) else key for key in self.selected],
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Sets the grid up as `state()` found it, there or in another notebook.

        Raises TraitError, and changes nothing, where it is no such state.
        """
        if dict_of(state) is not state or not state.keys() <= {"arrangement", "selected"}:
            raise traitlets.TraitError(f"restore takes what state() gave: arrangement and selected, not {state!r:.200}")
        arrangement = check_arrangement(state.get("arrangement", self.arrangement))
        selected = check_keys(state.get("selected", self.selected))
        with self.hold_sync():
            self.arrangement, self.selected = arrangement, selected

    @traitlets.validate("arrangement")
    def _check_arrangement(self, proposal: Any) -> dict[str, Any]:
        return check_arrangement(proposal.value)

    @traitlets.validate("selected")
    def _check_selected(self, proposal: Any) -> list[Any]:
        return check_keys(keys_of_values(self.store, proposal.value))

    def to_csv(self, path: Any = None, **options: Any) -> str | None:
        """The rows as CSV: into a file or, without a path, as text. Options as for `DataFrame.to_csv`."""
        options.setdefault("index", False)
        write = cast("Callable[..., str | None]", json_columns_as_text(self.df, self.store).to_csv)
        return write(path, **options)

    def arrow(self) -> pa.Table:
        """The rows as a `pyarrow.Table`, in the order of `df`. A table never changes after it was returned.

        Columns have exact types: `timestamp[us, UTC]`, `date32`, `decimal128(p, s)` for `numeric(p,s)` with
        `numeric="decimal"`, lists for arrays, a dictionary in declared order for an enum, the text of json and jsonb.
        Numbers and timestamps are not copied; of text, only chunks of 65,536 rows in which something changed are
        converted again.
        """
        return self.store.arrow()

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        """The rows of now for a library that reads Arrow streams: `polars.DataFrame(orders)`, `pyarrow.table(orders)`,
        `duckdb.sql("from orders")`."""
        return self.arrow().__arrow_c_stream__(requested_schema)

    def to_parquet(self, path: Any, **options: Any) -> None:
        """Writes the rows into a Parquet file, with the types that `arrow()` gives them. Options as for
        `pyarrow.parquet.write_table`."""
        import pyarrow.parquet as pq  # takes 20 ms, and few need it

        pq.write_table(self.arrow(), path, **options)

    # --- to the page, on the I/O thread

    def _title(self) -> str:
        """A name for people and for files."""
        return self.name

    def _state(self) -> dict[str, Any]:
        """What the status line says: `status`, `error`, `paused`, `waiting`, `lag`, `rate`, `note`."""
        raise NotImplementedError

    def _frame(self, view: View) -> dict[str, Any] | None:
        store, shown = self.store, view.shown
        window = self._windows.get(view)
        if window is None or window.store is not store:
            window = self._windows[view] = GridWindow(store)
        whole = shown.get("window") is not window
        frame: dict[str, Any] = {}
        view_filter = self._filter(view, window)
        with store.lock:  # the rows that pass and the window are those of one moment, also while a thread filters
            pending = 0 if view_filter is None else view_filter.pending
            if store.columns:
                frame = window.frame(view.wants, whole=whole)
                shown["window"] = window
        state: dict[str, Any] = {**self._state(), "total": len(store), "order": [list(pair) for pair in store.order]}
        if view_filter is not None:
            state["shown"] = window.shown
            state["looking"] = pending > AT_ONCE
            notes = [str(state["note"]), *_notes(view_filter, pending, len(store))]
            state["note"] = "; ".join(note for note in notes if note)
        if state != shown.get("state"):
            shown["state"] = frame["state"] = state
        if view.outbox:
            frame |= view.outbox.pop(0)
        return frame or None

    def _filter(self, view: View, window: GridWindow) -> ViewFilter | None:
        """The view's search and filters; None where it has none."""
        store, known = self.store, window.view_filter
        request = WindowRequest.parse(view.wants, store.kinds)
        of = (request.rows, [(column.name, column.type) for column in store.columns])
        if window.filter_of != of:
            if known is not None:
                known.stopped = True
            window.filter_of, known = of, _view_filter(store, request)
            known = window.view_filter = known if known else None
        if known is None:
            return None
        if known in self._filtering or known.pending > AT_ONCE:
            self._filter_later(known)
        else:
            while known.work():
                pass
        return known

    def _filter_later(self, view_filter: ViewFilter) -> None:
        """Has a thread test the rows, so that the connection to the server is served meanwhile."""
        if view_filter in self._filtering:
            return
        self._filtering.add(view_filter)

        def work() -> None:
            while view_filter.work() and not view_filter.stopped and not self._closed:
                tick.mark(self)

        def done(worked: Future[None]) -> None:
            self._filtering.discard(view_filter)
            if not worked.cancelled() and worked.exception() is not None:
                logger.error("a grid could not search its rows", exc_info=worked.exception())
            tick.mark(self)

        started = submit_work(work)
        if started is not None:
            started.add_done_callback(lambda worked: post_to_io(done, worked))

    # --- from the page

    def _on_message(self, view: View, kind: str, content: Mapping[str, Any]) -> None:
        if kind == "csv":
            self._answer_later(view, "csv", lambda: self._csv(view, content.get("columns")))
        elif kind == "rows":
            number = {"number": content.get("number")}
            self._answer_later(view, "rows", lambda: self._rows(content.get("keys"), content.get("columns")), number)
        elif kind == "select range":
            self._answer_later(view, "selected", lambda: self._select_range(view, content.get("range")))
        elif kind in ("select", "layout"):
            with contextlib.suppress(traitlets.TraitError):  # nothing that a page sends may raise here
                value: Any = content.get("keys" if kind == "select" else "layout")
                if kind == "select":
                    self.selected = value
                else:
                    self.arrangement = value

    def _first_wants(self) -> dict[str, Any]:
        return {name: self.arrangement[name] for name in ("sort", "search", "filters") if name in self.arrangement}

    def _answer_later(
        self, view: View, name: str, work: Callable[[], dict[str, Any]], fields: dict[str, Any] | None = None
    ) -> None:
        """Sends the view what `work` returns, with `fields`, as `name` in its next frame. `work` runs on a thread."""

        def done(worked: Future[dict[str, Any]]) -> None:
            if worked.cancelled():
                return
            problem = worked.exception()
            if isinstance(problem, _Refused):
                answer: dict[str, Any] = {"problem": str(problem)}
            elif problem is not None:
                logger.error("a grid could not answer its page", exc_info=problem)
                answer = {"problem": f"failed: {problem}"}
            else:
                answer = worked.result()
            view.outbox.append({name: answer | (fields or {})})
            tick.mark(self)

        started = submit_work(work)
        if started is not None:
            started.add_done_callback(lambda worked: post_to_io(done, worked))

    def _select_range(self, view: View, given: Any) -> dict[str, Any]:
        """Selects the rows from one key to another as the view is sorted and filtered, or all rows."""
        store = self.store
        request = WindowRequest.parse(view.wants, store.kinds)
        with _filtered(store, request) as view_filter:
            window = store.window(
                0, len(store), sort=request.sort or None, nulls_last=True, view_filter=view_filter, columns=[]
            )
        keys: list[Key] = window["keys"]
        if given is not None:
            try:
                first, last = sorted(keys.index(key_from_page(store, key)) for key in list_of(given))
            except ValueError:
                raise _Refused("a row of the range is no longer there") from None
            keys = keys[first : last + 1]
        if len(keys) > SELECT_MOST:
            raise _Refused(f"{len(keys):,} rows are too many to select: {SELECT_MOST:,} at most, use .df")
        self.selected = [json_key(key) for key in keys]
        return {"count": len(keys)}

    def _rows(self, given: Any, columns: Any) -> dict[str, Any]:
        """Whole rows, in the table's order: those with the given keys, or the selected ones."""
        store = self.store
        wanted = [key_from_page(store, key) for key in (self.selected if given is None else list_of(given))]
        names = [name for name in list_of(columns) if name in store.kinds]
        with store.lock:
            if len(wanted) > 1:
                place = {key: i for i, key in enumerate(store.window(0, len(store), columns=[])["keys"])}
                wanted = sorted((key for key in wanted if key in place), key=place.__getitem__)
            _, block = store.values(store.find([key for key in wanted if key in store]), names)
            values = [(name, block[name].to_json()) for name in names]
        size = sum(len(str(value)) for _, column in values for value in column)
        if size > ANSWER_MOST:
            raise _Refused(f"{size / 1e6:.0f} MB are too much for a page: use .selected_df")
        return {"columns": values}

    def _csv(self, view: View, columns: Any) -> dict[str, Any]:
        """The rows that pass the view's search and filters, in its order and columns, as CSV."""
        store = self.store
        request = WindowRequest.parse(view.wants, store.kinds)
        # Not the view's own filter, which may not have tested all rows yet: a file has all that match.
        with _filtered(store, request) as view_filter:
            frame = store.filtered(sort=request.sort or None, nulls_last=True, view_filter=view_filter)
        wanted = [name for name in list_of(columns) if name in frame]
        text = json_columns_as_text(frame[wanted or list(frame)], store).to_csv(index=False)
        if len(text) > ANSWER_MOST:
            raise _Refused(f"{len(text) / 1e6:.0f} MB are too much for a page: write them with .to_csv(path)")
        return {"name": f"{self._title()}.csv", "text": text}

    def _html(self) -> str:
        frame = self.df
        text = io.StringIO()
        frame.head(HTML_ROWS).to_html(text, index=False, escape=True, na_rep="")
        more = f"<p>… {len(frame) - HTML_ROWS} more rows</p>" if len(frame) > HTML_ROWS else ""
        return f"<p><b>{html.escape(self._title())}</b></p>{text.getvalue()}{more}"


class _Refused(Exception):
    """A page's request that is refused, with the reason to show."""


def _view_filter(store: Store, request: WindowRequest) -> ViewFilter:
    return ViewFilter(store, request.search, dict(request.filters), zone=request.zone)


@contextlib.contextmanager
def _filtered(store: Store, request: WindowRequest) -> Generator[ViewFilter | None]:
    """Search and filters that have tested every row, and the store's lock held."""
    view_filter = _view_filter(store, request)
    while view_filter.pending > AT_ONCE:
        view_filter.work()
    with store.lock:
        while view_filter.work():
            pass
        yield view_filter if view_filter else None


def json_columns_as_text(frame: pd.DataFrame, store: Store) -> pd.DataFrame:
    """The frame with values of json columns as JSON, and not as Python writes them."""
    frame = frame.copy(deep=False)
    for name, kind in store.kinds.items():
        if kind.nested and name in frame:
            frame[name] = [None if value is None else json.dumps(value, ensure_ascii=False) for value in frame[name]]
    return frame


def _notes(view_filter: ViewFilter, pending: int, rows: int) -> list[str]:
    searching = f"searching, {100 - round(100 * pending / max(rows, pending))} % done" if pending > AT_ONCE else ""
    return [*view_filter.problems, searching]
