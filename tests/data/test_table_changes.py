"""A table that becomes another one while it is followed: made again, altered, unpublished, relabelled."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import psycopg
import pytest
import pytest_asyncio

from rtwidgets.client.client import AsyncClient
from rtwidgets.local.handle import Local
from rtwidgets.local.network import Network

from ..waits import until
from .live import rows_of, same, table

pytestmark = pytest.mark.pg


@pytest_asyncio.fixture
async def client(server: Local) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(server.url, server.anon_key) as made:
        yield made


def make(server: Local, name: str, columns: str) -> None:
    server.sql(f"drop table if exists {name} cascade; create table {name} ({columns})")
    server.publish(name)


async def test_a_table_that_is_made_again_is_read_again(server: Local, client: AsyncClient) -> None:
    """As `df.to_sql(name, if_exists="replace")` does."""
    make(server, "remade", "id int primary key, v int")
    server.sql("insert into remade values (1, 1)")
    async with table(server, "remade", client=client) as follower:
        make(server, "remade", "id int primary key, v int")
        server.sql("insert into remade values (5, 5)")
        await same(follower, server, "select * from remade")
        make(server, "remade", "id int primary key, name text")
        server.sql("insert into remade values (6, 'six')")
        await same(follower, server, "select * from remade")
        server.sql("drop table remade")
        await until(lambda: follower.status == "error")
        assert follower.error is not None
        assert follower.error.code == "UndefinedTable"
        assert rows_of(follower.store.df()) == [{"id": 6, "name": "six"}], "the rows stay"
        make(server, "remade", "id int primary key, name text")
        server.sql("insert into remade values (7, 'seven')")
        await until(lambda: follower.status == "live")
        await same(follower, server, "select * from remade")


async def test_a_table_that_is_taken_out_of_the_publication_is_not_live(server: Local, client: AsyncClient) -> None:
    make(server, "hushed", "id int primary key")
    async with table(server, "hushed", client=client) as follower:
        server.sql("alter publication supabase_realtime drop table hushed")
        await until(lambda: follower.status == "error")
        assert follower.error is not None
        assert follower.error.code == "TableNotPublished"
        assert "add table public.hushed" in follower.error.hint


async def test_another_key_ends_the_table_with_what_to_do(server: Local, client: AsyncClient) -> None:
    make(server, "rekeyed", "id int primary key, other int not null default 1")
    async with table(server, "rekeyed", client=client) as follower:
        server.sql("alter table rekeyed drop constraint rekeyed_pkey, add primary key (other)")
        await until(lambda: follower.status == "error")
        assert follower.error is not None
        assert (follower.error.code, "LiveTable again" in follower.error.hint) == ("KeyChanged", True)


async def test_columns_types_and_labels_are_seen_before_the_next_change(server: Local, client: AsyncClient) -> None:
    server.sql("drop type if exists mood cascade; create type mood as enum ('sad', 'ok')")
    make(server, "altered", "id int primary key, m mood, n int")
    server.sql("insert into altered values (1, 'ok', 5)")
    async with table(server, "altered", client=client, filter="m=gte.ok") as follower:
        server.sql("alter table altered add column more int default 7")
        await until(lambda: "more" in follower.store.kinds and follower.status == "live")
        await same(follower, server, "select * from altered")
        server.sql("alter table altered alter column n type text using 'n' || n")
        await until(lambda: follower.store.df()["n"].tolist() == ["n5"])
        server.sql("alter type mood add value 'happy' after 'ok'")
        await until(lambda: list(follower.store.kinds["m"].labels) == ["sad", "ok", "happy"])
        server.sql("insert into altered values (2, 'happy'), (3, 'sad')")
        await same(follower, server, "select * from altered where m >= 'ok'")


async def test_what_was_open_when_the_table_was_published_is_not_missed(server: Local, client: AsyncClient) -> None:
    server.sql("drop table if exists opened; create table opened (id int primary key)")
    with psycopg.connect(server.dsn) as connection:
        connection.execute("insert into opened values (1)")
        publishing = asyncio.create_task(asyncio.to_thread(server.publish, "opened"))
        await asyncio.wait([publishing], timeout=2)
        connection.commit() if not publishing.done() else None
        await publishing
        async with table(server, "opened", client=client) as follower:
            connection.commit()
            server.sql("insert into opened values (2)")
            await same(follower, server, "select * from opened")


async def test_it_is_not_live_before_what_was_missed_has_come(server: Local) -> None:
    make(server, "caught", "id int primary key, v int")
    server.sql("insert into caught select i, 0 from generate_series(1, 5000) i")
    line = Network(server.url)
    line.start()
    try:
        async with (
            AsyncClient(line.url, server.anon_key) as client,
            table(server, "caught", client=client) as follower,
            table(server, "caught") as beside,
        ):
            seen: list[tuple[str, int]] = []
            follower.on_status(lambda status, _: seen.append((status, int((follower.store.df()["v"] == 7).sum()))))
            await asyncio.to_thread(line.cut)
            await until(lambda: follower.status == "stale")
            server.sql("update caught set v = 7")
            await until(lambda: beside.store.df()["v"].min() == 7)  # the server has sent it to whom it could
            await asyncio.to_thread(line.restore)
            await until(lambda: follower.status == "live")
            assert [status for status, _ in seen] == ["stale", "catching up", "live"]
            assert seen[-1] == ("live", 5000)
            assert (follower.changes["type"] == "UPDATE").sum() == 5000, "it was resumed, not read again"
    finally:
        await asyncio.to_thread(line.stop)
