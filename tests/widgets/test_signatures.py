"""What `help()`, Shift-Tab, `?` and completion show of everything that `rtwidgets` exports."""

from __future__ import annotations

import inspect
import pydoc
from typing import Any

import pytest
import traitlets
from IPython.core.interactiveshell import InteractiveShell

import rtwidgets as rt
from rtwidgets.widgets.groups import GroupView
from rtwidgets.widgets.sources import LiveSource

EXPORTED = [*rt.__all__]
CLASSES = [GroupView, *(value for name in EXPORTED if isinstance(value := getattr(rt, name), type))]
SOURCES = [cls for cls in CLASSES if issubclass(cls, LiveSource)]


@pytest.mark.parametrize("name", EXPORTED)
def test_each_export_has_a_signature_and_a_docstring(name: str) -> None:
    value: Any = getattr(rt, name)
    parameters = inspect.signature(value).parameters.values()
    assert {one.kind for one in parameters} != {inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD}
    assert all(one.annotation is not inspect.Parameter.empty for one in parameters)
    assert inspect.getdoc(value)


PASSED_ON = {
    "LiveTable.to_csv": "options",
    "LiveTable.to_parquet": "options",
    "Local.sql": "params",
    "Local.token": "claims",
}
"""What has no names of its own here: options of pandas, values of a statement, claims of a token."""


def public_callables(name: str) -> list[tuple[str, Any]]:
    """The export and, of a class, the methods that this package defines."""
    value: Any = getattr(rt, name)
    found = [(name, value)]
    for base in value.__mro__ if isinstance(value, type) else ():
        if base.__module__.startswith("rtwidgets."):
            own = [(one, getattr(value, one)) for one, defined in vars(base).items() if inspect.isroutine(defined)]
            found += [(f"{name}.{one}", method) for one, method in own if not one.startswith("_") and callable(method)]
    return found


@pytest.mark.parametrize("name", EXPORTED)
def test_no_argument_hides_in_a_mapping(name: str) -> None:
    for shown, value in public_callables(name):
        for one in inspect.signature(value, eval_str=False).parameters.values():
            if one.kind in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD):
                assert one.annotation not in ("Any", Any) or PASSED_ON.get(shown) == one.name, f"{shown}(*{one})"


def test_clients_and_channels_have_the_arguments_of_their_asyncio_twins() -> None:
    def options(value: Any) -> dict[str, tuple[Any, Any]]:
        parameters = inspect.signature(value).parameters.values()
        return {one.name: (one.annotation, one.default) for one in parameters if one.kind is one.KEYWORD_ONLY}

    assert options(rt.Client) == options(rt.connect) == options(rt.AsyncClient)
    channel = options(rt.AsyncClient.channel)
    assert options(rt.Client.channel) == channel
    assert options(rt.Channel) == channel | {"client": ("Client | None", None)}


@pytest.mark.parametrize("cls", SOURCES, ids=lambda cls: cls.__name__)
def test_help_shows_the_constructor_and_each_trait(cls: type[LiveSource]) -> None:
    shown = pydoc.plain(pydoc.render_doc(cls))
    first = next(iter(inspect.signature(cls).parameters))
    assert f"{cls.__name__}({first}" in shown
    own = [
        trait
        for base in cls.__mro__
        if base.__module__.startswith("rtwidgets.")
        for trait in vars(base).values()
        if isinstance(trait, traitlets.TraitType)
    ]
    assert {"status", "error", "revision"} <= {trait.name for trait in own}
    for trait in own:
        assert trait.help, f"{cls.__name__}.{trait.name} has no help="
        assert trait.__doc__ == trait.help
    words = " ".join(shown.split())
    for name, trait in cls.class_traits().items():
        if trait in own and not name.startswith("_"):
            assert " ".join(trait.help.split()) in words.replace("| ", ""), f"help() lacks {name}"


def test_question_mark_and_completion_know_the_arguments() -> None:
    shell = InteractiveShell()
    shell.user_ns["rt"] = rt
    found = shell.object_inspect("rt.Presence")
    assert "state:" in (found["init_definition"] or "")
    shell.Completer.use_jedi = False
    _, matches = shell.complete("", "rt.LiveTable(ord", 16)
    assert "order=" in matches


def test_dir_shows_public_names_only() -> None:
    assert dir(rt) == sorted([*rt.__all__, "__version__"])


def test_everything_that_takes_a_topic_takes_a_client() -> None:
    for cls in CLASSES:
        parameters = inspect.signature(cls).parameters
        if "channel" in parameters or "topic" in parameters:
            assert "client" in parameters, cls.__name__
