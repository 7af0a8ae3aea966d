/** What a person does to columns: drags them and chooses from their menus. */
import { type Layout, type Placed, moved, place } from "./layout";
import type { Entry } from "./menu";
import type { Column, Sort } from "./sheet";

/** Puts a column before another one, or last. */
export function moveColumn(layout: Layout, schema: Column[], column: string, before: string | null): void {
  const all = place(schema, { ...layout, hidden: [] }, () => 0);
  layout.order = moved(all.map((placed) => placed.name), column, before);
  // Dropped among the pinned ones a column is pinned, among the others it is not; at their border it stays what it was.
  const shown = (placed: Placed): boolean => !layout.hidden.includes(placed.name) && placed.name !== column;
  const firstFree = all.find((placed) => !placed.pinned && shown(placed))?.name ?? null;
  const others = layout.pinned.filter((name) => name !== column);
  if (before !== null && layout.pinned.includes(before)) layout.pinned = [...others, column];
  else if (before !== firstFree) layout.pinned = others;
}

export interface MenuActions {
  sort(sort: Sort): void;
  fit(): void;
  /** The layout was changed. */
  arranged(): void;
}

export function menuOf(column: string, layout: Layout, schema: Column[], act: MenuActions): Entry[] {
  const now = layout.sort.find(([name]) => name === column);
  const others = layout.sort.filter(([name]) => name !== column);
  const pinned = layout.pinned.includes(column);
  const hidden = schema.map(([name]) => name).filter((name) => layout.hidden.includes(name));
  const change = (what: () => void) => (): void => {
    what();
    act.arranged();
  };
  const entries: Entry[] = [
    { text: "Sort ascending", checked: now !== undefined && !now[1], run: () => act.sort([...others, [column, false]]) },
    { text: "Sort descending", checked: now !== undefined && now[1], run: () => act.sort([...others, [column, true]]) },
    { text: "No sort", run: () => act.sort(others) },
    {
      text: "Pin left",
      checked: pinned,
      rule: true,
      run: change(() => {
        layout.pinned = pinned ? layout.pinned.filter((name) => name !== column) : [...layout.pinned, column];
      }),
    },
    { text: "Fit width", run: () => act.fit() },
  ];
  // The last column stays: without a header there would be no menu to bring the others back.
  if (hidden.length < schema.length - 1) entries.push({ text: "Hide", run: change(() => layout.hidden.push(column)) });
  hidden.forEach((name, i) => {
    const run = change(() => (layout.hidden = layout.hidden.filter((other) => other !== name)));
    entries.push({ text: `Show ${name}`, rule: i === 0, run });
  });
  if (hidden.length > 1) entries.push({ text: "Show all columns", run: change(() => (layout.hidden = [])) });
  return entries;
}
