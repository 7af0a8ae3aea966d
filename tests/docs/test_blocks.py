"""Every block of Python in the README and the documentation runs, and the site builds without a warning."""

from __future__ import annotations

import importlib.util
import inspect
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import FunctionType
from typing import Any

import pytest
import traitlets

import rtwidgets as rt
from rtwidgets import cli
from rtwidgets.sessions.recording import read

from .page import blocks

ROOT = Path(__file__).resolve().parents[2]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md")), ROOT / "changelog.d" / "README.md"]
WITH_CODE = [page for page in PAGES if any(block.reason is None for block in blocks(page.read_text()))]


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.pg
@pytest.mark.slow
@pytest.mark.parametrize("page", WITH_CODE, ids=name)
def test_the_blocks_of_a_page_run(page: Path, tmp_path: Path) -> None:
    """In order, in a process with a folder and a local server of its own."""
    home = tempfile.mkdtemp(prefix="rtw")
    env = {key: value for key, value in os.environ.items() if not key.startswith(("SUPABASE_", "RTWIDGETS_"))}
    env |= {"RTWIDGETS_HOME": home, "PYTHONPATH": str(ROOT), "MPLBACKEND": "agg"}
    try:
        done = subprocess.run(
            [sys.executable, "-m", "tests.docs.page", str(page)],
            cwd=tmp_path,
            env=env,
            capture_output=True,
            text=True,
            timeout=150,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-4000:]
        stop = "import rtwidgets as rt; rt.local(idle_timeout=0).stop()"
        subprocess.run([sys.executable, "-c", stop], env=env, timeout=60, check=True)
    finally:
        shutil.rmtree(home, ignore_errors=True)


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_block_compiles_and_gives_a_reason_if_it_is_not_run(page: Path) -> None:
    text = page.read_text()
    found = blocks(text)
    assert len(found) == len(re.findall(r"^ *```python", text, re.M)) + len(re.findall(r"^<!-- run$", text, re.M))
    for block in found:
        compile(block.code, str(page), "exec", flags=0x2000)  # ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
        assert block.reason is None or len(block.reason) > 10, f"line {block.line}: no reason given"


def test_a_block_that_fails_fails_the_page(tmp_path: Path) -> None:
    """The harness itself."""
    page = tmp_path / "page.md"
    page.write_text("```python\na = 1\n```\n\n<!-- run\nassert a == 2\n-->\n")
    command = [sys.executable, "-m", "tests.docs.page", str(page)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "line 6" in done.stderr


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("mkdocs") is None, reason="the dependency group docs is not installed")
def test_the_site_builds_without_a_warning_and_fetches_nothing(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    pages = list((tmp_path / "site").rglob("*.html"))
    assert len(pages) > 20
    for page in pages:
        fetched = re.findall(r"<(?:script|img|iframe|link)[^>]+(?:src|href)=\"?(https?:[^\"\s>]+)", page.read_text())
        assert [url for url in fetched if "canonical" not in url] == [], page.name
    reference = (tmp_path / "site" / "reference.html").read_text()
    missing = [name for name in public_names() if f'id="{name}"' not in reference]
    assert missing == [], "the reference lacks these, or they lack a docstring"


def public_names() -> Iterator[str]:
    """Every name of `rt.__all__`, and every trait, property and method of those that are classes."""
    for name in rt.__all__:
        value = getattr(rt, name)
        home = f"{value.__module__}.{value.__qualname__}"
        yield home
        for cls in value.__mro__ if inspect.isclass(value) else ():
            if not cls.__module__.startswith("rtwidgets."):
                continue
            for member, what in vars(cls).items():
                if member.startswith("_") or member == "send_state":  # which ipywidgets calls
                    continue
                if isinstance(what, traitlets.TraitType | property | FunctionType):
                    yield f"{home}.{member}"


# --- what pages have besides Python: commands, links, files


FENCE = re.compile(r"^ *```(\S*)[^\n]*\n(.*?)^ *```", re.S | re.M)
RELEASE_TOOLS = {"build", "twine"}
"""Packages that only a release needs, see docs/releasing.md."""
FENCED = {"python", "sh", "sql", "json", "text"}


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_each_fence_names_its_language(page: Path) -> None:
    """Otherwise a block named `py`, or without a name, would not be run."""
    text = page.read_text()
    assert text.count("```") == 2 * len(FENCE.findall(text))
    assert {kind for kind, _ in FENCE.findall(text)} <= FENCED
    assert "~~~" not in text


def fenced(kind: str) -> list[Any]:
    return [
        pytest.param(line, id=f"{name(page)}: {line[:50]}")
        for page in PAGES
        for found, body in FENCE.findall(page.read_text())
        if found == kind
        for line in body.splitlines()
        if line.strip()
    ]


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_each_link_to_a_file_leads_to_one(page: Path) -> None:
    """In a clone, as on a forge; the links of the site are tested by building it."""
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.S)
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if not re.match(r"\w+:", link):
            path, _, anchor = link.partition("#")
            target = (page.parent / path).resolve() if path else page
            assert target.exists(), link
            if anchor:
                assert anchor in anchors(target.read_text()), link


def anchors(text: str) -> set[str]:
    """The names of a page's headings, as a forge and mkdocs make them."""
    headings = re.findall(r"^#+ (.+)$", re.sub(r"```.*?```", "", text, flags=re.S), re.M)
    return {re.sub(r"[^\w -]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("line", fenced("json"))
def test_each_block_of_json_is_valid(line: str) -> None:
    json.loads(line)


@pytest.mark.parametrize("line", fenced("sh"))
def test_each_command_exists(line: str) -> None:
    """The commands are not run, because they take minutes or never end; but what they name exists."""
    command, *arguments = shlex.split(line, comments=True)
    if command == "make":
        assert re.search(rf"^{arguments[0]}:", (ROOT / "Makefile").read_text(), re.M)
    elif command == "pip":
        extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
        assert arguments[0] == "install"
        assert set(re.findall(r"\.\[(\w+)\]", line)) <= set(extras)
    elif command == "rtwidgets":
        with pytest.raises(SystemExit) as ended:
            cli.main([arguments[0], "--help"])
        assert ended.value.code == 0
    elif command in RELEASE_TOOLS or "/" in command:
        # A program of an environment: this one's are there, those of a release only on the page that makes them.
        assert not command.startswith(".venv/bin/") or (Path(sys.executable).parent / Path(command).name).exists()
    elif command == "python":
        module = arguments[arguments.index("-m") + 1]
        assert module in RELEASE_TOOLS or importlib.util.find_spec(module) is not None
    elif command == "voila":
        assert (ROOT / arguments[0]).exists()
    elif command != "export":
        raise AssertionError(f"no check for the command {command}: add one here")


def test_a_recording_has_the_lines_that_the_page_shows(tmp_path: Path) -> None:
    """The JSON of record_and_replay.md is a recording that can be read."""
    page = ROOT / "docs" / "howto" / "record_and_replay.md"
    (shown,) = [body for kind, body in FENCE.findall(page.read_text()) if kind == "json"]
    (tmp_path / "shown.jsonl").write_text(shown)
    recording = read(tmp_path / "shown.jsonl")
    assert recording.tables == [("public", "orders")]
    assert recording.topics == ["support-chat"]
    assert [entry.kind for entry in recording.entries] == ["snapshot", "change", "broadcast"]
