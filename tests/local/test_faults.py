"""Bad input and faults, each produced for real: what is said, in one paragraph and without a traceback."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import psycopg
import pytest

from rtwidgets.cli import main
from rtwidgets.client.client import AsyncClient
from rtwidgets.local import preflight
from rtwidgets.local.auth import mint
from rtwidgets.local.handle import local
from rtwidgets.local.postgres import Postgres
from rtwidgets.local.server import RealtimeServer
from rtwidgets.protocol.errors import RealtimeError

from ..waits import wait_until, within

pytestmark = pytest.mark.pg


@pytest.fixture(scope="module")
def theirs() -> Iterator[Postgres]:
    """A Postgres as a user may have one, with a role that is no superuser and has a password."""
    folder = Path(tempfile.mkdtemp(prefix="rtw"))
    running = Postgres(folder / "data")
    running.start()
    with psycopg.connect(running.dsn, autocommit=True) as connection:
        connection.execute("create role limited login password 'the-secret-word'")
        connection.execute("create role follower login replication")
        hba = running.data_dir / "pg_hba.conf"
        hba.write_text(f"local all limited scram-sha-256\n{hba.read_text()}")
        connection.execute("select pg_reload_conf()")
    yield running
    running.stop()
    shutil.rmtree(folder, ignore_errors=True)


def command(*arguments: str, env: dict[str, str] | None = None) -> tuple[int, str]:
    """The exit code of `rtwidgets ...` and what it wrote to stderr, which is one paragraph."""
    done = subprocess.run(
        [sys.executable, "-m", "rtwidgets.cli", *arguments],
        env={**os.environ, **(env or {})},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    return done.returncode, done.stderr


async def refusal(dsn: str) -> RealtimeError:
    with pytest.raises(RealtimeError) as caught:
        await preflight.check(dsn)
    assert caught.value.hint
    return caught.value


async def test_a_postgres_that_cannot_be_reached() -> None:
    error = await refusal("postgresql://someone:the-secret-word@127.0.0.1:1/app")
    assert error.code == "PostgresUnreachable"
    assert "127.0.0.1, port 1" in error.message
    assert "the-secret-word" not in str(error)


async def test_a_dsn_that_is_none() -> None:
    error = await refusal("the-secret-word")
    assert error.code == "BadDSN"
    assert "the-secret-word" not in str(error)


async def test_a_wrong_password(theirs: Postgres) -> None:
    error = await refusal(f"host={theirs.sockets} dbname=postgres user=limited password=not-the-word")
    assert error.code == "PostgresUnreachable"
    assert "password authentication failed" in error.message
    assert "not-the-word" not in str(error)


async def test_a_role_without_replication(theirs: Postgres) -> None:
    error = await refusal(f"host={theirs.sockets} dbname=postgres user=limited password=the-secret-word")
    assert error.code == "RoleLacksReplication"
    assert 'alter role "limited" replication;' in error.hint


async def test_a_role_that_is_no_superuser(theirs: Postgres) -> None:
    error = await refusal(f"host={theirs.sockets} dbname=postgres user=follower")
    assert error.code == "RoleNotSuperuser"


async def test_every_slot_in_use(theirs: Postgres) -> None:
    with psycopg.connect(theirs.dsn, autocommit=True) as connection:
        for number in range(10):
            connection.execute(f"select pg_create_physical_replication_slot('taken_{number}')".encode())
        try:
            error = await refusal(theirs.dsn)
        finally:
            connection.execute("select pg_drop_replication_slot(slot_name) from pg_replication_slots")
    assert error.code == "NoReplicationSlot"
    assert "alter system set max_replication_slots" in error.hint
    await preflight.check(theirs.dsn)


async def test_a_wal_level_that_is_not_logical(tmp_path: Path) -> None:
    postgres = Postgres(tmp_path / "data")
    postgres.start()
    try:
        with psycopg.connect(postgres.dsn, autocommit=True) as connection:
            connection.execute("alter system set wal_level = replica")
        postgres.stop()
        postgres.start()
        error = await refusal(postgres.dsn)
        assert error.code == "WalLevelNotLogical"
        assert "wal_level = replica" in error.message
        # What the hint says mends it.
        with psycopg.connect(postgres.dsn, autocommit=True) as connection:
            connection.execute(error.hint.split("`")[1].encode())
        postgres.stop()
        postgres.start()
        await preflight.check(postgres.dsn)
    finally:
        postgres.stop()


async def test_a_schema_that_is_in_the_way(theirs: Postgres) -> None:
    with psycopg.connect(theirs.dsn, autocommit=True) as connection:
        connection.execute("create schema realtime; create view realtime.messages as select 1 as id")
        with pytest.raises(RealtimeError) as caught:
            await RealtimeServer(theirs.dsn, jwt_secret="x" * 40).start()
        connection.execute("drop schema realtime cascade")
    assert caught.value.code == "SchemaNotInstalled"


async def test_schemas_of_somebody_else_are_left_alone(theirs: Postgres) -> None:
    with psycopg.connect(theirs.dsn, autocommit=True) as connection:
        connection.execute("drop schema if exists auth cascade; create schema auth")
        connection.execute("create function auth.uid() returns uuid language sql as 'select null::uuid'")
        with pytest.raises(RealtimeError) as caught:
            await preflight.check(theirs.dsn)
        connection.execute("drop schema auth cascade")
    assert caught.value.code == "SchemaTaken"


def test_a_postgres_of_ones_own_serves(theirs: Postgres, home: Path) -> None:
    server = local("own", postgres=theirs.dsn, idle_timeout=1)
    try:
        frame = server.sql("select count(*) as n from realtime.messages")
        assert frame is not None
        assert frame["n"].item() == 0
        with pytest.raises(RealtimeError) as caught:
            local("own", postgres="host=elsewhere")
        assert caught.value.code == "LocalServerDiffers"
        code, said = command("serve", "--name", "own", "--port", "1")
        assert (code, said.split(":")[0]) == (1, "LocalServerDiffers")
    finally:
        server.stop()


def test_what_was_put_into_a_postgres_of_ones_own_can_be_taken_out(theirs: Postgres, home: Path) -> None:
    """Tables stay, and what others made stays too."""
    made = (
        "select array(select rolname::text from pg_roles"
        " where rolname in ('authenticator', 'anon', 'authenticated', 'service_role'))"
        " || array(select nspname::text from pg_namespace where nspname in ('auth', 'realtime'))"
        " || array(select pubname::text from pg_publication)"
    )
    with psycopg.connect(theirs.dsn, autocommit=True) as connection:
        connection.execute("create table if not exists kept (id int primary key); create publication theirs")
        for _ in range(2):  # and it can be put there again
            server = local("own", postgres=theirs.dsn, idle_timeout=1)
            server.publish("kept")
            server.sql("grant select on kept to anon")
            server.stop()
            row = connection.execute(made).fetchone()
            assert row is not None
            assert len(row[0]) == 9
            for _ in range(2):
                assert main(["remove", "--postgres", theirs.dsn]) == 0
            row = connection.execute(made).fetchone()
            assert row is not None
            assert row[0] == ["theirs"]
        connection.execute("insert into kept values (1); drop table kept; drop publication theirs; create role anon")
        server = local("own", postgres=theirs.dsn, idle_timeout=1)
        server.stop()
        assert main(["remove", "--postgres", theirs.dsn]) == 0
        row = connection.execute(made).fetchone()
        assert row is not None
        assert row[0] == ["anon"]
        connection.execute("drop owned by anon; drop role anon")


def test_the_command_says_it_in_one_paragraph(theirs: Postgres, home: Path) -> None:
    dsn = f"host={theirs.sockets} dbname=postgres user=limited password=the-secret-word"
    code, said = command("serve", "--name", "t", "--postgres", dsn)
    assert code == 1
    assert said.startswith("RoleLacksReplication: ")
    assert "alter role" in said
    for file in home.rglob("*"):
        assert not file.is_file() or "the-secret-word" not in file.read_text(errors="replace"), file


def test_the_port_is_taken(home: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = str(other.getsockname()[1])
        for arguments in (["serve", "--name", "t"], ["demo", "--no-browser"]):
            code, said = command(*arguments, "--port", port)
            assert code == 1
            assert said.startswith(f"PortTaken: Port {port} is taken")


@pytest.mark.parametrize("place", ["/proc/rtwidgets", "/dev/null/rtwidgets"])
def test_the_folder_cannot_be_written(place: str) -> None:
    code, said = command("serve", env={"RTWIDGETS_HOME": place})
    assert code == 1
    assert said.startswith("DataFolderNotWritable: ")
    assert "RTWIDGETS_HOME" in said


def test_a_name_that_is_none(home: Path) -> None:
    code, said = command("stop", "../elsewhere")
    assert code == 1
    assert said.startswith("BadName: ")


def test_sql_after_a_stop_says_how_to_go_on(home: Path) -> None:
    server = local("t", idle_timeout=1)
    server.stop()
    with pytest.raises(RealtimeError, match=r"rt\.local\('t'\) starts it again") as caught:
        server.sql("select 1")
    assert caught.value.code == "PostgresGone"


def test_sql_while_postgres_is_away(home: Path) -> None:
    server = local("t", idle_timeout=1)
    try:
        # Stopped, not killed, so that it stays away long enough to be asked.
        pid = int((home / "t" / "data" / "postmaster.pid").read_text().split()[0])
        folder = Path(server.dsn.split()[0].removeprefix("host="))
        (folder / ".s.PGSQL.5432").rename(folder / "away")
        with pytest.raises(RealtimeError) as caught:
            server.sql("select 1")
        assert caught.value.code == "PostgresGone"
        assert "starts it again" in caught.value.hint
        assert caught.value.retryable
        (folder / "away").rename(folder / ".s.PGSQL.5432")
        with pytest.raises(psycopg.errors.SyntaxError):
            server.sql("selct 1")
        with pytest.raises(RealtimeError, match="Postgres cannot be reached"):
            server.sql("select pg_terminate_backend(pg_backend_pid())")
        psutil.Process(pid).send_signal(signal.SIGKILL)

        def back() -> bool:
            with contextlib.suppress(RealtimeError):
                return server.sql("select 1") is not None
            return False

        wait_until(back)
    finally:
        server.stop()


async def test_a_key_of_another_project(server: RealtimeServer) -> None:
    for key, code in (
        (mint("another secret of some length to please it", "anon"), "JwtSignatureError"),
        ("garbage", "MalformedJWT"),
        (mint("a-secret-of-the-tests-that-is-long-enough-for-hs256", "anon", expires_in=-5), "TokenExpired"),
    ):
        client = AsyncClient(server.url, key)
        try:
            with pytest.raises(RealtimeError) as caught:
                await client.connect()
            assert caught.value.code == code
            assert not caught.value.retryable
            assert caught.value.hint
            assert key not in str(caught.value)
            with pytest.raises(RealtimeError) as caught:
                async for _ in client.rest.select("orders"):
                    pass
            assert caught.value.hint
            assert key not in str(caught.value)
        finally:
            await client.close()


async def test_a_postgres_of_ones_own_that_goes_away_and_comes_back(tmp_path: Path) -> None:
    postgres = Postgres(tmp_path / "data")
    postgres.start()
    key = mint("x" * 40, "anon")
    server = RealtimeServer(postgres.dsn, jwt_secret="x" * 40, anon_key=key)
    try:
        await server.start()
        async with await psycopg.AsyncConnection.connect(postgres.dsn, autocommit=True) as connection:
            await connection.execute("create table kept (id int primary key)")
        client = AsyncClient(server.url, key)
        assert [page.rows async for page in client.rest.select("kept")] == [[]]
        assert postgres.process is not None
        postgres.process.kill()
        postgres.process.wait()
        with pytest.raises(RealtimeError) as caught:
            [page async for page in client.rest.select("kept")]
        assert caught.value.retryable
        async with httpx.AsyncClient() as http:
            assert (await http.get(f"{server.url}/health")).json()["streaming"] is False
        postgres.start()
        assert [page.rows async for page in client.rest.select("kept")] == [[]]
        await within(server.stream.streaming.wait())
        await client.close()
    finally:
        await server.stop()
        postgres.stop()
