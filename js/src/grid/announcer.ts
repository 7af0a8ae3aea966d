/** Texts for screen readers only. */
import { h, setText } from "../core/dom";

/** Milliseconds between two values that are read out. */
const PACE = 1500;

export class Announcer {
  readonly element = h("div", { class: "rtw-announcer", role: "status" });
  private timer = 0;

  constructor(signal: AbortSignal) {
    signal.addEventListener("abort", () => clearTimeout(this.timer));
  }

  announce(text: string): void {
    setText(this.element, text);
  }

  /** Announces the text as it is then, at most once in a while: a value that changes all the time would talk without end. */
  announceSoon(text: () => string): void {
    if (this.timer) return;
    this.timer = window.setTimeout(() => {
      this.timer = 0;
      this.announce(text());
    }, PACE);
  }
}
