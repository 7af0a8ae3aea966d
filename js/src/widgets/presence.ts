/** `Presence`: how many are here, who they are, and who came and went. */
import { h, lifetime, setText } from "../core/dom";
import { type Frame, Link, type Model } from "../core/link";
import { hue, initials } from "../core/names";
import { StatusLine } from "../core/status";
import { clock, plural } from "../core/words";

interface PresenceFrame extends Frame {
  state?: { status: string; error: string; topic: string; key: string | null; count: number; connections: number };
  /** Key, the first states as text, the number of connections. */
  people?: [string, string[], number][];
  timeline?: { at: number; what: "join" | "leave" | "update"; key: string }[];
}

const SAID = { join: "came", leave: "left", update: "changed" };

export default {
  render({ model, el, signal: given }: { model: Model; el: HTMLElement; signal?: AbortSignal }): () => void {
    const { signal, end } = lifetime(given);
    const count = h("span", { class: "rtw-count", "aria-live": "polite" }, "–");
    const unit = h("span", { class: "rtw-unit" }, "here");
    const people = h("ul", { class: "rtw-people", "aria-label": "who is here" });
    const events = h("ol", { class: "rtw-timeline" });
    const history = h("details", { class: "rtw-history" }, h("summary", {}, "who came and went"), events);
    const status = new StatusLine();
    const root = h(
      "div",
      { class: "rtw rtw-presence" },
      status.element,
      status.problem,
      h("div", { class: "rtw-here" }, h("div", { class: "rtw-number" }, count, unit), people),
      history,
    );
    el.append(root);

    let mine: string | null = null;
    let total = 0;
    const shown = new Map<string, HTMLLIElement>();

    const apply = (frame: PresenceFrame) => {
      const state = frame.state;
      if (state) {
        mine = state.key;
        total = state.count;
        setText(count, String(state.count));
        const more = state.connections > state.count ? [plural(state.connections, "connection")] : [];
        status.show(state.status, state.error, [state.topic, ...more]);
      }
      if (frame.people) showPeople(frame.people);
      if (frame.timeline) {
        events.replaceChildren(
          ...frame.timeline.toReversed().map(({ at, what, key }) =>
            h("li", {}, h("time", { datetime: new Date(at).toISOString() }, clock(at)), " ", h("bdi", {}, key), ` ${SAID[what]}`),
          ),
        );
      }
    };

    const showPeople = (list: [string, string[], number][]) => {
      const here = new Set(list.map(([key]) => key));
      for (const [key, item] of shown) {
        if (!here.has(key)) {
          item.remove();
          shown.delete(key);
        }
      }
      for (const [key, states, connections] of list) {
        let item = shown.get(key);
        if (!item) {
          const face = h("span", { class: "rtw-face", "aria-hidden": true }, initials(key));
          face.style.setProperty("--rtw-hue", String(hue(key)));
          item = h("li", { tabindex: 0 }, face, h("bdi", { class: "rtw-name" }), h("span", { class: "rtw-state", dir: "auto" }));
          shown.set(key, item);
          people.append(item);
        }
        setText(item.children[1]!, key === mine ? `${key} (you)` : key);
        setText(item.children[2]!, states.join(" | ") + (connections > 1 ? ` ×${connections}` : ""));
        item.title = [key, ...states].join("\n");
      }
      let rest = people.querySelector<HTMLElement>(".rtw-rest");
      if (total > list.length) {
        rest ??= h("li", { class: "rtw-rest" });
        setText(rest, `and ${total - list.length} more`);
        people.append(rest);
      } else rest?.remove();
    };

    const link = new Link<PresenceFrame>(model, apply, status);
    signal.addEventListener("abort", () => {
      link.close();
      root.remove();
    });
    return end;
  },
};
