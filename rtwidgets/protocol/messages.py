"""The messages on the wire, as typed structures that every room uses.

Sources: the frames recorded from Supabase Realtime v2.122.0 (tests/conformance/transcripts) and the Phoenix channel
protocol.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

Vsn = Literal["1.0.0", "2.0.0"]


class Message(msgspec.Struct, gc=False):
    """One frame, whichever serializer carried it.

    `payload` is what JSON gave (nearly always a dict). A user broadcast has the shape
    `{"type": "broadcast", "event": str, "payload": dict | bytes, "meta"?: dict}`: bytes where a binary message came.
    """

    topic: str
    event: str
    payload: Any
    ref: str | None = None
    join_ref: str | None = None


class Column(msgspec.Struct, frozen=True):
    """A column as a change message declares it; `type` is Postgres' own name (`int8`, `_text`, `timestamptz`)."""

    name: str
    type: str


class Change(msgspec.Struct, gc=False):
    """One row change, as `postgres_changes` carries it in `payload.data`.

    `record` and `old_record` hold JSON values exactly as sent, but that numbers which a float cannot hold keep every
    digit
    (`int` for whole ones, `decimal.Decimal` for the rest). `lsn` (the commit's, as an integer) and `xid` are extra
    keys that
    only our local server sends; `ids` are the subscription ids that the change matched.
    """

    type: Literal["INSERT", "UPDATE", "DELETE", "TRUNCATE"]
    schema: str
    table: str
    columns: list[Column] = []
    record: dict[str, Any] | None = None
    old_record: dict[str, Any] | None = None
    commit_timestamp: str | None = None
    errors: list[str] | None = None
    lsn: int | None = None
    xid: int | None = None
    ids: list[int] = []
