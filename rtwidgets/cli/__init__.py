"""The command line: `rtwidgets demo`, `serve`, `status`, `stop`, `remove`, `tail`, `doctor`."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
from collections.abc import Sequence

from rtwidgets.cli import demo, doctor, remove, serve, status, stop, tail
from rtwidgets.extras import not_installed
from rtwidgets.protocol.errors import RealtimeError


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of `rtwidgets`. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="rtwidgets", description="Live data in notebooks.")
    commands = parser.add_subparsers(dest="command", required=True)
    for command in (demo, serve, status, stop, remove, tail, doctor):
        command.add(commands)
    arguments = parser.parse_args(argv)
    # SIGTERM ends a command as ctrl-C does, so that what it started is stopped. A script's background job inherits
    # that SIGINT is ignored.
    signal.signal(signal.SIGTERM, _interrupt)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # A command reports its errors itself, once.
    logging.getLogger("rtwidgets").addHandler(logging.NullHandler())
    try:
        return arguments.run(arguments)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # the reader of our output has ended
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except RealtimeError as error:
        return _refused(error)
    except ModuleNotFoundError as error:
        extra = "demo" if arguments.command == "demo" else "local"
        return _refused(not_installed(error, f"rtwidgets {arguments.command}", extra))


def _interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt


def _refused(error: RealtimeError | ModuleNotFoundError) -> int:
    """Prints the error with its hint, in one paragraph; returns the exit code."""
    if not isinstance(error, RealtimeError):
        raise error
    message = " ".join(error.message.split()).rstrip(".")
    print(f"{error.code}: {message}. {error.hint}".strip(), file=sys.stderr)
    return 1
