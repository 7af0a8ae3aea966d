"""Short folders for Unix sockets, readable by their owner alone and removed after it ends, kill -9 included.

A socket's path has at most 107 bytes (103 on macOS). An owner has a lock in its folder, which the kernel releases
whatever ends the process: the next one to make a folder removes those without an owner.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import tempfile
import time
from pathlib import Path

import filelock

from rtwidgets.local.launch import NOBODY

BASE = Path("/tmp")
PREFIX = "rtw-"
_LOCK = "owner.lock"
_SETTLED = 60.0
"""Seconds after which an empty folder without a lock has no owner, who makes both at once."""


class SocketFolder:
    """A new folder, `.path`, mode 0700. Removes those without an owner first."""

    def __init__(self) -> None:
        sweep()
        while True:
            self.path = Path(tempfile.mkdtemp(prefix=PREFIX, dir=BASE))
            self._lock = filelock.FileLock(self.path / _LOCK, mode=0o600)
            with contextlib.suppress(filelock.Timeout, OSError):  # a sweep came between: another folder, then
                self._lock.acquire(blocking=False)
                break

    def remove(self) -> None:
        """Safe to call twice."""
        shutil.rmtree(self.path, ignore_errors=True)
        self._lock.release()


def sweep() -> list[Path]:
    """Removes this user's folders that no living process owns. Returns them."""
    removed: list[Path] = []
    owners = {os.geteuid(), NOBODY} if os.geteuid() == 0 else {os.geteuid()}
    for folder in BASE.glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError, filelock.Timeout):
            found = folder.lstat()
            if not stat.S_ISDIR(found.st_mode) or found.st_uid not in owners or _postgres_lives(folder):
                continue
            if not (folder / _LOCK).exists():
                if time.time() - found.st_mtime < _SETTLED:
                    continue
                folder.rmdir()  # not if it holds something: then it is somebody else's, who likes the same prefix
            else:
                with filelock.FileLock(folder / _LOCK, blocking=False):
                    shutil.rmtree(folder)
            removed.append(folder)
    return removed


def _postgres_lives(folder: Path) -> bool:
    """Whether a Postgres still listens there: on some systems it outlives its owner, and so the lock."""
    for file in folder.glob(".s.PGSQL.*.lock"):
        try:
            os.kill(int(file.read_text().split()[0]), 0)
        except (ProcessLookupError, ValueError, IndexError):
            continue
        except OSError:
            pass
        return True
    return False
