/** `Cursors`: a board that shows everyone's pointer. */
import { h, lifetime, setText } from "../core/dom";
import { type Frame, Link, type Model } from "../core/link";
import { StatusLine } from "../core/status";
import { plural } from "../core/words";
import { hue } from "../core/names";

interface CursorsFrame extends Frame {
  state?: { status: string; error: string; topic: string; key: string; count: number };
  people?: [key: string, name: string][];
  moved?: [key: string, x: number, y: number][];
  gone?: string[];
}

/** ms between two positions sent to the kernel. */
const SEND_EVERY = 33;
/** ms in which a pointer glides to its last position: about the time until the next one. */
const GLIDE = 90;
/** ms after which a pointer that rests fades. */
const RESTS = 5000;
/** How far an arrow key moves, as a share of the board. */
const STEP = 0.02;
const STEPS = new Map([["ArrowLeft", [-STEP, 0]], ["ArrowRight", [STEP, 0]], ["ArrowUp", [0, -STEP]], ["ArrowDown", [0, STEP]]]);
const ARROW = "M1 1 L1 15 L5 11.5 L7.6 17 L10 16 L7.4 10.6 L12.6 10.4 Z";

interface Pointer {
  element: HTMLElement;
  label: HTMLElement;
  from: [number, number];
  to: [number, number];
  at: [number, number];
  since: number;
}

export default {
  render({ model, el, signal: given }: { model: Model; el: HTMLElement; signal?: AbortSignal }): () => void {
    const { signal, end } = lifetime(given);
    const status = new StatusLine();
    const label = "shared board: move the pointer, or use the arrow keys";
    const hint = h("p", { class: "rtw-hint", "aria-hidden": true }, "Move the pointer here: everyone sees it.");
    const board = h("div", { class: "rtw-board", role: "application", "aria-label": label, tabindex: 0 }, hint);
    const people = h("ul", { class: "rtw-people", "aria-label": "who is here" });
    const root = h("div", { class: "rtw rtw-cursors", "data-lm-suppress-shortcuts": true }, status.element, status.problem, board, people);
    el.append(root);

    const still = matchMedia("(prefers-reduced-motion: reduce)");
    const pointers = new Map<string, Pointer>();
    const names = new Map<string, string>();
    let mine = "";
    let own: [number, number] = [0.5, 0.5];
    let sentAt = -Infinity;
    let sending = 0;
    let drawing = 0;

    const pointer = (key: string, x: number, y: number): Pointer => {
      let known = pointers.get(key);
      if (known) return known;
      const name = h("bdi", {});
      const element = h("div", { class: key === mine ? "rtw-pointer rtw-own" : "rtw-pointer", "aria-hidden": true }, arrow(), name);
      element.style.setProperty("--rtw-hue", String(hue(key)));
      board.append(element);
      known = { element, label: name, from: [x, y], to: [x, y], at: [x, y], since: performance.now() };
      pointers.set(key, known);
      setText(name, names.get(key) ?? key);
      return known;
    };

    const goes = (key: string, x: number, y: number) => {
      hint.hidden = true;
      const known = pointer(key, x, y);
      known.from = known.at;
      known.to = [x, y];
      known.since = performance.now();
      draw();
    };

    const draw = () => {
      if (!drawing && !signal.aborted) drawing = requestAnimationFrame(step);
    };
    const step = () => {
      drawing = 0;
      const now = performance.now();
      const { clientWidth: width, clientHeight: height } = board;
      let moving = false;
      for (const [key, known] of pointers) {
        const part = still.matches || key === mine ? 1 : Math.min(1, (now - known.since) / GLIDE);
        known.at = [0, 1].map((i) => known.from[i]! + (known.to[i]! - known.from[i]!) * part) as [number, number];
        known.element.style.transform = `translate(${known.at[0] * width}px, ${known.at[1] * height}px)`;
        moving ||= part < 1;
        known.element.classList.toggle("rtw-rests", now - known.since > RESTS);
      }
      if (moving) draw();
    };

    const apply = (frame: CursorsFrame) => {
      if (frame.whole) for (const key of [...pointers.keys()]) if (key !== mine) forget(key);
      if (frame.state) {
        mine = frame.state.key;
        status.show(frame.state.status, frame.state.error, [frame.state.topic, `${frame.state.count} here`]);
      }
      if (frame.people) {
        names.clear();
        for (const [key, name] of frame.people) names.set(key, name);
        people.replaceChildren(
          ...frame.people.map(([key, name]) => {
            const item = h("li", {}, h("i", { "aria-hidden": true }), h("bdi", {}, key === mine ? `${name} (you)` : name));
            item.style.setProperty("--rtw-hue", String(hue(key)));
            return item;
          }),
        );
        board.title = plural(frame.people.length, "person").replace("persons", "people");
        for (const [key, known] of pointers) setText(known.label, names.get(key) ?? key);
      }
      for (const [key, x, y] of frame.moved ?? []) {
        // One's own pointer is where the hand is, not at the last position that the kernel received.
        if (key !== mine || !pointers.has(key)) goes(key, x, y);
      }
      for (const key of frame.gone ?? []) forget(key);
    };
    const forget = (key: string) => {
      pointers.get(key)?.element.remove();
      pointers.delete(key);
    };

    const link = new Link<CursorsFrame>(model, apply, status);
    const sendMoves = () => {
      sending = 0;
      sentAt = performance.now();
      link.send("move", { x: own[0], y: own[1] });
    };
    const move = (x: number, y: number) => {
      own = [Math.max(0, Math.min(1, x)), Math.max(0, Math.min(1, y))];
      if (mine) goes(mine, ...own);
      sending ||= window.setTimeout(sendMoves, Math.max(0, sentAt + SEND_EVERY - performance.now()));
    };
    board.addEventListener(
      "pointermove",
      (event) => {
        const box = board.getBoundingClientRect();
        if (box.width && box.height) move((event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height);
      },
      { signal },
    );
    board.addEventListener(
      "keydown",
      (event) => {
        const step = STEPS.get(event.key);
        event.stopPropagation();
        if (!step) return;
        event.preventDefault();
        move(own[0] + step[0]!, own[1] + step[1]!);
      },
      { signal },
    );
    const sized = new ResizeObserver(draw);
    sized.observe(board);
    const clock = window.setInterval(draw, 1000); // those that rest fade
    signal.addEventListener("abort", () => {
      sized.disconnect();
      clearInterval(clock);
      clearTimeout(sending);
      cancelAnimationFrame(drawing);
      link.close();
      root.remove();
    });
    return end;
  },
};

function arrow(): SVGElement {
  const made = <K extends keyof SVGElementTagNameMap>(tag: K, attributes: Record<string, string>): SVGElementTagNameMap[K] => {
    const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    return element;
  };
  const svg = made("svg", { width: "14", height: "18", viewBox: "0 0 14 18" });
  svg.append(made("path", { d: ARROW }));
  return svg;
}
