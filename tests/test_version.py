"""The version stands in two files; the changelog's fragments are of the kinds that it knows."""

from __future__ import annotations

import tomllib
from pathlib import Path

import rtwidgets as rt

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def test_the_package_has_the_projects_version() -> None:
    assert rt.__version__ == PROJECT["project"]["version"]


def test_every_changelog_fragment_has_a_kind_and_one_short_text() -> None:
    kinds = {kind["directory"] for kind in PROJECT["tool"]["towncrier"]["type"]}
    for path in (ROOT / "changelog.d").iterdir():
        if path.name == "README.md":
            continue
        slug, kind, suffix = path.name.split(".")
        assert slug.startswith("+"), path.name
        assert kind in kinds, path.name
        assert suffix == "md", path.name
        text = path.read_text().strip()
        assert text.endswith("."), f"{path.name}: a sentence"
        assert len(text) < 600, f"{path.name}: one or two sentences"
        assert "\n\n" not in text, f"{path.name}: one paragraph"


def test_the_published_extras_are_those_of_users() -> None:
    assert set(PROJECT["project"]["optional-dependencies"]) == {"local", "demo"}
