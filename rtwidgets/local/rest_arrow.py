"""Rows as an Arrow stream, which a server without a cap on rows offers to clients of ours."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from aiohttp import web
from psycopg.pq import TransactionStatus

from ..protocol.rest_headers import ARROW_STREAM
from .pool import Connection
from .rest_sql import Read

Write = Callable[[web.StreamResponse, bytes], Awaitable[None]]


async def send_arrow(
    request: web.Request, response: web.StreamResponse, connection: Connection, read: Read, write: Write
) -> None:
    """Sends the rows of a read as they come: no more than some batches are in memory.

    The connection is in a transaction; where not all rows are read, it is closed. Raises psycopg.Error, and what
    `write` raises; nothing was sent yet where the request is at fault.
    """
    # Imported here, since it is asked of few servers, and pyarrow takes its time and memory.
    from ..client.arrow_stream import END, encode_batch, encode_schema
    from ..client.copy_columns import CopyColumns

    copy = CopyColumns(connection, read.rows)
    schema = await copy.describe()
    response.content_type = ARROW_STREAM
    if request.method == "HEAD":
        await response.prepare(request)
        return
    batches = copy.batches()
    try:
        batch = await anext(batches, None)
        await response.prepare(request)
        await write(response, encode_schema(schema))
        while batch is not None:
            await write(response, encode_batch(batch))
            batch = await anext(batches, None)
        await write(response, END)
        await response.write_eof()
    finally:
        await batches.aclose()
        if connection.info.transaction_status not in (TransactionStatus.INTRANS, TransactionStatus.INERROR):
            await connection.close()  # rows are still on their way
