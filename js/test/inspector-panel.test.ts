import { afterEach, beforeEach, expect, test } from "vitest";
import inspector from "../src/widgets/inspector";
import panel from "../src/widgets/panel";
import { FakeModel, painted } from "./fake";

let seq = 0;
let ends: (() => void)[] = [];
beforeEach(() => (seq = 0));
afterEach(() => {
  for (const end of ends) end();
  ends = [];
  document.body.replaceChildren();
});

function open(widget: typeof inspector) {
  const model = new FakeModel();
  const el = document.createElement("div");
  document.body.append(el);
  ends.push(widget.render({ model, el }));
  const hear = async (fields: Record<string, unknown>) => {
    model.hear({ seq: ++seq, ...fields });
    await painted();
  };
  const button = (text: string) => [...el.querySelectorAll("button")].find((one) => one.textContent!.startsWith(text))!;
  return { model, el, hear, button };
}

const line = (event: string, text: string, way = "in") => ({ at: 1_700_000_000_123, way, event, text, frame: `{"event": "${event}"}` });
const STATE = { of: "lobby", count: 3, paused: false, waiting: 0 };

test("frames are told in order, by kind, direction and text; markup stays text", async () => {
  const { el, hear } = open(inspector);
  const told = () => [...el.querySelectorAll(".rtw-text")].map((one) => one.textContent);
  await hear({ whole: true, state: STATE, from: 0, held: 0, lines: [line("broadcast", "<b>x</b>", "out"), line("phx_reply", "heartbeat: ok")] });
  await hear({ from: 2, lines: [line("presence_diff", "ana came")] });
  expect(told()).toEqual(["<b>x</b>", "heartbeat: ok", "ana came"]);
  expect(el.querySelector("b b")).toBeNull();
  const [kind, way] = [...el.querySelectorAll("select")];
  const choose = async (select: HTMLSelectElement, value: string) => {
    select.value = value;
    select.dispatchEvent(new Event("input"));
    await painted();
  };
  await choose(kind!, "presence");
  expect(told()).toEqual(["ana came"]);
  await choose(kind!, "heartbeat");
  expect(told()).toEqual(["heartbeat: ok"]);
  await choose(kind!, "channel");
  expect(told()).toEqual([]);
  await choose(kind!, "");
  await choose(way!, "out");
  expect(told()).toEqual(["<b>x</b>"]);
});

test("a frame opens, stays open while others come, and goes when the kernel forgot it", async () => {
  const { el, hear } = open(inspector);
  await hear({ whole: true, state: STATE, from: 0, held: 0, lines: [line("a", "one"), line("b", "two")] });
  const details = () => [...el.querySelectorAll("details")];
  details()[0]!.open = true;
  details()[0]!.dispatchEvent(new Event("toggle"));
  expect(details()[0]!.querySelector("pre")!.textContent).toBe('{"event": "a"}');
  await hear({ from: 2, lines: [line("c", "three")] });
  expect(details().map((one) => one.open)).toEqual([true, false, false]);
  await hear({ held: 1 });
  expect(details()).toHaveLength(2);
  await hear({ whole: true, state: STATE, from: 2, held: 2, lines: [line("c", "three")] });
  expect(details()).toHaveLength(1);
});

test("the inspector asks the kernel to pause, and says what waits", async () => {
  const { model, el, hear, button } = open(inspector);
  await hear({ whole: true, state: STATE, from: 0, held: 0, lines: [] });
  button("pause").click();
  expect(model.of("pause")).toHaveLength(1);
  await hear({ state: { ...STATE, paused: true, waiting: 7 } });
  expect(button("resume").textContent).toBe("resume (7)");
  expect(el.querySelector("[role=status]")!.textContent).toBe("paused");
  button("resume").click();
  expect(model.of("resume")).toHaveLength(1);
});

const CHANNEL = { status: "closed", error: "", topic: "lobby", private: true, ack: true, key: "ana" };

test("each button calls, and each call is told what became of it", async () => {
  const { model, el, hear, button } = open(panel);
  expect(button("subscribe").disabled).toBe(true);
  await hear({ whole: true, state: CHANNEL });
  expect(el.querySelector(".rtw-facts")!.textContent).toBe("lobby · private · ack · as ana");
  button("subscribe").click();
  button("track").click();
  const input = el.querySelector<HTMLInputElement>("input[aria-label^=payload]")!;
  input.value = '{"text": "<i>"}';
  button("send").click();
  button("untrack").click();
  button("unsubscribe").click();
  expect(model.of("subscribe")[0]).toMatchObject({ number: 1 });
  expect(model.of("track")[0]).toMatchObject({ json: '{"team": "support"}', number: 2 });
  expect(model.of("broadcast")[0]).toMatchObject({ event: "message", json: '{"text": "<i>"}', number: 3 });
  expect(model.of("untrack")).toHaveLength(1);
  expect(model.of("unsubscribe")).toHaveLength(1);
  await hear({ answers: [{ number: 3, problem: "", took: 1.5 }, { number: 2, problem: "not <b>joined</b>", took: 1 }] });
  const results = [...el.querySelectorAll("li")].map((one) => one.querySelector(".rtw-result")!.textContent);
  expect(results).toEqual(["waiting for the kernel…", "waiting for the kernel…", "done in 1.5 ms", "not <b>joined</b>", "waiting for the kernel…"]);
  expect(el.querySelector("li b, li i")).toBeNull();
  await hear({ state: { ...CHANNEL, status: "joined" } });
  expect(el.querySelector("[role=status]")!.textContent).toBe("joined");
  model.dead = true;
  button("unsubscribe").click();
  expect(el.querySelector("li .rtw-result")!.textContent).toBe("not called: there is no kernel");
  expect(el.querySelector("[role=alert]")!.textContent).toContain("kernel has stopped");
});
