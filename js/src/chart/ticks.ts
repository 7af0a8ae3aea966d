/** Values along the axes, as people read them. */

const NUMBER = new Intl.NumberFormat("en-US", { maximumSignificantDigits: 6 });
const DAY = 86_400_000;

/** How a chart's x reads. `wall` is a time without a zone, shown as it is. */
export type Axis = "time" | "wall" | "number" | "category";

export function number(value: number | null | undefined): string {
  return value === null || value === undefined || Number.isNaN(value) ? "–" : NUMBER.format(value);
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

/** Labels of times that stand `step` ms apart: no more of each than is needed, and the date where the day begins. */
export function times(at: number[], step: number, utc: boolean): string[] {
  let day = "";
  return at.map((value) => {
    if (step >= 28 * DAY) return format(value, utc, { year: "numeric", month: "short" });
    const date = format(value, utc, { month: "short", day: "numeric" });
    if (step >= DAY) return date;
    const fine: Intl.DateTimeFormatOptions = step < 1000 ? { second: "2-digit", fractionalSecondDigits: 3 } : step < 60_000 ? { second: "2-digit" } : {};
    const clock = format(value, utc, { ...CLOCK, ...fine });
    const said = date === day ? clock : `${clock}\n${date}`;
    day = date;
    return said;
  });
}

/** One x in full, and its UTC for who points at it. */
export function reading(value: number | undefined, axis: Axis, categories: readonly string[]): { text: string; title: string } {
  if (value === undefined) return { text: "", title: "" };
  if (axis === "category") return { text: categories[value] ?? "", title: "" };
  if (axis === "number") return { text: number(value), title: "" };
  const whole = value % 1000 === 0;
  const options: Intl.DateTimeFormatOptions = { year: "numeric", month: "short", day: "numeric", ...CLOCK, second: "2-digit", ...(whole ? {} : { fractionalSecondDigits: 3 }) };
  return { text: format(value, axis === "wall", options), title: axis === "time" ? new Date(value).toISOString() : "" };
}

/** As much of a name as an axis has room for. */
export function short(name: string, most: number): string {
  const letters = [...name];
  return letters.length <= most ? name : `${letters.slice(0, most - 1).join("")}…`;
}
