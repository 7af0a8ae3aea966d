/**
 * The grid: a scroll container that draws the rows seen of a list as long as the table.
 *
 * It never waits for the kernel. What it has it shows, what it lacks it asks for, and until that comes the rows are marked as
 * not there. Where the view stands, the active cell and the selection go by the rows' keys, so they stay on their rows while
 * others come and go around them.
 */
import { h, perFrame, setText } from "../core/dom";
import { menuOf, moveColumn } from "./arrange";
import { Flashes } from "./flash";
import { format } from "./format";
import { Head } from "./head";
import { type Command, HEADER, commandFor } from "./keys";
import { Leaving } from "./leaving";
import { type Layout, NARROWEST, type Placed, WIDEST, guessWidth, inView, nextSort, place, readLayout } from "./layout";
import { Menu } from "./menu";
import { Position } from "./position";
import { type Line, Rows } from "./rows";
import { Selection, tsv, valuesAt } from "./select";
import { Sheet, type Sort, type TableFrame } from "./sheet";
import { MOST, ROW, type Range, canvasHeight, clamp, isNear, isScaled, lastTop, reach, seenRows, shiftOf } from "./window";

export interface Wants {
  start: number;
  stop: number;
  sort: Sort;
  search: string;
  filters: Record<string, string>;
  /** The view follows the end: a kernel that knows the word need not wait to be asked for the next rows. */
  tail: boolean;
  /** A row that is to stay where it is, and its place. */
  anchor: [index: number, key: unknown] | null;
}

export interface Asks {
  want(wants: Wants): void;
  select(keys: unknown[]): void;
  layout(layout: Layout): void;
  /** Something that the toolbar shows has changed. */
  drawn(): void;
}

/** Rows shown before there is a layout to measure, as in the style sheet. */
const ROWS = 12;
/** Rows drawn beyond the seen ones: the browser scrolls before it tells. */
const OVERSCAN = 4;
/** Milliseconds between two asks for another window. */
const ASK_EVERY = 60;
/** Milliseconds between two values read out. */
const SAY_EVERY = 1500;
/** Milliseconds without an answer that are worth a word. */
const LATE = 1000;
/** Milliseconds after the last key in a filter. */
const TYPED = 200;
/** Milliseconds after which other rows than those asked for are taken for changes of the table. */
const SETTLED = 1000;
/** After this many ms without scrolling, the scroll bar of a cut canvas is set right again. */
const IDLE = 150;

export class Grid {
  readonly sheet = new Sheet();
  readonly layout: Layout;
  readonly element: HTMLElement;
  readonly pane: HTMLElement;
  readonly selection = new Selection();
  filtering = false;
  follow = false;

  private readonly empty = h("div", { class: "rtw-empty", hidden: true });
  /** For screen readers only. */
  private readonly said = h("div", { class: "rtw-said", role: "status" });
  private readonly rows = new Rows();
  private readonly head: Head;
  private readonly menu: Menu;
  private readonly flashes = new Flashes();
  private readonly leaving = new Leaving();
  private readonly guessed = new Map<string, number>();
  private readonly position = new Position();
  private asked: Range = { start: 0, stop: 3 * ROWS };
  private askedAt = -Infinity;
  /** Whether the kernel holds a row for this view. */
  private anchored = false;
  private asking = 0;
  private idle = 0;
  private sweeping = 0;
  /** Sort, search or filters changed and the rows are not here yet: what comes then did not arrive, it was asked for. */
  private unsettled = false;
  private active: { index: number; id: string | undefined; column: string } = { index: 0, id: undefined, column: "" };
  private refocus = false;
  private rtl = false;
  private bar = "";
  private typing = 0;
  private saying = 0;
  /** Since when seen rows are not here. */
  private lacking = Infinity;
  readonly redraw: () => void;

  constructor(layout: unknown, private readonly asks: Asks, private readonly signal: AbortSignal) {
    this.layout = readLayout(layout);
    this.showFilters();
    this.menu = new Menu(signal);
    this.head = new Head({
      sort: (column, add) => this.sortBy(nextSort(this.layout.sort, column, add)),
      resize: (column, width, done) => this.resize(column, width, done),
      fit: (column) => this.fit(column),
      move: (column, before) => this.moveColumn(column, before),
      menu: (column) => this.openMenu(column),
      filter: (column, text) => this.filterBy(column, text),
      focus: (column) => this.activate(HEADER, column),
    });
    const roles = { role: "grid", "aria-label": "live table", "aria-multiselectable": "true" };
    this.element = h("div", { class: "rtw-grid", ...roles }, this.head.element, this.rows.element);
    this.pane = h("div", { class: "rtw-pane" }, this.element, this.empty, this.menu.element, this.said);
    this.redraw = perFrame(() => this.draw(), signal);
    this.listen();
  }

  /** What the view shows, for the kernel. */
  get wants(): Wants {
    const { sort, search, filters } = this.layout;
    return { ...this.asked, sort, search, filters, tail: this.follow, anchor: this.anchor };
  }

  /** The row that must stay where it is while rows come above it: the first one seen, but at the very top. */
  private get anchor(): [index: number, key: unknown] | null {
    const first = this.position.top > 0 && !this.follow && !this.unsettled ? this.knownRows()[0] : undefined;
    return first ? [first[1], this.sheet.keyAt(first[1])] : null;
  }

  /** Whether seen rows have been asked for a while ago and have not come: a running cell keeps the kernel from hearing. */
  get isLate(): boolean {
    return performance.now() - this.lacking > LATE;
  }

  get columns(): Placed[] {
    return place(this.sheet.schema, this.layout, (name, type) => this.widthOf(name, type));
  }

  take(frame: TableFrame): void {
    const seen = this.knownRows();
    const before = this.position.top;
    const changes = this.sheet.take(frame);
    const now = performance.now();
    this.flashes.sweep(now);
    for (const [id, column] of changes.cells) this.flashes.cell(id, column, now);
    if (!this.unsettled && !changes.reordered) {
      for (const id of changes.arrived) this.flashes.row(id, now);
      // At the very top the newest rows are what one wants to see.
      if (changes.window && !this.follow && this.position.top > 0) {
        const moved = shiftOf(seen, (id) => this.sheet.indexOf(id));
        this.position.shift(moved);
        this.asked = { start: Math.max(0, this.asked.start + moved), stop: Math.max(0, this.asked.stop + moved) };
      }
      if (changes.gone.length) this.showGone(seen, new Set(changes.gone), before, now);
    }
    // An answer that is the same as what was there is not sent.
    if (changes.window || now > this.askedAt + SETTLED) this.unsettled = false;
    if (changes.window) this.settleActive();
    this.selection.refresh(this.sheet);
    const { active } = this;
    if (changes.cells.some(([id, column]) => id === active.id && column === active.column) && this.hasFocus()) this.sayActive();
    this.redraw();
  }

  /** Shows the seen rows that went as going, unless most of the view went: then nothing of it could be made out. */
  private showGone(seen: [id: string, index: number][], gone: Set<string>, before: number, now: number): void {
    const left = seen.filter(([id]) => gone.has(id));
    if (left.length * 2 > this.screen) return;
    for (const [id, index] of left) {
      const onView = index * ROW - before;
      const place = Math.round(onView / ROW);
      const picture = this.leaving.isFree(place, now) ? this.rows.pictureOf(id) : undefined;
      if (picture) this.leaving.add(picture, place, onView + this.position.top, now);
    }
  }

  /** A screen reader reads a cell when one comes to it, and not again when its value changes. */
  private sayActive(): void {
    if (this.saying) return;
    this.saying = window.setTimeout(() => {
      this.saying = 0;
      const { index, column } = this.active;
      setText(this.said, `${column} ${format(this.sheet.valueAt(index, column), this.sheet.typeOf(column)).text}`);
    }, SAY_EVERY);
  }

  // --- what a person does

  sortBy(sort: Sort): void {
    this.layout.sort = sort;
    this.arranged();
    this.askAnew();
  }

  /** Selects by key, as the kernel wishes. */
  setSelected(keys: unknown[]): void {
    this.selection.set(this.sheet, keys);
    this.redraw();
  }

  /** Arranges the columns, as the kernel wishes. */
  setLayout(given: unknown): void {
    const rows = (): string => JSON.stringify([this.layout.sort, this.layout.search, this.layout.filters]);
    const before = rows();
    Object.assign(this.layout, readLayout(given));
    this.showFilters();
    if (rows() !== before) this.askAnew();
    this.redraw();
  }

  /** A filter that nobody sees would hide rows without a word. */
  private showFilters(): void {
    if (Object.keys(this.layout.filters).length) this.filtering = true;
  }

  searchFor(text: string): void {
    if (text === this.layout.search) return;
    this.layout.search = text;
    this.arranged();
    this.askAnew();
  }

  setFollow(on: boolean): void {
    this.follow = on;
    if (on) this.position.to(lastTop(this.sheet.rows, this.height));
    this.redraw();
    this.ask(true);
  }

  setFiltering(on: boolean): void {
    this.filtering = on;
    if (!on && Object.keys(this.layout.filters).length) {
      this.layout.filters = {};
      this.arranged();
      this.askAnew();
    }
    this.redraw();
  }

  /** What Ctrl+C takes: the selected rows or else the active cell. */
  get copied(): string {
    const columns = this.columns.map((column) => column.name);
    if (this.selection.size) return this.selection.tsv(this.sheet, columns);
    const { index, column } = this.active;
    if (index === HEADER) return column;
    return tsv([column], [valuesAt(this.sheet, index)]).slice(tsv([column], []).length + 1);
  }

  /** What the copy button takes: the selected rows or else all rows seen. */
  get copiedRows(): string {
    const columns = this.columns.map((column) => column.name);
    if (this.selection.size) return this.selection.tsv(this.sheet, columns);
    const rows = this.knownRows().map(([, index]) => valuesAt(this.sheet, index));
    return tsv(columns, rows);
  }

  private filterBy(column: string, text: string): void {
    const { [column]: _, ...others } = this.layout.filters;
    this.layout.filters = text.trim() === "" ? others : { ...others, [column]: text };
    clearTimeout(this.typing);
    this.typing = window.setTimeout(() => {
      this.arranged();
      this.askAnew();
    }, TYPED);
  }

  private resize(column: string, width: number, done: boolean): void {
    this.layout.widths[column] = width;
    if (done) this.arranged();
    this.redraw();
  }

  private fit(column: string): void {
    const measure = document.createRange();
    const wide = this.rows.cellsOf(column).map((cell) => {
      measure.selectNodeContents(cell);
      return measure.getBoundingClientRect().width;
    });
    const width = Math.max(18 + Math.max(0, ...wide), 44 + this.head.labelWidth(column));
    this.resize(column, Math.round(clamp(width, NARROWEST, WIDEST)), true);
  }

  private moveColumn(column: string, before: string | null): void {
    moveColumn(this.layout, this.sheet.schema, column, before);
    this.arranged();
  }

  private openMenu(column: string): void {
    this.active = { index: HEADER, id: undefined, column };
    this.refocus = false; // the menu has it now
    this.redraw();
    const entries = menuOf(column, this.layout, this.sheet.schema, {
      sort: (sort) => this.sortBy(sort),
      fit: () => this.fit(column),
      arranged: () => this.arranged(),
    });
    const at = this.head.headerOf(column) ?? this.element;
    this.menu.open(at, `column ${column}`, entries, () => this.activate(HEADER, this.active.column));
  }

  private arranged(): void {
    this.asks.layout(structuredClone(this.layout));
    this.redraw();
  }

  // --- asking

  /** Other rows are wanted than those that are here. */
  private askAnew(): void {
    this.unsettled = true;
    this.leaving.clear();
    // Who sorts or searches wants to see what comes first.
    this.position.to(0);
    this.ask(true);
    this.redraw();
  }

  private ask(now: boolean): void {
    const seen = seenRows(this.position.top, this.height, this.sheet.rows);
    if (!now && !isNear(seen, this.asked, this.screen, this.sheet.rows)) return;
    if (this.asking) return;
    const wait = Math.max(0, this.askedAt + ASK_EVERY - performance.now());
    this.asking = window.setTimeout(() => {
      this.asking = 0;
      this.askedAt = performance.now();
      this.asked = reach(seenRows(this.position.top, this.height, this.sheet.rows), this.screen);
      const { wants } = this;
      this.anchored = wants.anchor !== null;
      this.asks.want(wants);
    }, wait);
  }

  // --- where the view stands

  /** Height of the part that shows rows. */
  private get height(): number {
    const inner = this.element.clientHeight - this.head.element.offsetHeight;
    return inner > 0 ? inner : ROWS * ROW;
  }

  private get screen(): number {
    return Math.min(Math.ceil(this.height / ROW), MOST);
  }

  /** The seen rows whose keys are known. */
  private knownRows(): [id: string, index: number][] {
    const { start, stop } = seenRows(this.position.top, this.height, this.sheet.rows);
    const known: [string, number][] = [];
    for (let index = start; index < stop; index++) {
      const id = this.sheet.idAt(index);
      if (id !== undefined) known.push([id, index]);
    }
    return known;
  }

  private scrolled(): void {
    const { clientHeight, scrollTop, offsetParent } = this.element;
    if (clientHeight === 0 && scrollTop === 0 && offsetParent === null && this.element.isConnected) return; // hidden
    const total = this.sheet.rows;
    if (scrollTop !== this.position.scroll) {
      if (this.position.scrolled(scrollTop, total, this.height) && this.follow) this.setFollow(false);
      clearTimeout(this.idle);
      if (isScaled(total)) {
        this.idle = window.setTimeout(() => {
          this.position.to(this.position.top);
          this.redraw();
        }, IDLE);
      }
    }
    this.redraw();
  }

  private revealColumn(name: string): void {
    const { columns, element } = this;
    const column = columns.find((other) => other.name === name);
    if (!column || column.pinned) return;
    const pinned = columns.reduce((sum, other) => sum + (other.pinned ? other.width : 0), 0);
    const sign = this.rtl ? -1 : 1;
    const left = Math.abs(element.scrollLeft);
    const right = column.x + column.width - element.clientWidth;
    if (column.x - pinned < left) element.scrollLeft = sign * (column.x - pinned);
    else if (right > left) element.scrollLeft = sign * right;
  }

  // --- the active cell

  private activate(index: number, column: string): void {
    const id = index === HEADER ? undefined : this.sheet.idAt(index);
    this.active = { index, id, column };
    if (index !== HEADER) this.position.reveal(index, this.height);
    this.revealColumn(column);
    this.refocus = true;
    this.redraw();
  }

  /** After rows moved: the active cell goes where its row went; if that is gone, it stays at the place. */
  private settleActive(): void {
    const { active, sheet } = this;
    if (active.index === HEADER) return;
    const index = active.id === undefined ? undefined : sheet.indexOf(active.id);
    if (index !== undefined) active.index = index;
    else active.index = clamp(active.index, 0, Math.max(0, sheet.rows - 1));
    active.id = sheet.idAt(active.index) ?? active.id;
  }

  private key(event: KeyboardEvent): void {
    if (event.target instanceof Element && event.target.matches("input")) return;
    const columns = this.columns.map((column) => column.name);
    const { index, column } = this.active;
    const command = commandFor(event, {
      index,
      column: Math.max(0, columns.indexOf(column)),
      lastRow: this.sheet.rows - 1,
      lastColumn: columns.length - 1,
      page: Math.max(1, Math.floor(this.height / ROW) - 1),
      rtl: this.rtl,
    });
    if (!command) return;
    if ("go" in command) this.activate(command.go[0], columns[command.go[1]]!);
    else this.obey(command.do);
    event.preventDefault();
  }

  private obey(what: (Command & { do: unknown })["do"]): void {
    const { index, column } = this.active;
    if (what === "sort" || what === "sort more") this.sortBy(nextSort(this.layout.sort, column, what === "sort more"));
    else if (what === "menu") this.openMenu(column);
    else if (what === "select") this.select(index, "toggle");
    else if (what === "select to here") this.select(index, "range");
    else if (what === "select all") this.selectAll();
    else if (this.selection.clear()) this.selected();
  }

  // --- selection

  private select(index: number, how: "only" | "toggle" | "range"): void {
    const { selection, sheet } = this;
    const from = selection.anchor === undefined ? undefined : sheet.indexOf(selection.anchor);
    if (how === "only") selection.clear();
    if (how === "range" && from !== undefined) selection.range(sheet, from, index);
    else selection.take(sheet, index, how === "toggle");
    if (how !== "range") selection.anchor = sheet.idAt(index);
    this.selected();
  }

  /** Every row that is here; a table too long to be here whole cannot be selected whole. */
  private selectAll(): void {
    this.selection.range(this.sheet, this.sheet.start, this.sheet.stop - 1);
    this.selected();
  }

  private selected(): void {
    this.asks.select(this.selection.keys);
    this.redraw();
  }

  private click(event: MouseEvent): void {
    const at = this.rows.at(event.target);
    if (!at) return;
    this.activate(at.index, at.column ?? this.active.column);
    const text = this.element.ownerDocument.getSelection();
    if (text && !text.isCollapsed && this.element.contains(text.anchorNode)) return; // text is being selected
    this.select(at.index, event.shiftKey ? "range" : event.ctrlKey || event.metaKey ? "toggle" : "only");
  }

  private copy(event: ClipboardEvent): void {
    if (event.target instanceof Element && event.target.matches("input")) return;
    const text = this.element.ownerDocument.getSelection();
    if (text && !text.isCollapsed && this.element.contains(text.anchorNode)) return; // the browser copies the marked text
    event.clipboardData?.setData("text/plain", this.copied);
    setText(this.said, this.selection.size ? `copied ${this.selection.size} rows` : "copied");
    event.preventDefault();
    event.stopPropagation();
  }

  // --- drawing

  private listen(): void {
    const { element, signal } = this;
    element.addEventListener("scroll", () => this.scrolled(), { signal, passive: true });
    element.addEventListener("keydown", (event) => this.key(event), { signal });
    element.addEventListener("copy", (event) => this.copy(event), { signal });
    this.rows.element.addEventListener("mousedown", (event) => event.shiftKey && event.preventDefault(), { signal });
    this.rows.element.addEventListener("click", (event) => this.click(event), { signal });
    element.addEventListener(
      "focusin",
      (event) => {
        const header = this.head.columnOf(event.target);
        if (header !== undefined && (this.active.index !== HEADER || this.active.column !== header)) {
          this.active = { index: HEADER, id: undefined, column: header };
          this.redraw();
        }
        const at = this.rows.at(event.target);
        if (at?.column !== undefined && (at.index !== this.active.index || at.column !== this.active.column)) {
          this.active = { index: at.index, id: this.sheet.idAt(at.index), column: at.column };
          this.redraw();
        }
      },
      { signal },
    );
    const sizes = new ResizeObserver(() => {
      this.rtl = getComputedStyle(element).direction === "rtl";
      this.redraw();
    });
    sizes.observe(element);
    signal.addEventListener("abort", () => {
      sizes.disconnect();
      for (const timer of [this.asking, this.idle, this.sweeping, this.typing, this.saying]) clearTimeout(timer);
    });
  }

  /** A column's width until a person sets one: worked out once, so that columns do not jump as values come and go. */
  private widthOf(name: string, type: string): number {
    const known = this.guessed.get(name);
    if (known !== undefined) return known;
    const { sheet } = this;
    const texts: string[] = [];
    for (let index = sheet.start; index < Math.min(sheet.stop, sheet.start + 30); index++) {
      texts.push(format(sheet.valueAt(index, name), type).text);
    }
    const width = guessWidth(name, type, texts);
    if (texts.length) this.guessed.set(name, width);
    return width;
  }

  private draw(): void {
    const { element, sheet, rows, active } = this;
    const total = sheet.rows;
    this.sweep();
    const body = rows.element;
    const canvas = `${canvasHeight(total)}px`;
    if (body.style.height !== canvas) body.style.height = canvas;
    const columns = this.columns;
    const width = columns.reduce((sum, column) => sum + column.width, 0);
    if (!columns.some((column) => column.name === active.column)) active.column = columns[0]?.name ?? "";
    if (total === 0 && columns.length) active.index = HEADER;
    // What a scroll bar takes is added, so that the rows above it stay whole.
    const bar = `${element.offsetHeight - element.clientHeight}px`;
    if (this.bar !== bar) element.style.setProperty("--rtw-bar", (this.bar = bar));
    const drawn = inView(columns, Math.abs(element.scrollLeft), element.clientWidth || 800);
    const hadFocus = this.hasFocus();
    this.head.draw({
      columns: drawn.columns,
      gap: drawn.gap,
      width,
      sort: this.layout.sort,
      order: sheet.state.order,
      filters: this.layout.filters,
      filtering: this.filtering,
      active: active.index === HEADER ? active.column : undefined,
    });
    const { height } = this;
    const before = this.position.top;
    this.position.settle(element, total, height, this.follow);
    const { top } = this.position;
    const seen = seenRows(top, height, total);
    const here = seen.start === seen.stop || this.knownRows().length === seen.stop - seen.start;
    this.lacking = here ? Infinity : Math.min(this.lacking, performance.now());
    rows.draw(this.lines(seen, total), {
      sheet,
      flashes: this.flashes,
      columns: drawn.columns,
      gap: drawn.gap,
      width,
      rtl: this.rtl,
      isSelected: (id) => this.selection.has(id),
      active,
    });
    const room = Math.max(canvasHeight(total), height); // more would lengthen what can be scrolled
    this.leaving.draw(body, top - before, (y) => this.position.drawnAt(y, total, room));
    element.setAttribute("aria-rowcount", String(total + 1));
    element.setAttribute("aria-colcount", String(columns.length));
    this.showEmpty(total);
    this.keepFocus(hadFocus);
    // Leaving the very top or coming back to it, the kernel must know whether a row is to be held.
    if (sheet.loaded) this.ask(!this.unsettled && this.anchored !== (this.anchor !== null));
    this.asks.drawn();
  }

  /** The rows to draw: the seen ones with a few around them, and the active cell's, so that the focus has where to be. */
  private lines(seen: Range, total: number): Line[] {
    const start = Math.max(0, seen.start - OVERSCAN);
    const stop = Math.min(total, seen.stop + OVERSCAN);
    const lines: Line[] = [];
    const add = (index: number): void => {
      lines.push({ index, id: this.sheet.idAt(index), y: this.position.yOf(index, total) });
    };
    const { index } = this.active;
    if (index >= 0 && index < start) add(index);
    for (let row = start; row < stop; row++) add(row);
    if (index >= stop && index < total) add(index);
    return lines;
  }

  private showEmpty(total: number): void {
    const { sheet, leaving } = this;
    const all = sheet.state.total;
    this.empty.hidden = total > 0 || leaving.any || (!sheet.loaded && sheet.state.error !== "");
    const narrowed = this.layout.search !== "" || Object.keys(this.layout.filters).length > 0;
    const none = `no rows match · the table holds ${all.toLocaleString("en-US")}`;
    const hidden = sheet.state.looking ? "looking…" : narrowed ? none : "waiting for rows…";
    setText(this.empty, !sheet.loaded ? "waiting for rows…" : all > 0 ? hidden : "no rows");
  }

  private hasFocus(): boolean {
    const root = this.element.getRootNode() as Document | ShadowRoot;
    const focused = root.activeElement ?? null;
    return focused !== null && this.element.contains(focused) && !focused.matches("input");
  }

  /** Rows that change places take the focus off their cells. */
  private keepFocus(had: boolean): void {
    if (!had && !this.refocus) return;
    this.refocus = false;
    const { index, column } = this.active;
    const cell = index === HEADER ? this.head.headerOf(column) : this.rows.cellAt(index, column);
    const root = this.element.getRootNode() as Document | ShadowRoot;
    if (cell && root.activeElement !== cell) cell.focus({ preventScroll: true });
  }

  /** Drops the marks that are over, and draws again when the next one is. */
  private sweep(): void {
    const now = performance.now();
    const next = Math.min(this.flashes.sweep(now) ?? Infinity, this.leaving.sweep(now) ?? Infinity);
    clearTimeout(this.sweeping);
    if (next !== Infinity && !this.signal.aborted) this.sweeping = window.setTimeout(this.redraw, Math.max(20, next - now));
  }
}

