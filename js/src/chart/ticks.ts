/** Numbers and times along the axes and under the pointer. */

const DAY = 86_400_000;
/** Beyond these, numbers are written with an exponent. */
const [LARGE, SMALL] = [1e15, 1e-6];
/** Most digits after the point, as many as a double can need between these. */
const MOST_DIGITS = 20;

/** How a chart's x reads. `wall` is a time without a zone, shown as it is. */
export type Axis = "time" | "wall" | "number" | "category";

/** Every digit of a number. */
export function exact(value: number | null | undefined): string {
  if (value === null || value === undefined || Number.isNaN(value)) return "–";
  const size = Math.abs(value);
  if (!Number.isFinite(value) || (size !== 0 && (size >= LARGE || size < SMALL))) return String(value).replace("e+", "e");
  return grouped(value, MOST_DIGITS);
}

/** Labels of numbers along an axis: with as many digits as tell one from the next. */
export function numbers(values: readonly number[]): string[] {
  const sizes = values.map(Math.abs);
  const largest = Math.max(0, ...sizes);
  const steps = values.slice(1).map((value, i) => Math.abs(value - values[i]!));
  const step = Math.min(...steps.filter((one) => one > 0), largest || 1);
  if (largest >= LARGE || (largest > 0 && largest < SMALL)) {
    const digits = Math.min(MOST_DIGITS, Math.max(0, Math.ceil(Math.log10(largest / step))));
    return values.map((value) => (value === 0 ? "0" : trimmed(value.toExponential(digits))));
  }
  let digits = 0;
  while (digits < MOST_DIGITS && values.some((value) => Math.abs(Number(value.toFixed(digits)) - value) > step / 1000)) digits += 1;
  return values.map((value) => grouped(value, digits));
}

const plain = new Map<number, Intl.NumberFormat>();

function grouped(value: number, digits: number): string {
  let format = plain.get(digits);
  if (!format) plain.set(digits, (format = new Intl.NumberFormat("en-US", { maximumFractionDigits: digits })));
  return format.format(value);
}

function trimmed(exponential: string): string {
  return exponential.replace(/\.?0+e/, "e").replace("e+", "e");
}

const formats = new Map<string, Intl.DateTimeFormat>();

function format(at: number, utc: boolean, options: Intl.DateTimeFormatOptions): string {
  const key = JSON.stringify([utc, options]);
  let known = formats.get(key);
  if (!known) {
    known = new Intl.DateTimeFormat(undefined, { hourCycle: "h23", ...options, ...(utc ? { timeZone: "UTC" } : {}) });
    formats.set(key, known);
  }
  return known.format(at);
}

const CLOCK: Intl.DateTimeFormatOptions = { hour: "2-digit", minute: "2-digit" };

/** Labels of times `step` ms apart: no more of each than is needed, and the date where the day begins. */
export function times(at: number[], step: number, utc: boolean): string[] {
  let day = "";
  return at.map((value) => {
    if (step >= 28 * DAY) return format(value, utc, { year: "numeric", month: "short" });
    const date = format(value, utc, { month: "short", day: "numeric" });
    if (step >= DAY) return date;
    const fine: Intl.DateTimeFormatOptions = step < 1000 ? { second: "2-digit", fractionalSecondDigits: 3 } : step < 60_000 ? { second: "2-digit" } : {};
    const clock = format(value, utc, { ...CLOCK, ...fine });
    const label = date === day ? clock : `${clock}\n${date}`;
    day = date;
    return label;
  });
}

/** One x in full, and its UTC for the title. */
export function reading(value: number | undefined, axis: Axis, categories: readonly string[]): { text: string; title: string } {
  if (value === undefined) return { text: "", title: "" };
  if (axis === "category") return { text: categories[value] ?? "", title: "" };
  if (axis === "number") return { text: exact(value), title: "" };
  const whole = value % 1000 === 0;
  const options: Intl.DateTimeFormatOptions = { year: "numeric", month: "short", day: "numeric", ...CLOCK, second: "2-digit", ...(whole ? {} : { fractionalSecondDigits: 3 }) };
  return { text: format(value, axis === "wall", options), title: axis === "time" ? new Date(value).toISOString() : "" };
}

/** As much of a name as an axis has room for. */
export function short(name: string, most: number): string {
  const letters = [...name];
  return letters.length <= most ? name : `${letters.slice(0, most - 1).join("")}…`;
}
