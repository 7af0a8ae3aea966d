/** `Inspector`: every frame, both ways, what it means, and the frame itself on request. */
import { h, lifetime, setAttribute, setText } from "../core/dom";
import { Lines } from "../core/lines";
import { type Frame, Link, type Model } from "../core/link";
import { type Gap, Log, isGap } from "../core/log";
import { Pager } from "../core/pager";
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
  /** Older frames that were asked for, those that the search finds, with their numbers. */
  pages?: { start: number; stop: number; filter: string; lines: [number, Line][] }[];
  file?: string;
}
interface Entry {
  id: number;
  line: Line;
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
    const lines = new Lines<Entry | Gap>(
      {
        id: ({ id }) => id,
        draw: (entry) => (isGap(entry) ? pager.draw(entry, found !== null) : draw(entry)),
        isFirm: (entry) => !isGap(entry),
        place: (entry) => (isGap(entry) ? null : [entry.id - held + 1, total - held]),
      },
      "frames",
      signal,
    );
    const pager = new Pager("frame", (read) => link.send("read", { ...read, filter: wanted }), () => redrawGaps(), signal);
    const empty = h("p", { class: "rtw-no-lines", hidden: true });
    const root = h("div", { class: "rtw rtw-inspector", "data-lm-suppress-shortcuts": true }, status.element, status.problem, h("div", { class: "rtw-list" }, lines.element, empty));
    el.append(root);

    let epoch = "";
    /** The frames: all that are known, and those of them that pass what is chosen above. */
    let all = new Log<Entry>();
    let found: Log<Entry> | null = null;
    /** The text searched for. */
    let wanted = "";
    let held = 0;
    let total = 0;
    let loaded = false;
    let paused = false;
    let state: InspectorFrame["state"];
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

    lines.onNear = (near, first) => pager.seek(near, first);

    const passes = ({ line }: Entry): boolean => {
      const beat = line.event === "heartbeat" || (line.event === "phx_reply" && line.text.startsWith("heartbeat:"));
      const events = KINDS.find(([value]) => value === kind.value)?.[2] ?? [];
      if (way.value && line.way !== way.value) return false;
      if (kind.value === "heartbeat" ? !beat : events.length && (beat || !events.includes(line.event))) return false;
      return wanted === "" || `${line.text} ${line.event} ${line.frame}`.toLowerCase().includes(wanted);
    };

    const show = () => {
      const reading = lines.atEnd || !lines.reading || isGap(lines.reading) ? undefined : lines.reading.id;
      all.trim(reading);
      found?.trim(reading);
      const { entries } = found ?? all;
      lines.set(entries);
      empty.hidden = entries.length > 0 || !loaded;
      setText(empty, found ? "No frame passes the filter." : "No frames yet.");
    };

    const redrawGaps = () => {
      for (const entry of (found ?? all).entries) if (isGap(entry)) lines.refresh(entry.id);
      lines.redraw();
    };

    const choose = () => {
      wanted = search.value.trim().toLowerCase();
      const reading = lines.atEnd ? undefined : lines.reading;
      const narrowed = wanted !== "" || kind.value !== "" || way.value !== "";
      // Who has found a frame and drops the filter wants to see what was around it.
      if (!narrowed && reading && !isGap(reading)) all.add(reading.id, reading.id + 1, [reading]);
      found = narrowed ? all.narrowed(passes) : null;
      pager.anew();
      show();
      if (narrowed) lines.toEnd();
      tell();
    };

    const take = (frame: InspectorFrame) => {
      if (frame.epoch !== epoch) {
        epoch = frame.epoch;
        all = new Log();
        found = found && all.narrowed(passes);
        [held, total, loaded] = [0, 0, false];
        lines.toEnd();
      }
      if (frame.seq <= 1) pager.answered(); // the view is a new one to the kernel: what was asked before is forgotten
      if (frame.lines && frame.from !== undefined) {
        const fresh = frame.lines.map((line, i) => ({ id: frame.from! + i, line }));
        all.add(frame.from, frame.from + fresh.length, fresh);
        found?.add(frame.from, frame.from + fresh.length, fresh);
        total = Math.max(total, frame.from + fresh.length);
        loaded = true;
      }
      for (const { start, stop, filter, lines } of frame.pages ?? []) {
        const old = lines.map(([id, line]) => ({ id, line }));
        if (filter === "") all.add(start, stop, old);
        if (filter !== wanted) continue;
        pager.answered();
        found?.add(start, stop, old);
      }
      if (frame.held !== undefined) {
        held = frame.held;
        all.forget(held);
        found?.forget(held);
      }
      show();
      if (frame.state) state = frame.state;
      tell();
      if (frame.file !== undefined) download(frame.file);
    };

    const tell = () => {
      if (!state) return;
      paused = state.paused;
      const facts = [state.of, plural(state.count, "frame")];
      if (found) facts.push(`${found.size} shown`);
      status.show(paused ? "paused" : "live", "", facts);
      setText(pause, !paused ? "pause" : state.waiting ? `resume (${state.waiting})` : "resume");
      setAttribute(pause, "aria-pressed", String(paused));
    };

    const setGone = (gone: boolean) => {
      status.setGone(gone);
      pager.setGone(gone);
    };
    const link = new Link<InspectorFrame>(model, take, { setGone });
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

function download(text: string): void {
  const url = URL.createObjectURL(new Blob([text], { type: "application/x-ndjson" }));
  h("a", { href: url, download: "frames.jsonl" }).click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}
