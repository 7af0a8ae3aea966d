import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { HEADER, commandFor } from "../src/grid/keyboard";
import widget from "../src/widgets/table";
import { FakeModel, painted } from "./fake";

const SCHEMA = [["id", "int8"], ["name", "text"], ["price", "numeric"]];
const STATE = { status: "live", error: "", paused: false, waiting: 0, total: 3, lag: 12, rate: 56, order: [], note: "" };

class TableModel extends FakeModel {
  constructor(private readonly traits: Record<string, unknown> = {}) {
    super();
  }
  override get(name?: string): unknown {
    return this.traits[name ?? ""];
  }
}

let seq = 0;
let close: (() => void)[] = [];

beforeEach(() => (seq = 0));
afterEach(() => {
  for (const end of close) end();
  close = [];
  document.body.replaceChildren();
});

function open(traits: Record<string, unknown> = {}) {
  const model = new TableModel(traits);
  const el = document.createElement("div");
  document.body.append(el);
  const end = widget.render({ model, el });
  close.push(end);
  const hear = async (fields: Record<string, unknown>) => {
    model.hear({ seq: ++seq, ...fields });
    await painted();
  };
  const grid = el.querySelector<HTMLElement>("[role=grid]")!;
  const rows = () => [...grid.querySelectorAll("[role=row]:has([role=gridcell])")];
  const texts = () => rows().map((row) => [...row.children].map((cell) => cell.textContent));
  const cell = (row: number, column: number) =>
    grid.querySelector<HTMLElement>(`[aria-rowindex="${row + 2}"] > [aria-colindex="${column + 1}"]`)!;
  const header = (name: string) => [...grid.querySelectorAll<HTMLElement>("[role=columnheader]")].find((one) => one.textContent === name)!;
  const key = async (key: string, more: KeyboardEventInit = {}) => {
    (document.activeElement ?? grid).dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true, cancelable: true, ...more }));
    await painted();
  };
  return { model, el, end, hear, grid, texts, cell, header, key };
}

const three = {
  state: STATE,
  schema: SCHEMA,
  start: 0,
  keys: [1, 2, 3],
  columns: [[1, 2, 3], ["a", "b", "c"], ["1.10", "2.20", "3.30"]],
};

const long = (total: number, start: number, stop: number) => {
  const keys = Array.from({ length: stop - start }, (_, i) => start + i);
  return { state: { ...STATE, total }, schema: SCHEMA, start, keys, columns: [keys, keys.map((k) => `n${k}`), keys.map(String)] };
};

const wants = (model: FakeModel) => model.of("wants").at(-1)?.wants;
const wait = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

test("when nothing moves, the status bar says when it last did", async () => {
  const { el, hear } = open();
  const changed = new Date(2026, 0, 31, 12, 34, 56).getTime();
  await hear({ ...three, state: { ...STATE, changed } });
  expect(el.querySelector(".rtw-facts")!.textContent).not.toContain("last change");
  await hear({ state: { ...STATE, rate: 0, changed } });
  expect(el.querySelector(".rtw-facts")!.textContent).toMatch(/0 changes\/s · last change .*12:34:56/);
});

test("a table that never was shows what is wrong, and no tools for it", async () => {
  const { el, hear } = open();
  const root = el.querySelector(".rtw-table")!;
  await hear({ state: { ...STATE, status: "error", error: "no such table" } });
  expect(root.classList.contains("rtw-bare")).toBe(true);
  await hear({ ...three, state: { ...STATE, status: "error", error: "was dropped" } });
  expect(root.classList.contains("rtw-bare")).toBe(false); // its last rows stay
});

test("the menu of a column is the only one that opens", async () => {
  const { el, hear, header } = open();
  await hear(three);
  let reached = 0;
  el.addEventListener("contextmenu", () => (reached += 1));
  header("name").dispatchEvent(new MouseEvent("contextmenu", { bubbles: true, cancelable: true }));
  await painted();
  expect(el.querySelector<HTMLElement>("[role=menu]")!.hidden).toBe(false);
  expect(reached).toBe(0);
});

test("shows the rows with the roles of a grid", async () => {
  const { hear, grid, texts, cell } = open();
  await hear(three);
  expect(texts()).toEqual([["1", "a", "1.10"], ["2", "b", "2.20"], ["3", "c", "3.30"]]);
  expect(grid.getAttribute("aria-rowcount")).toBe("4");
  expect(grid.getAttribute("aria-colcount")).toBe("3");
  expect([...grid.querySelectorAll("[role=columnheader]")].map((one) => one.textContent)).toEqual(["id", "name", "price"]);
  expect(cell(2, 1).parentElement!.getAttribute("role")).toBe("row");
});

test("a patch changes and flashes its cells only", async () => {
  const { hear, grid, texts, cell } = open();
  await hear(three);
  expect(grid.querySelectorAll(".rtw-flash, .rtw-new")).toHaveLength(0);
  await hear({ patch: [["price", [[1, "9.99"]]], ["unknown", [[0, 1]]], ["name", [[77, "x"]]]] });
  expect(texts()[1]).toEqual(["2", "b", "9.99"]);
  expect([...grid.querySelectorAll(".rtw-flash")]).toEqual([cell(1, 2)]);
  const beat = cell(1, 2).dataset.beat;
  await hear({ patch: [["price", [[1, "8"]]]] });
  expect(cell(1, 2).dataset.beat).not.toBe(beat);
  await wait(900);
  expect(grid.querySelectorAll(".rtw-flash")).toHaveLength(0);
});

test("a window flashes the cells that the kernel names, and marks rows that arrived", async () => {
  const { hear, grid, texts, cell } = open();
  await hear(three);
  await hear({
    state: { ...STATE, total: 4 },
    start: 0,
    keys: [1, 9, 3, 4],
    columns: [[1, 9, 3, 4], ["a", "new", "c", "last"], ["1.10", "0", "7", "1"]],
    changed: [["price", [2]]],
    arrived: [1, 3],
  });
  expect(texts().map((row) => row[1])).toEqual(["a", "new", "c", "last"]);
  expect([...grid.querySelectorAll(".rtw-flash")]).toEqual([cell(2, 2)]);
  expect([...grid.querySelectorAll(".rtw-new")].map((row) => row.children[1]!.textContent)).toEqual(["new", "last"]);
});

test("scrolling to other rows is no arrival and no flash", async () => {
  const { hear, grid } = open();
  await hear(long(1000, 0, 36));
  await hear(long(1000, 10, 46));
  expect(grid.querySelectorAll(".rtw-flash, .rtw-new")).toHaveLength(0);
});

test("markup in data stays text: cells, headers, titles, errors, notes, menus", async () => {
  const evil = `<img src=x onerror="window.hit=1"><script>window.hit=1</script>`;
  const { hear, el, texts, header } = open();
  await hear({
    state: { ...STATE, total: 1, error: evil, note: evil, status: evil },
    schema: [[evil, "text"], ["j", "jsonb"]],
    start: 0,
    keys: [evil],
    columns: [[evil], [{ [evil]: evil }]],
  });
  expect(texts()[0]![0]).toBe(evil);
  header(evil).querySelector<HTMLElement>(".rtw-menu-button")!.click();
  expect(el.querySelector("img, script")).toBeNull();
  expect(el.querySelector("[role=alert]")!.textContent).toBe(evil);
  expect(el.querySelector("[role=menu]")!.textContent).toContain("Sort");
});

test("an error stands above the last rows, which stay and are dimmed", async () => {
  const { hear, el, texts } = open();
  await hear(three);
  await hear({ state: { ...STATE, status: "stale", error: "Run: ALTER PUBLICATION" } });
  expect(el.querySelector<HTMLElement>("[role=alert]")!.hidden).toBe(false);
  expect(texts()).toHaveLength(3);
  expect(el.querySelector(".rtw-old")).not.toBeNull();
});

test("the status says rows, rate and lag, and how many rows search leaves", async () => {
  const { hear, el } = open();
  await hear({ ...three, state: { ...STATE, total: 1234 } });
  expect(el.querySelector(".rtw-facts")!.textContent).toBe("1,234 rows · 56 changes/s · lag 12 ms");
  await hear({ state: { ...STATE, total: 1234, shown: 3 } });
  expect(el.querySelector(".rtw-facts")!.textContent).toMatch(/^3 of 1,234 rows/);
});

test("a kernel that has gone is said, until frames come again; the rows stay and can be used", async () => {
  const { model, hear, el, header, texts } = open();
  await hear(three);
  await model.fire("comm_live_update");
  await wait(400);
  expect(el.querySelector<HTMLElement>("[role=alert]")!.hidden).toBe(true);
  model.dead = true;
  await model.fire("comm_live_update");
  await wait(400);
  expect(el.querySelector("[role=alert]")!.textContent).toContain("kernel has stopped");
  header("name").click();
  await painted();
  expect(texts()).toHaveLength(3);
  model.dead = false;
  await hear({ state: STATE });
  expect(el.querySelector<HTMLElement>("[role=alert]")!.hidden).toBe(true);
});

test("missed frames are said", async () => {
  const { model, hear, el } = open();
  await hear(three);
  model.hear({ seq: 9 });
  await wait(1100);
  expect(el.querySelector(".rtw-facts")!.textContent).toContain("may have missed frames");
});

test("no rows are said, and only once they are known to be none", async () => {
  const { hear, el } = open();
  const empty = el.querySelector<HTMLElement>(".rtw-empty")!;
  await painted();
  expect(empty.textContent).toBe("waiting for rows…");
  await hear({ state: { ...STATE, total: 0 }, schema: SCHEMA, start: 0, keys: [], columns: [[], [], []] });
  expect(empty.hidden).toBe(false);
  expect(empty.textContent).toBe("no rows");
  seq = 0;
  const other = open({ arrangement: { search: "zzz" } });
  const said = () => other.el.querySelector(".rtw-empty")!.textContent;
  const none = { schema: SCHEMA, start: 0, keys: [], columns: [[], [], []] };
  await other.hear({ state: { ...STATE, total: 3000, shown: 0, looking: true }, ...none });
  expect(said()).toBe("searching…");
  await other.hear({ state: { ...STATE, total: 3000, shown: 0 } });
  expect(said()).toBe("no rows match · the table has 3,000");
  await other.hear({ state: { ...STATE, total: 0, shown: 0 } });
  expect(said()).toBe("no rows");
});

test("a click sorts ascending, descending, not at all; with shift by several columns", async () => {
  const { model, hear, header } = open();
  await hear({ ...three, state: { ...STATE, order: [["id", true]] } });
  expect(header("id").getAttribute("aria-sort")).toBe("descending");
  expect(header("id").classList.contains("rtw-given")).toBe(true);
  const sorts: unknown[] = [];
  for (let i = 0; i < 3; i++) {
    header("name").click();
    await wait(80);
    await painted();
    sorts.push(wants(model).sort);
    if (i === 0) {
      expect(header("name").getAttribute("aria-sort")).toBe("ascending");
      expect(header("id").hasAttribute("aria-sort")).toBe(false);
    }
  }
  expect(sorts).toEqual([[["name", false]], [["name", true]], []]);
  header("name").click();
  header("price").dispatchEvent(new MouseEvent("click", { bubbles: true, shiftKey: true }));
  await wait(80);
  await painted();
  expect(wants(model).sort).toEqual([["name", false], ["price", false]]);
  expect(header("price").dataset.nth).toBe("2");
  expect(model.of("layout").at(-1).layout.sort).toEqual([["name", false], ["price", false]]);
});

test("rows in another order are neither new nor changed", async () => {
  const { hear, grid, header } = open();
  await hear(long(1000, 0, 36));
  header("id").click();
  await wait(80);
  const other = long(1000, 0, 36);
  other.keys = [...Array.from({ length: 18 }, (_, i) => [999 - i, 30 - i]).flat()];
  other.columns = [other.keys, other.keys.map((k) => `n${k}`), other.keys.map(String)];
  await hear({ start: 0, keys: other.keys, columns: other.columns, arrived: [0, 2] });
  expect(grid.querySelectorAll(".rtw-flash, .rtw-new")).toHaveLength(0);
});

test("rows the kernel has not sent are marked so, and asked for; never more than it sends", async () => {
  const { model, hear, el, grid, key, cell } = open();
  await hear(long(1_000_000, 0, 36));
  cell(0, 0).focus();
  await key("End", { ctrlKey: true });
  await wait(100);
  expect(cell(999_999, 0).textContent).toBe("…");
  expect(cell(999_999, 0).parentElement!.className).toContain("rtw-wait");
  const { start, stop } = wants(model);
  expect(start).toBeLessThan(999_990);
  expect(stop).toBeGreaterThanOrEqual(1_000_000);
  for (const message of [...model.of("wants"), ...model.of("hello")]) {
    expect(message.wants.stop - message.wants.start).toBeLessThanOrEqual(400);
  }
  await wait(1100);
  await hear({ state: { ...STATE, total: 1_000_000 } });
  expect(el.querySelector(".rtw-facts")!.textContent).toContain("when the kernel is free");
  await hear(long(1_000_000, start, 1_000_000));
  expect(el.querySelector(".rtw-facts")!.textContent).not.toContain("when the kernel is free");
  expect(cell(999_999, 0).textContent).toBe("999999");
  expect(grid.querySelectorAll("[role=row]").length).toBeLessThan(40);
});

test("rows that come and go above move the scroll bar, not the rows that are read; at the top the newest are shown", async () => {
  const { hear, grid } = open();
  await hear(long(1000, 80, 180));
  grid.scrollTop = 100 * 24 + 7;
  grid.dispatchEvent(new Event("scroll"));
  await painted();
  const later = long(1000, 80, 180);
  const keys = [...[-1, -2, -3, -4, -5], ...later.keys.slice(0, 95)];
  await hear({ ...later, state: { ...STATE, total: 1005 }, keys, columns: [keys, keys, keys] });
  expect(grid.scrollTop).toBe(105 * 24 + 7);
  await hear(later);
  expect(grid.scrollTop).toBe(100 * 24 + 7);
  grid.scrollTop = 0;
  grid.dispatchEvent(new Event("scroll"));
  await hear(long(1000, 0, 36));
  const first = [-1, ...long(1000, 0, 35).keys];
  await hear({ ...long(1001, 0, 36), keys: first, columns: [first, first, first] });
  expect(grid.scrollTop).toBe(0);
});

test("follows the end when told to, and lets go when one scrolls up", async () => {
  const { model, hear, el, grid, cell } = open();
  await hear(long(100, 0, 36));
  const follow = [...el.querySelectorAll("button")].find((button) => button.textContent === "follow")!;
  follow.click();
  await wait(100);
  expect(wants(model)).toMatchObject({ tail: true });
  expect(wants(model).stop).toBeGreaterThanOrEqual(100);
  await hear(long(105, 70, 105));
  expect(cell(104, 0).textContent).toBe("104");
  expect(grid.scrollTop).toBe((105 - 12) * 24);
  expect(follow.getAttribute("aria-pressed")).toBe("true");
  grid.scrollTop = 80 * 24;
  grid.dispatchEvent(new Event("scroll"));
  await painted();
  expect(follow.getAttribute("aria-pressed")).toBe("false");
});

test("a screen reader hears when the cell it is on changes", async () => {
  const { hear, el, cell } = open();
  await hear(three);
  cell(1, 2).focus();
  await painted();
  await hear({ patch: [["price", [[1, "9.99"], [0, "5"]]]] });
  await wait(1600);
  expect(el.querySelector(".rtw-announcer")!.textContent).toBe("price 9.99");
});

test("asks are few: one for a burst", async () => {
  const { model, hear, grid } = open();
  await hear(long(10_000, 0, 36));
  for (let i = 1; i <= 20; i++) {
    grid.scrollTop = i * 200;
    grid.dispatchEvent(new Event("scroll"));
  }
  await wait(200);
  expect(model.of("wants").length).toBeLessThanOrEqual(2);
  expect(wants(model).start).toBeGreaterThan(100);
});

test("one tab stop; arrows, Home, End and paging move it", async () => {
  const { hear, grid, cell, header, key } = open();
  await hear(long(100, 0, 60));
  const stop = () => grid.querySelectorAll("[tabindex='0']");
  expect([...stop()]).toEqual([cell(0, 0)]);
  cell(0, 0).focus();
  await key("ArrowRight");
  await key("ArrowDown");
  expect(document.activeElement).toBe(cell(1, 1));
  expect(stop()).toHaveLength(1);
  await key("End");
  expect(document.activeElement).toBe(cell(1, 2));
  await key("PageDown");
  expect(document.activeElement).toBe(cell(12, 2));
  await key("PageUp");
  await key("Home");
  expect(document.activeElement).toBe(cell(1, 0));
  await key("ArrowUp");
  await key("ArrowUp");
  expect(document.activeElement).toBe(header("id"));
  expect(stop()).toHaveLength(1);
  await key("Enter");
  expect(header("id").getAttribute("aria-sort")).toBe("ascending");
  await key("Home", { ctrlKey: true });
  expect(document.activeElement).toBe(cell(0, 0));
});

test("the active cell and the selection follow their rows, not their places", async () => {
  const { model, hear, cell, key } = open();
  await hear(three);
  cell(1, 1).focus();
  await painted();
  await key(" ");
  expect(model.of("select").at(-1).keys).toEqual([2]);
  const four = [[0, 1, 2, 3], ["z", "a", "b", "c"], ["0", "1", "2", "3"]];
  await hear({ state: { ...STATE, total: 4 }, start: 0, keys: [0, 1, 2, 3], columns: four });
  expect(document.activeElement).toBe(cell(2, 1));
  expect(cell(2, 1).parentElement!.getAttribute("aria-selected")).toBe("true");
  expect(cell(1, 1).parentElement!.getAttribute("aria-selected")).toBe("false");
  // Its row goes: the active cell stays at the place.
  await hear({ state: { ...STATE, total: 3 }, start: 0, keys: [0, 1, 3], columns: [[0, 1, 3], ["z", "a", "c"], ["0", "1", "3"]] });
  expect(document.activeElement).toBe(cell(2, 1));
  await key("Escape");
  expect(model.of("select").at(-1).keys).toEqual([]);
});

test("clicks select one, with ctrl more, with shift a range; composite keys are lists", async () => {
  const { model, hear, cell } = open();
  const keys = [["a", 1], ["a", 2], ["b", 1]];
  await hear({ ...three, keys });
  const click = (row: number, more: MouseEventInit = {}) => cell(row, 1).dispatchEvent(new MouseEvent("click", { bubbles: true, ...more }));
  click(2);
  expect(model.of("select").at(-1).keys).toEqual([["b", 1]]);
  click(0, { ctrlKey: true });
  expect(model.of("select").at(-1).keys).toEqual([["b", 1], ["a", 1]]);
  click(0);
  click(2, { shiftKey: true });
  expect(model.of("select").at(-1).keys).toEqual(keys);
});

/** What Ctrl+C puts on the clipboard; null where it is to come later. */
function ctrlC(from: HTMLElement): string | null {
  const data = { text: null as string | null, setData: (_: string, text: string) => (data.text = text) };
  const event = new Event("copy", { bubbles: true, cancelable: true });
  Object.assign(event, { clipboardData: data });
  from.dispatchEvent(event);
  expect(event.defaultPrevented).toBe(true);
  return data.text;
}

test("copies selected rows for a spreadsheet, or the active cell as it is", async () => {
  const { hear, cell, grid } = open();
  await hear({ ...three, columns: [[1, 2, 3], ["a\tb", null, 'say "x"'], ["1.10", "2.20", "3.30"]] });
  cell(2, 2).focus();
  await painted();
  expect(ctrlC(cell(0, 0))).toBe("3.30");
  // A click selects the row of its cell; what is copied is the cell, not quoted.
  cell(2, 1).click();
  expect(ctrlC(cell(0, 0))).toBe('say "x"');
  cell(1, 1).click();
  expect(ctrlC(cell(0, 0))).toBe("");
  cell(0, 1).click();
  expect(ctrlC(cell(0, 0))).toBe("a\tb");
  cell(2, 0).dispatchEvent(new MouseEvent("click", { bubbles: true, ctrlKey: true }));
  expect(ctrlC(cell(0, 0))).toBe('id\tname\tprice\n1\t"a\tb"\t1.10\n3\t"say ""x"""\t3.30');
  expect(grid.querySelectorAll(".rtw-selected").length).toBeLessThanOrEqual(2);
});

test("a single row that was selected as a row is copied as a row", async () => {
  const { hear, cell, key } = open();
  await hear(three);
  cell(1, 1).focus();
  await painted();
  await key(" ");
  expect(ctrlC(cell(0, 0))).toBe("id\tname\tprice\n2\tb\t2.20");
});

/** A browser that lets nothing onto the clipboard but in the event of a key press. */
const denyClipboard = () => vi.spyOn(navigator.clipboard, "writeText").mockRejectedValue(new Error("denied"));

test("rows that are not loaded are selected by the kernel, and read from it to be copied", async () => {
  const clipboard = denyClipboard();
  const traits: Record<string, unknown> = {};
  const { model, hear, el, cell, key } = open(traits);
  await hear(long(3000, 0, 36));
  cell(2, 0).click();
  await hear(long(3000, 1490, 1526));
  const grid = el.querySelector<HTMLElement>("[role=grid]")!;
  grid.scrollTop = 1500 * 24;
  grid.dispatchEvent(new Event("scroll"));
  await painted();
  cell(1505, 0).dispatchEvent(new MouseEvent("click", { bubbles: true, shiftKey: true }));
  await painted();
  expect(model.of("select range").at(-1)).toMatchObject({ range: [2, 1505] });
  expect(el.querySelector(".rtw-facts")!.textContent).toContain("selecting rows…");
  traits.selected = Array.from({ length: 1504 }, (_, i) => i + 2);
  await model.fire("change:selected");
  await hear({ selected: { count: 1504 } });
  expect(el.querySelector(".rtw-facts")!.textContent).toContain("1,504 selected");
  expect(el.querySelector(".rtw-facts")!.textContent).not.toContain("selecting");
  expect(ctrlC(cell(1505, 0))).toBeNull();
  const { number, keys, columns } = model.of("rows").at(-1);
  expect([keys, columns]).toEqual([null, ["id", "name", "price"]]);
  await hear({ rows: { number, columns: [["id", [2, 3]], ["name", ["x", "y"]], ["price", ["1", null]]] } });
  await wait(20);
  expect(el.querySelector(".rtw-announcer")!.textContent).toBe("press Ctrl+C again");
  expect(ctrlC(cell(1505, 0))).toBe("id\tname\tprice\n2\tx\t1\n3\ty\t");
  cell(1505, 0).focus();
  await key("a", { ctrlKey: true });
  expect(model.of("select range").at(-1)).toMatchObject({ range: null });
  clipboard.mockRestore();
  await hear({ selected: { problem: "too many rows to select" } });
  expect(el.querySelector(".rtw-facts")!.textContent).toContain("too many rows to select");
  expect(el.querySelector(".rtw-facts")!.textContent).toContain("1,504 selected");
});

test("a long text is read whole from the kernel, to be copied and to be read", async () => {
  const clipboard = denyClipboard();
  const { model, hear, el, cell, key } = open();
  await hear({ ...three, cuts: [["name", [[1, 5000]]]] });
  cell(1, 1).click();
  await painted();
  expect(cell(1, 1).textContent).toBe("b…");
  expect(ctrlC(cell(1, 1))).toBeNull();
  expect(model.of("rows").at(-1)).toMatchObject({ keys: [2], columns: ["name"] });
  const whole = "b".repeat(5000);
  await hear({ rows: { number: 1, columns: [["name", [whole]]] } });
  await wait(20);
  expect(ctrlC(cell(1, 1))).toBe(whole);
  clipboard.mockRestore();
  await key("Enter");
  const reader = el.querySelector<HTMLElement>(".rtw-reader")!;
  expect([reader.hidden, reader.textContent]).toEqual([false, "nameloading the rest…×b"]);
  await hear({ rows: { number: 2, columns: [["name", [whole]]] } });
  await wait(20);
  expect(reader.querySelector("pre")!.textContent).toBe(whole);
  await key("Escape");
  expect(reader.hidden).toBe(true);
  expect(document.activeElement).toBe(cell(1, 1));
});

test("a double click opens the value of a cell, and the panel has the focus", async () => {
  const { hear, el, cell } = open();
  await hear(three);
  cell(1, 1).click();
  cell(1, 1).dispatchEvent(new MouseEvent("dblclick", { bubbles: true }));
  await painted();
  const reader = el.querySelector<HTMLElement>(".rtw-reader")!;
  expect([reader.hidden, reader.querySelector("pre")!.textContent]).toEqual([false, "b"]);
  expect(reader.contains(document.activeElement)).toBe(true);
});

test("where all columns are hidden, there is a way back", async () => {
  const { model, hear, el, texts } = open({ arrangement: { hidden: ["id", "name", "price"] } });
  await hear(three);
  const empty = el.querySelector<HTMLElement>(".rtw-empty")!;
  expect([empty.hidden, empty.textContent]).toEqual([false, "all columns are hidden show all columns"]);
  empty.querySelector("button")!.click();
  await painted();
  expect(empty.hidden).toBe(true);
  expect(texts()[0]).toEqual(["1", "a", "1.10"]);
  expect(model.of("layout").at(-1).layout.hidden).toEqual([]);
});

test("columns may be called like the names that every JavaScript object has", async () => {
  const { model, hear, el, texts } = open();
  const names = ["constructor", "toString", "__proto__", "valueOf"];
  await hear({
    state: { ...STATE, total: 1 },
    schema: names.map((name) => [name, "text"]),
    start: 0,
    keys: [1],
    columns: names.map((name) => [`of ${name}`]),
  });
  expect([...el.querySelectorAll("[role=columnheader]")].map((one) => one.textContent)).toEqual(names);
  expect(texts()).toEqual([names.map((name) => `of ${name}`)]);
  [...el.querySelectorAll("button")].find((button) => button.textContent === "filter")!.click();
  await painted();
  const inputs = [...el.querySelectorAll<HTMLInputElement>(".rtw-filters input")];
  expect(inputs.map((input) => input.value)).toEqual(["", "", "", ""]);
  inputs[2]!.value = "x";
  inputs[2]!.dispatchEvent(new Event("input", { bubbles: true }));
  await wait(300);
  expect(Object.entries(wants(model).filters)).toEqual([["__proto__", "x"]]);
});

test("search and filters are asked for after typing, from the first row", async () => {
  const { model, hear, el } = open();
  await hear(three);
  const search = el.querySelector<HTMLInputElement>("input[type=search]")!;
  search.value = "abc";
  search.dispatchEvent(new Event("input", { bubbles: true }));
  await wait(300);
  expect(wants(model)).toMatchObject({ start: 0, search: "abc", filters: {} });
  const filter = [...el.querySelectorAll("button")].find((button) => button.textContent === "filter")!;
  filter.click();
  await painted();
  const input = el.querySelector<HTMLInputElement>("input[aria-label='filter price']")!;
  input.value = ">5";
  input.dispatchEvent(new Event("input", { bubbles: true }));
  await wait(300);
  expect(wants(model)).toMatchObject({ search: "abc", filters: { price: ">5" } });
  expect(model.of("layout").at(-1).layout).toMatchObject({ search: "abc", filters: { price: ">5" } });
  filter.click();
  await wait(100);
  expect(wants(model).filters).toEqual({});
  expect(model.of("layout").at(-1).layout).toMatchObject({ search: "abc", filters: {} });
});

test("the kernel searches and filters too, and nobody is left to wonder where the rows are", async () => {
  const traits: Record<string, unknown> = { arrangement: { search: "ab", filters: { price: ">1" } } };
  const { model, hear, el } = open(traits);
  expect(model.of("hello")[0].wants).toMatchObject({ search: "ab", filters: { price: ">1" } });
  await hear(three);
  const search = el.querySelector<HTMLInputElement>("input[type=search]")!;
  const filterOf = (name: string) => el.querySelector<HTMLInputElement>(`input[aria-label='filter ${name}']`);
  expect(search.value).toBe("ab");
  expect(filterOf("price")!.value).toBe(">1");
  traits.arrangement = { filters: { name: "x", id: 5 } };
  await model.fire("change:arrangement");
  await wait(80);
  expect(wants(model)).toMatchObject({ search: "", filters: { name: "x" } });
  expect([search.value, filterOf("price")!.value, filterOf("name")!.value]).toEqual(["", "", "x"]);
  search.focus();
  search.value = "typed";
  search.dispatchEvent(new Event("input", { bubbles: true }));
  await painted();
  expect(search.value).toBe("typed");
  expect(model.of("layout")).toHaveLength(0);
});

const roomOf = (el: HTMLElement) => el.querySelector<HTMLElement>(".rtw-table")!.style.getPropertyValue("--rtw-rows");

test("the grid is as tall as its few rows, and no taller than twelve", () => {
  const rows = (count?: number, status = "live") => roomOf(open({ count, status }).el);
  expect([rows(1), rows(4), rows(5000), rows(0)]).toEqual(["1", "4", "12", "3"]);
  // Not known yet: the room of many.
  expect([rows(0, "connecting"), rows(undefined, "connecting")]).toEqual(["", ""]);
});

test("the grid grows with its rows, and does not shrink while it is looked at", async () => {
  const none = { ...three, state: { ...STATE, total: 0 }, keys: [], columns: [[], [], []] };
  const { el, hear } = open({ count: 0, status: "connecting" });
  await hear({ ...none, state: { ...none.state, status: "loading" } });
  expect(roomOf(el)).toBe("");
  await hear({ ...three, state: { ...STATE, total: 4 } });
  expect(roomOf(el)).toBe("4");
  await hear({ ...long(100, 0, 36) });
  expect(roomOf(el)).toBe("12");
  await hear(none);
  expect(roomOf(el)).toBe("12");
});

const ghosts = (grid: HTMLElement) => [...grid.querySelectorAll<HTMLElement>(".rtw-body > .rtw-leaving")];
const placeOf = (row: Element) => Number(/translateY\((-?[\d.]+)px\)/.exec((row as HTMLElement).style.transform)![1]);

test("a row that goes is shown going at its place, and only to the eyes", async () => {
  const { hear, grid, texts, cell } = open();
  await hear(three);
  cell(1, 1).focus();
  cell(1, 1).click();
  await painted();
  await hear({ state: { ...STATE, total: 2 }, start: 0, keys: [1, 3], columns: [[1, 3], ["a", "c"], ["1.10", "3.30"]], gone: [2] });
  const [ghost, ...others] = ghosts(grid);
  expect(others).toEqual([]);
  expect([...ghost!.children].map((one) => one.textContent).slice(0, 2)).toEqual(["2", "b"]);
  expect(placeOf(ghost!)).toBe(24);
  expect(ghost!.getAttribute("aria-hidden")).toBe("true");
  const said = [ghost!, ...ghost!.querySelectorAll("*")].flatMap((one) => [...one.attributes].map(({ name }) => name));
  expect(new Set(said)).toEqual(new Set(["class", "style", "dir", "aria-hidden"]));
  expect(ghost!.matches(".rtw-selected, .rtw-new")).toBe(false);
  // Behind the rows: what screen readers walk and what is counted is what is there.
  expect(grid.querySelector(".rtw-body")!.lastElementChild).toBe(ghost);
  expect(texts()).toEqual([["1", "a", "1.10"], ["3", "c", "3.30"]]);
  expect(grid.getAttribute("aria-rowcount")).toBe("3");
  expect(document.activeElement).toBe(cell(1, 1));
  expect(grid.scrollTop).toBe(0);
  await wait(700);
  expect(ghosts(grid)).toEqual([]);
});

test("the last row that goes is seen going before it is said that there are none", async () => {
  const { el, hear, grid } = open();
  await hear({ ...three, state: { ...STATE, total: 1 }, keys: [1], columns: [[1], ["a"], ["1.10"]] });
  await hear({ state: { ...STATE, total: 0 }, start: 0, keys: [], columns: [[], [], []], gone: [1] });
  const empty = el.querySelector<HTMLElement>(".rtw-empty")!;
  expect([ghosts(grid).length, empty.hidden]).toEqual([1, true]);
  await wait(700);
  expect([ghosts(grid).length, empty.hidden]).toEqual([0, false]);
});

test("only what left the table is shown leaving, not what moved, was sorted away, or went with most of the view", async () => {
  const { hear, grid, header } = open();
  await hear(long(1000, 0, 36));
  // Out of the window, but not gone; and a kernel that names a row which is still here is not believed.
  const moved = long(1000, 1, 37);
  await hear({ ...moved, start: 0, gone: [5] });
  expect(ghosts(grid)).toEqual([]);
  // Below what is seen.
  const without = (...out: number[]) => {
    const keys = moved.keys.filter((key) => !out.includes(key));
    return { state: { ...STATE, total: 1000 - out.length }, start: 0, keys, columns: [keys, keys.map((k) => `n${k}`), keys.map(String)], gone: out };
  };
  await hear(without(30));
  expect(ghosts(grid)).toEqual([]);
  await hear(without(30, 1, 2, 3, 4, 5, 6, 7));
  expect(ghosts(grid)).toEqual([]);
  await hear({ ...moved, start: 0 });
  await hear(without(3));
  expect(ghosts(grid)).toHaveLength(1);
  header("id").click();
  expect(ghosts(grid)).toEqual([]);
  await hear(without(3, 4));
  expect(ghosts(grid)).toEqual([]);
});

test("where rows go all the time, the next ones can be read", async () => {
  const { hear, grid } = open();
  await hear(long(1000, 0, 36));
  for (let first = 1; first < 8; first++) {
    await hear({ ...long(1000 - first, first, first + 36), start: 0, gone: [first - 1] });
    expect(ghosts(grid)).toHaveLength(1);
  }
  expect(ghosts(grid)[0]!.textContent).toContain("n0");
});

test("a row that goes is shown where it was seen, also where the view moves with the rows", async () => {
  const { hear, grid } = open();
  await hear(long(1000, 0, 500));
  grid.scrollTop = 24 * 100;
  grid.dispatchEvent(new Event("scroll"));
  await painted();
  // The row above the view goes, as does one in it: the view moves up by one, and so does the place.
  const keys = long(1000, 0, 500).keys.filter((key) => key !== 50 && key !== 105);
  await hear({ state: { ...STATE, total: 998 }, start: 0, keys, columns: [keys, keys.map((k) => `n${k}`), keys.map(String)], gone: [50, 105] });
  expect(grid.scrollTop).toBe(24 * 99);
  expect(ghosts(grid).map((ghost) => [ghost.children[0]!.textContent, placeOf(ghost) - grid.scrollTop])).toEqual([["105", 5 * 24]]);
});

test("at the end of the table, where the view moves down, too; nothing is made longer by it", async () => {
  const { hear, grid } = open();
  await hear(long(100, 0, 100));
  grid.scrollTop = 24 * 88;
  grid.dispatchEvent(new Event("scroll"));
  await painted();
  const hearWithout = (...gone: number[]) => {
    const keys = long(100, 0, 100).keys.filter((key) => !gone.includes(key));
    return hear({ state: { ...STATE, total: keys.length }, start: 0, keys, columns: [keys, keys.map((k) => `n${k}`), keys.map(String)], gone });
  };
  await hearWithout(95, 99);
  expect(grid.scrollTop).toBe(24 * 86);
  expect(ghosts(grid).map((ghost) => placeOf(ghost) - grid.scrollTop)).toEqual([7 * 24, 11 * 24]);
  await hearWithout(95, 99, 1);
  expect(ghosts(grid)).toHaveLength(2);
  expect(Math.max(...ghosts(grid).map(placeOf)) + 24).toBe(97 * 24);
});

test("pauses, says how much waits, resumes", async () => {
  const { model, hear, el } = open();
  await hear(three);
  const pause = [...el.querySelectorAll("button")].find((button) => button.textContent === "pause")!;
  pause.click();
  expect(model.of("pause")).toHaveLength(1);
  await hear({ state: { ...STATE, paused: true, waiting: 1234 } });
  expect(pause.textContent).toBe("resume (1,234)");
  pause.click();
  expect(model.of("resume")).toHaveLength(1);
});

test("columns hide, show and pin from the header's menu, by keyboard", async () => {
  const { model, hear, header, grid, key } = open();
  await hear(three);
  header("name").focus();
  header("name").click();
  await painted();
  const pick = async (text: string) => {
    await key("ArrowDown", { altKey: true });
    const item = [...document.querySelectorAll<HTMLElement>("[role^=menuitem]")].find((one) => one.textContent === text)!;
    item.focus();
    await key("Enter");
  };
  await pick("Pin left");
  const names = () => [...grid.querySelectorAll("[role=columnheader]")].map((one) => one.textContent);
  expect(names()).toEqual(["name", "id", "price"]);
  expect(document.activeElement).toBe(header("name"));
  await pick("Hide");
  expect(names()).toEqual(["id", "price"]);
  expect(model.of("layout").at(-1).layout).toMatchObject({ hidden: ["name"], pinned: ["name"] });
  await pick("Show name");
  expect(names()).toEqual(["name", "id", "price"]);
});

test("a stored layout is restored; anything else in its place does no harm", async () => {
  const layout = { order: ["price", "gone"], hidden: ["id"], widths: { price: 222, name: "wide" }, pinned: [], sort: [["price", true]] };
  const { model, hear, grid, header } = open({ arrangement: layout });
  expect(model.of("hello")[0].wants.sort).toEqual([["price", true]]);
  await hear(three);
  expect([...grid.querySelectorAll("[role=columnheader]")].map((one) => one.textContent)).toEqual(["price", "name"]);
  expect(header("price").style.width).toBe("222px");
  for (const odd of [null, 5, "x", { order: 3, sort: [1, [2]] }, new Map()]) {
    seq = 0;
    const other = open({ arrangement: odd });
    await other.hear(three);
    expect(other.texts()).toHaveLength(3);
  }
});

test("what keys mean depends on where one is", () => {
  const at = { index: 5, column: 1, lastRow: 99, lastColumn: 2, page: 11, rtl: false };
  const key = (key: string, more = {}, place = {}) =>
    commandFor({ key, ctrlKey: false, metaKey: false, altKey: false, shiftKey: false, ...more }, { ...at, ...place });
  expect(key("ArrowLeft")).toEqual({ go: [5, 0] });
  expect(key("ArrowLeft", {}, { rtl: true })).toEqual({ go: [5, 2] });
  expect(key("PageDown", {}, { index: 95 })).toEqual({ go: [99, 1] });
  expect(key("PageUp")).toEqual({ go: [0, 1] });
  expect(key("ArrowUp", { ctrlKey: true })).toEqual({ go: [HEADER, 1] });
  expect(key("End", { metaKey: true })).toEqual({ go: [99, 2] });
  expect(key("Enter")).toEqual({ do: "read" });
  expect(key("Enter", { shiftKey: true }, { index: HEADER })).toEqual({ do: "sort more" });
  expect(key("F10", { shiftKey: true }, { index: HEADER })).toEqual({ do: "menu" });
  expect(key("a")).toBeUndefined();
  expect(key("Home", { ctrlKey: true }, { lastRow: -1, index: HEADER })).toEqual({ go: [HEADER, 0] });
  expect(key("End", {}, { lastColumn: -1 })).toBeUndefined();
});

test("the kernel selects and arranges too; what comes back of the view's own words changes nothing", async () => {
  const traits: Record<string, unknown> = { selected: [2] };
  const { model, hear, cell, header } = open(traits);
  await hear(three);
  const isSelected = () => [0, 1, 2].map((row) => cell(row, 0).parentElement!.getAttribute("aria-selected"));
  expect(isSelected()).toEqual(["false", "true", "false"]);
  cell(0, 0).click();
  cell(2, 0).click();
  traits.selected = [1]; // the first click, late
  await model.fire("change:selected");
  expect(isSelected()).toEqual(["false", "false", "true"]);
  traits.selected = [3];
  await model.fire("change:selected");
  traits.selected = [1, 2];
  await model.fire("change:selected");
  traits.arrangement = { sort: [["price", true]], widths: { id: 99 } };
  await model.fire("change:arrangement");
  expect(isSelected()).toEqual(["true", "true", "false"]);
  expect(header("price").getAttribute("aria-sort")).toBe("descending");
  expect(header("id").style.width).toBe("99px");
  await wait(80);
  expect(wants(model).sort).toEqual([["price", true]]);
  expect(model.of("layout")).toHaveLength(0);
});

test("of very many columns only those in view are elements", async () => {
  const { hear, grid } = open();
  const schema = Array.from({ length: 200 }, (_, i) => [`c${i}`, "int4"]);
  await hear({ state: { ...STATE, total: 1 }, schema, start: 0, keys: [1], columns: schema.map((_, i) => [i]) });
  expect(grid.querySelectorAll("[role=gridcell]").length).toBeLessThan(60);
  expect(grid.getAttribute("aria-colcount")).toBe("200");
});

test("columns that come later are shown", async () => {
  const { hear, texts } = open();
  await hear(three);
  const schema = [...SCHEMA, ["extra", "bool"]];
  await hear({ schema, start: 0, keys: [1], columns: [[1], ["a"], ["1"], [true]], state: { ...STATE, total: 1 } });
  expect(texts()).toEqual([["1", "a", "1", "true"]]);
});

test("the end leaves nothing: no listener, no element, no message after the goodbye; twice does no harm", async () => {
  const { model, el, end, hear, grid } = open();
  await hear(long(1000, 0, 36));
  const timers = vi.spyOn(window, "setInterval");
  grid.scrollTop = 5000;
  grid.dispatchEvent(new Event("scroll"));
  end();
  end();
  const sent = model.sent.length;
  expect(model.of("bye")).toHaveLength(1);
  expect(model.listening).toBe(0);
  expect(el.children).toHaveLength(0);
  grid.dispatchEvent(new Event("scroll"));
  await wait(300);
  expect(model.sent).toHaveLength(sent);
  timers.mockRestore();
});

test("a host's own signal ends it too", async () => {
  const host = new AbortController();
  const model = new TableModel();
  const el = document.createElement("div");
  widget.render({ model, el, signal: host.signal });
  host.abort();
  expect(model.listening).toBe(0);
  expect(el.children).toHaveLength(0);
});
