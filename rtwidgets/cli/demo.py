"""`rtwidgets demo`: a live flight board in JupyterLab, on a real Postgres."""

from __future__ import annotations

import argparse
import importlib.util
import os
import secrets
import signal
import subprocess
import webbrowser
from typing import TYPE_CHECKING

from rtwidgets.cli.jupyterlab import find_port, start_lab, stop_lab
from rtwidgets.cli.options import Commands, port, write_line
from rtwidgets.protocol.errors import RealtimeError

if TYPE_CHECKING:
    from pathlib import Path

    import filelock

    from rtwidgets.demo.flights import Feed
    from rtwidgets.local.handle import Local
    from rtwidgets.local.home import Home


def add(commands: Commands) -> None:
    """Adds the command."""
    parser = commands.add_parser(
        "demo", help="a live flight board in JupyterLab, on a real Postgres (ctrl-C stops all of it)"
    )
    parser.add_argument("--no-browser", action="store_true", help="print the address instead of opening it")
    parser.add_argument("--port", type=port, default=0, help="JupyterLab's port; default a free one")
    parser.add_argument("--speed", type=_speed, default=60.0, help="replayed seconds in a second; default 60")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Runs until ctrl-C. Raises RealtimeError where a part of it cannot start, or ends."""
    from rtwidgets.local.handle import local
    from rtwidgets.local.home import Home

    if importlib.util.find_spec("jupyterlab") is None:
        raise RealtimeError(
            "JupyterLab is not installed.",
            code="NoJupyterLab",
            hint='pip install "rtwidgets[demo]"; in a clone: make demo',
        )
    os.environ["RTWIDGETS_LOCAL"] = "demo"  # the notebooks' rt.local() joins the same server
    lab_port = find_port(arguments.port)
    home = Home("demo")
    home.make()
    alone = _alone(home)
    write_line("Postgres and realtime server: starting")
    server = local("demo", idle_timeout=10)
    feed: Feed | None = None
    lab: subprocess.Popen[bytes] | None = None
    try:
        write_line(f"Realtime server: {server.url}")
        feed = _start_feed(server, arguments.speed)
        token = secrets.token_urlsafe(24)
        notebooks, first = _copy_notebooks(home)
        lab = start_lab(notebooks, home.folder / "jupyterlab.log", lab_port, token)
        url = f"http://127.0.0.1:{lab_port}/lab/tree/{first}?token={token}"
        write_line(f"JupyterLab: {url}")
        write_line("Run all cells. ctrl-C here stops all of it.")
        if not arguments.no_browser:
            webbrowser.open(url)
        lab.wait()
        hint = f"See {home.folder / 'jupyterlab.log'}."
        raise RealtimeError("JupyterLab has ended.", code="JupyterLabEnded", hint=hint)
    except KeyboardInterrupt:
        return 0  # there is no other way to end it
    finally:
        # A second ctrl-C must not cut the clean-up short.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        write_line("Stopping")
        if feed is not None:
            feed.stop()
        if lab is not None:
            stop_lab(lab)
        server.stop()
        alone.release()
        write_line("Stopped")


def _alone(home: Home) -> filelock.BaseFileLock:
    """The lock of the one demo: two would replay into one table, and the end of either would stop the other's server.

    It ends with this process, however that ends. Raises RealtimeError where another demo runs.
    """
    import filelock

    lock = filelock.FileLock(home.folder / "demo.lock")
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        raise RealtimeError(
            "A demo runs already.",
            code="DemoRuns",
            hint="Open the address that it printed, or end it there (ctrl-C). With RTWIDGETS_HOME set to another "
            "folder a second one runs beside it.",
        ) from None
    return lock


def _start_feed(server: Local, speed: float) -> Feed:
    from rtwidgets.demo.flights import Feed

    feed = Feed(server.dsn, speed=speed)
    count = feed.load(progress=lambda text: write_line(f"Flights: {text}"))
    server.publish("flights")
    feed.start()
    write_line(f"Flights: {count:,} in Postgres, replaying from {feed.clock:%d %B %Y %H:%M}, {speed:g} times as fast")
    return feed


def _copy_notebooks(home: Home) -> tuple[Path, str]:
    """The folder of the notebooks, and the name of the first one."""
    from rtwidgets.demo.notebooks import NOTEBOOKS, copy, source

    folder = home.folder / "notebooks"
    write_line(f"Notebooks: {copy(source(), folder)}")
    return folder, NOTEBOOKS[0]


def _speed(text: str) -> float:
    speed = float(text)
    if not 0 < speed <= 86_400:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 (excluded) and 86400 (a day in a second)")
    return speed


_speed.__name__ = "number"  # argparse uses it in its message for a text that is none
