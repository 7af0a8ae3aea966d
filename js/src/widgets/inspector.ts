/** `Inspector`: every frame, both ways, what it means, and the frame itself on request. */
import { h, lifetime, setAttribute, setText } from "../core/dom";
import { Lines } from "../core/lines";
import { type Frame, Link, type Model } from "../core/link";
import { StatusLine } from "../core/status";
import { exactClock, plural } from "../core/words";

interface Line {
  at: number;
  way: "in" | "out";
  event: string;
  text: string;
  frame: string;
}
interface InspectorFrame extends Frame {
  state?: { of: string; count: number; paused: boolean; waiting: number };
  from?: number;
  lines?: Line[];
  held?: number;
  file?: string;
}
interface Entry {
  id: number;
  line: Line;
}

const KEPT = 5000;
const KINDS: [value: string, text: string, events: string[]][] = [
  ["", "all kinds", []],
  ["broadcast", "broadcast", ["broadcast"]],
  ["presence", "presence", ["presence", "presence_state", "presence_diff"]],
  ["changes", "database changes", ["postgres_changes"]],
  ["channel", "join and leave", ["phx_join", "phx_leave", "phx_close", "phx_error", "phx_reply", "system", "access_token"]],
  ["heartbeat", "heartbeat", ["heartbeat"]],
];

export default {
  render({ model, el, signal: given }: { model: Model; el: HTMLElement; signal?: AbortSignal }): () => void {
    const { signal, end } = lifetime(given);
    const button = (text: string, title: string) => h("button", { type: "button", title }, text);
    const search = h("input", { type: "search", class: "rtw-filter", placeholder: "filter", "aria-label": "filter frames" });
    const kind = h("select", { "aria-label": "kind of frame" }, ...KINDS.map(([value, text]) => h("option", { value }, text)));
    const way = h(
      "select",
      { "aria-label": "direction" },
      ...[["", "both ways"], ["out", "sent →"], ["in", "← received"]].map(([value, text]) => h("option", { value }, text!)),
    );
    const pause = button("pause", "let the list stand still");
    const clear = button("clear", "forget the frames");
    const save = button("export", "download the frames as JSON lines");
    const status = new StatusLine(search, kind, way, pause, clear, save);
    const lines = new Lines<Entry>({ id: ({ id }) => id, draw: (entry) => draw(entry) }, "frames", signal);
    const root = h("div", { class: "rtw rtw-inspector", "data-lm-suppress-shortcuts": true }, status.element, status.problem, lines.element);
    el.append(root);

    let all: Entry[] = [];
    let last = -1;
    let paused = false;
    const open = new Set<number>();

    const draw = ({ id, line }: Entry): HTMLElement => {
      const at = new Date(line.at);
      const arrow = line.way === "out" ? "→" : "←";
      const summary = h(
        "summary",
        {},
        h("time", { datetime: at.toISOString(), title: at.toISOString() }, exactClock(line.at)),
        h("b", { title: line.way === "out" ? "sent" : "received", "aria-label": line.way === "out" ? "sent" : "received" }, arrow),
        h("code", {}, line.event),
        h("span", { class: "rtw-text", dir: "auto" }, line.text),
      );
      const details = h("details", { class: `rtw-line rtw-${line.way}` }, summary);
      const unfold = () => {
        if (details.childElementCount === 1) details.append(h("pre", { tabindex: 0 }, line.frame));
      };
      if (open.has(id)) {
        details.open = true;
        unfold();
      }
      details.addEventListener("toggle", () => {
        if (details.open) {
          open.add(id);
          unfold();
        } else open.delete(id);
        lines.redraw();
      });
      return h("div", {}, details);
    };

    const show = () => {
      const wanted = search.value.trim().toLowerCase();
      const events = KINDS.find(([value]) => value === kind.value)?.[2] ?? [];
      const is = (event: string, topicReply: boolean) => events.includes(event) && !(topicReply && kind.value !== "heartbeat");
      const passes = ({ line }: Entry) => {
        const beat = line.event === "heartbeat" || (line.event === "phx_reply" && line.text.startsWith("heartbeat:"));
        if (way.value && line.way !== way.value) return false;
        if (kind.value === "heartbeat" ? !beat : events.length && !is(line.event, beat)) return false;
        return wanted === "" || `${line.text} ${line.event} ${line.frame}`.toLowerCase().includes(wanted);
      };
      const shown = all.filter(passes);
      lines.set(shown);
      return shown.length;
    };

    const take = (frame: InspectorFrame) => {
      if (frame.whole && frame.lines) {
        all = [];
        last = -1;
      }
      if (frame.lines && frame.from !== undefined) {
        for (const [i, line] of frame.lines.entries()) {
          const id = frame.from + i;
          if (id > last) all.push({ id: (last = id), line });
        }
      }
      const held = Math.max(frame.held ?? 0, last - KEPT + 1);
      if (all.length && all[0]!.id < held) all = all.filter(({ id }) => id >= held);
      const shown = show();
      if (frame.state) {
        paused = frame.state.paused;
        const facts = [frame.state.of, plural(frame.state.count, "frame")];
        if (shown < all.length) facts.push(`${shown} shown`);
        status.show(paused ? "paused" : "live", "", facts);
        setText(pause, !paused ? "pause" : frame.state.waiting ? `resume (${frame.state.waiting})` : "resume");
        setAttribute(pause, "aria-pressed", String(paused));
      }
      if (frame.file !== undefined) download(frame.file);
    };

    const link = new Link<InspectorFrame>(model, take, status);
    for (const control of [search, kind, way]) control.addEventListener("input", show, { signal });
    pause.addEventListener("click", () => link.send(paused ? "resume" : "pause"), { signal });
    clear.addEventListener("click", () => link.send("clear"), { signal });
    save.addEventListener("click", () => link.send("export"), { signal });
    root.addEventListener("keydown", (event) => event.stopPropagation(), { signal });
    signal.addEventListener("abort", () => {
      link.close();
      root.remove();
    });
    return end;
  },
};

function download(text: string): void {
  const url = URL.createObjectURL(new Blob([text], { type: "application/x-ndjson" }));
  h("a", { href: url, download: "frames.jsonl" }).click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}
