"""What a frame means in words: payloads as JSON, bytes by their length and head, secrets nowhere."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from rtwidgets.protocol.explain import as_dict, explain
from rtwidgets.protocol.messages import Message


def explained(payload: Any) -> str:
    return explain(broadcast(payload)).removeprefix("broadcast 'm' on room: ")


def broadcast(payload: Any) -> Message:
    return Message("realtime:room", "broadcast", {"type": "broadcast", "event": "m", "payload": payload})


@pytest.mark.parametrize(
    ("payload", "said"),
    [
        ({"ok": True, "who": None, "n": [1, 2.5]}, '{"ok": true, "who": null, "n": [1, 2.5]}'),
        ({"text": "it's “é” 漢\n<b>"}, r'{"text": "it' + "'" + r's “é” 漢\n<b>"}'),
        ({"n": 10**20, "d": Decimal("0.10")}, '{"n": 100000000000000000000, "d": "0.10"}'),
        ({"at": datetime(2026, 1, 2, tzinfo=UTC)}, '{"at": "2026-01-02 00:00:00+00:00"}'),
        (b"hello\x00", '"<6 bytes: 68 65 6c 6c 6f 00>"'),
        (b"\x01", '"<1 byte: 01>"'),
        (b"", '"<0 bytes>"'),
        (bytearray(range(17)), '"<17 bytes: 00 01 02 03 04 05 06 07 08 09 0a 0b 0c 0d 0e 0f …>"'),
    ],
)
def test_payloads_are_told_as_json(payload: Any, said: str) -> None:
    assert explained(payload) == said


def test_long_ones_are_cut() -> None:
    assert explained({"text": "x" * 500}) == '{"text": "' + "x" * 109 + "…"


TOKEN = "eyJhbGciOiJIUzI1NiJ9.eyJyb2xlIjoiYW5vbiJ9.c2lnbmF0dXJl"


@pytest.mark.parametrize(
    "payload",
    [
        {"access_token": "abc123secret"},
        {"deep": [{"said": f"it is {TOKEN}"}]},
        {f"sb_secret_{'a' * 20}": 1},
        TOKEN.encode(),
        b"  " + TOKEN.encode(),
        {"raw": b"sb_secret_" + b"a" * 20},
    ],
)
def test_secrets_are_told_nowhere(payload: Any) -> None:
    message = broadcast(payload)
    both = explained(payload) + str(as_dict(message))
    assert "redacted" in both
    for secret in ("eyJ", "sb_secret_a", "abc123", b"eyJ".hex(" "), b"sb_secret".hex(" ")):
        assert secret not in both


def test_what_a_server_refuses_with_is_json_too() -> None:
    reply = Message("realtime:room", "phx_reply", {"status": "error", "response": {"code": None, "token": "abc"}})
    assert explain(reply) == 'room: refused, {"code": null, "token": "<redacted>"}'
    reply.payload["response"] = {"reason": f"bad token {TOKEN}"}
    assert explain(reply) == "room: refused, bad token <redacted>"


@pytest.mark.parametrize(
    ("event", "payload", "meaning"),
    [
        ("presence_state", {"ana": {"metas": []}}, "who is on room: ana"),
        ("presence_diff", {"joins": {"bo": {}}, "leaves": {}}, "room: bo came"),
        ("presence_diff", {}, "room: nobody came or left"),
        ("phx_reply", {"status": "ok", "response": {"postgres_changes": [1, 2]}}, "room: accepted, 2 subscriptions"),
        ("system", {"extension": "system", "status": "ok", "message": "hi"}, "system on room: ok, hi"),
        ("phx_close", {}, "room is closed"),
        ("phx_error", {}, "room has failed on the server"),
        ("phx_leave", {}, "asks to leave room"),
        ("access_token", {"access_token": TOKEN}, "a new token for room"),
        ("presence", {"event": "track"}, "shows a state on room"),
        ("presence", {"event": "untrack"}, "removes a state on room"),
        ("news", {}, "news on room"),
    ],
)
def test_each_message_in_a_line(event: str, payload: Any, meaning: str) -> None:
    assert explain(Message("realtime:room", event, payload)) == meaning
