"""`rtwidgets tail`: what happens in a topic or a table, a line of JSON each."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from rtwidgets.client.channel import AsyncChannel
from rtwidgets.client.client import AsyncClient
from rtwidgets.protocol.codec import dumps
from rtwidgets.protocol.errors import RealtimeError
from rtwidgets.protocol.events import Broadcast
from rtwidgets.protocol.messages import Change
from rtwidgets.protocol.presence import PresenceChange
from rtwidgets.protocol.subscription import ChangesBinding

Write = Callable[[str], None]


async def is_table(client: AsyncClient, name: str, schema: str) -> bool:
    """Whether the project knows a table of that name. Where that cannot be known, it does not."""
    try:
        await client.rest.describe(name, schema)
    except RealtimeError as error:
        if error.code in ("ConnectionLost", "Timeout"):
            raise
        return False
    return True


async def tail_table(
    client: AsyncClient, table: str, *, schema: str, filter: str | None, write: Write, report: Write
) -> None:
    """Every change of a table until cancelled. Raises RealtimeError where the project does not serve it."""
    channel = client.channel(f"tail:{schema}.{table}")
    failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    channel.add_changes(ChangesBinding("*", schema, table, filter), _Lines(write, report, failed))
    await _follow(client, channel, failed)


async def tail_topic(
    client: AsyncClient, topic: str, *, private: bool, event: str, write: Write, report: Write
) -> None:
    """Every broadcast of a topic, and who comes and goes, until cancelled. Raises RealtimeError where it is refused."""
    channel = client.channel(topic, private=private)

    def on_broadcast(message: Broadcast) -> None:
        if message.is_of(event):
            write(_line({"at": _now(), **message.as_json()}))

    def on_presence(change: PresenceChange) -> None:
        for what in ("joins", "updates", "leaves"):
            people: Mapping[str, tuple[Mapping[str, Any], ...]] = getattr(change, what)
            for key, metas in people.items():
                write(_line({"at": _now(), "presence": what, "key": key, "state": [_plain(meta) for meta in metas]}))

    channel.on_event(Broadcast, on_broadcast)
    channel.on_presence(on_presence)
    channel.on_status(lambda status, error: report(f"{status}{f': {error}' if error else ''}"))
    await _follow(client, channel, asyncio.get_running_loop().create_future())


async def _follow(client: AsyncClient, channel: AsyncChannel, failed: asyncio.Future[None]) -> None:
    """Stays subscribed through interruptions; ends by an error that does not pass by itself."""

    def refused(_: object, error: RealtimeError | None) -> None:
        if error is not None and not error.retryable and not failed.done():
            failed.set_exception(error)

    client.on_status(refused)
    channel.on_status(refused)
    await client.connect()
    await channel.subscribe()
    await failed


class _Lines:
    """Receives a table's changes."""

    def __init__(self, write: Write, report: Write, failed: asyncio.Future[None]) -> None:
        self._write, self._report, self._failed = write, report, failed

    def on_changes(self, changes: list[Change]) -> None:
        for change in changes:
            line: dict[str, Any] = {"at": change.commit_timestamp, "type": change.type}
            for name in ("record", "old_record", "errors"):
                if getattr(change, name):
                    line[name] = getattr(change, name)
            self._write(_line(line))

    def on_ready(self) -> None:
        self._report("live")

    def on_gap(self, reason: object) -> None:
        self._report(f"changes may be missing from here: {reason}")

    def on_error(self, error: RealtimeError) -> None:
        if error.retryable:
            self._report(str(error))
        elif not self._failed.done():
            self._failed.set_exception(error)


def _line(value: Any) -> str:
    return dumps(value).decode()


def _plain(meta: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in meta.items() if not name.startswith("phx_ref")}


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
