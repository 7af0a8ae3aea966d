/** `BroadcastFeed`: the talk of a channel, and a box to take part in it. */
import { h, lifetime, setText } from "../core/dom";
import { Lines } from "../core/lines";
import { type Frame, Link, type Model } from "../core/link";
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
  /** What became of what was sent from here: number and, where it failed, why. */
  answers?: [number, string][];
}

/** What stands in the list: a message, or one that was sent from here and is under way. */
interface Entry {
  id: number | string;
  line: Line;
  /** Of a message under way. */
  sending?: boolean;
  /** Why it was not sent. */
  refused?: string;
}

/** Messages kept in the page; the variable holds more. */
const KEPT = 2000;
const SAY_AFTER = 1000;

export default {
  render({ model, el, signal: given }: { model: Model; el: HTMLElement; signal?: AbortSignal }): () => void {
    const { signal, end } = lifetime(given);
    const older = h("p", { class: "rtw-older", hidden: true });
    const unread = h("button", { type: "button", class: "rtw-unread", hidden: true });
    const box = h("textarea", { class: "rtw-box", rows: 1, "aria-label": "message", disabled: true, dir: "auto" });
    const send = h("button", { type: "submit", disabled: true }, "Send");
    const form = h("form", { class: "rtw-compose" }, box, send);
    const filter = h("input", { type: "search", class: "rtw-filter", placeholder: "filter", "aria-label": "filter messages" });
    const status = new StatusLine(filter);
    // The list itself is no live region: lines that come into view by scrolling are no news.
    const said = h("div", { class: "rtw-said", role: "log", "aria-label": "new messages" });
    const lines = new Lines<Entry>({ id: (entry) => entry.id, draw: (entry) => draw(entry) }, "messages", signal);
    const scroll = h("div", { class: "rtw-scroll" }, older, lines.element, unread);
    // Without the attribute JupyterLab would take keys pressed here for its own: two presses of D delete the cell.
    const root = h("div", { class: "rtw rtw-feed", "data-lm-suppress-shortcuts": true }, status.element, status.problem, scroll, said, form);
    el.append(root);

    let heard: Entry[] = [];
    const mine: Entry[] = [];
    let showEvent = false;
    let sent = 0;
    let last = -1;
    /** The first message that came while the view stood above the end. */
    let firstNew: number | null = null;
    let newer = 0;
    let toSay: Line[] = [];
    let saying = 0;

    const show = () => {
      const wanted = filter.value.trim().toLowerCase();
      const holds = ({ line }: Entry) => `${line.sender} ${line.event} ${line.text}`.toLowerCase().includes(wanted);
      const all = [...heard, ...mine]; // what is not sent yet stands last
      lines.set(wanted === "" ? all : all.filter(holds));
    };

    const draw = ({ id, line, sending, refused }: Entry): HTMLElement => {
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
      const whole = frame.whole === true && frame.lines !== undefined;
      if (whole) {
        heard = [];
        last = -1;
      }
      if (frame.lines && frame.from !== undefined) {
        const fresh = frame.lines.map((line, i) => ({ id: frame.from! + i, line })).filter(({ id }) => id > last);
        heard.push(...fresh);
        last = heard.at(-1)?.id as number ?? last;
        const others = fresh.filter(({ line }) => !line.mine);
        if (!whole) say(fresh.map(({ line }) => line));
        if (!whole && !lines.atEnd && others.length) {
          if (newer === 0) mark(others[0]!.id);
          newer += others.length;
        }
      }
      const held = Math.max(frame.held ?? 0, last - KEPT + 1);
      const keep = heard.findIndex(({ id }) => (id as number) >= held);
      heard = keep < 0 ? [] : heard.slice(keep);
      const first = (heard[0]?.id as number | undefined) ?? 0;
      older.hidden = first === 0;
      setText(older, `${plural(first, "older message")} not shown here`);
      show();
      tellUnread();
    };

    const tellUnread = () => {
      unread.hidden = newer === 0;
      setText(unread, `${newer} new ↓`);
    };
    lines.onEnd = (atEnd) => {
      if (!atEnd) return;
      newer = 0;
      tellUnread();
    };

    const link = new Link<FeedFrame>(model, take, status);

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
    filter.addEventListener("input", show, { signal });
    unread.addEventListener("click", () => lines.toEnd(), { signal });
    signal.addEventListener("abort", () => {
      clearTimeout(saying);
      link.close();
      root.remove();
    });
    return end;
  },
};
