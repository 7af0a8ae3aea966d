import { beforeEach, expect, test } from "vitest";
import { hue, initials } from "../src/core/names";
import presence from "../src/widgets/presence";
import { FakeModel } from "./fake";

const state = (count: number, more = {}) => ({ status: "joined", error: "", topic: "support-chat", key: "ana", count, connections: count, ...more });
let model: FakeModel;
let el: HTMLElement;

beforeEach(() => {
  el = document.createElement("div");
  model = new FakeModel();
  presence.render({ model, el });
});
const names = () => [...el.querySelectorAll(".rtw-name")].map((node) => node.textContent);
const count = () => el.querySelector(".rtw-count")!.textContent;

test("counts people and names them", () => {
  expect(count()).toBe("–"); // not 0: nobody has said so yet
  model.hear({ seq: 1, whole: true, state: state(2, { connections: 3 }), people: [["ana", ["team: support"], 1], ["bob", ["", ""], 2]], timeline: [] });
  expect(count()).toBe("2");
  expect(names()).toEqual(["ana (you)", "bob"]);
  expect(el.querySelector(".rtw-facts")!.textContent).toContain("3 connections");
});

test("those who leave go, those who stay keep their place in the page", () => {
  model.hear({ seq: 1, whole: true, state: state(2), people: [["ana", [""], 1], ["bob", [""], 1]], timeline: [] });
  const bob = el.querySelectorAll("li")[1];
  model.hear({ seq: 2, state: state(1), people: [["bob", ["busy: yes"], 1]], timeline: [{ at: 0, what: "leave", key: "ana" }] });
  expect(names()).toEqual(["bob"]);
  expect(el.querySelectorAll("li")[0]).toBe(bob);
  expect(el.querySelector(".rtw-timeline")!.textContent).toContain("ana left");
});

test("keys and states are text, never markup", () => {
  const evil = '<img src=x onerror="alert(1)">';
  model.hear({ seq: 1, whole: true, state: state(1, { key: evil, topic: evil }), people: [[evil, [evil], 1]], timeline: [{ at: 0, what: "join", key: evil }] });
  expect(el.querySelector("img")).toBeNull();
  expect(names()).toEqual([`${evil} (you)`]);
});

test("more people than are listed are counted", () => {
  model.hear({ seq: 1, whole: true, state: state(500), people: [["ana", [""], 1]], timeline: [] });
  expect(el.querySelector(".rtw-rest")!.textContent).toBe("and 499 more");
});

test("faces", () => {
  expect(initials("ana")).toBe("AN");
  expect(initials("Ana María-Lopez")).toBe("AM");
  expect(initials("🙂")).toBe("🙂");
  expect(hue("ana")).toBe(hue("ana"));
});
