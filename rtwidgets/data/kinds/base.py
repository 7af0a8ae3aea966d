"""`ColumnKind`: what every kind of column can do, by storage arrays and by single values."""

from __future__ import annotations

import operator
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

Array = np.ndarray[Any, np.dtype[Any]]
Data = Any
"""Values as a column stores them: an `Array`, of text a `TextArray`. Both can be indexed, assigned to by index, copied
and listed; each kind names its own."""
Values = tuple[Data, "Array | None"]
"""Values as a column stores them, and a mask of the nulls; None where no value is null or the kind has a null of its
own."""
Test = Callable[[Data, "Array | None"], Array]
"""Which of some stored values pass."""

COMPARISONS: dict[str, Callable[[Any, Any], Any]] = {
    ">": operator.gt,
    "<": operator.lt,
    ">=": operator.ge,
    "<=": operator.le,
    "=": operator.eq,
}


class ColumnKind(ABC):
    """One kind of column. Arrays come in and go out in storage form; callers never look inside them.

    A subclass says how one storage works; its instances say for which types, by which names Postgres, PostgREST and
    change messages know them.
    """

    storage: str
    """The numpy dtype of the storage; `"text"` for a `TextArray`."""
    masked = False
    """Whether the storage has no value that could mean null: then a mask stands beside it."""
    shareable = True
    """Whether pandas 2 can work with its arrays in memory that is read-only."""
    borrowed = False
    """Whether `to_arrow` shares the storage's memory: else what it makes is kept, and made again in parts."""
    in_arrow = False
    """Whether frames are made of its Arrow arrays, too."""
    number = False
    """Whether the values are numbers."""
    whole = False
    """Whether they are whole numbers of a fixed width."""
    nested = False
    """Whether they are JSON: lists, dicts and scalars."""
    time = False
    """Whether they are dates or timestamps."""

    def __init__(self, name: str, pg_types: Sequence[str] = (), *, ordered: bool = True) -> None:
        self.name = name
        self.pg_types = tuple(pg_types)
        """The names of its types, Postgres' own first."""
        self.ordered = ordered
        """Whether sorting and comparing here gives Postgres' own order."""

    def __repr__(self) -> str:
        return f"<kind {self.name}>"

    def same_as(self, other: ColumnKind) -> bool:
        """Whether what one has stored the other can read."""
        same = type(self) is type(other) and self.name == other.name
        return self is other or (same and self.pg_types == other.pg_types)

    @property
    @abstractmethod
    def null(self) -> Any:
        """What the storage holds where the value is null."""

    @property
    def layout(self) -> object:
        """Changes when arrays that were made before no longer show what the kind holds; see `EnumKind`."""
        return self.storage

    def blank(self, count: int) -> Data:
        """Storage for `count` values, which mean nothing yet: so memory that is not used is not touched."""
        return np.empty(count, dtype=object) if self.storage == "object" else np.zeros(count, dtype=self.storage)

    def all_null(self, count: int) -> Values:
        """So many nulls."""
        data = self.blank(count)
        data[:] = self.null
        return data, np.ones(count, dtype=bool) if self.masked else None

    def joined(self, parts: Sequence[Data]) -> Data:
        """Several arrays of storage as one."""
        return np.concatenate(parts)

    # -- values in ----------------------------------------------------------------------------------------------------

    @abstractmethod
    def parse(self, values: Sequence[Any]) -> Values:
        """JSON values as storage. Called once a column and batch. Raises ValueError, TypeError or OverflowError."""

    # -- comparing two states of the same rows ------------------------------------------------------------------------

    @abstractmethod
    def differ(self, old: Data, new: Data) -> Array:
        """Which values differ; two nulls are equal. The masks of a masked kind are compared by `changed`."""

    def changed(self, old: Values, new: Values) -> Array:
        """Which values differ, their masks included."""
        differs = self.differ(old[0], new[0])
        if old[1] is None and new[1] is None:
            return differs
        was = np.zeros(len(differs), dtype=bool) if old[1] is None else old[1]
        null = np.zeros(len(differs), dtype=bool) if new[1] is None else new[1]
        return (differs & ~null) | (null != was)

    @abstractmethod
    def nulls(self, data: Data, mask: Array | None) -> Array:
        """Which values are null."""

    def is_null(self, value: Any) -> bool:
        """Whether one stored value, as `tolist` gives it, is null; of a masked kind only its mask knows."""
        return value is None

    # -- values out ---------------------------------------------------------------------------------------------------

    @abstractmethod
    def to_python(self, data: Data, mask: Array | None) -> list[Any]:
        """As Python has them, null as None: for listeners and for keys."""

    def to_record(self, data: Data, mask: Array | None) -> list[Any]:
        """As a change message carries them: times in ISO form, bytes in hex, numbers exact."""
        return self.to_python(data, mask)

    def to_keys(self, data: Data, mask: Array | None) -> list[Any]:
        """As the keys of changes are: raw JSON values."""
        return self.to_record(data, mask)

    def to_json(self, data: Data, mask: Array | None) -> list[Any]:
        """As a browser reads them without losing a digit: integers past 2**53 and Decimals as text, NaN as `"NaN"`."""
        return self.to_record(data, mask)

    def to_text(self, data: Data, mask: Array | None) -> list[str | None]:
        """As the grid shows them; times in UTC."""
        return [None if value is None else str(value) for value in self.to_json(data, mask)]

    @abstractmethod
    def to_pandas(self, data: Data, mask: Array | None) -> Any:
        """A pandas array over the same memory."""

    def showable(self, data: Data) -> bool:
        """Whether a DataFrame can show every value as it is stored; else `shown` makes a copy for it."""
        return True

    def shown(self, data: Data) -> Data:
        """A copy of the storage that a DataFrame can show."""
        return data.copy()

    # -- Arrow --------------------------------------------------------------------------------------------------------

    @property
    @abstractmethod
    def arrow_type(self) -> pa.DataType:
        """The Arrow type that it is exchanged in."""

    @abstractmethod
    def from_arrow(self, values: pa.Array) -> Values:
        """Values in `arrow_type`, or in a type that can be cast to it, as storage; it may share their memory.

        Raises ValueError (pyarrow's `ArrowInvalid` is one) where a value does not fit, NotImplementedError (pyarrow's
        `ArrowNotImplementedError` is one) for a type that has nothing to do with it.
        """

    @abstractmethod
    def to_arrow(self, data: Data, mask: Array | None) -> pa.Array:
        """An array of `arrow_type` over the same memory where the layouts are the same. Raises ValueError."""

    # -- order --------------------------------------------------------------------------------------------------------

    @abstractmethod
    def order_key(self, value: Any) -> Any:
        """Something that compares as Postgres compares, of one stored value that is not null."""

    @abstractmethod
    def order_codes(self, data: Data, nulls: Array) -> Array:
        """Integers that sort as the values do; those of nulls mean nothing."""

    def element_key(self, value: Any) -> Any:
        """Something that compares as Postgres compares, of one JSON value within an array. Raises ValueError."""
        return str(value)

    # -- filters ------------------------------------------------------------------------------------------------------

    def may_contain(self, characters: frozenset[str]) -> bool:
        """Whether the text of any value could hold these characters, in lower case."""
        return True

    def equals(self, operand: str) -> Test:
        """Which values a person means by this text. Raises ValueError where it is no value of this kind."""

        def test(data: Data, mask: Array | None) -> Array:
            return np.array([text == operand for text in self.to_text(data, mask)], dtype=bool)

        return test

    def operand(self, text: str) -> Any:
        """The order key of what a person wrote. Raises ValueError where it is no value of this kind."""
        return text

    def compares(self, sign: str, operand: str) -> Test:
        """Which values are `<`, `<=`, `>` or `>=` than this text, in Postgres' order; never a null.

        Raises ValueError where the text is no value of this kind, or where Postgres' order is not known.
        """
        if not self.ordered:
            known = self.pg_types[0] if self.pg_types else "its type"
            raise ValueError(f"the order of {known} is Postgres' own and not known here: use =, ! or a text")
        compare, wanted = COMPARISONS[sign], self.operand(operand)

        def test(data: Data, mask: Array | None) -> Array:
            nulls = self.nulls(data, mask)
            found = np.zeros(len(data), dtype=bool)
            for i, value in enumerate(data.tolist()):
                if not nulls[i]:
                    try:
                        found[i] = bool(compare(self.order_key(value), wanted))
                    except TypeError:  # a value that is not of its own type
                        pass
            return found

        return test


@dataclass(slots=True)
class ColumnValues:
    """Some values of one column; unpacks into kind, data and mask."""

    kind: ColumnKind
    data: Data
    mask: Array | None

    def __iter__(self) -> Iterator[Any]:
        return iter((self.kind, self.data, self.mask))

    def to_json(self) -> list[Any]:
        """As a browser reads them; see `ColumnKind.to_json`."""
        return self.kind.to_json(self.data, self.mask)

    def to_keys(self) -> list[Any]:
        """As the keys of changes are; see `ColumnKind.to_keys`."""
        return self.kind.to_keys(self.data, self.mask)

    def at(self, where: Any) -> ColumnValues:
        return ColumnValues(self.kind, self.data[where], None if self.mask is None else self.mask[where])


Block = dict[str, ColumnValues]
"""Values of some rows, by column."""


def objects(values: Sequence[Any]) -> Array:
    """An array of these objects. Not `np.array(values)`, which makes lists of one length a second dimension."""
    out = np.empty(len(values), dtype=object)
    out[:] = values
    return out


def object_codes(values: Sequence[Any], nulls: Array, key: Callable[[Any], Any]) -> Array:
    """Ranks by key; equal keys share one."""
    keys = [None if null else key(value) for value, null in zip(values, nulls.tolist(), strict=True)]
    ranks = {found: rank for rank, found in enumerate(sorted({found for found in keys if found is not None}))}
    return np.array([0 if found is None else ranks[found] for found in keys], dtype=np.int64)
