/** `BroadcastFeed`: the talk of a channel, and a box to take part in it. */
import { h, lifetime, setText } from "../core/dom";
import { Lines } from "../core/lines";
import { type Frame, Link, type Model } from "../core/link";
import { type Gap, Log, isGap } from "../core/log";
import { Pager } from "../core/pager";
import { StatusLine } from "../core/status";
import { clock, plural } from "../core/words";

interface Line {
  at: number;
  event: string;
  sender: string;
  text: string;
  mine: boolean;
}
interface FeedFrame extends Frame {
  state?: { status: string; error: string; topic: string; event: string; sender: string | null; count: number };
  /** The number of the first line below, counted from the first message ever. */
  from?: number;
  lines?: Line[];
  /** Lines before this one are no longer held. */
  held?: number;
  /** Older lines that were asked for: of those from `start` to before `stop` all that pass the filter, with their numbers. */
  pages?: { start: number; stop: number; filter: string; lines: [number, Line][] }[];
  /** What became of what was sent from here: number and, where it failed, why. */
  answers?: [number, string][];
}

interface Heard {
  id: number;
  line: Line;
}
/** A message that was sent from here and is under way. */
interface Mine {
  id: string;
  line: Line;
  sending: boolean;
  /** Why it was not sent. */
  refused?: string;
}
/** What stands in the list. */
type Entry = Heard | Mine | Gap;

const SAY_AFTER = 1000;

export default {
  render({ model, el, signal: given }: { model: Model; el: HTMLElement; signal?: AbortSignal }): () => void {
    const { signal, end } = lifetime(given);
    const unread = h("button", { type: "button", class: "rtw-unread", hidden: true });
    const box = h("textarea", { class: "rtw-box", rows: 1, "aria-label": "message", disabled: true, dir: "auto" });
    const send = h("button", { type: "submit", disabled: true }, "Send");
    const form = h("form", { class: "rtw-compose" }, box, send);
    const filter = h("input", { type: "search", class: "rtw-filter", placeholder: "filter", "aria-label": "filter messages" });
    const status = new StatusLine(filter);
    // The list itself is no live region: lines that come into view by scrolling are no news.
    const said = h("div", { class: "rtw-said", role: "log", "aria-label": "new messages" });
    const empty = h("p", { class: "rtw-no-lines", hidden: true });
    const lines = new Lines<Entry>(
      {
        id: (entry) => entry.id,
        draw: (entry) => (isGap(entry) ? pager.draw(entry, wanted !== "") : draw(entry)),
        isFirm: (entry) => !isGap(entry),
        place: (entry) => {
          if (isGap(entry)) return null;
          const before = typeof entry.id === "number" ? entry.id : total + mine.indexOf(entry as Mine);
          return [before - held + 1, total - held + mine.length];
        },
      },
      "messages",
      signal,
    );
    const pager = new Pager("message", (read) => link.send("read", { ...read, filter: wanted }), () => redrawGaps(), signal);
    const scroll = h("div", { class: "rtw-list" }, lines.element, empty, unread);
    // Without the attribute JupyterLab would take keys pressed here for its own: two presses of D delete the cell.
    const root = h("div", { class: "rtw rtw-feed", "data-lm-suppress-shortcuts": true }, status.element, status.problem, scroll, said, form);
    el.append(root);

    let epoch = "";
    /** The messages: all that are known, and those of them that pass the filter, while there is one. */
    let all = new Log<Heard>();
    let found: Log<Heard> | null = null;
    let wanted = "";
    const mine: Mine[] = [];
    /** The number of the first message that the kernel holds, and that of the next one to come. */
    let held = 0;
    let total = 0;
    let loaded = false;
    let showEvent = false;
    let sent = 0;
    /** The first message that came while the view stood above the end. */
    let firstNew: number | null = null;
    let newer = 0;
    let toSay: Line[] = [];
    let saying = 0;

    const passes = ({ line }: { line: Line }) => `${line.sender} ${line.event} ${line.text}`.toLowerCase().includes(wanted);

    const show = () => {
      const reading = lines.reading;
      const near = lines.atEnd || reading === undefined || typeof reading.id !== "number" ? undefined : reading.id;
      all.trim(near);
      found?.trim(near);
      const entries: Entry[] = (found ?? all).entries;
      entries.push(...(wanted === "" ? mine : mine.filter(passes))); // what is not sent yet stands last
      lines.set(entries);
      empty.hidden = entries.length > 0 || !loaded;
      setText(empty, wanted ? "No message matches." : "No messages yet.");
    };

    const redrawGaps = () => {
      for (const entry of (found ?? all).entries) if (isGap(entry)) lines.refresh(entry.id);
      lines.redraw();
    };

    const filterBy = (text: string) => {
      if (text === wanted) return;
      const reading = lines.atEnd ? undefined : lines.reading;
      // Who has found a message and drops the filter wants to see what was said around it.
      if (text === "" && reading && typeof reading.id === "number") all.add(reading.id, reading.id + 1, [reading as Heard]);
      wanted = text;
      found = text === "" ? null : all.narrowed(passes);
      pager.anew();
      show();
      if (text !== "") lines.toEnd();
    };

    const draw = (entry: Heard | Mine): HTMLElement => {
      const { id, line } = entry;
      const { sending, refused } = entry as Partial<Mine>;
      const at = new Date(line.at).toISOString();
      const row = h(
        "div",
        { class: line.mine ? "rtw-line rtw-mine" : "rtw-line" },
        h("time", { datetime: at, title: at }, clock(line.at)),
        h("b", { dir: "auto" }, line.sender),
        ...(showEvent ? [h("code", {}, line.event)] : []),
        h("span", { class: "rtw-text", dir: "auto" }, line.text),
      );
      if (sending) row.append(h("i", {}, " sending…"));
      if (refused) row.append(h("span", { class: "rtw-why", role: "alert" }, ` not sent: ${refused}`));
      row.classList.toggle("rtw-waiting", sending === true);
      row.classList.toggle("rtw-refused", refused !== undefined);
      row.classList.toggle("rtw-first-new", id === firstNew);
      return row;
    };

    const mark = (first: number | null) => {
      for (const id of [firstNew, first]) if (id !== null) lines.refresh(id);
      firstNew = first;
    };

    /** Reads new messages to who cannot see them; many at once are only counted. */
    const say = (fresh: Line[]) => {
      toSay.push(...fresh.filter((line) => !line.mine));
      if (!toSay.length || saying) return;
      saying = window.setTimeout(() => {
        saying = 0;
        const few = toSay.length <= 3;
        said.replaceChildren(...(few ? toSay.map((line) => h("p", {}, `${line.sender}: ${line.text}`)) : [plural(toSay.length, "new message")]));
        toSay = [];
      }, SAY_AFTER);
    };

    const take = (frame: FeedFrame) => {
      const state = frame.state;
      if (state) {
        const facts = [state.topic + (state.event === "*" ? "" : ` · ${state.event}`), plural(state.count, "message")];
        status.show(state.status, state.error, facts);
        showEvent = state.event === "*";
        const able = state.status !== "closed";
        box.disabled = send.disabled = !able;
        box.placeholder = able ? `Message${state.sender ? ` as ${state.sender}` : ""}` : "the feed is closed";
      }
      for (const [number, why] of frame.answers ?? []) settle(number, why);
      if (frame.epoch !== epoch) {
        // Another feed than before: the cell was run again.
        epoch = frame.epoch;
        all = new Log();
        found = found && all.narrowed(passes);
        [held, total, newer, firstNew, loaded] = [0, 0, 0, null, false];
        lines.toEnd();
      }
      if (frame.seq <= 1) pager.answered(); // the view is a new one to the kernel: what was asked before is forgotten
      if (frame.lines && frame.from !== undefined) hear(frame.from, frame.lines);
      for (const { start, stop, filter, lines } of frame.pages ?? []) {
        const old = lines.map(([id, line]) => ({ id, line }));
        if (filter === "") all.add(start, stop, old);
        if (filter === wanted) {
          pager.answered();
          found?.add(start, stop, old);
        }
      }
      if (frame.held !== undefined) {
        held = frame.held;
        all.forget(held);
        found?.forget(held);
      }
      show();
      tellUnread();
    };

    /** Messages from the one numbered `from` on; where more came than a frame takes, some before are missing. */
    const hear = (from: number, fresh: Line[]) => {
      const heard = fresh.map((line, i) => ({ id: from + i, line }));
      const stop = from + fresh.length;
      all.add(from, stop, heard);
      found?.add(from, stop, heard);
      const news = heard.filter(({ id }) => id >= total);
      if (loaded) {
        say(news.map(({ line }) => line));
        const others = stop - total - news.filter(({ line }) => line.mine).length;
        if (!lines.atEnd && others > 0) {
          if (newer === 0) mark(news.length < stop - total ? total : news.find(({ line }) => !line.mine)!.id);
          newer += others;
        }
      }
      total = Math.max(total, stop);
      loaded = true;
    };

    const tellUnread = () => {
      unread.hidden = newer === 0;
      setText(unread, `${newer.toLocaleString("en-US")} new ↓`);
    };
    lines.onNear = (near, first) => pager.seek(near, first);
    lines.onEnd = (atEnd) => {
      if (!atEnd) return;
      newer = 0;
      tellUnread();
    };

    const setGone = (gone: boolean) => {
      status.setGone(gone);
      pager.setGone(gone);
    };
    const link = new Link<FeedFrame>(model, take, { setGone });

    /** A line goes when the kernel has sent it (its echo comes as a message); a refused one gives its text back. */
    const settle = (number: number, why: string) => {
      const at = mine.findIndex(({ id }) => id === `sent-${number}`);
      if (at < 0) return;
      const entry = mine[at]!;
      lines.refresh(entry.id);
      if (why === "") {
        mine.splice(at, 1);
        return;
      }
      entry.sending = false;
      entry.refused = why;
      if (box.value === "") box.value = entry.line.text;
    };

    const submit = () => {
      const text = box.value.trim();
      if (text === "" || box.disabled) return;
      sent += 1;
      const line = { at: Date.now(), event: "", sender: "", text, mine: true };
      for (let i = mine.length - 1; i >= 0; i--) if (mine[i]!.refused !== undefined) mine.splice(i, 1); // its text was given back
      mine.push({ id: `sent-${sent}`, line, sending: true });
      mark(null);
      box.value = "";
      grow();
      show();
      lines.toEnd();
      if (link.send("send", { text, number: sent })) return;
      settle(sent, "not sent: there is no kernel");
      show();
    };
    const grow = () => {
      box.style.height = "auto";
      if (box.scrollHeight) box.style.height = `${Math.min(box.scrollHeight, 120)}px`;
    };

    form.addEventListener("submit", (event) => (event.preventDefault(), submit()), { signal });
    box.addEventListener("input", grow, { signal });
    // The notebook must not take keys pressed here for its own commands.
    root.addEventListener("keydown", (event) => event.stopPropagation(), { signal });
    box.addEventListener(
      "keydown",
      (event) => {
        if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
        event.preventDefault();
        submit();
      },
      { signal },
    );
    filter.addEventListener("input", () => filterBy(filter.value.trim().toLowerCase()), { signal });
    unread.addEventListener("click", () => lines.toEnd(), { signal });
    signal.addEventListener("abort", () => {
      clearTimeout(saying);
      link.close();
      root.remove();
    });
    return end;
  },
};
