"""Cells and ranges of the grid as a person uses them: copying, long texts, few rows, odd names, hidden columns."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from .lab import Lab, run_all

CELLS = [
    """
import rtwidgets as rt
local = rt.local("cells", idle_timeout=5)
local.sql('drop table if exists few, many')
local.sql('create table few (id int primary key, "constructor" text, "toString" int, body text, meta jsonb)')
local.sql("insert into few values (1, 'first', 10, repeat('long ', 20000), null)")
local.sql('create table many (id int primary key, name text, minutes int, at timestamptz)')
local.sql("insert into many select n, 'name ' || n, n, '2026-01-31 23:30Z'::timestamptz + (n - 7) * interval '1 day'"
          " from generate_series(1, 3000) n")
local.publish("few", "many")
""",
    "few = rt.LiveTable('few', order='id').wait_live()\nfew",
    "many = rt.LiveTable('many', order='id').wait_live()\nmany",
]


@pytest.fixture(scope="module")
def page(lab: Lab, browser: Any) -> Iterator[Any]:
    lab.write("cells.ipynb", CELLS)
    page = lab.open(browser, "cells.ipynb", timezone_id="Europe/Berlin")
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    run_all(page)
    page.get_by_role("gridcell", name="name 1", exact=True).wait_for()
    yield page
    page.context.close()


@pytest.fixture
def few(page: Any) -> Any:
    return page.locator(".rtw-table").first


@pytest.fixture
def many(page: Any) -> Any:
    return page.locator(".rtw-table").nth(1)


def clipboard(page: Any) -> str:
    return page.evaluate("navigator.clipboard.readText()")


def wait_copied(grid: Any, text: str) -> None:
    grid.locator(".rtw-announcer").get_by_text(text, exact=True).wait_for(state="attached")


def test_columns_called_like_names_that_every_object_has(few: Any) -> None:
    assert few.get_by_role("columnheader").all_inner_texts() == ["id", "constructor", "toString", "body", "meta"]
    texts = few.locator('.rtw-body > [role="row"] > [role="gridcell"]').all_inner_texts()
    assert texts[:3] == ["1", "first", "10"]
    few.get_by_role("button", name="filter").click()
    assert few.get_by_role("textbox", name="filter constructor").input_value() == ""
    few.get_by_role("button", name="filter").click()


def test_a_table_of_one_row_is_as_tall_as_it_and_its_menu_is_whole(few: Any, page: Any) -> None:
    height = few.locator('[role="grid"]').evaluate("grid => grid.clientHeight")
    assert height == 24 * 2
    few.get_by_role("columnheader").filter(has_text="toString").focus()
    page.keyboard.press("Alt+ArrowDown")
    menu = few.get_by_role("menu")
    last = menu.get_by_role("menuitem").last
    box = last.bounding_box()
    on_top = page.evaluate(
        "([x, y]) => document.elementFromPoint(x, y)?.textContent", [box["x"] + 20, box["y"] + box["height"] / 2]
    )
    assert on_top == last.inner_text()
    page.keyboard.press("Escape")


def test_where_all_columns_are_hidden_there_is_a_way_back(few: Any, page: Any) -> None:
    for name in ("id", "constructor", "toString", "body"):
        few.get_by_role("columnheader").filter(has_text=name).focus()
        page.keyboard.press("Alt+ArrowDown")
        few.get_by_role("menu").get_by_text("Hide", exact=True).click()
    assert few.get_by_role("columnheader").all_inner_texts() == ["meta"]
    few.get_by_role("columnheader").focus()
    page.keyboard.press("Alt+ArrowDown")
    assert few.get_by_role("menu").get_by_text("Hide", exact=True).count() == 0
    few.get_by_role("menu").get_by_text("Show all columns").click()
    assert few.get_by_role("columnheader").count() == 5


def test_a_long_text_is_read_and_copied_whole_though_only_its_beginning_travels(few: Any, page: Any) -> None:
    cell = few.locator('.rtw-body [aria-colindex="4"]').first
    assert len(cell.inner_text()) < 400
    cell.dblclick()
    reader = few.get_by_role("dialog")
    reader.wait_for()
    page.wait_for_function(
        "reader => reader.querySelector('pre').textContent.length === 100000", arg=reader.element_handle()
    )
    page.keyboard.press("Escape")
    reader.wait_for(state="hidden")
    cell.click()
    page.keyboard.press("Control+c")
    wait_copied(few, "copied")
    assert clipboard(page) == "long " * 20000


def test_copying_a_cell_gives_the_cell(many: Any, page: Any) -> None:
    many.get_by_role("gridcell", name="name 2", exact=True).click()
    page.keyboard.press("Control+c")
    wait_copied(many, "copied")
    assert clipboard(page) == "name 2"


def test_a_range_and_all_rows_are_selected_though_most_are_not_loaded(many: Any, page: Any) -> None:
    many.get_by_role("gridcell", name="name 2", exact=True).click()
    many.locator('[role="grid"]').evaluate("grid => (grid.scrollTop = 24 * 1500)")
    many.get_by_role("gridcell", name="name 1505", exact=True).click(modifiers=["Shift"])
    many.locator(".rtw-facts").filter(has_text="1,504 selected").wait_for()
    page.keyboard.press("Control+c")
    wait_copied(many, "copied 1,504 rows")
    lines = clipboard(page).splitlines()
    assert (len(lines), lines[0]) == (1505, "id\tname\tminutes\tat")
    assert [line.split("\t")[1] for line in (lines[1], lines[-1])] == ["name 2", "name 1505"]
    page.keyboard.press("Control+a")
    many.locator(".rtw-facts").filter(has_text="3,000 selected").wait_for()
    page.keyboard.press("Escape")
    many.locator('[role="grid"]').evaluate("grid => (grid.scrollTop = 0)")


def test_what_is_searched_is_what_is_shown(many: Any) -> None:
    shown = many.get_by_role("gridcell", name="2026-02-01 00:30:00", exact=True)
    shown.wait_for()
    search = many.get_by_role("searchbox")
    search.fill('"2026-02-01 00:30"')
    many.locator(".rtw-facts").filter(has_text="1 of 3,000 rows").wait_for()
    shown.wait_for()
    search.fill('"2026-01-31 23:30"')
    many.locator(".rtw-facts").filter(has_text="0 of 3,000 rows").wait_for()
    search.fill("")
    many.locator(".rtw-facts").filter(has_text="3,000 rows").filter(has_not_text="of").wait_for()


def test_a_sorted_header_is_not_cut(many: Any) -> None:
    header = many.get_by_role("columnheader").filter(has_text="minutes")
    header.click()
    header.and_(many.locator('[aria-sort="ascending"]')).wait_for()
    name = many.get_by_role("columnheader").filter(has_text="name")
    name.click(modifiers=["Shift"])
    for one in (header, name):
        assert one.locator(".rtw-label").evaluate("label => label.scrollWidth <= label.clientWidth")
    header.click()
    header.click()
    header.and_(many.locator("[aria-sort]")).wait_for(state="detached")
