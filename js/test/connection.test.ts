import { beforeEach, expect, test, vi } from "vitest";
import connection, { since } from "../src/widgets/connection";
import { FakeModel } from "./fake";

const EVIL = "<img src=x onerror=alert(1)>";
const STATE = { status: "connected", error: "", url: "http://127.0.0.1:1", vsn: "2.0.0", heartbeat: 25, trip: 3.2, reconnects: 1, bad: 0, last: "", failed: null, channels: [["room", "joined", 0, ""]], count: 1 };
let model: FakeModel;
let el: HTMLElement;
let end: () => void;

beforeEach(() => {
  vi.useRealTimers();
  el = document.createElement("div");
  model = new FakeModel();
  end = connection.render({ model, el });
});
const face = () => el.querySelector("summary")!.textContent;

test("one line says how it is", () => {
  model.hear({ seq: 1, whole: true, state: STATE, ago: 4200 });
  expect(face()).toBe("connected3.2 ms · last frame 4 s ago · 1 channel · 1 reconnect");
});

test("seconds go on while nobody says anything", () => {
  vi.useFakeTimers();
  end();
  connection.render({ model, el });
  const name = model.sent.findLast((message) => message.kind === "hello").view;
  model.hear({ view: name, seq: 1, whole: true, state: STATE, ago: 0 });
  vi.advanceTimersByTime(7000);
  expect(face()).toContain("last frame 7 s ago");
});

test("before anything was heard it says so", () => {
  model.hear({ seq: 1, whole: true, state: { ...STATE, status: "connecting", trip: null, reconnects: 0, channels: [], count: 0 } });
  expect(face()).toBe("connecting…no frame yet · 0 channels");
  expect(el.querySelector(".rtw-none")!.hasAttribute("hidden")).toBe(false);
});

test("details: each channel with its status, and the last trouble with what to do; all of it as text", () => {
  model.hear({ seq: 1, whole: true, state: { ...STATE, url: EVIL, error: EVIL, last: `${EVIL}. Do this`, failed: 0, channels: [[EVIL, "errored", 2, EVIL]], count: 3 } });
  expect(el.querySelector("img")).toBeNull();
  expect(el.querySelector("tbody th")!.textContent).toBe(EVIL);
  expect(el.querySelector("tbody")!.textContent).toContain("and 2 more");
  expect(el.querySelector(".rtw-last")!.textContent).toContain("Do this");
  expect(el.querySelector(".rtw-problem")!.textContent).toBe(EVIL);
});

test("how long ago", () => {
  expect([0, 4000, 99_999, 100_000, 6_000_000].map(since)).toEqual(["just now", "4 s ago", "99 s ago", "1 min ago", "1 h ago"]);
});

test("the end leaves nothing", () => {
  end();
  expect(el.childNodes).toHaveLength(0);
  expect(model.listening).toBe(0);
});
