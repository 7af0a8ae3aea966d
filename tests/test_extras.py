"""An installation without extras: an error names the extra that brings a missing package, and everything else works."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

WITHOUT = """
import importlib.abc, sys

class Missing(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"psycopg", "aiohttp", "filelock", "platformdirs", "jwt", "uvloop"}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Missing())
"""


def without_extras(code: str) -> subprocess.CompletedProcess[str]:
    """Runs code in a process that cannot import any package of the extra `local`."""
    env = {name: value for name, value in os.environ.items() if not name.startswith(("SUPABASE", "RTWIDGETS"))}
    return subprocess.run([sys.executable, "-c", WITHOUT + code], env=env, capture_output=True, text=True, timeout=60)


def test_every_public_name_but_the_local_server_can_be_imported() -> None:
    done = without_extras(
        """
import rtwidgets as rt
for name in rt.__all__:
    if name not in ("local", "Local"):
        getattr(rt, name)
"""
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("use", ["rt.local()", "rt.Local"])
def test_the_local_server_names_the_extra(use: str) -> None:
    done = without_extras(
        f"""
import rtwidgets as rt
try:
    {use}
except rt.RealtimeError as error:
    print(error.code, error.message, error.hint, sep="|")
"""
    )
    code, message, hint = done.stdout.strip().split("|")
    assert code == "MissingPackage", done.stderr
    assert message.startswith("rt.")
    assert "is not installed" in message
    assert hint == 'pip install "rtwidgets[local]"'


@pytest.mark.parametrize(("command", "extra"), [("demo", "demo"), ("serve", "local"), ("doctor", "local")])
def test_a_command_names_the_extra(command: str, extra: str) -> None:
    done = without_extras(f"from rtwidgets.cli import main; sys.exit(main([{command!r}]))")
    assert done.returncode == 1
    assert f'pip install "rtwidgets[{extra}]"' in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("speed", ["0", "-5", "nan", "fast"])
def test_an_invalid_speed_is_rejected(speed: str, capsys: pytest.CaptureFixture[str]) -> None:
    from rtwidgets.cli import main

    with pytest.raises(SystemExit, match="2"):
        main(["demo", "--speed", speed])
    assert speed in capsys.readouterr().err
