/**
 * A view's line to the kernel.
 *
 * The kernel pushes; nothing here waits for an answer, since while a cell runs none may come. Every frame carries the view it is
 * for, the kernel object's epoch and a number: a hole in the numbers, or another epoch (the kernel ran the cell again or was
 * restarted), and the view says hello and is sent everything anew.
 */

/** What of an anywidget model is used here. */
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
  /** Says everything: it needs no frame before it. */
  whole?: boolean;
}

/** Who is told that the kernel has gone, or is there again. */
export interface Listener {
  setGone(gone: boolean): void;
}

/** Frames for any view that has not been heard yet: a page opened while a cell runs cannot say hello. */
export const ANYONE = "*";

/** A second hello is sent this many ms after one that brought nothing. */
const HELLO_AGAIN = 1000;

/** ms between two acknowledgements: the kernel answers each with two messages (busy, idle), which hold up the next frame. */
const ACK_EVERY = 250;

/** ms until it is tried whether a line that was cut is whole again. */
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
    private readonly take: (frame: F, buffers: DataView[]) => void,
    private readonly listener: Listener,
    wants: Record<string, unknown> = {},
    private readonly now: () => number = () => performance.now(),
  ) {
    this.wants = wants;
    model.on("msg:custom", this.hear);
    // Jupyter's model has this event when the line to the kernel was cut, without saying whether it is whole again: trying tells.
    model.on("comm_live_update", this.cut);
    this.hello();
  }

  /** Tells the kernel what this view shows now. */
  want(wants: Record<string, unknown>): void {
    this.wants = { ...this.wants, ...wants };
    this.send("wants", { wants: this.wants });
  }

  /** Asks for everything anew. */
  again(): void {
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
    this.model.off("msg:custom", this.hear);
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

  private hear = (frame: F, buffers: DataView[] = []): void => {
    if (frame?.view === ANYONE || frame?.view === this.view) this.setGone(false);
    if (frame?.view === ANYONE) {
      // Good until the view's own frames come.
      if (this.seq === 0) this.take(frame, buffers);
      return;
    }
    if (frame?.view !== this.view) return;
    const follows = frame.epoch === this.epoch && frame.seq === this.seq + 1;
    if (follows || frame.seq === 1 || frame.whole) {
      this.lost = false;
      this.epoch = frame.epoch;
      this.seq = frame.seq;
      this.take(frame, buffers);
      this.acknowledge();
    } else if (frame.epoch === this.epoch && frame.seq <= this.seq) {
      return; // an older one again
    } else {
      this.lost = true;
      if (this.now() - this.greeted > HELLO_AGAIN) this.hello();
    }
  };

  /** After the next paint, so that the kernel's pace is that of the eye. One for all frames since the last. */
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
