"""`LiveTable`: a database table as a live grid and as an ordinary DataFrame."""

from __future__ import annotations

import html
import io
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import cached_property
from typing import Any

import pandas as pd
import traitlets

from ..client.dispatch import dispatch
from ..client.sync import Channel, Client, default_client
from ..client.thread import io_loop, on_io_thread, run, submit
from ..data.delta import Delta
from ..data.engine import LiveTableEngine
from ..data.narrow import AT_ONCE, Narrow
from ..protocol.errors import RealtimeError
from .base import STATIC, RtWidget, View, paragraph, there, unregister_all, whole_number
from .pump import pump

MOST_ROWS = 400
"""Rows that one view may ask for at once: a window and its margins."""
FIRST_ROWS = 60
"""Rows that a view gets before it said what it shows."""
CSV_MOST = 50_000_000
"""Characters of CSV that a page is sent."""
HTML_ROWS = 20
"""Rows in a saved notebook."""


class ChangeBatch:
    """What one batch of changes did, for `LiveTable.on_change`.

    Rows are dicts of Python values; nothing is built before it is read.
    """

    def __init__(self, delta: Delta) -> None:
        self._delta = delta
        self.revision: int = delta.revision

    def __repr__(self) -> str:
        delta = self._delta
        return (
            f"<ChangeBatch {len(delta.inserted)} inserted, {len(delta.updated)} updated, {len(delta.deleted)} deleted>"
        )

    @cached_property
    def inserted(self) -> list[dict[str, Any]]:
        """The new rows."""
        return self._delta.inserted_rows()

    @cached_property
    def updated(self) -> list[tuple[Any, dict[str, Any], dict[str, Any]]]:
        """(key, before, after), each holding only the columns whose values differ."""
        return list(self._delta.updated_rows())

    @cached_property
    def deleted(self) -> list[dict[str, Any]]:
        """The rows that went, as they were last."""
        return self._delta.deleted_rows()


class LiveTable(RtWidget):
    """A table of the database, kept equal to what `SELECT` would give this user a moment ago.

    Args:
        table: its name.
        schema: its schema.
        filter: `column=op.value`, several joined by commas (`"status=eq.open,amount=gt.10"`).
        columns: the columns wanted; None for all. The key is always among them.
        order: column to order by, `"amount desc"` for descending; None for order of arrival.
        limit: most rows to hold.
        key: key column or columns where the table's own primary key is not wanted.
        numeric: `"float"`, or `"decimal"` for exact `decimal.Decimal` values in numeric columns.
        client: the client; default the last `rt.connect()` or `rt.local()`.
        channel: a channel to share; default one of the table's own.
        verify_every: seconds between two full comparisons with the database; None for none.

    A table that does not exist, is not published or has no primary key is no exception: `status` is `"error"`,
    `error` says what to do, and rows that were there stay.
    """

    _esm = STATIC / "table.js"
    _css = STATIC / "table.css"

    count = traitlets.Int(0, read_only=True).tag(sync=True)
    """Rows held."""
    revision = traitlets.Int(0, read_only=True).tag(sync=True)
    """Grows by one or more at each visible change: observe this."""
    status = traitlets.Unicode("connecting", read_only=True).tag(sync=True)
    """`"connecting"`, `"catching up"`, `"live"`, `"stale"` (may have missed something; heals itself), `"error"` or
    `"closed"`."""
    error = traitlets.Unicode("", read_only=True).tag(sync=True)
    """What is wrong and what to do, in one paragraph; empty while nothing is."""
    lag_ms = traitlets.Float(None, allow_none=True, read_only=True).tag(sync=True)
    """Milliseconds from the last change's commit until it was in the table."""
    paused = traitlets.Bool(False, read_only=True).tag(sync=True)
    """Whether changes wait instead of showing."""

    selected = traitlets.List(trait=traitlets.Any()).tag(sync=True)
    """Keys of the rows that are selected in the grid; set it to select."""
    arrangement = traitlets.Dict().tag(sync=True)
    """How the grid is arranged: `order`, `hidden`, `pinned`, `widths`, `sort`. Save it, and set it to restore it."""

    def __init__(
        self,
        table: str,
        *,
        schema: str = "public",
        filter: str | None = None,
        columns: Sequence[str] | None = None,
        order: str | None = None,
        limit: int | None = None,
        key: str | Sequence[str] | None = None,
        numeric: str = "float",
        client: Client | None = None,
        channel: Channel | None = None,
        verify_every: float | None = 300.0,
    ) -> None:
        if numeric not in ("float", "decimal"):
            raise ValueError(f'numeric is "float" or "decimal", not {numeric!r}')
        client = client or (channel.client if channel is not None else default_client())
        self.channel = channel or Channel(f"rtwidgets:{schema}.{table}", client=client)
        self.table, self.schema = table, schema
        self._since_rate = self._rate = 0
        self._rate_at = 0.0
        self._narrows: dict[str, tuple[Any, Narrow]] = {}
        self._looking: set[Narrow] = set()
        super().__init__()
        options: dict[str, Any] = {
            "schema": schema,
            "filter": filter,
            "columns": columns,
            "order": order,
            "limit": limit,
            "key": key,
            "numeric": numeric,
            "verify_every": verify_every,
        }
        self.engine: LiveTableEngine = run(self._begin(client, options), 30)

    async def _begin(self, client: Client, options: dict[str, Any]) -> LiveTableEngine:
        engine = LiveTableEngine(self.channel.aio, client.aio.rest, self.table, **options)
        self._registered: list[Callable[[], Any]] = [engine.on_delta(self._took), engine.on_status(self._now_is)]
        self.engine = engine
        self._starting = io_loop().create_task(self._start())
        return engine

    async def _start(self) -> None:
        await self.engine.start()
        if not self._closed and self.engine.status != "error":
            self._registered.append(self.channel.aio.hold())

    def __repr__(self) -> str:
        return f"<LiveTable {self.schema}.{self.table}: {len(self.engine.store)} rows, {self.engine.status}>"

    # --- what it holds

    @property
    def df(self) -> pd.DataFrame:
        """The rows, true as of now.

        It never changes after you got it; asking again while nothing changed costs nothing.
        """
        return self.engine.store.df()

    @property
    def ready(self) -> bool:
        """Whether the table has been read once: before, `df` is empty for want of an answer, not of rows."""
        return self.engine.snapshot_at is not None

    @property
    def snapshot_at(self) -> datetime | None:
        """When the table was last read whole."""
        return self.engine.snapshot_at

    @property
    def selected_df(self) -> pd.DataFrame:
        """The selected rows, in the table's order; keys that have gone are passed over."""
        return self.engine.store.take([self._key(key) for key in self.selected], arrange=True)

    @property
    def changes(self) -> pd.DataFrame:
        """The last changes: when, which kind, which key."""
        return self.engine.changes

    def to_csv(self, path: Any = None, **options: Any) -> str | None:
        """The rows as CSV: into a file or, without a path, as text. Options as for `DataFrame.to_csv`."""
        return self.df.to_csv(path, **{"index": False, **options})

    # --- what happens

    def wait_live(self, timeout: float = 30.0) -> LiveTable:
        """Waits until the table is live.

        Raises RealtimeError with what to do if it cannot be, TimeoutError after `timeout` seconds.
        """
        run(self.engine.wait_live(timeout), timeout + 5)
        there(self._refresh)  # else `count` would be that of the last tick
        return self

    def on_change(self, fn: Callable[[ChangeBatch], Any]) -> Callable[[], None]:
        """Calls `fn` with each batch of changes, on the kernel's main thread. Returns a function that unregisters."""

        def hear(delta: Delta) -> None:
            if delta:
                dispatch(fn, ChangeBatch(delta))

        unregister = self.engine.on_delta(hear)
        self._registered.append(unregister)
        return unregister

    def pause(self) -> None:
        """Holds changes back: the rows stay as they are until `resume()`."""
        self._on_loop(self.engine.pause)
        self.set_trait("paused", True)
        pump.mark(self)

    def resume(self) -> None:
        """Applies what waited, and goes on."""
        self._on_loop(self.engine.resume)
        self.set_trait("paused", False)
        pump.mark(self)

    def _on_loop(self, fn: Callable[[], Any]) -> None:
        if on_io_thread():
            fn()
        else:
            io_loop().call_soon_threadsafe(fn)

    def _release(self) -> None:
        submit(self.engine.stop())
        there(unregister_all, self._registered)
        self.set_trait("status", "closed")

    # --- on the I/O thread

    def _took(self, delta: Delta) -> None:
        self._since_rate += len(delta.inserted) + len(delta.updated) + len(delta.deleted)
        pump.mark(self)

    def _now_is(self, status: str, error: RealtimeError | None) -> None:
        pump.mark(self)

    def _tick(self, now: float) -> bool:
        self._refresh()
        if now - self._rate_at >= 1:
            # Over a second at least: a figure that jumps with each tick cannot be read.
            self._rate = round(self._since_rate / min(now - self._rate_at, 2.0))
            self._rate_at, self._since_rate = now, 0
        moving = self._rate > 0 or self._since_rate > 0 or self.paused
        return super()._tick(now) or moving

    def _refresh(self) -> None:
        engine = self.engine
        store = engine.store
        problem = paragraph(engine.error)
        with self.hold_sync():
            if not self._closed:
                self.set_trait("status", engine.status)
            self.set_trait("error", problem)
            self.set_trait("lag_ms", engine.lag_ms)
            self.set_trait("count", len(store))
            changed = store.revision != self.revision
            if changed:
                self.set_trait("revision", store.revision)
        if changed:
            self._announce_df()

    def _frame(self, view: View) -> dict[str, Any] | None:
        engine, store = self.engine, self.engine.store
        shown = view.shown
        frame: dict[str, Any] = {}
        narrow = self._narrowed(view)
        asked = (store.revision, repr(view.wants), narrow and narrow.pending)
        if store.columns and asked != shown.get("asked"):
            shown["asked"] = asked
            self._window(view, frame, narrow)
        state = {
            "status": engine.status,
            "error": paragraph(engine.error),
            "paused": self.paused,
            "waiting": engine.waiting,
            "total": len(store),
            "lag": None if engine.lag_ms is None else round(engine.lag_ms),
            "rate": self._rate,
            "order": [list(pair) for pair in store.order],
        }
        if narrow is not None:
            state["shown"] = shown.get("rows", 0)
            state["note"] = _note(narrow, len(store))
        if state != shown.get("state"):
            shown["state"] = frame["state"] = state
        if view.outbox:
            frame["csv"] = view.outbox.pop(0)
        return frame or None

    def _narrowed(self, view: View) -> Narrow | None:
        """The rows that the view's search and filters leave; None where it has none."""
        search, filters = view.wants.get("search"), view.wants.get("filters")
        text = search if isinstance(search, str) else ""
        by_column = {name: str(text) for name, text in filters.items()} if isinstance(filters, dict) else {}
        store, known = self.engine.store, self._narrows.get(view.name)
        asked = (store, [(column.name, column.type) for column in store.columns], text, by_column)
        if known is None or known[0] != asked:
            if known is not None:
                known[1].stopped = True
            for gone in self._narrows.keys() - self._views.keys():
                del self._narrows[gone]
            known = self._narrows[view.name] = (asked, Narrow(store, text, by_column))
        narrow = known[1]
        if not narrow:
            return None
        if narrow in self._looking or narrow.pending > AT_ONCE:
            self._look(narrow)
        else:
            while narrow.work():
                pass
        return narrow

    def _look(self, narrow: Narrow) -> None:
        """Has a thread look through the rows, so that the line to the server is heard meanwhile."""
        if narrow in self._looking:
            return
        self._looking.add(narrow)

        def look() -> None:
            while narrow.work() and not narrow.stopped and not self._closed:
                pump.mark(self)

        def done(_: Any) -> None:
            self._looking.discard(narrow)
            pump.mark(self)

        io_loop().run_in_executor(None, look).add_done_callback(done)

    def _window(self, view: View, frame: dict[str, Any], narrow: Narrow | None) -> None:
        """Puts the window into the frame: whole, or only the cells that differ where the same rows stand in the same
        places."""
        wants, shown, store = view.wants, view.shown, self.engine.store
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
        before = shown.get("window")
        shown["window"] = (schema, start, keys, window["columns"])
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
        if isinstance(key, str) and key not in self.engine.store and key.lstrip("-").isdigit():
            return int(key)
        return key if isinstance(key, str | int | float | bool) else None

    def _asked(self, view: View, kind: Any, content: dict[str, Any]) -> None:
        if kind == "pause":
            self.pause()
        elif kind == "resume":
            self.resume()
        elif kind == "csv":
            self._write_csv(view, content.get("columns"))
        elif kind == "select" and isinstance(content.get("keys"), list):
            self.selected = content["keys"]
        elif kind == "layout" and isinstance(content.get("layout"), dict):
            self.arrangement = content["layout"]

    def _write_csv(self, view: View, columns: Any) -> None:
        """Answers with the rows that the view is left with, in its order and columns, as CSV."""

        def write() -> dict[str, str]:
            store = self.engine.store
            known = self._narrows.get(view.name)
            narrow = known[1] if known is not None and known[1] else None
            sort = _sort(view.wants.get("sort"), {column.name for column in store.columns})
            frame = store.shown(sort=sort or None, narrow=narrow)
            wanted = [name for name in columns if name in frame] if isinstance(columns, list) else []
            text = frame[wanted or list(frame)].to_csv(index=False)
            if len(text) > CSV_MOST:
                hint = f"{len(text) / 1e6:.0f} MB are too much for a page: write them with .to_csv(path)"
                return {"problem": hint}
            return {"name": f"{self.table}.csv", "text": text}

        def done(written: Any) -> None:
            if not written.cancelled() and written.exception() is None:
                view.outbox.append(written.result())
                pump.mark(self)

        def go() -> None:
            io_loop().run_in_executor(None, write).add_done_callback(done)

        io_loop().call_soon_threadsafe(go)

    def _html(self) -> str:
        frame = self.df
        text = io.StringIO()
        frame.head(HTML_ROWS).to_html(text, index=False, escape=True, na_rep="")
        more = f"<p>… {len(frame) - HTML_ROWS} more rows</p>" if len(frame) > HTML_ROWS else ""
        return f"<p><b>{html.escape(self.schema)}.{html.escape(self.table)}</b></p>{text.getvalue()}{more}"


def _note(narrow: Narrow, rows: int) -> str:
    parts = list(narrow.problems)
    if narrow.pending > AT_ONCE:
        parts.append(f"looking, {100 - round(100 * narrow.pending / max(rows, narrow.pending))} % done")
    return "; ".join(parts)


def _sort(wanted: Any, names: set[str]) -> list[tuple[str, bool]]:
    pairs = [pair for pair in wanted if isinstance(pair, list) and len(pair) == 2] if isinstance(wanted, list) else []
    return [(name, bool(down)) for name, down in pairs if isinstance(name, str) and name in names]
