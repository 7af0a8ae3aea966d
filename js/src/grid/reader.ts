/** A panel with the whole text of one cell, to read and to select from. */
import { h, setText } from "../core/dom";

export class Reader {
  private readonly text = h("pre", { dir: "auto", tabindex: 0 });
  private readonly title = h("b", { dir: "auto" });
  private readonly note = h("span");
  private readonly shut = h("button", { type: "button", "aria-label": "close" }, "×");
  readonly element = h(
    "div",
    { class: "rtw-reader", role: "dialog", hidden: true },
    h("div", { class: "rtw-reader-head" }, this.title, this.note, this.shut),
    this.text,
  );
  private back: (() => void) | undefined;
  private opened = 0;

  constructor() {
    this.shut.addEventListener("click", () => this.close(true));
    this.element.addEventListener("keydown", (event) => {
      event.stopPropagation();
      if (event.key !== "Escape") return;
      this.close(true);
      event.preventDefault();
    });
  }

  /** Opens with the text that is there; `rest` gives the whole one where that is only its beginning. */
  open(label: string, text: string, rest: Promise<string> | undefined, back: () => void): void {
    const opened = (this.opened += 1);
    this.back = back;
    this.element.setAttribute("aria-label", `value of ${label}`);
    setText(this.title, label);
    setText(this.text, text);
    setText(this.note, rest ? "loading the rest…" : "");
    this.element.hidden = false;
    this.text.focus();
    rest?.then(
      (whole) => this.opened === opened && (setText(this.text, whole), setText(this.note, "")),
      (reason: Error) => this.opened === opened && setText(this.note, reason.message),
    );
  }

  close(refocus: boolean): void {
    if (this.element.hidden) return;
    this.opened += 1;
    this.element.hidden = true;
    if (refocus) this.back?.();
  }
}
