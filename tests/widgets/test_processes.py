"""Widgets where their process forks or ends: each script runs in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest


def run_script(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = (sys.executable, "-c", textwrap.dedent(script), *arguments)
    return subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=Path(__file__).parents[2])


FORKED = """
import os, sys, time
import pandas as pd
import rtwidgets as rt

rt.connect(sys.argv[1], sys.argv[2])
orders = rt.LiveTable("orders", order="id").wait_live()
chat = rt.BroadcastFeed("chat", "message")
made = {
    "table": orders,
    "groups": orders.group_by("paid").agg(n=("id", "count")),
    "chart": rt.LiveChart(orders, "id", "amount"),
    "view": rt.live(orders)(len),
    "feed": chat,
    "presence": rt.Presence("room", key="ana"),
    "status": rt.ConnectionStatus(),
}
alert = orders.when(lambda df: len(df) > 3, lambda df: print("the parent's alert"))
seen = []
orders.observe(seen.append, "status")
while any(one.status not in ("live", "joined", "connected") for one in made.values()):
    time.sleep(0.01)
pid = os.fork()
if pid:
    _, status = os.waitpid(pid, 0)
    print("parent", os.waitstatus_to_exitcode(status), {name: one.status for name, one in made.items()}, len(orders.df))
    sys.exit()

for name, one in made.items():
    assert "fork" in one.error and "anew" in one.error, (name, one.error)
print("child", {one.status for one in made.values()}, {one.closed for one in made.values()}, len(seen))
print(orders, len(orders.df), len(made["groups"].df), alert.cancelled)
started = time.monotonic()
for call in (orders.wait_live, orders.verify, made["groups"].wait_live, lambda: chat.channel.send("message", {})):
    try:
        call()
        print("no error")
    except rt.RealtimeError as error:
        assert error.code == "Closed" and "fork" in error.message, error
for one in made.values():
    assert one.status == "closed" and "fork" in one.error, one
    one.close()
assert time.monotonic() - started < 5, "nothing waits for the threads of the parent"
rt.connect(sys.argv[1], sys.argv[2])
own = rt.LiveTable("orders").wait_live()
view = rt.live(own, max_fps=50)(lambda df: len(df))
while view.value != 3 or own.count != 3:
    time.sleep(0.01)
print("its own", own.status, flush=True)
rt.close_all()
started = time.monotonic()
import atexit
atexit.register(lambda: print("left in time" if time.monotonic() - started < 5 else "late", flush=True))
sys.exit(3)
"""


@pytest.mark.pg
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_forked_child_inherits_closed_widgets(orders: Any) -> None:
    """They went on saying `live`, with rows that nothing followed."""
    done = run_script(FORKED, orders.url, orders.anon_key)
    assert done.stderr == ""
    assert done.stdout.splitlines() == [
        "child {'closed'} {True} 0",
        "<LiveTable public.orders: 3 rows, closed> 3 2 True",
        "its own live",
        "left in time",
        "parent 3 {'table': 'live', 'groups': 'live', 'chart': 'live', 'view': 'live', 'feed': 'joined', "
        "'presence': 'joined', 'status': 'connected'} 3",
    ]


ENDS = """
import atexit, time
import pandas as pd, traitlets
import rtwidgets as rt

class Source(traitlets.HasTraits):
    revision = traitlets.Int(0)
    rows = [1.0, 2.0]

    @property
    def df(self):
        return pd.DataFrame({"x": range(len(self.rows)), "amount": self.rows})

    def add(self):
        self.rows = [*self.rows, 3.0]
        self.revision += 1

source = Source()
view = rt.live(source, max_fps=100)(lambda df: len(df))
chart = rt.LiveChart(source, "x", "amount")
chart._receive(chart, {"view": "page", "kind": "hello", "wants": {"width": 400, "height": 200}}, [])
alert = chart.when(lambda df: len(df) > 2, lambda df: None)
time.sleep(0.3)
ran = view.revision

def change_late():
    source.add()
    time.sleep(0.5)  # the I/O thread goes on, and workers start no more
    print("made due", ran, view.revision)

atexit.register(change_late)
"""


@pytest.mark.slow
def test_a_script_that_ends_with_a_view_due_ends_quietly() -> None:
    """It ended with "cannot schedule new futures after interpreter shutdown"."""
    done = run_script(ENDS)
    assert (done.returncode, done.stdout, done.stderr) == (0, "made due 1 1\n", "")
