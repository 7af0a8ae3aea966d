/** `BroadcastFeed`: the talk of a channel, and a box to take part in it. */
import { h, lifetime, setText } from "../core/dom";
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

/** Lines kept in the page; the variable holds more. */
const KEPT = 1000;

export default {
  render({ model, el, signal: given }: { model: Model; el: HTMLElement; signal?: AbortSignal }): () => void {
    const { signal, end } = lifetime(given);
    const older = h("p", { class: "rtw-older", hidden: true });
    const log = h("div", { class: "rtw-log", role: "log", "aria-label": "messages", tabindex: 0 }, older);
    const unread = h("button", { type: "button", class: "rtw-unread", hidden: true });
    const box = h("textarea", { class: "rtw-box", rows: 1, "aria-label": "message", disabled: true });
    const send = h("button", { type: "submit", disabled: true }, "Send");
    const form = h("form", { class: "rtw-compose" }, box, send);
    const filter = h("input", { type: "search", class: "rtw-filter", placeholder: "filter", "aria-label": "filter messages" });
    const status = new StatusLine(filter);
    const root = h("div", { class: "rtw rtw-feed" }, status.element, status.problem, h("div", { class: "rtw-scroll" }, log, unread), form);
    el.append(root);

    const rows = new Map<number, HTMLElement>();
    const waiting = new Map<number, { row: HTMLElement; text: string }>();
    let showEvent = false;
    let newer = 0;
    let sent = 0;
    let last = -1;

    const atEnd = () => log.scrollHeight - log.scrollTop - log.clientHeight < 24;
    const toEnd = () => {
      log.scrollTop = log.scrollHeight;
      newer = 0;
      unread.hidden = true;
    };
    const hides = (row: HTMLElement) => {
      const wanted = filter.value.trim().toLowerCase();
      row.hidden = wanted !== "" && !(row.textContent ?? "").toLowerCase().includes(wanted);
    };

    const draw = (line: Line): HTMLElement => {
      const row = h(
        "div",
        { class: line.mine ? "rtw-line rtw-mine" : "rtw-line" },
        h("time", { datetime: new Date(line.at).toISOString(), title: new Date(line.at).toISOString() }, clock(line.at)),
        h("b", { dir: "auto" }, line.sender),
        ...(showEvent ? [h("code", {}, line.event)] : []),
        h("span", { class: "rtw-text", dir: "auto" }, line.text),
      );
      hides(row);
      return row;
    };

    const drop = (before: number) => {
      for (const number of rows.keys()) {
        if (number >= before) break;
        rows.get(number)?.remove();
        rows.delete(number);
      }
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
      const follow = atEnd();
      if (frame.whole && frame.lines) {
        drop(Infinity);
        last = -1;
      }
      if (frame.lines && frame.from !== undefined) {
        const fresh = document.createDocumentFragment();
        frame.lines.forEach((line, i) => {
          const number = frame.from! + i;
          if (number <= last) return;
          last = number;
          const row = draw(line);
          rows.set(number, row);
          fresh.append(row);
          if (!follow && !line.mine) newer += 1;
        });
        log.append(fresh);
        for (const { row } of waiting.values()) log.append(row); // what is not sent yet stands last
      }
      if (frame.held !== undefined) drop(frame.held);
      if (rows.size > KEPT) drop(last - KEPT + 1);
      const first = rows.keys().next().value ?? 0;
      older.hidden = first === 0;
      setText(older, `${plural(first, "older message")} not shown here`);
      if (follow) toEnd();
      else if (newer > 0) {
        setText(unread, `${newer} new ↓`);
        unread.hidden = false;
      }
    };

    const link = new Link<FeedFrame>(model, take);

    /** A line goes when the kernel has sent it (its echo comes as a message); a refused one gives its text back. */
    const settle = (number: number, why: string) => {
      const pending = waiting.get(number);
      if (!pending) return;
      waiting.delete(number);
      if (why === "") {
        pending.row.remove();
        return;
      }
      pending.row.classList.add("rtw-refused");
      pending.row.append(h("span", { role: "alert" }, ` not sent: ${why}`));
      if (box.value === "") box.value = pending.text;
    };

    const submit = () => {
      const text = box.value.trim();
      if (text === "" || box.disabled) return;
      sent += 1;
      const row = h("div", { class: "rtw-line rtw-waiting" }, h("span", { class: "rtw-text", dir: "auto" }, text), h("i", {}, " sending…"));
      waiting.set(sent, { row, text });
      log.append(row);
      toEnd();
      box.value = "";
      grow();
      link.send("send", { text, number: sent });
    };
    const grow = () => {
      box.style.height = "auto";
      if (box.scrollHeight) box.style.height = `${Math.min(box.scrollHeight, 120)}px`;
    };

    form.addEventListener("submit", (event) => (event.preventDefault(), submit()), { signal });
    box.addEventListener("input", grow, { signal });
    box.addEventListener(
      "keydown",
      (event) => {
        // The notebook must not take these keys for its own commands.
        event.stopPropagation();
        if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
          event.preventDefault();
          submit();
        }
      },
      { signal },
    );
    filter.addEventListener("keydown", (event) => event.stopPropagation(), { signal });
    filter.addEventListener("input", () => log.querySelectorAll<HTMLElement>(".rtw-line").forEach(hides), { signal });
    unread.addEventListener("click", toEnd, { signal });
    log.addEventListener("scroll", () => atEnd() && toEnd(), { signal });
    signal.addEventListener("abort", () => {
      link.close();
      root.remove();
    });
    return end;
  },
};
