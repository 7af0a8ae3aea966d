/** The active cell: the grid's one tab stop. It stays on its row while others come and go around it. */
import { HEADER } from "./keyboard";
import type { Sheet } from "./sheet";
import { clamp } from "./window";

export class Cursor {
  index = 0;
  column = "";
  private id: string | undefined;

  constructor(private readonly sheet: Sheet) {}

  get inHeader(): boolean {
    return this.index === HEADER;
  }

  isAt(index: number, column: string): boolean {
    return this.index === index && this.column === column;
  }

  isOn(id: string, column: string): boolean {
    return this.id === id && this.column === column;
  }

  moveTo(index: number, column: string): void {
    this.index = index;
    this.column = column;
    this.id = index === HEADER ? undefined : this.sheet.idAt(index);
  }

  /** After rows moved: goes where its row went; if that is gone, stays at the place. */
  settle(): void {
    if (this.inHeader) return;
    const { sheet, id } = this;
    const index = id === undefined ? undefined : sheet.indexOf(id);
    this.index = index ?? clamp(this.index, 0, Math.max(0, sheet.rows - 1));
    this.id = sheet.idAt(this.index) ?? id;
  }

  /** Comes back to a column that is shown, and to the header where there are no rows. */
  fit(columns: readonly { name: string }[]): void {
    if (!columns.some((column) => column.name === this.column)) this.column = columns[0]?.name ?? "";
    if (this.sheet.rows === 0 && columns.length) this.index = HEADER;
  }
}
