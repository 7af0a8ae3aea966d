"""What is computed from a table and follows it: a view is given the table's deltas and returns its own."""

from __future__ import annotations

from abc import ABC, abstractmethod

import pandas as pd

from ..protocol.messages import Column
from .delta import Delta, Key
from .store import Store


class DerivedView(ABC):
    """Rows computed from those of `source`. The result is a `Store` too, so a view can be the source of another one.

    Call `apply` with each delta of the source, always on the same thread.
    """

    def __init__(self, source: Store) -> None:
        self.source = source

    @property
    @abstractmethod
    def store(self) -> Store:
        """The result as of the last `apply`."""

    @abstractmethod
    def apply(self, *deltas: Delta) -> Delta:
        """Brings the result up to the source and returns what changed in it.

        The cost depends on what the deltas touch, not on the size of the source; several that were collected cost what
        they touch together. The result follows the source as it is now: a later delta may be in it already, and changes
        nothing when it is applied.
        """

    @property
    def columns(self) -> list[Column]:
        return self.store.columns

    @property
    def key(self) -> tuple[str, ...]:
        """The columns that identify a row of the result."""
        return self.store.key

    def keys(self) -> list[Key]:
        return self.store.keys()

    def df(self) -> pd.DataFrame:
        """The result as a frame that never changes."""
        return self.store.df()
