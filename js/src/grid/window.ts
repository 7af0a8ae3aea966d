/**
 * The geometry of a virtual grid: which rows are seen, which to request, where the view stands. Pure functions, no DOM.
 *
 * `top` is where the view stands in a list of full height, `scroll` the position of the browser's scroll bar. They are the same until
 * the list is taller than a browser lets an element be; then the canvas is cut, and only long jumps go by the scroll bar's scale.
 */

/** Height of a row in pixels; the style sheet has the same. */
export const ROW = 24;
/** Browsers cut elements somewhere between 16 and 33 million pixels. */
export const TALLEST = 10_000_000;
/** Rows the kernel sends a view at most. */
export const MOST = 400;

/** Rows from `start` to before `stop`. */
export interface Range {
  start: number;
  stop: number;
}

export function clamp(value: number, least: number, most: number): number {
  return Math.max(least, Math.min(value, most));
}

/** Height of the element that contains the rows. */
export function canvasHeight(total: number): number {
  return Math.min(total * ROW, TALLEST);
}

/** The furthest that the view can stand. */
export function lastTop(total: number, height: number): number {
  return Math.max(0, total * ROW - height);
}

export function isScaled(total: number): boolean {
  return total * ROW > TALLEST;
}

function scale(total: number, height: number): number {
  return isScaled(total) ? (canvasHeight(total) - height) / lastTop(total, height) : 1;
}

/** The position of the scroll bar for a view that stands at `top`. */
export function scrollFor(top: number, total: number, height: number): number {
  return top * scale(total, height);
}

/** Where the view stands after the scroll bar went from `before` to `scroll`: small steps are taken as they are, also where the
 * canvas is cut, so that a wheel's click moves by a few rows and not by a few hundred. */
export function movedTop(top: number, before: number, scroll: number, total: number, height: number): number {
  const step = scroll - before;
  const near = !isScaled(total) || Math.abs(step) <= 2 * height;
  return clamp(near ? top + step : scroll / scale(total, height), 0, lastTop(total, height));
}

/** Rows of which at least a part is seen. */
export function seenRows(top: number, height: number, total: number): Range {
  const start = clamp(Math.floor(top / ROW), 0, total);
  return { start, stop: clamp(Math.ceil((top + height) / ROW), start, total) };
}

/** The rows to request: what is seen with one screen above and two below, never more than the kernel sends. */
export function reach(seen: Range, screen: number): Range {
  const rows = Math.min(Math.max(seen.stop - seen.start, screen), MOST);
  const margin = Math.min(rows, Math.floor((MOST - rows) / 3));
  const start = Math.max(0, seen.start - margin);
  return { start, stop: Math.min(start + MOST, seen.start + rows + 2 * margin) };
}

/** Whether the seen rows come so near the edge of what was requested that it is time for another request. */
export function isNear(seen: Range, requested: Range, screen: number, total: number): boolean {
  const half = Math.min(Math.ceil(screen / 2), Math.floor((MOST - screen) / 6));
  const above = requested.start > 0 && seen.start - half < requested.start;
  const below = requested.stop < total && seen.stop + half > requested.stop;
  return above || below;
}

/** By how many rows the view has moved: as far as the first seen row that is still known. */
export function shiftOf(seen: [id: string, index: number][], find: (id: string) => number | undefined): number {
  for (const [id, index] of seen) {
    const now = find(id);
    if (now !== undefined) return now - index;
  }
  return 0;
}
