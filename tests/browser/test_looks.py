"""What a person sees beyond the rows: how values are written, wide tables, right-to-left pages, less motion, reading
back in a talk, and a page that does not jump."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from .lab import Lab, blocked, run_all, save

CELLS = [
    """
import pathlib, rtwidgets as rt
local = rt.local("looks", idle_timeout=5)
local.sql("drop table if exists kinds")
local.sql("create table kinds (id int primary key, price numeric, at timestamptz, paid bool, tags jsonb, note text)")
local.sql("insert into kinds"
          " values (1, 12.50, '2026-01-31 23:30:00.123456Z', true, '{\\"a\\": [1, 2]}', 'two\\nlines'),"
          " (2, null, null, null, null, null)")
local.sql("insert into kinds select n, n, now(), false, null, 'row ' || n from generate_series(3, 3000) n")
columns = [f"c{n}" for n in range(200)]
local.sql("drop table if exists wide")
local.sql(f"create table wide (id int primary key, {', '.join(c + ' int' for c in columns)})")
local.sql(f"insert into wide select n, {', '.join(str(i) for i in range(200))} from generate_series(1, 50) n")
local.publish("kinds")
local.publish("wide")
pathlib.Path("looks.dsn").write_text(local.dsn)
""",
    "kinds = rt.LiveTable('kinds', order='id').wait_live()\nkinds",
    "wide = rt.LiveTable('wide', order='id').wait_live()\nwide",
    "room = rt.Channel('looks')\nchat = rt.BroadcastFeed(room, 'message', sender='ana').wait_live()\nchat",
    "online = rt.Presence(room, key='ana', state={'team': 'support'})\nonline",
    "chart = rt.LiveChart(kinds, 'id', 'price')\nchart",
    """
other = rt.Channel('looks', client=local.connect(user='ben'), presence_key='ben')
theirs = rt.Presence(other, key='ben', state={'team': 'guests'}).wait_live()
for n in range(1500): other.send('message', {'text': f'line {n}'})
""",
    "import time\nwhile pathlib.Path('block').exists(): time.sleep(0.1)",
]


@pytest.fixture(scope="module")
def page(lab: Lab, browser: Any) -> Iterator[Any]:
    lab.write("looks.ipynb", CELLS)
    page = lab.open(browser, "looks.ipynb", timezone_id="Asia/Tokyo", reduced_motion="reduce")
    page.add_init_script("window.jumped = 0")
    run_all(page)
    page.get_by_role("gridcell", name="row 3", exact=True).wait_for()
    yield page
    page.context.close()


@pytest.fixture(scope="module")
def database(page: Any, lab: Lab) -> Iterator[Any]:
    with psycopg.connect((lab.root / "looks.dsn").read_text(), autocommit=True) as connection:
        yield connection


@pytest.fixture
def kinds(page: Any) -> Any:
    grid = page.locator(".rtw-table").nth(0)
    grid.scroll_into_view_if_needed()
    return grid


def cell(grid: Any, row: int, column: int) -> Any:
    return grid.locator(f'.rtw-body > [aria-rowindex="{row + 1}"] > [aria-colindex="{column}"]')


def style(element: Any, name: str) -> str:
    return element.evaluate("(element, name) => getComputedStyle(element)[name]", name)


def test_each_type_is_written_as_people_read_it(kinds: Any) -> None:
    price, at, paid, tags, note = (cell(kinds, 1, column) for column in range(2, 7))
    assert (price.inner_text(), style(price, "textAlign")) == ("12.5", "right")
    assert at.inner_text() == "2026-02-01 08:30:00.123", "in the reader's own zone"
    assert at.get_attribute("title") == "2026-01-31T23:30:00.123456Z"
    assert paid.inner_text() == "true"
    assert tags.inner_text() == '{"a":[1,2]}'
    assert note.inner_text() == "two⏎lines"
    for column in range(2, 7):
        assert cell(kinds, 2, column).inner_text() == "null"
        assert style(cell(kinds, 2, column), "fontStyle") == "italic", "no text that says null looks like this"


def test_only_columns_near_the_view_are_elements(page: Any) -> None:
    grid = page.locator(".rtw-table").nth(1)
    grid.scroll_into_view_if_needed()
    cell(grid, 1, 1).wait_for()
    assert grid.locator('.rtw-body > [aria-rowindex="2"] > [role="gridcell"]').count() < 60
    assert grid.get_by_role("grid").get_attribute("aria-colcount") == "201"
    grid.get_by_role("grid").evaluate("grid => (grid.scrollLeft = grid.scrollWidth)")
    cell(grid, 1, 201).wait_for()
    assert cell(grid, 1, 201).inner_text() == "199"
    assert grid.locator('.rtw-body > [aria-rowindex="2"] > [role="gridcell"]').count() < 60


def test_a_change_is_marked_without_motion_where_less_is_wanted(page: Any, kinds: Any, database: Any) -> None:
    # A mark is there for less than a second: noted by an observer, since a busy machine may look too late.
    kinds.evaluate(
        """grid => {
          window.motions = null;
          const watch = new MutationObserver(() => {
            const cell = grid.querySelector('.rtw-flash');
            if (!cell) return;
            const { backgroundColor, animationName } = getComputedStyle(cell);
            window.motions = [animationName, backgroundColor !== 'rgba(0, 0, 0, 0)', cell.getAnimations().length];
            watch.disconnect();
          });
          watch.observe(grid, { subtree: true, attributes: true, attributeFilter: ['class'] });
        }"""
    )
    database.execute("update kinds set note = 'changed' where id = 3")
    assert page.wait_for_function("window.motions").json_value() == ["none", True, 0]
    database.execute("update kinds set note = 'row 3' where id = 3")


def test_what_was_sent_ahead_is_there_to_scroll_to_while_a_cell_blocks(
    page: Any, kinds: Any, database: Any, lab: Lab
) -> None:
    body = kinds.get_by_role("grid")
    with blocked(page, lab, len(CELLS) - 1):
        body.evaluate("grid => (grid.scrollTop += 10 * 24)")
        kinds.get_by_role("gridcell", name="row 20", exact=True).wait_for()
        database.execute("update kinds set note = 'seen meanwhile' where id = 20")
        kinds.get_by_role("gridcell", name="seen meanwhile").wait_for()
    database.execute("update kinds set note = 'row 20' where id = 20")
    body.evaluate("grid => (grid.scrollTop = 0)")
    kinds.get_by_role("gridcell", name="row 3", exact=True).wait_for()


def test_nothing_jumps_while_rows_and_messages_come(page: Any, kinds: Any, database: Any) -> None:
    page.evaluate(
        """() => new PerformanceObserver(list => list.getEntries().forEach(shift => (window.jumped += shift.value)))
            .observe({ type: 'layout-shift', buffered: false })"""
    )
    page.evaluate("window.jumped = 0")
    boxes = [widget.bounding_box() for widget in page.locator(".rtw").all()]
    for n in range(10):
        database.execute("insert into kinds values (%s, 1, now(), true, null, 'a new one')", (4000 + n,))
        database.execute("update kinds set price = price + 1 where id < 10")
    kinds.page.wait_for_function(
        "grid => grid.querySelector('.rtw-facts').textContent.includes('3,010 rows')", arg=kinds.element_handle()
    )
    assert [widget.bounding_box() for widget in page.locator(".rtw").all()] == boxes
    assert page.evaluate("window.jumped") < 0.01
    database.execute("delete from kinds where id >= 4000")


def test_from_right_to_left(page: Any, kinds: Any, shots: Path) -> None:
    page.evaluate("document.documentElement.dir = 'rtl'")
    try:
        page.wait_for_function(
            """grid => {
              const [first, second] = grid.querySelectorAll('.rtw-body > [aria-rowindex="2"] > [role=gridcell]');
              const [above] = grid.querySelectorAll('[role=columnheader]');
              const [a, b, c] = [first, second, above].map(one => one.getBoundingClientRect());
              return a.left > b.left && Math.abs(a.left - c.left) < 2;
            }""",
            arg=kinds.element_handle(),
        )
        wide = page.locator(".rtw-table").nth(1)
        wide.get_by_role("grid").evaluate("grid => (grid.scrollLeft = -grid.scrollWidth)")
        cell(wide, 1, 201).wait_for()
        page.screenshot(path=shots / "looks_rtl.png")
    finally:
        page.evaluate("document.documentElement.removeAttribute('dir')")


READ = """(list, text) => {
  const edge = list.getBoundingClientRect().top;
  const seen = [...list.querySelectorAll('.rtw-line')].filter(line => line.getBoundingClientRect().bottom > edge);
  const row = text ? seen.find(line => line.querySelector('.rtw-text').textContent === text) : seen[0];
  return row ? [row.querySelector('.rtw-text').textContent, row.getBoundingClientRect().top - edge] : [null, 0];
}"""
"""The first line that is being read, or the one with this text, and where it stands in the view."""


def stays(lines: Any, before: list[Any]) -> None:
    """What was read `before` still stands where it stood."""
    text, top = lines.evaluate(READ, before[0])
    assert text == before[0]
    assert abs(top - before[1]) <= 1


def test_reading_back_in_a_talk(page: Any, say: Callable[[str], None], shots: Path) -> None:
    feed = page.locator(".rtw-feed")
    lines = feed.get_by_role("list", name="messages")
    feed.scroll_into_view_if_needed()
    lines.get_by_text("line 1499", exact=True).wait_for()
    # Up to the oldest line that is here, until there is none older: all that the kernel holds can be read.
    seen: set[int] = set()
    deadline = time.monotonic() + 120
    while 0 not in seen:
        assert time.monotonic() < deadline, f"no older line came than line {min(seen)}"
        here = lines.evaluate("list => [...list.firstElementChild.children].map(row => row.textContent)")
        assert len(here) < 80, "as many elements as are seen, and some around"
        numbers = [int(text.split("line ")[1]) if "line " in text else None for text in here]
        known = [number for number in numbers if number is not None]
        whole = list(range(known[0], known[-1] + 1))
        assert numbers in (whole, [None, *whole]), "no line is missing between two, and what is older is said to be"
        seen |= set(known)
        lines.evaluate("list => (list.scrollTop -= 150)")
        page.wait_for_timeout(20)
    assert seen == set(range(1500))
    lines.evaluate("list => (list.scrollTop = 0)")
    page.screenshot(path=shots / "looks_read_back.png")
    before = lines.evaluate(READ)
    say("while you read")
    feed.get_by_role("button", name="1 new").wait_for()
    stays(lines, before)
    feed.get_by_role("button", name="1 new").click()
    lines.get_by_text("while you read").wait_for()
    feed.get_by_role("button", name="1 new").wait_for(state="hidden")
    # A filter finds also what this page does not hold, or not any more.
    feed.get_by_role("searchbox", name="filter messages").fill("line 107")
    lines.get_by_text("line 107", exact=True).wait_for()
    page.wait_for_function(
        "list => list.querySelectorAll('.rtw-line').length === 11 && !list.querySelector('.rtw-gap-line')",
        arg=lines.element_handle(),
    )
    feed.get_by_role("searchbox", name="filter messages").fill("")
    lines.get_by_text("while you read").wait_for()


@pytest.fixture
def say(lab: Lab, page: Any) -> Iterator[Callable[[str], None]]:
    """Sends a message from elsewhere."""
    import rtwidgets as rt

    local = rt.local("looks", idle_timeout=5)
    channel = rt.Channel("looks", client=local.connect(user="cem"))
    channel.subscribe()
    yield lambda text: channel.send("message", {"text": text})
    rt.close_all()


def test_who_is_here_with_what_they_say_of_themselves(page: Any) -> None:
    presence = page.locator(".rtw-presence")
    ben = presence.get_by_role("list", name="who is here").get_by_role("listitem").filter(has_text="ben")
    ben.wait_for()
    assert "guests" in (ben.get_attribute("title") or "")
    presence.get_by_text("who came and went").click()
    presence.locator(".rtw-timeline").get_by_text("ben came").wait_for()


def test_a_chart_is_read_and_enlarged_by_keys_and_pointer(page: Any) -> None:
    chart = page.locator(".rtw-chart")
    chart.scroll_into_view_if_needed()
    area = chart.locator(".u-over")
    box = area.bounding_box()
    reset = chart.get_by_role("button", name="Show all")
    whole = area.evaluate("() => document.querySelector('.rtw-chart canvas').toDataURL()")
    page.mouse.move(box["x"] + box["width"] * 0.3, box["y"] + 40)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.6, box["y"] + 60, steps=5)
    page.mouse.up()
    reset.wait_for()
    assert chart.evaluate("chart => chart.querySelector('canvas').toDataURL()") != whole
    reset.click()
    reset.wait_for(state="hidden")
    page.keyboard.press("End")
    page.keyboard.press("+")
    reset.wait_for()
    page.keyboard.press("Escape")
    reset.wait_for(state="hidden")


def test_older_messages_are_promised_while_a_cell_blocks(page: Any, lab: Lab) -> None:
    # Another view of the same feed, which has the newest messages only.
    save(page, lab, "looks.ipynb")
    page.reload()
    feed = page.locator(".rtw-feed")
    lines = feed.get_by_role("list", name="messages")
    lines.get_by_text("line 1499", exact=True).wait_for(timeout=60_000)
    with blocked(page, lab, len(CELLS) - 1):
        feed.scroll_into_view_if_needed()
        lines.evaluate("list => (list.scrollTop = 0)")
        lines.get_by_text("they come when the kernel is free").wait_for()
        before = lines.evaluate(READ)
    # Then they come by themselves, above what is being read.
    lines.get_by_text("they come when the kernel is free").wait_for(state="detached")
    page.wait_for_function("list => list.scrollTop > 100", arg=lines.element_handle())
    stays(lines, before)
