"""Broadcasts from the database: rows of realtime.messages as they are committed, and those stored for a replay."""

from __future__ import annotations

from ..protocol.server_channel import PREFIX
from .catalogue import Table
from .hub import Hub
from .pgoutput import RowChange
from .pool import Pool
from .wire_frames import Broadcast

SCHEMA, TABLE = "realtime", "messages"


def deliver(hub: Hub, table: Table, change: RowChange) -> None:
    """Delivers a committed row of realtime.messages: realtime.send and realtime.broadcast_changes write them."""
    row = change.new
    if change.kind != "INSERT" or row is None:
        return

    def get(name: str) -> bytes | None:
        value = row[table.position[name]]
        return value if isinstance(value, bytes) else None

    topic, event, body = get("topic"), get("event"), get("payload")
    if topic is None or event is None or get("extension") != b"broadcast":
        return
    raw = body is None
    if body is None:
        binary = get("binary_payload")
        if binary is None:
            return
        body = bytes.fromhex(binary[2:].decode())
    name, identity = topic.decode(), get("id")
    meta = {"id": identity.decode()} if identity else None
    message = Broadcast(f"{PREFIX}{name}", event.decode(), body, raw=raw, binary=True, meta=meta)
    hub.broadcast(name, get("private") == b"t", message)


async def read(pool: Pool, topic: str, since_ms: int, limit: int) -> list[Broadcast]:
    """The newest stored broadcasts of a private topic, oldest first. Raises psycopg.Error, OSError.

    Args:
        topic: as on the wire.
        since_ms: ms since 1970.
    """
    async with pool.connection() as connection:
        cursor = await connection.execute(
            "select id::text, event, payload::text, binary_payload from realtime.messages "
            "where topic = %s and private and extension = 'broadcast' "
            "and (payload is not null or binary_payload is not null) "
            "and inserted_at >= to_timestamp(%s) at time zone 'UTC' order by inserted_at desc limit %s",
            (topic.removeprefix(PREFIX), since_ms / 1000, limit),
        )
        rows = await cursor.fetchall()
    return [
        Broadcast(
            topic,
            event,
            body.encode() if body is not None else raw,
            raw=body is None,
            binary=True,
            meta={"id": message_id, "replayed": True},
        )
        for message_id, event, body, raw in reversed(rows)
    ]
