"""Where a local server of a given name keeps its state, and what the files in there are."""

from __future__ import annotations

import json
import os
import re
import tempfile
from pathlib import Path
from typing import Any

import platformdirs

from rtwidgets.protocol.errors import RealtimeError


class Home:
    """The folder of one local server.

    `state.json` exists while a supervisor runs (url, keys, dsn, pid, control socket); `secrets.json` and `data/` stay
    from one run to the next; `error.json` says why the last start failed. All of it can be read by its owner alone.
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


def read_json(path: Path) -> dict[str, Any] | None:
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):
        return None


def write_json(path: Path, value: dict[str, Any]) -> None:
    """Whole or not at all, and readable by the owner alone from its first byte on."""
    draft = path.with_suffix(".draft")
    draft.unlink(missing_ok=True)
    with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        json.dump(value, file)
    draft.replace(path)
