"""axe-core over every widget, light and dark; what a saved notebook shows and does not hold."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest

from .lab import Lab, run_all, save, set_dark

XSS = ["<img src=x onerror=window.hit=1>", '"><svg onload=window.hit=1>', "<script>window.hit=1</script>", "</p><b>"]

CELLS = [
    """
import json, rtwidgets as rt
local = rt.local("access", idle_timeout=5)
local.sql('drop table if exists orders; create table orders (id int primary key, item text, amount numeric, paid bool)')
local.publish("orders")
local.sql("insert into orders select n, 'item ' || n, n, n % 2 = 0 from generate_series(1, 40) n")
XSS = """
    + json.dumps(XSS)
    + """
for n, text in enumerate(XSS): local.sql("insert into orders values (%s, %s, 0, null)", 100 + n, text)
""",
    "orders = rt.LiveTable('orders', order='id').wait_live()\norders",
    "room = rt.Channel('room ' + XSS[0])\nother = rt.Channel('room ' + XSS[0], client=local.connect(user=XSS[1]))\n"
    "mine = rt.Presence(other, key=XSS[2], state={XSS[0]: XSS[1], 'name': XSS[3]}).wait_live()\n"
    "online = rt.Presence(room, key='ana', state={'team': 'support'}).wait_live()\nonline",
    "chat = rt.BroadcastFeed(room, sender='ana').wait_live()\n"
    "for text in XSS: other.send('message', {'text': text, 'sender': text})\nother.send('odd', {text: text})\n"
    "import time; time.sleep(0.5)\nchat",
    "by_paid = orders.group_by('paid').agg(total=('amount', 'sum'), n=('id', 'count'))\nby_paid",
    "nothing = rt.LiveTable('no table ' + XSS[0])\nnothing",
]


@pytest.fixture(scope="module")
def page(lab: Lab, browser: Any) -> Iterator[Any]:
    lab.write("access.ipynb", CELLS)
    page = lab.open(browser, "access.ipynb")
    run_all(page)
    page.locator(".rtw-problem").filter(has_text="no table").wait_for()
    page.locator(".rtw-feed .rtw-line").first.wait_for()
    yield page
    page.context.close()


def violations(page: Any) -> list[str]:
    from axe_playwright_python.sync_playwright import Axe

    found = Axe().run(page, context=".rtw", options={"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"]})
    return [
        f"{one['id']} ({one['impact']}): {node['html'][:160]} {node['failureSummary'][:200]}"
        for one in found.response["violations"]
        for node in one["nodes"][:2]
    ]


def test_nothing_of_the_data_was_run_or_became_markup(page: Any) -> None:
    for text in XSS:
        page.locator(".rtw-feed .rtw-text").get_by_text(text, exact=True).wait_for()
    page.locator(".rtw-presence").get_by_text(XSS[3]).first.wait_for()
    page.wait_for_timeout(500)  # what was run by mistake would be run by now
    assert page.evaluate("window.hit") is None
    assert page.locator(".rtw img, .rtw script, .rtw iframe").count() == 0


def test_axe_finds_nothing_in_the_light(page: Any) -> None:
    assert violations(page) == []


def test_axe_finds_nothing_in_the_dark(page: Any, shots: Path) -> None:
    set_dark(page, True)
    page.screenshot(path=shots / "dark.png")
    try:
        assert violations(page) == []
    finally:
        set_dark(page, False)


def test_a_saved_notebook_shows_the_last_state_and_holds_no_secret(page: Any, lab: Lab, rtwidgets_home: Path) -> None:
    page.evaluate("window.jupyterapp.commands.execute('@jupyter-widgets/jupyterlab-manager:saveWidgetState')")
    text = save(page, lab, "access.ipynb")
    notebook = nbformat.reads(text, 4)
    outputs = [output["data"] for cell in notebook.cells for output in cell.outputs if "data" in output]
    assert len(outputs) == 5
    for data in outputs:
        assert "text/html" in data
        assert "as of 20" in data["text/html"]
        assert data["text/plain"]
        assert "<img" not in data["text/html"]
        assert "<script" not in data["text/html"]
    assert "item 1" in outputs[0]["text/html"]
    assert "ana" in outputs[1]["text/html"]
    state = json.loads(next(rtwidgets_home.rglob("access*/state.json")).read_text())
    for name in ("anon_key", "service_key", "jwt_secret", "dsn"):
        assert state[name] not in text
    assert "eyJ" not in text, "a JWT"
