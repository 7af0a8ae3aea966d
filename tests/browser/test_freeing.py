"""`close()` frees everything: in the page and in the kernel, after fifty times of making and closing every widget."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from .lab import Lab, run_cell

CELLS = [
    """
import gc, json, pathlib, time, ipywidgets, rtwidgets as rt
from rtwidgets.widgets.base import RtWidget
from rtwidgets.widgets.tick import tick
local = rt.local("freeing", idle_timeout=5)
local.sql("drop table if exists items; create table items (id int primary key, name text)")
local.sql("insert into items select n, 'item ' || n from generate_series(1, 300) n")
local.publish("items")
box = ipywidgets.VBox()
def once():
    room = rt.Channel("room", client=local.client)
    table = rt.LiveTable("items", order="id").wait_live()
    made = [table, table.group_by("name").agg(n=("id", "count")), rt.BroadcastFeed(room), rt.Presence(room, key="ana"),
            rt.LiveChart(table, "id", "id"), rt.ConnectionStatus(), rt.Inspector(room), rt.ChannelPanel(room),
            rt.Cursors(room)]
    box.children = made
    time.sleep(0.15)
    box.children = []
    for one in reversed(made):
        one.close()
def plain():
    box.children = made = [ipywidgets.Label("x") for _ in range(9)]
    time.sleep(0.05)
    box.children = []
    for one in made:
        one.close()
box
""",
    "for _ in range(5): once(); plain()",
    "for _ in range(50): plain()",
    "for _ in range(50): once()",
    """
gc.collect()
left = [one for one in gc.get_objects() if isinstance(one, RtWidget)]
told = {"widgets": len(left), "dirty": len(tick._due), "channels": len(local.client.aio.channels)}
pathlib.Path("left.json").write_text(json.dumps(told))
""",
]


@pytest.fixture(scope="module")
def page(lab: Lab, browser: Any) -> Iterator[Any]:
    lab.write("freeing.ipynb", CELLS[:1])
    lab.write("freeing.ipynb", CELLS)
    page = lab.open(browser, "freeing.ipynb")
    yield page
    page.context.close()


def run(page: Any, index: int) -> None:
    """Runs a cell to its end."""
    run_cell(page, index)
    prompt = page.locator(".jp-Notebook .jp-CodeCell .jp-InputArea-prompt").nth(index)
    page.wait_for_function(r"prompt => /\[\d+\]/.test(prompt.innerText)", arg=prompt.element_handle(), timeout=240_000)
    assert page.locator('[data-mime-type="application/vnd.jupyter.error"]').count() == 0


def ours(page: Any) -> list[str]:
    """The classes of our widgets' elements that the page still holds, in the document or out of it."""
    cdp = page.context.new_cdp_session(page)
    cdp.send("HeapProfiler.collectGarbage")
    prototype = cdp.send("Runtime.evaluate", {"expression": "Element.prototype"})["result"]["objectId"]
    found = cdp.send("Runtime.queryObjects", {"prototypeObjectId": prototype})["objects"]["objectId"]
    # Prototypes are among them, and have no class.
    count = """function () {
      const isOurs = one => /rtw/.test(one.getAttribute('class') ?? '');
      return this.filter(one => { try { return isOurs(one); } catch { return false; } })
        .map(one => `${one.parentElement?.getAttribute('class')} > ${one.getAttribute('class')}`);
    }"""
    answer = cdp.send(
        "Runtime.callFunctionOn", {"objectId": found, "functionDeclaration": count, "returnByValue": True}
    )
    cdp.detach()
    return answer["result"]["value"]


def listeners(page: Any) -> int:
    cdp = page.context.new_cdp_session(page)
    cdp.send("Performance.enable")
    cdp.send("HeapProfiler.collectGarbage")
    metrics = {one["name"]: one["value"] for one in cdp.send("Performance.getMetrics")["metrics"]}
    cdp.detach()
    return metrics["JSEventListeners"]


def test_nothing_is_left_after_fifty_times(page: Any, lab: Lab) -> None:
    run(page, 0)
    page.locator(".widget-vbox").wait_for(state="attached")
    run(page, 1)  # what a page keeps once and for all: code, styles
    first = listeners(page)
    run(page, 2)
    plain = listeners(page) - first
    run(page, 3)
    page.wait_for_function("document.querySelectorAll('.rtw').length === 0")
    # The last widgets are held by frames and timers that are still to come, and by messages of the kernel that a slow
    # page has yet to read.
    deadline = time.monotonic() + 180
    while (held := ours(page)) and time.monotonic() < deadline:
        page.wait_for_timeout(500)
    assert len(held) == 0, held[:20]
    # JupyterLab keeps some of its own for each widget, of ipywidgets' as of ours.
    assert listeners(page) - first - plain < 2 * plain + 100
    run(page, 4)
    left = json.loads((lab.root / "left.json").read_text())
    assert left == {"widgets": 0, "dirty": 0, "channels": 0}
