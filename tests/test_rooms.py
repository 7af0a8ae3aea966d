"""The shape of the package: data flows one way, no circle of imports, modules and classes of a size that one can read.

A list of exceptions here only gets shorter: an entry that is no longer needed fails the test, too."""

from __future__ import annotations

import ast

import pytest

from .rooms import ALLOWED, FORBIDDEN_LIBRARIES, Module, circles, graph, modules

MODULES = modules()
GRAPH = graph(MODULES)

MOST_LINES = 450
MOST_ATTRIBUTES = 20

KNOWN_UPWARDS: set[tuple[str, str]] = set()
KNOWN_CIRCLES: list[set[str]] = []
TOO_LONG: set[str] = set()
TOO_MANY_ATTRIBUTES: set[tuple[str, str]] = set()

# Modules whose first sentence does not fit on one line yet.
UNFINISHED_FIRST_LINES = {
    "rtwidgets.data.columns",
    "rtwidgets.data.readonly_arrays",
    "rtwidgets.local.launch",
    "rtwidgets.local.leases",
    "rtwidgets.local.socket_folder",
    "rtwidgets.local.supervisor",
    "rtwidgets.sessions.server",
}


def test_every_room_has_a_rule() -> None:
    assert {module.room for module in MODULES.values()} - {""} == set(ALLOWED)


def test_a_room_imports_only_rooms_above_it() -> None:
    upwards = {
        (name, other)
        for name, others in GRAPH.items()
        for other in others
        if MODULES[name].room and MODULES[other].room not in ALLOWED[MODULES[name].room]
    }
    assert sorted(upwards - KNOWN_UPWARDS) == [], "imports of a room that is not above"
    assert sorted(KNOWN_UPWARDS - upwards) == [], "not imported any more: take it out of KNOWN_UPWARDS"


@pytest.mark.parametrize("room", sorted(FORBIDDEN_LIBRARIES))
def test_a_room_does_without_the_libraries_of_others(room: str) -> None:
    for name, module in MODULES.items():
        if module.room == room:
            libraries = {other.partition(".")[0] for other in module.imports()}
            assert not libraries & FORBIDDEN_LIBRARIES[room], name


def test_no_module_imports_itself_in_a_circle() -> None:
    found = circles(GRAPH)
    new = [sorted(circle) for circle in found if not any(circle <= known for known in KNOWN_CIRCLES)]
    assert new == [], "modules that import each other"
    gone = [sorted(known) for known in KNOWN_CIRCLES if not any(circle <= known for circle in found)]
    assert gone == [], "no circle any more: take it out of KNOWN_CIRCLES"


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
    found = {name for name, module in MODULES.items() if module.text.count("\n") > MOST_LINES}
    assert sorted(found - TOO_LONG) == [], f"more than {MOST_LINES} lines"
    assert sorted(TOO_LONG - found) == [], "short enough now: take it out of TOO_LONG"


def test_no_class_has_too_many_attributes() -> None:
    found = {
        (name, cls)
        for name, module in MODULES.items()
        for cls, attributes in module.attributes().items()
        if len(attributes) > MOST_ATTRIBUTES
    }
    assert sorted(found - TOO_MANY_ATTRIBUTES) == [], f"more than {MOST_ATTRIBUTES} attributes"
    assert sorted(TOO_MANY_ATTRIBUTES - found) == [], "few enough now: take it out of TOO_MANY_ATTRIBUTES"


@pytest.mark.parametrize("name", sorted(MODULES))
def test_a_module_says_in_its_first_line_what_it_is_for(name: str) -> None:
    docstring = ast.get_docstring(MODULES[name].tree)
    assert docstring, "no docstring"
    first = docstring.splitlines()[0]
    assert first.endswith(".") or name in UNFINISHED_FIRST_LINES, "the first line is no sentence"
