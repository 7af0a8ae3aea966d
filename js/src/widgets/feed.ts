/** `BroadcastFeed`: the messages of a channel, and a box to send one. */
import { h, lifetime, setText } from "../core/dom";
import { Link, type Model } from "../core/link";
import { type Item, type ListFrame, type News, PagedList } from "../core/paged_list";
import { StatusLine } from "../core/status";
import { clock, count, plural } from "../core/words";

interface Line {
  at: number;
  event: string;
  sender: string;
  text: string;
  mine: boolean;
}
interface FeedFrame extends ListFrame<Line> {
  state?: { status: string; error: string; topic: string; event: string; sender: string | null; count: number };
  /** What became of what was sent from here: number and, where it failed, why. */
  answers?: [number, string][];
}

/** A message that was sent from here and is under way. */
interface Outgoing {
  id: string;
  line: Line;
  sending: boolean;
  /** Why it was not sent. */
  refused?: string;
}
/** Milliseconds between two announcements of new messages. */
const ANNOUNCE_EVERY = 1000;

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
    const announcer = h("div", { class: "rtw-announcer", role: "log", "aria-label": "new messages" });
    const list = new PagedList<Line, Outgoing>(
      {
        noun: "message",
        nouns: "messages",
        draw: (entry) => draw(entry),
        read: (read) => link.send("read", { ...read }),
        tail: () => (filtering ? outgoing.filter(passes) : outgoing), // what is not sent yet stands last
      },
      signal,
    );
    const { lines } = list;
    list.element.append(unread);
    // Without the attribute JupyterLab runs its own commands on keys pressed here: two presses of D delete the cell.
    const root = h("div", { class: "rtw rtw-feed", "data-lm-suppress-shortcuts": true }, status.element, status.problem, list.element, announcer, form);
    el.append(root);

    /** The text filtered by, in small letters; empty for none. */
    let filtering = "";
    const outgoing: Outgoing[] = [];
    let showEvent = false;
    let sent = 0;
    /** The first message that came while the view stood above the end. */
    let firstNew: number | null = null;
    let epoch = "";
    let newer = 0;
    let unannounced: Line[] = [];
    let announcing = 0;

    const passes = ({ line }: { line: Line }) => `${line.sender} ${line.event} ${line.text}`.toLowerCase().includes(filtering);

    const filterBy = (text: string) => {
      if (text === filtering) return;
      filtering = text;
      list.filterBy(text, text === "" ? null : passes);
    };

    const draw = (entry: Item<Line> | Outgoing): HTMLElement => {
      const { id, line } = entry;
      const { sending, refused } = entry as Partial<Outgoing>;
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

    /** Announces new messages to screen readers; of many at once only how many. */
    const announce = (fresh: Line[]) => {
      unannounced.push(...fresh.filter((line) => !line.mine));
      if (!unannounced.length || announcing) return;
      announcing = window.setTimeout(() => {
        announcing = 0;
        const few = unannounced.length <= 3;
        const texts = unannounced.map((line) => h("p", {}, `${line.sender}: ${line.text}`));
        announcer.replaceChildren(...(few ? texts : [plural(unannounced.length, "new message")]));
        unannounced = [];
      }, ANNOUNCE_EVERY);
    };

    const apply = (frame: FeedFrame) => {
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
      if (frame.epoch !== epoch) [epoch, newer, firstNew] = [frame.epoch, 0, null];
      const news = list.apply(frame);
      if (news) noteNews(news);
      list.show();
      drawUnread();
    };

    /** Counts and announces new messages; the first of them is marked while the view stands above the end. */
    const noteNews = ({ items, start, stop }: News<Line>) => {
      announce(items.map(({ line }) => line));
      const others = stop - start - items.filter(({ line }) => line.mine).length;
      if (lines.atEnd || others <= 0) return;
      if (newer === 0) mark(items.length < stop - start ? start : items.find(({ line }) => !line.mine)!.id);
      newer += others;
    };

    const drawUnread = () => {
      unread.hidden = newer === 0;
      setText(unread, `${count(newer)} new ↓`);
    };
    lines.onEnd = (atEnd) => {
      if (!atEnd) return;
      newer = 0;
      drawUnread();
    };

    const setGone = (gone: boolean) => {
      status.setGone(gone);
      list.setGone(gone);
    };
    const link = new Link<FeedFrame>(model, apply, { setGone });

    /** A line goes when the kernel has sent it (its echo comes as a message); a refused one gives its text back. */
    const settle = (number: number, why: string) => {
      const at = outgoing.findIndex(({ id }) => id === `sent-${number}`);
      if (at < 0) return;
      const entry = outgoing[at]!;
      lines.refresh(entry.id);
      if (why === "") {
        outgoing.splice(at, 1);
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
      for (let i = outgoing.length - 1; i >= 0; i--) if (outgoing[i]!.refused !== undefined) outgoing.splice(i, 1); // its text was given back
      outgoing.push({ id: `sent-${sent}`, line, sending: true });
      mark(null);
      box.value = "";
      grow();
      list.show();
      lines.toEnd();
      if (link.send("send", { text, number: sent })) return;
      settle(sent, "not sent: there is no kernel");
      list.show();
    };
    const grow = () => {
      box.style.height = "auto";
      if (box.scrollHeight) box.style.height = `${Math.min(box.scrollHeight, 120)}px`;
    };

    form.addEventListener("submit", (event) => (event.preventDefault(), submit()), { signal });
    box.addEventListener("input", grow, { signal });
    // The notebook must not run its own commands on keys pressed here.
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
      clearTimeout(announcing);
      link.close();
      root.remove();
    });
    return end;
  },
};
