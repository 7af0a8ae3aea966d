"""Every block of Python in the README and the documentation runs; and the documentation builds without a warning."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from .page import blocks

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
WITH_CODE = [page for page in PAGES if any(block.reason is None for block in blocks(page.read_text()))]


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.pg
@pytest.mark.slow
@pytest.mark.parametrize("page", WITH_CODE, ids=name)
def test_the_blocks_of_a_page_run(page: Path, tmp_path: Path) -> None:
    """In the order in which they are read, in a process, a folder and a local server of the page's own."""
    home = tempfile.mkdtemp(prefix="rtw-test-")
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
def test_every_block_can_be_read_and_says_why_it_is_left_out(page: Path) -> None:
    text = page.read_text()
    found = blocks(text)
    assert len(found) == len(re.findall(r"^ *```python", text, re.M)) + len(re.findall(r"^<!-- run$", text, re.M))
    for block in found:
        compile(block.code, str(page), "exec", flags=0x2000)  # ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
        assert block.reason is None or len(block.reason) > 10, f"line {block.line}: no reason given"


def test_a_block_that_fails_is_seen(tmp_path: Path) -> None:
    """The harness itself."""
    page = tmp_path / "page.md"
    page.write_text("```python\na = 1\n```\n\n<!-- run\nassert a == 2\n-->\n")
    command = [sys.executable, "-m", "tests.docs.page", str(page)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "line 6" in done.stderr


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("mkdocs") is None, reason="the extra docs is not installed")
def test_the_site_builds_without_a_warning_and_fetches_nothing(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    pages = list((tmp_path / "site").rglob("*.html"))
    assert len(pages) > 20
    for page in pages:
        fetched = re.findall(r"<(?:script|img|iframe|link)[^>]+(?:src|href)=\"?(https?:[^\"\s>]+)", page.read_text())
        assert [url for url in fetched if "canonical" not in url] == [], page.name
