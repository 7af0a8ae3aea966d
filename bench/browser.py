"""What of 10,000 changes a second on a table of a million rows is painted, how soon, and at what price.

A real JupyterLab in a real Chromium. `rt.LiveTable` has the whole way to go: a writer commits to Postgres, the change
comes through its log, our server, a WebSocket and the kernel to the page. `PerspectiveWidget` and ipydatagrid are fed
in their own kernel and have no way at all, which favours them. ipydatagrid sends all of its rows to the page and needs
4 ms for a changed one: it gets a tenth of the rows, and a hundredth of the changes.

Each batch (20 a second) changes 500 rows, four of which stand in view, and carries its number into them. Painted is a
batch when its number, or a later one, is on the screen: read from the cells after each frame, from the drawn text
where a canvas shows them. The clock starts before COMMIT is sent, or before the widget's own call.

    python -m bench.browser                    # half a minute each
    python -m bench.browser --minutes 5        # ours for five minutes: does the page's memory grow?
"""

from __future__ import annotations

import argparse
import bisect
import json
import math
import os
import random
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROWS = 1_000_000
FEWER = 100_000
"""Rows of ipydatagrid: it sends all of them to the page."""
BATCH, SEEN, FEW = 500, 4, 5
"""Changes in a batch, those of them in the rows that are in view, and ipydatagrid's in a batch."""
PER_SECOND = 20
"""Batches."""
FIRST = 700_000_000
"""Number of the first batch: no other number in the page looks like these."""
SECONDS = 30

PAGE = """
(() => {
  const bench = (window.bench = { bytes: 0, frames: 0, seen: [], last: 0, read: () => "" });
  const Socket = window.WebSocket;
  window.WebSocket = class extends Socket {
    constructor(...given) {
      super(...given);
      this.addEventListener("message", ({ data }) => (bench.bytes += data.byteLength ?? data.size ?? data.length));
    }
  };
  const note = (text) => {
    const found = text.replaceAll(",", "").match(/\\b7\\d{8}\\b/g) ?? [];
    for (const number of found) bench.now = Math.max(bench.now ?? 0, Number(number));
  };
  const draw = CanvasRenderingContext2D.prototype.fillText;
  CanvasRenderingContext2D.prototype.fillText = function (text, ...rest) {
    if (bench.canvas) note(String(text));
    return draw.call(this, text, ...rest);
  };
  const frame = () => {
    bench.frames += 1;
    // What is in the document now is painted in this frame: the time is taken after it.
    const text = bench.read();
    if (text) note(text);
    const number = bench.now ?? 0;
    if (number > bench.last) {
      bench.last = number;
      setTimeout(() => bench.seen.push([number, performance.timeOrigin + performance.now()]), 0);
    }
    requestAnimationFrame(frame);
  };
  requestAnimationFrame(frame);
})();
"""

SETUP = f"""
import os, json, time, asyncio, random, pathlib
import numpy as np, pandas as pd
pathlib.Path("kernel.pid").write_text(str(os.getpid()))
def rows(n):
    return pd.DataFrame({{"id": np.arange(1, n + 1), "symbol": [f"S{{i % 500}}" for i in range(n)],
                         "price": np.arange(n) / 7, "size": np.arange(n) % 900, "batch": np.zeros(n, dtype="int64")}})
began = {{}}
async def feed(change, n, batch):
    rng, number, due = random.Random(1), {FIRST}, time.monotonic()
    while not pathlib.Path("stop").exists():
        number += 1
        ids = [rng.randrange(1, 11) for _ in range({SEEN})] + [rng.randrange(11, n + 1) for _ in range(batch - {SEEN})]
        ids = list(dict.fromkeys(ids))
        began[number] = time.time() * 1000
        change(ids, [rng.random() for _ in ids], number)
        due = max(due + {1 / PER_SECOND}, time.monotonic() - 1)
        await asyncio.sleep(max(0.001, due - time.monotonic()))
    pathlib.Path("began.json").write_text(json.dumps([list(pair) for pair in began.items()]))
"""

OURS = [
    SETUP + "\nimport rtwidgets as rt\nlocal = rt.local('bench-browser', idle_timeout=5)\n"
    "ticks = rt.LiveTable('ticks', order='id').wait_live(300)\nlen(ticks.df)",
    "ticks",
]
PERSPECTIVE = [
    SETUP + f"\nimport perspective\nfrom perspective.widget import PerspectiveWidget\n"
    f"table = perspective.table(rows({ROWS}), index='id')\nwidget = PerspectiveWidget(table)\nwidget",
    f"task = asyncio.create_task(feed(lambda ids, prices, number: "
    f"table.update({{'id': ids, 'price': prices, 'batch': [number] * len(ids)}}), {ROWS}, {BATCH}))",
]
IPYDATAGRID = [
    SETUP
    + f"\nfrom ipydatagrid import DataGrid\ngrid = DataGrid(rows({FEWER}).set_index('id'), base_column_size=120)\ngrid",
    f"""
def change(ids, prices, number):
    for i, price in zip(ids, prices):
        grid.set_row_value(i, [f"S{{(i - 1) % 500}}", price, (i - 1) % 900, number])
task = asyncio.create_task(feed(change, {FEWER}, {FEW}))
""",
]


class Writer(threading.Thread):
    """Changes rows of `ticks`, a transaction a batch; keeps when each COMMIT was sent."""

    def __init__(self, dsn: str) -> None:
        super().__init__(daemon=True)
        self.dsn = dsn
        self.began: dict[int, float] = {}
        self.done = threading.Event()

    def run(self) -> None:
        import psycopg

        rng, number, due = random.Random(1), FIRST, time.monotonic()
        with psycopg.connect(self.dsn) as connection:
            while not self.done.is_set():
                number += 1
                ids = {rng.randrange(1, 11) for _ in range(SEEN)} | {
                    rng.randrange(11, ROWS + 1) for _ in range(BATCH - SEEN)
                }
                prices = [rng.random() for _ in ids]
                connection.execute(
                    "update ticks t set price = v.price, batch = %s from unnest(%s::int[], %s::float8[]) v(id, price)"
                    " where t.id = v.id",
                    (number, list(ids), prices),
                )
                self.began[number] = time.time() * 1000
                connection.commit()
                due = max(due + 1 / PER_SECOND, time.monotonic() - 1)
                time.sleep(max(0.0, due - time.monotonic()))


class Bench:
    def __init__(self, lab: Any, browser: Any) -> None:
        self.lab, self.browser = lab, browser

    def open(self, name: str, cells: list[str]) -> Any:
        import nbformat

        for left in ("stop", "began.json", "kernel.pid"):
            (self.lab.root / left).unlink(missing_ok=True)
        notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
        notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
        nbformat.write(notebook, self.lab.root / name)
        page = self.browser.new_context(viewport={"width": 1400, "height": 900}).new_page()
        page.add_init_script(PAGE)
        page.goto(f"{self.lab.url}/lab/workspaces/{name[:-6]}/tree/{name}?token={self.lab.token}")
        page.wait_for_selector(".jp-Notebook .jp-Cell", timeout=60_000)
        page.wait_for_function(
            """() => {
              const session = window.jupyterapp?.shell.currentWidget?.sessionContext;
              return session?.isReady && session.session?.kernel?.status === 'idle';
            }""",
            timeout=60_000,
        )
        return page

    def measure(
        self, name: str, page: Any, seconds: float, began: Callable[[], dict[int, float]], batch: int = BATCH
    ) -> dict[str, float]:
        import psutil

        kernel = psutil.Process(int((self.lab.root / "kernel.pid").read_text()))
        page.wait_for_function("window.bench.seen.length > 3", timeout=60_000)
        devtools = page.context.new_cdp_session(page)

        def heap() -> float:
            devtools.send("HeapProfiler.collectGarbage")
            return devtools.send("Runtime.getHeapUsage")["usedSize"] / 1e6

        def state() -> tuple[float, float, float, float]:
            cpu = kernel.cpu_times()
            frames, size = page.evaluate("[bench.frames, bench.bytes]")
            return time.monotonic(), frames, size, cpu.user + cpu.system

        heap_before = heap()
        page.evaluate("bench.seen.length = 0")
        start = time.time() * 1000
        before = state()
        time.sleep(seconds)
        took, frames, size, cpu = (after - was for after, was in zip(state(), before, strict=True))
        seen: list[list[float]] = page.evaluate("bench.seen")
        end = time.time() * 1000
        heap_after = heap()
        batches = began()
        numbers = [number for number, _ in seen]
        late = []
        for number, at in batches.items():
            if start <= at <= end - 2000:
                place = bisect.bisect_left(numbers, number)
                late.append(seen[place][1] - at if place < len(seen) else math.inf)
        late.sort()
        sent = sum(start <= at <= end for at in batches.values())
        figures = {
            "changes/s": sent * batch / (end - start) * 1000,
            "frames/s": frames / took,
            "p50": statistics.median(late) if late else float("nan"),
            "p99": late[int(len(late) * 0.99) - 1] if late else float("nan"),
            "cpu": 100 * cpu / took,
            "kB/s": size / took / 1000,
            "heap": heap_before,
            "heap after": heap_after,
        }
        print(
            f"{name:>12}: {figures['changes/s']:7,.0f} changes/s   {figures['frames/s']:4.0f} frames/s   "
            f"painted after p50 {figures['p50']:6.0f} ms, p99 {figures['p99']:6.0f} ms (inf: not before the end)   "
            f"kernel {figures['cpu']:3.0f} % of a core   {figures['kB/s']:6,.0f} kB/s to the page   "
            f"page's heap {heap_before:4.0f} MB, {took / 60:.1f} min later {heap_after:4.0f} MB",
            flush=True,
        )
        return figures

    def run_cells(self, page: Any, timeout: float) -> None:
        from tests.browser.lab import wait_idle

        page.evaluate("void window.jupyterapp.commands.execute('notebook:run-all-cells')")
        wait_idle(page, timeout)

    def ours(self, seconds: float) -> dict[str, float]:
        import rtwidgets as rt

        with rt.local("bench-browser", idle_timeout=5) as local:
            local.sql(
                "create table ticks (id int primary key, symbol text, price float8, size int, batch int)"
                " with (fillfactor = 50)"
            )
            local.sql(
                "insert into ticks select i, 'S' || i %% 500, i / 7.0, i %% 900, 0 from generate_series(1, %s) i", ROWS
            )
            local.publish("ticks")
            page = self.open("ours.ipynb", OURS)
            began = time.monotonic()
            self.run_cells(page, 300)
            print(f"        ours: {ROWS:,} rows read and shown in {time.monotonic() - began:.0f} s")
            page.evaluate(
                "bench.read = () => [...document.querySelectorAll('.rtw-table [aria-colindex=\"5\"]')]"
                ".map(cell => cell.textContent).join(' ')"
            )
            writer = Writer(local.dsn)
            writer.start()
            try:
                figures = self.measure("ours", page, seconds, lambda: dict(writer.began))
            finally:
                writer.done.set()
                writer.join()
            self.close(page)
        return figures

    def other(self, name: str, cells: list[str], read: str, batch: int = BATCH) -> dict[str, float] | None:
        page = self.open(f"{name}.ipynb", cells)
        try:
            began = time.monotonic()
            self.run_cells(page, 240)
            print(f"{name:>12}: rows made and shown in {time.monotonic() - began:.0f} s")
            page.evaluate(read)

            def when() -> dict[int, float]:
                (self.lab.root / "stop").touch()
                deadline = time.monotonic() + 30
                while not (self.lab.root / "began.json").exists():
                    if time.monotonic() > deadline:
                        raise TimeoutError("the kernel did not stop")
                    time.sleep(0.1)
                time.sleep(0.2)
                return {int(number): at for number, at in json.loads((self.lab.root / "began.json").read_text())}

            return self.measure(name, page, SECONDS, when, batch)
        except Exception as error:
            # A contender that gives way under the load is a result too.
            print(f"{name:>12}: gave way: {' '.join(str(error).split())[:600]}")
            return None
        finally:
            (self.lab.root / "stop").touch()
            self.close(page)

    def close(self, page: Any) -> None:
        page.evaluate("void window.jupyterapp.shell.currentWidget?.sessionContext.shutdown()")
        page.wait_for_timeout(500)
        page.context.close()


PERSPECTIVE_CELLS = """
bench.read = () => {
  const texts = [];
  const walk = (root) => {
    for (const cell of root.querySelectorAll("regular-table td")) texts.push(cell.textContent);
    for (const element of root.querySelectorAll("*")) if (element.shadowRoot) walk(element.shadowRoot);
  };
  for (const viewer of document.querySelectorAll("perspective-viewer")) {
    walk(viewer);
    if (viewer.shadowRoot) walk(viewer.shadowRoot);
  }
  return texts.join(" ");
}
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=SECONDS / 60, help="how long ours is watched")
    parser.add_argument("--only", choices=("ours", "perspective", "ipydatagrid"), help="one contender")
    arguments = parser.parse_args()
    from playwright.sync_api import sync_playwright

    from tests.browser.chromium import FLAGS, find_chromium
    from tests.browser.lab import Lab

    path = find_chromium()
    if path is None:
        raise SystemExit("no Chromium found: install one, or name it in RTWIDGETS_CHROMIUM")
    found: dict[str, dict[str, float] | None] = {}
    with tempfile.TemporaryDirectory(prefix="rtw-bench-") as folder, sync_playwright() as playwright:
        os.environ["RTWIDGETS_HOME"] = folder
        lab = Lab(Path(folder) / "lab", {"RTWIDGETS_HOME": folder})
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        try:
            bench = Bench(lab, browser)
            if arguments.only in (None, "ours"):
                found["ours"] = bench.ours(arguments.minutes * 60)
            if arguments.only in (None, "perspective"):
                found["perspective"] = bench.other("perspective", PERSPECTIVE, PERSPECTIVE_CELLS)
            if arguments.only in (None, "ipydatagrid"):
                found["ipydatagrid"] = bench.other("ipydatagrid", IPYDATAGRID, "bench.canvas = true", FEW)
        finally:
            browser.close()
            lab.close()
    ours = found.get("ours")
    for name, other in found.items():
        if ours is not None and other is not None and name != "ours":
            print(
                f"ours to {name}: {ours['frames/s'] / max(other['frames/s'], 1e-9):.1f} times the frames/s, painted in "
                f"{ours['p50'] / other['p50']:.2f} of the time (p50), {ours['cpu'] / other['cpu']:.2f} of the "
                f"kernel's CPU, {ours['kB/s'] / other['kB/s']:.3f} of the bytes"
            )


if __name__ == "__main__":
    main()
