"""The first load: rows show while the rest comes, and a table that is too large is not loaded."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pyarrow as pa
import pytest

from rtwidgets.client.snapshot_source import Page, TableInfo
from rtwidgets.data.delta import Delta
from rtwidgets.data.follower import TableFollower
from rtwidgets.protocol.errors import RealtimeError
from rtwidgets.protocol.messages import Column

from ..waits import until
from .test_follower import Channel, Rest, insert, row


class Paged(Rest):
    """Pages as they are put into `pages`; None ends, an error is raised."""

    def __init__(self) -> None:
        super().__init__()
        self.pages: asyncio.Queue[Any] = asyncio.Queue()
        self.total: int | None = None

    async def select(self, table: str, **options: Any) -> AsyncIterator[Page]:
        self.asked.append(options)
        while (found := await self.pages.get()) is not None:
            if isinstance(found, Exception):
                raise found
            yield Page(found, self.total) if isinstance(found, list) else Page([], self.total, batch=found)


def columns(*numbers: int) -> pa.RecordBatch:
    return pa.RecordBatch.from_pydict(
        {"id": pa.array(numbers, pa.int64()), "v": pa.array(numbers, pa.int64()), "status": ["open"] * len(numbers)}
    )


async def started(source: Rest, **options: Any) -> tuple[TableFollower, Channel, list[Delta]]:
    channel = Channel()
    follower = TableFollower(channel, source, "t", verify_every=None, **options)
    deltas: list[Delta] = []
    follower.on_delta(deltas.append)
    await follower.start()
    follower.on_ready()
    return follower, channel, deltas


@pytest.mark.parametrize("columnar", [False, True])
async def test_rows_show_while_the_rest_comes_and_changes_wait(columnar: bool) -> None:
    source = Paged()
    follower, channel, deltas = await started(source)
    source.pages.put_nowait(columns(1, 2) if columnar else [row(1), row(2)])
    await until(lambda: len(follower.store) == 2)
    assert (follower.status, follower.snapshot_at) == ("catching up", None)
    channel.sink.on_changes([insert(2, 7), insert(9)])
    assert follower.store.row(9) is None
    await asyncio.sleep(0.21)  # what comes in a moment is put together
    source.pages.put_nowait(columns(3) if columnar else [row(3)])
    await until(lambda: len(follower.store) == 3)
    assert follower.history.since is None
    source.pages.put_nowait(columns(4) if columnar else [row(4)])
    source.pages.put_nowait(None)
    await follower.wait_live(5)
    assert sorted(follower.store.keys()) == [1, 2, 3, 4, 9]
    assert (follower.store.row(2) or {})["v"] == 7
    assert [delta.reset for delta in deltas] == [True, False, False, False]
    assert [key for delta in deltas for key in delta.inserted] == [1, 2, 3, 4, 9]
    assert follower.history.moments()[0] == follower.snapshot_at
    await follower.stop()


async def test_a_read_that_fails_half_way_is_begun_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rtwidgets.data.table_live.FIRST_RETRY", 0.01)
    source = Paged()
    follower, _, _ = await started(source)
    source.pages.put_nowait([row(1), row(2)])
    await until(lambda: len(follower.store) == 2)
    source.pages.put_nowait(RealtimeError("gone", code="ConnectionLost", retryable=True))
    await until(lambda: len(source.asked) == 2)
    source.pages.put_nowait([row(2), row(3)])
    source.pages.put_nowait(None)
    await follower.wait_live(5)
    assert sorted(follower.store.keys()) == [2, 3]
    await follower.stop()


@pytest.mark.parametrize("total", [4, None])
async def test_a_table_that_is_too_large_is_not_loaded(total: int | None) -> None:
    source = Paged()
    source.total = total
    follower, _, _ = await started(source, max_rows=3)
    source.pages.put_nowait([row(1), row(2)])
    if total is None:
        await until(lambda: len(follower.store) == 2)
    source.pages.put_nowait([row(3), row(4)])
    await until(lambda: follower.status == "error")
    error = follower.error
    assert error is not None
    assert error.code == "TooManyRows"
    assert ("4 rows" if total else "more than 3 rows") in error.message
    assert all(word in error.hint for word in ("filter=", "limit=", "columns=", "max_rows="))
    assert len(follower.store) == 0
    await follower.stop()


async def test_a_limit_bounds_the_rows_too_and_a_table_may_grow() -> None:
    source = Rest([row(i) for i in range(4)])
    follower, channel, _ = await started(source, max_rows=4)
    await follower.wait_live(5)
    channel.sink.on_changes([insert(7)])
    source.rows.append(row(7))
    await follower.verify()
    assert (len(follower.store), follower.status) == (5, "live")
    await follower.stop()
    follower, _, _ = await started(source, max_rows=4, limit=3)
    await follower.wait_live(5)
    assert len(follower.store) == 3
    await follower.stop()
    with pytest.raises(ValueError, match="max_rows"):
        TableFollower(Channel(), source, "t", max_rows=0)


async def test_a_table_that_is_described_anew_keeps_the_digits_of_its_columns() -> None:
    source = Paged()
    columns = [Column("id", "int8"), Column("n", "numeric")]
    source.info = TableInfo(columns, ("id",), True, exact={"n": "numeric(10,2)"})
    follower, _, _ = await started(source, numeric="decimal")
    source.pages.put_nowait([{"id": 1, "n": "1.50"}])
    await until(lambda: len(follower.store) == 1)
    follower.on_table_changed(True)
    await until(lambda: len(source.asked) == 2)
    source.pages.put_nowait([{"id": 1, "n": "1.50"}, {"id": 2, "n": "2.50"}])
    source.pages.put_nowait(None)
    await follower.wait_live(5)
    assert follower.store.arrow().schema.field("n").type == pa.decimal128(10, 2)
    await follower.stop()


async def test_a_read_that_is_given_up_is_ended_though_its_error_is_kept() -> None:
    ended: list[bool] = []

    class Open(Paged):
        async def select(self, table: str, **options: Any) -> AsyncIterator[Page]:
            try:
                async for page in super().select(table, **options):
                    yield page
            finally:  # where a connection is closed
                ended.append(True)

    source = Open()
    source.total = 4
    follower, _, _ = await started(source, max_rows=3)
    source.pages.put_nowait([row(1), row(2)])
    await until(lambda: follower.status == "error")
    assert (ended, follower.error is not None) == ([True], True)
    await follower.stop()
