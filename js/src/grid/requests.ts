/**
 * Which window of rows the view requests from the kernel, and when.
 *
 * The view never waits for the answer: it shows the rows that it has, and marks the others as missing until they come.
 */
import { type Viewport, ROWS } from "./viewport";
import { type Range, isNear, reach } from "./window";

/** Milliseconds between two requests. */
const PACE = 60;
/** Milliseconds without an answer after which the status line says why rows are missing. */
const LATE = 1000;
/** Milliseconds after which other rows than those requested count as changes of the table. */
const SETTLED = 1000;

export class Requests {
  /** The window requested last. */
  range: Range = { start: 0, stop: 3 * ROWS };
  /** Whether the rows that sort, search and filters were changed for are here. */
  settled = true;
  /** Whether the last request named a row that is to stay in place. */
  anchored = false;
  private sentAt = -Infinity;
  private timer = 0;
  /** Since when seen rows are missing. */
  private missingSince = Infinity;

  constructor(
    private readonly viewport: Viewport,
    /** Sends the request; returns whether it names a row that is to stay in place. */
    private readonly send: () => boolean,
    signal: AbortSignal,
  ) {
    signal.addEventListener("abort", () => clearTimeout(this.timer));
  }

  /** Whether seen rows were requested a while ago and have not come: a running cell keeps the kernel from answering. */
  get isLate(): boolean {
    return performance.now() - this.missingSince > LATE;
  }

  /** Schedules a request if the seen rows come near the edge of the window, or at any rate. */
  schedule(anyway: boolean, rows: number): void {
    const { viewport } = this;
    if (!anyway && !isNear(viewport.seen, this.range, viewport.screen, rows)) return;
    if (this.timer) return;
    this.timer = window.setTimeout(() => {
      this.timer = 0;
      this.sentAt = performance.now();
      this.range = reach(viewport.seen, viewport.screen);
      this.anchored = this.send();
    }, Math.max(0, this.sentAt + PACE - performance.now()));
  }

  /** After a frame: an answer equal to what the view has is not sent, so time settles a request as well. */
  settle(window: boolean): void {
    if (window || performance.now() > this.sentAt + SETTLED) this.settled = true;
  }

  /** Rows came or went above: the window moved with the view. */
  shift(rows: number): void {
    this.range = { start: Math.max(0, this.range.start + rows), stop: Math.max(0, this.range.stop + rows) };
  }

  /** Notes whether all seen rows are here. */
  setMissing(missing: boolean): void {
    this.missingSince = missing ? Math.min(this.missingSince, performance.now()) : Infinity;
  }
}
