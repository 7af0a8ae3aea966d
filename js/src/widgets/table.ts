/** `rt.LiveTable` in the browser: the status line with its tools, what is wrong, and the grid. */
import { download, writeClipboard } from "../core/browser";
import { h, lifetime } from "../core/dom";
import { Link, type Model } from "../core/link";
import { StatusLine } from "../core/status";
import { SharedTrait } from "../core/trait";
import { Grid } from "../grid/grid";
import { Room } from "../grid/room";
import type { RowsAnswer, TableFrame } from "../grid/sheet";
import { Toolbar, factsOf } from "../grid/toolbar";

const STALE = new Set(["stale", "error", "errored", "closed", "reconnecting"]);

/** A request for rows that waits for its answer. */
interface Reading {
  resolve(answer: RowsAnswer): void;
  reject(reason: Error): void;
}

function render({ model, el, signal: given }: { model: Model; el: HTMLElement; signal?: AbortSignal }): () => void {
  const { signal, end } = lifetime(given);
  let gone = false;
  const reads = new Map<number, Reading>();
  let readCount = 0;
  /** A selection that was requested from the kernel, or why it was refused. */
  let selecting = "";

  const selected = new SharedTrait(model, "selected", (keys) => Array.isArray(keys) && grid.setSelected(keys));
  const arrangement = new SharedTrait(model, "arrangement", (layout) => grid.arrangement.set(layout));
  const grid = new Grid(
    // Not "layout": that trait is the CSS of ipywidgets.
    model.get("arrangement"),
    {
      want: (wants) => link.want({ ...wants }),
      select: (keys) => {
        selecting = "";
        link.send("select", { keys: selected.sending(keys) });
      },
      selectRange: (range) => {
        selecting = link.send("select range", { range }) ? "selecting rows…" : "";
      },
      layout: (layout) => link.send("layout", { layout: arrangement.sending(layout) }),
      read: (keys, columns) =>
        new Promise((resolve, reject) => {
          const number = (readCount += 1);
          reads.set(number, { resolve, reject });
          if (!link.send("rows", { number, keys, columns })) rejectReads();
        }),
      writeClipboard,
      drawn: () => draw(),
    },
    signal,
  );
  const toolbar = new Toolbar(
    grid,
    {
      pause: () => link.send("pause"),
      resume: () => link.send("resume"),
      csv: () => link.send("csv", { columns: grid.columns.map((column) => column.name) }),
    },
    signal,
  );
  const status = new StatusLine(...toolbar.elements);
  const link = new Link<TableFrame>(model, apply, { setGone }, { ...grid.wants });
  const before = model.get("selected");
  if (Array.isArray(before) && before.length) grid.setSelected(before);
  // Without the attribute JupyterLab runs its own commands on keys pressed here: two presses of D delete the cell.
  const root = h("div", { class: "rtw rtw-table", "data-lm-suppress-shortcuts": true }, status.element, status.problem, grid.pane);
  const room = new Room(root);
  room.fit(Number(model.get("count")) || 0, model.get("status") === "live");
  el.append(root);

  function setGone(is: boolean): void {
    gone = is;
    if (gone) rejectReads();
    status.setGone(is);
    grid.redraw();
  }

  function rejectReads(): void {
    for (const { reject } of reads.values()) reject(new Error("the kernel has stopped"));
    reads.clear();
  }

  function apply(frame: TableFrame): void {
    grid.apply(frame);
    if (frame.selected) {
      selecting = "problem" in frame.selected ? frame.selected.problem : "";
      if (selecting) selected.restore(); // what the page knew of the range is marked already
    }
    if (frame.rows) {
      reads.get(frame.rows.number)?.resolve(frame.rows);
      reads.delete(frame.rows.number);
    }
    if (!frame.csv) return;
    toolbar.csvAnswered("problem" in frame.csv ? frame.csv.problem : undefined);
    if ("text" in frame.csv) download(frame.csv.name, frame.csv.text, "text/csv");
  }

  function draw(): void {
    const { state, loaded } = grid.sheet;
    if (loaded) room.fit(state.total, state.status === "live");
    const missed = link.lost ? ["may have missed frames, requesting them"] : [];
    status.show(state.status, state.error, factsOf(grid, ...missed, ...(selecting ? [selecting] : [])));
    // Where there is nothing to show or to work with, the text on what is wrong stands alone.
    root.classList.toggle("rtw-bare", !loaded && state.status === "error");
    root.classList.toggle("rtw-old", gone || STALE.has(state.status));
    toolbar.draw();
  }

  root.addEventListener("keydown", (event) => event.stopPropagation());
  const timer = window.setInterval(() => {
    toolbar.tick();
    draw(); // `link.lost` changes without a frame
  }, 1000);
  signal.addEventListener(
    "abort",
    () => {
      clearInterval(timer);
      selected.close();
      arrangement.close();
      link.close();
      root.remove();
    },
    { once: true },
  );
  draw();
  grid.redraw();
  return end;
}

export default { render };
