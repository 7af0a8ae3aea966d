"""Groups that follow a table: `orders.group_by("region").agg(total=("amount", "sum"))`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pandas as pd
import traitlets

from ..client.thread import io_loop
from ..data.delta import Delta
from ..data.groupby import GroupBy, check_groups
from ..data.store import Store
from ..protocol.errors import RealtimeError
from .base import paragraph, there, unregister_all
from .grid import Grid
from .tick import tick

if TYPE_CHECKING:
    from .table import LiveTable


class Grouping:
    """Rows grouped by a column, or several. Say what to work out with `agg`."""

    def __init__(self, table: LiveTable, by: str | list[str]) -> None:
        self.table, self.by = table, by

    def __repr__(self) -> str:
        return f"<Grouping of {self.table.table} by {self.by}>"

    def agg(self, **spec: tuple[str, str | float]) -> GroupView:
        """`name=(column, function)`, as pandas writes it.

        The function is sum, count, mean, min, max, nunique, first, last, size, median, std or var; a number is a
        quantile (0.95). Raises ValueError for any other.
        """
        if not spec:
            raise ValueError('say what to work out: agg(total=("amount", "sum"))')
        return GroupView(self.table, self.by, spec)


class GroupView(Grid):
    """One row a group, kept up to date from the table's changes: a batch costs what it touches. Made by
    `LiveTable.group_by(...).agg(...)`.

    It equals `table.df.groupby(by).agg(...)`. It is a source itself: for `rt.live`, charts, `.when`.
    """

    status = traitlets.Unicode("connecting", read_only=True).tag(sync=True)
    """That of the table."""
    error = traitlets.Unicode("", read_only=True).tag(sync=True)
    """What is wrong and what to do; that of the table, or a column that it does not have."""

    def __init__(self, table: LiveTable, by: str | list[str], spec: dict[str, tuple[str, str | float]]) -> None:
        self.table = table
        self.by = [by] if isinstance(by, str) else list(by)
        self._spec = spec
        self._grouped: GroupBy | None = None
        self._problem: RealtimeError | None = None
        self._empty = Store([], self.by)
        self._deltas: list[Delta] = []
        check_groups(self.by, spec)
        super().__init__()
        self._registered: list[Callable[[], Any]] = []
        there(self._begin)

    def _begin(self) -> None:
        follower = self.table.follower
        self._registered += [follower.on_delta(self._took), follower.on_status(lambda *_: tick.mark(self))]
        self._refresh()

    def __repr__(self) -> str:
        return f"<GroupView of {self.table.table} by {', '.join(self.by)}: {len(self.store)} groups>"

    @property
    def ready(self) -> bool:
        """Whether the table has been read once."""
        return self.table.ready

    @property
    def df(self) -> pd.DataFrame:
        """One row a group, sorted by group, the group's columns first."""
        there(self._refresh)  # what the table has is in here too, also between two ticks
        grouped = self._grouped
        if grouped is None:
            return pd.DataFrame(columns=[*self.by, *self._spec])
        return grouped.df().reset_index()

    @property
    def store(self) -> Store:
        return self._empty if self._grouped is None else self._grouped.store

    def wait_live(self, timeout: float = 30.0) -> GroupView:
        """Waits until the table is live. Raises as `LiveTable.wait_live` does."""
        self.table.wait_live(timeout)
        there(self._refresh)
        return self

    # --- on the I/O thread

    def _took(self, delta: Delta) -> None:
        if delta.columns_changed:
            self._grouped = None  # perhaps without a column that is asked for
        if self._grouped is not None:
            self._deltas.append(delta)
        tick.mark(self)

    def _group(self) -> None:
        """Begins once the table's columns are known."""
        store = self.table.store
        if self._grouped is not None and self._grouped.source is store:
            return
        kinds = store.kinds
        if not kinds:
            return
        missing = [name for name in [*self.by, *(column for column, _ in self._spec.values())] if name not in kinds]
        if missing:
            self._problem = RealtimeError(
                f"{self.table.table} has no column {missing[0]!r}",
                code="UndefinedColumn",
                hint=f"its columns are {', '.join(kinds)}",
            )
            return
        try:
            self._grouped = GroupBy(store, self.by, self._spec)
            self._deltas.clear()
        except TypeError as error:
            wanted = ", ".join(f"{name} ({function} of {column})" for name, (column, function) in self._spec.items())
            self._problem = RealtimeError(
                f"one of {wanted} makes no sense for its column's type: {error}",
                code="UndefinedFunction",
                hint="choose another function, or leave it out",
            )
            return
        self._problem = None

    def _refresh(self) -> None:
        self._group()
        if self._grouped is not None and self._deltas:
            deltas, self._deltas = self._deltas, []
            self._grouped.apply(*deltas)
        with self.hold_sync():
            if not self._closed:
                self.set_trait("status", "error" if self._problem is not None else self.table.follower.status)
            self.set_trait("error", paragraph(self._problem or self.table.follower.error))
            self.set_trait("count", len(self.store))
            moved = self.store.revision != self.revision
            if moved:
                self.set_trait("revision", self.store.revision)
        if moved:
            self._announce_df()

    def _tick(self, now: float) -> bool:
        self._refresh()
        return super()._tick(now)

    def _title(self) -> str:
        return f"{self.table.table} by {', '.join(self.by)}"

    def _state(self) -> dict[str, Any]:
        return {
            "status": self.status,
            "error": self.error,
            "paused": False,
            "waiting": 0,
            "lag": None,
            "rate": 0,
            "note": "",
        }

    def _asked(self, view: Any, kind: Any, content: dict[str, Any]) -> None:
        if kind in ("pause", "resume"):
            io_loop().call_soon_threadsafe(self.table.pause if kind == "pause" else self.table.resume)
        else:
            super()._asked(view, kind, content)

    def _release(self) -> None:
        there(unregister_all, self._registered)
        self.set_trait("status", "closed")
