"""Finds what `connect()` without arguments connects to: the environment's project, or the running local server."""

from __future__ import annotations

import contextlib
import json
import os
import socket
from pathlib import Path
from typing import Any, NamedTuple, cast


class Found(NamedTuple):
    """Where to connect."""

    url: str
    key: str


def find() -> Found | None:
    """SUPABASE_URL and SUPABASE_KEY, else the local server that runs under the default name, else None."""
    url, key = os.environ.get("SUPABASE_URL"), os.environ.get("SUPABASE_KEY")
    if url and key:
        return Found(url, key)
    return None if url else running_local()


def running_local() -> Found | None:
    """URL and anonymous key of the local server that runs under the default name, by the files that it keeps."""
    folder = local_folder(os.environ.get("RTWIDGETS_LOCAL") or "default")
    if folder is None:
        return None
    try:
        state = cast("dict[str, Any]", json.loads((folder / "state.json").read_text()))
        if _listens(str(state["control"])):
            return Found(str(state["url"]), str(state["anon_key"]))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):  # no AF_UNIX on Windows
        pass
    return None


def local_folder(name: str) -> Path | None:
    """Where the local server of a name keeps its files; None where the extra `local` is not installed."""
    base = os.environ.get("RTWIDGETS_HOME")
    if not base:
        try:
            import platformdirs
        except ImportError:
            return None
        base = platformdirs.user_data_dir("rtwidgets", appauthor=False)
    return Path(base).expanduser().resolve() / name


def _listens(control: str) -> bool:
    """Whether a supervisor answers on its control socket: its files outlive one that was killed."""
    with contextlib.closing(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)) as connection:
        connection.settimeout(5)
        connection.connect(control)
        connection.sendall(b'{"do": "status"}\n')
        return bool(connection.recv(1))
