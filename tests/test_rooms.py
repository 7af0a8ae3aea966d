"""The rooms of docs/architecture.md: data flows one way, so a room imports only the rooms above it."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "rtwidgets"

ALLOWED = {
    "protocol": {"protocol"},
    "client": {"protocol", "client"},
    "data": {"protocol", "client", "data"},
    "widgets": {"protocol", "client", "data", "widgets"},
    "local": {"protocol", "client", "local"},
    "sessions": {"protocol", "client", "sessions"},
}
FORBIDDEN_LIBRARIES = {
    "protocol": {"asyncio", "websockets", "httpx", "aiohttp", "pandas", "ipywidgets", "anywidget", "socket", "time"},
    "client": {"pandas", "ipywidgets", "anywidget", "aiohttp"},
    "data": {"websockets", "httpx", "aiohttp", "ipywidgets", "anywidget", "socket"},
    "widgets": {"websockets", "aiohttp", "socket"},
    "local": {"ipywidgets", "anywidget"},
    "sessions": {"pandas", "ipywidgets", "anywidget", "aiohttp", "psycopg"},
}


def imports_at(path: Path) -> set[str]:
    """Every module that the file imports, absolute, wherever in the file the import stands."""
    package = ("rtwidgets", *path.relative_to(PACKAGE).parts[:-1])
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join([*base, *([node.module] if node.module else [])])
            found.add(module)
            if module.startswith("rtwidgets"):
                found |= {f"{module}.{alias.name}" for alias in node.names}
    return found


@pytest.mark.parametrize("room", sorted(ALLOWED))
def test_a_room_imports_only_rooms_above_it(room: str) -> None:
    files = list((PACKAGE / room).rglob("*.py"))
    assert files, f"no module in {room}"
    for path in files:
        for name in imports_at(path):
            parts = name.split(".")
            if parts[0] == "rtwidgets" and len(parts) > 1 and parts[1] in ALLOWED:
                if room == "client" and name.startswith("rtwidgets.local.handle"):
                    continue  # rt.connect() without a URL asks for the running local server, lazily
                assert parts[1] in ALLOWED[room], f"{path.name} of {room} imports {name}"
            assert parts[0] not in FORBIDDEN_LIBRARIES[room], f"{path.name} of {room} imports {name}"
