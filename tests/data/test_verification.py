"""What no message told: found by comparing, a part at a time where the table is large, and after bursts."""

from __future__ import annotations

import asyncio
import random
import uuid
from typing import Any

import pytest

from rtwidgets.client.snapshot_source import Page, TableInfo
from rtwidgets.data import verification
from rtwidgets.data.store import Store
from rtwidgets.data.verification import Slices
from rtwidgets.protocol import filters
from rtwidgets.protocol.filter_eval import judge
from rtwidgets.protocol.messages import Change, Column

from ..waits import until
from .test_follower import COLUMNS, Rest, delete, held, insert, row, started, update


class Filtering(Rest):
    """Rows as the filter leaves them."""

    async def select(self, table: str, **options: Any) -> Any:
        matches = judge(filters.parse(options.get("filter")), {"id": "int8", "v": "int4"})
        self.asked.append(options.get("filter"))
        rows = [dict(found) for found in self.rows if matches(found)]
        if self.pause is not None:
            await self.pause.wait()
        yield Page(rows, len(rows))


async def test_a_large_table_is_compared_a_part_at_a_time() -> None:
    rest = Filtering([row(i) for i in range(50)])
    follower, channel = await started(rest, verify_every=0.01, verify_rows=8)
    channel.sink.on_ready()
    await follower.wait_live()
    reads = len(rest.asked)
    rest.rows = [row(i, 7 if i == 20 else 0) for i in range(-3, 60) if i not in (0, 13, 49)]
    await until(lambda: held(follower) == {found["id"]: (found["v"], "open") for found in rest.rows})
    await until(lambda: follower.repaired == 1 + 3 + 13)
    assert follower.status == "live"
    assert len(rest.asked) - reads >= 7
    await follower.stop()


async def test_what_changes_while_a_part_is_read_stays() -> None:
    rest = Filtering([row(i) for i in range(20)])
    follower, channel = await started(rest, verify_every=0.01, verify_rows=10)
    channel.sink.on_ready()
    await follower.wait_live()
    rest.pause = asyncio.Event()
    reads = len(rest.asked)
    await until(lambda: len(rest.asked) > reads)
    # The rows have been read, and their answer is on its way.
    moved = Change("UPDATE", "public", "t", COLUMNS, row(-5), {"id": 4})
    channel.sink.on_changes([update(row(2, 9)), delete(3), moved, insert(-1)])
    rest.rows = [row(-5), row(-1), *(row(i, 9 if i == 2 else 0) for i in range(20) if i not in (3, 4))]
    want = {found["id"]: (found["v"], "open") for found in rest.rows}
    assert held(follower) == want
    rest.pause.set()
    reads = len(rest.asked)
    await until(lambda: len(rest.asked) >= reads + 2)  # so that part was compared
    assert held(follower) == want
    assert follower.repaired == 0
    await follower.stop()


def test_parts_cover_every_key_there_is_or_may_be() -> None:
    rng = random.Random(1)
    for kind in ("int8", "uuid"):
        make = (
            (lambda: rng.randrange(-1000, 1000))
            if kind == "int8"
            else (lambda: str(uuid.UUID(int=rng.getrandbits(128))))
        )
        store = Store([Column("id", kind)], ["id"])
        store.load([{"id": key} for key in {make() for _ in range(100)}])
        assert Slices(30).fits(store)
        slices, others = Slices(30), [make() for _ in range(300)]
        pieces = [slices.next(store) for _ in range(len(store) // 30 + 1)]
        assert sorted(key for piece in pieces for key in piece.keys) == sorted(store.keys())
        tests = [judge(filters.parse(piece.filter), {"id": kind}) for piece in pieces]
        for key in [*store.keys(), *others]:
            assert [test({"id": key}) for test in tests].count(True) == 1
        assert slices.next(store) == pieces[0], "and again from the first"
    for columns, key in (([Column("id", "text")], ["id"]), ([Column("a", "int4"), Column("b", "int4")], ["a", "b"])):
        store = Store(columns, key)
        store.load([dict.fromkeys(key, i) for i in range(40)])
        assert not Slices(30).fits(store)


@pytest.mark.parametrize(("changes", "numbered"), [(101, False), (99, False), (101, True)])
async def test_a_burst_is_compared_after_it(monkeypatch: pytest.MonkeyPatch, changes: int, numbered: bool) -> None:
    monkeypatch.setattr(verification, "_QUIET", 0.05)
    rest = Rest([row(1000)])
    follower, channel = await started(rest, verify_every=300.0)
    channel.sink.on_ready()
    await follower.wait_live()
    reads = len(rest.asked)
    rest.rows = [row(i) for i in range(changes + 1)]  # one more than the server told of, and one less
    for i in range(changes):
        channel.sink.on_changes([insert(i, lsn=i + 1 if numbered else None)])
    if changes > 100 and not numbered:
        await until(lambda: held(follower) == {found["id"]: (0, "open") for found in rest.rows})
        await until(lambda: follower.repaired == 2)
    else:  # few enough, or from a server that leaves none out
        await asyncio.sleep(0.15)
        assert len(rest.asked) == reads
    await follower.stop()


async def test_a_key_that_has_no_order_of_its_own_is_compared_as_a_whole() -> None:
    rest = Rest([{**row(i), "k": f"k{i}"} for i in range(30)])
    rest.info = TableInfo([*COLUMNS, Column("k", "text")], ("k",), True)
    follower, channel = await started(rest, verify_every=0.01, verify_rows=8)
    channel.sink.on_ready()
    await follower.wait_live()
    rest.rows = rest.rows[5:]
    await until(lambda: (len(follower.store), follower.repaired) == (25, 5))
    assert (len(follower.store), follower.repaired) == (25, 5)
    await follower.stop()
