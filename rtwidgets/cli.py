"""The command line: `rtwidgets demo`, `serve`, `status`, `stop`, `remove`, `tail`, `doctor`."""

from __future__ import annotations

import argparse
import importlib.util
import json
import logging
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import webbrowser
from collections.abc import Sequence
from pathlib import Path

from rtwidgets.extras import not_installed
from rtwidgets.protocol.errors import RealtimeError


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of `rtwidgets`. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="rtwidgets", description="Live data in notebooks.")
    commands = parser.add_subparsers(dest="command", required=True)

    demo = commands.add_parser(
        "demo", help="a live flight board in JupyterLab, on a real Postgres (ctrl-C stops all of it)"
    )
    demo.add_argument("--no-browser", action="store_true", help="print the address instead of opening it")
    demo.add_argument("--port", type=_port, default=0, help="JupyterLab's port; default a free one")
    demo.add_argument("--speed", type=_speed, default=60.0, help="replayed seconds in a second; default 60")
    demo.set_defaults(run=_demo)

    serve = commands.add_parser("serve", help="the local server in the foreground, printing its url and keys")
    serve.add_argument("--name", default=None)
    serve.add_argument("--port", type=_port, default=0, help="default: the last one, or a free one")
    serve.add_argument(
        "--postgres", default=None, metavar="DSN", help="a Postgres of yours instead of the embedded one"
    )
    serve.add_argument(
        "--host", default=None, help="default 127.0.0.1; another takes a secret of yours in RTWIDGETS_JWT_SECRET"
    )
    serve.add_argument("--limits", choices=["supabase"], help="those of a project on Supabase's free plan")
    serve.set_defaults(run=_serve)

    status = commands.add_parser("status", help="the local servers that run")
    status.set_defaults(run=_status)

    stop = commands.add_parser("stop", help="stops a local server, for everybody who uses it")
    stop.add_argument("name", nargs="?", default=None)
    stop.set_defaults(run=_stop)

    remove = commands.add_parser("remove", help="takes out of a Postgres of yours what serve --postgres put there")
    remove.add_argument("--postgres", required=True, metavar="DSN", help="your tables stay as they are")
    remove.set_defaults(run=_remove)

    tail = commands.add_parser("tail", help="what happens in a topic or a table, a line of JSON each")
    tail.add_argument("target", metavar="TOPIC|TABLE", help="a table where there is one of that name, else a topic")
    kind = tail.add_mutually_exclusive_group()
    kind.add_argument("--topic", dest="kind", action="store_const", const="topic", help="it is a topic")
    kind.add_argument("--table", dest="kind", action="store_const", const="table", help="it is a table")
    tail.add_argument("--filter", help="of a table: such as status=eq.open")
    tail.add_argument("--event", default="*", help="of a topic: this event only")
    tail.add_argument("--private", action="store_true", help="the topic is a private channel")
    _project_options(tail)
    tail.set_defaults(run=_tail)

    doctor = commands.add_parser("doctor", help="tries each step to live data for real, and says what mends a failure")
    doctor.add_argument("table", nargs="?", metavar="TABLE")
    doctor.add_argument("--json", action="store_true", help="a list of findings as JSON")
    _project_options(doctor)
    doctor.set_defaults(run=_doctor)

    arguments = parser.parse_args(argv)
    # `kill` and ctrl-C end a command in the same way, so that what it started is stopped. A script's background job
    # inherits that SIGINT is ignored; it would hear none.
    signal.signal(signal.SIGTERM, _interrupt)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # What a command meets it says itself, once.
    logging.getLogger("rtwidgets").addHandler(logging.NullHandler())
    try:
        return arguments.run(arguments)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # whoever read our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except RealtimeError as error:
        return _refused(error)
    except ModuleNotFoundError as error:
        extra = "demo" if arguments.command == "demo" else "local"
        return _refused(not_installed(error, f"rtwidgets {arguments.command}", extra))


def _refused(error: RealtimeError | ModuleNotFoundError) -> int:
    """Says it in one paragraph, with what to do; returns the exit code."""
    if not isinstance(error, RealtimeError):
        raise error
    message = " ".join(error.message.split()).rstrip(".")
    print(f"{error.code}: {message}. {error.hint}".strip(), file=sys.stderr)
    return 1


def _project_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("project", "default: the environment's, else the local server that runs")
    group.add_argument("--url", help="of a project; or SUPABASE_URL")
    group.add_argument("--key", help="its API key; better SUPABASE_KEY, since arguments show in ps")
    group.add_argument("--token", help="a user's JWT; better SUPABASE_TOKEN")
    group.add_argument("--name", help="of a local server that runs")
    group.add_argument("--as", dest="role", help="on a local server: anon (default), service_role, or a user's id")
    group.add_argument("--schema", default="public")


def _speed(text: str) -> float:
    speed = float(text)
    if not 0 < speed <= 86_400:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 (excluded) and 86400 (a day in a second)")
    return speed


_speed.__name__ = "number"  # as argparse names it where it is none


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 (a free one) and 65535")
    return int(text)


def _interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt


def _say(text: str) -> None:
    print(text, flush=True)


def _demo(arguments: argparse.Namespace) -> int:
    import filelock

    from rtwidgets.demo import notebooks
    from rtwidgets.demo.flights import Feed
    from rtwidgets.local.handle import local
    from rtwidgets.local.home import Home

    if importlib.util.find_spec("jupyterlab") is None:
        raise RealtimeError(
            "JupyterLab is not installed.",
            code="NoJupyterLab",
            hint='pip install "rtwidgets[demo]"; in a clone: make demo',
        )
    os.environ["RTWIDGETS_LOCAL"] = "demo"  # the notebooks' rt.local() joins the same server
    port = arguments.port or _free_port()
    if arguments.port and not _is_free(port):
        raise RealtimeError(
            f"Port {port} is taken.",
            code="PortTaken",
            hint="Leave --port out to take a free one, or end the program that listens there.",
        )
    home = Home("demo")
    home.make()
    # Two would replay into one table, and the end of either would take the server from the other. The lock goes with
    # this process, however it ends.
    alone = filelock.FileLock(home.folder / "demo.lock")
    try:
        alone.acquire(timeout=0)
    except filelock.Timeout:
        raise RealtimeError(
            "A demo runs already.",
            code="DemoRuns",
            hint="Open the address that it printed, or end it there (ctrl-C). With RTWIDGETS_HOME set to another "
            "folder a second one runs beside it.",
        ) from None
    _say("Postgres and realtime server: starting")
    server = local("demo", idle_timeout=10)
    feed: Feed | None = None
    lab: subprocess.Popen[bytes] | None = None
    try:
        _say(f"Realtime server: {server.url}")
        feed = Feed(server.dsn, speed=arguments.speed)
        count = feed.load(progress=lambda text: _say(f"Flights: {text}"))
        server.publish("flights")
        feed.start()
        _say(
            f"Flights: {count:,} in Postgres, replaying from {feed.clock:%d %B %Y %H:%M}, {arguments.speed:g} "
            "times as fast"
        )
        token = secrets.token_urlsafe(24)
        folder = home.folder
        _say(f"Notebooks: {notebooks.copy(notebooks.source(), folder / 'notebooks')}")
        lab = _start_lab(folder / "notebooks", folder / "jupyterlab.log", port, token)
        url = f"http://127.0.0.1:{port}/lab/tree/{notebooks.NOTEBOOKS[0]}?token={token}"
        _say(f"JupyterLab: {url}")
        _say("Run all cells. ctrl-C here stops all of it.")
        if not arguments.no_browser:
            webbrowser.open(url)
        lab.wait()
        raise RealtimeError("JupyterLab has ended.", code="JupyterLabEnded", hint=f"See {folder / 'jupyterlab.log'}.")
    except KeyboardInterrupt:
        return 0  # there is no other way to end it
    finally:
        # A second ctrl-C must not cut the clean-up short.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        _say("Stopping")
        if feed is not None:
            feed.stop()
        if lab is not None:
            _end(lab)
        server.stop()
        _say("Stopped")


def _start_lab(folder: Path, log_file: Path, port: int, token: str) -> subprocess.Popen[bytes]:
    """JupyterLab, tied to this process's life; returns when it answers."""
    settings = log_file.parent / "jupyter"
    defaults = settings / "labconfig" / "default_setting_overrides.json"
    defaults.parent.mkdir(parents=True, exist_ok=True)
    # Else JupyterLab's first words are a question about its news, over the board.
    notification = {"fetchNews": "false", "checkForUpdates": False}
    defaults.write_text(json.dumps({"@jupyterlab/apputils-extension:notification": notification}))
    command = [
        *(sys.executable, "-I", str(Path(__file__).parent / "local" / "launch.py"), "program", str(os.getpid())),
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
                "JUPYTER_CONFIG_PATH": _and(str(settings), "JUPYTER_CONFIG_PATH"),
            },
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    here = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # whatever HTTP_PROXY says
    try:
        deadline = time.monotonic() + 90
        while time.monotonic() < deadline and lab.poll() is None:
            try:
                here.open(f"http://127.0.0.1:{port}/api", timeout=2).close()
            except (urllib.error.URLError, OSError):
                time.sleep(0.1)
            else:
                return lab
    except BaseException:
        _end(lab)
        raise
    _end(lab)
    tail = log_file.read_text(errors="replace").strip()[-800:]
    raise RealtimeError(
        f"JupyterLab did not start: {tail}", code="JupyterLabDidNotStart", hint=f"All of it: {log_file}"
    )


def _and(folder: str, variable: str) -> str:
    """A search path: the folder before what the variable names already."""
    return os.pathsep.join([folder, *filter(None, [os.environ.get(variable)])])


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(15)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _serve(arguments: argparse.Namespace) -> int:
    from rtwidgets.local.handle import local

    wanted = {name: getattr(arguments, name) for name in ("postgres", "port", "limits", "host")}
    with local(arguments.name, **wanted) as server:
        _say(
            f"url          {server.url}\nanon key     {server.anon_key}\nservice key  "
            f"{server.service_key}\nctrl-C stops it."
        )
        try:
            while server.alive():
                time.sleep(1)
        except KeyboardInterrupt:
            server.stop()
            return 0
    raise RealtimeError("The local server has ended.", code="LocalServerEnded", hint="Start it again: rtwidgets serve")


def _status(arguments: argparse.Namespace) -> int:
    from rtwidgets.local.home import Home, read_json
    from rtwidgets.local.leases import ask

    running = 0
    for file in sorted(Home("default").folder.parent.glob("*/state.json")):
        try:
            answer, connection = ask((read_json(file) or {})["control"], {"do": "status"})
        except (OSError, KeyError, ValueError):
            continue  # left behind by a supervisor that was killed
        connection.close()
        running += 1
        _say(
            f"{answer['name']}  {answer['url']}  used by {answer['leases']}  up {answer['uptime_s']:.0f} s  pid "
            f"{answer['pid']}"
        )
    if not running:
        _say("No local server runs.")
    return 0


def _stop(arguments: argparse.Namespace) -> int:
    import filelock

    from rtwidgets.local.home import Home, read_json
    from rtwidgets.local.leases import ask

    home = Home(arguments.name or os.environ.get("RTWIDGETS_LOCAL") or "default")
    try:
        ask((read_json(home.state_file) or {})["control"], {"do": "stop"})[1].close()
    except (OSError, KeyError, ValueError):
        _say(f"No local server runs under the name {home.name!r}.")
        return 1
    try:
        with filelock.FileLock(home.owner_lock, timeout=30):  # held by the supervisor until Postgres has stopped
            pass
    except filelock.Timeout:
        raise RealtimeError(
            f"The local server {home.name!r} did not stop within 30 s.",
            code="LocalServerTimeout",
            hint=f"See {home.log_file}.",
        ) from None
    _say(f"Stopped {home.name!r}.")
    return 0


def _remove(arguments: argparse.Namespace) -> int:
    import asyncio

    from rtwidgets.local.install import remove

    asyncio.run(remove(arguments.postgres))
    _say("Removed: the schemas auth and realtime, publications and roles, as far as they were made by rtwidgets.")
    return 0


def _tail(arguments: argparse.Namespace) -> int:
    import asyncio

    from rtwidgets.tools import project, tail

    found = project.find(
        url=arguments.url, key=arguments.key, token=arguments.token, name=arguments.name, role=arguments.role
    )

    ended = False

    def say(text: str) -> None:
        if not ended:
            print(text, file=sys.stderr, flush=True)

    async def run() -> None:
        client = found.client()
        reading = asyncio.current_task()
        unread = False

        def write(text: str) -> None:
            nonlocal unread
            if unread:
                return
            try:
                _say(text)
            except BrokenPipeError:  # as by `| head`; raised in a callback, it would end nothing
                unread = True
                assert reading is not None
                reading.cancel()

        try:
            kind = arguments.kind or (
                "table" if await tail.is_table(client, arguments.target, arguments.schema) else "topic"
            )
            if kind == "table":
                await tail.tail_table(
                    client, arguments.target, schema=arguments.schema, filter=arguments.filter, write=write, say=say
                )
            else:
                await tail.tail_topic(
                    client, arguments.target, private=arguments.private, event=arguments.event, write=write, say=say
                )
        except asyncio.CancelledError:
            if unread:
                raise BrokenPipeError from None
            raise
        finally:
            nonlocal ended
            ended = True
            await client.close()

    asyncio.run(run())
    return 0


def _doctor(arguments: argparse.Namespace) -> int:
    import asyncio

    from rtwidgets.tools import project
    from rtwidgets.tools.doctor import Report, examine, lines

    found = project.find(
        url=arguments.url, key=arguments.key, token=arguments.token, name=arguments.name, role=arguments.role
    )
    report = Report([])

    async def run() -> None:
        async for finding in examine(found, arguments.table, arguments.schema):
            report.findings.append(finding)
            if not arguments.json:
                _say("\n".join(lines(finding)))

    asyncio.run(run())
    if arguments.json:
        _say(report.to_json())
    return int(not report.ok)


if __name__ == "__main__":
    sys.exit(main())
