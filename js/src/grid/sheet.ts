/** What the kernel sent last: the state, the columns and one window of rows; and what a frame changed in it. */
import type { Frame } from "../core/link";

export type Sort = [column: string, descending: boolean][];

/** A column's name and Postgres type. */
export type Column = [name: string, type: string];

export interface State {
  status: string;
  error: string;
  paused: boolean;
  /** Changes held while paused. */
  waiting: number;
  /** Rows of the table; `shown`, where it is there, says how many of them search and filters leave. */
  total: number;
  shown?: number | null;
  /** The kernel has not yet looked at all rows for what search and filters leave. */
  looking?: boolean;
  lag: number | null;
  rate: number;
  /** When rows changed last, in ms since 1970. */
  changed?: number | null;
  /** The order that rows have while the view sorts nothing. */
  order: Sort;
  note: string;
}

export interface TableFrame extends Frame {
  state?: Partial<State>;
  schema?: Column[];
  start?: number;
  keys?: unknown[];
  columns?: unknown[][];
  /** Keys of the last window that the table no longer holds, or that search and filters no longer leave. */
  gone?: unknown[];
  /** The answer to a wish for CSV: a file, or why there is none. */
  csv?: { name: string; text: string } | { problem: string };
  patch?: [column: string, cells: [row: number, value: unknown][]][];
}

/** What a frame did to rows that were there before and still are, and which rows came between them. */
export interface Changes {
  cells: [id: string, column: string][];
  arrived: string[];
  /** Rows that went out of the table, not only out of the window. */
  gone: string[];
  /** The known rows stand in another order altogether, as after sorting. */
  reordered: boolean;
  schema: boolean;
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
  private places = new Map<string, number>();
  private types = new Map<string, string>();

  /** Rows that the grid has: those left by search and filters. */
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

  take(frame: TableFrame): Changes {
    const changes: Changes = { cells: [], arrived: [], gone: [], reordered: false, schema: false, window: false };
    const rowsBefore = this.rows;
    if (frame.state) this.state = { ...this.state, shown: null, looking: false, ...frame.state };
    if (Array.isArray(frame.schema)) {
      changes.schema = JSON.stringify(frame.schema) !== JSON.stringify(this.schema);
      this.schema = frame.schema;
      this.types = new Map(frame.schema);
    }
    if (Array.isArray(frame.keys) && Array.isArray(frame.columns)) this.replace(frame, changes, rowsBefore);
    else if (Array.isArray(frame.patch)) this.patch(frame.patch, changes);
    return changes;
  }

  private patch(patch: NonNullable<TableFrame["patch"]>, changes: Changes): void {
    for (const [name, cells] of patch) {
      const values = this.columns.get(name);
      if (!values) continue;
      for (const [row, value] of cells) {
        const id = this.ids[row];
        if (id === undefined || same(values[row], value)) continue;
        values[row] = value;
        changes.cells.push([id, name]);
      }
    }
  }

  private replace(frame: TableFrame, changes: Changes, rowsBefore: number): void {
    const before = { start: this.start, places: this.places, columns: this.columns };
    const knewEnd = this.loaded && this.stop >= rowsBefore;
    const first = !this.loaded;
    this.loaded = true;
    changes.window = true;
    this.start = frame.start ?? 0;
    this.keys = frame.keys!;
    this.ids = this.keys.map(idOf);
    this.places = new Map(this.ids.map((id, place) => [id, place]));
    this.columns = new Map(this.schema.map(([name], i) => [name, frame.columns![i] ?? []]));
    if (first) return;
    for (const [name, values] of this.columns) {
      const were = before.columns.get(name);
      if (!were) continue;
      this.ids.forEach((id, row) => {
        const place = before.places.get(id);
        if (place !== undefined && !same(were[place], values[row])) changes.cells.push([id, name]);
      });
    }
    changes.reordered = this.isReordered(before.places);
    changes.arrived = this.arrivals(before, knewEnd);
    if (Array.isArray(frame.gone)) {
      changes.gone = frame.gone.map(idOf).filter((id) => before.places.has(id) && !this.places.has(id));
    }
  }

  private isReordered(before: Map<string, number>): boolean {
    const places = this.ids.map((id) => before.get(id)).filter((place) => place !== undefined);
    const drops = places.filter((place, i) => i > 0 && place < places[i - 1]!).length;
    return drops > Math.max(3, places.length / 4);
  }

  /** Rows that came between rows known before, or at an end of the table that was known; all others were only scrolled to. */
  private arrivals(before: { start: number; places: Map<string, number> }, knewEnd: boolean): string[] {
    const arrived: string[] = [];
    let run: string[] = [];
    let knownAbove = this.start === 0 && before.start === 0;
    for (const id of this.ids) {
      if (!before.places.has(id)) {
        run.push(id);
        continue;
      }
      if (knownAbove) arrived.push(...run);
      run = [];
      knownAbove = true;
    }
    if (knownAbove && knewEnd && this.stop >= this.rows) arrived.push(...run);
    return arrived;
  }
}

function same(a: unknown, b: unknown): boolean {
  return Object.is(a, b) || (typeof a === "object" && typeof b === "object" && JSON.stringify(a) === JSON.stringify(b));
}
