/** Requests the items of a gap from the kernel when it comes near the view, and shows in its place what is going on. */
import { h } from "./dom";
import { type Gap, isGap } from "./log";
import { plural } from "./words";

/** A request: items from `start` to before `stop`, those at the end first where the page reads backwards. */
export interface Read {
  start: number;
  stop: number;
  back: boolean;
}

/** Milliseconds without an answer after which the gap says why: a running cell keeps the kernel from answering. */
const LATE = 1000;
/** Milliseconds after the last key in a filter. */
const TYPED = 150;

export class Pager {
  /** Whether a request waits for its answer. */
  private waiting = false;
  private late = false;
  private gone = false;
  private timer = 0;
  private sending = 0;
  private notBefore = 0;

  constructor(
    /** What an item is called. */
    private readonly noun: string,
    /** Returns whether it could be sent. */
    private readonly send: (read: Read) => boolean,
    /** Called when the texts of the gaps change. */
    private readonly changed: () => void,
    signal: AbortSignal,
  ) {
    signal.addEventListener("abort", () => this.answered(), { once: true });
  }

  /** Requests what is missing around the view, the nearest first; one request at a time. */
  seek(near: readonly object[], first: number): void {
    if (this.waiting || this.gone) return;
    let best = -1;
    near.forEach((entry, i) => {
      if (isGap(entry) && !entry.lost && (best < 0 || Math.abs(i - first) < Math.abs(best - first))) best = i;
    });
    if (best < 0) return;
    const { start, stop } = near[best] as Gap;
    this.waiting = true;
    this.timer = window.setTimeout(() => {
      this.late = true;
      this.changed();
    }, LATE);
    // Not from within the drawing, which what comes of it may call again.
    this.sending = window.setTimeout(() => {
      // Above the first line seen one reads towards the beginning, below it towards the end.
      if (!this.send({ start, stop, back: best <= first })) this.answered();
    }, Math.max(0, this.notBefore - performance.now()));
  }

  /** Other items are wanted: a filter was changed, and may be changed again with the next key. */
  restart(): void {
    this.answered();
    this.notBefore = performance.now() + TYPED;
  }

  /** What was requested has come, or will not come any more. */
  answered(): void {
    clearTimeout(this.timer);
    clearTimeout(this.sending);
    this.waiting = this.late = false;
  }

  setGone(gone: boolean): void {
    if (gone) this.answered();
    if (gone === this.gone) return;
    this.gone = gone;
    this.changed();
  }

  /** The line in place of what is missing. */
  draw(gap: Gap, looking: boolean): HTMLElement {
    const line = h("div", { class: "rtw-gap-line" });
    if (gap.lost) {
      line.textContent = `${plural(gap.stop, `earlier ${this.noun}`)} no longer kept`;
      return line;
    }
    const count = plural(gap.stop - gap.start, `more ${this.noun}`);
    const what = looking ? `searching ${count}` : count;
    const why = this.gone ? "not here, and the kernel has stopped" : this.late ? "they come when the kernel is free" : "";
    line.textContent = why ? `${what}: ${why}` : `${what}…`;
    return line;
  }
}
