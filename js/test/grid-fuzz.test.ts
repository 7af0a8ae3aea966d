/** A small kernel that plays a table at random: whatever is drawn is either the truth of the last frame or marked as not here. */
import { expect, test } from "vitest";
import widget from "../src/widgets/table";
import { FakeModel, painted } from "./fake";

/** The same numbers each run. */
function dice(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
}

interface Row {
  id: number;
  name: string | null;
  n: number;
}

class Kernel extends FakeModel {
  rows: Row[] = [];
  shown: Row[] = [];
  busy = false;
  private wants: any = { start: 0, stop: 36, sort: [] };
  private seq = 0;
  private last: { start: number; keys: number[]; columns: unknown[][] } | undefined;

  override send(message: any): void {
    super.send(message);
    if (!this.busy && message.wants) this.wants = message.wants;
  }

  push(): void {
    const [column, down] = this.wants.sort[0] ?? ["id", false];
    const sign = down ? -1 : 1;
    const value = (row: Row): number | string => row[column as keyof Row] ?? "";
    this.shown = [...this.rows].sort((a, b) => sign * (value(a) < value(b) ? -1 : value(a) > value(b) ? 1 : a.id - b.id));
    this.shown = this.shown.map((row) => ({ ...row }));
    const { start, stop } = this.wants;
    const part = this.shown.slice(start, stop);
    const keys = part.map((row) => row.id);
    const columns = [keys, part.map((row) => row.name), part.map((row) => row.n)] as unknown[][];
    const { last } = this;
    const state = { status: "live", error: "", paused: false, waiting: 0, total: this.rows.length, lag: 1, rate: 1, order: [], note: "" };
    const frame: Record<string, unknown> = { seq: ++this.seq, state };
    if (last && last.start === start && JSON.stringify(last.keys) === JSON.stringify(keys)) {
      frame.patch = ["id", "name", "n"].map((name, c) => [
        name,
        columns[c]!.map((cell, i) => [i, cell]).filter(([i, cell]) => last.columns[c]![i as number] !== cell),
      ]);
    } else Object.assign(frame, { schema: [["id", "int8"], ["name", "text"], ["n", "int4"]], start, keys, columns });
    const held = new Set(this.rows.map((row) => row.id));
    if (last && "keys" in frame) frame.gone = last.keys.filter((key) => !held.has(key));
    this.last = { start, keys, columns };
    this.hear(JSON.parse(JSON.stringify(frame)));
  }
}

test.each([1, 2, 3])("whatever happens, no wrong row is shown (%i)", async (seed) => {
  const roll = dice(seed);
  const kernel = new Kernel();
  let next = 0;
  // In the second game new rows come in at the top.
  const id = () => (seed === 2 ? 10_000 - next++ : next++);
  const add = () => kernel.rows.push({ id: id(), name: roll(5) ? `name ${roll(50)}` : null, n: roll(1000) });
  for (let i = 0; i < 150; i++) add();
  const el = document.createElement("div");
  document.body.append(el);
  const end = widget.render({ model: kernel, el });
  const grid = el.querySelector<HTMLElement>("[role=grid]")!;
  kernel.push();
  await painted();
  const what: (() => void)[] = [
    add,
    () => kernel.rows.splice(roll(kernel.rows.length), roll(4)),
    () => {
      const seen = Number(grid.querySelector(".rtw-body > [role=row]:not(.rtw-wait) > [role=gridcell]")?.textContent);
      const at = kernel.rows.findIndex((row) => row.id === seen);
      if (at >= 0) kernel.rows.splice(at, 1);
    },
    () => (kernel.rows[roll(kernel.rows.length)]!.n = roll(1000)),
    () => (kernel.rows[roll(kernel.rows.length)]!.name = roll(2) ? null : `other ${roll(9)}`),
    () => {
      grid.scrollTop = roll(kernel.rows.length) * 24;
      grid.dispatchEvent(new Event("scroll"));
    },
    () => grid.querySelectorAll<HTMLElement>("[role=columnheader]")[roll(3)]!.click(),
    () => grid.querySelectorAll<HTMLElement>("[role=gridcell]")[roll(9)]?.click(),
    () => (kernel.busy = !kernel.busy),
  ];
  for (let step = 0; step < 120; step++) {
    for (let i = roll(4); i >= 0; i--) what[roll(what.length)]!();
    if (roll(10) === 0) await new Promise((resolve) => setTimeout(resolve, 70));
    kernel.push();
    await painted();
    const drawn = [...grid.querySelectorAll(".rtw-body > [role=row]")];
    expect(drawn.length).toBeLessThan(30);
    const indices = drawn.map((row) => Number(row.getAttribute("aria-rowindex")) - 2);
    expect(indices).toEqual([...indices].sort((a, b) => a - b));
    drawn.forEach((row, i) => {
      const texts = [...row.children].map((cell) => cell.textContent);
      if (row.classList.contains("rtw-wait")) return expect(texts).toEqual(["…", "…", "…"]);
      const { id, name, n } = kernel.shown[indices[i]!]!;
      expect(texts).toEqual([String(id), name ?? "null", String(n)]);
      expect(row.children[1]!.classList.contains("rtw-null")).toBe(name === null);
    });
    expect(grid.querySelectorAll("[tabindex='0']")).toHaveLength(1);
    const leaving = [...grid.querySelectorAll(".rtw-leaving")];
    expect(leaving.length).toBeLessThanOrEqual(13);
    for (const ghost of leaving) {
      expect(kernel.rows.some((row) => String(row.id) === ghost.children[0]!.textContent)).toBe(false);
    }
  }
  end();
  expect(kernel.listening).toBe(0);
}, 20_000);
