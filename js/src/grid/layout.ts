/** What a person can arrange: which columns are shown, in which order and width, what is pinned, sort, search and filters. */
import type { Column, Sort } from "./sheet";
import { kindOf } from "./format";

/** Column names are data, so what goes by them is a Map: an object has names of its own, such as `constructor`. */
export interface Layout {
  order: string[];
  hidden: string[];
  widths: Map<string, number>;
  pinned: string[];
  sort: Sort;
  /** Text that some column contains; empty for all rows. */
  search: string;
  /** Conditions by column: a text that it contains, or a comparison such as `>5`. */
  filters: Map<string, string>;
}

/** A layout as JSON: the trait `arrangement` of the kernel. */
export type StoredLayout = Omit<Layout, "widths" | "filters"> & { widths: object; filters: object };

/** A column as it is drawn. `x` is where it begins. */
export interface Placed {
  name: string;
  type: string;
  width: number;
  x: number;
  pinned: boolean;
  /** Its place among all shown columns, from 0. */
  place: number;
}

export const NARROWEST = 40;
export const WIDEST = 1200;
/** An average character's width at the grid's font size, and the padding of a cell. */
const CHARACTER = 7.8;
const PADDING = 18;
/** Characters that later rows may have more. */
const SLACK = 2;
/** Room for the arrow and the number of a sorted header. */
const HEADER = 30;

const names = (value: unknown): string[] =>
  Array.isArray(value) ? [...new Set(value.filter((name) => typeof name === "string"))] : [];
const entries = (value: unknown): [string, unknown][] => (typeof value === "object" && value !== null ? Object.entries(value) : []);

/** The layout in whatever was stored; anything else gives an empty one. */
export function readLayout(given: unknown): Layout {
  const from = new Map(entries(given));
  const widths = new Map<string, number>();
  for (const [name, width] of entries(from.get("widths"))) {
    if (typeof width === "number" && width >= NARROWEST && width <= WIDEST) widths.set(name, width);
  }
  const sort = new Map<string, boolean>();
  const pairs = from.get("sort");
  if (Array.isArray(pairs)) {
    for (const pair of pairs) {
      if (Array.isArray(pair) && typeof pair[0] === "string" && !sort.has(pair[0])) sort.set(pair[0], Boolean(pair[1]));
    }
  }
  const filters = new Map<string, string>();
  for (const [name, text] of entries(from.get("filters"))) {
    if (typeof text === "string" && text.trim() !== "") filters.set(name, text);
  }
  const search = from.get("search");
  return {
    order: names(from.get("order")),
    hidden: names(from.get("hidden")),
    widths,
    pinned: names(from.get("pinned")),
    sort: [...sort],
    search: typeof search === "string" ? search : "",
    filters,
  };
}

export function storedLayout(layout: Layout): StoredLayout {
  const { widths, filters, ...rest } = layout;
  return structuredClone({ ...rest, widths: Object.fromEntries(widths), filters: Object.fromEntries(filters) });
}

/** The next sort after a click on a header: ascending, descending, none; with `add` beside the columns sorted already. */
export function nextSort(sort: Sort, name: string, add: boolean): Sort {
  const was = sort.find(([column]) => column === name);
  const others = add ? sort.filter(([column]) => column !== name) : [];
  if (!was) return [...others, [name, false]];
  if (was[1]) return others;
  return add ? sort.map((pair) => (pair[0] === name ? [name, true] : pair)) : [[name, true]];
}

/** A first width from the type, the header and the first rows' texts. */
export function guessWidth(name: string, type: string, texts: string[]): number {
  const longest = Math.max(0, ...texts.map((text) => text.length));
  const least = { number: 60, bool: 70, time: type.startsWith("timestamp") ? 160 : 96, json: 160, text: 80 }[kindOf(type)];
  const width = Math.max(least, name.length * CHARACTER + PADDING + HEADER, (longest + SLACK) * CHARACTER + PADDING);
  return Math.round(Math.min(width, 320));
}

/** The shown columns in their order, pinned ones first, columns that the layout does not know last. */
export function place(schema: Column[], layout: Layout, widthOf: (name: string, type: string) => number): Placed[] {
  const types = new Map(schema);
  const ordered = layout.order.filter((name) => types.has(name));
  const known = new Set(ordered);
  const later = schema.map(([name]) => name).filter((name) => !known.has(name));
  const all = [...ordered, ...later].filter((name) => !layout.hidden.includes(name));
  const pinned = all.filter((name) => layout.pinned.includes(name));
  let x = 0;
  return [...pinned, ...all.filter((name) => !layout.pinned.includes(name))].map((name, index) => {
    const width = layout.widths.get(name) ?? widthOf(name, types.get(name)!);
    const placed = { name, type: types.get(name)!, width, x, pinned: index < pinned.length, place: index };
    x += width;
    return placed;
  });
}

/** Beyond this many columns only those in view are drawn. */
export const MANY = 40;

/** The columns to draw for a view scrolled to `left`; `gap` is the width left out between the pinned ones and the rest. */
export function inView(columns: Placed[], left: number, width: number): { columns: Placed[]; gap: number } {
  if (columns.length <= MANY) return { columns, gap: 0 };
  const pinned = columns.filter((column) => column.pinned);
  const margin = width / 2;
  const rest = columns.filter((column) => !column.pinned && column.x + column.width > left - margin && column.x < left + width + margin);
  const end = pinned.reduce((sum, column) => sum + column.width, 0);
  return { columns: [...pinned, ...rest], gap: rest.length ? rest[0]!.x - end : 0 };
}

/** Puts a column before another one, or last. */
export function moved(order: string[], name: string, before: string | null): string[] {
  const rest = order.filter((other) => other !== name);
  const at = before === null ? rest.length : rest.indexOf(before);
  return [...rest.slice(0, at), name, ...rest.slice(at)];
}
