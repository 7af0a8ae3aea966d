/** The last state of the table: its status, its columns and one window of rows; and what a frame changed in them. */
import type { Frame } from "../core/link";

export type Sort = [column: string, descending: boolean][];

/** A column's name and Postgres type. */
export type Column = [name: string, type: string];

export interface State {
  status: string;
  error: string;
  paused: boolean;
  /** Changes that wait while the table is paused. */
  waiting: number;
  /** Rows of the table; `shown`, where it is present, counts those that pass search and filters. */
  total: number;
  shown?: number | null;
  /** The kernel has not yet tested all rows against search and filters. */
  looking?: boolean;
  lag: number | null;
  rate: number;
  /** When rows changed last, in ms since 1970. */
  changed?: number | null;
  /** The order of rows while the view sorts nothing. */
  order: Sort;
  note: string;
}

/** Rows of the window, by their places in it, of one column. */
type Marks = [column: string, rows: number[]][];

export interface TableFrame extends Frame {
  state?: Partial<State>;
  schema?: Column[];
  start?: number;
  keys?: unknown[];
  columns?: unknown[][];
  /** Cells of the window with only the beginning of a long text, with its whole length. */
  cuts?: [column: string, cells: [row: number, length: number][]][];
  /** Cells of the window that changed since the last frame, in rows that were in the last window. */
  changed?: Marks;
  /** Rows of the window that came into the table, or through the filters, since the last frame. */
  arrived?: number[];
  /** Keys of the last window that left the table, or no longer pass search and filters. */
  gone?: unknown[];
  /** Changed cells, where the rows are still the same; with its whole length where a text is cut. */
  patch?: [column: string, cells: [row: number, value: unknown, length?: number][]][];
  /** The answer to a request for CSV: a file, or why there is none. */
  csv?: { name: string; text: string } | { problem: string };
  /** The answer to a request for whole rows. */
  rows?: RowsAnswer;
  /** The answer to a request to select rows. */
  selected?: { count: number } | { problem: string };
}

export type RowsAnswer = { number: number } & ({ columns: [name: string, values: unknown[]][] } | { problem: string });

/** What a frame did to the window. */
export interface SheetDelta {
  cells: [id: string, column: string][];
  arrived: string[];
  /** Rows that left the table, not only the window. */
  gone: string[];
  window: boolean;
}

/** A row's key as a name: keys may be numbers, texts or lists of these. */
export function idOf(key: unknown): string {
  return JSON.stringify(key) ?? "null";
}

export class Sheet {
  state: State = { status: "connecting", error: "", paused: false, waiting: 0, total: 0, lag: null, rate: 0, order: [], note: "" };
  schema: Column[] = [];
  start = 0;
  keys: unknown[] = [];
  /** Whether a window has come at all. */
  loaded = false;
  private ids: string[] = [];
  private columns = new Map<string, unknown[]>();
  private cuts = new Map<string, Map<number, number>>();
  private places = new Map<string, number>();
  private types = new Map<string, string>();

  /** Rows that the grid has: those that pass search and filters. */
  get rows(): number {
    return this.state.shown ?? this.state.total;
  }

  get stop(): number {
    return this.start + this.ids.length;
  }

  typeOf(column: string): string {
    return this.types.get(column) ?? "text";
  }

  /** The row at a place; undefined where the kernel has not sent it. */
  idAt(index: number): string | undefined {
    return this.ids[index - this.start];
  }

  keyAt(index: number): unknown {
    return this.keys[index - this.start];
  }

  indexOf(id: string): number | undefined {
    const place = this.places.get(id);
    return place === undefined ? undefined : place + this.start;
  }

  valueAt(index: number, column: string): unknown {
    return this.columns.get(column)?.[index - this.start];
  }

  /** The whole length of a text of which the kernel sent only the beginning; undefined where the cell is whole. */
  cutAt(index: number, column: string): number | undefined {
    return this.cuts.get(column)?.get(index - this.start);
  }

  apply(frame: TableFrame): SheetDelta {
    const delta: SheetDelta = { cells: [], arrived: [], gone: [], window: false };
    if (frame.state) this.state = { ...this.state, shown: null, looking: false, ...frame.state };
    if (Array.isArray(frame.schema)) {
      this.schema = frame.schema;
      this.types = new Map(frame.schema);
    }
    if (Array.isArray(frame.keys) && Array.isArray(frame.columns)) this.replace(frame, delta);
    else if (Array.isArray(frame.patch)) this.patch(frame.patch, delta);
    return delta;
  }

  private patch(patch: NonNullable<TableFrame["patch"]>, delta: SheetDelta): void {
    for (const [name, cells] of patch) {
      const values = this.columns.get(name);
      if (!values) continue;
      const cuts = this.cuts.get(name) ?? new Map<number, number>();
      for (const [row, value, length] of cells) {
        const id = this.ids[row];
        if (id === undefined) continue;
        values[row] = value;
        if (length === undefined) cuts.delete(row);
        else cuts.set(row, length);
        delta.cells.push([id, name]);
      }
      this.cuts.set(name, cuts);
    }
  }

  private replace(frame: TableFrame, delta: SheetDelta): void {
    const before = this.places;
    this.loaded = true;
    delta.window = true;
    this.start = frame.start ?? 0;
    this.keys = frame.keys ?? [];
    this.ids = this.keys.map(idOf);
    this.places = new Map(this.ids.map((id, place) => [id, place]));
    // Copies: another view of the same model may get the same frame, and patch it.
    this.columns = new Map(this.schema.map(([name], i) => [name, [...(frame.columns?.[i] ?? [])]]));
    this.cuts = new Map((frame.cuts ?? []).map(([name, cells]) => [name, new Map(cells)]));
    for (const [name, rows] of frame.changed ?? []) {
      for (const row of rows) if (this.ids[row] !== undefined) delta.cells.push([this.ids[row], name]);
    }
    delta.arrived = (frame.arrived ?? []).map((row) => this.ids[row]).filter((id) => id !== undefined);
    delta.gone = (frame.gone ?? []).map(idOf).filter((id) => before.has(id) && !this.places.has(id));
  }
}
