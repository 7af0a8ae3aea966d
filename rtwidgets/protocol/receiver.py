"""Reads a connection's frames; in those of row changes, what is the same bytes in every change is compared, not parsed.

More than half of such a frame repeats: the topic, the table, its columns with their types, the subscription's ids. So a
frame is split into a head, a middle and a tail. Where head and tail are known, only the middle (the record) is parsed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from .codec import UNREADABLE, FrameError, has_plain_numbers, receive
from .json_text import exact_number
from .messages import Change, Message, Vsn

_CUTS = (b',"schema":', b'},"ids":')
"""Where a tail may begin: as Supabase orders the keys, and as the local server does."""
_HEAD_END = b',"commit_timestamp":'
_PROBE = "?"
_MOST = 512  # pairs of head and tail that are looked into, on one connection


class _Middle(msgspec.Struct, gc=False):
    """What differs between two changes of a table; JSON as it stands between head and tail."""

    commit_timestamp: str | None = None
    errors: str | list[str] | None = None
    record: dict[str, Any] | None = None
    old_record: dict[str, Any] | None = None
    lsn: int | None = None
    xid: int | None = None


_plain = msgspec.json.Decoder(_Middle)
_exact = msgspec.json.Decoder(_Middle, float_hook=exact_number)


class _Known(msgspec.Struct):
    """What a head and a tail say together."""

    message: Message
    change: Change
    decode: Callable[[bytes], _Middle]


class Receiver:
    """Reads what the server sends on one connection. The answers are those of `codec.receive`, sooner."""

    def __init__(self, vsn: Vsn) -> None:
        self._vsn: Vsn = vsn
        self._known: dict[bytes, dict[bytes, _Known]] = {}
        self._tried = 0

    def receive(self, data: bytes | str) -> Message:
        """As `codec.receive`; raises `FrameError`."""
        if isinstance(data, str):
            return receive(data, self._vsn)
        start = data.find(_HEAD_END)
        if start < 0:
            return receive(data, self._vsn)
        tails = self._known.get(data[:start])
        if tails is not None:
            for cut in _CUTS:
                stop = data.rfind(cut, start)
                known = tails.get(data[stop:]) if stop > 0 else None
                if known is not None:
                    try:
                        # The comma before the first varying member makes way for the brace of an object of its own.
                        middle = known.decode(b"{%b}" % data[start + 1 : stop])
                    except UNREADABLE:
                        break  # not what it seemed, or a number that only the slow way reads
                    return _put_together(known, middle)
        message = receive(data, self._vsn)
        if isinstance(message.payload, Change):
            self._learn(data, start)
        return message

    def _learn(self, data: bytes, start: int) -> None:
        """Keeps the head and the tail of a frame where they are a whole frame by themselves, and a member put between
        them is a member of the change: then whatever stands there is one.
        """
        if self._tried >= _MOST:
            return
        self._tried += 1
        for cut in _CUTS:
            stop = data.rfind(cut, start)
            if stop < 0:
                continue
            head, tail = data[:start], data[stop:]
            try:
                message = receive(b'%b,"commit_timestamp":"%b"%b' % (head, _PROBE.encode(), tail), self._vsn)
            except FrameError:
                continue
            change = message.payload
            if not isinstance(change, Change) or change.commit_timestamp != _PROBE:
                continue
            varying = (change.record, change.old_record, change.lsn, change.xid)
            if not change.columns or any(value is not None for value in varying):
                continue
            decode = _plain.decode if has_plain_numbers(change.columns) else _exact.decode
            self._known.setdefault(head, {})[tail] = _Known(message, change, decode)
            return


def _put_together(known: _Known, middle: _Middle) -> Message:
    fixed, message = known.change, known.message
    errors = middle.errors
    if errors is None:
        errors = fixed.errors
    elif isinstance(errors, str):
        errors = [errors]
    change = Change(
        fixed.type,
        fixed.schema,
        fixed.table,
        fixed.columns,
        middle.record,
        middle.old_record,
        middle.commit_timestamp,
        errors,
        middle.lsn,
        middle.xid,
        fixed.ids,
    )
    return Message(message.topic, message.event, change, message.ref, message.join_ref)
