"""The order of the tests."""

from __future__ import annotations

import pytest


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # Playwright leaves an asyncio loop running on the main thread, which no test with a loop of its own can bear: the
    # browser's tests come last.
    items.sort(key=lambda item: item.get_closest_marker("browser") is not None)
