"""Runs the Python of one page of documentation, block after block in one namespace: `python -m tests.docs.page FILE`.

A comment before a block excludes it and gives the reason: `<!-- not run: needs a Supabase project -->`. Code that a
page needs but does not show (a table to read from, an assertion of a claim) is in a comment, too: `<!-- run` on a line
of its own, then code, then `-->`.
"""

from __future__ import annotations

import ast
import asyncio
import inspect
import re
import sys
from pathlib import Path
from typing import NamedTuple

_BLOCK = re.compile(
    r"^(?:<!-- not run: *(?P<reason>[^\n]*?) *-->\n+)?(?P<indent> *)```python[^\n]*\n(?P<code>.*?)^(?P=indent)```"
    r"|^<!-- run\n(?P<hidden>.*?)^-->",
    re.S | re.M,
)


class Block(NamedTuple):
    """A block of code with its line in the page. `reason`: why it is not run; None if it is run."""

    line: int
    code: str
    reason: str | None


def blocks(text: str) -> list[Block]:
    """The Python blocks of a page, in order."""
    found: list[Block] = []
    for match in _BLOCK.finditer(text):
        hidden = match["hidden"] is not None
        code = match["hidden"] if hidden else match["code"]
        line = text.count("\n", 0, match.start("hidden" if hidden else "code")) + 1
        indent = len(match["indent"] or "")
        code = "\n".join(row[indent:] for row in code.split("\n"))
        found.append(Block(line, code, match["reason"]))
    return found


def main(path: Path) -> None:
    """Runs a page. An exception in a block ends it; its traceback has the line numbers of the page."""
    names: dict[str, object] = {"__name__": "__main__"}
    # One loop for all blocks, as in a notebook, whose cells can await.
    with asyncio.Runner() as runner:
        for block in blocks(path.read_text()):
            if block.reason is not None:
                continue
            code = "\n" * (block.line - 1) + block.code
            compiled = compile(code, str(path), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
            if compiled.co_flags & inspect.CO_COROUTINE:
                runner.run(eval(compiled, names))
            else:
                exec(compiled, names)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
