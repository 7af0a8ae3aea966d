"""What a snapshot source gives: the description of a table, and its rows in pages."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any, Protocol, runtime_checkable

import msgspec

from ..protocol.filters import Filter
from ..protocol.messages import Column
from ..protocol.pg_snapshot import PgSnapshot

Row = dict[str, Any]
"""A row as JSON carries it: values by column name."""


class Page(msgspec.Struct, frozen=True):
    """Rows of one read. `total` is the count of the whole result where the source gives it. `lsn` and `snapshot` say
    where in Postgres' log the rows stand; only our local server and a DSN give them.
    """

    rows: list[Row]
    total: int | None = None
    lsn: int | None = None
    snapshot: PgSnapshot | None = None


class TableInfo(msgspec.Struct, frozen=True):
    """What a table is, as far as the source knows.

    `key`: the primary key, empty where there is none. `published`: None where it is not known. `labels`: an enum's
    labels in order, by the type's name. `bases`: a domain's base type, by the domain's name. `collated`: columns that
    Postgres does not sort by code point. `oid`: the relation, 0 where it is not known. `kind`: Postgres' relkind (`r`
    table, `p` partitioned table, `v` view, `m` materialized view, `f` foreign table). `via_root`: whether the changes
    of a partitioned table are published under its own name.
    """

    columns: list[Column]
    key: tuple[str, ...]
    published: bool | None = None
    labels: dict[str, tuple[str, ...]] = {}
    bases: dict[str, str] = {}
    collated: frozenset[str] = frozenset()
    oid: int = 0
    kind: str = "r"
    via_root: bool = False


@runtime_checkable
class SnapshotSource(Protocol):
    """Where the rows of a live table come from before its changes. Both methods raise `RealtimeError`.

    One more source is one class more: `RestClient`, `DsnSource`, `FrameSource` and `EmptySource` are the existing ones.
    """

    @property
    def repeatable(self) -> bool:
        """Whether the rows can be read again later, so that a gap heals."""
        ...

    async def describe(self, table: str, schema: str = "public") -> TableInfo:
        """The columns, the key and the types of a table."""
        ...

    def select(
        self,
        table: str,
        *,
        schema: str = "public",
        columns: Sequence[str] | None = None,
        filter: str | Filter | None = None,
        order: Sequence[tuple[str, bool]] = (),
        limit: int | None = None,
        key: Sequence[str] = (),
        page_size: int = 10_000,
    ) -> AsyncIterator[Page]:
        """The rows that match `filter`, in pages; at most `limit`. `order`: (column, descending) pairs.

        With `key`, no row comes twice or is left out because others change meanwhile.
        """
        ...
