/** The part of the list that is seen: how tall it is, and which rows stand in it. */
import type { Placed } from "./layout";
import { Position } from "./position";
import type { Sheet } from "./sheet";
import { MOST, ROW, type Range, isScaled, seenRows } from "./window";

/** Rows shown before there is a layout to measure, as in the style sheet. */
export const ROWS = 12;

/** After this many ms without scrolling, the scroll bar of a canvas of limited height is set right again. */
const IDLE = 150;

export class Viewport {
  readonly position = new Position();
  rtl = false;
  private idle = 0;

  constructor(
    private readonly element: HTMLElement,
    private readonly head: HTMLElement,
    private readonly sheet: Sheet,
    signal: AbortSignal,
  ) {
    signal.addEventListener("abort", () => clearTimeout(this.idle));
  }

  /** Height of the part that shows rows. */
  get height(): number {
    const inner = this.element.clientHeight - this.head.offsetHeight;
    return inner > 0 ? inner : ROWS * ROW;
  }

  /** Rows that fit. */
  get screen(): number {
    return Math.min(Math.ceil(this.height / ROW), MOST);
  }

  get seen(): Range {
    return seenRows(this.position.top, this.height, this.sheet.rows);
  }

  /** The seen rows whose keys are known. */
  get known(): [id: string, index: number][] {
    const { start, stop } = this.seen;
    const known: [string, number][] = [];
    for (let index = start; index < stop; index++) {
      const id = this.sheet.idAt(index);
      if (id !== undefined) known.push([id, index]);
    }
    return known;
  }

  /** Whether the element is not displayed: then it reports a scroll position of 0. */
  get isHidden(): boolean {
    const { clientHeight, scrollTop, offsetParent, isConnected } = this.element;
    return clientHeight === 0 && scrollTop === 0 && offsetParent === null && isConnected;
  }

  /** The element was scrolled; returns whether upwards, away from the end. */
  scrolled(redraw: () => void): boolean {
    const { position, element } = this;
    const total = this.sheet.rows;
    if (element.scrollTop === position.scroll) return false;
    const away = position.scrolled(element.scrollTop, total, this.height);
    clearTimeout(this.idle);
    if (isScaled(total)) {
      this.idle = window.setTimeout(() => {
        position.to(position.top);
        redraw();
      }, IDLE);
    }
    return away;
  }

  /** Scrolls sideways as little as shows a column whole. */
  revealColumn(columns: Placed[], name: string): void {
    const { element } = this;
    const column = columns.find((other) => other.name === name);
    if (!column || column.pinned) return;
    const pinned = columns.reduce((sum, other) => sum + (other.pinned ? other.width : 0), 0);
    const sign = this.rtl ? -1 : 1;
    const left = Math.abs(element.scrollLeft);
    const right = column.x + column.width - element.clientWidth;
    if (column.x - pinned < left) element.scrollLeft = sign * (column.x - pinned);
    else if (right > left) element.scrollLeft = sign * right;
  }
}
