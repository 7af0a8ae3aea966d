"""Where a local server of a given name keeps its state, and what the files in there are."""

from __future__ import annotations

import os
import re
import tempfile
from pathlib import Path
from typing import Any, cast

import msgspec
import platformdirs

from rtwidgets.protocol.errors import RealtimeError


class ServerState(msgspec.Struct):
    """`state.json`: the server that runs under a name, its keys, and the control socket of its supervisor."""

    url: str
    dsn: str
    control: str
    pid: int
    jwt_secret: str
    anon_key: str
    service_key: str
    host: str = "127.0.0.1"
    limits: str | None = None


class Home:
    """The folder of one local server.

    `state.json` exists while a supervisor runs; `secrets.json` and `data/` stay from one run to the next; `error.json`
    says why the last start failed. All of it can be read by its owner alone. Raises RealtimeError where the name is
    not one of a server.
    """

    def __init__(self, name: str) -> None:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", name):
            raise RealtimeError(
                f"{name!r} cannot be the name of a local server.",
                code="BadName",
                hint="Use 1 to 64 letters, digits, '-', '_' or '.', a letter or digit first.",
            )
        base = os.environ.get("RTWIDGETS_HOME") or platformdirs.user_data_dir("rtwidgets", appauthor=False)
        self.name = name
        self.folder = Path(base).expanduser().resolve() / name
        self.state_file = self.folder / "state.json"
        self.secrets_file = self.folder / "secrets.json"
        self.error_file = self.folder / "error.json"
        self.log_file = self.folder / "supervisor.log"
        self.start_lock = self.folder / "start.lock"
        self.owner_lock = self.folder / "supervisor.lock"
        self.data_dir = self.folder / "data"

    def make(self) -> None:
        """Makes the folder. Raises RealtimeError where it cannot be written."""
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            # A file without a name: two processes may try at the same moment.
            tempfile.TemporaryFile(dir=self.folder).close()
        except OSError as error:
            raise RealtimeError(
                f"The folder {self.folder} cannot be written: {error.strerror}.",
                code="DataFolderNotWritable",
                hint="Make it writable, or set the environment variable RTWIDGETS_HOME to a folder that is.",
            ) from None

    def read_state(self) -> ServerState | None:
        """The server that runs, or that was killed: its files outlive it. None where there is none."""
        try:
            return msgspec.json.decode(self.state_file.read_bytes(), type=ServerState)
        except (OSError, msgspec.MsgspecError):
            return None

    @staticmethod
    def all() -> list[Home]:
        """Every home that has a state, whether or not its server still runs."""
        return [Home(file.parent.name) for file in sorted(Home("default").folder.parent.glob("*/state.json"))]


def default_name(name: str | None = None) -> str:
    """The name that is meant where a call or a command gives none."""
    return name or os.environ.get("RTWIDGETS_LOCAL") or "default"


def read_json(path: Path) -> dict[str, Any] | None:
    """The object in a file; None where there is none."""
    try:
        found: object = msgspec.json.decode(path.read_bytes())
    except (OSError, msgspec.DecodeError):
        return None
    return cast("dict[str, Any]", found) if isinstance(found, dict) else None


def write_json(path: Path, value: object) -> None:
    """Whole or not at all, and readable by the owner alone from its first byte on."""
    draft = path.with_suffix(".draft")
    draft.unlink(missing_ok=True)
    with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(msgspec.json.encode(value))
    draft.replace(path)
