"""`local.publish()`: what can be published is, and what cannot is refused with SQL that helps."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from rtwidgets.local.publishing import publish
from rtwidgets.local.server import RealtimeServer
from rtwidgets.protocol.errors import RealtimeError

pytestmark = pytest.mark.pg


@pytest.fixture
def database(server: RealtimeServer, pg: str) -> Iterator[psycopg.Connection[Any]]:
    """Without tables, and with an empty publication."""
    with psycopg.connect(pg, autocommit=True) as connection:
        connection.execute("drop schema if exists other cascade; create schema other")
        renew_publication(connection)
        yield connection
        renew_publication(connection)
        connection.execute("drop schema other cascade")


def renew_publication(connection: psycopg.Connection[Any]) -> None:
    """An empty publication with the options that the server gives it."""
    connection.execute("drop publication supabase_realtime; create publication supabase_realtime")
    if connection.info.server_version >= 180_000:
        connection.execute("alter publication supabase_realtime set (publish_generated_columns = stored)")


def published(connection: psycopg.Connection[Any]) -> list[str]:
    query = "select tablename::text from pg_publication_tables where pubname = 'supabase_realtime' order by 1"
    return [row[0] for row in connection.execute(query)]


@pytest.mark.parametrize(
    ("made", "name", "table"),
    [
        ("other.plain", "other.plain", "plain"),
        ('other."a.b"', 'other."a.b"', "a.b"),
        ('"a.b"', '"a.b"', "a.b"),
        ('"a.b"', "a.b", "a.b"),
        ('"Mixed"', "Mixed", "Mixed"),
        ('"q""q"', 'q"q', 'q"q'),
        ('"q""q"', '"q""q"', 'q"q'),
        ('"a%s b"', "a%s b", "a%s b"),
    ],
)
def test_a_name_as_sql_writes_it(database: psycopg.Connection[Any], made: str, name: str, table: str) -> None:
    database.execute(f"drop table if exists {made}; create table {made} (id int primary key)".encode())
    publish(database, name)
    publish(database, name)
    assert published(database) == [table]
    database.execute(f"drop table {made}".encode())


@pytest.mark.parametrize(
    "more",
    [
        "",
        "alter table other.t replica identity full",
        "alter table other.t drop constraint t_pkey; alter table other.t replica identity full",
        "alter table other.t replica identity using index other_code",
        "alter table other.t drop constraint t_pkey; alter table other.t replica identity using index other_code",
    ],
)
def test_what_postgres_can_replicate_is_published_and_can_be_updated(
    database: psycopg.Connection[Any], more: str
) -> None:
    database.execute(
        "create table other.t (id int constraint t_pkey primary key, code text not null);"
        "create unique index other_code on other.t (code)"
    )
    database.execute(more.encode())
    publish(database, "other.t")
    database.execute("insert into other.t values (1, 'a'); update other.t set code = 'b'; delete from other.t")


@pytest.mark.parametrize(
    ("ddl", "code", "fix"),
    [
        ("create table other.t (id int)", "NoPrimaryKey", "alter table other.t replica identity full;"),
        (
            "create table other.t (id int primary key deferrable)",
            "NoPrimaryKey",
            "alter table other.t replica identity full;",
        ),
        (
            "create table other.t (id int primary key); alter table other.t replica identity nothing",
            "NoReplicaIdentity",
            "alter table other.t replica identity default;",
        ),
        (
            "create table other.t (id int); alter table other.t replica identity nothing",
            "NoReplicaIdentity",
            "alter table other.t replica identity full;",
        ),
        (
            "create table other.t (id int primary key, c int not null default 0);"
            "create unique index gone on other.t (c);"
            "alter table other.t replica identity using index gone; drop index other.gone",
            "NoReplicaIdentity",
            "alter table other.t replica identity default;",
        ),
        ("create unlogged table other.t (id int primary key)", "TableNotLogged", "alter table other.t set logged;"),
    ],
)
def test_what_is_refused_is_published_once_the_hint_was_followed(
    database: psycopg.Connection[Any], ddl: str, code: str, fix: str
) -> None:
    database.execute(ddl.encode())
    with pytest.raises(RealtimeError) as caught:
        publish(database, "other.t")
    assert caught.value.code == code
    assert fix.replace("other.t", '"other"."t"') in caught.value.hint
    database.execute(fix.encode())
    publish(database, "other.t")
    database.execute("insert into other.t values (1); update other.t set id = 2; delete from other.t")


def test_a_partitioned_table_is_published_under_its_own_name(database: psycopg.Connection[Any]) -> None:
    database.execute(
        "create table other.root (id int primary key) partition by range (id);"
        "create table other.leaf partition of other.root for values from (0) to (10)"
    )
    publish(database, "other.root")
    publish(database, "other.root")
    assert published(database) == ["root"]
    with pytest.raises(RealtimeError) as caught:
        publish(database, "other.leaf")
    assert caught.value.code == "PublishedByRoot"


def test_one_that_was_added_by_hand_becomes_visible_under_its_own_name(database: psycopg.Connection[Any]) -> None:
    database.execute(
        "create table other.root (id int primary key) partition by range (id);"
        "create table other.leaf partition of other.root for values from (0) to (10);"
        "alter publication supabase_realtime add table other.root"
    )
    assert published(database) == ["leaf"]
    publish(database, "other.root")
    assert published(database) == ["root"]


def test_a_view_names_the_tables_that_it_reads(database: psycopg.Connection[Any]) -> None:
    database.execute(
        "create table other.base (id int primary key); create view other.seen as select * from other.base;"
        "create materialized view other.kept as select * from other.base"
    )
    for name, kind in (("seen", "is a view"), ("kept", "is a materialized view")):
        with pytest.raises(RealtimeError, match=kind) as caught:
            publish(database, f"other.{name}")
        assert (caught.value.code, "other.base" in caught.value.hint) == ("NotATable", True)


def test_all_tables_of_a_schema_or_of_the_database_are_published_already(
    database: psycopg.Connection[Any],
) -> None:
    database.execute("create table other.t (id int primary key)")
    database.execute("alter publication supabase_realtime add tables in schema other")
    publish(database, "other.t")
    database.execute("drop publication supabase_realtime; create publication supabase_realtime for all tables")
    publish(database, "other.t")


def test_a_table_that_is_not_there(database: psycopg.Connection[Any]) -> None:
    for name in ("nope", "nope.nope", "", "..", "a\0b", '"', "a.b.c"):
        with pytest.raises(RealtimeError) as caught:
            publish(database, name)
        assert caught.value.code == "TableNotFound"
