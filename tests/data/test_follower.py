"""The follower against a simulated database: interleaved transactions, snapshots between commits, a broken channel."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from typing import Any

import pytest

from rtwidgets.client.dsn import DsnSource
from rtwidgets.client.rest import RestClient
from rtwidgets.client.snapshot_source import Page, SnapshotSource, TableInfo
from rtwidgets.data.follower import TableFollower
from rtwidgets.data.request import TableRequest, resolve
from rtwidgets.data.snapshot import SOURCES, EmptySource, FrameSource, SnapshotPosition, TableReader
from rtwidgets.protocol.errors import RealtimeError
from rtwidgets.protocol.filters import Condition, Filter, parse
from rtwidgets.protocol.messages import Change, Column
from rtwidgets.protocol.pg_snapshot import PgSnapshot

from ..waits import until, within

COLUMNS = [Column("id", "int8"), Column("v", "int4"), Column("status", "text")]


class Channel:
    def __init__(self) -> None:
        self.sink: Any = None
        self.binding: Any = None

    def add_changes(self, binding: Any, sink: Any) -> Any:
        self.binding, self.sink = binding, sink
        return lambda: setattr(self, "sink", None)


class Rest:
    """Rows now, or whatever `read` makes of the moment; `pause` holds a read open."""

    repeatable = True

    def __init__(self, rows: list[dict[str, Any]] | None = None) -> None:
        self.rows = rows or []
        self.info = TableInfo(COLUMNS, ("id",), True)
        self.lsn: int | None = None
        self.snapshot: PgSnapshot | None = None
        self.pause: asyncio.Event | None = None
        self.fail: list[RealtimeError] = []
        self.asked: list[Any] = []

    async def describe(self, table: str, schema: str = "public") -> TableInfo:
        return self.info

    async def select(self, table: str, **options: Any) -> AsyncIterator[Page]:
        self.asked.append(options.get("filter"))
        if self.fail:
            raise self.fail.pop(0)
        rows = [dict(row) for row in self.rows]
        text = str(options.get("filter") or "")
        if "id=in.(" in text:
            wanted = {int(part) for part in text.split("id=in.(")[1].rstrip(")").split(",")}
            rows = [row for row in rows if row["id"] in wanted]
        if "status=eq.open" in text:
            rows = [row for row in rows if row["status"] == "open"]
        page = Page(rows, len(rows), self.lsn, self.snapshot)
        if self.pause is not None:
            await self.pause.wait()
        yield page


def row(i: int, v: int = 0, status: str = "open") -> dict[str, Any]:
    return {"id": i, "v": v, "status": status}


def insert(i: int, v: int = 0, status: str = "open", **more: Any) -> Change:
    return Change("INSERT", "public", "t", COLUMNS, row(i, v, status), **more)


def update(record: dict[str, Any], **more: Any) -> Change:
    return Change("UPDATE", "public", "t", COLUMNS, record, {"id": record["id"]}, **more)


def delete(i: int, **more: Any) -> Change:
    return Change("DELETE", "public", "t", COLUMNS, None, {"id": i}, **more)


async def started(rest: Rest, **options: Any) -> tuple[TableFollower, Channel]:
    channel = Channel()
    follower = TableFollower(channel, rest, "t", **options)
    await follower.start()
    return follower, channel


def held(follower: TableFollower) -> dict[int, tuple[int, str]]:
    return {int(r.id): (int(r.v), r.status) for r in follower.store.df().itertuples()}


async def test_waiting_in_vain_says_for_what() -> None:
    follower, _ = await started(Rest([row(1)]))
    with pytest.raises(TimeoutError, match=r"is not live after 0\.05 s, it is \w+"):
        await follower.wait_live(0.05)


async def test_a_gap_leaves_the_rows_and_is_mended_as_a_difference() -> None:
    rest = Rest([row(1), row(2)])
    follower, channel = await started(rest)
    seen: list[str] = []
    follower.on_status(lambda status, error: seen.append(status))
    channel.sink.on_ready()
    await follower.wait_live()
    channel.sink.on_changes([insert(3, commit_timestamp="2026-01-01T00:00:00Z")])
    assert follower.lag_ms is not None
    assert follower.lag_ms > 0
    channel.sink.on_gap("the socket was lost")
    assert follower.status == "stale"
    assert len(follower.store) == 3
    rest.rows = [row(1), row(2, 5), row(4)]
    deltas: list[Any] = []
    follower.on_delta(deltas.append)
    channel.sink.on_ready()
    await follower.wait_live()
    assert held(follower) == {1: (0, "open"), 2: (5, "open"), 4: (0, "open")}
    assert (deltas[0].inserted, deltas[0].updated, deltas[0].deleted) == ([4], [(2, ("v",))], [3])
    assert seen == ["catching up", "live", "stale", "catching up", "live"]
    assert follower.changes["type"].tolist() == ["INSERT"]
    await follower.stop()
    assert follower.status == "closed"


async def test_what_arrives_while_the_snapshot_is_read_is_applied_after_it() -> None:
    rest = Rest([row(1), row(2)])
    rest.pause = asyncio.Event()
    follower, channel = await started(rest)
    channel.sink.on_ready()
    await asyncio.sleep(0)
    channel.sink.on_changes([update({"id": 1, "v": 7}), delete(2), insert(3)])
    assert follower.status == "catching up"
    rest.pause.set()
    await follower.wait_live()
    assert held(follower) == {1: (7, "open"), 3: (0, "open")}
    await follower.stop()


async def test_a_large_row_and_an_unknown_row_are_read_again_by_key() -> None:
    rest = Rest([row(1)])
    follower, channel = await started(rest)
    channel.sink.on_ready()
    await follower.wait_live()
    rest.rows = [row(1, 9, "long"), row(5, 1)]
    channel.sink.on_changes(
        [update({"id": 1, "v": 9}, errors=["Error 413: Payload Too Large"]), update({"id": 5, "v": 1})]
    )
    channel.sink.on_changes([update({"id": 6, "v": 1})])
    for _ in range(20):
        await asyncio.sleep(0)
    assert held(follower) == {1: (9, "long"), 5: (1, "open")}
    await follower.stop()


async def test_a_filter_is_applied_here_so_that_no_ghost_stays() -> None:
    rest = Rest([row(1), row(2, 0, "closed")])
    follower, channel = await started(rest, filter="status=eq.open")
    assert channel.binding.filter is None
    channel.sink.on_ready()
    await follower.wait_live()
    channel.sink.on_changes([update(row(1, 1, "closed")), update(row(2, 1, "open")), insert(3, 0, "closed")])
    assert held(follower) == {2: (1, "open")}
    channel.sink.on_changes([update({"id": 2, "v": 4})])
    assert held(follower) == {2: (4, "open")}
    await follower.stop()


async def test_pausing_holds_the_table_still() -> None:
    follower, channel = await started(Rest([row(1)]))
    channel.sink.on_ready()
    await follower.wait_live()
    follower.pause()
    channel.sink.on_changes([insert(2)])
    assert len(follower.store) == 1
    follower.resume()
    assert len(follower.store) == 2
    await follower.stop()


async def test_errors_name_themselves_and_keep_the_rows() -> None:
    rest = Rest()
    rest.info = TableInfo(COLUMNS, (), True)
    follower, _ = await started(rest)
    assert (follower.status, follower.error and follower.error.code) == ("error", "NoPrimaryKey")
    rest.info = TableInfo(COLUMNS, ("id",), False)
    follower, _ = await started(rest)
    assert follower.error is not None
    assert follower.error.code == "TableNotPublished"
    with pytest.raises(RealtimeError):
        await follower.wait_live()
    rest = Rest([row(1)])
    follower, channel = await started(rest)
    channel.sink.on_ready()
    await follower.wait_live()
    channel.sink.on_error(RealtimeError("no", code="Unauthorized"))
    assert follower.status == "error"
    assert len(follower.store) == 1
    channel.sink.on_gap("again")
    assert follower.status == "error"
    channel.sink.on_ready()
    await follower.wait_live()
    await follower.stop()


async def test_the_slow_check_removes_what_no_message_told() -> None:
    rest = Rest([row(1), row(2)])
    follower, channel = await started(rest, verify_every=0.02)
    channel.sink.on_ready()
    await follower.wait_live()
    rest.rows = [row(1)]
    await until(lambda: held(follower) == {1: (0, "open")})
    assert follower.status == "live"
    await follower.stop()


async def test_a_new_column_is_filled_by_reading_again() -> None:
    rest = Rest([row(1)])
    follower, channel = await started(rest)
    channel.sink.on_ready()
    await follower.wait_live()
    wide = [*COLUMNS, Column("extra", "int4")]
    rest.rows = [{**row(1), "extra": 5}, {**row(2), "extra": 6}]
    channel.sink.on_changes([Change("INSERT", "public", "t", wide, {**row(2), "extra": 6})])
    await follower.wait_live()
    assert follower.store.df()["extra"].tolist() == [5, 6]
    await follower.stop()


class Database:
    """Transactions that overlap, commit in an order of their own, and are streamed in commit order."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.xid, self.lsn, self.value = 100, 1000, 0
        self.open: dict[int, list[int]] = {}
        self.wal: list[Change] = []
        self.rows: dict[int, int] = {}
        self.committed_late: list[tuple[int, list[int]]] = []

    def step(self) -> None:
        choice = self.rng.random()
        if choice < 0.4 or not self.open:
            self.xid += 1
            self.open[self.xid] = []
        elif choice < 0.7:
            self.open[self.rng.choice(list(self.open))].append(self.rng.randrange(6))
        else:
            xid = self.rng.choice(list(self.open))
            self.lsn += 10
            for i in self.open.pop(xid):
                self.value += 1
                if i in self.rows and self.rng.random() < 0.3:
                    del self.rows[i]
                    self.wal.append(delete(i, lsn=self.lsn, xid=xid))
                elif i in self.rows:
                    self.rows[i] += 1  # a counter: applied twice or not at all, it would differ
                    self.wal.append(update(row(i, self.rows[i]), lsn=self.lsn, xid=xid))
                else:
                    self.rows[i] = self.value
                    self.wal.append(insert(i, self.value, lsn=self.lsn, xid=xid))

    def snapshot(self) -> tuple[list[dict[str, Any]], int, PgSnapshot]:
        running = frozenset(self.open)
        return (
            [row(i, v) for i, v in self.rows.items()],
            self.lsn + 10,
            PgSnapshot(min(running, default=self.xid + 1), self.xid + 1, running),
        )


@pytest.mark.parametrize("seed", range(40))
async def test_the_join_delivers_each_transaction_exactly_once(seed: int) -> None:
    rng = random.Random(seed)
    database = Database(rng)
    for _ in range(rng.randrange(60)):
        database.step()
    rest = Rest()
    rest.pause = asyncio.Event()
    follower, channel = await started(rest)
    applied: list[Change] = []
    apply = follower.store.apply
    follower.store.apply = lambda changes: (applied.extend(changes), apply(changes))[1]  # type: ignore[method-assign]
    sent = max(len(database.wal) - rng.randrange(8), 0)  # the stream lags behind the commits
    channel.sink.on_ready()
    for _ in range(rng.randrange(30)):
        database.step()
    rest.rows, rest.lsn, rest.snapshot = database.snapshot()
    in_snapshot = len(database.wal)
    await asyncio.sleep(0)
    for _ in range(rng.randrange(30)):
        database.step()
    middle = rng.randrange(sent, len(database.wal) + 1)
    channel.sink.on_changes(database.wal[sent:middle])
    rest.pause.set()
    await follower.wait_live()
    for _ in range(30):
        database.step()
    channel.sink.on_changes(database.wal[middle:])
    assert applied == database.wal[in_snapshot:]
    assert {k: v for k, (v, _) in held(follower).items()} == database.rows
    # Without the extra keys of our local server the join converges to the same rows.
    for change in database.wal:
        change.lsn = change.xid = None
    rest.lsn = rest.snapshot = None
    follower, channel = await started(rest)
    channel.sink.on_ready()
    channel.sink.on_changes(database.wal[sent:middle])
    await follower.wait_live()
    channel.sink.on_changes(database.wal[middle:])
    assert {k: v for k, (v, _) in held(follower).items()} == database.rows
    await follower.stop()


def test_a_commit_that_is_in_the_log_but_not_yet_visible_is_delivered() -> None:
    position = SnapshotPosition(1000, PgSnapshot(100, 110, frozenset([105])))
    assert position.lacks(insert(1, lsn=990, xid=105))
    assert not position.lacks(insert(1, lsn=990, xid=104))
    assert position.lacks(insert(1, lsn=1000, xid=104))
    assert position.lacks(insert(1, lsn=990, xid=110))
    assert position.lacks(insert(1))


async def test_no_secret_of_a_listener_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    follower, channel = await started(Rest([row(1)]))

    def listener(delta: Any) -> None:
        raise ValueError("connect to postgresql://me:topsecret@host/db with sb_secret_abc")

    follower.on_delta(listener)
    channel.sink.on_ready()
    await follower.wait_live()
    assert "a callback raised" in caplog.text
    assert "topsecret" not in caplog.text
    assert "sb_secret_abc" not in caplog.text
    await follower.stop()


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("limit", 0), ("limit", -1), ("limit", "5"), ("limit", True), ("log_size", 0), ("verify_every", 0),
        ("verify_every", -1), ("order", "n sideways"), ("order", "n.desc.nullslast"), ("order", "a,,b"),
    ],
)  # fmt: skip
def test_an_option_that_makes_no_sense_is_refused_at_once(option: str, value: Any) -> None:
    with pytest.raises(ValueError, match="history" if option == "log_size" else option):
        TableFollower(Channel(), Rest(), "t", **{option: value})


async def test_a_second_confirmation_is_a_gap() -> None:
    rest = Rest([row(1)])
    follower, channel = await started(rest)
    channel.sink.on_ready()
    await follower.wait_live()
    rest.rows = [row(1, 5), row(2)]
    channel.sink.on_ready()  # the server's own subscriptions were lost, and are there again
    assert follower.status == "catching up"
    await follower.wait_live()
    assert held(follower) == {1: (5, "open"), 2: (0, "open")}
    await follower.stop()


async def turns(count: int = 20) -> None:
    """Turns of the loop, of which a read here takes three or four."""
    for _ in range(count):
        await asyncio.sleep(0)


async def test_rows_that_were_being_read_again_at_a_gap_are_not_forgotten() -> None:
    rest = Rest([row(1)])
    follower, channel = await started(rest)
    channel.sink.on_ready()
    await follower.wait_live()
    follower.resume_lsn = 7
    rest.rows, rest.pause = [row(1, 9, "long")], asyncio.Event()
    channel.sink.on_changes([update({"id": 1, "v": 9}, errors=["Error 413: Payload Too Large"], lsn=8)])
    await until(lambda: len(rest.asked) == 2)
    channel.sink.on_gap("the socket was lost")
    assert follower.resume_lsn is None, "going on from there would leave the row as it was"
    await follower.stop()


async def test_rows_that_cannot_be_read_again_leave_the_table_not_live_until_they_can(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("rtwidgets.data.table_live.FIRST_RETRY", 0.01)
    rest = Rest([row(1)])
    follower, channel = await started(rest)
    channel.sink.on_ready()
    await follower.wait_live()
    down = RealtimeError("down", code="ConnectionLost", retryable=True)
    rest.fail, rest.rows = [down, down], [row(1, 9, "long")]
    seen: list[Any] = []
    follower.on_status(lambda status, error: seen.append((status, error and error.code)))
    channel.sink.on_changes([update({"id": 1, "v": 9}, errors=["Error 413: Payload Too Large"])])
    await until(lambda: held(follower) == {1: (9, "long")} and follower.status == "live")
    assert seen == [("catching up", None), ("stale", "ConnectionLost"), ("live", None)]
    await follower.stop()


async def test_what_was_refused_meanwhile_is_read_once_it_is_allowed_again() -> None:
    rest = Rest([row(1), row(2)])
    follower, channel = await started(rest)
    channel.sink.on_ready()
    await follower.wait_live()
    channel.sink.on_changes([Change("UPDATE", "public", "t", [], {}, None, errors=["Error 401: Unauthorized"])])
    assert (follower.status, follower.error and follower.error.code) == ("error", "Unauthorized")
    rest.rows = [row(1, 5), row(2, 6)]
    channel.sink.on_changes([update(row(2, 6))])
    await follower.wait_live()
    assert held(follower) == {1: (5, "open"), 2: (6, "open")}
    assert follower.error is None
    await follower.stop()


async def test_while_it_is_paused_not_even_a_gap_moves_it() -> None:
    rest = Rest([row(1)])
    follower, channel = await started(rest)
    channel.sink.on_ready()
    await follower.wait_live()
    follower.pause()
    channel.sink.on_changes([insert(2)])
    channel.sink.on_gap("the socket was lost")
    rest.rows = [row(1, 5), row(2)]
    channel.sink.on_ready()
    await turns()
    assert held(follower) == {1: (0, "open")}
    assert follower.status == "stale", "it does not claim to be what the database holds"
    follower.resume()
    await follower.wait_live()
    assert held(follower) == {1: (5, "open"), 2: (0, "open")}
    await follower.stop()


async def test_columns_that_changed_during_a_gap_are_there_after_it() -> None:
    rest = Rest([row(1)])
    follower, channel = await started(rest)
    channel.sink.on_ready()
    await follower.wait_live()
    channel.sink.on_gap("the socket was lost")
    rest.info = TableInfo([Column("id", "int8"), Column("v", "int8"), Column("more", "text")], ("id",), True)
    rest.rows = [{"id": 1, "v": 3_000_000_000, "more": "x"}]
    channel.sink.on_ready()
    await follower.wait_live()
    assert follower.store.df().to_dict("list") == {"id": [1], "v": [3_000_000_000], "more": ["x"]}
    # And where nothing tells of a gap: by what is read.
    rest.info = TableInfo([Column("id", "int8"), Column("v", "text")], ("id",), True)
    rest.rows = [{"id": 1, "v": "many"}]
    await follower.verify()
    assert follower.store.df().to_dict("list") == {"id": [1], "v": ["many"]}
    rest.info = TableInfo([Column("id", "int8"), Column("v", "int8")], ("id",), True)
    rest.rows = [{"id": 1, "v": 4}]
    follower.on_gap()
    channel.sink.on_ready()
    await follower.wait_live()
    channel.sink.on_changes([Change("INSERT", "public", "t", rest.info.columns, {"id": 2, "v": "no number"})])
    assert (follower.status, follower.error and follower.error.code) == ("stale", "BadRows")
    assert "no number" not in str(follower.error)
    await follower.stop()


@pytest.mark.parametrize("kind", ["jsonb", "_int4"])
async def test_a_key_that_cannot_tell_rows_apart_is_refused(kind: str) -> None:
    rest = Rest()
    rest.info = TableInfo([Column("k", kind), Column("v", "int4")], ("k",), True)
    follower, _ = await started(rest)
    assert (follower.status, follower.error and follower.error.code) == ("error", "UnsupportedKey")
    assert follower.error is not None
    assert "key=" in follower.error.hint


async def test_the_same_value_of_a_toasted_column_twice_in_a_batch() -> None:
    """Two columns are left out in turn, so that each record has as many values as the other."""
    columns = [Column("id", "int8"), Column("a", "text"), Column("b", "text"), Column("c", "text")]
    rest = Rest([{"id": i, "a": "a", "b": "b"} for i in range(5)])
    rest.info = TableInfo(columns, ("id",), True)
    follower, channel = await started(rest, columns=["a", "b"])
    channel.sink.on_ready()
    await follower.wait_live()
    one = {"id": 1, "a": "a", "b": "new"}  # c is left out
    two = {"id": 1, "a": "a", "c": "new"}  # b is left out
    others = [{"id": i, "a": "a", "b": "b"} for i in (2, 3, 4)]
    channel.sink.on_changes([Change("UPDATE", "public", "t", columns, r, {"id": r["id"]}) for r in (one, two, *others)])
    assert follower.store.row(1) == {"id": 1, "a": "a", "b": "new"}
    await follower.stop()


# --- faults


async def test_a_row_that_left_a_limited_table_before_a_pause_is_made_up_for_after_it() -> None:
    rest = Rest([row(i) for i in range(1, 6)])
    follower, channel = await started(rest, order="id", limit=3)
    rest.rows = rest.rows[:3]
    channel.sink.on_ready()
    await follower.wait_live()
    rest.rows = [row(i) for i in (2, 3, 4)]
    channel.sink.on_changes([delete(1)])
    follower.pause()
    await turns()
    assert sorted(held(follower)) == [2, 3]
    follower.resume()
    await until(lambda: sorted(held(follower)) == [2, 3, 4])
    assert follower.status == "live"
    await follower.stop()


async def test_closing_while_it_is_not_connected_ends_everything() -> None:
    class Down(Rest):
        async def describe(self, table: str, schema: str = "public") -> TableInfo:
            self.asked.append(table)
            raise RealtimeError("down", code="ConnectionLost", retryable=True)

    rest, channel = Down(), Channel()
    follower = TableFollower(channel, rest, "t")
    starting = asyncio.create_task(follower.start())
    await until(lambda: follower.error is not None)
    assert (follower.status, follower.error and follower.error.code) == ("connecting", "ConnectionLost")
    await follower.stop()
    await within(starting)
    follower._tick()
    assert (follower.status, follower.error, len(rest.asked), follower._tasks) == ("closed", None, 1, {})
    follower.on_ready()
    await follower.start()
    assert (follower.status, len(rest.asked), channel.sink) == ("closed", 1, None)


async def test_closing_while_it_is_described_subscribes_to_nothing() -> None:
    gate = asyncio.Event()

    class Slow(Rest):
        async def describe(self, table: str, schema: str = "public") -> TableInfo:
            await gate.wait()
            return self.info

    channel = Channel()
    follower = TableFollower(channel, Slow(), "t")
    starting = asyncio.create_task(follower.start())
    await until(lambda: follower._tasks)
    await follower.stop()
    gate.set()
    await within(starting)
    assert (channel.binding, channel.sink, follower.status, follower._timer) == (None, None, "closed", None)


async def test_comparisons_go_on_whatever_one_of_them_raises() -> None:
    class Odd(Rest):
        async def select(self, table: str, **options: Any) -> AsyncIterator[Page]:
            if "id=lte" in str(options.get("filter")):
                self.asked.append("part")
                raise TypeError("a fault that nobody thought of")
            async for page in super().select(table, **options):
                yield page

    rest = Odd([row(i) for i in range(30)])
    follower, channel = await started(
        rest, filter=Filter((Condition("id", "gte", "0"),)), verify_every=0.01, verify_rows=10
    )
    channel.sink.on_ready()
    await follower.wait_live()
    await until(lambda: rest.asked.count("part") > 3)
    assert (follower.status, follower.error) == ("live", None)
    await follower.stop()


async def test_events_that_only_postgres_could_judge_are_kept() -> None:
    """An enum sorts by its labels; what cannot be judged here stays, since an event cannot be read again."""
    rest = Rest()
    rest.info = TableInfo(
        [Column("id", "int8"), Column("p", "prio"), Column("ip", "inet")],
        ("id",), True, labels={"prio": ("low", "mid", "high")},
    )  # fmt: skip

    async def made(text: str) -> list[int]:
        channel = Channel()
        follower = TableFollower(channel, EmptySource(rest), "t", events=True, filter=text)
        await follower.start()
        channel.sink.on_ready()
        await follower.wait_live()
        rows = [{"id": i, "p": p, "ip": f"10.0.0.{i}"} for i, p in enumerate(("low", "mid", "high"), 1)]
        channel.sink.on_changes([Change("INSERT", "public", "t", rest.info.columns, one) for one in rows])
        await follower.stop()
        return follower.store.df()["id"].tolist()

    assert await made("p=gte.mid") == [2, 3]
    assert await made("ip=gt.10.0.0.1") == [1, 2, 3]


async def test_a_listener_that_pauses_the_table_does_not_confuse_it() -> None:
    follower, channel = await started(Rest([row(1)]))
    channel.sink.on_ready()
    await follower.wait_live()
    follower.on_delta(lambda delta: follower.pause())
    channel.sink.on_changes([insert(2), update({"id": 5, "v": 1})])
    assert follower.paused
    channel.sink.on_changes([insert(3)])
    assert (sorted(held(follower)), follower.waiting) == ([1, 2], 1)
    follower.resume()
    assert sorted(held(follower)) == [1, 2, 3]
    await follower.stop()


async def nothing() -> None:
    return None


async def test_every_source_is_checked_when_it_is_given() -> None:
    for source in (
        RestClient("http://p", "k", nothing),
        DsnSource("x=y"),
        EmptySource(Rest()),
        FrameSource([], Rest()),
    ):
        assert isinstance(source, SnapshotSource)
        assert type(source) in SOURCES
    with pytest.raises(TypeError, match="a snapshot source has"):
        TableFollower(Channel(), object(), "t")  # type: ignore[arg-type]


async def test_a_time_out_is_the_librarys_own() -> None:
    follower, _ = await started(Rest([row(1)]))
    with pytest.raises(RealtimeError, match="is not live") as caught:
        await follower.wait_live(0.01)
    assert isinstance(caught.value, TimeoutError)
    assert caught.value.code == "Timeout"
    await follower.stop()


def test_keys_of_every_kind_can_be_named() -> None:
    """Whatever a text key holds, the filter that reads it says that value and no other."""
    texts = ["a,b", 'c"d', "(e)", "\\f", "", " g ", "h'i", "null", "x.y", "%*"]
    info = TableInfo([Column("k", "text"), Column("j", "int4")], ("k",), True)
    reader = TableReader(Rest(), TableRequest("t"), resolve(TableRequest("t"), info))
    [named] = reader._naming(texts)
    assert parse(str(named)) == named
    assert named.rest()[0][1].count('"') >= 2 * len(texts)
    two = resolve(TableRequest("t", key=("k", "j")), info)
    for text, test in zip(
        texts, TableReader(Rest(), TableRequest("t"), two)._naming([(x, 1) for x in texts]), strict=True
    ):
        assert [condition.value for condition in parse(str(test)).conditions] == [text, "1"]


@pytest.mark.parametrize(
    ("kind", "given", "sent"),
    [
        ("int8", ["1", 2.0], [1, 2]),
        ("text", ["a", "b"], ["a", "b"]),
        ("uuid", ["6F1ED002-AB5B-4C9C-B7E0-1B2C3D4E5F60"], ["6f1ed002-ab5b-4c9c-b7e0-1b2c3d4e5f60"]),
        ("bytea", ["\\x00ff"], ["00ff"]),
        ("timestamptz", ["2026-01-01T02:00:00+02:00"], ["2026-01-01T00:00:00+00:00"]),
    ],
)
async def test_rows_of_a_frame_have_the_keys_that_changes_have(kind: str, given: list[Any], sent: list[Any]) -> None:
    rest = Rest()
    rest.info = TableInfo([Column("k", kind), Column("v", "int4")], ("k",), True)
    channel = Channel()
    source = FrameSource([{"k": key, "v": 0} for key in given], rest)
    follower = TableFollower(channel, source, "t")
    await follower.start()
    channel.sink.on_ready()
    await follower.wait_live()
    changes = [Change("UPDATE", "public", "t", rest.info.columns, {"k": k, "v": 5}, {"k": k}) for k in sent]
    channel.sink.on_changes(changes)
    assert follower.store.df()["v"].tolist() == [5] * len(given)
    await follower.stop()


async def test_a_frame_without_a_usable_key_says_so() -> None:
    for rows in ([{"id": "one", "v": 1}], [{"v": 1}], [{"id": None, "v": 1}]):
        channel = Channel()
        follower = TableFollower(channel, FrameSource(rows, Rest()), "t")
        await follower.start()
        channel.sink.on_ready()
        await until(lambda follower=follower: follower.error)
        assert (follower.status, follower.error and follower.error.code) == ("error", "BadRows")
        await follower.stop()


@pytest.mark.parametrize(
    ("info", "request_", "code", "hint"),
    [
        (TableInfo(COLUMNS, (), True), {}, "NoPrimaryKey", "add primary key"),
        (TableInfo(COLUMNS, (), True), {"key": ("id",)}, "NoPrimaryKey", "add primary key"),
        (TableInfo(COLUMNS, (), True), {"events": True}, "NoPrimaryKey", "add primary key"),
        (TableInfo(COLUMNS, (), False, kind="v"), {"key": ("id",)}, "NotATable", "follow the table"),
        (TableInfo(COLUMNS, (), False, kind="m"), {"append_only": True}, "NotATable", "follow the table"),
        (
            TableInfo(COLUMNS, ("id",), False, kind="p", member=True),
            {},
            "TableNotPublished",
            "via_partition_root = true",
        ),
        (TableInfo(COLUMNS, ("id",), False, kind="p"), {}, "TableNotPublished", "add table"),
        (TableInfo(COLUMNS, ("id",), False), {}, "TableNotPublished", "add table public.t"),
        (TableInfo(COLUMNS, ("id",), False, persistence="u"), {}, "TableNotLogged", "table public.t set logged"),
        (TableInfo(COLUMNS, ("id",), False, persistence="t"), {}, "TableNotLogged", "without `temporary`"),
    ],
)
def test_hints_fit_the_case(info: TableInfo, request_: dict[str, Any], code: str, hint: str) -> None:
    with pytest.raises(RealtimeError) as caught:
        resolve(TableRequest("t", **request_), info)
    assert caught.value.code == code
    assert hint in caught.value.hint
    publishable = info.kind in "rp" and info.persistence == "p"
    assert ("add table" in caught.value.hint) is (info.published is False and not info.member and publishable)
    assert resolve(TableRequest("t"), TableInfo(COLUMNS, ("id",), True, kind="p", member=True)).key == ("id",)
