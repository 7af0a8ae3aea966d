/** Which cells changed and which rows arrived a moment ago. */

/** Milliseconds that a change stays marked; the style sheet's animations take as long. */
export const FLASH = 800;

interface Mark {
  until: number;
  /** Alternates with each change, so that the style sheet's animation restarts. */
  beat: 0 | 1;
}

export class Flashes {
  private cells = new Map<string, Map<string, Mark>>();
  private rows = new Map<string, number>();

  cell(id: string, column: string, now: number): void {
    let marks = this.cells.get(id);
    if (!marks) this.cells.set(id, (marks = new Map()));
    marks.set(column, { until: now + FLASH, beat: marks.get(column)?.beat === 0 ? 1 : 0 });
  }

  row(id: string, now: number): void {
    this.rows.set(id, now + FLASH);
  }

  beatOf(id: string, column: string): 0 | 1 | undefined {
    return this.cells.get(id)?.get(column)?.beat;
  }

  isNew(id: string): boolean {
    return this.rows.has(id);
  }

  /** Drops the marks that are over; returns when the next one ends. */
  sweep(now: number): number | undefined {
    let next = Infinity;
    for (const [id, marks] of this.cells) {
      for (const [column, mark] of marks) {
        if (mark.until <= now) marks.delete(column);
        else next = Math.min(next, mark.until);
      }
      if (!marks.size) this.cells.delete(id);
    }
    for (const [id, until] of this.rows) {
      if (until <= now) this.rows.delete(id);
      else next = Math.min(next, until);
    }
    return next === Infinity ? undefined : next;
  }
}
