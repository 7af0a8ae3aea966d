import { expect, test } from "vitest";
import { format, kindOf, plain } from "../src/grid/format";
import { Flashes } from "../src/grid/flash";
import { tsv } from "../src/grid/copying";
import { inView, moved, nextSort, place, readLayout, storedLayout } from "../src/grid/layout";
import { Sheet, type TableFrame } from "../src/grid/sheet";
import { sparkline } from "../src/grid/spark";
import { MOST, ROW, TALLEST, canvasHeight, isNear, lastTop, movedTop, reach, scrollFor, seenRows, shiftOf } from "../src/grid/window";

const HEIGHT = 12 * ROW;

test("the canvas is never taller than browsers allow", () => {
  expect(canvasHeight(100)).toBe(100 * ROW);
  expect(canvasHeight(1e6)).toBe(TALLEST);
});

test("a short list scrolls pixel by pixel", () => {
  expect(scrollFor(1234, 1000, HEIGHT)).toBe(1234);
  expect(movedTop(100, 100, 5000, 1000, HEIGHT)).toBe(5000);
  // A shift that the scroll bar does not know yet is not lost.
  expect(movedTop(148, 100, 110, 1000, HEIGHT)).toBe(158);
});

test("of a list cut in height every row is reached: small steps as they are, long ones by the scale", () => {
  const total = 1e6;
  const end = lastTop(total, HEIGHT);
  expect(movedTop(5000, 700, 800, total, HEIGHT)).toBe(5100);
  expect(movedTop(0, 0, TALLEST - HEIGHT, total, HEIGHT)).toBeCloseTo(end, 3);
  expect(scrollFor(end, total, HEIGHT)).toBeCloseTo(TALLEST - HEIGHT, 3);
  expect(movedTop(50, 100, 0, total, HEIGHT)).toBe(0);
  const middle = movedTop(0, 0, scrollFor(end / 2, total, HEIGHT), total, HEIGHT);
  expect(middle).toBeCloseTo(end / 2, 0);
});

test("the seen rows", () => {
  expect(seenRows(0, HEIGHT, 1000)).toEqual({ start: 0, stop: 12 });
  expect(seenRows(10, HEIGHT, 1000)).toEqual({ start: 0, stop: 13 });
  expect(seenRows(0, HEIGHT, 5)).toEqual({ start: 0, stop: 5 });
  expect(seenRows(0, HEIGHT, 0)).toEqual({ start: 0, stop: 0 });
  expect(seenRows(lastTop(1000, HEIGHT), HEIGHT, 1000)).toEqual({ start: 988, stop: 1000 });
});

test("asks for one screen above and two below, and never for more than the kernel sends", () => {
  expect(reach({ start: 100, stop: 112 }, 12)).toEqual({ start: 88, stop: 136 });
  expect(reach({ start: 0, stop: 3 }, 12)).toEqual({ start: 0, stop: 36 });
  for (const screen of [1, 12, 100, 200, 399, 400, 900]) {
    for (const start of [0, 1, 50, 5000]) {
      const range = reach({ start, stop: start + screen }, Math.min(screen, MOST));
      expect(range.stop - range.start).toBeLessThanOrEqual(MOST);
      expect(range.start).toBeLessThanOrEqual(start);
    }
  }
});

test("asks again near an edge only, and never twice for the same place", () => {
  const asked = reach({ start: 100, stop: 112 }, 12);
  expect(isNear({ start: 100, stop: 112 }, asked, 12, 1000)).toBe(false);
  expect(isNear({ start: 92, stop: 104 }, asked, 12, 1000)).toBe(true);
  expect(isNear({ start: 120, stop: 132 }, asked, 12, 1000)).toBe(true);
  expect(isNear({ start: 0, stop: 12 }, { start: 0, stop: 36 }, 12, 20)).toBe(false);
  for (const screen of [1, 12, 100, 200, 300, 399]) {
    for (let start = 0; start < 900; start += 7) {
      const seen = { start, stop: Math.min(1000, start + screen) };
      expect(isNear(seen, reach(seen, screen), screen, 1000)).toBe(false);
    }
  }
});

test("the first seen row that is still there tells how far rows have moved", () => {
  const now = new Map([["b", 15], ["c", 16]]);
  expect(shiftOf([["a", 10], ["b", 11], ["c", 12]], (id) => now.get(id))).toBe(4);
  expect(shiftOf([["x", 10]], (id) => now.get(id))).toBe(0);
});

test("no digit of a number is lost", () => {
  for (const value of ["9007199254740993", "0.10", "1234567.8900", "-0.000000000000000000001"]) {
    expect(format(value, "numeric").text).toBe(value);
  }
  expect(format(1234567.25, "float8")).toEqual({ text: "1234567.25", title: "", mark: "" });
  expect(format(8.366336633663366, "float8")).toEqual({ text: "8.366337", title: "8.366336633663366", mark: "" });
  expect(format(8.366336633663366, "numeric").text).toBe("8.366336633663366");
  expect(format(0.1 + 0.2, "float8").text).toBe("0.3");
  expect(format(1.23456789e-7, "float8").text).toBe("1.23457e-7");
  expect(format(-1e300, "float8").text).toBe("-1e+300");
  expect(format(0, "float4").text).toBe("0");
  expect(kindOf("int8")).toBe("number");
});

test("null is not the text null", () => {
  expect(format(null, "text")).toEqual({ text: "null", title: "", mark: "rtw-null" });
  expect(format("null", "text").mark).toBe("");
});

test("times are local to the second, in the title in UTC with every digit", () => {
  const shown = format("2026-03-01T12:00:00.123456+02:00", "timestamptz");
  expect(shown.title).toBe("2026-03-01T10:00:00.123456Z");
  expect(shown.text).toMatch(/^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.123$/);
  expect(format("2026-03-01T12:00:00+00:00", "timestamptz").text).toMatch(/^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d$/);
  expect(format("infinity", "timestamptz").text).toBe("infinity");
  expect(format("2026-03-01T12:00:00.500000", "timestamp").text).toBe("2026-03-01 12:00:00.5");
  expect(format("2026-03-01T12:00:00.000", "timestamp").text).toBe("2026-03-01 12:00:00");
  expect(format("2026-03-01", "date").text).toBe("2026-03-01");
});

test("the hour that a clock shows twice carries its offset", () => {
  const zone = process.env.TZ;
  process.env.TZ = "Europe/Berlin";
  const at = (text: string) => format(text, "timestamptz").text;
  expect([at("2026-10-25T00:30:00Z"), at("2026-10-25T01:30:00Z")]).toEqual(["2026-10-25 02:30:00 +02:00", "2026-10-25 02:30:00 +01:00"]);
  expect([at("2026-10-24T23:59:59Z"), at("2026-10-25T02:00:00Z")]).toEqual(["2026-10-25 01:59:59", "2026-10-25 03:00:00"]);
  expect(at("2026-03-29T01:30:00Z")).toBe("2026-03-29 03:30:00");
  process.env.TZ = zone;
});

test("booleans are words; json is compact; newlines are seen; very long text is cut", () => {
  expect(format(true, "bool")).toEqual({ text: "true", title: "", mark: "rtw-true" });
  expect(format({ a: [1, null] }, "jsonb").text).toBe('{"a":[1,null]}');
  expect(format("x", "json").text).toBe('"x"');
  expect(format(["a", "b"], "_text").text).toBe('["a","b"]');
  expect(format("a\r\nb", "text")).toMatchObject({ text: "a⏎b", title: "a\r\nb" });
  expect(format("x".repeat(1e6), "text").text.length).toBeLessThan(400);
  expect(plain({ a: 1 })).toBe('{"a":1}');
});

test("marks end, and a second change begins anew", () => {
  const flashes = new Flashes();
  flashes.cell("1", "a", 0);
  const first = flashes.beatOf("1", "a");
  flashes.cell("1", "a", 500);
  expect(flashes.beatOf("1", "a")).not.toBe(first);
  expect(flashes.sweep(900)).toBe(1300);
  expect(flashes.beatOf("1", "a")).toBeDefined();
  expect(flashes.sweep(1300)).toBeUndefined();
  expect(flashes.beatOf("1", "a")).toBeUndefined();
});

test("sorting goes ascending, descending, none; adding keeps the others", () => {
  expect(nextSort([], "a", false)).toEqual([["a", false]]);
  expect(nextSort([["a", false]], "a", false)).toEqual([["a", true]]);
  expect(nextSort([["a", true]], "a", false)).toEqual([]);
  expect(nextSort([["a", true], ["b", false]], "b", true)).toEqual([["a", true], ["b", true]]);
  expect(nextSort([["a", true], ["b", true]], "b", true)).toEqual([["a", true]]);
  expect(nextSort([["a", true]], "b", false)).toEqual([["b", false]]);
});

test("columns are placed: pinned first, hidden not, unknown ones last", () => {
  const layout = readLayout({ order: ["c", "a"], hidden: ["d"], pinned: ["b"], widths: { c: 50, a: 1 } });
  const placed = place([["a", "text"], ["b", "text"], ["c", "text"], ["d", "text"]], layout, () => 100);
  expect(placed.map(({ name, x, width }) => [name, x, width])).toEqual([["b", 0, 100], ["c", 100, 50], ["a", 150, 100]]);
  expect(moved(["a", "b", "c"], "c", "a")).toEqual(["c", "a", "b"]);
  expect(moved(["a", "b", "c"], "a", null)).toEqual(["b", "c", "a"]);
});

test("many columns: those in view and the pinned ones, with a gap between", () => {
  const schema: [string, string][] = Array.from({ length: 100 }, (_, i) => [`c${i}`, "text"]);
  const all = place(schema, readLayout({ pinned: ["c99"] }), () => 100);
  const { columns, gap } = inView(all, 5000, 1000);
  expect(columns[0]!.name).toBe("c99");
  expect(columns.length).toBeLessThan(30);
  expect(gap).toBe(columns[1]!.x - 100);
});

test("rows for a spreadsheet are quoted where they must be", () => {
  expect(tsv(["a", "b"], [["x\ny", null]])).toBe('a\tb\n"x\ny"\t');
});

test("the line of rates fits its picture", () => {
  expect(sparkline([0, 10])).toBe("58,13.0 59,1.0");
});

const window = (fields: Partial<TableFrame>) => ({ view: "", epoch: "", seq: 1, kind: "frame", ...fields });

test("what changed, arrived and left is what the kernel says; of rows that it did not send nothing is marked", () => {
  const sheet = new Sheet();
  sheet.apply(window({ schema: [["id", "int4"], ["n", "int4"]], start: 5, keys: [1, 2, 3], columns: [[1, 2, 3], [7, 7, 7]] }));
  const delta = sheet.apply(
    window({ start: 5, keys: [1, 9, 3], columns: [[1, 9, 3], [8, 7, 7]], changed: [["n", [0, 77]]], arrived: [1, 50], gone: [2, 3, 4] }),
  );
  expect(delta).toEqual({ cells: [["1", "n"]], arrived: ["9"], gone: ["2"], window: true });
  expect(sheet.apply(window({ patch: [["n", [[2, 6], [44, 1]]], ["other", [[0, 1]]]] })).cells).toEqual([["3", "n"]]);
  expect([5, 6, 7, 8].map((index) => sheet.valueAt(index, "n"))).toEqual([8, 7, 6, undefined]);
});

test("a cell of which only the beginning was sent says so, until it is whole again", () => {
  const sheet = new Sheet();
  sheet.apply(window({ schema: [["t", "text"]], start: 0, keys: [1, 2], columns: [["abc", "d"]], cuts: [["t", [[0, 9000]]]] }));
  expect([sheet.cutAt(0, "t"), sheet.cutAt(1, "t")]).toEqual([9000, undefined]);
  expect(format("abc", "text", 9000)).toEqual({ text: "abc…", title: "abc… (9,000 characters: press Enter to read them)", mark: "" });
  sheet.apply(window({ patch: [["t", [[0, "short"], [1, "def", 500]]]] }));
  expect([sheet.cutAt(0, "t"), sheet.cutAt(1, "t")]).toEqual([undefined, 500]);
});

test("a stored layout names each column once, whatever its columns are called", () => {
  const names = ["constructor", "__proto__", "toString"];
  const layout = readLayout({ order: ["v", "v", "id"], hidden: ["v", "v"], sort: [["v", true], ["v", false]], filters: { v: " ", id: "1" } });
  expect(layout).toMatchObject({ order: ["v", "id"], hidden: ["v"], sort: [["v", true]] });
  expect(storedLayout(layout).filters).toEqual({ id: "1" });
  const schema: [string, string][] = names.map((name) => [name, "text"]);
  expect(place(schema, layout, () => 100).map(({ name, width }) => [name, width])).toEqual(names.map((name) => [name, 100]));
  layout.filters.set("__proto__", "x");
  expect([...readLayout(JSON.parse(JSON.stringify(storedLayout(layout)))).filters]).toEqual([["id", "1"], ["__proto__", "x"]]);
});
