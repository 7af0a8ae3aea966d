/**
 * A view's connection to the kernel.
 *
 * The kernel pushes; nothing here waits for an answer, since none may come while a cell runs. Every frame carries the view that it
 * is for, the epoch of the kernel's object and a sequence number. After a gap in the numbers, or with another epoch (the cell ran
 * again, or the kernel was restarted), the view sends hello, and gets everything anew.
 */

/** The part of an anywidget model that is used here. */
export interface Model {
  get(name: string): unknown;
  send(content: unknown): void;
  on(event: string, handler: (...args: any[]) => void): void;
  off(event: string, handler: (...args: any[]) => void): void;
}

/** A message from the kernel; each widget adds its own fields. */
export interface Frame {
  view: string;
  epoch: string;
  seq: number;
  kind: string;
  /** Needs no frame before it. */
  whole?: boolean;
}

/** What shows that the kernel has stopped, or is there again. */
export interface Listener {
  setGone(gone: boolean): void;
}

/** The view of frames for every page that could not send hello yet, because a cell has been running since it was opened. */
export const ANYONE = "*";

/** A second hello is sent this many ms after one that brought nothing. */
const HELLO_AGAIN = 1000;

/** ms between two acknowledgements: the kernel answers each with two messages (busy, idle), which delay the next frame. */
const ACK_EVERY = 250;

/** ms until a cut connection is tried again. */
const CUT = 300;

export class Link<F extends Frame> {
  readonly view = newName();
  /** Frames may have been missed and the answer is not here yet. */
  lost = false;
  private epoch = "";
  private seq = 0;
  private greeted = 0;
  private wants: Record<string, unknown> = {};
  private painting = 0;
  private acked = -Infinity;
  private gone = false;
  private closed = false;

  constructor(
    private readonly model: Model,
    private readonly deliver: (frame: F, buffers: DataView[]) => void,
    private readonly listener: Listener,
    wants: Record<string, unknown> = {},
    private readonly now: () => number = () => performance.now(),
  ) {
    this.wants = wants;
    model.on("msg:custom", this.receive);
    // Jupyter's model fires this when the connection to the kernel was cut, not whether it is back: trying shows it.
    model.on("comm_live_update", this.cut);
    this.hello();
  }

  /** Sends the kernel what this view shows now. */
  want(wants: Record<string, unknown>): void {
    this.wants = { ...this.wants, ...wants };
    this.send("wants", { wants: this.wants });
  }

  /** Requests everything anew. */
  renew(): void {
    this.hello();
  }

  /** False where there is no kernel any more: JupyterLab throws then. */
  send(kind: string, fields: Record<string, unknown> = {}): boolean {
    try {
      this.model.send({ ...fields, view: this.view, kind });
      return true;
    } catch {
      this.setGone(true);
      return false;
    }
  }

  close(): void {
    this.closed = true;
    this.model.off("msg:custom", this.receive);
    this.model.off("comm_live_update", this.cut);
    this.send("bye");
  }

  private setGone(gone: boolean): void {
    if (gone === this.gone || this.closed) return;
    this.gone = gone;
    this.listener.setGone(gone);
  }

  private cut = (): void => void setTimeout(() => !this.closed && this.send("wants", { wants: this.wants }), CUT);

  private hello(): void {
    this.greeted = this.now();
    this.send("hello", { wants: this.wants });
  }

  private receive = (frame: F, buffers: DataView[] = []): void => {
    if (frame?.view === ANYONE || frame?.view === this.view) this.setGone(false);
    if (frame?.view === ANYONE) {
      // Good until the view's own frames come.
      if (this.seq === 0) this.deliver(frame, buffers);
      return;
    }
    if (frame?.view !== this.view) return;
    const follows = frame.epoch === this.epoch && frame.seq === this.seq + 1;
    if (follows || frame.seq === 1 || frame.whole) {
      this.lost = false;
      this.epoch = frame.epoch;
      this.seq = frame.seq;
      this.deliver(frame, buffers);
      this.acknowledge();
    } else if (frame.epoch === this.epoch && frame.seq <= this.seq) {
      return; // an older one again
    } else {
      this.lost = true;
      if (this.now() - this.greeted > HELLO_AGAIN) this.hello();
    }
  };

  /** After the next paint, so that the kernel keeps to the page's pace. One for all frames since the last. */
  private acknowledge(): void {
    if (this.painting) return;
    this.painting = requestAnimationFrame(() => {
      setTimeout(() => {
        this.painting = 0;
        this.acked = this.now();
        if (!this.closed) this.send("ack", { seq: this.seq });
      }, Math.max(0, this.acked + ACK_EVERY - this.now()));
    });
  }
}

function newName(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(8));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
