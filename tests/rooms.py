"""The rooms of the package and what each may import; and the package as its source states it, parsed."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import NamedTuple

PACKAGE = Path(__file__).resolve().parent.parent / "rtwidgets"

# What each room may import. A room imports only rooms above it in docs/architecture.md.
ALLOWED = {
    "protocol": {"protocol"},
    "extras": {"protocol"},
    "client": {"protocol", "extras", "client"},
    "data": {"protocol", "extras", "client", "data"},
    "widgets": {"protocol", "extras", "client", "data", "widgets"},
    "local": {"protocol", "extras", "client", "local"},
    "sessions": {"protocol", "extras", "client", "sessions"},
    "tools": {"protocol", "extras", "client", "local", "sessions", "tools"},
    "demo": {"protocol", "extras", "client", "local", "demo"},
    "cli": {"protocol", "extras", "client", "local", "sessions", "tools", "demo", "cli"},
}
FORBIDDEN_LIBRARIES = {
    "protocol": {"asyncio", "websockets", "httpx", "aiohttp", "pandas", "ipywidgets", "anywidget", "socket", "time"},
    "client": {"pandas", "ipywidgets", "anywidget", "aiohttp"},
    "data": {"websockets", "httpx", "aiohttp", "ipywidgets", "anywidget", "socket"},
    "widgets": {"websockets", "aiohttp", "socket"},
    "local": {"ipywidgets", "anywidget"},
    "sessions": {"pandas", "ipywidgets", "anywidget", "aiohttp", "psycopg"},
    "tools": {"pandas", "ipywidgets", "anywidget"},
}


class Module(NamedTuple):
    """One module of the package, parsed."""

    name: str
    path: Path
    text: str
    tree: ast.Module

    @property
    def room(self) -> str:
        """The folder below `rtwidgets/`, or for a module directly in it the module's own name; "" for the package."""
        return self.name.split(".")[1] if "." in self.name else ""

    def imports(self) -> set[str]:
        """Absolute names of what the module imports, wherever the import stands: at the top, in a function, or under
        `TYPE_CHECKING`. `from a import b` gives both `a` and `a.b`, because `b` may be a module."""
        package = self.name.split(".") if self.path.name == "__init__.py" else self.name.split(".")[:-1]
        found: set[str] = set()
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                base = package[: len(package) - node.level + 1] if node.level else []
                module = ".".join([*base, *([node.module] if node.module else [])])
                found |= {module, *(f"{module}.{alias.name}" for alias in node.names)}
        return found

    def attributes(self) -> dict[str, set[str]]:
        """For each class, the names of its instance attributes: assigned through `self`, or annotated fields."""
        return {node.name: _attributes(node) for node in ast.walk(self.tree) if isinstance(node, ast.ClassDef)}


def modules() -> dict[str, Module]:
    """Every module of the package by its absolute name."""
    found: dict[str, Module] = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = ["rtwidgets", *path.relative_to(PACKAGE).with_suffix("").parts]
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        text = path.read_text()
        found[name] = Module(name, path, text, ast.parse(text))
    return found


def graph(of: dict[str, Module]) -> dict[str, set[str]]:
    """Which modules of the package each module imports. `from .room import module` is an edge to the module alone."""
    edges: dict[str, set[str]] = {}
    for name, module in of.items():
        imported = {other for other in module.imports() if other in of and other != name}
        edges[name] = {
            other for other in imported if not any(longer.startswith(other + ".") for longer in imported - {other})
        }
    return edges


def circles(edges: dict[str, set[str]]) -> list[frozenset[str]]:
    """The sets of modules that import each other in a circle: strongly connected components (Tarjan)."""
    order: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[frozenset[str]] = []

    def visit(name: str) -> None:
        order[name] = low[name] = len(order)
        stack.append(name)
        for other in sorted(edges[name]):
            if other not in order:
                visit(other)
                low[name] = min(low[name], low[other])
            elif other in stack:
                low[name] = min(low[name], order[other])
        if low[name] == order[name]:
            component = stack[stack.index(name) :]
            del stack[stack.index(name) :]
            if len(component) > 1:
                found.append(frozenset(component))

    for name in edges:
        if name not in order:
            visit(name)
    return found


def _attributes(cls: ast.ClassDef) -> set[str]:
    names = {
        node.target.id
        for node in cls.body
        if isinstance(node, ast.AnnAssign)
        and isinstance(node.target, ast.Name)
        and "ClassVar" not in ast.unparse(node.annotation)
    }
    for method in cls.body:
        if isinstance(method, ast.FunctionDef | ast.AsyncFunctionDef) and method.args.args:
            this = method.args.args[0].arg
            names |= {
                node.attr
                for node in ast.walk(method)
                if isinstance(node, ast.Attribute)
                and isinstance(node.ctx, ast.Store)
                and isinstance(node.value, ast.Name)
                and node.value.id == this
            }
    return names
