"""`rtwidgets doctor`: tests each step to live data, and prints what fixes the first failure."""

from __future__ import annotations

import argparse
import asyncio

from rtwidgets.cli.options import Commands, add_project, find_project, write_line


def add(commands: Commands) -> None:
    """Adds the command."""
    parser = commands.add_parser("doctor", help="tests each step to live data, and prints what fixes a failure")
    parser.add_argument("table", nargs="?", metavar="TABLE")
    parser.add_argument("--json", action="store_true", help="a list of findings as JSON")
    add_project(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Returns 1 where a step failed."""
    from rtwidgets.tools.doctor import examine
    from rtwidgets.tools.report import Report, lines

    project = find_project(arguments)
    report = Report([])

    async def examined() -> None:
        async for finding in examine(project, arguments.table, arguments.schema):
            report.findings.append(finding)
            if not arguments.json:
                write_line("\n".join(lines(finding)))

    asyncio.run(examined())
    if arguments.json:
        write_line(report.to_json())
    return int(not report.ok)
