/** How a value of a Postgres type is written in a cell. No digit is lost: what is cut or rounded is whole in the title. */

export interface Shown {
  text: string;
  /** What hovering shows; empty where the text is complete. */
  title: string;
  /** Classes of the cell beyond those of its column. */
  mark: string;
}

export type Kind = "number" | "bool" | "time" | "json" | "text";

const NUMBERS = new Set(["int2", "int4", "int8", "float4", "float8", "numeric", "oid", "money", "smallint", "integer", "bigint", "real"]);
const FLOATS = new Set(["float4", "float8", "real", "double precision"]);
const TIMES = new Set(["timestamp", "timestamptz", "date", "time", "timetz"]);
/** Longer texts are cut in the cell: laying out a megabyte of text for a cell of 20 characters would stop the page. */
const LONGEST = 300;
const LONGEST_TITLE = 4000;
/** Texts up to this fit most cells: they need no title. */
const SHORT = 12;

export function kindOf(type: string): Kind {
  if (NUMBERS.has(type) || type === "double precision") return "number";
  if (type === "bool" || type === "boolean") return "bool";
  if (TIMES.has(type)) return "time";
  if (type === "json" || type === "jsonb" || type.startsWith("_") || type.endsWith("[]")) return "json";
  return "text";
}

/** `cut`: the whole length of a text of which `value` is only the beginning. */
export function format(value: unknown, type: string, cut?: number): Shown {
  if (cut !== undefined) return beginning(String(value), cut);
  if (value === null || value === undefined) return { text: "null", title: "", mark: "rtw-null" };
  const kind = kindOf(type);
  if (typeof value === "boolean") return { text: String(value), title: "", mark: value ? "rtw-true" : "rtw-false" };
  if (typeof value === "object" || type === "json" || type === "jsonb") return long(JSON.stringify(value));
  const text = String(value);
  if (typeof value === "number" && FLOATS.has(type)) return float(value, text);
  if (kind === "number") return { text, title: "", mark: "" };
  if (type === "timestamptz") return moment(text);
  if (type === "timestamp") return { text: text.replace("T", " ").replace(/(\.\d*?)0+$/, "$1").replace(/\.$/, ""), title: text, mark: "" };
  return long(text);
}

/** The value as it goes to a spreadsheet: whole, and as it was sent. */
export function plain(value: unknown): string {
  if (value === null || value === undefined) return "";
  return typeof value === "object" ? JSON.stringify(value) : String(value);
}

/** A mean has sixteen digits, of which few are read; numeric columns are exact, and stay as they were sent. */
function float(value: number, text: string): Shown {
  const short = String(Number(Math.abs(value) < 1e-4 ? value.toPrecision(6) : value.toFixed(6)));
  return short.length < text.length ? { text: short, title: text, mark: "" } : { text, title: "", mark: "" };
}

/** A text of which the kernel sent only the beginning. */
function beginning(text: string, length: number): Shown {
  const line = text.slice(0, LONGEST).replace(/\r\n|\r|\n/g, "⏎");
  const title = `${text}… (${length.toLocaleString("en-US")} characters: press Enter to read them)`;
  return { text: `${line}…`, title, mark: "" };
}

function long(text: string): Shown {
  const cut = text.length > LONGEST ? `${text.slice(0, LONGEST)}…` : text;
  const line = cut.replace(/\r\n|\r|\n/g, "⏎");
  const title = text.length > SHORT || line !== text ? text.slice(0, LONGEST_TITLE) : "";
  return { text: line, title, mark: "" };
}

const two = (n: number): string => String(n).padStart(2, "0");

const HOUR = 3_600_000;

/** The offset from UTC, where the clock goes back and shows the same time twice; else nothing. */
function doubtful(date: Date): string {
  const offset = date.getTimezoneOffset();
  const twice = [HOUR, -HOUR].some((shift) => (new Date(date.getTime() + shift).getTimezoneOffset() - offset) * 60_000 === shift);
  return twice ? ` ${offset > 0 ? "-" : "+"}${two(Math.floor(Math.abs(offset) / 60))}:${two(Math.abs(offset) % 60)}` : "";
}

/** A point in time in the reader's own zone; the title has it in UTC with every digit that was sent. */
function moment(text: string): Shown {
  const date = new Date(text);
  const year = date.getFullYear();
  if (Number.isNaN(year) || year < 1 || year > 9999) return { text, title: "", mark: "" };
  const fraction = /\.(\d+)/.exec(text)?.[1] ?? "";
  const millis = date.getMilliseconds() ? `.${String(date.getMilliseconds()).padStart(3, "0")}` : "";
  const day = `${String(year).padStart(4, "0")}-${two(date.getMonth() + 1)}-${two(date.getDate())}`;
  const clock = `${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}`;
  return {
    text: `${day} ${clock}${millis}${doubtful(date)}`,
    title: `${date.toISOString().slice(0, 19)}${fraction ? `.${fraction}` : ""}Z`,
    mark: "",
  };
}
