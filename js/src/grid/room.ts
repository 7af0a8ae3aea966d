/** How many rows the grid is tall: as many as there are, up to a full one, until a person pulls it larger. */
import { clamp } from "./window";

/** Rows that the grid has room for: at most, and with none to show. */
const [FULL, EMPTY] = [12, 3];

export class Room {
  private rows = 0;

  constructor(private readonly root: HTMLElement) {}

  /** Fits the rows that there are. It never shrinks again: the page would jump with each row that goes. */
  fit(rows: number, live: boolean): void {
    if (rows === 0 && !live) return; // not known yet
    const wanted = Math.max(this.rows, rows === 0 ? EMPTY : clamp(rows, 1, FULL));
    if (wanted === this.rows) return;
    this.rows = wanted;
    this.root.style.setProperty("--rtw-rows", String(wanted));
  }
}
