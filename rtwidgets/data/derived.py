"""What is worked out from a table and follows it: a view is given the table's deltas and answers with its own."""

from __future__ import annotations

from abc import ABC, abstractmethod

import pandas as pd

from ..protocol.messages import Column
from .delta import Delta, Key
from .store import Store


class DerivedView(ABC):
    """Rows worked out from those of `source`. The result is a `Store` too, so a view can be the source of another one.

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

        The cost follows what the deltas touch, not what the source holds; several that were collected cost what they
        touch together. What the source holds now counts: a later delta may be in the result already, and changes
        nothing when its turn comes.
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
