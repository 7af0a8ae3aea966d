/** A model as a host gives it: what was sent, and a way to play the kernel. */
import type { Frame, Model } from "../src/core/link";

export class FakeModel implements Model {
  sent: any[] = [];
  private handlers: ((...args: any[]) => void)[] = [];
  get(): unknown {
    return undefined;
  }
  send(content: unknown): void {
    this.sent.push(content);
  }
  on(_event: string, handler: (...args: any[]) => void): void {
    this.handlers.push(handler);
  }
  off(_event: string, handler: (...args: any[]) => void): void {
    this.handlers = this.handlers.filter((other) => other !== handler);
  }
  get listening(): number {
    return this.handlers.length;
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
