"""Arrow's IPC stream, decoded from pieces of any size."""

from __future__ import annotations

import io
from typing import Any

import pyarrow as pa
import pytest

from rtwidgets.client.arrow_stream import END, ArrowDecoder, encode_batch, encode_schema

BATCHES = [
    pa.RecordBatch.from_pydict(
        {
            "a": pa.array(range(n), pa.int64()),
            "b": pa.array([None if i % 3 else "x" * i for i in range(n)], pa.string()),
        }
    )
    for n in (0, 1, 100, 5)
]


def ours() -> bytes:
    messages = [encode_schema(BATCHES[0].schema), *(encode_batch(batch) for batch in BATCHES), END]
    return b"".join(bytes(message) for message in messages)


def pyarrows() -> bytes:
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, BATCHES[0].schema) as writer:
        for batch in BATCHES:
            writer.write_batch(batch)
    return sink.getvalue()


def test_what_is_encoded_is_a_stream_for_everybody() -> None:
    assert pa.ipc.open_stream(ours()).read_all().equals(pa.Table.from_batches(BATCHES))


@pytest.mark.parametrize("size", [1, 7, 64, 1000, 1_000_000])
@pytest.mark.parametrize("stream", [ours, pyarrows])
def test_pieces_of_any_size(stream: Any, size: int) -> None:
    data = stream()
    decoder = ArrowDecoder()
    found = [batch for at in range(0, len(data), size) for batch in decoder.decode(data[at : at + size])]
    assert decoder.ended
    assert found == BATCHES
    assert list(decoder.decode(b"more")) == []
    cut = ArrowDecoder()
    _ = list(cut.decode(data[:-8]))
    assert not cut.ended


@pytest.mark.parametrize(
    "data", [b'[{"id":1}]', b"\xff\xff\xff\xff\xff\xff\xff\xff", b"\xff\xff\xff\xff\x08\x00\x00\x00" + b"\xff" * 8]
)
def test_what_is_no_stream_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="Arrow"):
        _ = list(ArrowDecoder().decode(data))
