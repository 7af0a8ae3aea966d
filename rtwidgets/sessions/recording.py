"""Reads and writes the file of a session: JSON lines, the first of which is the header (broken here to fit).

    {"format": "rtwidgets session", "version": 1, "started_at": "2026-01-31T09:00:00.000Z", ...}
    {"at": 0, "kind": "snapshot", "schema": "public", "table": "orders",
        "columns": [["id", "int8"]], "key": ["id"], "rows": [[1]]}
    {"at": 0, "kind": "live", "schema": "public", "table": "orders"}
    {"at": 0, "kind": "start"}
    {"at": 1.402, "kind": "change", "schema": "public", "table": "orders", "type": "INSERT", "record": {"id": 2}}
    {"at": 2.250, "kind": "broadcast", "topic": "lobby", "event": "message", "payload": {"text": "hello"}}
    {"at": 3.001, "kind": "presence", "topic": "lobby",
        "joins": {"ana": [{"phx_ref": "a", "team": "support"}]}, "leaves": {}}
    {"at": 4.000, "kind": "gap", "schema": "public", "table": "orders", "reason": "the connection was lost"}
    {"at": 9.500, "kind": "end"}

`at` is in seconds since the start; what stands before the line `start` is how the session begins. A long
snapshot goes on in lines of the kind `rows`; after a gap comes another one. A reader passes over kinds and fields that
it does not know, so that a later version may add some; one that changes the meaning of what is there counts `version`
up.
"""

from __future__ import annotations

import gzip
import os
import zlib
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, NamedTuple, cast

from ..protocol.codec import FrameError, dumps, loads
from ..protocol.errors import RealtimeError, redact

FORMAT = "rtwidgets session"
VERSION = 1


class Entry(NamedTuple):
    """One line: what happened, `at` seconds after the start."""

    at: float
    kind: str
    data: dict[str, Any]


class Recording:
    """A session that was read from a file.

    `tables` are (schema, table) pairs, `topics` names without the `realtime:` of the wire; `duration` in seconds.
    """

    def __init__(self, header: Mapping[str, Any], entries: list[Entry]) -> None:
        self.header = dict(header)
        self.entries = entries
        self.duration = max((entry.at for entry in entries), default=0.0)
        self.tables: list[tuple[str, str]] = []
        self.topics: list[str] = []
        for entry in entries:
            if "table" in entry.data:
                name = (str(entry.data.get("schema", "public")), str(entry.data["table"]))
                if name not in self.tables:
                    self.tables.append(name)
            elif "topic" in entry.data and entry.data["topic"] not in self.topics:
                self.topics.append(str(entry.data["topic"]))
        self.topics += [name for name in self.header.get("topics", ()) if name not in self.topics]

    def __repr__(self) -> str:
        return f"<Recording of {self.duration:.1f} s, {len(self.entries)} entries>"


def read(path: str | Path) -> Recording:
    """Reads a session, also one compressed by gzip (a name that ends in `.gz`).

    A last line that was cut off, as by a killed process, is left out. Raises `RealtimeError` for what is no session or
    of a later version, and `OSError`.
    """
    path = Path(path)
    try:
        with _open(path, "rb") as file:
            return _read(path, iter(file))
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise _bad(path, f"it cannot be decompressed ({error})") from None


def _read(path: Path, lines: Iterator[bytes]) -> Recording:
    header = _object(next(lines, b""))
    if header is None or header.get("format") != FORMAT:
        raise _bad(path, f"its first line does not say {FORMAT!r}")
    version = header.get("version")
    if not isinstance(version, int) or version > VERSION:
        raise RealtimeError(
            f"{path.name} is a session of version {version}; this rtwidgets reads up to {VERSION}",
            code="RecordingTooNew",
            hint="pip install --upgrade rtwidgets",
        )
    entries: list[Entry] = []
    bad: int | None = None
    for number, line in enumerate(lines, 2):
        if bad is not None:  # only the last line may be cut off
            raise _bad(path, f"line {bad} is not a JSON object")
        data = _object(line)
        at = data.pop("at", None) if data is not None else None
        if data is None or isinstance(at, bool) or not isinstance(at, int | float):
            bad = number
            continue
        entries.append(Entry(float(at), str(data.pop("kind", "")), data))
    entries.sort(key=lambda entry: entry.at)  # by hand, a file may have been put together from two
    return Recording(header, entries)


class Writer:
    """Writes a session. Not safe for threads: everything comes from the I/O thread."""

    def __init__(self, path: Path, about: Mapping[str, Any], *, overwrite: bool) -> None:
        try:
            self._file = _open(path, "wb" if overwrite else "xb")
        except FileExistsError:
            raise RealtimeError(
                f"{path} exists already", code="FileExists", hint="give another path, or overwrite=True"
            ) from None
        started = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        self._put({"format": FORMAT, "version": VERSION, "started_at": started, **about})

    def write(self, at: float, kind: str, data: Mapping[str, Any]) -> None:
        """Adds a line. `at` in seconds since the start."""
        self._put({"at": round(at, 3), "kind": kind, **data})

    def _put(self, line: dict[str, Any]) -> None:
        data = dumps(line)
        text = data.decode()
        # A file that is handed round must hold no key, also where somebody has sent one through a chat.
        if redact(text) != text:
            data = dumps(_redacted(line))
        self._file.write(data + b"\n")

    def flush(self) -> None:
        self._file.flush()

    def close(self) -> None:
        self._file.close()


def _redacted(value: Any) -> Any:
    # By value, not in the text of a line: what looks like a password there may reach over a quote.
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, Mapping):
        return {redact(str(name)): _redacted(item) for name, item in cast("Mapping[Any, Any]", value).items()}
    if isinstance(value, list | tuple):
        return [_redacted(item) for item in cast("list[Any]", value)]
    return value


def _open(path: Path, mode: str) -> IO[bytes]:
    # For its owner alone: it may have rows that a policy hides from others.
    file = open(path, mode, opener=lambda name, flags: os.open(name, flags, 0o600))  # noqa: SIM115 - the caller closes it
    if path.suffix != ".gz":
        return cast("IO[bytes]", file)
    return cast("IO[bytes]", _Gzip(cast("IO[bytes]", file), mode[0]))


class _Gzip(gzip.GzipFile):
    """Closes the file under it, too."""

    def __init__(self, file: IO[bytes], mode: str) -> None:
        super().__init__(fileobj=file, mode="rb" if mode == "r" else "wb")
        self._under = file

    def close(self) -> None:
        try:
            super().close()
        finally:
            self._under.close()


def _object(line: bytes) -> dict[str, Any] | None:
    try:
        found = loads(line)
    except FrameError:
        return None
    return cast("dict[str, Any]", found) if isinstance(found, dict) else None


def _bad(path: Path, why: str) -> RealtimeError:
    return RealtimeError(
        f"{path.name} is not a session: {why}", code="NotARecording", hint="make one with rt.record(source, path)"
    )
