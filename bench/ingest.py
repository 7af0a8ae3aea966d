"""Row changes from the socket to the program: ours against Supabase's own clients, on the same bytes of one server.

    python -m bench.ingest [CHANGES]

A raw WebSocket server in a process of its own plays Postgres changes as Supabase sends them. Ours decodes every record
and hands them on in batches (and, once more, into a live table); realtime-js and realtime-py call a function that only
counts. Each client runs in a process of its own; CPU is all of that process', from the first change to the last. The
best of three. The first run installs the two others, into bench/.cache.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import multiprocessing
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
CACHE = HERE / ".cache"
PINS = HERE.parent / "tests" / "conformance"
CHANGES, DISTINCT, ROUNDS = 120_000, 20_000, 3

TYPES = {
    "id": "int8", "order_no": "text", "region": "text", "status": "text", "amount": "numeric",
    "quantity": "int4", "paid": "bool", "note": "text", "created_at": "timestamptz", "updated_at": "timestamptz",
}  # fmt: skip
TOPIC = "realtime:bench"
SUBSCRIPTION = 84125163


# --- the server ---


def record(i: int) -> dict[str, Any]:
    at = f"2026-11-23T{i % 24:02}:{i % 60:02}:{i * 7 % 60:02}.{i * 7919 % 1_000_000:06}+00:00"
    values = (
        i * 48_271 % 50_021, f"SO-{i:08}", "EMEA" if i % 3 else "APAC", "open" if i % 2 else "shipped", i % 9973 / 100,
        i % 97, bool(i % 5), None if i % 4 else f"left at the door of number {i % 211}", at, at,
    )  # fmt: skip
    return dict(zip(TYPES, values, strict=True))


def frames(vsn: str) -> bytes:
    """The changes as WebSocket frames; with Supabase's own order of keys, and spaces where it has them."""
    columns = json.dumps([{"name": name, "type": kind} for name, kind in TYPES.items()])
    made = bytearray()
    for i in range(DISTINCT):
        row = record(i)
        payload = (
            f'{{"data":{{"columns":{columns},"commit_timestamp":"2026-11-23T17:22:49.{i % 1000:03}Z","errors":null,'
            f'"old_record":{{"id": {row["id"]}}},"record":{json.dumps(row)},"schema":"public","table":"orders",'
            f'"type":"UPDATE"}},"ids":[{SUBSCRIPTION}]}}'
        )
        made += frame(text(vsn, None, None, "postgres_changes", payload))
    return bytes(made)


def text(vsn: str, join_ref: str | None, ref: str | None, event: str, payload: str) -> bytes:
    if vsn == "2.0.0":
        return f'[{json.dumps(join_ref)},{json.dumps(ref)},"{TOPIC}","{event}",{payload}]'.encode()
    return f'{{"event":"{event}","payload":{payload},"ref":{json.dumps(ref)},"topic":"{TOPIC}"}}'.encode()


def frame(data: bytes) -> bytes:
    size = len(data)
    return (bytes((0x81, size)) if size < 126 else b"\x81\x7e" + size.to_bytes(2, "big")) + data


async def receive(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    head = await reader.readexactly(2)
    size = head[1] & 0x7F
    if size >= 126:
        size = int.from_bytes(await reader.readexactly(2 if size == 126 else 8), "big")
    mask, data = await reader.readexactly(4), await reader.readexactly(size)
    return head[0] & 0x0F, bytes(byte ^ mask[i % 4] for i, byte in enumerate(data))


def serve(port: Any, changes: int) -> None:
    played = {vsn: frames(vsn) for vsn in ("1.0.0", "2.0.0")}

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
        except EOFError:
            writer.close()  # opened to see whether somebody listens
            return
        fields = {line.split(":")[0].lower(): line.split(":", 1)[1].strip() for line in head.splitlines()[1:] if line}
        digest = hashlib.sha1(f"{fields['sec-websocket-key']}258EAFA5-E914-47DA-95CA-C5AB0DC85B11".encode()).digest()
        accept = base64.b64encode(digest).decode()
        upgrade = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        writer.write(f"{upgrade}Sec-WebSocket-Accept: {accept}\r\n\r\n".encode())
        vsn = "2.0.0" if "vsn=2.0.0" in head else "1.0.0"
        while True:
            try:
                opcode, data = await receive(reader)
            except (EOFError, ConnectionError):
                break
            if opcode == 8:
                break
            if opcode != 1:
                continue
            message = json.loads(data)
            names = ("join_ref", "ref", "topic", "event", "payload")
            message = message if isinstance(message, dict) else dict(zip(names, message, strict=True))
            ref = str(message["ref"])
            if message["event"] == "phx_join":
                asked = message["payload"]["config"]["postgres_changes"]
                entries = json.dumps([{"id": SUBSCRIPTION, **entry} for entry in asked])
                reply = f'{{"status":"ok","response":{{"postgres_changes":{entries}}}}}'
                ready = '{"message":"Subscribed to PostgreSQL","status":"ok","extension":"postgres_changes"}'
                writer.write(frame(text(vsn, ref, ref, "phx_reply", reply)))
                writer.write(frame(text(vsn, None, None, "system", ready)))
                await asyncio.sleep(0.5)
                for _ in range(changes // DISTINCT):
                    view = memoryview(played[vsn])
                    for at in range(0, len(view), 1 << 18):
                        writer.write(view[at : at + (1 << 18)])
                        await writer.drain()
        writer.close()

    async def run() -> None:
        server = await asyncio.start_server(talk, "127.0.0.1", 0)
        port.value = server.sockets[0].getsockname()[1]
        await asyncio.Event().wait()

    asyncio.run(run())


# --- the clients: each prints {"changes", "seconds", "cpu"} ---


async def ours(url: str, changes: int, vsn: Any, into: str) -> None:
    from rtwidgets.client.client import AsyncClient
    from rtwidgets.protocol.subscription import ChangesBinding

    done = asyncio.Event()
    store: Any = None
    if into == "table":
        from rtwidgets.data.store import Store
        from rtwidgets.protocol.messages import Column

        store = Store([Column(name, kind) for name, kind in TYPES.items()], ["id"])

    class Sink:
        start = cpu = 0.0
        seen = 0

        def on_changes(self, batch: list[Any]) -> None:
            if not self.seen:
                self.start, self.cpu = time.perf_counter(), time.process_time()
            self.seen += len(batch)
            if store is not None:
                store.apply(batch)
            if self.seen >= changes:
                self.start, self.cpu = time.perf_counter() - self.start, time.process_time() - self.cpu
                done.set()

        def on_ready(self) -> None: ...

        def on_gap(self, reason: str) -> None: ...

        def on_error(self, error: Exception) -> None: ...

    sink = Sink()
    async with AsyncClient(url, "key", vsn=vsn) as client:
        channel = client.channel("bench")
        channel.add_changes(ChangesBinding(table="orders"), sink)
        await channel.subscribe()
        await asyncio.wait_for(done.wait(), 300)
    print(json.dumps({"changes": sink.seen, "seconds": sink.start, "cpu": sink.cpu}))


def run(*command: str) -> dict[str, float]:
    done = subprocess.run(command, cwd=HERE.parent, capture_output=True, text=True, timeout=400, check=False)
    if done.returncode:
        raise SystemExit(f"{command[:3]}: {done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def installed() -> tuple[str, str]:
    """Node with realtime-js beside the script, and a Python that has realtime-py; installed at the first run."""
    sys.path.insert(0, str(HERE.parent / "tools"))
    import js

    node, npm = js.find_node()
    CACHE.mkdir(exist_ok=True)
    for name in ("package.json", "package-lock.json", ".npmrc"):
        if (PINS / "js" / name).exists():
            shutil.copy(PINS / "js" / name, CACHE / name)
    shutil.copy(HERE / "_ingest.mjs", CACHE / "ingest.mjs")
    if not (CACHE / "node_modules" / "@supabase" / "realtime-js").exists():
        subprocess.run([*npm, "ci", "--no-audit", "--no-fund", "--loglevel=error"], cwd=CACHE, check=True)
    python = CACHE / "venv" / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(CACHE / "venv")], check=True)
        pip = [str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check"]
        subprocess.run([*pip, "-r", str(PINS / "python" / "requirements.txt")], check=True)
    return node, str(python)


def main() -> None:
    if len(sys.argv) > 2:
        asyncio.run(ours(sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4]))
        return
    changes = int(sys.argv[1]) // DISTINCT * DISTINCT if len(sys.argv) > 1 else CHANGES
    node, python = installed()
    context = multiprocessing.get_context("spawn")
    port = context.Value("i", 0)
    server = context.Process(target=serve, args=(port, changes), daemon=True)
    server.start()
    while not port.value and server.is_alive():
        time.sleep(0.05)
    url, few = f"http://127.0.0.1:{port.value}", str(changes)
    mine = (sys.executable, "-m", "bench.ingest", url)
    clients = {
        "ours, 2.0.0, to a sink": (*mine, few, "2.0.0", "sink"),
        "ours, 2.0.0, to a table": (*mine, few, "2.0.0", "table"),
        "realtime-js, 2.0.0": (node, str(CACHE / "ingest.mjs"), url, few),
        "ours, 1.0.0, to a sink": (*mine, few, "1.0.0", "sink"),
        "realtime-py, 1.0.0": (python, str(HERE / "_ingest_realtime.py"), url, few),
    }
    try:
        best: dict[str, dict[str, float]] = {}
        for _ in range(ROUNDS):  # in turns, so that a slow minute of the machine is everybody's
            for name, command in clients.items():
                found = run(*command)
                if name not in best or found["cpu"] < best[name]["cpu"]:
                    best[name] = found
    finally:
        server.terminate()
        server.join(10)
    for name, found in best.items():
        rate, cpu = found["changes"] / found["seconds"], 1e6 * found["cpu"] / found["changes"]
        print(f"{name:<24} {rate:>9,.0f} changes/s   {cpu:6.2f} us of CPU a change")

    def ratio(one: str, other: str) -> str:
        by_rate = (best[one]["changes"] / best[one]["seconds"]) / (best[other]["changes"] / best[other]["seconds"])
        by_cpu = (best[other]["cpu"] / best[other]["changes"]) / (best[one]["cpu"] / best[one]["changes"])
        return f"{by_rate:.1f} times the changes/s, {by_cpu:.1f} times by CPU"

    print(f"ours to realtime-js: {ratio('ours, 2.0.0, to a sink', 'realtime-js, 2.0.0')}")
    print(f"ours into a table to realtime-js: {ratio('ours, 2.0.0, to a table', 'realtime-js, 2.0.0')}")
    print(f"ours to realtime-py: {ratio('ours, 1.0.0, to a sink', 'realtime-py, 1.0.0')}")


if __name__ == "__main__":
    main()
