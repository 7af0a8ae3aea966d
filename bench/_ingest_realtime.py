"""realtime-py as an application uses it: the callback only counts. Runs in an environment of its own."""

import asyncio
import json
import sys
import time
from typing import Any

from realtime import AsyncRealtimeClient


async def main(url: str, changes: int) -> None:
    client = AsyncRealtimeClient(f"{url.replace('http', 'ws')}/realtime/v1", "key")
    done = asyncio.Event()
    seen, start, cpu = 0, 0.0, 0.0

    def count(change: Any) -> None:
        nonlocal seen, start, cpu
        if not seen:
            start, cpu = time.perf_counter(), time.process_time()
        seen += 1
        if seen == changes:
            start, cpu = time.perf_counter() - start, time.process_time() - cpu
            done.set()

    channel = client.channel("bench")
    channel.on_postgres_changes("*", count, schema="public", table="orders")
    await channel.subscribe()
    await asyncio.wait_for(done.wait(), 300)
    print(json.dumps({"changes": seen, "seconds": start, "cpu": cpu}))
    await client.close()


asyncio.run(main(sys.argv[1], int(sys.argv[2])))
