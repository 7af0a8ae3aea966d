/** Selects rows as clicks and keys want: one, several, a range, all. Where a range has rows that are not loaded, the kernel selects it. */
import type { Announcer } from "./announcer";
import type { Selection } from "./selection";
import type { Sheet } from "./sheet";

/** What selecting needs of the widget around the grid. */
export interface PickHost {
  select(keys: unknown[]): void;
  /** Has the kernel select the rows from one key to another as the view is sorted and filtered; null for all rows. */
  selectRange(range: [from: unknown, to: unknown] | null): void;
}

export class Picker {
  constructor(
    private readonly sheet: Sheet,
    private readonly selection: Selection,
    private readonly host: PickHost,
    private readonly announcer: Announcer,
    private readonly redraw: () => void,
  ) {}

  pickOnly(index: number): void {
    this.selection.only(this.sheet, index);
    this.picked();
  }

  toggle(index: number): void {
    this.selection.toggle(this.sheet, index);
    this.picked();
  }

  /** From the row where the last selection began. */
  pickTo(index: number): void {
    const { selection, sheet } = this;
    const { anchor } = selection;
    if (!anchor) return this.toggle(index);
    const from = sheet.indexOf(anchor.id);
    if (from !== undefined && selection.range(sheet, from, index)) return this.picked();
    const to = sheet.keyAt(index);
    if (to === undefined) return this.announcer.announce("this row is not loaded yet");
    this.host.selectRange([anchor.key, to]);
    this.redraw();
  }

  pickAll(): void {
    const { selection, sheet } = this;
    if (selection.range(sheet, 0, sheet.rows - 1)) return this.picked();
    this.host.selectRange(null);
    this.redraw();
  }

  clear(): void {
    if (this.selection.clear()) this.picked();
  }

  private picked(): void {
    this.host.select(this.selection.keys);
    this.redraw();
  }
}
