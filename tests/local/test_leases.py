"""Who uses a server holds a lease; without one it ends, but never before there was a first."""

from __future__ import annotations

import asyncio
from pathlib import Path

from rtwidgets.local.leases import LeaseBook, send_command


async def test_it_waits_for_the_first_lease_and_then_for_no_other(tmp_path: Path) -> None:
    book = LeaseBook(0.0, lambda: {"name": "x"})
    await book.listen(tmp_path / "control")
    try:
        await asyncio.sleep(0.3)
        assert not book.expired.is_set()
        where = str(tmp_path / "control")
        answer, asked = await asyncio.to_thread(send_command, where, {"do": "status"})
        assert answer == {"ok": True, "name": "x"}
        _, lease = await asyncio.to_thread(send_command, where, {"do": "lease", "idle_timeout": 0})
        asked.close()
        await asyncio.sleep(0.1)
        assert (book.count, book.expired.is_set()) == (1, False)
        lease.close()
        await asyncio.wait_for(book.expired.wait(), 5)
    finally:
        await book.close()
