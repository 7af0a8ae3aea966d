"""Runs the Python of one page of documentation, block after block in one namespace: `python -m tests.docs.page FILE`.

A block is left out only by a comment before it that gives the reason: `<!-- not run: needs a Supabase project -->`.
What a page leaves unsaid but needs (a table to read from, an assertion of what it claims) stands in a comment too:
`<!-- run` on a line of its own, then code, then `-->`.
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
    """`reason`: why it is not run; None where it is."""

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
    """Runs a page. What a block raises ends it, with the page's own line numbers."""
    names: dict[str, object] = {"__name__": "__main__"}
    # One loop for all blocks, as in a notebook, where `await` stands in a cell.
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
