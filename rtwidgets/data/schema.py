"""What a table's columns are: their declared types, and the kind of column that each of them makes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

from ..protocol.messages import Change, Column
from .column_kinds import ColumnKind, Numeric, bare_name, is_known, kind_of


class ColumnSpec(NamedTuple):
    """One column: its name, its Postgres type as it was declared, and its kind."""

    name: str
    pg_type: str
    kind: ColumnKind


class Declared(Protocol):
    """A column that a table has."""

    name: str
    pg_type: str
    kind: ColumnKind


class Schema:
    """Resolves declared columns, as far as the table keeps them: those in `select` and the key.

    A description of the table (`describe`) names types with their schema where it knows that, and says which are enums
    and domains; a change (`declare`) has bare names. So a change that names the same types as the description changes
    nothing.
    """

    def __init__(
        self,
        key: Sequence[str],
        *,
        numeric: Numeric = "float",
        select: Sequence[str] | None = None,
        bases: Mapping[str, str] | None = None,
        labels: Mapping[str, Sequence[str]] | None = None,
        exact: Mapping[str, str] | None = None,
    ) -> None:
        self.key = tuple(key)
        self.numeric: Numeric = numeric
        self.width = 0
        """Columns that the last change declared, also those that the table does not keep; 0 before the first one."""
        self._select = None if select is None else {*select, *self.key}
        self._bases, self._labels = dict(bases or {}), dict(labels or {})
        self._exact = dict(exact or {})
        self._declared: list[Column] | None = None

    def resolve(self, columns: Sequence[Column]) -> list[ColumnSpec]:
        """The columns that are kept, with their kinds."""
        return [
            ColumnSpec(name, pg_type, self._kind(name, pg_type))
            for name, pg_type in ((column.name, column.type) for column in columns)
            if self._select is None or name in self._select
        ]

    def describe(
        self,
        columns: Sequence[Column],
        bases: Mapping[str, str] | None = None,
        labels: Mapping[str, Sequence[str]] | None = None,
        exact: Mapping[str, str] | None = None,
    ) -> list[ColumnSpec]:
        """Resolves the columns of a new description of the table."""
        self._bases.update(bases or {})
        self._labels.update(labels or {})
        self._exact = dict(exact or {})
        self._declared = None  # whoever described the table may be behind: the next change knows
        return self.resolve(columns)

    def declare(self, change: Change, known: Mapping[str, Declared]) -> list[ColumnSpec] | None:
        """Resolves the columns that a change declares, beside those that are known; None where they are those of the
        change before, or cannot be followed: a change without values has no columns, and where a key column was dropped
        or renamed the reader of the table must decide."""
        declared = change.columns
        if not declared or declared is self._declared or any("413" not in error for error in change.errors or ()):
            return None
        first, same = self._declared is None, declared == self._declared
        if not same and first:
            # The first change may name a domain where the description named what it is made of.
            for name, type_ in ((column.name, column.type) for column in declared):
                if name in known and not is_known(type_) and is_known(known[name].pg_type):
                    self._bases.setdefault(type_, known[name].pg_type)
        self._declared, self.width = declared, len(declared)
        if same:
            return None
        found: list[ColumnSpec] = []
        for spec in self.resolve(declared):
            before = known.get(spec.name)
            same = before is not None and _names_same(before, spec)
            found.append(ColumnSpec(spec.name, before.pg_type, before.kind) if before is not None and same else spec)
        return found if {spec.name for spec in found}.issuperset(self.key) else None

    def _kind(self, name: str, pg_type: str) -> ColumnKind:
        pg_type = self._exact.get(name, pg_type) if pg_type == "numeric" else pg_type
        return kind_of(pg_type, numeric=self.numeric, labels=self._labels, bases=self._bases)


def _names_same(before: Declared, spec: ColumnSpec) -> bool:
    """Whether a change, whose types have bare names, names the type that is known: `numeric` may be `numeric(10,2)`."""
    decimal = before.kind.name == spec.kind.name == "decimal"
    return bare_name(before.pg_type) == spec.pg_type or decimal
