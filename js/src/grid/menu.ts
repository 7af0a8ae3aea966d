/** A small menu under an element, by pointer or keyboard; one at a time. */
import { h } from "../core/dom";

export interface Entry {
  text: string;
  run(): void;
  checked?: boolean;
  /** Begins a new group. */
  rule?: boolean;
}

export class Menu {
  // A popover stands above the page's own boxes, which would cut off what is larger than a short table.
  readonly element = h("div", { class: "rtw-menu", role: "menu", popover: "manual", hidden: true });
  private entries: Entry[] = [];
  private back: (() => void) | undefined;
  /** What it stands under, and where that was. */
  private at: HTMLElement | undefined;
  private left = 0;
  private top = 0;

  constructor(signal: AbortSignal) {
    const { element } = this;
    element.addEventListener("click", (event) => {
      const at = [...element.children].indexOf((event.target as Element).closest("[role^=menuitem]")!);
      if (at >= 0) this.choose(at);
    });
    element.addEventListener("keydown", (event) => this.key(event));
    element.addEventListener("focusout", (event) => {
      if (!element.contains(event.relatedTarget as Node | null)) this.close(false);
    });
    element.ownerDocument.addEventListener(
      "pointerdown",
      (event) => {
        if (!element.hidden && !event.composedPath().includes(element)) this.close(false);
      },
      { signal, capture: true },
    );
    // It stays in its place on the screen, and would lose its header when that is scrolled away.
    const scrolled = (): void => {
      const box = this.at?.getBoundingClientRect();
      if (!element.hidden && box && Math.hypot(box.left - this.left, box.top - this.top) > 2) this.close(false);
    };
    element.ownerDocument.addEventListener("scroll", scrolled, { signal, capture: true, passive: true });
  }

  get isOpen(): boolean {
    return !this.element.hidden;
  }

  /** Opens under `at`; `back` gives the focus back when the keyboard closes it. */
  open(at: HTMLElement, label: string, entries: Entry[], back: () => void): void {
    this.entries = entries;
    this.back = back;
    this.element.setAttribute("aria-label", label);
    this.element.replaceChildren(
      ...entries.map((entry) => {
        const role = entry.checked === undefined ? "menuitem" : "menuitemcheckbox";
        const checked = entry.checked === undefined ? null : String(entry.checked);
        const item = h("div", { role, tabindex: -1, "aria-checked": checked, class: entry.rule ? "rtw-rule" : null });
        item.textContent = entry.text;
        return item;
      }),
    );
    this.element.hidden = false;
    if (this.element.isConnected) this.element.showPopover?.();
    const { innerWidth, innerHeight } = this.element.ownerDocument.defaultView ?? window;
    const box = at.getBoundingClientRect();
    [this.at, this.left, this.top] = [at, box.left, box.top];
    const { style, offsetWidth, offsetHeight } = this.element;
    const above = innerHeight - box.bottom < Math.min(offsetHeight, 160) && box.top > innerHeight - box.bottom;
    style.left = `${Math.max(2, Math.min(box.left, innerWidth - offsetWidth - 4))}px`;
    style.maxHeight = `${Math.max(80, (above ? box.top : innerHeight - box.bottom) - 4)}px`;
    style.top = above ? `${Math.max(2, box.top - Math.min(offsetHeight, box.top - 4))}px` : `${box.bottom}px`;
    (this.element.firstElementChild as HTMLElement | null)?.focus();
  }

  close(refocus: boolean): void {
    if (this.element.hidden) return;
    if (this.element.matches(":popover-open")) this.element.hidePopover();
    this.element.hidden = true;
    if (refocus) this.back?.();
  }

  private choose(at: number): void {
    this.close(true);
    this.entries[at]?.run();
  }

  private key(event: KeyboardEvent): void {
    const items = [...this.element.children] as HTMLElement[];
    const at = items.indexOf(event.target as HTMLElement);
    const to = new Map([["ArrowDown", at + 1], ["ArrowUp", at - 1], ["Home", 0], ["End", items.length - 1]]).get(event.key);
    event.stopPropagation();
    if (to !== undefined) items[(to + items.length) % items.length]?.focus();
    else if (event.key === "Enter" || event.key === " ") this.choose(at);
    else if (event.key === "Escape" || event.key === "Tab") this.close(true);
    else return;
    event.preventDefault();
  }
}
