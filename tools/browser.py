"""Says which browser the tests will use; fetches Playwright's own where none is installed and that is allowed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from tests.browser.chromium import find_chromium

if __name__ == "__main__":
    found = find_chromium()
    if found is None:
        # Bounded: where downloads are refused this fails at once or hangs; tests that need no browser must run still.
        try:
            subprocess.run(
                [sys.executable, "-m", "playwright", "install", "chromium"],
                check=False,
                timeout=300,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
        except subprocess.TimeoutExpired:
            pass
        found = find_chromium()
    if found is None:
        print(
            "\n*** NO CHROMIUM FOUND: every test under tests/browser/ will be LEFT OUT."
            " Install one (on Debian: apt-get install chromium) or set RTWIDGETS_CHROMIUM=/path/to/it. ***\n"
        )
        if os.environ.get("RTWIDGETS_REQUIRE_BROWSER"):
            sys.exit(1)
    else:
        print(f"browser tests use {found}")
