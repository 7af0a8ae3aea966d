"""`rtwidgets remove`: removes from a Postgres what `serve --postgres` added to it."""

from __future__ import annotations

import argparse

from rtwidgets.cli.options import Commands, write_line


def add(commands: Commands) -> None:
    """Adds the command."""
    parser = commands.add_parser("remove", help="removes from a Postgres of yours what serve --postgres added to it")
    parser.add_argument("--postgres", required=True, metavar="DSN", help="your tables stay as they are")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Raises RealtimeError where the Postgres cannot be reached."""
    import asyncio

    from rtwidgets.local.install import remove

    asyncio.run(remove(arguments.postgres))
    write_line("Removed: the schemas auth and realtime, publications and roles, as far as they were made by rtwidgets.")
    return 0
