"""Connections to Postgres: what they have in common whatever the database's own settings are."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from rtwidgets.local.pool import SETTINGS, Pool, with_settings

pytestmark = pytest.mark.pg


@pytest.fixture
def odd(pg: str) -> Iterator[str]:
    """A database with settings of its own."""
    with psycopg.connect(pg, autocommit=True) as connection:
        connection.execute(b"create database odd encoding latin1 template template0 locale 'C' locale_provider libc;")
        for setting in (
            "bytea_output = 'escape'",
            "intervalstyle = 'iso_8601'",
            "datestyle = 'German, DMY'",
            "timezone = 'Asia/Tokyo'",
            "extra_float_digits = -5",
        ):
            connection.execute(f"alter database odd set {setting}".encode())
        yield f"{pg} dbname=odd"
        connection.execute("drop database odd with (force)")


async def value(pool: Pool, query: str) -> Any:
    async with pool.connection() as connection:
        row = await (await connection.execute(query.encode())).fetchone()
    assert row is not None
    return row[0]


async def test_values_look_alike_whatever_the_databases_settings_are(odd: str) -> None:
    pool = Pool(odd)
    assert await value(pool, r"select '\x00ff'::bytea::text") == r"\x00ff"
    assert await value(pool, "select '1 day 2 hours'::interval::text") == "1 day 02:00:00"
    assert await value(pool, "select '2026-11-23 10:00+02'::timestamptz::text") == "2026-11-23 08:00:00+00"
    assert await value(pool, "select tstzrange('2026-11-23 10:00+02', null)::text") == '["2026-11-23 08:00:00+00",)'
    assert await value(pool, "select pi()::text") == "3.141592653589793"
    assert await value(pool, "select length('äöü')") == 3
    await pool.close()


async def test_a_plan_does_not_outlive_its_columns_type(pg: str) -> None:
    pool = Pool(pg, 1)
    async with pool.connection() as connection:
        await connection.execute("drop table if exists planned; create table planned (id int primary key, code int)")
        await connection.execute("insert into planned values (1, 5)")
        for _ in range(12):
            await connection.execute("select id from planned where code = %s", ["5"])
        await connection.execute("alter table planned alter code type text using code::text")
        cursor = await connection.execute("select id from planned where code = %s", ["5"])
        assert await cursor.fetchall() == [(1,)]
        await connection.execute("drop table planned")
    await pool.close()


def test_the_options_of_a_dsn_stay() -> None:
    dsn = with_settings("host=/tmp options='-c search_path=other -c datestyle=German'", SETTINGS, dbname="x")
    found = conninfo_to_dict(dsn)
    assert found["dbname"] == "x"
    assert str(found["options"]).startswith("-c search_path=other -c datestyle=German -c datestyle=ISO")
