/** Numbers and times as people read them. */

const TIME = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const EXACT = new Intl.DateTimeFormat(undefined, {
  hour: "2-digit",
  minute: "2-digit",
  second: "2-digit",
  fractionalSecondDigits: 3,
  hourCycle: "h23",
});
const NUMBER = new Intl.NumberFormat("en-US");

/** The time of day, local, to the second. `at` in ms since 1970. */
export function clock(at: number): string {
  return TIME.format(at);
}

/** The same to the millisecond. */
export function exactClock(at: number): string {
  return EXACT.format(at);
}

/** "1 row", "1,234 rows". */
export function plural(count: number, word: string): string {
  return `${NUMBER.format(count)} ${word}${count === 1 ? "" : "s"}`;
}
