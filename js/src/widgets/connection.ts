/** `ConnectionStatus`: one line on how the connection is doing, which opens to the details. */
import { h, lifetime, setAttribute, setText } from "../core/dom";
import { type Frame, Link, type Model } from "../core/link";
import { StatusLine } from "../core/status";
import { clock, plural } from "../core/words";

interface ConnectionFrame extends Frame {
  state?: {
    status: string;
    error: string;
    url: string;
    vsn: string;
    /** Seconds between two heartbeats. */
    heartbeat: number;
    /** Milliseconds of the last one. */
    trip: number | null;
    reconnects: number;
    /** Frames that could not be read. */
    bad: number;
    /** What went wrong last, and when, in ms since 1970. */
    last: string;
    failed: number | null;
    /** Topic, status, rejoins, what is wrong. */
    channels: [string, string, number, string][];
    count: number;
  };
  /** Milliseconds since a frame was lastFrame last. */
  ago?: number;
}

/** How long ago, in a text that changes as seldom as possible. */
export function since(ms: number): string {
  const seconds = Math.floor(ms / 1000);
  if (seconds < 1) return "just now";
  if (seconds < 100) return `${seconds} s ago`;
  const minutes = Math.floor(seconds / 60);
  return minutes < 100 ? `${minutes} min ago` : `${Math.floor(minutes / 60)} h ago`;
}

export default {
  render({ model, el, signal: given }: { model: Model; el: HTMLElement; signal?: AbortSignal }): () => void {
    const { signal, end } = lifetime(given);
    const status = new StatusLine();
    const facts = h("dl", { class: "rtw-facts-list" });
    const rows = h("tbody");
    const table = h(
      "table",
      { class: "rtw-channels" },
      h("thead", {}, h("tr", {}, ...["channel", "status", "rejoins", "error"].map((name) => h("th", { scope: "col" }, name)))),
      rows,
    );
    const none = h("p", { class: "rtw-none" }, "No channel is in use.");
    const last = h("p", { class: "rtw-last", hidden: true });
    const more = h("div", { class: "rtw-more" }, facts, last, none, h("div", { class: "rtw-scroll", tabindex: 0, role: "region", "aria-label": "channels" }, table));
    const root = h("div", { class: "rtw rtw-connection" }, h("details", {}, h("summary", {}, status.element), more), status.problem);
    el.append(root);

    let state: ConnectionFrame["state"];
    /** When the last frame came, by this page's clock. */
    let lastFrame: number | null = null;

    const fact = (name: string, value: string) => [h("dt", {}, name), h("dd", { dir: "auto" }, value)];

    const draw = () => {
      if (!state) return;
      const silent = lastFrame === null ? "no frame yet" : `last frame ${since(performance.now() - lastFrame)}`;
      const trip = state.trip === null ? [] : [`${state.trip} ms`];
      const again = state.reconnects ? [plural(state.reconnects, "reconnect")] : [];
      status.show(state.status, state.error, [...trip, silent, plural(state.count, "channel"), ...again]);
    };

    const apply = (frame: ConnectionFrame) => {
      if (frame.ago !== undefined) lastFrame = performance.now() - frame.ago;
      if (frame.state) {
        state = frame.state;
        setAttribute(root, "data-status", state.status);
        facts.replaceChildren(
          ...fact("server", state.url),
          ...fact("round trip", state.trip === null ? "no heartbeat answered yet" : `${state.trip} ms, every ${state.heartbeat} s`),
          ...fact("reconnects", String(state.reconnects)),
          ...fact("serializer", state.vsn),
          ...(state.bad ? fact("unreadable frames", String(state.bad)) : []),
        );
        last.hidden = state.last === "" || state.last === state.error;
        setText(last, `Last error${state.failed === null ? "" : ` (${clock(state.failed)})`}: ${state.last}`);
        none.hidden = state.count > 0;
        table.hidden = state.count === 0;
        rows.replaceChildren(
          ...state.channels.map(([topic, now, rejoins, error]) => {
            const light = h("span", { class: "rtw-light", "aria-hidden": true });
            return h(
              "tr",
              { "data-status": now },
              h("th", { scope: "row" }, h("bdi", {}, topic)),
              h("td", {}, h("span", { role: "presentation" }, light, now)),
              h("td", {}, String(rejoins)),
              h("td", { class: "rtw-wrong", dir: "auto" }, error),
            );
          }),
          ...(state.count > state.channels.length ? [h("tr", {}, h("td", { colspan: 4 }, `and ${state.count - state.channels.length} more`))] : []),
        );
      }
      draw();
    };

    // Seconds go on without frames from the kernel, also when it has stopped.
    const counting = window.setInterval(draw, 1000);
    const link = new Link<ConnectionFrame>(model, apply, status);
    signal.addEventListener("abort", () => {
      clearInterval(counting);
      link.close();
      root.remove();
    });
    return end;
  },
};
