/**
 * The grid: a scroll container that draws the rows seen of a list as long as the table.
 *
 * It never waits for the kernel. What it has it shows, what it lacks it asks for, and until that comes the rows are marked as
 * not there. Where the view stands, the active cell and the selection go by the rows' keys, so they stay on their rows while
 * others come and go around them.
 */
import { h, perFrame, setText } from "../core/dom";
import { Flashes } from "./flash";
import { format } from "./format";
import { Head } from "./head";
import { type Layout, NARROWEST, type Placed, WIDEST, guessWidth, inView, moved, nextSort, place, readLayout } from "./layout";
import { type Entry, Menu } from "./menu";
import { type Line, Rows } from "./rows";
import { Selection, tsv, valuesAt } from "./select";
import { Sheet, type Sort, type TableFrame } from "./sheet";
import { MOST, ROW, type Range, canvasHeight, clamp, isNear, isScaled, lastTop, movedTop, reach, scrollFor, seenRows, shiftOf } from "./window";

export interface Wants {
  start: number;
  stop: number;
  sort: Sort;
  search: string;
  filters: Record<string, string>;
  /** The view follows the end: a kernel that knows the word need not wait to be asked for the next rows. */
  tail: boolean;
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
const HEADER = -1;

export class Grid {
  readonly sheet = new Sheet();
  readonly layout: Layout;
  readonly element: HTMLElement;
  readonly pane: HTMLElement;
  readonly selection = new Selection();
  search = "";
  filters: Record<string, string> = {};
  filtering = false;
  follow = false;

  private readonly empty = h("div", { class: "rtw-empty", hidden: true });
  /** For screen readers only. */
  private readonly said = h("div", { class: "rtw-said", role: "status" });
  private readonly rows = new Rows();
  private readonly head: Head;
  private readonly menu: Menu;
  private readonly flashes = new Flashes();
  private readonly guessed = new Map<string, number>();
  private top = 0;
  /** What the scroll bar said last. */
  private scroll = 0;
  /** The scroll bar has to be set to where the view stands. */
  private aim = false;
  private asked: Range = { start: 0, stop: 3 * ROWS };
  private askedAt = -Infinity;
  private asking = 0;
  private idle = 0;
  private sweeping = 0;
  /** Sort, search or filters changed and the rows are not here yet: what comes then did not arrive, it was asked for. */
  private unsettled = false;
  private active: { index: number; id: string | undefined; column: string } = { index: 0, id: undefined, column: "" };
  private refocus = false;
  private rtl = false;
  private typing = 0;
  private saying = 0;
  /** Since when seen rows are not here. */
  private lacking = Infinity;
  readonly redraw: () => void;

  constructor(layout: unknown, private readonly asks: Asks, private readonly signal: AbortSignal) {
    this.layout = readLayout(layout);
    this.menu = new Menu(signal);
    this.head = new Head({
      sort: (column, add) => this.sortBy(nextSort(this.layout.sort, column, add)),
      resize: (column, width, done) => this.resize(column, width, done),
      fit: (column) => this.fit(column),
      move: (column, before) => this.moveColumn(column, before),
      menu: (column, at) => this.openMenu(column, at),
      filter: (column, text) => this.filterBy(column, text),
      focus: (column) => this.activate(HEADER, column),
    });
    this.element = h("div", { class: "rtw-grid", role: "grid", "aria-label": "live table", "aria-multiselectable": "true" }, this.head.element, this.rows.element);
    this.pane = h("div", { class: "rtw-pane" }, this.element, this.empty, this.menu.element, this.said);
    this.redraw = perFrame(() => this.draw(), signal);
    this.listen();
  }

  /** What the view shows, for the kernel. */
  get wants(): Wants {
    const { search, filters, follow } = this;
    return { ...this.asked, sort: this.layout.sort, search, filters, tail: follow };
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
    const changes = this.sheet.take(frame);
    const now = performance.now();
    this.flashes.sweep(now);
    for (const [id, column] of changes.cells) this.flashes.cell(id, column, now);
    if (!this.unsettled && !changes.reordered) {
      for (const id of changes.arrived) this.flashes.row(id, now);
      // At the very top the newest rows are what one wants to see.
      if (changes.window && !this.follow && this.top > 0) this.shift(shiftOf(seen, (id) => this.sheet.indexOf(id)));
    }
    // An answer that is the same as what was there is not sent.
    if (changes.window || now > this.askedAt + SETTLED) this.unsettled = false;
    if (changes.window) this.settleActive();
    this.selection.refresh(this.sheet);
    const { active } = this;
    if (changes.cells.some(([id, column]) => id === active.id && column === active.column) && this.hasFocus()) this.sayActive();
    this.redraw();
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
    const sort = JSON.stringify(this.layout.sort);
    Object.assign(this.layout, readLayout(given));
    if (JSON.stringify(this.layout.sort) !== sort) this.askAnew();
    this.redraw();
  }

  searchFor(text: string): void {
    if (text === this.search) return;
    this.search = text;
    this.askAnew();
  }

  setFollow(on: boolean): void {
    this.follow = on;
    if (on) this.top = lastTop(this.sheet.rows, this.height);
    this.redraw();
    this.ask(true);
  }

  setFiltering(on: boolean): void {
    this.filtering = on;
    if (!on && Object.keys(this.filters).length) {
      this.filters = {};
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
    const { [column]: _, ...others } = this.filters;
    this.filters = text.trim() === "" ? others : { ...others, [column]: text };
    clearTimeout(this.typing);
    this.typing = window.setTimeout(() => this.askAnew(), TYPED);
  }

  private resize(column: string, width: number, done: boolean): void {
    this.layout.widths[column] = width;
    if (done) this.arranged();
    this.redraw();
  }

  private fit(column: string): void {
    const texts = this.rows.cellsOf(column);
    const measure = document.createRange();
    const wide = texts.map((cell) => {
      measure.selectNodeContents(cell);
      return measure.getBoundingClientRect?.().width ?? 0;
    });
    const type = this.sheet.typeOf(column);
    const content = Math.max(0, ...wide);
    const label = this.head.labelWidth(column);
    const width = content || label ? Math.max(content + 18, label + 44) : guessWidth(column, type, texts.map((cell) => cell.textContent ?? ""));
    this.resize(column, Math.round(clamp(width, NARROWEST, WIDEST)), true);
  }

  private moveColumn(column: string, before: string | null): void {
    const { layout, columns } = this;
    const all = place(this.sheet.schema, { ...layout, hidden: [] }, () => 0).map((placed) => placed.name);
    layout.order = moved(all, column, before);
    // A column dropped among the pinned ones is pinned, one dropped among the others is not; at the border it stays what it was.
    const firstFree = columns.find((placed) => !placed.pinned && placed.name !== column)?.name ?? null;
    const others = layout.pinned.filter((name) => name !== column);
    if (before !== null && layout.pinned.includes(before)) layout.pinned = [...others, column];
    else if (before !== firstFree) layout.pinned = others;
    this.arranged();
    this.redraw();
  }

  private openMenu(column: string, at: HTMLElement): void {
    const { layout } = this;
    this.active = { index: HEADER, id: undefined, column };
    this.refocus = false; // the menu has it now
    this.redraw();
    const now = layout.sort.find(([name]) => name === column);
    const others = layout.sort.filter(([name]) => name !== column);
    const pinned = layout.pinned.includes(column);
    const change = (what: () => void) => (): void => {
      what();
      this.arranged();
      this.redraw();
    };
    const last = this.columns.length <= 1;
    const hidden = layout.hidden.filter((name) => this.sheet.schema.some(([other]) => other === name));
    const entries: Entry[] = [
      { text: "Sort ascending", checked: now !== undefined && !now[1], run: () => this.sortBy([...others, [column, false]]) },
      { text: "Sort descending", checked: now !== undefined && now[1], run: () => this.sortBy([...others, [column, true]]) },
      { text: "No sort", run: () => this.sortBy(others) },
      {
        text: "Pin left",
        checked: pinned,
        rule: true,
        run: change(() => (layout.pinned = pinned ? layout.pinned.filter((name) => name !== column) : [...layout.pinned, column])),
      },
      { text: "Fit width", run: () => this.fit(column) },
      ...(last ? [] : [{ text: "Hide", run: change(() => layout.hidden.push(column)) }]),
      ...hidden.map((name, i) => ({
        text: `Show ${name}`,
        rule: i === 0,
        run: change(() => (layout.hidden = layout.hidden.filter((other) => other !== name))),
      })),
    ];
    if (hidden.length > 1) entries.push({ text: "Show all columns", run: change(() => (layout.hidden = [])) });
    this.menu.open(at, `column ${column}`, entries, () => this.activate(HEADER, this.active.column));
  }

  private arranged(): void {
    this.asks.layout(structuredClone(this.layout));
  }

  // --- asking

  /** Other rows are wanted than those that are here. */
  private askAnew(): void {
    this.unsettled = true;
    // Who sorts or searches wants to see what comes first.
    this.top = 0;
    this.aim = true;
    this.ask(true);
    this.redraw();
  }

  private ask(now: boolean): void {
    const seen = seenRows(this.top, this.height, this.sheet.rows);
    if (!now && !isNear(seen, this.asked, this.screen, this.sheet.rows)) return;
    if (this.asking) return;
    const wait = Math.max(0, this.askedAt + ASK_EVERY - performance.now());
    this.asking = window.setTimeout(() => {
      this.asking = 0;
      this.askedAt = performance.now();
      this.asked = reach(seenRows(this.top, this.height, this.sheet.rows), this.screen);
      this.asks.want(this.wants);
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

  private shift(rows: number): void {
    if (!rows) return;
    this.top = Math.max(0, this.top + rows * ROW);
    this.aim = true;
  }

  /** The seen rows whose keys are known. */
  private knownRows(): [id: string, index: number][] {
    const { start, stop } = seenRows(this.top, this.height, this.sheet.rows);
    const known: [string, number][] = [];
    for (let index = start; index < stop; index++) {
      const id = this.sheet.idAt(index);
      if (id !== undefined) known.push([id, index]);
    }
    return known;
  }

  private scrolled(): void {
    const { clientHeight, scrollTop } = this.element;
    if (clientHeight === 0 && this.element.isConnected && this.element.offsetParent === null && scrollTop === 0) return; // hidden
    const total = this.sheet.rows;
    const { height } = this;
    if (scrollTop !== this.scroll) {
      const pending = this.aim;
      const before = this.top;
      this.top = movedTop(this.top, this.scroll, scrollTop, total, height);
      const atEnd = scrollTop <= 0 || scrollTop >= canvasHeight(total) - height - 1;
      this.aim = pending || (isScaled(total) && atEnd);
      this.scroll = scrollTop;
      // Scrolling up lets go of the end; the browser's own correction after rows went does not.
      if (this.follow && this.top < before && this.top < lastTop(total, height) - ROW) this.setFollow(false);
      if (isScaled(total)) {
        clearTimeout(this.idle);
        this.idle = window.setTimeout(() => {
          this.aim = true;
          this.redraw();
        }, IDLE);
      }
    }
    this.redraw();
  }

  private reveal(index: number): void {
    const { height } = this;
    const y = index * ROW;
    if (y < this.top) this.top = y;
    else if (y + ROW > this.top + height) this.top = y + ROW - height;
    else return;
    this.aim = true;
  }

  private revealColumn(name: string): void {
    const { columns, element } = this;
    const column = columns.find((other) => other.name === name);
    if (!column || column.pinned) return;
    const pinned = columns.reduce((sum, other) => sum + (other.pinned ? other.width : 0), 0);
    const sign = this.rtl ? -1 : 1;
    const left = Math.abs(element.scrollLeft);
    if (column.x - pinned < left) element.scrollLeft = sign * (column.x - pinned);
    else if (column.x + column.width > left + element.clientWidth) element.scrollLeft = sign * (column.x + column.width - element.clientWidth);
  }

  // --- the active cell

  private activate(index: number, column: string): void {
    const id = index === HEADER ? undefined : this.sheet.idAt(index);
    this.active = { index, id, column };
    if (index !== HEADER) this.reveal(index);
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
    const inInput = event.target instanceof Element && event.target.matches("input");
    if (inInput) {
      event.stopPropagation();
      return;
    }
    const columns = this.columns.map((column) => column.name);
    const { index, column } = this.active;
    const at = Math.max(0, columns.indexOf(column));
    const last = this.sheet.rows - 1;
    const jump = event.ctrlKey || event.metaKey;
    const row = (to: number): void => this.activate(clamp(to, index === HEADER ? HEADER : 0, last), columns[at]!);
    const col = (to: number): void => this.activate(index, columns[clamp(to, 0, columns.length - 1)]!);
    if (!columns.length) return;
    if (event.altKey && event.key !== "ArrowDown") return;
    switch (event.key) {
      case "ArrowDown":
        if (index === HEADER && (event.altKey || jump)) this.openMenu(column, this.head.headerOf(column) ?? this.element);
        else this.activate(clamp(jump ? last : index + 1, HEADER, last), columns[at]!);
        break;
      case "ArrowUp":
        if (jump || index === 0) this.activate(HEADER, columns[at]!);
        else row(index - 1);
        break;
      case "ArrowLeft":
      case "ArrowRight":
        if ((event.key === "ArrowRight") !== this.rtl) col(jump ? columns.length - 1 : at + 1);
        else col(jump ? 0 : at - 1);
        break;
      case "Home":
        if (jump) this.activate(last < 0 ? HEADER : 0, columns[0]!);
        else col(0);
        break;
      case "End":
        if (jump) this.activate(last < 0 ? HEADER : last, columns.at(-1)!);
        else col(columns.length - 1);
        break;
      case "PageDown":
        row(index + Math.max(1, Math.floor(this.height / ROW) - 1));
        break;
      case "PageUp":
        if (index !== HEADER) this.activate(clamp(index - Math.max(1, Math.floor(this.height / ROW) - 1), 0, last), columns[at]!);
        break;
      case "Enter":
        if (index !== HEADER) return;
        this.sortBy(nextSort(this.layout.sort, column, event.shiftKey));
        break;
      case " ":
        if (index === HEADER) this.sortBy(nextSort(this.layout.sort, column, event.shiftKey));
        else this.select(index, event.shiftKey ? "range" : "toggle");
        break;
      case "a":
        if (!jump) return;
        this.selectAll();
        break;
      case "Escape":
        if (!this.selection.clear()) return;
        this.selected();
        break;
      case "ContextMenu":
      case "F10":
        if (index !== HEADER || (event.key === "F10" && !event.shiftKey)) return;
        this.openMenu(column, this.head.headerOf(column) ?? this.element);
        break;
      default:
        return;
    }
    event.preventDefault();
    event.stopPropagation();
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
    const drawn = inView(columns, Math.abs(element.scrollLeft), element.clientWidth || 800);
    const hadFocus = this.hasFocus();
    this.head.draw({
      columns: drawn.columns,
      gap: drawn.gap,
      width,
      sort: this.layout.sort,
      order: sheet.state.order,
      filters: this.filters,
      filtering: this.filtering,
      active: active.index === HEADER ? active.column : undefined,
    });
    const { height } = this;
    const end = lastTop(total, height);
    const top = this.follow ? end : clamp(this.top, 0, end);
    if (top !== this.top) this.aim = true;
    this.top = top;
    if (this.aim) this.setScroll(scrollFor(top, total, height));
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
    element.setAttribute("aria-rowcount", String(total + 1));
    element.setAttribute("aria-colcount", String(columns.length));
    this.showEmpty(total);
    this.keepFocus(hadFocus);
    if (sheet.loaded) this.ask(false);
    this.asks.drawn();
  }

  private setScroll(scroll: number): void {
    this.aim = false;
    if (Math.abs(this.element.scrollTop - scroll) > 0.5) this.element.scrollTop = scroll;
    this.scroll = this.element.scrollTop;
  }

  /** The rows to draw: the seen ones with a few around them, and the active cell's, so that the focus has where to be. */
  private lines(seen: Range, total: number): Line[] {
    const start = Math.max(0, seen.start - OVERSCAN);
    const stop = Math.min(total, seen.stop + OVERSCAN);
    const offset = isScaled(total) ? this.scroll - this.top : 0;
    const most = canvasHeight(total) - ROW;
    const lines: Line[] = [];
    const add = (index: number): void => {
      lines.push({ index, id: this.sheet.idAt(index), y: clamp(index * ROW + offset, 0, most) });
    };
    const { index } = this.active;
    if (index >= 0 && index < start) add(index);
    for (let row = start; row < stop; row++) add(row);
    if (index >= stop && index < total) add(index);
    return lines;
  }

  private showEmpty(total: number): void {
    const { sheet } = this;
    const narrowed = this.search !== "" || Object.keys(this.filters).length > 0;
    this.empty.hidden = total > 0 || (!sheet.loaded && sheet.state.error !== "");
    setText(this.empty, !sheet.loaded ? "waiting for rows…" : narrowed ? "no rows match" : "no rows");
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
    const next = this.flashes.sweep(now);
    clearTimeout(this.sweeping);
    if (next !== undefined && !this.signal.aborted) this.sweeping = window.setTimeout(this.redraw, Math.max(20, next - now));
  }
}

