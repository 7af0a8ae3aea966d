"""Which versions of rows each caller may see, asked of Postgres under the callers' roles and claims.

Supabase asks Postgres for every change and every subscription. Here one question is asked for all changes of a table
that go out together, in one trip for all callers, and none at all where row level security is off.

The question is about the row as it stands when it is asked, which need not be the version of it that a change carries.
So a version goes out only if the row that stands is visible, and what decides that is the same in both: the columns
that the policies look at. Where the policies look at anything else (other tables, functions, the time), or grants and
policies are others than when the table was looked up, a version goes out only if it equals the row that stands.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, cast

import msgspec
import psycopg
from psycopg import sql

from ..client.log import child
from ..protocol.pg_snapshot import PgSnapshot
from ..protocol.server_channel import Identity
from . import policies
from .catalogue import ACCESS, RETRY, Key, Table
from .pgoutput import UNCHANGED, Row
from .policies import become, limit_statements
from .pool import Connection, Pool, identifier, type_name

log = child(__name__)

PATIENCE = 5.0
"""Seconds after which it is logged that transactions are waited for."""
_MOST_LATE = 2
"""Callers whose policies take too long, after which the rest is not asked about."""


class Answer(msgspec.Struct):
    """What came of a question."""

    shown: dict[Identity, set[int]]
    """By caller, the numbers of the versions that it may see; callers are missing about whom Postgres took too long."""
    changed: bool = False
    """Whether grants or policies are others than when the table was looked up."""


async def read_visible(
    pool: Pool,
    table: Table,
    callers: Collection[Identity],
    rows: Mapping[int, Row],
    xids: Collection[int],
    *,
    strict: bool = False,
) -> Answer:
    """Which of these versions of rows each caller may see now, after those transactions.

    A commit is in the log, and so with us, a moment before other sessions see it (a long one, where it waits for a
    standby). Asked in between, the rows would be those of before: so it is waited for.

    Args:
        rows: versions, by number.
        xids: the transactions that made them.
        strict: whether only versions that equal the row that stands may go out.

    Raises psycopg.OperationalError or OSError while Postgres is away.
    """
    answer = Answer({})
    began = time.monotonic()
    together, late = len(callers) > 1, 0
    while len(answer.shown) + late < len(callers):
        asked: Identity | None = None
        left = [caller for caller in callers if caller not in answer.shown]
        try:
            async with asyncio.timeout(2 * policies.LIMIT), pool.connection() as connection, connection.transaction():
                seen, access = await _look(connection, table, xids)
                if seen:
                    answer.changed = table.facts is None or access != table.facts.access
                    # One snapshot for all of it: what stands there is what each caller is asked about.
                    question = _Question(table, rows)
                    standing = await question.standing(connection, strict=strict or answer.changed)
                    if together:
                        for caller, numbers in (await question.visible_to(connection, left)).items():
                            answer.shown[caller] = numbers & standing
                        return answer
                    for asked in left[late:]:
                        shown = await question.visible_to(connection, [asked])
                        answer.shown[asked] = shown[asked] & standing
        except (psycopg.errors.QueryCanceled, TimeoutError):
            if together:  # one by one, then, to learn whose policy it is
                together = False
                continue
            late += 1
            if asked is None or late >= _MOST_LATE:
                return answer
            continue
        except psycopg.Error as error:
            aborted = isinstance(error, psycopg.errors.PipelineAborted)  # by what was asked before in the same trip
            if isinstance(error, psycopg.OperationalError) and not aborted:
                raise
            if together:
                together = False
                continue
            # A policy that fails shows nothing to its role, and must not keep changes from the others.
            table.complain(error)
            if asked is None:  # the table is another by now: nobody can be asked about it
                return Answer({caller: set[int]() for caller in callers}, changed=True)
            answer.shown[asked] = set()
            continue
        if not seen:
            await asyncio.sleep(RETRY)
            if time.monotonic() - began > PATIENCE:
                log.warning("transactions %s are in the log and not seen yet: changes wait for them", sorted(xids))
                began = time.monotonic()
    return answer


async def _look(connection: Connection, table: Table, xids: Collection[int]) -> tuple[bool, str]:
    """Whether this transaction's snapshot sees those, and who sees what by now (`Facts.access`)."""
    await limit_statements(connection)
    cursor = await connection.execute(_LOOK, (table.relation.oid,))
    snapshot, access = await cursor.fetchone() or ("", None)
    return bool(snapshot) and all(map(PgSnapshot.parse(snapshot).visible, xids)), str(access)


_LOOK = "select pg_current_snapshot()::text, (select " + ACCESS + " from pg_catalog.pg_class c where c.oid = %s)"


async def read_access_to_rows(pool: Pool, table: Table, caller: Identity) -> None:
    """Reads a row as that caller, to see whether it comes in time. Raises psycopg.Error, OSError, TimeoutError."""
    name = identifier(table.relation.schema, table.relation.name)
    async with asyncio.timeout(2 * policies.LIMIT), pool.connection() as connection, connection.transaction():
        await limit_statements(connection)
        await become(connection, caller)
        await connection.execute(sql.SQL("select from {} limit 1").format(name))


class _Question:
    """Which of some versions of a table's rows may be seen."""

    def __init__(self, table: Table, rows: Mapping[int, Row]) -> None:
        self._table = table
        self._rows = rows
        self._by_key: dict[Key, list[int]] = {}
        for number, row in rows.items():
            self._by_key.setdefault(table.key_of(row), []).append(number)
        self._keys = [list(column) for column in zip(*self._by_key, strict=True)]
        self._numbers = list(self._by_key.values())
        names = [identifier(f"k{i}") for i in range(len(table.key))]
        columns = [identifier(table.relation.columns[i].name) for i in table.key]
        self._keyed = sql.SQL(" from unnest({arrays}) with ordinality as k({names}, n)").format(
            arrays=sql.SQL(", ").join(sql.SQL("%s::text[]") for _ in names), names=sql.SQL(", ").join(names)
        )
        # The type is the column's own, by name, so that the primary key's index serves.
        self._same = sql.SQL(" from {table} t where {same}").format(
            table=identifier(table.relation.schema, table.relation.name),
            same=sql.SQL(" and ").join(
                sql.SQL("t.{} = k.{}::{}").format(column, name, type_name(kind))
                for column, name, kind in zip(columns, names, table.key_types, strict=True)
            ),
        )

    async def visible_to(self, connection: Connection, callers: Iterable[Identity]) -> dict[Identity, set[int]]:
        """Those whose row each caller sees; asked at once, in one trip to Postgres and back."""
        # Row by row by its index; as one join, Postgres may rather read the whole table, and ask the policies of all of
        # it. Where the key's type does not let policies be asked last, it has to: then at least once only.
        facts = self._table.facts
        fence = sql.SQL(" offset 0) t") if facts is None or facts.by_index else sql.SQL(") t")
        head = sql.SQL("select array_agg(k.n::int8)") + self._keyed + sql.SQL(" cross join lateral (select")
        query = (head + self._same + fence).as_bytes(connection)
        async with connection.pipeline():
            asked: dict[Identity, psycopg.AsyncCursor[tuple[Any, ...]]] = {}
            for caller in callers:
                await become(connection, caller)
                asked[caller] = await connection.execute(query, self._keys)
            rows = {caller: await cursor.fetchone() for caller, cursor in asked.items()}
        return {
            caller: {number for n in cast("list[int]", (row and row[0]) or []) for number in self._numbers[n - 1]}
            for caller, row in rows.items()
        }

    async def standing(self, connection: Connection, *, strict: bool) -> set[int]:
        """Those that are as visible as the row of their key."""
        table, judged = self._table, self._table.judged(strict=strict)
        # What an update left as it was is not in its version: then nothing that is in it may differ.
        if any(row[i] is UNCHANGED for row in self._rows.values() for i in judged):
            judged = list(range(len(table.relation.columns)))
        if not judged:
            return set(self._rows)
        # Not `::text`, which writes some types (bool, inet, char) in another way than the log does.
        values = sql.SQL(", ").join(
            sql.SQL("case when t.{0} is not null then format('%%s', t.{0}) end").format(
                identifier(table.relation.columns[i].name)
            )
            for i in judged
        )
        query = sql.SQL("select k.n::int8, t.*") + self._keyed + sql.SQL(" cross join lateral (select ") + values
        cursor = await connection.execute(query + self._same + sql.SQL(" offset 0) t"), self._keys)
        found: set[int] = set()
        for n, *now in cast("list[tuple[int, *tuple[str | None, ...]]]", await cursor.fetchall()):
            texts = [None if value is None else value.encode() for value in now]
            found.update(number for number in self._numbers[n - 1] if _same(self._rows[number], judged, texts))
        return found


def _same(version: Row, indices: Sequence[int], now: Sequence[bytes | None]) -> bool:
    return all(version[i] is UNCHANGED or version[i] == value for i, value in zip(indices, now, strict=True))
