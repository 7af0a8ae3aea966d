/** Selected rows, by key, and what copying them gives. */
import { plain } from "./format";
import { type Sheet, idOf } from "./sheet";

export class Selection {
  /** Values are missing for rows that were never seen: the kernel may select any. */
  private rows = new Map<string, { key: unknown; values?: Record<string, unknown> }>();
  /** Where a range begins. */
  anchor: string | undefined;

  get size(): number {
    return this.rows.size;
  }

  get keys(): unknown[] {
    return [...this.rows.values()].map((row) => row.key);
  }

  has(id: string): boolean {
    return this.rows.has(id);
  }

  set(sheet: Sheet, keys: unknown[]): void {
    this.rows = new Map(keys.map((key) => [idOf(key), { key }]));
    this.refresh(sheet);
  }

  clear(): boolean {
    const had = this.rows.size > 0;
    this.rows.clear();
    return had;
  }

  /** Takes the row at a place in, or out if it is in and `toggle` is set. */
  take(sheet: Sheet, index: number, toggle: boolean): void {
    const id = sheet.idAt(index);
    if (id === undefined) return;
    if (toggle && this.rows.has(id)) this.rows.delete(id);
    else this.rows.set(id, { key: sheet.keyAt(index), values: valuesAt(sheet, index) });
  }

  /** Takes every known row between two places. */
  range(sheet: Sheet, from: number, to: number): void {
    for (let index = Math.min(from, to); index <= Math.max(from, to); index++) this.take(sheet, index, false);
  }

  /** The selected rows under their column names; rows that have been scrolled out of what is known as they were last seen. */
  tsv(sheet: Sheet, columns: string[]): string {
    const known = [...this.rows.values()].map((row) => ({ row, index: sheet.indexOf(idOf(row.key)) }));
    known.sort((a, b) => (a.index ?? Infinity) - (b.index ?? Infinity) || 0);
    const rows = known.map(({ row, index }) => (index === undefined ? row.values : valuesAt(sheet, index)));
    return tsv(columns, rows.filter((row) => row !== undefined));
  }

  /** Keeps the last seen values of selected rows. */
  refresh(sheet: Sheet): void {
    for (const [id, row] of this.rows) {
      const index = sheet.indexOf(id);
      if (index !== undefined) row.values = valuesAt(sheet, index);
    }
  }
}

export function valuesAt(sheet: Sheet, index: number): Record<string, unknown> {
  return Object.fromEntries(sheet.schema.map(([name]) => [name, sheet.valueAt(index, name)]));
}

/** Rows for a spreadsheet: columns by tabs; what has tabs, newlines or quotes in it is quoted. */
export function tsv(columns: string[], rows: Record<string, unknown>[]): string {
  const line = (values: unknown[]): string => values.map(field).join("\t");
  return [line(columns), ...rows.map((row) => line(columns.map((name) => row[name])))].join("\n");
}

function field(value: unknown): string {
  const text = plain(value);
  return /[\t\n\r"]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}
