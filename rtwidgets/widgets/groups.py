"""Groups that follow a table: `orders.group_by("region").agg(total=("amount", "sum"))`."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from ..data.derived import DerivedView
from ..data.groupby import GroupBy, check_groups
from ..data.store import Store
from ..protocol.errors import RealtimeError
from .derived import DerivedGrid
from .sources import RowSource
from .threads import call_on_io

Aggregates = dict[str, tuple[str, str | float]]
"""By name of the result: a column, and a function or a quantile."""


class Grouping:
    """Rows grouped by a column, or several. `agg` makes a view of it."""

    def __init__(self, source: RowSource, by: str | Sequence[str]) -> None:
        self.source = source
        self.by = [by] if isinstance(by, str) else list(by)
        if not self.by or not all(isinstance(name, str) for name in self.by):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"by must be the name of a column, or a list of names, not {by!r:.200}")

    def __repr__(self) -> str:
        return f"<Grouping of {self.source.name} by {', '.join(self.by)}>"

    def agg(self, /, **aggregates: tuple[str, str | float]) -> GroupView:
        """A view with a column for each `name=(column, function)`, as pandas writes it.

        The function is sum, count, mean, min, max, nunique, first, last, size, median, std or var; a number is a
        quantile (0.95). Raises ValueError for any other, and for a name that is a column of the groups.
        """
        return GroupView(self.source, self.by, aggregates)


class GroupView(DerivedGrid):
    """One row a group, kept up to date from the source's changes: a batch costs what it touches. Made by
    `LiveTable.group_by(...).agg(...)`.

    Equal to `table.df.groupby(by).agg(...)`. It is a live source itself: for `rt.live`, charts, `.when`. Pausing it
    pauses its source.
    """

    def __init__(self, source: RowSource, by: list[str], aggregates: Aggregates) -> None:
        if not aggregates:
            raise ValueError('agg needs what to compute: agg(total=("amount", "sum"))')
        for name, one in aggregates.items():
            if not isinstance(one, tuple) or len(one) != 2:  # pyright: ignore[reportUnnecessaryIsInstance, reportUnnecessaryComparison]
                raise TypeError(
                    f'{name} must be a pair (column, function), such as ("amount", "sum"), not {one!r:.200}'
                )
        check_groups(by, aggregates)
        self.by = by
        self._aggregates = aggregates
        super().__init__(source, Store([], by))

    def __repr__(self) -> str:
        return f"<GroupView of {self.name}: {len(self.store)} groups>"

    @property
    def name(self) -> str:
        """The source's name and the columns that it is grouped by."""
        return f"{self.source.name} by {', '.join(self.by)}"

    @property
    def df(self) -> pd.DataFrame:
        """One row a group, sorted by group, the groups' columns first."""
        call_on_io(self._refresh)  # what the source has is in here too, also between two ticks
        return (
            pd.DataFrame(columns=[*self.by, *self._aggregates]) if self._view is None else self._view.df().reset_index()
        )

    def wait_live(self, timeout: float = 30.0) -> GroupView:
        """Waits until the source is live; returns the view. Raises as `LiveTable.wait_live` does."""
        self.source.wait_live(timeout)
        call_on_io(self._refresh)
        return self

    def _make_view(self, source: Store) -> DerivedView:
        wanted = [*self.by, *(column for column, _ in self._aggregates.values())]
        missing = next((name for name in wanted if name not in source.kinds), None)
        if missing is not None:
            raise RealtimeError(
                f"{self.source.name} has no column {missing!r}",
                code="UndefinedColumn",
                hint=f"its columns are {', '.join(source.kinds)}",
            )
        try:
            return GroupBy(source, self.by, self._aggregates)
        except TypeError as error:
            each = ", ".join(
                f"{name} ({function} of {column})" for name, (column, function) in self._aggregates.items()
            )
            raise RealtimeError(
                f"one of {each} does not fit its column's type: {error}",
                code="UndefinedFunction",
                hint="use another function, or leave it out",
            ) from None
