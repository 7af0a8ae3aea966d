/** Draws the grid: the header, the seen rows, those that leave, and the notice where there are none. */
import { focusedIn } from "../core/dom";
import type { Cursor } from "./cursor";
import { Flashes } from "./flash";
import type { Head } from "./head";
import { type Layout, type Placed, inView } from "./layout";
import { Leaving } from "./leaving";
import type { Notice } from "./notice";
import { type Line, Rows } from "./rows";
import type { Selection } from "./selection";
import type { Sheet, SheetDelta } from "./sheet";
import type { Viewport } from "./viewport";
import { ROW, type Range, canvasHeight } from "./window";

/** Rows drawn beyond the seen ones: the browser scrolls before it reports it. */
const OVERSCAN = 4;

/** What is drawn. */
export interface Scene {
  sheet: Sheet;
  layout: Layout;
  columns: Placed[];
  cursor: Cursor;
  selection: Selection;
  viewport: Viewport;
  filtering: boolean;
  follow: boolean;
}

export class Drawing {
  readonly rows = new Rows();
  readonly flashes = new Flashes();
  readonly leaving = new Leaving();
  /** Give the active cell the focus at the next drawing. */
  refocus = false;
  private scrollBar = "";
  private timer = 0;

  constructor(
    private readonly element: HTMLElement,
    private readonly head: Head,
    private readonly notice: Notice,
    private readonly redraw: () => void,
    private readonly signal: AbortSignal,
  ) {
    signal.addEventListener("abort", () => clearTimeout(this.timer));
  }

  /** Marks what a frame changed. */
  mark(delta: SheetDelta, now: number): void {
    this.flashes.sweep(now);
    for (const [id, column] of delta.cells) this.flashes.cell(id, column, now);
    for (const id of delta.arrived) this.flashes.row(id, now);
  }

  /** Shows the seen rows that left the table as leaving, unless they were most of the view: nothing of it could be made out. */
  showLeaving(seen: [id: string, index: number][], gone: Set<string>, before: number, viewport: Viewport, now: number): void {
    const left = seen.filter(([id]) => gone.has(id));
    if (left.length * 2 > viewport.screen) return;
    for (const [id, index] of left) {
      const onView = index * ROW - before;
      const place = Math.round(onView / ROW);
      const picture = this.leaving.isFree(place, now) ? this.rows.pictureOf(id) : undefined;
      if (picture) this.leaving.add(picture, place, onView + viewport.position.top, now);
    }
  }

  draw(scene: Scene): void {
    const { element, rows } = this;
    const { sheet, columns, cursor, viewport, selection } = scene;
    const total = sheet.rows;
    this.sweep();
    const canvas = `${canvasHeight(total)}px`;
    if (rows.element.style.height !== canvas) rows.element.style.height = canvas;
    cursor.fit(columns);
    // The scroll bar's height is added, so that the rows above it stay whole.
    const bar = `${element.offsetHeight - element.clientHeight}px`;
    if (this.scrollBar !== bar) element.style.setProperty("--rtw-bar", (this.scrollBar = bar));
    const width = columns.reduce((sum, column) => sum + column.width, 0);
    const drawn = inView(columns, Math.abs(element.scrollLeft), element.clientWidth || 800);
    const hadFocus = this.hasFocus;
    this.drawHead(scene, drawn, width);
    const before = viewport.position.top;
    viewport.position.settle(element, total, viewport.height, scene.follow);
    rows.draw(this.lines(viewport.seen, scene), {
      sheet,
      flashes: this.flashes,
      columns: drawn.columns,
      gap: drawn.gap,
      width,
      rtl: viewport.rtl,
      isSelected: (id) => selection.has(id),
      active: cursor,
    });
    const room = Math.max(canvasHeight(total), viewport.height); // more would lengthen what can be scrolled
    const { position } = viewport;
    this.leaving.draw(rows.element, position.top - before, (y) => position.drawnAt(y, total, room));
    element.setAttribute("aria-rowcount", String(total + 1));
    element.setAttribute("aria-colcount", String(columns.length));
    this.notice.draw(sheet, scene.layout, columns.length, this.leaving.any);
    this.keepFocus(hadFocus, cursor);
  }

  /** Whether the focus is in the grid, other than in a filter. */
  get hasFocus(): boolean {
    const focused = focusedIn(this.element);
    return focused !== null && !focused.matches("input");
  }

  private drawHead({ sheet, layout, cursor, filtering }: Scene, drawn: { columns: Placed[]; gap: number }, width: number): void {
    this.head.draw({
      ...drawn,
      width,
      sort: layout.sort,
      order: sheet.state.order,
      filters: layout.filters,
      filtering,
      active: cursor.inHeader ? cursor.column : undefined,
    });
  }

  /** The rows to draw: the seen ones with a few around them, and the active cell's, so that the focus has a place. */
  private lines(seen: Range, { sheet, cursor, viewport }: Scene): Line[] {
    const total = sheet.rows;
    const start = Math.max(0, seen.start - OVERSCAN);
    const stop = Math.min(total, seen.stop + OVERSCAN);
    const lines: Line[] = [];
    const add = (index: number): void => {
      lines.push({ index, id: sheet.idAt(index), y: viewport.position.yOf(index, total) });
    };
    const { index } = cursor;
    if (index >= 0 && index < start) add(index);
    for (let row = start; row < stop; row++) add(row);
    if (index >= stop && index < total) add(index);
    return lines;
  }

  /** Rows that change places take the focus off their cells. */
  private keepFocus(had: boolean, { index, column, inHeader }: Cursor): void {
    if (!had && !this.refocus) return;
    this.refocus = false;
    const cell = inHeader ? this.head.headerOf(column) : this.rows.cellAt(index, column);
    if (cell && focusedIn(this.element) !== cell) cell.focus({ preventScroll: true });
  }

  /** Drops the marks that are over, and draws again when the next one is. */
  private sweep(): void {
    const now = performance.now();
    const next = Math.min(this.flashes.sweep(now) ?? Infinity, this.leaving.sweep(now) ?? Infinity);
    clearTimeout(this.timer);
    if (next !== Infinity && !this.signal.aborted) this.timer = window.setTimeout(this.redraw, Math.max(20, next - now));
  }
}
