/** The seen rows as elements, reused from row to row; only what differs is written. */
import { h } from "../core/dom";
import { type Shown, format, kindOf } from "./format";
import type { Flashes } from "./flash";
import type { Placed } from "./layout";
import type { Sheet } from "./sheet";

interface Cell {
  element: HTMLElement;
  text: string;
  title: string;
  classes: string;
  style: string;
  beat: 0 | 1 | undefined;
  column: string;
  place: number;
}

interface Row {
  element: HTMLElement;
  cells: Cell[];
  gap: HTMLElement;
  y: number;
  index: number;
  classes: string;
  selected: boolean | undefined;
}

/** One row to draw; without an id it is a place whose row the kernel has not sent yet. */
export interface Line {
  index: number;
  id: string | undefined;
  y: number;
}

export interface Look {
  sheet: Sheet;
  flashes: Flashes;
  columns: Placed[];
  gap: number;
  width: number;
  rtl: boolean;
  isSelected(id: string): boolean;
  /** Where the grid's one tab stop is. */
  active: { index: number; column: string };
}

const WAITING: Shown = { text: "…", title: "", mark: "" };

export class Rows {
  readonly element = h("div", { class: "rtw-body", role: "rowgroup" });
  private drawn = new Map<string, Row>();
  private spare: Row[] = [];
  private places = new WeakMap<Element, { row: Row; cell?: Cell }>();

  draw(lines: Line[], look: Look): void {
    const name = (line: Line): string => line.id ?? `at ${line.index}`;
    const wanted = new Set(lines.map(name));
    for (const [id, row] of this.drawn) {
      if (wanted.has(id)) continue;
      this.drawn.delete(id);
      this.spare.push(row);
      row.element.remove();
    }
    let next = this.element.firstElementChild;
    for (const line of lines) {
      let row = this.drawn.get(name(line));
      if (!row) {
        row = this.spare.pop() ?? this.make();
        this.drawn.set(name(line), row);
      }
      this.write(row, line, look);
      // Screen readers go by the order of the elements.
      if (row.element === next) next = next.nextElementSibling;
      else this.element.insertBefore(row.element, next);
    }
    this.spare.length = Math.min(this.spare.length, 40);
  }

  /** The row and column that an element of the body belongs to. */
  at(target: EventTarget | null): { index: number; column: string | undefined } | undefined {
    let element = target instanceof Element ? target : null;
    let column: string | undefined;
    while (element && element !== this.element) {
      const found = this.places.get(element);
      column ??= found?.cell?.column;
      if (found && !found.cell) return { index: found.row.index, column };
      element = element.parentElement;
    }
    return undefined;
  }

  cellAt(index: number, column: string): HTMLElement | undefined {
    for (const row of this.drawn.values()) {
      if (row.index === index) return row.cells.find((cell) => cell.column === column)?.element;
    }
    return undefined;
  }

  cellsOf(column: string): HTMLElement[] {
    const all = [...this.drawn.values()].map((row) => row.cells.find((cell) => cell.column === column)?.element);
    return all.filter((element) => element !== undefined);
  }

  /** A picture of a drawn row, for the eyes only. */
  pictureOf(id: string): HTMLElement | undefined {
    const row = this.drawn.get(id)?.element;
    if (!row) return undefined;
    const picture = row.cloneNode(true) as HTMLElement;
    for (const element of [picture, ...picture.querySelectorAll<HTMLElement>("*")]) {
      for (const { name } of [...element.attributes]) {
        if (name !== "class" && name !== "style" && name !== "dir") element.removeAttribute(name);
      }
      element.classList.remove("rtw-flash");
    }
    picture.className = "rtw-row rtw-leaving";
    picture.setAttribute("aria-hidden", "true");
    return picture;
  }

  private make(): Row {
    const gap = h("div", { class: "rtw-gap", role: "presentation" });
    const element = h("div", { role: "row" });
    const row: Row = { element, cells: [], gap, y: NaN, index: -1, classes: "", selected: undefined };
    this.places.set(row.element, { row });
    return row;
  }

  private write(row: Row, line: Line, look: Look): void {
    const { element } = row;
    if (row.y !== line.y) element.style.transform = `translateY(${(row.y = line.y)}px)`;
    element.style.width = `${look.width}px`;
    if (row.index !== line.index) element.setAttribute("aria-rowindex", String((row.index = line.index) + 2));
    const selected = line.id !== undefined && look.isSelected(line.id);
    const fresh = line.id !== undefined && look.flashes.isNew(line.id);
    const classes = `rtw-row${line.id === undefined ? " rtw-wait" : ""}${fresh ? " rtw-new" : ""}${selected ? " rtw-selected" : ""}`;
    if (row.classes !== classes) element.className = row.classes = classes;
    if (row.selected !== selected) element.setAttribute("aria-selected", String((row.selected = selected)));
    let pinned = 0;
    look.columns.forEach((column, i) => {
      if (column.pinned) pinned = i + 1;
      const cell = row.cells[i] ?? this.add(row);
      this.fill(cell, column, line, look);
    });
    while (row.cells.length > look.columns.length) row.cells.pop()!.element.remove();
    if (look.gap > 0) {
      row.gap.style.width = `${look.gap}px`;
      const before = row.cells[pinned]?.element ?? null;
      if (row.gap.parentElement !== element || row.gap.nextElementSibling !== before) element.insertBefore(row.gap, before);
    } else row.gap.remove();
  }

  private add(row: Row): Cell {
    const element = h("div", { role: "gridcell", dir: "auto", tabindex: -1 });
    const cell: Cell = { element, text: "", title: "", classes: "", style: "", beat: undefined, column: "", place: -1 };
    row.cells.push(cell);
    row.element.append(element);
    this.places.set(element, { row, cell });
    return cell;
  }

  private fill(cell: Cell, column: Placed, line: Line, look: Look): void {
    const { element } = cell;
    const { id, index } = line;
    const shown = id === undefined ? WAITING : format(look.sheet.valueAt(index, column.name), column.type, look.sheet.cutAt(index, column.name));
    const beat = id === undefined ? undefined : look.flashes.beatOf(id, column.name);
    const active = look.active.index === index && look.active.column === column.name;
    let classes = `rtw-cell rtw-k-${kindOf(column.type)}`;
    if (shown.mark) classes += ` ${shown.mark}`;
    if (beat !== undefined) classes += " rtw-flash";
    if (column.pinned) classes += " rtw-pinned";
    if (cell.text !== shown.text) element.textContent = cell.text = shown.text;
    if (cell.title !== shown.title) {
      cell.title = shown.title;
      if (shown.title) element.title = shown.title;
      else element.removeAttribute("title");
    }
    if (cell.beat !== beat) element.dataset.beat = String((cell.beat = beat) ?? "");
    if (cell.classes !== classes) element.className = cell.classes = classes;
    // By the grid's direction: the cell's own is that of its text.
    const style = `width:${column.width}px${column.pinned ? `;${look.rtl ? "right" : "left"}:${column.x}px` : ""}`;
    if (cell.style !== style) element.style.cssText = cell.style = style;
    cell.column = column.name;
    if (cell.place !== column.place) element.setAttribute("aria-colindex", String((cell.place = column.place) + 1));
    const stop = active ? 0 : -1;
    if (element.tabIndex !== stop) element.tabIndex = stop;
  }
}
