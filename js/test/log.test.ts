import { expect, test } from "vitest";
import { AROUND, AT_END, Log, isGap } from "../src/core/log";

const items = (start: number, stop: number) => Array.from({ length: stop - start }, (_, i) => ({ id: start + i }));
const shape = (log: Log<{ id: number }>) => {
  const said: (string | number)[] = [];
  for (const entry of log.entries) said.push(isGap(entry) ? entry.id : entry.id);
  return said;
};

test("runs grow, meet and join; each item stands once", () => {
  const log = new Log();
  log.add(10, 13, items(10, 13));
  expect(shape(log)).toEqual(["gap 0 10", 10, 11, 12]);
  log.add(13, 14, items(13, 14));
  log.add(16, 17, items(16, 17));
  expect(shape(log)).toEqual(["gap 0 10", 10, 11, 12, 13, "gap 14 16", 16]);
  log.add(12, 17, items(12, 17));
  log.add(8, 11, items(8, 11));
  expect(shape(log)).toEqual(["gap 0 8", 8, 9, 10, 11, 12, 13, 14, 15, 16]);
});

test("what the kernel forgot goes, and is said to be lost", () => {
  const log = new Log();
  log.add(5, 8, items(5, 8));
  log.forget(6);
  expect(shape(log)).toEqual(["lost 6", 6, 7]);
  log.forget(8);
  expect(shape(log)).toEqual(["lost 8"]);
});

test("whatever comes and is dropped, items stand in order, each once, and gaps are exactly what is missing", () => {
  let seed = 7;
  const random = (below: number) => (seed = (seed * 1103515245 + 12345) % 2147483648) % below;
  for (let round = 0; round < 12; round++) {
    const even = round % 2 === 1;
    const passes = ({ id }: { id: number }) => !even || id % 2 === 0;
    const log = new Log(passes);
    let [held, total] = [0, 0];
    for (let step = 0; step < 60; step++) {
      const what = random(6);
      if (what < 2) {
        const stop = total + random(900);
        const start = Math.max(held, stop - 500);
        log.add(start, stop, items(start, stop));
        total = Math.max(total, stop);
      } else if (what === 2) {
        log.forget((held = Math.max(held, Math.min(total, held + random(300)))));
      } else if (what === 3) {
        log.trim(held + random(Math.max(1, total - held)));
        expect(log.size).toBeLessThanOrEqual(AROUND + AT_END + 500);
      } else {
        const gaps = log.entries.filter(isGap).filter(({ lost }) => !lost);
        const gap = gaps[random(Math.max(1, gaps.length))];
        if (gap) {
          const [start, stop] = what === 4 ? [Math.max(gap.start, gap.stop - 200), gap.stop] : [gap.start, Math.min(gap.stop, gap.start + 200)];
          log.add(start, stop, items(start, stop));
        }
      }
      const missing = new Set<number>();
      let last = -1;
      for (const entry of log.entries) {
        if (isGap(entry)) for (let id = entry.start; id < entry.stop; id++) missing.add(id);
        else {
          // One `expect` an item would take minutes.
          if (entry.id <= last || entry.id < held || !passes(entry) || missing.has(entry.id)) expect.fail(`${entry.id} after ${last}`);
          last = entry.id;
        }
      }
      const known = items(held, total).filter((item) => passes(item) && !missing.has(item.id)).length;
      if (total > held && log.size) expect(log.size).toBe(known);
    }
  }
});
