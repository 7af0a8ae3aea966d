"""The decoder, on messages written out by hand as the protocol's documentation lays them out."""

from __future__ import annotations

import struct

import pytest

from rtwidgets.local import pgoutput
from rtwidgets.local.pgoutput import UNCHANGED, Decoder, Transaction

RELATION = (
    b"R"
    + struct.pack(">I", 7)
    + b"public\0t\0d"
    + struct.pack(">H", 2)
    + (b"\x01id\0" + struct.pack(">Ii", 20, -1))
    + (b"\x00name\0" + struct.pack(">Ii", 25, -1))
)
BEGIN = b"B" + struct.pack(">QqI", 100, 1_000_000, 42)  # of the commit: only what is committed is sent
COMMIT = b"C" + struct.pack(">BQQq", 0, 100, 140, 1_000_000)


def row(*values: object) -> bytes:
    out = struct.pack(">H", len(values))
    for value in values:
        if value is None:
            out += b"n"
        elif value is UNCHANGED:
            out += b"u"
        else:
            assert isinstance(value, bytes)
            out += b"t" + struct.pack(">I", len(value)) + value
    return out


def decoded(*messages: bytes) -> Transaction:
    decoder = Decoder()
    for message in (RELATION, BEGIN, *messages):
        assert decoder.feed(message) is None
    transaction = decoder.feed(COMMIT)
    assert transaction is not None
    return transaction


def test_a_transaction_comes_whole_with_its_position_and_time() -> None:
    transaction = decoded(b"I" + struct.pack(">I", 7) + b"N" + row(b"1", None))
    assert (transaction.lsn, transaction.end_lsn, transaction.xid) == (100, 140, 42)
    assert transaction.commit_us == 946_684_801_000_000
    (change,) = transaction.changes
    assert (change.kind, change.new, change.old) == ("INSERT", [b"1", None], None)
    assert [column.name for column in change.relation.columns] == ["id", "name"]


def test_a_long_one_comes_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    insert = b"I" + struct.pack(">I", 7) + b"N" + row(b"1", None)
    monkeypatch.setattr(pgoutput, "PART", 3 * len(insert))
    decoder = Decoder()
    parts = [part for message in (RELATION, BEGIN, *[insert] * 7, COMMIT) if (part := decoder.feed(message))]
    assert [(len(part.changes), part.last) for part in parts] == [(3, False), (3, False), (1, True)]
    assert {(part.lsn, part.xid, part.commit_us) for part in parts} == {(100, 42, 946_684_801_000_000)}
    assert [part.end_lsn for part in parts] == [0, 0, 140]


def test_update_with_and_without_old_row_and_with_unchanged_toast() -> None:
    table = struct.pack(">I", 7)
    changes = decoded(
        b"U" + table + b"N" + row(b"1", UNCHANGED),
        b"U" + table + b"K" + row(b"1", None) + b"N" + row(b"2", b"x"),
        b"U" + table + b"O" + row(b"2", b"x") + b"N" + row(b"2", b""),
    ).changes
    assert [(change.old, change.new, change.old_is_key) for change in changes] == [
        (None, [b"1", UNCHANGED], False),
        ([b"1", None], [b"2", b"x"], True),
        ([b"2", b"x"], [b"2", b""], False),
    ]


def test_delete_and_what_is_not_sent_on() -> None:
    table = struct.pack(">I", 7)
    truncate = b"T" + struct.pack(">IB", 1, 0) + table
    (change,) = decoded(b"D" + table + b"K" + row(b"9", None), truncate).changes
    assert (change.kind, change.old, change.new, change.old_is_key) == ("DELETE", [b"9", None], None, True)
