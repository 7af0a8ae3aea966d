"""A JupyterLab of the demo's own, tied to this process's life."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

from rtwidgets.protocol.errors import RealtimeError

START_TIMEOUT = 90.0
"""Seconds within which it must answer."""
_LAUNCH = Path(__file__).parent.parent / "local" / "launch.py"


def start_lab(folder: Path, log_file: Path, port: int, token: str) -> subprocess.Popen[bytes]:
    """Starts it in `folder` and returns when it answers. Raises RealtimeError where it does not."""
    settings = log_file.parent / "jupyter"
    defaults = settings / "labconfig" / "default_setting_overrides.json"
    defaults.parent.mkdir(parents=True, exist_ok=True)
    # Else JupyterLab asks whether it may fetch its news, over the board.
    notification = {"fetchNews": "false", "checkForUpdates": False}
    defaults.write_text(json.dumps({"@jupyterlab/apputils-extension:notification": notification}))
    command = [
        *(sys.executable, "-I", str(_LAUNCH), "program", str(os.getpid())),
        *(sys.executable, "-m", "jupyterlab", "--no-browser", f"--ServerApp.root_dir={folder}"),
        *(f"--ServerApp.port={port}", "--ServerApp.port_retries=0", "--LabApp.news_url=None"),
        "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
        *(["--allow-root"] if os.geteuid() == 0 else []),
    ]
    with log_file.open("wb") as log:
        # The token goes by the environment: arguments show in ps.
        lab = subprocess.Popen(
            command,
            cwd=folder,
            env={
                **os.environ,
                "JUPYTER_TOKEN": token,
                "JUPYTER_CONFIG_PATH": _with_path(str(settings), "JUPYTER_CONFIG_PATH"),
            },
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # whatever HTTP_PROXY is
    try:
        deadline = time.monotonic() + START_TIMEOUT
        while time.monotonic() < deadline and lab.poll() is None:
            try:
                direct.open(f"http://127.0.0.1:{port}/api", timeout=2).close()
            except (urllib.error.URLError, OSError):
                time.sleep(0.1)
            else:
                return lab
    except BaseException:
        stop_lab(lab)
        raise
    stop_lab(lab)
    tail = log_file.read_text(errors="replace").strip()[-800:]
    raise RealtimeError(
        f"JupyterLab did not start: {tail}", code="JupyterLabDidNotStart", hint=f"All of it: {log_file}"
    )


def stop_lab(lab: subprocess.Popen[bytes]) -> None:
    """Ends it, and waits for its end."""
    lab.terminate()
    try:
        lab.wait(15)
    except subprocess.TimeoutExpired:
        lab.kill()
        lab.wait()


def find_port(wanted: int) -> int:
    """The port that is wanted, or a free one for 0. Raises RealtimeError where it is taken."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", wanted))
        except OSError:
            raise RealtimeError(
                f"Port {wanted} is taken.",
                code="PortTaken",
                hint="Leave --port out to take a free one, or end the program that listens there.",
            ) from None
        return probe.getsockname()[1]


def _with_path(folder: str, variable: str) -> str:
    """A search path: the folder before what the variable names already."""
    return os.pathsep.join([folder, *filter(None, [os.environ.get(variable)])])
