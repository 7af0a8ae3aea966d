/** The header row: names, sorting, widths and order by pointer, a menu a column, and the row of filters under it. */
import { h, setAttribute, setText } from "../core/dom";
import { kindOf } from "./format";
import { NARROWEST, type Placed, WIDEST } from "./layout";
import { clamp } from "./window";
import type { Sort } from "./sheet";

export interface HeadLook {
  columns: Placed[];
  gap: number;
  width: number;
  sort: Sort;
  /** The order that rows have without the view's own sort. */
  order: Sort;
  filters: ReadonlyMap<string, string>;
  filtering: boolean;
  /** The column whose header is the grid's tab stop. */
  active: string | undefined;
}

export interface HeadActions {
  sort(column: string, add: boolean): void;
  resize(column: string, width: number, done: boolean): void;
  fit(column: string): void;
  move(column: string, before: string | null): void;
  menu(column: string): void;
  filter(column: string, text: string): void;
  focus(column: string): void;
}

interface Header {
  element: HTMLElement;
  label: HTMLElement;
  filter: HTMLElement;
  input: HTMLInputElement;
  column: Placed;
}

/** Pixels that a pointer has to go before a press becomes a drag. */
const DRAG = 6;

export class Head {
  readonly row = h("div", { class: "rtw-row", role: "row", "aria-rowindex": 1 });
  readonly filters = h("div", { class: "rtw-row rtw-filters", hidden: true });
  readonly element = h("div", { class: "rtw-head", role: "rowgroup" }, this.row, this.filters);
  private readonly marker = h("div", { class: "rtw-marker", hidden: true });
  private readonly gaps = [h("div", { class: "rtw-gap", role: "presentation" }), h("div", { class: "rtw-gap" })] as const;
  private headers = new Map<string, Header>();
  private shown: Placed[] = [];
  private dragged = false;

  constructor(private readonly act: HeadActions) {
    this.element.append(this.marker);
  }

  draw(look: HeadLook): void {
    this.shown = look.columns;
    const names = new Set(look.columns.map((column) => column.name));
    for (const [name, header] of this.headers) {
      if (names.has(name)) continue;
      header.element.remove();
      header.filter.remove();
      this.headers.delete(name);
    }
    this.row.style.width = this.filters.style.width = `${look.width}px`;
    this.filters.hidden = !look.filtering;
    this.row.hidden = look.columns.length === 0; // a row without cells is none
    let after: [Element | null, Element | null] = [null, null];
    const put = (i: 0 | 1, element: Element): void => {
      const parent = i === 0 ? this.row : this.filters;
      const next = after[i] ? after[i]!.nextElementSibling : parent.firstElementChild;
      if (next !== element) parent.insertBefore(element, next);
      after[i] = element;
    };
    const own = look.sort.length > 0;
    const sort = own ? look.sort : look.order;
    let gapDone = look.gap <= 0;
    if (gapDone) for (const gap of this.gaps) gap.remove();
    for (const column of look.columns) {
      if (!gapDone && !column.pinned) {
        gapDone = true;
        this.gaps.forEach((gap, i) => {
          gap.style.width = `${look.gap}px`;
          put(i as 0 | 1, gap);
        });
      }
      const header = this.headers.get(column.name) ?? this.make(column);
      header.column = column;
      put(0, header.element);
      put(1, header.filter);
      const at = sort.findIndex(([name]) => name === column.name);
      setAttribute(header.element, "aria-sort", at < 0 ? null : sort[at]![1] ? "descending" : "ascending");
      setAttribute(header.element, "aria-colindex", String(column.place + 1));
      setAttribute(header.element, "data-nth", at >= 0 && sort.length > 1 ? String(at + 1) : null);
      header.element.classList.toggle("rtw-given", at >= 0 && !own);
      header.element.classList.toggle("rtw-k-number", kindOf(column.type) === "number");
      for (const element of [header.element, header.filter]) {
        element.classList.toggle("rtw-pinned", column.pinned);
        element.style.width = `${column.width}px`;
        element.style.insetInlineStart = column.pinned ? `${column.x}px` : "";
      }
      header.element.tabIndex = look.active === column.name ? 0 : -1;
      const filter = look.filters.get(column.name) ?? "";
      if (!header.input.matches(":focus") && header.input.value !== filter) header.input.value = filter;
    }
  }

  headerOf(column: string): HTMLElement | undefined {
    return this.headers.get(column)?.element;
  }

  /** The column whose header this is. */
  columnOf(element: EventTarget | null): string | undefined {
    for (const [name, header] of this.headers) if (header.element === element) return name;
    return undefined;
  }

  /** Width of a header's name, as far as it was laid out. */
  labelWidth(column: string): number {
    return this.headers.get(column)?.label.scrollWidth ?? 0;
  }

  private make(column: Placed): Header {
    const { name } = column;
    const label = h("span", { class: "rtw-label", dir: "auto" });
    setText(label, name);
    // A plain element and not a button: inside a header that is itself a stop of the keyboard, it would be read twice.
    const menu = h("span", { class: "rtw-menu-button", "aria-hidden": true, title: "column menu (Alt+↓)" });
    const edge = h("span", { class: "rtw-edge", "aria-hidden": true });
    const element = h("div", { class: "rtw-header", role: "columnheader", "aria-haspopup": "menu", tabindex: -1 }, label, menu, edge);
    element.title = `${name}: ${column.type}`;
    const input = h("input", { type: "text", "aria-label": `filter ${name}`, placeholder: "filter", spellcheck: "false" });
    input.title = "text · =x · !=x · >5 <5 >=5 <=5 · between 5 and 9 · in (a, b) · a|b · null · not null";
    const filter = h("div", { class: "rtw-below" }, input);
    const header: Header = { element, label, filter, input, column };
    this.headers.set(name, header);
    input.addEventListener("input", () => this.act.filter(name, input.value));
    element.addEventListener("click", (event) => {
      if (this.dragged) return;
      if (event.target === menu) return this.act.menu(name);
      this.act.focus(name);
      if (event.target !== edge) this.act.sort(name, event.shiftKey);
    });
    element.addEventListener("contextmenu", (event) => {
      event.preventDefault();
      event.stopPropagation(); // the notebook has a menu of its own
      this.act.menu(name);
    });
    edge.addEventListener("dblclick", () => this.act.fit(name));
    edge.addEventListener("pointerdown", (event) => this.resize(event, header));
    element.addEventListener("pointerdown", (event) => {
      if (event.target !== edge && event.target !== menu && event.button === 0) this.drag(event, header);
    });
    return header;
  }

  private resize(event: PointerEvent, header: Header): void {
    event.preventDefault();
    event.stopPropagation();
    const { name, width } = header.column;
    const sign = getComputedStyle(this.element).direction === "rtl" ? -1 : 1;
    const at = (now: PointerEvent): number => Math.round(clamp(width + sign * (now.clientX - event.clientX), NARROWEST, WIDEST));
    let went = false;
    follow(event, header.element, {
      move: (now) => {
        went = went || now.clientX !== event.clientX;
        if (went) this.act.resize(name, at(now), false);
      },
      end: (now) => {
        if (went && now) this.act.resize(name, at(now), true);
        this.afterDrag(went);
      },
    });
  }

  private drag(event: PointerEvent, header: Header): void {
    let went = false;
    let before: string | null | undefined;
    follow(event, header.element, {
      move: (now) => {
        went = went || Math.abs(now.clientX - event.clientX) > DRAG;
        if (!went) return;
        header.element.classList.add("rtw-dragged");
        before = this.mark(now.clientX);
      },
      end: (now) => {
        header.element.classList.remove("rtw-dragged");
        this.marker.hidden = true;
        if (went && now && before !== undefined && before !== header.column.name) this.act.move(header.column.name, before);
        this.afterDrag(went);
      },
    });
  }

  /** A click follows the end of a drag; it must not sort. */
  private afterDrag(went: boolean): void {
    if (!went) return;
    this.dragged = true;
    setTimeout(() => (this.dragged = false), 0);
  }

  /** Shows where a dragged header would go: before which column, or null for the end. */
  private mark(x: number): string | null {
    const rtl = getComputedStyle(this.element).direction === "rtl";
    const head = this.element.getBoundingClientRect();
    let before: string | null = null;
    let line = 0;
    for (const { name } of this.shown) {
      const box = this.headers.get(name)!.element.getBoundingClientRect();
      line = rtl ? box.left : box.right;
      const middle = (box.left + box.right) / 2;
      if (rtl ? x > middle : x < middle) {
        before = name;
        line = rtl ? box.right : box.left;
        break;
      }
    }
    this.marker.hidden = false;
    this.marker.style.left = `${line - head.left}px`;
    return before;
  }
}

/** Follows a pressed pointer until it is released or lost; the element captures it. */
function follow(
  event: PointerEvent,
  element: HTMLElement,
  to: { move(event: PointerEvent): void; end(event: PointerEvent | null): void },
): void {
  const over = new AbortController();
  const { signal } = over;
  // Captured only from the first move on: the click of a captured pointer goes to the element, not to the button under it.
  let captured = false;
  const owner = element.ownerDocument;
  const move = (now: PointerEvent): void => {
    if (!captured && element.setPointerCapture) {
      captured = true;
      try {
        element.setPointerCapture(event.pointerId);
      } catch {
        // The pointer is gone already.
      }
    }
    to.move(now);
  };
  owner.addEventListener("pointermove", move, { signal });
  owner.addEventListener("pointerup", (now) => (over.abort(), to.end(now)), { signal });
  owner.addEventListener("pointercancel", () => (over.abort(), to.end(null)), { signal });
}
