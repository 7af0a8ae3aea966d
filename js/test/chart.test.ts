import { beforeAll, beforeEach, expect, test, vi } from "vitest";
import { color, dash } from "../src/chart/colors";
import { Points, spacing } from "../src/chart/points";
import { exact, numbers, reading, short, times } from "../src/chart/ticks";
import { FakeModel, painted } from "./fake";

const f64 = (...values: number[]) => new DataView(new Float64Array(values).buffer);
const u8 = (...values: number[]) => new DataView(new Uint8Array(values).buffer);
const i32 = (...values: number[]) => new DataView(new Int32Array(values).buffer);

test("points: whole, then what is new behind, gone in front and changed between", () => {
  const points = new Points();
  expect(points.apply({ count: 3, whole: true }, [f64(1, 2, 3), f64(10, NaN, 30), u8(0, 0, 0)])).toBe(true);
  expect(points.aligned(1)).toEqual([[1, 2, 3], [10, null, 30]]);
  expect(points.apply({ count: 3, whole: false, drop: 1 }, [f64(4), f64(40), u8(0), i32(1), f64(33)])).toBe(true);
  expect(points.aligned(1)).toEqual([[2, 3, 4], [null, 33, 40]]);
  expect(points.apply({ count: 9, whole: false, drop: 0 }, [f64(), f64(), u8(), i32(), f64()])).toBe(false);
});

test("points of other series at the same x share a row; a series without a point there has no gap", () => {
  const points = new Points();
  points.apply({ count: 4, whole: true }, [f64(1, 1, 2, 2), f64(10, 11, 20, 21), u8(0, 1, 1, 1)]);
  expect(points.aligned(2)).toEqual([[1, 2, 2], [10, undefined, undefined], [11, 20, 21]]);
  expect(spacing([1, 2, 2, 5])).toBe(1);
  expect(spacing([7])).toBe(0);
});

test("a buffer that begins at an odd place is read all the same", () => {
  const odd = new Uint8Array(17);
  odd.set(new Uint8Array(new Float64Array([5, 6]).buffer), 1);
  const points = new Points();
  expect(points.apply({ count: 2, whole: true }, [new DataView(odd.buffer, 1, 16), f64(1, 2), u8(0, 0)])).toBe(true);
  expect([...points.x]).toEqual([5, 6]);
});

test("times say no more than is needed, the date where a day begins, and UTC for who asks", () => {
  const noon = Date.UTC(2026, 0, 31, 12);
  const said = times([noon, noon + 60_000], 60_000, true);
  expect(said[0]).toMatch(/12:00\n.*31/);
  expect(said[1]).toBe("12:01");
  expect(times([noon], 86_400_000, true)[0]).toMatch(/^[^:]*31[^:]*$/);
  expect(reading(noon, "time", []).title).toBe("2026-01-31T12:00:00.000Z");
  expect(reading(noon, "wall", []).title).toBe("");
  expect(reading(1, "category", ["a", "b"]).text).toBe("b");
  expect(short("abcdef", 4)).toBe("abc…");
});

test("a number under the pointer has every digit", () => {
  expect([1234567.89, 1234567.9, 0.1, 0.1 + 0.2, -12345.678901234, 0, 1e21, 1.5e-9, 123456789012].map(exact)).toEqual([
    "1,234,567.89", "1,234,567.9", "0.1", "0.30000000000000004", "-12,345.678901234", "0", "1e21", "1.5e-9", "123,456,789,012",
  ]);
  expect([null, undefined, NaN].map(exact)).toEqual(["–", "–", "–"]);
});

test("labels along an axis tell one from the next, with no more digits than that takes", () => {
  expect(numbers([1234567.85, 1234567.9, 1234567.95, 1234568])).toEqual(["1,234,567.85", "1,234,567.9", "1,234,567.95", "1,234,568"]);
  expect(numbers([0, 0.1, 0.2, 0.30000000000000004])).toEqual(["0", "0.1", "0.2", "0.3"]);
  expect(numbers([0, 25, 50, 75])).toEqual(["0", "25", "50", "75"]);
  expect(numbers([0, 2e-9, 4e-9])).toEqual(["0", "2e-9", "4e-9"]);
  expect(numbers([1.00000001e15, 1.00000002e15])).toEqual(["1.00000001e15", "1.00000002e15"]);
  expect(numbers([])).toEqual([]);
  for (const [first, step] of [[1e12, 0.25], [-5, 1e-7], [3e-5, 1e-9], [1e14, 1], [7, 0.001]] as const) {
    const values = Array.from({ length: 6 }, (_, i) => first + i * step);
    expect(new Set(numbers(values)).size).toBe(6);
  }
});

test("the first twelve series are told apart, by colour and beyond the first by dashes", () => {
  expect(new Set(Array.from({ length: 12 }, (_, i) => color(i, false))).size).toBe(12);
  expect(new Set(Array.from({ length: 12 }, (_, i) => color(i, true))).size).toBe(12);
  expect(dash(4).length).toBeGreaterThan(0);
});

const EVIL = "<img src=x onerror=alert(1)>";
const STATE = { status: "live", error: "", ready: true, title: "v", x: "t", by: null, kind: "line", axis: "number", categories: [], series: [["v", 0]], notes: [] as string[] };
let model: FakeModel;
let el: HTMLElement;
let end: () => void;
let chart: typeof import("../src/widgets/chart").default;

beforeAll(async () => {
  // Enough of a canvas for uPlot to believe in one.
  const context: any = new Proxy({}, { get: (_, name) => (name === "measureText" ? () => ({ width: 10 }) : () => undefined), set: () => true });
  HTMLCanvasElement.prototype.getContext = (() => context) as any;
  vi.stubGlobal("Path2D", class { rect() {} moveTo() {} lineTo() {} arc() {} closePath() {} addPath() {} bezierCurveTo() {} });
  chart = (await import("../src/widgets/chart")).default;
});
beforeEach(() => {
  document.body.replaceChildren();
  el = document.body.appendChild(document.createElement("div"));
  model = new FakeModel();
  end = chart.render({ model, el });
});
const draw = async (state: object, x: number[], y: number[], s: number[]) => {
  model.hear({ seq: 1, whole: true, state: { ...STATE, ...state }, points: { count: x.length, whole: true } }, [f64(...x), f64(...y), u8(...s)]);
  await painted();
};
const values = () => [...el.querySelectorAll(".rtw-value")].map((node) => node.textContent);

test("draws, names the last values, follows", async () => {
  await draw({ series: [["a", 0], ["b", 1]], by: "g" }, [1, 1, 2], [10, 20, 30], [0, 1, 0]);
  expect(el.querySelector("canvas")).not.toBeNull();
  expect(values()).toEqual(["30", "20"]);
  model.hear({ seq: 2, points: { count: 4, whole: false, drop: 0 } }, [f64(3), f64(99), u8(1), i32(), f64()]);
  await painted();
  expect(values()).toEqual(["30", "99"]);
});

test("what is only announced, without a value yet, does not hide the last values", async () => {
  await draw({ series: [["a", 0], ["b", 1]], by: "g" }, [1, 1, 2, 3], [10, 20, 30, NaN], [0, 1, 0, 1]);
  expect(values()).toEqual(["30", "20"]);
  expect(el.querySelector("time")!.textContent).toBe("last: 2");
});

test("what does not fit is asked for anew", async () => {
  await draw({}, [1], [1], [0]);
  model.hear({ seq: 2, points: { count: 7, whole: false, drop: 0 } }, [f64(3), f64(99), u8(0), i32(), f64()]);
  expect(model.of("hello")).toHaveLength(2);
});

test("names of columns and groups are text, in the picture's words too", async () => {
  await draw({ title: EVIL, x: EVIL, by: EVIL, series: [[EVIL, 0]], axis: "category", categories: [EVIL], notes: [EVIL], error: EVIL }, [0], [1], [0]);
  el.querySelector("details")!.open = true;
  el.querySelector("details")!.dispatchEvent(new Event("toggle"));
  expect(el.querySelector("img")).toBeNull();
  expect(el.querySelector(".rtw-problem")!.textContent).toBe(EVIL);
  expect(el.querySelector("tbody")!.textContent).toBe(`${EVIL}1`);
});

test("an error keeps the last good picture", async () => {
  await draw({}, [1, 2], [5, 6], [0, 0]);
  model.hear({ seq: 2, state: { ...STATE, error: "no column" } });
  await painted();
  expect(values()).toEqual(["6"]);
  expect(el.querySelector(".rtw-chart")!.classList.contains("rtw-wrong")).toBe(true);
});

test("keys read values and zoom, and are not the notebook's", async () => {
  await draw({}, [1, 2, 3], [5, 6, 7], [0, 0, 0]);
  const plot = el.querySelector<HTMLElement>(".rtw-plot")!;
  let reached = 0;
  document.body.addEventListener("keydown", () => (reached += 1));
  const press = (key: string) => plot.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true }));
  press("ArrowLeft");
  expect(values()).toEqual(["6"]);
  expect(el.querySelector(".rtw-at")!.textContent).toBe("2");
  press("+");
  const reset = el.querySelector<HTMLButtonElement>(".rtw-reset")!;
  expect(reset.hidden).toBe(false);
  press("0");
  expect(reset.hidden).toBe(true);
  expect(reached).toBe(0);
});

test("a series is hidden and shown by its button", async () => {
  await draw({ series: [["a", 0], ["b", 1]] }, [1, 1], [5, 6], [0, 1]);
  const button = el.querySelector<HTMLButtonElement>(".rtw-legend button")!;
  button.click();
  expect(button.getAttribute("aria-pressed")).toBe("false");
  button.click();
  expect(button.getAttribute("aria-pressed")).toBe("true");
});

test("the value under the pointer and in the legend has every digit", async () => {
  await draw({}, [0, 1], [1234567.89, 1234567.9], [0, 0]);
  expect(values()).toEqual(["1,234,567.9"]);
  el.querySelector(".rtw-plot")!.dispatchEvent(new KeyboardEvent("keydown", { key: "Home", bubbles: true }));
  expect(values()).toEqual(["1,234,567.89"]);
});

test("a legend with more series than there is room for says so, and opens", async () => {
  const legend = el.querySelector<HTMLElement>(".rtw-legend")!;
  const more = el.querySelector<HTMLButtonElement>(".rtw-more")!;
  await draw({ series: [["a", 0]] }, [1], [1], [0]);
  expect(more.hidden).toBe(true);
  Object.defineProperty(legend, "scrollHeight", { value: 90 });
  Object.defineProperty(legend, "clientHeight", { value: 60 });
  await draw({ series: Array.from({ length: 12 }, (_, i) => [`s${i}`, i]) }, [1], [1], [0]);
  expect([more.hidden, more.textContent, more.getAttribute("aria-expanded")]).toEqual([false, "all 12 series", "false"]);
  more.click();
  expect([legend.className, more.hidden, more.textContent]).toEqual(["rtw-legend rtw-open", false, "fewer"]);
});

test("the picture says in words what it shows", async () => {
  await draw({}, [1, 2], [5, 8], [0, 0]);
  await new Promise((resolve) => setTimeout(resolve, 1100));
  expect(el.querySelector("[role=img]")!.getAttribute("aria-label")).toBe("line chart of v over t: 2 points, 1 to 2. v from 5 to 8, last 8");
});

test("the end leaves nothing", async () => {
  await draw({}, [1], [1], [0]);
  end();
  expect(el.childNodes).toHaveLength(0);
  expect(model.listening).toBe(0);
});
