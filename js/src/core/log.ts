/**
 * What a page knows of a list of which the kernel keeps all items: items numbered as they came, in runs, with gaps between them
 * that can be requested. The newest items are always there; of the others only those around what is being read, however long the list.
 */

export interface Numbered {
  /** Its number, counted from the first that ever came. */
  id: number;
}

/** Items that the page does not have: from `start` to before `stop`. */
export interface Gap {
  id: string;
  start: number;
  stop: number;
  /** Nor does the kernel any more. */
  lost: boolean;
}

/** What is known of the numbers from `start` to before `stop`: all of those items, or, in a narrowed log, all that pass. */
interface Run<T> {
  start: number;
  stop: number;
  items: T[];
}

/** Items kept around what is being read, and at the end. */
export const AROUND = 1500;
export const AT_END = 500;
/** Items beyond that before any are dropped. */
const SLACK = 500;

export function isGap(entry: object): entry is Gap {
  return "stop" in entry;
}

export class Log<T extends Numbered> {
  private runs: Run<T>[] = [];
  /** The first number that the kernel still keeps. */
  private first = 0;

  constructor(private readonly passes: (item: T) => boolean = () => true) {}

  /** Items known. */
  get size(): number {
    return this.runs.reduce((sum, run) => sum + run.items.length, 0);
  }

  get items(): T[] {
    return this.runs.flatMap((run) => run.items);
  }

  /** Adds all items from `start` to before `stop` (of a narrowed log: at least all that pass). What is known stays. */
  add(start: number, stop: number, items: T[]): void {
    if (stop <= start) return;
    const fresh = items.filter(this.passes);
    const last = this.runs.at(-1);
    if (last && last.stop === start) {
      last.items.push(...fresh);
      last.stop = stop;
      return;
    }
    let run: Run<T> = { start, stop, items: fresh };
    const [before, after]: [Run<T>[], Run<T>[]] = [[], []];
    for (const other of this.runs) {
      if (other.stop < run.start) before.push(other);
      else if (other.start > run.stop) after.push(other);
      else run = joined(other, run);
    }
    this.runs = [...before, run, ...after];
  }

  /** The kernel no longer keeps items before this number. */
  forget(first: number): void {
    this.first = Math.max(this.first, first);
    while (this.runs.length && this.runs[0]!.stop <= this.first) this.runs.shift();
    const run = this.runs[0];
    if (!run || run.start >= this.first) return;
    run.start = this.first;
    const keep = run.items.findIndex(({ id }) => id >= this.first);
    run.items.splice(0, keep < 0 ? run.items.length : keep);
  }

  /** Drops what is far from the item `near` that is being read, and from the end. */
  trim(near: number | undefined): void {
    const all = this.items;
    if (all.length <= AROUND + AT_END + SLACK) return;
    const end = all.length - AT_END;
    const found = near === undefined ? -1 : all.findIndex(({ id }) => id >= near);
    const at = found < 0 ? all.length - 1 : found;
    const from = Math.max(0, at - AROUND / 2);
    const to = Math.min(end, at + AROUND / 2);
    if (to < end) this.cut(to < 0 ? 0 : all[to]!.id, all[end]!.id);
    if (from > 0) this.cut(0, all[Math.min(from, end)]!.id);
  }

  /** The items and, where some are missing, the gaps, in order. */
  get entries(): (T | Gap)[] {
    const entries: (T | Gap)[] = [];
    if (this.first > 0) entries.push({ id: `lost ${this.first}`, start: 0, stop: this.first, lost: true });
    let known = this.first;
    for (const run of this.runs) {
      if (run.start > known) entries.push({ id: `gap ${known} ${run.start}`, start: known, stop: run.start, lost: false });
      entries.push(...run.items);
      known = run.stop;
    }
    return entries;
  }

  /** The same, of the items that pass: what is known need not be requested. */
  narrowed(passes: (item: T) => boolean): Log<T> {
    const log = new Log<T>(passes);
    log.first = this.first;
    log.runs = this.runs.map((run) => ({ ...run, items: run.items.filter(passes) }));
    return log;
  }

  /** Forgets the items from `start` to before `stop`. */
  private cut(start: number, stop: number): void {
    this.runs = this.runs.flatMap((run) => {
      if (run.stop <= start || run.start >= stop) return [run];
      const left = { start: run.start, stop: start, items: run.items.filter(({ id }) => id < start) };
      const right = { start: stop, stop: run.stop, items: run.items.filter(({ id }) => id >= stop) };
      return [left, right].filter((part) => part.stop > part.start);
    });
  }
}

/** Two runs that overlap or touch, as one; an item of both is that of the first. */
function joined<T extends Numbered>(first: Run<T>, second: Run<T>): Run<T> {
  const before = second.items.filter(({ id }) => id < first.start);
  const after = second.items.filter(({ id }) => id >= first.stop);
  return {
    start: Math.min(first.start, second.start),
    stop: Math.max(first.stop, second.stop),
    items: [...before, ...first.items, ...after],
  };
}
