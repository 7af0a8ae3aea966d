"""One local server for the widgets' tests."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from typing import Any

import pytest
from ipywidgets.widgets import widget

import rtwidgets as rt


@pytest.fixture(scope="session")
def local() -> Iterator[rt.Local]:
    home = tempfile.mkdtemp(prefix="rtw")
    before = os.environ.get("RTWIDGETS_HOME")
    os.environ["RTWIDGETS_HOME"] = home
    started = rt.local("widgets", idle_timeout=2)
    yield started
    rt.close_all()
    started.stop()
    if before is None:
        del os.environ["RTWIDGETS_HOME"]
    else:
        os.environ["RTWIDGETS_HOME"] = before
    shutil.rmtree(home, ignore_errors=True)


@pytest.fixture
def orders(local: Any) -> Iterator[rt.Local]:
    """A published table `orders` with three rows, made anew for each test."""
    rt.set_default_client(local.client)
    local.sql("create table orders (id int primary key, item text, amount numeric(10,2), paid bool)")
    local.sql(
        "insert into orders values (1, 'apples', 2.5, true), (2, '<b>pears</b>', 4, false), (3, null, null, null)"
    )
    local.publish("orders")
    yield local
    for table in [
        one for one in widget._instances.values() if isinstance(one, rt.LiveTable) and hasattr(one, "follower")
    ]:
        table.close()  # what a failed test left open would follow the next test's table
    local.sql("drop table orders")
