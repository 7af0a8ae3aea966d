/** A model as a host gives it: what was sent, and a way to play the kernel. */
import type { Frame, Model } from "../src/core/link";

export class FakeModel implements Model {
  sent: any[] = [];
  dead = false;
  private handlers: ((...args: any[]) => void)[] = [];
  private others: [event: string, handler: (...args: any[]) => void][] = [];
  get(): unknown {
    return undefined;
  }
  send(content: unknown): void {
    if (this.dead) throw new Error("Cannot send");
    this.sent.push(content);
  }
  on(event: string, handler: (...args: any[]) => void): void {
    if (event === "msg:custom") this.handlers.push(handler);
    else this.others.push([event, handler]);
  }
  off(event: string, handler: (...args: any[]) => void): void {
    if (event === "msg:custom") this.handlers = this.handlers.filter((other) => other !== handler);
    else this.others = this.others.filter(([name, other]) => name !== event || other !== handler);
  }
  get listening(): number {
    return this.handlers.length + this.others.length;
  }
  /** Another event of the model's than a message. */
  async fire(event: string): Promise<void> {
    for (const [name, handler] of [...this.others]) if (name === event) handler();
    await painted();
  }
  get view(): string {
    return this.sent.find((message) => message.kind === "hello").view;
  }
  of(kind: string): any[] {
    return this.sent.filter((message) => message.kind === kind);
  }
  hear(frame: Partial<Frame> & Record<string, unknown>, buffers: DataView[] = []): void {
    for (const handler of [...this.handlers]) handler({ view: this.view, epoch: "e1", kind: "frame", ...frame }, buffers);
  }
}

/** After the next frame was drawn. */
export function painted(): Promise<void> {
  return new Promise((resolve) => requestAnimationFrame(() => setTimeout(resolve, 5)));
}
