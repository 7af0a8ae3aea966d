"""A real JupyterLab for the tests: its own folders, a random token, notebooks made of given cells."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nbformat

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Lab:
    """JupyterLab in a folder, on a free port of 127.0.0.1."""

    def __init__(self, root: Path, env: dict[str, str] | None = None) -> None:
        self.root = root / "notebooks"
        self.root.mkdir(parents=True)
        self.port = free_port()
        self.token = secrets.token_hex(16)
        self.url = f"http://127.0.0.1:{self.port}"
        settings = root / "settings"
        overrides = {
            "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
        }
        for name, values in overrides.items():
            file = settings / "@jupyterlab" / f"{name}.jupyterlab-settings"
            file.parent.mkdir(parents=True)
            file.write_text(json.dumps(values))
        self.log = (root / "lab.log").open("wb")
        self.process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "jupyterlab",
                "--no-browser",
                "--allow-root",
                f"--ServerApp.root_dir={self.root}",
                f"--ServerApp.port={self.port}",
                "--ServerApp.port_retries=0",
                f"--IdentityProvider.token={self.token}",
                "--LabApp.expose_app_in_browser=True",
                "--LabApp.news_url=None",
                "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
            ],
            cwd=self.root,
            stdout=self.log,
            stderr=self.log,
            start_new_session=True,
            env={
                **os.environ,
                **(env or {}),
                "JUPYTER_CONFIG_DIR": str(root / "config"),
                "JUPYTER_RUNTIME_DIR": str(root / "runtime"),
                "JUPYTERLAB_SETTINGS_DIR": str(settings),
                "JUPYTERLAB_WORKSPACES_DIR": str(root / "workspaces"),
            },
        )
        deadline = time.monotonic() + 60
        while True:
            try:
                urllib.request.urlopen(f"{self.url}/api?token={self.token}", timeout=2).read()
                break
            except (urllib.error.URLError, OSError):
                if self.process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"JupyterLab did not start:\n{(root / 'lab.log').read_text()[-3000:]}") from None
                time.sleep(0.2)

    def write(self, name: str, cells: list[str]) -> None:
        """Writes a notebook of these code cells."""
        notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
        notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
        nbformat.write(notebook, self.root / name)

    def open(self, browser: Browser, name: str, **options: Any) -> Page:
        """A page of its own with the notebook open and its kernel ready; no cell has run. Options as for
        `Browser.new_context`."""
        page = browser.new_context(viewport={"width": 1400, "height": 2000}, **options).new_page()
        workspace = name.removesuffix(".ipynb")
        page.goto(f"{self.url}/lab/workspaces/{workspace}/tree/{name}?token={self.token}")
        page.wait_for_selector(".jp-Notebook .jp-Cell", timeout=60_000)
        page.wait_for_function("window.jupyterapp !== undefined")
        # Before the session has its kernel, running a cell would ask the person which one to take.
        page.wait_for_function(
            """() => {
              const session = window.jupyterapp.shell.currentWidget?.sessionContext;
              return session?.isReady && session.session?.kernel?.status === 'idle';
            }""",
            timeout=60_000,
        )
        return page

    def close(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(15)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(5)
        self.log.close()


def run_all(page: Page) -> None:
    """Runs every cell, and waits until all have run."""
    page.evaluate(
        """() => {
          window.ranAll = false;
          window.jupyterapp.commands.execute('notebook:run-all-cells').then(() => (window.ranAll = true));
        }"""
    )
    page.wait_for_function("window.ranAll", timeout=120_000)
    wait_idle(page)


def run_cell(page: Page, index: int) -> None:
    """Starts a cell (counted from 0), and returns once the page shows that it runs or has run."""
    page.locator(".jp-Notebook .jp-CodeCell .jp-InputArea-editor").nth(index).click()
    prompt = page.locator(".jp-Notebook .jp-CodeCell .jp-InputArea-prompt").nth(index)
    before = prompt.inner_text()
    page.evaluate("void window.jupyterapp.commands.execute('notebook:run-cell')")
    # Its old number would be taken for the end of the new run.
    page.wait_for_function(
        "([prompt, before]) => prompt.innerText !== before", arg=[prompt.element_handle(), before], timeout=60_000
    )


def set_dark(page: Page, dark: bool) -> None:
    """Changes JupyterLab's theme, and waits until the page has its colours."""
    theme = "JupyterLab Dark" if dark else "JupyterLab Light"
    page.evaluate("theme => window.jupyterapp.commands.execute('apputils:change-theme', { theme })", theme)
    page.wait_for_function(
        """dark => {
          const { backgroundColor } = getComputedStyle(document.querySelector('.rtw'));
          const [red, green, blue] = backgroundColor.match(/[0-9.]+/g).map(Number);
          return (red + green + blue < 384) === dark;
        }""",
        arg=dark,
    )
    # Colours that fade from one theme to the other have neither's contrast meanwhile.
    page.wait_for_function("document.getAnimations().every(one => one.playState !== 'running')")


@contextlib.contextmanager
def blocked(page: Page, lab: Lab, index: int) -> Iterator[None]:
    """The kernel runs a cell (counted from 0) for as long as this lasts; the cell has to wait while there is a file
    `block`."""
    (lab.root / "block").touch()
    try:
        run_cell(page, index)
        page.wait_for_selector('.jp-Notebook-ExecutionIndicator[data-status="busy"]', state="attached")
        yield
        assert is_busy(page), "the cell ended before what was to be seen meanwhile"
    finally:
        (lab.root / "block").unlink()
    wait_idle(page)


def save(page: Page, lab: Lab, name: str) -> str:
    """Saves the notebook, and gives its text once the server has it."""
    file = lab.root / name
    before = file.stat().st_mtime_ns
    page.evaluate("void window.jupyterapp.commands.execute('docmanager:save')")
    deadline = time.monotonic() + 30
    while file.stat().st_mtime_ns == before:
        assert time.monotonic() < deadline, f"{name} was not saved"
        page.wait_for_timeout(50)
    page.wait_for_function("!window.jupyterapp.shell.currentWidget.context.model.dirty")
    return file.read_text()


def is_busy(page: Page) -> bool:
    return page.locator('.jp-Notebook-ExecutionIndicator[data-status="busy"]').count() > 0


def wait_idle(page: Page, timeout: float = 60.0) -> None:
    """Waits until every cell shows a number; raises with the text of an error output, if a cell failed."""
    kinds = ("stderr", "error")
    failed = ", ".join(f'.jp-OutputArea-output[data-mime-type="application/vnd.jupyter.{kind}"]' for kind in kinds)
    page.wait_for_function(
        # A cell that failed keeps those after it from running: their numbers never come.
        """(failed) => document.querySelector(failed) !== null
            || [...document.querySelectorAll('.jp-CodeCell .jp-InputArea-prompt')]
                .every(prompt => /\\[\\d+\\]/.test(prompt.textContent))""",
        arg=failed,
        timeout=timeout * 1000,
    )
    errors = page.locator(failed)
    if errors.count():
        raise AssertionError("a cell failed:\n" + "\n".join(errors.all_inner_texts()))
