"""Recorded frames, damaged at random: read, or refused with the one error that is documented, and what is read does the
channel no harm. (Bytes out of nothing, as in test_codec, seldom get past the first brace.)
"""

from __future__ import annotations

import base64
import json
import random
from pathlib import Path
from typing import Any

import pytest

from rtwidgets.protocol.channel import ChannelMachine
from rtwidgets.protocol.codec import FrameError, decode, decode_change, encode, receive
from rtwidgets.protocol.explain import explain
from rtwidgets.protocol.messages import Message
from rtwidgets.protocol.receiver import Receiver
from rtwidgets.protocol.subscription import ChangesBinding, ChannelOptions, JoinRequest

ROUNDS = 10_000
TRANSCRIPTS = Path(__file__).parents[1] / "conformance" / "transcripts"
TOKENS = [b'"', b"\\", b"{", b"}", b"[", b"]", b",", b"null", b"1e999", b"-0", b"NaN", b"\xff", b"\x00", b"9" * 50]


def recorded() -> list[bytes]:
    frames: list[bytes] = []
    for path in sorted(TRANSCRIPTS.glob("*.jsonl")):
        for line in path.read_text().splitlines():
            step = json.loads(line)
            frame = step["frame"]
            if step["dir"] in ("send", "recv"):
                frames.append(base64.b64decode(frame["base64"]) if isinstance(frame, dict) else frame.encode())
    return frames


def damaged(frames: list[bytes], rng: random.Random) -> bytes:
    data = bytearray(rng.choice(frames))
    for _ in range(rng.randrange(1, 6)):
        at = rng.randrange(len(data) + 1)
        how = rng.randrange(6)
        if how == 0 and at < len(data):
            data[at] = rng.randrange(256)
        elif how == 1:
            del data[at : at + rng.randrange(8)]
        elif how == 2:
            data[at:at] = rng.randbytes(rng.randrange(5))
        elif how == 3:
            other = rng.choice(frames)
            start = rng.randrange(len(other) + 1)
            data[at:at] = other[start : start + rng.randrange(40)]
        elif how == 4:
            data[at:at] = rng.choice(TOKENS)
        else:
            del data[at:]
    return bytes(data)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_a_damaged_frame_is_read_or_refused_and_nothing_else(seed: int) -> None:
    rng, frames = random.Random(seed), recorded()
    receivers: dict[Any, Receiver] = {vsn: Receiver(vsn) for vsn in ("1.0.0", "2.0.0")}
    read = 0
    for _ in range(ROUNDS):
        data = damaged(frames, rng)
        for vsn, receiver in receivers.items():
            found: list[Message | None] = []
            for how in (lambda: decode(data, vsn), lambda: receive(data, vsn), lambda: receiver.receive(data)):  # noqa: B023
                try:
                    found.append(how())
                except FrameError:
                    found.append(None)
            assert found[1] == found[2], "the short way reads what the long one reads"
            for message in found:
                if message is None:
                    continue
                read += 1
                if message.event == "postgres_changes":
                    try:
                        decode_change(message.payload)
                    except FrameError:
                        pass
                machine = ChannelMachine(message.topic, ChannelOptions())
                machine.connected(0.0)
                machine.subscribe(0.0)
                machine.authorized(JoinRequest("1", None, (ChangesBinding(table="t"),), presence=True), 0.0)
                machine.receive(message, 1.0)
                explain(message)
            if found[0] is not None:
                try:
                    again = encode(found[0], vsn, side="server")
                except FrameError:
                    continue  # binary, and too long for 1.0.0
                assert decode(again, vsn).payload == found[0].payload
    assert read > ROUNDS / 10, "not everything is refused"
