/** How a person or the kernel arranges the grid: sort, search, filters, and the columns' order, widths, pinning and hiding. */
import { type Layout, type Placed, type StoredLayout, moved, place, readLayout, storedLayout } from "./layout";
import type { Entry } from "./menu";
import type { Column, Sheet, Sort } from "./sheet";

/** Milliseconds after the last key in a filter. */
const TYPED = 200;

export interface Arranged {
  /** The layout was changed here, and is to be kept. */
  keep(layout: StoredLayout): void;
  /** Other rows are wanted than those that are here. */
  renew(): void;
  redraw(): void;
  /** The width that shows the column's header and its drawn cells whole. */
  fittingWidth(column: string): number;
}

export class Arrangement {
  readonly layout: Layout;
  /** Whether the row of filters is shown: a filter that is not seen would hide rows unnoticed. */
  filtering: boolean;
  private timer = 0;

  constructor(
    given: unknown,
    private readonly sheet: Sheet,
    private readonly on: Arranged,
    signal: AbortSignal,
  ) {
    this.layout = readLayout(given);
    this.filtering = this.layout.filters.size > 0;
    signal.addEventListener("abort", () => clearTimeout(this.timer));
  }

  /** Arranges as the kernel wants. */
  set(given: unknown): void {
    const rows = (): string => JSON.stringify([this.layout.sort, this.layout.search, [...this.layout.filters]]);
    const before = rows();
    Object.assign(this.layout, readLayout(given));
    if (this.layout.filters.size) this.filtering = true;
    if (rows() !== before) this.on.renew();
    this.on.redraw();
  }

  sortBy(sort: Sort): void {
    this.layout.sort = sort;
    this.changed();
    this.on.renew();
  }

  searchFor(text: string): void {
    if (text === this.layout.search) return;
    this.layout.search = text;
    this.changed();
    this.on.renew();
  }

  setFiltering(on: boolean): void {
    this.filtering = on;
    if (!on && this.layout.filters.size) {
      this.layout.filters.clear();
      this.changed();
      this.on.renew();
    }
    this.on.redraw();
  }

  filterBy(column: string, text: string): void {
    if (text.trim() === "") this.layout.filters.delete(column);
    else this.layout.filters.set(column, text);
    clearTimeout(this.timer);
    this.timer = window.setTimeout(() => {
      this.changed();
      this.on.renew();
    }, TYPED);
  }

  resize(column: string, width: number, done: boolean): void {
    this.layout.widths.set(column, width);
    if (done) this.changed();
    this.on.redraw();
  }

  fit(column: string): void {
    this.resize(column, this.on.fittingWidth(column), true);
  }

  move(column: string, before: string | null): void {
    moveColumn(this.layout, this.sheet.schema, column, before);
    this.changed();
  }

  showAll(): void {
    this.layout.hidden = [];
    this.changed();
  }

  menu(column: string): Entry[] {
    return menuOf(column, this.layout, this.sheet.schema, {
      sort: (sort) => this.sortBy(sort),
      fit: () => this.fit(column),
      changed: () => this.changed(),
    });
  }

  private changed(): void {
    this.on.keep(storedLayout(this.layout));
    this.on.redraw();
  }
}

/** Puts a column before another one, or last. */
function moveColumn(layout: Layout, schema: Column[], column: string, before: string | null): void {
  const all = place(schema, { ...layout, hidden: [] }, () => 0);
  layout.order = moved(all.map((placed) => placed.name), column, before);
  // Dropped among the pinned ones a column is pinned, among the others it is not; at their border it stays what it was.
  const shown = (placed: Placed): boolean => !layout.hidden.includes(placed.name) && placed.name !== column;
  const firstFree = all.find((placed) => !placed.pinned && shown(placed))?.name ?? null;
  const others = layout.pinned.filter((name) => name !== column);
  if (before !== null && layout.pinned.includes(before)) layout.pinned = [...others, column];
  else if (before !== firstFree) layout.pinned = others;
}

interface MenuActions {
  sort(sort: Sort): void;
  fit(): void;
  /** The layout was changed. */
  changed(): void;
}

function menuOf(column: string, layout: Layout, schema: Column[], act: MenuActions): Entry[] {
  const now = layout.sort.find(([name]) => name === column);
  const others = layout.sort.filter(([name]) => name !== column);
  const pinned = layout.pinned.includes(column);
  const hidden = schema.map(([name]) => name).filter((name) => layout.hidden.includes(name));
  const change = (what: () => void) => (): void => {
    what();
    act.changed();
  };
  const entries: Entry[] = [
    { text: "Sort ascending", checked: now !== undefined && !now[1], run: () => act.sort([...others, [column, false]]) },
    { text: "Sort descending", checked: now !== undefined && now[1], run: () => act.sort([...others, [column, true]]) },
    { text: "No sort", run: () => act.sort(others) },
    {
      text: "Pin left",
      checked: pinned,
      rule: true,
      run: change(() => {
        layout.pinned = pinned ? layout.pinned.filter((name) => name !== column) : [...layout.pinned, column];
      }),
    },
    { text: "Fit width", run: () => act.fit() },
  ];
  // The last column stays: without a header there would be no menu to bring the others back.
  if (hidden.length < schema.length - 1) entries.push({ text: "Hide", run: change(() => layout.hidden.push(column)) });
  hidden.forEach((name, i) => {
    const run = change(() => (layout.hidden = layout.hidden.filter((other) => other !== name)));
    entries.push({ text: `Show ${name}`, rule: i === 0, run });
  });
  if (hidden.length > 1) entries.push({ text: "Show all columns", run: change(() => (layout.hidden = [])) });
  return entries;
}
