"""The same widgets in Notebook 7, Voilà and marimo: each shows the table, moves with it, and takes a message."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nbformat
import pytest

from ..waits import wait_until
from .lab import free_port

CELLS = [
    "import rtwidgets as rt\nlocal = rt.local('hosts', idle_timeout=20)",
    "orders = rt.LiveTable('orders', order='id')\norders",
    "room = rt.Channel('hosts')\nonline = rt.Presence(room, key='ana', state={'team': 'support'})\nonline",
    "chat = rt.BroadcastFeed(room, 'message', sender='ana')\nchat",
]

MARIMO = """
import marimo

app = marimo.App()


@app.cell
def _():
    import rtwidgets as rt

    local = rt.local("hosts", idle_timeout=20)
    return (rt, local)


@app.cell
def _(rt, local):
    orders = rt.LiveTable("orders", order="id")
    orders
    return (orders,)


@app.cell
def _(rt, local):
    room = rt.Channel("hosts")
    online = rt.Presence(room, key="ana", state={"team": "support"})
    online
    return (room, online)


@app.cell
def _(rt, room):
    chat = rt.BroadcastFeed(room, "message", sender="ana")
    chat
    return (chat,)


if __name__ == "__main__":
    app.run()
"""


@pytest.fixture(scope="module")
def local(rtwidgets_home: Path) -> Iterator[Any]:
    import rtwidgets as rt

    started = rt.local("hosts", idle_timeout=5)
    started.sql("drop table if exists orders; create table orders (id int primary key, item text)")
    started.sql("insert into orders select n, 'item ' || n from generate_series(1, 100) n")
    started.publish("orders")
    yield started
    rt.close_all()
    started.stop()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in CELLS])
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(notebook, tmp_path / "hosts.ipynb")
    (tmp_path / "hosts.py").write_text(MARIMO)
    return tmp_path


@contextmanager
def serving(folder: Path, url: str, *command: str) -> Iterator[None]:
    env = {
        **os.environ,
        "JUPYTER_CONFIG_DIR": str(folder / "config"),
        "JUPYTER_RUNTIME_DIR": str(folder / "runtime"),
        "XDG_CONFIG_HOME": str(folder / "config"),
    }
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([sys.executable, "-m", *command], cwd=folder, stdout=log, stderr=log, env=env)
    try:
        deadline = time.monotonic() + 90
        while True:
            try:
                urllib.request.urlopen(url, timeout=60).read()
                break
            except (urllib.error.URLError, OSError):
                if process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError((folder / "log").read_text()[-3000:]) from None
                time.sleep(0.3)
        yield
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def looks_alive(page: Any, local: Any, shot: Path) -> None:
    import rtwidgets as rt

    page.locator(".rtw-table").get_by_text("item 1", exact=True).wait_for(timeout=60_000)
    local.sql("insert into orders values (0, 'from elsewhere') on conflict (id) do update set item = 'from elsewhere'")
    page.locator(".rtw-table").get_by_text("from elsewhere").wait_for()
    local.sql("delete from orders where id = 0")
    page.locator(".rtw-table").get_by_text("from elsewhere").wait_for(state="detached")
    page.locator(".rtw-presence .rtw-name").get_by_text("ana").first.wait_for()
    room = rt.Channel("hosts", client=local.client)
    heard = rt.BroadcastFeed(room, "message").wait_live()
    box = page.locator(".rtw-feed textarea")
    box.fill("typed in the page")
    box.press("Enter")
    wait_until(lambda: heard.messages)
    assert heard.messages[-1]["text"] == "typed in the page"
    heard.send("an answer")
    page.locator(".rtw-feed").get_by_text("an answer").wait_for()
    page.screenshot(path=shot)
    heard.close()


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    page = browser.new_context(viewport={"width": 1100, "height": 1300}).new_page()
    yield page
    page.context.close()


def run_all(page: Any) -> None:
    """Runs all cells by the menu; again, where a page that still loads has lost the click."""
    ran = page.locator(".jp-InputPrompt", has_text=re.compile(r"\[[*\d]+\]")).first
    for _ in range(5):
        page.get_by_role("menuitem", name="Run").click()
        page.get_by_text("Run All Cells", exact=True).click()
        end = time.monotonic() + 10
        while time.monotonic() < end:
            if ran.count():
                return
            page.wait_for_timeout(200)
    raise AssertionError("no cell runs")


def test_notebook_7(page: Any, folder: Path, local: Any, shots: Path) -> None:
    url = f"http://127.0.0.1:{(port := free_port())}"
    command = ["notebook", "--no-browser", "--allow-root", f"--ServerApp.port={port}", "--IdentityProvider.token="]
    with serving(folder, f"{url}/api", *command, f"--ServerApp.root_dir={folder}"):
        page.goto(f"{url}/notebooks/hosts.ipynb")
        page.wait_for_selector(".jp-Notebook .jp-Cell", timeout=60_000)
        page.wait_for_selector('.jp-Notebook-ExecutionIndicator[data-status="idle"]', state="attached", timeout=60_000)
        run_all(page)
        looks_alive(page, local, shots / "notebook7.png")


def test_voila(page: Any, folder: Path, local: Any, shots: Path) -> None:
    url = f"http://127.0.0.1:{(port := free_port())}"
    command = ["voila", "hosts.ipynb", "--no-browser", f"--port={port}", "--Voila.ip=127.0.0.1"]
    with serving(folder, f"{url}/voila/static/voila.js", *command):
        page.goto(url, timeout=60_000)
        looks_alive(page, local, shots / "voila.png")


def test_marimo(page: Any, folder: Path, local: Any, shots: Path) -> None:
    url = f"http://127.0.0.1:{(port := free_port())}"
    command = ["marimo", "run", "hosts.py", "--headless", "--no-token", f"--port={port}", "--host=127.0.0.1"]
    with serving(folder, f"{url}/health", *command):
        page.goto(url, timeout=60_000)
        looks_alive(page, local, shots / "marimo.png")
