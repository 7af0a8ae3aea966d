"""Who uses a server holds a lease; without one it ends, but never before there was a first."""

from __future__ import annotations

import asyncio
from pathlib import Path

from rtwidgets.local.leases import LeaseBook, send_command

from ..waits import until, within


async def test_it_waits_for_the_first_lease_and_then_for_no_other(tmp_path: Path) -> None:
    book = LeaseBook(0.0, lambda: {"name": "x"})
    await book.listen(tmp_path / "control")
    try:
        where = str(tmp_path / "control")
        answer, asked = await asyncio.to_thread(send_command, where, {"do": "status"})
        assert answer == {"ok": True, "name": "x"}
        assert not book.expired.is_set()
        _, lease = await asyncio.to_thread(send_command, where, {"do": "lease", "idle_timeout": 0})
        asked.close()
        await until(lambda: len(book._conversations) == 1)
        await asyncio.sleep(0)  # a timer of no seconds would be due
        assert (book.count, book.expired.is_set()) == (1, False)
        lease.close()
        await within(book.expired.wait())
    finally:
        await book.close()
