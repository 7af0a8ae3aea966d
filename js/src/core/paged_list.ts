/**
 * A long list of which the kernel keeps all items and the page those that are read: the newest, and what is around the view. Older
 * items are requested when they come near, also while a filter leaves only some.
 */
import { h, setText } from "./dom";
import { Lines } from "./lines";
import type { Frame } from "./link";
import { type Gap, Log, isGap } from "./log";
import { Pager, type Read } from "./pager";

/** An item as it came, under its number, counted from the first ever. */
export interface Item<L> {
  id: number;
  line: L;
}

/** The part of a frame that concerns the list. */
export interface ListFrame<L> extends Frame {
  /** The number of the first of `lines`. */
  from?: number;
  /** The newest items. */
  lines?: L[];
  /** Items before this number are no longer kept. */
  held?: number;
  /** Older items that were requested: of those from `start` to before `stop` all that pass the filter, with their numbers. */
  pages?: { start: number; stop: number; filter: string; lines: [number, L][] }[];
}

/** Items that are new in a frame. */
export interface News<L> {
  items: Item<L>[];
  /** The numbers from `start` to before `stop` are new; where more came than a frame carries, the first of them are missing. */
  start: number;
  stop: number;
}

export interface PagedListOptions<L, E> {
  /** What an item is called, and several. */
  noun: string;
  nouns: string;
  draw(entry: Item<L> | E): HTMLElement;
  /** Sends a request for items; returns whether it could be sent. */
  read(read: Read & { filter: string }): boolean;
  /** What stands after the last item, such as a message that is being sent. */
  tail?(): E[];
}

export class PagedList<L, E extends { id: string } = never> {
  /** Numbers of the first item that the kernel keeps and of the next to come. */
  first = 0;
  next = 0;
  readonly lines: Lines<Item<L> | E | Gap>;
  readonly element: HTMLElement;
  private readonly none = h("p", { class: "rtw-no-lines", hidden: true });
  private readonly pager: Pager;
  private epoch = "";
  private loaded = false;
  /** The items: all that are known, and those of them that pass the filter, while there is one. */
  private all = new Log<Item<L>>();
  private found: Log<Item<L>> | null = null;
  private passes: (item: Item<L>) => boolean = () => true;
  /** The text that the kernel filters by. */
  private filter = "";

  constructor(
    private readonly options: PagedListOptions<L, E>,
    signal: AbortSignal,
  ) {
    const { noun, nouns } = options;
    this.lines = new Lines<Item<L> | E | Gap>(
      {
        id: ({ id }) => id,
        draw: (entry) => (isGap(entry) ? this.pager.draw(entry, this.found !== null) : options.draw(entry)),
        isFirm: (entry) => !isGap(entry),
        place: (entry) => this.placeOf(entry),
      },
      nouns,
      signal,
    );
    this.pager = new Pager(noun, (read) => options.read({ ...read, filter: this.filter }), () => this.redrawGaps(), signal);
    this.lines.onNear = (near, first) => this.pager.seek(near, first);
    this.element = h("div", { class: "rtw-list" }, this.lines.element, this.none);
  }

  /** Items shown while there is a filter; null without one. */
  get matches(): number | null {
    return this.found ? this.found.size : null;
  }

  /** Adds what a frame brings; returns what of it is news. `show` draws it. */
  apply(frame: ListFrame<L>): News<L> | null {
    if (frame.epoch !== this.epoch) this.restart(frame.epoch);
    if (frame.seq <= 1) this.pager.answered(); // to the kernel the view is a new one, and what was requested before is forgotten
    let news: News<L> | null = null;
    if (frame.lines && frame.from !== undefined) {
      const items = frame.lines.map((line, i) => ({ id: frame.from! + i, line }));
      const stop = frame.from + items.length;
      this.all.add(frame.from, stop, items);
      this.found?.add(frame.from, stop, items);
      if (this.loaded && stop > this.next) news = { items: items.filter(({ id }) => id >= this.next), start: this.next, stop };
      this.next = Math.max(this.next, stop);
      this.loaded = true;
    }
    for (const page of frame.pages ?? []) this.addPage(page);
    if (frame.held !== undefined) {
      this.first = frame.held;
      this.all.forget(frame.held);
      this.found?.forget(frame.held);
    }
    return news;
  }

  /** Shows only items that pass; `filter` is the text that the kernel looks for, null passes all. */
  filterBy(filter: string, passes: ((item: Item<L>) => boolean) | null): void {
    const { reading, atEnd } = this.lines;
    // Who has found an item and drops the filter wants to see what was around it.
    if (!passes && reading && !atEnd && this.isItem(reading)) this.all.add(reading.id, reading.id + 1, [reading]);
    this.filter = filter;
    this.passes = passes ?? (() => true);
    this.found = passes && this.all.narrowed(passes);
    this.pager.restart();
    this.show();
    if (passes) this.lines.toEnd();
  }

  show(): void {
    const { reading, atEnd } = this.lines;
    const near = !atEnd && reading && this.isItem(reading) ? reading.id : undefined;
    this.all.trim(near);
    this.found?.trim(near);
    const entries = [...(this.found ?? this.all).entries, ...(this.options.tail?.() ?? [])];
    this.lines.set(entries);
    this.none.hidden = entries.length > 0 || !this.loaded;
    setText(this.none, this.found ? `No ${this.options.noun} passes the filter.` : `No ${this.options.nouns} yet.`);
  }

  setGone(gone: boolean): void {
    this.pager.setGone(gone);
  }

  /** Another list than before: the cell was run again. */
  private restart(epoch: string): void {
    this.epoch = epoch;
    this.all = new Log();
    this.found = this.found && this.all.narrowed(this.passes);
    [this.first, this.next, this.loaded] = [0, 0, false];
    this.lines.toEnd();
  }

  private addPage({ start, stop, filter, lines }: NonNullable<ListFrame<L>["pages"]>[number]): void {
    const items = lines.map(([id, line]) => ({ id, line }));
    if (filter === "") this.all.add(start, stop, items);
    if (filter !== this.filter) return;
    this.pager.answered();
    this.found?.add(start, stop, items);
  }

  private isItem(entry: Item<L> | E | Gap): entry is Item<L> {
    return typeof entry.id === "number";
  }

  /** For screen readers: its place among all that the kernel keeps, and how many these are. */
  private placeOf(entry: Item<L> | E | Gap): [number, number] | null {
    if (isGap(entry)) return null;
    const tail = this.options.tail?.() ?? [];
    const number = this.isItem(entry) ? entry.id : this.next + tail.findIndex(({ id }) => id === entry.id);
    return [number - this.first + 1, this.next - this.first + tail.length];
  }

  private redrawGaps(): void {
    for (const entry of (this.found ?? this.all).entries) if (isGap(entry)) this.lines.refresh(entry.id);
    this.lines.redraw();
  }
}
