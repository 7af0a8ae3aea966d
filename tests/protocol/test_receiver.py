"""Comparing what repeats instead of parsing it must never change what is read."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtwidgets.protocol import receiver
from rtwidgets.protocol.codec import FrameError, receive
from rtwidgets.protocol.messages import Change
from rtwidgets.protocol.receiver import Receiver

vsns: Any = st.sampled_from(["1.0.0", "2.0.0"])
# Names that a clumsy cut would fall for.
names = st.sampled_from(
    ["id", "schema", "table", "type", "ids", "commit_timestamp", "data", "lsn", "columns"]
) | st.text(max_size=4)
texts = st.sampled_from(['],"commit_timestamp":"', ',"schema":"', '"},"ids":[1]}]', "\\", '"', "ü", "\u2028"])
numbers = st.integers() | st.floats(allow_nan=False, allow_infinity=False)
values = st.recursive(
    st.none() | st.booleans() | numbers | texts | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=6,
)
rows = st.dictionaries(names, values, max_size=4)


@st.composite
def frames(draw: Any) -> bytes:
    """A frame of a row change as Supabase writes it, as the local server does, or with its keys in any order."""
    kind = draw(st.sampled_from(["INSERT", "UPDATE", "DELETE"]))
    data: dict[str, Any] = {
        "columns": [
            {"name": name, "type": draw(st.sampled_from(["int8", "text", "numeric", "jsonb"]))} for name in "ab"
        ],
        "commit_timestamp": draw(st.sampled_from(["2026-11-23T17:22:49.015Z", None, ""])),
        "errors": draw(st.none() | st.just(["Error 413: Payload Too Large"]) | st.just("x")),
        "old_record": draw(rows),
        "record": draw(rows),
        "schema": draw(st.sampled_from(["public", "s"])),
        "table": draw(st.sampled_from(["t", "u"])),
        "type": kind,
    }
    if kind == "INSERT":
        del data["old_record"]
    elif kind == "DELETE":
        del data["record"]
    order = draw(st.sampled_from(["supabase", "local", "any"]))
    if order == "local":
        data |= {"lsn": draw(st.integers(0, 2**60)), "xid": draw(st.integers(0, 2**32))}
        first = (
            "schema",
            "table",
            "columns",
            "type",
            "errors",
            "commit_timestamp",
            "lsn",
            "xid",
            "record",
            "old_record",
        )
        data = {name: data[name] for name in first if name in data}
    elif order == "any":
        data = {name: data[name] for name in draw(st.permutations(list(data)))}
    payload: dict[str, Any] = {"data": data, "ids": draw(st.lists(st.integers(1, 3), max_size=2))}
    if draw(st.booleans()):
        payload = dict(reversed(payload.items()))
    topic = "realtime:" + draw(st.sampled_from(["t", ',"schema":']))
    separators = draw(st.sampled_from([(",", ":"), (", ", ": ")]))
    whole: Any = [None, None, topic, "postgres_changes", payload]
    if draw(st.booleans()):
        whole = {"event": "postgres_changes", "payload": payload, "ref": None, "topic": topic}
    return json.dumps(whole, separators=separators, ensure_ascii=draw(st.booleans())).encode()


def read(how: Any, data: bytes) -> Any:
    try:
        return how(data)
    except FrameError:
        return "FrameError"


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(st.lists(frames() | st.binary(max_size=30), max_size=12), vsns, st.randoms(use_true_random=False))
def test_the_same_as_reading_everything(sent: list[bytes], vsn: Any, random: Any) -> None:
    one = Receiver(vsn)
    sent = sent * 2  # the second time what was learned is used
    random.shuffle(sent)
    for data in sent:
        assert read(one.receive, data) == read(lambda data: receive(data, vsn), data)


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(frames(), st.integers(0, 400), st.binary(max_size=3), vsns)
def test_a_frame_damaged_anywhere_is_read_as_ever(data: bytes, at: int, junk: bytes, vsn: Any) -> None:
    one = Receiver(vsn)
    read(one.receive, data)
    damaged = data[: at % len(data)] + junk + data[at % len(data) + 1 :]
    assert read(one.receive, damaged) == read(lambda data: receive(data, vsn), damaged)


def change(number: Any, kind: str = "int8", ids: str = "[1]") -> bytes:
    data = (
        f'{{"columns":[{{"name": "v", "type": "{kind}"}}],"commit_timestamp":"2026-11-23T17:22:49.015Z","errors":null,'
        f'"record":{{"v": {number}}},"schema":"public","table":"t","type":"INSERT"}}'
    )
    return f'[null,null,"realtime:t","postgres_changes",{{"data":{data},"ids":{ids}}}]'.encode()


def test_what_repeats_is_not_parsed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    one = Receiver("2.0.0")
    first = one.receive(change(1)).payload
    monkeypatch.setattr(receiver, "receive", None)
    second = one.receive(change(2)).payload
    assert isinstance(second, Change)
    assert (second.record, second.columns, second.ids) == ({"v": 2}, first.columns, [1])


def test_nor_in_what_the_local_server_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    frame = (
        '[null,null,"realtime:t","postgres_changes",{{"data":{{"schema":"public","table":"t","columns":'
        '[{{"name":"v","type":"int8"}}],"type":"UPDATE","errors":null,"commit_timestamp":"2026-11-23T17:22:49.015Z",'
        '"lsn":{0},"xid":{0},"record":{{"v":{0}}},"old_record":{{"v":{0}}}}},"ids":[1]}}]'
    )
    one = Receiver("2.0.0")
    one.receive(frame.format(1).encode())
    whole = receive(frame.format(2), "2.0.0")
    monkeypatch.setattr(receiver, "receive", None)
    assert one.receive(frame.format(2).encode()) == whole


@pytest.mark.parametrize("kind", ["numeric", "jsonb"])
@pytest.mark.parametrize("number", ["123456789012345678.123456789", "1e400", "-0.1000"])
def test_the_fast_path_keeps_every_digit_too(kind: str, number: str) -> None:
    one = Receiver("2.0.0")
    one.receive(change(1, kind))
    found = one.receive(change(number, kind)).payload
    assert found == receive(change(number, kind), "2.0.0").payload
    assert str(found.record["v"]) in (number.upper().replace("E400", "E+400"), "-0.1")


def test_a_server_that_never_repeats_itself_costs_a_bounded_memory() -> None:
    one = Receiver("2.0.0")
    for number in range(2000):
        assert one.receive(change(1, ids=f"[{number}]")).payload.ids == [number]
    assert sum(len(tails) for tails in one._known.values()) <= 512


def test_a_struct_is_not_shared_where_it_may_be_written() -> None:
    one = Receiver("2.0.0")
    first, second, third = (one.receive(change(number)).payload for number in (1, 2, 3))
    second.record["v"] = "mine"
    assert (first.record, third.record) == ({"v": 1}, {"v": 3})
    assert msgspec.to_builtins(third)["type"] == "INSERT"
