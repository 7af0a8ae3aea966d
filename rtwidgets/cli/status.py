"""`rtwidgets status`: the local servers that run."""

from __future__ import annotations

import argparse

from rtwidgets.cli.options import Commands, write_line


def add(commands: Commands) -> None:
    """Adds the command."""
    commands.add_parser("status", help="the local servers that run").set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Prints a line for each."""
    from rtwidgets.local.home import Home
    from rtwidgets.local.leases import read_status

    running = 0
    for home in Home.all():
        state = home.read_state()
        try:
            if state is None:
                continue
            answer = read_status(state.control)
        except OSError:
            continue  # left behind by a supervisor that was killed
        running += 1
        write_line(
            f"{answer['name']}  {answer['url']}  used by {answer['leases']}  up {answer['uptime_s']:.0f} s  pid "
            f"{answer['pid']}"
        )
    if not running:
        write_line("No local server runs.")
    return 0
