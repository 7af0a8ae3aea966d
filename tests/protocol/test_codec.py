"""The serializers: everything there and back, junk refused, digits kept."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtwidgets.protocol.codec import FrameError, decode, decode_change, encode, loads, read_change, receive
from rtwidgets.protocol.messages import Change, Column, Message

names = st.text(st.characters(codec="utf-8"), max_size=30)
some = st.text(st.characters(codec="utf-8"), min_size=1, max_size=30)
refs = st.none() | st.text("0123456789", min_size=1, max_size=6)
numbers = st.integers() | st.floats(allow_nan=False, allow_infinity=False)
values = st.recursive(
    st.none() | st.booleans() | numbers | names,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(names, inner, max_size=4),
    max_leaves=12,
)
broadcasts = st.fixed_dictionaries(
    {"type": st.just("broadcast"), "event": names, "payload": values},
    optional={"meta": st.dictionaries(names, values, min_size=1, max_size=3)},
)
events = st.sampled_from(["phx_join", "phx_reply", "presence_diff", "system", "x"])
messages = st.builds(Message, some, events, st.dictionaries(names, values, max_size=4), refs, refs) | st.builds(
    Message, some, st.just("broadcast"), broadcasts, refs, refs
)
vsns: Any = st.sampled_from(["1.0.0", "2.0.0"])
sides: Any = st.sampled_from(["client", "server"])


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(messages, vsns, sides)
def test_there_and_back(message: Message, vsn: Any, side: Any) -> None:
    frame = encode(message, vsn, side=side)
    assert decode(frame, vsn, sender=side) == message
    # The text of a frame may come as its bytes.
    assert decode(frame.encode() if isinstance(frame, str) else frame, vsn, sender=side) == message
    assert receive(frame, vsn) == message


@settings(max_examples=100, deadline=None)
@given(some, some, st.binary(), st.none() | st.dictionaries(names, values, min_size=1, max_size=2), sides)
def test_bytes_there_and_back(topic: str, event: str, data: bytes, meta: Any, side: Any) -> None:
    payload = {"type": "broadcast", "event": event, "payload": data} | ({"meta": meta} if meta else {})
    message = Message(topic, "broadcast", payload)
    try:
        frame = encode(message, "2.0.0", side=side)
    except FrameError:
        assert max(len(part) for part in (topic.encode(), event.encode(), json.dumps(meta).encode())) > 255
        return
    assert isinstance(frame, bytes)
    assert frame[0] == (3 if side == "client" else 4)
    assert decode(frame, "2.0.0", sender=side) == message
    with pytest.raises(FrameError):
        encode(message, "1.0.0", side=side)


@given(st.binary(max_size=60), vsns, sides)
def test_junk_bytes_raise_frame_error_only(data: bytes, vsn: Any, side: Any) -> None:
    for read in (lambda: decode(data, vsn, sender=side), lambda: receive(data, vsn), lambda: read_change(data)):
        try:
            read()
        except FrameError:
            pass


@given(st.integers(0, 5), st.binary(max_size=60), sides)
def test_junk_binary_frames_raise_frame_error_only(kind: int, data: bytes, side: Any) -> None:
    try:
        decode(bytes([kind]) + data, "2.0.0", sender=side)
    except FrameError:
        pass


@given(values)
def test_a_payload_that_is_no_change_raises_frame_error_only(payload: Any) -> None:
    for read in (lambda: decode_change(payload), lambda: read_change(json.dumps(payload))):
        with pytest.raises(FrameError):
            read()


@pytest.mark.parametrize(
    "bad",
    ["", "[" * 100_000 + "]" * 100_000, "{}", "[]", '["1"]', "nul", "\ud800", b"", b"\xff", b"\x04", '[1,2,3,"x",{}]'],
)
@pytest.mark.parametrize("vsn", ["1.0.0", "2.0.0"])
def test_malformed(bad: Any, vsn: Any) -> None:
    with pytest.raises(FrameError):
        decode(bad, vsn)


def test_recorded_binary_frames() -> None:
    assert decode(bytes.fromhex("040d0300007265616c74696d653a6368617462696e0001ff"), "2.0.0") == Message(
        "realtime:chat", "broadcast", {"type": "broadcast", "event": "bin", "payload": b"\x00\x01\xff"}
    )


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("123456789012345678.123456789", Decimal("123456789012345678.123456789")),
        ("12345678901234567890123", 12345678901234567890123),
        ("9223372036854775807", 9223372036854775807),
        ("15.17", 15.17),
        ("0.1", 0.1),
        ("1.00000000000000000001", Decimal("1.00000000000000000001")),
        ("1e400", Decimal("1e400")),
        ("1e5", 1e5),
    ],
)
def test_numbers_keep_every_digit(text: str, value: Any) -> None:
    found = loads(text)
    assert (found, type(found)) == (value, type(value))
    assert loads(encode(Message("t", "e", {"v": found}), "1.0.0").encode())["payload"]["v"] == value  # type: ignore[union-attr]


@pytest.mark.parametrize("kind", ["numeric", "jsonb", "_numeric"])
def test_numbers_of_records_keep_every_digit(kind: str) -> None:
    data = {
        "type": "INSERT",
        "schema": "public",
        "table": "t",
        "columns": [{"name": "v", "type": kind}],
        "record": {"v": 0},
        "errors": None,
    }
    frame = json.dumps([None, None, "realtime:t", "postgres_changes", {"ids": [1], "data": data}]).replace(
        '"v": 0', '"v": 123456789012345678.123456789'
    )
    change = receive(frame, "2.0.0").payload
    assert isinstance(change, Change)
    assert change.record == {"v": Decimal("123456789012345678.123456789")}
    assert change.columns == [Column("v", kind)]
    assert decode_change(decode(frame, "2.0.0").payload) == change


def test_raw_json_travels_as_it_is() -> None:
    assert encode(Message("t", "e", msgspec.Raw(b'{"a":1.10}')), "2.0.0") == '[null,null,"t","e",{"a":1.10}]'
