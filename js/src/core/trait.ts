/**
 * A trait that a person sets in the page and that code sets in the kernel. What was sent from here comes back when the kernel has
 * time; by then the person may have gone on, so it does not count as the kernel's own wish.
 */
import type { Model } from "./link";

/** Values sent that may still come back. */
const KEPT = 100;

export class SharedTrait {
  private readonly sent: string[] = [];
  private last = "";

  constructor(
    private readonly model: Model,
    private readonly name: string,
    private readonly apply: (value: unknown) => void,
  ) {
    model.on(`change:${name}`, this.changed);
  }

  /** Notes a value that is sent from here. */
  sending<T>(value: T): T {
    const text = JSON.stringify(value);
    // What the kernel has already does not come back.
    if (text !== this.last) this.sent.push((this.last = text));
    if (this.sent.length > KEPT) this.sent.shift();
    return value;
  }

  /** Applies the kernel's value once more. */
  restore(): void {
    this.apply(this.model.get(this.name));
  }

  close(): void {
    this.model.off(`change:${this.name}`, this.changed);
  }

  private changed = (): void => {
    const value = this.model.get(this.name);
    if (value === undefined) return;
    const text = JSON.stringify(value);
    const at = this.sent.indexOf(text);
    if (at >= 0) {
      this.sent.splice(0, at + 1);
      return;
    }
    this.last = text;
    this.apply(value);
  };
}
