"""The rows of a query as Arrow columns: `COPY ... (FORMAT csv)`, parsed by pyarrow off the event loop.

As CSV, every type is the text that its output function writes, which is what a change message carries too, and arrays
and composites are JSON, as there. pyarrow parses the types that it knows as fast as drivers decode binary ones.
"""

from __future__ import annotations

import asyncio
import json
import select
from collections import deque
from collections.abc import AsyncGenerator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as arrow_compute  # pyright: ignore[reportMissingTypeStubs]
import pyarrow.csv as arrow_csv  # pyright: ignore[reportMissingTypeStubs]

from ..protocol.codec import loads
from ..protocol.moments import FOREVER, NEVER, parse_moments
from .snapshot_source import ArrowBatch

if TYPE_CHECKING:
    from psycopg import AsyncConnection, sql
    from psycopg.pq.abc import PGconn, PGresult

ArrowArray = ArrowType = ArrowSchema = Any
"""pyarrow has no types."""
csv: Any = arrow_csv
pc: Any = arrow_compute

BLOCK = 1024 * 1024
"""Bytes of CSV that are parsed at once: some 8,000 rows."""
FIRST_BLOCK = 128 * 1024
"""Bytes of the first block, so that the first rows come early."""
AHEAD = 2
"""Blocks that are parsed or wait for the reader at one time."""
LINGER = 0.05
"""Seconds that a worker thread waits for more, before the event loop does."""

# Characters that hardly any value holds, so that hardly any is quoted.
_DELIMITER, _QUOTE = "\x02", "\x01"
_TYPES: dict[int, ArrowType] = {
    16: pa.bool_(), 20: pa.int64(), 21: pa.int16(), 23: pa.int32(), 26: pa.int64(), 700: pa.float64(),
    701: pa.float64(), 1082: pa.date32(), 1114: pa.timestamp("us"), 1184: pa.timestamp("us", "UTC"),
}  # fmt: skip
"""Types, by their oid in `pg_type`, that pyarrow parses; any other is a string at first."""
_PLAIN = frozenset((17, 18, 19, 25, 114, 1042, 1043, 1083, 1186, 1266, 1700, 2950, 3802, *_TYPES))
"""Types whose own text is their JSON value: no need to look them up."""
_BYTEA = 17
_DAY = 86_400_000_000
# int2vector and oidvector (22, 30) are arrays whose text has no braces: a table keeps their JSON's text.
_LOOK_UP = """select t.oid, t.typtype = 'c' or t.oid in (22, 30) or t.oid = 'record'::regtype or exists (
  select from pg_catalog.pg_cast c where c.castsource = t.oid and c.casttarget = 'json'::regtype),
  t.typcategory = 'A' and t.typlen = -1 and t.typelem <> 0 from pg_catalog.pg_type t where t.oid = any(%s)"""


class _Column(NamedTuple):
    """A column of the result. `nested`: what JSON shows as an object, and a table keeps as that JSON's text."""

    name: str
    oid: int
    as_json: bool = False
    nested: bool = False

    @property
    def type(self) -> ArrowType:
        return _TYPES.get(self.oid, pa.string())


class CopyColumns:
    """One query, to be read once. The connection is in a transaction, and serves nothing else until `batches` ends."""

    def __init__(self, connection: AsyncConnection[Any], query: sql.Composable) -> None:
        self._connection = connection
        self._query = query
        self._columns: list[_Column] = []

    async def describe(self) -> ArrowSchema:
        """The columns. Raises psycopg.Error where the query cannot be run."""
        from psycopg import sql

        cursor = await self._connection.execute(sql.SQL("select * from ({}) t limit 0").format(self._query))
        found = cursor.description or ()
        unknown = sorted({column.type_code for column in found}.difference(_PLAIN))
        kinds: dict[int, tuple[bool, bool]] = {}
        if unknown:
            cursor = await self._connection.execute(_LOOK_UP.encode(), [unknown])
            kinds = {oid: (nested, array) for oid, nested, array in await cursor.fetchall()}
        self._columns = []
        for column in found:
            nested, array = kinds.get(column.type_code, (False, False))
            self._columns.append(_Column(column.name, column.type_code, nested or array, nested))
        return pa.schema([(c.name, pa.binary() if c.oid == _BYTEA else c.type) for c in self._columns])

    async def batches(self) -> AsyncGenerator[ArrowBatch]:
        """The rows, in batches of some ten thousand. Raises psycopg.Error; ValueError for text that is not UTF-8."""
        schema = await self.describe()
        reader = _CopyReader(self._connection.pgconn, self._statement())
        parsing: deque[asyncio.Future[ArrowBatch]] = deque()
        size = FIRST_BLOCK
        try:
            while not reader.ended or parsing:
                while not reader.ended and len(parsing) < AHEAD:
                    block = await reader.read(size)
                    if block:
                        size = min(size * 4, BLOCK)
                        parsing.append(asyncio.ensure_future(asyncio.to_thread(self._parse, block, schema)))
                    if parsing and parsing[0].done():
                        break
                if parsing:
                    yield await parsing.popleft()
        finally:
            for future in parsing:
                future.cancel()

    def _statement(self) -> bytes:
        from psycopg import sql

        names = [sql.Identifier(f"c{number}") for number in range(len(self._columns))]
        wanted = [
            sql.SQL("to_json({})").format(name) if column.as_json else name
            for name, column in zip(names, self._columns, strict=True)
        ]
        comma = sql.SQL(", ")
        options = sql.SQL("format csv, delimiter {}, quote {}").format(sql.Literal(_DELIMITER), sql.Literal(_QUOTE))
        statement = sql.SQL("copy (select {} from ({}) t({})) to stdout ({})").format(
            comma.join(wanted), self._query, comma.join(names), options
        )
        return statement.as_bytes(self._connection)

    # --- on a worker thread

    def _parse(self, block: bytearray, schema: ArrowSchema) -> ArrowBatch:
        try:
            found = _read_csv(block, [column.type for column in self._columns])
        except pa.ArrowInvalid:  # a date that only Postgres knows, such as infinity; or no UTF-8
            found = _read_csv(block, [_as_text(column.type) for column in self._columns])
        arrays = [_finish(array, column) for array, column in zip(found, self._columns, strict=True)]
        return pa.RecordBatch.from_arrays(arrays, schema=schema)


def _as_text(type: ArrowType) -> ArrowType:
    return pa.string() if pa.types.is_temporal(type) else type


def _read_csv(block: bytearray, types: Sequence[ArrowType]) -> list[ArrowArray]:
    names = [f"c{number}" for number in range(len(types))]
    table = csv.read_csv(
        pa.BufferReader(pa.py_buffer(block)),
        # One block: nothing is split within a value.
        read_options=csv.ReadOptions(use_threads=False, block_size=len(block), column_names=names),
        parse_options=csv.ParseOptions(
            delimiter=_DELIMITER,
            quote_char=_QUOTE,
            double_quote=True,
            escape_char=False,
            newlines_in_values=True,
            ignore_empty_lines=False,
        ),
        convert_options=csv.ConvertOptions(
            column_types=dict(zip(names, types, strict=True)),
            null_values=[""],
            true_values=["t"],
            false_values=["f"],
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
        ),
        memory_pool=pa.system_memory_pool(),  # which keeps less of what was freed
    )
    return [column.chunk(0) if column.num_chunks == 1 else column.combine_chunks() for column in table.columns]


def _finish(values: ArrowArray, column: _Column) -> ArrowArray:
    """The column's values in its own type."""
    if column.type != values.type:
        return _moments(values, column.type)
    if pa.types.is_floating(values.type):
        return pc.add(values, 0.0)  # JSON has no negative zero
    if column.oid == _BYTEA:
        texts: list[str | None] = values.to_pylist()
        return pa.array([None if text is None else bytes.fromhex(text[2:]) for text in texts], pa.binary())
    return _texts(values) if column.nested else values


def _moments(values: ArrowArray, type: ArrowType) -> ArrowArray:
    """Dates and timestamps, among them some that only Postgres knows: infinity, before Christ, after the year 9999.

    Raises ValueError where one cannot be parsed.
    """
    odd = pc.fill_null(pc.match_substring_regex(values, "[^-0-9:.+ ]|^[0-9]{5}"), False)
    found = pc.if_else(odd, None, values).cast(type)
    moments = parse_moments(values.filter(odd).to_pylist())
    where = odd.to_numpy(zero_copy_only=False)
    if pa.types.is_date(type):
        numbers = found.view(pa.int32()).fill_null(0).to_numpy(zero_copy_only=False).copy()
        days = np.floor_divide(moments.view(np.int64), _DAY)
        most = np.iinfo(np.int32).max
        numbers[where] = np.where(moments == FOREVER, most, np.where(moments == NEVER, -most, days))
    else:
        numbers = found.view(pa.int64()).fill_null(0).to_numpy(zero_copy_only=False).copy()
        numbers[where] = moments.view(np.int64)
    return pa.array(numbers, mask=values.is_null().to_numpy(zero_copy_only=False)).view(type)


def _texts(values: ArrowArray) -> ArrowArray:
    """JSON objects as the text that a table keeps of them: written as Python does; of a JSON string, what it says."""
    found: list[str | None] = []
    for text in values.to_pylist():
        value: Any = None if text is None else loads(text)
        plain = value is None or isinstance(value, str)
        found.append(value if plain else json.dumps(value, ensure_ascii=False, default=str))
    return pa.array(found, pa.string())


class _CopyReader:
    """Starts a COPY, and reads its data in blocks of whole rows.

    libpq gives one row at a time. psycopg's own `copy` costs more for each than Postgres needs to write it, so its
    rows are fetched here, on a worker thread; where nothing comes, the event loop waits and no thread does.
    """

    def __init__(self, pgconn: PGconn, statement: bytes) -> None:
        self._pgconn = pgconn
        self._statement: bytes | None = statement
        self.ended = False

    async def read(self, size: int) -> bytearray:
        """About so many bytes; fewer at the end. Raises psycopg.Error."""
        block = bytearray()
        while not self.ended and len(block) < size:
            work = asyncio.ensure_future(asyncio.to_thread(self._fill, block, size))
            try:
                idle = await asyncio.shield(work)
            except asyncio.CancelledError:
                await asyncio.wait([work])  # the connection is not ours alone until then
                raise
            if idle:
                await _readable(self._pgconn.socket)
        return block

    # --- on a worker thread

    def _fill(self, block: bytearray, size: int) -> bool:
        """Adds rows to the block; whether there are no more for now."""
        pgconn = self._pgconn
        if self._statement is not None:
            pgconn.send_query(self._statement)
            self._statement = None
            while pgconn.flush():
                select.select([], [pgconn.socket], [], LINGER)
            self._check(self._result(), "COPY_OUT")
        get = pgconn.get_copy_data
        while len(block) < size:
            count, data = get(1)
            if count > 0:
                block += data
            elif count == 0:
                if not select.select([pgconn.socket], [], [], LINGER)[0]:
                    return True
                pgconn.consume_input()
            else:
                self._check(self._result(), "COMMAND_OK")
                while self._result() is not None:
                    pass
                self.ended = True
                return False
        return False

    def _result(self) -> PGresult | None:
        pgconn = self._pgconn
        while pgconn.is_busy():
            select.select([pgconn.socket], [], [])
            pgconn.consume_input()
        return pgconn.get_result()

    def _check(self, result: PGresult | None, status: str) -> None:
        from psycopg import OperationalError, errors, pq

        if result is None:
            raise OperationalError("Postgres gave no answer")
        if result.status != pq.ExecStatus[status]:
            while self._result() is not None:
                pass
            raise errors.error_from_result(result)


async def _readable(descriptor: int) -> None:
    loop = asyncio.get_running_loop()
    ready = loop.create_future()
    loop.add_reader(descriptor, _set, ready)
    try:
        await ready
    finally:
        loop.remove_reader(descriptor)


def _set(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)
