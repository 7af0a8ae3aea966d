"""A live table over a real server, and what `SELECT` says beside it."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any

import pandas as pd
import psycopg

from rtwidgets.client.channel import AsyncChannel
from rtwidgets.client.client import AsyncClient
from rtwidgets.data.follower import TableFollower
from rtwidgets.local.handle import Local

from ..waits import PATIENCE


@asynccontextmanager
async def table(
    server: Local, name: str, *, client: AsyncClient | None = None, live: bool = True, **options: Any
) -> AsyncIterator[TableFollower]:
    """The follower of a table, live, on a channel (and, unless one is given, a client) of its own."""
    own = client is None
    client = client or AsyncClient(server.url, server.anon_key)
    channel: AsyncChannel = client.channel(f"{name}-{uuid.uuid4().hex[:8]}")
    follower = TableFollower(channel, client.rest, name, verify_every=None, **options)
    try:
        await follower.start()
        if live:
            await channel.subscribe()
            await follower.wait_live()
        yield follower
    finally:
        await follower.stop()
        await channel.unsubscribe()
        if own:
            await client.close()


def _plain(value: Any) -> Any:
    """A value of Postgres' driver or of a frame, so that equal ones compare equal."""
    if isinstance(value, list | dict | Decimal | bytes):
        return value
    if value is None or pd.isna(value):
        return None
    if isinstance(value, pd.Timestamp) and value.tz is None and value == value.normalize():
        return value.date()
    return str(value) if isinstance(value, uuid.UUID) else value


def rows_of(frame: pd.DataFrame) -> list[dict[str, Any]]:
    columns = {name: [_plain(value) for value in frame[name].astype(object)] for name in frame.columns}
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def selected(server: Local, query: str, *, decimals: bool = False) -> list[dict[str, Any]]:
    """The rows that a query gives now, from Postgres' driver."""
    with psycopg.connect(server.dsn, row_factory=psycopg.rows.dict_row) as connection:
        found = connection.execute(query.encode()).fetchall()
    return [
        {name: float(v) if isinstance(v, Decimal) and not decimals else _plain(v) for name, v in row.items()}
        for row in found
    ]


def in_order(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(rows, key=lambda row: json.dumps(row, default=str))


async def same(
    follower: TableFollower, server: Local, query: str, *, ordered: bool = False, decimals: bool = False
) -> pd.DataFrame:
    """Waits until `.df` equals what the query gives, in any order of rows unless `ordered`; fails if it never does."""
    want = selected(server, query, decimals=decimals)
    arrange = list if ordered else in_order
    deadline = time.monotonic() + PATIENCE
    while True:
        frame = follower.store.df()
        got = rows_of(frame)
        if arrange(got) == arrange(want) and follower.status == "live":
            return frame
        if time.monotonic() > deadline:
            assert follower.status == "live", follower.error
            assert arrange(got) == arrange(want)
        await asyncio.sleep(0.005)
