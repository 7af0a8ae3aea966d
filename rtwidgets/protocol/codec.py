"""The two serializers of Supabase Realtime, for both ends.

1.0.0 is JSON objects, 2.0.0 JSON arrays and the binary kinds 0 to 4. Numbers keep their digits: whole numbers are `int`
of any size, a number with a fraction or an exponent is a `float` where that loses no digit, else a `decimal.Decimal`.

Sources: the frames recorded from Supabase Realtime v2.122.0, its `v2_serializer.ex`, and Phoenix' JSON serializers.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Literal, TypeVar, cast

import msgspec

from .json_text import exact_int, exact_number, without_lone_surrogates
from .messages import Change, Column, Message, Vsn

T = TypeVar("T")
Side = Literal["client", "server"]

PUSH, REPLY, BROADCAST, USER_PUSH, USER_BROADCAST = range(5)
_RAW, _JSON = 0, 1
_KINDS = 5


class FrameError(ValueError):
    """A frame that no serializer of this protocol writes (or, from `encode`, a message that the chosen serializer
    cannot carry).

    `topic`: what the frame was for, where as much could be read.
    """

    topic: str | None = None


# --- numbers ---------------------------------------------------------------------------------------------------------


def _refuse_constant(text: str) -> Any:
    raise FrameError(f"{text} is not JSON")


_exact = msgspec.json.Decoder(float_hook=exact_number)
_plain = msgspec.json.Decoder()
UNREADABLE = (msgspec.MsgspecError, UnicodeError, RecursionError)
"""What reading JSON may raise."""


def loads(data: bytes | str | memoryview) -> Any:
    """Reads JSON, keeping every digit of every number; see `without_lone_surrogates`. Raises `FrameError` for what is
    not JSON.
    """
    return _read_twice(_loads, data)


def _read_twice(read: Callable[[Any], T], data: Any) -> T:
    try:
        return read(data)
    except FrameError:
        given = data.encode("utf-8", "surrogatepass") if isinstance(data, str) else bytes(data)
        readable = without_lone_surrogates(given)
        if readable == given:
            raise
        return read(readable)


def _loads(data: bytes | str | memoryview) -> Any:
    try:
        return _exact.decode(data)
    except msgspec.ValidationError:
        # msgspec refuses numbers outside a double's range, which Postgres' numeric and jsonb may hold.
        try:
            text = data if isinstance(data, str) else bytes(data).decode()
            return json.loads(text, parse_float=exact_number, parse_int=exact_int, parse_constant=_refuse_constant)
        except (ValueError, RecursionError) as error:
            raise FrameError(f"not JSON: {error}") from None
    except UNREADABLE as error:
        raise FrameError(f"not JSON: {error}") from None


_encoder = msgspec.json.Encoder(decimal_format="number")


def dumps(value: Any) -> bytes:
    """Writes JSON; `Decimal` as a number, `msgspec.Raw` as it is. Raises `FrameError` for what JSON cannot hold."""
    try:
        return _encoder.encode(value)
    except (TypeError, ValueError, RecursionError, OverflowError, msgspec.MsgspecError) as error:
        raise FrameError(f"cannot be sent as JSON: {error}") from None


# --- text frames -----------------------------------------------------------------------------------------------------

_Ref = str | int | None


class _Object(msgspec.Struct):
    """A 1.0.0 frame."""

    topic: str
    event: str
    payload: msgspec.Raw = msgspec.Raw(b"{}")
    ref: _Ref = None
    join_ref: _Ref = None


class _Array(msgspec.Struct, array_like=True):
    """A 2.0.0 text frame; msgspec skips further elements, as the server does."""

    join_ref: _Ref
    ref: _Ref
    topic: str
    event: str
    payload: msgspec.Raw


_objects = msgspec.json.Decoder(_Object)
_arrays = msgspec.json.Decoder(_Array)


def _ref(value: _Ref) -> str | None:
    return value if value is None or isinstance(value, str) else str(value)


def _text(data: bytes | str, vsn: Vsn) -> _Object | _Array:
    return _read_twice(_object if vsn == "1.0.0" else _array, data)


def _object(data: bytes | str) -> _Object:
    try:
        return _objects.decode(data)
    except UNREADABLE as error:
        raise FrameError(f"not a 1.0.0 frame: {error}") from None


def _array(data: bytes | str) -> _Array:
    try:
        return _arrays.decode(data)
    except UNREADABLE as error:
        raise FrameError(f"not a 2.0.0 frame: {error}") from None


def decode(data: str | bytes, vsn: Vsn, *, sender: Side = "server") -> Message:
    """Reads one frame of either end.

    `data` is the text, its UTF-8 bytes, or a binary frame (2.0.0 only). `sender` matters for binary kind 0 alone, whose
    layout differs between the ends. Raises `FrameError` for anything else, and nothing but that.
    """
    if isinstance(data, bytes) and data[:1] < b"\x09" and vsn == "2.0.0":
        return _decode_binary(data, sender)
    frame = _text(data, vsn)
    return Message(frame.topic, frame.event, loads(frame.payload), _ref(frame.ref), _ref(frame.join_ref))


def receive(data: str | bytes, vsn: Vsn) -> Message:
    """As `decode`, for the client's hot path: the payload of `postgres_changes` is a `Change`, decoded in one go."""
    if isinstance(data, bytes) and data[:1] < b"\x09" and vsn == "2.0.0":
        return _decode_binary(data, "server")
    frame = _text(data, vsn)
    try:
        payload = read_change(frame.payload) if frame.event == "postgres_changes" else loads(frame.payload)
    except FrameError as error:
        error.topic = frame.topic
        raise
    return Message(frame.topic, frame.event, payload, _ref(frame.ref), _ref(frame.join_ref))


def encode(message: Message, vsn: Vsn, *, side: Side = "client") -> str | bytes:
    """Writes one frame; `side` is the end that sends it.

    With 2.0.0 a user broadcast (see `Message`) becomes a binary frame (kind 3 from a client, 4 from a server) where it
    fits, as realtime-js does; a `bytes` payload of any other event becomes kind 0 (2 for a server's frame without
    join_ref), and a reply whose response is `bytes` kind 1. Raises `FrameError` where 1.0.0 would have to carry bytes,
    or a name is over 255 bytes in a frame that must be binary.
    """
    if vsn == "2.0.0":
        binary = _encode_binary(message, side)
        if binary is not None:
            return binary
    payload = message.payload
    if isinstance(payload, bytes) or _has_bytes(payload):
        raise FrameError(f"a binary payload needs serializer 2.0.0 (event {message.event!r})")
    if vsn == "2.0.0":
        return dumps((message.join_ref, message.ref, message.topic, message.event, payload)).decode()
    frame = {"topic": message.topic, "event": message.event, "payload": payload, "ref": message.ref}
    if side == "client" or message.join_ref is not None:
        frame["join_ref"] = message.join_ref
    return dumps(frame).decode()


def _has_bytes(payload: Any) -> bool:
    if not isinstance(payload, dict):
        return False
    fields = cast("dict[str, Any]", payload)
    return isinstance(fields.get("payload"), bytes) or isinstance(fields.get("response"), bytes)


# --- binary frames (2.0.0) -------------------------------------------------------------------------------------------


def _pack(kind: int, names: tuple[str | bytes, ...], data: bytes, *, encoding: int | None = None) -> bytes | None:
    """Header, sizes, names, data; None where a name has over 255 bytes."""
    try:
        parts = [name.encode() if isinstance(name, str) else name for name in names]
    except UnicodeError as error:
        raise FrameError(f"not text: {error}") from None
    sizes = [len(part) for part in parts]
    if max(sizes) > 255:
        return None
    head = [kind, *sizes] if encoding is None else [kind, *sizes, encoding]
    return bytes(head) + b"".join(parts) + data


def _must(frame: bytes | None) -> bytes:
    if frame is None:
        raise FrameError("a name in a binary frame has at most 255 bytes")
    return frame


def _encode_binary(message: Message, side: Side) -> bytes | None:
    """The binary frame of a message that has one, else None (it travels as text)."""
    payload, topic = message.payload, message.topic
    join_ref, ref = message.join_ref or "", message.ref or ""
    if isinstance(payload, bytes):
        if side == "client":
            return _must(_pack(PUSH, (join_ref, ref, topic, message.event), payload))
        if message.join_ref is None:
            return _must(_pack(BROADCAST, (topic, message.event), payload))
        return _must(_pack(PUSH, (join_ref, topic, message.event), payload))
    if not isinstance(payload, dict):
        return None
    fields = cast("dict[str, Any]", payload)
    if message.event == "phx_reply" and isinstance(fields.get("response"), bytes):
        return _must(_pack(REPLY, (join_ref, ref, topic, str(fields.get("status", ""))), fields["response"]))
    if message.event != "broadcast" or fields.get("type") != "broadcast":
        return None
    event, body = fields.get("event"), fields.get("payload")
    meta: Any = fields.get("meta")
    plain = isinstance(event, str) and "payload" in fields and fields.keys() <= {"type", "event", "payload", "meta"}
    carried = plain and (meta is None or isinstance(meta, dict)) and ("meta" not in fields or bool(fields["meta"]))
    refs_fit = (
        message.join_ref != ""
        and message.ref != ""
        and (side == "client" or (message.ref is None and message.join_ref is None))
    )
    if not carried or not refs_fit:
        return None
    raw = isinstance(body, bytes)
    metadata = dumps(fields["meta"]) if fields.get("meta") else b""
    data = body if isinstance(body, bytes) else dumps(body)
    encoding = _RAW if raw else _JSON
    if side == "client":
        frame = _pack(USER_PUSH, (join_ref, ref, topic, str(event), metadata), data, encoding=encoding)
    else:
        frame = _pack(USER_BROADCAST, (topic, str(event), metadata), data, encoding=encoding)
    return _must(frame) if raw else frame


def _split(data: bytes, count: int, extra: int = 0) -> tuple[list[bytes], bytes]:
    """The `count` names after the sizes (and `extra` header bytes), and the data after them."""
    head = 1 + count + extra
    if len(data) < head:
        raise FrameError("a binary frame shorter than its header")
    names: list[bytes] = []
    start = head
    for size in data[1 : 1 + count]:
        names.append(data[start : start + size])
        start += size
    if start > len(data):
        raise FrameError("a binary frame shorter than its sizes say")
    return names, data[start:]


def _decode_binary(data: bytes, sender: Side) -> Message:
    kind = data[0] if data else _KINDS
    try:
        if kind == PUSH and sender == "client":
            (join_ref, ref, topic, event), body = _split(data, 4)
            return Message(topic.decode(), event.decode(), body, ref.decode() or None, join_ref.decode() or None)
        if kind == PUSH:
            (join_ref, topic, event), body = _split(data, 3)
            return Message(topic.decode(), event.decode(), body, None, join_ref.decode() or None)
        if kind == REPLY:
            (join_ref, ref, topic, status), body = _split(data, 4)
            reply = {"status": status.decode(), "response": body}
            return Message(topic.decode(), "phx_reply", reply, ref.decode() or None, join_ref.decode() or None)
        if kind == BROADCAST:
            (topic, event), body = _split(data, 2)
            return Message(topic.decode(), event.decode(), body)
        if kind == USER_PUSH:
            (join_ref, ref, topic, event, meta), body = _split(data, 5, 1)
            payload = _user_payload(event, meta, body, data[6])
            return Message(topic.decode(), "broadcast", payload, ref.decode() or None, join_ref.decode() or None)
        if kind == USER_BROADCAST:
            (topic, event, meta), body = _split(data, 3, 1)
            return Message(topic.decode(), "broadcast", _user_payload(event, meta, body, data[4]))
    except UnicodeDecodeError:
        raise FrameError("a name in a binary frame is not UTF-8") from None
    raise FrameError(f"unknown binary kind {kind}" if data else "an empty frame")


def _user_payload(event: bytes, meta: bytes, body: bytes, encoding: int) -> dict[str, Any]:
    if encoding not in (_RAW, _JSON):
        raise FrameError(f"unknown payload encoding {encoding}")
    payload: dict[str, Any] = {
        "type": "broadcast",
        "event": event.decode(),
        "payload": body if encoding == _RAW else loads(body),
    }
    if meta:
        metadata = loads(meta)
        if not isinstance(metadata, dict):
            raise FrameError("the metadata of a broadcast is an object")
        if metadata:
            payload["meta"] = metadata
    return payload


# --- postgres_changes ------------------------------------------------------------------------------------------------

_Type = Literal["INSERT", "UPDATE", "DELETE", "TRUNCATE"]


class _Data(msgspec.Struct):
    type: _Type
    schema: str
    table: str
    columns: msgspec.Raw = msgspec.Raw(b"[]")
    record: msgspec.Raw = msgspec.Raw(b"null")
    old_record: msgspec.Raw = msgspec.Raw(b"null")
    commit_timestamp: str | None = None
    errors: str | list[str] | None = None
    lsn: int | None = None
    xid: int | None = None


class _Changed(msgspec.Struct):
    data: _Data
    ids: list[int] = []


_changed = msgspec.json.Decoder(_Changed)
_columns = msgspec.json.Decoder(list[Column] | None)
_KEEPS_DIGITS_AS_FLOAT = frozenset(
    ["float4", "float8", "int2", "int4", "int8", "bool", "text", "varchar", "uuid", "timestamptz", "timestamp", "date"]
)

# A table's `columns` are the same bytes in each of its changes, so they are read once: by their text, the columns and
# the reader of its records. Records without a numeric or json column need no look at each number's digits.
_seen: dict[bytes, tuple[list[Column], Callable[[Any], Any]]] = {}
_SEEN_MAX = 512


def has_plain_numbers(columns: list[Column]) -> bool:
    """Whether a float holds every number with a fraction that such a record may have."""
    return bool(columns) and all(column.type in _KEEPS_DIGITS_AS_FLOAT for column in columns)


def _table(raw: bytes) -> tuple[list[Column], Callable[[Any], Any]]:
    columns: list[Column] = _columns.decode(raw) or []
    reader: Callable[[Any], Any] = _plain.decode if has_plain_numbers(columns) else loads
    found = (columns, reader)
    if len(_seen) >= _SEEN_MAX:
        _seen.clear()
    _seen[raw] = found
    return found


def read_change(payload: bytes | str | msgspec.Raw) -> Change:
    """The `Change` in the JSON text of a `postgres_changes` payload. Raises `FrameError`."""
    return _read_twice(_read_change, payload)


def _read_change(payload: bytes | str | msgspec.Raw) -> Change:
    try:
        changed = _changed.decode(payload)
        data = changed.data
        raw = bytes(data.columns)
        columns, read = _seen.get(raw) or _table(raw)
        record: Any = read(data.record)
        old: Any = read(data.old_record)
    except UNREADABLE as error:
        raise FrameError(f"not a row change: {error}") from None
    if not (record is None or isinstance(record, dict)) or not (old is None or isinstance(old, dict)):
        raise FrameError("a row change whose record is not an object")
    errors = [data.errors] if isinstance(data.errors, str) else data.errors
    return Change(
        data.type,
        data.schema,
        data.table,
        columns,
        cast("dict[str, Any] | None", record),
        cast("dict[str, Any] | None", old),
        data.commit_timestamp,
        errors,
        data.lsn,
        data.xid,
        changed.ids,
    )


class _PlainData(msgspec.Struct):
    type: _Type
    schema: str
    table: str
    columns: list[Column] | None = None
    record: dict[str, Any] | None = None
    old_record: dict[str, Any] | None = None
    commit_timestamp: str | None = None
    errors: str | list[str] | None = None
    lsn: int | None = None
    xid: int | None = None


class _PlainChanged(msgspec.Struct):
    data: _PlainData
    ids: list[int] = []


def decode_change(payload: Any) -> Change:
    """The `Change` in a `postgres_changes` payload that `decode` returned; a `Change` comes back as it is."""
    if isinstance(payload, Change):
        return payload
    try:
        changed = msgspec.convert(payload, _PlainChanged)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise FrameError(f"not a row change: {error}") from None
    data = changed.data
    errors = [data.errors] if isinstance(data.errors, str) else data.errors
    return Change(
        data.type,
        data.schema,
        data.table,
        data.columns or [],
        data.record,
        data.old_record,
        data.commit_timestamp,
        errors,
        data.lsn,
        data.xid,
        changed.ids,
    )
