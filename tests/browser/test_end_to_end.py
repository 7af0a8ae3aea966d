"""The main job, seen in the page: a table fed by a real Postgres, a chat between two notebooks, a count of people."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .lab import Lab, blocked, run_all, run_cell, wait_idle

SETUP = """
import rtwidgets as rt
local = rt.local("e2e", idle_timeout=5)
local.sql("create table if not exists orders (id int primary key, item text, amount numeric(10,2), paid bool)")
local.publish("orders")
"""

BOARD = [
    SETUP,
    "orders = rt.LiveTable('orders', order='id')\norders",
    "room = rt.Channel('support-chat')\nonline = rt.Presence(room, key='ana', state={'team': 'support'})\nonline",
    "chat = rt.BroadcastFeed(room, 'message', sender='ana')\nchat",
    "import pathlib, time\nwhile pathlib.Path('block').exists(): time.sleep(0.1)",
    "pathlib.Path('seen.txt').write_text(f'{orders.df.to_dict(\"records\")}|{chat.messages}|{online.count}')",
]

GUEST = [
    "import rtwidgets as rt\nlocal = rt.local('e2e', idle_timeout=5)",
    "room = rt.Channel('support-chat')\nonline = rt.Presence(room, key='bob', state={'team': 'support'})\nonline",
    "chat = rt.BroadcastFeed(room, 'message', sender='bob')\nchat",
    "import pathlib\nif pathlib.Path('leave').exists(): rt.close_all()",
]


@pytest.fixture(scope="module")
def board(lab: Lab, browser: Any) -> Iterator[Any]:
    lab.write("board.ipynb", BOARD)
    page = lab.open(browser, "board.ipynb")
    run_all(page)
    yield page
    page.context.close()


@pytest.fixture(scope="module")
def guest(lab: Lab, browser: Any, board: Any) -> Iterator[Any]:
    lab.write("guest.ipynb", GUEST)
    page = lab.open(browser, "guest.ipynb")
    run_all(page)
    yield page
    page.context.close()


@pytest.fixture(scope="module")
def database(board: Any) -> Iterator[Any]:
    """Another connection to the same Postgres: what a colleague or an app would do."""
    import psycopg

    import rtwidgets as rt

    local = rt.local("e2e", idle_timeout=5)
    with psycopg.connect(local.dsn, autocommit=True) as connection:
        yield connection
    rt.close_all()


def cell(page: Any, text: str) -> Any:
    return page.locator('[role="grid"] [role="gridcell"]').filter(has_text=text)


def test_a_row_appears_changes_and_vanishes(board: Any, database: Any, shots: Path) -> None:
    database.execute("insert into orders values (1, 'apples', 12.50, false)")
    cell(board, "apples").wait_for()
    database.execute("update orders set item = 'pears' where id = 1")
    cell(board, "pears").wait_for()
    assert cell(board, "apples").count() == 0
    board.screenshot(path=shots / "end_to_end.png")
    database.execute("delete from orders where id = 1")
    cell(board, "pears").wait_for(state="detached")


def test_the_table_moves_while_a_cell_blocks(board: Any, database: Any, lab: Lab) -> None:
    with blocked(board, lab, 4):
        for number in range(5):
            database.execute("insert into orders values (%s, %s, 1, true)", (100 + number, f"during-{number}"))
            cell(board, f"during-{number}").wait_for()
    database.execute("delete from orders where id >= 100")
    cell(board, "during-4").wait_for(state="detached")


def wait_count(page: Any, count: int) -> None:
    shown = "document.querySelector('.rtw-presence .rtw-count').textContent.trim()"
    page.wait_for_function(f"{shown} === '{count}'")


def test_presence_goes_one_two_one(board: Any, guest: Any, lab: Lab) -> None:
    wait_count(board, 2)
    wait_count(guest, 2)
    (lab.root / "leave").touch()
    run_cell(guest, 3)
    wait_idle(guest)
    wait_count(board, 1)
    (lab.root / "leave").unlink()
    run_all(guest)
    wait_count(board, 2)


def test_a_chat_line_crosses_between_two_notebooks(board: Any, guest: Any, shots: Path) -> None:
    box = guest.locator(".rtw-feed").get_by_role("textbox")
    box.fill("is gate B12 <b>open</b>?")
    box.press("Enter")
    line = board.locator(".rtw-feed [role=list]").get_by_text("is gate B12 <b>open</b>?")
    line.wait_for()
    answer = board.locator(".rtw-feed").get_by_role("textbox")
    answer.fill("yes, since noon")
    answer.press("Enter")
    guest.locator(".rtw-feed [role=list]").get_by_text("yes, since noon").wait_for()
    board.screenshot(path=shots / "end_to_end_chat.png")


def test_the_variables_hold_what_the_page_shows(board: Any, guest: Any, lab: Lab, database: Any) -> None:
    database.execute("insert into orders values (7, 'quinces', 3.25, true)")
    cell(board, "quinces").wait_for()
    run_cell(board, 5)
    wait_idle(board)
    rows, messages, count = (lab.root / "seen.txt").read_text().split("|")
    assert "quinces" in rows
    assert "3.25" in rows
    assert "is gate B12" in messages
    assert count == "2"
