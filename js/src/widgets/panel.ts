/** `ChannelPanel`: a channel's calls as buttons, and what became of each. */
import { h, lifetime, setText } from "../core/dom";
import { type Frame, Link, type Model } from "../core/link";
import { StatusLine } from "../core/status";
import { clock } from "../core/words";

interface PanelFrame extends Frame {
  state?: { status: string; error: string; topic: string; private: boolean; ack: boolean; key: string | null };
  answers?: { number: number; problem: string; took: number }[];
}

const LOGGED = 50;

export default {
  render({ model, el, signal: given }: { model: Model; el: HTMLElement; signal?: AbortSignal }): () => void {
    const { signal, end } = lifetime(given);
    const status = new StatusLine();
    const button = (text: string, type = "button") => h("button", { type, disabled: true }, text);
    const subscribe = button("subscribe");
    const unsubscribe = button("unsubscribe");
    const untrack = button("untrack");
    const text = (label: string, value: string) => h("input", { type: "text", "aria-label": label, spellcheck: "false", value });
    const state = text("state, a JSON object", '{"team": "support"}');
    const event = text("event", "message");
    const payload = text("payload, a JSON object", '{"text": "hello"}');
    const trackForm = h("form", {}, h("b", {}, "presence"), state, button("track", "submit"), untrack);
    const sendForm = h("form", {}, h("b", {}, "broadcast"), event, payload, button("send", "submit"));
    const log = h("ol", {});
    const root = h(
      "div",
      { class: "rtw rtw-panel", "data-lm-suppress-shortcuts": true },
      status.element,
      status.problem,
      h("div", { class: "rtw-row" }, h("b", {}, "channel"), subscribe, unsubscribe),
      trackForm,
      sendForm,
      h("div", { class: "rtw-calls", role: "log", "aria-label": "calls", tabindex: 0 }, log),
    );
    el.append(root);

    const waiting = new Map<number, HTMLElement>();
    let calls = 0;

    const apply = (frame: PanelFrame) => {
      const now = frame.state;
      if (now) {
        const facts = [now.topic, now.private ? "private" : "public", ...(now.ack ? ["ack"] : []), ...(now.key ? [`as ${now.key}`] : [])];
        // Here people learn the protocol's own words.
        status.show(now.status, now.error, facts, now.status);
        // All stay usable: what a call answers on a channel that is not joined is worth seeing too.
        for (const one of root.querySelectorAll("button")) one.disabled = false;
      }
      for (const { number, problem, took } of frame.answers ?? []) {
        const result = waiting.get(number);
        waiting.delete(number);
        if (!result) continue;
        result.classList.add(problem ? "rtw-failed" : "rtw-done");
        setText(result, problem || `done in ${took} ms`);
      }
    };
    const link = new Link<PanelFrame>(model, apply, status);

    const call = (kind: string, text: string, fields: Record<string, unknown> = {}) => {
      calls += 1;
      const result = h("span", { class: "rtw-result", dir: "auto" }, "waiting for the kernel…");
      waiting.set(calls, result);
      log.prepend(h("li", {}, h("time", {}, clock(Date.now())), h("code", { dir: "auto" }, text), result));
      while (log.childElementCount > LOGGED) log.lastElementChild!.remove();
      if (!link.send(kind, { ...fields, number: calls })) setText(result, "not called: there is no kernel");
    };
    subscribe.addEventListener("click", () => call("subscribe", "subscribe()"), { signal });
    unsubscribe.addEventListener("click", () => call("unsubscribe", "unsubscribe()"), { signal });
    untrack.addEventListener("click", () => call("untrack", "untrack()"), { signal });
    trackForm.addEventListener(
      "submit",
      (happened) => {
        happened.preventDefault();
        call("track", `track(${state.value})`, { json: state.value });
      },
      { signal },
    );
    sendForm.addEventListener(
      "submit",
      (happened) => {
        happened.preventDefault();
        call("broadcast", `send(${JSON.stringify(event.value)}, ${payload.value})`, { event: event.value, json: payload.value });
      },
      { signal },
    );
    root.addEventListener("keydown", (happened) => happened.stopPropagation(), { signal });
    signal.addEventListener("abort", () => {
      link.close();
      root.remove();
    });
    return end;
  },
};
