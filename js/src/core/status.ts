/** The status line of a widget, and the paragraph that says what is wrong and what to do. */
import { h, setAttribute, setText } from "./dom";

const WORDS = new Map([
  ["live", "live"],
  ["joined", "live"],
  ["connecting", "connecting…"],
  ["joining", "joining…"],
  ["catching up", "catching up…"],
  ["stale", "stale: may have missed changes, resyncing"],
  ["reconnecting", "reconnecting…"],
  ["errored", "not joined, trying again…"],
  ["error", "error"],
  ["closed", "closed"],
  ["leaving", "leaving…"],
  ["paused", "paused"],
]);

const GONE = "The kernel has stopped: run the cell again. This is the last state.";

export class StatusLine {
  readonly element: HTMLElement;
  readonly problem: HTMLElement;
  private readonly light = h("span", { class: "rtw-light", "aria-hidden": true });
  private readonly word = h("span", { class: "rtw-word" });
  private readonly facts = h("span", { class: "rtw-facts" });

  private gone = false;
  private last: [status: string, error: string, facts?: string[], word?: string] = ["connecting", ""];

  constructor(...tools: HTMLElement[]) {
    // Only the status is announced: numbers that change several times a second would be read out without end.
    this.element = h("div", { class: "rtw-status" }, h("span", { role: "status" }, this.light, this.word), this.facts, ...tools);
    this.problem = h("p", { class: "rtw-problem", role: "alert", hidden: true });
  }

  /** Shows, above all else, whether the kernel has stopped. */
  setGone(gone: boolean): void {
    this.gone = gone;
    this.show(...this.last);
  }

  show(...state: [status: string, error: string, facts?: string[], word?: string]): void {
    this.last = state;
    const [status, error, facts = [], word = WORDS.get(status) ?? status] = this.gone ? (["closed", GONE, state[2]] as const) : state;
    setAttribute(this.element, "data-status", status);
    setText(this.word, word);
    setText(this.facts, facts.join(" · "));
    setText(this.problem, error);
    this.problem.hidden = error === "";
  }
}
