/**
 * The grid: a scroll container that draws the rows seen of a list as long as the table.
 *
 * It never waits for the kernel: it shows the rows that it has, requests those that it lacks, and marks these as missing until they
 * come. The position of the view, the active cell and the selection go by the rows' keys, so they stay on their rows while others
 * come and go around them.
 */
import { h, perFrame } from "../core/dom";
import { Announcer } from "./announcer";
import { Arrangement } from "./arrangement";
import { type Copied, type CopyHost, Copier, copiedCell, copiedRows, rowsAt } from "./copying";
import { Cursor } from "./cursor";
import { Drawing } from "./drawing";
import { format } from "./format";
import { Head } from "./head";
import { type Command, HEADER, commandFor } from "./keyboard";
import { type Layout, NARROWEST, type Placed, type StoredLayout, WIDEST, guessWidth, nextSort, place } from "./layout";
import { Menu } from "./menu";
import { Notice } from "./notice";
import { type PickHost, Picker } from "./picker";
import { Reader } from "./reader";
import { Requests } from "./requests";
import { Selection } from "./selection";
import { Sheet, type Sort, type TableFrame } from "./sheet";
import { Viewport } from "./viewport";
import { ROW, clamp, lastTop, shiftOf } from "./window";

/** What the view shows, for the kernel. */
export interface Wants {
  start: number;
  stop: number;
  sort: Sort;
  search: string;
  filters: object;
  /** The view follows the end: the kernel sends the next rows without a request. */
  tail: boolean;
  /** A row that is to stay in place, and its place. */
  anchor: [index: number, key: unknown] | null;
  /** The zone in which times are shown, and so searched. */
  zone: string;
}

/** What the grid needs of the widget around it. */
export interface Host extends CopyHost, PickHost {
  want(wants: Wants): void;
  layout(layout: StoredLayout): void;
  /** Something that the toolbar shows has changed. */
  drawn(): void;
}

export class Grid {
  readonly sheet = new Sheet();
  readonly arrangement: Arrangement;
  readonly element: HTMLElement;
  readonly pane: HTMLElement;
  readonly selection = new Selection();
  follow = false;
  readonly redraw: () => void;

  private readonly head: Head;
  private readonly menu: Menu;
  private readonly reader = new Reader();
  private readonly announcer: Announcer;
  private readonly copier: Copier;
  private readonly picker: Picker;
  private readonly cursor = new Cursor(this.sheet);
  private readonly viewport: Viewport;
  private readonly requests: Requests;
  private readonly drawing: Drawing;
  private readonly guessed = new Map<string, number>();

  constructor(
    layout: unknown,
    private readonly host: Host,
    signal: AbortSignal,
  ) {
    const arranged = {
      keep: (layout: StoredLayout) => this.host.layout(layout),
      renew: () => this.renew(),
      redraw: () => this.redraw(),
      fittingWidth: (column: string) => this.fittingWidth(column),
    };
    const arrangement = (this.arrangement = new Arrangement(layout, this.sheet, arranged, signal));
    this.menu = new Menu(signal);
    this.announcer = new Announcer(signal);
    this.copier = new Copier(host, this.announcer);
    this.picker = new Picker(this.sheet, this.selection, host, this.announcer, () => this.redraw());
    this.head = new Head({
      sort: (column, add) => arrangement.sortBy(nextSort(this.layout.sort, column, add)),
      resize: (column, width, done) => arrangement.resize(column, width, done),
      fit: (column) => arrangement.fit(column),
      move: (column, before) => arrangement.move(column, before),
      menu: (column) => this.openMenu(column),
      filter: (column, text) => arrangement.filterBy(column, text),
      focus: (column) => this.activate(HEADER, column),
    });
    this.element = h("div", { class: "rtw-grid", role: "grid", "aria-label": "live table", "aria-multiselectable": "true" });
    this.redraw = perFrame(() => this.draw(), signal);
    const notice = new Notice(() => arrangement.showAll());
    this.drawing = new Drawing(this.element, this.head, notice, this.redraw, signal);
    this.element.append(this.head.element, this.drawing.rows.element);
    this.pane = h("div", { class: "rtw-pane" }, this.element, notice.element, this.menu.element, this.reader.element, this.announcer.element);
    this.viewport = new Viewport(this.element, this.head.element, this.sheet, signal);
    this.requests = new Requests(this.viewport, () => this.request(), signal);
    this.listen(signal);
  }

  get layout(): Layout {
    return this.arrangement.layout;
  }

  get wants(): Wants {
    const { sort, search, filters } = this.layout;
    const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
    return { ...this.requests.range, sort, search, filters: Object.fromEntries(filters), tail: this.follow, anchor: this.anchor, zone };
  }

  /** Whether seen rows are missing for a while. */
  get isLate(): boolean {
    return this.requests.isLate;
  }

  get columns(): Placed[] {
    return place(this.sheet.schema, this.layout, (name, type) => this.widthOf(name, type));
  }

  apply(frame: TableFrame): void {
    const { viewport, drawing, cursor, sheet, requests } = this;
    const seen = viewport.known;
    const before = viewport.position.top;
    const delta = sheet.apply(frame);
    const now = performance.now();
    if (!requests.settled) [delta.arrived, delta.gone] = [[], []]; // these rows did not come or go: they were requested
    drawing.mark(delta, now);
    if (requests.settled) {
      // At the very top the newest rows are what one wants to see.
      if (delta.window && !this.follow && viewport.position.top > 0) {
        const moved = shiftOf(seen, (id) => sheet.indexOf(id));
        viewport.position.shift(moved);
        requests.shift(moved);
      }
      if (delta.gone.length) drawing.showLeaving(seen, new Set(delta.gone), before, viewport, now);
    }
    requests.settle(delta.window);
    if (delta.window) cursor.settle();
    // A screen reader reads a cell when one comes to it, and not again when its value changes.
    if (drawing.hasFocus && delta.cells.some(([id, column]) => cursor.isOn(id, column))) {
      this.announcer.announceSoon(() => `${cursor.column} ${this.textAt(cursor.index, cursor.column)}`);
    }
    this.redraw();
  }

  // --- what a person or the kernel sets

  /** Selects by key, as the kernel wants. */
  setSelected(keys: unknown[]): void {
    this.selection.set(keys);
    this.redraw();
  }

  setFollow(on: boolean): void {
    this.follow = on;
    if (on) this.viewport.position.to(lastTop(this.sheet.rows, this.viewport.height));
    this.redraw();
    this.requests.schedule(true, this.sheet.rows);
  }

  private fittingWidth(column: string): number {
    const range = document.createRange();
    const wide = this.drawing.rows.cellsOf(column).map((cell) => {
      range.selectNodeContents(cell);
      return range.getBoundingClientRect().width;
    });
    const width = Math.max(18 + Math.max(0, ...wide), 44 + this.head.labelWidth(column));
    return Math.round(clamp(width, NARROWEST, WIDEST));
  }

  private openMenu(column: string): void {
    this.cursor.moveTo(HEADER, column);
    this.drawing.refocus = false; // the menu gets it
    this.redraw();
    const at = this.head.headerOf(column) ?? this.element;
    this.menu.open(at, `column ${column}`, this.arrangement.menu(column), () => this.activate(HEADER, this.cursor.column));
  }

  // --- requests

  /** The row that must stay in place while rows come above it: the first one seen, but at the very top. */
  private get anchor(): [index: number, key: unknown] | null {
    const first = this.viewport.position.top > 0 && !this.follow && this.requests.settled ? this.viewport.known[0] : undefined;
    return first ? [first[1], this.sheet.keyAt(first[1])] : null;
  }

  private request(): boolean {
    const { wants } = this;
    this.host.want(wants);
    return wants.anchor !== null;
  }

  /** Other rows are wanted than those that are here: after sorting and searching, from the first on. */
  private renew(): void {
    this.requests.settled = false;
    this.drawing.leaving.clear();
    this.viewport.position.to(0);
    this.requests.schedule(true, this.sheet.rows);
    this.redraw();
  }

  // --- the active cell

  private activate(index: number, column: string): void {
    this.cursor.moveTo(index, column);
    if (index !== HEADER) this.viewport.position.reveal(index, this.viewport.height);
    this.viewport.revealColumn(this.columns, column);
    this.drawing.refocus = true;
    this.redraw();
  }

  private key(event: KeyboardEvent): void {
    if (event.target instanceof Element && event.target.matches("input, button")) return;
    const columns = this.columns.map((column) => column.name);
    const { index, column } = this.cursor;
    const command = commandFor(event, {
      index,
      column: Math.max(0, columns.indexOf(column)),
      lastRow: this.sheet.rows - 1,
      lastColumn: columns.length - 1,
      page: Math.max(1, Math.floor(this.viewport.height / ROW) - 1),
      rtl: this.viewport.rtl,
    });
    if (!command) return;
    if ("go" in command) this.activate(command.go[0], columns[command.go[1]]!);
    else this.run(command.do);
    event.preventDefault();
  }

  private run(what: (Command & { do: unknown })["do"]): void {
    const { index, column } = this.cursor;
    if (what === "sort" || what === "sort more") this.arrangement.sortBy(nextSort(this.layout.sort, column, what === "sort more"));
    else if (what === "menu") this.openMenu(column);
    else if (what === "read") this.read(index, column);
    else if (what === "select to here") this.picker.pickTo(index);
    else if (what === "select all") this.picker.pickAll();
    else if (what === "select") this.picker.toggle(index);
    else this.picker.clear();
  }

  /** Opens the whole value of a cell. */
  private read(index: number, column: string): void {
    const copied = copiedCell(this.sheet, index, column);
    const rest = copied.whole ? undefined : this.copier.wholeText(copied);
    this.drawing.refocus = false; // the panel gets it
    this.reader.open(column, copied.text, rest, () => this.activate(this.cursor.index, column));
  }

  private textAt(index: number, column: string): string {
    return format(this.sheet.valueAt(index, column), this.sheet.typeOf(column), this.sheet.cutAt(index, column)).text;
  }

  private click(event: MouseEvent): void {
    const at = this.drawing.rows.at(event.target);
    if (!at) return;
    this.activate(at.index, at.column ?? this.cursor.column);
    if (this.hasMarkedText) return; // text is being selected
    if (event.shiftKey) this.picker.pickTo(at.index);
    else if (event.ctrlKey || event.metaKey) this.picker.toggle(at.index);
    else this.picker.pickOnly(at.index);
  }

  private get hasMarkedText(): boolean {
    const text = this.element.ownerDocument.getSelection();
    return text !== null && !text.isCollapsed && this.element.contains(text.anchorNode);
  }

  // --- copying

  /** What Ctrl+C copies: the selected rows, or the active cell. */
  private get copied(): Copied {
    const { selection, sheet, cursor } = this;
    const columns = this.columns.map((column) => column.name);
    if (selection.size && !selection.implied) return copiedRows(sheet, selection, columns);
    if (cursor.inHeader) return { columns: [cursor.column], keys: [], rows: 0, cell: true, text: cursor.column, whole: true };
    return copiedCell(sheet, cursor.index, cursor.column);
  }

  /** Copies the selected rows, or those seen; returns what became of it. */
  async copyRows(): Promise<string> {
    const columns = this.columns.map((column) => column.name);
    const { sheet, selection, viewport } = this;
    const seen = viewport.known.map(([, index]) => index);
    const copied = selection.size ? copiedRows(sheet, selection, columns) : rowsAt(sheet, seen, columns);
    return this.copier.copy(copied);
  }

  // --- events and drawing

  private scrolled(): void {
    if (this.viewport.isHidden) return;
    if (this.viewport.scrolled(() => this.redraw()) && this.follow) this.setFollow(false);
    this.redraw();
  }

  private focused(target: EventTarget | null): void {
    const header = this.head.columnOf(target);
    const at = header === undefined ? this.drawing.rows.at(target) : { index: HEADER, column: header };
    if (at?.column === undefined || this.cursor.isAt(at.index, at.column)) return;
    this.cursor.moveTo(at.index, at.column);
    this.redraw();
  }

  private listen(signal: AbortSignal): void {
    const { element } = this;
    const body = this.drawing.rows.element;
    element.addEventListener("scroll", () => this.scrolled(), { signal, passive: true });
    element.addEventListener("keydown", (event) => this.key(event), { signal });
    element.addEventListener(
      "copy",
      (event) => {
        const typing = event.target instanceof Element && event.target.matches("input");
        if (!typing && !this.hasMarkedText) this.copier.answer(event, this.copied); // else the browser copies what is marked
      },
      { signal },
    );
    element.addEventListener("focusin", (event) => this.focused(event.target), { signal });
    body.addEventListener("mousedown", (event) => event.shiftKey && event.preventDefault(), { signal });
    body.addEventListener("click", (event) => this.click(event), { signal });
    body.addEventListener("dblclick", () => !this.cursor.inHeader && this.read(this.cursor.index, this.cursor.column), { signal });
    const sizes = new ResizeObserver(() => {
      this.viewport.rtl = getComputedStyle(element).direction === "rtl";
      this.redraw();
    });
    sizes.observe(element);
    signal.addEventListener("abort", () => sizes.disconnect());
  }

  /** A column's width until a person sets one: worked out once, so that columns do not jump as values come and go. */
  private widthOf(name: string, type: string): number {
    const known = this.guessed.get(name);
    if (known !== undefined) return known;
    const { sheet } = this;
    const texts: string[] = [];
    for (let index = sheet.start; index < Math.min(sheet.stop, sheet.start + 30); index++) texts.push(this.textAt(index, name));
    const width = guessWidth(name, type, texts);
    if (texts.length) this.guessed.set(name, width);
    return width;
  }

  private draw(): void {
    const { sheet, layout, columns, cursor, selection, viewport, follow, requests } = this;
    const { filtering } = this.arrangement;
    this.drawing.draw({ sheet, layout, columns, cursor, selection, viewport, filtering, follow });
    const { seen } = viewport;
    requests.setMissing(viewport.known.length < seen.stop - seen.start);
    // At the very top no row is kept in place: leaving it or coming back to it, the view sends another request.
    if (sheet.loaded) requests.schedule(requests.settled && requests.anchored !== (this.anchor !== null), sheet.rows);
    this.host.drawn();
  }
}
