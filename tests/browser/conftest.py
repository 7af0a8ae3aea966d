"""One Chromium and one JupyterLab for all browser tests, each with folders of its own under a temporary one."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from .chromium import FLAGS, find_chromium
from .lab import Lab

SHOTS = Path(__file__).resolve().parent.parent.parent / "test-results"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.browser)
            item.add_marker(pytest.mark.timeout(300))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """What the page looked like when a test failed there, beside the other screenshots."""
    report = yield
    page = getattr(item, "funcargs", {}).get("page") or getattr(item, "funcargs", {}).get("board")
    if report.failed and page is not None:
        SHOTS.mkdir(exist_ok=True)
        with contextlib.suppress(Exception):
            page.screenshot(path=SHOTS / f"failed_{item.name}.png")
    return report


@pytest.fixture(scope="session")
def chromium_path() -> str:
    found = find_chromium()
    if found is None:
        message = "no Chromium found: install one (Debian: apt-get install chromium) or set RTWIDGETS_CHROMIUM"
        if os.environ.get("RTWIDGETS_REQUIRE_BROWSER"):
            pytest.fail(message)
        pytest.skip(message)
    return found


@pytest.fixture(scope="session")
def browser(chromium_path: str) -> Iterator[object]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=chromium_path, args=FLAGS)
        yield launched
        launched.close()


@pytest.fixture(scope="session")
def rtwidgets_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where local servers of these tests keep their state, for this process and for the kernels."""
    home = tmp_path_factory.mktemp("home")
    before = os.environ.get("RTWIDGETS_HOME")
    os.environ["RTWIDGETS_HOME"] = str(home)
    yield home
    if before is None:
        del os.environ["RTWIDGETS_HOME"]
    else:
        os.environ["RTWIDGETS_HOME"] = before


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory, rtwidgets_home: Path, chromium_path: str) -> Iterator[Lab]:
    started = Lab(tmp_path_factory.mktemp("lab"), {"RTWIDGETS_HOME": str(rtwidgets_home)})
    yield started
    started.close()


@pytest.fixture
def shots() -> Path:
    """Where screenshots go, to be looked at."""
    SHOTS.mkdir(exist_ok=True)
    return SHOTS
