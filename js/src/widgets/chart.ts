/** `LiveChart`: lines, areas, bars or points that follow their source. */
/*!
Contains uPlot 1.6.32 (https://github.com/leeoniya/uPlot).

The MIT License (MIT)

Copyright (c) 2022 Leon Sorokin

Permission is hereby granted, free of charge, to any person obtaining a copy
of this software and associated documentation files (the "Software"), to deal
in the Software without restriction, including without limitation the rights
to use, copy, modify, merge, publish, distribute, sublicense, and/or sell
copies of the Software, and to permit persons to whom the Software is
furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in
all copies or substantial portions of the Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR
IMPLIED, INCLUDING BUT NOT LIMITED TO THE WARRANTIES OF MERCHANTABILITY,
FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE
AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER
LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM,
OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN
THE SOFTWARE.
*/
import uPlot from "uplot";
import { color, dash, faint, onDark } from "../chart/colors";
import { bars, scattered } from "../chart/paths";
import { type Column, Points, type PointsFrame, spacing } from "../chart/points";
import { type Axis, exact, numbers, reading, short, times } from "../chart/ticks";
import { h, lifetime, perFrame, setAttribute, setText } from "../core/dom";
import { type Frame, Link, type Model } from "../core/link";
import { StatusLine } from "../core/status";
import { plural } from "../core/words";

interface ChartState {
  status: string;
  error: string;
  /** Whether there was anything to draw yet. */
  ready: boolean;
  /** What y is. */
  title: string;
  x: string;
  by: string | null;
  kind: "line" | "area" | "bar" | "scatter";
  axis: Axis;
  categories: string[];
  /** Name and number of the colour. */
  series: [string, number][];
  notes: string[];
}
interface ChartFrame extends Frame {
  state?: ChartState;
  points?: PointsFrame;
}

/** Rows of the table of last values. */
const TABLE_ROWS = 10;
/** Milliseconds between two updates of the table and the summary: they are read, not watched. */
const WORDS_EVERY = 1000;
const HEIGHT = 260;

let charts = 0;

export default {
  render({ model, el, signal: given }: { model: Model; el: HTMLElement; signal?: AbortSignal }): () => void {
    const { signal, end } = lifetime(given);
    const reset = h("button", { type: "button", class: "rtw-reset", hidden: true }, "Show all");
    const status = new StatusLine(reset);
    const plot = h("div", { class: "rtw-plot", tabindex: 0, role: "img" });
    const empty = h("p", { class: "rtw-empty", hidden: true });
    const at = h("time", { class: "rtw-at" });
    const legend = h("ul", { class: "rtw-legend", "aria-label": "series" });
    const more = h("button", { type: "button", class: "rtw-more", "aria-expanded": "false", hidden: true });
    const notes = h("p", { class: "rtw-notes", hidden: true });
    const name = `rtw-values-${(charts += 1)}`;
    const caption = h("caption", { dir: "auto" });
    const head = h("thead");
    const body = h("tbody");
    const table = h("table", { class: "rtw-values", id: name }, caption, head, body);
    const details = h("details", { class: "rtw-table" }, h("summary", {}, "Last values as a table"), h("div", { class: "rtw-scroll", tabindex: 0, role: "region", "aria-label": "last values" }, table));
    const root = h(
      "div",
      { class: "rtw rtw-chart", "data-lm-suppress-shortcuts": true },
      status.element,
      status.problem,
      h("div", { class: "rtw-reading" }, at, legend, more),
      h("div", { class: "rtw-frame" }, plot, empty),
      notes,
      details,
    );
    el.append(root);

    let state: ChartState | null = null;
    let points = new Points();
    let data: [number[], ...Column[]] = [[]];
    let gap = 0;
    let chart: uPlot | null = null;
    let made = "";
    let zoom: { min: number; max: number } | null = null;
    /** The row that is being read, by the pointer or the keys. */
    let read: number | null = null;
    const hidden = new Set<string>();
    let dark = false;
    let ink = { text: "#000", dim: "#666", line: "#ccc" };
    let described = 0;
    let describing = 0;

    const look = () => {
      // Colours as the host resolves them: a canvas does not know CSS variables.
      dark = onDark(root);
      ink = { text: getComputedStyle(root).color, dim: getComputedStyle(status.element).color, line: getComputedStyle(root).borderTopColor };
    };
    const shown = () => state!.series.filter(([label]) => !hidden.has(label));

    const ranged = (min: number | null, max: number | null): [number, number] => {
      if (min === null || max === null) return [0, 1];
      const pad = state!.kind === "bar" ? (gap || 1) / 2 : state!.axis === "category" ? 0.5 : max > min ? 0 : state!.axis === "number" ? 1 : 30_000;
      return [min - pad, max + pad];
    };

    const build = () => {
      const { kind, axis, categories, series } = state!;
      const wall = axis === "wall";
      const grid = { stroke: () => ink.line, width: 1 };
      const ticks = { stroke: () => ink.line, width: 1, size: 4 };
      const font = `11px ${getComputedStyle(root).fontFamily || "sans-serif"}`;
      const letters = 14;
      const options: uPlot.Options = {
        width: Math.max(120, plot.clientWidth || 600),
        height: Math.max(80, plot.clientHeight || HEIGHT),
        ms: 1,
        tzDate: (value) => (wall ? uPlot.tzDate(new Date(value), "Etc/UTC") : new Date(value)),
        legend: { show: false },
        padding: [8, 12, 0, 0],
        cursor: {
          drag: { x: true, y: false, setScale: false },
          points: { size: 7, ...(kind === "bar" ? { show: false } : {}) },
          y: false,
          // Ours: the reset is a button as well.
          bind: { dblclick: () => () => (zoomTo(null), null) },
        },
        scales: {
          x: { time: axis === "time" || wall, range: (_, min, max) => (zoom ? [zoom.min, zoom.max] : ranged(min, max)) },
          y: {
            range: (_, min, max) => {
              if (min === null || max === null || !Number.isFinite(min) || !Number.isFinite(max)) return [0, 1];
              const based = kind === "bar" || kind === "area";
              if (based && min === 0 && max === 0) return [0, 1];
              const [low, high] = uPlot.rangeNum(based ? Math.min(0, min) : min, based ? Math.max(0, max) : max, 0.1, true);
              return [based && min >= 0 ? 0 : low, based && max <= 0 ? 0 : high];
            },
          },
        },
        axes: [
          {
            stroke: () => ink.dim,
            grid: axis === "category" || kind === "bar" ? { show: false } : grid,
            ticks,
            font,
            ...(axis === "category"
              ? {
                  incrs: [1, 2, 5, 10, 20, 50, 100],
                  space: Math.min(letters, Math.max(3, ...categories.map((one) => one.length))) * 7 + 8,
                  values: (_: uPlot, splits: number[]) => splits.map((split) => (Number.isInteger(split) ? short(categories[split] ?? "", letters) : "")),
                }
              : axis === "number"
                ? { values: (_: uPlot, splits: number[]) => numbers(splits) }
                : { space: 80, values: (_: uPlot, splits: number[], __: number, ___: number, step: number) => times(splits, step, wall) }),
          },
          {
            stroke: () => ink.dim,
            grid,
            ticks,
            font,
            values: (_, splits) => numbers(splits),
            size: (_, values) => 18 + 6.5 * Math.max(3, ...(values ?? []).map((one) => one?.length ?? 0)),
          },
        ],
        series: [
          {},
          ...series.map(([label, seat], i): uPlot.Series => {
            const stroke = () => color(seat, dark);
            const see = { label, show: !hidden.has(label), stroke };
            if (kind === "scatter") return { ...see, fill: () => faint(color(seat, dark), 0.7), paths: scattered(seat), points: { show: false } };
            if (kind === "bar") {
              const place = () => Math.max(0, shown().findIndex(([other]) => other === label));
              return { ...see, fill: stroke, paths: bars(place, () => Math.max(1, shown().length), () => gap), points: { show: false } };
            }
            const area = kind === "area" ? { fill: () => faint(color(seat, dark), 0.25), fillTo: 0 } : {};
            return { ...see, ...area, width: 1.75, dash: i === 0 && series.length === 1 ? [] : dash(seat), points: { size: 5, fill: stroke } };
          }),
        ],
        hooks: {
          setCursor: [(u) => ((read = u.cursor.left !== undefined && u.cursor.left >= 0 ? (u.cursor.idx ?? null) : null), showReading())],
          setSelect: [
            (u) => {
              if (u.select.width < 4) return;
              const [min, max] = [u.posToVal(u.select.left, "x"), u.posToVal(u.select.left + u.select.width, "x")];
              u.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
              zoomTo({ min, max });
            },
          ],
        },
      };
      chart?.destroy();
      chart = new uPlot(options, data as uPlot.AlignedData, plot);
    };

    const zoomTo = (to: { min: number; max: number } | null) => {
      zoom = to;
      reset.hidden = to === null;
      if (chart) chart.setData(data as uPlot.AlignedData, true);
    };

    const draw = perFrame(() => {
      if (!state) return;
      look();
      const count = data[0].length;
      const nothing = count === 0;
      empty.hidden = !nothing;
      plot.classList.toggle("rtw-none", nothing);
      if (nothing) setText(empty, state.error ? "Nothing to draw." : state.ready ? "Nothing to draw yet: the source has no rows." : "Waiting for the source…");
      const wanted = JSON.stringify([state.kind, state.axis, state.series, state.axis === "category" ? state.categories : 0]);
      if (!chart || wanted !== made) {
        made = wanted;
        build();
        legendOf();
        fitLegend();
      } else chart.setData(data as uPlot.AlignedData, true);
      if (read !== null && read >= count) read = null;
      showReading();
      describeSoon();
    }, signal);

    const legendOf = () => {
      legend.replaceChildren(
        ...state!.series.map(([label, seat], i) => {
          const swatch = h("span", { class: "rtw-swatch", "aria-hidden": true });
          const line = state!.kind === "line" && dash(seat).length && state!.series.length > 1 ? "dashed" : "solid";
          swatch.style.borderTop = `3px ${line} ${color(seat, dark)}`;
          const button = h("button", { type: "button", "aria-pressed": String(!hidden.has(label)), title: `${label}: show or hide` }, swatch, h("bdi", {}, label), h("span", { class: "rtw-value" }));
          button.addEventListener("click", () => {
            if (!hidden.delete(label)) hidden.add(label);
            button.setAttribute("aria-pressed", String(!hidden.has(label)));
            chart?.setSeries(i + 1, { show: !hidden.has(label) });
            chart?.redraw(true, true);
            showReading();
          });
          return h("li", {}, button);
        }),
      );
    };

    /** Says that the legend has more series than there is room for. */
    const fitLegend = () => {
      const open = legend.classList.contains("rtw-open");
      more.hidden = !open && legend.scrollHeight <= legend.clientHeight + 1;
      setText(more, open ? "fewer" : `all ${legend.childElementCount} series`);
      setAttribute(more, "aria-expanded", String(open));
    };
    more.addEventListener("click", () => (legend.classList.toggle("rtw-open"), fitLegend()), { signal });

    /** The value of a series at a row, or its last one before. */
    const valueAt = (column: Column | undefined, row: number): number | null => {
      for (let i = row; i >= 0; i--) if (typeof column?.[i] === "number") return column[i]!;
      return null;
    };

    /** The last row in which a series has a value: the newest may be of what is only announced. */
    const lastRow = (): number => {
      for (let i = data[0].length - 1; i >= 0; i--) if (data.some((column, n) => n > 0 && typeof column[i] === "number")) return i;
      return data[0].length - 1;
    };

    /** What is under the pointer; without one, the last values. */
    const showReading = () => {
      if (!state) return;
      const row = read ?? lastRow();
      const { text, title } = reading(data[0][row], state.axis, state.categories);
      setText(at, text && read === null ? `last: ${text}` : text);
      at.title = title;
      setAttribute(at, "datetime", title || null);
      state.series.forEach((_, i) => {
        const value = legend.children[i]?.querySelector(".rtw-value");
        const column = data[i + 1];
        if (value) setText(value, exact(read === null ? valueAt(column, row) : column?.[row]));
      });
    };

    const describeSoon = () => {
      if (describing) return;
      describing = window.setTimeout(() => ((describing = 0), (described = performance.now()), describe()), Math.max(0, described + WORDS_EVERY - performance.now()));
    };
    const describe = () => {
      if (!state) return;
      const rows = data[0].length;
      const what = `${state.kind} chart of ${state.title} over ${state.x}${state.by ? ` by ${state.by}` : ""}`;
      const series = state.series.slice(0, 6).map(([label], i) => {
        let [low, high] = [Infinity, -Infinity];
        for (const value of data[i + 1] ?? []) if (value !== null && value !== undefined) [low, high] = [Math.min(low, value), Math.max(high, value)];
        return high < low ? `${label} has no values` : `${label} from ${exact(low)} to ${exact(high)}, last ${exact(valueAt(data[i + 1], rows - 1))}`;
      });
      const span = rows ? `, ${reading(data[0][0], state.axis, state.categories).text} to ${reading(data[0][rows - 1], state.axis, state.categories).text}` : "";
      plot.setAttribute("aria-label", `${what}: ${plural(points.x.length, "point")}${span}. ${series.join("; ")}`);
      if (!details.open) return;
      setText(caption, `${state.title} over ${state.x}, the last ${Math.min(rows, TABLE_ROWS)} of ${rows}`);
      head.replaceChildren(h("tr", {}, h("th", { scope: "col", dir: "auto" }, state.x), ...state.series.map(([label]) => h("th", { scope: "col", dir: "auto" }, label))));
      const first = Math.max(0, rows - TABLE_ROWS);
      body.replaceChildren(
        ...Array.from({ length: rows - first }, (_, i) => {
          const row = rows - 1 - i;
          const { text, title } = reading(data[0][row], state!.axis, state!.categories);
          return h("tr", {}, h("th", { scope: "row", dir: "auto", title: title || null }, text), ...state!.series.map((_, n) => h("td", {}, exact(data[n + 1]?.[row]))));
        }),
      );
    };

    const apply = (frame: ChartFrame, buffers: DataView[]) => {
      if (frame.state) {
        state = frame.state;
        const facts = [`${state.title} over ${state.x}`];
        status.show(state.status, state.error, facts);
        notes.hidden = state.notes.length === 0;
        setText(notes, state.notes.join("; "));
        root.classList.toggle("rtw-wrong", state.error !== "");
      }
      if (frame.points) {
        if (frame.points.whole) points = new Points();
        if (!points.apply(frame.points, buffers)) return link.renew();
      }
      if (state && (frame.points || frame.state)) {
        data = points.aligned(state.series.length);
        gap = state.axis === "category" ? 1 : spacing(data[0]);
      }
      draw();
    };

    reset.addEventListener("click", () => (zoomTo(null), plot.focus()), { signal });
    details.addEventListener("toggle", describe, { signal });
    // The notebook must not run its own commands on keys pressed here.
    root.addEventListener("keydown", (event) => event.stopPropagation(), { signal });
    plot.addEventListener(
      "keydown",
      (event) => {
        const rows = data[0].length;
        if (!chart || !rows) return;
        const moves = new Map([["ArrowLeft", -1], ["ArrowRight", 1], ["PageUp", -10], ["PageDown", 10], ["Home", -rows], ["End", rows]]);
        const move = moves.get(event.key);
        if (move !== undefined) {
          read = Math.max(0, Math.min(rows - 1, (read ?? rows - 1) + move));
          chart.setCursor({ left: chart.valToPos(data[0][read]!, "x"), top: 10 }, false);
          showReading();
        } else if (event.key === "+" || event.key === "-") {
          const { min, max } = chart.scales.x!;
          const middle = read === null ? (min! + max!) / 2 : data[0][read]!;
          const half = ((max! - min!) / 2) * (event.key === "+" ? 0.5 : 2);
          zoomTo({ min: middle - half, max: middle + half });
        } else if (event.key === "0" || event.key === "Escape") {
          read = null;
          chart.setCursor({ left: -10, top: -10 }, false);
          zoomTo(null);
          showReading();
        } else return;
        event.preventDefault();
      },
      { signal },
    );
    plot.addEventListener("blur", () => ((read = null), chart?.setCursor({ left: -10, top: -10 }, false), showReading()), { signal });

    const again = perFrame(() => {
      const [width, height] = [plot.clientWidth, plot.clientHeight];
      fitLegend();
      if (chart && width && height && (width !== chart.width || height !== chart.height)) chart.setSize({ width, height });
    }, signal);
    const sized = new ResizeObserver(again);
    sized.observe(plot);
    const recolor = perFrame(() => {
      if (!chart) return;
      look();
      chart.redraw(false);
      legendOf();
      showReading();
    }, signal);
    const themed = new MutationObserver(recolor);
    themed.observe(document.body, { attributes: true });
    themed.observe(document.documentElement, { attributes: true });
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", recolor, { signal });

    const link = new Link<ChartFrame>(model, apply, status);
    signal.addEventListener("abort", () => {
      clearTimeout(describing);
      sized.disconnect();
      themed.disconnect();
      chart?.destroy();
      link.close();
      root.remove();
    });
    return end;
  },
};
