/** The grid's tools in the status line, and the facts beside them. */
import { h, setAttribute, setText } from "../core/dom";
import { clock, count, plural } from "../core/words";
import type { Grid } from "./grid";
import { Spark } from "./spark";

/** Milliseconds after the last key in the search box. */
const TYPED = 200;
/** Milliseconds that a button shows what became of its click. */
const ANSWER = 1500;

const button = (text: string, title: string): HTMLButtonElement => h("button", { type: "button", title }, text);

export interface ToolbarActions {
  pause(): void;
  resume(): void;
  /** Requests the rows shown as CSV; returns whether it could be sent. */
  csv(): boolean;
}

export class Toolbar {
  private readonly spark = new Spark();
  private readonly search = h("input", { type: "search", placeholder: "search", "aria-label": "search all columns", spellcheck: "false" });
  private readonly filter = button("filter", "filter by column");
  private readonly pause = button("pause", "hold changes back");
  private readonly follow = button("follow", "stay at the last row as rows arrive");
  private readonly copy = button("copy", "copy the selected rows, or those in view, for a spreadsheet");
  private readonly csv = button("csv", "download all rows shown here as CSV");
  readonly elements = [this.spark.element, this.search, this.filter, this.pause, this.follow, this.copy, this.csv];
  private typing = 0;

  constructor(
    private readonly grid: Grid,
    act: ToolbarActions,
    signal: AbortSignal,
  ) {
    const { search } = this;
    search.addEventListener("input", () => {
      clearTimeout(this.typing);
      this.typing = window.setTimeout(() => {
        this.typing = 0;
        grid.arrangement.searchFor(search.value.trim());
      }, TYPED);
    });
    this.filter.addEventListener("click", () => grid.arrangement.setFiltering(!grid.arrangement.filtering));
    this.pause.addEventListener("click", () => (grid.sheet.state.paused ? act.resume() : act.pause()));
    this.follow.addEventListener("click", () => grid.setFollow(!grid.follow));
    this.copy.addEventListener("click", () => void grid.copyRows().then((result) => answer(this.copy, result)));
    // Disabled until the kernel, which may be busy, has written it.
    this.csv.addEventListener("click", () => (this.csv.disabled = act.csv()));
    signal.addEventListener("abort", () => clearTimeout(this.typing));
  }

  /** Once a second. */
  tick(): void {
    this.spark.add(this.grid.sheet.state.rate);
  }

  csvAnswered(problem?: string): void {
    this.csv.disabled = false;
    if (problem === undefined) return;
    this.csv.title = problem;
    answer(this.csv, "not written");
  }

  draw(): void {
    const { grid, pause, search } = this;
    const { state } = grid.sheet;
    setText(pause, !state.paused ? "pause" : state.waiting ? `resume (${count(state.waiting)})` : "resume");
    pause.title = state.paused ? "apply the changes held back, and go on" : "hold changes back";
    setAttribute(pause, "aria-pressed", String(state.paused));
    setAttribute(this.follow, "aria-pressed", String(grid.follow));
    setAttribute(this.filter, "aria-pressed", String(grid.arrangement.filtering));
    // The kernel searches too; while a person types, theirs goes first.
    if (!this.typing && !search.matches(":focus")) search.value = grid.layout.search;
  }
}

/** The facts on the rows for the status line, after those given. */
export function factsOf(grid: Grid, ...more: string[]): string[] {
  const { state, loaded, rows } = grid.sheet;
  const facts = [...more];
  if (loaded && rows !== state.total) facts.push(`${count(rows)} of ${plural(state.total, "row")}`);
  else if (loaded) facts.push(plural(state.total, "row"));
  if (state.paused) facts.push("paused");
  if (grid.selection.size) facts.push(`${count(grid.selection.size)} selected`);
  if (loaded) facts.push(`${count(state.rate)} ${state.rate === 1 ? "change" : "changes"}/s`);
  if (state.changed && state.rate === 0) facts.push(`last change ${clock(state.changed)}`);
  if (state.lag !== null) facts.push(`lag ${count(state.lag)} ms`);
  if (grid.isLate) facts.push("rows come when the kernel is free");
  if (state.note) facts.push(state.note);
  return facts;
}

function answer(button: HTMLButtonElement, text: string): void {
  const own = button.dataset.text ?? button.textContent;
  button.dataset.text = own;
  button.textContent = text;
  setTimeout(() => (button.textContent = own), ANSWER);
}
