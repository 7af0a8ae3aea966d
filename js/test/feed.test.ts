import { beforeEach, expect, test } from "vitest";
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
  expect(el.querySelector(".rtw-older")!.textContent).toBe("1 older message not shown here");
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
