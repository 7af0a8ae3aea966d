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
