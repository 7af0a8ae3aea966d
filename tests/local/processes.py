"""Waiting for processes, and finding them."""

from __future__ import annotations

from pathlib import Path

import psutil


def running_in(folder: Path) -> list[int]:
    """Every process whose command line names the folder."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        if any(str(folder) in part for part in process.info["cmdline"] or []):
            found.append(process.pid)
    return found
