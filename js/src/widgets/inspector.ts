/** `Inspector`: every frame, both ways, what it means, and the frame itself on request. */
import { download } from "../core/browser";
import { h, lifetime, setAttribute, setText } from "../core/dom";
import { Link, type Model } from "../core/link";
import { type Item, type ListFrame, PagedList } from "../core/paged_list";
import { StatusLine } from "../core/status";
import { count, exactClock, plural } from "../core/words";

interface Line {
  at: number;
  way: "in" | "out";
  event: string;
  text: string;
  frame: string;
}
interface InspectorFrame extends ListFrame<Line> {
  state?: { of: string; count: number; paused: boolean; waiting: number };
  /** The frames as JSON lines, to download. */
  file?: string;
}

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
    const list = new PagedList<Line>({ noun: "frame", nouns: "frames", draw: (item) => draw(item), read: (read) => link.send("read", { ...read }) }, signal);
    const root = h("div", { class: "rtw rtw-inspector", "data-lm-suppress-shortcuts": true }, status.element, status.problem, list.element);
    el.append(root);

    /** The text searched for, in small letters. */
    let wanted = "";
    let paused = false;
    let state: InspectorFrame["state"];
    const open = new Set<number>();

    const draw = ({ id, line }: Item<Line>): HTMLElement => {
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
        list.lines.redraw();
      });
      return h("div", {}, details);
    };

    const passes = ({ line }: Item<Line>): boolean => {
      const beat = line.event === "heartbeat" || (line.event === "phx_reply" && line.text.startsWith("heartbeat:"));
      const events = KINDS.find(([value]) => value === kind.value)?.[2] ?? [];
      if (way.value && line.way !== way.value) return false;
      if (kind.value === "heartbeat" ? !beat : events.length && (beat || !events.includes(line.event))) return false;
      return wanted === "" || `${line.text} ${line.event} ${line.frame}`.toLowerCase().includes(wanted);
    };

    const choose = () => {
      wanted = search.value.trim().toLowerCase();
      const filtered = wanted !== "" || kind.value !== "" || way.value !== "";
      list.filterBy(wanted, filtered ? passes : null);
      showState();
    };

    const apply = (frame: InspectorFrame) => {
      list.apply(frame);
      list.show();
      if (frame.state) state = frame.state;
      showState();
      if (frame.file !== undefined) download("frames.jsonl", frame.file, "application/x-ndjson");
    };

    const showState = () => {
      if (!state) return;
      paused = state.paused;
      const facts = [state.of, plural(state.count, "frame")];
      if (list.matches !== null) facts.push(`${count(list.matches)} shown`);
      status.show(paused ? "paused" : "live", "", facts);
      setText(pause, !paused ? "pause" : state.waiting ? `resume (${state.waiting})` : "resume");
      setAttribute(pause, "aria-pressed", String(paused));
    };

    const setGone = (gone: boolean) => {
      status.setGone(gone);
      list.setGone(gone);
    };
    const link = new Link<InspectorFrame>(model, apply, { setGone });
    for (const control of [search, kind, way]) control.addEventListener("input", choose, { signal });
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
