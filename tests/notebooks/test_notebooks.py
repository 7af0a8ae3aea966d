"""Every notebook runs from top to bottom, offline, in a real kernel against a real local server; its own assertions are
the claims."""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

import rtwidgets as rt
from rtwidgets.demo.flights import Feed
from rtwidgets.demo.notebooks import NOTEBOOKS

FOLDER = Path(__file__).resolve().parents[2] / "notebooks"
NAMES = sorted(path.name for path in FOLDER.glob("*.ipynb"))


@pytest.fixture
def local(monkeypatch: pytest.MonkeyPatch) -> Iterator[rt.Local]:
    """A server of the test's own, which the notebook joins as it would join the demo's."""
    home = tempfile.mkdtemp(prefix="rtw-test-")
    monkeypatch.setenv("RTWIDGETS_HOME", home)
    for name in ("SUPABASE_URL", "SUPABASE_KEY", "SUPABASE_DB_URL", "RTWIDGETS_LOCAL"):
        monkeypatch.delenv(name, raising=False)
    started = rt.local(idle_timeout=2)
    yield started
    rt.close_all()
    started.stop()
    shutil.rmtree(home, ignore_errors=True)


def run(name: str) -> nbformat.NotebookNode:
    """The notebook as it is after all of its cells have run. Raises CellExecutionError."""
    notebook = nbformat.read(FOLDER / name, as_version=4)
    folder = tempfile.mkdtemp(prefix="rtw-test-")
    try:
        NotebookClient(notebook, timeout=120, kernel_name="python3", resources={"metadata": {"path": folder}}).execute()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return notebook


def said(notebook: nbformat.NotebookNode) -> str:
    """Everything that the cells printed or showed as text."""
    parts: list[str] = []
    for cell in notebook.cells:
        for output in cell.get("outputs", ()):
            parts.append(output.get("text", "") or str(output.get("data", {}).get("text/plain", "")))
    return "\n".join(parts)


@pytest.mark.pg
@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_it_runs_from_top_to_bottom(name: str, local: rt.Local) -> None:
    used = set(re.findall(r"\brt\.([A-Z]\w+)", (FOLDER / name).read_text()))
    missing = sorted(each for each in used if each not in rt.__all__)
    if missing:
        pytest.skip(f"rtwidgets has no {', '.join(missing)} yet")
    feed = None
    if name == "flight_board.ipynb":  # what `rtwidgets demo` does
        feed = Feed(local.dsn, speed=600)
        feed.load()
        local.publish("flights")
        feed.start()
    elif name == "guest.ipynb":
        rt.Channel("support-chat").subscribe()
    try:
        text = said(run(name))
    finally:
        if feed is not None:
            feed.stop()
    for secret in (local.service_key, local.dsn):
        assert secret not in text
    assert "Traceback" not in text


@pytest.mark.pg
@pytest.mark.slow
def test_a_cell_that_fails_fails_the_test(local: rt.Local, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The harness itself: an assertion in a cell that does not hold is seen."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("assert 1 == 2")])
    nbformat.write(notebook, tmp_path / "wrong.ipynb")
    monkeypatch.setattr(f"{__name__}.FOLDER", tmp_path)
    with pytest.raises(Exception, match="AssertionError"):
        run("wrong.ipynb")


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
