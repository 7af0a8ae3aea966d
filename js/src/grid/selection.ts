/** Selected rows, by key: they may be rows that the page has never seen. */
import { type Sheet, idOf } from "./sheet";

export class Selection {
  private rows = new Map<string, unknown>();
  /** The row where a range begins. */
  anchor: { id: string; key: unknown } | undefined;
  /** Whether the one selected row is only the row of the cell that was clicked: then copying means the cell. */
  implied = false;

  get size(): number {
    return this.rows.size;
  }

  get keys(): unknown[] {
    return [...this.rows.values()];
  }

  get ids(): string[] {
    return [...this.rows.keys()];
  }

  has(id: string): boolean {
    return this.rows.has(id);
  }

  set(keys: unknown[]): void {
    this.rows = new Map(keys.map((key) => [idOf(key), key]));
    this.implied = false;
  }

  clear(): boolean {
    const had = this.rows.size > 0;
    this.rows.clear();
    this.implied = false;
    return had;
  }

  /** Selects only the row at a place, as a click on one of its cells does. */
  only(sheet: Sheet, index: number): void {
    this.clear();
    this.add(sheet, index);
    this.setAnchor(sheet, index);
    this.implied = true;
  }

  /** Selects the row at a place, or deselects it. */
  toggle(sheet: Sheet, index: number): void {
    const id = sheet.idAt(index);
    this.implied = false;
    if (id !== undefined && !this.rows.delete(id)) this.add(sheet, index);
    this.setAnchor(sheet, index);
  }

  /** Selects only the known rows from one place to another; returns whether the page knows all of them. */
  range(sheet: Sheet, from: number, to: number): boolean {
    const [first, last] = from < to ? [from, to] : [to, from];
    const [start, stop] = [Math.max(first, sheet.start), Math.min(last + 1, sheet.stop)];
    this.rows.clear();
    for (let index = start; index < stop; index++) this.add(sheet, index);
    this.implied = false;
    return start === first && stop === last + 1;
  }

  /** The places of the selected rows that the page knows, in order. */
  places(sheet: Sheet): number[] {
    const found = [...this.rows.keys()].map((id) => sheet.indexOf(id)).filter((index) => index !== undefined);
    return found.sort((a, b) => a - b);
  }

  private add(sheet: Sheet, index: number): void {
    const id = sheet.idAt(index);
    if (id !== undefined) this.rows.set(id, sheet.keyAt(index));
  }

  private setAnchor(sheet: Sheet, index: number): void {
    const id = sheet.idAt(index);
    this.anchor = id === undefined ? undefined : { id, key: sheet.keyAt(index) };
  }
}
