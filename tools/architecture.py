"""Writes the lists of docs/architecture.md from the source, and checks that the page names nothing that is not there.

    python tools/architecture.py write    writes the lists of rooms and modules into the page
    python tools/architecture.py check    fails if the lists are out of date or a file named on the page does not exist

A list stands between `<!-- rooms -->` or `<!-- modules -->` and `<!-- end -->`. A module's line is the first sentence
of its docstring (in TypeScript: of its first comment)."""

from __future__ import annotations

import ast
import difflib
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
from tests.rooms import ALLOWED, FORBIDDEN_LIBRARIES, Module, modules  # noqa: E402

PAGE = ROOT / "docs" / "architecture.md"
FRONT_END = ROOT / "js" / "src"


def summary(docstring: str | None) -> str:
    """The first sentence, or the first paragraph if that is shorter; a full stop at the end is left out."""
    paragraph = " ".join((docstring or "").split("\n\n")[0].split())
    sentence = re.match(r"(.*?)[.:](?= [A-Z`]|$)", paragraph)
    return (sentence[1] if sentence else paragraph).rstrip(".").replace("|", r"\|")


def typescript_summary(text: str) -> str:
    """The first sentence of the comment at the head of a file."""
    comment = re.match(r"/\*\*(.*?)\*/", text, re.S)
    return summary(re.sub(r"^\s*\* ?", "", comment[1], flags=re.M).strip()) if comment else ""


def rooms(found: dict[str, Module]) -> str:
    """One row a room: what it is for, what it may import, and the libraries it does without."""
    lines = ["| room | what it is for | imports | does without |", "|---|---|---|---|"]
    for room, allowed in ALLOWED.items():
        module = found[f"rtwidgets.{room}"]
        is_folder = module.path.name == "__init__.py"
        name = f"`rtwidgets/{room}/`" if is_folder else f"`rtwidgets/{room}.py`"
        above = ", ".join(f"`{other}`" for other in ALLOWED if other in allowed - {room}) or "no other room"
        without = ", ".join(sorted(FORBIDDEN_LIBRARIES.get(room, ()))) or "–"
        lines.append(f"| {name} | {summary(ast.get_docstring(module.tree))} | {above} | {without} |")
    return "\n".join(lines)


def module_lists(found: dict[str, Module]) -> str:
    """One heading a room, with a row for each of its modules; then the front end's files."""
    parts: list[str] = []
    for room in ALLOWED:
        inside = {name: m for name, m in found.items() if m.room == room and name != f"rtwidgets.{room}"}
        rows = {
            name.removeprefix(f"rtwidgets.{room}.").replace(".", "/")
            + ("/" if m.path.name == "__init__.py" else ".py"): summary(ast.get_docstring(m.tree))
            for name, m in inside.items()
        }
        if rows:
            parts.append(module_list(f"rtwidgets/{room}/", rows))
    for folder in sorted(path for path in FRONT_END.iterdir() if path.is_dir()):
        rows = {path.name: typescript_summary(path.read_text()) for path in sorted(folder.glob("*.ts"))}
        parts.append(module_list(f"js/src/{folder.name}/", rows))
    return "\n\n".join(parts)


def module_list(folder: str, rows: dict[str, str]) -> str:
    lines = [f"### `{folder}`", "", "| module | what it is for |", "|---|---|"]
    return "\n".join([*lines, *(f"| `{name}` | {text} |" for name, text in rows.items())])


def written(page: str) -> str:
    """The page with its lists as the source is now."""
    found = modules()
    for mark, text in (("rooms", rooms(found)), ("modules", module_lists(found))):
        page, count = re.subn(
            rf"(<!-- {mark} -->\n).*?(<!-- end -->)",
            lambda match, new=text: f"{match[1]}{new}\n{match[2]}",
            page,
            flags=re.S,
        )
        assert count == 1, f"{PAGE.name} has no place for the list of {mark}"
    return page


def missing(page: str) -> list[str]:
    """Files named by hand on the page that do not exist: `room/module.py`, `js/src/...ts`, `tests/...`, `bench/...`."""
    by_hand = re.sub(r"<!-- (rooms|modules) -->.*?<!-- end -->", "", page, flags=re.S)
    named = set(re.findall(r"`([\w./-]+/[\w./-]*)`", by_hand))
    return sorted(name for name in named if not any((base / name).exists() for base in (ROOT, ROOT / "rtwidgets")))


def main() -> None:
    command = sys.argv[1] if len(sys.argv) == 2 else ""
    page = PAGE.read_text()
    if command == "write":
        page = written(page)
        PAGE.write_text(page)
    elif command != "check":
        sys.exit(__doc__)
    change = list(
        difflib.unified_diff(page.splitlines(), written(page).splitlines(), "page", "source", lineterm="", n=0)
    )
    if change:
        print(*change, sep="\n")
        sys.exit("docs/architecture.md is out of date: run `.venv/bin/python tools/architecture.py write`")
    if missing(page):
        sys.exit(f"docs/architecture.md names files that do not exist: {', '.join(missing(page))}")


if __name__ == "__main__":
    main()
