"""No key, token or password reaches a log line."""

from __future__ import annotations

import importlib
import logging
import pkgutil
from pathlib import Path

import pytest

from rtwidgets.local import supervisor
from rtwidgets.local.auth import mint

from .conftest import SECRET

TOKEN = mint(SECRET, "anon")


def test_every_logger_of_this_room_takes_secrets_out() -> None:
    for module in pkgutil.iter_modules([str(Path(supervisor.__file__).parent)]):
        if module.name != "launch":  # a script
            importlib.import_module(f"rtwidgets.local.{module.name}")
    names = [name for name in logging.root.manager.loggerDict if name.startswith("rtwidgets.local")]
    assert {"rtwidgets.local", "rtwidgets.local.server", "rtwidgets.local.delivery"} <= set(names)
    for name in names:
        record = logging.LogRecord(name, logging.WARNING, "", 0, "the policies of %r failed", (TOKEN,), None)
        if isinstance(logging.root.manager.loggerDict[name], logging.Logger):
            assert logging.getLogger(name).filter(record)
            assert TOKEN not in record.getMessage()


def test_the_supervisors_log_takes_them_out_of_everybodys_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = logging.RootLogger(logging.WARNING)
    monkeypatch.setattr(logging, "root", root)
    file = tmp_path / "supervisor.log"
    supervisor.log_to(file)
    try:
        try:
            raise ValueError(f"GET /realtime/v1/websocket?apikey={TOKEN}")
        except ValueError:
            root.exception("of another library: %s", "host=there user=me password=topsecret dbname=it")
        written = file.read_text()
    finally:
        for handler in root.handlers:
            handler.close()
    assert "another library" in written
    assert "ValueError" in written
    assert TOKEN not in written
    assert "topsecret" not in written
