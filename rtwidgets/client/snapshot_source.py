"""What a snapshot source gives: the description of a table, and its rows in pages."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Protocol, cast, runtime_checkable

import msgspec

from ..protocol.filters import Filter
from ..protocol.messages import Column
from ..protocol.pg_snapshot import PgSnapshot
from ..protocol.sql_names import quote

Row = dict[str, Any]
"""A row as JSON carries it: values by column name."""


ArrowBatch = Any
"""A `pyarrow.RecordBatch`: pyarrow has no types of its own."""


class Page(msgspec.Struct, frozen=True):
    """Rows of one read: `rows`, or `batch` where columns were wanted and the source gives them.

    `total` is the count of the whole result where the source gives it, `estimate` about how many rows that has. `lsn`
    and `snapshot` say where in Postgres' log the rows stand; only our local server and a DSN give them.
    """

    rows: list[Row]
    total: int | None = None
    lsn: int | None = None
    snapshot: PgSnapshot | None = None
    batch: ArrowBatch | None = None
    estimate: int | None = None

    def __len__(self) -> int:
        return len(self.rows) if self.batch is None else self.batch.num_rows


class TableInfo(msgspec.Struct, frozen=True):
    """What a table is, as far as the source knows.

    Types outside `pg_catalog` have their schema (`public.mood`), where the source knows it.

    `key`: the primary key, empty where there is none. `published`: whether changes come under this name, None where it
    is not known. `labels`: an enum's labels in order, by the type's name. `bases`: a domain's innermost base type, by
    the domain's name. `collated`: columns that Postgres does not sort by code point. `oid`: the relation, 0 where it is
    not known. `kind`: Postgres' relkind (`r` table, `p` partitioned table, `v` view, `m` materialized view, `f` foreign
    table). `member`: the publication lists the table, or one that it is a partition of. `row_filter`: the publication's
    condition, as SQL: rows outside of it send no changes. `identity`: the columns that a change has of the row before,
    None for all, or where it is not known. `verbs`: what the publication sends (`insert`, `update`, `delete`,
    `truncate`), None where it is not known. `inherited`: other tables inherit from it, whose rows SELECT gives too.
    `exact`: of numeric columns, by name, the type with its digits (`numeric(10,2)`), where they are known.
    `persistence`: Postgres' relpersistence (`p` permanent, `u` unlogged, `t` temporary).
    """

    columns: list[Column]
    key: tuple[str, ...]
    published: bool | None = None
    labels: dict[str, tuple[str, ...]] = {}
    bases: dict[str, str] = {}
    collated: frozenset[str] = frozenset()
    oid: int = 0
    kind: str = "r"
    member: bool = False
    row_filter: str | None = None
    identity: tuple[str, ...] | None = None
    verbs: frozenset[str] | None = None
    inherited: bool = False
    exact: dict[str, str] = {}
    persistence: str = "p"


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
        arrow: bool = False,
        max_rows: int | None = None,
    ) -> AsyncIterator[Page]:
        """The rows that match `filter`, in pages; at most `limit`. `order`: (column, descending) pairs.

        With `key`, no row comes twice or is left out because others change meanwhile. With `arrow`, pages have a
        `batch` instead of `rows` where the source can give one. With `max_rows`, the first page has the `total` of a
        result that may have more.
        """
        ...


_PLAIN = re.compile(r"[a-z_][a-z0-9_$]*")


def type_name(schema: str | None, name: str) -> str:
    """A type's name, with its schema unless it is one of Postgres' own."""
    if schema is None or schema == "pg_catalog":
        return name
    parts = (part if _PLAIN.fullmatch(part) else quote(part) for part in (schema, name))
    return ".".join(parts)


def table_info(found: Mapping[str, Any]) -> TableInfo:
    """From the answer of `rtwidgets_describe`."""
    columns: list[Column] = []
    labels: dict[str, tuple[str, ...]] = {}
    bases: dict[str, str] = {}
    given = cast("list[dict[str, Any]]", found.get("columns") or [])
    for one in given:
        array = one.get("element") is not None and not one.get("base")
        kind = str(one["type"]) if array else type_name(one.get("type_schema"), str(one["type"]))
        columns.append(Column(str(one["name"]), kind))
        if one.get("base"):
            array = one.get("element") is not None
            bases[kind] = one["base"] if array else type_name(one.get("base_schema"), one["base"])
        if one.get("labels"):
            labels[bases.get(kind, kind)] = tuple(one["labels"])
    return TableInfo(
        columns,
        tuple(found.get("key") or ()),
        found.get("published"),
        labels,
        bases,
        frozenset(one["name"] for one in given if one.get("collated")),
        int(found.get("oid") or 0),
        str(found.get("kind") or "r"),
        bool(found.get("member")),
        found.get("filter"),
        tuple(found.get("identity_columns") or ()) if found.get("identity") in ("d", "i") else None,
        None if found.get("verbs") is None else frozenset(map(str, found["verbs"])),
        bool(found.get("inherited")),
        {str(one["name"]): str(one["exact"]) for one in given if one.get("exact")},
        str(found.get("persistence") or "p"),
    )
