"""`rtwidgets stop`: stops a local server, for everybody who uses it."""

from __future__ import annotations

import argparse

from rtwidgets.cli.options import Commands, write_line
from rtwidgets.protocol.errors import RealtimeTimeoutError


def add(commands: Commands) -> None:
    """Adds the command."""
    parser = commands.add_parser("stop", help="stops a local server, for everybody who uses it")
    parser.add_argument("name", nargs="?", default=None)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Returns 1 where none runs. Raises RealtimeTimeoutError where it does not stop."""
    import filelock

    from rtwidgets.local.home import Home, default_name
    from rtwidgets.local.leases import send_stop
    from rtwidgets.local.shared_server import STOP_TIMEOUT

    home = Home(default_name(arguments.name))
    state = home.read_state()
    try:
        if state is None:
            raise FileNotFoundError
        send_stop(state.control)
    except OSError:
        write_line(f"No local server runs under the name {home.name!r}.")
        return 1
    try:
        with filelock.FileLock(home.owner_lock, timeout=STOP_TIMEOUT):  # the supervisor's until Postgres has stopped
            pass
    except filelock.Timeout:
        raise RealtimeTimeoutError(
            f"The local server {home.name!r} did not stop within {STOP_TIMEOUT:.0f} s.",
            code="LocalServerTimeout",
            hint=f"See {home.log_file}.",
        ) from None
    write_line(f"Stopped {home.name!r}.")
    return 0
