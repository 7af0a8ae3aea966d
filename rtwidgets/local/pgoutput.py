"""A decoder of Postgres' logical replication messages (pgoutput, protocol 1, text mode).

Values stay the bytes that Postgres sent: `None` is NULL and `UNCHANGED` a TOASTed value that the update did not touch.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Final

import msgspec

# Microseconds between the Unix epoch and Postgres' own (2000-01-01).
PG_EPOCH: Final = 946_684_800_000_000


class _Unchanged:
    def __repr__(self) -> str:
        return "UNCHANGED"


UNCHANGED: Final = _Unchanged()

Value = bytes | None | _Unchanged
Row = Sequence[Value]


class RelationColumn(msgspec.Struct, frozen=True):
    name: str
    type_oid: int
    # With REPLICA IDENTITY FULL every column carries this flag, so it does not tell the primary key.
    is_identity: bool


class Relation(msgspec.Struct, eq=False):
    """The shape of a table from here on; Postgres sends it before the first row after every change of the table."""

    oid: int
    schema: str
    name: str
    replica_identity: str
    columns: tuple[RelationColumn, ...]
    table: object = None
    """What the catalogue found when this shape was new."""


class RowChange(msgspec.Struct, gc=False):
    """`old_is_key` says that `old` holds only the identity's columns (the others are NULL, meaning not sent)."""

    kind: str  # "INSERT" | "UPDATE" | "DELETE"
    relation: Relation
    new: Row | None
    old: Row | None
    old_is_key: bool


PART = 4 * 1024 * 1024
"""Bytes of messages after which a part of a long transaction is handed over, so that it need not fit into memory.
Postgres sends what is committed only: its position and time stand at its beginning."""


class Transaction(msgspec.Struct):
    """One, or a part of a long one."""

    lsn: int
    end_lsn: int
    """Where the log goes on after it; 0 before its last part."""
    xid: int
    commit_us: int  # microseconds since the Unix epoch
    changes: list[RowChange]
    size: int = 0
    """Bytes of the messages that these changes came in."""
    truncates: bool = False
    """A table was emptied, of which no client is told."""
    last: bool = True
    """Whether no further part follows."""


_read_u16 = struct.Struct(">H").unpack_from
_read_u32 = struct.Struct(">I").unpack_from
_read_commit = struct.Struct(">BQQq").unpack_from
_read_begin = struct.Struct(">QqI").unpack_from

_N, _U, _T, _B = b"nutb"


def _tuple(data: bytes, at: int) -> tuple[list[Value], int]:
    (count,) = _read_u16(data, at)
    at += 2
    values: list[Value] = []
    append = values.append
    for _ in range(count):
        kind = data[at]
        if kind == _T:
            start = at + 5
            at = start + int.from_bytes(data[at + 1 : start], "big")
            append(data[start:at])
        elif kind == _N:
            append(None)
            at += 1
        elif kind == _U:
            append(UNCHANGED)
            at += 1
        else:
            raise ValueError(f"pgoutput sent a value of kind {kind!r}, which text mode does not know")
    return values, at


def _relation(data: bytes) -> Relation:
    (oid,) = _read_u32(data, 1)
    end = data.index(0, 5)
    schema = data[5:end].decode() or "pg_catalog"
    start, end = end + 1, data.index(0, end + 1)
    name = data[start:end].decode()
    identity = chr(data[end + 1])
    (count,) = _read_u16(data, end + 2)
    at = end + 4
    columns: list[RelationColumn] = []
    for _ in range(count):
        flags = data[at]
        end = data.index(0, at + 1)
        column = data[at + 1 : end].decode()
        (type_oid,) = _read_u32(data, end + 1)
        columns.append(RelationColumn(column, type_oid, bool(flags & 1)))
        at = end + 9
    return Relation(oid, schema, name, identity, tuple(columns))


class Decoder:
    """Bytes in, transactions out: `feed` gives one at its COMMIT, and parts of a long one before, else None."""

    def __init__(self) -> None:
        self.relations: dict[int, Relation] = {}
        self._changes: list[RowChange] = []
        self._xid = self._size = self._lsn = self._commit_us = 0
        self._truncates = False
        self.in_transaction = False

    def feed(self, data: bytes) -> Transaction | None:
        kind = data[0]
        self._size += len(data)
        if kind == 73:  # I
            relation = self.relations[int.from_bytes(data[1:5], "big")]
            new, _ = _tuple(data, 6)
            self._changes.append(RowChange("INSERT", relation, new, None, False))
        elif kind == 85:  # U
            relation = self.relations[int.from_bytes(data[1:5], "big")]
            old: list[Value] | None = None
            at, mark = 5, data[5]
            is_key = mark == 75  # K
            if is_key or mark == 79:  # O
                old, at = _tuple(data, 6)
            new, _ = _tuple(data, at + 1)
            self._changes.append(RowChange("UPDATE", relation, new, old, is_key))
        elif kind == 68:  # D
            relation = self.relations[int.from_bytes(data[1:5], "big")]
            old, _ = _tuple(data, 6)
            self._changes.append(RowChange("DELETE", relation, None, old, data[5] == 75))
        elif kind == 66:  # B
            self._lsn, micros, self._xid = _read_begin(data, 1)
            self._commit_us = micros + PG_EPOCH
            self._changes = []
            self._size, self._truncates = 0, False
            self.in_transaction = True
        elif kind == 67:  # C
            _, _, end_lsn, _ = _read_commit(data, 1)
            self.in_transaction = False
            return self._transaction(end_lsn, last=True)
        elif kind == 82:  # R
            relation = _relation(data)
            self.relations[relation.oid] = relation
        elif kind == 84:  # T
            self._truncates = True
        # Truncate, Type, Origin and Message carry nothing that Supabase would send on.
        return self._transaction(0, last=False) if self._size >= PART and self._changes else None

    def _transaction(self, end_lsn: int, *, last: bool) -> Transaction:
        changes, self._changes = self._changes, []
        size, truncates = self._size, self._truncates
        self._size, self._truncates = 0, False
        return Transaction(self._lsn, end_lsn, self._xid, self._commit_us, changes, size, truncates, last)
