"""A row change as the JSON of `payload.data`."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from ..protocol import codec
from .catalogue import Projection, Table
from .pgoutput import Row, RowChange, Transaction

_SHORT = 64
"""Bytes up to which a value is kept in a row that is too large."""


def tail_of(transaction: Transaction) -> bytes:
    """What the changes of a transaction have in common."""
    stamp = datetime.fromtimestamp(transaction.commit_us / 1_000_000, UTC).isoformat(timespec="milliseconds")[:-6]
    return b'"commit_timestamp":"%bZ","lsn":%d,"xid":%d' % (stamp.encode(), transaction.lsn, transaction.xid)


def render(table: Table, projection: Projection, change: RowChange, tail: bytes, max_record: int) -> bytes:
    """The JSON object. Over `max_record` bytes only short values are kept, and it carries Supabase's error."""
    kind, new, old = change.kind, change.new, change.old
    record = old_record = b""
    if new is not None:
        record = table.full_row(new) if projection.all else table.row(new, projection.indices)
    if kind != "INSERT":
        source = old if old is not None else new
        assert source is not None
        old_record = table.row(source, projection.old)
    errors = b"null"
    if len(record) + len(old_record) > max_record:
        errors = b'["Error 413: Payload Too Large"]'
        if new is not None:
            record = table.row(new, _short(table, new, projection.indices))
        if old_record and old is not None:
            old_record = table.row(old, _short(table, old, projection.old))
    parts = [projection.heads[kind], errors, b",", tail]
    if record:
        parts += [b',"record":', record]
    if old_record:
        parts += [b',"old_record":', old_record]
    parts.append(b"}")
    return b"".join(parts)


def render_error(table: Table, transaction: Transaction, kind: str, error: str) -> bytes:
    """The JSON object of a change that nobody in that role may see, or that has no key."""
    data: dict[str, Any] = {
        "columns": [],
        "commit_timestamp": None,
        "errors": [error],
        "record": {},
        "schema": table.relation.schema,
        "table": table.relation.name,
        "type": kind,
        "lsn": transaction.lsn,
        "xid": transaction.xid,
    }
    if kind == "UPDATE":
        data["old_record"] = {}
    return codec.dumps(data)


def _short(table: Table, row: Row, indices: list[int]) -> list[int]:
    """The columns whose values are kept of a row that is too large: as recorded, NULLs are not."""
    return [i for i in indices if isinstance(value := row[i], bytes) and len(table.converters[i](value)) <= _SHORT]
