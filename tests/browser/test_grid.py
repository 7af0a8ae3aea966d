"""The grid as a person uses it: real JupyterLab, real Chromium, a table of 3,000 rows that moves."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ..waits import wait_until
from .lab import Lab, run_all, run_cell, save, wait_idle

CELLS = [
    """
import rtwidgets as rt
local = rt.local("grid", idle_timeout=5)
local.sql('drop table if exists items')
local.sql('create table items (id int primary key, name text, price numeric(10,2), at timestamptz, tags jsonb)')
local.publish("items")
local.sql('''insert into items select n, 'item ' || n, n * 1.5, '2026-01-01Z'::timestamptz + n * interval '1 minute',
             case when n % 3 = 0 then jsonb_build_object('n', n) end from generate_series(1, 3000) n''')
""",
    "items = rt.LiveTable('items', order='id').wait_live()\nitems",
    "items",
    "import json, pathlib\npathlib.Path('said.json').write_text(json.dumps(eval(pathlib.Path('ask.py').read_text())))",
]

XSS = [
    "<img src=x onerror=window.hit=1>",
    "<script>window.hit=1</script>",
    '"><svg onload=window.hit=1>',
    "javascript:window.hit=1",
    "{{constructor.constructor('window.hit=1')()}}",
    "<iframe srcdoc='<script>parent.hit=1</script>'>",
    "</textarea><script>window.hit=1</script>",
    "\u202e<b onmouseover=window.hit=1>x</b>",
]


@pytest.fixture(scope="module")
def page(lab: Lab, browser: Any) -> Iterator[Any]:
    lab.write("grid.ipynb", CELLS)
    page = lab.open(browser, "grid.ipynb")
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    (lab.root / "ask.py").write_text("0")
    run_all(page)
    page.locator(".rtw-table").first.scroll_into_view_if_needed()
    first = page.locator(".rtw-table").first
    first.locator('[role="gridcell"]').filter(has_text="item 1").first.wait_for()
    yield page
    page.context.close()


@pytest.fixture
def grid(page: Any) -> Iterator[Any]:
    """The first of the two views, as it was at the beginning."""
    first = page.locator(".rtw-table").first
    yield first
    page.keyboard.press("Escape")


@pytest.fixture(scope="module")
def database(page: Any) -> Iterator[Any]:
    import psycopg

    import rtwidgets as rt

    with psycopg.connect(rt.local("grid", idle_timeout=5).dsn, autocommit=True) as connection:
        yield connection
    rt.close_all()


@pytest.fixture
def ask(page: Any, lab: Lab) -> Callable[[str], Any]:
    """Has the kernel evaluate an expression."""

    def ask(expression: str) -> Any:
        (lab.root / "ask.py").write_text(expression)
        run_cell(page, 3)
        wait_idle(page)
        return json.loads((lab.root / "said.json").read_text())

    return ask


def header(grid: Any, name: str) -> Any:
    return grid.get_by_role("columnheader").filter(has_text=name)


def column(grid: Any, place: int) -> list[str]:
    """Texts of a column's cells, in the order of rows seen."""
    return grid.evaluate(
        """(grid, place) => [...grid.querySelectorAll('.rtw-body > [role=row]')]
            .sort((a, b) => a.getAttribute('aria-rowindex') - b.getAttribute('aria-rowindex'))
            .map(row => row.querySelector(`[aria-colindex="${place}"]`)?.textContent)""",
        place,
    )


def wait_first(grid: Any, place: int, text: str) -> None:
    wait_row(grid, 2, place, text)


def wait_row(grid: Any, index: int, place: int, text: str) -> None:
    """Waits until the row with this `aria-rowindex` has this text in a column."""
    grid.page.wait_for_function(
        """([grid, index, place, text]) => {
            const row = grid.querySelector(`.rtw-body > [role=row][aria-rowindex="${index}"]`);
            return row?.querySelector(`[aria-colindex="${place}"]`)?.textContent === text;
        }""",
        arg=[grid.element_handle(), index, place, text],
    )


def wait_facts(grid: Any, text: str) -> None:
    for _ in range(150):
        if text in facts(grid):
            return
        grid.page.wait_for_timeout(100)
    raise AssertionError(f"{text!r} is not in {facts(grid)!r}, {grid.get_by_role('searchbox').input_value()!r}")


def facts(grid: Any) -> str:
    return grid.locator(".rtw-facts").inner_text()


def scroller(grid: Any) -> Any:
    return grid.locator('[role="grid"]')


def test_it_is_a_grid_for_a_screen_reader(grid: Any) -> None:
    assert scroller(grid).get_attribute("aria-rowcount") == "3001"
    assert scroller(grid).get_attribute("aria-colcount") == "5"
    assert grid.get_by_role("columnheader").count() == 5
    assert grid.locator('[tabindex="0"][role="gridcell"], [tabindex="0"][role="columnheader"]').count() == 1
    assert "3,000 rows" in facts(grid)


def test_only_rows_near_the_view_are_elements(grid: Any) -> None:
    assert grid.locator(".rtw-body > [role=row]").count() < 60


def test_scrolling_stays_where_it_is_while_rows_come_above(grid: Any, database: Any) -> None:
    scroller(grid).evaluate("element => (element.scrollTop = 24 * 1500)")
    grid.get_by_role("gridcell", name="item 1501", exact=True).wait_for()
    where = "cell => cell.getBoundingClientRect().top"
    before = grid.get_by_role("gridcell", name="item 1505", exact=True).evaluate(where)
    database.execute("insert into items select -n, 'above', 1, now(), null from generate_series(1, 50) n")
    wait_facts(grid, "3,050 rows")
    grid.page.wait_for_timeout(300)
    after = grid.get_by_role("gridcell", name="item 1505", exact=True).evaluate(where)
    assert abs(after - before) <= 1
    database.execute("delete from items where id < 0")
    wait_facts(grid, "3,000 rows")
    scroller(grid).evaluate("element => (element.scrollTop = 0)")
    wait_first(grid, 1, "1")


def test_sorting_by_one_column_and_by_two(grid: Any) -> None:
    def sorting(name: str) -> str | None:
        return header(grid, name).get_attribute("aria-sort")

    header(grid, "price").click()
    header(grid, "price").click()
    wait_first(grid, 1, "3000")
    assert sorting("price") == "descending"
    # Two rows of three have no tags: they stand last, both ways, and among each other by the second column.
    header(grid, "tags").click()
    wait_first(grid, 1, "3")
    header(grid, "tags").click()
    wait_first(grid, 1, "3000")
    header(grid, "id").click(modifiers=["Shift"])
    scroller(grid).evaluate("element => (element.scrollTop = 1e9)")
    wait_row(grid, 3001, 1, "2999")
    header(grid, "id").click(modifiers=["Shift"])
    scroller(grid).evaluate("element => (element.scrollTop = 1e9)")
    wait_row(grid, 3001, 1, "1")
    assert [sorting(name) for name in ("price", "tags", "id")] == [None, "descending", "descending"]
    header(grid, "tags").click()
    wait_first(grid, 1, "1")
    assert sorting("tags") is None


def test_search_and_filters_leave_what_matches(grid: Any, database: Any) -> None:
    search = grid.get_by_role("searchbox")
    search.fill('"item 29"')
    wait_facts(grid, "111 of 3,000 rows")
    wait_first(grid, 2, "item 29")
    database.execute("update items set name = 'renamed' where id = 29")
    wait_first(grid, 2, "item 290")
    database.execute("update items set name = 'item 29' where id = 29")
    wait_first(grid, 2, "item 29")
    search.fill("")
    grid.get_by_role("button", name="filter").click()
    grid.get_by_role("textbox", name="filter price").fill(">=4497")
    wait_facts(grid, "3 of 3,000 rows")
    assert column(grid, 1) == ["2998", "2999", "3000"]
    grid.get_by_role("textbox", name="filter price").fill(">=lots")
    wait_facts(grid, "not a number")
    grid.get_by_role("button", name="filter").click()
    wait_first(grid, 1, "1")


def test_selection_is_a_trait_both_ways_and_outlives_changes(grid: Any, database: Any, ask: Any) -> None:
    grid.get_by_role("gridcell", name="item 2", exact=True).click()
    grid.get_by_role("gridcell", name="item 4", exact=True).click(modifiers=["Control"])
    database.execute("update items set price = price + 1 where id in (2, 4)")
    database.execute("update items set price = price - 1 where id in (2, 4)")
    said = "[items.selected, items.selected_df['name'].tolist()]"
    wait_until(lambda: ask(said) == [[2, 4], ["item 2", "item 4"]])
    assert grid.locator('[aria-selected="true"]').count() == 2
    ask("setattr(items, 'selected', [3])")
    grid.page.wait_for_function(
        "grid => grid.querySelector('[aria-selected=true]')?.getAttribute('aria-rowindex') === '4'",
        arg=grid.element_handle(),
    )
    ask("setattr(items, 'selected', [])")


def test_pausing_holds_changes_and_counts_them(grid: Any, database: Any) -> None:
    # What was changed before must not be still under way, or it would wait as well.
    database.execute("update items set name = 'before the pause' where id = 1")
    wait_first(grid, 2, "before the pause")
    grid.get_by_role("button", name="pause").click()
    grid.page.wait_for_function("grid => grid.textContent.includes('resume')", arg=grid.element_handle())
    database.execute("update items set name = 'after the pause' where id = 1")
    grid.get_by_role("button", name="resume (1)").wait_for()
    assert column(grid, 2)[0] == "before the pause"
    grid.get_by_role("button", name="resume").click()
    wait_first(grid, 2, "after the pause")
    database.execute("update items set name = 'item 1' where id = 1")
    wait_first(grid, 2, "item 1")


def test_a_changed_cell_flashes_and_a_new_row_is_marked(grid: Any, database: Any) -> None:
    grid.locator(".rtw-flash, .rtw-new").first.wait_for(state="detached")
    # A mark is there for less than a second: noted by an observer, since a busy machine may look too late.
    grid.evaluate(
        """grid => {
          window.marked = new Set();
          new MutationObserver(() => {
            for (const one of grid.querySelectorAll('.rtw-flash, .rtw-new')) {
              const row = one.closest('[role=row]').querySelector('[aria-colindex="1"]').textContent;
              const cell = one.getAttribute('aria-colindex');
              window.marked.add(one.matches('.rtw-new') ? `new ${row}` : `cell ${row} ${cell}`);
            }
          }).observe(grid, { subtree: true, attributes: true, childList: true });
        }"""
    )
    database.execute("update items set price = 99 where id = 3")
    grid.page.wait_for_function("window.marked.has('cell 3 3')")
    database.execute("insert into items values (0, 'new', 1, now(), null)")
    grid.page.wait_for_function("window.marked.has('new 0')")
    assert grid.page.evaluate("[...window.marked].sort()") == ["cell 3 3", "new 0"], "what did not change is not marked"
    database.execute("delete from items where id = 0")
    wait_first(grid, 1, "1")


def test_a_row_that_goes_is_shown_going_and_moves_nothing_else(grid: Any, database: Any) -> None:
    database.execute("insert into items values (0, 'about to go', 1, now(), null)")
    wait_first(grid, 1, "0")
    grid.get_by_role("gridcell", name="item 4", exact=True).click()
    grid.locator(".rtw-flash, .rtw-new, .rtw-leaving").first.wait_for(state="detached")
    grid.page.wait_for_timeout(1300)  # a place where a row went, as in the test before, takes no other for a moment
    box = grid.bounding_box()
    grid.evaluate(
        """grid => {
          window.left = [];
          const seen = new Set();
          new MutationObserver(() => {
            for (const one of grid.querySelectorAll('.rtw-leaving')) {
              if (seen.has(one)) continue;
              seen.add(one);
              const style = getComputedStyle(one), top = one.parentElement.getBoundingClientRect().top;
              window.left.push({
                texts: [...one.children].map(cell => cell.textContent).slice(0, 2),
                y: Math.round(one.getBoundingClientRect().top - top),
                hidden: one.ariaHidden, stops: one.querySelectorAll('[tabindex], [role]').length,
                line: getComputedStyle(one.children[1]).textDecorationLine, clicks: style.pointerEvents,
                moves: style.animationName, rows: grid.querySelector('[role=grid]').ariaRowCount,
                on: document.activeElement.textContent, top: grid.querySelector('[role=grid]').scrollTop,
              });
            }
          }).observe(grid, { subtree: true, childList: true });
        }"""
    )
    database.execute("delete from items where id = 0")
    wait_first(grid, 1, "1")
    grid.page.wait_for_function("window.left.length > 0")
    ghost = {"texts": ["0", "about to go"], "y": 0, "hidden": "true", "stops": 0, "line": "line-through"}
    still = {"clicks": "none", "moves": "rtw-leave", "rows": "3001", "on": "item 4", "top": 0}
    assert grid.page.evaluate("window.left") == [ghost | still]
    grid.locator(".rtw-leaving").wait_for(state="detached")
    assert grid.bounding_box() == box
    # Rows that are only looked for elsewhere do not leave.
    header(grid, "id").click()
    header(grid, "id").click()
    wait_first(grid, 1, "3000")
    header(grid, "id").click()
    wait_first(grid, 1, "1")
    grid.get_by_role("searchbox").fill('"item 29"')
    wait_facts(grid, "111 of 3,000 rows")
    grid.get_by_role("searchbox").fill("no such thing")
    wait_facts(grid, "0 of 3,000 rows")
    grid.get_by_text("no rows match · the table has 3,000").wait_for()
    grid.get_by_role("searchbox").fill("")
    wait_first(grid, 1, "1")
    assert len(grid.page.evaluate("window.left")) == 1
    grid.page.emulate_media(reduced_motion="reduce")
    try:
        database.execute("insert into items values (0, 'goes still', 1, now(), null)")
        wait_first(grid, 1, "0")
        grid.page.wait_for_timeout(1300)
        database.execute("delete from items where id = 0")
        grid.page.wait_for_function("window.left.length > 1")
        assert grid.page.evaluate("window.left[1].moves") == "none"
    finally:
        grid.page.emulate_media(reduced_motion="no-preference")
    wait_first(grid, 1, "1")


def test_the_grid_is_as_tall_as_whole_rows(grid: Any) -> None:
    head, shown, row = grid.evaluate(
        """grid => [grid.querySelector('.rtw-head').offsetHeight, grid.querySelector('[role=grid]').clientHeight,
                     grid.querySelector('.rtw-body > [role=row]').offsetHeight]"""
    )
    assert (head, shown, row) == (24, 24 + 12 * 24, 24)


def test_following_the_tail(grid: Any, database: Any) -> None:
    grid.get_by_role("button", name="follow").click()
    grid.get_by_role("gridcell", name="item 3000", exact=True).wait_for()
    database.execute("insert into items values (3001, 'the latest', 1, now(), null)")
    latest = grid.get_by_role("gridcell", name="the latest")
    latest.wait_for()
    assert latest.is_visible()
    grid.get_by_role("button", name="follow").click()
    database.execute("delete from items where id = 3001")
    scroller(grid).evaluate("element => (element.scrollTop = 0)")
    wait_first(grid, 1, "1")


def test_copying_and_csv(grid: Any) -> None:
    grid.get_by_role("gridcell", name="item 5", exact=True).click()
    grid.get_by_role("button", name="copy").click()
    grid.get_by_role("button", name="copied").wait_for()
    lines = grid.page.evaluate("navigator.clipboard.readText()").splitlines()
    assert lines[0].split("\t") == ["id", "name", "price", "at", "tags"]
    assert lines[1].split("\t")[:3] == ["5", "item 5", "7.5"]
    with grid.page.expect_download() as saved:
        grid.get_by_role("button", name="csv").click()
    text = Path(saved.value.path()).read_text()
    assert saved.value.suggested_filename == "items.csv"
    assert len(text.splitlines()) == 3001
    assert text.startswith("id,name,price,at,tags\n1,item 1,1.5,")


def test_the_keyboard_goes_everywhere(grid: Any) -> None:
    press = grid.page.keyboard.press
    grid.get_by_role("gridcell", name="item 1", exact=True).click()
    press("Escape")
    press("ArrowDown")
    focused = "document.activeElement.textContent"
    grid.page.wait_for_function(f"{focused} === 'item 2'")
    press("Control+End")
    grid.page.wait_for_function(
        "document.activeElement.closest('[role=row]')?.getAttribute('aria-rowindex') === '3001'"
    )
    press("Control+Home")
    grid.page.wait_for_function(f"{focused} === '1'")
    press("PageDown")
    grid.page.wait_for_function("+document.activeElement.closest('[role=row]')?.getAttribute('aria-rowindex') > 8")
    press("Control+ArrowUp")
    grid.page.wait_for_function("document.activeElement.getAttribute('role') === 'columnheader'")
    press("Alt+ArrowDown")
    grid.get_by_role("menu").wait_for()
    press("Escape")
    grid.page.wait_for_function("document.activeElement.getAttribute('role') === 'columnheader'")
    # Keys of the notebook's command mode: two presses of D would delete the cell.
    press("d")
    press("d")
    grid.page.wait_for_timeout(300)
    assert grid.page.locator(".rtw-table").count() == 2


def test_columns_are_arranged_and_the_arrangement_is_a_trait(grid: Any, ask: Any) -> None:
    def choose(name: str, entry: str) -> None:
        header(grid, name).focus()
        grid.page.keyboard.press("Alt+ArrowDown")
        grid.get_by_role("menu").get_by_text(entry, exact=True).click()

    choose("tags", "Hide")
    header(grid, "tags").wait_for(state="detached")
    choose("price", "Pin left")
    edge = header(grid, "name").locator(".rtw-edge").bounding_box()
    grid.page.mouse.move(edge["x"] + 3, edge["y"] + 5)
    grid.page.mouse.down()
    grid.page.mouse.move(edge["x"] + 83, edge["y"] + 5, steps=4)
    grid.page.mouse.up()
    arrangement = ask("items.arrangement")
    assert arrangement["hidden"] == ["tags"]
    assert arrangement["pinned"] == ["price"]
    assert arrangement["widths"]["name"] > 100
    ask("setattr(items, 'arrangement', {})")
    grid.page.wait_for_function(
        "grid => grid.querySelectorAll('[role=columnheader]').length === 5", arg=grid.element_handle()
    )


def test_two_views_of_one_table_share_what_is_arranged_and_scroll_apart(page: Any, grid: Any, ask: Any) -> None:
    second = page.locator(".rtw-table").nth(1)
    second.scroll_into_view_if_needed()
    scroller(second).evaluate("element => { element.scrollTop = 2000 }")
    second.locator('[role=row][aria-rowindex="90"]').first.wait_for()
    assert column(grid, 1)[0] == "1"
    second.get_by_role("searchbox").fill('"item 777"')
    wait_first(second, 2, "item 777")
    wait_first(grid, 2, "item 777")
    assert grid.get_by_role("searchbox").input_value() == '"item 777"'
    kept = ask("items.state()")
    assert kept["arrangement"]["search"] == '"item 777"'
    ask("items.restore({'arrangement': {'filters': {'name': 'item 778'}}})")
    wait_first(second, 2, "item 778")
    assert second.locator("input[aria-label='filter name']").input_value() == "item 778"
    ask(f"items.restore({kept!r})")
    wait_first(grid, 2, "item 777")
    ask("items.restore({'arrangement': {}})")
    wait_first(second, 1, "1")
    wait_first(grid, 1, "1")
    grid.scroll_into_view_if_needed()


def test_text_from_data_is_only_text(page: Any, grid: Any, database: Any) -> None:
    database.execute('alter table items add column "<img src=x onerror=window.hit=1>" text')
    for number, text in enumerate(XSS):
        database.execute(
            "insert into items values (%s, %s, 1, now(), to_jsonb(%s::text), %s)", (-100 + number, text, text, text)
        )
    wait_first(grid, 2, XSS[0])
    page.locator(".rtw-table").first.get_by_role("columnheader").filter(has_text="onerror").wait_for()
    for number in range(len(XSS)):
        grid.locator(f'[aria-rowindex="{number + 2}"] [aria-colindex="2"]').hover()
    page.wait_for_timeout(300)
    assert page.evaluate("window.hit") is None
    assert grid.locator("img, script, iframe, svg:not(.rtw-spark svg)").count() == 0
    database.execute("delete from items where id < 0")
    wait_first(grid, 1, "1")


def test_a_reloaded_page_shows_the_table_again(page: Any, lab: Lab, database: Any) -> None:
    save(page, lab, "grid.ipynb")
    page.reload()
    page.wait_for_selector(".rtw-table", timeout=60_000)
    grid = page.locator(".rtw-table").first
    wait_first(grid, 1, "1")
    database.execute("update items set name = 'after the reload' where id = 1")
    wait_first(grid, 2, "after the reload")


def test_a_restarted_kernel_is_said_plainly(page: Any, shots: Path) -> None:
    page.evaluate("void window.jupyterapp.shell.currentWidget.sessionContext.session.kernel.restart()")
    grid = page.locator(".rtw-table").first
    page.wait_for_function(
        "grid => grid.textContent.includes('The kernel has stopped')", arg=grid.element_handle(), timeout=30_000
    )
    assert len(column(grid, 1)) > 5, "the last rows stay"
    page.screenshot(path=shots / "grid_kernel_gone.png")
