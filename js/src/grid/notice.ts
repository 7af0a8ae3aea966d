/** What stands in the place of rows where there are none, with the way back where all columns are hidden. */
import { h, setText } from "../core/dom";
import type { Layout } from "./layout";
import type { Sheet } from "./sheet";

export class Notice {
  private readonly text = h("span");
  private readonly back = h("button", { type: "button" }, "show all columns");
  readonly element = h("div", { class: "rtw-empty", hidden: true }, this.text);

  constructor(showAll: () => void) {
    this.back.addEventListener("click", showAll);
  }

  /** `leaving`: rows that left a moment ago are still drawn. */
  draw(sheet: Sheet, layout: Layout, columns: number, leaving: boolean): void {
    const hidden = sheet.schema.length > 0 && columns === 0;
    const silent = !sheet.loaded && sheet.state.error !== "";
    this.element.hidden = !hidden && (sheet.rows > 0 || leaving || silent);
    if (!hidden) this.back.remove();
    else if (!this.back.isConnected) this.element.append(this.back);
    setText(this.text, hidden ? "all columns are hidden " : reason(sheet, layout));
  }
}

function reason(sheet: Sheet, layout: Layout): string {
  const { total, looking } = sheet.state;
  if (!sheet.loaded) return "waiting for rows…";
  if (total === 0) return "no rows";
  if (looking) return "searching…";
  const filtered = layout.search !== "" || layout.filters.size > 0;
  return filtered ? `no rows match · the table has ${total.toLocaleString("en-US")}` : "waiting for rows…";
}
