"""Search and filters of a grid: which rows of a store they leave, kept up to date change by change."""

from __future__ import annotations

import json
import operator
from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any

import numpy as np

from .column_kinds import TIMES, Array, Kind, parse, to_json

if TYPE_CHECKING:
    from .store import Store

Test = Callable[[Kind, Array, "Array | None"], Array]
"""Which of a column's values pass."""

CHUNK = 16_384
"""Rows looked at between two looks at whether anybody still wants to know."""
AT_ONCE = 2_000
"""Rows that are looked at while a frame is built; more of them are a thread's work."""

_COMPARISONS: dict[str, Callable[[Any, Any], Any]] = {
    ">": operator.gt,
    "<": operator.lt,
    ">=": operator.ge,
    "<=": operator.le,
    "==": operator.eq,
}
_OPERATORS = (">=", "<=", ">", "<", "=", "!")
_NUMBER_CHARACTERS = frozenset("0123456789.+-einfa")
_TIME_CHARACTERS = frozenset("0123456789-:.+ infty")


class ViewFilter:
    """The rows that contain `search` in any column and pass every filter.

    A filter is written as in the grid: `text` (contains it, in any case), `=x` (is x; of a time: begins so), `!x` (is
    not x), `>5`, `<5`, `>=5`, `<=5`, and `=null`, `!null`. Times are those of UTC. A filter that makes no sense for its
    column is passed over and named in `problems`.
    """

    def __init__(self, store: Store, search: str = "", filters: Mapping[str, str] | None = None) -> None:
        self.store = store
        self.problems: list[str] = []
        self.stopped = False
        """Set by whoever no longer wants to know, so that `work` ends early."""
        self._search = search.strip().casefold()
        kinds = store.kinds
        self._filters: dict[str, Test] = {}
        for name, text in (filters or {}).items():
            if name not in kinds or not text.strip():
                continue
            try:
                self._filters[name] = _filter(kinds[name], text.strip())
            except ValueError as problem:
                self.problems.append(f"filter on {name} not applied: {problem}")
        self._hit = np.zeros(0, dtype=bool)
        self._dirty: set[int] = set()
        self._rest = np.zeros(0, dtype=np.int64)
        self._under_way = 0
        self.names = None if self._search else frozenset(self._filters)
        """The columns whose values matter; None for all."""
        with store.lock:
            store.follow(self)
            self.forget()

    def __bool__(self) -> bool:
        """Whether it asks anything of a row, or has something to say."""
        return bool(self._search or self._filters or self.problems)

    # --- told by the store, which holds its lock

    def touch(self, slots: Iterable[int]) -> None:
        """These rows came, went or changed."""
        self._dirty.update(slots)

    def forget(self) -> None:
        """All of it is to be looked at anew."""
        self._hit[:] = False
        self._dirty.clear()
        self._rest = self.store.slots()

    # --- asked by the view

    @property
    def pending(self) -> int:
        """Rows of which it is not known whether they pass."""
        with self.store.lock:  # a thread that takes rows up moves them from one number to another
            return len(self._dirty) + len(self._rest) + self._under_way

    def work(self) -> bool:
        """Looks at a chunk of the rows that it has not; returns whether more are left."""
        with self.store.lock:
            slots = np.fromiter(self._dirty, np.int64, len(self._dirty))
            self._dirty.clear()
            room = max(0, CHUNK - len(slots))
            slots, self._rest = np.concatenate([slots, self._rest[:room]]), self._rest[room:]
            self._grow()
            self._hit[slots] = False
            taken = len(slots)
            self._under_way += taken
            slots, columns = self.store.values(slots, self.names)
        hit = self._test(columns, len(slots))
        with self.store.lock:
            self._hit[slots[hit]] = True
            # What was written meanwhile is looked at again, and is not shown on what it was before.
            touched = np.fromiter(self._dirty, np.int64, len(self._dirty))
            self._grow()
            self._hit[touched] = False
            self._under_way -= taken
            return self.pending > 0

    def keep(self, slots: Array) -> Array:
        """Which of these rows pass, as far as it is known. The caller holds the store's lock."""
        self._grow()
        return self._hit[slots]

    def _grow(self) -> None:
        if len(self._hit) < self.store.slots_end:
            hit = np.zeros(2 * self.store.slots_end, dtype=bool)
            hit[: len(self._hit)] = self._hit
            self._hit = hit

    def _test(self, columns: dict[str, tuple[Kind, Array, Array | None]], count: int) -> Array:
        left = np.arange(count)
        for name, test in self._filters.items():
            if name in columns:
                kind, data, mask = columns[name]
                left = left[test(kind, data[left], None if mask is None else mask[left])]
        hit = np.zeros(count, dtype=bool)
        if not self._search:
            hit[left] = True
            return hit
        contains = _contains(self._search)
        for kind, data, mask in columns.values():
            found = contains(kind, data[left], None if mask is None else mask[left])
            hit[left[found]] = True
            left = left[~found]
        return hit


def _filter(kind: Kind, text: str) -> Test:
    sign = next((sign for sign in _OPERATORS if text.startswith(sign)), "")
    operand = text[len(sign) :].strip()
    if not sign:
        return _contains(text.casefold())
    if not operand:
        raise ValueError(f"nothing stands after {sign}")
    if sign in "=!" and operand.lower() == "null":
        return _is_null if sign == "=" else _not(_is_null)
    if sign in "=!":
        equal = _equal(kind, operand)
        return equal if sign == "=" else _not(equal)
    return _compare(kind, sign, operand)


def _not(test: Test) -> Test:
    return lambda kind, data, mask: ~test(kind, data, mask)


def _is_null(kind: Kind, data: Array, mask: Array | None) -> Array:
    return np.array([text is None for text in _texts(kind, data, mask)], dtype=bool)


def _equal(kind: Kind, operand: str) -> Test:
    if kind in TIMES:
        wanted = operand.casefold().replace("t", " ")

        def begins(kind: Kind, data: Array, mask: Array | None) -> Array:
            return np.array([t is not None and t.startswith(wanted) for t in _texts(kind, data, mask)], dtype=bool)

        return begins
    if kind in ("int16", "int32", "int64", "float", "decimal"):
        return _compare(kind, "==", operand)

    def same(kind: Kind, data: Array, mask: Array | None) -> Array:
        return np.array([text == operand for text in _texts(kind, data, mask)], dtype=bool)

    return same


def _compare(kind: Kind, sign: str, operand: str) -> Test:
    compare = _COMPARISONS[sign]
    if kind in TIMES:
        value: Any = parse(kind, [operand])[0][0]
        if np.isnat(value):
            raise ValueError(f"{operand!r} is no date or time: write 2026-01-31 or 2026-01-31 12:00")
        return lambda kind, data, mask: np.asarray(compare(data, value))  # nothing compares with NaT
    if kind in ("int16", "int32", "int64", "float", "decimal"):
        try:
            exact = Decimal(operand.replace("_", ""))
        except InvalidOperation:
            raise ValueError(f"{operand!r} is not a number") from None
        if kind == "decimal":
            return lambda kind, data, mask: np.array(
                [v is not None and v == v and bool(compare(v, exact)) for v in data.tolist()], dtype=bool
            )
        whole = exact == exact.to_integral_value() if exact.is_finite() else False
        number: Any = int(exact) if whole and abs(exact) < 2**63 else float(exact)

        def by_number(kind: Kind, data: Array, mask: Array | None) -> Array:
            found = np.asarray(compare(data, number))
            return found if mask is None else found & ~mask

        return by_number

    def by_text(kind: Kind, data: Array, mask: Array | None) -> Array:
        texts = _texts(kind, data, mask)
        return np.array([text is not None and bool(compare(text, operand)) for text in texts], dtype=bool)

    return by_text


def _contains(needle: str) -> Test:
    characters = set(needle)

    def contains(kind: Kind, data: Array, mask: Array | None) -> Array:
        none = np.zeros(len(data), dtype=bool)
        # A name is in no number and no time: most columns need no look at all.
        if kind in ("int16", "int32", "int64", "float", "decimal") and not characters <= _NUMBER_CHARACTERS:
            return none
        if kind in TIMES and not characters <= _TIME_CHARACTERS:
            return none
        wanted = needle.replace("t", " ") if kind in TIMES else needle
        if kind == "text":
            return np.array([type(v) is str and wanted in v.casefold() for v in data.tolist()], dtype=bool)
        texts = _texts(kind, data, mask)
        return np.array([text is not None and wanted in text.casefold() for text in texts], dtype=bool)

    return contains


def _texts(kind: Kind, data: Array, mask: Array | None) -> list[str | None]:
    """The values as a page writes them; times of UTC."""
    values = to_json(kind, data, mask)
    if kind in TIMES:
        return [None if v is None else v.replace("T", " ") for v in values]
    if kind == "bool":
        return [None if v is None else "true" if v else "false" for v in values]
    if kind == "json":
        return [None if v is None else json.dumps(v, ensure_ascii=False, separators=(",", ":")) for v in values]
    if kind == "float":
        return [None if v is None else str(v).removesuffix(".0") for v in values]
    return [None if v is None else str(v) for v in values]
