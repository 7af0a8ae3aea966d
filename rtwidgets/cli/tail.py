"""`rtwidgets tail`: what happens in a topic or a table, a line of JSON each."""

from __future__ import annotations

import argparse
import asyncio
import sys

from rtwidgets.cli.options import Commands, add_project, find_project, write_line


def add(commands: Commands) -> None:
    """Adds the command."""
    parser = commands.add_parser("tail", help="what happens in a topic or a table, a line of JSON each")
    parser.add_argument("target", metavar="TOPIC|TABLE", help="a table where there is one of that name, else a topic")
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument("--topic", dest="kind", action="store_const", const="topic", help="it is a topic")
    kind.add_argument("--table", dest="kind", action="store_const", const="table", help="it is a table")
    parser.add_argument("--filter", help="of a table: such as status=eq.open")
    parser.add_argument("--event", default="*", help="of a topic: this event only")
    parser.add_argument("--private", action="store_true", help="the topic is a private channel")
    add_project(parser)
    parser.set_defaults(run=run)


class _Output:
    """Lines on stdout, until its reader ends; reports on stderr, until the command does."""

    def __init__(self) -> None:
        self.unread = False
        self._ended = False
        self._task = asyncio.current_task()

    def write(self, text: str) -> None:
        if self.unread:
            return
        try:
            write_line(text)
        except BrokenPipeError:  # as by `| head`; raised in a callback, it would end nothing
            self.unread = True
            assert self._task is not None
            self._task.cancel()

    def report(self, text: str) -> None:
        if not self._ended:
            print(text, file=sys.stderr, flush=True)

    def end(self) -> None:
        self._ended = True


def run(arguments: argparse.Namespace) -> int:
    """Runs until ctrl-C. Raises RealtimeError where the target is not served."""
    asyncio.run(_run(arguments))
    return 0


async def _run(arguments: argparse.Namespace) -> None:
    from rtwidgets.tools.tail import is_table, tail_table, tail_topic

    output = _Output()
    client = find_project(arguments).client()
    target, schema = arguments.target, arguments.schema
    try:
        kind = arguments.kind or ("table" if await is_table(client, target, schema) else "topic")
        if kind == "table":
            await tail_table(
                client, target, schema=schema, filter=arguments.filter, write=output.write, report=output.report
            )
        else:
            await tail_topic(
                client,
                target,
                private=arguments.private,
                event=arguments.event,
                write=output.write,
                report=output.report,
            )
    except asyncio.CancelledError:
        if output.unread:
            raise BrokenPipeError from None
        raise
    finally:
        output.end()
        await client.close()
