"""What a recording says, read with `json` and nothing of ours: slow, plain, and digit by digit."""

from __future__ import annotations

import base64
import json
from decimal import Decimal
from typing import Any


def exact(value: Any) -> Any:
    """Numbers as Decimals, so that 1.5, 1.50 and Decimal("1.5") are one and no digit is lost; all else as it is."""
    if isinstance(value, bool) or value is None or isinstance(value, str | bytes):
        return value
    if isinstance(value, int):
        return Decimal(value)
    if isinstance(value, float):
        return Decimal(repr(value))
    if isinstance(value, dict):
        return {key: exact(item) for key, item in value.items()}
    return [exact(item) for item in value] if isinstance(value, list) else value


def loads(text: str | bytes) -> Any:
    return json.loads(text, parse_float=Decimal, parse_int=Decimal)


def binary(data: bytes) -> tuple[Any, ...]:
    """ref, topic, event, payload of a user broadcast (kind 3 or 4)."""
    kind, count = data[0], {3: 5, 4: 3}[data[0]]
    sizes, raw = data[1 : 1 + count], data[1 + count] == 0
    names, at = [], 2 + count
    for size in sizes:
        names.append(data[at : at + size].decode())
        at += size
    topic, event, meta = names[-3:]
    payload = {"event": event, "payload": data[at:] if raw else loads(data[at:]), "meta": loads(meta) if meta else {}}
    return (names[1] if kind == 3 else None, topic, "broadcast", payload)


class Topic:
    """What the server said to one topic."""

    def __init__(self) -> None:
        self.broadcasts: list[tuple[str, Any, Any]] = []
        self.changes: dict[int, list[Any]] = {}
        """By the place of the binding in the join."""
        self.presence: dict[str, Any] | None = None
        self.ready = 0
        self.refused: list[str] = []
        self.ids: list[Any] = []
        self.join_ref: str | None = None
        self.waiting: list[Any] = []


class Oracle:
    """Follows one connection."""

    def __init__(self) -> None:
        self.topics: dict[str, Topic] = {}

    def read(self, way: str, frame: Any) -> None:
        if isinstance(frame, dict):
            ref, topic, event, payload = binary(base64.b64decode(frame["base64"]))
        else:
            found = loads(frame)
            if isinstance(found, dict):
                found = [found.get(name) for name in ("join_ref", "ref", "topic", "event", "payload")]
            ref, topic, event, payload = found[1:5]
        of = self.topics.setdefault(topic, Topic())
        if way == "send":
            if event == "phx_join":
                of.join_ref, of.waiting = ref, []
        elif event == "phx_reply":
            if ref == of.join_ref and payload["status"] == "ok":
                of.ids = [entry["id"] for entry in payload["response"].get("postgres_changes", [])]
        elif event == "broadcast":
            of.broadcasts.append((payload["event"], payload.get("payload"), payload.get("meta") or {}))
        elif event == "postgres_changes":
            data = {"record": None, "old_record": None, **payload["data"]}
            for at, number in enumerate(of.ids):
                if number in payload["ids"]:
                    of.changes.setdefault(at, []).append(data)
        elif event == "system" and payload["extension"] == "postgres_changes":
            of.ready += payload["status"] == "ok"
            if payload["status"] == "error":
                of.refused.append(payload["message"])
        elif event == "presence_state":
            of.presence = {key: entry["metas"] for key, entry in payload.items()}
            for diff in of.waiting:
                self.diff(of, diff)
        elif event == "presence_diff":
            if of.presence is None:
                of.waiting.append(payload)
            else:
                self.diff(of, payload)

    @staticmethod
    def diff(of: Topic, diff: Any) -> None:
        assert of.presence is not None
        for key, entry in diff["joins"].items():
            refs = [meta["phx_ref"] for meta in entry["metas"]]
            kept = [meta for meta in of.presence.get(key, []) if meta["phx_ref"] not in refs]
            of.presence[key] = kept + entry["metas"]
        for key, entry in diff["leaves"].items():
            refs = [meta["phx_ref"] for meta in entry["metas"]]
            of.presence[key] = [meta for meta in of.presence.get(key, []) if meta["phx_ref"] not in refs]
            if not of.presence[key]:
                del of.presence[key]
