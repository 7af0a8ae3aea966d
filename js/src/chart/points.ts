/** A chart's points as they came from the kernel, and as columns beside each other, which is what is drawn. */

export interface PointsFrame {
  /** How many points there are after this frame. */
  count: number;
  /** Forget those of before. */
  whole: boolean;
  /** Otherwise: how many in front are no longer shown. */
  drop?: number;
}

/** One column of y: a number, null for a gap, undefined where the series has no point at that x. */
export type Column = (number | null | undefined)[];

function bytes(view: DataView): ArrayBuffer {
  // A copy: a host's buffers need not begin where a Float64Array may.
  return view.buffer.slice(view.byteOffset, view.byteOffset + view.byteLength) as ArrayBuffer;
}

function joined<T extends Float64Array | Uint8Array>(make: new (length: number) => T, old: T, drop: number, tail: T): T {
  const kept = old.subarray(drop) as T;
  const made = new make(kept.length + tail.length);
  made.set(kept);
  made.set(tail, kept.length);
  return made;
}

export class Points {
  x = new Float64Array(0);
  y = new Float64Array(0);
  /** The number of each point's series. */
  s = new Uint8Array(0);

  /** Applies a frame; returns false where it does not fit what is here, so that everything must be requested anew. */
  apply(frame: PointsFrame, buffers: DataView[]): boolean {
    const [x, y, s, places, values] = buffers.map(bytes);
    if (!x || !y || !s) return false;
    const drop = frame.whole ? this.x.length : (frame.drop ?? 0);
    this.x = joined(Float64Array, this.x, drop, new Float64Array(x));
    this.y = joined(Float64Array, this.y, drop, new Float64Array(y));
    this.s = joined(Uint8Array, this.s, drop, new Uint8Array(s));
    if (places && values) {
      const changed = new Float64Array(values);
      new Int32Array(places).forEach((place, i) => (this.y[place] = changed[i]!));
    }
    return this.x.length === frame.count;
  }

  /** x once, and a column of y for each series. Points that share an x stand in one row, as far as they are of different series. */
  aligned(series: number): [number[], ...Column[]] {
    const xs: number[] = [];
    const columns: Column[] = Array.from({ length: series }, () => []);
    let row = -1;
    for (let i = 0; i < this.x.length; i++) {
      const column = columns[this.s[i]!];
      if (!column) continue;
      if (row < 0 || xs[row] !== this.x[i] || column[row] !== undefined) {
        row += 1;
        xs.push(this.x[i]!);
      }
      const value = this.y[i]!;
      column[row] = Number.isNaN(value) ? null : value;
    }
    for (const column of columns) column.length = xs.length;
    return [xs, ...columns.map((column) => Array.from(column))];
  }
}

/** The least distance between two neighbours; 0 where there are not two. */
export function spacing(xs: readonly number[]): number {
  let least = Infinity;
  for (let i = 1; i < xs.length; i++) {
    const gap = xs[i]! - xs[i - 1]!;
    if (gap > 0 && gap < least) least = gap;
  }
  return least === Infinity ? 0 : least;
}
