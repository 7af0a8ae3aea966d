/** `rt.LiveTable` in the browser: the status line with its tools, what is wrong, and the grid. */
import { h, lifetime, setAttribute, setText } from "../core/dom";
import { Link, type Model } from "../core/link";
import { StatusLine } from "../core/status";
import { clock as clockTime } from "../core/words";
import { Grid } from "../grid/grid";
import { Spark } from "../grid/spark";
import { clamp } from "../grid/window";
import type { TableFrame } from "../grid/sheet";

const SEARCH_AFTER = 200;
/** Rows that the grid has room for: the fewest, the most until somebody pulls it larger, and with none to show. */
const [LOW, FULL, EMPTY] = [6, 12, 3];
const STALE = new Set(["stale", "error", "errored", "closed", "reconnecting"]);

function render({ model, el, signal: given }: { model: Model; el: HTMLElement; signal?: AbortSignal }): () => void {
  const { signal, end } = lifetime(given);
  let gone = false;
  let typing = 0;
  const search = h("input", { type: "search", placeholder: "search", "aria-label": "search all columns", spellcheck: "false" });
  const button = (text: string, title: string): HTMLButtonElement => h("button", { type: "button", title }, text);
  const filter = button("filter", "filter by column");
  const pause = button("pause", "hold changes back");
  const follow = button("follow", "stay at the last row as rows arrive");
  const copy = button("copy", "copy the selected rows, or those seen, for a spreadsheet");
  const csv = button("csv", "download the rows shown here as CSV");
  const spark = new Spark();
  const status = new StatusLine(spark.element, search, filter, pause, follow, copy, csv);

  const selected = new Said(model, "selected", (keys) => Array.isArray(keys) && grid.setSelected(keys));
  const arrangement = new Said(model, "arrangement", (layout) => grid.setLayout(layout));
  const grid = new Grid(
    // Not "layout": that trait is the CSS of ipywidgets.
    model.get("arrangement"),
    {
      want: (wants) => link.want({ ...wants }),
      select: (keys) => link.send("select", { keys: selected.said(keys) }),
      layout: (layout) => link.send("layout", { layout: arrangement.said(layout) }),
      drawn: () => show(),
    },
    signal,
  );
  const setGone = (is: boolean): void => {
    gone = is;
    status.setGone(is);
    grid.redraw();
  };
  const link = new Link<TableFrame>(model, take, { setGone }, { ...grid.wants });
  const before = model.get("selected");
  if (Array.isArray(before) && before.length) grid.setSelected(before);
  // Without the attribute JupyterLab would take keys pressed here for its own: two presses of D delete the cell.
  const root = h("div", { class: "rtw rtw-table", "data-lm-suppress-shortcuts": true }, status.element, status.problem, grid.pane);
  const room = new Room(root);
  room.see(Number(model.get("count")) || 0, model.get("status") === "live", false);
  el.append(root);

  function take(frame: TableFrame): void {
    grid.take(frame);
    if (!frame.csv) return;
    csv.disabled = false;
    if ("problem" in frame.csv) {
      csv.title = frame.csv.problem;
      said(csv, "too large");
    } else download(frame.csv.name, frame.csv.text);
  }

  function show(): void {
    const { state } = grid.sheet;
    if (grid.sheet.loaded) room.see(state.total, state.status === "live", true);
    status.show(state.status, state.error, facts());
    // Where there is nothing to show or to work with, the words on what is wrong stand alone.
    root.classList.toggle("rtw-bare", !grid.sheet.loaded && state.status === "error");
    root.classList.toggle("rtw-old", gone || STALE.has(state.status));
    setText(pause, !state.paused ? "pause" : state.waiting ? `resume (${count(state.waiting)})` : "resume");
    // The kernel searches too; while somebody types, theirs goes first.
    if (!typing && !search.matches(":focus")) search.value = grid.layout.search;
    pause.title = state.paused ? "apply what waited and go on" : "hold changes back";
    setAttribute(pause, "aria-pressed", String(state.paused));
    setAttribute(follow, "aria-pressed", String(grid.follow));
    setAttribute(filter, "aria-pressed", String(grid.filtering));
  }

  function facts(): string[] {
    const { state, loaded, rows } = grid.sheet;
    const said: string[] = [];
    if (link.lost) said.push("may have missed frames, asking again");
    if (loaded && rows !== state.total) said.push(`${count(rows)} of ${plural(state.total, "row")}`);
    else if (loaded) said.push(plural(state.total, "row"));
    if (state.paused) said.push("paused");
    if (grid.selection.size) said.push(`${count(grid.selection.size)} selected`);
    if (loaded) said.push(`${count(state.rate)} ${state.rate === 1 ? "change" : "changes"}/s`);
    if (state.changed && state.rate === 0) said.push(`last change ${clockTime(state.changed)}`);
    if (state.lag !== null) said.push(`lag ${count(state.lag)} ms`);
    if (grid.isLate) said.push("rows come when the kernel is free");
    if (state.note) said.push(state.note);
    return said;
  }

  search.addEventListener("input", () => {
    clearTimeout(typing);
    typing = window.setTimeout(() => {
      typing = 0;
      grid.searchFor(search.value.trim());
    }, SEARCH_AFTER);
  });
  filter.addEventListener("click", () => grid.setFiltering(!grid.filtering));
  pause.addEventListener("click", () => link.send(grid.sheet.state.paused ? "resume" : "pause"));
  follow.addEventListener("click", () => grid.setFollow(!grid.follow));
  copy.addEventListener("click", () => void toClipboard(grid.copiedRows).then((done) => said(copy, done ? "copied" : "not allowed")));
  csv.addEventListener("click", () => {
    // Until the kernel, which may be busy, has written it.
    csv.disabled = link.send("csv", { columns: grid.columns.map((column) => column.name) });
  });
  root.addEventListener("keydown", (event) => event.stopPropagation());

  const clock = window.setInterval(() => {
    spark.add(grid.sheet.state.rate);
    show(); // `link.lost` changes without a frame
  }, 1000);

  let closed = false;
  function close(): void {
    if (closed) return;
    closed = true;
    end();
    clearInterval(clock);
    clearTimeout(typing);
    selected.close();
    arrangement.close();
    link.close();
    root.remove();
  }
  signal.addEventListener("abort", close, { once: true });
  show();
  grid.redraw();
  return close;
}

/** Rows that the grid is tall, always whole ones. It changes once: what grows or shrinks while it is looked at makes the page jump. */
class Room {
  private is: "unknown" | "empty" | "settled" = "unknown";

  constructor(private readonly root: HTMLElement) {}

  /** `shown`: the grid has been seen while it waited, with the room of a full one, which it then keeps. */
  see(rows: number, live: boolean, shown: boolean): void {
    if (rows > 0 && this.is !== "settled") {
      if (this.is === "empty" || !shown) this.set(clamp(rows + 2, LOW, FULL));
      this.is = "settled";
    } else if (rows === 0 && live && this.is === "unknown") {
      this.set(EMPTY);
      this.is = "empty";
    }
  }

  private set(rows: number): void {
    this.root.style.setProperty("--rtw-rows", String(rows));
  }
}

/** A trait that a person sets here and that code sets in the kernel. What was said from here comes back when the kernel has time;
 * by then the person may have gone on, so it is not taken for the kernel's wish. */
class Said {
  private readonly mine: string[] = [];
  private last = "";

  constructor(
    private readonly model: Model,
    private readonly name: string,
    private readonly take: (value: unknown) => void,
  ) {
    model.on(`change:${name}`, this.hear);
  }

  said<T>(value: T): T {
    const text = JSON.stringify(value);
    // What the kernel has already does not come back.
    if (text !== this.last) this.mine.push((this.last = text));
    if (this.mine.length > 100) this.mine.shift();
    return value;
  }

  close(): void {
    this.model.off(`change:${this.name}`, this.hear);
  }

  private hear = (): void => {
    const value = this.model.get(this.name);
    if (value === undefined) return;
    const text = JSON.stringify(value);
    const at = this.mine.indexOf(text);
    if (at >= 0) {
      this.mine.splice(0, at + 1);
      return;
    }
    this.last = text;
    this.take(value);
  };
}

function said(button: HTMLButtonElement, text: string): void {
  const own = button.textContent;
  button.textContent = text;
  setTimeout(() => (button.textContent = own), 1000);
}

function download(name: string, text: string): void {
  const url = URL.createObjectURL(new Blob([text], { type: "text/csv" }));
  h("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}

const count = (n: number): string => n.toLocaleString("en-US");
const plural = (n: number, word: string): string => `${count(n)} ${word}${n === 1 ? "" : "s"}`;

/** Pages that are not served safely have no clipboard of their own; the old way needs an element with the text in it. */
async function toClipboard(text: string): Promise<boolean> {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const take = (event: ClipboardEvent): void => {
      event.clipboardData?.setData("text/plain", text);
      event.preventDefault();
      event.stopImmediatePropagation();
    };
    document.addEventListener("copy", take, { capture: true });
    const done = document.execCommand?.("copy") ?? false;
    document.removeEventListener("copy", take, { capture: true });
    return done;
  }
}

export default { render };
