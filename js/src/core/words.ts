/** Numbers and times as people read them. */

const TIME = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });
const EXACT = new Intl.DateTimeFormat(undefined, {
  hour: "2-digit",
  minute: "2-digit",
  second: "2-digit",
  fractionalSecondDigits: 3,
  hourCycle: "h23",
});
const NUMBER = new Intl.NumberFormat("en-US");

/** The time of day, local, to the second, of 24 hours as everywhere else. `at` in ms since 1970. */
export function clock(at: number): string {
  return TIME.format(at);
}

/** The same to the millisecond. */
export function exactClock(at: number): string {
  return EXACT.format(at);
}

/** "1,234". */
export function count(n: number): string {
  return NUMBER.format(n);
}

/** "1 row", "1,234 rows". */
export function plural(n: number, word: string): string {
  return `${count(n)} ${word}${n === 1 ? "" : "s"}`;
}
