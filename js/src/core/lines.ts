/**
 * A list of lines of any height of which only those near the view are elements. Who is at the end stays there as lines come; who
 * reads above keeps what they read where it is.
 */
import { h, perFrame } from "./dom";

export interface Drawn<T> {
  /** Names an item for as long as it is in the list. */
  id(item: T): string | number;
  /** The element of an item; made anew each time the item comes near the view. */
  draw(item: T): HTMLElement;
}

/** Height of a line that was never drawn, while no other was. */
const GUESS = 20;
/** Pixels above and below the view in which lines are drawn as well. */
const MARGIN = 200;
/** Height of the view before there is a layout to measure. */
const VIEW = 220;
const AT_END = 24;

export class Lines<T> {
  readonly element: HTMLElement;
  /** Called when the view comes to the end or leaves it. */
  onEnd: (atEnd: boolean) => void = () => {};
  /** Whether the view stands at the end, and so follows what comes. */
  atEnd = true;
  private readonly canvas = h("div", { class: "rtw-canvas" });
  private items: readonly T[] = [];
  private readonly rows = new Map<string | number, HTMLElement>();
  private readonly heights = new Map<string | number, number>();
  private measured = 0;

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
    this.items = items;
    if (this.heights.size > 2 * items.length + 100) {
      const ids = new Set(items.map((item) => this.drawn.id(item)));
      for (const id of this.heights.keys()) if (!ids.has(id)) this.forget(id);
    }
    this.draw();
  }

  /** Draws the element of this item again. */
  refresh(id: string | number): void {
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
    this.element.scrollTop = this.element.scrollHeight;
    this.setAtEnd(true);
    this.draw();
  }

  private look(): void {
    const { scrollHeight, scrollTop, clientHeight } = this.element;
    if (clientHeight > 0) this.setAtEnd(scrollHeight - scrollTop - clientHeight < AT_END);
  }

  private setAtEnd(atEnd: boolean): void {
    if (atEnd === this.atEnd) return;
    this.atEnd = atEnd;
    this.onEnd(atEnd);
  }

  private forget(id: string | number): void {
    const height = this.heights.get(id);
    if (height === undefined) return;
    this.heights.delete(id);
    this.measured -= height;
  }

  private heightOf(id: string | number): number {
    return this.heights.get(id) ?? (this.heights.size ? this.measured / this.heights.size : GUESS);
  }

  private draw(): void {
    // Heights are known only once drawn, and move what is near: the second round puts that right.
    for (let round = 0; round < 3 && this.drawOnce(); round++);
  }

  /** Draws what is near the view; returns whether heights turned out other than thought. */
  private drawOnce(): boolean {
    const { items, element } = this;
    const view = element.clientHeight || VIEW;
    const ids = items.map((item) => this.drawn.id(item));
    const tops = new Float64Array(items.length + 1);
    for (let i = 0; i < items.length; i++) tops[i + 1] = tops[i]! + this.heightOf(ids[i]!);
    const total = tops[items.length]!;
    const top = this.atEnd ? Math.max(0, total - view) : Math.min(element.scrollTop, Math.max(0, total - view));
    const first = firstAfter(tops, top - MARGIN);
    const stop = Math.min(items.length, firstAfter(tops, top + view + MARGIN) + 1);
    const anchor = Math.min(firstAfter(tops, top), Math.max(0, items.length - 1));

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
      row.setAttribute("aria-posinset", String(i + 1));
      row.setAttribute("aria-setsize", String(items.length));
      if (row === before) before = row.nextSibling;
      else this.canvas.insertBefore(row, before);
    }
    this.canvas.style.paddingTop = `${tops[first] ?? 0}px`;
    this.canvas.style.paddingBottom = `${total - tops[stop]!}px`;

    let wrong = false;
    let above = 0;
    for (let i = first; i < stop; i++) {
      const height = this.rows.get(ids[i]!)!.offsetHeight;
      const thought = tops[i + 1]! - tops[i]!;
      if (height === 0) continue;
      if (i < anchor) above += height - thought;
      if (Math.abs(height - thought) > 0.5) wrong = true;
      this.forget(ids[i]!);
      this.heights.set(ids[i]!, height);
      this.measured += height;
    }
    if (this.atEnd) element.scrollTop = element.scrollHeight;
    else if (Math.abs(above) > 0.5) element.scrollTop += above;
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
