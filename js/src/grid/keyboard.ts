/** What a key means in the grid, by where the active cell is. */
import { clamp } from "./window";

/** The row of the headers, above row 0. */
export const HEADER = -1;

export interface Place {
  index: number;
  column: number;
  lastRow: number;
  lastColumn: number;
  /** Rows to a page. */
  page: number;
  rtl: boolean;
}

export type Command =
  | { go: [index: number, column: number] }
  | { do: "sort" | "sort more" | "select" | "select to here" | "select all" | "clear" | "menu" | "read" };

export type Pressed = Pick<KeyboardEvent, "key" | "ctrlKey" | "metaKey" | "altKey" | "shiftKey">;

export function commandFor(event: Pressed, at: Place): Command | undefined {
  const { index, column, lastRow, lastColumn } = at;
  const jump = event.ctrlKey || event.metaKey;
  const inHeader = index === HEADER;
  const go = (row: number, to: number): Command => ({ go: [clamp(row, HEADER, lastRow), clamp(to, 0, lastColumn)] });
  if (lastColumn < 0) return undefined;
  if (event.altKey) return event.key === "ArrowDown" && inHeader ? { do: "menu" } : undefined;
  switch (event.key) {
    case "ArrowDown":
      return go(jump ? lastRow : index + 1, column);
    case "ArrowUp":
      return go(jump ? HEADER : index - 1, column);
    case "ArrowLeft":
    case "ArrowRight": {
      const forward = (event.key === "ArrowRight") !== at.rtl;
      if (jump) return go(index, forward ? lastColumn : 0);
      return go(index, column + (forward ? 1 : -1));
    }
    case "Home":
      return go(jump ? Math.min(0, lastRow) : index, 0);
    case "End":
      return go(jump ? lastRow : index, lastColumn);
    case "PageDown":
      return go(index + at.page, column);
    case "PageUp":
      return inHeader ? undefined : go(Math.max(0, index - at.page), column);
    case "Enter":
      if (inHeader) return { do: event.shiftKey ? "sort more" : "sort" };
      return { do: "read" };
    case " ":
      if (inHeader) return { do: event.shiftKey ? "sort more" : "sort" };
      return { do: event.shiftKey ? "select to here" : "select" };
    case "a":
      return jump ? { do: "select all" } : undefined;
    case "Escape":
      return { do: "clear" };
    case "ContextMenu":
      return inHeader ? { do: "menu" } : undefined;
    case "F10":
      return inHeader && event.shiftKey ? { do: "menu" } : undefined;
    default:
      return undefined;
  }
}
