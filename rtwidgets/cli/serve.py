"""`rtwidgets serve`: the local server in the foreground."""

from __future__ import annotations

import argparse
import time

from rtwidgets.cli.options import Commands, port, write_line
from rtwidgets.protocol.errors import RealtimeError


def add(commands: Commands) -> None:
    """Adds the command."""
    parser = commands.add_parser("serve", help="the local server in the foreground, printing its url and keys")
    parser.add_argument("--name", default=None)
    parser.add_argument("--port", type=port, default=0, help="default: the last one, or a free one")
    parser.add_argument(
        "--postgres", default=None, metavar="DSN", help="a Postgres of yours instead of the embedded one"
    )
    parser.add_argument(
        "--host", default=None, help="default 127.0.0.1; another needs a secret of yours in RTWIDGETS_JWT_SECRET"
    )
    parser.add_argument("--limits", choices=["supabase"], help="those of a project on Supabase's free plan")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Runs until ctrl-C. Raises RealtimeError where the server cannot start, or ends."""
    from rtwidgets.local.handle import local

    options = {name: getattr(arguments, name) for name in ("postgres", "port", "limits", "host")}
    with local(arguments.name, **options) as server:
        write_line(
            f"url          {server.url}\nanon key     {server.anon_key}\nservice key  "
            f"{server.service_key}\nctrl-C stops it."
        )
        try:
            while server.alive():
                time.sleep(1)
        except KeyboardInterrupt:
            server.stop()
            return 0
    raise RealtimeError("The local server has ended.", code="LocalServerEnded", hint="Start it again: rtwidgets serve")
