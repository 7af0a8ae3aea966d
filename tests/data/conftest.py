"""A real Postgres and realtime server for this room's live tests: one for all of them, gone afterwards."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from rtwidgets.local.handle import Local, local

from ..local.processes import running_in
from ..waits import wait_until


@pytest.fixture(scope="module")
def server() -> Iterator[Local]:
    """A local server in a folder of its own; nothing may run in it afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="rtw")).resolve()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RTWIDGETS_HOME", str(folder))
        handle = local("data", idle_timeout=1)
        yield handle
        handle.stop()
    wait_until(lambda: running_in(folder) == [])
    shutil.rmtree(folder)
