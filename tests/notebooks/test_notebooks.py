"""Every notebook runs from top to bottom, offline, in a real kernel against a real local server; its own assertions are
the claims."""

from __future__ import annotations

import contextlib
import json
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import rtwidgets as rt
from rtwidgets.demo.flights import Feed
from rtwidgets.demo.notebooks import NOTEBOOKS

from ..waits import PATIENCE

if TYPE_CHECKING:
    # Elsewhere only in functions, since they take a second, and the tests of `make check` do without.
    import nbformat
    from nbclient import NotebookClient

FOLDER = Path(__file__).resolve().parents[2] / "notebooks"
NAMES = sorted(path.name for path in FOLDER.glob("*.ipynb"))


@pytest.fixture
def local(monkeypatch: pytest.MonkeyPatch) -> Iterator[rt.Local]:
    """A server of the test's own, which the notebook joins as it would join the demo's."""
    home = tempfile.mkdtemp(prefix="rtw")
    monkeypatch.setenv("RTWIDGETS_HOME", home)
    for name in ("SUPABASE_URL", "SUPABASE_KEY", "SUPABASE_DB_URL", "RTWIDGETS_LOCAL"):
        monkeypatch.delenv(name, raising=False)
    started = rt.local(idle_timeout=2)
    yield started
    rt.close_all()
    started.stop()
    shutil.rmtree(home, ignore_errors=True)


@contextlib.contextmanager
def running(name: str) -> Iterator[NotebookClient]:
    """The notebook with a kernel of its own, after all of its cells have run. Raises CellExecutionError."""
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(FOLDER / name, as_version=4)
    folder = tempfile.mkdtemp(prefix="rtw")
    client = NotebookClient(notebook, timeout=120, kernel_name="python3", resources={"metadata": {"path": folder}})
    try:
        with client.setup_kernel():
            for number, cell in enumerate(notebook.cells):
                client.execute_cell(cell, number)
            yield client
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def ask(client: NotebookClient, source: str) -> None:
    """Runs one more cell in the notebook's kernel. Raises CellExecutionError."""
    import nbformat

    until = "import time\ndef until(condition, seconds=60):\n    end = time.monotonic() + seconds\n"
    until += "    while not condition():\n        assert time.monotonic() < end, 'in vain'\n        time.sleep(0.02)\n"
    cell = nbformat.v4.new_code_cell(until + source)
    client.nb.cells.append(cell)
    client.execute_cell(cell, len(client.nb.cells) - 1)


def between_cells(client: NotebookClient, condition: str) -> None:
    """Waits for what only comes about while no cell runs."""
    from nbclient.exceptions import CellExecutionError

    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        with contextlib.suppress(CellExecutionError):
            ask(client, f"assert {condition}")
            return
    ask(client, f"assert {condition}")


def said(notebook: nbformat.NotebookNode) -> str:
    """Everything that the cells printed or showed as text."""
    parts: list[str] = []
    for cell in notebook.cells:
        for output in cell.get("outputs", ()):
            parts.append(output.get("text", "") or str(output.get("data", {}).get("text/plain", "")))
    return "\n".join(parts)


ALIVE = """
until(lambda: all(getattr(w, 'status', 'live') in ('live', 'joined', 'connected') for w in ({names},)))
"""
CLAIMS = {
    # What a notebook shows but does not assert, since that would only distract; asked in its kernel afterwards. First
    # of all: who has run all cells must find the widgets alive that the text speaks of.
    "support_chat.ipynb": ALIVE.format(names="online, chat")
    + "until(lambda: room.status == 'joined' and me in online.state)",
    "guest.ipynb": ALIVE.format(names="online, chat") + "until(lambda: 'ben' in online.state)",
    "cursors.ipynb": ALIVE.format(names="cursors, online, chat")
    + """
was = cursors.df.set_index("key")[["x", "y"]]
until(lambda: not cursors.df.set_index("key")[["x", "y"]].reindex(was.index).equals(was))  # they move
until(lambda: chat.messages and chat.messages[-1]["sender"] in set(cursors.df["name"]))
assert crowd.running
crowd.stop()
until(lambda: online.count == 1)
""",
    "broadcast_presence_changes.ipynb": ALIVE.format(names="online, tickets")
    + """
panel.channel.subscribe().send("by hand", {"text": "hello"})
until(lambda: "realtime:lesson-by-hand" in set(inspector.df["topic"]) or "lesson-by-hand" in set(inspector.df["topic"]))
""",
    "what_goes_wrong.ipynb": ALIVE.format(names="pumps, valves, for_nobody, for_ana")
    + "until(lambda: connection.status == 'connected')\nassert rt.default_client() is local.client",
    "policies.ipynb": ALIVE.format(names="*tables.values()")
    + "until(lambda: [len(table.df) for table in tables.values()] == [2, 1, 3])",
    "connect_to_supabase.ipynb": ALIVE.format(names="payments, hers"),
    "flight_board.ipynb": ALIVE.format(names="flights, online, chat, airports, delays")
    + """
until(lambda: flights.count > 100 and len(delays.df) > 3)
assert delays.error == ""
revision = flights.revision
until(lambda: flights.revision > revision)  # it moves by itself

flights.pause()
until(lambda: len(airports.df) and airports.df["flights"].sum() == len(flights.df))
frame = flights.df.groupby("origin").agg(flights=("id", "count"), worst=("dep_delay", "max")).reset_index()
assert airports.df["flights"].tolist() == frame["flights"].tolist()
assert airports.df["worst"].tolist() == frame["worst"].tolist()
flights.resume()

# An alert fires once a crossing, not once a change.
crossed = flights.when(lambda df: (df["id"] == -1).any(), lambda df: None)
local.sql("insert into flights select -1, 'ZZ', 1, 'JFK', 'SFO', max(sched_dep), 'scheduled' from flights")
until(lambda: crossed.fired == 1)
local.sql("update flights set dep_delay = 1 where id = -1")
until(lambda: flights.df.set_index("id")["dep_delay"].fillna(0).get(-1) == 1)
local.sql("delete from flights where id = -1")
until(lambda: not crossed.is_true)
assert crossed.fired == 1
crossed.cancel(), alert.cancel()

# The slider: to the left the board as it was first, to the right it follows.
past.slider.value = 0
until(lambda: past.at is not None)
assert len(past.df) == len(flights.at(past.at)) and past.past.moments[0] == past.at
past.slider.value = past.slider.max
assert past.at is None
""",
}


VIEWS = {
    # What views under rt.live come to, which run between cells.
    "support_chat.ipynb": "board.error == '' and dict(board.value['messages']) == {'ana': 1}",
    "flight_board.ipynb": "delay_by_carrier.error == '' and delay_by_carrier.value['flights'].sum() > 50",
}


def test_each_has_its_claims_asked() -> None:
    assert sorted(CLAIMS) == NAMES


@contextlib.contextmanager
def what_the_demo_does(name: str, local: rt.Local) -> Iterator[None]:
    """The feed of flights behind the board."""
    if name != "flight_board.ipynb":
        yield
        return
    feed = Feed(local.dsn, speed=600)
    feed.load()
    local.publish("flights")
    feed.start()
    try:
        yield
    finally:
        feed.stop()


@pytest.mark.pg
@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_it_runs_from_top_to_bottom_and_what_it_says_holds(name: str, local: rt.Local) -> None:
    with what_the_demo_does(name, local), running(name) as client:
        ask(client, CLAIMS[name])
        if name in VIEWS:
            between_cells(client, VIEWS[name])
        text = said(client.nb)
    for secret in (local.service_key, local.dsn):
        assert secret not in text
    assert "Traceback" not in text


@pytest.mark.pg
@pytest.mark.slow
def test_two_people_in_two_notebooks(local: rt.Local) -> None:
    """The support chat and its guest, each in a kernel of its own: both see both, and both hear both."""
    with running("support_chat.ipynb") as ana:
        ask(ana, "until(lambda: online.count == 1)")
        with running("guest.ipynb") as ben:
            ask(ana, "until(lambda: online.count == 2 and set(online.state) == {'ana', 'ben'})")
            ask(ana, "until(lambda: {'sender': 'ben', 'text': 'Good morning from the second notebook'} in chat.messages)")
            between_cells(ana, "dict(board.value['messages']).get('ben') == 1")
            ask(ana, "chat.send('Hello, Ben')")
            ask(ben, "until(lambda: chat.last == {'sender': 'ana', 'text': 'Hello, Ben'})")
            ask(ben, "until(lambda: online.count == 2)")
        ask(ana, "until(lambda: online.count == 1)")  # his kernel has ended


@pytest.mark.pg
@pytest.mark.slow
def test_running_all_cells_twice_does_no_harm(local: rt.Local) -> None:
    with running("support_chat.ipynb") as client:
        for number, cell in enumerate(client.nb.cells[:]):
            client.execute_cell(cell, number)
        ask(client, CLAIMS["support_chat.ipynb"])


@pytest.mark.pg
@pytest.mark.slow
def test_a_cell_that_fails_fails_the_test(local: rt.Local, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The harness itself: an assertion in a cell that does not hold is seen."""
    import nbformat
    from nbclient.exceptions import CellExecutionError

    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("assert 1 == 2")])
    nbformat.write(notebook, tmp_path / "wrong.ipynb")
    monkeypatch.setattr(f"{__name__}.FOLDER", tmp_path)
    with pytest.raises(CellExecutionError, match="AssertionError"), running("wrong.ipynb"):
        pass


@pytest.mark.parametrize("name", NAMES)
def test_it_is_saved_clean(name: str) -> None:
    """No outputs, no counts, no widget state: what was shown to somebody once is nobody else's business."""
    notebook = json.loads((FOLDER / name).read_text())
    assert set(notebook["metadata"]) == {"kernelspec", "language_info"}
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            assert cell["outputs"] == []
            assert cell["execution_count"] is None


def test_the_demo_brings_all_of_them() -> None:
    assert sorted(NOTEBOOKS) == NAMES
    assert NOTEBOOKS[0] == "flight_board.ipynb"
