"""Chart, connection, inspector, panel and cursors in a real page: seen, used, linked, in the dark, and without harm."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from .lab import Lab, blocked, run_all, set_dark
from .test_access_and_saving import XSS, violations

CELLS = [
    """
import json, ipywidgets, rtwidgets as rt
local = rt.local("more", idle_timeout=5)
local.sql("drop table if exists prices")
local.sql("create table prices (id serial primary key, at timestamptz default clock_timestamp(), who text, price real)")
local.publish("prices")
local.sql(
    "insert into prices (at, who, price)"
    " select now() - (120 - n) * interval '1 s', 'shop ' || n % 3, 10 + n % 7 from generate_series(1, 120) n"
)
XSS = """
    + json.dumps(XSS)
    + """
for text in XSS: local.sql("insert into prices (who, price) values (%s, 12)", text)
prices = rt.LiveTable("prices", order="id").wait_live()
room = rt.Channel("lounge", presence_key="ana")
beside = rt.Channel("lounge", client=local.connect(user="ben"), presence_key=XSS[0])
online = rt.Presence(beside, key=XSS[0], state={"name": XSS[1]}).wait_live()
from pathlib import Path; Path("more.dsn").write_text(local.dsn)
""",
    "chart = rt.LiveChart(prices, 'at', 'price', by='who')\nchart",
    "bars = rt.LiveChart(prices.group_by('who').agg(n=('id', 'count')), 'who', 'n', kind='bar')\nbars",
    "connection = rt.ConnectionStatus()\nconnection",
    "inspector = rt.Inspector(room)\ninspector",
    "panel = rt.ChannelPanel(room)\npanel",
    "cursors = rt.Cursors('board', key='ana')\n"
    "others = rt.Cursors(rt.Channel('board', client=local.connect()), key=XSS[2])\n"
    "ipywidgets.HBox([cursors, others])",
    "number = ipywidgets.IntText(description='rows')\nlink = ipywidgets.jslink((prices, 'count'), (number, 'value'))\n"
    "ipywidgets.VBox([number, ipywidgets.Accordion([online], titles=['who'])])",
    "import time\nfrom pathlib import Path\nwhile Path('block').exists(): time.sleep(0.1)",
]


@pytest.fixture(scope="module")
def page(lab: Lab, browser: Any) -> Iterator[Any]:
    lab.write("more.ipynb", CELLS)
    page = lab.open(browser, "more.ipynb")
    run_all(page)
    page.locator(".rtw-chart canvas").first.wait_for()
    page.locator(".rtw-panel button:enabled").first.wait_for()
    yield page
    page.context.close()


@pytest.fixture(scope="module")
def database(page: Any, lab: Lab) -> Iterator[Any]:
    with psycopg.connect((lab.root / "more.dsn").read_text(), autocommit=True) as connection:
        yield connection


def painted(page: Any) -> str:
    """The first chart's pixels."""
    return page.locator(".rtw-chart canvas").first.evaluate("canvas => canvas.toDataURL()")


def test_a_chart_moves_while_a_cell_blocks(page: Any, database: Any, lab: Lab) -> None:
    with blocked(page, lab, len(CELLS) - 1):
        before = painted(page)
        database.execute("insert into prices (who, price) select 'shop 1', 30 + n from generate_series(1, 5) n")
        page.wait_for_function(
            "before => document.querySelector('.rtw-chart canvas').toDataURL() !== before", arg=before
        )


def test_a_linked_number_follows(page: Any, database: Any) -> None:
    database.execute("insert into prices (who, price) values ('shop 2', 11)")
    (rows,) = database.execute("select count(*) from prices").fetchone()
    page.wait_for_function("want => document.querySelector('.widget-text input[type=number]').value == want", arg=rows)


def test_the_panel_calls_and_the_inspector_tells(page: Any) -> None:
    panel, inspector = page.locator(".rtw-panel"), page.locator(".rtw-inspector")
    panel.get_by_role("button", name="subscribe", exact=True).click()
    panel.locator(".rtw-done").nth(0).wait_for()
    panel.get_by_role("button", name="track", exact=True).click()
    panel.locator(".rtw-done").nth(1).wait_for()
    panel.get_by_role("textbox", name="payload, a JSON object").fill(json.dumps({"text": XSS[0]}))
    panel.get_by_role("button", name="send").click()
    panel.locator(".rtw-done").nth(2).wait_for()
    panel.get_by_role("textbox", name="payload, a JSON object").fill("{no json")
    panel.get_by_role("button", name="send").click()
    assert "this is not JSON" in panel.locator(".rtw-failed").inner_text()
    inspector.get_by_text("asks to join lounge").wait_for()
    said = inspector.get_by_text("broadcast 'message' on lounge")
    said.first.wait_for()
    said.first.click()
    inspector.locator("pre").get_by_text("onerror").wait_for()
    inspector.get_by_role("searchbox").fill("accepted")
    inspector.locator(".rtw-line").first.wait_for()
    page.wait_for_function(
        """[...document.querySelectorAll('.rtw-inspector .rtw-line summary')]
            .every(line => /accepted/.test(line.textContent))"""
    )
    inspector.get_by_role("searchbox").fill("")
    with page.expect_download() as download:
        inspector.get_by_role("button", name="export").click()
    lines = [json.loads(line) for line in Path(download.value.path()).read_text().splitlines()]
    assert any(line["frame"]["event"] == "phx_join" for line in lines)


def test_the_connection_opens_to_its_details(page: Any) -> None:
    connection = page.locator(".rtw-connection")
    assert "connected" in connection.inner_text()
    connection.locator("summary, button").first.click()
    connection.get_by_text("lounge").first.wait_for()


def test_a_pointer_is_seen_on_the_other_board(page: Any) -> None:
    boards = page.locator(".rtw-cursors")
    boards.nth(0).scroll_into_view_if_needed()
    box = boards.nth(0).locator(".rtw-board").bounding_box()
    for step in range(8):
        page.mouse.move(box["x"] + 60 + 10 * step, box["y"] + 90)
        page.wait_for_timeout(60)
    theirs = boards.nth(1).locator(".rtw-board .rtw-pointer").filter(has_text="ana")
    theirs.wait_for()
    # It comes to stand where the hand stood, as a share of the board.
    page.wait_for_function(
        """([pointer, x, y]) => {
          const board = pointer.parentElement.getBoundingClientRect();
          const at = pointer.getBoundingClientRect();
          return Math.abs((at.left - board.left) / board.width - x) < 0.02
              && Math.abs((at.top - board.top) / board.height - y) < 0.05;
        }""",
        arg=[theirs.element_handle(), 130 / box["width"], 90 / box["height"]],
    )
    assert theirs.get_by_text("ana").count() == 1


def test_light_and_dark_and_no_harm(page: Any, shots: Path) -> None:
    page.wait_for_timeout(300)
    assert page.evaluate("window.hit") is None
    assert page.locator(".rtw img, .rtw script, .rtw iframe").count() == 0
    page.locator(".rtw-chart").first.scroll_into_view_if_needed()
    page.screenshot(path=shots / "more.png")
    assert violations(page) == []
    set_dark(page, True)
    page.screenshot(path=shots / "more_dark.png")
    assert violations(page) == []


def test_all_say_that_the_kernel_has_stopped(page: Any) -> None:
    page.evaluate("void window.jupyterapp.shell.currentWidget.sessionContext.session.kernel.restart()")
    page.wait_for_function(
        "() => [...document.querySelectorAll('.rtw')].every(one => /The kernel has stopped/.test(one.textContent))",
        timeout=30_000,
    )
    assert page.locator(".rtw").count() == 8
