import { beforeEach, expect, test, vi } from "vitest";
import feed from "../src/widgets/feed";
import { FakeModel } from "./fake";

const STATE = { status: "joined", error: "", topic: "support-chat", event: "message", sender: "ana", count: 0 };
const line = (text: string, more = {}) => ({ at: 1_700_000_000_000, event: "message", sender: "bob", text, mine: false, ...more });
let model: FakeModel;
let el: HTMLElement;
let end: () => void;

beforeEach(() => {
  document.body.replaceChildren();
  el = document.body.appendChild(document.createElement("div"));
  model = new FakeModel();
  end = feed.render({ model, el });
});
const texts = () => [...el.querySelectorAll(".rtw-line .rtw-text")].map((node) => node.textContent);
const box = () => el.querySelector("textarea")!;
const enter = (text: string) => {
  box().value = text;
  box().dispatchEvent(new KeyboardEvent("keydown", { key: "Enter", bubbles: true, cancelable: true }));
};

test("shows lines in order, each once, markup as text", () => {
  model.hear({ seq: 1, whole: true, state: STATE, from: 0, held: 0, lines: [line("<img src=x onerror=alert(1)>")] });
  model.hear({ seq: 2, from: 1, lines: [line("two")] });
  expect(texts()).toEqual(["<img src=x onerror=alert(1)>", "two"]);
  expect(el.querySelector("img")).toBeNull();
});

test("a frame that says everything replaces what was there", () => {
  model.hear({ seq: 1, whole: true, state: STATE, from: 0, held: 0, lines: [line("one"), line("two")] });
  model.hear({ seq: 9, whole: true, state: STATE, from: 1, held: 1, lines: [line("two"), line("three")] });
  expect(texts()).toEqual(["two", "three"]);
  expect(el.querySelector(".rtw-gap-line")!.textContent).toBe("1 earlier message no longer kept");
});

test("what is typed goes out on Enter, waits visibly, and goes when the kernel has sent it", () => {
  model.hear({ seq: 1, whole: true, state: STATE });
  enter("hello");
  expect(model.of("send")).toEqual([{ view: model.view, kind: "send", text: "hello", number: 1 }]);
  expect(box().value).toBe("");
  expect(el.querySelector(".rtw-waiting")!.textContent).toContain("hello");
  model.hear({ seq: 2, from: 0, lines: [line("hello", { mine: true })], answers: [[1, ""]] });
  expect(el.querySelector(".rtw-waiting")).toBeNull();
  expect(texts()).toEqual(["hello"]);
});

test("a refused message says why and gives its text back", () => {
  model.hear({ seq: 1, whole: true, state: STATE });
  enter("too much");
  model.hear({ seq: 2, answers: [[1, "over the limit. Send less."]] });
  expect(el.querySelector(".rtw-refused")!.textContent).toContain("over the limit");
  expect(box().value).toBe("too much");
});

test("nothing is sent before the kernel was heard, nor blank text", () => {
  enter("early");
  model.hear({ seq: 1, whole: true, state: STATE });
  enter("   ");
  expect(model.of("send")).toEqual([]);
});

test("keys in the box are not the notebook's", () => {
  let reached = 0;
  document.body.addEventListener("keydown", () => (reached += 1));
  box().dispatchEvent(new KeyboardEvent("keydown", { key: "d", bubbles: true }));
  expect(reached).toBe(0);
});

test("an error shows as text, and the lines stay", () => {
  model.hear({ seq: 1, whole: true, state: STATE, from: 0, held: 0, lines: [line("one")] });
  model.hear({ seq: 2, state: { ...STATE, status: "errored", error: "<b>no</b>" } });
  const problem = el.querySelector<HTMLElement>(".rtw-problem")!;
  expect(problem.textContent).toBe("<b>no</b>");
  expect(problem.hidden).toBe(false);
  expect(texts()).toEqual(["one"]);
});

test("the end leaves nothing", () => {
  end();
  end();
  expect(el.childNodes).toHaveLength(0);
  expect(model.listening).toBe(0);
  expect(model.of("bye")).toHaveLength(1);
});

test("of thousands of lines only those near the view are elements; who reads above stays where they are", () => {
  const many = Array.from({ length: 1500 }, (_, n) => line(`line ${n}`));
  model.hear({ seq: 1, whole: true, state: STATE, from: 0, held: 0, lines: many });
  expect(texts().at(-1)).toBe("line 1499");
  expect(texts().length).toBeLessThan(60);
  const list = el.querySelector<HTMLElement>(".rtw-lines")!;
  expect(list.lastElementChild!.lastElementChild!.getAttribute("aria-setsize")).toBe("1500");
  // Its end lies far below the view now, as after scrolling up.
  Object.defineProperty(list, "clientHeight", { value: 200 });
  Object.defineProperty(list, "scrollHeight", { value: 30_000 });
  list.scrollTop = 2000;
  list.dispatchEvent(new Event("scroll"));
  model.hear({ seq: 2, from: 1500, lines: [line("news")] });
  expect(list.scrollTop).toBe(2000);
  expect(texts()).toContain("line 105");
  const unread = el.querySelector<HTMLButtonElement>(".rtw-unread")!;
  expect([unread.hidden, unread.textContent]).toEqual([false, "1 new ↓"]);
  unread.click();
  expect(unread.hidden).toBe(true);
  expect(texts().at(-1)).toBe("news");
  expect(el.querySelector(".rtw-first-new")!.textContent).toContain("news");
});

/** Sets the list's layout, which happy-dom has not: its end lies far below. */
const scrolledTo = (top: number) => {
  const list = el.querySelector<HTMLElement>(".rtw-lines")!;
  Object.defineProperty(list, "clientHeight", { value: 200, configurable: true });
  Object.defineProperty(list, "scrollHeight", { value: 1_000_000, configurable: true });
  list.scrollTop = top;
  list.dispatchEvent(new Event("scroll"));
  return list;
};
const from = (start: number, stop: number) => Array.from({ length: stop - start }, (_, i) => line(`line ${start + i}`));
const page = (start: number, stop: number, filter = "") => ({
  pages: [{ start, stop, filter, lines: from(start, stop).map((one, i) => [start + i, one]) }],
});
/** Waits until the check passes: what a scroll or a key asks for goes out some milliseconds later. */
const until = (check: () => void) => vi.waitFor(check, { timeout: 20_000, interval: 5 });
const soon = (ms = 30) => new Promise((resolve) => setTimeout(resolve, ms));

test("who scrolls up to the oldest line is given older ones, and goes on reading where they were", async () => {
  model.hear({ seq: 1, whole: true, state: STATE, from: 1000, held: 0, lines: from(1000, 1500) });
  const list = scrolledTo(5);
  const first = { view: model.view, kind: "read", start: 0, stop: 1000, back: true, filter: "" };
  await until(() => expect(model.of("read")).toEqual([first]));
  model.hear({ seq: 2, ...page(800, 1000) });
  expect(list.scrollTop).toBe(5 + 200 * 20);
  expect(texts()).toContain("line 1000");
  expect(texts()).toContain("line 995");
  await soon();
  expect(model.of("read")).toHaveLength(1); // not before one comes near
  scrolledTo(10);
  await until(() => expect(model.of("read").at(-1)).toMatchObject({ start: 0, stop: 800 }));
  model.hear({ seq: 3, ...page(600, 800) });
  expect(el.querySelector(`[aria-posinset="801"]`)!.textContent).toContain("line 800");
});

test("more at once than a frame takes leaves no hole: what is missing is asked for where it stands", async () => {
  model.hear({ seq: 1, whole: true, state: STATE, from: 0, held: 0, lines: from(0, 100) });
  scrolledTo(90 * 20);
  model.hear({ seq: 2, from: 900, lines: from(900, 1400) });
  expect(el.querySelector(".rtw-unread")!.textContent).toBe("1,300 new ↓");
  expect(el.querySelector(".rtw-gap-line")!.textContent).toContain("800 more messages");
  await until(() => expect(model.of("read").at(-1)).toMatchObject({ start: 100, stop: 900, back: false }));
  model.hear({ seq: 3, ...page(100, 300) });
  expect(texts()).toContain("line 100");
  expect(texts()).toContain("line 90");
});

test("a frame that says everything again takes nothing of what was read back", async () => {
  model.hear({ seq: 1, whole: true, state: STATE, from: 1000, held: 0, lines: from(1000, 1500) });
  const list = scrolledTo(5);
  await soon();
  model.hear({ seq: 2, ...page(800, 1000) });
  const before = list.scrollTop;
  model.hear({ seq: 9, whole: true, state: STATE, from: 1010, held: 0, lines: from(1010, 1510) });
  expect(list.scrollTop).toBe(before);
  expect(texts()).toContain("line 1000");
  model.hear({ epoch: "e2", seq: 1, whole: true, state: STATE, from: 0, held: 0, lines: from(0, 3) });
  expect(texts()).toEqual(["line 0", "line 1", "line 2"]); // the cell was run again
});

test("while the kernel cannot hear, older lines are said to come later; the question is asked once", async () => {
  model.hear({ seq: 1, whole: true, state: STATE, from: 1000, held: 0, lines: from(1000, 1500) });
  scrolledTo(1);
  await soon(1100);
  expect(el.querySelector(".rtw-gap-line")!.textContent).toBe("1,000 more messages: they come when the kernel is free");
  model.hear({ seq: 2, whole: true, state: STATE, from: 1001, held: 0, lines: from(1001, 1501) });
  await soon();
  expect(model.of("read")).toHaveLength(1);
  // A new view to the kernel has not asked anything.
  model.hear({ epoch: "e1", seq: 1, whole: true, state: STATE, from: 1001, held: 0, lines: from(1001, 1501) });
  await until(() => expect(model.of("read")).toHaveLength(2));
});

test("however far one reads back, the page keeps a bounded part of the talk", async () => {
  model.hear({ seq: 1, whole: true, state: STATE, from: 99_500, held: 0, lines: from(99_500, 100_000) });
  for (let stop = 99_500, seq = 2; stop > 80_000; stop -= 200, seq++) {
    scrolledTo(1);
    await soon(1);
    model.hear({ seq, ...page(stop - 200, stop) });
    expect(texts()).toContain(`line ${stop}`);
  }
  expect(Number(el.querySelector<HTMLElement>(".rtw-canvas")!.style.paddingBottom.replace("px", ""))).toBeLessThan(2600 * 20);
  expect(texts().length).toBeLessThan(80);
});

test("a filter is the kernel's too: of older lines only those that pass are asked for, and context comes back", async () => {
  model.hear({ seq: 1, whole: true, state: STATE, from: 1000, held: 0, lines: from(1000, 1500) });
  const filter = el.querySelector<HTMLInputElement>(".rtw-filter")!;
  const type = (text: string) => {
    filter.value = text;
    filter.dispatchEvent(new Event("input"));
  };
  type("LINE 7");
  type("LINE 77");
  expect(texts()).toEqual([]);
  expect(el.querySelector(".rtw-gap-line")!.textContent).toContain("searching 1,000 more messages");
  const wanted = { view: model.view, kind: "read", start: 0, stop: 1000, back: true, filter: "line 77" };
  await until(() => expect(model.of("read")).toEqual([wanted]));
  const found = [77, 770, 777].map((id) => [id, line(`line ${id}`)]);
  model.hear({ seq: 2, pages: [{ start: 0, stop: 1000, filter: "line 7", lines: [] }] }); // an answer to what was typed before
  model.hear({ seq: 3, pages: [{ start: 0, stop: 1000, filter: "line 77", lines: found }] });
  expect(texts()).toEqual(["line 77", "line 770", "line 777"]);
  expect(el.querySelector(".rtw-gap-line")).toBeNull();
  model.hear({ seq: 4, from: 1500, lines: [line("line 77 again"), line("other")] });
  expect(texts()).toEqual(["line 77", "line 770", "line 777", "line 77 again"]);
  scrolledTo(25);
  await soon();
  type("");
  expect(texts()).toContain("line 770");
  await until(() => expect(model.of("read").at(-1)).toMatchObject({ filter: "" }));
});

test("nothing said yet, and nothing that matches, are said", () => {
  model.hear({ seq: 1, whole: true, state: STATE, from: 0, held: 0, lines: [] });
  const none = el.querySelector<HTMLElement>(".rtw-no-lines")!;
  expect([none.hidden, none.textContent]).toEqual([false, "No messages yet."]);
  model.hear({ seq: 2, from: 0, lines: [line("one")] });
  expect(none.hidden).toBe(true);
});

test("the filter looks at all lines", () => {
  model.hear({ seq: 1, whole: true, state: STATE, from: 0, held: 0, lines: [line("first"), ...Array.from({ length: 300 }, () => line("other"))] });
  const filter = el.querySelector<HTMLInputElement>(".rtw-filter")!;
  filter.value = "FIRST";
  filter.dispatchEvent(new Event("input"));
  expect(texts()).toEqual(["first"]);
});

test("a screen reader is told what came, not what scrolled into view", async () => {
  model.hear({ seq: 1, whole: true, state: STATE, from: 0, held: 0, lines: [line("old")] });
  model.hear({ seq: 2, from: 1, lines: [line("new"), line("own", { mine: true })] });
  await new Promise((resolve) => setTimeout(resolve, 1100));
  expect(el.querySelector("[role=log]")!.textContent).toBe("bob: new");
});

test("without a kernel it says so, and what was typed is given back", () => {
  model.hear({ seq: 1, whole: true, state: STATE, from: 0, held: 0, lines: [line("one")] });
  model.dead = true;
  enter("hello");
  expect(el.querySelector("[role=alert]")!.textContent).toContain("kernel has stopped");
  expect(texts()).toEqual(["one", "hello"]);
  expect(el.textContent).toContain("not sent: there is no kernel");
  expect(box().value).toBe("hello");
  model.dead = false;
  model.hear({ seq: 2, state: STATE });
  expect(el.querySelector<HTMLElement>("[role=alert]")!.hidden).toBe(true);
});
