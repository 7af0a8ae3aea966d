"""What a frame means, in a line; and frames as text without their secrets."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Literal, cast

import msgspec

from .errors import redact
from .messages import Change, Message

Direction = Literal["in", "out"]
_SECRET_FIELDS = frozenset({"access_token", "user_token", "apikey", "token", "authorization", "password"})

_HEAD = 16
"""Bytes of a binary payload that are shown."""
_LOOKED_AT = 4096
"""Bytes of it that are looked at for keys and tokens."""


def without_secrets(value: Any) -> Any:
    """The value with tokens and keys replaced: by the field's name, and by how they look wherever they stand."""
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, Mapping):
        found = cast("Mapping[Any, Any]", value)
        return {
            redact(str(name)): "<redacted>" if str(name).lower() in _SECRET_FIELDS and item else without_secrets(item)
            for name, item in found.items()
        }
    if isinstance(value, list | tuple):
        return [without_secrets(item) for item in cast("list[Any]", value)]
    if isinstance(value, bytes | bytearray | memoryview):
        return _bytes(bytes(cast("bytes", value)))
    return value


def as_dict(message: Message) -> dict[str, Any]:
    """The frame as an object of serializer 1.0.0, without secrets; a row change as its message carried it."""
    payload = message.payload
    if isinstance(payload, Change):
        change = {name: value for name, value in msgspec.to_builtins(payload).items() if value is not None}
        payload = {"ids": change.pop("ids", []), "data": change}
    found = {
        "topic": message.topic,
        "event": message.event,
        "payload": payload,
        "ref": message.ref,
        "join_ref": message.join_ref,
    }
    return without_secrets(found)


def explain(direction: Direction, message: Message) -> str:
    """What the frame says, in plain words."""
    payload: Any = message.payload
    fields = _fields(payload)
    event, topic = message.event, message.topic.removeprefix("realtime:")
    if isinstance(payload, Change):
        return _change(payload)
    if event == "heartbeat":
        return "heartbeat: are you there?"
    if event == "phx_reply":
        return _reply(message.topic, fields)
    if event == "phx_join":
        return _join(topic, fields)
    plain = {
        "phx_leave": f"asks to leave {topic}",
        "phx_close": f"{topic} is closed",
        "phx_error": f"{topic} has failed on the server",
        "access_token": f"a new token for {topic}",
    }
    if event in plain:
        return plain[event]
    if event == "system":
        return f"{fields.get('extension', 'system')} says {fields.get('status')}: {redact(str(fields.get('message')))}"
    if event == "presence_state":
        return f"who is on {topic}: {_names(fields)}"
    if event == "presence_diff":
        parts = [
            f"{_names(who)} {what}"
            for name, what in (("joins", "came"), ("leaves", "left"))
            if (who := fields.get(name))
        ]
        return f"{topic}: {', '.join(parts) or 'nobody came or left'}"
    if event == "presence":
        what = fields.get("event")
        return f"{'shows' if what == 'track' else 'takes away'} a state on {topic}"
    if event == "broadcast":
        kind = "says" if direction == "out" else "hears"
        return f"{kind} {fields.get('event', '?')!r} on {topic}: {_short(fields.get('payload'))}"
    return f"{event} on {topic}"


def _fields(value: Any) -> Mapping[str, Any]:
    return cast("Mapping[str, Any]", value) if isinstance(value, Mapping) else {}


def _join(topic: str, fields: Mapping[str, Any]) -> str:
    config = _fields(fields.get("config"))
    wants: list[str] = []
    for entry in cast("list[Any]", config.get("postgres_changes") or []):
        one = _fields(entry)
        where = f" where {one['filter']}" if one.get("filter") else ""
        wants.append(f"changes of {one.get('schema', 'public')}.{one.get('table', '*')}{where}")
    if _fields(config.get("presence")).get("enabled"):
        wants.append("presence")
    private = "private channel " if config.get("private") else ""
    return f"asks to join {private}{topic}" + (f", with {', '.join(wants)}" if wants else "")


def _reply(topic: str, fields: Mapping[str, Any]) -> str:
    response = _fields(fields.get("response"))
    about = "heartbeat" if topic == "phoenix" else topic.removeprefix("realtime:")
    if fields.get("status") == "ok":
        changes = cast("list[Any]", response.get("postgres_changes") or [])
        found = f", {len(changes)} subscription{'s' if len(changes) > 1 else ''}" if changes else ""
        return f"{about}: accepted{found}"
    return f"{about}: refused, {_reason(response)}"


def _reason(response: Mapping[str, Any]) -> str:
    reason = response.get("reason", response)
    return redact(reason) if isinstance(reason, str) else _short(reason)


def _change(change: Change) -> str:
    row = change.record if change.record is not None else change.old_record
    said = {"INSERT": "a row was inserted into", "UPDATE": "a row was updated in", "DELETE": "a row was deleted from"}
    problem = f" ({'; '.join(change.errors)})" if change.errors else ""
    return f"{said.get(change.type, change.type)} {change.schema}.{change.table}: {_short(row)}{problem}"


def _names(who: Any) -> str:
    names = [redact(str(name)) for name in cast("Mapping[Any, Any]", who)] if isinstance(who, Mapping) else []
    shown = ", ".join(names[:5]) or "nobody"
    return shown if len(names) <= 5 else f"{shown} and {len(names) - 5} more"


def _bytes(value: bytes) -> str:
    """How many they are, and the first of them; a secret's bytes are a secret too."""
    start = value[:_LOOKED_AT].decode("latin-1")
    if not value or redact(start) != start:
        return f"<{len(value)} bytes{', redacted' if value else ''}>"
    more = " …" if len(value) > _HEAD else ""
    return f"<{len(value)} byte{'s' if len(value) > 1 else ''}: {value[:_HEAD].hex(' ')}{more}>"


def _short(value: Any) -> str:
    text = json.dumps(without_secrets(value), ensure_ascii=False, default=str)
    return text if len(text) <= 120 else f"{text[:119]}…"
