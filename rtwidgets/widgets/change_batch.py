"""What `LiveTable.on_change` hands over: the rows that came, changed and went in one batch."""

from __future__ import annotations

from functools import cached_property
from typing import Any

from ..data.delta import Delta


class ChangeBatch:
    """What one batch of changes did, for `LiveTable.on_change`.

    Rows are dicts of Python values. They are built when they are first read.
    """

    def __init__(self, delta: Delta) -> None:
        self._delta = delta
        self.revision: int = delta.revision

    def __repr__(self) -> str:
        delta = self._delta
        updated = delta.size - len(delta.inserted) - len(delta.deleted)
        return f"<ChangeBatch {len(delta.inserted)} inserted, {updated} updated, {len(delta.deleted)} deleted>"

    @cached_property
    def inserted(self) -> list[dict[str, Any]]:
        """The new rows."""
        return self._delta.inserted_rows()

    @cached_property
    def updated(self) -> list[tuple[Any, dict[str, Any], dict[str, Any]]]:
        """(key, before, after), each with only the columns whose values differ."""
        return list(self._delta.updated_rows())

    @cached_property
    def deleted(self) -> list[dict[str, Any]]:
        """The rows that were deleted or no longer match the filter, as they were last."""
        return self._delta.deleted_rows()
