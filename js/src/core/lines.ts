/**
 * A list of lines of any height of which only those near the view are elements. A view at the end stays there as lines come; one that
 * stands above keeps its lines in place, whatever comes, goes or turns out taller around them.
 */
import { h, perFrame } from "./dom";

type Id = string | number;

export interface Drawn<T> {
  /** Names an item for as long as it is in the list. */
  id(item: T): Id;
  /** The element of an item; made anew each time the item comes near the view. */
  draw(item: T): HTMLElement;
  /** Whether the item stays what it is, so that others can be kept in place by it. Default: all do. */
  isFirm?(item: T): boolean;
  /** Its place, from 1, and the length of the whole list, -1 for not known. Default: among the items given. */
  place?(item: T): [place: number, length: number] | null;
}

/** Height of a line that was never drawn, while no other was. */
const GUESS = 20;
/** Pixels above and below the view in which lines are drawn as well. */
const MARGIN = 200;
/** Pixels above and below the view in which missing lines are requested. */
const AHEAD = 800;
/** Height of the view before there is a layout to measure. */
const VIEW = 220;
const AT_END = 24;

export class Lines<T> {
  readonly element: HTMLElement;
  /** Called when the view comes to the end or leaves it. */
  onEnd: (atEnd: boolean) => void = () => {};
  /** Called after drawing with the items around the view, and which of them is the first one seen. */
  onNear: (items: readonly T[], first: number) => void = () => {};
  /** Whether the view stands at the end, and so follows what comes. */
  atEnd = true;
  private readonly canvas = h("div", { class: "rtw-canvas" });
  private items: readonly T[] = [];
  private ids: Id[] = [];
  private tops = new Float64Array(1);
  private readonly rows = new Map<Id, HTMLElement>();
  private readonly heights = new Map<Id, number>();
  private measured = 0;
  /** The items seen, and where each begins, from the upper edge of the view: the first that is still there is kept in place. */
  private marks: [item: T, id: Id, y: number][] = [];
  /** Where the view stood when it was drawn: if it is elsewhere now, a person has scrolled. */
  private scroll = 0;

  constructor(
    private readonly drawn: Drawn<T>,
    label: string,
    signal: AbortSignal,
  ) {
    this.element = h("div", { class: "rtw-lines", role: "list", "aria-label": label, tabindex: 0 }, this.canvas);
    const later = perFrame(() => this.draw(), signal);
    this.element.addEventListener("scroll", () => (this.look(), later()), { signal });
    const sized = new ResizeObserver(() => (this.atEnd && this.toEnd(), later()));
    sized.observe(this.element);
    signal.addEventListener("abort", () => sized.disconnect(), { once: true });
  }

  /** Shows these items. */
  set(items: readonly T[]): void {
    this.look();
    this.items = items;
    this.ids = items.map((item) => this.drawn.id(item));
    if (this.heights.size > 2 * items.length + 100) {
      const ids = new Set(this.ids);
      for (const id of this.heights.keys()) if (!ids.has(id)) this.forget(id);
    }
    this.draw();
  }

  /** Draws the element of this item again. */
  refresh(id: Id): void {
    this.rows.get(id)?.remove();
    this.rows.delete(id);
  }

  refreshAll(): void {
    for (const id of [...this.rows.keys()]) this.refresh(id);
    this.draw();
  }

  /** Measures and draws again: a line has changed its height. */
  redraw(): void {
    this.draw();
  }

  toEnd(): void {
    this.setAtEnd(true);
    this.draw();
  }

  /** The first item in view; undefined where there is none. */
  get reading(): T | undefined {
    return this.marks[0]?.[0];
  }

  /** Notes where the view was scrolled to; the event comes later than the scrolling, and after other things. */
  private look(): void {
    const { scrollHeight, scrollTop, clientHeight } = this.element;
    if (clientHeight === 0 || scrollTop === this.scroll) return;
    this.scroll = scrollTop;
    this.mark();
    this.setAtEnd(scrollHeight - scrollTop - clientHeight < AT_END);
  }

  private setAtEnd(atEnd: boolean): void {
    if (atEnd === this.atEnd) return;
    this.atEnd = atEnd;
    this.onEnd(atEnd);
  }

  private forget(id: Id): void {
    const height = this.heights.get(id);
    if (height === undefined) return;
    this.heights.delete(id);
    this.measured -= height;
  }

  private heightOf(id: Id): number {
    return this.heights.get(id) ?? (this.heights.size ? this.measured / this.heights.size : GUESS);
  }

  private get view(): number {
    return this.element.clientHeight || VIEW;
  }

  private draw(): void {
    this.look();
    // Heights are known only once drawn, and move what is near: the second round puts that right.
    for (let round = 0; round < 3 && this.drawOnce(); round++);
    this.element.scrollTop = this.atEnd ? this.element.scrollHeight : this.top();
    this.scroll = this.element.scrollTop;
    this.mark();
    const first = firstAfter(this.tops, this.scroll - AHEAD);
    const stop = Math.min(this.items.length, firstAfter(this.tops, this.scroll + this.view + AHEAD) + 1);
    this.onNear(this.items.slice(first, stop), firstAfter(this.tops, this.scroll) - first);
  }

  private measureTops(): void {
    const { ids } = this;
    this.tops = new Float64Array(ids.length + 1);
    for (let i = 0; i < ids.length; i++) this.tops[i + 1] = this.tops[i]! + this.heightOf(ids[i]!);
  }

  private mark(): void {
    const { items, ids, tops, scroll } = this;
    this.marks = [];
    for (let i = firstAfter(tops, scroll); i < items.length && tops[i]! < scroll + this.view; i++) {
      if (this.drawn.isFirm?.(items[i]!) ?? true) this.marks.push([items[i]!, ids[i]!, tops[i]! - scroll]);
    }
  }

  /** Where the view has to stand, so that what is read stays where it is. */
  private top(): number {
    const { ids, tops } = this;
    const most = Math.max(0, tops[ids.length]! - this.view);
    if (this.atEnd) return most;
    for (const [, id, y] of this.marks) {
      const index = ids.indexOf(id);
      if (index >= 0) return Math.max(0, tops[index]! - y);
    }
    return Math.min(this.scroll, most);
  }

  /** Draws what is near the view; returns whether heights turned out other than thought. */
  private drawOnce(): boolean {
    const { items, ids, view } = this;
    this.measureTops();
    const { tops } = this;
    const total = tops[items.length]!;
    const top = this.top();
    const first = firstAfter(tops, top - MARGIN);
    const stop = Math.min(items.length, firstAfter(tops, top + view + MARGIN) + 1);

    const near = new Set(ids.slice(first, stop));
    for (const id of [...this.rows.keys()]) if (!near.has(id)) this.refresh(id);
    let before: ChildNode | null = this.canvas.firstChild;
    for (let i = first; i < stop; i++) {
      const id = ids[i]!;
      let row = this.rows.get(id);
      if (!row) {
        row = this.drawn.draw(items[i]!);
        row.setAttribute("role", "listitem");
        this.rows.set(id, row);
      }
      const place = this.drawn.place ? this.drawn.place(items[i]!) : ([i + 1, items.length] as const);
      if (place) {
        row.setAttribute("aria-posinset", String(place[0]));
        row.setAttribute("aria-setsize", String(place[1]));
      }
      if (row === before) before = row.nextSibling;
      else this.canvas.insertBefore(row, before);
    }
    this.canvas.style.paddingTop = `${tops[first] ?? 0}px`;
    this.canvas.style.paddingBottom = `${total - tops[stop]!}px`;

    let wrong = false;
    for (let i = first; i < stop; i++) {
      const { height } = this.rows.get(ids[i]!)!.getBoundingClientRect(); // not rounded: over many lines that would add up
      if (height === 0) continue;
      if (Math.abs(height - (tops[i + 1]! - tops[i]!)) > 0.5) wrong = true;
      this.forget(ids[i]!);
      this.heights.set(ids[i]!, height);
      this.measured += height;
    }
    if (wrong) this.measureTops();
    return wrong;
  }
}

/** The first index whose end lies beyond `at`. `tops` holds where each begins, and the end of the last. */
function firstAfter(tops: Float64Array, at: number): number {
  let low = 0;
  let high = tops.length - 1;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (tops[middle + 1]! > at) high = middle;
    else low = middle + 1;
  }
  return low;
}
