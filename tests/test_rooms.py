"""The shape of the package: data flows one way, no circle of imports, modules and classes of a readable size."""

from __future__ import annotations

import ast
import re

import pytest

from .rooms import ALLOWED, FORBIDDEN_LIBRARIES, Module, circles, graph, modules

MODULES = modules()
GRAPH = graph(MODULES)

MOST_LINES = 450
MOST_ATTRIBUTES = 20
# Everyday verbs that could mean several of the architecture page's verbs.
VAGUE = re.compile(
    "takes?|took|taken|tells?|told|says?|said|holds?|held|hears?|heard|asks?|asked|mends?|mended|beg[aiu]ns?|mine"
)


def test_every_room_has_a_rule() -> None:
    assert {module.room for module in MODULES.values()} - {""} == set(ALLOWED)


def test_a_room_imports_only_rooms_above_it() -> None:
    upwards = [
        (name, other)
        for name, others in GRAPH.items()
        for other in others
        if MODULES[name].room and MODULES[other].room not in ALLOWED[MODULES[name].room]
    ]
    assert upwards == []


@pytest.mark.parametrize("room", sorted(FORBIDDEN_LIBRARIES))
def test_a_room_does_without_the_libraries_of_others(room: str) -> None:
    for name, module in MODULES.items():
        if module.room == room:
            libraries = {other.partition(".")[0] for other in module.imports()}
            assert not libraries & FORBIDDEN_LIBRARIES[room], name


def test_no_modules_import_each_other_in_a_circle() -> None:
    assert [sorted(circle) for circle in circles(GRAPH)] == []


def test_the_test_of_circles_sees_one_through_functions_and_type_checking() -> None:
    sources = {
        "rtwidgets.a": "def f():\n    from .b import g",
        "rtwidgets.b": "if TYPE_CHECKING:\n    from . import c",
        "rtwidgets.c": "import rtwidgets.a",
        "rtwidgets.d": "from .a import f",
    }
    path = next(iter(MODULES.values())).path.with_name("a.py")
    given = {name: Module(name, path, text, ast.parse(text)) for name, text in sources.items()}
    assert circles(graph(given)) == [{"rtwidgets.a", "rtwidgets.b", "rtwidgets.c"}]


def test_no_module_is_too_long_to_read() -> None:
    lengths = {name: module.text.count("\n") for name, module in MODULES.items()}
    assert {name: lines for name, lines in lengths.items() if lines > MOST_LINES} == {}


def test_no_class_has_too_many_attributes() -> None:
    counts = {
        f"{name}.{cls}": len(attributes)
        for name, module in MODULES.items()
        for cls, attributes in module.attributes().items()
    }
    assert {cls: count for cls, count in counts.items() if count > MOST_ATTRIBUTES} == {}


@pytest.mark.parametrize("name", sorted(MODULES))
def test_a_module_says_in_its_first_line_what_it_is_for(name: str) -> None:
    docstring = ast.get_docstring(MODULES[name].tree)
    assert docstring, "no docstring"
    assert docstring.splitlines()[0].endswith("."), "the first line is no sentence"


@pytest.mark.parametrize("name", sorted(MODULES))
def test_a_name_has_a_verb_with_one_meaning(name: str) -> None:
    """The verbs are listed on the architecture page."""
    vague = {
        node.name
        for node in ast.walk(MODULES[name].tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
        and any(VAGUE.fullmatch(word) for word in re.sub("([A-Z])", r"_\1", node.name).lower().split("_"))
    }
    assert sorted(vague) == []
