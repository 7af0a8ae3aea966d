"""Explains a frame in one line, and shows frames as text without their secrets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, cast

import msgspec

from .events import decode_event
from .messages import Change, Message
from .redaction import short, without_secrets

Direction = Literal["in", "out"]


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


def explain(message: Message) -> str:
    """What a frame of either end means, in one line without secrets."""
    payload: Any = message.payload
    topic = message.topic.removeprefix("realtime:")
    if isinstance(payload, Change):
        return _change(payload)
    event = decode_event(message)
    if event is not None:
        return event.explain(topic)
    fields = _fields(payload)
    if message.event == "phx_join":
        return _join(topic, fields)
    if message.event == "presence":
        return f"{'shows' if fields.get('event') == 'track' else 'removes'} a state on {topic}"
    sent = {
        "heartbeat": "heartbeat",
        "phx_leave": f"asks to leave {topic}",
        "access_token": f"a new token for {topic}",
    }
    return sent.get(message.event, f"{message.event} on {topic}")


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


def _change(change: Change) -> str:
    row = change.record if change.record is not None else change.old_record
    verbs = {"INSERT": "a row was inserted into", "UPDATE": "a row was updated in", "DELETE": "a row was deleted from"}
    problem = f" ({'; '.join(change.errors)})" if change.errors else ""
    return f"{verbs.get(change.type, change.type)} {change.schema}.{change.table}: {short(row)}{problem}"
