"""A script that runs one program as a user that Postgres accepts, tied to its parent's life.

    python launch.py MODE PARENT_PID PROGRAM ARGUMENTS...

Postgres refuses to run as root. MODE `plain` is for ordinary users; `namespace` enters a user namespace in which
root's files belong to uid 65534 (no account, no chown); `nobody` gives up root permanently. A new process does this
instead of a `preexec_fn`, which is unsafe in a process with threads. MODE `program` is `plain` for anything that is
not Postgres: it ends by SIGTERM.
"""

import ctypes
import os
import signal
import subprocess
import sys

CLONE_NEWUSER = 0x10000000
PR_SET_PDEATHSIG = 1
NOBODY = 65534


def die_with_parent(parent: int, number: int) -> None:
    """Sends this process a signal when the parent ends, kill -9 included; kept across exec. Linux only."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, number, 0, 0, 0)
    if os.getppid() != parent:
        sys.exit("the parent has ended")


def watch_parent(parent: int, number: int, command: list[str]) -> int:
    """As `die_with_parent` where there is no such signal: runs the program as a child, and checks every half second."""
    child = subprocess.Popen(command)
    for passed_on in (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT):
        signal.signal(passed_on, lambda received, _: child.send_signal(received))
    while True:
        try:
            return child.wait(0.5)
        except subprocess.TimeoutExpired:
            if os.getppid() == parent:
                continue
        child.send_signal(number)
        try:
            return child.wait(20)
        except subprocess.TimeoutExpired:
            child.kill()
            return child.wait()


def enter_namespace() -> None:
    uid, gid = os.getuid(), os.getgid()
    if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWUSER) != 0:
        raise OSError(ctypes.get_errno(), "unshare(CLONE_NEWUSER)")
    for name, text in (("setgroups", "deny"), ("uid_map", f"{NOBODY} {uid} 1"), ("gid_map", f"{NOBODY} {gid} 1")):
        with open(f"/proc/self/{name}", "w") as file:
            file.write(text)


def become_nobody() -> None:
    os.setgroups([])
    os.setgid(NOBODY)
    os.setuid(NOBODY)


def main() -> None:
    mode, parent, *command = sys.argv[1:]
    if mode == "namespace":
        enter_namespace()
    elif mode == "nobody":
        become_nobody()
    # After the change of identity, which clears it.
    if parent != "0":
        # SIGINT is Postgres' fast shutdown; its SIGTERM waits for every client.
        number = signal.SIGTERM if mode == "program" else signal.SIGINT
        if not sys.platform.startswith("linux"):
            sys.exit(watch_parent(int(parent), number, command))
        die_with_parent(int(parent), number)
    os.execv(command[0], command)


if __name__ == "__main__":
    main()
