/**
 * What copying gives: one cell as it is, or rows as a spreadsheet reads them. What the page does not have whole (rows out of the
 * window, long texts) is read from the kernel first.
 */
import type { Announcer } from "./announcer";
import { plain } from "./format";
import type { Selection } from "./selection";
import type { RowsAnswer, Sheet } from "./sheet";

/** What is to be copied: the cell of a column, or rows; `keys` is null for the selected ones. */
export interface Copied {
  columns: string[];
  keys: unknown[] | null;
  rows: number;
  cell: boolean;
  /** The text, or as much of it as the page has. */
  text: string;
  /** Whether that is all of it. */
  whole: boolean;
}

/** Rows for a spreadsheet: columns separated by tabs; fields with tabs, newlines or quotes in them are quoted. */
export function tsv(columns: string[], rows: unknown[][]): string {
  const line = (values: unknown[]): string => values.map(field).join("\t");
  return [columns, ...rows].map(line).join("\n");
}

export function copiedCell(sheet: Sheet, index: number, column: string): Copied {
  const text = plain(sheet.valueAt(index, column));
  const whole = sheet.idAt(index) === undefined || sheet.cutAt(index, column) === undefined;
  return { columns: [column], keys: [sheet.keyAt(index)], rows: 1, cell: true, text, whole };
}

export function copiedRows(sheet: Sheet, selection: Selection, columns: string[]): Copied {
  const places = selection.places(sheet);
  return { ...rowsAt(sheet, places, columns), keys: null, rows: selection.size, whole: places.length === selection.size && isWhole(sheet, places, columns) };
}

/** The rows at some places. */
export function rowsAt(sheet: Sheet, places: number[], columns: string[]): Copied {
  const rows = places.map((index) => columns.map((column) => sheet.valueAt(index, column)));
  const keys = places.map((index) => sheet.keyAt(index));
  return { columns, keys, rows: places.length, cell: false, text: tsv(columns, rows), whole: isWhole(sheet, places, columns) };
}

/** The text that an answer of the kernel gives. */
export function answeredText(copied: Copied, answer: Extract<RowsAnswer, { columns: unknown }>): string {
  const values = new Map(answer.columns);
  const columns = copied.columns.map((name) => values.get(name) ?? []);
  if (copied.cell) return plain(columns[0]?.[0]);
  const rows = (columns[0] ?? []).map((_, row) => columns.map((column) => column[row]));
  return tsv(copied.columns, rows);
}

function isWhole(sheet: Sheet, places: number[], columns: string[]): boolean {
  return places.every((index) => columns.every((column) => sheet.cutAt(index, column) === undefined));
}

function field(value: unknown): string {
  const text = plain(value);
  return /[\t\n\r"]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

/** What copying needs of the widget around the grid. */
export interface CopyHost {
  /** Reads whole rows: of these keys, or of the selected rows. */
  read(keys: unknown[] | null, columns: string[]): Promise<RowsAnswer>;
  /** Puts a text on the clipboard, where the browser allows it without a key press. */
  writeClipboard(text: string): Promise<boolean>;
}

export class Copier {
  /** A text that the browser did not let onto the clipboard: the next Ctrl+C puts it there. */
  private prepared: { of: string; text: string } | undefined;

  constructor(
    private readonly host: CopyHost,
    private readonly announcer: Announcer,
  ) {}

  /** The whole text, read from the kernel where the page has only a part of it. */
  async wholeText(copied: Copied): Promise<string> {
    if (copied.whole) return copied.text;
    const answer = await this.host.read(copied.keys, copied.columns);
    if ("problem" in answer) throw new Error(answer.problem);
    return answeredText(copied, answer);
  }

  /** Copies without a key press; returns what became of it. */
  async copy(copied: Copied): Promise<string> {
    try {
      const text = await this.wholeText(copied);
      if (await this.host.writeClipboard(text)) return "copied";
      this.prepared = { of: nameOf(copied), text };
      return "press Ctrl+C again";
    } catch (reason) {
      return (reason as Error).message;
    }
  }

  /** Answers Ctrl+C. */
  answer(event: ClipboardEvent, copied: Copied): void {
    event.preventDefault();
    event.stopPropagation();
    const done = copied.cell ? "copied" : `copied ${copied.rows.toLocaleString("en-US")} rows`;
    const text = copied.whole ? copied.text : this.prepared?.of === nameOf(copied) ? this.prepared.text : undefined;
    this.prepared = undefined;
    if (text !== undefined) {
      event.clipboardData?.setData("text/plain", text);
      return this.announcer.announce(done);
    }
    this.announcer.announce("reading the rest from the kernel");
    void this.copy(copied).then((result) => this.announcer.announce(result === "copied" ? done : result));
  }
}

/** Names what is copied, to find out whether it is the same as before. */
function nameOf({ keys, columns, rows }: Copied): string {
  return JSON.stringify([keys, columns, rows]);
}
