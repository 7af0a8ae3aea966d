/** The position of the view in the list of rows, and of the scroll bar that shows it. */
import { ROW, canvasHeight, clamp, isScaled, lastTop, movedTop, scrollFor } from "./window";

export class Position {
  /** Pixels of the full list above the view. */
  top = 0;
  /** The last position of the scroll bar. */
  scroll = 0;
  /** The scroll bar has to be set at the next drawing. */
  private aim = false;

  to(top: number): void {
    this.top = top;
    this.aim = true;
  }

  shift(rows: number): void {
    if (rows) this.to(Math.max(0, this.top + rows * ROW));
  }

  /** Moves as little as shows a row whole. */
  reveal(index: number, height: number): void {
    const y = index * ROW;
    if (y < this.top) this.to(y);
    else if (y + ROW > this.top + height) this.to(y + ROW - height);
  }

  /** The scroll bar was moved; returns whether upwards and away from the end. */
  scrolled(scroll: number, total: number, height: number): boolean {
    const before = this.top;
    this.top = movedTop(before, this.scroll, scroll, total, height);
    // Small steps have brought the bar of a cut canvas to an end, and the list goes on.
    if (isScaled(total) && (scroll <= 0 || scroll >= canvasHeight(total) - height - 1)) this.aim = true;
    this.scroll = scroll;
    // The browser's own correction after rows went is no going away from the end.
    return this.top < before && this.top < lastTop(total, height) - ROW;
  }

  /** Sets the scroll bar right where it has to be. */
  settle(element: HTMLElement, total: number, height: number, atEnd: boolean): void {
    const end = lastTop(total, height);
    const top = atEnd ? end : clamp(this.top, 0, end);
    if (top !== this.top) this.to(top);
    if (!this.aim) return;
    this.aim = false;
    const scroll = scrollFor(top, total, height);
    if (Math.abs(element.scrollTop - scroll) > 0.5) element.scrollTop = scroll;
    this.scroll = element.scrollTop;
  }

  /** Where a row is drawn on the canvas. */
  yOf(index: number, total: number): number {
    return this.drawnAt(index * ROW, total, canvasHeight(total));
  }

  /** Where on a canvas of some height that is drawn which stands so many pixels from the top of the full list. */
  drawnAt(y: number, total: number, room: number): number {
    const offset = isScaled(total) ? this.scroll - this.top : 0;
    return clamp(y + offset, 0, room - ROW);
  }
}
