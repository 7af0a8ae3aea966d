"""What several commands share: how they are added, their options, and how they print."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from rtwidgets.tools.project import Project


class Commands(Protocol):
    """What `ArgumentParser.add_subparsers()` returns."""

    def add_parser(self, name: str, *, help: str) -> argparse.ArgumentParser:
        """Adds a command."""
        ...


def write_line(text: str) -> None:
    """Prints at once, also into a pipe."""
    print(text, flush=True)


def port(text: str) -> int:
    """A TCP port, for argparse."""
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 (a free one) and 65535")
    return int(text)


def add_project(parser: argparse.ArgumentParser) -> None:
    """The options that name a project or a local server."""
    group = parser.add_argument_group("project", "default: the environment's, else the local server that runs")
    group.add_argument("--url", help="of a project; or SUPABASE_URL")
    group.add_argument("--key", help="its API key; better SUPABASE_KEY, since arguments show in ps")
    group.add_argument("--token", help="a user's JWT; better SUPABASE_TOKEN")
    group.add_argument("--name", help="of a local server that runs")
    group.add_argument("--as", dest="role", help="on a local server: anon (default), service_role, or a user's id")
    group.add_argument("--schema", default="public")


def find_project(arguments: argparse.Namespace) -> Project:
    """The project that those options name. Raises RealtimeError where there is none."""
    from rtwidgets.tools.project import find

    return find(url=arguments.url, key=arguments.key, token=arguments.token, name=arguments.name, role=arguments.role)
