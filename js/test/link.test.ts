import { expect, test } from "vitest";
import { ANYONE, type Frame, Link } from "../src/core/link";
import { FakeModel, painted } from "./fake";

function open() {
  const model = new FakeModel();
  const taken: Frame[] = [];
  const told: boolean[] = [];
  let now = 0;
  const link = new Link<Frame>(model, (frame) => taken.push(frame), { setGone: (gone) => told.push(gone) }, { start: 0 }, () => now);
  return { model, taken, told, link, later: (ms: number) => (now += ms) };
}

test("says hello with what it wants, and goodbye", () => {
  const { model, link } = open();
  expect(model.sent).toEqual([{ view: link.view, kind: "hello", wants: { start: 0 } }]);
  link.close();
  expect(model.of("bye")).toHaveLength(1);
  expect(model.listening).toBe(0);
});

test("no message has a field named id, which some kernels keep for ever", () => {
  const { model, link } = open();
  link.want({ start: 5 });
  for (const message of model.sent) expect(message).not.toHaveProperty("id");
});

test("takes frames in order and acknowledges after the paint, once for all of them", async () => {
  const { model, taken } = open();
  model.hear({ seq: 1 });
  model.hear({ seq: 2 });
  expect(model.of("ack")).toHaveLength(0);
  await painted();
  expect(taken.map((frame) => frame.seq)).toEqual([1, 2]);
  expect(model.of("ack").map((message) => message.seq)).toEqual([2]);
  model.hear({ seq: 3 });
  await painted();
  model.hear({ seq: 4 });
  await painted();
  expect(model.of("ack").map((message) => message.seq)).toEqual([2]);
  await new Promise((resolve) => setTimeout(resolve, 300));
  expect(model.of("ack").map((message) => message.seq)).toEqual([2, 4]);
});

test("a hole makes it say hello again, and nothing is shown on top of a hole", () => {
  const { model, taken, link, later } = open();
  model.hear({ seq: 1 });
  later(5000);
  model.hear({ seq: 3 });
  expect(link.lost).toBe(true);
  model.hear({ seq: 4 });
  expect(model.of("hello")).toHaveLength(2); // not one for each frame
  expect(taken.map((frame) => frame.seq)).toEqual([1]);
  model.hear({ seq: 1 });
  expect(link.lost).toBe(false);
  expect(taken).toHaveLength(2);
});

test("after a hole, a frame that says everything is good: a busy kernel cannot hear the hello", () => {
  const { model, taken, link } = open();
  model.hear({ seq: 1 });
  model.hear({ seq: 7, whole: true });
  model.hear({ seq: 8 });
  expect(link.lost).toBe(false);
  expect(taken.map((frame) => frame.seq)).toEqual([1, 7, 8]);
});

test("another epoch is another kernel object", () => {
  const { model, taken, later } = open();
  model.hear({ seq: 1 });
  later(5000);
  model.hear({ seq: 2, epoch: "e2" });
  expect(taken).toHaveLength(1);
  expect(model.of("hello")).toHaveLength(2);
});

test("a frame for anyone is shown until its own come; one for another view never", () => {
  const { model, taken } = open();
  model.hear({ view: ANYONE, seq: 1 });
  model.hear({ view: "another", seq: 1 });
  expect(taken).toHaveLength(1);
  model.hear({ seq: 1 });
  model.hear({ view: ANYONE, seq: 2 });
  expect(taken).toHaveLength(2);
});

test("a kernel that has gone is said once, and that there is one again", async () => {
  const { model, told, link } = open();
  expect(link.send("x")).toBe(true);
  await model.fire("comm_live_update"); // cut and whole again
  await new Promise((resolve) => setTimeout(resolve, 400));
  expect(told).toEqual([]);
  model.dead = true;
  await model.fire("comm_live_update");
  await new Promise((resolve) => setTimeout(resolve, 400));
  expect(link.send("x")).toBe(false);
  expect(told).toEqual([true]);
  model.dead = false;
  model.hear({ seq: 1 });
  expect(told).toEqual([true, false]);
  model.dead = true;
  link.close();
  expect(told).toEqual([true, false]);
});
